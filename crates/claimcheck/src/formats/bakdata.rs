//! The two modes of bakdata's large-message serde: a byte before the value, or headers.
//!
//! With headers a key may be a reference as well; in the other mode nothing says whether keys have the byte, and they are left as
//! they are. A compressed payload may be followed by zero bytes.

use super::{Found, Inline, ReferenceFormat, malformed, uri};
use crate::{
    Reference, Result,
    reference::{Compression, Headers, header},
};
use bytes::{Bytes, BytesMut};

const BACKED: &str = "__large.message.backed.value";
const KEY_BACKED: &str = "__large.message.backed.key";
/// The name since version 4.
const COMPRESSION: &str = "__large.message.backed.compression";
/// The name before version 4: the only one that older clients know, and newer ones read it too.
const COMPRESSION_OLD: &str = "__large.message.backed..compression";
const INLINE: u8 = 0;
const REFERENCE: u8 = 1;
const KEYS: &str = "{topic}/values/{uuid}";
const COMPRESSIONS: &[Compression] = &[Compression::None, Compression::Gzip, Compression::Zstd];

/// References with their flag in a header.
#[derive(Debug)]
pub(super) struct Header;

/// References with their flag before the value.
#[derive(Debug)]
pub(super) struct Value;

impl ReferenceFormat for Header {
    fn name(&self) -> &'static str {
        "bakdata"
    }

    fn marked(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "bakdata's large-message serde with headers: marked by `__large.message.backed.value`; keys may be references too"
    }

    fn headers(&self) -> &'static [&'static str] {
        &[BACKED, KEY_BACKED, COMPRESSION, COMPRESSION_OLD]
    }

    fn keys(&self) -> &'static str {
        KEYS
    }

    fn compressions(&self) -> &'static [Compression] {
        COMPRESSIONS
    }

    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>> {
        let (Some(flag), Some(value)) = (header(headers, BACKED), value) else { return Ok(None) };
        if is_backed(BACKED, flag)? { found(value, headers).map(Some) } else { Ok(Some(Found::Inline(value.clone()))) }
    }

    fn read_key(&self, key: &Bytes, headers: &Headers) -> Result<Option<Reference>> {
        match header(headers, KEY_BACKED) {
            Some(flag) if is_backed(KEY_BACKED, flag)? => reference(key, headers).map(Some),
            _ => Ok(None),
        }
    }

    /// Whoever reads keys with the serde needs it; to others it is one more header.
    fn mark_key(&self, headers: &mut Headers) {
        headers.push((KEY_BACKED.to_owned(), Some(Bytes::from_static(&[INLINE]))));
    }

    fn inline(&self) -> Inline {
        Inline::Header
    }

    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes> {
        headers.push((BACKED.to_owned(), Some(Bytes::from_static(&[REFERENCE]))));
        note_compression(reference, headers);
        Ok(uri::of(reference).into())
    }

    fn write_inline(&self, payload: Bytes, headers: &mut Headers) -> Bytes {
        headers.push((BACKED.to_owned(), Some(Bytes::from_static(&[INLINE]))));
        payload
    }
}

impl ReferenceFormat for Value {
    fn name(&self) -> &'static str {
        "bakdata-value"
    }

    fn marked(&self) -> bool {
        false
    }

    fn about(&self) -> &'static str {
        "bakdata's large-message serde without headers: a byte 0 or 1 before every value; every record of the topic must have it"
    }

    fn inline(&self) -> Inline {
        Inline::FirstByte
    }

    fn headers(&self) -> &'static [&'static str] {
        &[COMPRESSION, COMPRESSION_OLD]
    }

    fn keys(&self) -> &'static str {
        KEYS
    }

    fn compressions(&self) -> &'static [Compression] {
        COMPRESSIONS
    }

    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>> {
        let Some(value) = value else { return Ok(None) };
        match value.first() {
            Some(&INLINE) => Ok(Some(Found::Inline(value.slice(1..)))),
            Some(&REFERENCE) => found(&value.slice(1..), headers).map(Some),
            first => {
                let how = first.map_or_else(|| "is empty".to_owned(), |byte| format!("begins with the byte {byte}"));
                let error = malformed(format!("the value {how}: every value of format `bakdata-value` begins with the byte 0 or 1"));
                Err(error.hint("whoever wrote the record used another format, or `kas3` without `inline_header: true`"))
            }
        }
    }

    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes> {
        note_compression(reference, headers);
        Ok(flagged(REFERENCE, uri::of(reference).as_bytes()))
    }

    fn write_inline(&self, payload: Bytes, _headers: &mut Headers) -> Bytes {
        flagged(INLINE, &payload)
    }
}

fn flagged(flag: u8, rest: &[u8]) -> Bytes {
    let mut value = BytesMut::with_capacity(rest.len() + 1);
    value.extend_from_slice(&[flag]);
    value.extend_from_slice(rest);
    value.freeze()
}

fn note_compression(reference: &Reference, headers: &mut Headers) {
    let code: &'static [u8] = match reference.compression {
        Compression::None => return,
        Compression::Gzip => &[1],
        Compression::Snappy => &[2],
        Compression::Lz4 => &[3],
        Compression::Zstd => &[4],
    };
    headers.push((COMPRESSION_OLD.to_owned(), Some(Bytes::from_static(code))));
}

fn is_backed(name: &str, flag: &[u8]) -> Result<bool> {
    match flag {
        [INLINE] => Ok(false),
        [REFERENCE] => Ok(true),
        _ => Err(malformed(format!("header `{name}` is neither 0 nor 1"))),
    }
}

fn found(url: &[u8], headers: &Headers) -> Result<Found> {
    reference(url, headers).map(Found::Reference)
}

fn reference(url: &[u8], headers: &Headers) -> Result<Reference> {
    let url = std::str::from_utf8(url).map_err(|error| malformed("the reference is no text").source(error))?;
    let (bucket, key) = uri::bucket_and_key(url)?;
    let compression = match header(headers, COMPRESSION).or_else(|| header(headers, COMPRESSION_OLD)) {
        None | Some([0]) => Compression::None,
        Some([1]) => Compression::Gzip,
        Some([2]) => Compression::Snappy,
        Some([3]) => Compression::Lz4,
        Some([4]) => Compression::Zstd,
        Some(other) => Compression::named(Some(&format!("{other:?}")))?,
    };
    Ok(Reference { bucket, key, compression, ..Reference::default() })
}
