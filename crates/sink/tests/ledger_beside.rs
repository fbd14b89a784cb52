//! A topic's first start where somebody else wrote before, and rehearsals of starts, which write nothing.

#![allow(clippy::unwrap_used)]

mod ledger_support;

use kas3_sink::{
    Kind,
    ledger::{Decision, Ledger, LedgerParts, Origin, Rehearsed},
    plan::{Pipeline, Start},
    report::Report,
    span::TopicPartition,
    topics::TopicPattern,
};
use ledger_support::{MemoryLog, TOPIC, Told, Topic, expected, ledger_of, of, pipeline, records, store, url, work};
use std::{path::Path, sync::Arc};

/// The pipeline of the tests under another name, with the group that it has.
fn called(name: &str, folder: &Path) -> Pipeline {
    Pipeline { name: name.to_owned(), group: name.to_owned(), ..pipeline(&url(folder)) }
}

async fn first_start(pipeline: Pipeline, log: &Arc<MemoryLog>) -> Result<i64, (String, String)> {
    let ledger = ledger_of(pipeline, log, &Arc::default()).await;
    match ledger.open_partition(&of()).await {
        Ok(partition) => Ok(partition.position().next),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Stopped, "{}", error.chain());
            Err((error.chain(), error.way_out().unwrap_or_default().to_owned()))
        }
    }
}

async fn sink_as(pipeline: Pipeline, log: &Arc<MemoryLog>) {
    let (ledger, sink) = (ledger_of(pipeline.clone_for_tests(), log, &Arc::default()).await, store(&pipeline.url).await);
    work(&ledger, log, &sink, &of()).await.unwrap();
}

/// Plans are shared, the rest is written anew.
trait CloneForTests {
    fn clone_for_tests(&self) -> Pipeline;
}

impl CloneForTests for Pipeline {
    fn clone_for_tests(&self) -> Pipeline {
        Pipeline {
            name: self.name.clone(),
            group: self.group.clone(),
            beside: self.beside,
            start: self.start.clone(),
            ledger_url: self.ledger_url.clone(),
            default: Arc::clone(&self.default),
            ..pipeline(&self.url)
        }
    }
}

async fn rehearse(pipeline: Pipeline, log: &Arc<MemoryLog>, told: &Arc<Told>) -> Result<Rehearsed, String> {
    let (sink, ledger) = (store(&pipeline.url).await, store(&pipeline.ledger_url).await);
    let parts = LedgerParts { pipeline: Arc::new(pipeline), sink, ledger, log: log.clone(), remaker: log.clone(), observer: told.clone() };
    Ledger::rehearsal(parts).rehearse(&of()).await.map_err(|error| error.chain())
}

fn everything(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.display().to_string());
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_renamed_pipeline_doubles_nothing_until_somebody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    sink_as(called("old", folder.path()), &log).await;
    let (what, hint) = first_start(called("new", folder.path()), &log).await.unwrap_err();
    assert!(
        what.contains("pipeline `old` has begun it") && what.contains("_kas3/old/topics/orders.json") && what.contains("orders/group="),
        "{what}"
    );
    assert!(hint.contains("source.start: {beside: true}") && hint.contains("`name`") && hint.contains("sink.url"), "{hint}");
    assert!(!folder.path().join("_kas3/new/topics").exists(), "nothing was begun");
    assert_eq!(records(folder.path()), expected(&log));
    assert_eq!(first_start(Pipeline { beside: true, ..called("new", folder.path()) }, &log).await, Ok(0));
    assert_eq!(first_start(called("new", folder.path()), &log).await, Ok(0), "what has begun goes on");
    let ledger = ledger_of(called("newest", folder.path()), &log, &Arc::default()).await;
    let accepted = ledger.accept(&of(), Decision::default()).await.unwrap();
    assert!(
        accepted.decisions.len() == 1 && accepted.decisions[0].contains("begins beside what others wrote: pipeline `"),
        "{:?}",
        accepted.decisions
    );
    assert_eq!(first_start(called("newest", folder.path()), &log).await, Ok(0), "a person accepted it");
    assert!(ledger.accept(&of(), Decision::default()).await.is_err(), "nothing is left to accept");
    assert_eq!(first_start(called("old", folder.path()), &log).await, Ok(8));
}

#[tokio::test]
async fn a_pipeline_of_another_topic_or_another_sink_is_no_reason_to_wait() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = MemoryLog::new(Topic::with("a", 8));
    log.topics.lock().unwrap().insert("orders.1".to_owned(), Topic::with("b", 3));
    let other = Pipeline { topics: vec![TopicPattern::Name("orders.1".to_owned())], ..called("other", folder.path()) };
    let ledger = ledger_of(other, &log, &Arc::default()).await;
    ledger.open_partition(&TopicPartition::new("orders.1", 0)).await.unwrap();
    // one ledger for the pipelines of two sinks
    let shared = |name: &str, sink: &Path| Pipeline { ledger_url: url(folder.path()), ..called(name, sink) };
    sink_as(shared("far", elsewhere.path()), &log).await;
    assert_eq!(first_start(called("near", folder.path()), &log).await, Ok(0), "the files of `far` lie elsewhere, as its head says");
    let third = tempfile::tempdir().unwrap();
    assert_eq!(first_start(shared("third", third.path()), &log).await, Ok(0));
    let (what, _) = first_start(shared("fourth", elsewhere.path()), &log).await.unwrap_err();
    assert!(what.contains("pipeline `far`") && !what.contains("`near`"), "{what}");
}

