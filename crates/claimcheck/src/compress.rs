//! Objects are compressed whole or as they pass, and inflated within a bound.

use crate::{Error, Kind, Reason, Result, reference::Compression};
use std::io::{self, BufRead, Read, Write};

const GZIP_LEVEL: i32 = 6;
const ZSTD_LEVEL: i32 = 3;
/// Bytes that an inflater gives at a time.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// A payload compressed in one go.
pub(crate) fn compress(compression: Compression, level: Option<i32>, payload: &[u8]) -> Result<Vec<u8>> {
    match compression {
        Compression::Gzip => {
            let level = libdeflater::CompressionLvl::new(level.unwrap_or(GZIP_LEVEL)).unwrap_or_default();
            let mut compressor = libdeflater::Compressor::new(level);
            let mut out = vec![0; compressor.gzip_compress_bound(payload.len())];
            let bytes = compressor.gzip_compress(payload, &mut out).map_err(|error| failed().source(error))?;
            out.truncate(bytes);
            Ok(out)
        }
        Compression::Zstd => zstd::bulk::compress(payload, level.unwrap_or(ZSTD_LEVEL)).map_err(|error| failed().source(error)),
        _ => Err(failed()),
    }
}

fn failed() -> Error {
    Error::new(Kind::Fatal, "a payload was not compressed")
}

/// Compresses what passes.
pub(crate) enum Compressor {
    None(Vec<u8>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Compressor {
    pub(crate) fn new(compression: Compression, level: Option<i32>) -> Result<Compressor> {
        match compression {
            Compression::None => Ok(Compressor::None(Vec::new())),
            Compression::Gzip => {
                let level = u32::try_from(level.unwrap_or(GZIP_LEVEL)).unwrap_or(6).min(9);
                Ok(Compressor::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level)))))
            }
            Compression::Zstd => {
                let encoder = zstd::stream::write::Encoder::new(Vec::new(), level.unwrap_or(ZSTD_LEVEL));
                Ok(Compressor::Zstd(Box::new(encoder.map_err(|error| failed().source(error))?)))
            }
            Compression::Snappy | Compression::Lz4 => Err(failed()),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = match self {
            Compressor::None(out) => out.write_all(bytes),
            Compressor::Gzip(encoder) => encoder.write_all(bytes),
            Compressor::Zstd(encoder) => encoder.write_all(bytes),
        };
        written.map_err(|error| failed().source(error))
    }

    /// What is ready.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Compressor::None(out) => out,
            Compressor::Gzip(encoder) => encoder.get_mut(),
            Compressor::Zstd(encoder) => encoder.get_mut(),
        }
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        match self {
            Compressor::None(out) => Ok(out),
            Compressor::Gzip(encoder) => encoder.finish().map_err(|error| failed().source(error)),
            Compressor::Zstd(encoder) => encoder.finish().map_err(|error| failed().source(error)),
        }
    }
}

/// Reads an object's bytes as the payload. Zero bytes after the compressed ones are passed over (some writers leave them);
/// anything else there is an error.
pub(crate) fn inflater<R: BufRead + Send + 'static>(compression: Compression, mut object: R) -> io::Result<Box<dyn Read + Send>> {
    if compression != Compression::None && object.fill_buf()?.is_empty() {
        return Err(bad("the object is empty"));
    }
    Ok(match compression {
        Compression::None => Box::new(object),
        Compression::Gzip => Box::new(Gzip { member: Some(flate2::bufread::GzDecoder::new(object)), rest: None }),
        Compression::Zstd => Box::new(Zstd { frame: Some(zstd::stream::read::Decoder::with_buffer(object)?.single_frame()) }),
        Compression::Lz4 => Box::new(Lz4 { frame: Some(lz4_flex::frame::FrameDecoder::new(object)) }),
        Compression::Snappy => Box::new(Snappy { object, begun: false, block: Vec::new(), at: 0 }),
    })
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Passes over zero bytes; whether anything else follows.
fn more(object: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = object.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let more = zeros < buffer.len();
        object.consume(zeros);
        if more {
            return Ok(true);
        }
    }
}

/// Members one after the other.
struct Gzip<R: BufRead> {
    member: Option<flate2::bufread::GzDecoder<R>>,
    rest: Option<R>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(member) = &mut self.member {
                let read = member.read(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
            }
            let Some(mut object) = self.member.take().map(flate2::bufread::GzDecoder::into_inner).or_else(|| self.rest.take()) else { return Ok(0) };
            if !more(&mut object)? {
                return Ok(0);
            }
            self.member = Some(flate2::bufread::GzDecoder::new(object));
        }
    }
}

struct Zstd<R: BufRead> {
    frame: Option<zstd::stream::read::Decoder<'static, R>>,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else { return Ok(0) };
            let read = frame.read(out)?;
            if read > 0 || out.is_empty() {
                return Ok(read);
            }
            let Some(mut object) = self.frame.take().map(zstd::stream::read::Decoder::finish) else { return Ok(0) };
            if more(&mut object)? {
                self.frame = Some(zstd::stream::read::Decoder::with_buffer(object)?.single_frame());
            }
        }
    }
}

