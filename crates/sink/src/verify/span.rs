//! One closed span: the records that Kafka has for it against the lines of its files.
//!
//! Records come in windows, files are read beside them, so that memory is bounded by a window and a few blocks whatever the
//! span's size. Where a line knows its offset (by the block index, the ledger or its envelope) it is compared with that very
//! record. Where it does not (files without index, with gaps between their offsets) lines and records are matched in their
//! order, and the path template says which file a record is for.

use super::{
    Comparison,
    cursor::{Cursor, State},
    records::{Expected, Records},
    report::{Finding, FindingKind, Reason, Totals},
    runs::Copies,
    stored::StoredFile,
};
use crate::{
    error::Result,
    format::read::{HEAD_BYTES, RangeRead},
    ledger::{Entry, File, Role},
    path::{NameContext, PathCache},
    row::OwnedRow,
    span::{Span, TopicPartition},
};
use bytes::Bytes;
use std::{collections::HashMap, ops::Range};

/// Files that are kept open from window to window.
const OPEN_MAX: usize = 16;
/// Records that are looked at ahead to find the one that a line holds.
const AHEAD_MAX: usize = 1000;

/// One span being compared.
pub(super) struct SpanComparison<'a> {
    pub(super) comparison: &'a Comparison,
    pub(super) of: &'a TopicPartition,
    pub(super) entry: &'a Entry,
    /// The first offset that Kafka has; `None` when it has nothing of the span.
    pub(super) earliest: Option<i64>,
    /// Why it has nothing, where it has not.
    pub(super) reason: Reason,
    /// From here on Kafka may have other records by now: what differs there cannot be compared.
    pub(super) certain_until: i64,
    /// Which records lie in files of an earlier incarnation.
    copies: &'a mut Copies,
    /// Whether the span waits to be published.
    pub(super) pending: bool,
    pub(super) totals: Totals,
    pub(super) findings: Vec<Finding>,
    /// Records that are in no file, beyond what the ledger says: the absent by nature, and the others.
    absent: Vec<i64>,
    missing: Vec<i64>,
    /// Records in files that are not there, or cannot be read, which is said elsewhere.
    excused: u64,
    /// The file that each group of the path template belongs to.
    groups: HashMap<String, usize>,
    /// Lines for offsets of the span that Kafka did not give: the offset, the line's number, and the file's URL.
    strays: Vec<(i64, u64, String)>,
    /// Lines without offset that hold no record which Kafka gave: how many, and the file's URL.
    lines_left: Vec<(u64, String)>,
}

impl<'a> SpanComparison<'a> {
    pub(super) fn new(comparison: &'a Comparison, of: &'a TopicPartition, entry: &'a Entry, copies: &'a mut Copies) -> Self {
        SpanComparison {
            comparison,
            of,
            entry,
            earliest: None,
            reason: Reason::Deleted,
            certain_until: i64::MAX,
            copies,
            strays: Vec::new(),
            lines_left: Vec::new(),
            pending: false,
            totals: Totals { spans: 1, ..Totals::default() },
            findings: Vec::new(),
            absent: Vec::new(),
            missing: Vec::new(),
            excused: 0,
            groups: HashMap::new(),
        }
    }

    fn span(&self) -> Span {
        self.entry.span()
    }

    fn find(&mut self, kind: FindingKind, detail: impl Into<String>) -> &mut Finding {
        match kind {
            FindingKind::Gap => {}
            FindingKind::Double => self.totals.doubles += 1,
            FindingKind::Difference | FindingKind::Ledger => self.totals.differences += 1,
            FindingKind::Foreign => self.totals.foreign += 1,
        }
        self.findings.push(Finding::new(kind, self.of, detail).span(self.entry.span()));
        self.findings.last_mut().expect("one was just pushed")
    }

