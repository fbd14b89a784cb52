//! How many records of a span went where.

use crate::span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How many records of a span went where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read from Kafka.
    pub read: u64,
    /// Records written into files.
    pub written: u64,
    /// Records that a policy or a transform left out.
    pub filtered: u64,
    /// Records written to the dead-letter queue.
    pub dead_lettered: u64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl From<span::Counts> for Counts {
    fn from(span::Counts { read, written, filtered, dead_lettered }: span::Counts) -> Self {
        Counts { read, written, filtered, dead_lettered, extra: Map::new() }
    }
}
