//! The loop that drives the source: it serves events, hands batches to the workers, and carries out what a rebalance asks for
//! when the others have done their part. It never waits for a store.

use super::{
    Ended, LaneId, Notice,
    assignment::{Assigning, Assignment, LaneHandle, Owned, REOPEN_MAX, REOPEN_MIN, Releasing, Stage},
    committer::Committer,
    worker::{self, LaneShared, OpenLane, Work},
};
use crate::{
    budget::Budget,
    config::Pipeline,
    error::{Error, Kind, Result},
    lane::{BeginUpload, Lane},
    ledger::{Ledger, Partition, Report, Upload},
    source::{Event, Fetched, Source},
    span::{Position, Roll, TopicPartition},
    status::{Phase, State, Status},
};
use crossbeam_channel::{Receiver, Sender};
use jiff::Timestamp;
use kas3_store::Store;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Payload of one batch, roughly: large enough that its cost per record vanishes.
const BATCH_BYTES: usize = 512 << 10;
/// Records of one batch at most.
const BATCH_RECORDS_MAX: usize = 2000;
/// Average bytes of a record until the first batch was seen: cautious, because records may be large.
const RECORD_BYTES_FIRST: usize = 8 << 10;
/// How long batches may wait for lanes whose last span is not committed before the partitions of those lanes are passed over.
const STUCK_AFTER: Duration = Duration::from_millis(300);
/// How often the resident size is looked at: a busy process can grow by hundreds of megabytes a second.
const MEMORY_EVERY: Duration = Duration::from_millis(10);
/// How often lanes, ends and reports are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often progress is reported to the group.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long an assignment waits for heads before the partitions that are open begin without the others.
const ASSIGN_WAIT: Duration = Duration::from_secs(10);
/// How often the heads of partitions that others own are read with `--until-end`.
const HEADS_EVERY: Duration = Duration::from_secs(2);
/// How long a transient failure of opening waits before it is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// What the loop works with.
pub(super) struct Context {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) sink: Store,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) status: Arc<Status>,
    pub(super) notices: Sender<Notice>,
    pub(super) runtime: tokio::runtime::Handle,
}

/// The loop's state.
pub(super) struct Loop {
    context: Context,
    source: Box<dyn Source>,
    inbox: Receiver<Notice>,
    workers: Vec<(Sender<Work>, Option<std::thread::JoinHandle<()>>)>,
    assignment: Assignment,
    opening: Arc<tokio::sync::Semaphore>,
    topics: Vec<String>,
    next_lane: LaneId,
    /// With `--until-end`: the ends that are not reached yet.
    targets: Option<HashMap<TopicPartition, i64>>,
    stopped: BTreeMap<TopicPartition, String>,
    reports: BTreeMap<TopicPartition, Report>,
    stop: CancellationToken,
    stopping: Option<Instant>,
    /// Average bytes of a record, for the size of the next batch.
    record_bytes: usize,
    /// Since when batches wait for lanes and nothing is fetched.
    held_up: Option<Instant>,
    looked: Instant,
    memory_looked: Instant,
    reported: Instant,
    heads_asked: Instant,
    /// A worker thread ended before it was told to: its lanes would wait for ever.
    worker_gone: bool,
}

impl Loop {
    pub(super) fn new(
        context: Context,
        source: Box<dyn Source>,
        inbox: Receiver<Notice>,
        topics: Vec<String>,
        targets: Option<HashMap<TopicPartition, i64>>,
        stop: CancellationToken,
    ) -> Self {
        let now = Instant::now();
        Loop {
            context,
            source,
            inbox,
            workers: Vec::new(),
            assignment: Assignment::default(),
            opening: Arc::new(tokio::sync::Semaphore::new(OPEN_AT_ONCE)),
            topics,
            next_lane: 0,
            targets,
            stopped: BTreeMap::new(),
            reports: BTreeMap::new(),
            stop,
            stopping: None,
            record_bytes: RECORD_BYTES_FIRST,
            held_up: None,
            looked: now,
            memory_looked: now,
            reported: now,
            heads_asked: now,
            worker_gone: false,
        }
    }

