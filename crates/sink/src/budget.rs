//! One memory budget for the process.
//!
//! `memory` is the largest resident size: Kafka's queues, batches on their way, open blocks, parts in flight, closed spans.
//! What kas3 itself holds is counted as it grows and shrinks; what it cannot count (allocator, TLS, librdkafka's own state) is
//! seen in the resident size, which is looked at a few times a second. Past the limit fetching pauses and the largest lane
//! closes its files early.

use crate::status::{Status, resident_bytes};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// What a process needs before it holds a single record: code, TLS, threads, clients.
const BASE_BYTES: u64 = 40 << 20;
/// Percent of the limit from which lanes give memory back; fetching pauses at the limit itself.
const FULL_PERCENT: u64 = 85;
/// Resident size, in percent of `memory`, from which the process counts as full whatever was counted.
const RESIDENT_PERCENT: u64 = 88;

/// The budget of one process.
pub struct Budget {
    memory: u64,
    limit: u64,
    kafka: u64,
    resident: AtomicU64,
    status: Arc<Status>,
}

impl Budget {
    /// Divides `memory` bytes: a quarter of what is above the base for librdkafka's queues, a tenth kept free, the rest for lanes.
    pub fn new(memory: u64, status: Arc<Status>) -> Arc<Self> {
        let usable = memory.saturating_sub(BASE_BYTES).max(memory / 4);
        Arc::new(Budget { memory, limit: usable * 65 / 100, kafka: usable / 4, resident: AtomicU64::new(0), status })
    }

    /// Bytes for librdkafka's queues, all partitions together.
    pub fn kafka_bytes(&self) -> u64 {
        self.kafka
    }

    /// Bytes that lanes may hold together.
    pub fn lane_bytes(&self) -> u64 {
        self.limit
    }

    /// Counts bytes that are held from now on, or, when negative, no longer.
    pub fn hold(&self, bytes: i64) {
        self.status.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes counted right now.
    pub fn held(&self) -> u64 {
        self.status.buffered_bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Looks at the resident size; called a few times a second.
    pub fn look(&self) {
        if let Some(resident) = resident_bytes() {
            self.resident.store(resident, Ordering::Relaxed);
            self.status.resident_max.fetch_max(resident, Ordering::Relaxed);
        }
    }

    /// Whether lanes should give memory back: they close blocks early, then files.
    pub fn full(&self) -> bool {
        let held = self.held();
        held > self.limit * FULL_PERCENT / 100 || (self.resident_full() && held > self.limit / 8)
    }

    /// Whether nothing should be fetched. Never while next to nothing is held: what fills the memory then is not ours to free.
    pub fn pause_fetching(&self) -> bool {
        let held = self.held();
        // the same bound as in `full`: a lane that keeps others from being fetched must be one that is asked to give back
        held > self.limit || (self.resident_full() && held > self.limit / 8)
    }

    fn resident_full(&self) -> bool {
        self.resident.load(Ordering::Relaxed) > self.memory * RESIDENT_PERCENT / 100
    }
}

/// Bytes that are counted until this is dropped, however the work on them ends.
pub struct Held {
    budget: Arc<Budget>,
    bytes: i64,
}

impl Held {
    /// Takes over `bytes` that were counted already.
    pub fn taken_over(budget: &Arc<Budget>, bytes: i64) -> Self {
        Held { budget: Arc::clone(budget), bytes }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.hold(-self.bytes);
    }
}
