//! What every format with every compression promises, checked for each row of the registry, and by readers that are not ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use futures::FutureExt;
use kas3_sink::{
    format::{
        Encoder, FORMATS, Finished, Format,
        lines::{
            BlockSize, Compression, IndexPlace, LinesSettings, envelope,
            index::BlockIndex,
            read::{LinesFile, compression_of, read_all},
        },
        read::{RangeRead, ReadOptions, StoredRow, reader_of},
    },
    record::{OwnedHeaders, OwnedRecord},
    row::{OwnedRow, Row},
    span::{Bounds, Checksum},
    units::Bytes as Size,
};
use proptest::{collection::vec, option, prelude::*};
use std::{
    io::{Read, Write},
    ops::Range,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

/// A format by its name, with its settings.
#[derive(Clone, Debug)]
struct Settings {
    kind: &'static str,
    lines: LinesSettings,
}

impl std::ops::Deref for Settings {
    type Target = LinesSettings;
    fn deref(&self) -> &LinesSettings {
        &self.lines
    }
}

impl Settings {
    fn format(&self) -> kas3_sink::Result<Arc<dyn Format>> {
        self.lines.of(self.kind).unwrap().settings.build("format")
    }
}

fn json(lines: LinesSettings) -> Settings {
    Settings { kind: "json_lines", lines }
}

fn text(lines: LinesSettings) -> Settings {
    Settings { kind: "text", lines }
}

/// The smallest blocks.
const SMALL: BlockSize = BlockSize::Fixed(Size(4096));

/// Every format with every compression, envelope, place of the index and kind of blocks that it takes.
fn every_format() -> Vec<Settings> {
    let mut all = Vec::new();
    for row in FORMATS {
        for compression in COMPRESSIONS {
            let inside = IndexPlace::Inside;
            for (envelope, index, block) in [
                (false, inside, SMALL),
                (true, inside, SMALL),
                (false, IndexPlace::SideFile, SMALL),
                (false, inside, BlockSize::Auto),
                (false, IndexPlace::SideFile, BlockSize::Auto),
                (false, inside, BlockSize::File),
            ] {
                let lines = LinesSettings { compression, envelope, index, block, ..LinesSettings::default() };
                let settings = Settings { kind: row.name, lines };
                if settings.format().is_ok() {
                    all.push(settings);
                }
            }
        }
    }
    assert!(all.len() >= 3 * FORMATS.len(), "every format takes every compression");
    all
}

fn has_index(settings: &Settings) -> bool {
    settings.compression != Compression::None && settings.index == IndexPlace::Inside && settings.block != BlockSize::File
}

fn encoder(settings: &Settings) -> Box<dyn Encoder> {
    settings.format().unwrap().encoder().unwrap()
}

/// Writes `records` in batches of `batch`, taking and shrinking after every `take`th and `shrink`th of them.
fn write(settings: &Settings, records: &[OwnedRecord], batch: usize, take: usize, shrink: usize) -> (Bytes, Finished) {
    let mut encoder = encoder(settings);
    let mut file = Vec::new();
    let rows: Vec<Row<'_>> = records.iter().map(|record| Row::of(record.borrow())).collect();
    for (number, batch) in rows.chunks(batch).enumerate() {
        let appended = encoder.append(batch).unwrap();
        assert_eq!((appended.written, appended.filtered, appended.refused), (batch.len() as u64, 0, None));
        if number % shrink == shrink - 1 {
            encoder.shrink().unwrap();
        }
        if number % take == take - 1 {
            file.extend_from_slice(&encoder.take());
        }
    }
    let finished = encoder.finish().unwrap();
    file.extend_from_slice(&finished.tail);
    (file.into(), finished)
}

fn write_plainly(settings: &Settings, records: &[OwnedRecord]) -> (Bytes, Finished) {
    write(settings, records, 7, usize::MAX, usize::MAX)
}

/// The content of a file by decoders other than those of the reader.
fn content(settings: &Settings, file: &Bytes) -> Vec<u8> {
    let mut content = Vec::new();
    match settings.compression {
        Compression::None => content.extend_from_slice(file),
        Compression::Gzip => drop(flate2::read::MultiGzDecoder::new(&file[..]).read_to_end(&mut content).unwrap()),
        Compression::Zstd => content = zstd::stream::decode_all(&file[..]).unwrap(),
    }
    content
}

fn checksum(content: &[u8]) -> Checksum {
    Checksum::from_xxh3(xxhash_rust::xxh3::xxh3_128(content))
}

fn record(offset: i64, value: Option<Vec<u8>>) -> OwnedRecord {
    OwnedRecord { topic: "orders".into(), partition: 2, offset, timestamp_ms: Some(1_700_000_000_000 + offset % 7), value, ..OwnedRecord::default() }
}

/// Records that ask for trouble: gaps, doubled offsets, no bytes, a megabyte, bytes that are not UTF-8.
fn records() -> Vec<OwnedRecord> {
    let plain = |n: i64| record(n + 1000, Some(format!("{{\"id\":{n},\"text\":\"{}\"}}", "ab".repeat(n as usize % 50)).into_bytes()));
    let mut all: Vec<OwnedRecord> = (0..400).map(plain).collect();
    let noise = (0..1_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8);
    let large: Vec<u8> = noise.map(|byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect();
    let odd: [(i64, Option<&[u8]>); 5] =
        [(2000, Some(b"")), (2000, None), (2000, Some(&large)), (5000, Some(b"\xff\xfe\x0b \0")), (5001, Some(b"[]"))];
    for (offset, value) in odd {
        let headers = OwnedHeaders(vec![(b"h".to_vec(), None)]);
        all.push(OwnedRecord { timestamp_ms: None, key: Some(vec![0xc3]), headers, ..record(offset, value.map(<[u8]>::to_vec)) });
    }
    all.extend((0..100).map(|n| record(9000 + 3 * n, Some(b"1".to_vec()))));
    all
}

/// Checks each line against the record that it must be.
fn assert_lines(settings: &Settings, lines: &[StoredRow], records: &[OwnedRecord]) {
    assert_eq!(lines.len(), records.len(), "{settings:?}");
    for (line, record) in lines.iter().zip(records) {
        let absent: &[u8] = if settings.kind == "json_lines" { b"null" } else { b"" };
        match record.value.as_deref() {
            _ if settings.envelope => assert_eq!(&envelope::decode(&line.bytes).unwrap(), record, "{settings:?}"),
            None | Some([]) => assert_eq!(line.bytes, absent, "offset {} of {settings:?}", record.offset),
            Some(value) => assert_eq!(line.bytes, value, "offset {} of {settings:?}", record.offset),
        }
        assert_eq!(line.offset, has_index(settings).then_some(record.offset), "{settings:?}");
    }
}

fn all_lines(settings: &Settings, file: &Bytes) -> Vec<StoredRow> {
    read_all(file.clone(), settings.compression, ReadOptions::default()).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_file_holds_its_records_in_order_and_says_so_truthfully() {
    let records = records();
    for settings in every_format() {
        let (file, finished) = write_plainly(&settings, &records);
        assert_eq!(finished.bytes, file.len() as u64, "{settings:?}");
        // three rows of the offset 2000
        assert_eq!((finished.rows, finished.records), (records.len() as u64, records.len() as u64 - 2));
        assert_eq!(finished.offsets, Some(Bounds { min: 1000, max: 9297 }));
        assert_eq!(finished.timestamps, Some(Bounds { min: 1_700_000_000_000, max: 1_700_000_000_006 }));
        assert_eq!(finished.checksum, checksum(&content(&settings, &file)), "{settings:?}");
        assert_eq!(finished.side_file.is_some(), settings.index == IndexPlace::SideFile);
        assert_lines(&settings, &all_lines(&settings, &file), &records);
    }
}

#[test]
fn its_reader_recognises_each_file_by_its_beginning_and_tells_what_holds_which_row() {
    let rows: Vec<OwnedRow> = records().into_iter().map(OwnedRow::from).collect();
    for settings in every_format() {
        let (file, _) = write_plainly(&settings, &records());
        let head = file.slice(..4);
        let format = reader_of(&head);
        let mut reader = format.open(&file, &head, ReadOptions::default()).now_or_never().unwrap().unwrap();
        assert_eq!(reader.is_indexed(), has_index(&settings), "{settings:?}");
        let mut stored = Vec::new();
        while let Some(rows) = reader.next().now_or_never().unwrap().unwrap() {
            stored.extend(rows);
        }
        assert_eq!(stored.len(), rows.len(), "{settings:?}");
        for (at, (stored, row)) in stored.iter().zip(&rows).enumerate() {
            assert!(format.holds(&stored.bytes, &row.borrow()), "row {at} of {settings:?}");
            let next = &rows[(at + 1) % rows.len()];
            let same = next.record.value == row.record.value || next.record.value.as_ref().is_none_or(Vec::is_empty);
            assert!(same || !format.holds(&stored.bytes, &next.borrow()), "row {at} of {settings:?} is not the one after it");
        }
    }
}

#[test]
fn a_file_without_records_is_whole_and_empty() {
    for settings in every_format() {
        let (file, finished) = write_plainly(&settings, &[]);
        assert_eq!(compression_of(&file), settings.compression);
        assert_eq!((finished.rows, finished.bytes, finished.offsets, finished.timestamps), (0, file.len() as u64, None, None));
        assert_eq!(finished.checksum, checksum(b""));
        assert!(content(&settings, &file).is_empty(), "{settings:?}");
        assert!(all_lines(&settings, &file).is_empty());
    }
}

#[test]
fn the_same_records_give_the_same_bytes_and_early_closed_blocks_the_same_content() {
    let records = records();
    for settings in every_format() {
        let (file, finished) = write_plainly(&settings, &records);
        assert!(write(&settings, &records, 64, 2, usize::MAX).0 == file, "batches and takes do not show: {settings:?}");
        let (shrunk, shrunk_finished) = write(&settings, &records, 5, 3, 2);
        assert_eq!(shrunk_finished.checksum, finished.checksum, "{settings:?}");
        assert!(content(&settings, &shrunk) == content(&settings, &file));
        assert!(all_lines(&settings, &shrunk) == all_lines(&settings, &file));
    }
}

#[test]
fn the_size_of_an_open_file_is_near_that_of_the_finished_one() {
    for compression in COMPRESSIONS {
        let settings = json(LinesSettings { compression, block: BlockSize::Fixed(Size(64 << 10)), ..LinesSettings::default() });
        let mut encoder = encoder(&settings);
        for n in 0..20_000_i64 {
            let value = format!("{{\"id\":{n},\"hash\":\"{:016x}\"}}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()));
            encoder.append(&[Row::of(record(n, Some(value.into_bytes())).borrow())]).unwrap();
        }
        let size = encoder.size();
        let bytes = encoder.finish().unwrap().bytes;
        assert!(size.abs_diff(bytes) < bytes / 50, "{compression:?}: {size} and then {bytes}");
    }
}

#[test]
fn thousands_of_idle_files_cost_little_and_shrinking_gives_memory_back() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut encoder = encoder(&json(LinesSettings { compression, ..LinesSettings::default() }));
        assert!(encoder.buffered() < 1500, "{}", encoder.buffered());
        encoder.append(&[Row::of(record(1, Some(vec![b'x'; 100])).borrow())]).unwrap();
        assert!(encoder.buffered() < 2000, "{}", encoder.buffered());
        for n in 2..5000 {
            encoder.append(&[Row::of(record(n, Some(vec![b'x'; 100])).borrow())]).unwrap();
        }
        assert!(encoder.buffered() > 400_000);
        encoder.shrink().unwrap();
        assert!(encoder.buffered() < 20_000, "{}", encoder.buffered());
        encoder.append(&[Row::of(record(5000, Some(vec![b'x'; 10 << 20])).borrow())]).unwrap();
        assert!(!encoder.take().is_empty());
        assert!(encoder.buffered() < (2 << 20) + 4096, "a huge record is not held: {}", encoder.buffered());
    }
}

#[test]
fn a_record_never_spans_two_blocks_and_a_huge_one_has_a_block_of_its_own() {
    let records = records();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let settings = text(LinesSettings { compression, block: SMALL, ..LinesSettings::default() });
        let index = BlockIndex::of_bytes(&write_plainly(&settings, &records).0, compression).unwrap().unwrap();
        let (large, small): (Vec<_>, Vec<_>) = index.blocks().iter().partition(|block| block.content_bytes > 4096);
        assert_eq!(large.iter().map(|block| (block.rows, block.content_bytes)).collect::<Vec<_>>(), [(1, (1 << 20) + 1)]);
        assert!(small.len() > 5 && small.len() < 20, "{}", small.len());
    }
}

/// Records of about `bytes` each, which compress about as well as usual ones.
fn long_records(count: i64, bytes: usize) -> Vec<OwnedRecord> {
    let value = |n: i64| {
        let unit =
            format!("{{\"id\":{n},\"hash\":\"{:016x}\",\"text\":\"{}\"}}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()), "ab".repeat(40));
        format!("[{}]", vec![unit; bytes / 130].join(",")).into_bytes()
    };
    (0..count).map(|n| record(3 * n, Some(value(n)))).collect()
}

#[test]
fn blocks_grow_with_the_file_and_no_block_takes_more_memory_than_the_first() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let settings = json(LinesSettings { compression, level: Some(1), ..LinesSettings::default() });
        let mut encoder = encoder(&settings);
        let records = long_records(1600, 100_000);
        let (mut file, mut held) = (Vec::new(), 0);
        for record in &records {
            encoder.append(&[Row::of(record.borrow())]).unwrap();
            held = held.max(encoder.buffered());
            file.extend_from_slice(&encoder.take());
        }
        // a zstd frame is held as it is stored
        assert!(held < 4 << 20, "{compression:?}: {held}");
        file.extend_from_slice(&encoder.finish().unwrap().tail);
        let file = Bytes::from(file);
        let index = BlockIndex::of_bytes(&file, compression).unwrap().unwrap();
        let mut before = 0;
        for block in index.blocks() {
            assert!(block.content_bytes <= (before / 4).max(1 << 20), "{block:?} behind {before}");
            before += block.content_bytes;
        }
        assert!(before > 140 << 20 && index.blocks().len() <= 32, "{} blocks in {before} bytes", index.blocks().len());
        assert!(index.blocks().iter().any(|block| block.content_bytes > 15 << 20));
        for offsets in [0..1, 3 * 700..3 * 701 + 1, 3 * 1599..i64::MAX] {
            let options = ReadOptions { offsets: offsets.clone(), ..ReadOptions::default() };
            let lines: Vec<StoredRow> = read_all(file.clone(), compression, options).unwrap().collect::<Result<_, _>>().unwrap();
            let wanted: Vec<OwnedRecord> = records.iter().filter(|record| offsets.contains(&record.offset)).cloned().collect();
            assert_lines(&settings, &lines, &wanted);
        }
    }
}

