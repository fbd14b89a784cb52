//! Paths below a store's prefix, and how they look in URLs.
//!
//! A path that passes [`check`] stays below the prefix on every store: no `..`, nothing absolute, no empty segment.

use crate::{Error, Kind, Result};

/// Names that begin so are the local store's own and never a caller's.
pub(crate) const RESERVED: &str = ".kas3-";
/// The longest path in bytes, prefix included: S3's limit for keys.
pub(crate) const PATH_BYTES_MAX: usize = 1024;

/// Refuses a path that could leave the prefix or that no store can hold.
pub(crate) fn check(path: &str) -> Result<()> {
    if path.is_empty() {
        return Err(refused(path, "it is empty"));
    }
    check_segments(path, path.split('/'))
}

/// Refuses a prefix that could leave the store's own; empty, or ending within a segment, it may be.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() { Ok(()) } else { check_segments(prefix, whole.split('/')) }
}

fn check_segments<'a>(path: &str, segments: impl Iterator<Item = &'a str>) -> Result<()> {
    if path.len() > PATH_BYTES_MAX {
        return Err(refused(path, "it is longer than 1024 bytes"));
    }
    if path.contains('\0') {
        return Err(refused(path, "it holds a zero byte"));
    }
    for segment in segments {
        match segment {
            "" => return Err(refused(path, "a segment is empty")),
            "." | ".." => return Err(refused(path, "it could leave the prefix")),
            _ if segment.starts_with(RESERVED) => return Err(refused(path, "names that begin with `.kas3-` are the store's own")),
            _ => {}
        }
    }
    Ok(())
}

fn refused(path: &str, why: &str) -> Error {
    Error::new(Kind::Config, format!("path `{}` is refused: {why}", path.escape_debug()))
}

/// Encodes what may not stand in a URL (RFC 3986), `/` and Hive's `=` aside.
pub(crate) fn percent_encode(path: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => encoded.push(char::from(byte)),
            b'-' | b'.' | b'_' | b'~' | b'/' | b'=' | b'+' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b',' | b';' | b':' | b'@' => {
                encoded.push(char::from(byte));
            }
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// Encodes a key or value of a query, as S3 wants tags.
pub(crate) fn query_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(&mut encoded, text, b"");
    encoded
}

/// Encodes everything but what S3 leaves as it is in signatures, and the bytes of `kept`.
pub(crate) fn encode_into(encoded: &mut String, text: &str, kept: &[u8]) {
    use std::fmt::Write;
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ if kept.contains(&byte) => encoded.push(char::from(byte)),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
}

/// Decodes `%41`; a `%` without two hexadecimal digits stands for itself. `None` when the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| bytes[at] == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn paths_that_could_leave_the_prefix_are_refused() {
        for path in ["", "/", "/a", "a/", "a//b", "..", "../a", "a/..", "a/../b", ".", "./a", "a/.", "a\0b", "a/.kas3-tmp/b", &"x".repeat(1025)] {
            assert_eq!(check(path).map_err(|error| error.kind()), Err(Kind::Config), "{path:?}");
        }
        for path in ["a", "a/b", "a/..b", "...", "a=b/c%3Dd", " ", "_kas3/p", ".hidden/a", "ä+ö"] {
            assert!(check(path).is_ok(), "{path:?}");
        }
        assert!(check_prefix("").is_ok() && check_prefix("a/").is_ok() && check_prefix("a/b").is_ok());
        assert!(check_prefix("/").is_err() && check_prefix("a//").is_err() && check_prefix("../").is_err());
    }

    proptest! {
        #[test]
        fn a_path_that_passes_never_leaves_the_folder_that_it_is_joined_to(path in r"([./a\x00%_\\]|\.\./|//){0,12}") {
            if check(&path).is_ok() {
                let joined = Path::new("/root/folder").join(&path);
                prop_assert!(joined.starts_with("/root/folder"));
                prop_assert!(joined.components().all(|part| part != Component::ParentDir));
                prop_assert!(joined.components().count() > 3);
            }
        }

        #[test]
        fn encoding_and_decoding_are_inverse(path in ".{0,40}") {
            let encoded = percent_encode(&path);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(path));
        }
    }
}