    /// Compares the span; takes its records off `records`.
    ///
    /// # Errors
    /// When Kafka or the store cannot be read.
    pub(super) async fn compare(&mut self, files: &[File], records: &mut Records) -> Result<()> {
        let mut there = Vec::new();
        self.not_understood(files);
        for file in files.iter().filter(|file| file.role == Role::Data) {
            if let Some(found) = self.open(file).await? {
                there.push((file, found.0, found.1));
            }
        }
        let earliest = self.earliest.unwrap_or(i64::MAX);
        let of = self.of;
        let mut cursors: Vec<Cursor<'_>> = there.iter().map(|(file, stored, head)| Cursor::new(file, (stored, head), of, earliest)).collect();
        let begins = begins(&there);
        let span = self.span();
        while self.earliest.is_some() {
            let (read, more) = records.window(span.first, span.next).await?;
            let next = if more { read.last().map_or(span.first, |record| record.offset + 1) } else { span.next };
            let window = Window::new(&read, next, !more);
            self.window(&window, &mut cursors, &begins).await?;
            if !more {
                break;
            }
        }
        for (cursor, (_, stored, _)) in cursors.iter_mut().zip(&there) {
            self.rest(cursor).await?;
            self.whole(cursor, stored).await?;
        }
        self.settle_strays().await?;
        self.settle_absent();
        Ok(())
    }

    /// A span, or its files, in words of a newer kas3: nothing is guessed, and nothing of it is called equal.
    pub(super) fn not_understood(&mut self, files: &[File]) {
        if self.entry.kind.known().is_none() {
            let kind = self.entry.kind.as_str().escape_default();
            self.find(FindingKind::Ledger, format!("the span is of kind `{kind}`, which a newer kas3 wrote: compare it with that one"));
        }
        for file in files.iter().filter(|file| file.role.known().is_none()) {
            self.excused += file.records;
            let role = file.role.as_str().escape_default();
            let detail = format!("the file has the role `{role}`, which a newer kas3 wrote: compare it with that one");
            self.find(FindingKind::Ledger, detail).file = Some(file.url.clone());
        }
    }

    /// A file with its first bytes; `None`, with what was found, when it is not there.
    async fn open(&mut self, file: &File) -> Result<Option<(StoredFile, Bytes)>> {
        if file.lost {
            self.totals.accepted += file.records;
            self.excused += file.records;
            return Ok(None);
        }
        let found = match self.comparison.stores.find(&file.url).await? {
            Some((store, path)) => store.info(&path).await?.map(|info| (store, path, info)),
            None => None,
        };
        let Some((store, path, info)) = found else {
            self.excused += file.records;
            if self.pending {
                self.totals.unpublished += file.records;
            } else {
                self.totals.gaps += file.records;
                let detail = format!("the file is not there; it held {} records", file.records);
                let bounds = file.bounds();
                let finding = self.find(FindingKind::Gap, detail);
                finding.file = Some(file.url.clone());
                finding.offsets = bounds.map(|bounds| Span { first: bounds.min, next: bounds.max + 1 });
            }
            return Ok(None);
        };
        self.totals.files += 1;
        self.totals.bytes += info.bytes;
        let stored = StoredFile::new(store, path, info.bytes);
        let head = stored.range(0..info.bytes.min(HEAD_BYTES)).await?;
        Ok(Some((stored, head)))
    }

