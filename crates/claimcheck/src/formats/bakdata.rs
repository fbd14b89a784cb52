//! The two modes of bakdata's large-message serde 4: a byte before the value, or headers.
//!
//! Only record values are read, not keys. A compressed payload may be followed by zero bytes.

use super::{Found, ReferenceFormat, bucket_and_key, malformed, url_of};
use crate::{
    Reference, Result,
    reference::{Compression, Headers, header},
};
use bytes::{Bytes, BytesMut};

const BACKED: &str = "__large.message.backed.value";
const COMPRESSION: &str = "__large.message.backed.compression";
/// As versions before 4 wrote it.
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
        "bakdata's large-message serde with headers: marked by `__large.message.backed.value`"
    }

    fn headers(&self) -> &'static [&'static str] {
        &[BACKED, COMPRESSION, COMPRESSION_OLD]
    }

    fn keys(&self) -> &'static str {
        KEYS
    }

    fn compressions(&self) -> &'static [Compression] {
        COMPRESSIONS
    }

    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>> {
        let (Some(flag), Some(value)) = (header(headers, BACKED), value) else { return Ok(None) };
        match flag {
            [INLINE] => Ok(Some(Found::Inline(value.clone()))),
            [REFERENCE] => reference(value, headers).map(Some),
            _ => Err(malformed(format!("header `{BACKED}` is neither 0 nor 1"))),
        }
    }

    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes> {
        headers.push((BACKED.to_owned(), Some(Bytes::from_static(&[REFERENCE]))));
        note_compression(reference, headers);
        Ok(url_of(reference).into())
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

    fn marks_inline(&self) -> bool {
        true
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
            Some(&REFERENCE) => reference(&value.slice(1..), headers).map(Some),
            _ => Ok(None),
        }
    }

    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes> {
        note_compression(reference, headers);
        Ok(flagged(REFERENCE, url_of(reference).as_bytes()))
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
    headers.push((COMPRESSION.to_owned(), Some(Bytes::from_static(code))));
}

fn reference(url: &[u8], headers: &Headers) -> Result<Found> {
    let url = std::str::from_utf8(url).map_err(|error| malformed("the reference is no text").source(error))?;
    let (bucket, key) = bucket_and_key(url)?;
    let compression = match header(headers, COMPRESSION).or_else(|| header(headers, COMPRESSION_OLD)) {
        None | Some([0]) => Compression::None,
        Some([1]) => Compression::Gzip,
        Some([2]) => Compression::Snappy,
        Some([3]) => Compression::Lz4,
        Some([4]) => Compression::Zstd,
        Some(other) => Compression::named(Some(&format!("{other:?}")))?,
    };
    Ok(Found::Reference(Reference { bucket, key, compression, ..Reference::default() }))
}
