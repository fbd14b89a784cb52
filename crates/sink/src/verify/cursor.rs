//! One file of a span, read from its beginning to its end while the windows of Kafka's records pass by.

use super::stored::StoredFile;
use crate::{
    error::Result,
    format::read::{FileReader, ReadOptions, Reader, StoredRow, StoredRows, reader_of},
    ledger::File,
    row::Row,
    span::{Bounds, Checksum, TopicPartition},
};
use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

/// What can still be said of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its rows are compared with records.
    Compared,
    /// Its rows cannot be told to records; its checksums can be compared.
    NotComparable,
    /// It cannot be read to its end.
    Broken,
}

/// A file with its place in the comparison.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a File,
    stored: &'a StoredFile,
    format: &'static dyn Reader,
    /// The file's first bytes.
    head: &'a Bytes,
    of: &'a TopicPartition,
    /// The first offset that Kafka has.
    earliest: i64,
    reader: Option<(Box<dyn FileReader + 'a>, Option<StoredRows>)>,
    next: Option<StoredRow>,
    /// The offset of the last row taken, and how many rows of it were, while the file tells the offset of every row.
    resume: Option<(i64, u64)>,
    /// Rows taken so far.
    pub(super) rows: u64,
    content: Xxh3Default,
    ended: bool,
    /// What can still be said of it.
    pub(super) state: State,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a File, (stored, head): (&'a StoredFile, &'a Bytes), of: &'a TopicPartition, earliest: i64) -> Self {
        Cursor {
            file,
            stored,
            format: reader_of(head),
            head,
            of,
            earliest,
            reader: None,
            next: None,
            resume: Some((i64::MIN, 0)),
            rows: 0,
            content: Xxh3Default::new(),
            ended: false,
            state: State::Compared,
        }
    }

    /// Smallest and largest offset, as the ledger says.
    pub(super) fn bounds(&self) -> Option<Bounds> {
        self.file.bounds()
    }

    /// Whether every offset between the file's smallest and largest is in it, so that the ledger alone tells its records.
    pub(super) fn is_dense(&self) -> bool {
        self.bounds().is_some_and(|bounds| (bounds.max - bounds.min).unsigned_abs() + 1 == self.file.records && self.file.rows() == self.file.records)
    }

    /// The first offset, where lines must be counted from it: Kafka lost the records that the first lines could be matched with.
    fn counted_from(&self) -> Option<i64> {
        self.bounds().filter(|bounds| self.is_dense() && bounds.min < self.earliest).map(|bounds| bounds.min)
    }

    /// Whether stored bytes are what the file's format makes of a row.
    pub(super) fn holds(&self, stored: &[u8], row: &Row<'_>) -> bool {
        self.format.holds(stored, row)
    }

    /// The next row, which stays the next until it is taken.
    pub(super) async fn peek(&mut self) -> Result<Option<&StoredRow>> {
        if self.next.is_none() && !self.ended {
            self.next = self.advance().await?;
            self.ended = self.next.is_none();
        }
        Ok(self.next.as_ref())
    }

    /// Takes the next row.
    pub(super) fn take(&mut self) -> Option<StoredRow> {
        let row = self.next.take()?;
        self.content.update(&row.bytes);
        self.content.update(b"\n");
        self.rows += 1;
        if let (Some((last, times)), Some(offset)) = (&mut self.resume, row.offset) {
            *times = if *last == offset { *times + 1 } else { 1 };
            *last = offset;
        }
        Some(row)
    }

    async fn advance(&mut self) -> Result<Option<StoredRow>> {
        if self.reader.is_none() {
            self.reader = Some(self.open().await?);
        }
        loop {
            let Some((reader, rows)) = &mut self.reader else { return Ok(None) };
            if let Some(mut row) = rows.as_mut().and_then(Iterator::next) {
                if !reader.is_indexed() || row.offset.is_none() {
                    self.resume = None;
                    row.offset = row.offset.or_else(|| self.format.offset_within(&row.bytes, self.of));
                }
                return Ok(Some(row));
            }
            *rows = reader.next().await?;
            if rows.is_none() {
                self.reader = None;
                return Ok(None);
            }
        }
    }

    /// Opens the file where the last reader was closed.
    async fn open(&self) -> Result<(Box<dyn FileReader + 'a>, Option<StoredRows>)> {
        // Rows are passed over again: those of the last offset, or all of a file without offsets that had to be closed in between.
        let (first, passed_over) = self.resume.unwrap_or((i64::MIN, self.rows));
        let options = ReadOptions { offsets: first..i64::MAX, dense_from: self.counted_from(), ..ReadOptions::default() };
        let mut reader = self.format.open(self.stored, self.head, options).await?;
        let mut passed = 0;
        while passed < passed_over {
            let Some(mut rows) = reader.next().await? else { break };
            while passed < passed_over && rows.next().is_some() {
                passed += 1;
            }
            if passed == passed_over {
                return Ok((reader, Some(rows)));
            }
        }
        Ok((reader, None))
    }

    /// Gives back the memory of reading; reading goes on where it was.
    pub(super) fn close(&mut self) {
        self.reader = None;
        self.next = None;
    }

    /// Whether the file holds memory of reading.
    pub(super) fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// The checksum of the rows taken.
    pub(super) fn content(&self) -> Checksum {
        Checksum::from_xxh3(self.content.digest128())
    }
}
