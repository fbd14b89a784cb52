//! Reads records back by offset: the ledger names the files, the block index the blocks, and only those are read.

use super::stored::{StoredFile, Stores};
use crate::{
    error::{Error, Kind, Result},
    format::read::{HEAD_BYTES, RangeRead, ReadOptions, reader_of},
    ledger::{Entry, EntryKind, File, Head, Ledger, Role},
    plan::Pipeline,
    span::{Bounds, Span, TopicPartition},
};
use bytes::Bytes;
use kas3_store::Store;
use std::collections::BTreeMap;

/// Called with each row as its file holds it (of a file of lines the line), and its offset, where that is known.
pub type EachRow<'a> = dyn FnMut(Option<i64>, &[u8]) -> Result<()> + Send + 'a;

/// What became of the offsets that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// Records that were handed out.
    pub records: u64,
    /// Rows whose offset the file does not tell, so that all rows of their file were handed out.
    pub unsure: u64,
    /// Offsets that gave no record, in words with their stretch.
    pub nothing: Vec<(Span, String)>,
}

/// Reads the records of `span` in the order of their offsets and hands each of their rows to `each`, with its offset where that is known.
///
/// # Errors
/// `Missing` when the ledger does not know the partition; when ledger or store cannot be read; whatever `each` answers.
pub async fn read(pipeline: &Pipeline, sink: Store, ledger: &Ledger, of: &TopicPartition, span: Span, each: &mut EachRow<'_>) -> Result<Read> {
    let head = find_head(ledger, of).await?;
    let stores = Stores::new(sink, pipeline.storage.clone());
    let mut history = ledger.walk(&head).await?.with_pending();
    let mut read = Read::default();
    let (mut passed, _) = super::current(&head, of, history.spans());
    let mut at = span.first;
    while let Some(entries) = history.page().await? {
        let current = passed.min(entries.len());
        passed -= current;
        for entry in entries[current..].iter().filter(|entry| entry.span().first < span.next && entry.span().next > span.first) {
            let part = Span { first: span.first.max(entry.span().first), next: span.next.min(entry.span().next) };
            if at < part.first {
                read.nothing.push((Span { first: at, next: part.first }, "no span of the ledger holds them".to_owned()));
            }
            at = part.next;
            entry_part(ledger, &stores, of, entry, part, &mut read, each).await?;
        }
    }
    let why = |first: i64| if first >= head.next { "not committed yet" } else { "before the start of this pipeline" };
    if at < span.next {
        for part in [Span { first: at, next: span.next.min(head.next) }, Span { first: at.max(head.next), next: span.next }] {
            if part.first < part.next {
                read.nothing.push((part, why(part.first).to_owned()));
            }
        }
    }
    Ok(read)
}

async fn find_head(ledger: &Ledger, of: &TopicPartition) -> Result<Head> {
    ledger.head(of).await?.ok_or_else(|| {
        Error::new(Kind::Missing, format!("the ledger does not know partition `{of}`"))
            .hint(format!("`{}` lists the partitions that it knows", crate::stops::command("ledger show")))
    })
}

