//! What every target's settings have in common: when files are closed, and what differs for some topics.

use crate::{
    error::{Error, Mistakes},
    format::FormatSettings,
    plan::{RollPlan, TopicPlan},
    refused::BadRecords,
    topics::TopicPattern,
    transform::{Chain, TransformSettings},
    units::{Bytes, Period},
};
use jiff::tz::TimeZone;
use kas3_store::StorageSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::{sync::Arc, time::Duration};

/// What the file says beside `sink`, as far as a target needs it.
pub struct Given<'a> {
    /// Topics that are read.
    pub topics: &'a [TopicPattern],
    /// What differs per topic, in the order of the file.
    pub sections: &'a [(String, TopicSettings)],
    /// `transforms`.
    pub transforms: &'a [TransformSettings],
    /// `ledger.url`.
    pub ledger_url: Option<&'a str>,
}

/// What a target's settings come to.
pub struct SinkPlan {
    /// The sink's URL, without a trailing slash.
    pub url: String,
    /// The ledger's URL.
    pub ledger_url: String,
    /// How both are reached.
    pub storage: StorageSettings,
    /// Timezone of the strftime parts and of `roll.clock`.
    pub timezone: TimeZone,
    /// How long until a swap for settling alone; `None`: with the next commit.
    pub settle: Option<Duration>,
    /// How long a missing file may still turn up before it is made again.
    pub amend_after: Duration,
    /// What applies to topics without a section of their own.
    pub default: Arc<TopicPlan>,
    /// What differs per topic.
    pub overrides: Vec<(TopicPattern, Arc<TopicPlan>)>,
    /// Write the cursor of DeviantArt's kafka-connect-s3.
    pub cursor: bool,
    /// Everything of the section that shapes files, for the digest of the settings.
    pub shape: Json,
}

/// When files are closed: whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollSettings {
    /// Size of the largest file as it is stored.
    #[serde(default = "default_roll_bytes")]
    #[schemars(extend("examples" = ["128MiB"]))]
    pub bytes: Bytes,
    /// Records of one partition since the last roll.
    #[serde(default = "default_roll_records")]
    #[schemars(extend("examples" = [1000000]))]
    pub records: u64,
    /// Time since the first record was read: the longest that a record waits.
    #[serde(default = "default_roll_age")]
    #[schemars(extend("examples" = ["5m"]))]
    pub age: Period,
    /// Time without a new record.
    #[serde(default)]
    #[schemars(extend("examples" = ["30s"]))]
    pub idle: Option<Period>,
    /// At full multiples of this in the sink's timezone, as `1h` at full hours; a divisor or a multiple of a day.
    #[serde(default)]
    #[schemars(extend("examples" = ["1h"]))]
    pub clock: Option<Period>,
    /// Open files of one partition: paths in which records wait at the same time.
    #[serde(default = "default_roll_files")]
    #[schemars(extend("examples" = [1000]))]
    pub files: usize,
}

fn default_roll_bytes() -> Bytes {
    Bytes(128 << 20)
}
fn default_roll_records() -> u64 {
    10_000_000
}
fn default_roll_age() -> Period {
    Period(std::time::Duration::from_secs(300))
}
fn default_roll_files() -> usize {
    10_000
}

impl Default for RollSettings {
    fn default() -> Self {
        RollSettings {
            bytes: default_roll_bytes(),
            records: default_roll_records(),
            age: default_roll_age(),
            idle: None,
            clock: None,
            files: default_roll_files(),
        }
    }
}

/// What differs for some topics; what is not named is as in `sink`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Path of a file, as `sink.path`.
    #[serde(default)]
    pub path: Option<String>,
    /// What files hold, as `sink.format`; replaces it whole.
    #[serde(default)]
    pub format: Option<FormatSettings>,
    /// When files are closed, as `sink.roll`; replaces it whole.
    #[serde(default)]
    pub roll: Option<RollSettings>,
    /// As `sink.bad_records`.
    #[serde(default)]
    pub bad_records: Option<BadRecords>,
    /// As `transforms`; replaces them whole.
    #[serde(default)]
    pub transforms: Option<Vec<TransformSettings>>,
}

/// Parts of an upload times their size: no file can be larger.
const ROLL_BYTES_MAX: u64 = (kas3_store::PART_BYTES * kas3_store::PARTS_MAX) as u64;
const DAY: Duration = Duration::from_secs(86_400);

/// The transforms of a list, which stands under `key`; `storage` is how the sink's store is reached, and its key. What cannot be is
/// added to `mistakes`, naming the keys.
pub fn chain(key: &str, transforms: &[TransformSettings], storage: (&str, &StorageSettings), mistakes: &mut Mistakes) -> Option<Arc<Chain>> {
    let mut plans = Vec::with_capacity(transforms.len());
    for (index, transform) in transforms.iter().enumerate() {
        if transforms[..index].iter().any(|before| before.kind == transform.kind) {
            mistakes.add(
                Error::config(format!("`{key}` holds `{}` twice", transform.kind))
                    .hint("one says it all: name further places in its `read_from`, and further formats in its `accept`"),
            );
        }
        plans.push(mistakes.take(transform.settings.build(&format!("{key}[{index}]"), storage)));
    }
    plans.into_iter().collect::<Option<_>>().map(Chain::new).map(Arc::new)
}

/// Checks when files are closed; `key` is where it stands. What cannot be is added to `mistakes`, naming the keys.
pub fn roll(key: &str, settings: &RollSettings, mistakes: &mut Mistakes) -> RollPlan {
    let positive = [
        ("bytes", settings.bytes.0 > 0),
        ("records", settings.records > 0),
        ("age", !settings.age.0.is_zero()),
        ("idle", settings.idle.is_none_or(|idle| !idle.0.is_zero())),
        ("files", settings.files > 0),
    ];
    for (name, _) in positive.iter().filter(|(_, fits)| !fits) {
        mistakes.add(Error::config(format!("`{key}.{name}` is zero")).hint("no file could ever hold a record; leave the key out for its default"));
    }
    if settings.bytes.0 > ROLL_BYTES_MAX {
        mistakes.add(
            Error::config(format!("`{key}.bytes` is `{}`, more than an upload of 10,000 parts holds", settings.bytes))
                .hint(format!("at most `{}`", Bytes(ROLL_BYTES_MAX))),
        );
    }
    if let Some(clock) = settings.clock {
        let day = DAY.as_millis();
        let clock_ms = clock.0.as_millis();
        if clock_ms < 1000 || (!day.is_multiple_of(clock_ms) && !clock_ms.is_multiple_of(day)) {
            mistakes.add(
                Error::config(format!("`{key}.clock` is `{clock}`, which neither divides a day nor is a number of days"))
                    .hint("write for instance `15m`, `1h`, `6h` or `1d`"),
            );
        }
    }
    RollPlan {
        bytes: settings.bytes.0,
        records: settings.records,
        age: settings.age.0,
        idle: settings.idle.map(|idle| idle.0),
        clock: settings.clock.map(|clock| clock.0),
        files: settings.files,
        files_of_record: settings.files,
    }
}
