//! Whole pipelines on a source that does what brokers do at the worst moment: errors among records, partitions taken away and
//! given back, two workers that both believe that they own a partition.

#![allow(clippy::unwrap_used)]

use kas3_sink::{
    Error, Kind, Result,
    budget::Budget,
    config,
    pipeline::{self, Destination, Ended, Options, Parts},
    plan::Pipeline,
    record::OwnedRecord,
    report::Report,
    source::{
        Event, Fetched, Source,
        memory::{MemoryLog, MemorySource},
    },
    span::{Position, TopicPartition},
    status::Status,
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const RECORDS: i64 = 5_000;

/// What goes wrong, and when, counted in fetches.
#[derive(Clone, Default)]
struct Script {
    /// An error comes behind the records of every so many-th fetch.
    error_every: usize,
    /// The partitions are taken away, and given back, at every so many-th poll.
    rebalance_every: usize,
    /// Batches of so many records.
    batch: usize,
}

/// A source that follows a script.
struct Scripted {
    inner: MemorySource,
    script: Script,
    fetches: Arc<AtomicUsize>,
    polls: usize,
    assigned: Vec<TopicPartition>,
    given_back: Vec<TopicPartition>,
}

impl Source for Scripted {
    fn poll(&mut self, wait: Duration) -> Vec<Event> {
        let mut events = self.inner.poll(wait.min(Duration::from_millis(1)));
        self.polls += 1;
        if !self.given_back.is_empty() {
            events.push(Event::Assigned(std::mem::take(&mut self.given_back)));
        } else if self.script.rebalance_every > 0 && self.polls.is_multiple_of(self.script.rebalance_every) && !self.assigned.is_empty() {
            let partitions = std::mem::take(&mut self.assigned);
            // every other time there is no time left to flush
            events.push(if (self.polls / self.script.rebalance_every).is_multiple_of(2) {
                Event::Lost(partitions)
            } else {
                Event::Revoked(partitions)
            });
        }
        events
    }
    fn subscribe(&mut self, topics: &[String]) {
        self.inner.subscribe(topics);
    }
    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<()> {
        self.assigned.extend(partitions.iter().map(|(of, _)| of.clone()));
        self.inner.assign(partitions)
    }
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.given_back.extend(partitions.iter().cloned());
        self.inner.release(partitions)
    }
    fn seek(&mut self, of: &TopicPartition, position: Position) -> Result<()> {
        self.inner.seek(of, position)
    }
    fn pause(&mut self, of: &TopicPartition) {
        self.inner.pause(of);
    }
    fn fetch(&mut self, max: usize) -> Vec<(TopicPartition, Fetched)> {
        let mut found = self.inner.fetch(max.min(self.script.batch));
        let count = self.fetches.fetch_add(1, Ordering::Relaxed) + 1;
        if self.script.error_every > 0 && count.is_multiple_of(self.script.error_every) {
            for (_, fetched) in &mut found {
                fetched.error = Some(Error::new(Kind::Transient, "the broker hiccups"));
            }
        }
        found
    }
    fn known_end(&self, of: &TopicPartition) -> Option<i64> {
        self.inner.known_end(of)
    }
    fn report(&mut self, reports: &[(TopicPartition, Report)]) {
        self.inner.report(reports);
    }
    fn close(self: Box<Self>) {}
}

fn of() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn record(offset: i64) -> OwnedRecord {
    OwnedRecord {
        topic: "orders".to_owned(),
        partition: 0,
        offset,
        timestamp_ms: Some(offset),
        value: Some(format!("{{\"id\":{offset}}}").into_bytes()),
        ..OwnedRecord::default()
    }
}

/// A log with a gap in every hundred offsets, as compaction leaves them, and a marker at its end.
fn log() -> MemoryLog {
    let log = MemoryLog::default();
    for offset in (0..RECORDS).filter(|offset| offset % 100 != 7) {
        log.push(record(offset));
    }
    log.set_end(&of(), RECORDS + 1);
    log
}

fn pipeline(folder: &Path, more: &str) -> Arc<Pipeline> {
    let text = format!(
        r#"
name: test
source: {{topics: [orders], kafka: {{bootstrap.servers: "unused:1"}}}}
http: "off"
sink:
  url: "file://{}"
  path: "{{topic}}/{{value.id:%H}}/{{partition}}_{{offset}}"
  format: {{type: json_lines, compression: none}}
  {more}
"#,
        folder.display()
    );
    Arc::new(config::load(&text, &|_| None).unwrap().pipeline().unwrap())
}

