//! A file of blocks: rows gather in an open block, a full block is compressed by itself, and an index of all blocks ends the
//! file. In gzip a block is a member (block-gzip), in zstd a frame; an ordinary reader sees one ordinary file.
//!
//! Guarantee: the same rows with the same settings give the same bytes; closing blocks early changes the bytes of the file
//! but never its content. An idle file holds its open block, its index and little else: compressors belong to threads.

use super::{
    BLOCK_BYTES_MAX, Compression, IndexPlace, LinesSettings,
    index::{IndexWriter, OpenBlock},
    side_file::SideFileWriter,
};
use crate::{
    error::{Error, Kind, Result},
    format::Finished,
    record::Record,
    span::{Bounds, Checksum},
};
use bytes::Bytes;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

mod compress;

/// Uncompressed size of the smallest block, in bytes.
const BLOCK_BYTES_MIN: u64 = 4 << 10;
/// Expected ratio of compressed to uncompressed bytes until the first block was seen.
const FIRST_RATIO: f64 = 0.25;
/// Bytes below which closing a block early frees less than the smaller block costs.
const SHRINK_BYTES_MIN: usize = 4 << 10;
/// The gzip member of no content, for a file without records.
const EMPTY_MEMBER: [u8; 20] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Checked settings of a file of blocks.
#[derive(Debug)]
pub(super) struct BlockPlan {
    compression: Compression,
    level: u8,
    block_bytes: usize,
    index: IndexPlace,
    /// As [`crate::format::Format::extension`] has it.
    pub(super) extension: String,
    /// As [`crate::format::Format::content_type`] has it.
    pub(super) content_type: &'static str,
    /// As [`crate::format::Format::content_encoding`] has it.
    pub(super) content_encoding: Option<&'static str>,
}

impl BlockPlan {
    /// Whether an index lies beside the file.
    pub(super) fn has_side_file(&self) -> bool {
        self.index == IndexPlace::SideFile && self.compression != Compression::None
    }

    /// Checks `settings`, which stand under `key`; `extension` and `content_type` are those of the uncompressed content.
    pub(super) fn check(key: &str, settings: &LinesSettings, extension: &str, content_type: &'static str) -> Result<Self> {
        let level = check_level(key, settings)?;
        if !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&settings.block.0) {
            return Err(Error::config(format!("`{key}.block: {}` is out of range", settings.block)).hint("a block has `4KiB` to `64MiB`"));
        }
        if settings.index == IndexPlace::SideFile && settings.compression != Compression::Gzip {
            let message = format!("`{key}.index: side_file` and `{key}.compression: {}` contradict each other", name(settings.compression));
            return Err(
                Error::config(message).hint(format!("a side file describes gzip members: set `{key}.compression: gzip`, or leave `{key}.index` out"))
            );
        }
        let (suffix, compressed_type, encoding) = match settings.compression {
            Compression::None => ("", content_type, None),
            Compression::Gzip => (".gz", "application/gzip", Some("gzip")),
            Compression::Zstd => (".zst", "application/zstd", Some("zstd")),
        };
        if settings.content_encoding && encoding.is_none() {
            let message = format!("`{key}.content_encoding: true` and `{key}.compression: none` contradict each other");
            return Err(Error::config(message).hint("a file that is not compressed has no encoding to name: leave one of them out"));
        }
        let extension = match &settings.extension {
            Some(extension) => check_extension(key, extension)?,
            None => format!("{extension}{suffix}"),
        };
        Ok(BlockPlan {
            compression: settings.compression,
            level,
            block_bytes: usize::try_from(settings.block.0).unwrap_or(usize::MAX),
            index: settings.index,
            extension,
            content_type: if settings.content_encoding { content_type } else { compressed_type },
            content_encoding: encoding.filter(|_| settings.content_encoding),
        })
    }
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

