//! From records to rows in files: transforms, places, encoders.
//!
//! Rows that go to one file one after the other are appended together, as a run: the roll rules are looked at between runs, and
//! an encoder sees slices, not single rows. A record of which transforms make several rows goes alone: its rows are looked at
//! before any of them is appended, because they are written together or not at all.

use super::{Lane, Now, OpenFile, Progress, parts::Parts};
use crate::{
    error::{Error, Kind, Result},
    format::Appended,
    refused::{Refused, Step},
    row::Row,
    span::{Counts, Roll},
    transform::Chain,
};
use std::{borrow::Cow, collections::HashSet, ops::Range};

/// Payload bytes of the records that are transformed at once, one large record aside: what a roll in their midst throws away.
const CHUNK_BYTES: usize = 256 << 10;

/// Payload bytes of one run of rows between two looks at the roll rules: far below a block.
pub(super) const RUN_BYTES: usize = 128 << 10;

/// The rows that transforms make of records that were read.
struct Made<'r, 'a> {
    rows: Cow<'r, [Row<'a>]>,
    /// What was made of each record; `None`: one row of each, as it was read.
    of_each: Option<Vec<Result<Range<usize>, Refused>>>,
}

impl<'r, 'a> Made<'r, 'a> {
    fn of(read: &'r [Row<'a>], chain: &Chain) -> Self {
        if chain.transforms().is_empty() {
            return Made { rows: Cow::Borrowed(read), of_each: None };
        }
        let mut rows = Vec::with_capacity(read.len());
        let each = read.iter().map(|row| {
            let begin = rows.len();
            rows.extend(chain.rows(row.record)?);
            Ok(begin..rows.len())
        });
        let of_each = Some(each.collect());
        Made { rows: Cow::Owned(rows), of_each }
    }

    /// The places of the rows of the record at `at`.
    fn of_record(&self, at: usize) -> Result<Range<usize>, Refused> {
        match &self.of_each {
            None => Ok(at..at + 1),
            Some(each) => each[at].clone(),
        }
    }
}

/// The records from the front that are transformed at once: their rows are in memory beside them, and are made anew when a roll
/// falls between them. At most `room`, until the next roll; without transforms: all.
fn chunk<'r, 'a>(read: &'r [Row<'a>], chain: &Chain, room: u64) -> &'r [Row<'a>] {
    if chain.transforms().is_empty() {
        return read;
    }
    let read = &read[..read.len().min(usize::try_from(room.max(1)).unwrap_or(usize::MAX))];
    let mut bytes = 0;
    let fits = |row: &&Row<'_>| {
        bytes += row.payload_bytes();
        bytes <= CHUNK_BYTES
    };
    &read[..read.iter().take_while(fits).count().max(1)]
}

/// Records whose rows go to one file, one row each or none, not appended yet.
struct Run {
    /// The first record.
    record: usize,
    /// Its rows and those of the records behind it.
    rows: Range<usize>,
    file: Option<usize>,
    payload: usize,
}

impl Run {
    fn begin(record: usize, row: usize) -> Self {
        Run { record, rows: row..row, file: None, payload: 0 }
    }
}

/// Where a row goes.
enum Place {
    File(usize),
    /// It is one of several rows of its record.
    Together,
    Refused(Box<Refused>),
    OneFileTooMany,
}

