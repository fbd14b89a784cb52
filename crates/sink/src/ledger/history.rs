//! Older spans, and long lists of files: immutable segments beside the head, each naming the one before.
//!
//! A segment counts only when the chain from the head leads to it: one that was written for a swap that lost means nothing.

use super::{
    Ledger,
    cell::Cell,
    folders::in_folders,
    head::{self, Entry, EntryKind, File, Head, VERSION},
    random_name,
};
use crate::{
    error::{Error, Kind, Result},
    span::{Span, TopicPartition},
    stops,
};
use bytes::Bytes;
use kas3_store::{Created, PutOptions, kill_point};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Settled spans that a head keeps at most; then all but [`CLOSED_KEPT`] move into a segment.
pub const CLOSED_MAX: usize = 64;
/// Settled spans that stay in the head.
pub const CLOSED_KEPT: usize = 8;
/// Bytes of settled spans in a head at most, before they move into a segment.
pub const CLOSED_BYTES_MAX: usize = 256 << 10;
/// Bytes of one span's list of files in a head at most; a longer list is a segment of its own.
pub const FILES_BYTES_MAX: usize = 64 << 10;
/// The largest segment that is read, in bytes.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// The first line of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentHeader {
    /// Version of the form.
    pub version: u32,
    /// What the lines after this one are.
    pub kind: SegmentKind,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The segment before this one; `None` for the oldest, and for a list of files.
    pub before: Option<String>,
    /// Lines that follow.
    pub lines: u64,
}

/// What the lines of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
/// A text that says what is wrong; the caller names the object.
pub fn decode_segment<T: for<'a> Deserialize<'a>>(bytes: &[u8], kind: SegmentKind, of: &TopicPartition) -> Result<(SegmentHeader, Vec<T>), String> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    head::check_version(first)?;
    let header: SegmentHeader = serde_json::from_slice(first).map_err(|error| error.to_string())?;
    if header.kind != kind || header.topic != *of.topic || header.partition != of.partition {
        return Err(format!("it is a segment of kind `{:?}` of `{}-{}`", header.kind, header.topic, header.partition));
    }
    if let Some(before) = &header.before {
        head::check_segment_name(before)?;
    }
    let mut found = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        found.push(serde_json::from_slice(line).map_err(|error| format!("line {}: {error}", found.len() + 2))?);
    }
    if found.len() as u64 != header.lines {
        return Err(format!("it has {} lines, its header says {}", found.len(), header.lines));
    }
    Ok((header, found))
}

/// The settled spans of a partition, read one segment after the other.
pub struct History<'a> {
    ledger: &'a Ledger,
    head: &'a Head,
    of: TopicPartition,
    /// Segments that are not read yet, the oldest last.
    segments: Vec<String>,
    spans: Vec<Span>,
    /// What the head itself holds, in pages that were not handed out, the oldest last.
    in_head: Vec<&'a [Entry]>,
}

impl History<'_> {
    /// The same with the pending span behind the settled ones, if there is one.
    #[must_use]
    pub fn with_pending(mut self) -> Self {
        self.spans.extend(self.head.pending.iter().map(Entry::span));
        self.in_head.insert(0, &self.head.pending);
        self
    }

    /// The offsets of all its spans, oldest first.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The next spans, oldest first; `None` after the last.
    ///
    /// # Errors
    /// `Stopped` when a segment vanished since the chain was looked at.
    pub async fn page(&mut self) -> Result<Option<Vec<Entry>>> {
        if let Some(name) = self.segments.pop() {
            return Ok(Some(self.ledger.read_history(&self.of, &name).await?.1));
        }
        Ok(self.in_head.pop().map(<[Entry]>::to_vec))
    }
}

