//! `kas3 consume`: records with their payloads, to standard output or into a folder.
//!
//! At least once: an offset is committed only after its payload has been written and has left this process.

use super::{
    Session,
    counters::Counters,
    deliver::{Delivery, Unwritten, Wrote},
    load::load,
    log::{Isolation, TopicLog},
    settings::Claims,
    until_end::{Assigned, EndOffsets},
};
use crate::{
    exit::Exit,
    output,
    progress::{Progress, Rate},
    readable, runtime,
};
use clap::Args;
use kas3_claimcheck::{
    Error, Kind, Reason, Reference, format_named,
    kafka::{Consumer, Failed, Policy, Position, Received},
    trace,
};
use opentelemetry::trace::SpanKind;
use std::{
    collections::HashMap,
    io::{self, IsTerminal},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A wait for a record is cut into pieces of this, so that signals are heard.
const LOOK: Duration = Duration::from_millis(250);
/// The answer to a commit is waited for no longer: signals are heard in between.
const COMMIT_WAIT: Duration = Duration::from_secs(3);
/// What was written is committed at least so often.
const COMMIT_AGE: Duration = Duration::from_secs(1);
const COMMIT_RECORDS: u64 = 500;
/// Failures of Kafka and the store are borne for so long; then somebody has to know.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(60);
const SEEK: Duration = Duration::from_secs(10);

/// Write records' payloads to standard output or into a folder; those that went through the store are fetched and verified
///
/// Joins the consumer group and commits offsets after payloads are written (at least once). Without FILE the settings come from
/// the environment, under the names of kaf-s3-connector. Runs until SIGINT or SIGTERM.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  kas3 consume claims.yaml                                 payloads as lines
  kas3 consume claims.yaml --output in --json              a file for each record, and a JSON line about it
  kas3 consume claims.yaml --until-end --group job-7       what is there now, then stop
  TOPIC=orders S3_BUCKET=payloads KAFKA_GROUP_ID=readers kas3 consume

Exits 0 when it ends as asked, and 3 when a record cannot be had and no policy passes it over.")]
pub(crate) struct ConsumeArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Topic instead of those of the settings; may be given again
    #[arg(long)]
    topic: Vec<String>,
    /// Consumer group instead of that of the settings
    #[arg(long)]
    group: Option<String>,
    /// Write each payload into a file of this folder, named `topic-partition-offset`
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print a JSON line for each record: where it stands, key, headers, and its payload or the file that holds it
    #[arg(long)]
    json: bool,
    /// Stop when everything up to the end offsets seen at start is written
    #[arg(long)]
    until_end: bool,
    /// Stop after so many records
    #[arg(long, value_name = "COUNT")]
    max_records: Option<u64>,
}

impl ConsumeArguments {
    /// Whether no file is named.
    pub(crate) fn takes_the_environment(&self) -> bool {
        self.settings.is_none()
    }
}

/// Runs the command.
pub(crate) fn consume(arguments: ConsumeArguments) -> anyhow::Result<Exit> {
    let claims = load(arguments.settings.as_deref())?;
    let topics = claims.topics(&arguments.topic)?;
    runtime::block_on(async move {
        let session = Session::open(&claims).await?;
        let delivery = Delivery::open(arguments.output.as_deref(), arguments.json)?;
        let progress = progress(&session.counters, &arguments);
        let (counters, stop) = (Arc::clone(&session.counters), session.stop.clone());
        // polling waits: that is no work for async threads
        let reading = tokio::task::spawn_blocking(move || {
            let mut reading = Reading::open(&claims, &arguments, topics, delivery, counters, stop)?;
            let outcome = reading.run();
            reading.close(outcome)
        });
        let exit = reading.await?;
        drop(progress);
        exit
    })
}

/// Not between lines on a terminal.
fn progress(counters: &Arc<Counters>, arguments: &ConsumeArguments) -> Option<Progress> {
    if io::stdout().is_terminal() && (arguments.output.is_none() || arguments.json) {
        return None;
    }
    let (counters, mut rate) = (Arc::clone(counters), Rate::new());
    Progress::of(move || {
        let speed = rate.update(counters.sum("consume_inline") + counters.sum("consume_success"), Instant::now()).round() as i64;
        format!("{}, {}/s", summary(&counters), readable::number(speed))
    })
}

fn summary(counters: &Counters) -> String {
    let (inline, offloaded) = (counters.sum("consume_inline"), counters.sum("consume_success"));
    let bytes = counters.sum("consume_inline_bytes") + counters.sum("consume_success_bytes");
    let passed = match counters.sum("consume_skipped") + counters.sum("consume_integrity_error") {
        0 => String::new(),
        passed => format!(", {} not", readable::number(passed)),
    };
    format!(
        "{} written ({}), {} through the store{passed}",
        readable::count(inline + offloaded, "record"),
        readable::bytes(bytes),
        readable::number(offloaded)
    )
}

