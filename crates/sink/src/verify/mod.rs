//! Compares Kafka, the ledger and the files of a pipeline by content, and reads records back by offset.
//!
//! Purpose: show, with nothing taken on trust, that every record of every closed span is in exactly one file, and list what the
//! configuration asks for and could not be compared. Guarantee: what is called equal was read from Kafka and from the store and
//! compared; memory is bounded by a window of records and a few blocks, whatever the size of the pipeline. It only reads, and may
//! run while the pipeline runs.
//!
//! ```no_run
//! # use kas3_sink::{ledger::Ledger, plan::Pipeline, source::Log, verify};
//! # use std::sync::Arc;
//! # async fn example(pipeline: Arc<Pipeline>, sink: kas3_store::Store, ledger: Arc<Ledger>, log: Arc<dyn Log>) -> kas3_sink::Result<()> {
//! let report = verify::verify(pipeline, sink, ledger, log, &verify::Options::default()).await?;
//! assert!(report.ok, "{:?}", report.findings);
//! # Ok(()) }
//! ```

mod asked;
pub mod cat;
mod cursor;
mod foreign;
mod records;
mod report;
mod runs;
mod span;
mod stored;

pub use report::{FINDINGS_MAX, Finding, FindingKind, NotBegun, NotComparable, PartitionReport, Report, Totals, VERSION};

use crate::{
    error::Result,
    ledger::{Entry, EntryKind, File, Head, Ledger, Why},
    plan::Pipeline,
    source::{Identity, Log},
    span::{Span, TopicPartition},
};
use kas3_store::Store;
use records::Records;
use report::Reason;
use runs::{Copies, Incarnations, Runs};
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
    let heads = comparison.ledger.heads().await?;
    for head in &heads {
        let compared = comparison.partition(head, options.wants(&head.of()), &mut names).await?;
        let Some((partition, findings)) = compared else { continue };
        report.totals.add(&partition.totals);
        report.partitions.push(partition);
        findings.into_iter().for_each(|finding| report.find(finding));
    }
    comparison.not_begun(&heads, options, &mut report).await?;
    report.complete = report.totals.is_complete() && report.absent_topics.is_empty();
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
    identity: Identity,
    earliest: i64,
    end: i64,
}

impl Comparison {
    async fn partition(&self, head: &Head, wanted: bool, names: &mut foreign::Names) -> Result<Option<(PartitionReport, Vec<Finding>)>> {
        let of = head.of();
        let mut history = self.ledger.walk(head).await?.with_pending();
        if !wanted {
            while let Some(entries) = history.page().await? {
                for entry in &entries {
                    self.ledger.files(entry, &of).await?.iter().for_each(|file| names.insert(&file.url));
                }
            }
            return Ok(None);
        }
        let spans = history.spans().to_vec();
        let (current, mut findings) = current(head, &of, &spans);
        let extent = self.extent(head, &of).await?;
        let mut report = PartitionReport {
            topic: head.topic.clone(),
            partition: head.partition,
            incarnation: head.incarnation,
            start: head.start,
            next: head.next,
            earliest: extent.as_ref().map(|extent| extent.earliest),
            end: extent.as_ref().map(|extent| extent.end),
            configured: self.pipeline.reads(&head.topic),
            begun: head.begun.clone(),
            totals: Totals { differences: findings.len() as u64, ..Totals::default() },
        };
        let settled = spans.len() - head.pending.len();
        let mut walk = Walk::new(self, head, &of, (&spans, current), extent.as_ref());
        let mut number = 0;
        while let Some(entries) = history.page().await? {
            for (number, entry) in (number..).zip(&entries) {
                let files = self.ledger.files(entry, &of).await?;
                files.iter().for_each(|file| names.insert(&file.url));
                walk.compare((number, number >= settled), entry, &files, &mut report.totals, &mut findings).await?;
            }
            number += entries.len();
        }
        if report.configured && extent.is_some() {
            let unread = self.unread(&of, head.next).await?;
            report.totals.unread += unread.offsets;
            report.totals.waiting_for_transaction += unread.waiting;
        } else if extent.is_some() {
            self.note(format!("`source.topics` does not name `{}` any more: only what was committed of it was compared", head.topic));
        }
        let lost = head.begun.iter().rev().find(|begun| begun.why == Why::Lost);
        if let (Some(begun), Some(extent)) = (lost, &extent) {
            // what the lost head said of them is known to nobody
            report.totals.unknown += begun.start.saturating_sub(extent.earliest).max(0).unsigned_abs();
        }
        Ok(Some((report, findings)))
    }

