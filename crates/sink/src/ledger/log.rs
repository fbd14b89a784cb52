//! What the ledger asks of Kafka. The Kafka source implements it; tests use one in memory.
//!
//! The ledger never starts from what Kafka's consumer group says: [`Log::reported`] is a tripwire, nothing more.

use super::closed::ClosedFile;
use crate::{
    config::Start,
    error::Result,
    span::{Span, TopicPartition},
};
use async_trait::async_trait;
use jiff::Timestamp;
use kas3_store::Store;

/// Kafka, as far as the ledger needs it.
#[async_trait]
pub trait Log: Send + Sync {
    /// The id of the cluster that answers.
    async fn cluster_id(&self) -> Result<String>;

    /// Names of all topics that exist and that this client may see: what the first start of a pipeline writes down.
    async fn topics(&self) -> Result<Vec<String>>;

    /// The id of a topic, asked anew from the broker at every call, never cached. `None`: the broker knows no topic ids
    /// (then the checks are skipped).
    ///
    /// # Errors
    /// `Missing` when the topic is gone.
    async fn topic_id(&self, topic: &str) -> Result<Option<String>>;

    /// How many partitions a topic has.
    async fn partitions(&self, topic: &str) -> Result<i32>;

    /// The resolved start of every partition of a topic by the rule, in the order of the partitions.
    async fn resolve_start(&self, topic: &str, start: &Start) -> Result<Vec<i64>>;

    /// The earliest offset that Kafka still has, and the end (the last stable offset).
    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)>;

    /// What our consumer group last reported for the partition.
    async fn reported(&self, of: &TopicPartition) -> Result<Option<Report>>;

    /// Reads a span again and makes the wanted files of it, with the same names, because `now` and the incarnation are given.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the whole span; `Transient` when it may go well later.
    async fn remake(&self, of: &Remake) -> Result<Vec<(u32, ClosedFile)>>;
}

/// An order to make files of a committed span again.
#[derive(Clone)]
pub struct Remake {
    /// Whose span it is.
    pub of: TopicPartition,
    /// The span's name.
    pub id: String,
    /// The store that the span was committed for; uploads go there.
    pub store: Store,
    /// Exactly these offsets.
    pub span: Span,
    /// Leader epoch of the span's last record; -1 when not known.
    pub leader_epoch: i32,
    /// The incarnation in the names.
    pub incarnation: u32,
    /// What `{now}` was.
    pub now: Timestamp,
    /// Numbers of the files to make, ascending.
    pub wanted: Vec<u32>,
    /// The path of each wanted file below the sink's URL, in the order of `wanted`.
    pub paths: Vec<String>,
}

/// What the consumer group is told: for lag tools, and as a tripwire for a lost ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The next offset to read.
    pub next: i64,
    /// Free text that Kafka keeps beside the offset: [`Origin`](super::Origin) as JSON.
    pub metadata: String,
}
