//! `kas3 payloads gc`: deletes objects that no record names any more.
//!
//! What speaks for an object: any record of the topics that any consumer can still be given and that names it in any format
//! (uncommitted and aborted ones too, whatever a group has committed), a dead letter that names it, its youth, another owner,
//! and doubt. References are read before objects are listed, and again before each page of deletions, so a reference that
//! was copied meanwhile counts; a payload whose record is still on its way is younger than the grace period.

use super::{AT_ONCE, Owner, PAGE, age, is_of_a_sink, live::Live};
use crate::{
    claims::{log::TopicLog, settings::Claims},
    exit::{Exit, failed, usage},
    output::{Results, tell},
    readable, redact, runtime,
};
use clap::Args;
use futures::future::join_all;
use kas3_claimcheck::ClaimCheck;
use kas3_sink::units::Period;
use kas3_store::Info;
use serde_json::json;
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a grace period is at least, unless it is forced.
const GRACE_MIN: Duration = Duration::from_secs(3600);
/// librdkafka gives a record up after this, unless a property says otherwise.
const DELIVERY_MS: u64 = 300_000;

/// Find the objects that no record names any more, and delete them if asked to
///
/// Reads every partition of all topics of the settings from its first record to its end: records of open and aborted transactions
/// count, and the dead letters too. An orphan is an object below the prefix that none of them names and that is older than
/// the grace period. Nothing is deleted without --delete. The topics must be all whose records name payloads below the prefix,
/// those of other clusters included: what is read elsewhere is not seen here.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  kas3 payloads gc claims.yaml                    what would be deleted, and how much
  kas3 payloads gc claims.yaml --delete           delete it
  kas3 payloads gc claims.yaml --delete --grace 7d --limit 10000

