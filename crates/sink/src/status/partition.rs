//! Counters of one partition. Written by its lane, its committer and the watch on Kafka's ends, read by whoever asks.

use super::snapshot::{PartitionSnapshot, RefusedRecord, State};
use crate::{
    conditions::{Cause, Condition, ConditionKind, Conditions},
    error::Error,
    refused::Refused,
    span::{Counts, Roll, TopicPartition},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Refused records of a partition whose offsets and reasons are kept.
const REFUSED_KEPT: usize = 20;

/// What all partitions of a process share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) conditions: Conditions,
    pub(super) published: Totals,
}

/// What all partitions that the process ever had have published.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) records: AtomicU64,
    pub(super) filtered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// What waits in Kafka behind the position of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    /// The position: the first record that is unread lies here or behind.
    pub(super) first: i64,
    /// Its timestamp in milliseconds, or where that is not known a time before which it was not there.
    pub(super) since_ms: i64,
    /// Since when it is the first.
    seen: Instant,
    /// `since_ms` is what the record itself says.
    exact: bool,
}

/// Counters of one partition.
pub struct PartitionStatus {
    of: TopicPartition,
    shared: Arc<Shared>,
    state: Mutex<(State, Option<String>)>,
    /// The next offset to read, behind what the lane has taken in; -1 when not known.
    pub position: AtomicI64,
    /// `next` of the head.
    pub committed: AtomicI64,
    /// Everything before this is published.
    pub published: AtomicI64,
    /// The end of the partition in Kafka, records of open transactions included; -1 when not known.
    pub end: AtomicI64,
    /// The last stable offset: what lies from here on waits for transactions; -1 when not known.
    pub stable: AtomicI64,
    /// When Kafka last said where the end is, and everything before it was read, in milliseconds; -1: never.
    caught_up_ms: AtomicI64,
    /// Timestamp of the record that was read last, in milliseconds; -1: none.
    pub newest_read_ms: AtomicI64,
    unread: Mutex<Option<Unread>>,
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
    /// The newest records that were refused and passed over.
    refused_last: Mutex<VecDeque<RefusedRecord>>,
}

impl PartitionStatus {
    pub(super) fn new(of: &TopicPartition, shared: &Arc<Shared>) -> Self {
        PartitionStatus {
            of: of.clone(),
            shared: Arc::clone(shared),
            state: Mutex::new((State::Opening, None)),
            position: AtomicI64::new(-1),
            committed: AtomicI64::new(-1),
            published: AtomicI64::new(-1),
            end: AtomicI64::new(-1),
            stable: AtomicI64::new(-1),
            caught_up_ms: AtomicI64::new(-1),
            newest_read_ms: AtomicI64::new(-1),
            unread: Mutex::default(),
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
            refused_last: Mutex::default(),
        }
    }

    /// Counts a refusal for the reason of this code.
    pub fn refuse(&self, reason: &'static str) {
        *lock(&self.refusals).entry(reason).or_default() += 1;
    }

    /// Counts a record that is refused and passed over, and keeps its offset and reason.
    pub fn pass_over(&self, offset: i64, refused: &Refused) {
        self.refuse(refused.code);
        let mut kept = lock(&self.refused_last);
        if kept.len() == REFUSED_KEPT {
            kept.pop_front();
        }
        let (step, code, detail) = (refused.step.name(), refused.code, refused.detail.clone());
        kept.push_back(RefusedRecord { at: Timestamp::now(), offset, step, code, detail });
    }

