//! The format of AWS's payload offloading (the extended clients of SQS and SNS): a JSON list of a class name and the pointer.

use super::{Found, Inline, REFERENCE_BYTES_MAX, ReferenceFormat, malformed};
use crate::{Error, Kind, Reference, Result, reference::Headers};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const CLASS: &str = "software.amazon.payloadoffloading.PayloadS3Pointer";
const BEGINNING: &[u8] = b"[\"software.amazon.payloadoffloading.PayloadS3Pointer\"";

/// References of AWS's payload offloading.
#[derive(Debug)]
pub(super) struct PayloadOffloading;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pointer {
    s3_bucket_name: String,
    s3_key: String,
}

impl ReferenceFormat for PayloadOffloading {
    fn name(&self) -> &'static str {
        "aws-payload-offloading"
    }

    fn marked(&self) -> bool {
        false
    }

    fn about(&self) -> &'static str {
        "AWS's payload offloading library: a JSON list of its class name and a pointer, unmarked; it holds no checksum"
    }

    fn inline(&self) -> Inline {
        Inline::Bare
    }

    fn read(&self, value: Option<&Bytes>, _headers: &Headers) -> Result<Option<Found>> {
        let Some(value) = value.filter(|value| value.len() <= REFERENCE_BYTES_MAX) else { return Ok(None) };
        let compact: Vec<u8> = value.iter().take(BEGINNING.len() + 16).copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if !compact.starts_with(BEGINNING) {
            return Ok(None);
        }
        let (class, pointer): (String, Pointer) =
            serde_json::from_slice(value).map_err(|error| malformed("the payload pointer cannot be read").source(error))?;
        if class != CLASS {
            // spaces within the name: somebody's own text
            return Ok(None);
        }
        Ok(Some(Found::Reference(Reference { bucket: pointer.s3_bucket_name, key: pointer.s3_key, ..Reference::default() })))
    }

    fn write(&self, reference: &Reference, _headers: &mut Headers) -> Result<Bytes> {
        let pointer = Pointer { s3_bucket_name: reference.bucket.clone(), s3_key: reference.key.clone() };
        let value = serde_json::to_vec(&(CLASS, pointer));
        Ok(value.map_err(|error| Error::new(Kind::Fatal, "cannot write a reference").source(error))?.into())
    }
}
