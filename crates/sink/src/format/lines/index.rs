//! The block index: where each block of a file lies and which offsets it holds, at the end of the file itself.
//!
//! Readers that know nothing of it read the file as ever: in gzip it lies in the extra fields of empty members, in zstd in
//! skippable frames (the last one the seekable format's own table). The stored form is described, with a reader of twenty
//! lines, in `docs/block-index.md`; it carries a version, and version 1 is read for ever.
//!
//! Guarantee: what is read is either whole and consistent (checksum, sizes that add up, offsets in order) or an error; no
//! bytes make reading panic or take memory beyond a small multiple of their own number.
//!
//! ```
//! # use kas3_sink::{format::{FormatSettings, lines::{Compression, index::BlockIndex}}, record::OwnedRecord, row::Row};
//! # let mut encoder = FormatSettings::default().settings.build("format")?.encoder()?;
//! # let record = OwnedRecord { offset: 7, value: Some(b"{}".to_vec()), ..OwnedRecord::default() };
//! # encoder.append(&[Row::of(record.borrow())])?;
//! # let file = encoder.finish()?.tail;
//! let index = BlockIndex::of_bytes(&file, Compression::Gzip)?.expect("files that kas3 compresses have one");
//! assert_eq!(index.offsets(0).collect::<Vec<_>>(), [Some(7)]);
//! # Ok::<(), kas3_sink::Error>(())
//! ```

pub(super) mod place;
mod runs;
mod varint;

pub use runs::Offsets;

use super::{Compression, ROW_BYTES_MAX};
use crate::{
    error::{Error, Kind, Result},
    format::read::RangeRead,
    span::Bounds,
};
use bytes::Bytes;
use futures::FutureExt;
use runs::{OpenRuns, skip_runs};
use std::ops::Range;
use varint::{Cursor, push_signed, push_unsigned};

/// The version of the stored form that is written, and the newest that is read.
pub const VERSION: u8 = 1;
/// Index bytes of one file at most, read or written. A file that would need more ends without an index.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Index bytes from which on blocks only say how many offsets they hold between which two, not which: reached by files of many
/// millions of records with gaps between nearly all of them.
const DETAIL_BYTES_MAX: usize = 16 << 20;

/// What is known of the block that rows still go into.
#[derive(Default)]
pub(super) struct OpenBlock {
    runs: OpenRuns,
    rows: u64,
    timestamps: Option<Bounds>,
}

impl OpenBlock {
    pub(super) fn add(&mut self, offset: i64, timestamp_ms: Option<i64>) {
        self.rows += 1;
        self.runs.add(offset);
        if let Some(timestamp_ms) = timestamp_ms {
            Bounds::widen(&mut self.timestamps, timestamp_ms);
        }
    }

    /// The block is closed; the next one begins.
    pub(super) fn clear(&mut self) {
        self.runs.next_block();
        self.rows = 0;
        self.timestamps = None;
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn first(&self) -> i64 {
        self.runs.first()
    }

    pub(super) fn timestamps(&self) -> Option<Bounds> {
        self.timestamps
    }

    pub(super) fn buffered(&self) -> usize {
        self.runs.buffered()
    }
}

/// The index of a file being written, encoded block by block.
#[derive(Default)]
pub(super) struct IndexWriter {
    payload: Vec<u8>,
    blocks: u32,
    /// The same for zstd's seekable format.
    seek_entries: Vec<u8>,
    timestamp_before: i64,
}

impl IndexWriter {
    /// Adds a block of `bytes` stored and `content_bytes` uncompressed bytes.
    pub(super) fn add(&mut self, bytes: u64, content_bytes: u64, block: &mut OpenBlock) {
        let payload = &mut self.payload;
        push_unsigned(bytes, payload);
        push_unsigned(content_bytes, payload);
        push_unsigned(block.rows, payload);
        match block.timestamps {
            None => payload.push(0),
            Some(timestamps) => {
                payload.push(1);
                push_signed(timestamps.min.wrapping_sub(self.timestamp_before), payload);
                push_unsigned(timestamps.max.abs_diff(timestamps.min), payload);
                self.timestamp_before = timestamps.min;
            }
        }
        let detail_bytes = DETAIL_BYTES_MAX.saturating_sub(payload.len());
        block.runs.encode(detail_bytes, payload);
        self.blocks += 1;
        self.seek_entries.extend_from_slice(&place::seek_entry(bytes, content_bytes));
    }

    /// Bytes that it adds to the file, about.
    pub(super) fn size(&self) -> u64 {
        self.payload.len() as u64
    }

    pub(super) fn buffered(&self) -> usize {
        self.payload.capacity() + self.seek_entries.capacity()
    }

