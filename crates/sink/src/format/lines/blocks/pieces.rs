//! A block that is compressed piece by piece, so that a large one takes no more memory than a small one.
//!
//! In gzip the pieces are deflate streams made one behind the other, each by itself; in zstd a stream compresses them, and holds
//! what it made of a block until its end, where the size is known that its head begins with.

use super::compress::{self, ZstdStream};
use crate::{
    error::{Error, Kind, Result},
    format::lines::Compression,
};
use libdeflater::Crc;

/// The head of a gzip member without a time, of an unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A deflate stream of no content.
const EMPTY_DEFLATE: [u8; 2] = [3, 0];
/// Magic number, descriptor and window of a zstd frame that does not say its size.
const ZSTD_HEAD_BYTES: usize = 6;
const ZSTD_DESCRIPTOR: usize = 4;
/// The descriptor's bits for a size of four bytes, and all that would put something else before or in place of it.
const ZSTD_SIZE_OF_FOUR: u8 = 0b1000_0000;
const ZSTD_OTHER_FIELDS: u8 = 0b1110_0011;

/// The open block of one file, as far as it was compressed.
#[derive(Default)]
pub(super) struct Pieces {
    /// Bytes of content in the pieces so far.
    pub(super) content_bytes: u64,
    crc: Crc,
    zstd: Option<Box<ZstdStream>>,
    /// The open frame, when it is to begin with its size.
    frame: Vec<u8>,
    open: bool,
}

/// How pieces become a block.
#[derive(Clone, Copy)]
pub(super) struct Style {
    pub(super) compression: Compression,
    pub(super) level: u8,
    /// Whether a zstd frame begins with its size: it is held until its end then.
    pub(super) sized: bool,
}

impl Pieces {
    /// Whether pieces were written that a block is open for.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Adds a piece; `last`: the block ends with it. Appends to `out` what there is to write.
    pub(super) fn add(&mut self, style: Style, content: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        self.content_bytes += content.len() as u64;
        match style.compression {
            Compression::None => out.extend_from_slice(content),
            Compression::Gzip => self.gzip(style.level, content, last, out)?,
            Compression::Zstd => self.zstd(style, content, last, out)?,
        }
        self.open = !last;
        if last {
            self.content_bytes = 0;
        }
        Ok(())
    }

    fn gzip(&mut self, level: u8, content: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        if !self.open {
            out.extend_from_slice(&GZIP_HEAD);
            self.crc = Crc::new();
        }
        self.crc.update(content);
        if !content.is_empty() {
            compress::deflate(level, content, last, out)?;
        } else if last {
            out.extend_from_slice(&EMPTY_DEFLATE);
        }
        if last {
            out.extend_from_slice(&self.crc.sum().to_le_bytes());
            // modulo 2^32, as gzip has it
            out.extend_from_slice(&(self.content_bytes as u32).to_le_bytes());
        }
        Ok(())
    }

    fn zstd(&mut self, style: Style, content: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        let stream = match &mut self.zstd {
            Some(stream) => stream,
            none => none.insert(Box::new(ZstdStream::new(style.level)?)),
        };
        if !style.sized {
            return stream.add(content, last, out);
        }
        stream.add(content, last, &mut self.frame)?;
        if last {
            push_sized(&self.frame, self.content_bytes, out)?;
            self.frame = Vec::new();
        }
        Ok(())
    }

    /// Stored bytes of the open block that are held until its end.
    pub(super) fn held(&self) -> usize {
        self.frame.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn buffered(&self) -> usize {
        self.frame.capacity() + self.zstd.as_ref().map_or(0, |stream| stream.buffered())
    }
}

/// Appends a frame with the size of its content, which it was written without.
fn push_sized(frame: &[u8], content_bytes: u64, out: &mut Vec<u8>) -> Result<()> {
    let size = u32::try_from(content_bytes).ok();
    let head = frame.split_at_checked(ZSTD_HEAD_BYTES).filter(|(head, _)| head[ZSTD_DESCRIPTOR] & ZSTD_OTHER_FIELDS == 0);
    let (Some(size), Some((head, rest))) = (size, head) else {
        return Err(Error::new(Kind::Fatal, "cannot compress a block: the frame begins differently than expected"));
    };
    let start = out.len();
    out.extend_from_slice(head);
    out[start + ZSTD_DESCRIPTOR] |= ZSTD_SIZE_OF_FOUR;
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(rest);
    Ok(())
}
