//! One file of a span.

use super::{Bounds, Place, Role, Staged, Word};
use crate::span::{self, Checksum};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// One file of a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Its number in the span.
    pub number: u32,
    /// Where it is, or will be: absolute.
    pub url: String,
    /// What it is for.
    #[serde(default)]
    pub role: Word<Role>,
    /// Encoded bytes.
    pub bytes: u64,
    /// Records that its rows are of.
    pub records: u64,
    /// Rows in it, where they are not as many as its records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Checksum of the uncompressed content.
    pub checksum: Checksum,
    /// Checksum of the bytes as stored.
    pub stored: Checksum,
    /// Smallest and largest offset in it, one element for each of the span's `partitions`.
    pub offsets: Vec<Option<Bounds>>,
    /// Smallest and largest timestamp in it, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<Bounds>,
    /// Media type.
    pub content_type: String,
    /// `Content-Encoding`, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The incarnation in its name, where that is not the span's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u32>,
    /// Lost for good; a person accepted it. There is no such object.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// Where its bytes are until it is published; only while the span is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Staged>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl File {
    /// Smallest and largest offset in it.
    pub fn bounds(&self) -> Option<span::Bounds> {
        self.offsets.first()?.as_ref().map(Into::into)
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.rows.unwrap_or(self.records)
    }

    /// Where its bytes are until it is published.
    pub fn place(&self) -> Option<Place<'_>> {
        self.staged.as_ref().map(Staged::place)
    }

    /// What whoever publishes it would have to understand, and this version does not.
    pub(in crate::ledger) fn not_understood(&self) -> Option<String> {
        if let Word::Unknown(role) = &self.role {
            return Some(format!("the role of file {} is `{}`", self.number, role.escape_default()));
        }
        if let Some(Place::Unknown(words)) = self.place() {
            return Some(format!("file {} is staged as `{}`", self.number, words.escape_default()));
        }
        let other = [&self.checksum, &self.stored].into_iter().find(|checksum| !checksum.is_xxh3())?;
        Some(format!("file {} has the checksum `{}`", self.number, other.0.escape_default()))
    }
}

/// Checks what can be checked of a list of files by itself.
pub(in crate::ledger) fn check_files(files: &[File]) -> Result<(), String> {
    let mut numbers = HashSet::new();
    for file in files {
        if !numbers.insert(file.number) {
            return Err(format!("file {} is listed twice", file.number));
        }
        if file.url.split('/').any(|segment| segment == "..") {
            return Err(format!("file {} has the URL `{}`", file.number, file.url));
        }
        match file.place() {
            Some(Place::Bundle(bundle)) if !bundle.path.starts_with("_kas3/") || bundle.path.split('/').any(|segment| segment == "..") => {
                return Err(format!("file {} lies in the bundle `{}`", file.number, bundle.path));
            }
            Some(Place::Bundle(bundle)) if bundle.to.checked_sub(bundle.from) != Some(file.bytes) => {
                return Err(format!("file {} has {} bytes, and {} to {} in its bundle", file.number, file.bytes, bundle.from, bundle.to));
            }
            Some(Place::Unknown(words)) if words.is_empty() => return Err(format!("file {} is staged nowhere", file.number)),
            _ => {}
        }
        for bounds in file.offsets.iter().flatten() {
            if bounds.min < 0 || bounds.max < bounds.min {
                return Err(format!("file {} holds offsets {} to {}", file.number, bounds.min, bounds.max));
            }
        }
    }
    Ok(())
}