    /// Runs to the end, and leaves the group.
    pub(super) fn run(mut self) -> Result<Ended> {
        let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        for index in 0..threads {
            let (sender, inbox) = crossbeam_channel::unbounded();
            let budget = Arc::clone(&self.context.budget);
            let thread = std::thread::Builder::new()
                .name(format!("kas3-lane-{index}"))
                .spawn(move || worker::run(&inbox, &budget))
                .map_err(|source| Error::new(Kind::Fatal, "start a worker thread").source(source))?;
            self.workers.push((sender, Some(thread)));
        }
        let ended = self.turn_until_ended();
        self.leave();
        ended
    }

    fn turn_until_ended(&mut self) -> Result<Ended> {
        let mut idle = false;
        loop {
            let wait_ms = match idle {
                false => 0,
                true if self.held_up.is_some() => 1,
                true => 5,
            };
            for event in self.source.poll(Duration::from_millis(wait_ms)) {
                self.on_event(event)?;
            }
            let mut noticed = false;
            while let Ok(notice) = self.inbox.try_recv() {
                noticed = true;
                self.on_notice(notice);
            }
            self.assign_when_ready();
            self.release_when_flushed();
            let fetched = self.stopping.is_none() && self.fetch();
            idle = !fetched && !noticed;
            if self.worker_gone {
                return Err(Error::new(Kind::Fatal, "a worker thread ended unexpectedly")
                    .hint("what it said last is in the log; a restart goes on where the ledger says"));
            }
            if self.memory_looked.elapsed() >= MEMORY_EVERY {
                self.memory_looked = Instant::now();
                self.context.budget.look();
                if self.context.budget.full() {
                    self.relieve();
                }
            }
            if self.looked.elapsed() >= LOOK_EVERY {
                self.looked = Instant::now();
                self.look();
            }
            if self.stopping.is_none() && self.stop.is_cancelled() {
                self.begin_shutdown();
            }
            if let Some(deadline) = self.stopping {
                let running = self.assignment.lanes().count();
                if running == 0 || Instant::now() >= deadline {
                    if running > 0 {
                        self.context.status.warn(format!(
                            "{running} partitions were not flushed within `shutdown_deadline`; what was not committed is read again at the next start"
                        ));
                    }
                    return Ok(Ended::Shutdown);
                }
            } else if self.done() {
                return Ok(if self.stopped.is_empty() {
                    Ended::Done
                } else {
                    Ended::Stopped(std::mem::take(&mut self.stopped).into_iter().collect())
                });
            }
        }
    }