impl Ledger {
    /// All settled spans of a partition, oldest first, gaps and offsets without records included; the pending one is in the head.
    /// All of them at once: [`Ledger::walk`] is for histories of any length.
    ///
    /// # Errors
    /// `Stopped` when a segment is missing or cannot be read.
    pub async fn history(&self, head: &Head) -> Result<Vec<Entry>> {
        let mut history = self.walk(head).await?;
        let mut entries = Vec::with_capacity(history.spans().len());
        while let Some(page) = history.page().await? {
            entries.extend(page);
        }
        Ok(entries)
    }

    /// The same page by page, after a look at the whole chain. A year of spans of five minutes is a hundred megabytes in memory;
    /// what is kept here of each is 16 bytes.
    ///
    /// # Errors
    /// As [`Ledger::history`].
    pub async fn walk<'a>(&'a self, head: &'a Head) -> Result<History<'a>> {
        let of = head.of();
        let broken = |why: String| stops::unreadable(&of, &self.ledger.url_of(&self.head_path(&of)), &why);
        head::check_chain(head.closed.iter().chain(&head.pending)).map_err(broken)?;
        let mut spans: Vec<Span> = head.closed.iter().rev().map(Entry::span).collect();
        let mut after = head.closed.first().or(head.pending.first()).cloned();
        let (mut segments, mut next) = (Vec::new(), head.segment.clone());
        let mut seen = HashSet::new();
        while let Some(name) = next {
            if !seen.insert(name.clone()) {
                return Err(stops::unreadable(&of, &self.segment_url(&of, &name), "the chain of segments comes back to it"));
            }
            let (header, entries) = self.read_history(&of, &name).await?;
            head::check_chain(entries.iter().chain(&after)).map_err(broken)?;
            spans.extend(entries.iter().rev().map(Entry::span));
            after = entries.into_iter().next().or(after);
            segments.push(name);
            next = header.before;
        }
        spans.reverse();
        Ok(History { ledger: self, head, of, segments, spans, in_head: vec![&head.closed] })
    }

    async fn read_history(&self, of: &TopicPartition, name: &str) -> Result<(SegmentHeader, Vec<Entry>)> {
        let (header, entries) = self.read_segment::<Entry>(of, name, SegmentKind::History).await?;
        entries.iter().try_for_each(Entry::check).map_err(|why| stops::unreadable(of, &self.segment_url(of, name), &why))?;
        Ok((header, entries))
    }

    /// The files of a span, wherever their list is.
    ///
    /// # Errors
    /// `Stopped` when the list is missing or cannot be read.
    pub async fn files(&self, entry: &Entry, of: &TopicPartition) -> Result<Vec<File>> {
        let Some(name) = &entry.files_in else { return Ok(entry.files.clone()) };
        let (_, files) = self.read_segment::<File>(of, name, SegmentKind::Files).await?;
        head::check_files(&files).map_err(|why| stops::unreadable(of, &self.segment_url(of, name), &why))?;
        Ok(files)
    }

    pub(super) fn segment_url(&self, of: &TopicPartition, name: &str) -> String {
        self.ledger.url_of(&format!("{}{name}", self.folder(of)))
    }

    async fn read_segment<T: for<'a> Deserialize<'a>>(&self, of: &TopicPartition, name: &str, kind: SegmentKind) -> Result<(SegmentHeader, Vec<T>)> {
        let path = format!("{}{name}", self.folder(of));
        let object = self.patiently(of, "read a segment", || self.ledger.get(&path, SEGMENT_BYTES_MAX)).await?;
        let Some(object) = object else { return Err(stops::segment_missing(of, &self.ledger.url_of(&path))) };
        decode_segment(&object.bytes, kind, of).map_err(|why| stops::unreadable(of, &self.ledger.url_of(&path), &why))
    }

    /// Whether the newest segment can be read and the one before it is there, so that a history that is being deleted is noticed
    /// at open. The rest of the chain is for `verify` and `accept` to walk: a year of spans has thousands of segments.
    pub(super) async fn check_segment(&self, of: &TopicPartition, head: &Head) -> Result<()> {
        let Some(name) = &head.segment else { return Ok(()) };
        let (header, _) = self.read_history(of, name).await?;
        let Some(before) = header.before else { return Ok(()) };
        let path = format!("{}{before}", self.folder(of));
        match self.patiently(of, "look for a segment", || self.ledger.info(&path)).await? {
            Some(_) => Ok(()),
            None => Err(stops::segment_missing(of, &self.ledger.url_of(&path))),
        }
    }

