//! What we do to JSON ourselves: writing a string, taking the white space out between tokens, and looking whether a text is JSON.
//!
//! Every other byte is left alone: numbers keep their digits, objects their order and their doubled keys.

use memchr::memchr2;
use serde::de::IgnoredAny;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends `text` as a JSON string with its quotes.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[written..at]);
        written = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(control >> 4)], HEX[usize::from(control & 15)]]),
        }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

/// Appends the JSON text `value` without the white space between its tokens; everything else is copied byte for byte.
/// `false`, with nothing appended, when `value` is not one JSON value. Nesting costs no stack.
pub(super) fn compact(value: &[u8], out: &mut Vec<u8>) -> bool {
    if serde_json::from_slice::<IgnoredAny>(value).is_err() {
        return false;
    }
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => rest = after,
            b'"' => {
                let end = string_end(after);
                out.extend_from_slice(&rest[..=end]);
                rest = &rest[end + 1..];
            }
            token => {
                out.push(*token);
                rest = after;
            }
        }
    }
    true
}

/// How many bytes of `text`, which begins after a string's opening quote, belong to that string, its closing quote included.
fn string_end(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', &text[at..]) {
        if text[at + found] == b'"' {
            return at + found + 1;
        }
        at += found + 2;
    }
    text.len()
}

/// Appends `value` with a space for every newline: `\n`, `\r`, or both behind each other, which are one.
pub(super) fn spaced(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = memchr2(b'\n', b'\r', rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b' ');
        let newline = if rest[at..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[at + newline..];
    }
    out.extend_from_slice(rest);
}

/// Looks whether `text` is one JSON value (RFC 8259) and nothing else, white space around it aside. Takes no memory, and nesting
/// costs no stack.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check(text: &[u8]) -> Result<(), String> {
    const NOT_JSON: &str = "the value is not JSON";
    // serde_json passes over strings without looking whether they are UTF-8
    let text = std::str::from_utf8(text).map_err(|error| format!("{NOT_JSON}: it is not UTF-8 at byte {}", error.valid_up_to()))?;
    if text.starts_with('\u{feff}') {
        return Err(format!("{NOT_JSON}: it begins with a byte order mark"));
    }
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => format!("{NOT_JSON}: it ends too early"),
        _ => format!("{NOT_JSON} at its byte {}", error.column().max(1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compacted(value: &str) -> Option<String> {
        let mut out = Vec::new();
        compact(value.as_bytes(), &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn compacting_keeps_every_token_as_it_was_written() {
        let value = "{\n  \"b\" : 1.10e+02,\r\n\t\"a\": [ 1 , -0, 12345678901234567890123 ],\n \"a\": \"x \\\" \\\\\", \"\\u00e9 é\" : null }\n";
        assert_eq!(
            compacted(value).as_deref(),
            Some("{\"b\":1.10e+02,\"a\":[1,-0,12345678901234567890123],\"a\":\"x \\\" \\\\\",\"\\u00e9 é\":null}")
        );
    }

    #[test]
    fn what_is_not_one_json_value_is_refused() {
        for value in ["", "\n", "1\n2", "{\"a\":1}\n{\"a\":2}", "{\"a\":\n}", "\"raw\nnewline\"", "nul\nl", "[1,\n]", "\"open\\\"\n"] {
            assert_eq!(compacted(value), None, "{value:?}");
        }
    }

    #[test]
    fn deep_nesting_is_compacted_without_a_deep_stack() {
        let value = format!("{}\n{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(compacted(&value).unwrap().len(), 400_000);
    }

    #[test]
    fn newlines_become_spaces_together_with_their_carriage_return() {
        let mut out = Vec::new();
        spaced("a\r\nb\n\nc\rd\n\u{2028}\r\r\n".as_bytes(), &mut out);
        assert_eq!(out, "a b  c d \u{2028}  ".as_bytes());
    }

    #[test]
    fn a_look_finds_what_is_no_json_and_says_where() {
        for good in ["1", " {\"a\":[1,-0.5e+3,true,null,\"\\u00e9\\ud800\"]} ", "\"\u{2028}\"", "[]\n"] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(check(deep.as_bytes()), Ok(()));
        for (wrong, words) in [
            (&b"oops"[..], "at its byte"),
            (b"[1,2", "ends too early"),
            (b"{\"a\":\"x", "ends too early"),
            (b"", "ends too early"),
            (b" \n", "ends too early"),
            (b"NaN", "at its byte"),
            (b"[1,NaN]", "at its byte"),
            (b"-Infinity", "at its byte"),
            (b"\xef\xbb\xbf{}", "byte order mark"),
            (b"{} {}", "at its byte"),
            (b"{'a':1}", "at its byte"),
            (b"[1,]", "at its byte"),
            (b"01", "at its byte"),
            (b"\"a\tb\"", "at its byte"),
            (b"\"\xff\"", "not UTF-8 at byte 1"),
        ] {
            let said = check(wrong).unwrap_err();
            assert!(said.contains(words), "{}: {said}", wrong.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn a_look_finds_what_another_reader_of_json_finds(text in "[-0-9eE.\"\\\\{}\\[\\],:a ntrufls]{0,12}") {
            prop_assert_eq!(check(text.as_bytes()).is_ok(), serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
        }

        #[test]
        fn a_written_string_reads_back_and_holds_no_newline(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&text, &mut out);
            prop_assert!(!out.contains(&b'\n') && !out.contains(&b'\r'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
