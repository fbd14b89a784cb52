//! What a running pipeline says of itself: counters that cost nothing per record, read by `/metrics`, `/api/status`, `/health`
//! and the progress on a terminal.

use crate::{
    error::{Error, Kind},
    span::{Roll, TopicPartition},
};
use jiff::Timestamp;
use kas3_store::{Breakers, Outcome, Request};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The status of one process.
pub struct Status {
    pipeline: String,
    started: Timestamp,
    memory_limit: u64,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<PartitionStatus>>>,
    requests: Mutex<BTreeMap<(Request, Outcome), RequestTotals>>,
    retries: Mutex<BTreeMap<Request, u64>>,
    breakers: Breakers,
    /// Bytes that the budget counts right now.
    pub buffered_bytes: AtomicI64,
    /// Times that partitions were assigned, revoked and lost.
    pub rebalances: [AtomicU64; 3],
    /// When the process began by a clock that nobody sets.
    began: Instant,
    /// When the poll loop last went round, in milliseconds since then.
    polled_ms: AtomicI64,
    /// Largest resident size seen, in bytes.
    pub resident_max: AtomicU64,
    warnings: Mutex<Vec<(Timestamp, String)>>,
    phase: Mutex<Phase>,
    strangers: Mutex<Vec<String>>,
    waiting: Mutex<Option<String>>,
}

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

#[derive(Clone, Copy, Default)]
struct RequestTotals {
    count: u64,
    took: Duration,
    bytes: u64,
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

/// Counters of one partition. Written by its lane and its committer, read by whoever asks.
pub struct PartitionStatus {
    state: Mutex<(State, Option<String>)>,
    /// The next offset to read, behind what the lane has taken in; -1 when not known.
    pub position: AtomicI64,
    /// `next` of the head.
    pub committed: AtomicI64,
    /// Everything before this is published.
    pub published: AtomicI64,
    /// The end of the partition in Kafka; -1 when not known.
    pub end: AtomicI64,
    /// Timestamp of the oldest record that was read and is not published, in milliseconds; -1: none.
    pub oldest_unpublished_ms: AtomicI64,
    /// Open files.
    pub open_files: AtomicU64,
    /// Bytes in the lane: open blocks, encoded bytes, queued batches.
    pub buffered: AtomicI64,
    /// Records read.
    pub read: AtomicU64,
    /// Records in published files.
    pub written: AtomicU64,
    /// Records that the configuration wants away.
    pub filtered: AtomicU64,
    /// Records that do not fit and were passed over.
    pub refused: AtomicU64,
    /// Bytes in published files.
    pub bytes: AtomicU64,
    /// Published files.
    pub files: AtomicU64,
    /// Spans by the reason why they were closed, in the order of [`Roll::ALL`].
    pub spans: [AtomicU64; Roll::ALL.len()],
    /// Files made again.
    pub amended: AtomicU64,
    /// Values that transforms brought.
    pub payloads: AtomicU64,
    /// Their bytes.
    pub payload_bytes: AtomicU64,
    /// Refusals by reason.
    refusals: Mutex<BTreeMap<&'static str, u64>>,
}

impl PartitionStatus {
    fn new() -> Self {
        PartitionStatus {
            state: Mutex::new((State::Opening, None)),
            position: AtomicI64::new(-1),
            committed: AtomicI64::new(-1),
            published: AtomicI64::new(-1),
            end: AtomicI64::new(-1),
            oldest_unpublished_ms: AtomicI64::new(-1),
            open_files: AtomicU64::new(0),
            buffered: AtomicI64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            spans: Default::default(),
            amended: AtomicU64::new(0),
            payloads: AtomicU64::new(0),
            payload_bytes: AtomicU64::new(0),
            refusals: Mutex::default(),
        }
    }

    /// Counts a refusal for the reason of this code.
    pub fn refuse(&self, reason: &'static str) {
        *lock(&self.refusals).entry(reason).or_default() += 1;
    }

    /// Sets what the partition is doing, and why.
    pub fn set_state(&self, state: State, why: Option<String>) {
        *lock(&self.state) = (state, why);
    }

