//! Where the index lies: behind the blocks, in what readers of gzip and zstd skip, found from the end by a trailer of fixed size.

use super::{Block, BlockIndex, INDEX_BYTES_MAX, IndexWriter, VERSION, damaged};
use crate::{
    error::{Error, Kind, Result},
    format::{
        lines::Compression,
        read::{RangeRead, request},
    },
};
use bytes::Bytes;
use std::ops::Range;

const MAGIC: &[u8; 4] = b"kas3";
const TRAILER_BYTES: usize = 32;
/// The first read from the end: all of the index of nearly every file.
const FIRST_READ_BYTES: u64 = 64 << 10;

/// Payload in one gzip member: with its field's head it makes the 16 KiB that every reader tried takes.
const MEMBER_PAYLOAD_BYTES: usize = (16 << 10) - FIELD_HEAD_BYTES;
const FIELD_HEAD_BYTES: usize = 4;
/// Member head with FEXTRA set: no time, unknown system.
const MEMBER_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff];
/// An empty deflate block, the CRC and the length of nothing.
const MEMBER_END: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const MEMBER_FRAME_BYTES: usize = MEMBER_HEAD.len() + 2 + FIELD_HEAD_BYTES + MEMBER_END.len();
const PAYLOAD_FIELD: &[u8; 2] = b"KI";
const TRAILER_FIELD: &[u8; 2] = b"KT";

/// Magic numbers of skippable frames: ours, and the one that the seekable format uses.
const OUR_FRAME: u32 = 0x184D_2A5B;
const SEEK_FRAME: u32 = 0x184D_2A5E;
const FRAME_HEAD_BYTES: u64 = 8;
const SEEK_FOOTER_BYTES: u64 = 9;
const SEEK_MAGIC: u32 = 0x8F92_EAB1;
/// Entries of a seek table of ours at most: as many as the largest index has.
const SEEK_ENTRIES_MAX: u64 = INDEX_BYTES_MAX / Block::BYTES_MIN as u64;

/// What the last bytes of the index say of it.
struct Trailer {
    blocks: u32,
    data_bytes: u64,
    payload_bytes: u64,
    crc: u32,
}

impl Trailer {
    fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut out = [0; TRAILER_BYTES];
        out[..4].copy_from_slice(MAGIC);
        out[4] = VERSION;
        out[8..12].copy_from_slice(&self.blocks.to_le_bytes());
        out[12..20].copy_from_slice(&self.data_bytes.to_le_bytes());
        out[20..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[28..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    /// `None` when `bytes` are not a trailer.
    fn decode(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(rest) = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() == TRAILER_BYTES) else { return Ok(None) };
        if rest[0] != VERSION {
            let message = format!("block index of version `{}`, which this kas3 does not know", rest[0]);
            return Err(Error::new(Kind::Fatal, message).hint("a newer kas3 wrote the file: read it with that one"));
        }
        let trailer = Trailer { blocks: le32(&rest[4..]), data_bytes: le64(&rest[8..]), payload_bytes: le64(&rest[16..]), crc: le32(&rest[24..]) };
        if trailer.payload_bytes > INDEX_BYTES_MAX {
            return Err(damaged("it is larger than any that is written"));
        }
        Ok(Some(trailer))
    }

    fn open(&self, payload: Bytes) -> Result<BlockIndex> {
        if payload.len() as u64 != self.payload_bytes || libdeflater::crc32(&payload) != self.crc {
            return Err(damaged("its checksum does not match"));
        }
        BlockIndex::decode(payload, self.blocks, self.data_bytes)
    }
}

fn le32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn le64(bytes: &[u8]) -> u64 {
    u64::from(le32(bytes)) | u64::from(le32(&bytes[4..])) << 32
}

/// Appends the index, with its trailer, behind `data_bytes` of blocks.
pub(super) fn write(compression: Compression, index: &IndexWriter, data_bytes: u64, out: &mut Vec<u8>) {
    let IndexWriter { payload, blocks, seek_entries, .. } = index;
    let trailer = Trailer { blocks: *blocks, data_bytes, payload_bytes: payload.len() as u64, crc: libdeflater::crc32(payload) }.encode();
    match compression {
        Compression::None => {}
        Compression::Gzip => {
            for part in payload.chunks(MEMBER_PAYLOAD_BYTES) {
                write_member(*PAYLOAD_FIELD, part, out);
            }
            write_member(*TRAILER_FIELD, &trailer, out);
        }
        Compression::Zstd => {
            let bytes = u32::try_from(payload.len() + TRAILER_BYTES).expect("an index is at most 64 MiB");
            out.extend_from_slice(&OUR_FRAME.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(payload);
            out.extend_from_slice(&trailer);
            write_seek_table(seek_entries, *blocks, out);
        }
    }
}

fn write_member(field: [u8; 2], data: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(data.len()).expect("a member holds at most 16 KiB");
    out.extend_from_slice(&MEMBER_HEAD);
    out.extend_from_slice(&(length + FIELD_HEAD_BYTES as u16).to_le_bytes());
    out.extend_from_slice(&field);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&MEMBER_END);
}

/// Appends the table of zstd's seekable format, for its own readers. (Our index lies between the frames of data and the table,
/// so that sums of the entries' sizes are positions, as that format wants them.)
fn write_seek_table(entries: &[u8], blocks: u32, out: &mut Vec<u8>) {
    let bytes = u32::try_from(entries.len() as u64 + SEEK_FOOTER_BYTES).expect("entries are fewer than bytes of the index");
    out.extend_from_slice(&SEEK_FRAME.to_le_bytes());
    out.extend_from_slice(&bytes.to_le_bytes());
    out.extend_from_slice(entries);
    out.extend_from_slice(&blocks.to_le_bytes());
    out.push(0);
    out.extend_from_slice(&SEEK_MAGIC.to_le_bytes());
}

/// An entry of zstd's seek table: stored and uncompressed size of a frame.
pub(super) fn seek_entry(bytes: u64, content_bytes: u64) -> [u8; 8] {
    let size = |bytes: u64| u32::try_from(bytes).expect("a block is at most a row of 1 GiB");
    (u64::from(size(content_bytes)) << 32 | u64::from(size(bytes))).to_le_bytes()
}

/// The end of a file, as far as it was read.
struct Tail<'a> {
    file: &'a dyn RangeRead,
    bytes: Bytes,
    start: u64,
    size: u64,
}