#[test]
fn giving_memory_back_adds_no_member_and_batches_do_not_show_in_large_blocks() {
    let records = long_records(150, 90_000);
    let contents = |file: &Bytes, compression| -> Vec<u64> {
        BlockIndex::of_bytes(file, compression).unwrap().unwrap().blocks().iter().map(|block| block.content_bytes).collect()
    };
    for compression in [Compression::Gzip, Compression::Zstd] {
        let settings = json(LinesSettings { compression, level: Some(1), ..LinesSettings::default() });
        let (file, finished) = write_plainly(&settings, &records);
        assert!(write(&settings, &records, 64, 2, usize::MAX).0 == file, "batches and takes do not show: {compression:?}");
        let (shrunk, shrunk_finished) = write(&settings, &records, 3, 1, 1);
        assert_eq!(shrunk_finished.checksum, finished.checksum);
        assert!(all_lines(&settings, &shrunk) == all_lines(&settings, &file));
        if compression == Compression::Gzip {
            assert_eq!(contents(&shrunk, compression), contents(&file, compression));
        }
    }
}

#[test]
fn a_file_of_one_block_is_one_member_or_frame_however_large_it_gets_and_takes_little_memory() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let settings = json(LinesSettings { compression, block: BlockSize::File, ..LinesSettings::default() });
        for (records, shrink) in [(long_records(3, 1000), usize::MAX), (long_records(200, 100_000), usize::MAX), (long_records(200, 100_000), 3)] {
            let (file, _) = write(&settings, &records, 2, 1, shrink);
            let mut member = flate2::bufread::GzDecoder::new(&file[..]);
            match compression {
                Compression::Gzip => {
                    let mut content = Vec::new();
                    member.read_to_end(&mut content).unwrap();
                    assert!(member.into_inner().is_empty(), "one member, and nothing behind it");
                    assert_eq!(content.iter().filter(|byte| **byte == b'\n').count(), records.len());
                }
                _ => assert_eq!(zstd::zstd_safe::find_frame_compressed_size(&file), Ok(file.len()), "one frame, and nothing behind it"),
            }
            assert_lines(&settings, &all_lines(&settings, &file), &records);
        }
        let mut encoder = encoder(&settings);
        for record in long_records(200, 100_000) {
            encoder.append(&[Row::of(record.borrow())]).unwrap();
            encoder.take();
            assert!(encoder.buffered() < 4 << 20, "{compression:?}: {}", encoder.buffered());
        }
    }
}

