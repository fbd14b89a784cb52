//! Segments: immutable JSON Lines of older spans, or of one span's files, behind a header.

use super::{Unusable, Word, check_version};
use crate::span::TopicPartition;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest segment that is read, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Version of the form.
    pub version: u32,
    /// What the lines after this one are.
    pub kind: Word<SegmentKind>,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The segment before this one; `None` for the oldest, and for a list of files.
    pub before: Option<String>,
    /// Lines that follow.
    pub lines: u64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What the lines of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Settled spans, oldest first.
    History,
    /// The files of one span.
    Files,
}

/// Writes a segment down.
pub fn encode_segment<T: Serialize>(header: &SegmentHeader, lines: &[T]) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(header).expect("a header has only string keys");
    bytes.push(b'\n');
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("a line has only string keys");
        bytes.push(b'\n');
    }
    bytes
}

/// Reads a segment.
///
/// # Errors
/// What is wrong with it; the caller names the object.
pub fn decode_segment<T: for<'a> Deserialize<'a>>(bytes: &[u8], kind: SegmentKind, of: &TopicPartition) -> Result<(SegmentHeader, Vec<T>), Unusable> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    check_version(first)?;
    let header: SegmentHeader = serde_json::from_slice(first)?;
    if let Word::Unknown(word) = &header.kind {
        return Err(Unusable::Newer(format!("it is a segment of kind `{}`, which this kas3 does not know", word.escape_default())));
    }
    if header.kind != kind || header.topic != *of.topic || header.partition != of.partition {
        return Err(Unusable::Broken(format!("it is a segment of kind `{:?}` of `{}-{}`", header.kind, header.topic, header.partition)));
    }
    if let Some(before) = &header.before {
        check_segment_name(before)?;
    }
    let mut found = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        found.push(serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", found.len() + 2))?);
    }
    if found.len() as u64 != header.lines {
        return Err(Unusable::Broken(format!("it has {} lines, its header says {}", found.len(), header.lines)));
    }
    Ok((header, found))
}

/// The name of a segment is a name beside its head, never a path.
pub(super) fn check_segment_name(name: &str) -> Result<(), String> {
    let good = name.len() <= 128 && name.ends_with(".jsonl") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if good { Ok(()) } else { Err(format!("`{}` is not the name of a segment", name.escape_default())) }
}