    /// `None`, with a note, when the topic is gone or another one now.
    async fn extent(&self, head: &Head, of: &TopicPartition) -> Result<Option<Extent>> {
        let Some(identity) = Identity::now(&*self.log, &of.topic).await? else {
            self.note(format!("topic `{}` does not exist any more: its files could only be checked by checksum", of.topic));
            return Ok(None);
        };
        if !identity.is_same(&Identity { cluster_id: head.cluster_id.clone(), topic_id: head.topic_id.clone() }) {
            self.note(format!("`{of}` is another topic now than the one that was sunk: its files could only be checked by checksum"));
            return Ok(None);
        }
        let (earliest, end) = self.log.bounds(of).await?;
        Ok(Some(Extent { identity, earliest, end }))
    }
}

/// The spans of one partition, compared one after the other.
struct Walk<'a> {
    comparison: &'a Comparison,
    head: &'a Head,
    of: &'a TopicPartition,
    spans: &'a [Span],
    current: usize,
    extent: Option<&'a Extent>,
    runs: Runs,
    /// The run that is being compared, and Kafka's records for it once one of its spans asks for them.
    run: Option<usize>,
    records: Option<Records>,
    incarnations: Incarnations,
    copies: Copies,
}

impl<'a> Walk<'a> {
    fn new(
        comparison: &'a Comparison,
        head: &'a Head,
        of: &'a TopicPartition,
        (spans, current): (&'a [Span], usize),
        extent: Option<&'a Extent>,
    ) -> Self {
        let (incarnations, copies) = (Incarnations::default(), Copies::default());
        Walk { comparison, head, of, spans, current, extent, runs: Runs::new(spans, current), run: None, records: None, incarnations, copies }
    }

    async fn compare(
        &mut self,
        (number, pending): (usize, bool),
        entry: &Entry,
        files: &[File],
        totals: &mut Totals,
        findings: &mut Vec<Finding>,
    ) -> Result<()> {
        let run = self.runs.of(number);
        if self.run != Some(run) {
            (self.run, self.records) = (Some(run), None);
            self.copies.begin(self.runs.first_after(run));
        }
        let extent = match self.extent {
            Some(extent) => {
                let same = number >= self.current || self.incarnations.is_of(self.comparison, self.of, entry, &extent.identity).await?;
                same.then_some(extent)
            }
            None => None,
        };
        let mut span = SpanComparison::new(self.comparison, self.of, entry, &mut self.copies);
        match extent {
            Some(extent) => span.earliest = (entry.span().next > extent.earliest).then_some(extent.earliest),
            None => span.reason = Reason::OtherTopic,
        }
        span.certain_until = self.runs.certain_until(run, entry.incarnation, self.head);
        span.pending = pending;
        span.totals.pending = u64::from(pending);
        match entry.kind.known() {
            Some(EntryKind::Gap) => span.totals.accepted += entry.span().next.saturating_sub(entry.span().first).unsigned_abs(),
            Some(EntryKind::Files | EntryKind::Empty) => {
                let mut none = Records::none();
                let records = match extent.filter(|_| span.earliest.is_some()) {
                    Some(extent) => self.records.get_or_insert_with(|| {
                        let chain = Arc::clone(&self.comparison.pipeline.plan(&self.of.topic).transforms);
                        let (first, end) = (entry.span().first.max(extent.earliest), self.runs.end(run, self.spans).min(extent.end));
                        Records::read(Arc::clone(&self.comparison.log), self.of.clone(), chain, first, end)
                    }),
                    None => &mut none,
                };
                span.compare(files, records).await?;
            }
            None => span.not_understood(files),
        }
        totals.add(&span.totals);
        findings.append(&mut span.findings);
        Ok(())
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