fn check_level(key: &str, settings: &LinesSettings) -> Result<u8> {
    let (levels, default) = match settings.compression {
        Compression::None => match settings.level {
            None => return Ok(0),
            Some(level) => {
                let message = format!("`{key}.level: {level}` and `{key}.compression: none` contradict each other");
                return Err(Error::config(message).hint("a file that is not compressed has no level: leave one of them out"));
            }
        },
        Compression::Gzip => (1..=12, 5),
        Compression::Zstd => (1..=19, 1),
    };
    let level = settings.level.unwrap_or(default);
    if levels.contains(&level) {
        return Ok(level);
    }
    let compression = name(settings.compression);
    let message = format!("`{key}.level: {level}` is out of range for `{key}.compression: {compression}`");
    Err(Error::config(message).hint(format!("{compression} has levels {} to {}", levels.start(), levels.end())))
}

fn check_extension(key: &str, extension: &str) -> Result<String> {
    let plain = |segment: &str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if extension.len() <= 64 && extension.split('.').all(plain) {
        return Ok(extension.to_owned());
    }
    Err(Error::config(format!("`{key}.extension: {extension}` is not an extension"))
        .hint("write letters, digits, `-` and `_`, with dots between and none in front, as `json.gz`"))
}

/// How the file says where its blocks are.
enum Trail {
    /// Not at all.
    None,
    Inside(IndexWriter),
    SideFile(SideFileWriter),
}

/// One file of blocks.
pub(super) struct BlockWriter {
    plan: Arc<BlockPlan>,
    /// Content of the open block.
    block: Vec<u8>,
    /// What the index will say of it.
    about: OpenBlock,
    trail: Trail,
    /// Encoded, not taken.
    encoded: Vec<u8>,
    /// Encoded bytes, taken or not.
    bytes: u64,
    /// Content of closed blocks in bytes.
    content_bytes: u64,
    rows: u64,
    records: u64,
    offsets: Option<Bounds>,
    timestamps: Option<Bounds>,
    checksum: Box<Xxh3>,
}

impl BlockWriter {
    pub(super) fn new(plan: Arc<BlockPlan>) -> Self {
        let trail = match (plan.compression, plan.index) {
            (Compression::None, _) => Trail::None,
            (_, IndexPlace::Inside) => Trail::Inside(IndexWriter::default()),
            (_, IndexPlace::SideFile) => Trail::SideFile(SideFileWriter::default()),
        };
        BlockWriter {
            plan,
            block: Vec::new(),
            about: OpenBlock::default(),
            trail,
            encoded: Vec::new(),
            bytes: 0,
            content_bytes: 0,
            rows: 0,
            records: 0,
            offsets: None,
            timestamps: None,
            checksum: Box::new(Xxh3::new()),
        }
    }

    /// The index relies on offsets that never go back (several rows of one record share its offset).
    pub(super) fn check_order(&self, record: &Record<'_>) -> Result<()> {
        let last = self.offsets.map_or(0, |offsets| offsets.max);
        if record.offset >= last {
            return Ok(());
        }
        let of = format!("{}-{}", record.topic, record.partition);
        Err(Error::new(Kind::Fatal, format!("record at offset `{}` of `{of}` came after offset `{last}`", record.offset)))
    }

