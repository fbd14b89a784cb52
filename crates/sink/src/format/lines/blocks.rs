//! A file of blocks: rows gather in an open piece, full pieces become a block, which is compressed by itself, and an index of all
//! blocks ends the file. In gzip a block is a member (block-gzip), in zstd a frame; an ordinary reader sees one ordinary file.
//!
//! Blocks are small at first and grow with the file ([`BlockSize::Auto`]): some readers take only a file's first block for all of
//! it, or copy the rest of the file for each. A piece has at most a MiB, however large its block is, and small blocks are of one.
//!
//! Guarantee: the same rows with the same settings give the same bytes; giving memory back early changes the bytes of the file
//! but never its content. An idle file holds its open piece, its index and little else: compressors belong to threads. (A zstd
//! block of several pieces has one of its own, and in front of it what it stored of the block.)

use super::{
    BLOCK_BYTES_MAX, BlockSize, Compression, IndexPlace, LinesSettings,
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
mod deflate;
mod pieces;

use pieces::{Pieces, Style};

/// Content of the largest piece, one large row aside, in bytes; and that of the first blocks of a file whose blocks grow.
const PIECE_BYTES_MAX: u64 = 1 << 20;
/// Content of the largest block of a file whose blocks grow, in bytes.
const GROWN_BYTES_MAX: u64 = 32 << 20;
/// Such a block has at most this part of the content before it: four more blocks each time that the file doubles.
const GROWN_SHARE: u64 = 4;
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
    block: BlockSize,
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
        if let BlockSize::Fixed(size) = settings.block
            && !(BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&size.0)
        {
            let hint = "a block has `4KiB` to `64MiB`; `auto` lets it grow with the file, and `file` makes exactly one of it";
            return Err(Error::config(format!("`{key}.block: {size}` is out of range")).hint(hint));
        }
        if settings.index == IndexPlace::SideFile && settings.block == BlockSize::File {
            return Err(Error::config(format!("`{key}.index: side_file` and `{key}.block: file` contradict each other"))
                .hint("a side file says where the members of a file begin, and there is one: leave one of them out"));
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
            block: settings.block,
            index: settings.index,
            extension,
            content_type: if settings.content_encoding { content_type } else { compressed_type },
            content_encoding: encoding.filter(|_| settings.content_encoding),
        })
    }

    /// Content of the block that begins behind so many bytes of content, in bytes.
    fn block_bytes(&self, content_bytes: u64) -> u64 {
        match (self.block, self.compression) {
            (BlockSize::Fixed(size), _) => size.0,
            (_, Compression::None) => PIECE_BYTES_MAX,
            (BlockSize::Auto, _) => (content_bytes / GROWN_SHARE).checked_ilog2().map_or(0, |log| 1 << log).clamp(PIECE_BYTES_MAX, GROWN_BYTES_MAX),
            (BlockSize::File, _) => u64::MAX,
        }
    }

    fn style(&self) -> Style {
        Style { compression: self.compression, level: self.level, sized: self.block != BlockSize::File }
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
    /// Content of the open piece.
    piece: Vec<u8>,
    /// Content of a piece at most.
    piece_bytes: usize,
    /// What was compressed of the open block.
    pieces: Pieces,
    /// Content of the open block at most.
    block_bytes: u64,
    /// Where the open block begins, among the encoded bytes.
    block_start: u64,
    /// What the index will say of it.
    about: OpenBlock,
    trail: Trail,
    /// Encoded, not taken.
    encoded: Vec<u8>,
    /// Encoded bytes, taken or not.
    bytes: u64,
    /// Content of all pieces but the open one, in bytes.
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
            _ if plan.block == BlockSize::File => Trail::None,
            (_, IndexPlace::Inside) => Trail::Inside(IndexWriter::default()),
            (_, IndexPlace::SideFile) => Trail::SideFile(SideFileWriter::default()),
        };
        let block_bytes = plan.block_bytes(0);
        let piece_bytes = if plan.compression == Compression::None { block_bytes } else { block_bytes.min(PIECE_BYTES_MAX) };
        BlockWriter {
            plan,
            piece: Vec::new(),
            piece_bytes: usize::try_from(piece_bytes).unwrap_or(usize::MAX),
            pieces: Pieces::default(),
            block_bytes,
            block_start: 0,
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

    /// The open piece, to append a row to.
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.piece
    }

    /// Content of the open block, with the first `end` bytes of the open piece.
    fn in_block(&self, end: usize) -> u64 {
        self.pieces.content_bytes + end as u64
    }

    /// Makes room for a row of about `row_bytes`: ends the open block or piece when the row would not fit, or lets the piece grow,
    /// doubling but never past its size. Where the row begins.
    pub(super) fn room(&mut self, row_bytes: usize) -> Result<usize> {
        let end = self.piece.len();
        if self.in_block(end) + row_bytes as u64 > self.block_bytes && self.in_block(end) > 0 {
            self.end_block(end)?;
        } else if end + row_bytes > self.piece_bytes && end > 0 {
            self.end_piece(end)?;
        }
        let needed = self.piece.len() + row_bytes;
        if needed > self.piece.capacity() {
            let doubled = (self.piece.capacity() * 2).min(self.piece_bytes);
            self.piece.reserve_exact(needed.max(doubled) - self.piece.len());
        }
        Ok(self.piece.len())
    }

    /// Takes the row of `record`, which begins at `start`, into the file.
    pub(super) fn end_row(&mut self, start: usize, record: &Record<'_>) -> Result<()> {
        if self.in_block(self.piece.len()) > self.block_bytes && self.in_block(start) > 0 {
            self.end_block(start)?;
        } else if self.piece.len() > self.piece_bytes && start > 0 {
            self.end_piece(start)?;
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
        let end = self.piece.len();
        if self.in_block(end) >= self.block_bytes {
            self.end_block(end)?;
        } else if end >= self.piece_bytes {
            self.end_piece(end)?;
        }
        Ok(())
    }

    /// Compresses the first `end` bytes of the open piece, which are all of its rows that were taken in, and opens the next one
    /// with the rest; the block goes on.
    fn end_piece(&mut self, end: usize) -> Result<()> {
        if end > 0 {
            self.checksum.update(&self.piece[..end]);
            let before = self.encoded.len();
            self.pieces.add(self.plan.style(), &self.piece[..end], false, &mut self.encoded)?;
            self.count(before, end);
        }
        Ok(())
    }

    /// The same, and ends the block with it.
    fn end_block(&mut self, end: usize) -> Result<()> {
        if self.in_block(end) == 0 {
            return Ok(());
        }
        let block_content_bytes = self.in_block(end);
        let content = &self.piece[..end];
        self.checksum.update(content);
        let before = self.encoded.len();
        let BlockPlan { compression, level, .. } = *self.plan;
        match compression {
            Compression::None if before == 0 && end == self.piece.len() => self.encoded = std::mem::take(&mut self.piece),
            Compression::None => self.encoded.extend_from_slice(content),
            _ if self.pieces.is_open() => self.pieces.add(self.plan.style(), content, true, &mut self.encoded)?,
            Compression::Gzip => compress::gzip(level, content, &mut self.encoded)?,
            Compression::Zstd => compress::zstd(level, content, &mut self.encoded)?,
        }
        self.count(before, end);
        let block_bytes = self.bytes - self.block_start;
        match &mut self.trail {
            Trail::None => {}
            Trail::Inside(index) => index.add(block_bytes, block_content_bytes, &mut self.about),
            Trail::SideFile(side_file) => side_file.add(block_bytes, block_content_bytes, &self.about),
        }
        self.about.clear();
        self.block_start = self.bytes;
        self.block_bytes = self.plan.block_bytes(self.content_bytes);
        Ok(())
    }

    /// Counts what was encoded behind the first `before` bytes, of the first `end` bytes of the open piece, and takes these away.
    fn count(&mut self, before: usize, end: usize) {
        self.bytes += (self.encoded.len() - before) as u64;
        self.content_bytes += end as u64;
        if let Some(timestamps) = self.about.timestamps() {
            Bounds::widen(&mut self.timestamps, timestamps.min);
            Bounds::widen(&mut self.timestamps, timestamps.max);
        }
        if matches!(self.trail, Trail::None) {
            // nobody will ask which offsets the block has
            self.about.clear();
        }
        let rest = self.piece.len().saturating_sub(end);
        if rest > 0 {
            self.piece.copy_within(end.., 0);
        }
        self.piece.truncate(rest);
        if self.piece.capacity() > 2 * self.piece_bytes {
            self.piece.shrink_to(self.piece_bytes);
        }
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.encoded))
    }

    pub(super) fn size(&self) -> u64 {
        let bytes = self.bytes + self.pieces.held() as u64;
        let ratio = match (self.plan.compression, self.content_bytes) {
            (Compression::None, _) => 1.0,
            (_, 0) => FIRST_RATIO,
            (_, content_bytes) => bytes as f64 / content_bytes as f64,
        };
        let index = match &self.trail {
            Trail::Inside(index) => index.size(),
            Trail::None | Trail::SideFile(_) => 0,
        };
        bytes + index + (self.piece.len() as f64 * ratio).ceil() as u64
    }

    pub(super) fn buffered(&self) -> usize {
        let index = match &self.trail {
            Trail::None => 0,
            Trail::Inside(index) => index.buffered(),
            Trail::SideFile(side_file) => side_file.buffered(),
        };
        self.piece.capacity() + self.pieces.buffered() + self.encoded.capacity() + self.about.buffered() + index + size_of::<Xxh3>()
    }

    pub(super) fn shrink(&mut self) -> Result<()> {
        // a side file says how large blocks are, and a file that is made again must have those that it had
        let free = self.plan.compression != Compression::None && !matches!(self.trail, Trail::SideFile(_));
        if free && self.piece.len() >= SHRINK_BYTES_MIN {
            let end = self.piece.len();
            match self.plan.compression {
                Compression::Zstd if self.pieces.is_open() => self.end_piece(end)?,
                // a stream of its own would take more than it gives back
                Compression::Zstd if self.plan.block == BlockSize::File => {}
                Compression::Zstd => self.end_block(end)?,
                Compression::Gzip | Compression::None => self.end_piece(end)?,
            }
        }
        self.piece.shrink_to_fit();
        self.encoded.shrink_to_fit();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Finished> {
        self.end_block(self.piece.len())?;
        let before = self.encoded.len();
        let mut side_file = None;
        match self.trail {
            Trail::Inside(index) => index.finish(self.plan.compression, self.bytes, &mut self.encoded),
            Trail::None if self.rows == 0 => empty_block(&self.plan, &mut self.encoded)?,
            Trail::None => {}
            Trail::SideFile(writer) => {
                if self.rows == 0 {
                    empty_block(&self.plan, &mut self.encoded)?;
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

/// What a file without rows consists of.
fn empty_block(plan: &BlockPlan, out: &mut Vec<u8>) -> Result<()> {
    match plan.compression {
        Compression::None => {}
        Compression::Gzip => out.extend_from_slice(&EMPTY_MEMBER),
        Compression::Zstd => compress::zstd(plan.level, b"", out)?,
    }
    Ok(())
}
