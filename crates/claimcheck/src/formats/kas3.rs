//! kas3's own format: a header marks and versions the reference, the value is compact JSON.
//!
//! ```text
//! header  kas3-claim-check: 1
//! value   {"bucket":"payloads","key":"orders/018f…","size":5242880,"sha256":"9f86…","chunk":1048576,"sums":"base64","etag":"…"}
//! ```
//! Fields that a reader does not know are passed over; what would change the meaning of a known one raises the version.
//! With `inline_header` a record that holds its payload has the header `kas3-inline: 1`.

use super::{Found, Inline, ReferenceFormat, malformed};
use crate::{
    Error, Kind, Reason, Reference, Result,
    reference::{CHUNK_BYTES, Compression, Headers, PREFIX_SUM_BYTES, PREFIX_SUMS_MAX, PrefixSums, header, hex, sha_of_hex},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The header that marks a reference; its value is the version.
pub(crate) const HEADER: &str = "kas3-claim-check";
/// The header that marks a payload in its record, when producers are told to; its value is the version.
const INLINE_HEADER: &str = "kas3-inline";
const VERSION: &[u8] = b"1";

/// References of kas3.
#[derive(Debug)]
pub(super) struct Kas3;

#[derive(Serialize, Deserialize)]
struct Stored {
    bucket: String,
    key: String,
    size: u64,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sums: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compression: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
}

impl ReferenceFormat for Kas3 {
    fn name(&self) -> &'static str {
        "kas3"
    }

    fn marked(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "kas3's own: marked by the header `kas3-claim-check`, with checksums by which a stream is verified as it is read"
    }

    fn headers(&self) -> &'static [&'static str] {
        &[HEADER, INLINE_HEADER]
    }

    fn inline(&self) -> Inline {
        Inline::Bare
    }

    fn inline_header(&self) -> Option<(&'static str, &'static [u8])> {
        Some((INLINE_HEADER, VERSION))
    }

    fn marks_objects(&self) -> bool {
        true
    }

    fn compressions(&self) -> &'static [Compression] {
        &[Compression::None, Compression::Gzip, Compression::Zstd]
    }

    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>> {
        let Some(version) = header(headers, HEADER) else {
            let Some(version) = header(headers, INLINE_HEADER) else { return Ok(None) };
            check_version("payload", version)?;
            return Ok(value.cloned().map(Found::Inline));
        };
        check_version("reference", version)?;
        let value = value.ok_or_else(|| malformed("the record is marked as a reference and has no value"))?;
        let stored: Stored = serde_json::from_slice(value).map_err(|error| malformed("the reference cannot be read").source(error))?;
        stored.reference().map(|reference| Some(Found::Reference(reference)))
    }

    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes> {
        let missing = |what: &str| Error::new(Kind::Fatal, format!("a reference of kas3 needs {what}"));
        let sums = reference.prefix_sums.as_ref();
        let stored = Stored {
            bucket: reference.bucket.clone(),
            key: reference.key.clone(),
            size: reference.size.ok_or_else(|| missing("the payload's size"))?,
            sha256: reference.sha256.as_ref().map(|sha| hex(sha)).ok_or_else(|| missing("the payload's SHA-256"))?,
            chunk: sums.map(|sums| sums.chunk),
            sums: sums.map(|sums| STANDARD.encode(sums.sums.concat())),
            etag: reference.etag.clone(),
            compression: reference.compression.name().map(str::to_owned),
            content_type: reference.content_type.clone(),
            encryption: reference.encryption.clone(),
            shared: reference.shared,
        };
        let value = serde_json::to_vec(&stored).map_err(|error| Error::new(Kind::Fatal, "cannot write a reference").source(error))?;
        headers.push((HEADER.to_owned(), Some(Bytes::from_static(VERSION))));
        Ok(value.into())
    }
}

fn check_version(of: &str, version: &[u8]) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    let version = String::from_utf8_lossy(&version[..version.len().min(20)]).escape_debug().to_string();
    let error = Error::refused(Reason::UnknownVersion, format!("the {of} is of version `{version}`, this kas3 reads version 1"));
    Err(error.hint("upgrade this consumer"))
}

impl Stored {
    fn reference(self) -> Result<Reference> {
        let prefix_sums = self.prefix_sums()?;
        Ok(Reference {
            sha256: Some(sha_of_hex(&self.sha256).ok_or_else(|| malformed("field `sha256` of the reference is no SHA-256 in hexadecimal"))?),
            compression: Compression::named(self.compression.as_deref())?,
            bucket: self.bucket,
            key: self.key,
            size: Some(self.size),
            content_type: self.content_type,
            prefix_sums,
            etag: self.etag,
            encryption: self.encryption,
            shared: self.shared,
        })
    }

    /// As many sums as the size asks for, or none.
    fn prefix_sums(&self) -> Result<Option<PrefixSums>> {
        let (Some(chunk), Some(sums)) = (self.chunk, &self.sums) else { return Ok(None) };
        let wrong = || malformed("fields `chunk` and `sums` of the reference do not fit its size");
        let bytes = STANDARD.decode(sums).map_err(|error| wrong().source(error))?;
        let whole = chunk.is_power_of_two() && chunk >= CHUNK_BYTES && bytes.len().is_multiple_of(PREFIX_SUM_BYTES);
        let sums: Vec<[u8; PREFIX_SUM_BYTES]> = bytes.chunks_exact(PREFIX_SUM_BYTES).filter_map(|sum| sum.try_into().ok()).collect();
        if !whole || sums.len() > PREFIX_SUMS_MAX || sums.len() as u64 != self.size.saturating_sub(1) / chunk {
            return Err(wrong());
        }
        Ok(Some(PrefixSums { chunk, sums }))
    }
}
