//! A span in a head and in its history.

use super::{Bounds, Counts, File, Unusable, Word, check_files, instant, segment::check_segment_name};
use crate::span::{Position, Roll, Span};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is kept of a closed span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Random name of the span; the metadata of its objects holds it.
    pub id: String,
    /// What kind of span it is.
    pub kind: Word<EntryKind>,
    /// The offsets that it covers: one element today.
    pub partitions: Vec<Stretch>,
    /// Incarnation of the topic.
    pub incarnation: u32,
    /// What `{now}` was for its files.
    #[serde(with = "instant")]
    pub now: Timestamp,
    /// Why it was closed; `None` for a span without files of its own (empty, gap).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<Word<Roll>>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Entry {
    /// The offsets that it covers in `of`'s head; our own invariant after `Head::decode`.
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
    pub(in crate::ledger) fn settled(mut self) -> Entry {
        self.base.clear();
        self.settings.clear();
        for file in &mut self.files {
            file.staged = None;
        }
        self
    }

    /// Checks what can be checked of it by itself.
    pub(in crate::ledger) fn check(&self) -> Result<(), Unusable> {
        let stretch = match self.partitions.as_slice() {
            [stretch] => stretch,
            [] => return Err(Unusable::Broken(format!("span `{}` lists 0 partitions instead of one", self.id.escape_default()))),
            [..] => {
                return Err(Unusable::Newer(format!(
                    "span `{}` lists {} partitions instead of one",
                    self.id.escape_default(),
                    self.partitions.len()
                )));
            }
        };
        if stretch.first < 0 || stretch.next < stretch.first {
            return Err(Unusable::Broken(format!("span `{}` covers offsets {} to {}", self.id.escape_default(), stretch.first, stretch.next)));
        }
        if self.id.is_empty() || self.id.len() > 64 || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Unusable::Broken(format!("`{}` is not the id of a span", self.id.escape_default())));
        }
        if let Some(name) = &self.files_in {
            check_segment_name(name)?;
        }
        Ok(check_files(&self.files)?)
    }

    /// What whoever publishes it would have to understand, and this version does not; `files` is its list of files.
    pub(in crate::ledger) fn not_understood(&self, files: &[File]) -> Option<String> {
        match &self.kind {
            Word::Unknown(kind) => Some(format!("the kind of span `{}` is `{}`", self.id, kind.escape_default())),
            Word::Known(_) => files.iter().filter(|file| !file.lost).find_map(File::not_understood),
        }
    }
}

/// Whether consecutive spans of one incarnation leave no gap and do not overlap.
pub(in crate::ledger) fn check_chain<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<(), String> {
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