impl Lane {
    pub(super) fn append_until_roll(&mut self, partition: usize, read: &[Row<'_>], now: Now) -> Result<Progress> {
        let next = self.position(partition).next;
        let start = read.partition_point(|row| row.record.offset < next);
        if let Some(roll) = self.due(now) {
            return Ok(Progress { taken: start, roll: Some(roll) });
        }
        let chain = std::sync::Arc::clone(&self.plan.transforms);
        let mut taken = start;
        while taken < read.len() {
            let chunk = chunk(&read[taken..], &chain, self.room());
            let progress = self.append_made(partition, chunk, &Made::of(chunk, &chain), now)?;
            taken += progress.taken;
            if progress.roll.is_some() || progress.taken < chunk.len() {
                return Ok(Progress { taken, roll: progress.roll });
            }
        }
        self.last_record = now.instant;
        Ok(Progress { taken, roll: None })
    }

    fn append_made(&mut self, partition: usize, read: &[Row<'_>], made: &Made<'_, '_>, now: Now) -> Result<Progress> {
        let mut run = Run::begin(0, 0);
        let mut room = self.room();
        for (at, record) in read.iter().enumerate() {
            if room == 0 || (run.payload >= RUN_BYTES && self.flush(partition, read, made, &mut run, at)?) {
                self.flush(partition, read, made, &mut run, at)?;
                return Ok(Progress { taken: at, roll: self.due(now) });
            }
            room -= 1;
            let of_record = made.of_record(at);
            let place = match &of_record {
                // counted with the run that it is in
                Ok(rows) if rows.is_empty() => {
                    self.open_span(partition, &record.record, now);
                    continue;
                }
                Ok(rows) if rows.len() == 1 => self.place(partition, &made.rows[rows.start], now)?,
                Ok(_) => Place::Together,
                Err(refused) => Place::Refused(Box::new(refused.clone())),
            };
            let stays = matches!(place, Place::File(file) if run.file.is_none_or(|open| open == file));
            if !stays && self.flush(partition, read, made, &mut run, at)? {
                return Ok(Progress { taken: at, roll: self.due(now) });
            }
            let rows = of_record.unwrap_or(run.rows.end..run.rows.end);
            match place {
                Place::File(file) => {
                    run.file = Some(file);
                    run.payload += made.rows[rows.start].payload_bytes();
                    run.rows = if run.rows.is_empty() { rows } else { run.rows.start..rows.end };
                    continue;
                }
                Place::Together => match self.append_together(partition, record, &made.rows[rows.clone()], now)? {
                    Some(Roll::Files) => return Ok(Progress { taken: at, roll: Some(Roll::Files) }),
                    Some(roll) => return Ok(Progress { taken: at + 1, roll: Some(roll) }),
                    None => {}
                },
                Place::Refused(refused) => self.refuse_record(partition, record, *refused, now)?,
                Place::OneFileTooMany => return Ok(Progress { taken: at, roll: Some(Roll::Files) }),
            }
            run = Run::begin(at + 1, rows.end);
        }
        self.flush(partition, read, made, &mut run, read.len())?;
        self.last_record = now.instant;
        Ok(Progress { taken: read.len(), roll: self.due(now) })
    }

    /// Records until `roll.records`.
    fn room(&self) -> u64 {
        self.span.as_ref().map_or(self.plan.roll.records, |span| self.plan.roll.records.saturating_sub(span.counts.read))
    }

    /// Appends the run that ends before the record at `end` to its file, and begins the next one there; true when a size calls
    /// for a roll.
    fn flush(&mut self, partition: usize, read: &[Row<'_>], made: &Made<'_, '_>, run: &mut Run, end: usize) -> Result<bool> {
        let Run { record, rows, file, .. } = std::mem::replace(run, Run::begin(end, run.rows.end));
        let (records, rows) = (&read[record..end], &made.rows[rows]);
        let stopped = match file {
            Some(file) => self.append_run(partition, rows, file)?,
            None => None,
        };
        let (taken, error) = match stopped {
            None => (records.len(), None),
            Some((rows_before, error)) => {
                let offset = rows[rows_before].record.offset;
                (records.partition_point(|row| row.record.offset < offset), Some((rows_before, error)))
            }
        };
        let rows_taken = error.as_ref().map_or(rows.len(), |(rows_before, _)| *rows_before);
        if let Some(span) = self.span.as_mut() {
            // each record of a run has a row or none
            span.counts.filtered += (taken - rows_taken) as u64;
        }
        self.count_read(partition, &records[..taken]);
        if let Some(file) = file {
            self.take_encoded(file);
        }
        match error {
            Some((_, error)) => Err(error),
            None => Ok(self.span.as_ref().is_some_and(|span| span.largest >= self.plan.roll.bytes)),
        }
    }

    /// Appends rows to one file, and passes over those that are refused if the policy allows it. Else how many rows were dealt
    /// with before the refused one, and the error.
    fn append_run(&mut self, partition: usize, rows: &[Row<'_>], file: usize) -> Result<Option<(usize, Error)>> {
        let mut at = 0;
        while at < rows.len() {
            let Some(span) = self.span.as_mut() else { break };
            let appended = span.files[file].encoder.append(&rows[at..])?;
            count(&mut span.counts, &appended);
            at += appended.taken();
            let Some(refused) = appended.refused else { break };
            if let Some(error) = self.decide(partition, rows[at].record.offset, refused) {
                return Ok(Some((at, error)));
            }
            if let Some(span) = self.span.as_mut() {
                span.counts.refused += 1;
            }
            at += 1;
        }
        Ok(None)
    }

    /// Appends all rows of one record, or none of them.
    fn append_together(&mut self, partition: usize, record: &Row<'_>, rows: &[Row<'_>], now: Now) -> Result<Option<Roll>> {
        if let Some(refused) = self.too_many_files(partition, rows, now)? {
            return self.refuse_record(partition, record, refused, now).map(|()| None);
        }
        let mut files = Vec::with_capacity(rows.len());
        for row in rows {
            match self.place(partition, row, now)? {
                Place::File(file) => files.push(file),
                Place::Refused(refused) => return self.refuse_record(partition, record, *refused, now).map(|()| None),
                Place::OneFileTooMany | Place::Together => return Ok(Some(Roll::Files)),
            }
        }
        let Some(span) = self.span.as_mut() else { return Ok(None) };
        let refused = rows.iter().zip(&files).find_map(|(row, file)| span.files[*file].encoder.refuses(row));
        if let Some(refused) = refused {
            return self.refuse_record(partition, record, refused, now).map(|()| None);
        }
        let mut appended = Appended::default();
        for (row, file) in rows.iter().zip(&files) {
            let one = span.files[*file].encoder.append(std::slice::from_ref(row))?;
            if let Some(refused) = one.refused {
                return Err(Error::new(Kind::Fatal, format!("an encoder refuses a row that it took before: {refused}")));
            }
            appended.written += one.written;
            appended.filtered += one.filtered;
        }
        span.counts.rows += appended.written;
        span.counts.written += u64::from(appended.written > 0);
        span.counts.filtered += u64::from(appended.written == 0);
        self.count_read(partition, std::slice::from_ref(record));
        files.sort_unstable();
        files.dedup();
        files.into_iter().for_each(|file| self.take_encoded(file));
        self.last_record = now.instant;
        Ok(self.due(now))
    }

    /// The refusal of a record whose rows need more files than one record may: by the record alone, whatever is open.
    fn too_many_files(&mut self, partition: usize, rows: &[Row<'_>], now: Now) -> Result<Option<Refused>> {
        let most = self.plan.roll.files_of_record;
        if rows.len() <= most || self.plan.path.is_constant() {
            return Ok(None);
        }
        self.open_span(partition, &rows[0].record, now);
        let Some(span) = self.span.as_ref() else { return Ok(None) };
        let names = &span.begins[partition].1;
        let mut keys = HashSet::new();
        for row in rows {
            match self.plan.path.group(row, names, &mut self.cache) {
                Ok(key) => drop(keys.insert(key.to_owned())),
                Err(error) if error.kind() == Kind::BadRecord => return Ok(Some(Refused::of(Step::Path, &error))),
                Err(error) => return Err(error),
            }
        }
        let detail = || format!("its rows need more open files than `roll.files: {most}` allows");
        Ok((keys.len() > most).then(|| Refused::new(Step::Path, "too_many_files", detail())))
    }

    /// Where a row goes; its file is opened if need be.
    fn place(&mut self, partition: usize, row: &Row<'_>, now: Now) -> Result<Place> {
        self.open_span(partition, &row.record, now);
        let Some(span) = self.span.as_mut() else { return Err(Error::new(Kind::Fatal, "no span is open")) };
        let plan = &self.plan;
        if plan.path.is_constant() && !span.files.is_empty() && self.partitions.len() == 1 {
            return Ok(Place::File(0));
        }
        let names = &span.begins[partition].1;
        let key = match plan.path.group(row, names, &mut self.cache) {
            Ok(key) => key,
            Err(error) if error.kind() == Kind::BadRecord => return Ok(Place::Refused(Box::new(Refused::of(Step::Path, &error)))),
            Err(error) => return Err(error),
        };
        if span.files.get(span.last_file).is_some_and(|file| file.key == key) {
            return Ok(Place::File(span.last_file));
        }
        if let Some(&file) = span.by_path.get(key) {
            span.last_file = file;
            return Ok(Place::File(file));
        }
        if span.files.len() >= plan.roll.files {
            return Ok(Place::OneFileTooMany);
        }
        let path = plan.path.name(key, row.record.offset, names);
        span.last_file = span.files.len();
        span.by_path.insert(key.to_owned(), span.last_file);
        span.files.push(OpenFile { key: key.to_owned(), path, encoder: plan.format.encoder()?, parts: Parts::default(), held: 0 });
        Ok(Place::File(span.last_file))
    }
}

/// Counts rows of a run, which are one of each record at most.
fn count(counts: &mut Counts, appended: &Appended) {
    counts.written += appended.written;
    counts.rows += appended.written;
    counts.filtered += appended.filtered;
}
