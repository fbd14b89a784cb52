//! Uncompressing: one block of known size, or a stream of any, in bounded memory.

use crate::{
    error::{Error, Kind, Result},
    format::lines::{Compression, ROW_BYTES_MAX},
};
use bytes::{Buf, Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use libdeflater::Decompressor;
use memchr::memrchr;
use std::{cell::RefCell, io::Write};

/// Stored bytes that are given to a decoder at a time.
const STEP_BYTES: usize = 16 << 10;
/// Content that is handed out together.
const CONTENT_BYTES: usize = 1 << 20;

struct Thread {
    gzip: Decompressor,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::new(Thread { gzip: Decompressor::new(), zstd: None });
}

fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Fatal, "cannot uncompress the file").source(what)
}

pub(super) fn line_too_long(line_bytes_max: usize) -> Error {
    Error::new(Kind::Fatal, format!("file holds a line of more than `{line_bytes_max}` bytes")).hint("raise the limit if you expect such lines")
}

/// The content of one block, which must have `content_bytes`.
pub(super) fn block(compression: Compression, stored: &[u8], content_bytes: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(content_bytes).ok().filter(|size| *size <= ROW_BYTES_MAX).ok_or_else(|| damaged("block beyond 1 GiB"))?;
    if claimed(compression, stored) != Some(content_bytes) {
        return Err(damaged(format!("block does not have the `{content_bytes}` bytes that the index names")));
    }
    let mut content = vec![0; size];
    let written = THREAD.with_borrow_mut(|thread| match compression {
        Compression::None => Ok(0),
        Compression::Gzip => thread.gzip.gzip_decompress(stored, &mut content).map_err(damaged),
        Compression::Zstd => {
            let decompressor = match &mut thread.zstd {
                Some(decompressor) => decompressor,
                empty => empty.insert(zstd::bulk::Decompressor::new().map_err(damaged)?),
            };
            decompressor.decompress_to_buffer(stored, content.as_mut_slice()).map_err(damaged)
        }
    })?;
    if written == size { Ok(content) } else { Err(damaged(format!("block has `{written}` bytes instead of `{size}`"))) }
}

/// The uncompressed size that a block itself claims, so that no memory is taken on the word of the index alone.
fn claimed(compression: Compression, stored: &[u8]) -> Option<u64> {
    match compression {
        Compression::None => None,
        Compression::Gzip => stored.last_chunk().map(|size| u64::from(u32::from_le_bytes(*size))),
        Compression::Zstd => zstd::zstd_safe::get_frame_content_size(stored).ok().flatten(),
    }
}

/// A stream of stored bytes that becomes content, cut at ends of lines.
pub(super) struct Inflater {
    decoder: Decoder,
    stored: Bytes,
    content: BytesMut,
    /// Bytes of `content` that are known to hold no newline.
    searched: usize,
    ended: bool,
    line_bytes_max: usize,
    content_bytes_left: u64,
}

enum Decoder {
    None(Vec<u8>),
    Gzip(MultiGzDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Inflater {
    pub(super) fn new(compression: Compression, line_bytes_max: usize, content_bytes_max: u64) -> Result<Self> {
        let decoder = match compression {
            Compression::None => Decoder::None(Vec::new()),
            Compression::Gzip => Decoder::Gzip(MultiGzDecoder::new(Vec::new())),
            Compression::Zstd => Decoder::Zstd(zstd::stream::write::Decoder::new(Vec::new()).map_err(damaged)?),
        };
        let content_bytes_left = content_bytes_max;
        Ok(Inflater { decoder, stored: Bytes::new(), content: BytesMut::new(), searched: 0, ended: false, line_bytes_max, content_bytes_left })
    }

    /// Gives it more stored bytes. Only when [`Self::lines`] had nothing.
    pub(super) fn feed(&mut self, stored: Bytes) {
        self.stored = stored;
    }

    /// There are no more stored bytes.
    pub(super) fn end(&mut self) -> Result<()> {
        self.ended = true;
        match &mut self.decoder {
            Decoder::None(_) => {}
            Decoder::Gzip(decoder) => decoder.try_finish().map_err(damaged)?,
            Decoder::Zstd(decoder) => decoder.do_finish().map_err(damaged)?,
        }
        self.collect()
    }

    /// Whole lines of about a MiB (all that is left, at the end); `None` when more stored bytes are needed first.
    pub(super) fn lines(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.ended {
                return Ok(Some(self.content.split().freeze()).filter(|content| !content.is_empty()));
            }
            if self.content.len() >= CONTENT_BYTES {
                if let Some(found) = memrchr(b'\n', &self.content[self.searched..]) {
                    let lines = self.content.split_to(self.searched + found + 1).freeze();
                    self.searched = 0;
                    return Ok(Some(lines));
                }
                self.searched = self.content.len();
                if self.content.len() > self.line_bytes_max {
                    return Err(line_too_long(self.line_bytes_max));
                }
            }
            if self.stored.is_empty() {
                return Ok(None);
            }
            self.step()?;
        }
    }

    /// Takes a few stored bytes in. A decoder makes at most a few hundred KiB of them at a time, whatever they are.
    fn step(&mut self) -> Result<()> {
        let step = self.stored.slice(..self.stored.len().min(STEP_BYTES));
        let taken = match &mut self.decoder {
            Decoder::None(content) => {
                content.extend_from_slice(&step);
                step.len()
            }
            Decoder::Gzip(decoder) => decoder.write(&step).map_err(damaged)?,
            Decoder::Zstd(decoder) => decoder.write(&step).map_err(damaged)?,
        };
        if taken == 0 {
            return Err(damaged("bytes behind its end"));
        }
        self.stored.advance(taken);
        self.collect()
    }

    /// Takes over what the decoder made.
    fn collect(&mut self) -> Result<()> {
        let made = match &mut self.decoder {
            Decoder::None(content) => content,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
        };
        self.content_bytes_left = self
            .content_bytes_left
            .checked_sub(made.len() as u64)
            .ok_or_else(|| Error::new(Kind::Fatal, "file is larger uncompressed than the limit").hint("raise the limit if you expect such files"))?;
        self.content.extend_from_slice(made);
        made.clear();
        Ok(())
    }
}