async fn run(pipeline: &Arc<Pipeline>, log: &MemoryLog, script: Script, stop: CancellationToken) -> Result<Ended> {
    let status = Status::new(&pipeline.name, pipeline.memory_bytes);
    let (sink, ledger_store) = pipeline::open_stores(pipeline, &status).await?;
    let source = Scripted {
        inner: MemorySource::new(log.clone(), vec![of()]),
        script,
        fetches: Arc::default(),
        polls: 0,
        assigned: Vec::new(),
        given_back: Vec::new(),
    };
    let parts = Parts {
        pipeline: Arc::clone(pipeline),
        destination: Destination::Configured { sink, ledger: ledger_store },
        log: Arc::new(log.clone()),
        source: Box::new(source),
        topics: vec!["orders".to_owned()],
        budget: Budget::new(pipeline.memory_bytes, Arc::clone(&status)),
        status,
    };
    pipeline::run_parts(parts, None, Options { until_end: true, ..Options::default() }, stop).await
}

/// Ids in visible files, in the order of the lines of each file.
fn ids(folder: &Path) -> BTreeMap<String, Vec<i64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.join("orders")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_i64().unwrap();
                found.insert(path.display().to_string(), text.lines().map(id).collect());
            }
        }
    }
    found
}

fn assert_once(folder: &Path, expected: impl Iterator<Item = i64>) {
    let files = ids(folder);
    for (name, ids) in &files {
        assert!(ids.is_sorted(), "the order is kept in `{name}`");
    }
    let mut all: Vec<i64> = files.into_values().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, expected.collect::<Vec<_>>());
}

fn everything() -> impl Iterator<Item = i64> {
    (0..RECORDS).filter(|offset| offset % 100 != 7)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_with_an_error_are_not_lost_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { error_every: 3, batch: 64, ..Script::default() };
    let ended = run(&pipeline(folder.path(), "roll: {records: 700}"), &log(), script, CancellationToken::new()).await.unwrap();
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_once(folder.path(), everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_taken_away_and_given_back_all_the_time_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script { rebalance_every: 40, batch: 16, ..Script::default() };
    let ended = run(&pipeline(folder.path(), "roll: {records: 300}"), &log(), script, CancellationToken::new()).await.unwrap();
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_once(folder.path(), everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_both_own_the_partition_write_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, log) = (pipeline(folder.path(), "roll: {records: 250}"), log());
    let script = |batch| Script { batch, ..Script::default() };
    let (one, two) =
        tokio::join!(run(&pipeline, &log, script(50), CancellationToken::new()), run(&pipeline, &log, script(33), CancellationToken::new()));
    assert!(matches!((one.unwrap(), two.unwrap()), (Ended::Done, Ended::Done)));
    assert_once(folder.path(), everything());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_record_stops_its_partition_with_everything_before_it_published() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::default();
    for offset in 0..50 {
        log.push(if offset == 30 { OwnedRecord { value: Some(b"{\"id\":\n oops".to_vec()), ..record(offset) } } else { record(offset) });
    }
    // the second start finds the bad record first of all
    for _ in 0..2 {
        let script = Script { batch: 7, ..Script::default() };
        let ended = run(&pipeline(folder.path(), ""), &log, script, CancellationToken::new()).await.unwrap();
        let Ended::Stopped(partitions) = ended else { panic!("{ended:?}") };
        assert!(partitions[0].1.contains("offset 30"), "{partitions:?}");
        assert_once(folder.path(), 0..30);
    }
    let ended =
        run(&pipeline(folder.path(), "bad_records: skip"), &log, Script { batch: 7, ..Script::default() }, CancellationToken::new()).await.unwrap();
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_once(folder.path(), (0..50).filter(|offset| *offset != 30));
}

/// The same log with every third record as a reference to its payload, which lies below `folder`.
async fn log_of_references(folder: &Path) -> MemoryLog {
    let settings = kas3_claimcheck::ClaimCheckSettings { url: format!("file://{}/payloads", folder.display()), ..Default::default() };
    let claims = kas3_claimcheck::ClaimCheck::open(settings).await.unwrap();
    let log = MemoryLog::default();
    for offset in everything() {
        let mut record = record(offset);
        if offset % 3 == 0 {
            let about = kas3_claimcheck::About { always: true, ..kas3_claimcheck::About::topic("orders") };
            let sent = claims.offload(record.value.take().unwrap().into(), &about).await.unwrap();
            record.value = Some(sent.value.to_vec());
            record.headers.0 = sent.headers.into_iter().map(|(name, value)| (name.into_bytes(), value.map(|value| value.to_vec()))).collect();
        }
        log.push(record);
    }
    log.set_end(&of(), RECORDS + 1);
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_taken_away_while_payloads_are_read_lose_and_double_nothing_also_between_two_workers() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_of_references(folder.path()).await;
    let more =
        format!("roll: {{records: 300}}\ntransforms: [{{type: claim_check, url: 'file://{}/payloads', downloads: 5}}]", folder.path().display());
    let pipeline = pipeline(folder.path(), &more);
    let script = |batch, rebalance_every| Script { rebalance_every, batch, ..Script::default() };
    let (one, two) =
        tokio::join!(run(&pipeline, &log, script(64, 150), CancellationToken::new()), run(&pipeline, &log, script(33, 0), CancellationToken::new()));
    assert!(matches!((one.unwrap(), two.unwrap()), (Ended::Done, Ended::Done)));
    assert_once(folder.path(), everything());
}
