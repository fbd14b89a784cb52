//! `kas3 run`: moves records until it is asked to stop, or until the end.

use crate::{allocator, configuration, exit::Exit, http::Port, output, progress::Progress, readable, redact, runtime, signals};
use clap::Args;
use kas3_sink::{
    pipeline::{self, Ended, Options},
    plan::Pipeline,
    status::{Snapshot, Status},
};
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Move records from Kafka into object storage, exactly once
///
/// Runs until SIGTERM or SIGINT, then flushes within `shutdown_deadline` (a second signal ends it at once; nothing is lost).
/// Without FILE the configuration comes from environment variables such as KAFKA_BOOTSTRAP_SERVERS, KAFKA_TOPICS and
/// S3_BUCKET_NAME.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 run orders.yaml
  kas3 run orders.yaml --until-end       as a cron job: ends when everything of now is published
  KAFKA_BOOTSTRAP_SERVERS=broker:9092 KAFKA_TOPICS=orders S3_BUCKET_NAME=lake kas3 run

With --until-end it exits 0 when everything up to the end offsets seen at start is published, and 3 when a partition stopped.")]
pub(crate) struct RunArguments {
    /// Configuration; from the environment when there is none
    file: Option<PathBuf>,
    /// Stop when everything up to the end offsets seen at start is published
    #[arg(long)]
    until_end: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: RunArguments) -> anyhow::Result<Exit> {
    let pipeline = match &arguments.file {
        Some(file) => configuration::from_file(file)?,
        None => configuration::from_environment()?,
    };
    runtime::block_on(moved(pipeline, Options { until_end: arguments.until_end, trim: Some(allocator::give_back) }))
}

async fn moved(pipeline: Arc<Pipeline>, options: Options) -> anyhow::Result<Exit> {
    let status = Status::new(&pipeline.name, pipeline.memory_bytes);
    let stop = CancellationToken::new();
    signals::watch(stop.clone())?;
    let port = match pipeline.http {
        Some(address) => Some(Port::open(address, Arc::clone(&status)).await?),
        None => None,
    };
    let http = port.as_ref().map_or_else(|| "off".to_owned(), |port| format!("http://{}", port.address()));
    tracing::info!(pipeline = pipeline.name, sink = %redact::text(&pipeline.url), http, until_end = options.until_end, "starting");
    for (key, doubt) in pipeline.doubts() {
        tracing::warn!(hint = doubt.fix, "`{key}`: {}", doubt.what);
    }
    configuration::warnings(&pipeline).iter().for_each(|warning| tracing::warn!("{warning}"));
    let begun = Instant::now();
    let progress = Progress::show(&status);
    let ended = pipeline::run(pipeline, options, Arc::clone(&status), stop).await;
    drop(progress);
    let ended = ended?;
    let summary = summary(&status.snapshot(), begun);
    Ok(match ended {
        Ended::Done => said(&format!("done: {summary}"), Exit::Done),
        Ended::Shutdown => said(&format!("stopped as asked: {summary}"), Exit::Done),
        Ended::Stopped(partitions) => {
            for (of, reason) in &partitions {
                output::tell(&redact::text(&format!("stopped: partition `{of}`: {reason}")));
            }
            let count = readable::count(partitions.len() as u64, "partition");
            said(&format!("{count} stopped, the others are done: {summary}"), Exit::Failed)
        }
    })
}

fn said(text: &str, exit: Exit) -> Exit {
    output::tell(text);
    exit
}

fn summary(snapshot: &Snapshot, begun: Instant) -> String {
    let sum = |value: fn(&kas3_sink::status::PartitionSnapshot) -> u64| snapshot.partitions.iter().map(value).sum::<u64>();
    let some = |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {} {what}", readable::number(count)) };
    let filtered = some(sum(|partition| partition.records_filtered), "filtered");
    let refused = some(sum(|partition| partition.records_refused), "refused and passed over");
    format!(
        "{} published in {} ({}){filtered}{refused}, {}, largest memory {}",
        readable::count(sum(|partition| partition.records_written), "record"),
        readable::count(sum(|partition| partition.files_written), "file"),
        readable::bytes(sum(|partition| partition.bytes_written)),
        readable::duration(begun.elapsed()),
        readable::bytes(snapshot.resident_bytes_max.max(snapshot.resident_bytes)),
    )
}
