//! The format of kaf-s3-connector 2.0: a JSON object with `s3_bucket` and `s3_key` as value, no headers.
//!
//! Fields, their order and the spaces between them are those of its `json.dumps`.

use super::{Found, Inline, ReferenceFormat, json_object, text_field};
use crate::{
    Reference, Result,
    reference::{Compression, Headers, hex, sha_of_hex},
};
use bytes::Bytes;
use serde_json::Value;

/// References of kaf-s3-connector.
#[derive(Debug)]
pub(super) struct KafS3Connector;

impl ReferenceFormat for KafS3Connector {
    fn name(&self) -> &'static str {
        "kaf-s3-connector"
    }

    fn marked(&self) -> bool {
        false
    }

    fn about(&self) -> &'static str {
        "kaf-s3-connector 2.0: a JSON object with `s3_bucket` and `s3_key`, unmarked"
    }

    fn inline(&self) -> Inline {
        Inline::Bare
    }

    fn ttl_tag(&self) -> &'static str {
        "kaf-s3-ttl-seconds"
    }

    fn multipart_bytes(&self) -> u64 {
        8 << 20
    }

    fn compressions(&self) -> &'static [Compression] {
        &[Compression::None, Compression::Gzip]
    }

    fn read(&self, value: Option<&Bytes>, _headers: &Headers) -> Result<Option<Found>> {
        let Some(object) = json_object(value) else { return Ok(None) };
        let (Some(Value::String(bucket)), Some(Value::String(key))) = (object.get("s3_bucket"), object.get("s3_key")) else { return Ok(None) };
        let sha256 = text_field(&object, "sha256")?.filter(|text| !text.is_empty());
        Ok(Some(Found::Reference(Reference {
            bucket: bucket.clone(),
            key: key.clone(),
            // a sum that is none matches no payload: it is refused when the payload is compared
            sha256: sha256.map(|text| sha_of_hex(&text).unwrap_or_default()),
            etag: text_field(&object, "etag")?.filter(|etag| !etag.is_empty()),
            compression: Compression::named(text_field(&object, "compression")?.as_deref())?,
            shared: object.get("deterministic") == Some(&Value::Bool(true)),
            ..Reference::default()
        })))
    }

    fn write(&self, reference: &Reference, _headers: &mut Headers) -> Result<Bytes> {
        let json = |text: Option<&str>| text.map_or(Value::Null, Value::from).to_string();
        let sha256 = reference.sha256.as_ref().map(|sha| hex(sha));
        let mut value = format!(
            "{{\"s3_bucket\": {}, \"s3_key\": {}, \"etag\": {}, \"sha256\": {}, \"compression\": {}",
            ascii(&json(Some(&reference.bucket))),
            ascii(&json(Some(&reference.key))),
            json(reference.etag.as_deref()),
            json(sha256.as_deref()),
            json(reference.compression.name()),
        );
        if reference.shared {
            value.push_str(", \"deterministic\": true");
        }
        value.push('}');
        Ok(value.into())
    }
}

/// Python's `json.dumps` writes what is not ASCII as `\uXXXX`, in UTF-16.
fn ascii(json: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}