    async fn window(&mut self, window: &Window<'_>, cursors: &mut [Cursor<'_>], begins: &Begins) -> Result<()> {
        self.totals.records_in_kafka += window.records.partition_point(|record| record.offset < self.certain_until) as u64;
        let mut seen = vec![Seen::default(); window.rows.len()];
        let mut unknown = Vec::new();
        for (index, cursor) in cursors.iter_mut().enumerate() {
            let later = cursor.bounds().is_none_or(|bounds| bounds.min >= window.next);
            if cursor.state != State::Compared || (later && !window.last) {
                continue;
            }
            match self.known(window, cursor, &mut seen).await {
                Ok(Offsets::Known) => {}
                Ok(Offsets::Unknown) => unknown.push(index),
                Err(error) => self.broken(cursor, error)?,
            }
        }
        if !unknown.is_empty() {
            self.unknown(window, cursors, &unknown, begins, &mut seen).await?;
        }
        cursors.iter_mut().filter(|cursor| cursor.is_open()).skip(OPEN_MAX).for_each(Cursor::close);
        for (record, rows) in window.records.iter().zip(&window.of_record) {
            self.settle_record(record, &seen[rows.clone()]);
        }
        Ok(())
    }

    /// What was found of one record: each of its rows once, or none of them where the ledger allows it.
    fn settle_record(&mut self, record: &Expected, seen: &[Seen]) {
        let equal = !seen.is_empty() && seen.iter().all(|seen| seen.times == 1 && !seen.unequal);
        self.totals.doubled_by_decision += u64::from(self.copies.see(record.offset, equal));
        if record.offset >= self.certain_until {
            // whatever is not equal was counted with its row
            self.totals.equal += u64::from(equal);
            self.totals.records_in_kafka += u64::from(equal);
            return;
        }
        if seen.iter().all(|seen| seen.times == 0) {
            let list = if record.is_absent() { &mut self.absent } else { &mut self.missing };
            return list.push(record.offset);
        }
        let offsets = Some(Span { first: record.offset, next: record.offset + 1 });
        if let Some(times) = seen.iter().map(|seen| seen.times).find(|times| *times > 1) {
            self.find(FindingKind::Double, format!("the record is in files {times} times")).offsets = offsets;
        } else if let Some(nth) = seen.iter().position(|seen| seen.times == 0) {
            self.totals.gaps += 1;
            let detail = format!("row {} of {} of the record is in no file", nth + 1, seen.len());
            self.find(FindingKind::Gap, detail).offsets = offsets;
        } else {
            self.totals.equal += u64::from(seen.iter().all(|seen| !seen.unequal));
        }
    }

    /// Compares rows that know their offset, up to the end of the window.
    async fn known(&mut self, window: &Window<'_>, cursor: &mut Cursor<'_>, seen: &mut [Seen]) -> Result<Offsets> {
        while let Some(stored) = cursor.peek().await? {
            let Some(offset) = stored.offset else { return Ok(Offsets::Unknown) };
            if offset >= window.next && !window.last {
                break;
            }
            let Some(stored) = cursor.take() else { break };
            match window.rows_at(offset) {
                Some(rows) => {
                    // of several rows of one record the first that it holds and that was not found yet
                    let open: Vec<usize> = rows.clone().filter(|row| seen[*row].times == 0).collect();
                    let held = open.iter().copied().find(|row| rows.len() == 1 || cursor.holds(&stored.bytes, &window.rows[*row].borrow()));
                    let row = held.or(open.first().copied()).unwrap_or(rows.start);
                    self.check_row(&stored.bytes, window, row, cursor, &mut seen[row]);
                }
                None => self.stray(offset, cursor),
            }
        }
        Ok(Offsets::Known)
    }

    fn check_row(&mut self, stored: &[u8], window: &Window<'_>, row: usize, cursor: &Cursor<'_>, seen: &mut Seen) {
        let expected = window.rows[row];
        let offset = expected.record.offset;
        seen.times = seen.times.saturating_add(1);
        if let Some(why) = window.refused_at(offset) {
            seen.unequal = true;
            self.totals.not_comparable(Reason::PayloadGone, 1);
            let what = format!("`{}`, offset {offset}: what its row should hold cannot be fetched any more", self.of);
            self.comparison.note(format!("{what}: {why}"));
            return;
        }
        let expected = expected.borrow();
        if cursor.holds(stored, &expected) {
            return;
        }
        seen.unequal = true;
        if offset >= self.certain_until {
            return self.totals.not_comparable(Reason::CutBack, 1);
        }
        let detail = format!("line {} holds `{}`, Kafka has `{}`", cursor.rows, excerpt(Some(stored)), excerpt(expected.bytes()));
        let finding = self.find(FindingKind::Difference, detail);
        finding.file = Some(cursor.file.url.clone());
        finding.offsets = Some(Span { first: offset, next: offset + 1 });
    }

    /// A line whose offset Kafka did not give.
    fn stray(&mut self, offset: i64, cursor: &Cursor<'_>) {
        let span = self.span();
        if offset < span.first || offset >= span.next {
            let detail = format!("line {} is for offset {offset}, which is not of this span", cursor.rows);
            let finding = self.find(FindingKind::Difference, detail);
            finding.file = Some(cursor.file.url.clone());
            finding.offsets = Some(Span { first: offset, next: offset + 1 });
        } else if self.earliest.is_none_or(|earliest| offset < earliest) {
            self.totals.not_comparable(self.reason, 1);
        } else if offset >= self.certain_until {
            self.totals.not_comparable(Reason::CutBack, 1);
        } else {
            self.strays.push((offset, cursor.rows, cursor.file.url.clone()));
        }
    }

    /// Decides about lines that hold no record which Kafka gave: compaction may have taken it away, nothing else may.
    async fn settle_strays(&mut self) -> Result<()> {
        if self.strays.is_empty() && self.lines_left.is_empty() {
            return Ok(());
        }
        let (strays, mut left) = (std::mem::take(&mut self.strays), std::mem::take(&mut self.lines_left));
        if self.span().next > self.certain_until {
            self.totals.not_comparable(Reason::CutBack, left.drain(..).map(|(lines, _)| lines).sum());
        }
        if self.comparison.log.compacted(&self.of.topic).await? {
            self.totals.not_comparable(Reason::Deleted, strays.len() as u64 + left.iter().map(|(lines, _)| lines).sum::<u64>());
            return Ok(());
        }
        for (offset, line, url) in strays {
            let finding = self.find(FindingKind::Difference, format!("line {line} is for offset {offset}, which Kafka does not have"));
            finding.file = Some(url);
            finding.offsets = Some(Span { first: offset, next: offset + 1 });
        }
        for (lines, url) in left {
            let detail = format!("{} too many in the file: no record of this span is left for it", plural(lines, "line"));
            self.find(FindingKind::Difference, detail).file = Some(url);
        }
        Ok(())
    }

    /// Matches lines without offsets with records in their order.
    async fn unknown(
        &mut self,
        window: &Window<'_>,
        cursors: &mut [Cursor<'_>],
        unknown: &[usize],
        begins: &Begins,
        seen: &mut [Seen],
    ) -> Result<()> {
        let Some(places) = self.places(window, cursors, unknown, begins) else {
            for index in unknown {
                cursors[*index].state = State::NotComparable;
                self.totals.not_comparable(Reason::Unmatched, cursors[*index].file.records);
                self.excused += cursors[*index].file.records;
            }
            let Span { first, next } = self.span();
            let why = "the path template does not make their names (any more), or Kafka lost their first records";
            self.comparison.note(format!("`{}`, span {first} to {next}: files without index could only be checked by checksum: {why}", self.of));
            return Ok(());
        };
        for index in unknown {
            let expected: Vec<usize> = (0..window.rows.len()).filter(|at| seen[*at].times == 0 && places[*at] == Some(*index)).collect();
            if let Err(error) = self.matched(window, &mut cursors[*index], &expected, seen).await {
                self.broken(&mut cursors[*index], error)?;
            }
        }
        Ok(())
    }

    /// The file that each row of the window is for; `None` when that cannot be told.
    fn places(&mut self, window: &Window<'_>, cursors: &[Cursor<'_>], unknown: &[usize], begins: &Begins) -> Option<Vec<Option<usize>>> {
        let inside = |index: usize, offset: i64| cursors[index].bounds().is_some_and(|bounds| bounds.min <= offset && offset <= bounds.max);
        let sparse: Vec<usize> = unknown.iter().copied().filter(|index| !cursors[*index].is_dense()).collect();
        if sparse.is_empty() || cursors.len() == 1 {
            let place = |row: &&OwnedRow| unknown.iter().copied().find(|index| inside(*index, row.record.offset));
            return Some(window.rows.iter().map(place).collect());
        }
        if self.earliest.is_none_or(|earliest| earliest > self.span().first) {
            return None;
        }
        let plan = self.comparison.pipeline.plan(&self.of.topic);
        let extension = format!(".{}", plan.format.extension());
        let context = NameContext { now: self.entry.now, incarnation: self.entry.incarnation, extension };
        let mut cache = PathCache::default();
        let mut places = Vec::with_capacity(window.rows.len());
        for row in &window.rows {
            let offset = row.record.offset;
            let group = plan.path.group(&row.borrow(), &context, &mut cache).ok();
            let place = group.and_then(|group| {
                if let Some((index, path)) = begins.get(&offset)
                    && plan.path.name(group, offset, &context) == *path
                {
                    self.groups.insert(group.to_owned(), *index);
                }
                self.groups.get(group).copied()
            });
            places.push(place.filter(|index| inside(*index, offset)));
        }
        let later = |index: usize| cursors[index].bounds().is_none_or(|bounds| bounds.min >= window.next);
        let tied = |index: &usize| later(*index) || self.groups.values().any(|tied| tied == index);
        sparse.iter().all(tied).then_some(places)
    }

    /// Takes rows off a file for those expected in it, in order. One that holds none of the rows to come is one too many when the
    /// one after it holds the next row, and that row altered when not.
    async fn matched(&mut self, window: &Window<'_>, cursor: &mut Cursor<'_>, expected: &[usize], seen: &mut [Seen]) -> Result<()> {
        let held = |cursor: &Cursor<'_>, stored: &[u8], row: usize| cursor.holds(stored, &window.rows[row].borrow());
        let mut at = 0;
        while at < expected.len() {
            let Some(bytes) = cursor.peek().await?.map(|stored| stored.bytes.clone()) else { break };
            let ahead = expected[at..].iter().take(AHEAD_MAX).position(|row| held(cursor, &bytes, *row));
            if ahead.is_none() && window.rows[expected[at]].borrow().bytes().is_none_or(<[u8]>::is_empty) {
                at += 1;
                continue;
            }
            let Some(stored) = cursor.take() else { break };
            let after = if ahead.is_none() { cursor.peek().await?.map(|stored| stored.bytes.clone()) } else { None };
            if after.is_some_and(|after| held(cursor, &after, expected[at])) {
                self.lines_left.push((1, cursor.file.url.clone()));
                continue;
            }
            let row = expected[at + ahead.unwrap_or(0)];
            self.check_row(&stored.bytes, window, row, cursor, &mut seen[row]);
            at += ahead.unwrap_or(0) + 1;
        }
        Ok(())
    }

    /// Lines that are left once all windows are through.
    async fn rest(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let mut left = 0_u64;
        while cursor.state != State::Broken {
            match cursor.peek().await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => self.broken(cursor, error)?,
            }
            let Some(stored) = cursor.take() else { continue };
            match stored.offset {
                _ if cursor.state != State::Compared => {}
                Some(offset) => self.stray(offset, cursor),
                None => left += 1,
            }
        }
        cursor.close();
        self.totals.records_in_files += cursor.rows;
        if left > 0 && self.earliest.is_none_or(|earliest| earliest > self.span().first) {
            self.totals.not_comparable(self.reason, left);
        } else if left > 0 {
            self.lines_left.push((left, cursor.file.url.clone()));
        }
        Ok(())
    }

    /// The file as a whole against what the ledger keeps of it.
    async fn whole(&mut self, cursor: &Cursor<'_>, stored: &StoredFile) -> Result<()> {
        let file = cursor.file;
        let (size, bytes) = (stored.size().await?, stored.checksum().await?);
        let detail = if size != file.bytes {
            format!("the file has {size} bytes, the ledger says {}", file.bytes)
        } else if bytes != file.stored {
            format!("the file's bytes are not those that were written: checksum `{}`, the ledger says `{}`", bytes.0, file.stored.0)
        } else if cursor.state != State::Broken && cursor.rows != file.rows() {
            format!("the file holds {} lines, the ledger says {}", cursor.rows, file.rows())
        } else if cursor.state != State::Broken && cursor.content() != file.checksum {
            format!("the file's content has the checksum `{}`, the ledger says `{}`", cursor.content().0, file.checksum.0)
        } else {
            return Ok(());
        };
        self.find(FindingKind::Difference, detail).file = Some(file.url.clone());
        Ok(())
    }

    /// A file that cannot be read on: damaged is a finding, a store that does not answer an error.
    fn broken(&mut self, cursor: &mut Cursor<'_>, error: crate::Error) -> Result<()> {
        if is_of_store(&error) {
            return Err(error);
        }
        cursor.state = State::Broken;
        let unread = cursor.file.records.saturating_sub(cursor.rows);
        self.excused += unread;
        self.totals.gaps += unread;
        let detail = format!("the file cannot be read beyond line {}: {}", cursor.rows, error.chain());
        self.find(FindingKind::Difference, detail).file = Some(cursor.file.url.clone());
        Ok(())
    }

    /// Records that are in no file: as many as the ledger says were left out may be, and those of files that are not there.
    fn settle_absent(&mut self) {
        let counts = &self.entry.counts;
        let mut allowed = counts.filtered + counts.refused;
        let absent = std::mem::take(&mut self.absent);
        let mut missing = std::mem::take(&mut self.missing);
        let taken = allowed.min(absent.len() as u64);
        allowed -= taken;
        self.totals.left_out += taken;
        missing.extend(&absent[taken as usize..]);
        missing.sort_unstable();
        let left_out = allowed.min(missing.len() as u64);
        self.totals.left_out += left_out;
        let excess = missing.len() as u64 - left_out;
        let unexplained = excess.saturating_sub(self.excused);
        if unexplained == 0 {
            return;
        }
        self.totals.gaps += unexplained;
        let what = if left_out == 0 { String::new() } else { format!("; the ledger says that {left_out} of {} were left out", missing.len()) };
        for stretch in stretches(&missing) {
            let count = stretch.next - stretch.first;
            let detail = if count == 1 { format!("the record is in no file{what}") } else { format!("{count} records are in no file{what}") };
            self.find(FindingKind::Gap, detail).offsets = Some(stretch);
        }
    }
}

