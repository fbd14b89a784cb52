//! One memory budget for the process.
//!
//! `memory` is the largest resident size. It is divided: what a process needs before it holds a record, what librdkafka reads
//! ahead, what lanes and the spans that leave them hold, and a reserve for what nobody can count (fragments and free pages of
//! the allocator, buffers of TLS and HTTP). What kas3 holds is counted as it grows and shrinks; the rest is seen in the resident
//! size, which is looked at all the time.
//!
//! Guarantee: past the limit nothing is fetched, and either lanes are asked to give back, or enough of what is held is on its way
//! out already: more than half, or a quarter that comes free right now. So fetching always goes on again, and no file is closed
//! early in vain.

use crate::status::{Status, resident_bytes};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod large;

pub use large::record_bytes_max;

/// What a process needs before it holds a single record: code, TLS, threads, clients.
const BASE_BYTES: u64 = 46 << 20;
/// Percent of the limit from which lanes give memory back; fetching pauses at the limit itself.
const FULL_PERCENT: u64 = 90;
/// Percent of what is left for records that is counted, or kept free for copies of large ones; the rest is nobody's.
const COUNTED_PERCENT: u64 = 87;
/// Resident size, in percent of `memory`, from which the process counts as full whatever was counted.
const RESIDENT_PERCENT: u64 = 88;
/// Looks in a row at such a size after which lanes give memory back: free pages go back to the system sooner.
const RESIDENT_LOOKS: u32 = 100;
/// Resident size, in percent of `memory`, from which the allocator is told to give its free pages back at once.
const TRIM_PERCENT: u64 = 84;
/// Looks between two times at which it is told so.
const TRIM_LOOKS: u32 = 8;
/// What is on its way out but has not become less for so long does not come free by itself.
const LEAVING_MS: u64 = 2_000;
/// Spans that are committed and published at once: requests have buffers of their own.
const COMMITS_AT_ONCE: usize = 64;

/// How long a span waits for a place among them before it goes on without.
const PLACE_WAIT: Duration = Duration::from_secs(5);

/// The budget of one process.
pub struct Budget {
    memory: u64,
    /// What is left of it for records.
    usable: u64,
    limit: u64,
    kafka: u64,
    queue: u64,
    open: AtomicI64,
    queued: AtomicI64,
    resident: AtomicU64,
    looks_full: AtomicU32,
    looks_trimmed: AtomicU32,
    trim: Option<fn()>,
    begun: Instant,
    /// Milliseconds since `begun`, and one more; zero: never yet.
    released_ms: AtomicU64,
    commits: Arc<Semaphore>,
    large: large::Large,
    status: Arc<Status>,
}

impl Budget {
    /// Divides `memory` bytes.
    pub fn new(memory: u64, status: Arc<Status>) -> Arc<Self> {
        Budget::trimming(memory, None, status)
    }

    /// The same, with what makes the allocator give its free pages back to the system.
    pub fn trimming(memory: u64, trim: Option<fn()>, status: Arc<Status>) -> Arc<Self> {
        let usable = memory.saturating_sub(BASE_BYTES).max(memory / 4);
        Arc::new(Budget {
            memory,
            usable,
            limit: usable * 68 / 100,
            kafka: usable / 8,
            queue: usable / 16,
            open: AtomicI64::new(0),
            queued: AtomicI64::new(0),
            resident: AtomicU64::new(0),
            looks_full: AtomicU32::new(0),
            looks_trimmed: AtomicU32::new(0),
            trim,
            begun: Instant::now(),
            released_ms: AtomicU64::new(0),
            commits: Arc::new(Semaphore::new(COMMITS_AT_ONCE)),
            large: large::Large::default(),
            status,
        })
    }

    /// Bytes for what librdkafka reads ahead, all partitions together.
    pub fn kafka_bytes(&self) -> u64 {
        self.kafka
    }

    /// Bytes of batches that may wait for lanes, all together.
    pub fn queue_bytes(&self) -> i64 {
        i64::try_from(self.queue).unwrap_or(i64::MAX)
    }

    /// Bytes for what transforms bring before a lane has taken it in: payloads, of all partitions together.
    pub fn payload_bytes(&self) -> u64 {
        self.limit / 3
    }

    /// Counts bytes that are held from now on, or, when negative, no longer, and that come free by themselves.
    pub fn hold(&self, bytes: i64) {
        if bytes < 0 {
            self.released_ms.store(self.now_ms() + 1, Ordering::Relaxed);
        }
        self.count(bytes);
    }

    fn count(&self, bytes: i64) {
        self.status.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same for open files of lanes: they come free when a lane is asked to.
    pub fn open(&self, bytes: i64) {
        self.open.fetch_add(bytes, Ordering::Relaxed);
        self.count(bytes);
    }

    /// The same for batches that wait for lanes.
    pub fn queue(&self, bytes: i64) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        self.count(bytes);
    }

    /// Bytes of batches that wait for lanes right now.
    pub fn queued(&self) -> i64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// Bytes counted right now.
    pub fn held(&self) -> u64 {
        self.status.buffered_bytes.load(Ordering::Relaxed).max(0).unsigned_abs()
    }

