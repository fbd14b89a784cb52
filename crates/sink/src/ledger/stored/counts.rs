//! How many records of a span went where.

use crate::span;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How many records of a span went where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records read from Kafka: those written, filtered and refused.
    pub read: u64,
    /// Records of which rows were written into files.
    pub written: u64,
    /// Rows written into files, where they are not as many as the records written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Records that the configuration wants away.
    pub filtered: u64,
    /// Records that do not fit, and were passed over as `bad_records` says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Those of the refused records that were written as dead letters.
    pub dead_lettered: u64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl From<span::Counts> for Counts {
    fn from(span::Counts { read, written, rows, filtered, refused, dead_lettered }: span::Counts) -> Self {
        Counts { read, written, rows: (rows != written).then_some(rows), filtered, refused, dead_lettered, extra: Map::new() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