    /// A segment of a partition that has no head: a head comes before its first segment, so it was lost.
    pub(super) async fn segment_without_head(&self, of: &TopicPartition) -> Result<Option<String>> {
        let top = &format!("_kas3/{}/ledger/", self.pipeline.name);
        let look = || self.ledger_folders.ask(self.folder(of), |folders| in_folders(&self.ledger, top, folders));
        let found = self.patiently(of, "list segments", look).await?;
        Ok(found.into_iter().find(|info| info.path.ends_with(".jsonl")).map(|info| self.ledger.url_of(&info.path)))
    }

    pub(super) async fn write_segment<T: Serialize>(
        &self,
        of: &TopicPartition,
        kind: SegmentKind,
        first: i64,
        before: Option<String>,
        lines: &[T],
    ) -> Result<String> {
        let header =
            SegmentHeader { version: VERSION, kind, topic: of.topic.to_string(), partition: of.partition, before, lines: lines.len() as u64 };
        let bytes = Bytes::from(encode_segment(&header, lines));
        if bytes.len() as u64 > SEGMENT_BYTES_MAX {
            let text = format!("a segment of `{of}` would have {} bytes, {SEGMENT_BYTES_MAX} are allowed", bytes.len());
            return Err(Error::new(Kind::Fatal, text).hint("lower `roll.files`, or let the path template make fewer files"));
        }
        let name = format!("{first:020}-{}.jsonl", random_name());
        let path = format!("{}{name}", self.folder(of));
        let options = PutOptions::ledger("application/x-ndjson");
        kill_point("segment.before");
        // The name is random: an object that exists is our own, created by a request whose answer was lost.
        let _: Created = self.patiently(of, "write a segment", || self.ledger.create(&path, bytes.clone(), &options)).await?;
        kill_point("segment.after");
        Ok(name)
    }
}

impl Cell {
    /// The head with its pending span settled into history, older spans moved out where the head would grow too large.
    pub(super) async fn with_history(&self, more: Option<Entry>) -> Result<Head> {
        let mut head = self.head.clone();
        let pending = std::mem::take(&mut head.pending);
        for entry in pending.into_iter().map(Entry::settled).chain(more) {
            join(&mut head.closed, entry);
        }
        let bytes: usize = head.closed.iter().map(|entry| serde_json::to_vec(entry).map_or(0, |bytes| bytes.len())).sum();
        if head.closed.len() <= CLOSED_MAX && bytes <= CLOSED_BYTES_MAX {
            return Ok(head);
        }
        let kept = if bytes > CLOSED_BYTES_MAX { 1 } else { CLOSED_KEPT };
        let newest = head.closed.split_off(head.closed.len().saturating_sub(kept));
        let oldest = std::mem::replace(&mut head.closed, newest);
        if let Some(first) = oldest.first() {
            let name = self.ledger.write_segment(&self.of, SegmentKind::History, first.span().first, head.segment.take(), &oldest).await?;
            head.segment = Some(name);
        }
        Ok(head)
    }
}

/// Appends a span; a stretch without records lengthens the one before it.
fn join(closed: &mut Vec<Entry>, entry: Entry) {
    if let Some(last) = closed.last_mut()
        && last.kind == EntryKind::Empty
        && entry.kind == EntryKind::Empty
        && last.incarnation == entry.incarnation
        && let ([last], [stretch]) = (last.partitions.as_mut_slice(), entry.partitions.as_slice())
    {
        last.next = stretch.next;
        last.leader_epoch = stretch.leader_epoch;
        return;
    }
    closed.push(entry);
}
