use super::lines::{Absent, BlockSize, Compression, IndexPlace, LinesSettings, Newlines};
use super::*;
use crate::{Kind, record::OwnedRecord, units::Bytes as Size};

fn settings() -> LinesSettings {
    LinesSettings::default()
}

fn build(kind: &str, settings: &LinesSettings) -> Result<Arc<dyn Format>> {
    settings.of(kind).unwrap().settings.build("format")
}

/// One record after the other through a file that is not compressed, from offset 40 on: what became of them and the content.
fn write(kind: &str, settings: &LinesSettings, values: &[Option<&[u8]>]) -> (Appended, String) {
    let mut encoder = build(kind, &LinesSettings { compression: Compression::None, ..settings.clone() }).unwrap().encoder().unwrap();
    let owned = values.iter().zip(40..).map(|(value, offset)| OwnedRecord {
        topic: "orders".into(),
        partition: 3,
        offset,
        value: value.map(<[u8]>::to_vec),
        ..OwnedRecord::default()
    });
    let owned: Vec<OwnedRecord> = owned.collect();
    let rows: Vec<Row<'_>> = owned.iter().map(|record| Row::of(record.borrow())).collect();
    let appended = encoder.append(&rows).unwrap();
    if let Some(refused) = &appended.refused {
        assert_eq!(encoder.refuses(&rows[appended.taken()]).as_ref(), Some(refused), "asked before, it says the same");
    }
    assert!(rows[..appended.taken()].iter().all(|row| encoder.refuses(row).is_none()));
    (appended, String::from_utf8_lossy(&encoder.finish().unwrap().tail).into_owned())
}

fn appended(written: u64, filtered: u64) -> Appended {
    Appended { written, filtered, refused: None }
}

#[test]
fn an_unknown_format_names_the_nearest_and_those_that_exist() {
    let error = settings().of("jsonlines").unwrap_err();
    assert_eq!(error, "there is no format `jsonlines`: did you mean `json_lines`? there are `json_lines`, `text`");
    assert_eq!(settings().of("cvs").unwrap_err(), "there is no format `cvs`: there are `json_lines`, `text`");
}

#[test]
fn every_contradiction_and_every_value_out_of_range_is_refused_with_its_keys() {
    let cases: [(LinesSettings, &[&str]); 15] = [
        (
            LinesSettings { index: IndexPlace::SideFile, compression: Compression::Zstd, ..settings() },
            &["`format.index: side_file`", "`format.compression: zstd`"],
        ),
        (
            LinesSettings { index: IndexPlace::SideFile, compression: Compression::None, ..settings() },
            &["`format.index: side_file`", "`format.compression: none`"],
        ),
        (LinesSettings { level: Some(0), ..settings() }, &["`format.level: 0`", "`format.compression: gzip`"]),
        (LinesSettings { level: Some(13), ..settings() }, &["`format.level: 13`", "`format.compression: gzip`"]),
        (LinesSettings { level: Some(20), compression: Compression::Zstd, ..settings() }, &["`format.level: 20`", "`format.compression: zstd`"]),
        (LinesSettings { level: Some(1), compression: Compression::None, ..settings() }, &["`format.level: 1`", "`format.compression: none`"]),
        (LinesSettings { block: BlockSize::Fixed(Size(4095)), ..settings() }, &["`format.block: 4095`"]),
        (LinesSettings { block: BlockSize::Fixed(Size((64 << 20) + 1)), ..settings() }, &["`format.block: 67108865`"]),
        (LinesSettings { block: BlockSize::File, index: IndexPlace::SideFile, ..settings() }, &["`format.block: file`", "`format.index: side_file`"]),
        (LinesSettings { envelope: true, check_json: true, ..settings() }, &["`format.envelope`", "`format.check_json`"]),
        (LinesSettings { envelope: true, newlines: Newlines::Space, ..settings() }, &["`format.envelope`", "`format.newlines`"]),
        (
            LinesSettings { content_encoding: true, compression: Compression::None, ..settings() },
            &["`format.content_encoding: true`", "`format.compression: none`"],
        ),
        (LinesSettings { extension: Some("../x".into()), ..settings() }, &["`format.extension: ../x`"]),
        (LinesSettings { extension: Some(".json".into()), ..settings() }, &["`format.extension: .json`"]),
        (LinesSettings { extension: Some(String::new()), ..settings() }, &["`format.extension: `"]),
    ];
    for (settings, keys) in cases {
        let error = build("json_lines", &settings).err().unwrap_or_else(|| panic!("{settings:?} was taken"));
        assert_eq!(error.kind(), Kind::Config);
        assert!(keys.iter().all(|key| error.to_string().contains(key)), "{error} lacks one of {keys:?}");
        assert!(error.way_out().is_some(), "{error}");
    }
    let error = build("text", &LinesSettings { envelope: true, ..settings() }).err().unwrap();
    assert!(["`format.envelope`", "`format.type: text`"].iter().all(|key| error.to_string().contains(key)), "{error}");
    let error = build("text", &LinesSettings { check_json: true, ..settings() }).err().unwrap();
    assert!(["`format.check_json`", "`format.type: text`"].iter().all(|key| error.to_string().contains(key)), "{error}");
    for level in [1, 12] {
        assert!(build("json_lines", &LinesSettings { level: Some(level), ..settings() }).is_ok());
    }
}

