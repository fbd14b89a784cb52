//! Reading files of lines back: by offset through the block index, or whole.
//!
//! A file with a block index is read block by block, only the blocks that are asked for, and every line knows its offset; a
//! file without (not compressed, written with a side file, or made by somebody else) is inflated from its beginning. Either
//! way memory is bounded by the longest line or block, whatever the bytes claim, and what was read agrees with its checksums,
//! sizes and counts or is an error.
//!
//! ```
//! # use kas3_sink::{format::{FormatSettings, lines::Compression}, record::OwnedRecord, row::Row};
//! # let mut encoder = FormatSettings::default().settings.build("format")?.encoder()?;
//! # for offset in [5, 6, 9] {
//! #     let record = OwnedRecord { offset, value: Some(offset.to_string().into_bytes()), ..OwnedRecord::default() };
//! #     encoder.append(&[Row::of(record.borrow())])?;
//! # }
//! # let file = encoder.finish()?.tail;
//! use kas3_sink::format::{lines::read::read_all, read::ReadOptions};
//! let options = ReadOptions { offsets: 6..10, ..ReadOptions::default() };
//! let lines: Vec<_> = read_all(file, Compression::Gzip, options)?.collect::<Result<_, _>>()?;
//! assert_eq!((lines[0].offset, &lines[0].bytes[..]), (Some(6), &b"6"[..]));
//! assert_eq!((lines[1].offset, &lines[1].bytes[..]), (Some(9), &b"9"[..]));
//! # Ok::<(), kas3_sink::Error>(())
//! ```

mod inflate;

use super::{
    BLOCK_BYTES_MAX, Compression, compare,
    index::{
        BlockIndex, Offsets,
        place::{self, Found},
    },
};
use crate::{
    error::{Error, Kind, Result},
    format::read::{FileReader, RangeRead, ReadOptions, Reader, StoredRow, StoredRows, request},
    row::Row,
    span::TopicPartition,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use inflate::Inflater;
use memchr::{memchr, memchr_iter};
use std::ops::Range;

/// Bytes of one request at most, a larger block aside.
const REQUEST_BYTES: u64 = 4 << 20;

/// How a file is compressed, by its first bytes (`head`, four of them): its name may have any extension, settings change, and
/// some clients uncompress on the way. Only a file that is not compressed and whose first value begins like a compressed one
/// would be mistaken; who knows better need not ask.
pub fn compression_of(head: &[u8]) -> Compression {
    match head {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Lines that were uncompressed together.
#[derive(Clone, Debug)]
pub struct Lines {
    content: Bytes,
    at: usize,
    offsets: Offsets,
    wanted: Range<i64>,
}

impl Iterator for Lines {
    type Item = StoredRow;

    fn next(&mut self) -> Option<StoredRow> {
        while self.at < self.content.len() {
            let start = self.at;
            let end = memchr(b'\n', &self.content[start..]).map_or(self.content.len(), |found| start + found);
            self.at = end + 1;
            let offset = self.offsets.next().flatten();
            if offset.is_none_or(|offset| self.wanted.contains(&offset)) {
                return Some(StoredRow { offset, bytes: self.content.slice(start..end) });
            }
        }
        None
    }
}

/// Reads files of lines, compressed or not. It takes any file: what begins like nothing known is lines.
pub struct LinesReader;

#[async_trait]
impl Reader for LinesReader {
    fn recognises(&self, _: &[u8]) -> bool {
        true
    }

    async fn open<'a>(&self, file: &'a dyn RangeRead, head: &[u8], options: ReadOptions) -> Result<Box<dyn FileReader + 'a>> {
        Ok(Box::new(LinesFile::open(file, compression_of(head), options).await?))
    }

    fn holds(&self, stored: &[u8], row: &Row<'_>) -> bool {
        compare::holds(stored, row)
    }

    fn offset_within(&self, stored: &[u8], of: &TopicPartition) -> Option<i64> {
        compare::offset_of_envelope(stored, of)
    }
}

/// Reads one file from its beginning, or its wanted part.
pub struct LinesFile<'a> {
    file: &'a dyn RangeRead,
    compression: Compression,
    options: ReadOptions,
    state: State,
}

enum State {
    Indexed(Indexed),
    Streamed(Box<Streamed>),
}

struct Indexed {
    index: BlockIndex,
    /// Blocks still to be read.
    blocks: Range<usize>,
    /// Stored bytes that were requested together (at first the end of the file), and where they lie in it.
    window: Bytes,
    window_start: u64,
}

struct Streamed {
    inflater: Inflater,
    /// Stored bytes still to be requested.
    left: Range<u64>,
    lines_before: i64,
    ended: bool,
}

impl<'a> LinesFile<'a> {
    /// Looks for the index of `file`.
    ///
    /// # Errors
    /// `Fatal` for a damaged index or one of a newer version; whatever `file` fails with.
    pub async fn open(file: &'a dyn RangeRead, compression: Compression, options: ReadOptions) -> Result<Self> {
        let Found { index, tail, size } = place::read(file, compression).await?;
        let tail_start = size - tail.len() as u64;
        let state = match index {
            Some(index) => {
                let blocks = index.locate(options.offsets.clone());
                State::Indexed(Indexed { index, blocks, window: tail, window_start: tail_start })
            }
            None => {
                let mut inflater = Inflater::new(compression, options.row_bytes_max, options.content_bytes_max)?;
                let whole = tail_start == 0;
                if whole {
                    inflater.feed(tail);
                }
                State::Streamed(Box::new(Streamed { inflater, left: if whole { size } else { 0 }..size, lines_before: 0, ended: false }))
            }
        };
        Ok(LinesFile { file, compression, options, state })
    }