async fn entry_part(
    ledger: &Ledger,
    stores: &Stores,
    of: &TopicPartition,
    entry: &Entry,
    part: Span,
    read: &mut Read,
    each: &mut EachRow<'_>,
) -> Result<()> {
    if entry.kind == EntryKind::Gap {
        let reason = entry.reason.as_deref().unwrap_or("no reason was kept");
        read.nothing.push((part, format!("a gap that was accepted: {reason}")));
        return Ok(());
    }
    if entry.kind.known().is_none() {
        read.nothing
            .push((part, format!("a span of kind `{}`, which a newer kas3 wrote: read it with that one", entry.kind.as_str().escape_default())));
        return Ok(());
    }
    let overlaps = |bounds: Bounds| bounds.min < part.next && bounds.max >= part.first;
    let files = ledger.files(entry, of).await?;
    let clipped = |bounds: Bounds| Span { first: bounds.min.max(part.first), next: (bounds.max + 1).min(part.next) };
    for file in files.iter().filter(|file| file.role.known().is_none()) {
        let Some(bounds) = file.bounds().filter(|bounds| overlaps(*bounds)) else { continue };
        let why = format!("`{}` has the role `{}`, which a newer kas3 wrote: read it with that one", file.url, file.role.as_str().escape_default());
        read.nothing.push((clipped(bounds), why));
    }
    let mut rows = Rows::default();
    for file in files.iter().filter(|file| file.role == Role::Data && file.bounds().is_some_and(overlaps)) {
        if let Err(error) = file_part(stores, of, file, part, &mut rows).await {
            if error.kind() != Kind::Missing {
                return Err(error);
            }
            let bounds = file.bounds().map_or(part, clipped);
            let what = if file.lost { "lost, as was accepted" } else { "not published yet, or deleted" };
            read.nothing.push((bounds, format!("`{}` is not there: {what}", file.url)));
        }
    }
    let mut missing: Vec<i64> = Vec::new();
    let mut next = part.first;
    for (offset, of_record) in &rows.known {
        missing.extend((next..*offset).take(MISSING_MAX));
        next = offset + 1;
        of_record.iter().try_for_each(|row| each(Some(*offset), row))?;
    }
    read.records += rows.known.len() as u64;
    read.unsure += rows.unknown.len() as u64;
    for row in &rows.unknown {
        each(None, row)?;
    }
    if rows.unknown.is_empty() {
        missing.extend((next..part.next).take(MISSING_MAX));
        for stretch in super::span::stretches(&missing) {
            let told = read.nothing.iter().any(|(told, _)| told.first <= stretch.first && stretch.next <= told.next);
            if !told {
                read.nothing.push((stretch, "not in Kafka when it was read (compacted, or a transaction's), or left out by a policy".to_owned()));
            }
        }
    }
    Ok(())
}

/// Offsets without records that are told one by one, at most.
const MISSING_MAX: usize = 100_000;
/// Bytes of rows of one span that are held to bring them into order.
const HELD_BYTES_MAX: usize = 256 << 20;

/// Rows of one span, brought into the order of their offsets.
#[derive(Default)]
struct Rows {
    known: BTreeMap<i64, Vec<Bytes>>,
    unknown: Vec<Bytes>,
    bytes: usize,
}

async fn file_part(stores: &Stores, of: &TopicPartition, file: &File, part: Span, rows: &mut Rows) -> Result<()> {
    let gone = || Error::new(Kind::Missing, format!("`{}` is not there", file.url));
    let (store, path) = stores.find(&file.url).await?.ok_or_else(gone)?;
    let info = store.info(&path).await?.ok_or_else(gone)?;
    let stored = StoredFile::new(store, path, info.bytes);
    let head = stored.range(0..info.bytes.min(HEAD_BYTES)).await?;
    let format = reader_of(&head);
    let bounds = file.bounds();
    let dense = |bounds: &Bounds| (bounds.max - bounds.min).unsigned_abs() + 1 == file.records && file.rows() == file.records;
    let options = ReadOptions { offsets: part.first..part.next, dense_from: bounds.filter(dense).map(|bounds| bounds.min), ..ReadOptions::default() };
    let mut reader = format.open(&stored, &head, options).await?;
    while let Some(found) = reader.next().await? {
        for row in found {
            let offset = row.offset.or_else(|| format.offset_within(&row.bytes, of));
            if offset.is_some_and(|offset| offset < part.first || offset >= part.next) {
                continue;
            }
            rows.bytes += row.bytes.len();
            if rows.bytes > HELD_BYTES_MAX {
                return Err(Error::new(Kind::Fatal, "these offsets hold more than 256 MiB").hint("ask for fewer: give `--to`"));
            }
            // A copy, so that a few rows do not hold their whole block.
            let bytes = Bytes::copy_from_slice(&row.bytes);
            match offset {
                Some(offset) => rows.known.entry(offset).or_default().push(bytes),
                None => rows.unknown.push(bytes),
            }
        }
    }
    Ok(())
}