    /// The open block, to append a row to.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.block
    }

    /// Makes room for a row of about `row_bytes`: closes the open block when the row would not fit, or lets it grow, doubling
    /// but never past the size of a block. Where the row begins.
    pub(super) fn room(&mut self, row_bytes: usize) -> Result<usize> {
        if self.block.len() + row_bytes > self.plan.block_bytes && !self.block.is_empty() {
            self.close(self.block.len())?;
        }
        let needed = self.block.len() + row_bytes;
        if needed > self.block.capacity() {
            let doubled = (self.block.capacity() * 2).min(self.plan.block_bytes);
            self.block.reserve_exact(needed.max(doubled) - self.block.len());
        }
        Ok(self.block.len())
    }

    /// Takes the row of `record`, which begins at `start`, into the file.
    pub(super) fn end_row(&mut self, start: usize, record: &Record<'_>) -> Result<()> {
        if start > 0 && self.block.len() > self.plan.block_bytes {
            self.close(start)?;
        }
        self.about.add(record.offset, record.timestamp_ms);
        self.rows += 1;
        match &mut self.offsets {
            Some(offsets) => {
                self.records += u64::from(offsets.max != record.offset);
                offsets.max = record.offset;
            }
            None => {
                self.records = 1;
                self.offsets = Some(Bounds::of(record.offset));
            }
        }
        if self.block.len() >= self.plan.block_bytes {
            self.close(self.block.len())?;
        }
        Ok(())
    }

    /// Compresses the first `end` bytes of the open block, which are all of its rows that were taken in, and opens the next
    /// one with the rest.
    fn close(&mut self, end: usize) -> Result<()> {
        if end == 0 {
            return Ok(());
        }
        let content = &self.block[..end];
        self.checksum.update(content);
        let before = self.encoded.len();
        match self.plan.compression {
            Compression::None if before == 0 && end == self.block.len() => self.encoded = std::mem::take(&mut self.block),
            Compression::None => self.encoded.extend_from_slice(content),
            Compression::Gzip => compress::gzip(self.plan.level, content, &mut self.encoded)?,
            Compression::Zstd => compress::zstd(self.plan.level, content, &mut self.encoded)?,
        }
        let (stored_bytes, content_bytes) = ((self.encoded.len() - before) as u64, end as u64);
        if let Some(timestamps) = self.about.timestamps() {
            Bounds::widen(&mut self.timestamps, timestamps.min);
            Bounds::widen(&mut self.timestamps, timestamps.max);
        }
        match &mut self.trail {
            Trail::None => {}
            Trail::Inside(index) => index.add(stored_bytes, content_bytes, &mut self.about),
            Trail::SideFile(side_file) => side_file.add(stored_bytes, content_bytes, &self.about),
        }
        self.about.clear();
        self.bytes += stored_bytes;
        self.content_bytes += content_bytes;
        let rest = self.block.len().saturating_sub(end);
        if rest > 0 {
            self.block.copy_within(end.., 0);
        }
        self.block.truncate(rest);
        if self.block.capacity() > 2 * self.plan.block_bytes {
            self.block.shrink_to(self.plan.block_bytes);
        }
        Ok(())
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.encoded))
    }

    pub(super) fn size(&self) -> u64 {
        let ratio = match (self.plan.compression, self.content_bytes) {
            (Compression::None, _) => 1.0,
            (_, 0) => FIRST_RATIO,
            (_, content_bytes) => self.bytes as f64 / content_bytes as f64,
        };
        let index = match &self.trail {
            Trail::Inside(index) => index.size(),
            Trail::None | Trail::SideFile(_) => 0,
        };
        self.bytes + index + (self.block.len() as f64 * ratio).ceil() as u64
    }

    pub(super) fn buffered(&self) -> usize {
        let index = match &self.trail {
            Trail::None => 0,
            Trail::Inside(index) => index.buffered(),
            Trail::SideFile(side_file) => side_file.buffered(),
        };
        self.block.capacity() + self.encoded.capacity() + self.about.buffered() + index + size_of::<Xxh3>()
    }

    pub(super) fn shrink(&mut self) -> Result<()> {
        // a side file names the blocks, and a file that is made again must have those that it had
        let free = self.plan.compression != Compression::None && !matches!(self.trail, Trail::SideFile(_));
        if free && self.block.len() >= SHRINK_BYTES_MIN {
            self.close(self.block.len())?;
        }
        self.block.shrink_to_fit();
        self.encoded.shrink_to_fit();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Finished> {
        self.close(self.block.len())?;
        let before = self.encoded.len();
        let mut side_file = None;
        match self.trail {
            Trail::None => {}
            Trail::Inside(index) => index.finish(self.plan.compression, self.bytes, &mut self.encoded),
            Trail::SideFile(writer) => {
                if self.rows == 0 {
                    self.encoded.extend_from_slice(&EMPTY_MEMBER);
                }
                side_file = Some(writer.finish());
            }
        }
        // thousands of small files may wait to be published together
        self.encoded.shrink_to_fit();
        Ok(Finished {
            bytes: self.bytes + (self.encoded.len() - before) as u64,
            tail: Bytes::from(self.encoded),
            rows: self.rows,
            records: self.records,
            checksum: Checksum::from_xxh3(self.checksum.digest128()),
            offsets: self.offsets,
            timestamps: self.timestamps,
            side_file,
        })
    }
}
