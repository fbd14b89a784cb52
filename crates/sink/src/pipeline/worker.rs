//! A thread that owns lanes: batches in, closed spans out. While a span is being committed its lane fills the next one; when
//! that has to be closed too, the lane waits, its batches wait with it, and nobody fetches more for it.

use super::{LaneId, command::Command};
use crate::{
    batch::Batch,
    budget::{self, Budget, Held},
    error::{Error, Kind},
    lane::{Lane, Now, Skipped},
    ledger::{Body, ClosedSpan},
    prefetch::Ticket,
    record::Record,
    refused::Refused,
    row::Row,
    span::{Position, Roll},
    status::PartitionStatus,
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// A lane of this worker holds one partition.
const ONLY: usize = 0;
/// How often ages are looked at when no batch comes.
const TICK: Duration = Duration::from_millis(20);
/// Closing blocks early is enough when it gives back this share of what a lane holds; else its files are closed.
const SHRINK_SHARE: usize = 4;

/// What a worker is told.
pub(super) enum Work {
    /// A lane of its own from now on.
    Open(Box<OpenLane>),
    /// Records of a lane, or the end of its partition.
    Batch { lane: LaneId, intake: Intake },
    /// What comes next cannot be had: the lane ends with what it has.
    Fail { lane: LaneId, error: Error },
    /// The committer is done with the lane's span.
    Committed { lane: LaneId, position: Position },
    /// Close the lane's files for good: what was not taken in yet is dropped.
    Finish { lane: LaneId, roll: Roll },
    /// Give memory back.
    Relieve { lane: LaneId },
    /// Forget the lane and everything in it.
    Drop { lane: LaneId },
    /// End the thread.
    End,
}

/// What a lane takes in. Dropped when it has, and with it what counts its memory.
#[derive(Default)]
pub(super) struct Intake {
    pub(super) batch: Option<Batch>,
    /// What the last record of the batch needs of others cannot be fetched.
    pub(super) refused: Option<Refused>,
    /// The end of the partition comes behind.
    pub(super) end: Option<i64>,
    pub(super) _queued: Option<Queued>,
    pub(super) _tickets: Vec<Ticket>,
}

/// Bytes that were fetched and are counted until their lane has taken them in.
pub(super) struct Queued {
    bytes: i64,
    shared: Arc<LaneShared>,
    budget: Arc<Budget>,
}

impl Queued {
    pub(super) fn new(bytes: i64, shared: &Arc<LaneShared>, budget: &Arc<Budget>) -> Self {
        shared.queued.fetch_add(bytes, Ordering::Relaxed);
        budget.queue(bytes);
        Queued { bytes, shared: Arc::clone(shared), budget: Arc::clone(budget) }
    }

    pub(super) fn bytes(&self) -> i64 {
        self.bytes
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.shared.queued.fetch_sub(self.bytes, Ordering::Release);
        self.budget.queue(-self.bytes);
    }
}

/// A lane with what it needs to talk to the others.
pub(super) struct OpenLane {
    pub(super) id: LaneId,
    pub(super) lane: Lane,
    pub(super) commit: UnboundedSender<Command>,
    pub(super) shared: Arc<LaneShared>,
    pub(super) status: Arc<PartitionStatus>,
    pub(super) committed: Position,
}

/// What the poll loop sees of a lane.
#[derive(Default)]
pub(super) struct LaneShared {
    /// Bytes of batches that were fetched and not taken in.
    pub(super) queued: AtomicI64,
    /// Those of them that wait for transforms.
    pub(super) unresolved: AtomicI64,
    /// Bytes of its open files.
    pub(super) held: AtomicI64,
    /// A closed span waits for the one before to be committed; nothing is taken in meanwhile.
    pub(super) waiting: AtomicBool,
    /// The next offset to take in.
    pub(super) position: AtomicI64,
    /// The lane was asked to give memory back and has not done so yet.
    pub(super) relieving: AtomicBool,
    /// The lane takes in no more: nobody needs to bring it anything.
    pub(super) ended: CancellationToken,
}

struct LaneState {
    open: OpenLane,
    /// A span is with the committer.
    busy: bool,
    /// Oldest timestamp of the span that is with the committer.
    busy_oldest_ms: Option<i64>,
    /// A span that was closed while the committer was busy.
    waiting: Option<ClosedSpan>,
    backlog: VecDeque<Intake>,
    /// No more is taken in; when everything is with the committer it is told to finish, with this failure if there was one.
    finishing: Option<Option<Error>>,
    counted: i64,
    budget: Arc<Budget>,
    last_commit: Instant,
    advanced: i64,
}

/// Runs until it is told to end.
pub(super) fn run(inbox: &Receiver<Work>, budget: &Arc<Budget>) {
    let mut worker = Worker { lanes: HashMap::new(), budget: Arc::clone(budget) };
    let mut looked = Instant::now();
    loop {
        match inbox.recv_timeout(TICK) {
            Ok(Work::End) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(work) => worker.handle(work),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if looked.elapsed() >= TICK {
            looked = Instant::now();
            worker.tick();
        }
    }
}

struct Worker {
    lanes: HashMap<LaneId, LaneState>,
    budget: Arc<Budget>,
}

impl Worker {
    fn handle(&mut self, work: Work) {
        let id = match &work {
            Work::Open(open) => open.id,
            Work::Batch { lane, .. } | Work::Fail { lane, .. } | Work::Committed { lane, .. } => *lane,
            Work::Finish { lane, .. } | Work::Relieve { lane } | Work::Drop { lane } => *lane,
            Work::End => return,
        };
        if let Work::Open(open) = work {
            let advanced = open.committed.next;
            let state = LaneState {
                open: *open,
                busy: false,
                busy_oldest_ms: None,
                waiting: None,
                backlog: VecDeque::new(),
                finishing: None,
                counted: 0,
                budget: Arc::clone(&self.budget),
                last_commit: Instant::now(),
                advanced,
            };
            self.lanes.insert(id, state);
            return;
        }
        let Some(state) = self.lanes.get_mut(&id) else { return };
        match work {
            // nothing is taken in any more
            Work::Batch { .. } if state.finishing.is_some() => {}
            Work::Batch { intake, .. } => {
                state.backlog.push_back(intake);
                state.drain(&self.budget);
            }
            Work::Fail { error, .. } => state.finish(Roll::Shutdown, Some(error), &self.budget),
            Work::Committed { position, .. } => {
                (state.busy, state.busy_oldest_ms) = (false, None);
                (state.last_commit, state.advanced) = (Instant::now(), position.next);
                state.go_on();
                state.drain(&self.budget);
            }
            Work::Finish { roll, .. } => state.finish(roll, None, &self.budget),
            Work::Relieve { .. } => state.relieve(&self.budget),
            Work::Drop { .. } => {
                if let Some(state) = self.lanes.remove(&id) {
                    state.forget(&self.budget);
                }
                return;
            }
            Work::Open(_) | Work::End => {}
        }
        state.finish_if_drained();
        state.show(&self.budget);
    }

    fn tick(&mut self) {
        let now = Now::read();
        for state in self.lanes.values_mut() {
            if state.waiting.is_some() || state.finishing.is_some() {
                state.finish_if_drained();
                continue;
            }
            if let Some(roll) = state.open.lane.due(now) {
                state.close(roll, &self.budget);
                state.show(&self.budget);
            } else {
                state.advance_if_due(now.instant);
            }
        }
    }
}

/// Refused records of one batch that the log names; of the others it says how many.
const NAMED_MAX: usize = 10;

impl LaneState {
    /// Takes in what waits, unless a closed span waits for the committer.
    fn drain(&mut self, budget: &Arc<Budget>) {
        while self.waiting.is_none() && self.finishing.is_none() {
            let Some(mut intake) = self.backlog.pop_front() else { return };
            if !self.take_in(&mut intake, budget) {
                self.backlog.push_front(intake);
                return;
            }
            if let Some(end) = intake.end {
                self.open.lane.reached(ONLY, end);
            }
        }
    }

    /// True when the whole batch is in the lane, or the lane takes in no more.
    fn take_in(&mut self, intake: &mut Intake, budget: &Arc<Budget>) -> bool {
        let Intake { batch: Some(batch), refused, .. } = intake else { return true };
        let topic = Arc::clone(&self.open.lane.of(ONLY).topic);
        let mut rows: Vec<Row<'_>> = Vec::new();
        batch.rows(&topic, &mut rows);
        let last = if refused.is_some() { rows.pop() } else { None };
        let now = Now::read();
        let admitted = budget.admit(self.open.lane.of(ONLY), &rows, self.open.lane.position(ONLY).next, batch.is_changed());
        if !self.append(&rows[..admitted.rows], batch, now, budget) || self.finishing.is_some() {
            return self.finishing.is_some();
        }
        if let Some(error) = admitted.refused {
            self.finish(Roll::Shutdown, Some(error), budget);
            return true;
        }
        let Some(last) = last else { return true };
        if self.waiting.is_some() {
            return false;
        }
        if let Some(refused) = refused.take() {
            self.refuse(&last.record, refused, batch.leader_epoch_at(last.record.offset), now, budget);
        }
        true
    }

    /// Appends rows until all are in the lane (true), or a closed span waits for the committer.
    fn append(&mut self, rows: &[Row<'_>], batch: &Batch, now: Now, budget: &Arc<Budget>) -> bool {
        let before = self.open.lane.position(ONLY).next;
        let mut rest = rows;
        let mut done = false;
        while !done && self.waiting.is_none() && self.finishing.is_none() {
            match self.open.lane.append(ONLY, rest, |offset| batch.leader_epoch_at(offset), now) {
                Ok(progress) => {
                    rest = &rest[progress.taken..];
                    done = rest.is_empty();
                    match progress.roll {
                        Some(roll) => self.close(roll, budget),
                        None => done = true,
                    }
                }
                Err(error) => {
                    self.fail(error, budget);
                    done = true;
                }
            }
        }
        self.tell_skipped();
        self.count_read(rows, before);
        done
    }

    /// Counts the rows that went into the lane, from the position `before` to where it is now: however far it got.
    fn count_read(&self, rows: &[Row<'_>], before: i64) {
        let after = self.open.lane.position(ONLY).next;
        let begin = rows.partition_point(|row| row.record.offset < before);
        let read = &rows[begin..];
        let read = &read[..read.partition_point(|row| row.record.offset < after)];
        self.open.status.read.fetch_add(read.len() as u64, Ordering::Relaxed);
        if let Some(timestamp_ms) = read.last().and_then(|row| row.record.timestamp_ms) {
            self.open.status.newest_read_ms.store(timestamp_ms, Ordering::Relaxed);
        }
    }

    /// A record that was refused before it came here: everything before it is in the lane.
    fn refuse(&mut self, record: &Record<'_>, refused: Refused, leader_epoch: i32, now: Now, budget: &Arc<Budget>) {
        match self.open.lane.refuse(ONLY, record, leader_epoch, refused, now) {
            Ok(()) => drop(self.open.status.read.fetch_add(1, Ordering::Relaxed)),
            Err(error) => self.fail(error, budget),
        }
        self.tell_skipped();
    }

    /// The lane cannot go on. Everything before a bad record is sound, and goes on its way.
    fn fail(&mut self, error: Error, budget: &Arc<Budget>) {
        if error.kind() != Kind::BadRecord {
            return self.give_up(error, budget);
        }
        self.open.status.refuse(error.reason().unwrap_or("other"));
        let hint = error.way_out().unwrap_or_default().to_owned();
        let stopped = Error::new(Kind::Stopped, error.to_string()).hint(hint);
        let stopped = match error.offset() {
            Some(offset) => stopped.at(offset),
            None => stopped,
        };
        self.finish(Roll::Shutdown, Some(stopped), budget);
    }

    /// Says which records were refused and passed over.
    fn tell_skipped(&mut self) {
        let skipped = self.open.lane.take_skipped();
        for Skipped { of, offset, refused } in skipped.iter().take(NAMED_MAX) {
            tracing::warn!(partition = %of, offset, reason = %refused, "a record is refused and passed over");
        }
        if let Some(Skipped { of, offset, .. }) = skipped.get(NAMED_MAX) {
            let more = skipped.len() - NAMED_MAX;
            tracing::warn!(partition = %of, offset, more, "more records of one batch are refused and passed over, the first at this offset");
        }
        for Skipped { offset, refused, .. } in &skipped {
            self.open.status.pass_over(*offset, refused);
        }
    }

    /// Closes the lane's files; the span goes to the committer, or waits for it.
    fn close(&mut self, roll: Roll, budget: &Arc<Budget>) {
        match self.open.lane.close(roll) {
            Ok(Some(span)) => {
                self.count(budget);
                budget.hold(span_bytes(&span));
                self.waiting = Some(span);
                self.go_on();
            }
            Ok(None) => {}
            Err(error) => self.give_up(error, budget),
        }
    }

    /// Commits nothing of what is open: an encoder failed, and what it holds is not known.
    fn give_up(&mut self, error: Error, budget: &Arc<Budget>) {
        self.drop_backlog();
        self.open.lane.abandon();
        self.count(budget);
        self.finishing = Some(Some(error));
    }

    /// Sends on what the committer can take now.
    fn go_on(&mut self) {
        if self.busy {
            return;
        }
        if let Some(mut span) = self.waiting.take() {
            let held = handed_over(&mut span, &self.budget);
            (self.busy, self.busy_oldest_ms) = (true, span.timestamps.map(|bounds| bounds.min));
            let _ = self.open.commit.send(Command::Commit { span: Box::new(span), held });
        } else if matches!(self.finishing, Some(None)) {
            // never after a failure: what the lane had read by then may be in no file
            let position = self.open.lane.position(ONLY);
            if position.next > self.advanced && !self.open.lane.is_open() {
                self.advance(position);
            }
        }
    }

    fn finish(&mut self, roll: Roll, failure: Option<Error>, budget: &Arc<Budget>) {
        if self.finishing.is_some() {
            return;
        }
        self.drop_backlog();
        self.finishing = Some(failure);
        self.close(roll, budget);
        self.go_on();
    }

    /// Once everything is with the committer, tells it to finish.
    fn finish_if_drained(&mut self) {
        if self.busy || self.waiting.is_some() {
            return;
        }
        if let Some(failure) = self.finishing.as_mut() {
            let failure = failure.take();
            let _ = self.open.commit.send(Command::Finish { failure });
            // nothing more is expected of this lane but to be dropped
            self.busy = true;
        }
    }

    fn advance_if_due(&mut self, now: Instant) {
        let position = self.open.lane.position(ONLY);
        let due = now.saturating_duration_since(self.last_commit) >= self.open.lane.plan().roll.age;
        if due && !self.busy && !self.open.lane.is_open() && self.backlog.is_empty() && position.next > self.advanced {
            self.advance(position);
        }
    }

    fn advance(&mut self, position: Position) {
        self.busy = true;
        self.advanced = position.next;
        let _ = self.open.commit.send(Command::Advance(position));
    }

    /// Closes open blocks early; where that gives too little back, closes the files.
    fn relieve(&mut self, budget: &Arc<Budget>) {
        let before = self.open.lane.held();
        if let Err(error) = self.open.lane.shrink() {
            self.give_up(error, budget);
        } else if self.open.lane.held() > before - before / SHRINK_SHARE && self.waiting.is_none() {
            self.close(Roll::Memory, budget);
        }
        self.open.shared.relieving.store(false, Ordering::Relaxed);
    }

    /// Tells the budget what changed.
    fn count(&mut self, budget: &Arc<Budget>) {
        let held = i64::try_from(self.open.lane.held()).unwrap_or(i64::MAX);
        budget.open(held - self.counted);
        self.counted = held;
    }

    /// Brings the budget and the status up to date.
    fn show(&mut self, budget: &Arc<Budget>) {
        self.count(budget);
        let OpenLane { lane, shared, status, .. } = &self.open;
        let waiting = self.waiting.as_ref();
        let held = self.counted + shared.queued.load(Ordering::Relaxed) + waiting.map_or(0, span_bytes);
        shared.held.store(self.counted, Ordering::Relaxed);
        shared.waiting.store(waiting.is_some(), Ordering::Relaxed);
        shared.position.store(lane.position(ONLY).next, Ordering::Relaxed);
        status.position.store(lane.position(ONLY).next, Ordering::Relaxed);
        status.buffered.store(held, Ordering::Relaxed);
        status.open_files.store(lane.open_files() as u64, Ordering::Relaxed);
        let waiting_oldest = waiting.and_then(|span| span.timestamps).map(|bounds| bounds.min);
        let oldest = [self.busy_oldest_ms, waiting_oldest, lane.oldest_ms()].into_iter().flatten().min();
        status.oldest_unpublished_ms.store(oldest.unwrap_or(-1), Ordering::Relaxed);
    }

    /// Nothing of it is taken in, nor of what is on its way.
    fn drop_backlog(&mut self) {
        self.open.shared.ended.cancel();
        self.backlog.clear();
    }

    fn forget(mut self, budget: &Arc<Budget>) {
        self.drop_backlog();
        budget.open(-self.counted);
        if let Some(span) = &self.waiting {
            budget.hold(-span_bytes(span));
        }
    }
}

/// What a closed file takes beside its bytes, in bytes: its entry in the head, which is also written as text, and its request.
const FILE_BYTES: usize = 2 << 10;

/// Memory that a closed span takes; uploads count their own parts.
fn span_bytes(span: &ClosedSpan) -> i64 {
    let whole: usize = span.files.iter().map(|file| if let Body::Whole(bytes) = &file.body { bytes.len() } else { 0 }).sum();
    i64::try_from(whole + span.files.len() * FILE_BYTES).unwrap_or(i64::MAX)
}

/// From here on a whole file counts for as long as its bytes are there, until it is published; the rest of a span, which is
/// returned, until all of it is.
fn handed_over(span: &mut ClosedSpan, budget: &Arc<Budget>) -> Held {
    let all = span_bytes(span);
    let mut of_files = 0;
    for file in &mut span.files {
        if let Body::Whole(bytes) = &mut file.body {
            of_files += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            *bytes = budget::counted(budget, std::mem::take(bytes));
        }
    }
    Held::taken_over(budget, all - of_files)
}
