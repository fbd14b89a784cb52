//! Compares Kafka, the ledger and the files of a pipeline by content, and reads records back by offset.
//!
//! Purpose: show, with nothing taken on trust, that every record of every closed span is in exactly one file. Guarantee: what
//! is called equal was read from Kafka and from the store and compared; memory is bounded by a window of records and a few
//! blocks, whatever the size of the pipeline. It only reads, and may run while the pipeline runs.
//!
//! ```no_run
//! # use kas3_sink::{ledger::Ledger, plan::Pipeline, source::Log, verify};
//! # use std::sync::Arc;
//! # async fn example(pipeline: Arc<Pipeline>, sink: kas3_store::Store, ledger: Arc<Ledger>, log: Arc<dyn Log>) -> kas3_sink::Result<()> {
//! let report = verify::verify(pipeline, sink, ledger, log, &verify::Options::default()).await?;
//! assert!(report.ok, "{:?}", report.findings);
//! # Ok(()) }
//! ```

pub mod cat;
mod cursor;
mod foreign;
mod records;
mod report;
mod span;
mod stored;

pub use report::{FINDINGS_MAX, Finding, FindingKind, PartitionReport, Report, Totals, VERSION};

use crate::{
    error::Result,
    ledger::{EntryKind, Head, Ledger},
    plan::Pipeline,
    source::{Identity, Log},
    span::{Span, TopicPartition},
};
use kas3_store::Store;
use records::Records;
use span::SpanComparison;
use std::sync::{Arc, Mutex, PoisonError};

/// What to compare.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this topic.
    pub topic: Option<String>,
    /// Only this partition.
    pub partition: Option<i32>,
}

impl Options {
    fn wants(&self, of: &TopicPartition) -> bool {
        self.topic.as_deref().is_none_or(|topic| topic == &*of.topic) && self.partition.is_none_or(|partition| partition == of.partition)
    }
}

/// Notes that are kept.
const NOTES_MAX: usize = 100;

/// A comparison being made.
pub(crate) struct Comparison {
    pipeline: Arc<Pipeline>,
    stores: stored::Stores,
    ledger: Arc<Ledger>,
    log: Arc<dyn Log>,
    notes: Mutex<Vec<String>>,
}

impl Comparison {
    fn note(&self, text: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < NOTES_MAX && !notes.contains(&text) {
            notes.push(text);
        }
    }
}

/// Compares the contents of Kafka, ledger and files.
///
/// # Errors
/// When Kafka, the ledger or the store cannot be read; what they say wrongly is in the report.
pub async fn verify(pipeline: Arc<Pipeline>, sink: Store, ledger: Arc<Ledger>, log: Arc<dyn Log>, options: &Options) -> Result<Report> {
    let mut report = Report::new(&pipeline.name);
    let stores = stored::Stores::new(sink, pipeline.storage.clone());
    let comparison = Comparison { pipeline, stores, ledger, log, notes: Mutex::default() };
    let mut names = foreign::Names::default();
    for head in comparison.ledger.heads().await? {
        let of = head.of();
        let compared = comparison.partition(&head, options.wants(&of), &mut names).await?;
        let Some((partition, findings)) = compared else { continue };
        report.totals.add(&partition.totals);
        report.partitions.push(partition);
        findings.into_iter().for_each(|finding| report.find(finding));
    }
    if options.topic.is_none() && options.partition.is_none() {
        for finding in comparison.foreign(&names).await? {
            report.totals.foreign += 1;
            report.find(finding);
        }
    } else {
        comparison.note("objects that no span names are looked for only when everything is compared".to_owned());
    }
    report.notes = comparison.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(report)
}

/// What Kafka has of a partition, where it is still the one that the head was written for.
struct Extent {
    earliest: i64,
    end: i64,
}

