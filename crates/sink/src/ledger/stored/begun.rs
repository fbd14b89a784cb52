//! How an incarnation of a partition began that a person decided about. It is kept for ever: by it `verify` and `ledger show` tell which
//! records were read a second time on purpose, and from where on a log holds other records than its older files.

use super::{Word, instant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A beginning that a person decided about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// The incarnation that began.
    pub incarnation: u32,
    /// Why.
    pub why: Word<Why>,
    /// Its first offset.
    pub start: i64,
    /// The offset up to which the partition had been read before that, as far as known.
    pub read_to: i64,
    /// The log was cut back: from this offset on it holds other records than those that were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_at: Option<i64>,
    /// When it was decided, by the clock of whoever did; for people.
    #[serde(with = "instant")]
    pub decided_at: Timestamp,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why an incarnation began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A person went back: records that are in files are read a second time.
    Again,
    /// The log was cut back: what follows are other records.
    CutBack,
    /// The topic, or the cluster, is another one.
    OtherTopic,
    /// The head was lost, or is older than what was reported to the consumer group.
    Lost,
}

impl Begun {
    /// Offsets that are read a second time: none unless a person went back.
    pub fn offsets_again(&self) -> u64 {
        if self.why == Why::Again { self.read_to.saturating_sub(self.start).max(0).unsigned_abs() } else { 0 }
    }
}
