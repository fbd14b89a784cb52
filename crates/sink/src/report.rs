//! What the consumer group is told of a partition's progress. kas3 never starts from it: lag tools read it, and it is a tripwire
//! for a lost ledger.

use serde::{Deserialize, Serialize};

/// How far a partition is, as the consumer group keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The next offset to read.
    pub next: i64,
    /// Free text that Kafka keeps beside the offset: [`Origin`] as JSON.
    pub metadata: String,
}

/// Who reported: the metadata beside an offset in the consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Version of this form.
    pub kas3: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// URL of its ledger.
    pub ledger: String,
    /// Incarnation of the partition.
    pub incarnation: u32,
}

impl Origin {
    /// Reads metadata; `None` when it was not written by kas3.
    pub fn parse(metadata: &str) -> Option<Origin> {
        serde_json::from_str(metadata).ok()
    }

    /// The metadata.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