    pub(super) fn refusals(&self) -> Vec<(&'static str, u64)> {
        lock(&self.refusals).iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    pub(super) fn refused_last(&self) -> Vec<RefusedRecord> {
        lock(&self.refused_last).iter().cloned().collect()
    }

    /// Counts a span that is published.
    pub fn count_published(&self, counts: &Counts, roll: Roll, files: u64, bytes: u64) {
        let totals = &self.shared.published;
        for (own, all, count) in [
            (&self.written, &totals.records, counts.written),
            (&self.filtered, &totals.filtered, counts.filtered),
            (&self.refused, &totals.refused, counts.refused),
            (&self.files, &totals.files, files),
            (&self.bytes, &totals.bytes, bytes),
        ] {
            own.fetch_add(count, Ordering::Relaxed);
            all.fetch_add(count, Ordering::Relaxed);
        }
        if let Some(index) = Roll::ALL.iter().position(|other| *other == roll) {
            self.spans[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets what the partition is doing. One that stopped stays stopped until [`PartitionStatus::goes_on`], whatever is tried.
    pub fn set_state(&self, state: State) {
        lock(&self.state).0 = state;
    }

    /// The partition stopped until a person decides, for this reason. It may be said again while it lasts.
    pub fn stop(&self, reason: &str, hint: Option<&str>) {
        let shown = hint.map_or_else(|| reason.to_owned(), |hint| format!("{reason} (hint: {hint})"));
        *lock(&self.state) = (State::Stopped, Some(shown));
        let cause = Cause::new(reason, hint.unwrap_or_default());
        self.shared.conditions.begin(ConditionKind::PartitionStopped, self.of.to_string(), cause, Instant::now());
    }

    /// What had stopped the partition is behind it.
    pub fn goes_on(&self) {
        lock(&self.state).1 = None;
        self.shared.conditions.end(ConditionKind::PartitionStopped, &self.of.to_string());
    }

    /// What the partition is doing, and why it stopped.
    pub fn state(&self) -> (State, Option<String>) {
        let (state, why) = lock(&self.state).clone();
        (if why.is_some() { State::Stopped } else { state }, why)
    }

    /// A step of the partition fails and is tried again.
    pub fn retries(&self, step: &str, error: &Error) {
        self.shared.conditions.retries(&self.of, step, retries(step, error), Instant::now());
        tracing::debug!(partition = %self.of, error = %error.chain(), "{step} does not succeed, trying again");
    }

    /// The partition gets on: what had failed has succeeded.
    pub fn gets_on(&self) {
        self.shared.conditions.gets_on(&self.of);
    }

    /// Kafka said at this time where the partition ends, and up to where it is stable.
    pub fn ends_at(&self, end: i64, stable: i64, asked_ms: i64) {
        self.end.store(end, Ordering::Relaxed);
        self.stable.store(stable, Ordering::Relaxed);
        if self.position.load(Ordering::Relaxed) >= end {
            self.caught_up_ms.store(asked_ms, Ordering::Relaxed);
        }
        self.look_behind(asked_ms);
    }

    /// The record that is the first unread one from `first` on says when it was written.
    pub fn first_unread_at(&self, first: i64, timestamp_ms: i64) {
        if let Some(unread) = lock(&self.unread).as_mut().filter(|unread| unread.first == first) {
            (unread.since_ms, unread.exact) = (timestamp_ms, true);
        }
    }

    /// The offset of a first unread record that has been the first for a while, and whose time is not known.
    pub fn unread_without_time(&self, lasting: std::time::Duration) -> Option<i64> {
        lock(&self.unread).filter(|unread| !unread.exact && unread.seen.elapsed() >= lasting).map(|unread| unread.first)
    }

    /// Brings what is unread up to date. The first unread record is not older than the one that was read last, nor than the moment
    /// when nothing was unread; where neither is known, it counts from when it was first seen.
    pub(super) fn look_behind(&self, now_ms: i64) -> Option<Unread> {
        let load = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let (end, position) = (load(&self.end), load(&self.position));
        let mut unread = lock(&self.unread);
        if position < 0 || end <= position {
            *unread = None;
        } else if unread.is_none_or(|unread| unread.first != position) {
            let bound = load(&self.newest_read_ms).max(load(&self.caught_up_ms));
            let since_ms = if bound >= 0 { bound.min(now_ms) } else { now_ms };
            *unread = Some(Unread { first: position, since_ms, seen: Instant::now(), exact: false });
        }
        *unread
    }
}

impl PartitionStatus {
    /// Everything about the partition, as of now; `conditions` are those of the process.
    pub(super) fn snapshot(&self, of: &TopicPartition, conditions: &[Condition], now_ms: i64) -> PartitionSnapshot {
        let load = |value: &AtomicI64| value.load(Ordering::Relaxed);
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let (state, reason) = self.state();
        let (position, published, end) = (known(load(&self.position)), known(load(&self.published)), known(load(&self.end)));
        let behind = |from: Option<i64>| end.zip(from).map(|(end, from)| (end - from).max(0));
        PartitionSnapshot {
            topic: of.topic.to_string(),
            partition: of.partition,
            state,
            reason,
            position,
            committed: known(load(&self.committed)),
            published,
            end,
            stable: known(load(&self.stable)),
            lag_records: behind(published),
            unread_records: behind(position),
            lag_seconds: self.lag_seconds(conditions, now_ms),
            oldest_unpublished_ms: known(load(&self.oldest_unpublished_ms)),
            open_files: count(&self.open_files),
            buffered_bytes: load(&self.buffered).max(0).unsigned_abs(),
            records_read: count(&self.read),
            records_written: count(&self.written),
            records_filtered: count(&self.filtered),
            records_refused: count(&self.refused),
            bytes_written: count(&self.bytes),
            files_written: count(&self.files),
            files_amended: count(&self.amended),
            payloads_resolved: count(&self.payloads),
            payload_bytes: count(&self.payload_bytes),
            refusals: self.refusals(),
            refused_last: self.refused_last(),
            spans: Roll::ALL.iter().zip(&self.spans).map(|(roll, spans)| (roll.name(), count(spans))).collect(),
        }
    }

    /// Age of the oldest record that is unread, or read and not published. While nobody says what is unread, it is at least as old as
    /// that silence; `None`: it is not known where reading goes on.
    fn lag_seconds(&self, conditions: &[Condition], now_ms: i64) -> Option<f64> {
        /// Nothing that is unread has no age.
        const LEAST: f64 = 0.001;
        let oldest = Some(self.oldest_unpublished_ms.load(Ordering::Relaxed)).filter(|oldest| *oldest >= 0);
        let unread = self.look_behind(now_ms).map(|unread| unread.since_ms);
        let waits = oldest.into_iter().chain(unread).min().map(|since_ms| ((now_ms - since_ms).max(0) as f64 / 1000.0).max(LEAST));
        let subject = self.of.to_string();
        let silent = conditions.iter().filter(|condition| match condition.kind {
            ConditionKind::BrokersUnreachable => true,
            ConditionKind::PartitionUnreachable => condition.subject == subject,
            ConditionKind::PartitionStopped => condition.subject == subject && self.position.load(Ordering::Relaxed) < 0,
            _ => false,
        });
        let silent = silent.map(|condition| condition.seconds).reduce(f64::max);
        match (waits, silent) {
            (Some(waits), Some(silent)) => Some(waits.max(silent)),
            (None, None) => (self.position.load(Ordering::Relaxed) >= 0).then_some(0.0),
            (one, other) => one.or(other),
        }
    }
}

/// A step that fails, as a cause.
pub(super) fn retries(step: &str, error: &Error) -> Cause {
    Cause::new(format!("{step} does not succeed: {}", error.chain()), error.way_out().unwrap_or_default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionStatus {
        PartitionStatus::new(&TopicPartition::new("t", 0), &Arc::default())
    }

    #[test]
    fn the_first_unread_record_is_no_older_than_the_last_read_one_or_the_moment_when_nothing_was_unread() {
        let partition = partition();
        partition.position.store(100, Ordering::Relaxed);
        partition.ends_at(100, 100, 5_000);
        assert_eq!(partition.look_behind(6_000), None);
        partition.ends_at(153, 153, 10_000);
        let unread = partition.look_behind(20_000).unwrap();
        assert_eq!((unread.first, unread.since_ms), (100, 5_000));
        // what is read moves it on
        partition.newest_read_ms.store(9_000, Ordering::Relaxed);
        partition.position.store(140, Ordering::Relaxed);
        assert_eq!(partition.look_behind(21_000).map(|unread| (unread.first, unread.since_ms)), Some((140, 9_000)));
        partition.first_unread_at(100, 1);
        partition.first_unread_at(140, 9_500);
        assert_eq!(partition.look_behind(22_000).unwrap().since_ms, 9_500);
        partition.position.store(153, Ordering::Relaxed);
        assert_eq!(partition.look_behind(23_000), None);
    }

    #[test]
    fn a_partition_that_stopped_stays_so_while_it_is_tried_again() {
        let partition = partition();
        partition.stop("a bad record", Some("pass over it"));
        for state in [State::Opening, State::Running] {
            partition.set_state(state);
            assert_eq!(partition.state(), (State::Stopped, Some("a bad record (hint: pass over it)".to_owned())));
        }
        partition.goes_on();
        assert_eq!(partition.state(), (State::Running, None));
    }

    #[test]
    fn of_the_records_that_were_passed_over_the_newest_are_kept() {
        let partition = partition();
        for offset in 0..50 {
            partition.pass_over(offset, &Refused::new(crate::refused::Step::Encode, "newline", "the value holds a newline"));
        }
        let kept = partition.refused_last();
        assert_eq!((kept.len(), kept[0].offset, kept[19].offset, kept[19].code), (20, 30, 49, "newline"));
        assert_eq!(partition.refusals(), [("newline", 50)]);
    }
}
