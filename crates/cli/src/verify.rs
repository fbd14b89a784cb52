//! `kas3 verify`: compares Kafka, ledger and files by content, and says what it found.

use crate::{
    configuration,
    exit::Exit,
    inspect,
    output::{Results, tell},
    readable, redact, runtime,
};
use clap::Args;
use kas3_sink::{
    plan::Pipeline,
    verify::{self as comparison, Finding, Options, Report},
};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

/// Compare Kafka with the files, record by record
///
/// Reads the topic, the ledger and every file, and compares contents: every record of every closed span must be in exactly one
/// file, as it was produced. Only reads, and may run beside a running pipeline. What Kafka no longer has cannot be compared: it is
/// counted, and its files are checked against the checksums in the ledger.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 verify orders.yaml
  kas3 verify orders.yaml --topic orders --partition 0 --json | jq .findings

Exits 1 on a gap, a double, a difference, or an object that no span names.")]
pub(crate) struct VerifyArguments {
    /// Configuration
    file: PathBuf,
    /// As JSON; its form is described in docs/operations.md
    #[arg(long)]
    json: bool,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
}

/// Runs the command.
pub(crate) fn verify(arguments: VerifyArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::from_file(&arguments.file)?;
    runtime::block_on(async move {
        let begun = Instant::now();
        let options = Options { topic: arguments.topic, partition: arguments.partition };
        let report = report(pipeline, &options).await?;
        let mut results = Results::new();
        if arguments.json {
            results.line(&redact::text(&serde_json::to_string_pretty(&report)?))?;
        } else {
            print(&report, begun.elapsed(), &mut results)?;
        }
        results.flush()?;
        Ok(if report.ok { Exit::Done } else { Exit::Found })
    })
}

/// Makes the comparison.
async fn report(pipeline: Arc<Pipeline>, options: &Options) -> anyhow::Result<Report> {
    let opened = inspect::open(&pipeline).await?;
    Ok(comparison::verify(pipeline, opened.sink, opened.ledger, opened.log, options).await?)
}

/// Findings that are shown; `--json` has more.
const SHOWN_MAX: usize = 20;

fn print(report: &Report, took: Duration, results: &mut Results) -> anyhow::Result<()> {
    let totals = &report.totals;
    let mut table = readable::Table::new(&["partition", "spans", "files", "in Kafka", "equal", "gaps", "doubles", "differences"], 1);
    for partition in &report.partitions {
        let totals = &partition.totals;
        let numbers = [totals.spans, totals.files, totals.records_in_kafka, totals.equal, totals.gaps, totals.doubles, totals.differences];
        let mut row = vec![format!("{}-{}", partition.topic, partition.partition)];
        row.extend(numbers.map(readable::number));
        table.row(row);
    }
    for line in table.lines() {
        results.line(&line)?;
    }
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
    let asides = [
        (totals.left_out, "left out by policies, as the ledger says"),
        (totals.not_comparable, "not comparable: Kafka, or the store of their payloads, no longer has them; their files were checked by checksum"),
        (totals.accepted, "accepted as lost"),
    ];
    for (count, what) in asides.into_iter().filter(|(count, _)| *count > 0) {
        results.line(&format!("! {} {what}", readable::count(count, "record")))?;
    }
    if totals.pending > 0 {
        results.line(&format!(
            "! {} committed and not settled yet: a running pipeline is about to, `kas3 run` will",
            readable::count(totals.pending, "span")
        ))?;
    }
    for note in &report.notes {
        results.line(&redact::text(&format!("! {note}")))?;
    }
    let compared = format!(
        "{} of {} in {} ({}) compared in {}",
        readable::count(totals.equal, "record"),
        readable::count(report.partitions.len() as u64, "partition"),
        readable::count(totals.files, "file"),
        readable::bytes(totals.bytes),
        readable::duration(took)
    );
    let verdict = if report.ok {
        "✓ every record is in exactly one file".to_owned()
    } else {
        format!("✗ {}", readable::count(report.findings_total, "finding"))
    };
    results.line(&format!("{verdict}: {compared}, {} gaps, {} doubles, {} differences", totals.gaps, totals.doubles, totals.differences))?;
    if report.partitions.is_empty() {
        tell("The ledger has no partition yet, so that there was nothing to compare.");
    }
    Ok(())
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
