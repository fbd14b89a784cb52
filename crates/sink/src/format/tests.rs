use super::*;
use crate::{
    config::{Absent, Bytes as Size, Compression, IndexPlace, Newlines},
    record::OwnedRecord,
};

fn settings() -> FormatSettings {
    FormatSettings::default()
}

/// One record after the other through a file that is not compressed: what became of them and the content.
fn write(settings: FormatSettings, bad: BadRecords, values: &[Option<&[u8]>]) -> Result<(Appended, String)> {
    let mut encoder = build(&FormatSettings { compression: Compression::None, ..settings }, bad)?.encoder()?;
    let owned = values.iter().zip(40..).map(|(value, offset)| OwnedRecord {
        topic: "orders".into(),
        partition: 3,
        offset,
        value: value.map(<[u8]>::to_vec),
        ..OwnedRecord::default()
    });
    let owned: Vec<OwnedRecord> = owned.collect();
    let records: Vec<Record<'_>> = owned.iter().map(OwnedRecord::borrow).collect();
    let appended = encoder.append(&records)?;
    Ok((appended, String::from_utf8_lossy(&encoder.finish()?.tail).into_owned()))
}

fn text(newlines: Newlines) -> FormatSettings {
    FormatSettings { kind: "text".into(), newlines, ..settings() }
}

#[test]
fn an_unknown_format_names_the_nearest_and_those_that_exist() {
    let error = build(&FormatSettings { kind: "jsonlines".into(), ..settings() }, BadRecords::Stop).err().unwrap();
    assert_eq!(error.kind(), Kind::Config);
    assert_eq!(error.to_string(), "`format.type` names an unknown format `jsonlines`");
    assert_eq!(error.way_out().unwrap(), "did you mean `json_lines`? there are `json_lines`, `text`");
    let error = build(&FormatSettings { kind: "cvs".into(), ..settings() }, BadRecords::Stop).err().unwrap();
    assert_eq!(error.way_out().unwrap(), "there are `json_lines`, `text`");
}

#[test]
fn every_contradiction_and_every_value_out_of_range_is_refused_with_its_keys() {
    let cases: [(FormatSettings, &[&str]); 14] = [
        (
            FormatSettings { index: IndexPlace::SideFile, compression: Compression::Zstd, ..settings() },
            &["`format.index: side_file`", "`format.compression: zstd`"],
        ),
        (
            FormatSettings { index: IndexPlace::SideFile, compression: Compression::None, ..settings() },
            &["`format.index: side_file`", "`format.compression: none`"],
        ),
        (FormatSettings { level: Some(0), ..settings() }, &["`format.level: 0`", "`format.compression: gzip`"]),
        (FormatSettings { level: Some(13), ..settings() }, &["`format.level: 13`", "`format.compression: gzip`"]),
        (FormatSettings { level: Some(20), compression: Compression::Zstd, ..settings() }, &["`format.level: 20`", "`format.compression: zstd`"]),
        (FormatSettings { level: Some(1), compression: Compression::None, ..settings() }, &["`format.level: 1`", "`format.compression: none`"]),
        (FormatSettings { block: Size(4095), ..settings() }, &["`format.block: 4095`"]),
        (FormatSettings { block: Size((64 << 20) + 1), ..settings() }, &["`format.block: 67108865`"]),
        (FormatSettings { envelope: true, newlines: Newlines::Space, ..settings() }, &["`format.envelope`", "`format.newlines`"]),
        (FormatSettings { envelope: true, kind: "text".into(), ..settings() }, &["`format.envelope`", "`format.type: text`"]),
        (
            FormatSettings { content_encoding: true, compression: Compression::None, ..settings() },
            &["`format.content_encoding: true`", "`format.compression: none`"],
        ),
        (FormatSettings { extension: Some("../x".into()), ..settings() }, &["`format.extension: ../x`"]),
        (FormatSettings { extension: Some(".json".into()), ..settings() }, &["`format.extension: .json`"]),
        (FormatSettings { extension: Some(String::new()), ..settings() }, &["`format.extension: `"]),
    ];
    for (settings, keys) in cases {
        let error = build(&settings, BadRecords::Stop).err().unwrap_or_else(|| panic!("{settings:?} was taken"));
        assert_eq!(error.kind(), Kind::Config);
        assert!(keys.iter().all(|key| error.to_string().contains(key)), "{error} lacks one of {keys:?}");
        assert!(error.way_out().is_some(), "{error}");
    }
    for level in [1, 12] {
        assert!(build(&FormatSettings { level: Some(level), ..settings() }, BadRecords::Stop).is_ok());
    }
}

#[test]
fn names_and_types_follow_format_compression_and_settings() {
    let named = |settings: FormatSettings| {
        let format = build(&settings, BadRecords::Stop).unwrap();
        (format.extension().to_owned(), format.content_type(), format.content_encoding())
    };
    let compressed = |compression| FormatSettings { compression, ..settings() };
    assert_eq!(named(settings()), ("jsonl.gz".into(), "application/gzip", None));
    assert_eq!(named(compressed(Compression::Zstd)), ("jsonl.zst".into(), "application/zstd", None));
    assert_eq!(named(compressed(Compression::None)), ("jsonl".into(), "application/x-ndjson", None));
    assert_eq!(named(text(Newlines::Compact)), ("txt.gz".into(), "application/gzip", None));
    let encoded = FormatSettings { content_encoding: true, extension: Some("json.gz".into()), ..settings() };
    assert_eq!(named(encoded), ("json.gz".into(), "application/x-ndjson", Some("gzip")));
}

