//! `kas3 produce`: lines, files and folders become records; large payloads go through the store.

use super::{
    Session,
    counters::Counters,
    input::{Input, Item, Next},
    load::load,
    log::{Isolation, TopicLog},
    settings::Claims,
};
use crate::{
    exit::{Exit, usage},
    output,
    progress::{Progress, Rate},
    readable, redact, runtime,
};
use bytes::Bytes;
use clap::Args;
use kas3_claimcheck::{
    Headers, Kind,
    kafka::{Delivered, Outgoing, Producer, Report, Undelivered},
};
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Failures that are told one by one; the others are counted.
const TOLD_MAX: u64 = 20;
/// How often a flush looks how far it is.
const FLUSH: Duration = Duration::from_millis(200);

/// Send lines, files or a folder as records; large payloads travel through the store
///
/// Without `--file` and `--directory` each line of standard input becomes a record; blank lines are passed over. Without FILE
/// the settings come from the environment, under the names of kaf-s3-connector. SIGINT or SIGTERM ends the input; what was
/// accepted is still delivered (a second signal ends it at once).
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  seq 1000 | kas3 produce claims.yaml
  kas3 produce claims.yaml --file video.mp4 --content-type video/mp4
  kas3 produce claims.yaml --directory scans --header source=scanner-7     keys are the names below the folder
  TOPIC=orders S3_BUCKET=payloads KAFKA_BOOTSTRAP_SERVERS=broker:9092 kas3 produce < lines

Exits 0 when all records are delivered, and 3 when some are not.")]
pub(crate) struct ProduceArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Topic instead of that of the settings
    #[arg(long)]
    topic: Option<String>,
    /// Files to send, one record each, read while they are sent; `-` is standard input as one payload
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "directory")]
    file: Vec<PathBuf>,
    /// Folder whose files are sent, one record each, those below its folders too
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Key of the records [default: none for lines, the path for files]
    #[arg(long)]
    key: Option<String>,
    /// Header of the records; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Media type of the payloads' objects, as `image/png`
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Partition [default: the partitioner's choice]
    #[arg(long)]
    partition: Option<i32>,
}

impl ProduceArguments {
    /// Whether no file is named.
    pub(crate) fn takes_the_environment(&self) -> bool {
        self.settings.is_none()
    }
}

/// Runs the command.
pub(crate) fn produce(arguments: ProduceArguments) -> anyhow::Result<Exit> {
    let claims = load(arguments.settings.as_deref())?;
    let template = template(&claims, &arguments)?;
    runtime::block_on(async move {
        let session = Session::open(&claims).await?;
        let counts = Arc::new(Counts::default());
        let progress = progress(&arguments, &counts);
        let (counters, stop) = (Arc::clone(&session.counters), session.stop.clone());
        // the producer waits for room: that is no work for async threads
        let sending = tokio::task::spawn_blocking(move || Sending { counters, stop, counts, template }.run(&claims, &arguments));
        let exit = sending.await?;
        drop(progress);
        exit
    })
}

/// What all records have in common.
struct Template {
    topic: String,
    partition: Option<i32>,
    key: Option<Bytes>,
    headers: Headers,
    content_type: Option<String>,
}

fn template(claims: &Claims, arguments: &ProduceArguments) -> anyhow::Result<Template> {
    let header = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Some(Bytes::copy_from_slice(value.as_bytes())))),
        _ => Err(usage(format!("`--header {text}` has no name"), "write `--header name=value`")),
    };
    if arguments.partition.is_some_and(|partition| partition < 0) {
        return Err(usage("`--partition` is below 0", "partitions are numbered from 0"));
    }
    Ok(Template {
        topic: claims.topic(arguments.topic.clone())?,
        partition: arguments.partition,
        key: arguments.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes())),
        headers: arguments.header.iter().map(header).collect::<anyhow::Result<_>>()?,
        content_type: arguments.content_type.clone(),
    })
}

/// Not above a terminal at which somebody types.
fn progress(arguments: &ProduceArguments, counts: &Arc<Counts>) -> Option<Progress> {
    if arguments.file.is_empty() && arguments.directory.is_none() && io::stdin().is_terminal() {
        return None;
    }
    let (counts, mut rate) = (Arc::clone(counts), Rate::new());
    Progress::of(move || {
        let delivered = counts.delivered.load(Ordering::Relaxed);
        let speed = rate.update(delivered, Instant::now()).round() as i64;
        let waiting = counts.accepted.load(Ordering::Relaxed).saturating_sub(delivered + counts.failed.load(Ordering::Relaxed));
        format!("{}, {}/s, {} on the way", counts.summary(), readable::number(speed), readable::number(waiting))
    })
}

/// Shared with the producer's threads, which report deliveries.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    delivered: AtomicU64,
    delivered_bytes: AtomicU64,
    offloaded: AtomicU64,
    failed: AtomicU64,
    /// Of those, records that may turn up all the same.
    uncertain: AtomicU64,
}

impl Counts {
    fn summary(&self) -> String {
        format!(
            "{} delivered ({}), {} through the store",
            readable::count(self.delivered.load(Ordering::Relaxed), "record"),
            readable::bytes(self.delivered_bytes.load(Ordering::Relaxed)),
            readable::number(self.offloaded.load(Ordering::Relaxed)),
        )
    }