    /// The file's index, when it has one.
    pub fn index(&self) -> Option<&BlockIndex> {
        match &self.state {
            State::Indexed(indexed) => Some(&indexed.index),
            State::Streamed(_) => None,
        }
    }

    /// The next lines, `None` at the end.
    ///
    /// # Errors
    /// `Fatal` when the file is damaged, cut short or beyond a limit; whatever `file` fails with.
    pub async fn lines(&mut self) -> Result<Option<Lines>> {
        match &mut self.state {
            State::Indexed(indexed) => indexed.next(self.file, self.compression, &self.options).await,
            State::Streamed(streamed) => streamed.next(self.file, &self.options).await,
        }
    }
}

#[async_trait]
impl FileReader for LinesFile<'_> {
    fn is_indexed(&self) -> bool {
        self.index().is_some()
    }

    async fn next(&mut self) -> Result<Option<StoredRows>> {
        Ok(self.lines().await?.map(|lines| Box::new(lines) as StoredRows))
    }
}

impl Indexed {
    async fn next(&mut self, file: &dyn RangeRead, compression: Compression, options: &ReadOptions) -> Result<Option<Lines>> {
        let Some(number) = self.blocks.next() else { return Ok(None) };
        let block = self.index.blocks()[number].clone();
        // only a line of its own makes a block so large; nothing is requested, and no memory taken, on the word of an index alone
        if block.content_bytes > BLOCK_BYTES_MAX.max(options.row_bytes_max as u64) {
            return Err(inflate::line_too_long(options.row_bytes_max));
        }
        let end = block.position + block.bytes;
        if block.position < self.window_start || end > self.window_start + self.window.len() as u64 {
            let ahead = self.index.blocks()[number..self.blocks.end].iter().map(|block| block.position + block.bytes);
            let until = ahead.take_while(|until| until - block.position <= REQUEST_BYTES).last().unwrap_or(end);
            self.window = request(file, block.position..until).await?;
            self.window_start = block.position;
        }
        let start = (block.position - self.window_start) as usize;
        let stored = self.window.slice(start..start + block.bytes as usize);
        let content = Bytes::from(inflate::block(compression, &stored, block.content_bytes)?);
        let lines = memchr_iter(b'\n', &content).count() as u64;
        if lines != block.rows || content.last() != Some(&b'\n') {
            let message = format!("block at byte `{}` holds `{lines}` lines, and by the index `{}` rows", block.position, block.rows);
            return Err(Error::new(Kind::Fatal, message));
        }
        Ok(Some(Lines { content, at: 0, offsets: self.index.offsets(number), wanted: options.offsets.clone() }))
    }
}

impl Streamed {
    async fn next(&mut self, file: &dyn RangeRead, options: &ReadOptions) -> Result<Option<Lines>> {
        let content = loop {
            if let Some(content) = self.inflater.lines()? {
                break content;
            }
            if !self.left.is_empty() {
                let until = self.left.end.min(self.left.start + REQUEST_BYTES);
                self.inflater.feed(request(file, self.left.start..until).await?);
                self.left.start = until;
            } else if !self.ended {
                self.ended = true;
                self.inflater.end()?;
            } else {
                return Ok(None);
            }
        };
        let first = options.dense_from.and_then(|first| first.checked_add(self.lines_before));
        let lines = memchr_iter(b'\n', &content).count() + usize::from(content.last() != Some(&b'\n'));
        self.lines_before = self.lines_before.saturating_add_unsigned(lines as u64);
        Ok(Some(Lines { content, at: 0, offsets: Offsets::assumed(first), wanted: options.offsets.clone() }))
    }
}

/// The lines of a file in memory.
///
/// # Errors
/// `Fatal` for a damaged index or one of a newer version; what is wrong further on comes as an item, the last one.
pub fn read_all(file: Bytes, compression: Compression, options: ReadOptions) -> Result<AllLines> {
    let reader = LinesFile::open(&file, compression, options.clone()).now_or_never().expect("memory answers at once")?;
    let state = reader.state;
    Ok(AllLines { state: Some(state), file, compression, options, lines: None })
}

/// The lines of a file in memory, in their order.
pub struct AllLines {
    /// `None` after the end.
    state: Option<State>,
    file: Bytes,
    compression: Compression,
    options: ReadOptions,
    lines: Option<Lines>,
}

impl Iterator for AllLines {
    type Item = Result<StoredRow>;

    fn next(&mut self) -> Option<Result<StoredRow>> {
        loop {
            if let Some(line) = self.lines.as_mut().and_then(Lines::next) {
                return Some(Ok(line));
            }
            let mut reader = LinesFile { file: &self.file, compression: self.compression, options: self.options.clone(), state: self.state.take()? };
            match reader.lines().now_or_never().expect("memory answers at once") {
                Ok(lines) => {
                    self.lines = Some(lines?);
                    self.state = Some(reader.state);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