/// How far the written records are, by partition.
type Next = HashMap<(String, i32), i64>;

struct Reading {
    consumer: Consumer,
    delivery: Delivery,
    counters: Arc<Counters>,
    stop: CancellationToken,
    ends: Option<EndOffsets>,
    assigned: Assigned,
    policies: [Policy; 3],
    format: String,
    wait: Duration,
    records_left: u64,
    /// Written and not committed.
    written: Next,
    uncommitted: u64,
    committed_at: Instant,
    /// Since when, and when for the last time, something failed that may pass.
    failing: Option<(Instant, Instant)>,
    begun: Instant,
}

impl Reading {
    fn open(
        claims: &Claims,
        arguments: &ConsumeArguments,
        topics: Vec<String>,
        delivery: Delivery,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> anyhow::Result<Reading> {
        let mut settings = claims.consumer(arguments.group.clone())?;
        if !delivery.takes_streams() {
            settings.stream_above_bytes = None;
        }
        let kafka = settings.kafka.clone();
        let servers = claims.named("kafka.bootstrap.servers", "KAFKA_BOOTSTRAP_SERVERS");
        let ends = match arguments.until_end {
            true => Some(EndOffsets::ask(&kafka, &topics, servers)?),
            false => {
                // a wrong address or name shows now
                TopicLog::connect(&kafka, Isolation::Committed, servers)?.topics(&topics)?;
                None
            }
        };
        let consumer = Consumer::open(settings)?;
        let assigned = Assigned::default();
        let hears = assigned.clone();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names, Some(Box::new(move |rebalance| hears.hear(rebalance))))?;
        Ok(Reading {
            consumer,
            delivery,
            counters,
            stop,
            ends,
            assigned,
            policies: [claims.settings.on_missing, claims.settings.on_forbidden, claims.settings.on_corrupt],
            format: claims.settings.claim_check.format.clone(),
            wait: claims.poll_timeout.min(LOOK),
            records_left: arguments.max_records.unwrap_or(u64::MAX),
            written: Next::new(),
            uncommitted: 0,
            committed_at: Instant::now(),
            failing: None,
            begun: Instant::now(),
        })
    }

