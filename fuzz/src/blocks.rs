//! Files and their block index, as they lie in a bucket that others may write to.

use super::memory::bounded;
use async_trait::async_trait;
use bytes::Bytes;
use flate2::Crc;
use futures::FutureExt;
use kas3_sink::{
    Error, Kind, Result,
    format::{
        lines::{
            BlockSize, Compression, IndexPlace, LinesSettings,
            index::BlockIndex,
            read::{LinesFile, compression_of, read_all},
        },
        read::{RangeRead, ReadOptions},
    },
    record::OwnedRecord,
    row::Row,
    units::Bytes as Size,
};
use std::{io::Read, ops::Range};

/// Bytes of the blocks that a made-up file gives before its index.
const DATA_BYTES_GIVEN: u64 = 8 << 20;

/// A file whose blocks are zeros, as many as its index claims, and whose end is real.
struct Hollow {
    data_bytes: u64,
    end: Bytes,
}

#[async_trait]
impl RangeRead for Hollow {
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let end = |position: u64| (position.saturating_sub(self.data_bytes) as usize).min(self.end.len());
        let zeros = self.data_bytes.min(range.end).saturating_sub(range.start);
        if zeros > DATA_BYTES_GIVEN {
            return Err(Error::new(Kind::Fatal, "more bytes of blocks than this file gives"));
        }
        Ok([&vec![0; zeros as usize], &self.end[end(range.start)..end(range.end)]].concat().into())
    }
    async fn size(&self) -> Result<u64> {
        Ok(self.data_bytes.saturating_add(self.end.len() as u64))
    }
}

/// The first byte chooses the compression and the range of offsets that is asked for, the rest is the payload of an index (see
/// `docs/block-index.md`), around which everything else is made to fit: a checksum alone would keep nearly all of it out.
///
/// An index is refused, or its blocks and offsets are in order and inside the file.
pub fn block_index(data: &[u8]) {
    let Some((choice, payload)) = data.split_first() else { return };
    let compression = if choice & 1 == 0 { Compression::Gzip } else { Compression::Zstd };
    let (blocks, data_bytes) = outline(payload);
    let end = match compression {
        Compression::Gzip => gzip_end(payload, blocks, data_bytes),
        _ => zstd_end(payload, blocks, data_bytes),
    };
    bounded((32 << 20) + 128 * data.len(), || {
        let _ = BlockIndex::of_bytes(&Bytes::copy_from_slice(data), compression);
        let hollow = Hollow { data_bytes, end: end.into() };
        let Ok(Some(index)) = BlockIndex::read(&hollow, compression).now_or_never().expect("memory answers at once") else { return };
        assert_index(&index, data_bytes);
        let from = i64::from(choice >> 1) * 3;
        let options = ReadOptions { offsets: from..from + 40, ..ReadOptions::default() };
        let located = index.locate(options.offsets.clone());
        for (number, block) in index.blocks().iter().enumerate() {
            let overlaps = block.offsets.min < options.offsets.end && block.offsets.max >= options.offsets.start;
            assert!(located.contains(&number) || !overlaps, "block {number} is not found");
        }
        let mut reader = LinesFile::open(&hollow, compression, options).now_or_never().expect("memory answers at once").expect("the same index");
        while let Ok(Some(lines)) = reader.lines().now_or_never().expect("memory answers at once") {
            assert!(lines.take(100_000).all(|line| line.bytes.iter().all(|byte| *byte == 0)), "only zeros are there");
        }
    });
}

