//! The half-open interval of offsets, the only interval in the code, and what is kept of a span that was closed.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Offsets `[first, next)` of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// The first offset of the span.
    pub first: i64,
    /// The first offset after the span.
    pub next: i64,
}

/// Where reading goes on: the offset, and the leader epoch of the record before it, by which Kafka notices a log cut back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub next: i64,
    /// Leader epoch of the position; -1 when not known.
    pub leader_epoch: i32,
}

/// Why a lane closed its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Roll {
    /// The largest file reached `roll.bytes` as encoded.
    Bytes,
    /// `roll.records` records.
    Records,
    /// The span's first record was read `roll.age` ago.
    Age,
    /// No record came for `roll.idle`.
    Idle,
    /// A full `roll.clock` of the pipeline's timezone.
    Clock,
    /// Too many open files.
    Files,
    /// The process came near its memory budget.
    Memory,
    /// The partition is taken away.
    Revoked,
    /// The process stops.
    Shutdown,
    /// `--until-end` reached the end.
    End,
}

impl Roll {
    /// Every reason, in the order of metrics.
    pub const ALL: [Roll; 10] =
        [Roll::Bytes, Roll::Records, Roll::Age, Roll::Idle, Roll::Clock, Roll::Files, Roll::Memory, Roll::Revoked, Roll::Shutdown, Roll::End];

    /// The reason in the ledger and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Roll::Bytes => "bytes",
            Roll::Records => "records",
            Roll::Age => "age",
            Roll::Idle => "idle",
            Roll::Clock => "clock",
            Roll::Files => "files",
            Roll::Memory => "memory",
            Roll::Revoked => "revoked",
            Roll::Shutdown => "shutdown",
            Roll::End => "end",
        }
    }
}

/// How many records of a span went where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read from Kafka: those written, filtered and refused.
    pub read: u64,
    /// Records of which rows were written into files.
    pub written: u64,
    /// Rows written into files.
    pub rows: u64,
    /// Records that the configuration wants away: a transform or a setting of the format filters them.
    pub filtered: u64,
    /// Records that do not fit, and were passed over as `bad_records` says.
    pub refused: u64,
    /// Those of the refused records that were written as dead letters.
    pub dead_lettered: u64,
}

/// Smallest and largest of something; empty until the first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

impl Bounds {
    /// The bounds of one value.
    pub fn of(value: i64) -> Self {
        Bounds { min: value, max: value }
    }

    /// Widens `bounds` to hold `value`.
    pub fn widen(bounds: &mut Option<Bounds>, value: i64) {
        match bounds {
            Some(bounds) => {
                bounds.min = bounds.min.min(value);
                bounds.max = bounds.max.max(value);
            }
            None => *bounds = Some(Bounds::of(value)),
        }
    }
}

/// Checksum of a file's uncompressed content: XXH3, 128 bits, as `xxh3:` and 32 hexadecimal digits. It finds accidents, not
/// forgeries, at a cost that no profile shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(pub String);

impl Checksum {
    /// From the digest of XXH3-128.
    pub fn from_xxh3(digest: u128) -> Self {
        Checksum(format!("xxh3:{digest:032x}"))
    }

    /// Whether it can be compared with one that was made here.
    pub(crate) fn is_xxh3(&self) -> bool {
        self.0.starts_with("xxh3:")
    }
}
