//! What ledger, `verify` and tools ask of Kafka. The Kafka source answers; tests use a log in memory.
//!
//! The ledger never starts from what Kafka's consumer group says: [`Log::reported`] is a tripwire, nothing more.

use crate::{
    error::{Kind, Result},
    plan::Start,
    record::Record,
    report::Report,
    span::{Position, TopicPartition},
};
use async_trait::async_trait;

/// Kafka, as far as others than the source need it.
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

    /// The end with everything that open transactions hold back: at or after what [`Log::bounds`] calls the end.
    async fn high_watermark(&self, of: &TopicPartition) -> Result<i64>;

    /// What our consumer group last reported for the partition.
    async fn reported(&self, of: &TopicPartition) -> Result<Option<Report>>;

    /// Whether the topic is compacted, so that records may be missing between others. Without the permission to ask, the strict
    /// answer holds: it is not.
    async fn compacted(&self, topic: &str) -> Result<bool>;

    /// Where the log was cut back below a position that was read up to: from there on it holds other records, however far it has
    /// grown. `None` also where nobody can tell, because no leader epoch is known. Blocks: not for async threads.
    fn cut_back(&self, of: &TopicPartition, position: Position) -> Result<Option<i64>>;

    /// Calls `each` for the records of `[first, next)` in the order of their offsets, read-committed. Blocks: not for async threads.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the beginning; `Transient` when nothing comes; whatever `each` answers.
    fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()>;
}

/// What a ledger's head is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Id of the topic; `None` while the brokers know no ids.
    pub topic_id: Option<String>,
}

impl Identity {
    /// Whether both are of the same topic: ids that nobody knows differ from none.
    pub fn is_same(&self, other: &Identity) -> bool {
        let same_topic = match (&self.topic_id, &other.topic_id) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        };
        same_topic && self.cluster_id == other.cluster_id
    }

    /// The ids of cluster and topic, as now; `None` when the topic is gone.
    ///
    /// # Errors
    /// When Kafka cannot be asked.
    pub async fn now(log: &dyn Log, topic: &str) -> Result<Option<Identity>> {
        let cluster_id = log.cluster_id().await?;
        match log.topic_id(topic).await {
            Ok(topic_id) => Ok(Some(Identity { cluster_id, topic_id })),
            Err(error) if error.kind() == Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }
}