/// Whether the store itself failed, so that nothing can be said of the file.
fn is_of_store(error: &crate::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(store) = error.downcast_ref::<kas3_store::Error>() {
            return store.kind() != kas3_store::Kind::Missing;
        }
        cause = error.source();
    }
    false
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Which file begins at which offset, and its path: by them a record's group is tied to a file.
type Begins = HashMap<i64, (usize, String)>;

fn begins(there: &[(&File, StoredFile, Bytes)]) -> Begins {
    let first = |file: &File| file.bounds().map(|bounds| bounds.min);
    there.iter().enumerate().filter_map(|(index, (file, stored, _))| Some((first(file)?, (index, stored.path().to_owned())))).collect()
}

/// How often a row was found, and whether it ever differed.
#[derive(Clone, Copy, Default)]
struct Seen {
    times: u8,
    unequal: bool,
}

/// Whether a file's rows know their offsets.
enum Offsets {
    Known,
    Unknown,
}

/// Records of a span that follow each other, with their rows.
struct Window<'a> {
    records: &'a [Expected],
    /// All of their rows.
    rows: Vec<&'a OwnedRow>,
    /// The rows of each record.
    of_record: Vec<Range<usize>>,
    /// The offset after the window.
    next: i64,
    /// Nothing of the span follows.
    last: bool,
}

