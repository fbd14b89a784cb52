//! `kas3 ledger show`: how far each partition is, from the heads.

use crate::{configuration, exit::Exit, inspect, output::Results, readable, runtime};
use clap::{Args, Subcommand};
use kas3_sink::{
    ledger::{EntryKind, Head, Ledger},
    span::TopicPartition,
};
use std::path::PathBuf;

/// Look at the ledger, or decide about a partition that stopped
#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    Show(ShowArguments),
    Accept(crate::accept::AcceptArguments),
}

/// Show how far each partition is, and what is kept of it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 ledger show orders.yaml
  kas3 ledger show orders.yaml --topic orders --partition 0 --json    with its spans and files")]
pub(crate) struct ShowArguments {
    /// Configuration; from the environment when there is none
    file: Option<PathBuf>,
    /// As JSON: the heads as they are stored, without the files that ride in them, and all spans
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
pub(crate) fn show(arguments: ShowArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::of(arguments.file.as_deref())?;
    runtime::block_on(async move {
        let (_, ledger) = inspect::without_kafka(&pipeline).await?;
        let wanted = |of: &TopicPartition| {
            arguments.topic.as_deref().is_none_or(|topic| topic == &*of.topic)
                && arguments.partition.is_none_or(|partition| partition == of.partition)
        };
        let heads: Vec<Head> = ledger.heads().await?.into_iter().filter(|head| wanted(&head.of())).collect();
        let mut results = Results::new();
        if arguments.json {
            print_json(&ledger, &heads, &mut results).await?;
        } else if heads.is_empty() {
            results.line(&format!("The ledger of `{}` at {} has no such partition yet.", pipeline.name, pipeline.ledger_url))?;
        } else {
            print_table(&ledger, &heads, &mut results).await?;
        }
        results.flush()?;
        Ok(Exit::Done)
    })
}

async fn print_json(ledger: &Ledger, heads: &[Head], results: &mut Results) -> anyhow::Result<()> {
    results.line("[")?;
    for (number, head) in heads.iter().enumerate() {
        let comma = if number + 1 == heads.len() { "" } else { "," };
        results.line(&format!("{{\"head\":{},\"spans\":[", serde_json::to_string(head)?))?;
        let (mut history, mut before) = (ledger.walk(head).await?, "");
        while let Some(spans) = history.page().await? {
            for span in spans {
                results.line(&format!("{before}{}", serde_json::to_string(&span)?))?;
                before = ",";
            }
        }
        results.line(&format!("]}}{comma}"))?;
    }
    results.line("]")?;
    Ok(())
}

async fn print_table(ledger: &Ledger, heads: &[Head], results: &mut Results) -> anyhow::Result<()> {
    let mut table = readable::Table::new(&["partition", "start", "next", "spans", "records", "files", "size", "state"], 1);
    for head in heads {
        let of = head.of();
        let (mut spans, mut records, mut files, mut bytes, mut gaps) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
        let mut history = ledger.walk(head).await?.with_pending();
        while let Some(entries) = history.page().await? {
            for entry in &entries {
                spans += 1;
                records += entry.counts.written;
                gaps += u64::from(entry.kind == EntryKind::Gap);
                for file in ledger.files(entry, &of).await? {
                    files += 1;
                    bytes += file.bytes;
                }
            }
        }
        let mut state = if head.pending.is_empty() { "settled".to_owned() } else { "the newest span is not settled yet".to_owned() };
        if gaps > 0 {
            state.push_str(&format!(", {}", readable::count(gaps, "accepted gap")));
        }
        if head.incarnation > 0 {
            state.push_str(&format!(", incarnation {}", head.incarnation));
        }
        for begun in head.begun.iter().filter(|begun| begun.offsets_again() > 0) {
            let again = readable::count(begun.offsets_again(), "offset");
            state.push_str(&format!(", read again from {} by decision ({again}, incarnation {})", begun.start, begun.incarnation));
        }
        let numbers =
            [readable::number(head.start), readable::number(head.next), readable::number(spans), readable::number(records), readable::number(files)];
        table.row([vec![of.to_string()], numbers.to_vec(), vec![readable::bytes(bytes), state]].concat());
    }
    for line in table.lines() {
        results.line(&line)?;
    }
    Ok(())
}
