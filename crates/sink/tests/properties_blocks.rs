//! Blocks and their index, whatever the records, the batches and the sizes: read back by decoders that are not ours, and by
//! seeking to every single offset.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use kas3_sink::{
    format::{
        lines::{BlockSize, Compression, LinesSettings, index::BlockIndex, read::read_all},
        read::ReadOptions,
    },
    record::OwnedRecord,
    row::Row,
    units::Bytes as Size,
};
use proptest::{collection::vec, prelude::*};
use std::{collections::BTreeMap, io::Read};

/// Records in a row: the step from the offset before (several rows of a record share its offset), and a value.
fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let step = prop_oneof![12 => Just(1_i64), 2 => 2..30_i64, 1 => Just(0), 1 => 0..1_i64 << 40];
    let value = prop_oneof![
        10 => "[a-z0-9{}\":,]{0,60}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 0..400),
        1 => (0..30_000_usize).prop_map(|bytes| vec![b'x'; bytes]),
    ];
    vec((step, value), 1..250).prop_map(|rows| {
        let mut offset = 0;
        let mut record = |(step, mut value): (i64, Vec<u8>)| {
            offset += step;
            value.retain(|byte| !b"\r\n".contains(byte));
            OwnedRecord { topic: "orders".into(), offset, value: Some(value), ..OwnedRecord::default() }
        };
        rows.into_iter().map(&mut record).collect()
    })
}

/// Writes records in batches of the given sizes, over and over; taking what is ready after each.
fn write(settings: &LinesSettings, records: &[OwnedRecord], batches: &[usize]) -> Bytes {
    let mut encoder = settings.of("text").unwrap().settings.build("format").unwrap().encoder().unwrap();
    let rows: Vec<Row<'_>> = records.iter().map(|record| Row::of(record.borrow())).collect();
    let (mut rest, mut file) = (&rows[..], Vec::new());
    for batch in batches.iter().cycle() {
        let (now, later) = rest.split_at((*batch).min(rest.len()));
        encoder.append(now).unwrap();
        file.extend_from_slice(&encoder.take());
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    file.extend_from_slice(&encoder.finish().unwrap().tail);
    file.into()
}

fn line(record: &OwnedRecord) -> Vec<u8> {
    [record.value.as_deref().unwrap_or_default(), b"\n"].concat()
}

/// The whole file by a decoder that knows nothing of the index.
fn inflate(compression: Compression, file: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match compression {
        Compression::Gzip => drop(flate2::read::MultiGzDecoder::new(file).read_to_end(&mut content).unwrap()),
        _ => content = zstd::stream::decode_all(file).unwrap(),
    }
    content
}

/// One block alone: a whole gzip member, or a zstd frame, and nothing behind it.
fn inflate_block(compression: Compression, block: &[u8]) -> Vec<u8> {
    if compression == Compression::Zstd {
        return zstd::bulk::decompress(block, 1 << 20).unwrap();
    }
    let mut member = flate2::bufread::GzDecoder::new(block);
    let mut content = Vec::new();
    member.read_to_end(&mut content).unwrap();
    assert!(member.into_inner().is_empty(), "one member");
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_offset_is_found_by_the_index_alone_and_the_whole_by_any_decoder(
        records in records(), batches in vec(1..60_usize, 1..6), block in prop_oneof![Just(4096_u64), 4096..40_000_u64],
        zstd: bool, level in 1..10_u8,
    ) {
        let compression = if zstd { Compression::Zstd } else { Compression::Gzip };
        let settings = LinesSettings { compression, level: Some(level), block: BlockSize::Fixed(Size(block)), ..LinesSettings::default() };
        let file = write(&settings, &records, &batches);
        prop_assert!(file == write(&settings, &records, &[records.len()]), "batches show in the bytes");
        prop_assert!(inflate(compression, &file) == records.iter().flat_map(line).collect::<Vec<_>>());

        let index = BlockIndex::of_bytes(&file, compression).unwrap().unwrap();
        let mut rest = &records[..];
        for (number, about) in index.blocks().iter().enumerate() {
            let content = inflate_block(compression, &file[about.position as usize..(about.position + about.bytes) as usize]);
            let (mine, others) = rest.split_at(about.rows as usize);
            rest = others;
            prop_assert!(content == mine.iter().flat_map(line).collect::<Vec<_>>(), "block {}", number);
            prop_assert!(index.offsets(number).eq(mine.iter().map(|record| Some(record.offset))));
            prop_assert!(about.content_bytes <= block || about.rows == 1, "{} bytes in {} records", about.content_bytes, about.rows);
        }
        prop_assert!(rest.is_empty());

        let mut by_offset: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
        for record in &records {
            by_offset.entry(record.offset).or_default().push(record.value.clone().unwrap());
        }
        let found = |offset: i64| -> Vec<Vec<u8>> {
            let options = ReadOptions { offsets: offset..offset + 1, ..ReadOptions::default() };
            read_all(file.clone(), compression, options).unwrap().map(|line| line.unwrap().bytes.to_vec()).collect()
        };
        for (offset, values) in &by_offset {
            prop_assert!(found(*offset) == *values, "offset {}", offset);
            for beside in [offset - 1, offset + 1] {
                prop_assert!(by_offset.contains_key(&beside) || found(beside).is_empty(), "offset {} was never written", beside);
            }
        }
    }
}
