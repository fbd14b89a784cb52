//! Payloads by URLs that Java's clients read: those parse them with `java.net.URI` and take the decoded path for the key.
//!
//! They write the key as it is, so a key with a space is one that they cannot read themselves. Such a URL is taken as it is written
//! here; one that `java.net.URI` takes is read as it reads it.

use super::malformed;
use crate::{Reference, Result};
use kas3_store::{Scheme, StoreUrl};

/// What stands in a path of `java.net.URI` besides letters and digits of ASCII, without an escape.
const PLAIN: &[u8] = b"_-!.~'()*,;:$&+=/@";

/// The URL of a payload: what a path may not hold is escaped.
pub(super) fn of(reference: &Reference) -> String {
    let mut key = String::with_capacity(reference.key.len());
    for character in reference.key.chars() {
        if is_plain(character) {
            key.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            use std::fmt::Write;
            _ = write!(key, "%{byte:02X}");
        }
    }
    Reference { bucket: reference.bucket.clone(), key, ..Reference::default() }.url()
}

/// Bucket and key of a URL.
pub(super) fn bucket_and_key(url: &str) -> Result<(String, String)> {
    let wrong = || malformed(format!("`{}` is not the URL of an object", url.chars().take(200).collect::<String>().escape_debug()));
    match StoreUrl::parse(url) {
        Ok(url) if url.scheme() == Scheme::S3 && !url.bucket().is_empty() && !url.path().is_empty() => {
            let key = decoded(url.path()).unwrap_or_else(|| url.path().to_owned());
            Ok((url.bucket().to_owned(), key))
        }
        _ => Err(wrong()),
    }
}

/// Other alphabets stand for themselves, their spaces and control characters do not.
fn is_plain(character: char) -> bool {
    match u8::try_from(character) {
        Ok(byte) if byte.is_ascii() => byte.is_ascii_alphanumeric() || PLAIN.contains(&byte),
        _ => !character.is_whitespace() && !character.is_control(),
    }
}

/// A path without its escapes; `None` for one that `java.net.URI` does not take, or takes for less than all of it.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(character) = rest.chars().next() {
        if character == '%' {
            let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[3..];
            continue;
        }
        if !is_plain(character) {
            return None;
        }
        let (one, behind) = rest.split_at(character.len_utf8());
        bytes.extend_from_slice(one.as_bytes());
        rest = behind;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(key: &str) -> String {
        of(&Reference { bucket: "payloads".into(), key: key.into(), ..Reference::default() })
    }

    #[test]
    fn keys_are_escaped_as_java_reads_them_and_what_java_writes_raw_is_read_as_it_is() {
        for (key, written) in [
            ("a/b-c_d.e~f", "s3://payloads/a/b-c_d.e~f"),
            ("a b", "s3://payloads/a%20b"),
            ("100%/x", "s3://payloads/100%25/x"),
            ("a%20b", "s3://payloads/a%2520b"),
            ("a#b?c", "s3://payloads/a%23b%3Fc"),
            ("[a]{b}|\\^`\"<>", "s3://payloads/%5Ba%5D%7Bb%7D%7C%5C%5E%60%22%3C%3E"),
            ("ä\u{1f600}", "s3://payloads/ä\u{1f600}"),
            ("a\u{a0}b\u{85}", "s3://payloads/a%C2%A0b%C2%85"),
        ] {
            assert_eq!(url(key), written);
            assert_eq!(bucket_and_key(written).unwrap(), ("payloads".to_owned(), key.to_owned()));
        }
        for raw in ["a b", "100%/x", "a#b", "a?b=c", "a%zzb", "a b%41", "%ff"] {
            assert_eq!(bucket_and_key(&format!("s3://payloads/{raw}")).unwrap().1, raw, "written by Java's client, which escapes nothing");
        }
        for wrong in ["", "payloads/a", "s3://payloads", "s3://payloads/", "s3:///a", "file:///a/b"] {
            assert!(bucket_and_key(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back(key in "\\PC{1,40}") {
            prop_assert_eq!(bucket_and_key(&url(&key)).unwrap(), ("payloads".to_owned(), key));
        }
    }
}
