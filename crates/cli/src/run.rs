//! `kas3 run`: moves records until it is asked to stop, or until the end.

use crate::{allocator, configuration, exit::Exit, http::Port, output, progress::Progress, readable, redact, runtime, signals};
use clap::Args;
use kas3_sink::{
    pipeline::{self, Ended, Left, Options, Unflushed},
    plan::Pipeline,
    span::TopicPartition,
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

It exits 3 when a partition had stopped when it ended, when it was asked to stop and not everything was flushed in time (the last
line names the offsets that are read again), and with --until-end when it was asked to stop before the end offsets seen at start.")]
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
        Ended::Shutdown(left) if left.is_empty() => said(&format!("stopped as asked: {summary}"), Exit::Done),
        Ended::Shutdown(left) => {
            tell_stopped(&left.stopped);
            said(&format!("stopped as asked, {}: {summary}", not_done(&left)), Exit::Failed)
        }
        Ended::Stopped(partitions) => {
            tell_stopped(&partitions);
            let count = readable::count(partitions.len() as u64, "partition");
            said(&format!("{count} stopped, the others are done: {summary}"), Exit::Failed)
        }
    })
}

fn tell_stopped(partitions: &[(TopicPartition, String)]) {
    for (of, reason) in partitions {
        output::say("ERROR", &redact::text(&format!("stopped: partition `{of}`: {reason}")), None);
    }
}

/// What a run that was asked to stop had not done by then.
fn not_done(left: &Left) -> String {
    /// Partitions that are named.
    const NAMED_MAX: usize = 10;
    let mut parts = Vec::new();
    if left.before_end {
        parts.push("before the end that it was to reach".to_owned());
    }
    if !left.stopped.is_empty() {
        parts.push(format!("with {} that had stopped", readable::count(left.stopped.len() as u64, "partition")));
    }
    if !left.unflushed.is_empty() {
        let named = left.unflushed.iter().take(NAMED_MAX).map(|Unflushed { of, next, position }| format!("`{of}` from {next} to {position}"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match left.unflushed.len().saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let count = readable::count(left.unflushed.len() as u64, "partition");
        parts.push(format!("but {count} could not be flushed in time; the next start reads again or publishes the offsets of {named}{more}"));
    }
    parts.join(", ")
}

fn said(text: &str, exit: Exit) -> Exit {
    output::say(if exit == Exit::Done { "INFO" } else { "ERROR" }, text, None);
    exit
}

fn summary(snapshot: &Snapshot, begun: Instant) -> String {
    let published = snapshot.published;
    let some = |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {} {what}", readable::number(count)) };
    let filtered = some(published.filtered, "filtered");
    let refused = some(published.refused, "refused and passed over");
    format!(
        "{} published in {} ({}){filtered}{refused}, {}, largest memory {}",
        readable::count(published.records, "record"),
        readable::count(published.files, "file"),
        readable::bytes(published.bytes),
        readable::duration(begun.elapsed()),
        readable::bytes(snapshot.resident_bytes_max.max(snapshot.resident_bytes)),
    )
}
