//! `kas3 verify`: compares Kafka, ledger and files by content, and says what it found, and what it did not compare.

mod words;

use crate::{
    configuration,
    exit::{self, Exit},
    inspect,
    output::Results,
    redact, runtime,
};
use clap::Args;
use kas3_sink::{
    plan::Pipeline,
    verify::{self as comparison, Options, Report},
};
use std::{path::PathBuf, sync::Arc, time::Instant};

/// Compare Kafka with the files, record by record
///
/// Reads the topic, the ledger and every file, and compares contents: every record of every closed span must be in exactly one
/// file, as it was produced. Only reads, and may run beside a running pipeline. What could not be compared is listed: partitions
/// that have not begun, offsets that were not read yet or wait for a transaction to end, what was accepted as lost, and records that
/// Kafka no longer has, of which the files are checked against the checksums in the ledger.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 verify orders.yaml
  kas3 verify orders.yaml --complete     also wants everything read that Kafka has
  kas3 verify orders.yaml --topic orders --partition 0 --json | jq .findings

Exits 1 on a gap, a double, a difference, or an object that no span names; with --complete also when something was not read or is
not visible yet.")]
pub(crate) struct VerifyArguments {
    /// Configuration; from the environment when there is none
    file: Option<PathBuf>,
    /// As JSON; its form is described in docs/operations.md
    #[arg(long)]
    json: bool,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Exit 1 also when something that the configuration asks for is unread, not begun, behind an open transaction or not visible yet
    #[arg(long)]
    complete: bool,
}

/// Runs the command.
pub(crate) fn verify(arguments: VerifyArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::of(arguments.file.as_deref())?;
    runtime::block_on(async move {
        let begun = Instant::now();
        let options = Options { topic: arguments.topic, partition: arguments.partition };
        let report = report(pipeline, &options).await?;
        if (options.topic.is_some() || options.partition.is_some()) && report.partitions.is_empty() && report.not_begun.is_empty() {
            return Err(exit::usage(
                "neither the ledger nor Kafka has what `--topic` and `--partition` ask for, as far as `source.topics` goes",
                "`kas3 ledger show` lists what the ledger has",
            ));
        }
        let mut results = Results::new();
        if arguments.json {
            results.line(&redact::text(&serde_json::to_string_pretty(&report)?))?;
        } else {
            words::print(&report, begun.elapsed(), arguments.complete, &mut results)?;
        }
        results.flush()?;
        Ok(if report.ok && (report.complete || !arguments.complete) { Exit::Done } else { Exit::Found })
    })
}

/// Makes the comparison.
async fn report(pipeline: Arc<Pipeline>, options: &Options) -> anyhow::Result<Report> {
    let opened = inspect::open(&pipeline).await?;
    Ok(comparison::verify(pipeline, opened.sink, opened.ledger, opened.log, options).await?)
}