#[test]
fn the_side_file_describes_members_that_inflate_alone() {
    let records = records();
    let settings = text(LinesSettings { index: IndexPlace::SideFile, block: SMALL, ..LinesSettings::default() });
    let (file, finished) = write_plainly(&settings, &records);
    let index: serde_json::Value = serde_json::from_slice(&finished.side_file.unwrap()).unwrap();
    let (mut position, mut counted) = (0, 0);
    for chunk in index["chunks"].as_array().unwrap() {
        let number = |key: &str| usize::try_from(chunk[key].as_u64().unwrap()).unwrap();
        assert_eq!(number("byte_offset"), position);
        let member = file.slice(position..position + number("byte_length"));
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(&member[..]).read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), number("byte_length_uncompressed"));
        assert_eq!(content.iter().filter(|byte| **byte == b'\n').count(), number("num_records"));
        assert_eq!(chunk["first_record_offset"].as_i64().unwrap(), records[counted].offset);
        position += member.len();
        counted += number("num_records");
    }
    assert_eq!((position, counted), (file.len(), records.len()));
}

/// Answers ranges of a file and remembers how many bytes it gave.
struct Counting {
    file: Bytes,
    given: AtomicU64,
    requests: AtomicU64,
}

impl Counting {
    fn new(file: Bytes) -> Self {
        Counting { file, given: AtomicU64::default(), requests: AtomicU64::default() }
    }
}

