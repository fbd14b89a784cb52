//! Which offsets the rows of a block have: runs of consecutive ones, because compaction and transactions leave gaps, and
//! runs of one offset, because a transform may make several records of one.

use super::{
    damaged,
    varint::{Cursor, push_unsigned},
};
use crate::{error::Result, span::Bounds};
use bytes::Bytes;
use std::ops::Range;

/// Each row has the offset after the one before.
const CONSECUTIVE: u64 = 0;
/// Each row has the offset of the one before.
const REPEATED: u64 = 1;
/// The rows have offsets in their order between a first and a last one; which of them have one is not kept.
const SPREAD: u64 = 2;
/// Bytes of runs that one open block keeps before they are given up for a spread one.
pub(super) const OPEN_RUNS_BYTES_MAX: usize = 4 << 20;

/// A run being extended.
#[derive(Clone, Copy, Default)]
struct Run {
    first: i64,
    last: i64,
    count: u64,
}

/// The runs of the open block, encoded as far as they ended.
#[derive(Default)]
pub(super) struct OpenRuns {
    /// Ended runs; empty once there were too many.
    encoded: Vec<u8>,
    ended: u64,
    run: Run,
    /// The offset before `run`.
    before_run: i64,
    /// The offset before the block.
    before_block: i64,
    first: i64,
    rows: u64,
    overflowed: bool,
}

impl OpenRuns {
    /// Adds the next row's offset, which is never smaller than the one before.
    pub(super) fn add(&mut self, offset: i64) {
        if self.rows == 0 {
            self.first = offset;
        }
        self.rows += 1;
        let run = &mut self.run;
        let (step, repeats) = (offset.wrapping_sub(run.last), run.last == run.first);
        let continues = match (run.count, step) {
            (0, _) => false,
            (1, 0 | 1) => true,
            (_, 0) => repeats,
            (_, 1) => !repeats,
            _ => false,
        };
        if continues {
            run.last = offset;
            run.count += 1;
            return;
        }
        self.end_run();
        self.run = Run { first: offset, last: offset, count: 1 };
    }

    fn end_run(&mut self) {
        let run = self.run;
        if run.count == 0 || self.overflowed {
            return;
        }
        if self.encoded.len() > OPEN_RUNS_BYTES_MAX {
            self.encoded = Vec::new();
            self.overflowed = true;
            return;
        }
        let kind = if run.count > 1 && run.first == run.last { REPEATED } else { CONSECUTIVE };
        push_unsigned(run.first.abs_diff(self.before_run), &mut self.encoded);
        push_unsigned(run.count << 2 | kind, &mut self.encoded);
        self.before_run = run.last;
        self.ended += 1;
    }

    pub(super) fn first(&self) -> i64 {
        self.first
    }

    pub(super) fn buffered(&self) -> usize {
        self.encoded.capacity()
    }

    /// Appends the runs of the block, in at most about `detail_bytes`.
    pub(super) fn encode(&mut self, detail_bytes: usize, out: &mut Vec<u8>) {
        self.end_run();
        if self.overflowed || self.encoded.len() > detail_bytes {
            push_unsigned(1, out);
            push_unsigned(self.first.abs_diff(self.before_block), out);
            push_unsigned(self.rows << 2 | SPREAD, out);
            push_unsigned(self.run.last.abs_diff(self.first), out);
            return;
        }
        push_unsigned(self.ended, out);
        out.extend_from_slice(&self.encoded);
    }

    /// Goes on with the next block.
    pub(super) fn next_block(&mut self) {
        let last = self.run.last;
        let mut encoded = std::mem::take(&mut self.encoded);
        encoded.clear();
        encoded.shrink_to(1 << 10);
        *self = OpenRuns { encoded, before_run: last, before_block: last, run: Run { first: last, last, count: 0 }, ..OpenRuns::default() };
    }
}

/// A stored run.
#[derive(Clone, Copy)]
struct StoredRun {
    kind: u64,
    first: i64,
    last: i64,
    count: u64,
}

fn read_run(cursor: &mut Cursor<'_>, before: i64) -> Result<StoredRun> {
    let beyond = || damaged("an offset beyond 64 bits");
    let first = before.checked_add_unsigned(cursor.unsigned()?).ok_or_else(beyond)?;
    let tagged = cursor.unsigned()?;
    let (count, kind) = (tagged >> 2, tagged & 3);
    let extent = match kind {
        _ if count == 0 => return Err(damaged("a run of no records")),
        CONSECUTIVE => count - 1,
        REPEATED => 0,
        SPREAD => cursor.unsigned()?,
        _ => return Err(damaged("an unknown kind of run")),
    };
    let last = first.checked_add_unsigned(extent).ok_or_else(beyond)?;
    Ok(StoredRun { kind, first, last, count })
}

/// Reads over the runs of a block of `rows`, whose offsets follow `before`: where they lie, and the smallest and largest offset.
pub(super) fn skip_runs(cursor: &mut Cursor<'_>, before: i64, rows: u64) -> Result<(Range<usize>, Bounds)> {
    let runs = cursor.unsigned()?;
    let start = cursor.at();
    let (mut offsets, mut last, mut counted) = (None, before, 0_u64);
    for _ in 0..runs {
        let run = read_run(cursor, last)?;
        Bounds::widen(&mut offsets, run.first);
        Bounds::widen(&mut offsets, run.last);
        last = run.last;
        counted = counted.saturating_add(run.count);
    }
    match offsets {
        Some(offsets) if counted == rows => Ok((start..cursor.at(), offsets)),
        _ => Err(damaged("runs of offsets that are not those of the rows")),
    }
}

/// The offsets of a block's rows in their order, as [`super::BlockIndex::offsets`] describes them.
#[derive(Clone, Debug)]
pub struct Offsets {
    runs: Bytes,
    at: usize,
    last: i64,
    kind: u64,
    next: i64,
    left: u64,
}

impl Offsets {
    pub(super) fn new(runs: Bytes, before: i64) -> Self {
        Offsets { runs, at: 0, last: before, kind: CONSECUTIVE, next: 0, left: 0 }
    }

    /// Counts up from `first` without end, or tells nothing: for files without an index.
    pub(crate) fn assumed(first: Option<i64>) -> Self {
        let (kind, next) = first.map_or((SPREAD, 0), |first| (CONSECUTIVE, first));
        Offsets { runs: Bytes::new(), at: 0, last: 0, kind, next, left: u64::MAX }
    }
}

impl Iterator for Offsets {
    type Item = Option<i64>;

    fn next(&mut self) -> Option<Option<i64>> {
        if self.left == 0 {
            let mut cursor = Cursor::new(self.runs.get(self.at..)?);
            // The runs were read over once when the index was; only their end is left to find.
            let run = read_run(&mut cursor, self.last).ok()?;
            self.at += cursor.at();
            (self.kind, self.next, self.last, self.left) = (run.kind, run.first, run.last, run.count);
        }
        self.left -= 1;
        let offset = self.next;
        match self.kind {
            SPREAD => Some(None),
            REPEATED => Some(Some(offset)),
            _ => {
                self.next = offset.saturating_add(1);
                Some(Some(offset))
            }
        }
    }
}
