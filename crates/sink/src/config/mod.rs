//! The configuration: one YAML file, one tree. What the user wrote is [`Settings`]; what was validated is [`Pipeline`].
//!
//! The doc comment of a field of [`Settings`] is its manual text: the reference page and the JSON Schema are generated from it.
//! Errors name the whole path of a setting and what was probably meant; secrets appear in none of them.
//!
//! ```
//! let text = "
//! name: orders
//! source: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092', sasl.username: '${KAFKA_USER:-nobody}'}}
//! sink: {url: 's3://lake/raw', roll: {age: 1m}}
//! ";
//! let loaded = kas3_sink::config::load(text, &|name| std::env::var(name).ok())?;
//! let pipeline = loaded.pipeline()?;
//! assert_eq!(pipeline.default.roll.age.as_secs(), 60);
//! # Ok::<(), kas3_sink::Error>(())
//! ```

mod choices;
mod environment;
mod kafka;
mod load;
mod ordered;
mod properties;
mod redact;
mod reference;
mod settings;
mod substitute;
mod tree;
mod units;
mod url;
mod validate;

pub use choices::{Settle, Start};
pub use environment::{ENVIRONMENT, EnvironmentName, Family, KAFKA_PROPERTIES, from_environment, kafka_property};
pub use load::{Loaded, load, load_as};
pub use ordered::Ordered;
pub use properties::{Properties, is_secret};
pub use redact::Redactor;
pub use reference::{reference_markdown, schema_json, settings_markdown};
pub use settings::*;
pub use units::{Bytes, Period};
pub(crate) use url::{check as check_url, check_storage};
pub use validate::validate;

use crate::{format::Format, path::PathTemplate, span::TopicPartition, transform::Chain};
use std::{sync::Arc, time::Duration};

/// A validated configuration: every template parsed, every contradiction refused. Its Debug shows no secrets.
#[derive(Debug)]
pub struct Pipeline {
    /// Name of the pipeline: ledger folder and metric label.
    pub name: String,
    /// Topics to read.
    pub topics: Vec<TopicPattern>,
    /// Consumer group.
    pub group: String,
    /// Where topics begin that the ledger does not know.
    pub start: Start,
    /// librdkafka properties as the user wrote them.
    pub kafka: Properties,
    /// The sink's URL, `s3://bucket/prefix` or `file:///folder`, without a trailing slash.
    pub url: String,
    /// The ledger's URL; the sink's unless set.
    pub ledger_url: String,
    /// The version to which the ledger's stored forms are pinned; `None`: the oldest that holds what is needed.
    pub ledger_version: Option<u32>,
    /// How both are reached.
    pub storage: kas3_store::StorageSettings,
    /// Timezone of the strftime parts and of `roll.clock`.
    pub timezone: jiff::tz::TimeZone,
    /// After publishing, when no commit follows: how long until a swap for settling alone; `None`: with the next commit.
    pub settle: Option<Duration>,
    /// How long a missing file may still turn up before it is made again.
    pub amend_after: Duration,
    /// How long SIGTERM and a revocation may take to flush.
    pub shutdown_deadline: Duration,
    /// How long a revocation may take to flush before the partition is given away.
    pub revoke_deadline: Duration,
    /// The largest resident size of the process in bytes.
    pub memory_bytes: u64,
    /// Address of the HTTP port; `None`: off.
    pub http: Option<std::net::SocketAddr>,
    /// What applies to topics without a section of their own.
    pub default: Arc<TopicPlan>,
    /// What differs per topic, in the order of the file; the first that matches applies.
    pub overrides: Vec<(TopicPattern, Arc<TopicPlan>)>,
    /// Write the cursor of seed 003 (`last_chunk_index.<topic>-<partition>.txt`) beside the files.
    pub cursor: bool,
    /// Digest of everything that shapes files, kept in the head so that two deployments with different settings are noticed.
    pub settings_digest: String,
}

impl Pipeline {
    /// What applies to `topic`.
    pub fn plan(&self, topic: &str) -> &Arc<TopicPlan> {
        self.overrides.iter().find(|(pattern, _)| pattern.matches(topic)).map_or(&self.default, |(_, plan)| plan)
    }

    /// The lists of transforms that are not empty, each with the key under which it stands.
    pub fn chains(&self) -> Vec<(String, &Arc<Chain>)> {
        let mut chains: Vec<(String, &Arc<Chain>)> = vec![("transforms".to_owned(), &self.default.transforms)];
        for (pattern, plan) in &self.overrides {
            if !chains.iter().any(|(_, known)| Arc::ptr_eq(known, &plan.transforms)) {
                let topic = match pattern {
                    TopicPattern::Name(name) => name.as_str(),
                    TopicPattern::Expression(expression) => expression.as_str(),
                };
                chains.push((format!("topics.{topic}.transforms"), &plan.transforms));
            }
        }
        chains.retain(|(_, chain)| !chain.is_empty());
        chains
    }

    /// Whether the configuration names `topic`, literally or by expression.
    pub fn reads(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// Where staged bytes of a partition lie, below the sink's URL and with a trailing slash.
    pub fn staged_prefix(&self, of: &TopicPartition) -> String {
        format!("_kas3/{}/staged/{}/{:05}/", self.name, of.topic, of.partition)
    }
}

impl std::fmt::Debug for TopicPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicPlan")
            .field("path", &self.path.to_string())
            .field("extension", &self.format.extension())
            .field("roll", &self.roll)
            .field("bad_records", &self.bad_records)
            .field("transforms", &self.transforms)
            .finish()
    }
}

/// What applies to one topic.
pub struct TopicPlan {
    /// Where records go.
    pub path: PathTemplate,
    /// What files hold.
    pub format: Arc<dyn Format>,
    /// When files are closed.
    pub roll: RollPlan,
    /// What to do with a record that does not fit (`BadRecord`).
    pub bad_records: BadRecords,
    /// What happens to records before. Topics that share a list share this.
    pub transforms: Arc<Chain>,
}

/// When files are closed: whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollPlan {
    /// Encoded bytes of the largest file.
    pub bytes: u64,
    /// Records of the span.
    pub records: u64,
    /// Since the span's first record was read.
    pub age: Duration,
    /// Without a new record.
    pub idle: Option<Duration>,
    /// At full multiples of this, in the pipeline's timezone.
    pub clock: Option<Duration>,
    /// Open files of one lane.
    pub files: usize,
}

/// One entry of `source.topics`, or a key of `topics`.
#[derive(Clone, Debug)]
pub enum TopicPattern {
    /// A literal name.
    Name(String),
    /// A regular expression, written with a leading `^` and compiled with both anchors: it matches whole names.
    Expression(regex::Regex),
}

impl TopicPattern {
    /// Whether `topic` is meant.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            TopicPattern::Name(name) => name == topic,
            TopicPattern::Expression(expression) => expression.is_match(topic),
        }
    }
}
