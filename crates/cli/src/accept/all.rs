//! `kas3 ledger accept --all`: what stops all partitions of a pipeline, and one decision about those that one kind of stop holds.

use super::refused_record;
use crate::{exit::Exit, inspect, output::Results, readable, redact};
use kas3_sink::{
    Error,
    ledger::{Decision, Ledger},
    plan::Pipeline,
    source::Log,
    span::TopicPartition,
    stops::{StopKind, command},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Partitions that are looked at once.
const AT_ONCE: usize = 16;

/// A partition that is stopped.
struct Stop {
    of: TopicPartition,
    /// `None`: there is nothing to decide.
    kind: Option<StopKind>,
    error: Error,
}

impl Stop {
    /// What accepting does, or why it cannot be.
    fn accepting(&self) -> Result<&'static str, &'static str> {
        self.kind.map_or(Err("there is nothing to decide"), StopKind::accepting)
    }
}

/// Shows what stops the partitions, and accepts it where one kind is left: of the topic, or of the kind, that was named.
pub(super) async fn accept(pipeline: &Arc<Pipeline>, topic: Option<&str>, kind: Option<StopKind>) -> anyhow::Result<Exit> {
    let inspection = inspect::open(pipeline).await?;
    let log = Arc::clone(&inspection.log) as Arc<dyn Log>;
    let partitions = partitions(pipeline, &inspection.ledger, &log, topic).await?;
    let count = partitions.len() as u64;
    let mut stops = stops(pipeline, &inspection.ledger, &log, partitions).await?;
    stops.retain(|stop| kind.is_none_or(|kind| stop.kind == Some(kind)));
    let mut results = Results::new();
    for stop in &stops {
        show(stop, &mut results)?;
    }
    let kinds: BTreeSet<Option<StopKind>> = stops.iter().map(|stop| stop.kind).collect();
    if stops.is_empty() {
        let by = kind.map_or_else(String::new, |kind| format!(" by `{}`", kind.name()));
        results.line(&format!("Of {} none is stopped{by}: there is nothing to accept.", readable::count(count, "partition")))?;
        results.flush()?;
        return Ok(Exit::Done);
    }
    if (topic.is_none() && kind.is_none()) || kinds.len() > 1 {
        choices(&stops, topic, &mut results)?;
        results.flush()?;
        return Ok(Exit::Found);
    }
    results.flush()?;
    let mut left = 0_u64;
    for stop in &stops {
        let decided = decide(&inspection.ledger, stop).await;
        left += u64::from(decided.is_err());
        match decided {
            Ok(decisions) => results.line(&redact::text(&format!("✓ {}: {decisions}", stop.of)))?,
            Err(why) => results.line(&redact::text(&format!("✗ {}: {why}", stop.of)))?,
        }
        results.flush()?;
    }
    let accepted = readable::count(stops.len() as u64 - left, "partition");
    let more = if left == 0 { String::new() } else { format!(", {} left as they are", readable::number(left)) };
    results.line(&format!("{accepted} accepted{more}."))?;
    results.flush()?;
    Ok(if left == 0 { Exit::Done } else { Exit::Found })
}

/// All partitions that the configuration asks for: those in Kafka, and those that only the ledger knows any more.
async fn partitions(pipeline: &Pipeline, ledger: &Ledger, log: &Arc<dyn Log>, topic: Option<&str>) -> anyhow::Result<BTreeSet<TopicPartition>> {
    let wanted = |name: &str| pipeline.reads(name) && topic.is_none_or(|topic| topic == name);
    let mut found: BTreeSet<TopicPartition> = ledger.partitions().await?.into_iter().filter(|of| wanted(&of.topic)).collect();
    for name in log.topics().await?.into_iter().filter(|name| wanted(name)) {
        found.extend((0..log.partitions(&name).await?).map(|partition| TopicPartition::new(name.as_str(), partition)));
    }
    Ok(found)
}

/// What stops these partitions, in their order.
async fn stops(
    pipeline: &Arc<Pipeline>,
    ledger: &Arc<Ledger>,
    log: &Arc<dyn Log>,
    partitions: BTreeSet<TopicPartition>,
) -> anyhow::Result<Vec<Stop>> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut looks = JoinSet::new();
    for of in partitions {
        let (pipeline, ledger, log, turns) = (Arc::clone(pipeline), Arc::clone(ledger), Arc::clone(log), Arc::clone(&turns));
        looks.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let stop = match ledger.stop_of(&of).await? {
                Some(error) => Some(error),
                None => refused_record(&pipeline, &ledger, &log, &of).await?,
            };
            anyhow::Ok(stop.map(|error| Stop { kind: StopKind::of(&error), of, error }))
        });
    }
    let mut found = Vec::new();
    while let Some(looked) = looks.join_next().await {
        found.extend(looked??);
    }
    found.sort_by(|one, other| one.of.cmp(&other.of));
    Ok(found)
}

fn show(stop: &Stop, results: &mut Results) -> anyhow::Result<()> {
    let kind = stop.kind.map_or("newer kas3", StopKind::name);
    results.line(&redact::text(&format!("{}  {kind}: {}", stop.of, stop.error)))?;
    results.line(&match stop.accepting() {
        Ok(what) => format!("    accepting {what}"),
        Err(why) => format!("    is left alone: {why}"),
    })?;
    Ok(())
}

/// The commands that decide about each kind.
fn choices(stops: &[Stop], topic: Option<&str>, results: &mut Results) -> anyhow::Result<()> {
    let mut kinds: BTreeMap<StopKind, u64> = BTreeMap::new();
    for kind in stops.iter().filter(|stop| stop.accepting().is_ok()).filter_map(|stop| stop.kind) {
        *kinds.entry(kind).or_default() += 1;
    }
    results.line(&format!("{} stopped; nothing was changed. To accept one kind of stop:", readable::count(stops.len() as u64, "partition")))?;
    let of_topic = topic.map_or_else(String::new, |topic| format!(" --topic {topic}"));
    for (kind, count) in kinds {
        let line = format!("    {} --all{of_topic} --stop {}    ({})", command("ledger accept"), kind.name(), readable::count(count, "partition"));
        results.line(&line)?;
    }
    Ok(())
}

/// Accepts one stop; what was recorded, or why nothing was.
async fn decide(ledger: &Arc<Ledger>, stop: &Stop) -> Result<String, String> {
    stop.accepting()?;
    let next = if stop.kind == Some(StopKind::BadRecord) { stop.error.offset().map(|offset| offset + 1) } else { None };
    match ledger.accept(&stop.of, Decision { next, again: false, only: stop.kind }).await {
        Ok(accepted) => Ok(format!("{}; it goes on from offset {}", accepted.decisions.join("; "), accepted.head.next)),
        Err(error) => Err(error.chain()),
    }
}
