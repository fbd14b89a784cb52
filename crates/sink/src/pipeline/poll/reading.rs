//! Batches on their way to the lanes: how much is fetched, which partitions are passed over, and who gives memory back.

use super::{Context, Loop, OPEN_AGAIN};
use crate::{
    batch::Batch,
    error::{Error, Kind},
    pipeline::{
        assignment::{Behind, LaneHandle, Stage},
        resolver::Input,
        worker::{Intake, Queued, Work},
    },
    source::Fetched,
    span::{Position, TopicPartition},
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Payload of one batch, roughly: large enough that its cost per record vanishes.
const BATCH_BYTES: usize = 512 << 10;
/// Records of one batch at most.
const BATCH_RECORDS_MAX: usize = 2000;
/// Bytes of batches that one lane's transforms may have before them, at least and at most: enough that they are never idle.
const AHEAD_BYTES_MIN: i64 = 64 << 10;
const AHEAD_BYTES_MAX: i64 = 1 << 20;
/// How long batches may wait for lanes whose last span is not committed before the partitions of those lanes are passed over.
const STUCK_AFTER: Duration = Duration::from_millis(300);

impl Loop {
    /// Hands batches to the workers; false when there was nothing to fetch.
    pub(super) fn fetch(&mut self) -> bool {
        if self.context.budget.pause_fetching() || self.batches_wait() {
            return false;
        }
        let max = (BATCH_BYTES / self.record_bytes.max(1)).clamp(1, BATCH_RECORDS_MAX);
        let mut fetched = false;
        for (of, got) in self.source.fetch(max) {
            fetched |= got.batch.is_some();
            self.hand_over(&of, got);
        }
        fetched
    }

    /// Whether workers have enough to do. Lanes that wait for a commit, or for transforms, must not keep the others waiting for
    /// long: their partitions are passed over until they have caught up.
    pub(super) fn batches_wait(&mut self) -> bool {
        let Context { budget, .. } = &self.context;
        let queued = |lane: &LaneHandle| lane.shared.queued.load(Ordering::Relaxed);
        let passed_over = || self.assignment.lanes().filter(|lane| lane.paused).map(queued).sum::<i64>();
        if budget.queued() < budget.queue_bytes() || budget.queued() - passed_over() < budget.queue_bytes() {
            self.held_up = None;
            return false;
        }
        let since = *self.held_up.get_or_insert_with(Instant::now);
        if since.elapsed() >= STUCK_AFTER {
            for (of, owned) in &mut self.assignment.owned {
                if let Stage::Running(lane) = &mut owned.stage
                    && !lane.paused
                    && (lane.shared.waiting.load(Ordering::Relaxed) || lane.shared.unresolved.load(Ordering::Relaxed) > 0)
                    && queued(lane) > 0
                {
                    lane.paused = true;
                    self.source.pause(of);
                }
            }
        }
        true
    }

    /// Reads partitions again whose lanes have taken in everything that waited.
    pub(super) fn resume_caught_up(&mut self) {
        let ahead = self.ahead_bytes();
        for (of, owned) in &mut self.assignment.owned {
            let Stage::Running(lane) = &mut owned.stage else { continue };
            if !lane.paused || lane.finishing || lane.shared.waiting.load(Ordering::Relaxed) {
                continue;
            }
            let next = if lane.resolver.is_some() {
                // what it has is not to be brought once more, and there should be more before it has nothing
                if lane.shared.unresolved.load(Ordering::Acquire) > ahead / 2 {
                    continue;
                }
                lane.fed
            } else {
                if lane.shared.queued.load(Ordering::Acquire) > 0 {
                    continue;
                }
                // may be a little behind; a lane passes over what it has already
                lane.shared.position.load(Ordering::Relaxed)
            };
            let position = Position { next, leader_epoch: -1 };
            match self.source.seek(of, position) {
                Ok(()) => lane.paused = false,
                Err(error) => tracing::debug!(partition = %of, error = %error.chain(), "cannot read on yet"),
            }
        }
    }

    /// Bytes that one lane's transforms may have before them.
    fn ahead_bytes(&self) -> i64 {
        let lanes = i64::try_from(self.assignment.owned.len()).unwrap_or(i64::MAX).max(1);
        (self.context.budget.queue_bytes() / lanes).clamp(AHEAD_BYTES_MIN, AHEAD_BYTES_MAX)
    }

    pub(super) fn hand_over(&mut self, of: &TopicPartition, got: Fetched) {
        let ahead = self.ahead_bytes();
        // it is read on from its head when it is opened again
        let Some(owned) = self.assignment.owned.get_mut(of) else { return self.source.pause(of) };
        let Stage::Running(lane) = &mut owned.stage else { return self.source.pause(of) };
        if lane.finishing {
            return self.source.pause(of);
        }
        if got.batch.is_some() || got.end.is_some() {
            if std::mem::take(&mut lane.read_failed) {
                owned.status.gets_on();
            }
            let bytes = got.batch.as_ref().map_or(0, |batch| {
                let bytes = batch.held_bytes();
                self.record_bytes = (self.record_bytes * 3 + bytes / batch.len().max(1)) / 4;
                i64::try_from(bytes).unwrap_or(i64::MAX)
            });
            let next = got.end.max(got.batch.as_ref().and_then(Batch::next_offset));
            lane.fed = lane.fed.max(next.unwrap_or(-1));
            let queued = Queued::new(bytes, &lane.shared, &self.context.budget);
            let sent = match &lane.resolver {
                None => {
                    let intake = Intake { batch: got.batch, end: got.end, _queued: Some(queued), ..Intake::default() };
                    lane.worker.send(Work::Batch { lane: lane.id, intake }).is_ok()
                }
                Some(resolver) => {
                    let unresolved = lane.shared.unresolved.fetch_add(bytes, Ordering::Relaxed) + bytes;
                    if unresolved > ahead && !lane.paused {
                        lane.paused = true;
                        self.source.pause(of);
                    }
                    // one that is gone has told why, or its lane has ended
                    let _ = resolver.send(Input { batch: got.batch, end: got.end, queued });
                    true
                }
            };
            self.worker_gone |= !sent;
        }
        // only now: what came before the error must not be lost with it
        if let Some(error) = got.error {
            self.fetch_failed(of, &error);
        }
    }

    pub(super) fn fetch_failed(&mut self, of: &TopicPartition, error: &Error) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        if error.kind() == Kind::Transient {
            if let Stage::Running(lane) = &mut owned.stage {
                lane.read_failed = true;
            }
            return owned.status.retries("read it", error);
        }
        let committed = owned.status.committed.load(Ordering::Relaxed);
        if let Stage::Running(lane) = std::mem::replace(&mut owned.stage, Stage::Finished) {
            lane.drop_now();
        }
        if error.kind() == Kind::Stopped {
            self.stopped(of, error, Behind::Commit(committed));
            return;
        }
        // the ledger knows what it means, and which command decides: opening the partition again says so
        tracing::warn!(partition = %of, error = %error.chain(), "cannot read on");
        owned.stage = Stage::Stopped(Instant::now() + OPEN_AGAIN);
    }

    /// Asks the largest lanes to give memory back, until they hold a quarter of everything.
    pub(super) fn relieve(&self) {
        let mut lanes: Vec<(i64, &LaneHandle)> = self.assignment.lanes().map(|lane| (lane.shared.held.load(Ordering::Relaxed), lane)).collect();
        lanes.sort_by_key(|(held, _)| std::cmp::Reverse(*held));
        let wanted = lanes.iter().map(|(held, _)| held).sum::<i64>() / 4;
        let mut asked = 0;
        for (held, lane) in lanes {
            if asked > wanted {
                break;
            }
            asked += held;
            if !lane.shared.relieving.swap(true, Ordering::Relaxed) {
                let _ = lane.worker.send(Work::Relieve { lane: lane.id });
            }
        }
    }
}