#[tokio::test]
async fn objects_where_the_files_go_stop_a_first_start_and_none_that_follows_a_groups_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let put = |path: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    };
    for harmless in ["orders/readme.md", "orders2/group=0/0_0.txt", "payments/0_0.txt", "0_0.txt"] {
        put(harmless);
    }
    assert!(first_start(called("a", folder.path()), &log).await.is_ok());
    put("orders/of-another-sink/part-1.txt");
    let (what, _) = first_start(called("b", folder.path()), &log).await.unwrap_err();
    assert!(what.contains("/orders/of-another-sink/part-1.txt` lies where its files go"), "{what}");
    std::fs::remove_dir_all(folder.path().join("_kas3")).unwrap();
    let group = Pipeline { start: Start::Group("connect".to_owned()), ..called("c", folder.path()) };
    assert!(first_start(group, &log).await.is_ok(), "it goes on behind the sink whose offsets it takes over");
}

#[tokio::test]
async fn a_report_of_another_pipeline_in_the_group_stops_a_first_start_whatever_partition_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    log.change(|topic| topic.partitions.push(vec![Some("of partition 1".to_owned())]));
    let metadata = Origin { kas3: 1, pipeline: "old".to_owned(), ledger: "s3://elsewhere".to_owned(), incarnation: 0 }.text();
    log.reported.lock().unwrap().insert(TopicPartition::new(TOPIC, 1), Report { next: 1, metadata });
    let (what, _) = first_start(called("new", folder.path()), &log).await.unwrap_err();
    assert!(what.contains("pipeline `old` reported offset 1 of `orders-1` to consumer group `new`"), "{what}");
    assert_eq!(first_start(Pipeline { beside: true, ..called("new", folder.path()) }, &log).await, Ok(0));
}

#[tokio::test]
async fn a_rehearsal_says_what_opening_would_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let told = Arc::new(Told::default());
    // opening a local store leaves a trace of its own
    drop(store(&url(folder.path())).await);
    let empty = everything(folder.path());
    let first = rehearse(pipeline(&url(folder.path())), &log, &told).await.unwrap();
    assert_eq!(first, Rehearsed { next: 0, is_new: true, pending: false });
    assert_eq!(everything(folder.path()), empty);
    sink_as(called("test", folder.path()), &log).await;
    let before = everything(folder.path());
    assert_eq!(rehearse(called("test", folder.path()), &log, &told).await.unwrap(), Rehearsed { next: 8, is_new: false, pending: false });
    assert!(rehearse(called("new", folder.path()), &log, &told).await.unwrap_err().contains("pipeline `test` has begun it"));
    log.change(|topic| topic.id = "b".to_owned());
    assert!(rehearse(called("test", folder.path()), &log, &told).await.unwrap_err().contains("created again"));
    log.change(|topic| {
        topic.id = "a".to_owned();
        topic.partitions[0].truncate(5);
    });
    assert!(rehearse(called("test", folder.path()), &log, &told).await.unwrap_err().contains("cut back"));
    assert_eq!(everything(folder.path()), before);
    // the sink was moved, and the report in the group tells
    let (moved, metadata) =
        (tempfile::tempdir().unwrap(), Origin { kas3: 1, pipeline: "test".to_owned(), ledger: url(folder.path()), incarnation: 0 });
    log.reported.lock().unwrap().insert(of(), Report { next: 5, metadata: metadata.text() });
    assert!(rehearse(called("test", moved.path()), &log, &told).await.unwrap_err().contains("sink or ledger were moved"));
    assert!(!moved.path().join("_kas3").exists());
}

#[tokio::test]
async fn the_topics_of_the_first_start_that_nobody_reads_are_named_beside_those_that_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    sink_as(called("test", folder.path()), &log).await;
    let text = |topics: &[&str]| {
        let topics = topics.iter().map(|topic| TopicPattern::Name((*topic).to_owned())).collect();
        let (folder, log) = (folder.path().to_owned(), log.clone());
        async move { ledger_of(Pipeline { topics, ..called("test", &folder) }, &log, &Arc::default()).await.other_topics().await.unwrap() }
    };
    assert_eq!(text(&["orders", "payments"]).await, None);
    let told = text(&["payments"]).await.unwrap();
    assert!(told.contains("`orders`") && told.contains("`payments`") && told.contains("pipeline `test`"), "{told}");
}
