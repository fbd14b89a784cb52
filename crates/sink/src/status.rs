//! What a running pipeline says of itself: counters that cost nothing per record, and what is wrong right now, read by `/metrics`,
//! `/api/status`, `/health`, the log and the progress on a terminal.

mod partition;
mod snapshot;

pub use partition::PartitionStatus;
pub use snapshot::{PartitionSnapshot, Phase, PublishedSnapshot, RefusedRecord, RequestSnapshot, Snapshot, State, StoreSnapshot};

use crate::{
    conditions::{Cause, ConditionKind, Conditions, Level, Line, Severity},
    error::Error,
    span::TopicPartition,
};
use jiff::Timestamp;
use kas3_store::{BreakerState, Breakers, Outcome, Request};
use partition::Shared;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The poll loop is silent after this: longer than any wait in it.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How often the log says what was published.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// The status of one process.
pub struct Status {
    pipeline: String,
    started: Timestamp,
    memory_limit: u64,
    partitions: RwLock<BTreeMap<TopicPartition, Arc<PartitionStatus>>>,
    shared: Arc<Shared>,
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
    /// When the log last said what was published, and how much it was by then.
    summed: Mutex<(Instant, PublishedSnapshot)>,
}

#[derive(Clone, Copy, Default)]
struct RequestTotals {
    count: u64,
    took: Duration,
    bytes: u64,
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
            shared: Arc::default(),
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
            summed: Mutex::new((Instant::now(), PublishedSnapshot::default())),
        })
    }

    /// The counters of one partition, made when they are first asked for.
    pub fn partition(&self, of: &TopicPartition) -> Arc<PartitionStatus> {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(partitions.entry(of.clone()).or_insert_with(|| Arc::new(PartitionStatus::new(of, &self.shared))))
    }

    /// Forgets a partition that is no longer ours.
    pub fn forget(&self, of: &TopicPartition) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).remove(of);
        self.shared.conditions.forget(of);
    }

    /// The partitions that are ours.
    pub fn partitions(&self) -> Vec<(TopicPartition, Arc<PartitionStatus>)> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.iter().map(|(of, partition)| (of.clone(), Arc::clone(partition))).collect()
    }

    /// What is wrong right now, or waited for.
    pub fn conditions(&self) -> &Conditions {
        &self.shared.conditions
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

    /// Logs a warning and keeps the newest for `/api/status`.
    pub fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.keep_warning(text);
    }

    fn keep_warning(&self, text: String) {
        /// Warnings kept.
        const WARNINGS_MAX: usize = 20;
        let mut warnings = lock(&self.warnings);
        if warnings.len() == WARNINGS_MAX {
            warnings.remove(0);
        }
        warnings.push((Timestamp::now(), text));
    }

    /// Something of a partition failed and is tried again.
    pub fn retrying(&self, of: &TopicPartition, what: &str, error: &Error) {
        self.shared.conditions.retries(of, what, partition::retries(what, error), Instant::now());
        tracing::debug!(partition = %of, error = %error.chain(), "{what} does not succeed, trying again");
    }

    /// Tells the log what has begun, lasts and has ended, and once a minute what was published.
    pub fn look(&self) {
        self.look_at_stores();
        self.look_at_poll_loop(self.silent_ms());
        let now_ms = Timestamp::now().as_millisecond();
        for (_, partition) in self.partitions() {
            partition.look_behind(now_ms);
        }
        self.tell(self.shared.conditions.look(Instant::now()));
        self.sum_up();
    }

    /// Tells the log what is still wrong with stores when the process ends, and what has ended.
    pub fn look_last(&self) {
        self.look_at_stores();
        self.tell(self.shared.conditions.look_last(Instant::now()));
    }

    fn tell(&self, lines: Vec<Line>) {
        for line in lines {
            let (kind, subject, hint, text) = (line.kind.name(), &line.subject, &line.hint, &line.text);
            match line.level {
                Level::Error => tracing::error!(condition = kind, subject, hint, "{text}"),
                Level::Warn => tracing::warn!(condition = kind, subject, hint, "{text}"),
                Level::Info => tracing::info!(condition = kind, subject, hint, "{text}"),
            }
            self.keep_warning(line.text);
        }
    }

    fn sum_up(&self) {
        let mut summed = lock(&self.summed);
        let (at, before) = *summed;
        if at.elapsed() < SUMMARY_EVERY {
            return;
        }
        let now = self.published();
        *summed = (Instant::now(), now);
        let snapshot = self.snapshot();
        let lag_records: i64 = snapshot.partitions.iter().filter_map(|partition| partition.lag_records).sum();
        let lag_seconds = snapshot.partitions.iter().filter_map(|partition| partition.lag_seconds).fold(0.0, f64::max);
        let (files, records, bytes) = (now.files - before.files, now.records - before.records, now.bytes - before.bytes);
        if files > 0 || lag_records > 0 {
            tracing::info!(files, records, bytes, lag_records, lag_seconds, "published in the last {} s", at.elapsed().as_secs());
        }
    }

    /// Takes over what breakers know.
    fn look_at_stores(&self) {
        let (conditions, now) = (&self.shared.conditions, Instant::now());
        let ago = |lasted: Duration| now.checked_sub(lasted).unwrap_or(now);
        for BreakerState { store, open_for, reason, hint, refusing, .. } in self.breakers.states() {
            match open_for {
                Some(lasted) => conditions.begin(ConditionKind::StoreDown, store.as_str(), Cause::new(reason, hint), ago(lasted)),
                None => conditions.end(ConditionKind::StoreDown, &store),
            }
            match refusing {
                Some(refusing) => {
                    let severity = if refusing.tidying { Severity::Warning } else { Severity::Failing };
                    let cause = Cause::new(refusing.reason, refusing.hint).severity(severity);
                    conditions.begin(ConditionKind::StoreRefuses, store.as_str(), cause, ago(refusing.lasted));
                }
                None => conditions.end(ConditionKind::StoreRefuses, &store),
            }
        }
    }

    /// How long ago the poll loop last went round, in milliseconds.
    fn silent_ms(&self) -> i64 {
        self.running_ms() - self.polled_ms.load(Ordering::Relaxed)
    }

    fn look_at_poll_loop(&self, silent_ms: i64) {
        let silent = Duration::from_millis(silent_ms.max(0).unsigned_abs());
        let (conditions, name) = (&self.shared.conditions, ConditionKind::PollSilent.name());
        match silent < SILENCE_MAX {
            true => conditions.end(ConditionKind::PollSilent, name),
            false => {
                let cause = Cause::new("it hangs in the client or in a file system", "a restart helps; what was not committed is read again");
                conditions.begin(ConditionKind::PollSilent, name, cause, Instant::now().checked_sub(silent).unwrap_or(self.began));
            }
        }
    }

    fn published(&self) -> PublishedSnapshot {
        let totals = &self.shared.published;
        let [records, filtered, refused, files, bytes] =
            [&totals.records, &totals.filtered, &totals.refused, &totals.files, &totals.bytes].map(|total| total.load(Ordering::Relaxed));
        PublishedSnapshot { records, filtered, refused, files, bytes }
    }

    /// Members of consumer group `group` that are no workers of the pipeline, one sentence each.
    pub fn set_strangers(&self, group: &str, strangers: &[String]) {
        let conditions = &self.shared.conditions;
        if strangers.is_empty() {
            return conditions.end(ConditionKind::GroupStranger, group);
        }
        let cause = Cause::new(strangers.join("; "), "end that member, or give the pipeline a `source.group` of its own");
        conditions.begin(ConditionKind::GroupStranger, group, cause, Instant::now());
    }

    /// What a run waits for others of consumer group `group` to do, in words.
    pub fn set_waiting(&self, group: &str, waiting: Option<(String, Instant)>) {
        match waiting {
            Some((text, since)) => self.shared.conditions.begin(ConditionKind::OthersAwaited, group, Cause::new(text, ""), since),
            None => self.shared.conditions.end(ConditionKind::OthersAwaited, group),
        }
    }

    /// Everything, as of now.
    pub fn snapshot(&self) -> Snapshot {
        let load = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let poll_age_ms = self.silent_ms();
        self.look_at_stores();
        self.look_at_poll_loop(poll_age_ms);
        let conditions = self.shared.conditions.list(Instant::now());
        let now = Timestamp::now();
        let partitions = self.partitions();
        let partitions = partitions.iter().map(|(of, partition)| partition.snapshot(of, &conditions, now.as_millisecond())).collect();
        Snapshot {
            pipeline: self.pipeline.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started: self.started,
            now,
            phase: *lock(&self.phase),
            poll_age_ms,
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
            conditions,
            published: self.published(),
            warnings: lock(&self.warnings).clone(),
            partitions,
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