#[async_trait::async_trait]
impl RangeRead for Counting {
    async fn range(&self, range: Range<u64>) -> kas3_sink::Result<Bytes> {
        self.given.fetch_add(range.end - range.start, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.file.range(range).await
    }
    async fn size(&self) -> kas3_sink::Result<u64> {
        self.file.size().await
    }
}

#[test]
fn one_record_of_a_large_file_costs_its_block_and_the_index() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let settings = json(LinesSettings { compression, block: BlockSize::Fixed(Size(64 << 10)), ..LinesSettings::default() });
        let value = |n: i64| format!("{:x}", (n as u128 + 1).pow(5).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)).into_bytes();
        let records: Vec<OwnedRecord> = (0..60_000).map(|n| record(2 * n, Some(value(n)))).collect();
        let (file, _) = write_plainly(&settings, &records);
        assert!(file.len() > 1 << 20);
        let counting = Counting::new(file);
        let options = ReadOptions { offsets: 80_000..80_001, ..ReadOptions::default() };
        let mut reader = sendable(LinesFile::open(&counting, compression, options)).now_or_never().unwrap().unwrap();
        let lines: Vec<StoredRow> = sendable(reader.lines()).now_or_never().unwrap().unwrap().unwrap().collect();
        assert_eq!(lines, [StoredRow { offset: Some(80_000), bytes: value(40_000).into() }]);
        assert!(reader.lines().now_or_never().unwrap().unwrap().is_none());
        let given = counting.given.load(Ordering::Relaxed);
        assert!(given < 300_000, "{given} bytes of {}", counting.file.len());
    }
}

