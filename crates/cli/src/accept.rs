//! `kas3 ledger accept`: records what a person decided about a partition that stopped, or about all that stopped by one kind of stop.

mod all;

use crate::{configuration, exit, exit::Exit, inspect, output::Results, redact, runtime};
use clap::Args;
use kas3_sink::{
    Error, Kind,
    ledger::{Decision, Ledger, NOTHING_TO_ACCEPT},
    pipeline,
    plan::Pipeline,
    source::Log,
    span::TopicPartition,
    stops::StopKind,
};
use std::{path::PathBuf, sync::Arc};

/// Accept what stopped a partition, so that it goes on
///
/// Looks for itself what stopped the partition (records that retention deleted, a topic that was created again, a log cut back,
/// a lost ledger, a foreign object), records the decision in the ledger, and says what it did. A running pipeline goes on by itself.
/// With --all it looks at all partitions, shows what stops each, and accepts one kind of stop; without --stop or --topic it only
/// shows. What needs an offset that only you know is left alone, with the reason.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 ledger accept orders.yaml --topic orders --partition 3
  kas3 ledger accept orders.yaml --topic orders --partition 3 --next 1200            leaves out what is before 1200
  kas3 ledger accept orders.yaml --topic orders --partition 3 --next 100 --again     reads again from 100, under new names
  kas3 ledger accept orders.yaml --all                                               what stops which partition; changes nothing
  kas3 ledger accept orders.yaml --all --stop retention

With --all it exits 1 when a partition stays stopped, or when it only showed stops.")]
pub(crate) struct AcceptArguments {
    /// Configuration; from the environment when there is none
    file: Option<PathBuf>,
    /// Topic
    #[arg(long, required_unless_present = "all")]
    topic: Option<String>,
    /// Partition
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    partition: Option<i32>,
    /// Go on from this offset; needed where the ledger was lost, and to pass over a record that does not fit
    #[arg(long, value_name = "OFFSET", conflicts_with = "all")]
    next: Option<i64>,
    /// Records that were read may be read a second time: needed to go back
    #[arg(long, requires = "next")]
    again: bool,
    /// All partitions that stopped, of one kind of stop or of one topic
    #[arg(long)]
    all: bool,
    /// Only this kind of stop
    #[arg(long, value_name = "KIND", requires = "all", value_parser = kind)]
    stop: Option<StopKind>,
}

/// A kind of stop by its name.
fn kind(name: &str) -> Result<StopKind, String> {
    let known = || StopKind::ALL.map(StopKind::name).join(", ");
    StopKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| format!("there is no such kind; there are {}", known()))
}

/// Runs the command.
pub(crate) fn accept(arguments: AcceptArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::of(arguments.file.as_deref())?;
    runtime::block_on(async move {
        match (arguments.all, &arguments.topic, arguments.partition) {
            (true, topic, _) => all::accept(&pipeline, topic.as_deref(), arguments.stop).await,
            (false, Some(topic), Some(partition)) => {
                let decision = Decision { next: arguments.next, again: arguments.again, only: None };
                one(&pipeline, &TopicPartition::new(topic.as_str(), partition), decision).await
            }
            _ => Err(exit::usage("neither a partition nor all", "give `--topic` and `--partition`, or `--all`")),
        }
    })
}

async fn one(pipeline: &Arc<Pipeline>, of: &TopicPartition, decision: Decision) -> anyhow::Result<Exit> {
    // what a newer kas3 wrote is refused whatever Kafka says, and where it cannot be asked
    let (_, ledger) = inspect::without_kafka(pipeline).await?;
    if let Err(newer) = ledger.head(of).await
        && newer.kind() == Kind::Newer
    {
        return Err(newer.into());
    }
    let inspection = inspect::open(pipeline).await?;
    let log = Arc::clone(&inspection.log) as Arc<dyn Log>;
    let accepted = match inspection.ledger.accept(of, decision).await {
        Err(nothing) if nothing.reason() == Some(NOTHING_TO_ACCEPT) => {
            return Err(match refused_record(pipeline, &inspection.ledger, &log, of).await? {
                Some(bad) => needs_next(&bad).into(),
                None => nothing.into(),
            });
        }
        accepted => accepted?,
    };
    let mut results = Results::new();
    for decision in &accepted.decisions {
        results.line(&redact::text(decision))?;
    }
    results.line(&format!("Partition `{of}` goes on from offset {}, incarnation {}.", accepted.head.next, accepted.head.incarnation))?;
    results.flush()?;
    Ok(Exit::Done)
}

/// The error by which the next record of a partition stops it, if it does.
async fn refused_record(pipeline: &Arc<Pipeline>, ledger: &Arc<Ledger>, log: &Arc<dyn Log>, of: &TopicPartition) -> anyhow::Result<Option<Error>> {
    match ledger.head(of).await? {
        Some(head) => Ok(pipeline::next_refused(pipeline, log, &head).await?),
        None => Ok(None),
    }
}

/// A record that does not fit is passed over by its number alone.
fn needs_next(bad: &Error) -> Error {
    Error::new(Kind::Config, format!("{bad}; whether it is left out is decided by `--next`")).hint(bad.way_out().unwrap_or_default().to_owned())
}
