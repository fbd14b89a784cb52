//! Names of files, whatever the template, the topic and the values: no two spans get one, and none leaves its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use jiff::{Timestamp, tz::TimeZone};
use kas3_sink::{
    path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions},
    record::{OwnedHeaders, OwnedRecord},
};
use proptest::{collection::vec, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};

const EXTENSION: &str = ".jsonl.gz";
/// Bytes that S3 takes as a key.
const KEY_BYTES_MAX: usize = 1024;

/// Any parts in any order with any text between: most are refused, the rest is what users may write.
fn templates() -> impl Strategy<Value = String> {
    let part = select(vec![
        "{topic}",
        "{partition}",
        "{partition:03}",
        "{offset}",
        "{offset:08}",
        "{value.a}",
        "{value.b}",
        "{key}",
        "{header.h}",
        "{now:%H}",
        "{timestamp:%Y-%m-%d}",
        "{timestamp:%Y/%m}",
        "{timestamp:%e %k}",
        "{timestamp:%s}",
        "{value.t:%F}",
        "{value.t:%Z}",
    ]);
    let text = select(vec!["", "", "/", "/", "/", "_", "-", "=", "x", "-i", "0", "7", "%", " ", ".", "é", "{{", "}}", "/_", "../", "_kas3/"]);
    let free = vec((part, text.clone()), 0..4);
    let numbers = (select(vec!["{partition}", "{partition:05}"]), text.clone(), select(vec!["{offset}", "{offset:012}"]), text);
    (free, numbers, any::<bool>()).prop_map(|(free, (partition, between, offset, after), topic)| {
        let mut source = String::from(if topic { "{topic}/" } else { "" });
        free.iter().for_each(|(part, text)| source.extend([*part, *text]));
        source.extend([partition, between, offset, after]);
        source
    })
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[a-z0-9._/%=-]{0,8}".prop_map(String::into_bytes),
        4 => any::<String>().prop_map(String::into_bytes),
        3 => select(vec!["..", ".", "../..", "_kas3", "_kas3/x", "%2E", "%", "\n", "\r\n", "\0", "\\..\\", "/", "//", "-i1", "7_42", "é", "日本", "\u{2028}"])
            .prop_map(|text| text.as_bytes().to_vec()),
        2 => vec(any::<u8>(), 0..30),
        2 => ("[a-z]{0,3}|%|é|/|\n", 300..2000_usize, "[a-z]?").prop_map(|(text, times, end)| (text.repeat(times / text.len().max(1)) + &end).into_bytes()),
    ]
}

fn topics() -> impl Strategy<Value = String> {
    let legal = |topic: &String| topic != "." && topic != "..";
    prop_oneof![4 => "[a-c._-]{1,5}", 2 => "[a-zA-Z0-9._-]{1,30}", 1 => select(vec!["__consumer_offsets".to_owned(), "a-i1".into(), "0-7".into()])]
        .prop_filter("no topic", legal)
}

prop_compose! {
    fn records()(
        topic in topics(), partition in prop_oneof![0..12_i32, 0..i32::MAX], offset in prop_oneof![0..20_i64, 0..i64::MAX],
        timestamp_ms in proptest::option::of(0..4_000_000_000_000_i64), a in values(), b in values(), key in proptest::option::of(values()),
        header in proptest::option::of(values()), time in 0..4_000_000_000_i64,
    ) -> OwnedRecord {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let value = serde_json::json!({ "a": text(&a), "b": text(&b), "t": time });
        OwnedRecord {
            topic, partition, offset, timestamp_ms, key, value: Some(value.to_string().into_bytes()),
            headers: OwnedHeaders(vec![(b"h".to_vec(), header)]),
        }
    }
}

fn context(incarnation: u32) -> NameContext {
    NameContext { now: Timestamp::from_second(1_767_225_600).unwrap(), incarnation, extension: EXTENSION.into() }
}

fn parse(source: &str, single_topic: bool, limits: Limits) -> Option<PathTemplate> {
    PathTemplate::parse(source, &TemplateOptions { timezone: TimeZone::UTC, single_topic, limits }).ok()
}

/// The name of a record's file; `None` when the topic alone makes it too long.
fn name(template: &PathTemplate, record: &OwnedRecord, incarnation: u32) -> Option<String> {
    let mut cache = PathCache::default();
    let group = template.group(&kas3_sink::row::Row::of(record.borrow()), &context(incarnation), &mut cache).ok()?.to_owned();
    Some(template.name(&group, record.offset, &context(incarnation)))
}

fn group(template: &PathTemplate, record: &OwnedRecord) -> String {
    template.group(&kas3_sink::row::Row::of(record.borrow()), &context(0), &mut PathCache::default()).unwrap().to_owned()
}

