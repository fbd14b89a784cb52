//! The stored forms of the ledger, one file a form. `docs/ledger.md` describes them to people.
//!
//! Guarantee: what is read and written again keeps what this version does not know. Every form has `extra` for unknown fields, and
//! words that may become more are [`Word`]s, so that workers of several versions can share a ledger. What would change the meaning
//! of known fields raises the version; a newer version is looked for before anything else, and is never taken for damage
//! ([`Unusable`]). The types of the lane (`crate::span`) are others: they are copied per record and know nothing of all this.
//!
//! ```
//! use kas3_sink::ledger::stored::{Head, Unusable};
//!
//! assert!(matches!(Head::decode(br#"{"version": 99, "next": "in another form"}"#), Err(Unusable::Newer(_))));
//! assert!(matches!(Head::decode(br#"{"version": 1, "next": "in another form"}"#), Err(Unusable::Broken(_))));
//! ```

mod begun;
mod bounds;
mod bytes;
mod counts;
mod entry;
mod file;
mod head;
mod origin;
mod pipeline;
mod role;
mod segment;
mod staged;
mod start;
mod version;
mod word;

pub use begun::{Begun, Why};
pub use bounds::Bounds;
pub use bytes::BYTES_IN_HEAD_MAX;
pub use counts::Counts;
pub use entry::{Entry, EntryKind, Stretch};
pub use file::File;
pub use head::{HEAD_BYTES_MAX, Head};
pub use origin::Origin;
pub use pipeline::PipelineRecord;
pub use role::Role;
pub use segment::{SEGMENT_BYTES_MAX, SegmentHeader, SegmentKind, decode_segment, encode_segment};
pub use staged::{Place, Staged, StagedBundle, StagedInHead, StagedUpload};
pub use start::{PartitionStart, StartRecord};
pub use version::{VERSION, VERSION_OLDEST};
pub use word::{Vocabulary, Word};

pub(super) use bytes::{Item, Items};
pub(super) use entry::check_chain;
pub(super) use file::check_files;
pub(super) use head::HEAD_BEGINNING_BYTES;
pub(super) use version::{NEEDS, check_version, version_to_write};

use crate::{error::Error, span::TopicPartition, stops};
use std::fmt;

/// Why a stored object cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It says what this version does not know: a newer kas3 wrote it. Nothing overrides this.
    Newer(String),
    /// It cannot be what it should be.
    Broken(String),
}

impl Unusable {
    /// The stop that it is for a partition which needs `object`.
    pub fn stop(&self, of: &TopicPartition, object: &str) -> Error {
        match self {
            Unusable::Newer(why) => stops::newer(of, object, why),
            Unusable::Broken(why) => stops::unreadable(of, object, why),
        }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Newer(why) => write!(f, "{why}; a newer kas3 wrote it"),
            Unusable::Broken(why) => f.write_str(why),
        }
    }
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Unusable::Broken(why)
    }
}

impl From<serde_json::Error> for Unusable {
    fn from(error: serde_json::Error) -> Self {
        Unusable::Broken(error.to_string())
    }
}

/// Instants as RFC 3339 text.
mod instant {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
