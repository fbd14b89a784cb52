//! What a store answered, as metrics count it and as the head keeps it.

use crate::{Beginning, Completed, Created, Error, Info, Kind, Object, OpenUpload, Outcome, PART_BYTES, PartId, Result, Swapped, UploadId, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// An answer as an observer sees it.
pub(crate) trait Answer {
    /// How the request ended.
    fn outcome(&self) -> Outcome {
        Outcome::Done
    }
    /// Bytes that came back.
    fn bytes(&self) -> u64 {
        0
    }
}

impl Answer for () {}
impl Answer for UploadId {}
impl Answer for PartId {}
impl Answer for Version {}
impl Answer for Vec<Info> {}
impl Answer for Vec<String> {}
impl Answer for Vec<OpenUpload> {}
impl Answer for Bytes {
    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}
impl Answer for Object {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}
impl Answer for Beginning {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}
impl Answer for Info {}
impl<T: Answer> Answer for Option<T> {
    fn outcome(&self) -> Outcome {
        self.as_ref().map_or(Outcome::Refused, Answer::outcome)
    }
    fn bytes(&self) -> u64 {
        self.as_ref().map_or(0, Answer::bytes)
    }
}
impl Answer for Created {
    fn outcome(&self) -> Outcome {
        if matches!(self, Created::Done(_)) { Outcome::Done } else { Outcome::Refused }
    }
}
impl Answer for Swapped {
    fn outcome(&self) -> Outcome {
        if matches!(self, Swapped::Done(_)) { Outcome::Done } else { Outcome::Refused }
    }
}
impl Answer for Completed {
    fn outcome(&self) -> Outcome {
        if matches!(self, Completed::Done) { Outcome::Done } else { Outcome::Refused }
    }
}

/// How a failed request is counted.
pub(crate) fn outcome_of(error: &Error) -> Outcome {
    match error.kind() {
        Kind::Missing => Outcome::Refused,
        Kind::Denied => Outcome::Denied,
        Kind::Config | Kind::Transient | Kind::Fatal => Outcome::Failed,
    }
}

/// What a [`PartId`] holds, as compact JSON: heads keep many of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Number, from 1.
    #[serde(rename = "n")]
    pub(crate) number: u32,
    /// Size in bytes.
    #[serde(rename = "b")]
    pub(crate) bytes: u64,
    /// The store's ETag; none on a local disk.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    /// Checksum, base64, of the algorithm that the settings name.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) checksum: Option<String>,
}

impl Part {
    /// As the head keeps it.
    pub(crate) fn id(&self) -> Result<PartId> {
        let text = serde_json::to_string(self).map_err(|error| Error::new(Kind::Fatal, "cannot name a part").source(error))?;
        Ok(PartId(text))
    }

    /// The parts of an upload, which must be numbered from 1 without a gap and be of one size, the last aside: what some stores
    /// refuse, all refuse here.
    pub(crate) fn list(ids: &[PartId]) -> Result<Vec<Part>, String> {
        let mut parts: Vec<Part> = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let part: Part = serde_json::from_str(&id.0).map_err(|_| format!("`{}` is not a part of this store", id.0))?;
            if part.number as usize != index + 1 {
                return Err(format!("part {} is listed as part {}", part.number, index + 1));
            }
            if index + 1 < ids.len() && part.bytes != PART_BYTES as u64 {
                return Err(format!("part {} has {} bytes, but only the last may have less than {PART_BYTES}", part.number, part.bytes));
            }
            parts.push(part);
        }
        if parts.is_empty() {
            return Err("an upload without parts".to_owned());
        }
        Ok(parts)
    }
}

/// The error for an object beyond the limit of its reader.
pub(crate) fn too_large(path: &str, bytes: u64, limit: u64) -> Error {
    Error::new(Kind::Fatal, format!("`{path}` has {bytes} bytes, more than the {limit} that are read"))
}