#[test]
fn enough_of_the_templates_made_up_here_are_accepted_to_mean_something() {
    let mut runner = TestRunner::deterministic();
    let sources: Vec<String> = (0..2000).map(|_| templates().new_tree(&mut runner).unwrap().current()).collect();
    let accepted = |single| sources.iter().filter(|source| parse(source, single, Limits::OBJECT).is_some()).count();
    assert!(accepted(true) > 400 && accepted(false) > 200, "{} and {} of {}", accepted(true), accepted(false), sources.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn two_spans_never_get_one_name(
        source in templates(), single: bool, one in records(), other in records(), keep in 0..32_u8, incarnations in (0..3_u32, 0..3_u32),
    ) {
        let Some(template) = parse(&source, single, Limits::OBJECT) else { return Ok(()) };
        // as alike as two spans can be: `keep` says what they share
        let topic = if single || keep & 1 == 1 { one.topic.clone() } else { other.topic.clone() };
        let other = OwnedRecord {
            topic,
            partition: if keep & 2 == 2 { one.partition } else { other.partition },
            offset: if keep & 4 == 4 { one.offset } else { other.offset },
            value: if keep & 8 == 8 { one.value.clone() } else { other.value.clone() },
            ..other
        };
        let incarnations = if keep & 16 == 16 { (incarnations.0, incarnations.0) } else { incarnations };
        let same = (&one.topic, one.partition, one.offset, incarnations.0) == (&other.topic, other.partition, other.offset, incarnations.1);
        let (first, second) = (name(&template, &one, incarnations.0), name(&template, &other, incarnations.1));
        prop_assert!(same || first.is_none() || first != second, "`{}` makes {:?} twice", source, first);
    }

    #[test]
    fn a_name_stays_below_its_prefix_and_fits_the_store(source in templates(), single: bool, record in records(), prefix in 0..800_usize, incarnation in 0..3_u32) {
        let url = format!("s3://lake/{}", "p".repeat(prefix));
        let Some(template) = parse(&source, single, Limits::below(&url)) else { return Ok(()) };
        let Some(name) = name(&template, &record, incarnation) else {
            prop_assert!(template.check_length(&record.topic, EXTENSION).is_err(), "`{}` was to fit", source);
            return Ok(());
        };
        let side_file = format!("{}.index.json", name.strip_suffix(EXTENSION).unwrap());
        for path in [&name, &side_file] {
            let key = format!("{}/{path}", "p".repeat(prefix));
            prop_assert!(key.len() <= KEY_BYTES_MAX, "`{}` makes a key of {} bytes", source, key.len());
            for segment in path.split('/') {
                prop_assert!(!segment.is_empty() && !segment.starts_with(['.', '_']), "`{}` makes {}", source, path);
            }
            prop_assert!(!path.contains(|character: char| character.is_control() || character == '\\'), "{:?}", path);
        }
        let parts = template.read_back(&name, EXTENSION);
        let read = parts.map(|parts| (parts.topic, parts.partition, parts.offset, parts.incarnation));
        let topic = source.contains("{topic}").then(|| record.topic.clone());
        prop_assert_eq!(read, Some((topic, record.partition, record.offset, incarnation)), "`{}` makes {}", source, name);
    }

    #[test]
    fn a_name_fits_a_disk(source in templates(), record in records()) {
        let Some(template) = parse(&source, true, Limits::DISK) else { return Ok(()) };
        let name = name(&template, &record, 1);
        prop_assert!(name.is_some() || template.check_length(&record.topic, EXTENSION).is_err(), "`{}` was to fit", source);
        for segment in name.iter().flat_map(|name| name.split('/')) {
            prop_assert!(segment.len() <= 255, "{} bytes: {}", segment.len(), segment);
        }
    }

    #[test]
    fn different_values_go_to_different_files_and_the_same_to_one(record in records(), one in values(), other in values(), deep: bool) {
        let limits = if deep { Limits::below(&format!("s3://lake/{}", "p".repeat(780))) } else { Limits::OBJECT };
        let template = parse("{topic}/{key}/{partition}_{offset}", false, limits).unwrap();
        let with = |key: &[u8]| group(&template, &OwnedRecord { topic: "orders".into(), key: Some(key.to_vec()), ..record.clone() });
        // nothing, and the text that stands for nothing, are one
        let shown = |key: &[u8]| if key.is_empty() { kas3_sink::path::MISSING.as_bytes().to_vec() } else { key.to_vec() };
        prop_assert_eq!(with(&one) == with(&other), shown(&one) == shown(&other));
        prop_assert_eq!(with(&one), with(&one));
    }
}
