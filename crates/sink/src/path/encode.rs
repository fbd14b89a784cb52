//! Percent-encoding of values in paths, as Hive does it: the characters that would end a segment, a `name=value` pair or a
//! URL become `%XX`; everything else, white space and letters beyond ASCII included, stays readable.

/// What stands for a value that is missing, null or empty.
pub const MISSING: &str = "__HIVE_DEFAULT_PARTITION__";

/// ASCII characters besides controls that are encoded (the list of Hive's `FileUtils`, without its duplicates).
const ENCODED: &[u8] = b"\"#%'*/:=?\\{[]^";

const HEX: &[u8; 16] = b"0123456789ABCDEF";

static PLAIN: [bool; 256] = plain();

const fn plain() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        table[byte] = true;
        byte += 1;
    }
    let mut index = 0;
    while index < ENCODED.len() {
        table[ENCODED[index] as usize] = false;
        index += 1;
    }
    table
}

/// Appends `value` to `out`, encoded. `leading`: the value begins a segment, so that a `.` or `_` at its beginning is encoded
/// too (readers of data lakes skip such names). Nothing, or an empty value, becomes [`MISSING`].
///
/// Bytes that are not UTF-8 are encoded one by one, so that different values never give the same text.
pub(super) fn push(out: &mut String, value: &[u8], leading: bool) {
    let mut value = if value.is_empty() { MISSING.as_bytes() } else { value };
    if leading && matches!(value[0], b'.' | b'_') {
        push_byte(out, value[0]);
        value = &value[1..];
    }
    let clean = value.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(value.len());
    let (head, tail) = value.split_at(clean);
    // Plain bytes are ASCII, so this is no second scan that could fail.
    out.push_str(std::str::from_utf8(head).unwrap_or_default());
    for chunk in tail.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_char(out, character);
        }
        for byte in chunk.invalid() {
            push_byte(out, *byte);
        }
    }
}

fn push_char(out: &mut String, character: char) {
    let code = u32::from(character);
    if code < 0x80 {
        match PLAIN[code as usize] {
            true => out.push(character),
            false => push_byte(out, code as u8),
        }
        return;
    }
    // Controls and line separators garble listings, non-characters are not allowed in the XML of S3's answers.
    let awkward = character.is_control() || matches!(code, 0x2028 | 0x2029 | 0xfdd0..=0xfdef) || code & 0xfffe == 0xfffe;
    if awkward {
        let mut buffer = [0; 4];
        for byte in character.encode_utf8(&mut buffer).bytes() {
            push_byte(out, byte);
        }
    } else {
        out.push(character);
    }
}

fn push_byte(out: &mut String, byte: u8) {
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

/// Whether an encoded value may hold `byte`.
pub(super) fn may_hold(byte: u8) -> bool {
    byte >= 0x80 || byte == b'%' || PLAIN[usize::from(byte)]
}

/// Cuts encoded `text` to at most `limit` bytes: as much of its beginning as fits, `-`, and 16 digits of the XXH3 hash of all
/// of it. Neither a character nor a `%XX` is cut in two.
pub(super) fn cut(out: &mut String, text: &str, limit: usize) {
    if text.len() <= limit {
        out.push_str(text);
        return;
    }
    let mut end = limit.saturating_sub(CUT_BYTES).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if let Some(escape) = text[..end].rfind('%')
        && escape + 3 > end
    {
        end = escape;
    }
    out.push_str(&text[..end]);
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
    let _ = std::fmt::Write::write_fmt(out, format_args!("-{hash:016x}"));
}

/// Bytes that a cut adds: `-` and 16 digits.
pub(super) const CUT_BYTES: usize = 17;

/// A topic as it stands in a path.
pub(super) fn encoded_topic(topic: &str, leading: bool) -> String {
    let mut out = String::new();
    push(&mut out, topic.as_bytes(), leading);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: &[u8], leading: bool) -> String {
        let mut out = String::new();
        push(&mut out, value, leading);
        out
    }

    #[test]
    fn what_hive_encodes_is_encoded_and_the_rest_stays_readable() {
        assert_eq!(encoded(b"a/b=c%d:e", false), "a%2Fb%3Dc%25d%3Ae");
        assert_eq!(encoded(b"\x01\n\x7f\"#'*?\\{[]^", false), "%01%0A%7F%22%23%27%2A%3F%5C%7B%5B%5D%5E");
        assert_eq!(encoded("Grün weiß 東京 }|~!@$&()+,;<>`-".as_bytes(), false), "Grün weiß 東京 }|~!@$&()+,;<>`-");
    }

    #[test]
    fn bytes_that_are_not_utf8_and_characters_that_garble_listings_are_encoded() {
        assert_eq!(encoded(b"a\xff\xfe", false), "a%FF%FE");
        assert_eq!(encoded("a\u{85}\u{2028}\u{ffff}b".as_bytes(), false), "a%C2%85%E2%80%A8%EF%BF%BFb");
    }

    #[test]
    fn a_leading_dot_or_underscore_is_encoded_only_where_a_segment_begins() {
        assert_eq!(encoded(b"..", true), "%2E.");
        assert_eq!(encoded(b"_kas3", true), "%5Fkas3");
        assert_eq!(encoded(b"_kas3", false), "_kas3");
        assert_eq!(encoded(b"", false), MISSING);
        assert_eq!(encoded(b"", true), "%5F_HIVE_DEFAULT_PARTITION__");
    }

    #[test]
    fn a_cut_keeps_characters_and_escapes_whole_and_differs_for_different_tails() {
        let mut out = String::new();
        cut(&mut out, &"é".repeat(50), 40);
        assert!(out.len() <= 40 && out.starts_with(&"é".repeat(11)), "{out}");
        let (mut one, mut other) = (String::new(), String::new());
        cut(&mut one, &format!("{}1", "%2F".repeat(20)), 30);
        cut(&mut other, &format!("{}2", "%2F".repeat(20)), 30);
        assert!(one.starts_with("%2F%2F%2F%2F-") && one.len() <= 30, "{one}");
        assert_ne!(one, other);
    }
}