    /// Appends the index of a file whose blocks take `data_bytes` to `out`.
    pub(super) fn finish(self, compression: Compression, data_bytes: u64, out: &mut Vec<u8>) {
        if self.payload.len() as u64 <= INDEX_BYTES_MAX {
            place::write(compression, &self, data_bytes, out);
        }
    }
}

/// The index of a file.
#[derive(Clone, Debug)]
pub struct BlockIndex {
    payload: Bytes,
    blocks: Vec<Block>,
}

/// One block of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the file, in bytes.
    pub position: u64,
    /// Its stored size in bytes.
    pub bytes: u64,
    /// Its uncompressed size in bytes.
    pub content_bytes: u64,
    /// Rows in it.
    pub rows: u64,
    /// Smallest and largest offset.
    pub offsets: Bounds,
    /// Smallest and largest timestamp in milliseconds; `None` when no record has one.
    pub timestamps: Option<Bounds>,
    /// Where its runs of offsets lie in the payload.
    runs: Range<usize>,
    /// The offset before its first: runs are stored as differences.
    offset_before: i64,
}

fn damaged(what: &str) -> Error {
    Error::new(Kind::Fatal, format!("damaged block index: {what}"))
}

impl BlockIndex {
    /// Reads the index of `file` from its end, with one request for the usual file and two or three for large ones. `None` when
    /// the file has none (not compressed, written with a side file, or not by kas3).
    ///
    /// # Errors
    /// `Fatal` for a damaged index or one of a newer version; whatever `file` fails with.
    pub async fn read(file: &dyn RangeRead, compression: Compression) -> Result<Option<Self>> {
        Ok(place::read(file, compression).await?.index)
    }

    /// The same for a file in memory.
    ///
    /// # Errors
    /// `Fatal` for a damaged index or one of a newer version.
    pub fn of_bytes(file: &Bytes, compression: Compression) -> Result<Option<Self>> {
        Self::read(file, compression).now_or_never().expect("memory answers at once")
    }

    /// Reads the payload: `blocks` entries that describe `data_bytes` of blocks.
    fn decode(payload: Bytes, blocks: u32, data_bytes: u64) -> Result<Self> {
        let mut read = Vec::with_capacity(usize::try_from(blocks).unwrap_or(usize::MAX).min(payload.len() / Block::BYTES_MIN));
        let mut cursor = Cursor::new(&payload);
        let (mut position, mut offset_before, mut timestamp_before) = (0, 0, 0);
        for _ in 0..blocks {
            let block = Block::decode(&mut cursor, position, offset_before, &mut timestamp_before)?;
            position = block.position.checked_add(block.bytes).ok_or_else(|| damaged("blocks larger than any file"))?;
            offset_before = block.offsets.max;
            read.push(block);
        }
        if !cursor.is_empty() || position != data_bytes {
            return Err(damaged("its blocks are not those of the file"));
        }
        Ok(BlockIndex { payload, blocks: read })
    }

    /// The blocks in their order.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Rows in all blocks.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// The blocks that may hold offsets of the half-open range, as numbers into [`Self::blocks`].
    pub fn locate(&self, offsets: Range<i64>) -> Range<usize> {
        let start = self.blocks.partition_point(|block| block.offsets.max < offsets.start);
        let end = self.blocks.partition_point(|block| block.offsets.min < offsets.end);
        start..end.max(start)
    }

    /// The offset of each row of block number `block`, in the order of its lines. `None` where the index does not tell: in
    /// files with more gaps than an index has room for.
    pub fn offsets(&self, block: usize) -> Offsets {
        let block = &self.blocks[block];
        Offsets::new(self.payload.slice(block.runs.clone()), block.offset_before)
    }
}

impl Block {
    /// Stored bytes of the shortest entry: each number takes one, and there is at least one run.
    const BYTES_MIN: usize = 7;

    fn decode(cursor: &mut Cursor<'_>, position: u64, offset_before: i64, timestamp_before: &mut i64) -> Result<Self> {
        let (bytes, content_bytes, rows) = (cursor.unsigned()?, cursor.unsigned()?, cursor.unsigned()?);
        if bytes == 0 || rows > content_bytes || content_bytes > ROW_BYTES_MAX as u64 {
            return Err(damaged("a block of impossible size"));
        }
        let timestamps = match cursor.unsigned()? {
            0 => None,
            1 => {
                let min = timestamp_before.wrapping_add(cursor.signed()?);
                *timestamp_before = min;
                let max = min.checked_add_unsigned(cursor.unsigned()?).ok_or_else(|| damaged("a timestamp beyond 64 bits"))?;
                Some(Bounds { min, max })
            }
            _ => return Err(damaged("an unknown kind of timestamps")),
        };
        let (runs, offsets) = skip_runs(cursor, offset_before, rows)?;
        Ok(Block { position, bytes, content_bytes, rows, offsets, timestamps, runs, offset_before })
    }
}

#[cfg(test)]
mod tests;
