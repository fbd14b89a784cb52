//! The heart: what one worker knows of partitions that roll together. A lane takes records in the order of their offsets, makes
//! rows of them, sends each row to the file where it belongs, says when its files are to be closed, and closes them all together,
//! as one span.
//!
//! It does no I/O and reads no clock: time comes with the records, and bytes that have grown to a part go to an upload that
//! somebody else drives. One thread owns it; there are no locks. What becomes of a record that a step refuses is decided here
//! (refusal.rs), whichever step it is.
//!
//! A roll falls between records: rows of one record are written together or not at all. A sink of files gives each lane one
//! partition; the type allows several, for targets whose partitions share files.

mod append;
mod close;
mod parts;
mod refusal;

use crate::{
    error::{Error, Result},
    format::Encoder,
    ledger::{ClosedSpan, Upload},
    path::{NameContext, PathCache},
    plan::{RollPlan, TopicPlan},
    record::Record,
    refused::Refused,
    row::Row,
    span::{Bounds, Counts, Position, Roll, TopicPartition},
};
use jiff::{Timestamp, tz::TimeZone};
use kas3_store::{PARTS_MAX, PutOptions};
use parts::Parts;
use refusal::Verdict;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// One look at the clocks, for a whole batch.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For ages.
    pub instant: Instant,
    /// For names and full hours.
    pub wall: Timestamp,
}

impl Now {
    /// Both clocks.
    pub fn read() -> Self {
        Now { instant: Instant::now(), wall: Timestamp::now() }
    }
}

/// Begins an upload to a path with metadata and media type; `None`: the file is not wanted.
pub type BeginUpload = Box<dyn FnMut(&str, PutOptions) -> Option<Upload> + Send>;

/// One of the partitions that roll together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanePartition {
    /// Which.
    pub of: TopicPartition,
    /// Its incarnation, for names.
    pub incarnation: u32,
    /// The next offset to take in.
    pub position: Position,
}

/// The state of assigned partitions that roll together. Methods name a partition by its place among those that the lane was
/// made with.
pub struct Lane {
    partitions: Vec<LanePartition>,
    plan: Arc<TopicPlan>,
    timezone: TimeZone,
    extension: String,
    last_record: Instant,
    span: Option<OpenSpan>,
    cache: PathCache,
    begin: BeginUpload,
    held: usize,
    skipped: Vec<Skipped>,
}

struct OpenSpan {
    id: String,
    opened: Now,
    clock_window: i64,
    /// Where each partition of the lane was when the span began, and what names of its files are made of.
    begins: Vec<(i64, NameContext)>,
    counts: Counts,
    timestamps: Option<Bounds>,
    files: Vec<OpenFile>,
    /// Files by the key that their path has in common.
    by_path: HashMap<String, usize>,
    last_file: usize,
    uploads: u32,
    largest: u64,
}

struct OpenFile {
    key: String,
    path: String,
    encoder: Box<dyn Encoder>,
    parts: Parts,
    held: usize,
}

impl OpenFile {
    /// Bytes of memory beside its content: itself, its names and its entry in the map of paths.
    fn overhead(&self) -> usize {
        size_of::<Self>() + self.path.capacity() + 2 * (self.key.capacity() + size_of::<(String, usize)>())
    }
}

/// A record that was refused and passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Whose record it is.
    pub of: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub refused: Refused,
}

/// How far a lane got through a slice of records.
#[derive(Debug)]
pub struct Progress {
    /// Records taken in from the front of the slice.
    pub taken: usize,
    /// The files are to be closed before the next record.
    pub roll: Option<Roll>,
}

impl Lane {
    /// A lane of partitions that go on at their positions.
    pub fn new(partitions: Vec<LanePartition>, plan: Arc<TopicPlan>, timezone: TimeZone, begin: BeginUpload) -> Self {
        let extension = format!(".{}", plan.format.extension());
        let (cache, skipped) = (PathCache::default(), Vec::new());
        Lane { partitions, plan, timezone, extension, last_record: Instant::now(), span: None, cache, begin, held: 0, skipped }
    }

    /// Whose lane it is.
    pub fn of(&self, partition: usize) -> &TopicPartition {
        &self.partitions[partition].of
    }

