//! What the consumer group is told of a partition's progress. kas3 never starts from it: lag tools read it, and it is a tripwire
//! for a lost ledger.

/// How far a partition is, as the consumer group keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The next offset to read.
    pub next: i64,
    /// Free text that Kafka keeps beside the offset: who reported, as JSON.
    pub metadata: String,
}
