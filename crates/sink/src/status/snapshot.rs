//! Everything that a process says of itself, at one moment.

use crate::conditions::{Condition, ConditionKind, Severity};
use jiff::Timestamp;
use serde::Serialize;

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Store and topics are being checked.
    Starting,
    /// It reads and writes.
    Running,
    /// It flushes and leaves.
    Stopping,
}

/// What one partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its head is being read and what is pending published.
    Opening,
    /// It is read and written.
    Running,
    /// It stopped until a person decides.
    Stopped,
}

/// A record that was refused and passed over.
#[derive(Clone, Debug, Serialize)]
pub struct RefusedRecord {
    /// When it was passed over.
    pub at: Timestamp,
    /// Its offset.
    pub offset: i64,
    /// The step that refuses it.
    pub step: &'static str,
    /// The code of the reason, as metrics count it.
    pub code: &'static str,
    /// The reason in words.
    pub detail: String,
}

/// What all partitions that the process ever had have published.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PublishedSnapshot {
    /// Records in published files.
    pub records: u64,
    /// Records that the configuration wants away.
    pub filtered: u64,
    /// Records that do not fit and were passed over.
    pub refused: u64,
    /// Published files.
    pub files: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

/// Everything that a process says of itself, as `/api/status` gives it.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Pipeline.
    pub pipeline: String,
    /// Version of kas3.
    pub version: &'static str,
    /// When the process began.
    pub started: Timestamp,
    /// When this was taken.
    pub now: Timestamp,
    /// Where the process is in its life.
    pub phase: Phase,
    /// How long ago the poll loop last went round, in milliseconds.
    pub poll_age_ms: i64,
    /// The largest resident size allowed, in bytes.
    pub memory_limit: u64,
    /// Resident size, in bytes.
    pub resident_bytes: u64,
    /// Largest resident size that the pipeline saw, in bytes.
    pub resident_bytes_max: u64,
    /// Bytes that the budget counts.
    pub buffered_bytes: u64,
    /// Rebalances by kind.
    pub rebalances: Vec<(&'static str, u64)>,
    /// Requests to the store.
    pub requests: Vec<RequestSnapshot>,
    /// Attempts that were repeated, by kind of request.
    pub retries: Vec<(&'static str, u64)>,
    /// The stores that are asked.
    pub stores: Vec<StoreSnapshot>,
    /// What is wrong or waited for, the worst first.
    pub conditions: Vec<Condition>,
    /// What was published since the process began, by partitions that it gave away too.
    pub published: PublishedSnapshot,
    /// The newest warnings.
    pub warnings: Vec<(Timestamp, String)>,
    /// Assigned partitions.
    pub partitions: Vec<PartitionSnapshot>,
}

/// Requests of one kind and outcome.
#[derive(Clone, Debug, Serialize)]
pub struct RequestSnapshot {
    /// Kind of request.
    pub request: &'static str,
    /// How they ended.
    pub outcome: &'static str,
    /// How many.
    pub count: u64,
    /// Time that they took together, in seconds.
    pub seconds: f64,
    /// Bytes that they carried.
    pub bytes: u64,
}

/// One store: an endpoint and a bucket.
#[derive(Clone, Debug, Serialize)]
pub struct StoreSnapshot {
    /// Endpoint and bucket.
    pub store: String,
    /// For how long requests have failed, in seconds, when the circuit breaker is open; null when it is closed.
    pub down_seconds: Option<f64>,
    /// What failed last, while it is open.
    pub reason: Option<String>,
    /// Times that the circuit breaker was opened.
    pub opened: u64,
    /// For how long it has refused requests that it answers, in seconds; null when it does not.
    pub refusing_seconds: Option<f64>,
}

impl From<kas3_store::BreakerState> for StoreSnapshot {
    fn from(state: kas3_store::BreakerState) -> Self {
        StoreSnapshot {
            store: state.store,
            down_seconds: state.open_for.map(|open| open.as_secs_f64()),
            reason: state.open_for.map(|_| state.reason),
            opened: state.opened,
            refusing_seconds: state.refusing.map(|refusing| refusing.lasted.as_secs_f64()),
        }
    }
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionSnapshot {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// What it is doing.
    pub state: State,
    /// Why it stopped.
    pub reason: Option<String>,
    /// The next offset to read.
    pub position: Option<i64>,
    /// `next` of the head.
    pub committed: Option<i64>,
    /// Everything before this is published.
    pub published: Option<i64>,
    /// The end of the partition, records of open transactions included.
    pub end: Option<i64>,
    /// The last stable offset: what lies from here on waits for transactions.
    pub stable: Option<i64>,
    /// Offsets between what is published and the end.
    pub lag_records: Option<i64>,
    /// Offsets between the position and the end.
    pub unread_records: Option<i64>,
    /// Age of the oldest record that is unread, or read and not published, in seconds; 0 when there is none.
    pub lag_seconds: Option<f64>,
    /// Timestamp of the oldest record that was read and is not published, in milliseconds since the epoch.
    pub oldest_unpublished_ms: Option<i64>,
    /// Open files.
    pub open_files: u64,
    /// Bytes in the lane.
    pub buffered_bytes: u64,
    /// Records read.
    pub records_read: u64,
    /// Records in published files.
    pub records_written: u64,
    /// Records left out.
    pub records_filtered: u64,
    /// Records that do not fit and were passed over.
    pub records_refused: u64,
    /// Bytes in published files.
    pub bytes_written: u64,
    /// Published files.
    pub files_written: u64,
    /// Files made again.
    pub files_amended: u64,
    /// Values that transforms brought, as payloads in the place of their references.
    pub payloads_resolved: u64,
    /// Their bytes.
    pub payload_bytes: u64,
    /// Refusals by reason.
    pub refusals: Vec<(&'static str, u64)>,
    /// The newest records that were refused and passed over, the oldest of them first.
    pub refused_last: Vec<RefusedRecord>,
    /// Spans by the reason why they were closed.
    pub spans: Vec<(&'static str, u64)>,
}

impl Snapshot {
    /// Whether the process lives: its poll loop goes round.
    pub fn live(&self) -> bool {
        !self.has(ConditionKind::PollSilent)
    }

    /// Whether records become visible as they should: nothing is failing.
    pub fn healthy(&self) -> bool {
        self.failing().next().is_none()
    }

    /// The conditions for which `/health` answers 503.
    pub fn failing(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| condition.severity == Severity::Failing)
    }

    /// Whether a condition of this kind is there.
    pub fn has(&self, kind: ConditionKind) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind)
    }

    /// Partitions that stopped, with their reasons.
    pub fn stopped(&self) -> impl Iterator<Item = &PartitionSnapshot> {
        self.partitions.iter().filter(|partition| partition.state == State::Stopped)
    }
}
