//! One file of a span, read from its beginning to its end while the windows of Kafka's records pass by.

use super::{holds::offset_of_envelope, stored::StoredFile};
use crate::{
    config::Compression,
    error::Result,
    format::read::{FileReader, Line, Lines, ReadOptions},
    ledger::File,
    span::{Bounds, Checksum, TopicPartition},
};
use xxhash_rust::xxh3::Xxh3Default;

/// What can still be said of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its lines are compared with records.
    Compared,
    /// Its lines cannot be told to records; its checksums can be compared.
    NotComparable,
    /// It cannot be read to its end.
    Broken,
}

/// A file with its place in the comparison.
pub(super) struct Cursor<'a> {
    pub(super) file: &'a File,
    stored: &'a StoredFile,
    compression: Compression,
    of: &'a TopicPartition,
    /// The first offset that Kafka has.
    earliest: i64,
    reader: Option<(FileReader<'a>, Option<Lines>)>,
    ahead: Option<Line>,
    /// The offset after the last line, while the file tells the offset of every line.
    resume: Option<i64>,
    /// Lines taken so far.
    pub(super) lines: u64,
    content: Xxh3Default,
    ended: bool,
    /// What can still be said of it.
    pub(super) state: State,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(file: &'a File, stored: &'a StoredFile, compression: Compression, of: &'a TopicPartition, earliest: i64) -> Self {
        Cursor {
            file,
            stored,
            compression,
            of,
            earliest,
            reader: None,
            ahead: None,
            resume: Some(i64::MIN),
            lines: 0,
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
        self.bounds().is_some_and(|bounds| (bounds.max - bounds.min).unsigned_abs() + 1 == self.file.records)
    }

    /// The first offset, where lines must be counted from it: Kafka lost the records that the first lines could be matched with.
    fn counted_from(&self) -> Option<i64> {
        self.bounds().filter(|bounds| self.is_dense() && bounds.min < self.earliest).map(|bounds| bounds.min)
    }

    /// The next line, which stays the next until it is taken.
    pub(super) async fn peek(&mut self) -> Result<Option<&Line>> {
        if self.ahead.is_none() && !self.ended {
            self.ahead = self.advance().await?;
            self.ended = self.ahead.is_none();
        }
        Ok(self.ahead.as_ref())
    }

    /// Takes the next line.
    pub(super) fn take(&mut self) -> Option<Line> {
        let line = self.ahead.take()?;
        self.content.update(&line.bytes);
        self.content.update(b"\n");
        self.lines += 1;
        if let (Some(resume), Some(offset)) = (&mut self.resume, line.offset) {
            *resume = offset + 1;
        }
        Some(line)
    }

    async fn advance(&mut self) -> Result<Option<Line>> {
        if self.reader.is_none() {
            self.reader = Some(self.open().await?);
        }
        loop {
            let Some((reader, lines)) = &mut self.reader else { return Ok(None) };
            if let Some(mut line) = lines.as_mut().and_then(Iterator::next) {
                if reader.index().is_none() || line.offset.is_none() {
                    self.resume = None;
                    line.offset = line.offset.or_else(|| offset_of_envelope(&line.bytes, self.of));
                }
                return Ok(Some(line));
            }
            *lines = reader.next().await?;
            if lines.is_none() {
                self.reader = None;
                return Ok(None);
            }
        }
    }

    /// Opens the file where the last reader was closed.
    async fn open(&self) -> Result<(FileReader<'a>, Option<Lines>)> {
        let options = |first| ReadOptions { offsets: first..i64::MAX, dense_from: self.counted_from(), ..ReadOptions::default() };
        if let Some(first) = self.resume {
            return Ok((FileReader::open(self.stored, self.compression, options(first)).await?, None));
        }
        // Lines are passed over again from the beginning: for files without offsets that had to be closed in between.
        let mut reader = FileReader::open(self.stored, self.compression, options(i64::MIN)).await?;
        let mut passed = 0;
        while passed < self.lines {
            let Some(mut lines) = reader.next().await? else { break };
            while passed < self.lines && lines.next().is_some() {
                passed += 1;
            }
            if passed == self.lines {
                return Ok((reader, Some(lines)));
            }
        }
        Ok((reader, None))
    }

    /// Gives back the memory of reading; reading goes on where it was.
    pub(super) fn close(&mut self) {
        self.reader = None;
        self.ahead = None;
    }

    /// Whether the file holds memory of reading.
    pub(super) fn is_open(&self) -> bool {
        self.reader.is_some()
    }

    /// The checksum of the lines taken.
    pub(super) fn content(&self) -> Checksum {
        Checksum::from_xxh3(self.content.digest128())
    }
}