impl Comparison {
    async fn partition(&self, head: &Head, wanted: bool, names: &mut foreign::Names) -> Result<Option<(PartitionReport, Vec<Finding>)>> {
        let of = head.of();
        let mut history = self.ledger.walk(head).await?.with_pending();
        let settled = history.spans().len() - head.pending.len();
        let extent = if wanted { self.extent(head, &of).await? } else { None };
        let mut report = PartitionReport {
            topic: head.topic.clone(),
            partition: head.partition,
            incarnation: head.incarnation,
            start: head.start,
            next: head.next,
            earliest: extent.as_ref().map(|extent| extent.earliest),
            end: extent.as_ref().map(|extent| extent.end),
            totals: Totals::default(),
        };
        let (current, mut findings) = current(head, &of, history.spans());
        report.totals.differences += findings.len() as u64;
        let first = history.spans().get(current).map_or(head.next, |span| span.first);
        let mut records = match &extent {
            Some(extent) => {
                let chain = Arc::clone(&self.pipeline.plan(&of.topic).transforms);
                Records::read(Arc::clone(&self.log), of.clone(), chain, first.max(extent.earliest), head.next.min(extent.end))
            }
            None => Records::none(),
        };
        let mut number = 0;
        while let Some(entries) = history.page().await? {
            for (number, entry) in (number..).zip(&entries) {
                let files = self.ledger.files(entry, &of).await?;
                files.iter().for_each(|file| names.insert(&file.url));
                if !wanted {
                    continue;
                }
                let mut span = SpanComparison::new(self, &of, entry);
                let comparable = |extent: &&Extent| number >= current && entry.span().next > extent.earliest;
                span.earliest = extent.as_ref().filter(comparable).map(|extent| extent.earliest);
                span.pending = number >= settled;
                span.totals.pending = u64::from(span.pending);
                match entry.kind.known() {
                    Some(EntryKind::Gap) => span.totals.accepted += entry.span().next.saturating_sub(entry.span().first).unsigned_abs(),
                    Some(EntryKind::Files | EntryKind::Empty) => span.compare(&files, &mut records).await?,
                    None => span.not_understood(&files),
                }
                report.totals.add(&span.totals);
                findings.append(&mut span.findings);
            }
            number += entries.len();
        }
        Ok(wanted.then_some((report, findings)))
    }

    /// `None`, with a note, when the topic is gone or another one now.
    async fn extent(&self, head: &Head, of: &TopicPartition) -> Result<Option<Extent>> {
        let Some(identity) = Identity::now(&*self.log, &of.topic).await? else {
            self.note(format!("topic `{}` does not exist any more: its files could only be checked by checksum", of.topic));
            return Ok(None);
        };
        let other = match (&head.topic_id, &identity.topic_id) {
            (Some(was), Some(is)) => was != is,
            _ => false,
        };
        if identity.cluster_id != head.cluster_id || other {
            self.note(format!("`{of}` is another topic now than the one that was sunk: its files could only be checked by checksum"));
            return Ok(None);
        }
        let (earliest, end) = self.log.bounds(of).await?;
        Ok(Some(Extent { earliest, end }))
    }
}

/// The number of the first span of the log that Kafka has now, and where the spans from it to `next` do not follow each other.
/// Offsets begin anew at `start`; an incarnation alone says only how files are named.
fn current(head: &Head, of: &TopicPartition, spans: &[Span]) -> (usize, Vec<Finding>) {
    let mut findings = Vec::new();
    let (mut first, mut next) = (spans.len(), head.next);
    while first > 0 && next > head.start {
        first -= 1;
        let span = spans[first];
        if span.next != next {
            let detail = format!("the span ends at {} where the next one begins at {next}", span.next);
            findings.push(Finding::new(FindingKind::Ledger, of, detail).span(span));
        }
        next = span.first;
    }
    // What came before a lost segment is not known any more; a person accepted that.
    if next != head.start && head.lost_segments.is_empty() {
        let detail = format!("the first span that is kept begins at {next}, the partition at {}", head.start);
        findings.push(Finding::new(FindingKind::Ledger, of, detail).span(Span { first: head.start.min(next), next: next.max(head.start) }));
    }
    (first, findings)
}

#[cfg(test)]
mod tests;