struct Lz4<R: BufRead> {
    frame: Option<lz4_flex::frame::FrameDecoder<R>>,
}

impl<R: BufRead> Read for Lz4<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(frame) = &mut self.frame else { return Ok(0) };
        let read = frame.read(out)?;
        if read > 0 || out.is_empty() {
            return Ok(read);
        }
        if let Some(frame) = self.frame.take()
            && more(&mut frame.into_inner())?
        {
            return Err(bad("bytes follow the LZ4 frame"));
        }
        Ok(0)
    }
}

/// Kafka's Java client writes snappy in blocks of at most 32 KiB behind a header of 16 bytes (the framing of snappy-java).
struct Snappy<R: BufRead> {
    object: R,
    begun: bool,
    block: Vec<u8>,
    at: usize,
}

const SNAPPY_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// The largest block that is taken; writers use 32 KiB.
const SNAPPY_BLOCK_MAX: usize = 8 << 20;

impl<R: BufRead> Snappy<R> {
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.begun {
            let mut head = [0; 16];
            self.object.read_exact(&mut head)?;
            if !head.starts_with(SNAPPY_MAGIC) {
                return Err(bad("the snappy header is missing"));
            }
            self.begun = true;
        }
        if self.object.fill_buf()?.is_empty() {
            return Ok(false);
        }
        let mut length = [0; 4];
        self.object.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 {
            return if more(&mut self.object)? { Err(bad("bytes follow the last snappy block")) } else { Ok(false) };
        }
        if length > SNAPPY_BLOCK_MAX {
            return Err(bad("a snappy block is too large"));
        }
        let mut packed = vec![0; length];
        self.object.read_exact(&mut packed)?;
        if snap::raw::decompress_len(&packed).map_err(io::Error::other)? > SNAPPY_BLOCK_MAX {
            return Err(bad("a snappy block is too large"));
        }
        self.block = snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)?;
        self.at = 0;
        Ok(true)
    }
}

impl<R: BufRead> Read for Snappy<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let bytes = out.len().min(self.block.len() - self.at);
        out[..bytes].copy_from_slice(&self.block[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

/// An object inflated whole, of at most `limit` bytes.
pub(crate) fn inflate(compression: Compression, object: bytes::Bytes, limit: u64) -> Result<Vec<u8>> {
    let broken = |error: io::Error| Error::refused(Reason::DecompressionFailed, "the object cannot be decompressed").source(error);
    let reader = inflater(compression, io::Cursor::new(object)).map_err(broken)?;
    let mut payload = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut payload).map_err(broken)?;
    if payload.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(payload)
}

pub(crate) fn too_large(limit: u64) -> Error {
    Error::refused(Reason::DecompressedTooLarge, format!("the object inflates to more than the {limit} bytes that are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn payload() -> Vec<u8> {
        (0..300_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    fn packed(compression: Compression, payload: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => payload.to_vec(),
            Compression::Gzip | Compression::Zstd => compress(compression, None, payload).unwrap(),
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(payload).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Snappy => {
                let mut out = [SNAPPY_MAGIC, &1u32.to_be_bytes(), &1u32.to_be_bytes()].concat();
                for block in payload.chunks(32 << 10) {
                    let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                    out.extend_from_slice(&u32::try_from(block.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(&block);
                }
                out
            }
        }
    }

    const PACKED: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy];

    #[test]
    fn every_compression_is_inflated_whole_and_behind_it_zero_bytes_are_passed_over() {
        for compression in PACKED {
            let mut object = packed(compression, &payload());
            assert_eq!(inflate(compression, object.clone().into(), 1 << 30).unwrap(), payload(), "{compression:?}");
            object.extend_from_slice(&[0; 37]);
            assert_eq!(inflate(compression, object.clone().into(), 1 << 30).unwrap(), payload(), "{compression:?} with zeros");
            object.extend_from_slice(b"surprise");
            let error = inflate(compression, object.into(), 1 << 30).unwrap_err();
            assert_eq!(error.reason(), Some(Reason::DecompressionFailed), "{compression:?} with a surprise");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_such_compression_is_refused() {
        for compression in PACKED {
            let object = Bytes::from(packed(compression, &payload()));
            for object in [object.slice(..object.len() / 2), Bytes::from_static(b"no such thing, but text"), Bytes::new()] {
                let error = inflate(compression, object.clone(), 1 << 30);
                assert!(error.as_ref().is_err_and(|error| error.reason() == Some(Reason::DecompressionFailed)), "{compression:?} {}", object.len());
            }
        }
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for compression in PACKED {
            let error = inflate(compression, packed(compression, &zeros).into(), 1000).unwrap_err();
            assert_eq!(error.reason(), Some(Reason::DecompressedTooLarge), "{compression:?}");
        }
    }

    #[test]
    fn what_passes_is_compressed_as_what_comes_whole() {
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut compressor = Compressor::new(compression, None).unwrap();
            let mut object = Vec::new();
            for piece in payload().chunks(10_000) {
                compressor.write(piece).unwrap();
                object.append(compressor.out());
            }
            object.append(&mut compressor.finish().unwrap());
            assert_eq!(inflate(compression, object.into(), 1 << 30).unwrap(), payload(), "{compression:?}");
        }
    }
}