    fn run(&mut self) -> anyhow::Result<()> {
        while !self.stop.is_cancelled() && self.records_left > 0 {
            self.counters.beat();
            if self.consumer.auto_commits() {
                // the next poll is what counts as done
                self.delivery.flush()?;
            }
            match self.consumer.poll(self.wait) {
                Ok(Some(record)) => {
                    self.failing = None;
                    self.write(record)?;
                }
                Ok(None) => {
                    self.commit()?;
                    if self.is_at_the_end()? {
                        return Ok(());
                    }
                }
                Err(failed) => self.failed(*failed)?,
            }
            if self.uncommitted >= COMMIT_RECORDS || self.committed_at.elapsed() > COMMIT_AGE {
                self.commit()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, record: Received) -> anyhow::Result<()> {
        let (position, reference) = (record.position.clone(), record.reference.clone());
        let (key, headers) = (record.key.clone(), record.headers.clone());
        let _span = trace::span("kas3.receive", SpanKind::Consumer, &position.topic, &trace::extract(&headers));
        let topic = [("topic", position.topic.as_str())];
        match self.delivery.write(record) {
            Ok(Wrote::Bytes(bytes)) if reference.is_some() => self.counters.count_bytes("consume_success", &topic, bytes),
            Ok(Wrote::Bytes(bytes)) => self.counters.count_bytes("consume_inline", &topic, bytes),
            Ok(Wrote::Tombstone) => self.counters.count("consume_skipped", &[("reason", "tombstone"), topic[0]]),
            Err(Unwritten::Output(error)) => return Err(error),
            Err(Unwritten::Payload(error)) => {
                // it counts as handed out: from here on it is as if it had failed before
                self.consumer.seek(&position, SEEK)?;
                let (value, mut headers) = (reference.as_ref(), headers);
                let value = value.and_then(|reference| format_named(&self.format).ok()?.write(reference, &mut headers).ok());
                return self.failed(Failed { error, position: Some(position), key, value, headers, reference }).map(drop);
            }
        }
        self.records_left -= 1;
        self.passed(&position);
        Ok(())
    }

    fn passed(&mut self, position: &Position) {
        self.written.insert((position.topic.clone(), position.partition), position.offset + 1);
        self.uncommitted += 1;
    }

    /// Carries out the policies, or ends the command.
    fn failed(&mut self, failed: Failed) -> anyhow::Result<()> {
        let patient = self.is_patient();
        let Some(position) = failed.position.clone() else {
            if failed.error.kind() == Kind::Transient && patient {
                self.counters.count("consume_unhandled_error", &[]);
                tracing::warn!(error = failed.error.chain(), "Kafka does not answer as it should; trying again");
                return Ok(());
            }
            return Err(failed.error.into());
        };
        let Position { topic, partition, offset } = &position;
        let (policy, reason) = self.policy(&failed.error);
        let Some(reason) = reason else {
            if failed.error.kind() == Kind::Transient && patient {
                self.counters.count("consume_unhandled_error", &[]);
                tracing::warn!(topic, partition, offset, error = failed.error.chain(), "a payload cannot be read now; trying again");
                return Ok(());
            }
            return Err(of_record(failed));
        };
        match reason {
            Reason::ObjectMissing | Reason::ObjectForbidden => {
                self.counters.count("consume_skipped", &[("reason", reason.code()), ("topic", topic)]);
            }
            _ => self.counters.count("consume_integrity_error", &[("reason", reason.code())]),
        }
        match policy {
            Policy::Fail => return Err(of_record(failed)),
            Policy::DeadLetter => self.consumer.dead_letter(&failed)?,
            Policy::Skip => {}
        }
        let where_to = if policy == Policy::Skip { "passed over" } else { "sent to the dead letters" };
        tracing::warn!(topic, partition, offset, reason = reason.code(), error = failed.error.chain(), "a record was {where_to}");
        self.pass_over(&position)?;
        self.failing = None;
        Ok(())
    }

    /// Whether failures have not gone on for too long. After a minute without one they begin anew.
    fn is_patient(&mut self) -> bool {
        let now = Instant::now();
        let since = match self.failing {
            Some((since, last)) if now - last < PAUSE => since,
            _ => now,
        };
        self.failing = Some((since, now));
        now - since < PATIENCE
    }

    /// The record is behind us without having been written.
    fn pass_over(&mut self, position: &Position) -> anyhow::Result<()> {
        // a stream had been handed out and is no longer in front; a partition that went is somebody else's
        if !self.consumer.skip_record(position) && self.assigned.has(position) {
            self.consumer.seek(&Position { offset: position.offset + 1, ..position.clone() }, SEEK)?;
        }
        self.passed(position);
        Ok(())
    }

    fn policy(&self, error: &Error) -> (Policy, Option<Reason>) {
        let [missing, forbidden, corrupt] = self.policies;
        match error.reason() {
            Some(Reason::ObjectMissing) => (missing, error.reason()),
            Some(Reason::ObjectForbidden) => (forbidden, error.reason()),
            reason => (corrupt, reason),
        }
    }

    fn is_at_the_end(&mut self) -> anyhow::Result<bool> {
        let Some(ends) = &mut self.ends else { return Ok(false) };
        ends.reached(&self.consumer, &self.assigned, &self.written)
    }

    /// Commits what was written, once it has left this process.
    fn commit(&mut self) -> anyhow::Result<()> {
        self.delivery.flush()?;
        self.committed_at = Instant::now();
        if self.uncommitted == 0 || self.consumer.auto_commits() {
            return Ok(());
        }
        let ours = self.assigned.of(&self.written);
        match self.consumer.commit_offsets_within(&ours, COMMIT_WAIT) {
            // the group is moving: what was not committed is read again by whoever gets it
            Err(error) if error.kind() == Kind::Transient => tracing::warn!(error = error.chain(), "offsets are committed later"),
            other => {
                other?;
                self.uncommitted = 0;
            }
        }
        Ok(())
    }

    fn close(mut self, outcome: anyhow::Result<()>) -> anyhow::Result<Exit> {
        if let Err(error) = &outcome
            && output::is_broken_pipe(error)
        {
            // nobody read it: it is not consumed
            return outcome.map(|()| Exit::Done);
        }
        self.commit()?;
        self.consumer.close();
        outcome?;
        let how = if self.stop.is_cancelled() { "stopped as asked" } else { "done" };
        let text = format!("{how}: {}, {}", summary(&self.counters), readable::duration(self.begun.elapsed()));
        crate::progress::above(|| output::tell(&text));
        Ok(Exit::Done)
    }
}

/// The error of a record, which stands before everything else that is said.
fn of_record(failed: Failed) -> anyhow::Error {
    let Failed { error, position, reference, .. } = failed;
    let Some(Position { topic, partition, offset }) = position else { return error.into() };
    let reason = error.reason().map_or(String::new(), |reason| format!(" ({reason})"));
    let hint = match error.way_out() {
        Some(hint) => hint.to_owned(),
        None => "`on_corrupt`, `on_missing` and `on_forbidden` pass such records over, or send them to `dead_letter_topic`".to_owned(),
    };
    let place = reference.as_ref().map_or(String::new(), shown);
    let error =
        Error::new(error.kind(), format!("record {offset} of `{topic}` [{partition}] cannot be had{reason}{place}: {}", error.chain())).hint(hint);
    error.into()
}

fn shown(reference: &Reference) -> String {
    format!(", its payload is {}", reference.url().escape_debug())
}
