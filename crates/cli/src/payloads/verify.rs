//! `kas3 payloads verify`: follows every reference of the topics to its object.

use super::{AT_ONCE, show::is_as_large};
use crate::{
    claims::log::{Isolation, Positions, TopicLog, headers_of, read_all, value_of},
    exit::Exit,
    output::{Results, tell},
    readable, redact, runtime,
};
use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, stream};
use kas3_claimcheck::{Claim, ClaimCheck, Error, Kind, Reason, Reference};
use kas3_sink::record::Record;
use serde_json::json;
use std::{ops::ControlFlow, path::PathBuf};
use tokio::sync::mpsc;

/// Payloads downloaded beside one another by --deep; each is read as a stream.
const DOWNLOADS: usize = 8;
/// References read ahead of their checks.
const AHEAD: usize = 1024;

/// Check that the payload of every record is there
///
/// Reads all topics of the settings, committed records only, and looks at the object that each reference names: whether it is
/// there, and as large and the same object as the reference says. With --deep every payload is downloaded and its SHA-256
/// compared.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 payloads verify claims.yaml
  kas3 payloads verify claims.yaml --deep --json

Exits 0 when every payload is there, 1 when one is missing, damaged or not to be trusted, 3 when some could not be looked at.")]
pub(crate) struct VerifyArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Topic instead of those of the settings; may be given again
    #[arg(long)]
    topic: Vec<String>,
    /// Download every payload and compare its SHA-256
    #[arg(long)]
    deep: bool,
    /// A JSON line for each problem, and one with the counts
    #[arg(long)]
    json: bool,
}

/// Where a record stands.
#[derive(Clone, Debug)]
struct At {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A record that is no plain payload.
enum Found {
    Reference(At, Box<Reference>),
    Refused(At, Error),
}

#[derive(Default)]
struct Counts {
    records: u64,
    inline: u64,
    tombstones: u64,
    references: u64,
    sound: u64,
    problems: u64,
    unchecked: u64,
    bytes: u64,
}

/// Runs the command.
pub(crate) fn verify(arguments: VerifyArguments) -> anyhow::Result<Exit> {
    runtime::block_on(async move {
        let (claims, codec) = super::open(arguments.settings.as_ref()).await?;
        let topics = claims.topics(&arguments.topic)?;
        let log = super::connect(&claims, Isolation::Committed).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let reading = {
            let codec = codec.clone();
            tokio::task::spawn_blocking(move || read(&log, &topics, &codec, &sender))
        };
        let (mut counts, mut results) = (Counts::default(), Results::new());
        let found = stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|found| (found, receiver)) });
        let at_once = if arguments.deep { DOWNLOADS } else { AT_ONCE };
        let mut checked = std::pin::pin!(found.map(|found| check(&codec, found, arguments.deep)).buffered(at_once));
        while let Some((at, reference, outcome)) = checked.next().await {
            note(&mut counts, &mut results, &at, reference.as_deref(), outcome, arguments.json)?;
        }
        let read = reading.await??;
        (counts.records, counts.inline, counts.tombstones) = (read.records, read.inline, read.tombstones);
        report(&counts, &mut results, &arguments)
    })
}