    fn leave(&mut self) {
        self.context.status.set_phase(Phase::Stopping);
        self.send_reports();
        // leaving the group waits for the answer to a revocation
        if let Some(releasing) = self.assignment.releasing.take() {
            self.release(releasing.partitions);
        }
        let owned: Vec<TopicPartition> = self.assignment.owned.keys().cloned().collect();
        for of in &owned {
            self.assignment.forget(of);
        }
        for (sender, thread) in &mut self.workers {
            let _ = sender.send(Work::End);
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
        // workers are gone, and with them every batch that refers to the source
        let source = std::mem::replace(&mut self.source, Box::new(crate::source::memory::MemorySource::new(Default::default(), Vec::new())));
        source.close();
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        let count = |index: usize| self.context.status.rebalances[index].fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Assigned(partitions) => {
                count(0);
                tracing::info!(partitions = partitions.len(), "partitions assigned");
                for of in &partitions {
                    self.begin_opening(of.clone());
                }
                self.assignment.assigning = Some(Assigning { partitions, since: Instant::now() });
            }
            Event::Revoked(partitions) => {
                count(1);
                tracing::info!(partitions = partitions.len(), "partitions revoked; flushing them");
                self.assignment.assigning = None;
                let mut waiting = std::collections::HashSet::new();
                for of in &partitions {
                    if let Some(Owned { stage: Stage::Running(lane), .. }) = self.assignment.owned.get_mut(of) {
                        finish(lane, Roll::Revoked);
                        waiting.insert(lane.id);
                    }
                }
                let deadline = Instant::now() + self.context.pipeline.revoke_deadline;
                self.assignment.releasing = Some(Releasing { partitions, waiting, deadline });
            }
            Event::Lost(partitions) => {
                count(2);
                self.context.status.warn(format!(
                    "{} partitions were lost to another member of the group; what was not committed is read again there",
                    partitions.len()
                ));
                self.assignment.assigning = None;
                self.assignment.releasing = None;
                self.release(partitions);
            }
            Event::Failed(error) => return Err(error),
        }
        Ok(())
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Opened { of, epoch, partition } => self.opened(&of, epoch, partition),
            Notice::NotOpened { of, epoch, error } => {
                if self.assignment.owned.get(&of).is_some_and(|owned| owned.epoch == epoch) {
                    self.stopped(&of, &error);
                }
            }
            Notice::Finished { lane } => self.lane_ended(lane, None),
            Notice::Failed { lane, error } => self.lane_ended(lane, Some(error)),
            Notice::Report { of, report } => {
                // of a partition that was given away since, its new owner reports
                if let Some(owned) = self.assignment.owned.get_mut(&of) {
                    owned.stops = 0;
                    self.reports.insert(of, report);
                }
            }
            Notice::Topics(topics) => {
                if topics != self.topics && self.stopping.is_none() {
                    tracing::info!(topics = topics.len(), "the topics that the configuration names have changed");
                    self.source.subscribe(&topics);
                    self.topics = topics;
                }
            }
            Notice::Heads(heads) => {
                for (of, next, pending) in heads {
                    let reached = self.targets.as_ref().and_then(|targets| targets.get(&of)).is_some_and(|target| next >= *target);
                    if reached && !pending && !self.assignment.owned.contains_key(&of) {
                        self.reached_target(&of);
                    }
                }
            }
        }
    }

    fn begin_opening(&mut self, of: TopicPartition) {
        self.assignment.forget(&of);
        self.assignment.epoch += 1;
        let epoch = self.assignment.epoch;
        let status = self.context.status.partition(&of);
        status.set_state(State::Opening, None);
        let task = self.open_task(of.clone(), epoch);
        self.assignment.owned.insert(of, Owned { epoch, stage: Stage::Opening(task), assigned: false, status, stops: 0 });
    }

    /// Opens a partition again whose lane ended while it stays ours.
    fn reopen(&mut self, of: &TopicPartition) {
        self.assignment.epoch += 1;
        let epoch = self.assignment.epoch;
        let task = self.open_task(of.clone(), epoch);
        if let Some(owned) = self.assignment.owned.get_mut(of) {
            owned.epoch = epoch;
            if owned.stops == 0 {
                owned.status.set_state(State::Opening, None);
            }
            owned.stage = Stage::Opening(task);
        }
    }

    fn open_task(&self, of: TopicPartition, epoch: u64) -> tokio::task::JoinHandle<()> {
        let (ledger, notices, permits) = (Arc::clone(&self.context.ledger), self.context.notices.clone(), Arc::clone(&self.opening));
        let status = Arc::clone(&self.context.status);
        self.context.runtime.spawn(async move {
            let _permit = permits.acquire_owned().await;
            loop {
                match ledger.open_partition(&of).await {
                    Ok(partition) => {
                        let _ = notices.send(Notice::Opened { of, epoch, partition: Box::new(partition) });
                        return;
                    }
                    Err(error) if matches!(error.kind(), Kind::Transient | Kind::Fenced) => {
                        status.warn(format!("`{of}` cannot be opened yet, trying again: {}", error.chain()));
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

    fn opened(&mut self, of: &TopicPartition, epoch: u64, partition: Box<Partition>) {
        let Some(owned) = self.assignment.owned.get_mut(of).filter(|owned| owned.epoch == epoch) else { return };
        let position = partition.position();
        owned.status.committed.store(position.next, Ordering::Relaxed);
        owned.status.published.store(position.next, Ordering::Relaxed);
        owned.status.position.store(position.next, Ordering::Relaxed);
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
                tracing::warn!(partition = %of, error = %error.chain(), "cannot seek yet");
                owned.stage = Stage::Stopped(Instant::now() + OPEN_AGAIN);
            }
        }
    }

    /// Hands an assignment to the source once every head is read, or those that are read after a while.
    fn assign_when_ready(&mut self) {
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

    fn begin_lane(&mut self, of: &TopicPartition, partition: Box<Partition>) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        let Context { pipeline, budget, notices, runtime, .. } = &self.context;
        let plan = Arc::clone(pipeline.plan(&of.topic));
        let begin = begin_upload(&self.context, of);
        let position = partition.position();
        let lane = Lane::new(of.clone(), plan, pipeline.timezone.clone(), partition.incarnation(), position, begin);
        let id = self.next_lane;
        self.next_lane += 1;
        let worker = self.workers[usize::try_from(id).unwrap_or(0) % self.workers.len()].0.clone();
        let (commit, commands) = tokio::sync::mpsc::unbounded_channel();
        let shared = Arc::new(LaneShared::default());
        shared.position.store(position.next, Ordering::Relaxed);
        let status = Arc::clone(&owned.status);
        status.set_state(State::Running, None);
        let committer = Committer {
            lane: id,
            partition: *partition,
            commands,
            worker: worker.clone(),
            notices: notices.clone(),
            status: Arc::clone(&status),
            budget: Arc::clone(budget),
            settle: pipeline.settle,
        };
        let committer = runtime.spawn(committer.run());
        let open = OpenLane { id, lane, commit, shared: Arc::clone(&shared), status, committed: position };
        let _ = worker.send(Work::Open(Box::new(open)));
        owned.stage = Stage::Running(LaneHandle { id, shared, worker, committer, finishing: false, paused: false });
    }

    fn lane_ended(&mut self, id: LaneId, failure: Option<Error>) {
        let Some(of) = self.assignment.of_lane(id) else { return };
        let Some(owned) = self.assignment.owned.get_mut(&of) else { return };
        if let Stage::Running(lane) = std::mem::replace(&mut owned.stage, Stage::Finished) {
            lane.drop_now();
        }
        let leaving = self.stopping.is_some() || self.assignment.releasing.as_ref().is_some_and(|releasing| releasing.partitions.contains(&of));
        if let Some(releasing) = self.assignment.releasing.as_mut() {
            releasing.waiting.remove(&id);
        }
        match failure {
            None if leaving => {}
            None => self.reached_target(&of),
            Some(error) if matches!(error.kind(), Kind::Fenced | Kind::Transient) => {
                if !leaving {
                    self.context.status.warn(format!("`{of}`: {}; opening it again", error.chain()));
                    self.reopen(&of);
                }
            }
            Some(error) => self.stopped(&of, &error),
        }
    }

    fn stopped(&mut self, of: &TopicPartition, error: &Error) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        owned.stops += 1;
        let wait = (REOPEN_MIN * 2_u32.saturating_pow(owned.stops - 1)).min(REOPEN_MAX);
        owned.stage = Stage::Stopped(Instant::now() + wait);
        let reason = error.way_out().map_or_else(|| error.chain(), |hint| format!("{} (hint: {hint})", error.chain()));
        if owned.stops == 1 {
            tracing::error!(partition = %of, hint = error.way_out().unwrap_or_default(), "partition stopped: {}", error.chain());
        }
        owned.status.set_state(State::Stopped, Some(reason.clone()));
        self.stopped.insert(of.clone(), reason);
        if self.targets.is_some() {
            self.reached_target(of);
        }
    }

    fn reached_target(&mut self, of: &TopicPartition) {
        if let Some(targets) = &mut self.targets {
            targets.remove(of);
        }
    }

    fn done(&self) -> bool {
        self.targets.as_ref().is_some_and(HashMap::is_empty)
    }

    fn release_when_flushed(&mut self) {
        let ready = self.assignment.releasing.as_ref().is_some_and(|releasing| releasing.waiting.is_empty() || Instant::now() >= releasing.deadline);
        if let Some(releasing) = self.assignment.releasing.take_if(|_| ready) {
            if !releasing.waiting.is_empty() {
                self.context.status.warn(format!(
                    "{} partitions were not flushed within `source.revoke_deadline`; their next owner reads again what was not committed",
                    releasing.waiting.len()
                ));
            }
            self.send_reports();
            self.release(releasing.partitions);
        }
    }

    fn release(&mut self, partitions: Vec<TopicPartition>) {
        let assigned: Vec<TopicPartition> =
            partitions.iter().filter(|of| self.assignment.owned.get(of).is_some_and(|owned| owned.assigned)).cloned().collect();
        for of in &partitions {
            self.assignment.forget(of);
            self.context.status.forget(of);
            self.reports.remove(of);
        }
        if let Err(error) = self.source.release(&assigned) {
            tracing::warn!(error = %error.chain(), "cannot give partitions back now; the group takes them");
        }
    }

    /// Hands batches to the workers; false when there was nothing to fetch.
    fn fetch(&mut self) -> bool {
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

    /// Whether workers have enough to do. Lanes that wait for a commit must not keep the others waiting for long: their
    /// partitions are passed over until they have caught up.
    fn batches_wait(&mut self) -> bool {
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
                    && lane.shared.waiting.load(Ordering::Relaxed)
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
    fn resume_caught_up(&mut self) {
        for (of, owned) in &mut self.assignment.owned {
            let Stage::Running(lane) = &mut owned.stage else { continue };
            if !lane.paused || lane.finishing || lane.shared.queued.load(Ordering::Acquire) > 0 || lane.shared.waiting.load(Ordering::Relaxed) {
                continue;
            }
            // may be a little behind; a lane passes over what it has already
            let position = Position { next: lane.shared.position.load(Ordering::Relaxed), leader_epoch: -1 };
            match self.source.seek(of, position) {
                Ok(()) => lane.paused = false,
                Err(error) => tracing::debug!(partition = %of, error = %error.chain(), "cannot read on yet"),
            }
        }
    }

    fn hand_over(&mut self, of: &TopicPartition, got: Fetched) {
        let lane = match self.assignment.owned.get_mut(of).map(|owned| &mut owned.stage) {
            Some(Stage::Running(lane)) if !lane.finishing => lane,
            // it is read on from its head when it is opened again
            _ => return self.source.pause(of),
        };
        if got.batch.is_some() || got.end.is_some() {
            let bytes = got.batch.as_ref().map_or(0, |batch| {
                let bytes = batch.held_bytes();
                self.record_bytes = (self.record_bytes * 3 + bytes / batch.len().max(1)) / 4;
                i64::try_from(bytes).unwrap_or(i64::MAX)
            });
            lane.shared.queued.fetch_add(bytes, Ordering::Relaxed);
            self.context.budget.queue(bytes);
            if lane.worker.send(Work::Batch { lane: lane.id, batch: got.batch, bytes, end: got.end }).is_err() {
                self.worker_gone = true;
            }
        }
        // only now: what came before the error must not be lost with it
        if let Some(error) = got.error {
            self.fetch_failed(of, &error);
        }
    }

    fn fetch_failed(&mut self, of: &TopicPartition, error: &Error) {
        if error.kind() == Kind::Transient {
            tracing::warn!(partition = %of, error = %error.chain(), "cannot read now");
            return;
        }
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        if let Stage::Running(lane) = std::mem::replace(&mut owned.stage, Stage::Finished) {
            lane.drop_now();
        }
        if error.kind() == Kind::Stopped {
            self.stopped(of, error);
            return;
        }
        // the ledger knows what it means, and which command decides: opening the partition again says so
        tracing::warn!(partition = %of, error = %error.chain(), "cannot read on");
        owned.stage = Stage::Stopped(Instant::now() + OPEN_AGAIN);
    }

    /// What is looked at a few times a second.
    fn look(&mut self) {
        self.context.status.polled_ms.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        self.resume_caught_up();
        let now = Instant::now();
        let mut reopen = Vec::new();
        for (of, owned) in &mut self.assignment.owned {
            if let Some(end) = self.source.known_end(of) {
                owned.status.end.store(end, Ordering::Relaxed);
            }
            match &mut owned.stage {
                Stage::Running(lane) if !lane.finishing => {
                    let target = self.targets.as_ref().and_then(|targets| targets.get(of));
                    if target.is_some_and(|target| lane.shared.position.load(Ordering::Relaxed) >= *target) {
                        finish(lane, Roll::End);
                    }
                }
                Stage::Stopped(until) if *until <= now && self.stopping.is_none() && (self.targets.is_none() || owned.stops == 0) => {
                    reopen.push(of.clone())
                }
                _ => {}
            }
        }
        for of in reopen {
            self.reopen(&of);
        }
        if self.reported.elapsed() >= REPORT_EVERY {
            self.reported = now;
            self.send_reports();
        }
        if self.targets.is_some() && self.heads_asked.elapsed() >= HEADS_EVERY {
            self.heads_asked = now;
            self.ask_heads();
        }
    }

    /// Asks the largest lanes to give memory back, until they hold a quarter of everything.
    fn relieve(&self) {
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

    fn send_reports(&mut self) {
        if !self.reports.is_empty() {
            let reports: Vec<_> = std::mem::take(&mut self.reports).into_iter().collect();
            kas3_store::kill_point("report.before");
            self.source.report(&reports);
            kas3_store::kill_point("report.after");
        }
    }

    /// With `--until-end`: partitions that other workers own count as well.
    fn ask_heads(&self) {
        let others = self.targets.as_ref().is_some_and(|targets| targets.keys().any(|of| !self.assignment.owned.contains_key(of)));
        if !others || self.assignment.assigning.is_some() {
            return;
        }
        let (ledger, notices) = (Arc::clone(&self.context.ledger), self.context.notices.clone());
        self.context.runtime.spawn(async move {
            if let Ok(heads) = ledger.heads().await {
                let progress =
                    heads.iter().map(|head| (TopicPartition::new(head.topic.as_str(), head.partition), head.next, !head.pending.is_empty()));
                let _ = notices.send(Notice::Heads(progress.collect()));
            }
        });
    }

    fn begin_shutdown(&mut self) {
        tracing::info!("stopping: closing and publishing what is open");
        self.context.status.set_phase(Phase::Stopping);
        self.stopping = Some(Instant::now() + self.context.pipeline.shutdown_deadline);
        for owned in self.assignment.owned.values_mut() {
            if let Stage::Running(lane) = &mut owned.stage {
                finish(lane, Roll::Shutdown);
            }
        }
    }
}

/// Partitions whose heads are read at once.
const OPEN_AT_ONCE: usize = 32;

fn finish(lane: &mut LaneHandle, roll: Roll) {
    if !lane.finishing {
        lane.finishing = true;
        let _ = lane.worker.send(Work::Finish { lane: lane.id, roll });
    }
}

/// What a lane calls when a file has grown to a part.
fn begin_upload(context: &Context, of: &TopicPartition) -> BeginUpload {
    let (runtime, sink, budget) = (context.runtime.clone(), context.sink.clone(), Arc::clone(&context.budget));
    let staging = context.pipeline.staged_prefix(of);
    Box::new(move |path, options| {
        let budget = Arc::clone(&budget);
        Some(Upload::begin(&runtime, sink.clone(), path.to_owned(), staging.clone(), options, Arc::new(move |bytes| budget.hold(bytes))))
    })
}
