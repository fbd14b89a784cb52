//! The path template: what a user writes, and what anybody may put into a record.

use super::memory::bounded;
use jiff::{Timestamp, tz::TimeZone};
use kas3_sink::{
    Kind,
    path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions, check_disjoint},
    record::{OwnedHeaders, OwnedRecord},
    row::Row,
    topics::TopicPattern,
};

const EXTENSION: &str = ".jsonl.gz";

/// Lines: a template; another one; two topics; partition, offset, incarnation, kind of limits, timestamp (or none); a key; the
/// rest is the value.
///
/// A template is refused, or every name that it makes lies below the prefix and out of `_kas3`, fits the store and reads back as
/// what it was made of. Two templates that are told apart never give two topics one name.
pub fn path_template(data: &[u8]) {
    let mut lines = data.splitn(7, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (Ok(template), Ok(other)) = (std::str::from_utf8(line()), std::str::from_utf8(line())) else { return };
    let topics: Vec<String> = String::from_utf8_lossy(line()).split(' ').map(legal_topic).collect();
    let numbers: Vec<i64> = String::from_utf8_lossy(line()).split(' ').map_while(|number| number.parse().ok()).collect();
    let number = |index: usize| numbers.get(index).copied().unwrap_or_default().unsigned_abs();
    let (key, value) = (line().to_vec(), line().to_vec());
    let record = OwnedRecord {
        topic: topics[0].clone(),
        partition: (number(0) & 0x7fff_ffff) as i32,
        offset: (number(1) & (u64::MAX >> 1)).cast_signed(),
        timestamp_ms: numbers.get(4).copied(),
        headers: OwnedHeaders(vec![(b"h".to_vec(), Some(key.clone()))]),
        key: Some(key),
        value: Some(value),
    };
    let incarnation = number(2) as u32;
    let limits = match number(3) % 3 {
        0 => Limits::OBJECT,
        1 => Limits::DISK,
        _ => Limits::below(&format!("s3://lake/{}", "p".repeat(700))),
    };
    bounded((8 << 20) + 64 * data.len(), || {
        let parse = |text: &str, single_topic| {
            let parsed = PathTemplate::parse(text, &TemplateOptions { timezone: TimeZone::UTC, single_topic, limits });
            parsed.inspect_err(|error| assert_eq!(error.kind(), Kind::Config, "{error:?}")).ok()
        };
        if let Some(template) = parse(template, false) {
            assert_sound_name(&template, &record, incarnation, EXTENSION, limits.path_bytes);
        }
        let Some(template) = parse(template, true) else { return };
        let name = assert_sound_name(&template, &record, incarnation, EXTENSION, limits.path_bytes);
        let (Some(other), Some(topic)) = (parse(other, true), topics.get(1).filter(|topic| **topic != record.topic)) else { return };
        let patterns = [&record.topic, topic].map(|topic| TopicPattern::Name(topic.clone()));
        if check_disjoint(&[(&patterns[0], &template), (&patterns[1], &other)]).is_ok() {
            let twin = OwnedRecord { topic: topic.clone(), key: record.value.clone(), ..record.clone() };
            let of_other = assert_sound_name(&other, &twin, incarnation, EXTENSION, limits.path_bytes);
            assert!(name.is_none() || name != of_other, "`{template}` and `{other}` both make {name:?}");
        }
    });
}

fn legal_topic(text: &str) -> String {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let topic: String = text.chars().take(249).map(|character| if legal(character) { character } else { '-' }).collect();
    if matches!(topic.as_str(), "" | "." | "..") { "orders".to_owned() } else { topic }
}

/// The name of the record's file, once everything that is promised of names was checked; `None` for a record that does not fit.
pub fn assert_sound_name(template: &PathTemplate, record: &OwnedRecord, incarnation: u32, extension: &str, bytes_max: usize) -> Option<String> {
    let context = NameContext { now: Timestamp::from_second(1_767_225_600).expect("a time"), incarnation, extension: extension.to_owned() };
    let mut cache = PathCache::default();
    let group = match template.group(&Row::of(record.borrow()), &context, &mut cache) {
        Ok(group) => group.to_owned(),
        Err(error) => {
            let usual = record.timestamp_ms.is_none_or(|at| (0..4_000_000_000_000).contains(&at));
            match error.kind() {
                Kind::BadRecord => assert!(!usual || template.to_string().contains("{value."), "`{template}` refuses a usual record: {error:?}"),
                Kind::Stopped => assert!(template.check_length(&record.topic, extension).is_err(), "`{template}` was to fit: {error:?}"),
                kind => panic!("an error of kind {kind:?}: {error:?}"),
            }
            return None;
        }
    };
    assert_eq!(template.group(&Row::of(record.borrow()), &context, &mut cache).ok(), Some(group.as_str()), "a used cache makes another group");
    let name = template.name(&group, record.offset, &context);
    let side_file = format!("{}.index.json", name.strip_suffix(extension).expect("its extension"));
    for path in [&name, &side_file] {
        assert!(path.len() <= bytes_max, "`{template}` makes {} bytes: {path}", path.len());
        assert!(!path.contains(['\\', '\0', '\n', '\r']), "{path:?}");
        for segment in path.split('/') {
            assert!(!segment.is_empty() && !segment.starts_with(['.', '_']), "`{template}` makes {path}");
        }
    }
    let parts = template.read_back(&name, extension).unwrap_or_else(|| panic!("`{template}` makes {name} and cannot read it"));
    if let Some(topic) = &parts.topic {
        assert_eq!(*topic, record.topic, "{name}");
    }
    assert_eq!((parts.partition, parts.offset, parts.incarnation), (record.partition, record.offset, incarnation), "`{template}` makes {name}");
    Some(name)
}