fn assert_index(index: &BlockIndex, data_bytes: u64) {
    let (mut position, mut offset) = (0, 0);
    for (number, block) in index.blocks().iter().enumerate() {
        assert_eq!(block.position, position);
        position += block.bytes;
        assert!(offset <= block.offsets.min && block.offsets.min <= block.offsets.max, "{block:?} after offset {offset}");
        assert!(block.timestamps.is_none_or(|timestamps| timestamps.min <= timestamps.max), "{block:?}");
        let mut last = block.offsets.min;
        for offset in index.offsets(number).take(5000).flatten() {
            assert!(last <= offset && offset <= block.offsets.max, "{offset} after {last} in {block:?}");
            last = offset;
        }
        if block.rows <= 5000 {
            assert_eq!(index.offsets(number).count() as u64, block.rows, "{block:?}");
        }
        offset = block.offsets.max;
    }
    assert_eq!(position, data_bytes);
    assert_eq!(index.rows(), index.blocks().iter().map(|block| block.rows).sum::<u64>());
}

/// How many entries a payload seems to have, and the stored bytes that they speak of.
fn outline(payload: &[u8]) -> (u32, u64) {
    let mut rest = payload;
    let mut number = || {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            shift += 7;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    };
    let (mut blocks, mut data_bytes) = (0, 0_u64);
    let mut entry = || {
        let bytes = number()?;
        let (_, _, timestamps) = (number()?, number()?, number()?);
        if timestamps == 1 {
            number().and(number())?;
        }
        for _ in 0..number()? {
            number()?;
            if number()? & 3 == 2 {
                number()?;
            }
        }
        Some(bytes)
    };
    while let Some(bytes) = entry() {
        blocks += 1;
        data_bytes = data_bytes.wrapping_add(bytes);
    }
    (blocks, data_bytes)
}

fn trailer(payload: &[u8], blocks: u32, data_bytes: u64) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(payload);
    let mut trailer = b"kas3\x01\0\0\0".to_vec();
    trailer.extend_from_slice(&blocks.to_le_bytes());
    trailer.extend_from_slice(&data_bytes.to_le_bytes());
    trailer.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    trailer.extend_from_slice(&crc.sum().to_le_bytes());
    trailer
}

fn gzip_end(payload: &[u8], blocks: u32, data_bytes: u64) -> Vec<u8> {
    let trailer = trailer(payload, blocks, data_bytes);
    let mut end = Vec::new();
    let parts = payload.chunks(16 * 1024 - 4).map(|part| (b"KI", part)).chain([(b"KT", &trailer[..])]);
    for (field, part) in parts {
        let length = part.len() as u16;
        end.extend_from_slice(&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff]);
        end.extend_from_slice(&(length + 4).to_le_bytes());
        end.extend_from_slice(field);
        end.extend_from_slice(&length.to_le_bytes());
        end.extend_from_slice(part);
        end.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    end
}

fn zstd_end(payload: &[u8], blocks: u32, data_bytes: u64) -> Vec<u8> {
    let frame = |magic: u32, content: &[&[u8]]| {
        let content = content.concat();
        [&magic.to_le_bytes()[..], &(content.len() as u32).to_le_bytes(), &content].concat()
    };
    let index = frame(0x184d_2a5b, &[payload, &trailer(payload, blocks, data_bytes)]);
    let entries = vec![0; 8 * blocks as usize];
    let table = frame(0x184d_2a5e, &[&entries, &blocks.to_le_bytes(), &[0], &0x8f92_eab1_u32.to_le_bytes()]);
    [index, table].concat()
}

/// The longest line, and the most content, that a reader here takes.
const LINE_BYTES_MAX: usize = 1 << 20;
const CONTENT_BYTES_MAX: u64 = 32 << 20;
/// Content that is there at a time: the largest block that is written, and what is made of it.
const READ_BYTES_MAX: usize = 96 << 20;

/// Lines of a file by the reader of kas3; `None` when it finds the file damaged.
fn lines_of(file: &Bytes, compression: Compression) -> Option<Vec<Bytes>> {
    let options = ReadOptions { row_bytes_max: LINE_BYTES_MAX, content_bytes_max: CONTENT_BYTES_MAX, ..ReadOptions::default() };
    read_all(file.clone(), compression, options).ok()?.map(|line| line.map(|line| line.bytes)).collect::<Result<_>>().ok()
}