fn read(log: &TopicLog, topics: &[String], codec: &ClaimCheck, sender: &mpsc::Sender<Found>) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    read_all(log, topics, &mut Positions::new(), &mut |record| {
        counts.records += 1;
        for found in found(codec, record, &mut counts).into_iter().chain(found_in_key(codec, record)) {
            if sender.blocking_send(found).is_err() {
                // nobody listens after an error
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counts)
}

fn found(codec: &ClaimCheck, record: &Record<'_>, counts: &mut Counts) -> Option<Found> {
    let at = || At { topic: record.topic.to_owned(), partition: record.partition, offset: record.offset };
    let value = value_of(record);
    match codec.claim(value.as_ref(), &headers_of(record)) {
        Ok(Claim::Reference(reference)) => Some(Found::Reference(at(), Box::new(reference))),
        Ok(Claim::Inline(_)) => {
            counts.inline += 1;
            None
        }
        Ok(Claim::Tombstone) => {
            counts.tombstones += 1;
            None
        }
        Err(error) => Some(Found::Refused(at(), error)),
    }
}

/// Some formats offload keys as well.
fn found_in_key(codec: &ClaimCheck, record: &Record<'_>) -> Option<Found> {
    let at = || At { topic: record.topic.to_owned(), partition: record.partition, offset: record.offset };
    match codec.key_reference(record.key.map(Bytes::copy_from_slice).as_ref(), &headers_of(record)) {
        Ok(reference) => reference.map(|reference| Found::Reference(at(), Box::new(reference))),
        Err(error) => Some(Found::Refused(at(), error)),
    }
}

async fn check(codec: &ClaimCheck, found: Found, deep: bool) -> (At, Option<Box<Reference>>, Result<u64, Error>) {
    match found {
        Found::Refused(at, error) => (at, None, Err(error)),
        Found::Reference(at, reference) => {
            let outcome = if deep { download(codec, &reference).await } else { look(codec, &reference).await };
            (at, Some(reference), outcome)
        }
    }
}

async fn look(codec: &ClaimCheck, reference: &Reference) -> Result<u64, Error> {
    let url = || reference.url().escape_debug().to_string();
    let info = codec.look(reference).await?.ok_or_else(|| Error::refused(Reason::ObjectMissing, format!("the payload `{}` is gone", url())))?;
    if !is_as_large(reference, &info) {
        let size = reference.size.unwrap_or_default();
        return Err(Error::refused(Reason::SizeMismatch, format!("the object `{}` has {} bytes, its reference says {size}", url(), info.bytes)));
    }
    let found = info.version.0.trim_matches('"');
    if let Some(expected) = reference.etag.as_deref().filter(|expected| expected.trim_matches('"') != found) {
        let text = format!("the object `{}` has the ETag `{found}`, its reference says `{}`", url(), expected.escape_debug());
        return Err(Error::refused(Reason::EtagMismatch, text));
    }
    Ok(info.bytes)
}

async fn download(codec: &ClaimCheck, reference: &Reference) -> Result<u64, Error> {
    let mut stream = codec.stream(reference).await?;
    let mut bytes = 0;
    while let Some(piece) = stream.next().await? {
        bytes += piece.len() as u64;
    }
    Ok(bytes)
}

fn note(
    counts: &mut Counts,
    results: &mut Results,
    at: &At,
    reference: Option<&Reference>,
    outcome: Result<u64, Error>,
    as_json: bool,
) -> anyhow::Result<()> {
    counts.references += 1;
    let error = match outcome {
        Ok(bytes) => {
            counts.sound += 1;
            counts.bytes += bytes;
            return Ok(());
        }
        Err(error) => error,
    };
    let is_problem = matches!(error.kind(), Kind::Integrity | Kind::Missing | Kind::Denied);
    *(if is_problem { &mut counts.problems } else { &mut counts.unchecked }) += 1;
    let reason = error.reason().map_or("not_checked", Reason::code);
    let At { topic, partition, offset } = at;
    if as_json {
        let payload = reference.map(Reference::url);
        let line = json!({"topic": topic, "partition": partition, "offset": offset, "reason": reason, "error": error.chain(), "payload": payload});
        results.line(&redact::text(&line.to_string()))?;
    } else {
        results.line(&redact::text(&format!("record {offset} of `{topic}` [{partition}]: {reason}: {}", error.chain())))?;
    }
    Ok(())
}

fn report(counts: &Counts, results: &mut Results, arguments: &VerifyArguments) -> anyhow::Result<Exit> {
    if arguments.json {
        let line = json!({
            "records": counts.records, "inline": counts.inline, "tombstones": counts.tombstones, "references": counts.references,
            "sound": counts.sound, "problems": counts.problems, "unchecked": counts.unchecked, "bytes": counts.bytes, "deep": arguments.deep,
        });
        results.line(&line.to_string())?;
    }
    results.flush()?;
    let how = if arguments.deep { "as it was sent" } else { "where it should be" };
    let others = if counts.unchecked > 0 { format!(", {} could not be looked at", readable::number(counts.unchecked)) } else { String::new() };
    tell(&format!(
        "{} read, {}: {} found {how} ({}), {}{others}",
        readable::count(counts.records, "record"),
        readable::count(counts.references, "reference"),
        readable::count(counts.sound, "payload"),
        readable::bytes(counts.bytes),
        readable::count(counts.problems, "problem"),
    ));
    Ok(match (counts.problems, counts.unchecked) {
        (1.., _) => Exit::Found,
        (0, 1..) => Exit::Failed,
        (0, 0) => Exit::Done,
    })
}
