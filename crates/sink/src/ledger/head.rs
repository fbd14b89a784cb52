//! The head: the one object per partition that says how far it is. It changes only by compare-and-swap.
//!
//! Everything that is read here comes from outside: sizes are limited by the reader, and [`Head::decode`] refuses what cannot
//! be. Fields that this version does not know are kept when the head is written again, so that old and new workers can share
//! a ledger.

use super::closed::Role;
use crate::span::{Bounds, Checksum, Counts, Position, Roll, Span, TopicPartition};
use jiff::Timestamp;
use kas3_store::{PartId, UploadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The version of all stored forms that this binary reads and writes.
pub const VERSION: u32 = 1;
/// The largest head that is read, in bytes.
pub const HEAD_BYTES_MAX: u64 = 4 << 20;

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the form; a worker writes the one that it found.
    pub version: u32,
    /// Random name of the writer, so that it knows its own swap again and no two heads are byte-equal.
    pub session: String,
    /// Counts the writer's swaps.
    pub counter: u64,
    /// When it was written, by the writer's clock; for people.
    #[serde(with = "instant")]
    pub written_at: Timestamp,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Id of the cluster that the offsets belong to.
    pub cluster_id: String,
    /// Id of the topic that the offsets belong to; `None` while the brokers know no ids.
    pub topic_id: Option<String>,
    /// Raised when offsets begin anew (topic re-created, log cut back); from 1 on file names carry it.
    pub incarnation: u32,
    /// The first offset of this incarnation.
    pub start: i64,
    /// The next offset to read.
    pub next: i64,
    /// Leader epoch of the record before `next`; -1 when not known.
    pub leader_epoch: i32,
    /// Digest of the settings of the last writer.
    pub settings: String,
    /// The committed span whose files may not all be visible yet: none or one.
    #[serde(default)]
    pub pending: Vec<Entry>,
    /// The newest settled spans, oldest first.
    #[serde(default)]
    pub closed: Vec<Entry>,
    /// The newest segment of older spans, by its name beside the head.
    #[serde(default)]
    pub segment: Option<String>,
    /// Segments that were lost and whose loss was accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_segments: Vec<String>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What is kept of a closed span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Random name of the span; the metadata of its objects holds it.
    pub id: String,
    /// What kind of span it is.
    pub kind: EntryKind,
    /// The offsets that it covers: one element today.
    pub partitions: Vec<Stretch>,
    /// Incarnation of the topic.
    pub incarnation: u32,
    /// What `{now}` was for its files.
    #[serde(with = "instant")]
    pub now: Timestamp,
    /// Why it was closed; `None` for a span without files of its own (empty, gap).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<Roll>,
    /// What became of its records.
    #[serde(default)]
    pub counts: Counts,
    /// Smallest and largest timestamp of all records read, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamps: Option<Bounds>,
    /// URL of the sink that its files go to; only while it is pending.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// Digest of the settings that made its files; only while it is pending.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub settings: String,
    /// Its files, unless their list is long.
    #[serde(default)]
    pub files: Vec<File>,
    /// The segment that holds the list of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_in: Option<String>,
    /// A gap: why there are no records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What kind of span an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Records were read; files hold those that were written.
    Files,
    /// Offsets without records: transaction markers, compaction.
    Empty,
    /// Records that were lost before they were read; a person accepted it.
    Gap,
}

/// Offsets of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The first offset.
    pub first: i64,
    /// The first offset after it.
    pub next: i64,
    /// Leader epoch of the last record; -1 when not known.
    pub leader_epoch: i32,
}

/// One file of a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// Its number in the span.
    pub number: u32,
    /// Where it is, or will be: absolute.
    pub url: String,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// Encoded bytes.
    pub bytes: u64,
    /// Records that its rows are of.
    pub records: u64,
    /// Rows in it, where transforms made other than one of each record.
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

/// Where the bytes of a file are until it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Staged {
    /// In an upload: whoever completes it publishes the file.
    Upload {
        /// Its name in the store.
        id: UploadId,
        /// Its parts in order.
        parts: Vec<PartId>,
    },
    /// In a bundle: whoever copies the range publishes the file.
    Bundle {
        /// Path of the bundle below the sink's URL.
        path: String,
        /// The first byte.
        from: u64,
        /// The first byte after it.
        to: u64,
    },
}

impl File {
    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.rows.unwrap_or(self.records)
    }
}

impl Entry {
    /// The offsets that it covers in `of`'s head; our own invariant after [`Head::decode`].
    pub fn span(&self) -> Span {
        self.partitions.first().map_or(Span { first: 0, next: 0 }, |stretch| Span { first: stretch.first, next: stretch.next })
    }