#[test]
fn a_value_with_a_newline_is_written_as_the_policy_says() {
    let broken: &[Option<&[u8]>] = &[Some(b"{\"a\":\r\n 1.0}"), Some(b"plain")];
    let json = |newlines| write(FormatSettings { newlines, ..settings() }, BadRecords::Stop, broken);
    assert_eq!(json(Newlines::Compact).unwrap().1, "{\"a\":1.0}\nplain\n");
    assert_eq!(json(Newlines::Space).unwrap().1, "{\"a\":  1.0}\nplain\n");
    assert_eq!(json(Newlines::Escape).unwrap().1, "\"{\\\"a\\\":\\r\\n 1.0}\"\nplain\n");
    assert_eq!(write(text(Newlines::Space), BadRecords::Stop, broken).unwrap().1, "{\"a\":  1.0}\nplain\n");
    for settings in [FormatSettings { newlines: Newlines::Reject, ..settings() }, text(Newlines::Compact), text(Newlines::Reject)] {
        assert_eq!(write(settings, BadRecords::Stop, broken).unwrap_err().kind(), Kind::BadRecord);
    }
}

#[test]
fn a_bad_record_stops_with_its_offset_after_the_records_before_it_or_is_counted_and_skipped() {
    let values: &[Option<&[u8]>] = &[Some(b"1"), Some(b"not\njson"), Some(b"2")];
    let error = write(settings(), BadRecords::Stop, values).unwrap_err();
    assert_eq!(error.kind(), Kind::BadRecord);
    assert!(error.to_string().starts_with("record at offset `41` of `orders-3` does not fit"), "{error}");
    assert!(error.way_out().unwrap().contains("format.newlines"));
    assert_eq!(write(settings(), BadRecords::Skip, values).unwrap(), (Appended { written: 2, filtered: 1 }, "1\n2\n".into()));

    let mut encoder = build(&FormatSettings { compression: Compression::None, ..settings() }, BadRecords::Stop).unwrap().encoder().unwrap();
    let owned: Vec<OwnedRecord> = values.iter().map(|value| OwnedRecord { value: value.map(<[u8]>::to_vec), ..OwnedRecord::default() }).collect();
    let records: Vec<Record<'_>> = owned.iter().map(OwnedRecord::borrow).collect();
    assert!(encoder.append(&records).is_err());
    encoder.append(&records[2..]).unwrap();
    let finished = encoder.finish().unwrap();
    assert_eq!((finished.records, &finished.tail[..]), (2, &b"1\n2\n"[..]));
}

#[test]
fn tombstones_and_empty_values_are_written_left_out_or_refused() {
    let values: &[Option<&[u8]>] = &[None, Some(b""), Some(b"1")];
    let with = |kind: &str, tombstones, empty_values| FormatSettings { kind: kind.into(), tombstones, empty_values, ..settings() };
    let run = |settings| write(settings, BadRecords::Stop, values);
    assert_eq!(run(with("json_lines", Absent::Null, Absent::Null)).unwrap().1, "null\nnull\n1\n");
    assert_eq!(run(with("text", Absent::Null, Absent::Null)).unwrap().1, "\n\n1\n");
    assert_eq!(run(with("text", Absent::Skip, Absent::Null)).unwrap(), (Appended { written: 2, filtered: 1 }, "\n1\n".into()));
    assert_eq!(run(with("json_lines", Absent::Skip, Absent::Skip)).unwrap(), (Appended { written: 1, filtered: 2 }, "1\n".into()));
    assert!(run(with("json_lines", Absent::Reject, Absent::Null)).unwrap_err().to_string().contains("offset `40`"));
    assert!(run(with("json_lines", Absent::Null, Absent::Reject)).unwrap_err().to_string().contains("offset `41`"));
    let envelope = FormatSettings { envelope: true, tombstones: Absent::Skip, ..settings() };
    let (appended, content) = run(envelope).unwrap();
    assert_eq!(appended, Appended { written: 2, filtered: 1 });
    assert!(content.starts_with(r#"{"topic":"orders","partition":3,"offset":41,"timestamp":null,"key":null,"headers":[],"value":""}"#), "{content}");
}

#[test]
fn offsets_that_go_back_are_refused() {
    let mut encoder = build(&settings(), BadRecords::Skip).unwrap().encoder().unwrap();
    let at = |offset| OwnedRecord { offset, value: Some(b"1".to_vec()), ..OwnedRecord::default() };
    encoder.append(&[at(5).borrow(), at(5).borrow(), at(9).borrow()]).unwrap();
    assert_eq!(encoder.append(&[at(8).borrow()]).unwrap_err().kind(), Kind::Fatal);
}
