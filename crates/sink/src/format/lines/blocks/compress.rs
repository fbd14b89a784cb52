//! Compressors of one block each. They are kept per thread and level, because one takes up to several megabytes and thousands of
//! files may be open; what they write into first is kept per thread as well.

use crate::error::{Error, Kind, Result};
use libdeflater::{CompressionLvl, Compressor};
use std::cell::RefCell;
use zstd::zstd_safe::{CParameter, compress_bound};

/// Scratch space that a thread keeps from one block to the next, in bytes.
const SCRATCH_BYTES_KEPT: usize = 4 << 20;

#[derive(Default)]
struct Thread {
    gzip: Vec<(u8, Compressor)>,
    zstd: Vec<(u8, zstd::bulk::Compressor<'static>)>,
    scratch: Vec<u8>,
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
        let compressor = kept(gzip, level, || {
            Ok(Compressor::new(
                CompressionLvl::new(level.into()).map_err(|error| Error::new(Kind::Fatal, format!("gzip level `{level}`: {error:?}")))?,
            ))
        })?;
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
