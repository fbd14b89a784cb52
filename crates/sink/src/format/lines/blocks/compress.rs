//! Compressors. Those of whole blocks, and of pieces of a gzip member, are kept per thread and level, because one takes up to
//! several megabytes and thousands of files may be open; what they write into first is kept per thread as well.

use super::deflate::{self, Scanner};
use crate::error::{Error, Kind, Result};
use libdeflater::{CompressionLvl, Compressor};
use std::cell::RefCell;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, compress_bound, get_error_name, zstd_sys::ZSTD_EndDirective};

/// Scratch space that a thread keeps from one block to the next, in bytes.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;
/// The window of a zstd stream is 2 to the power of this, in bytes, where its level would take more: each large open file has one.
const WINDOW_LOG_MAX: u32 = 20;
/// The last level whose own window is not larger.
const WINDOW_LEVEL_MAX: u8 = 2;
/// What a zstd stream writes at a time.
const STEP_BYTES: usize = 64 << 10;

#[derive(Default)]
struct Thread {
    gzip: Vec<(u8, Compressor)>,
    zstd: Vec<(u8, zstd::bulk::Compressor<'static>)>,
    scratch: Vec<u8>,
    scanner: Scanner,
}

thread_local! {
    static THREAD: RefCell<Thread> = RefCell::default();
}

fn failed(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Fatal, "cannot compress a block").source(source)
}

/// Appends `content` to `out` as one gzip member; modification time 0, so that the same content gives the same bytes.
pub(super) fn gzip(level: u8, content: &[u8], out: &mut Vec<u8>) -> Result<()> {
    THREAD.with_borrow_mut(|thread| {
        let Thread { gzip, scratch, .. } = thread;
        let compressor = of_gzip(gzip, level)?;
        let bound = compressor.gzip_compress_bound(content.len());
        if scratch.len() < bound {
            scratch.resize(bound, 0);
        }
        let written = compressor.gzip_compress(content, scratch).map_err(failed)?;
        out.extend_from_slice(&scratch[..written]);
        release(scratch);
        Ok(())
    })
}

/// Appends `content` to `out` as a piece of the deflate stream of a gzip member; `last`: nothing follows it.
pub(super) fn deflate(level: u8, content: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
    THREAD.with_borrow_mut(|thread| {
        let Thread { gzip, scratch, scanner, .. } = thread;
        let compressor = of_gzip(gzip, level)?;
        let bound = compressor.deflate_compress_bound(content.len());
        if scratch.len() < bound {
            scratch.resize(bound, 0);
        }
        let written = compressor.deflate_compress(content, scratch).map_err(failed)?;
        let start = out.len();
        out.extend_from_slice(&scratch[..written]);
        release(scratch);
        if !last {
            let opened = deflate::leave_open(scanner, out, start);
            opened.ok_or_else(|| Error::new(Kind::Fatal, "cannot compress a block: the compressor gives another stream than deflate"))?;
        }
        Ok(())
    })
}

fn of_gzip(compressors: &mut Vec<(u8, Compressor)>, level: u8) -> Result<&mut Compressor> {
    kept(compressors, level, || {
        let level = CompressionLvl::new(level.into()).map_err(|error| Error::new(Kind::Fatal, format!("gzip level `{level}`: {error:?}")))?;
        Ok(Compressor::new(level))
    })
}

/// Appends `content` to `out` as one zstd frame with its content size and a checksum.
pub(super) fn zstd(level: u8, content: &[u8], out: &mut Vec<u8>) -> Result<()> {
    THREAD.with_borrow_mut(|thread| {
        let Thread { zstd, scratch, .. } = thread;
        let compressor = kept(zstd, level, || {
            let mut compressor = zstd::bulk::Compressor::new(level.into()).map_err(failed)?;
            compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
            compressor.set_parameter(CParameter::ContentSizeFlag(true)).map_err(failed)?;
            Ok(compressor)
        })?;
        let bound = compress_bound(content.len());
        if scratch.len() < bound {
            scratch.resize(bound, 0);
        }
        let written = compressor.compress_to_buffer(content, scratch.as_mut_slice()).map_err(failed)?;
        out.extend_from_slice(&scratch[..written]);
        release(scratch);
        Ok(())
    })
}

/// A zstd frame that is written piece by piece, with a checksum. One after the other may be written with it.
pub(super) struct ZstdStream(CCtx<'static>);

impl ZstdStream {
    pub(super) fn new(level: u8) -> Result<Self> {
        let mut context = CCtx::create();
        let mut parameters = vec![CParameter::CompressionLevel(level.into()), CParameter::ChecksumFlag(true)];
        if level > WINDOW_LEVEL_MAX {
            parameters.push(CParameter::WindowLog(WINDOW_LOG_MAX));
        }
        for parameter in parameters {
            context.set_parameter(parameter).map_err(refused)?;
        }
        Ok(ZstdStream(context))
    }

    /// Appends to `out` what there is to write after `content`; `last`: the frame ends with it.
    pub(super) fn add(&mut self, content: &[u8], last: bool, out: &mut Vec<u8>) -> Result<()> {
        let directive = if last { ZSTD_EndDirective::ZSTD_e_end } else { ZSTD_EndDirective::ZSTD_e_continue };
        let mut input = InBuffer::around(content);
        loop {
            out.reserve(STEP_BYTES);
            let position = out.len();
            let left = self.0.compress_stream2(&mut OutBuffer::around_pos(out, position), &mut input, directive).map_err(refused)?;
            let done = if last { left == 0 } else { input.pos() == content.len() };
            if done {
                return Ok(());
            }
        }
    }

    /// Bytes of memory that it takes.
    pub(super) fn buffered(&self) -> usize {
        self.0.sizeof()
    }
}

fn refused(code: usize) -> Error {
    Error::new(Kind::Fatal, format!("cannot compress a block: {}", get_error_name(code)))
}

/// The compressor of `level`, made by `make` the first time. A handful of levels at most: those of the configuration.
fn kept<C>(compressors: &mut Vec<(u8, C)>, level: u8, make: impl FnOnce() -> Result<C>) -> Result<&mut C> {
    let at = match compressors.iter().position(|(of, _)| *of == level) {
        Some(at) => at,
        None => {
            compressors.push((level, make()?));
            compressors.len() - 1
        }
    };
    Ok(&mut compressors[at].1)
}

/// Gives back what one huge record needed.
fn release(scratch: &mut Vec<u8>) {
    if scratch.len() > SCRATCH_BYTES_KEPT {
        scratch.truncate(SCRATCH_BYTES_KEPT);
        scratch.shrink_to_fit();
    }
}
