//! How an object is written.

use crate::{Error, Kind, Result};
use std::borrow::Cow;
use tokio::time::Instant;

/// Tags of one object at most, by S3.
pub(crate) const TAGS_MAX: usize = 10;

/// What bytes are for: settings such as storage class and tags apply to data alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A file that users read.
    Data,
    /// Ledger objects, start records, bundles.
    Ledger,
}

/// How an object is written.
#[derive(Clone, Debug)]
pub struct PutOptions {
    /// What the bytes are for.
    pub class: Class,
    /// Media type. A local disk keeps none.
    pub content_type: Cow<'static, str>,
    /// `Content-Encoding`, none unless asked for.
    pub content_encoding: Option<&'static str>,
    /// Metadata of our own, keys in lower case.
    pub metadata: Vec<(Cow<'static, str>, String)>,
    /// Tags of this object, whatever its class, beside those that the settings give to data; one of theirs with the same key gives way.
    /// Ten together at most. A local disk keeps none.
    pub tags: Vec<(String, String)>,
    /// SHA-256 of the bytes, when it is known already: nothing is hashed again, and other bytes are refused. Of no use to uploads.
    pub sha256: Option<[u8; 32]>,
    /// Give up then, retries included.
    pub deadline: Option<Instant>,
}

impl PutOptions {
    /// A data file without metadata.
    pub fn data(content_type: impl Into<Cow<'static, str>>) -> Self {
        PutOptions {
            class: Class::Data,
            content_type: content_type.into(),
            content_encoding: None,
            metadata: Vec::new(),
            tags: Vec::new(),
            sha256: None,
            deadline: None,
        }
    }

    /// An object of the ledger.
    pub fn ledger(content_type: impl Into<Cow<'static, str>>) -> Self {
        PutOptions { class: Class::Ledger, ..PutOptions::data(content_type) }
    }

    /// Metadata travels in HTTP headers: what no header can hold is refused on every store, before anything is sent.
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |what: String, hint: &str| Err(Error::new(Kind::Fatal, what).hint(hint));
        if !fits(&self.content_type) {
            let hint = "a media type is printable ASCII, as `application/octet-stream`";
            return refused(format!("content type `{}` does not fit a header", self.content_type.escape_debug()), hint);
        }
        for (key, value) in &self.metadata {
            let key_fits = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
            if !key_fits || !fits(value) {
                let hint = "keys are lower-case letters, digits, `-` and `_`; values are printable ASCII";
                return refused(format!("metadata `{key}` with value `{value}` does not fit a header"), hint);
            }
        }
        if self.tags.len() > TAGS_MAX {
            return Err(too_many_tags(self.tags.len()));
        }
        Ok(())
    }
}

pub(crate) fn too_many_tags(tags: usize) -> Error {
    Error::new(Kind::Fatal, format!("an object cannot have {tags} tags"))
        .hint(format!("S3 takes {TAGS_MAX}, those of `tags` in the settings included"))
}

fn fits(value: &str) -> bool {
    value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value
}
