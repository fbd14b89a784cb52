//! A report in words. The sentence with ✓ is about what was compared, and nothing else; a line follows for each kind of what was not.

use crate::{output::Results, readable, redact};
use kas3_sink::verify::{self as comparison, Finding, NotBegun, PartitionReport, Report};
use std::time::Duration;

/// Findings that are shown; `--json` has more.
const SHOWN_MAX: usize = 20;
/// Partitions that one line names.
const NAMED_MAX: usize = 5;

/// Prints a report.
pub(super) fn print(report: &Report, took: Duration, complete: bool, results: &mut Results) -> anyhow::Result<()> {
    table(report, results)?;
    for finding in report.findings.iter().take(SHOWN_MAX) {
        results.line(&redact::text(&words(finding)))?;
    }
    if report.findings_total > SHOWN_MAX as u64 {
        results.line(&format!(
            "and {} more; --json has the first {}",
            readable::number(report.findings_total - SHOWN_MAX as u64),
            comparison::FINDINGS_MAX
        ))?;
    }
    results.line(&verdict(report, took))?;
    for line in not_compared(report) {
        results.line(&redact::text(&format!("! {line}")))?;
    }
    for note in &report.notes {
        results.line(&redact::text(&format!("! {note}")))?;
    }
    if complete && report.complete {
        results.line("✓ nothing is left to read: all that Kafka has for this configuration was read, and is visible")?;
    } else if complete {
        results.line("✗ not complete: what was not read, or is not visible yet, is listed above")?;
    }
    Ok(())
}

fn table(report: &Report, results: &mut Results) -> anyhow::Result<()> {
    let mut table =
        readable::Table::new(&["partition", "up to", "spans", "files", "in Kafka", "equal", "gaps", "doubles", "differences", "unread"], 1);
    for partition in &report.partitions {
        let totals = &partition.totals;
        let (gaps, doubles, differences) = (totals.gaps, totals.doubles, totals.differences);
        let numbers = [totals.spans, totals.files, totals.records_in_kafka, totals.equal, gaps, doubles, differences];
        let mut row = vec![format!("{}-{}", partition.topic, partition.partition), readable::number(partition.next)];
        row.extend(numbers.map(readable::number));
        let is_known = partition.configured && partition.end.is_some();
        row.push(if is_known { readable::number(totals.unread) } else { "-".to_owned() });
        table.row(row);
    }
    for line in table.lines() {
        results.line(&line)?;
    }
    Ok(())
}

/// What the comparison says of what it compared.
fn verdict(report: &Report, took: Duration) -> String {
    let totals = &report.totals;
    let records = totals.equal.saturating_sub(totals.doubled_by_decision);
    let up_to = match &report.partitions[..] {
        [only] => format!("up to offset {}", readable::number(only.next)),
        _ => "up to the offsets above".to_owned(),
    };
    let compared = format!(
        "{} of {} in {} ({}) compared in {}, {up_to}",
        readable::count(records, "record"),
        readable::count(report.partitions.len() as u64, "partition"),
        readable::count(totals.files, "file"),
        readable::bytes(totals.bytes),
        readable::duration(took)
    );
    let counts = format!("{} gaps, {} doubles, {} differences", totals.gaps, totals.doubles, totals.differences);
    if !report.ok {
        return format!("✗ {}: {compared}, {counts}", readable::count(report.findings_total, "finding"));
    }
    match (records, totals.doubled_by_decision) {
        (0, _) if report.partitions.is_empty() => "! no record was compared: the ledger has no partition yet".to_owned(),
        (0, _) => "! no record was compared: no file holds one that Kafka has".to_owned(),
        (_, 0) => format!("✓ every compared record is in exactly one file: {compared}, {counts}"),
        (_, again) => {
            let again = readable::count(again, "record");
            format!("✓ every compared record is in exactly one file, but for {again} read again by decision: {compared}, {counts}")
        }
    }
}

