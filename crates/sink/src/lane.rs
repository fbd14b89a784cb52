//! The heart: what one worker knows of one assigned partition. A lane takes records in the order of their offsets, sends each
//! to the file where it belongs, says when its files are to be closed, and closes them all together, as one span.
//!
//! It does no I/O and reads no clock: time comes with the records, and bytes that have grown to a part go to an upload that
//! somebody else drives. One thread owns it; there are no locks.

use crate::{
    config::{BadRecords, RollPlan, TopicPlan},
    error::{Error, Kind, Result},
    format::{Appended, Encoder},
    ledger::{self, Body, ClosedFile, ClosedSpan, Role, Upload},
    path::{NameContext, PathCache},
    record::Record,
    span::{Bounds, Checksum, Counts, Position, Roll, Span, TopicPartition},
};
use bytes::{Bytes, BytesMut};
use jiff::{Timestamp, tz::TimeZone};
use kas3_store::{PART_BYTES, PARTS_MAX, PutOptions};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

mod again;

pub(crate) use again::Again;

/// Payload bytes of one run of records between two looks at the roll rules: far below a block.
const RUN_BYTES: usize = 128 << 10;

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

/// The state of one assigned partition.
pub struct Lane {
    of: TopicPartition,
    plan: Arc<TopicPlan>,
    timezone: TimeZone,
    incarnation: u32,
    extension: String,
    position: Position,
    last_record: Instant,
    span: Option<OpenSpan>,
    cache: PathCache,
    begin: BeginUpload,
    held: usize,
}

struct OpenSpan {
    id: String,
    first: i64,
    opened: Now,
    clock_window: i64,
    names: NameContext,
    counts: Counts,
    timestamps: Option<Bounds>,
    files: Vec<OpenFile>,
    groups: HashMap<String, usize>,
    last_file: usize,
    uploads: u32,
    largest: u64,
}

struct OpenFile {
    group: String,
    path: String,
    encoder: Box<dyn Encoder>,
    parts: Parts,
    held: usize,
}

impl OpenFile {
    /// Bytes of memory beside its content: itself, its names and its entry in the map of groups.
    fn overhead(&self) -> usize {
        size_of::<Self>() + self.path.capacity() + 2 * (self.group.capacity() + size_of::<(String, usize)>())
    }
}

/// Records that go to one place, not appended yet.
struct Run {
    start: usize,
    file: Option<Place>,
    payload: usize,
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    File(usize),
    LeftOut,
    OneFileTooMany,
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
    /// A lane that goes on at `position`.
    pub fn new(of: TopicPartition, plan: Arc<TopicPlan>, timezone: TimeZone, incarnation: u32, position: Position, begin: BeginUpload) -> Self {
        let extension = format!(".{}", plan.format.extension());
        let cache = PathCache::default();
        Lane { of, plan, timezone, incarnation, extension, position, last_record: Instant::now(), span: None, cache, begin, held: 0 }
    }

    /// Whose lane it is.
    pub fn of(&self) -> &TopicPartition {
        &self.of
    }

    /// What applies to its topic.
    pub fn plan(&self) -> &TopicPlan {
        &self.plan
    }