    /// A record was not delivered.
    fn fail(&self, item: &Item, error: &kas3_claimcheck::Error, certain: bool) {
        let before = self.failed.fetch_add(1, Ordering::Relaxed);
        let doubt = if certain { "" } else { " (it may turn up all the same: its payload stays)" };
        if before < TOLD_MAX {
            let hint = error.way_out().map_or(String::new(), |hint| format!("\nhint: {hint}"));
            crate::progress::above(|| output::tell(&redact::text(&format!("error: {item} was not delivered{doubt}: {}{hint}", error.chain()))));
        }
        if !certain {
            self.uncertain.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Sending {
    counters: Arc<Counters>,
    stop: CancellationToken,
    counts: Arc<Counts>,
    template: Template,
}

impl Sending {
    fn run(&self, claims: &Claims, arguments: &ProduceArguments) -> anyhow::Result<Exit> {
        let begun = Instant::now();
        let mut input = match &arguments.directory {
            Some(folder) => Input::folder(folder)?,
            None if arguments.file.is_empty() => Input::lines(claims.settings.claim_check.max_payload_bytes)?,
            None => Input::files(&arguments.file)?,
        };
        let settings = claims.producer();
        let servers = claims.named("kafka.bootstrap.servers", "KAFKA_BOOTSTRAP_SERVERS");
        // a wrong address shows now, and not after the time of a delivery
        TopicLog::connect(&settings.kafka, Isolation::Everything, servers)?;
        let producer = Producer::open(settings)?;
        let sent = self.send_all(&producer, &mut input);
        // what was accepted is delivered, whatever ended the input
        while producer.flush(FLUSH) > 0 {}
        producer.close(Duration::ZERO);
        sent?;
        Ok(self.ended(begun))
    }

    fn send_all(&self, producer: &Producer, input: &mut Input) -> anyhow::Result<()> {
        loop {
            match input.next(&self.stop)? {
                Next::Item(item) => {
                    if let Item::Line { bytes, .. } = &item {
                        self.counters.count_bytes("stdin_lines", &[], bytes.len() as u64);
                    }
                    self.send(producer, item)?;
                }
                Next::Blank => self.counters.count("stdin_blank_lines", &[]),
                Next::Nothing => {}
                Next::End => return Ok(()),
            }
        }
    }

    /// Sends one record; waits as long as there is no room.
    fn send(&self, producer: &Producer, item: Item) -> anyhow::Result<()> {
        let item = Arc::new(item);
        loop {
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let Err(error) = producer.send(self.outgoing(&item)?, Some(self.report(&item))) else { return Ok(()) };
            self.counts.accepted.fetch_sub(1, Ordering::Relaxed);
            match error.kind() {
                // all that is on its way ends some time, well or not, and makes room
                Kind::Transient if !self.stop.is_cancelled() && *item != Item::Stdin => {
                    self.counters.count("produce_queue_full", &[("topic", &self.template.topic)]);
                    tracing::info!(item = %item, error = error.chain(), "waiting for room");
                }
                Kind::Record | Kind::Transient => {
                    self.counters.count_bytes("produce_error", &[], item.bytes());
                    self.counts.fail(&item, &error, true);
                    return Ok(());
                }
                _ => return Err(error.into()),
            }
        }
    }

    fn outgoing(&self, item: &Item) -> anyhow::Result<Outgoing> {
        let key = match item {
            Item::File { key, .. } => Some(Bytes::copy_from_slice(key.as_bytes())),
            _ => None,
        };
        Ok(Outgoing {
            partition: self.template.partition,
            key: self.template.key.clone().or(key),
            headers: self.template.headers.clone(),
            content_type: self.template.content_type.clone(),
            ..Outgoing::new(self.template.topic.clone(), item.payload()?)
        })
    }

    fn report(&self, item: &Arc<Item>) -> Report {
        let (counters, counts, item) = (Arc::clone(&self.counters), Arc::clone(&self.counts), Arc::clone(item));
        Box::new(move |outcome| match outcome {
            Ok(delivered) => note_delivered(&counters, &counts, &item, &delivered),
            Err(Undelivered { error, certain, .. }) => {
                counters.count_bytes("produce_error", &[], item.bytes());
                counts.fail(&item, &error, certain);
            }
        })
    }

    fn ended(&self, begun: Instant) -> Exit {
        let counts = &self.counts;
        let summary = format!("{}, {}", counts.summary(), readable::duration(begun.elapsed()));
        let failed = counts.failed.load(Ordering::Relaxed);
        if failed == 0 {
            let how = if self.stop.is_cancelled() { "stopped as asked" } else { "done" };
            crate::progress::above(|| output::tell(&format!("{how}: {summary}")));
            return Exit::Done;
        }
        let uncertain = match counts.uncertain.load(Ordering::Relaxed) {
            0 => String::new(),
            uncertain => format!(", of which {} may turn up all the same", readable::number(uncertain)),
        };
        crate::progress::above(|| output::tell(&format!("failed: {} not delivered{uncertain}; {summary}", readable::count(failed, "record"))));
        Exit::Failed
    }
}

fn note_delivered(counters: &Counters, counts: &Counts, item: &Item, delivered: &Delivered) {
    let bytes = delivered.reference.as_ref().and_then(|reference| reference.size).unwrap_or_else(|| item.bytes());
    let event = if delivered.reference.is_some() { "produce_offloaded" } else { "produce_inline" };
    counters.count_bytes(event, &[("topic", &delivered.topic)], bytes);
    counters.count_bytes("produce_delivered", &[("partition", &delivered.partition.to_string()), ("topic", &delivered.topic)], bytes);
    counts.delivered.fetch_add(1, Ordering::Relaxed);
    counts.delivered_bytes.fetch_add(bytes, Ordering::Relaxed);
    if delivered.reference.is_some() {
        counts.offloaded.fetch_add(1, Ordering::Relaxed);
    }
}