/// The first byte chooses the compression, by default the one that the bytes look like; the rest is the file. A file is found
/// damaged, or its lines are those that other decoders find.
pub fn file(data: &[u8]) {
    let Some((choice, file)) = data.split_first() else { return };
    let compression = match choice & 3 {
        0 => compression_of(file),
        1 => Compression::None,
        2 => Compression::Gzip,
        _ => Compression::Zstd,
    };
    let file = Bytes::copy_from_slice(file);
    let lines = bounded(READ_BYTES_MAX + 256 * data.len(), || lines_of(&file, compression));
    let (Some(lines), Some(content)) = (lines, content(&file, compression)) else { return };
    let mut wanted: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
    if wanted.last() == Some(&&b""[..]) {
        wanted.pop();
    }
    assert!(lines == wanted, "other decoders find other lines");
}

/// The content by decoders that the reader does not use in this way; `None` when they find the file damaged, or too large.
fn content(file: &[u8], compression: Compression) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    match compression {
        Compression::None => content.extend_from_slice(file),
        Compression::Gzip => drop(flate2::read::MultiGzDecoder::new(file).take(2 * CONTENT_BYTES_MAX).read_to_end(&mut content).ok()?),
        Compression::Zstd => drop(zstd::stream::read::Decoder::new(file).ok()?.take(2 * CONTENT_BYTES_MAX).read_to_end(&mut content).ok()?),
    }
    (content.len() as u64 <= CONTENT_BYTES_MAX).then_some(content)
}

/// Bytes that say how a file of kas3 is made, and then what is done to it: up to two bytes are changed, or it is cut short. The
/// damage is found, or what is read is what was written (as far as it goes, where nothing says how long the file was).
pub fn damaged_file(data: &[u8]) {
    let Some((&[choice, number, width, gap], damage)) = data.split_first_chunk::<4>() else { return };
    let compression = if choice & 1 == 0 { Compression::Gzip } else { Compression::Zstd };
    let index = if choice & 2 == 0 || compression != Compression::Gzip { IndexPlace::Inside } else { IndexPlace::SideFile };
    let block = if choice & 16 != 0 && index == IndexPlace::Inside { BlockSize::File } else { BlockSize::Fixed(Size(4096)) };
    let settings = LinesSettings { compression, index, envelope: choice & 4 != 0, block, ..LinesSettings::default() };
    let value = |number: usize| format!("{{\"id\":{number},\"text\":\"{}\"}}", "ab1".repeat(number * usize::from(width) % 200)).into_bytes();
    let record = |number: usize| OwnedRecord {
        topic: "orders".into(),
        offset: (number + usize::from(gap) * (number / 3)) as i64,
        timestamp_ms: Some(1_767_225_600_000 + number as i64),
        value: Some(value(number)),
        ..OwnedRecord::default()
    };
    let records: Vec<OwnedRecord> = (0..usize::from(number)).map(record).collect();
    let rows: Vec<Row<'_>> = records.iter().map(|record| Row::of(record.borrow())).collect();
    let format = settings.of("json_lines").expect("a format").settings.build("format");
    let mut encoder = format.and_then(|format| format.encoder()).expect("an encoder");
    assert_eq!(encoder.append(&rows).expect("a sound encoder").refused, None, "records that fit");
    let whole = encoder.finish().expect("a file").tail;
    let lines = lines_of(&whole, compression).expect("a file of ours");
    assert_eq!(lines.len(), records.len());
    let mut file = whole.to_vec();
    for change in damage.chunks_exact(3).take(2) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % file.len();
        file[at] ^= change[2];
    }
    if choice & 8 != 0
        && let Some(cut) = damage.last_chunk::<2>()
    {
        file.truncate(usize::from(u16::from_le_bytes(*cut)) % file.len());
    }
    let Some(found) = bounded(READ_BYTES_MAX, || lines_of(&file.into(), compression)) else { return };
    assert!(lines.starts_with(&found), "lines that were never written");
    assert!(choice & 8 != 0 || found.len() == lines.len(), "{} lines of {}", found.len(), lines.len());
}