    /// The next offset to take in.
    pub fn position(&self) -> Position {
        self.position
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

    /// Moves the position without a record: nothing before `end` is left to read.
    pub fn reached(&mut self, end: i64) {
        if end > self.position.next {
            // the epoch of what lies before `end` is not known; a wrong one would look like a log that was cut back
            self.position = Position { next: end, leader_epoch: -1 };
        }
    }

    /// Forgets everything that was read since the last roll.
    pub fn abandon(&mut self) {
        if let Some(span) = self.span.take() {
            self.position = Position { next: span.first, leader_epoch: -1 };
        }
        self.held = 0;
        self.cache = PathCache::default();
    }

    /// Takes in records until a roll is due. Offsets below the position are passed over. `epoch_at` says which leader epoch the
    /// record at an offset has, -1 where that is not known; it is asked about the last record that was taken in, because without
    /// it nobody could tell whether the log was cut back there.
    ///
    /// # Errors
    /// `BadRecord` when a record does not fit and the policy is to stop: everything before it is in the lane, and
    /// [`Lane::position`] names it.
    pub fn append(&mut self, records: &[Record<'_>], epoch_at: impl Fn(i64) -> i32, now: Now) -> Result<Progress> {
        let before = self.position.next;
        let progress = self.append_until_roll(records, now);
        if self.position.next > before {
            self.position.leader_epoch = epoch_at(self.position.next - 1);
        }
        progress
    }

    /// Passes over a record that is left out, and counts it as such.
    pub fn leave_out(&mut self, record: &Record<'_>, leader_epoch: i32, now: Now) {
        if record.offset < self.position.next {
            return;
        }
        self.open_span(record, now);
        self.count_read(std::slice::from_ref(record));
        if let Some(span) = self.span.as_mut() {
            span.counts.filtered += 1;
        }
        self.position.leader_epoch = leader_epoch;
        self.last_record = now.instant;
    }

    fn append_until_roll(&mut self, records: &[Record<'_>], now: Now) -> Result<Progress> {
        let mut run = Run { start: records.partition_point(|record| record.offset < self.position.next), file: None, payload: 0 };
        if let Some(roll) = self.due(now) {
            return Ok(Progress { taken: run.start, roll: Some(roll) });
        }
        let mut room = self.room();
        for (at, record) in records.iter().enumerate().skip(run.start) {
            if room == 0 || (run.payload >= RUN_BYTES && self.flush(records, &mut run, at)?) {
                self.flush(records, &mut run, at)?;
                return Ok(Progress { taken: at, roll: self.due(now) });
            }
            let place = match self.place(record, now) {
                Ok(place) => place,
                Err(error) => {
                    self.flush(records, &mut run, at)?;
                    self.position.next = record.offset;
                    return Err(error.at(record.offset));
                }
            };
            if run.file != Some(place) && run.file.is_some() && self.flush(records, &mut run, at)? {
                return Ok(Progress { taken: at, roll: self.due(now) });
            }
            match place {
                Place::File(_) => run.file = Some(place),
                Place::LeftOut => {
                    self.count_read(&records[at..=at]);
                    if let Some(span) = self.span.as_mut() {
                        span.counts.filtered += 1;
                    }
                    run = Run { start: at + 1, file: None, payload: 0 };
                }
                Place::OneFileTooMany => return Ok(Progress { taken: at, roll: Some(Roll::Files) }),
            }
            run.payload += record.payload_bytes();
            room -= 1;
        }
        self.flush(records, &mut run, records.len())?;
        self.last_record = now.instant;
        Ok(Progress { taken: records.len(), roll: self.due(now) })
    }

    /// Records until `roll.records`.
    fn room(&self) -> u64 {
        self.span.as_ref().map_or(self.plan.roll.records, |span| self.plan.roll.records.saturating_sub(span.counts.read))
    }

    /// Appends the run that ends before `end` to its file, and begins the next one there; true when a size calls for a roll.
    fn flush(&mut self, records: &[Record<'_>], run: &mut Run, end: usize) -> Result<bool> {
        let (start, place) = (run.start, run.file.take());
        *run = Run { start: end, file: None, payload: 0 };
        let (Some(Place::File(file)), Some(span)) = (place, self.span.as_mut()) else { return Ok(false) };
        let records = &records[start..end];
        let encoder = &mut span.files[file].encoder;
        let before = encoder.records();
        match encoder.append(records) {
            Ok(Appended { written, filtered }) => {
                span.counts.written += written;
                span.counts.filtered += filtered;
                self.count_read(records);
                self.take_encoded(file);
                Ok(self.span.as_ref().is_some_and(|span| span.largest >= self.plan.roll.bytes))
            }
            Err(error) => {
                let written = encoder.records() - before;
                let bad = records.iter().position(|record| error.offset() == Some(record.offset)).unwrap_or(0);
                span.counts.written += written;
                span.counts.filtered += (bad as u64).saturating_sub(written);
                self.count_read(&records[..bad]);
                self.take_encoded(file);
                self.position.next = records[bad].offset;
                Err(error)
            }
        }
    }

    fn count_read(&mut self, run: &[Record<'_>]) {
        let Some(last) = run.last() else { return };
        self.position.next = last.offset + 1;
        if let Some(span) = self.span.as_mut() {
            span.counts.read += run.len() as u64;
            for timestamp in run.iter().filter_map(|record| record.timestamp_ms) {
                Bounds::widen(&mut span.timestamps, timestamp);
            }
        }
    }

    /// Where a record goes; its file is opened if need be.
    fn place(&mut self, record: &Record<'_>, now: Now) -> Result<Place> {
        self.open_span(record, now);
        let Some(span) = self.span.as_mut() else { return Ok(Place::LeftOut) };
        let plan = &self.plan;
        if plan.path.is_constant() && !span.files.is_empty() {
            return Ok(Place::File(0));
        }
        let group = match plan.path.group(record, &span.names, &mut self.cache) {
            Ok(group) => group,
            Err(error) if error.kind() == Kind::BadRecord && plan.bad_records == BadRecords::Skip => return Ok(Place::LeftOut),
            Err(error) => return Err(error),
        };
        if span.files.get(span.last_file).is_some_and(|file| file.group == group) {
            return Ok(Place::File(span.last_file));
        }
        if let Some(&file) = span.groups.get(group) {
            span.last_file = file;
            return Ok(Place::File(file));
        }
        if span.files.len() >= plan.roll.files {
            return Ok(Place::OneFileTooMany);
        }
        let path = plan.path.name(group, record.offset, &span.names);
        span.last_file = span.files.len();
        span.groups.insert(group.to_owned(), span.last_file);
        span.files.push(OpenFile { group: group.to_owned(), path, encoder: plan.format.encoder()?, parts: Parts::default(), held: 0 });
        Ok(Place::File(span.last_file))
    }

    fn open_span(&mut self, record: &Record<'_>, now: Now) {
        if self.span.is_some() {
            return;
        }
        assert!(record.offset >= self.position.next, "records come in the order of their offsets");
        self.span = Some(OpenSpan {
            id: format!("{:016x}", rand::random::<u64>()),
            first: self.position.next,
            opened: now,
            clock_window: self.plan.roll.clock.map_or(0, |clock| clock_window(now.wall, clock, &self.timezone)),
            names: NameContext { now: now.wall, incarnation: self.incarnation, extension: self.extension.clone() },
            counts: Counts::default(),
            timestamps: None,
            files: Vec::new(),
            groups: HashMap::new(),
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
        open.parts.send_whole(&open.path, &mut span.uploads, &mut self.begin, |number| options(&self.of, &self.plan, &span.id, span.first, number));
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
        let Some(mut span) = self.span.take() else { return Ok(None) };
        self.held = 0;
        self.cache = PathCache::default();
        if self.position.next <= span.first {
            // the first record of the span was a bad one
            return Ok(None);
        }
        let files = close_files(&self.of, &mut span, &self.plan, &mut self.begin)?;
        Ok(Some(ClosedSpan {
            id: span.id,
            of: self.of.clone(),
            span: Span { first: span.first, next: self.position.next },
            leader_epoch: self.position.leader_epoch,
            now: span.opened.wall,
            roll,
            counts: span.counts,
            timestamps: span.timestamps,
            files,
        }))
    }
}

/// Which full multiple of `clock`, in the timezone, a moment falls into.
fn clock_window(at: Timestamp, clock: Duration, timezone: &TimeZone) -> i64 {
    let offset_s = i64::from(timezone.to_offset(at).seconds());
    (at.as_second() + offset_s).div_euclid(i64::try_from(clock.as_secs()).unwrap_or(i64::MAX).max(1))
}

/// Ends every file: uploads first, in the order in which they began (their numbers are in their metadata), then whole files,
/// then side files. A file in which nothing was written is left out.
fn close_files(of: &TopicPartition, span: &mut OpenSpan, plan: &TopicPlan, begin: &mut BeginUpload) -> Result<Vec<ClosedFile>> {
    let (mut uploads, mut wholes, mut sides) = (Vec::new(), Vec::new(), Vec::new());
    for open in span.files.drain(..) {
        let OpenFile { path, encoder, mut parts, .. } = open;
        let finished = encoder.finish()?;
        if finished.records == 0 {
            continue;
        }
        parts.push(finished.tail);
        parts.send_whole(&path, &mut span.uploads, begin, |number| options(of, plan, &span.id, span.first, number));
        let rest = parts.rest();
        let file = |path, role, body, bytes, records, checksum| ClosedFile {
            path,
            role,
            body,
            bytes,
            records,
            checksum,
            offsets: finished.offsets,
            timestamps: finished.timestamps,
            content_type: plan.format.content_type(),
            content_encoding: plan.format.content_encoding(),
        };
        if let Some(side) = finished.side_file {
            let name = path.strip_suffix(&span.names.extension).unwrap_or(&path);
            let checksum = Checksum::from_xxh3(xxhash_rust::xxh3::xxh3_128(&side));
            let bytes = side.len() as u64;
            let mut side = file(format!("{name}.index.json"), Role::SideFile, Body::Whole(side), bytes, 0, checksum);
            (side.content_type, side.content_encoding) = ("application/json", None);
            sides.push(side);
        }
        match parts.upload.take() {
            Some((_, None)) => {}
            Some((number, Some(mut upload))) => {
                if !rest.is_empty() {
                    upload.push(rest);
                }
                uploads.push((number, file(path, Role::Data, Body::Upload(upload), finished.bytes, finished.records, finished.checksum)));
            }
            None => wholes.push(file(path, Role::Data, Body::Whole(rest), finished.bytes, finished.records, finished.checksum)),
        }
    }
    uploads.sort_by_key(|(number, _)| *number);
    Ok(uploads.into_iter().map(|(_, file)| file).chain(wholes).chain(sides).collect())
}

/// How an upload is written; `next` of the span is not known yet.
fn options(of: &TopicPartition, plan: &TopicPlan, span: &str, first: i64, number: u32) -> PutOptions {
    let mut options = PutOptions::data(plan.format.content_type());
    options.content_encoding = plan.format.content_encoding();
    options.metadata = ledger::metadata(of, span, number, first, None);
    options
}

/// Encoded bytes of one file on their way into parts of one size.
#[derive(Default)]
struct Parts {
    chunks: std::collections::VecDeque<Bytes>,
    bytes: usize,
    sent: usize,
    upload: Option<(u32, Option<Upload>)>,
}

impl Parts {
    fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Sends what fills whole parts; the first one begins the upload, as the next of the span's uploads.
    fn send_whole(&mut self, path: &str, uploads: &mut u32, begin: &mut BeginUpload, options: impl Fn(u32) -> PutOptions) {
        while self.bytes >= PART_BYTES {
            self.sent += 1;
            let part = self.cut(PART_BYTES);
            let (_, upload) = self.upload.get_or_insert_with(|| {
                *uploads += 1;
                (*uploads - 1, begin(path, options(*uploads - 1)))
            });
            if let Some(upload) = upload {
                upload.push(part);
            }
        }
    }

    fn rest(&mut self) -> Bytes {
        self.cut(self.bytes)
    }

    fn cut(&mut self, bytes: usize) -> Bytes {
        self.bytes -= bytes;
        match self.chunks.front_mut() {
            Some(front) if front.len() > bytes => return front.split_to(bytes),
            Some(front) if front.len() == bytes => return self.chunks.pop_front().unwrap_or_default(),
            _ => {}
        }
        let mut part = BytesMut::with_capacity(bytes);
        while part.len() < bytes {
            let Some(front) = self.chunks.front_mut() else { break };
            let missing = bytes - part.len();
            if front.len() <= missing {
                part.extend_from_slice(front);
                self.chunks.pop_front();
            } else {
                part.extend_from_slice(&front.split_to(missing));
            }
        }
        part.freeze()
    }
}

/// An error that names the record of a partition.
pub(crate) fn bad_record(of: &TopicPartition, error: Error) -> Error {
    let at = error.offset().map_or_else(String::new, |offset| format!(" at offset {offset}"));
    Error::new(Kind::Stopped, format!("`{of}` holds a record{at} that does not fit"))
        .hint("correct `format`, `path` or the topic's settings, or set `bad_records: skip` to leave such records out; then start again")
        .source(error)
}

/// An error that names the record of a partition that a transform cannot take.
pub(crate) fn refused_record(of: &TopicPartition, error: Error) -> Error {
    let offset = error.offset().unwrap_or(-1);
    let reason = error.reason().map_or_else(String::new, |reason| format!(" (`{reason}`)"));
    let cause = error.way_out().map_or_else(String::new, |hint| format!("{hint}; "));
    let pass = ledger::stops::accept_command(of, &format!("--next {}", offset + 1));
    let skip = "to leave such records out, set `bad_records: skip`; to pass over this one, once all before it is published: ";
    Error::new(Kind::Stopped, format!("`{of}` holds a record at offset {offset} that cannot be had{reason}"))
        .hint(format!("{cause}when it can be had again, the partition goes on by itself; {skip}`{pass}`"))
        .source(error)
}

#[cfg(test)]
mod tests;
