//! What a lane hands over at a roll: a span whose boundary and bytes are fixed, and nothing of it visible yet.

use super::{stored::Role, upload::Upload};
use crate::span::{Bounds, Checksum, Counts, Roll, Span, TopicPartition};
use bytes::Bytes;
use jiff::Timestamp;

/// A closed span, ready to be staged and committed.
#[derive(Debug)]
pub struct ClosedSpan {
    /// Random name of the span, 16 hexadecimal digits; the metadata of its objects holds it.
    pub id: String,
    /// What it covers of each partition that rolled: one in a sink of files.
    pub stretches: Vec<ClosedStretch>,
    /// What `{now}` was for all its files.
    pub now: Timestamp,
    /// Why it was closed.
    pub roll: Roll,
    /// What became of its records.
    pub counts: Counts,
    /// Smallest and largest timestamp of all records read, in milliseconds.
    pub timestamps: Option<Bounds>,
    /// Its files, in the order of their numbers (the index is the number). Empty when all records were filtered.
    pub files: Vec<ClosedFile>,
}

/// What a closed span covers of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedStretch {
    /// Whose offsets they are.
    pub of: TopicPartition,
    /// The offsets.
    pub span: Span,
    /// Leader epoch of the last record; -1 when not known.
    pub leader_epoch: i32,
}

/// One file of a closed span.
#[derive(Debug)]
pub struct ClosedFile {
    /// Path below the sink's URL, with extension.
    pub path: String,
    /// What it is for.
    pub role: Role,
    /// Its bytes, or where they already are.
    pub body: Body,
    /// Encoded bytes.
    pub bytes: u64,
    /// Records that its rows are of.
    pub records: u64,
    /// Rows in it.
    pub rows: u64,
    /// Checksum of the uncompressed content.
    pub checksum: Checksum,
    /// Smallest and largest offset in it.
    pub offsets: Option<Bounds>,
    /// Smallest and largest timestamp in it, in milliseconds.
    pub timestamps: Option<Bounds>,
    /// Media type.
    pub content_type: &'static str,
    /// `Content-Encoding`, when asked for.
    pub content_encoding: Option<&'static str>,
}

/// Where a closed file's bytes are.
#[derive(Debug)]
pub enum Body {
    /// Here, whole: it goes into the bundle.
    Whole(Bytes),
    /// In an upload that was begun while the file grew.
    Upload(Upload),
}