impl<'a> Window<'a> {
    fn new(records: &'a [Expected], next: i64, last: bool) -> Self {
        let (mut rows, mut of_record) = (Vec::new(), Vec::with_capacity(records.len()));
        for record in records {
            let begin = rows.len();
            rows.extend(&record.rows);
            of_record.push(begin..rows.len());
        }
        Window { records, rows, of_record, next, last }
    }

    fn record_at(&self, offset: i64) -> Option<usize> {
        self.records.binary_search_by_key(&offset, |record| record.offset).ok()
    }

    /// The rows of the record at an offset; `None`: there is none, or no row of it.
    fn rows_at(&self, offset: i64) -> Option<Range<usize>> {
        self.record_at(offset).map(|at| self.of_record[at].clone()).filter(|rows| !rows.is_empty())
    }

    fn refused_at(&self, offset: i64) -> Option<&str> {
        self.records[self.record_at(offset)?].refused.as_deref()
    }
}

/// Offsets in order as ranges of consecutive ones.
pub(super) fn stretches(offsets: &[i64]) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    for offset in offsets {
        match found.last_mut() {
            Some(last) if last.next == *offset => last.next += 1,
            _ => found.push(Span { first: *offset, next: offset + 1 }),
        }
    }
    found
}

/// The beginning of a value, for people.
fn excerpt(bytes: Option<&[u8]>) -> String {
    /// Bytes of a value that are shown.
    const SHOWN: usize = 200;
    match bytes {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() <= SHOWN => bytes.escape_ascii().to_string(),
        Some(bytes) => format!("{}…", bytes[..SHOWN].escape_ascii()),
    }
}
