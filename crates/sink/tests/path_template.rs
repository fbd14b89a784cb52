//! What names a template makes, and that they are read back.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use jiff::{Timestamp, tz::TimeZone};
use kas3_sink::{
    Kind,
    path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions, check_disjoint},
    record::{OwnedHeaders, OwnedRecord},
    topics::TopicPattern,
};
use proptest::prelude::*;

const EXTENSION: &str = ".jsonl.gz";
/// 2026-03-29 00:59:30.5 UTC, half a minute before Berlin's clocks go forward.
const AT_MS: i64 = 1_774_745_970_500;

fn options(single_topic: bool) -> TemplateOptions {
    TemplateOptions { timezone: TimeZone::UTC, single_topic, limits: Limits::OBJECT }
}

fn template(source: &str) -> PathTemplate {
    PathTemplate::parse(source, &options(false)).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn context() -> NameContext {
    NameContext { now: Timestamp::from_second(1_767_225_600).unwrap(), incarnation: 0, extension: EXTENSION.into() }
}

fn record(value: &str) -> OwnedRecord {
    OwnedRecord {
        topic: "orders".into(),
        partition: 7,
        offset: 1234,
        timestamp_ms: Some(AT_MS),
        key: Some(b"k/1".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: OwnedHeaders(vec![
            (b"trace.id".to_vec(), Some(b"first".to_vec())),
            (b"trace.id".to_vec(), Some(b"last".to_vec())),
            (b"none".to_vec(), None),
        ]),
    }
}

fn name_in(template: &PathTemplate, record: &OwnedRecord, context: &NameContext) -> Result<String, kas3_sink::Error> {
    let mut cache = PathCache::default();
    let group = template.group(&kas3_sink::row::Row::of(record.borrow()), context, &mut cache)?.to_owned();
    Ok(template.name(&group, record.offset, context))
}

fn name(source: &str, value: &str) -> String {
    name_in(&template(source), &record(value), &context()).unwrap_or_else(|error| panic!("{source}: {}", error.chain()))
}

#[test]
fn every_placeholder_gives_what_it_promises() {
    let value = r#"{"a": {"b": "x/y=z", "n": 1.50, "t": "2026-02-03T04:05:06+02:00", "s": 1770077106, "l": ["p", {"q": true}]}, "e": "", "z": null}"#;
    for (source, expected) in [
        ("{topic}/{partition}_{offset}", "orders/7_1234"),
        ("{topic}-{partition:05}-{offset:012}", "orders-00007-000000001234"),
        ("{topic}/{timestamp:%Y/%m/%d}/{partition}_{offset}", "orders/2026/03/29/7_1234"),
        ("{topic}/t={timestamp:%H:%M}/{partition}_{offset}", "orders/t=00%3A59/7_1234"),
        ("{now:%Y-%m-%d}/{topic}/{partition}_{offset}", "2026-01-01/orders/7_1234"),
        ("{topic}/b={value.a.b}/{partition}_{offset}", "orders/b=x%2Fy%3Dz/7_1234"),
        ("{topic}/n={value.a.n}/q={value.a.l.1.q}/{partition}_{offset}", "orders/n=1.50/q=true/7_1234"),
        ("{topic}/d={value.a.t:%Y-%m-%dT%H}/{partition}_{offset}", "orders/d=2026-02-03T02/7_1234"),
        ("{topic}/d={value.a.s:%F}/{partition}_{offset}", "orders/d=2026-02-03/7_1234"),
        (
            "{topic}/e={value.e}/z={value.z}/m={value.a.x.y}/{partition}_{offset}",
            "orders/e=__HIVE_DEFAULT_PARTITION__/z=__HIVE_DEFAULT_PARTITION__/m=__HIVE_DEFAULT_PARTITION__/7_1234",
        ),
        ("{topic}/z={value.z:%Y/%m}/{partition}_{offset}", "orders/z=__HIVE_DEFAULT_PARTITION__/%5F_HIVE_DEFAULT_PARTITION__/7_1234"),
        ("{topic}/{key}/{header.trace.id}/{partition}_{offset}", "orders/k%2F1/last/7_1234"),
        ("{topic}/h={header.none}/g={header.absent}/{partition}_{offset}", "orders/h=__HIVE_DEFAULT_PARTITION__/g=__HIVE_DEFAULT_PARTITION__/7_1234"),
        ("a{{{topic}}}/{partition}_{offset}", "a{orders}/7_1234"),
        ("{offset:03}/{topic}/{partition}.{offset}", "1234/orders/7.1234"),
    ] {
        assert_eq!(name(source, value), format!("{expected}{EXTENSION}"), "{source}");
    }
}

#[test]
fn values_never_leave_their_folder_and_never_hide_it() {
    for (value, folder) in
        [("..", "%2E."), (".", "%2E"), ("../../x", "%2E.%2F..%2Fx"), ("_kas3", "%5Fkas3"), ("_tmp", "%5Ftmp"), ("a\u{0}\n", "a%00%0A"), ("\\", "%5C")]
    {
        let json = serde_json::json!({ "a": value }).to_string();
        assert_eq!(name("{topic}/{value.a}/{partition}_{offset}", &json), format!("orders/{folder}/7_1234{EXTENSION}"));
    }
    let internal = OwnedRecord { topic: "__consumer_offsets".into(), ..record("{}") };
    let made = name_in(&template("{topic}/{partition}_{offset}"), &internal, &context()).unwrap();
    assert_eq!(made, format!("%5F_consumer_offsets/7_1234{EXTENSION}"));
    assert_eq!(template("{topic}/{partition}_{offset}").read_back(&made, EXTENSION).unwrap().topic.as_deref(), Some("__consumer_offsets"));
}

#[test]
fn a_record_that_does_not_fit_is_a_bad_record_with_its_reason() {
    for (source, value, reason) in [
        ("{topic}/{value.a}/{partition}_{offset}", "hello", "not JSON at byte 0"),
        ("{topic}/{value.a}/{partition}_{offset}", r#"{"a": {"b": 1}}"#, "`value.a` is an object"),
        ("{topic}/{value.a:%Y}/{partition}_{offset}", r#"{"a": "yesterday"}"#, "`value.a` is no time: `yesterday`"),
        ("{topic}/{value.a:%Y}/{partition}_{offset}", r#"{"a": true}"#, "`value.a` is no time"),
    ] {
        let error = name_in(&template(source), &record(value), &context()).unwrap_err();
        assert_eq!(error.kind(), Kind::BadRecord);
        assert!(error.chain().contains(reason) && error.reason().is_some(), "{}", error.chain());
    }
    let far = OwnedRecord { timestamp_ms: Some(AT_MS * 1000), ..record("{}") };
    let error = name_in(&template("{topic}/{timestamp:%Y}/{partition}_{offset}"), &far, &context()).unwrap_err();
    assert!(
        error.kind() == Kind::BadRecord && error.reason() == Some("no_time") && error.way_out().is_some_and(|hint| hint.contains("microseconds")),
        "{}",
        error.chain()
    );
    let (tombstone, untimed) = (OwnedRecord { value: None, ..record("") }, OwnedRecord { timestamp_ms: None, ..record("{}") });
    let missing = "orders/x=__HIVE_DEFAULT_PARTITION__/7_1234.jsonl.gz";
    assert_eq!(name_in(&template("{topic}/x={value.a}/{partition}_{offset}"), &tombstone, &context()).unwrap(), missing);
    assert_eq!(name_in(&template("{topic}/x={timestamp:%Y}/{partition}_{offset}"), &untimed, &context()).unwrap(), missing);
}

#[test]
fn days_and_hours_are_those_of_the_timezone() {
    let berlin = TemplateOptions { timezone: TimeZone::get("Europe/Berlin").unwrap(), ..options(false) };
    let template = PathTemplate::parse("{topic}/{timestamp:%dT%H%z}/{partition}_{offset}", &berlin).unwrap();
    let mut cache = PathCache::default();
    let mut hours = Vec::new();
    for minutes in 0..3 {
        let record = OwnedRecord { timestamp_ms: Some(AT_MS + minutes * 60_000), ..record("{}") };
        hours.push(template.group(&kas3_sink::row::Row::of(record.borrow()), &context(), &mut cache).unwrap().split('/').nth(1).unwrap().to_owned());
    }
    assert_eq!(hours, ["29T01+0100", "29T03+0200", "29T03+0200"]);
}

#[test]
fn a_cache_says_when_a_record_belongs_where_the_one_before_it_went() {
    let template = template("{topic}/{timestamp:%H}/{value.a}/{partition}_{offset}");
    let mut cache = PathCache::default();
    let mut repeated = |value: &str, at_ms: i64| {
        template
            .group(&kas3_sink::row::Row::of(OwnedRecord { timestamp_ms: Some(at_ms), ..record(value) }.borrow()), &context(), &mut cache)
            .unwrap();
        cache.repeated()
    };
    let (one, two) = (r#"{"a":1}"#, r#"{"a":2}"#);
    assert_eq!(
        [repeated(one, 0), repeated(one, 5), repeated(two, 5), repeated(two, 3_599_999), repeated(two, 3_600_000)],
        [false, true, false, true, false]
    );
}

#[test]
fn what_a_group_depends_on_is_known() {
    for constant in ["{topic}/{partition}_{offset}", "deviantart", "{now:%Y}/{topic}/{partition}_{offset}"] {
        assert!(template(constant).is_constant(), "{constant}");
    }
    for varying in
        ["zooz", "{topic}/{key}/{partition}_{offset}", "{topic}/{value.a:%Y}/{partition}_{offset}", "{topic}/{header.h}/{partition}_{offset}"]
    {
        assert!(!template(varying).is_constant(), "{varying}");
    }
    // A constant template follows a new `{now}` and another partition all the same.
    let template = template("{now:%Y}/{topic}/{partition}_{offset}");
    let mut cache = PathCache::default();
    let first = template.group(&kas3_sink::row::Row::of(record("").borrow()), &context(), &mut cache).unwrap().to_owned();
    let later = NameContext { now: Timestamp::from_second(1_800_000_000).unwrap(), ..context() };
    assert_ne!(template.group(&kas3_sink::row::Row::of(record("").borrow()), &later, &mut cache).unwrap(), first);
    let other = OwnedRecord { partition: 8, ..record("") };
    assert!(template.group(&kas3_sink::row::Row::of(other.borrow()), &later, &mut cache).unwrap().contains("/8_"));
}

#[test]
fn incarnations_stand_before_the_extension_and_are_read_back() {
    let template = template("{topic}/{partition}_{offset:06}");
    let second = NameContext { incarnation: 2, ..context() };
    let made = name_in(&template, &record("{}"), &second).unwrap();
    assert_eq!(made, "orders/7_001234-i2.jsonl.gz");
    let parts = template.read_back(&made, EXTENSION).unwrap();
    assert_eq!((parts.topic.as_deref(), parts.partition, parts.offset, parts.incarnation), (Some("orders"), 7, 1234, 2));
    for foreign in [
        "orders/7_1234.jsonl.gz",
        "orders/7_001234.json",
        "orders/x/7_001234.jsonl.gz",
        "orders/7_001234-i0.jsonl.gz",
        "orders/a_001234.jsonl.gz",
        "",
    ] {
        assert_eq!(template.read_back(foreign, EXTENSION), None, "{foreign}");
    }
}

#[test]
fn long_values_are_cut_and_hashed_so_that_names_fit_and_stay_different() {
    let disk = PathTemplate::parse(
        "{topic}/a={value.a}/{key}-x-{value.b}/{partition}_{offset}",
        &TemplateOptions { limits: Limits::DISK, ..options(false) },
    )
    .unwrap();
    let make = |a: &str, b: &str| {
        let record = OwnedRecord { key: Some("k".repeat(1000).into_bytes()), ..record(&serde_json::json!({ "a": a, "b": b }).to_string()) };
        name_in(&disk, &record, &context()).unwrap()
    };
    let long = "ü/".repeat(1000);
    let made = make(&long, "short");
    assert!(made.split('/').all(|segment| segment.len() <= 255), "{made}");
    assert!(made.split('/').nth(2).unwrap().ends_with("-x-short"), "only what is long is cut: {made}");
    assert_eq!(made, make(&long, "short"));
    assert_ne!(made, make(&format!("{long}!"), "short"));
    assert_eq!(disk.read_back(&made, EXTENSION).unwrap().offset, 1234);

    let url = format!("s3://bucket/{}", "p".repeat(700));
    let object =
        PathTemplate::parse("{topic}/{value.a}/{value.b}/{partition}_{offset}", &TemplateOptions { limits: Limits::below(&url), ..options(false) })
            .unwrap();
    let record = record(&serde_json::json!({ "a": long, "b": long }).to_string());
    let made = name_in(&object, &record, &context()).unwrap();
    assert!(made.len() + 701 <= 1024 && made.len() > 250, "{}: {made}", made.len());
}

#[test]
fn a_topic_too_long_for_its_names_is_refused_where_it_is_known_and_stops_where_it_is_not() {
    let disk = TemplateOptions { limits: Limits::DISK, ..options(false) };
    let template = PathTemplate::parse("{topic}-{partition:05}-{offset:012}", &disk).unwrap();
    let topic = "t".repeat(249);
    assert_eq!(template.check_length(&topic, EXTENSION).unwrap_err().kind(), Kind::Config);
    let error = name_in(&template, &OwnedRecord { topic: topic.clone(), ..record("{}") }, &context()).unwrap_err();
    assert_eq!(error.kind(), Kind::Stopped);
    let folder = PathTemplate::parse("{topic}/{partition:05}-{offset:012}", &disk).unwrap();
    folder.check_length(&topic, EXTENSION).unwrap();
    // times are not cut either, nor the text in their patterns, nor what stands for a time that is missing
    for long in [format!("{{now:{}%Y}}", "x".repeat(252)), format!("{{topic}}/{}{{timestamp:%H}}", "x".repeat(230))] {
        let template = PathTemplate::parse(&format!("{long}/{{topic}}_{{partition}}_{{offset}}"), &disk).unwrap();
        assert_eq!(template.check_length("orders", EXTENSION).unwrap_err().kind(), Kind::Config, "{long}");
    }
}

#[test]
fn a_time_in_a_value_is_the_one_that_was_meant_and_never_is_a_date_as_well() {
    for (time, folder) in [
        (r#""9999-12-31""#, "9999-12-31"),
        (r#""9999-12-31T23:59:59Z""#, "9999-12-31"),
        (r#""0001-01-01T00:00:00Z""#, "0001-01-01"),
        ("253402300799000", "9999-12-31"),
        ("20260101", "2026-01-01"),
        (r#""20260101""#, "2026-01-01"),
        (r#""2026""#, "2026-01-01"),
        (r#""20260101123000""#, "2026-01-01"),
        ("20260101123000", "2026-01-01"),
        ("1767225600", "2026-01-01"),
        (r#""1767225600000""#, "2026-01-01"),
        ("-1", "1969-12-31"),
    ] {
        assert_eq!(
            name("{topic}/{value.t:%Y-%m-%d}/{partition}_{offset}", &format!("{{\"t\": {time}}}")),
            format!("orders/{folder}/7_1234.jsonl.gz"),
            "{time}"
        );
    }
    for time in [r#""20261399""#, "20261399", r#""202613""#, r#""12345678""#, r#""00000000""#] {
        let error = name_in(&template("{topic}/{value.t:%Y}/{partition}_{offset}"), &record(&format!("{{\"t\": {time}}}")), &context()).unwrap_err();
        assert_eq!((error.kind(), error.reason()), (Kind::BadRecord, Some("no_time")), "{time}");
    }
    let before = OwnedRecord { timestamp_ms: Some(-1001), ..record("{}") };
    let made = name_in(&template("{topic}/{timestamp:%Y-%m-%dT%s}/{partition}_{offset}"), &before, &context()).unwrap();
    assert_eq!(made, "orders/1969-12-31T-2/7_1234.jsonl.gz");
}

#[test]
fn times_in_the_first_days_of_all_are_refused_or_read_back() {
    let template = PathTemplate::parse("{timestamp:%G}-{timestamp:%C%y}-{partition}_{offset}", &options(true)).unwrap();
    for days in -3..800_i64 {
        let record = OwnedRecord { timestamp_ms: Some(-62_167_219_200_000 + days * 86_400_000), ..record("{}") };
        let Ok(made) = name_in(&template, &record, &context()) else { continue };
        assert_eq!(template.read_back(&made, EXTENSION).map(|parts| (parts.partition, parts.offset)), Some((7, 1234)), "{made}");
    }
}

#[test]
fn templates_of_one_pipeline_must_not_give_two_topics_one_name() {
    let name = |topic: &str| TopicPattern::Name(topic.into());
    let expression = |text: &str| TopicPattern::Expression(regex::Regex::new(&format!("^({text})$")).unwrap());
    let disjoint = |entries: [(TopicPattern, &str); 2]| {
        let [one, other] = entries.map(|(pattern, source)| {
            let single = matches!(pattern, TopicPattern::Name(_));
            (pattern, PathTemplate::parse(source, &options(single)).unwrap())
        });
        check_disjoint(&[(&one.0, &one.1), (&other.0, &other.1)]).is_ok()
    };
    assert!(disjoint([(name("a"), "a/{partition}_{offset}"), (name("b"), "b/{partition}_{offset}")]));
    assert!(disjoint([(name("a"), "x/{topic}-{partition}_{offset}"), (name("b"), "x/{topic}-{partition}_{offset}")]));
    assert!(disjoint([(name("a"), "{topic}/{value.v}/{partition}_{offset}"), (expression("e.*"), "{topic}/d={timestamp:%F}/{partition}_{offset}")]));
    assert!(
        disjoint([(name("a"), "special/{partition}_{offset}"), (expression("e.*"), "{topic}/{partition}_{offset}")]),
        "`special` is no topic of `e.*`"
    );
    assert!(disjoint([(name("a"), "x/y/{partition}_{offset}"), (expression(".*"), "{topic}/{partition}_{offset}")]), "one has more folders");
    assert!(disjoint([(expression("a.*"), "{topic}/{key}/{partition}_{offset}"), (expression("b.*"), "{topic}/{now:%Y}/{partition}_{offset}")]));
    assert!(disjoint([(name("a"), "{timestamp:%Y}/{partition}_{offset}"), (name("b"), "v={key}/{partition}_{offset}")]));

    assert!(!disjoint([(name("a"), "x/{partition}_{offset}"), (name("b"), "x/{partition}_{offset}")]));
    assert!(!disjoint([(name("a"), "e1/{partition}_{offset}"), (expression("e.*"), "{topic}/{partition}_{offset}")]), "`e1` may be a topic of `e.*`");
    assert!(!disjoint([(name("a"), "{value.v}/{partition}_{offset}"), (name("b"), "b/{partition}_{offset}")]), "the value may be `b`");
    assert!(!disjoint([(name("a"), "{timestamp:%Y}/{partition}_{offset}"), (expression("[0-9]+"), "{topic}/{partition}_{offset}")]));
}

/// Templates with all that must be there, in any order and beside anything: about half of them are sound.
fn sound() -> impl Strategy<Value = String> {
    let text = prop_oneof![Just("/"), Just("_"), Just("-"), Just("="), Just("/d="), Just("-i"), Just("x"), Just("i"), Just("7"), Just("{{")];
    let free =
        prop_oneof![Just("{value.a}"), Just("{key}"), Just("{timestamp:%Y-%m-%d}"), Just("{now:%H}"), Just("{header.h}"), Just("{value.t:%Y/%m}")];
    let numbers = (prop_oneof!["\\{partition\\}", "\\{partition:05\\}"], prop_oneof!["\\{offset\\}", "\\{offset:012\\}"]);
    let parts = (numbers, prop::option::weighted(0.8, Just("{topic}".to_owned())), prop::collection::vec(free, 0..3));
    let shuffled = parts
        .prop_map(|((partition, offset), topic, free)| {
            [partition, offset].into_iter().chain(topic).chain(free.into_iter().map(str::to_owned)).collect::<Vec<String>>()
        })
        .prop_shuffle();
    (shuffled, prop::collection::vec((text, any::<bool>()), 6), any::<bool>()).prop_map(|(parts, separators, bare)| {
        let mut source = String::new();
        for (index, (part, (text, slash))) in parts.iter().zip(separators).enumerate() {
            match (index, slash) {
                (0, _) => {}
                (_, true) => source.push('/'),
                (_, false) => source.push_str(text),
            }
            source.push_str(part);
            if bare && index == 0 {
                source.push_str(text);
            }
        }
        source
    })
}

fn topics() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c._-]{1,6}", "[a-zA-Z0-9._-]{1,20}", Just("a-i1".to_owned()), Just("0-7_1".to_owned())]
        .prop_filter("no legal topic", |topic| topic != "." && topic != "..")
}

fn records() -> impl Strategy<Value = OwnedRecord> {
    let text = prop_oneof!["[-_/=.0-9i]{0,6}", ".{0,8}", Just("-i1".to_owned()), Just("7_42-00007".to_owned())];
    let numbers = prop_oneof![0..20_i64, 0..i64::MAX];
    (topics(), prop_oneof![0..12_i32, 0..i32::MAX], numbers, proptest::option::of(0..4_000_000_000_000_i64), text.clone(), text).prop_map(
        |(topic, partition, offset, timestamp_ms, a, key)| OwnedRecord {
            topic,
            partition,
            offset,
            timestamp_ms,
            value: Some(serde_json::json!({ "a": a, "t": 1_767_225_600 }).to_string().into_bytes()),
            headers: OwnedHeaders(vec![(b"h".to_vec(), Some(key.clone().into_bytes()))]),
            key: Some(key.into_bytes()),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn every_name_of_an_accepted_template_reads_as_what_it_was_made_of(source in sound(), record in records(), incarnation in 0..3_u32, single: bool) {
        let Ok(template) = PathTemplate::parse(&source, &options(single)) else { return Ok(()) };
        let context = NameContext { incarnation, ..context() };
        let made = name_in(&template, &record, &context).unwrap();
        let parts = template.read_back(&made, EXTENSION);
        prop_assert!(parts.is_some(), "{source} made {made}");
        let parts = parts.unwrap();
        if source.contains("{topic}") {
            prop_assert_eq!(parts.topic.as_deref(), Some(record.topic.as_str()), "{} made {}", source, made);
        }
        prop_assert_eq!((parts.partition, parts.offset, parts.incarnation), (record.partition, record.offset, incarnation), "{} made {}", source, made);
        prop_assert!(!made.contains("//") && made.split('/').all(|segment| !segment.starts_with(['.', '_']) && !segment.is_empty()), "{}", made);
    }

    #[test]
    fn names_of_disjoint_templates_never_meet(one in sound(), other in sound(), record in records(), second in topics()) {
        let (Ok(a), Ok(b)) = (PathTemplate::parse(&one, &options(true)), PathTemplate::parse(&other, &options(true))) else { return Ok(()) };
        let patterns = (TopicPattern::Name(record.topic.clone()), TopicPattern::Name(second.clone()));
        prop_assume!(record.topic != second);
        if check_disjoint(&[(&patterns.0, &a), (&patterns.1, &b)]).is_ok() {
            let twin = OwnedRecord { topic: second, ..record.clone() };
            prop_assert_ne!(name_in(&a, &record, &context()).unwrap(), name_in(&b, &twin, &context()).unwrap());
        }
    }

    #[test]
    fn groups_are_the_same_with_a_used_cache_as_with_a_fresh_one(records in prop::collection::vec(records(), 1..12), source in prop_oneof![
        Just("{topic}/{timestamp:%Y-%m-%d/%H}/{partition}_{offset}"), Just("{topic}/{key}/{value.a}/{partition}_{offset}"),
        Just("{now:%F}/{topic}-{partition:05}-{offset:012}"), Just("{topic}/{timestamp:%F}/{header.h}/{value.t:%S}/{partition}_{offset}"),
    ]) {
        let template = template(source);
        let mut cache = PathCache::default();
        let mut before = None;
        for record in records {
            let fresh = template.group(&kas3_sink::row::Row::of(record.borrow()), &context(), &mut PathCache::default()).unwrap().to_owned();
            let group = template.group(&kas3_sink::row::Row::of(record.borrow()), &context(), &mut cache).unwrap().to_owned();
            prop_assert_eq!(&group, &fresh);
            prop_assert_eq!(cache.repeated(), before.as_ref() == Some(&group));
            before = Some(group);
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(source in ".{0,40}", braces in "[{}a-z.:%/_-]{0,40}") {
        for source in [source, braces] {
            if let Err(error) = PathTemplate::parse(&source, &options(true)) {
                prop_assert_eq!(error.kind(), Kind::Config);
            }
        }
    }
}