    /// What the partition is doing, and why it stopped.
    pub fn state(&self) -> (State, Option<String>) {
        lock(&self.state).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    /// The status of a process that begins.
    pub fn new(pipeline: &str, memory_bytes: u64) -> Arc<Self> {
        Arc::new(Status {
            pipeline: pipeline.to_owned(),
            started: Timestamp::now(),
            memory_limit: memory_bytes,
            partitions: RwLock::default(),
            requests: Mutex::default(),
            retries: Mutex::default(),
            breakers: Breakers::default(),
            buffered_bytes: AtomicI64::new(0),
            rebalances: Default::default(),
            began: Instant::now(),
            polled_ms: AtomicI64::new(0),
            resident_max: AtomicU64::new(0),
            warnings: Mutex::default(),
            phase: Mutex::new(Phase::Starting),
            strangers: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// The counters of one partition, made when they are first asked for.
    pub fn partition(&self, of: &TopicPartition) -> Arc<PartitionStatus> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(of.clone()).or_insert_with(|| Arc::new(PartitionStatus::new())))
    }

    /// Forgets a partition that is no longer ours.
    pub fn forget(&self, of: &TopicPartition) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(of);
    }

    /// The poll loop goes round.
    pub fn polled(&self) {
        self.polled_ms.store(self.running_ms(), Ordering::Relaxed);
    }

    /// Lets the poll loop look silent for so long, in tests.
    pub fn silence_ms(&self, silence_ms: i64) {
        self.polled_ms.store(self.running_ms() - silence_ms, Ordering::Relaxed);
    }

    fn running_ms(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Where the process is. Once it runs, it bears outages of its stores.
    pub fn set_phase(&self, phase: Phase) {
        if phase == Phase::Running {
            self.breakers.arm();
        }
        *lock(&self.phase) = phase;
    }

    /// Whether requests to a store fail right now: then one line says so for all who wait.
    pub fn store_fails(&self) -> bool {
        self.breakers.states().iter().any(|state| state.failing)
    }

    /// Logs a warning and keeps the newest for `/api/status`.
    pub fn warn(&self, text: String) {
        /// Warnings kept.
        const WARNINGS_MAX: usize = 20;
        tracing::warn!("{text}");
        let mut warnings = lock(&self.warnings);
        if warnings.len() == WARNINGS_MAX {
            warnings.remove(0);
        }
        warnings.push((Timestamp::now(), text));
    }

    /// Something of a partition failed and is tried again. Of a store that is down the breaker tells, once for everybody.
    pub fn retrying(&self, of: &TopicPartition, what: &str, error: &Error) {
        let stores = std::error::Error::source(error).is_some_and(|source| source.is::<kas3_store::Error>() || source.is::<kas3_claimcheck::Error>());
        if stores && error.kind() == Kind::Transient && self.store_fails() {
            tracing::debug!(partition = %of, error = %error.chain(), "{what} does not succeed, trying again");
            return;
        }
        let hint = error.way_out().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        self.warn(format!("`{of}`: {what} does not succeed, trying again: {}{hint}", error.chain()));
    }

    /// Members of consumer group `group` that are no workers of the pipeline, one sentence each. Those that are new are logged, and
    /// when all have left.
    pub fn set_strangers(&self, group: &str, strangers: Vec<String>) {
        let before = std::mem::replace(&mut *lock(&self.strangers), strangers.clone());
        for stranger in strangers.iter().filter(|stranger| !before.contains(stranger)) {
            self.warn(format!(
                "consumer group `{group}` has a member that is no worker of this pipeline, and whose partitions it does not read: {stranger}"
            ));
        }
        if strangers.is_empty() && !before.is_empty() {
            tracing::info!("consumer group `{group}` has workers of this pipeline only again");
        }
    }

    /// What the run waits for others to do, in words; logged when it begins, changes and ends.
    pub fn set_waiting(&self, waiting: Option<String>) {
        let before = std::mem::replace(&mut *lock(&self.waiting), waiting.clone());
        match waiting {
            Some(text) => tracing::warn!("waiting: {text}"),
            None if before.is_some() => tracing::info!("no longer waiting for others"),
            None => {}
        }
    }

    /// Everything, as of now.
    pub fn snapshot(&self) -> Snapshot {
        let load = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        let partitions = partitions.iter().map(|(of, partition)| {
            let (state, reason) = partition.state();
            let known = |offset: i64| (offset >= 0).then_some(offset);
            PartitionSnapshot {
                topic: of.topic.to_string(),
                partition: of.partition,
                state,
                reason,
                position: known(load(&partition.position)),
                committed: known(load(&partition.committed)),
                published: known(load(&partition.published)),
                end: known(load(&partition.end)),
                lag_records: known(load(&partition.end)).zip(known(load(&partition.published))).map(|(end, published)| (end - published).max(0)),
                oldest_unpublished_ms: known(load(&partition.oldest_unpublished_ms)),
                open_files: count(&partition.open_files),
                buffered_bytes: load(&partition.buffered).max(0).unsigned_abs(),
                records_read: count(&partition.read),
                records_written: count(&partition.written),
                records_filtered: count(&partition.filtered),
                records_refused: count(&partition.refused),
                bytes_written: count(&partition.bytes),
                files_written: count(&partition.files),
                files_amended: count(&partition.amended),
                payloads_resolved: count(&partition.payloads),
                payload_bytes: count(&partition.payload_bytes),
                refusals: lock(&partition.refusals).iter().map(|(reason, count)| (*reason, *count)).collect(),
                spans: Roll::ALL.iter().zip(&partition.spans).map(|(roll, spans)| (roll.name(), count(spans))).collect(),
            }
        });
        Snapshot {
            pipeline: self.pipeline.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            now: Timestamp::now(),
            phase: *lock(&self.phase),
            poll_age_ms: self.running_ms() - load(&self.polled_ms),
            memory_limit: self.memory_limit,
            resident_bytes: resident_bytes().unwrap_or(0),
            resident_bytes_max: count(&self.resident_max),
            buffered_bytes: load(&self.buffered_bytes).max(0).unsigned_abs(),
            rebalances: ["assigned", "revoked", "lost"].into_iter().zip(self.rebalances.iter().map(count)).collect(),
            requests: lock(&self.requests)
                .iter()
                .map(|((request, outcome), totals)| RequestSnapshot {
                    request: request_name(*request),
                    outcome: outcome_name(*outcome),
                    count: totals.count,
                    seconds: totals.took.as_secs_f64(),
                    bytes: totals.bytes,
                })
                .collect(),
            retries: lock(&self.retries).iter().map(|(request, count)| (request_name(*request), *count)).collect(),
            stores: self.breakers.states().into_iter().map(StoreSnapshot::from).collect(),
            warnings: lock(&self.warnings).clone(),
            strangers: lock(&self.strangers).clone(),
            waiting: lock(&self.waiting).clone(),
            partitions: partitions.collect(),
        }
    }
}

impl kas3_store::Observer for Status {
    fn request(&self, request: Request, outcome: Outcome, took: Duration, bytes: u64) {
        let mut requests = lock(&self.requests);
        let totals = requests.entry((request, outcome)).or_default();
        totals.count += 1;
        totals.took += took;
        totals.bytes += bytes;
    }

    fn retry(&self, request: Request, delay: Duration) {
        *lock(&self.retries).entry(request).or_default() += 1;
        tracing::debug!(request = request_name(request), ?delay, "the store did not answer as it should; trying again");
    }

    fn breakers(&self) -> Option<&Breakers> {
        Some(&self.breakers)
    }
}

/// The name of a request in metrics.
pub fn request_name(request: Request) -> &'static str {
    match request {
        Request::Get => "get",
        Request::Head => "head",
        Request::List => "list",
        Request::Create => "create",
        Request::Put => "put",
        Request::Swap => "swap",
        Request::Delete => "delete",
        Request::BeginUpload => "begin_upload",
        Request::Part => "part",
        Request::CompleteUpload => "complete_upload",
        Request::AbortUpload => "abort_upload",
        Request::ListUploads => "list_uploads",
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Refused => "refused",
        Outcome::Throttled => "throttled",
        Outcome::Failed => "failed",
        Outcome::Denied => "denied",
    }
}

/// Resident size of this process in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
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
    /// The newest warnings.
    pub warnings: Vec<(Timestamp, String)>,
    /// Members of the consumer group that are no workers of the pipeline.
    pub strangers: Vec<String>,
    /// What the run waits for others to do.
    pub waiting: Option<String>,
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
}

impl From<kas3_store::BreakerState> for StoreSnapshot {
    fn from(state: kas3_store::BreakerState) -> Self {
        StoreSnapshot {
            store: state.store,
            down_seconds: state.open_for.map(|open| open.as_secs_f64()),
            reason: state.open_for.map(|_| state.reason),
            opened: state.opened,
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
    /// The end of the partition.
    pub end: Option<i64>,
    /// Records between published and the end.
    pub lag_records: Option<i64>,
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
    /// Spans by the reason why they were closed.
    pub spans: Vec<(&'static str, u64)>,
}

impl Snapshot {
    /// Whether the process lives: its poll loop goes round.
    pub fn live(&self) -> bool {
        /// Longer than any wait in the poll loop.
        const SILENCE_MS_MAX: i64 = 60_000;
        self.poll_age_ms < SILENCE_MS_MAX
    }

    /// Stores that have been down for so long that somebody should know.
    pub fn stores_down(&self) -> impl Iterator<Item = (&StoreSnapshot, f64)> {
        /// Longer than what a store that throttles now and then takes to answer again.
        const DOWN_SECONDS_MIN: f64 = 5.0;
        let down = |store: &'_ StoreSnapshot| store.down_seconds.filter(|seconds| *seconds >= DOWN_SECONDS_MIN);
        self.stores.iter().filter_map(move |store| down(store).map(|seconds| (store, seconds)))
    }

    /// Partitions that stopped, with their reasons.
    pub fn stopped(&self) -> impl Iterator<Item = &PartitionSnapshot> {
        self.partitions.iter().filter(|partition| partition.state == State::Stopped)
    }
}
