//! `kas3 ledger accept`: records what a person decided about a partition that stopped.

use crate::{configuration, exit::Exit, inspect, output::Results, runtime};
use clap::Args;
use kas3_sink::{Kind, span::TopicPartition};
use std::path::PathBuf;

/// Accept what stopped a partition, so that it goes on
///
/// Looks for itself what stopped the partition (records that retention deleted, a topic that was created again, a log cut back,
/// a lost ledger, a foreign object), records the decision in the ledger, and says what it did. A running pipeline goes on by itself.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  kas3 ledger accept orders.yaml --topic orders --partition 3")]
pub(crate) struct AcceptArguments {
    /// Configuration
    file: PathBuf,
    /// Topic
    #[arg(long)]
    topic: String,
    /// Partition
    #[arg(long)]
    partition: i32,
    /// Go on from this offset; needed where the ledger was lost
    #[arg(long, value_name = "OFFSET")]
    next: Option<i64>,
}

/// Runs the command.
pub(crate) fn accept(arguments: AcceptArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::from_file(&arguments.file)?;
    runtime::block_on(async move {
        let of = TopicPartition::new(arguments.topic.as_str(), arguments.partition);
        // what a newer kas3 wrote is refused whatever Kafka says, and where it cannot be asked
        let (_, ledger) = inspect::without_kafka(&pipeline).await?;
        if let Err(newer) = ledger.head(&of).await
            && newer.kind() == Kind::Newer
        {
            return Err(newer.into());
        }
        let inspection = inspect::open(&pipeline).await?;
        let accepted = inspection.ledger.accept(&of, arguments.next).await?;
        let mut results = Results::new();
        for decision in &accepted.decisions {
            results.line(decision)?;
        }
        results.line(&format!("Partition `{of}` goes on from offset {}, incarnation {}.", accepted.head.next, accepted.head.incarnation))?;
        results.flush()?;
        Ok(Exit::Done)
    })
}
