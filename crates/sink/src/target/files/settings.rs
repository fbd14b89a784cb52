//! The settings of a sink of files, as they are written.

use super::settle::Settle;
use crate::{format::FormatSettings, refused::BadRecords, target::RollSettings, units::Period};
use kas3_store::StorageSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of a sink of files.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesSettings {
    /// `s3://bucket/prefix` or `file:///folder`.
    #[schemars(extend("examples" = ["s3://bucket/prefix", "file:///data/lake"]))]
    pub url: String,
    /// How the store is reached. Credentials: the default AWS chain, or the keys named here.
    #[serde(default)]
    pub storage: StorageSettings,
    /// Path of a file below the URL, without extension: `{topic} {partition} {offset}` (of its first record; numbers with a
    /// width, `{partition:05}`), `{timestamp:%Y-%m-%d}` of the record, `{now:%Y}` of the span, `{value.a.b}`,
    /// `{value.a.b:%Y-%m-%d}`, `{key}`, `{header.name}`. A name without braces is a preset:
    /// `zooz`, `deviantart` or `delta_connector`.
    #[serde(default = "default_path")]
    #[schemars(extend("examples" = ["{topic}/date={timestamp:%Y-%m-%d}/hour={timestamp:%H}/{partition}_{offset}", "zooz"]))]
    pub path: String,
    /// Timezone of the strftime parts and of `roll.clock`, as `Europe/Berlin`.
    #[serde(default = "default_timezone")]
    #[schemars(extend("examples" = ["Europe/Berlin"]))]
    pub timezone: String,
    /// What files hold.
    #[serde(default)]
    pub format: FormatSettings,
    /// When files are closed: whichever comes first.
    #[serde(default)]
    pub roll: RollSettings,
    /// What to do with a record that does not fit the format or the path.
    #[serde(default)]
    pub bad_records: BadRecords,
    /// When the ledger notes that a span is published: with the next commit, or when none has followed for so long. `next`: with the
    /// next commit alone. By default twice the longest `roll.age`, and at least 5 s. A shorter time tells readers sooner which files
    /// they may move, and costs a request more for each roll.
    #[serde(default)]
    #[schemars(extend("examples" = ["5s", "next"]))]
    pub settle: Option<Settle>,
    /// How long a missing file may still turn up before it is made again from Kafka.
    #[serde(default = "default_amend")]
    #[schemars(extend("examples" = ["5m"]))]
    pub amend_after: Period,
    /// Also keep the cursor objects `last_chunk_index.<topic>-<partition>.txt` of DeviantArt's connector. Needs
    /// `format.index: side_file`.
    #[serde(default)]
    pub cursor: bool,
}

fn default_path() -> String {
    "{topic}/date={timestamp:%Y-%m-%d}/{partition}_{offset}".to_owned()
}
fn default_timezone() -> String {
    "UTC".to_owned()
}
fn default_amend() -> Period {
    Period(std::time::Duration::from_secs(300))
}
