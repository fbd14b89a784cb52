//! What producers put into records, and envelopes read back.

use super::memory::bounded;
use jiff::{Timestamp, tz::TimeZone};
use kas3_sink::{
    Kind,
    format::lines::{Compression, LinesSettings, Newlines, envelope},
    path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions},
    record::{OwnedRecord, Record},
    row::Row,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

fn bytes_max(data: &[u8]) -> usize {
    (1 << 20) + 128 * data.len()
}

fn plain(settings: LinesSettings) -> LinesSettings {
    LinesSettings { compression: Compression::None, ..settings }
}

fn encoder(kind: &str, settings: &LinesSettings) -> Box<dyn kas3_sink::format::Encoder> {
    settings.of(kind).expect("a format").settings.build("format").and_then(|format| format.encoder()).expect("an encoder")
}

/// An envelope that is accepted is written and read again without a change.
pub fn envelope(data: &[u8]) {
    bounded(bytes_max(data), || {
        let Ok(record) = envelope::decode(data) else { return };
        if record.offset < 0 {
            return;
        }
        let settings = plain(LinesSettings { envelope: true, ..LinesSettings::default() });
        let mut encoder = encoder("json_lines", &settings);
        let appended = encoder.append(&[Row::of(record.borrow())]).expect("a sound encoder");
        assert_eq!(appended.refused, None, "an envelope holds any record");
        let line = encoder.finish().expect("a file").tail;
        let line = line.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'), "one line");
        assert_eq!(envelope::decode(line).expect("our own envelope"), record);
    });
}

/// The first byte says how lines are written, the rest is the value of a record between two others. Each record is one line or
/// none, and a line says what its value says.
pub fn lines(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let newlines = [Newlines::Compact, Newlines::Space, Newlines::Escape, Newlines::Reject][usize::from(choice & 3)];
    let kind = if choice & 4 == 0 { "json_lines" } else { "text" };
    let settings = plain(LinesSettings { newlines, ..LinesSettings::default() });
    let row =
        |offset, value| Row::of(Record { topic: "orders", partition: 0, offset, timestamp_ms: None, key: None, value: Some(value), headers: None });
    bounded(bytes_max(data), || {
        let mut encoder = encoder(kind, &settings);
        let rows = [row(0, b"before"), row(1, value), row(2, b"after")];
        let appended = encoder.append(&rows).expect("a sound encoder");
        assert_eq!(encoder.refuses(&rows[1]), appended.refused, "asked before, it says the same");
        if let Some(refused) = &appended.refused {
            assert_eq!((appended.taken(), refused.step.name()), (1, "encode"));
            assert!(has_newline(value), "{refused}");
            encoder.append(&rows[2..]).expect("a sound encoder");
        }
        let file = encoder.finish().expect("a file");
        let mut lines: Vec<&[u8]> = file.tail.split(|byte| *byte == b'\n').collect();
        assert_eq!(lines.pop(), Some(&b""[..]), "the last line ends");
        assert_eq!((lines.len() as u64, lines[0]), (file.rows, &b"before"[..]));
        match appended.refused {
            Some(_) => assert_eq!(lines, [&b"before"[..], b"after"]),
            None => {
                assert_eq!((lines.len(), lines[2]), (3, &b"after"[..]));
                assert_line(kind, newlines, value, lines[1]);
            }
        }
    });
}

fn assert_line(kind: &str, newlines: Newlines, value: &[u8], line: &[u8]) {
    if value.is_empty() {
        assert_eq!(line, if kind == "text" { &b""[..] } else { b"null" });
    } else if !has_newline(value) {
        assert_eq!(line, value);
    } else if newlines == Newlines::Escape {
        assert_eq!(serde_json::from_slice::<String>(line).expect("a string").as_bytes(), value);
    } else if newlines == Newlines::Compact {
        let read = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).ok();
        assert_eq!(read(line), read(value));
    } else {
        assert_eq!(newlines, Newlines::Space);
        let newlines = value.iter().filter(|byte| **byte == b'\n').count();
        assert!(line.len() <= value.len() && line.iter().filter(|byte| **byte == b' ').count() >= newlines && !has_newline(line));
    }
}

fn has_newline(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The first line is a path in a JSON value, the rest the value. What `{value.…}` finds is what another reader of JSON finds.
pub fn value_path(data: &[u8]) {
    let (path, json) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let json = json.strip_prefix(b"\n").unwrap_or_default();
    let Ok(path) = std::str::from_utf8(path) else { return };
    let parse = |source: &str| PathTemplate::parse(source, &TemplateOptions { timezone: TimeZone::UTC, single_topic: true, limits: Limits::OBJECT });
    let (Ok(found), Ok(wanted)) = (parse(&format!("v={{value.{path}}}/{{partition}}_{{offset}}")), parse("v={key}/{partition}_{offset}")) else {
        return;
    };
    if path.contains(['{', '}', ':']) {
        return;
    }
    bounded((8 << 20) + 64 * data.len(), || {
        let record = OwnedRecord { topic: "orders".into(), value: Some(json.to_vec()), ..OwnedRecord::default() };
        let context = NameContext { now: Timestamp::UNIX_EPOCH, incarnation: 0, extension: ".jsonl".into() };
        let group = |template: &PathTemplate, record: &OwnedRecord| {
            template.group(&Row::of(record.borrow()), &context, &mut PathCache::default()).map(str::to_owned).map_err(|error| error.kind())
        };
        let found = group(&found, &record);
        let Ok(whole) = serde_json::from_slice::<&RawValue>(json) else { return };
        let Ok(reference) = look_up(whole, path) else { return };
        let wanted = match reference {
            Reference::Composite => Err(Kind::BadRecord),
            Reference::Nothing => group(&wanted, &OwnedRecord { key: None, ..record }),
            Reference::Scalar(bytes) => group(&wanted, &OwnedRecord { key: Some(bytes), ..record }),
        };
        assert_eq!(found, wanted, "`{path}` in {}", String::from_utf8_lossy(json));
    });
}

enum Reference {
    Nothing,
    Scalar(Vec<u8>),
    Composite,
}

/// The same by serde_json, a level at a time. Of members with the same name the first counts.
fn look_up(mut json: &RawValue, path: &str) -> Result<Reference, serde_json::Error> {
    for step in path.split('.') {
        let inside = match json.get().as_bytes()[0] {
            b'{' => serde_json::from_str::<Members<'_>>(json.get())?.0.into_iter().find(|(name, _)| name == step).map(|(_, inside)| inside),
            b'[' => step.parse().ok().and_then(|index: usize| serde_json::from_str::<Vec<&RawValue>>(json.get()).ok()?.get(index).copied()),
            _ => None,
        };
        let Some(inside) = inside else { return Ok(Reference::Nothing) };
        json = inside;
    }
    Ok(match json.get().as_bytes()[0] {
        b'{' | b'[' => Reference::Composite,
        b'n' => Reference::Nothing,
        b'"' => Reference::Scalar(serde_json::from_str::<String>(json.get())?.into_bytes()),
        _ => Reference::Scalar(json.get().as_bytes().to_vec()),
    })
}

/// The members of an object in their order, doubled ones included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}