impl Tail<'_> {
    /// Reads on backwards until `position` is there.
    async fn reach(&mut self, position: u64) -> Result<()> {
        if position >= self.start {
            return Ok(());
        }
        let range = position..self.start;
        let before = request(self.file, range).await?;
        self.bytes = if self.bytes.is_empty() { before } else { [before, self.bytes.clone()].concat().into() };
        self.start = position;
        Ok(())
    }

    /// Bytes of a range of the file that was reached.
    fn slice(&self, range: Range<u64>) -> Bytes {
        self.bytes.slice((range.start - self.start) as usize..(range.end - self.start) as usize)
    }
}

/// What reading an index came by.
pub(in crate::format::lines) struct Found {
    /// `None` when the file has none.
    pub(in crate::format::lines) index: Option<BlockIndex>,
    /// The end of the file, as far as it was read: all of a small file.
    pub(in crate::format::lines) tail: Bytes,
    /// Size of the file in bytes.
    pub(in crate::format::lines) size: u64,
}

/// Reads the index of `file`.
pub(in crate::format::lines) async fn read(file: &dyn RangeRead, compression: Compression) -> Result<Found> {
    let size = file.size().await?;
    let mut tail = Tail { file, bytes: Bytes::new(), start: size, size };
    if compression == Compression::None {
        return Ok(Found { index: None, tail: tail.bytes, size });
    }
    tail.reach(size.saturating_sub(FIRST_READ_BYTES)).await?;
    let index = if compression == Compression::Gzip { read_gzip(&mut tail).await? } else { read_zstd(&mut tail).await? };
    Ok(Found { index, tail: tail.bytes, size })
}

async fn read_gzip(tail: &mut Tail<'_>) -> Result<Option<BlockIndex>> {
    let Some(end) = tail.size.checked_sub((MEMBER_FRAME_BYTES + TRAILER_BYTES) as u64) else { return Ok(None) };
    let last = tail.slice(end..tail.size);
    let Some((trailer, [])) = read_member(&last, *TRAILER_FIELD) else { return Ok(None) };
    let Some(trailer) = Trailer::decode(trailer)? else { return Ok(None) };
    let members = trailer.payload_bytes.div_ceil(MEMBER_PAYLOAD_BYTES as u64);
    let index_bytes = trailer.payload_bytes + members * MEMBER_FRAME_BYTES as u64;
    // In files put one behind the other the last one's index does not begin where its own blocks end.
    if trailer.data_bytes.checked_add(index_bytes) != Some(end) {
        return Ok(None);
    }
    tail.reach(trailer.data_bytes).await?;
    let stored = tail.slice(trailer.data_bytes..end);
    let (mut rest, mut payload) = (&stored[..], Vec::with_capacity(trailer.payload_bytes as usize));
    while !rest.is_empty() {
        let (data, after) = read_member(rest, *PAYLOAD_FIELD).ok_or_else(|| damaged("one of its members is not one"))?;
        payload.extend_from_slice(data);
        rest = after;
    }
    trailer.open(payload.into()).map(Some)
}

/// The data of the member of the index that `bytes` begin with, and what follows it.
fn read_member(bytes: &[u8], field: [u8; 2]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&MEMBER_HEAD)?;
    let (head, rest) = rest.split_at_checked(2 + FIELD_HEAD_BYTES)?;
    let extra = usize::from(u16::from_le_bytes([head[0], head[1]]));
    let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
    if head[2..4] != field || extra != length + FIELD_HEAD_BYTES {
        return None;
    }
    let (data, rest) = rest.split_at_checked(length)?;
    Some((data, rest.strip_prefix(&MEMBER_END)?))
}

async fn read_zstd(tail: &mut Tail<'_>) -> Result<Option<BlockIndex>> {
    let Some(footer) = tail.size.checked_sub(SEEK_FOOTER_BYTES) else { return Ok(None) };
    let entries = tail.slice(footer..tail.size);
    if le32(&entries[5..]) != SEEK_MAGIC || entries[4] != 0 || u64::from(le32(&entries)) > SEEK_ENTRIES_MAX {
        return Ok(None);
    }
    let table_bytes = FRAME_HEAD_BYTES + 8 * u64::from(le32(&entries)) + SEEK_FOOTER_BYTES;
    let Some(table) = tail.size.checked_sub(table_bytes) else { return Ok(None) };
    let Some(end) = table.checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    tail.reach(end).await?;
    let Some(trailer) = Trailer::decode(&tail.slice(end..table))? else { return Ok(None) };
    if trailer.data_bytes.checked_add(FRAME_HEAD_BYTES + trailer.payload_bytes) != Some(end) {
        return Ok(None);
    }
    tail.reach(trailer.data_bytes).await?;
    let payload = trailer.data_bytes + FRAME_HEAD_BYTES;
    let head = tail.slice(trailer.data_bytes..payload);
    if le32(&head) != OUR_FRAME || u64::from(le32(&head[4..])) != table - payload {
        return Err(damaged("its frame is not one"));
    }
    trailer.open(tail.slice(payload..end)).map(Some)
}