#[test]
fn a_small_file_is_read_whole_with_one_request() {
    let records: Vec<OwnedRecord> = (0..500).map(|n| record(n, Some(b"{}".to_vec()))).collect();
    for settings in every_format() {
        let (file, _) = write_plainly(&settings, &records);
        let counting = Counting::new(file);
        let mut reader = LinesFile::open(&counting, settings.compression, ReadOptions::default()).now_or_never().unwrap().unwrap();
        let mut read = 0;
        while let Some(lines) = reader.lines().now_or_never().unwrap().unwrap() {
            read += lines.count();
        }
        assert_eq!((read, counting.requests.load(Ordering::Relaxed)), (500, 1), "{settings:?}");
    }
}

/// Readers run on async threads.
fn sendable<F: Future + Send>(future: F) -> F {
    future
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(content).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn a_file_of_others_is_read_whole() {
    let content = b"first\n\nlast without a newline";
    let files = [content.to_vec(), gzip(content), zstd::stream::encode_all(&content[..], 1).unwrap()];
    for (file, compression) in files.into_iter().zip(COMPRESSIONS) {
        assert_eq!(compression_of(&file), compression);
        let options = ReadOptions { dense_from: Some(70), ..ReadOptions::default() };
        let lines: Vec<StoredRow> = read_all(file.clone().into(), compression, options).unwrap().collect::<Result<_, _>>().unwrap();
        let lines: Vec<_> = lines.iter().map(|line| (line.offset.unwrap(), &line.bytes[..])).collect();
        assert_eq!(lines, [(70, &b"first"[..]), (71, b""), (72, b"last without a newline")]);
        let mut cut = read_all(file[..file.len() - 1].to_vec().into(), compression, ReadOptions::default()).unwrap();
        assert_eq!(cut.any(|line| line.is_err()), compression != Compression::None, "{compression:?}");
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let bombs = |content: &[u8]| [(Compression::Gzip, gzip(content)), (Compression::Zstd, zstd::stream::encode_all(content, 3).unwrap())];
    for (compression, file) in bombs(&vec![b'x'; 64 << 20]) {
        let options = ReadOptions { row_bytes_max: 4 << 20, ..ReadOptions::default() };
        let error = read_all(file.into(), compression, options).unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("a line of more than `4194304` bytes"), "{error:?}");
    }
    for (compression, file) in bombs(&vec![b'\n'; 32 << 20]) {
        let options = ReadOptions { content_bytes_max: 8 << 20, ..ReadOptions::default() };
        let error = read_all(file.into(), compression, options).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("limit"), "{error:?}");
    }
}