/// A line for each kind of what was not compared, or is not as usual.
fn not_compared(report: &Report) -> Vec<String> {
    let totals = &report.totals;
    let because = &totals.not_comparable_because;
    let mut lines = Vec::new();
    let mut line = |count: u64, text: String| {
        if count > 0 {
            lines.push(text);
        }
    };
    let not_begun: Vec<&NotBegun> = report.not_begun.iter().collect();
    line(
        not_begun.len() as u64,
        format!(
            "{} configured and not begun, {} in no file: {}",
            readable::count(not_begun.len() as u64, "partition"),
            offsets(totals.not_begun),
            named(&not_begun, |of| format!("{}-{} ({} to {}: {})", of.topic, of.partition, of.from, of.end, of.why))
        ),
    );
    line(totals.unread, unread(report));
    line(totals.waiting_for_transaction, waiting(report));
    line(totals.unknown, unknown(report));
    let accepted = those(report, |partition| partition.totals.accepted);
    line(
        totals.accepted,
        format!(
            "{} accepted as lost: {}",
            readable::count(totals.accepted, "record"),
            named(&accepted, |of| format!("{}-{} ({})", of.topic, of.partition, readable::number(of.totals.accepted)))
        ),
    );
    line(totals.doubled_by_decision, doubled(report));
    line(totals.left_out, format!("{} left out by policies, as the ledger says", readable::count(totals.left_out, "record")));
    let reasons = [
        (because.deleted, "Kafka no longer has them"),
        (because.other_topic, "they are of a topic or cluster that is not there any more"),
        (because.cut_back, "the log was cut back since, and holds other records at their offsets"),
        (because.payload_gone, "their payloads cannot be fetched any more"),
        (because.unmatched, "it cannot be told which row of their files is whose"),
    ];
    for (count, why) in reasons {
        line(count, format!("{} not comparable, because {why}; their files were checked by checksum", readable::count(count, "record")));
    }
    line(
        totals.pending,
        format!(
            "{} committed and not settled yet, {} of them not visible: a running pipeline settles them with its next roll, else `kas3 run` does",
            readable::count(totals.pending, "span"),
            readable::count(totals.unpublished, "record")
        ),
    );
    line(
        report.absent_topics.len() as u64,
        format!("`source.topics` names what Kafka does not have, or does not show: {}", named(&report.absent_topics, String::clone)),
    );
    for of in &report.partitions {
        for begun in of.begun.iter().filter(|begun| begun.offsets_again() > 0) {
            let (topic, partition, incarnation) = (&of.topic, of.partition, begun.incarnation);
            let again = format!("was read again from {} by decision of {}, after {} had been read", begun.start, begun.decided_at, begun.read_to);
            line(1, format!("{topic}-{partition} {again}: incarnation {incarnation}"));
        }
    }
    lines
}

fn offsets(count: u64) -> String {
    readable::count(count, "offset")
}

fn unknown(report: &Report) -> String {
    let unknown = those(report, |partition| partition.totals.unknown);
    format!(
        "{} before the beginning that followed a lost head: whether a file holds them is not known: {}",
        offsets(report.totals.unknown),
        named(&unknown, |of| format!("{}-{} ({})", of.topic, of.partition, readable::number(of.totals.unknown)))
    )
}

fn unread(report: &Report) -> String {
    let unread = those(report, |partition| partition.totals.unread);
    format!(
        "{} not read yet: {}",
        offsets(report.totals.unread),
        named(&unread, |of| format!("{}-{} ({} to {})", of.topic, of.partition, of.next, of.end.unwrap_or(of.next)))
    )
}

fn waiting(report: &Report) -> String {
    let begun = those(report, |partition| partition.totals.waiting_for_transaction);
    let begun = begun.into_iter().map(|of| format!("{}-{} (from {} on)", of.topic, of.partition, of.end.unwrap_or(of.next)));
    let new = report.not_begun.iter().filter(|of| of.waiting_for_transaction > 0);
    let new = new.map(|of| format!("{}-{} (from {} on)", of.topic, of.partition, of.end));
    let all: Vec<String> = begun.chain(new).collect();
    format!("{} waiting for a transaction to end: {}", readable::count(report.totals.waiting_for_transaction, "offset"), named(&all, String::clone))
}

fn doubled(report: &Report) -> String {
    let doubled = those(report, |partition| partition.totals.doubled_by_decision);
    format!(
        "{} doubled by decision, in files of two incarnations: {}",
        readable::count(report.totals.doubled_by_decision, "record"),
        named(&doubled, |of| format!("{}-{} ({})", of.topic, of.partition, readable::number(of.totals.doubled_by_decision)))
    )
}

/// Partitions of which there are some.
fn those(report: &Report, count: fn(&PartitionReport) -> u64) -> Vec<&PartitionReport> {
    report.partitions.iter().filter(|partition| count(partition) > 0).collect()
}

/// The first of many, by name, and how many more.
fn named<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let names: Vec<String> = all.iter().take(NAMED_MAX).map(name).collect();
    let more = all.len().saturating_sub(NAMED_MAX);
    if more == 0 { names.join(", ") } else { format!("{}, and {} more", names.join(", "), readable::number(more)) }
}

fn words(finding: &Finding) -> String {
    let mut text = format!("✗ {}", finding.kind.name());
    if let (Some(topic), Some(partition)) = (&finding.topic, finding.partition) {
        text.push_str(&format!(" in {topic}-{partition}"));
    }
    if let Some(offsets) = finding.offsets {
        let last = offsets.next - 1;
        text.push_str(&if last <= offsets.first { format!(", offset {}", offsets.first) } else { format!(", offsets {} to {last}", offsets.first) });
    }
    text.push_str(&format!(": {}", finding.detail));
    if let Some(file) = &finding.file {
        text.push_str(&format!("\n    {file}"));
    }
    text
}
