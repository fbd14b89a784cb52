//! Whether a line of a file holds a record, decided from the documented meaning of the formats and not with their encoders,
//! so that a fault of an encoder shows.
//!
//! A line may be the bare value, the value by one of the policies for newlines and absent values, or an envelope. Which of
//! them the settings asked for when the file was written is not needed: each is lossless, or loses only what its policy says.

use super::envelope;
use crate::{record::OwnedRecord, row::Row, span::TopicPartition};
use memchr::memchr2;

/// Whether `line`, without its newline, holds `row`.
pub(super) fn holds(line: &[u8], row: &Row<'_>) -> bool {
    match row.bytes() {
        Some(value) if !value.is_empty() => {
            line == value || (memchr2(b'\n', b'\r', value).is_some() && holds_broken(line, value)) || is_envelope(line, row)
        }
        _ => line.is_empty() || line == b"null" || is_envelope(line, row),
    }
}

/// A value that holds a newline (`\n`, `\r` or both), by one of the policies of `format.newlines`.
fn holds_broken(line: &[u8], value: &[u8]) -> bool {
    !line.contains(&b'\n') && (is_spaced(line, value) || is_compact(line, value) || is_escaped(line, value))
}

/// `space`: a space for each newline, `\n`, `\r` or both. An earlier kas3 left a `\r` alone that no `\n` follows.
fn is_spaced(line: &[u8], value: &[u8]) -> bool {
    let (mut line, mut value) = (line, value);
    while let Some((byte, rest)) = value.split_first() {
        let Some((written, after)) = line.split_first() else { return false };
        let same = match byte {
            b'\r' => *written == b' ' || *written == b'\r',
            b'\n' => *written == b' ',
            byte => written == byte,
        };
        if !same {
            return false;
        }
        // both together are one
        value = if *byte == b'\r' && *written == b' ' { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
        line = after;
    }
    line.is_empty()
}

/// `compact`: the same JSON without white space between its tokens.
fn is_compact(line: &[u8], value: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() && line.iter().eq(tokens(value))
}

/// The bytes of a JSON text that are not white space between tokens.
fn tokens(json: &[u8]) -> impl Iterator<Item = &u8> {
    let (mut string, mut escaped) = (false, false);
    json.iter().filter(move |byte| {
        if string {
            (string, escaped) = (escaped || **byte != b'"', !escaped && **byte == b'\\');
            return true;
        }
        string = **byte == b'"';
        !byte.is_ascii_whitespace()
    })
}

/// `escape`: the value as a JSON string.
fn is_escaped(line: &[u8], value: &[u8]) -> bool {
    line.starts_with(b"\"") && serde_json::from_slice::<String>(line).is_ok_and(|text| text.as_bytes() == value)
}

fn is_envelope(line: &[u8], row: &Row<'_>) -> bool {
    line.starts_with(b"{")
        && envelope::decode(line).is_ok_and(|found| found == OwnedRecord { value: row.bytes().map(<[u8]>::to_vec), ..OwnedRecord::from(&row.record) })
}

/// The offset that an envelope of this partition names; `None` for a line that is none.
pub(super) fn offset_of_envelope(line: &[u8], of: &TopicPartition) -> Option<i64> {
    if !line.starts_with(b"{\"topic\":") {
        return None;
    }
    envelope::decode(line).ok().filter(|found| found.topic == *of.topic && found.partition == of.partition).map(|found| found.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::lines::{Compression, LinesSettings, Newlines};
    use crate::row::OwnedRow;
    use proptest::{collection::vec, prelude::*};

    fn row(value: Option<&[u8]>) -> OwnedRow {
        OwnedRow::from(OwnedRecord { topic: "t".to_owned(), partition: 1, offset: 7, value: value.map(<[u8]>::to_vec), ..OwnedRecord::default() })
    }

    #[test]
    fn each_policy_for_newlines_is_told_from_a_damaged_line() {
        let row = row(Some(b"{\"a\": \"x \\\" y\",\r\n \"b\": 1}"));
        for line in ["{\"a\":\"x \\\" y\",\"b\":1}", "{\"a\": \"x \\\" y\",  \"b\": 1}", r#""{\"a\": \"x \\\" y\",\r\n \"b\": 1}""#] {
            assert!(holds(line.as_bytes(), &row.borrow()), "{line}");
        }
        for line in ["{\"a\":\"x\\\" y\",\"b\":1}", "{\"a\":\"x \\\" y\",\"b\":2}", "{\"a\": \"x \\\" y\", \"b\": 1}", "", "null"] {
            assert!(!holds(line.as_bytes(), &row.borrow()), "{line}");
        }
    }

    #[test]
    fn a_carriage_return_alone_is_a_newline_and_a_line_of_before_that_still_holds_its_record() {
        for (value, lines) in [
            ("[1,\r2]", &["[1,2]", "[1, 2]", r#""[1,\r2]""#, "[1,\r2]"][..]),
            ("a\rb\r\nc\n", &["a b c ", "a\rb c ", r#""a\rb\r\nc\n""#]),
            ("a\r\r\n", &["a  ", "a\r "]),
        ] {
            let row = row(Some(value.as_bytes()));
            assert!(lines.iter().all(|line| holds(line.as_bytes(), &row.borrow())), "{value:?}");
            for line in ["[1, 3]", "ab c ", "a b  c ", "a b", "a", ""] {
                assert!(!holds(line.as_bytes(), &row.borrow()), "{value:?} and {line:?}");
            }
        }
    }

    #[test]
    fn a_tombstone_is_null_or_an_empty_line_and_never_a_value() {
        for line in [&b""[..], b"null"] {
            assert!(holds(line, &row(None).borrow()) && holds(line, &row(Some(b"")).borrow()));
        }
        assert!(!holds(b"{}", &row(None).borrow()));
        assert!(!holds(b"null", &row(Some(b"{}")).borrow()));
    }

    #[test]
    fn an_envelope_of_another_offset_does_not_hold_the_record() {
        let line = |offset| format!(r#"{{"topic":"t","partition":1,"offset":{offset},"timestamp":null,"key":null,"headers":[],"value":"x"}}"#);
        assert!(holds(line(7).as_bytes(), &row(Some(b"x")).borrow()));
        assert!(!holds(line(8).as_bytes(), &row(Some(b"x")).borrow()));
        assert_eq!(offset_of_envelope(line(8).as_bytes(), &TopicPartition::new("t", 1)), Some(8));
        assert_eq!(offset_of_envelope(line(8).as_bytes(), &TopicPartition::new("t", 2)), None);
    }

    proptest! {
        #[test]
        fn what_the_formats_write_holds_the_record(
            value in prop_oneof![vec(any::<u8>(), 0..30), "[ a\\r\\n\"\\\\{}:,1]{0,20}".prop_map(String::into_bytes), "\\{\n?\"a b\": \\[1,\n2\\]\\}".prop_map(String::into_bytes)],
            newlines in prop_oneof![Just(Newlines::Compact), Just(Newlines::Space), Just(Newlines::Escape)],
            envelope in any::<bool>(),
        ) {
            let newlines = if envelope { Newlines::default() } else { newlines };
            let settings = LinesSettings { compression: Compression::None, envelope, newlines, ..LinesSettings::default() };
            let mut encoder = settings.of("json_lines").unwrap().settings.build("format").unwrap().encoder().unwrap();
            let row = row(Some(&value));
            if encoder.append(&[row.borrow()]).unwrap().written == 1 {
                let file = encoder.finish().unwrap().tail;
                prop_assert_eq!(file.last(), Some(&b'\n'));
                prop_assert!(holds(&file[..file.len() - 1], &row.borrow()), "{:?}", file);
            }
        }
    }
}
