//! Older spans, and long lists of files: immutable segments beside the head, each naming the one before.
//!
//! A segment counts only when the chain from the head leads to it: one that was written for a swap that lost means nothing.

use super::{
    Ledger,
    head_writer::HeadWriter,
    listing::in_folders,
    random_name,
    stored::{
        Entry, EntryKind, File, Head, SEGMENT_BYTES_MAX, SegmentHeader, SegmentKind, Unusable, check_chain, check_files, check_version,
        decode_segment, encode_segment,
    },
};
use crate::{
    error::{Error, Kind, Result},
    span::{Span, TopicPartition},
    stops,
};
use bytes::Bytes;
use kas3_store::{Created, PutOptions, kill_point};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::collections::HashSet;

/// Settled spans that a head keeps at most; then all but [`CLOSED_KEPT`] move into a segment.
pub const CLOSED_MAX: usize = 64;
/// Settled spans that stay in the head.
pub const CLOSED_KEPT: usize = 8;
/// Bytes of settled spans in a head at most, before they move into a segment.
pub const CLOSED_BYTES_MAX: usize = 256 << 10;
/// Bytes of one span's list of files in a head at most; a longer list is a segment of its own.
pub const FILES_BYTES_MAX: usize = 64 << 10;
/// Bytes of the first line of a segment at most, where nothing else of it is read.
const SEGMENT_HEADER_BYTES_MAX: u64 = 64 << 10;

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
        check_chain(head.closed.iter().chain(&head.pending)).map_err(broken)?;
        let mut spans: Vec<Span> = head.closed.iter().rev().map(Entry::span).collect();
        let mut after = head.closed.first().or(head.pending.first()).cloned();
        let (mut segments, mut next) = (Vec::new(), head.segment.clone());
        let mut seen = HashSet::new();
        while let Some(name) = next {
            if !seen.insert(name.clone()) {
                return Err(stops::unreadable(&of, &self.segment_url(&of, &name), "the chain of segments comes back to it"));
            }
            let (header, entries) = self.read_history(&of, &name).await?;
            check_chain(entries.iter().chain(&after)).map_err(broken)?;
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
        entries.iter().try_for_each(Entry::check).map_err(|why| why.stop(of, &self.segment_url(of, name)))?;
        Ok((header, entries))
    }

    /// The files of a span, wherever their list is.
    ///
    /// # Errors
    /// `Stopped` when the list is missing or cannot be read.
    pub async fn files(&self, entry: &Entry, of: &TopicPartition) -> Result<Vec<File>> {
        let Some(name) = &entry.files_in else { return Ok(entry.files.clone()) };
        let (_, files) = self.read_segment::<File>(of, name, SegmentKind::Files).await?;
        check_files(&files).map_err(|why| stops::unreadable(of, &self.segment_url(of, name), &why))?;
        Ok(files)
    }

    pub(super) fn segment_url(&self, of: &TopicPartition, name: &str) -> String {
        self.ledger.url_of(&format!("{}{name}", self.folder(of)))
    }

    async fn read_segment<T: for<'a> Deserialize<'a>>(&self, of: &TopicPartition, name: &str, kind: SegmentKind) -> Result<(SegmentHeader, Vec<T>)> {
        let path = format!("{}{name}", self.folder(of));
        let object = self.patiently(of, "read a segment", || self.ledger.get(&path, SEGMENT_BYTES_MAX)).await?;
        let Some(object) = object else { return Err(stops::segment_missing(of, &self.ledger.url_of(&path))) };
        decode_segment(&object.bytes, kind, of).map_err(|why| why.stop(of, &self.ledger.url_of(&path)))
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

    /// The newest segment of a partition that has no head: a head comes before its first segment, so it was lost.
    ///
    /// # Errors
    /// `Newer` when a newer kas3 wrote that segment, and so the head.
    pub(super) async fn segment_without_head(&self, of: &TopicPartition) -> Result<Option<String>> {
        let top = &format!("_kas3/{}/ledger/", self.pipeline.name);
        let look = || self.ledger_folders.ask(self.folder(of), |folders| in_folders(&self.ledger, top, folders));
        let found = self.patiently(of, "list segments", look).await?;
        let Some(newest) = found.into_iter().rev().find(|info| info.path.ends_with(".jsonl")) else { return Ok(None) };
        let url = self.ledger.url_of(&newest.path);
        let begin = 0..newest.bytes.min(SEGMENT_HEADER_BYTES_MAX);
        // one that vanished since says no more than its name did
        let read = || async {
            match self.ledger.range(&newest.path, begin.clone()).await {
                Err(error) if error.kind() == kas3_store::Kind::Missing => Ok(Bytes::new()),
                read => read,
            }
        };
        let begin = self.patiently(of, "read a segment", read).await?;
        if let Err(why @ Unusable::Newer(_)) = check_version(begin.split(|byte| *byte == b'\n').next().unwrap_or_default()) {
            return Err(why.stop(of, &url));
        }
        Ok(Some(url))
    }
}

impl HeadWriter {
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
            let name = self.write_segment(SegmentKind::History, first.span().first, head.segment.take(), &oldest).await?;
            head.segment = Some(name);
        }
        Ok(head)
    }

    /// A list of files as the head keeps it: inside, or in a segment when it is long.
    pub(super) async fn listed(&self, first: i64, files: Vec<File>) -> Result<(Vec<File>, Option<String>)> {
        let bytes =
            serde_json::to_vec(&files).map_err(|error| Error::new(Kind::Fatal, "a list of files cannot be written down").source(error))?.len();
        if bytes <= FILES_BYTES_MAX {
            return Ok((files, None));
        }
        let name = self.write_segment(SegmentKind::Files, first, None, &files).await?;
        Ok((Vec::new(), Some(name)))
    }

    /// Writes a segment in the version of the head.
    async fn write_segment<T: Serialize>(&self, kind: SegmentKind, first: i64, before: Option<String>, lines: &[T]) -> Result<String> {
        let (of, ledger) = (&self.of, &self.ledger);
        let header = SegmentHeader {
            version: self.head.version,
            kind: kind.into(),
            topic: of.topic.to_string(),
            partition: of.partition,
            before,
            lines: lines.len() as u64,
            extra: Map::new(),
        };
        let bytes = Bytes::from(encode_segment(&header, lines));
        if bytes.len() as u64 > SEGMENT_BYTES_MAX {
            let text = format!("a segment of `{of}` would have {} bytes, {SEGMENT_BYTES_MAX} are allowed", bytes.len());
            return Err(Error::new(Kind::Fatal, text).hint("lower `roll.files`, or let the path template make fewer files"));
        }
        let name = format!("{first:020}-{}.jsonl", random_name());
        let path = format!("{}{name}", ledger.folder(of));
        let options = PutOptions::ledger("application/x-ndjson");
        kill_point("segment.before");
        // The name is random: an object that exists is our own, created by a request whose answer was lost.
        let _: Created = ledger.patiently(of, "write a segment", || ledger.ledger.create(&path, bytes.clone(), &options)).await?;
        kill_point("segment.after");
        Ok(name)
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
