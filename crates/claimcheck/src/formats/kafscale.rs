//! The envelope of KafScale's large file support: a JSON object with `kfs_lfs`.

use super::{Found, Inline, ReferenceFormat, malformed, needed, text_field};
use crate::{
    Error, Kind, Reason, Reference, Result,
    reference::{Headers, hex, sha_of_hex},
};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// The mark stands within so many bytes.
const MARK_WITHIN: usize = 50;
const MARK: &[u8] = b"\"kfs_lfs\"";
const VERSION: u64 = 1;

/// References of KafScale.
#[derive(Debug)]
pub(super) struct Lfs;

#[derive(Serialize)]
struct Envelope<'a> {
    kfs_lfs: u64,
    bucket: &'a str,
    key: &'a str,
    size: u64,
    sha256: String,
    content_type: &'a str,
    created_at: String,
    proxy_id: &'a str,
}

impl ReferenceFormat for Lfs {
    fn name(&self) -> &'static str {
        "kafscale"
    }

    fn marked(&self) -> bool {
        false
    }

    fn about(&self) -> &'static str {
        "KafScale's large file envelope: a JSON object with `kfs_lfs` in its first 50 bytes, unmarked"
    }

    fn inline(&self) -> Inline {
        Inline::Bare
    }

    fn keys(&self) -> &'static str {
        "{topic}/lfs/{now:%Y/%m/%d}/obj-{uuid}"
    }

    fn read(&self, value: Option<&Bytes>, _headers: &Headers) -> Result<Option<Found>> {
        let Some(value) = value.filter(|value| value.starts_with(b"{")) else { return Ok(None) };
        if !value[..value.len().min(MARK_WITHIN)].windows(MARK.len()).any(|window| window == MARK) {
            return Ok(None);
        }
        let object = super::json_object(Some(value)).ok_or_else(|| malformed("the envelope is no JSON object"))?;
        match object.get("kfs_lfs").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(version) => {
                return Err(Error::refused(Reason::UnknownVersion, format!("the envelope is of version {version}, this kas3 reads version 1")));
            }
            None => return Err(malformed("field `kfs_lfs` of the envelope is no number")),
        }
        let sha256 = needed(&object, "sha256")?;
        Ok(Some(Found::Reference(Reference {
            bucket: needed(&object, "bucket")?,
            key: needed(&object, "key")?,
            size: object.get("size").and_then(Value::as_u64),
            content_type: text_field(&object, "content_type")?.filter(|text| !text.is_empty()),
            sha256: Some(sha_of_hex(&sha256).ok_or_else(|| malformed("field `sha256` of the envelope is no SHA-256 in hexadecimal"))?),
            ..Reference::default()
        })))
    }

    fn write(&self, reference: &Reference, _headers: &mut Headers) -> Result<Bytes> {
        let missing = |what: &str| Error::new(Kind::Fatal, format!("an envelope needs {what}"));
        let envelope = Envelope {
            kfs_lfs: VERSION,
            bucket: &reference.bucket,
            key: &reference.key,
            size: reference.size.ok_or_else(|| missing("the payload's size"))?,
            sha256: reference.sha256.as_ref().map(|sha| hex(sha)).ok_or_else(|| missing("the payload's SHA-256"))?,
            content_type: reference.content_type.as_deref().unwrap_or("application/octet-stream"),
            created_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            proxy_id: "kas3",
        };
        let value = serde_json::to_vec(&envelope).map_err(|error| Error::new(Kind::Fatal, "cannot write an envelope").source(error))?;
        Ok(value.into())
    }
}