    /// Looks at the resident size; called about a hundred times a second.
    pub fn look(&self) {
        let Some(mut resident) = resident_bytes() else { return };
        if let Some(trim) = self.trim
            && resident > self.memory * TRIM_PERCENT / 100
            && self.looks_trimmed.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIM_LOOKS)
        {
            trim();
            resident = resident_bytes().unwrap_or(resident);
        }
        self.resident.store(resident, Ordering::Relaxed);
        self.status.resident_max.fetch_max(resident, Ordering::Relaxed);
        let looks = if self.resident_full() { self.looks_full.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.looks_full.store(looks, Ordering::Relaxed);
    }

    /// Whether lanes should give memory back: they close blocks early, then files. Never while enough of what is held leaves anyway.
    pub fn full(&self) -> bool {
        let (held, open) = (self.held(), self.open.load(Ordering::Relaxed).max(0).unsigned_abs());
        let queued = self.queued().max(0).unsigned_abs();
        let full = held > self.pauses_above() * FULL_PERCENT / 100 || (self.looks_full.load(Ordering::Relaxed) > RESIDENT_LOOKS && self.much(held));
        full && open > held / 2 && !(self.comes_free() && open + queued < held - held / 4)
    }

    /// What is on its way out became less a moment ago.
    fn comes_free(&self) -> bool {
        let released = self.released_ms.load(Ordering::Relaxed);
        released > 0 && self.now_ms().saturating_sub(released) < LEAVING_MS
    }

    /// Whether nothing should be fetched.
    pub fn pause_fetching(&self) -> bool {
        let held = self.held();
        held > self.pauses_above() || (self.resident_full() && self.much(held))
    }

    /// What may be held before nothing more is fetched: less when records are so large that their copies need the room.
    fn pauses_above(&self) -> u64 {
        self.limit.min((self.usable * COUNTED_PERCENT / 100).saturating_sub(self.large.kept_free()))
    }

    /// Never pause while next to nothing is held: what fills the memory then is not ours to free.
    fn much(&self, held: u64) -> bool {
        held > self.limit / 8
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

    /// Counts `bytes` from now on.
    pub fn new(budget: &Arc<Budget>, bytes: u64) -> Self {
        let mut held = Held { budget: Arc::clone(budget), bytes: 0 };
        held.resize(bytes);
        held
    }

    /// Counts so many bytes instead.
    pub fn resize(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget.hold(bytes - self.bytes);
        self.bytes = bytes;
    }
}

impl Held {
    /// A place among the spans that are being committed, until the answer is dropped. `None` when none came free for a while:
    /// the store may answer for this partition and not for the others.
    pub async fn commit_place(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.budget.commits).acquire_owned();
        tokio::time::timeout(PLACE_WAIT, place).await.ok()?.ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.hold(-self.bytes);
    }
}

/// Bytes that were counted already, and go on counting for as long as anybody has them.
pub(crate) fn counted(budget: &Arc<Budget>, bytes: Bytes) -> Bytes {
    let held = Held::taken_over(budget, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    Bytes::from_owner(Counted { bytes, _held: held })
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const MIB: i64 = 1 << 20;

    fn budget(memory: u64, trim: Option<fn()>) -> Arc<Budget> {
        let text = "name: n\nsource: {topics: [t], kafka: {bootstrap.servers: b:9092}}\nsink: {type: files, url: s3://lake}\n";
        let pipeline = config::load(text, &|_| None).unwrap().pipeline().unwrap();
        Budget::trimming(memory, trim, Status::new(&pipeline.name, pipeline.memory_bytes))
    }

    #[test]
    fn lanes_are_left_alone_while_a_quarter_of_what_is_held_comes_free_by_itself() {
        let budget = budget(256 << 20, None);
        budget.open(100 * MIB);
        assert!(!budget.full(), "there is room");
        budget.hold(40 * MIB);
        assert!(budget.full(), "nothing of it has come free yet");
        budget.hold(-MIB);
        assert!(!budget.full(), "it comes free");
        budget.open(20 * MIB);
        budget.queue(10 * MIB);
        assert!(budget.full(), "too little of it does: what waits for lanes is not on its way out");
    }

    #[test]
    fn the_allocator_is_told_to_give_pages_back_when_the_process_is_nearly_full_and_not_at_every_look() {
        static TOLD: AtomicU32 = AtomicU32::new(0);
        let trim: fn() = || _ = TOLD.fetch_add(1, Ordering::Relaxed);
        budget(1 << 40, Some(trim)).look();
        assert_eq!(TOLD.load(Ordering::Relaxed), 0, "there is room");
        let full = budget(1 << 20, Some(trim));
        (0..=TRIM_LOOKS).for_each(|_| full.look());
        assert_eq!(TOLD.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn bytes_count_until_the_last_one_who_has_them_lets_go() {
        let budget = budget(256 << 20, None);
        budget.hold(5);
        let bytes = counted(&budget, Bytes::from_static(b"abcde"));
        let part = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((budget.held(), &part[..]), (5, &b"b"[..]));
        drop(part);
        assert_eq!(budget.held(), 0);
    }
}