Exits 0 when done, and 3 when a topic could not be read to its end (then nothing is deleted) or a deletion failed.")]
pub(crate) struct GcArguments {
    /// Settings; from the environment when there is none
    #[arg(value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Topic instead of those of the settings; may be given again. All whose records name payloads below the prefix
    #[arg(long)]
    topic: Vec<String>,
    /// Objects younger than this are left: longer than the longest upload and the delivery of its record take
    #[arg(long, value_name = "AGE", default_value = "24h")]
    grace: Period,
    /// Delete what was found
    #[arg(long, conflicts_with = "dry_run")]
    delete: bool,
    /// Delete nothing, the default
    #[arg(long)]
    dry_run: bool,
    /// Delete at most so many objects
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Also objects without the mark of kas3's claim check, as other formats write them
    #[arg(long)]
    unmarked: bool,
    /// Also objects that are named by their content. Only while nobody produces: a producer that sends the same content again
    /// relies on the object that it finds
    #[arg(long)]
    shared: bool,
    /// Go on although some records are marked as references and cannot be read; their payloads may be deleted
    #[arg(long)]
    ignore_unreadable: bool,
    /// Allow a grace period below an hour, or below what the settings of the producer take
    #[arg(long)]
    force: bool,
    /// A JSON line for each orphan, and one with the counts
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(crate) fn gc(arguments: GcArguments) -> anyhow::Result<Exit> {
    runtime::block_on(async move {
        let (claims, codec) = super::open(arguments.settings.as_ref()).await?;
        check_grace(&arguments, &claims)?;
        let topics = claims.topics(&arguments.topic)?;
        let log = super::connect(&claims, Live::ISOLATION).await?;
        let dead_letters = claims.settings.dead_letter_topic.clone();
        let look = Arc::new(Mutex::new(Look { live: Live::new(codec.clone()), log, topics, dead_letters }));
        let mut sweep = Sweep { arguments, codec, look, counts: Counts::default(), results: Results::new() };
        sweep.run().await
    })
}

/// Longer than a record may be on its way, by the settings.
fn check_grace(arguments: &GcArguments, claims: &Claims) -> anyhow::Result<()> {
    let kafka = &claims.settings.kafka;
    let ms = |name: &str| kafka.get(name).and_then(|value| value.parse::<u64>().ok());
    let delivery = ms("delivery.timeout.ms").or_else(|| ms("message.timeout.ms")).unwrap_or(DELIVERY_MS);
    let transaction = if kafka.contains_key("transactional.id") { ms("transaction.timeout.ms").unwrap_or(60_000) } else { 0 };
    let upload = claims.settings.claim_check.storage.retry_time_ms.unwrap_or(180_000);
    let way = Duration::from_millis(delivery.saturating_add(transaction).saturating_add(upload).saturating_add(claims.settings.send_timeout_ms));
    let least = GRACE_MIN.max(way);
    if arguments.grace.0 < least && !arguments.force {
        let text = format!("`--grace {}` is shorter than {}", arguments.grace, readable::duration(least));
        let hint = "a payload whose record is still on its way would be taken for an orphan; `--force` allows it when nobody produces";
        return Err(usage(text, hint));
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    objects: u64,
    named: u64,
    young: u64,
    unmarked: u64,
    shared: u64,
    of_sinks: u64,
    orphans: u64,
    orphan_bytes: u64,
    deleted: u64,
    deleted_bytes: u64,
    failed: u64,
}

/// References, and where they are read from.
struct Look {
    live: Live,
    log: TopicLog,
    topics: Vec<String>,
    dead_letters: Option<String>,
}

impl Look {
    fn again(&mut self) -> anyhow::Result<()> {
        let read = self.live.read(&self.log, &self.topics, self.dead_letters.as_deref());
        read.map_err(|error| error.context("the topics could not be read to their ends, so nothing more is deleted"))
    }
}

struct Sweep {
    arguments: GcArguments,
    codec: ClaimCheck,
    look: Arc<Mutex<Look>>,
    counts: Counts,
    results: Results,
}

/// What becomes of an object that no record names.
enum Verdict {
    Orphan(Info),
    Young,
    Unmarked,
    Shared,
    OfASink,
    /// It went meanwhile.
    Gone,
}

impl Sweep {
    async fn run(&mut self) -> anyhow::Result<Exit> {
        self.read_references().await?;
        let mut after = None::<String>;
        loop {
            let page = self.codec.store().list("", after.as_deref(), PAGE).await?;
            after = page.last().map(|info| info.path.clone());
            let last = page.len() < PAGE;
            self.page(page).await?;
            if last || self.room() == 0 {
                break;
            }
        }
        self.report()
    }

    /// Reading waits: it is no work for async threads.
    async fn read_references(&mut self) -> anyhow::Result<()> {
        let look = Arc::clone(&self.look);
        tokio::task::spawn_blocking(move || locked(&look).again()).await??;
        let look = locked(&self.look);
        let live = &look.live;
        if live.unreadable == 0 || self.arguments.ignore_unreadable || !self.arguments.delete {
            return Ok(());
        }
        let first = live.first_unreadable.as_deref().unwrap_or_default();
        let text = format!("marked as references and not readable: {}, the first is {first}", readable::count(live.unreadable, "record"));
        Err(failed(text, "upgrade kas3 if they are newer; `--ignore-unreadable` deletes what only they might name"))
    }

    /// How many more may be deleted.
    fn room(&self) -> usize {
        let left = self.arguments.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.counts.orphans));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    async fn page(&mut self, page: Vec<Info>) -> anyhow::Result<()> {
        let mut candidates = self.unnamed(page);
        if self.arguments.delete && !candidates.is_empty() {
            self.read_references().await?;
            let look = locked(&self.look);
            let before = candidates.len();
            candidates.retain(|info| !look.live.names(&info.path));
            self.counts.named += (before - candidates.len()) as u64;
        }
        let mut candidates = candidates.into_iter();
        while self.room() > 0 {
            let some: Vec<Info> = candidates.by_ref().take(AT_ONCE.min(self.room())).collect();
            if some.is_empty() {
                break;
            }
            let judged = join_all(some.iter().map(|listed| self.judge(listed))).await;
            for judged in judged {
                let (verdict, outcome) = judged?;
                self.note(verdict, outcome)?;
            }
        }
        Ok(())
    }

    /// By the listing alone.
    fn unnamed(&mut self, page: Vec<Info>) -> Vec<Info> {
        let look = locked(&self.look);
        let counts = &mut self.counts;
        let mut unnamed = Vec::new();
        for info in page {
            counts.objects += 1;
            match () {
                () if is_of_a_sink(&info.path) => counts.of_sinks += 1,
                () if look.live.names(&info.path) => counts.named += 1,
                () if age(&info) < self.arguments.grace.0 => counts.young += 1,
                () => unnamed.push(info),
            }
        }
        unnamed
    }

    /// Looks at an object once more, and deletes it at once if that is asked for.
    async fn judge(&self, listed: &Info) -> anyhow::Result<(Verdict, Option<kas3_store::Result<()>>)> {
        let store = self.codec.store();
        let Some(info) = store.info(&listed.path).await? else { return Ok((Verdict::Gone, None)) };
        let verdict = match Owner::of(&info) {
            Owner::Sink => Verdict::OfASink,
            _ if age(&info) < self.arguments.grace.0 => Verdict::Young,
            Owner::Unmarked if !self.arguments.unmarked => Verdict::Unmarked,
            _ if names_content(&info.path) && !self.arguments.shared => Verdict::Shared,
            _ => Verdict::Orphan(info),
        };
        let outcome = match &verdict {
            Verdict::Orphan(info) if self.arguments.delete => Some(store.delete(&info.path).await),
            _ => None,
        };
        Ok((verdict, outcome))
    }

    fn note(&mut self, verdict: Verdict, outcome: Option<kas3_store::Result<()>>) -> anyhow::Result<()> {
        let counts = &mut self.counts;
        let info = match verdict {
            Verdict::Orphan(info) => info,
            Verdict::Young => return bump(&mut counts.young),
            Verdict::Unmarked => return bump(&mut counts.unmarked),
            Verdict::Shared => return bump(&mut counts.shared),
            Verdict::OfASink => return bump(&mut counts.of_sinks),
            Verdict::Gone => return Ok(()),
        };
        counts.orphans += 1;
        counts.orphan_bytes += info.bytes;
        let (_, key) = self.codec.named(&info.path);
        let deleted = match outcome {
            None => false,
            Some(Ok(())) => {
                counts.deleted += 1;
                counts.deleted_bytes += info.bytes;
                true
            }
            Some(Err(error)) => {
                counts.failed += 1;
                tell(&redact::text(&format!("error: `{key}` was not deleted: {error}")));
                false
            }
        };
        if self.arguments.json {
            let line = json!({"key": key, "bytes": info.bytes, "age_seconds": age(&info).as_secs(), "deleted": deleted});
            self.results.line(&line.to_string())?;
        } else {
            let word = if deleted { "deleted" } else { "orphan" };
            self.results.line(&format!("{word:<8}  {:>10}  {:>12}  {key}", readable::bytes(info.bytes), readable::duration(age(&info))))?;
        }
        Ok(())
    }

    fn report(&mut self) -> anyhow::Result<Exit> {
        let look = locked(&self.look);
        let (counts, live) = (&self.counts, &look.live);
        if self.arguments.json {
            let line = json!({
                "objects": counts.objects, "named": counts.named, "young": counts.young, "unmarked": counts.unmarked,
                "shared": counts.shared, "of_sinks": counts.of_sinks, "orphans": counts.orphans, "orphan_bytes": counts.orphan_bytes,
                "deleted": counts.deleted, "deleted_bytes": counts.deleted_bytes, "failed": counts.failed,
                "partitions": live.partitions, "records": live.records, "references": live.references,
                "unreadable": live.unreadable,
            });
            self.results.line(&line.to_string())?;
        }
        self.results.flush()?;
        tell(&format!(
            "{} of {} read: {}, to {} below {}",
            readable::count(live.records, "record"),
            readable::count(live.partitions as u64, "partition"),
            readable::count(live.references, "reference"),
            readable::count(live.objects() as u64, "object"),
            self.codec.url()
        ));
        if live.unreadable > 0 {
            tell(&format!("{} marked as references cannot be read", readable::count(live.unreadable, "record")));
        }
        let reasons = [
            (counts.named, "named by records"),
            (counts.young, "younger than the grace period"),
            (counts.unmarked, "without the mark of kas3 (`--unmarked` includes them)"),
            (counts.shared, "named by their content (`--shared` includes them, when nobody produces)"),
            (counts.of_sinks, "of a sink"),
        ];
        let left: Vec<String> =
            reasons.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{} {why}", readable::number(*count))).collect();
        if !left.is_empty() {
            tell(&format!("left: {}", left.join(", ")));
        }
        let orphans = format!("{} ({})", readable::count(counts.orphans, "orphan"), readable::bytes(counts.orphan_bytes));
        if self.arguments.delete {
            let deleted = format!("{} deleted ({})", readable::number(counts.deleted), readable::bytes(counts.deleted_bytes));
            let failures = if counts.failed > 0 { format!(", {} failed", readable::number(counts.failed)) } else { String::new() };
            tell(&format!("{orphans}: {deleted}{failures}"));
        } else {
            tell(&format!("{orphans}; nothing was deleted: `--delete` does"));
        }
        Ok(if counts.failed == 0 { Exit::Done } else { Exit::Failed })
    }
}

fn bump(count: &mut u64) -> anyhow::Result<()> {
    *count += 1;
    Ok(())
}

fn locked(look: &Mutex<Look>) -> MutexGuard<'_, Look> {
    look.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key with a SHA-256 in it may be meant by records that were not sent yet.
fn names_content(path: &str) -> bool {
    let mut digits = 0;
    path.bytes().any(|byte| {
        digits = if byte.is_ascii_hexdigit() { digits + 1 } else { 0 };
        digits == 64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_name_their_content_are_told_from_others() {
        let sha = "0123456789abcdef".repeat(4);
        assert!(names_content(&sha) && names_content(&format!("orders/{sha}.gz")));
        assert!(!names_content("0b8c9a52-6f2d-4b0c-9d6a-1c2e3f405162") && !names_content(&sha[1..]));
    }
}