#[test]
fn names_and_types_follow_format_compression_and_settings() {
    let named = |kind: &str, settings: LinesSettings| {
        let format = build(kind, &settings).unwrap();
        (format.extension().to_owned(), format.content_type(), format.content_encoding())
    };
    let compressed = |compression| LinesSettings { compression, ..settings() };
    assert_eq!(named("json_lines", settings()), ("jsonl.gz".into(), "application/gzip", None));
    assert_eq!(named("json_lines", compressed(Compression::Zstd)), ("jsonl.zst".into(), "application/zstd", None));
    assert_eq!(named("json_lines", compressed(Compression::None)), ("jsonl".into(), "application/x-ndjson", None));
    assert_eq!(named("text", settings()), ("txt.gz".into(), "application/gzip", None));
    let encoded = LinesSettings { content_encoding: true, extension: Some("json.gz".into()), ..settings() };
    assert_eq!(named("json_lines", encoded), ("json.gz".into(), "application/x-ndjson", Some("gzip")));
}

#[test]
fn a_value_with_a_newline_of_any_kind_is_written_as_the_policy_says() {
    let with = |newlines| LinesSettings { newlines, ..settings() };
    for (newline, escaped, spaces) in [("\n", "\\n", " "), ("\r", "\\r", " "), ("\r\n", "\\r\\n", " "), ("\r\r\n\n", "\\r\\r\\n\\n", "   ")] {
        let value = format!("{{\"id\":1,{newline}\"b\":2.0}}");
        let broken: &[Option<&[u8]>] = &[Some(value.as_bytes()), Some("{\"c\":\"\u{2028}\u{85}\u{b}\"}".as_bytes())];
        let json = |newlines| write("json_lines", &with(newlines), broken).1;
        let other = "{\"c\":\"\u{2028}\u{85}\u{b}\"}\n";
        assert_eq!(json(Newlines::Compact), format!("{{\"id\":1,\"b\":2.0}}\n{other}"));
        assert_eq!(json(Newlines::Space), format!("{{\"id\":1,{spaces}\"b\":2.0}}\n{other}"));
        assert_eq!(json(Newlines::Escape), format!("\"{{\\\"id\\\":1,{escaped}\\\"b\\\":2.0}}\"\n{other}"));
        assert_eq!(write("text", &with(Newlines::Space), broken).1, format!("{{\"id\":1,{spaces}\"b\":2.0}}\n{other}"));
        for (kind, newlines) in [("json_lines", Newlines::Reject), ("text", Newlines::Compact), ("text", Newlines::Reject)] {
            let (appended, content) = write(kind, &with(newlines), broken);
            assert_eq!((appended.taken(), appended.refused.unwrap().code, content), (0, "newline", String::new()));
        }
    }
    // at the end of a value too, where it would look like the end of a line of another system
    assert_eq!(write("json_lines", &settings(), &[Some(b"[]\r")]).1, "[]\n");
    assert_eq!(write("json_lines", &settings(), &[Some(b"\"a\rb\"")]).0.refused.unwrap().code, "not_json");
}

