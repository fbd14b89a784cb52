//! `kas3 payloads show`: one record's reference, or one object, and how they fit.

use super::{Owner, age};
use crate::{
    claims::log::{Isolation, Stretch, TopicLog, headers_of, value_of},
    exit::{Exit, failed, usage},
    output::Results,
    readable, runtime,
};
use bytes::Bytes;
use clap::Args;
use kas3_claimcheck::{Claim, ClaimCheck, Headers, Reference};
use kas3_sink::{Error, Kind};
use kas3_store::Info;
use serde_json::{Value, json};
use std::{ops::ControlFlow, path::PathBuf};

/// Show one record's reference and the state of its object, or an object by its key
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 payloads show claims.yaml --topic orders --partition 0 --offset 41
  kas3 payloads show claims.yaml --key orders/0b8c9a52-6f2d-4b0c-9d6a-1c2e3f405162

Exits 1 when the object is not there, or is not as large as its reference says.")]
pub(crate) struct ShowArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Topic of the record [default: that of the settings]
    #[arg(long, conflicts_with = "key")]
    topic: Option<String>,
    /// Partition of the record
    #[arg(long, conflicts_with = "key", requires = "offset", default_value_t = 0)]
    partition: i32,
    /// Offset of the record
    #[arg(long, conflicts_with = "key")]
    offset: Option<i64>,
    /// Key of an object, as `ls` shows it
    #[arg(long)]
    key: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn show(arguments: ShowArguments) -> anyhow::Result<Exit> {
    runtime::block_on(async move {
        let (claims, codec) = super::open(arguments.settings.as_ref()).await?;
        let mut results = Results::new();
        let (about, exit) = match (&arguments.key, arguments.offset) {
            (Some(key), _) => of_object(&codec, key).await?,
            (None, Some(offset)) => {
                let topic = claims.topic(arguments.topic.clone())?;
                let log = super::connect(&claims, Isolation::Everything).await?;
                let at = (topic.clone(), arguments.partition, offset);
                let found = tokio::task::spawn_blocking(move || record(&log, &at.0, at.1, at.2)).await??;
                let (mut about, exit) = of_record(&codec, &found).await?;
                let place = [("topic", json!(topic)), ("partition", json!(arguments.partition)), ("offset", json!(offset))];
                about.splice(0..0, place.map(|(name, value)| (name.to_owned(), value)));
                (about, exit)
            }
            (None, None) => return Err(usage("neither a record nor an object is named", "say `--topic`, `--partition` and `--offset`, or `--key`")),
        };
        if arguments.json {
            results.line(&Value::Object(about.into_iter().collect()).to_string())?;
        } else {
            for (name, value) in about.iter().filter(|(_, value)| !value.is_null()) {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                results.line(&format!("{name:<14}  {text}"))?;
            }
        }
        results.flush()?;
        Ok(exit)
    })
}

/// What is said, in order.
type About = Vec<(String, Value)>;

fn pair(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}

/// What Kafka has of a record.
struct Shown {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Headers,
}

fn record(log: &TopicLog, topic: &str, partition: i32, offset: i64) -> anyhow::Result<Shown> {
    if log.partitions(topic)?.is_none_or(|count| partition >= count || partition < 0) {
        return Err(Error::new(Kind::Missing, format!("there is no `{topic}` [{partition}]"))
            .hint("look at the topic's name and its partitions")
            .into());
    }
    let bounds = log.bounds(topic, partition)?;
    let mut found = None;
    if (bounds.first..bounds.next).contains(&offset) {
        log.read(topic, &[Stretch { partition, first: offset, next: offset + 1 }], &mut |record| {
            if record.offset == offset {
                let key = record.key.map(Bytes::copy_from_slice);
                found = Some(Shown { key, value: value_of(record), headers: headers_of(record) });
            }
            Ok(ControlFlow::Break(()))
        })?;
    }
    found.ok_or_else(|| {
        let text = format!("`{topic}` [{partition}] has no record at offset {offset}");
        failed(text, format!("it holds offsets from {} to before {}; compaction and transactions leave gaps", bounds.first, bounds.next))
    })
}

/// A record's key, where it went through the store, and its payload.
async fn of_record(codec: &ClaimCheck, record: &Shown) -> anyhow::Result<(About, Exit)> {
    let (mut about, mut exit) = (About::new(), Exit::Done);
    if let Some(reference) = codec.key_reference(record.key.as_ref(), &record.headers)? {
        let found = codec.look(&reference).await?;
        about.push(pair("key_payload", reference.url()));
        about.push(pair("key_object", if found.is_some() { "is there" } else { "is not there" }));
        exit = if found.is_some() { Exit::Done } else { Exit::Found };
    }
    match codec.claim(record.value.as_ref(), &record.headers)? {
        Claim::Tombstone => about.push(pair("payload", "none: the record is a tombstone")),
        Claim::Inline(payload) => about.extend([pair("payload", "in the record"), pair("bytes", payload.len() as u64)]),
        Claim::Reference(reference) => {
            let (of_payload, of_object) = of_payload(codec, &reference).await?;
            about.extend(of_payload);
            exit = if exit == Exit::Done { of_object } else { exit };
        }
    }
    Ok((about, exit))
}

async fn of_payload(codec: &ClaimCheck, reference: &Reference) -> anyhow::Result<(About, Exit)> {
    let mut about = of_reference(reference);
    let found = codec.look(reference).await?;
    let fits = found.as_ref().is_some_and(|info| is_as_large(reference, info));
    about.extend(of_info(found.as_ref()));
    if found.is_some() && !fits {
        about.push(pair("problem", "the object is not as large as its reference says"));
    }
    Ok((about, if fits { Exit::Done } else { Exit::Found }))
}

/// A compressed object may have any size.
pub(super) fn is_as_large(reference: &Reference, info: &Info) -> bool {
    reference.compression.name().is_some() || reference.size.is_none_or(|size| size == info.bytes)
}

fn of_reference(reference: &Reference) -> About {
    let sha = reference.sha256.map(|sha| sha.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    vec![
        pair("payload", reference.url()),
        pair("bytes", reference.size),
        pair("sha256", sha),
        pair("etag", reference.etag.clone()),
        pair("compression", reference.compression.name()),
        pair("content_type", reference.content_type.clone()),
        pair("encryption", reference.encryption.clone()),
        pair("checksums", reference.prefix_sums.as_ref().map(|sums| sums.sums.len())),
        pair("shared", reference.shared.then_some(true)),
    ]
}

fn of_info(info: Option<&Info>) -> About {
    let Some(info) = info else { return vec![pair("object", "is not there")] };
    vec![
        pair("object", "is there"),
        pair("object_bytes", info.bytes),
        pair("object_etag", info.version.0.trim_matches('"')),
        pair("object_age", readable::duration(age(info))),
        pair("written_by", Owner::of(info).word()),
    ]
}

async fn of_object(codec: &ClaimCheck, key: &str) -> anyhow::Result<(About, Exit)> {
    let (_, prefix) = codec.named("");
    let path = key.strip_prefix(&prefix).filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| usage(format!("`{key}` is not below {}", codec.url()), "give the key as `kas3 payloads ls` shows it"))?;
    let info = codec.store().info(path).await?;
    let mut about = vec![pair("key", key)];
    about.extend(of_info(info.as_ref()));
    if let Some(metadata) = info.as_ref().and_then(|info| info.metadata.as_ref()) {
        about.extend(metadata.iter().map(|(name, value)| pair(name, value.as_str())));
    }
    Ok((about, if info.is_some() { Exit::Done } else { Exit::Found }))
}
