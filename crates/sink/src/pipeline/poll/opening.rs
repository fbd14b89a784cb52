//! From an assignment to lanes: heads are read by tasks while polling goes on, then reading begins where they say.

use super::{Context, Loop, OPEN_AGAIN};
use crate::{
    error::Kind,
    lane::{Lane, LanePartition},
    pipeline::{
        Notice,
        assignment::{Assigning, LaneHandle, Owned, Stage},
        committer::Committer,
        resolver::{Resolver, Watching},
        worker::{LaneShared, OpenLane, Work},
    },
    span::{Position, TopicPartition},
    status::State,
    target::OpenPartition,
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How long an assignment waits for heads before the partitions that are open begin without the others.
const ASSIGN_WAIT: Duration = Duration::from_secs(10);
/// Partitions whose heads are read at once.
pub(super) const OPEN_AT_ONCE: usize = 128;

impl Loop {
    pub(super) fn begin_opening(&mut self, of: TopicPartition) {
        if self.assignment.owned.contains_key(&of) {
            self.assignment.forget(&of);
            self.context.status.forget(&of);
        }
        self.assignment.epoch += 1;
        let epoch = self.assignment.epoch;
        let status = self.context.status.partition(&of);
        let task = self.open_task(of.clone(), epoch);
        self.assignment.owned.insert(of, Owned { epoch, stage: Stage::Opening(task), assigned: false, status, stops: 0, stop: None });
    }

    /// Opens a partition again whose lane ended while it stays ours.
    pub(super) fn reopen(&mut self, of: &TopicPartition) {
        self.assignment.epoch += 1;
        let epoch = self.assignment.epoch;
        let task = self.open_task(of.clone(), epoch);
        if let Some(owned) = self.assignment.owned.get_mut(of) {
            owned.epoch = epoch;
            owned.status.set_state(State::Opening);
            owned.stage = Stage::Opening(task);
        }
    }

    pub(super) fn open_task(&self, of: TopicPartition, epoch: u64) -> tokio::task::JoinHandle<()> {
        let (target, notices, permits) = (Arc::clone(&self.context.target), self.context.notices.clone(), Arc::clone(&self.opening));
        let status = self.context.status.partition(&of);
        self.context.runtime.spawn(async move {
            let _permit = permits.acquire_owned().await;
            loop {
                match target.open_partition(&of).await {
                    Ok(partition) => {
                        let _ = notices.send(Notice::Opened { of, epoch, partition });
                        return;
                    }
                    Err(error) if matches!(error.kind(), Kind::Transient | Kind::Fenced) => {
                        status.retries("open it", &error);
                        tokio::time::sleep(OPEN_AGAIN).await;
                    }
                    Err(error) => {
                        let _ = notices.send(Notice::NotOpened { of, epoch, error });
                        return;
                    }
                }
            }
        })
    }

    pub(super) fn opened(&mut self, of: &TopicPartition, epoch: u64, partition: Box<dyn OpenPartition>) {
        let Some(owned) = self.assignment.owned.get_mut(of).filter(|owned| owned.epoch == epoch) else { return };
        let position = partition.position();
        owned.status.gets_on();
        owned.status.committed.store(position.next, Ordering::Relaxed);
        owned.status.published.store(position.next, Ordering::Relaxed);
        owned.status.position.store(position.next, Ordering::Relaxed);
        if owned.stop.is_some_and(|stop| stop.opened_at(position.next)) {
            self.goes_on(of);
        }
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        if !owned.assigned {
            owned.stage = Stage::Opened(partition);
            return;
        }
        if self.stopping.is_some() {
            owned.stage = Stage::Finished;
            return;
        }
        match self.source.seek(of, position) {
            Ok(()) => self.begin_lane(of, partition),
            Err(error) => {
                owned.status.retries("go to its place", &error);
                owned.stage = Stage::Stopped(Instant::now() + OPEN_AGAIN);
            }
        }
    }

    /// Hands an assignment to the source once every head is read, or those that are read after a while.
    pub(super) fn assign_when_ready(&mut self) {
        let late = self.assignment.assigning.as_ref().is_some_and(|assigning| assigning.since.elapsed() >= ASSIGN_WAIT);
        if !late && !self.assignment.ready() {
            return;
        }
        let Some(assigning) = self.assignment.assigning.take() else { return };
        let unknown = Position { next: -1, leader_epoch: -1 };
        let at = |of: &TopicPartition| match self.assignment.owned.get(of).map(|owned| &owned.stage) {
            Some(Stage::Opened(partition)) => partition.position(),
            _ => unknown,
        };
        let positions: Vec<(TopicPartition, Position)> = assigning.partitions.iter().map(|of| (of.clone(), at(of))).collect();
        if let Err(error) = self.source.assign(&positions) {
            // an event that takes the partitions away follows, or the next attempt succeeds
            self.context.status.warn(format!("the group does not let us begin: {}", error.chain()));
            self.assignment.assigning = Some(Assigning { since: Instant::now(), ..assigning });
            return;
        }
        for (of, position) in positions {
            if let Some(owned) = self.assignment.owned.get_mut(&of) {
                owned.assigned = true;
                match std::mem::replace(&mut owned.stage, Stage::Finished) {
                    Stage::Opened(partition) if self.stopping.is_none() => {
                        debug_assert_eq!(partition.position(), position);
                        self.begin_lane(&of, partition);
                    }
                    Stage::Opened(_) => {}
                    other => owned.stage = other,
                }
            }
        }
    }

    pub(super) fn begin_lane(&mut self, of: &TopicPartition, partition: Box<dyn OpenPartition>) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        let Context { pipeline, notices, runtime, .. } = &self.context;
        let plan = Arc::clone(pipeline.plan(&of.topic));
        let begin = self.context.target.begin_upload(of);
        let position = partition.position();
        let only = LanePartition { of: of.clone(), incarnation: partition.incarnation(), position };
        let lane = Lane::new(vec![only], Arc::clone(&plan), pipeline.timezone.clone(), begin);
        let id = self.next_lane;
        self.next_lane += 1;
        let worker = self.workers[usize::try_from(id).unwrap_or(0) % self.workers.len()].0.clone();
        let (commit, commands) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(LaneShared::default());
        shared.position.store(position.next, Ordering::Relaxed);
        let status = Arc::clone(&owned.status);
        status.set_state(State::Running);
        let committer = Committer {
            lane: id,
            partition,
            commands,
            worker: worker.clone(),
            notices: notices.clone(),
            status: Arc::clone(&status),
            settle: pipeline.settle,
        };
        let committer = runtime.spawn(committer.run());
        let open = OpenLane { id, lane, commit, shared: Arc::clone(&shared), status, committed: position };
        let _ = worker.send(Work::Open(Box::new(open)));
        let resolver = self.rooms.iter().find(|(chain, _)| Arc::ptr_eq(chain, &plan.transforms)).map(|(chain, room)| {
            let resolver = Resolver {
                lane: id,
                chain: Arc::clone(chain),
                room: Arc::clone(room),
                bad: plan.bad_records,
                worker: worker.clone(),
                shared: Arc::clone(&shared),
                watch: Watching { of: of.clone(), status: Arc::clone(&self.context.status), partition: Arc::clone(&owned.status) },
                alive: self.alive.0.clone(),
            };
            resolver.start(runtime)
        });
        let handle = LaneHandle { id, shared, worker, committer, finishing: false, paused: false, resolver, fed: position.next, read_failed: false };
        owned.stage = Stage::Running(handle);
    }
}