    /// The offset after it, with the leader epoch of its last record.
    pub fn end(&self) -> Position {
        self.partitions
            .first()
            .map_or(Position { next: 0, leader_epoch: -1 }, |stretch| Position { next: stretch.next, leader_epoch: stretch.leader_epoch })
    }

    /// What history keeps of it: nothing about staging.
    pub(super) fn settled(mut self) -> Entry {
        self.base.clear();
        self.settings.clear();
        for file in &mut self.files {
            file.staged = None;
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let [stretch] = self.partitions.as_slice() else {
            return Err(format!("span `{}` lists {} partitions instead of one", self.id, self.partitions.len()));
        };
        if stretch.first < 0 || stretch.next < stretch.first {
            return Err(format!("span `{}` covers offsets {} to {}", self.id, stretch.first, stretch.next));
        }
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("`{}` is not the id of a span", self.id.escape_default()));
        }
        if let Some(name) = &self.files_in {
            check_segment_name(name)?;
        }
        check_files(&self.files)
    }
}

pub(super) fn check_files(files: &[File]) -> Result<(), String> {
    let mut numbers = HashSet::new();
    for file in files {
        if !numbers.insert(file.number) {
            return Err(format!("file {} is listed twice", file.number));
        }
        if file.url.split('/').any(|segment| segment == "..") {
            return Err(format!("file {} has the URL `{}`", file.number, file.url));
        }
        if let Some(Staged::Bundle { path, from, to }) = &file.staged {
            if !path.starts_with("_kas3/") || path.split('/').any(|segment| segment == "..") {
                return Err(format!("file {} lies in the bundle `{path}`", file.number));
            }
            if to.checked_sub(*from) != Some(file.bytes) {
                return Err(format!("file {} has {} bytes, and {from} to {to} in its bundle", file.number, file.bytes));
            }
        }
        for bounds in file.offsets.iter().flatten() {
            if bounds.min < 0 || bounds.max < bounds.min {
                return Err(format!("file {} holds offsets {} to {}", file.number, bounds.min, bounds.max));
            }
        }
    }
    Ok(())
}

pub(super) fn check_segment_name(name: &str) -> Result<(), String> {
    let good = name.len() <= 128 && name.ends_with(".jsonl") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if good { Ok(()) } else { Err(format!("`{}` is not the name of a segment", name.escape_default())) }
}

/// Whether consecutive spans of one incarnation leave no gap and do not overlap.
pub(super) fn check_chain<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<(), String> {
    let mut before: Option<&Entry> = None;
    for entry in entries {
        if let Some(before) = before {
            if entry.incarnation < before.incarnation {
                return Err(format!("span `{}` of incarnation {} comes after incarnation {}", entry.id, entry.incarnation, before.incarnation));
            }
            if entry.incarnation == before.incarnation && entry.span().first != before.span().next {
                return Err(format!("span `{}` begins at {} where the one before ends at {}", entry.id, entry.span().first, before.span().next));
            }
        }
        before = Some(entry);
    }
    Ok(())
}

impl Head {
    /// Whose head it is.
    pub fn of(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// Where reading goes on.
    pub fn position(&self) -> Position {
        Position { next: self.next, leader_epoch: self.leader_epoch }
    }

    /// Reads a head and checks everything that can be checked from itself.
    ///
    /// # Errors
    /// A text that says what is wrong; the caller names the object.
    pub fn decode(bytes: &[u8]) -> Result<Head, String> {
        check_version(bytes)?;
        let head: Head = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if head.partition < 0 || head.start < 0 || head.next < head.start {
            return Err(format!("partition {} starts at {} and is at {}", head.partition, head.start, head.next));
        }
        if head.pending.len() > 1 {
            return Err(format!("{} spans are pending, at most one can be", head.pending.len()));
        }
        if let Some(name) = &head.segment {
            check_segment_name(name)?;
        }
        let entries = || head.closed.iter().chain(&head.pending);
        for entry in entries() {
            entry.check()?;
            let stretch = &entry.partitions[0];
            if stretch.topic != head.topic || stretch.partition != head.partition {
                return Err(format!("span `{}` belongs to `{}-{}`", entry.id, stretch.topic, stretch.partition));
            }
        }
        check_chain(entries())?;
        if let Some(last) = entries().last()
            && last.incarnation == head.incarnation
            && last.span().next != head.next
        {
            return Err(format!("`next` is {}, but the newest span ends at {}", head.next, last.span().next));
        }
        Ok(head)
    }

    /// The head as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a head has only string keys")
    }
}

/// Refuses a version that this binary does not know, before anything else is looked at.
pub(super) fn check_version(bytes: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let found: Versioned = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if found.version == VERSION {
        Ok(())
    } else {
        Err(format!("it has version {}, this kas3 reads version {VERSION}; a newer kas3 wrote it", found.version))
    }
}

/// Instants as RFC 3339 text.
pub(super) mod instant {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
