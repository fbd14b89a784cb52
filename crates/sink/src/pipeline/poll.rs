//! The loop that drives the source: it serves events, hands batches to the workers, and carries out what a rebalance asks for
//! when the others have done their part. It never waits for a store.

mod ending;
mod opening;
mod reading;
mod waiting;

use super::{
    Ended, LaneId, Notice, Unflushed,
    assignment::{Assigning, Assignment, Behind, Owned, Releasing, Stage},
    worker::{self, Work},
};
use crate::{
    budget::Budget,
    conditions::ConditionKind,
    error::{Error, Kind, Result},
    plan::Pipeline,
    prefetch::Room,
    report::Report,
    source::{Event, Source, kafka::KafkaLog},
    span::{Roll, TopicPartition},
    status::{Phase, Status},
    target::{Progress, Target},
    transform::Chain,
};
use crossbeam_channel::{Receiver, Sender};
use ending::finish;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use waiting::Waiting;

/// Average bytes of a record until the first batch was seen: cautious, because records may be large.
const RECORD_BYTES_FIRST: usize = 8 << 10;
/// How often the resident size is looked at: a busy process can grow by hundreds of megabytes a second.
const MEMORY_EVERY: Duration = Duration::from_millis(10);
/// How often lanes, ends and reports are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often progress is reported to the group.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How often the heads of partitions that others own are read with `--until-end`.
const HEADS_EVERY: Duration = Duration::from_secs(2);
/// How often heads are read for the lag of partitions that stopped before they were opened.
const STOPPED_HEADS_EVERY: Duration = Duration::from_secs(60);
/// How long a transient failure of opening waits before it is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// How long tasks that were told to end may take to: they end wherever they wait.
const RESOLVERS_WAIT: Duration = Duration::from_secs(5);

/// Room for what transforms bring, for each list of them: the store of one may be away while that of another answers.
fn rooms(context: &Context) -> Vec<(Arc<Chain>, Arc<Room>)> {
    let chains: Vec<_> = context.pipeline.chains().into_iter().filter(|(_, chain)| chain.waits()).collect();
    let bytes = context.budget.payload_bytes() / chains.len().max(1) as u64;
    chains.into_iter().map(|(_, chain)| (Arc::clone(chain), Room::new(bytes, Some(Arc::clone(&context.budget))))).collect()
}

