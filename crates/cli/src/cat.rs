//! `kas3 cat`: reads records back by offset, through range reads.

use crate::{
    configuration,
    exit::{Exit, usage},
    inspect,
    output::{Results, tell},
    redact, runtime,
};
use clap::Args;
use kas3_sink::{
    Error, Kind,
    span::{Span, TopicPartition},
    verify::cat::{self, Read},
};
use std::path::PathBuf;

/// Read records back by offset
///
/// Finds the files in the ledger and reads only the blocks that hold the records. Prints the lines as they are in the files;
/// offsets that have no record are told on standard error. Asks the store alone, not Kafka.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 cat orders.yaml --topic orders --partition 0 --from 41
  kas3 cat orders.yaml --topic orders --partition 0 --from 1000 --to 1010 --offsets

Exits 1 when there was nothing to print.")]
pub(crate) struct CatArguments {
    /// Configuration
    file: PathBuf,
    /// Topic
    #[arg(long)]
    topic: String,
    /// Partition
    #[arg(long)]
    partition: i32,
    /// The first offset
    #[arg(long, value_name = "OFFSET")]
    from: i64,
    /// The offset after the last one [default: the one after --from]
    #[arg(long, value_name = "OFFSET")]
    to: Option<i64>,
    /// Print the offset and a tab before each line
    #[arg(long)]
    offsets: bool,
}

/// Runs the command.
pub(crate) fn cat(arguments: CatArguments) -> anyhow::Result<Exit> {
    let span = Span { first: arguments.from, next: arguments.to.unwrap_or_else(|| arguments.from.saturating_add(1)) };
    if span.first < 0 || span.next <= span.first {
        return Err(usage(
            format!("there is no offset from `--from {}` to `--to {}`", span.first, span.next),
            "`--to` is the offset after the last one",
        ));
    }
    let pipeline = configuration::from_file(&arguments.file)?;
    runtime::block_on(async move {
        let of = TopicPartition::new(arguments.topic.as_str(), arguments.partition);
        let (sink, ledger) = inspect::without_kafka(&pipeline).await?;
        let mut results = Results::new();
        let mut print = |offset: Option<i64>, line: &[u8]| -> std::io::Result<()> {
            if arguments.offsets {
                results.bytes(offset.map_or_else(|| "?\t".to_owned(), |offset| format!("{offset}\t")).as_bytes())?;
            }
            results.bytes(line)?;
            results.bytes(b"\n")
        };
        let mut each =
            |offset: Option<i64>, line: &[u8]| print(offset, line).map_err(|source| Error::new(Kind::Fatal, "print the records").source(source));
        let read = cat::read(&pipeline, sink, &ledger, &of, span, &mut each).await?;
        results.flush()?;
        explain(&read);
        Ok(if read.records + read.unsure == 0 { Exit::Found } else { Exit::Done })
    })
}

fn explain(read: &Read) {
    if read.unsure > 0 {
        tell("the file has no block index, and gaps between its offsets: all its lines are shown");
    }
    for (span, why) in &read.nothing {
        let last = span.next - 1;
        let which = if last == span.first { format!("offset {last}") } else { format!("offsets {} to {last}", span.first) };
        tell(&redact::text(&format!("{which}: {why}")));
    }
}
