//! Stored forms that stay readable for ever. `golden/format/v1` holds files as the first version wrote them, and beside each
//! (`<file>.json`) what it must read as. A later version adds a folder and leaves this one alone: `v1-pieces` has blocks of
//! several pieces, with the same index.
//!
//! What is written today is compared with them too. When a newer compressor gives other bytes, look that only compressed
//! blocks changed, keep the old files under another name and write the folder again with `KAS3_GOLDEN=write`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use kas3_sink::{
    format::{
        lines::{
            BlockSize, Compression, IndexPlace, LinesSettings, Newlines,
            index::{Block, BlockIndex},
            read::{compression_of, read_all},
        },
        read::ReadOptions,
    },
    record::{OwnedHeaders, OwnedRecord},
    row::Row,
    units::Bytes as Size,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

const FOLDERS: [&str; 2] = ["v1", "v1-pieces"];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format").join(name)
}

fn records() -> Vec<OwnedRecord> {
    let record = |offset: i64, value: Option<&str>| OwnedRecord {
        topic: "orders".into(),
        partition: 3,
        offset,
        timestamp_ms: (offset % 5 != 0).then_some(1_700_000_000_000 - offset * 1000),
        key: (offset % 2 == 0).then(|| b"k\"1".to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: OwnedHeaders::default(),
    };
    let plain = |offset| record(offset, Some(&format!("{{\"id\":{offset},\"text\":\"some text that fills a block, é\"}}")));
    let long = format!("{{\"long\":\"{}\"}}", "x".repeat(5000));
    let mut records: Vec<OwnedRecord> = (100..160).map(plain).collect();
    records.extend([record(160, None), record(160, Some("")), record(160, Some("[1,\n 2.50]")), record(170, Some(&long)), record(181, Some("{}"))]);
    records.push(OwnedRecord {
        value: Some(b"\xff\0\t".to_vec()),
        headers: OwnedHeaders(vec![(b"trace".to_vec(), Some(b"7f".to_vec())), (b"trace".to_vec(), None), (vec![0x80], Some(Vec::new()))]),
        ..record(300_000_000_000, None)
    });
    records
}

fn cases() -> Vec<(&'static str, &'static str, LinesSettings)> {
    // levels are named: a default may change, what a level gives may not
    let level = |compression| (compression == Compression::Zstd).then_some(3);
    let with =
        |compression| LinesSettings { compression, level: level(compression), block: BlockSize::Fixed(Size(4096)), ..LinesSettings::default() };
    let text = |settings| LinesSettings { newlines: Newlines::Space, ..settings };
    vec![
        ("lines.jsonl.gz", "json_lines", with(Compression::Gzip)),
        ("lines.jsonl.zst", "json_lines", with(Compression::Zstd)),
        ("lines.jsonl", "json_lines", with(Compression::None)),
        ("envelopes.jsonl", "json_lines", LinesSettings { envelope: true, ..with(Compression::None) }),
        ("envelopes.jsonl.gz", "json_lines", LinesSettings { envelope: true, ..with(Compression::Gzip) }),
        ("text.txt", "text", text(with(Compression::None))),
        ("text.txt.zst", "text", text(with(Compression::Zstd))),
        ("side-file.json.gz", "json_lines", LinesSettings { index: IndexPlace::SideFile, ..with(Compression::Gzip) }),
    ]
}

/// Long records that compress well: some twenty MiB, whose files are small.
fn long_records() -> Vec<OwnedRecord> {
    let value = |n: i64| format!("{{\"id\":{n},\"long\":\"{}{n}\"}}", "x".repeat(700_000));
    let record = |n| OwnedRecord {
        topic: "orders".into(),
        offset: 7 * n,
        timestamp_ms: Some(-1000 * n),
        value: Some(value(n).into_bytes()),
        ..OwnedRecord::default()
    };
    (0..30).map(record).collect()
}

/// Files with blocks of several pieces.
fn cases_in_pieces() -> Vec<(&'static str, &'static str, LinesSettings)> {
    let with = |compression, block| LinesSettings { compression, level: Some(3), block, ..LinesSettings::default() };
    vec![
        ("grown.jsonl.gz", "json_lines", with(Compression::Gzip, BlockSize::Auto)),
        ("grown.jsonl.zst", "json_lines", with(Compression::Zstd, BlockSize::Auto)),
        ("one.jsonl.gz", "json_lines", with(Compression::Gzip, BlockSize::File)),
        ("one.jsonl.zst", "json_lines", with(Compression::Zstd, BlockSize::File)),
    ]
}

/// Bytes from which on a line stands in a golden file by its length and checksum.
const LINE_BYTES_MAX: usize = 10_000;

/// What a file holds, as its `.json` says it: an entry a block and a line.
fn reading(file: Bytes) -> Vec<Value> {
    let compression = compression_of(&file);
    let mut entries = Vec::new();
    if let Some(index) = BlockIndex::of_bytes(&file, compression).unwrap() {
        for (number, block) in index.blocks().iter().enumerate() {
            let Block { position, bytes, content_bytes, rows, offsets, timestamps, .. } = block;
            let each: Vec<_> = index.offsets(number).collect();
            entries.push(json!({
                "position": position, "bytes": bytes, "content_bytes": content_bytes, "records": rows,
                "offsets": offsets, "timestamps": timestamps, "offset_of_each": each,
            }));
        }
    }
    for line in read_all(file, compression, ReadOptions::default()).unwrap() {
        let line = line.unwrap();
        if line.bytes.len() > LINE_BYTES_MAX {
            let checksum = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(&line.bytes));
            entries.push(json!({ "offset": line.offset, "bytes": line.bytes.len(), "xxh3": checksum }));
            continue;
        }
        entries.push(json!({ "offset": line.offset, "line": line.bytes.escape_ascii().to_string() }));
    }
    entries
}

#[test]
fn every_golden_file_reads_as_it_always_did() {
    for folder in FOLDERS.map(folder) {
        let mut names: Vec<String> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.ends_with(".json"));
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            let file = fs::read(folder.join(&name)).unwrap();
            let expected = fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
            let expected: Vec<Value> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(reading(file.into()) == expected, "`{name}` reads as something else");
        }
    }
}

#[test]
fn what_is_written_today_is_byte_for_byte_the_golden_files() {
    for (name, cases, records) in [("v1", cases(), records()), ("v1-pieces", cases_in_pieces(), long_records())] {
        let rows: Vec<Row<'_>> = records.iter().map(|record| Row::of(record.borrow())).collect();
        for (file, kind, settings) in cases {
            let mut encoder = settings.of(kind).unwrap().settings.build("format").unwrap().encoder().unwrap();
            assert_eq!(encoder.append(&rows).unwrap().refused, None);
            let finished = encoder.finish().unwrap();
            let bytes = finished.tail;
            let path = folder(name).join(file);
            if std::env::var("KAS3_GOLDEN").as_deref() == Ok("write") {
                fs::write(&path, &bytes).unwrap();
                let lines: String = reading(bytes.clone()).iter().map(|entry| format!("{entry}\n")).collect();
                fs::write(folder(name).join(format!("{file}.json")), lines).unwrap();
            }
            assert!(fs::read(&path).unwrap() == bytes, "`{file}` is written differently");
            if let Some(side_file) = finished.side_file {
                assert!(fs::read(folder(name).join("side-file.index.json")).unwrap() == side_file, "the side file is written differently");
            }
        }
    }
}
