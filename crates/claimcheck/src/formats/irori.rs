//! The claim-check interceptors of irori: the reference in a header, the value null.
//!
//! Only read: a record without a value is a tombstone to a compacted topic, which would drop the record's key.

use super::{Found, Inline, ReferenceFormat, bucket_and_key, malformed};
use crate::{
    Error, Kind, Reference, Result,
    reference::{Headers, header},
};
use bytes::Bytes;

const HEADER: &str = "message-claim-check";
/// Bytes of the payload, 64 bits, big-endian.
const SIZE: &str = "message-claim-check-payload-size";

/// References of irori's interceptors.
#[derive(Debug)]
pub(super) struct Irori;

impl ReferenceFormat for Irori {
    fn name(&self) -> &'static str {
        "irori"
    }

    fn marked(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "irori's claim-check interceptors: the URL in the header `message-claim-check`, no value; read only, it holds no checksum"
    }

    fn inline(&self) -> Inline {
        Inline::Bare
    }

    fn headers(&self) -> &'static [&'static str] {
        &[HEADER, SIZE]
    }

    fn writes(&self) -> bool {
        false
    }

    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>> {
        let Some(url) = header(headers, HEADER).filter(|_| value.is_none()) else { return Ok(None) };
        let url = std::str::from_utf8(url).map_err(|error| malformed(format!("header `{HEADER}` is no text")).source(error))?;
        let (bucket, key) = bucket_and_key(url)?;
        let size = header(headers, SIZE).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        Ok(Some(Found::Reference(Reference { bucket, key, size, ..Reference::default() })))
    }

    fn write(&self, _reference: &Reference, _headers: &mut Headers) -> Result<Bytes> {
        Err(Error::new(Kind::Config, "format `irori` is only read: its references look like tombstones to a compacted topic")
            .hint("write `kas3`, and let consumers accept both"))
    }
}
