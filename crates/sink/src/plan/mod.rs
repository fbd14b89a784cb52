//! What a pipeline runs on: the configuration after it was validated, every template parsed, every contradiction refused. Made by
//! [`crate::config`]; nothing here reads a file.

mod start;
mod topics;

pub use start::{Beginning, Start};
pub use topics::{RollPlan, TopicPlan};

use crate::{path::Doubt, properties::Properties, span::TopicPartition, topics::TopicPattern, transform::Chain};
use std::{sync::Arc, time::Duration};

/// A validated configuration. Its Debug shows no secrets.
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
    /// Begin topics also where somebody else wrote their records before.
    pub beside: bool,
    /// librdkafka properties as the user wrote them.
    pub kafka: Properties,
    /// The kind of target, a name of [`crate::target::TARGETS`].
    pub target: &'static str,
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
    /// Write the cursor of DeviantArt's kafka-connect-s3 (`last_chunk_index.<topic>-<partition>.txt`) beside the files.
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
                chains.push((format!("topics.{}.transforms", pattern.written()), &plan.transforms));
            }
        }
        chains.retain(|(_, chain)| !chain.is_empty());
        chains
    }

    /// What the path templates say that is hardly what was meant, each with the key under which it stands.
    pub fn doubts(&self) -> Vec<(String, Doubt)> {
        let own = self.overrides.iter().map(|(pattern, plan)| (format!("topics.{}.path", pattern.written()), plan));
        let mut found: Vec<(String, Doubt)> = Vec::new();
        for (key, plan) in std::iter::once(("sink.path".to_owned(), &self.default)).chain(own) {
            let doubts = plan.path.doubts(&format!(".{}", plan.format.extension()));
            found.extend(doubts.into_iter().map(|doubt| (key.clone(), doubt)));
        }
        // a section without a path of its own has that of all
        let mut told: Vec<Doubt> = Vec::new();
        found.retain(|(_, doubt)| {
            !told.contains(doubt) && {
                told.push(doubt.clone());
                true
            }
        });
        found
    }

    /// Whether the configuration names `topic`, literally or by expression: an internal one (`__…`) only by its very name.
    pub fn reads(&self, topic: &str) -> bool {
        let internal = topic.starts_with("__");
        self.topics.iter().any(|pattern| pattern.matches(topic) && (!internal || matches!(pattern, TopicPattern::Name(_))))
    }

    /// Where staged bytes of a partition lie, below the sink's URL and with a trailing slash.
    pub fn staged_prefix(&self, of: &TopicPartition) -> String {
        format!("_kas3/{}/staged/{}/{:05}/", self.name, of.topic, of.partition)
    }
}