/// What the loop works with.
pub(super) struct Context {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) target: Arc<dyn Target>,
    pub(super) budget: Arc<Budget>,
    pub(super) status: Arc<Status>,
    pub(super) notices: Sender<Notice>,
    /// Says who is in the group; `None` where there is none.
    pub(super) group: Option<Arc<KafkaLog>>,
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
    /// Topics that do not exist any more, each with its partitions.
    gone: BTreeMap<String, Vec<TopicPartition>>,
    /// What others own of what is still to be read.
    waiting: Waiting,
    /// Partitions that ended in a shutdown with something read and not published.
    unflushed: Vec<Unflushed>,
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
    stopped_heads_asked: Option<Instant>,
    /// Room for what each list of transforms brings.
    rooms: Vec<(Arc<Chain>, Arc<Room>)>,
    /// Held by everybody who holds batches beside the workers.
    alive: (Sender<()>, Receiver<()>),
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
        let rooms = rooms(&context);
        Loop {
            context,
            source,
            inbox,
            workers: Vec::new(),
            assignment: Assignment::default(),
            opening: Arc::new(tokio::sync::Semaphore::new(opening::OPEN_AT_ONCE)),
            topics,
            next_lane: 0,
            targets,
            stopped: BTreeMap::new(),
            gone: BTreeMap::new(),
            waiting: Waiting::default(),
            unflushed: Vec::new(),
            reports: BTreeMap::new(),
            stop,
            stopping: None,
            record_bytes: RECORD_BYTES_FIRST,
            held_up: None,
            looked: now,
            memory_looked: now,
            reported: now,
            heads_asked: now,
            stopped_heads_asked: None,
            rooms,
            alive: crossbeam_channel::bounded(0),
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
        self.await_group();
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
                    return Ok(Ended::Shutdown(self.left()));
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
        // nobody sends: the end of the wait is that all are gone
        let (alive, gone) = std::mem::replace(&mut self.alive, crossbeam_channel::bounded(0));
        drop(alive);
        let _ = gone.recv_timeout(RESOLVERS_WAIT);
        // workers are gone, and resolvers, and with them every batch that refers to the source
        let source = std::mem::replace(&mut self.source, Box::new(crate::source::memory::MemorySource::new(Default::default(), Vec::new())));
        source.close();
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        let count = |index: usize| self.context.status.rebalances[index].fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Assigned(partitions) => {
                count(0);
                self.context.status.conditions().end(ConditionKind::GroupAwaited, &self.context.pipeline.group);
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
                    self.stopped(&of, &error, Behind::Opening);
                }
            }
            Notice::Finished { lane } => self.lane_ended(lane, None),
            Notice::Failed { lane, error } => self.lane_ended(lane, Some(error)),
            Notice::Report { of, report } => {
                // of a partition that was given away since, its new owner reports
                if let Some(owned) = self.assignment.owned.get(&of) {
                    if matches!(owned.stop, Some(Behind::Commit(offset)) if report.next > offset) {
                        self.goes_on(&of);
                    }
                    self.reports.insert(of, report);
                }
            }
            Notice::Topics(named) => {
                if self.stopping.is_none() {
                    self.note_gone(named.gone);
                    if named.found != self.topics {
                        tracing::info!(topics = named.found.len(), "the topics that the configuration names have changed");
                        self.source.subscribe(&named.found);
                        self.topics = named.found;
                        if self.assignment.owned.is_empty() {
                            self.await_group();
                        }
                    }
                }
            }
            Notice::Orphans(orphans) => self.orphaned(&orphans),
            Notice::Progress(progress) => {
                for Progress { of, next, pending } in progress {
                    self.note_progress(&of, next);
                    let reached = self.targets.as_ref().and_then(|targets| targets.get(&of)).is_some_and(|target| next >= *target);
                    if reached && !pending && !self.assignment.owned.contains_key(&of) {
                        self.reached_target(&of);
                    }
                }
            }
        }
    }

    fn orphaned(&mut self, orphans: &[TopicPartition]) {
        let Some(first) = orphans.first().filter(|_| self.stopping.is_none()) else { return };
        self.context.status.warn(match orphans.len() - 1 {
            0 => format!("`{first}` has no owner although the group is at rest; making it rebalance"),
            more => format!("`{first}` and {more} more partitions have no owner although the group is at rest; making it rebalance"),
        });
        self.source.rejoin();
    }

    /// What is looked at a few times a second.
    fn look(&mut self) {
        self.context.status.polled();
        self.resume_caught_up();
        let now = Instant::now();
        let (mut reopen, mut passed, mut unknown) = (Vec::new(), Vec::new(), false);
        for (of, owned) in &mut self.assignment.owned {
            // of one that is not read, and of one whose log was cut back, only brokers know it
            if let (Stage::Running(_), Some(end)) = (&owned.stage, self.source.known_end(of)) {
                owned.status.end.fetch_max(end, Ordering::Relaxed);
            }
            match &mut owned.stage {
                Stage::Running(lane) if !lane.finishing => {
                    if matches!(owned.stop, Some(Behind::Record(offset)) if lane.shared.position.load(Ordering::Relaxed) > offset) {
                        passed.push(of.clone());
                    }
                    let target = self.targets.as_ref().and_then(|targets| targets.get(of));
                    if target.is_some_and(|target| lane.shared.position.load(Ordering::Relaxed) >= *target) {
                        finish(lane, Roll::End);
                    }
                }
                Stage::Stopped(until) if *until <= now && self.stopping.is_none() && (self.targets.is_none() || owned.stops == 0) => {
                    reopen.push(of.clone())
                }
                Stage::Stopped(_) => unknown |= owned.status.committed.load(Ordering::Relaxed) < 0,
                _ => {}
            }
        }
        for of in passed {
            self.goes_on(&of);
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
            let others = self.targets.as_ref().is_some_and(|targets| targets.keys().any(|of| !self.assignment.owned.contains_key(of)));
            self.ask_heads(others);
            self.say_waiting();
        } else if unknown && self.stopped_heads_asked.is_none_or(|asked| asked.elapsed() >= STOPPED_HEADS_EVERY) {
            self.stopped_heads_asked = Some(now);
            self.ask_heads(true);
        }
    }

    /// How far a partition is that stopped before it was opened: what is unread behind that is its lag.
    fn note_progress(&self, of: &TopicPartition, next: i64) {
        let stopped = self.assignment.owned.get(of).filter(|owned| matches!(owned.stage, Stage::Stopped(_)));
        if let Some(owned) = stopped.filter(|owned| owned.status.committed.load(Ordering::Relaxed) < 0) {
            for offset in [&owned.status.committed, &owned.status.published, &owned.status.position] {
                offset.store(next, Ordering::Relaxed);
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

    /// Reads all heads: with `--until-end` partitions that other workers own count as well.
    fn ask_heads(&self, wanted: bool) {
        if !wanted || self.assignment.assigning.is_some() {
            return;
        }
        let (target, notices) = (Arc::clone(&self.context.target), self.context.notices.clone());
        self.context.runtime.spawn(async move {
            if let Ok(progress) = target.progress().await {
                let _ = notices.send(Notice::Progress(progress));
            }
        });
    }
}