#[test]
fn lines_are_looked_at_when_the_settings_say_so() {
    let with = |newlines| LinesSettings { check_json: true, newlines, ..settings() };
    let good: &[Option<&[u8]>] = &[Some(b" {\"a\": 1}"), None, Some(b""), Some(b"[1,\n2]"), Some(b"7")];
    assert_eq!(write("json_lines", &with(Newlines::Compact), good), (appended(5, 0), " {\"a\": 1}\nnull\nnull\n[1,2]\n7\n".into()));
    assert_eq!(write("json_lines", &with(Newlines::Escape), &[Some(b"a\nb")]).1, "\"a\\nb\"\n");
    for wrong in [&b"oops"[..], b"[1,2", b"NaN", b"\xef\xbb\xbf{}", b"\"\xff\"", b" ", b"{}{}"] {
        let (appended, content) = write("json_lines", &with(Newlines::Compact), &[Some(b"1"), Some(wrong), Some(b"2")]);
        let refused = appended.refused.clone().unwrap();
        assert_eq!((appended.taken(), refused.code, content), (1, "not_json", "1\n".into()), "{}", wrong.escape_ascii());
        assert!(refused.hint.unwrap().contains("`format.check_json: false`"));
        // nobody looks unless told to
        assert_eq!(write("json_lines", &settings(), &[Some(wrong)]).0.written, 1);
    }
    // what the policy for newlines makes of a value is looked at, not the value
    assert_eq!(write("json_lines", &with(Newlines::Space), &[Some(b"\"a\nb\"")]).1, "\"a b\"\n");
    assert_eq!(write("json_lines", &with(Newlines::Space), &[Some(b"a\nb")]).0.refused.unwrap().code, "not_json");
}

#[test]
fn a_row_that_does_not_fit_leaves_no_byte_behind_and_writing_goes_on_after_it() {
    let values: &[Option<&[u8]>] = &[Some(b"1"), Some(b"not\njson"), Some(b"2")];
    let (appended, content) = write("json_lines", &settings(), values);
    assert_eq!((appended.taken(), content), (1, "1\n".to_owned()));
    let refused = appended.refused.unwrap();
    assert_eq!((refused.step.name(), refused.code), ("encode", "not_json"));
    assert!(refused.hint.unwrap().contains("format.newlines"));

    let mut encoder = build("json_lines", &LinesSettings { compression: Compression::None, ..settings() }).unwrap().encoder().unwrap();
    let owned: Vec<OwnedRecord> = values.iter().map(|value| OwnedRecord { value: value.map(<[u8]>::to_vec), ..OwnedRecord::default() }).collect();
    let rows: Vec<Row<'_>> = owned.iter().map(|record| Row::of(record.borrow())).collect();
    assert!(encoder.append(&rows).unwrap().refused.is_some());
    encoder.append(&rows[2..]).unwrap();
    let finished = encoder.finish().unwrap();
    assert_eq!((finished.rows, &finished.tail[..]), (2, &b"1\n2\n"[..]));
}

#[test]
fn tombstones_and_empty_values_are_written_filtered_or_refused() {
    let values: &[Option<&[u8]>] = &[None, Some(b""), Some(b"1")];
    let run = |kind: &str, tombstones, empty_values| write(kind, &LinesSettings { tombstones, empty_values, ..settings() }, values);
    assert_eq!(run("json_lines", Absent::Null, Absent::Null).1, "null\nnull\n1\n");
    assert_eq!(run("text", Absent::Null, Absent::Null).1, "\n\n1\n");
    assert_eq!(run("text", Absent::Skip, Absent::Null), (appended(2, 1), "\n1\n".into()));
    assert_eq!(run("json_lines", Absent::Skip, Absent::Skip), (appended(1, 2), "1\n".into()));
    let refused = |(appended, _): (Appended, String)| (appended.taken(), appended.refused.unwrap().code);
    assert_eq!(refused(run("json_lines", Absent::Reject, Absent::Null)), (0, "tombstone"));
    assert_eq!(refused(run("json_lines", Absent::Null, Absent::Reject)), (1, "empty_value"));
    let envelope = LinesSettings { envelope: true, tombstones: Absent::Skip, ..settings() };
    let (of_envelope, content) = write("json_lines", &envelope, values);
    assert_eq!(of_envelope, appended(2, 1));
    assert!(content.starts_with(r#"{"topic":"orders","partition":3,"offset":41,"timestamp":null,"key":null,"headers":[],"value":""}"#), "{content}");
}

#[test]
fn offsets_that_go_back_are_refused() {
    let mut encoder = build("json_lines", &settings()).unwrap().encoder().unwrap();
    let at = |offset| OwnedRecord { offset, value: Some(b"1".to_vec()), ..OwnedRecord::default() };
    let append = |encoder: &mut Box<dyn Encoder>, offset| encoder.append(&[Row::of(at(offset).borrow())]);
    for offset in [5, 5, 9] {
        append(&mut encoder, offset).unwrap();
    }
    assert_eq!(append(&mut encoder, 8).unwrap_err().kind(), Kind::Fatal);
}