fn sequence() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let step = prop_oneof![6 => Just(1_i64), 1 => Just(0), 2 => 2..50_i64];
    let value = vec(any::<u8>().prop_map(|byte| if b"\r\n".contains(&byte) { b'.' } else { byte }), 0..900);
    vec((step, option::of(any::<i64>()), option::weighted(0.9, value)), 0..120).prop_map(|steps| {
        let mut offset = 100;
        let next = |(step, timestamp_ms, value)| {
            offset += step;
            OwnedRecord { timestamp_ms, ..record(offset, value) }
        };
        steps.into_iter().map(next).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_of_offsets_reads_back_exactly_its_records(
        records in sequence(), from in 90..1500_i64, width in 0..400_i64, shrink in 1..40_usize,
    ) {
        for settings in every_format().into_iter().filter(has_index) {
            let (file, _) = write(&settings, &records, 1, 3, shrink);
            let offsets = from..from + width;
            let options = ReadOptions { offsets: offsets.clone(), ..ReadOptions::default() };
            let lines: Vec<StoredRow> = read_all(file, settings.compression, options).unwrap().collect::<Result<_, _>>().unwrap();
            let wanted: Vec<OwnedRecord> = records.iter().filter(|record| offsets.contains(&record.offset)).cloned().collect();
            assert_lines(&settings, &lines, &wanted);
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_or_changes_no_line(records in sequence(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        for settings in every_format().into_iter().filter(|settings| settings.compression != Compression::None) {
            let (file, _) = write_plainly(&settings, &records);
            let whole: Vec<Bytes> = all_lines(&settings, &file).into_iter().map(|line| line.bytes).collect();
            let mut damaged = file.to_vec();
            let at = at.index(damaged.len());
            damaged[at] ^= 1 << bit;
            let Ok(lines) = read_all(damaged.into(), settings.compression, ReadOptions::default()) else { continue };
            if let Ok(lines) = lines.map(|line| line.map(|line| line.bytes)).collect::<Result<Vec<_>, _>>() {
                prop_assert!(lines == whole, "{:?}: bit {} of byte {}", settings, bit, at);
            }
        }
    }

    #[test]
    fn no_bytes_make_reading_panic(mut bytes in vec(any::<u8>(), 0..300), compression in prop::sample::select(COMPRESSIONS.to_vec())) {
        let magic: &[u8] = match compression {
            Compression::None => b"",
            Compression::Gzip => &[0x1f, 0x8b, 8, 0],
            Compression::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
        };
        bytes.splice(0..0, magic.iter().copied());
        let options = ReadOptions { content_bytes_max: 1 << 20, ..ReadOptions::default() };
        if let Ok(lines) = read_all(bytes.into(), compression, options) {
            lines.for_each(drop);
        }
    }
}

/// Runs a program on a file; its output.
fn run(program: &str, arguments: &[&str], file: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn gzip_and_python_read_the_file_and_python_finds_a_record_by_the_documented_index() {
    let folder = tempfile::tempdir().unwrap();
    let settings = text(LinesSettings { block: SMALL, ..LinesSettings::default() });
    // Gaps everywhere make an index of several members.
    let mut records = records();
    records.extend((0..40_000).map(|n| record(20_000 + 3 * n, Some(format!("value {n}").into_bytes()))));
    let (file, _) = write_plainly(&settings, &records);
    let path = folder.path().join("0_1000.txt.gz");
    std::fs::write(&path, &file).unwrap();
    let content = content(&settings, &file);

    run("gzip", &["-t"], &path);
    assert!(run("gzip", &["-dc"], &path) == content, "gzip gives the content");
    let whole = "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.argv[1]).read())";
    assert!(run("python3", &["-c", whole], &path) == content, "Python's gzip gives the content");

    let manual = include_str!("../../../docs/block-index.md");
    let reader = manual.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let cases = [(20_000 + 3 * 31_234, "value 31234\n"), (5001, "[]\n"), (1000, "{\"id\":0,\"text\":\"\"}\n"), (9001, ""), (20_001, "")];
    for (offset, wanted) in cases {
        let asked = format!("{reader}\nimport sys\nfor line in find(sys.argv[1], {offset}): sys.stdout.buffer.write(line)\n");
        assert_eq!(String::from_utf8(run("python3", &["-c", &asked], &path)).unwrap(), wanted, "offset {offset}");
    }
}