    /// What applies to its topic.
    pub fn plan(&self) -> &TopicPlan {
        &self.plan
    }

    /// The next offset of a partition to take in.
    pub fn position(&self, partition: usize) -> Position {
        self.partitions[partition].position
    }

    /// Bytes of memory that the lane holds.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Open files.
    pub fn open_files(&self) -> usize {
        self.span.as_ref().map_or(0, |span| span.files.len())
    }

    /// Timestamp of the oldest record of the open span, in milliseconds.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.span.as_ref().and_then(|span| span.timestamps).map(|bounds| bounds.min)
    }

    /// Whether records were read that no closed span holds.
    pub fn is_open(&self) -> bool {
        self.span.is_some()
    }

    /// Records that were refused and passed over since the last call.
    pub fn take_skipped(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.skipped)
    }

    /// Moves a position without a record: nothing before `end` is left to read.
    pub fn reached(&mut self, partition: usize, end: i64) {
        let position = &mut self.partitions[partition].position;
        if end > position.next {
            // the epoch of what lies before `end` is not known; a wrong one would look like a log that was cut back
            *position = Position { next: end, leader_epoch: -1 };
        }
    }

    /// Forgets everything that was read since the last roll.
    pub fn abandon(&mut self) {
        if let Some(span) = self.span.take() {
            for (partition, (first, _)) in self.partitions.iter_mut().zip(&span.begins) {
                if partition.position.next != *first {
                    partition.position = Position { next: *first, leader_epoch: -1 };
                }
            }
        }
        self.held = 0;
        self.cache = PathCache::default();
    }

    /// Takes in records of a partition, each as a row, until a roll is due. Offsets below the position are passed over. `epoch_at`
    /// says which leader epoch the record at an offset has, -1 where that is not known; it is asked about the last record that was
    /// taken in, because without it nobody could tell whether the log was cut back there.
    ///
    /// # Errors
    /// `BadRecord` when a record is refused and the policy is to stop: everything before it is in the lane, and
    /// [`Lane::position`] names it. Anything else: an encoder is broken, and what it holds is not known.
    pub fn append(&mut self, partition: usize, read: &[Row<'_>], epoch_at: impl Fn(i64) -> i32, now: Now) -> Result<Progress> {
        let before = self.position(partition).next;
        let progress = self.append_until_roll(partition, read, now);
        let position = &mut self.partitions[partition].position;
        if let Some(bad) = progress.as_ref().err().and_then(Error::offset) {
            position.next = bad;
        }
        if position.next > before {
            position.leader_epoch = epoch_at(position.next - 1);
        }
        progress
    }

    /// A record that was refused before it came here.
    ///
    /// # Errors
    /// `BadRecord` when the policy is to stop; the position stays before the record.
    pub fn refuse(&mut self, partition: usize, record: &Record<'_>, leader_epoch: i32, refused: Refused, now: Now) -> Result<()> {
        if record.offset < self.position(partition).next {
            return Ok(());
        }
        self.refuse_record(partition, &Row::of(*record), refused, now)?;
        self.partitions[partition].position.leader_epoch = leader_epoch;
        self.last_record = now.instant;
        Ok(())
    }

    /// Decides about a refused record; before it everything is in the lane.
    fn refuse_record(&mut self, partition: usize, row: &Row<'_>, refused: Refused, now: Now) -> Result<()> {
        match self.decide(partition, row.record.offset, refused) {
            Some(error) => Err(error),
            None => {
                self.open_span(partition, &row.record, now);
                self.count_read(partition, std::slice::from_ref(row));
                if let Some(span) = self.span.as_mut() {
                    span.counts.refused += 1;
                }
                Ok(())
            }
        }
    }

    /// The error that stops the partition at a refused record; `None`: it is passed over.
    fn decide(&mut self, partition: usize, offset: i64, refused: Refused) -> Option<Error> {
        let of = &self.partitions[partition].of;
        match refusal::decide(self.plan.bad_records, of, offset, &refused) {
            Verdict::Stop(error) => Some(error),
            Verdict::Skip => {
                self.skipped.push(Skipped { of: of.clone(), offset, refused });
                None
            }
        }
    }

    fn count_read(&mut self, partition: usize, read: &[Row<'_>]) {
        let Some(last) = read.last() else { return };
        self.partitions[partition].position.next = last.record.offset + 1;
        if let Some(span) = self.span.as_mut() {
            span.counts.read += read.len() as u64;
            for timestamp in read.iter().filter_map(|row| row.record.timestamp_ms) {
                Bounds::widen(&mut span.timestamps, timestamp);
            }
        }
    }

    fn open_span(&mut self, partition: usize, record: &Record<'_>, now: Now) {
        if self.span.is_some() {
            return;
        }
        assert!(record.offset >= self.position(partition).next, "records come in the order of their offsets");
        let names = |incarnation| NameContext { now: now.wall, incarnation, extension: self.extension.clone() };
        self.span = Some(OpenSpan {
            id: format!("{:016x}", rand::random::<u64>()),
            opened: now,
            clock_window: self.plan.roll.clock.map_or(0, |clock| clock_window(now.wall, clock, &self.timezone)),
            begins: self.partitions.iter().map(|partition| (partition.position.next, names(partition.incarnation))).collect(),
            counts: Counts::default(),
            timestamps: None,
            files: Vec::new(),
            by_path: HashMap::new(),
            last_file: 0,
            uploads: 0,
            largest: 0,
        });
    }

    /// Takes what the encoder has ready, and sends whole parts on their way.
    fn take_encoded(&mut self, file: usize) {
        let Some(span) = self.span.as_mut() else { return };
        let open = &mut span.files[file];
        open.parts.push(open.encoder.take());
        let (of, first) = (&self.partitions[0].of, span.begins[0].0);
        open.parts.send_whole(&open.path, &mut span.uploads, &mut self.begin, |number| close::options(of, &self.plan, &span.id, first, number));
        // an upload holds so many parts and no more
        let size = if open.parts.sent + 2 > PARTS_MAX { u64::MAX } else { open.encoder.size() };
        span.largest = span.largest.max(size);
        let held = open.overhead() + open.encoder.buffered() + open.parts.bytes;
        self.held = (self.held + held).saturating_sub(open.held);
        open.held = held;
    }

    /// Why the files are to be closed now, if they are.
    pub fn due(&self, now: Now) -> Option<Roll> {
        let span = self.span.as_ref()?;
        let RollPlan { bytes, records, age, idle, clock, .. } = self.plan.roll;
        if span.largest >= bytes {
            return Some(Roll::Bytes);
        }
        if span.counts.read >= records {
            return Some(Roll::Records);
        }
        if now.instant.saturating_duration_since(span.opened.instant) >= age {
            return Some(Roll::Age);
        }
        if idle.is_some_and(|idle| now.instant.saturating_duration_since(self.last_record) >= idle) {
            return Some(Roll::Idle);
        }
        clock.filter(|clock| clock_window(now.wall, *clock, &self.timezone) != span.clock_window).map(|_| Roll::Clock)
    }

    /// Closes open blocks early, so that what is held shrinks to its compressed size.
    ///
    /// # Errors
    /// When a compressor fails.
    pub fn shrink(&mut self) -> Result<()> {
        for file in 0..self.open_files() {
            if let Some(span) = self.span.as_mut() {
                span.files[file].encoder.shrink()?;
            }
            self.take_encoded(file);
        }
        Ok(())
    }

    /// Closes all files together; `None` when no record was read since the last time.
    ///
    /// # Errors
    /// When a compressor fails.
    pub fn close(&mut self, roll: Roll) -> Result<Option<ClosedSpan>> {
        let Some(span) = self.span.take() else { return Ok(None) };
        self.held = 0;
        self.cache = PathCache::default();
        close::close(span, &self.partitions, &self.plan, roll, &mut self.begin)
    }
}

/// Which full multiple of `clock`, in the timezone, a moment falls into.
fn clock_window(at: Timestamp, clock: Duration, timezone: &TimeZone) -> i64 {
    let offset_s = i64::from(timezone.to_offset(at).seconds());
    (at.as_second() + offset_s).div_euclid(i64::try_from(clock.as_secs()).unwrap_or(i64::MAX).max(1))
}

#[cfg(test)]
mod tests;
