//! Small files ride in the head: what is asked of the store, what the head holds and for how long, and what becomes of damage.
#![allow(clippy::unwrap_used)]

mod ledger_support;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use kas3_sink::{
    Kind,
    ledger::{BYTES_IN_HEAD_MAX, Body, ClosedFile, ClosedSpan, ClosedStretch, Decision, Ledger, LedgerParts, Partition, Role, random_name},
    span::{Bounds, Checksum, Counts, Roll, Span, TopicPartition},
};
use kas3_store::{Observer, Outcome, Request, StorageSettings, Store};
use ledger_support::*;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use xxhash_rust::xxh3::xxh3_128;

/// Requests by kind, and the bytes that came or went with them.
#[derive(Default)]
struct Seen(Mutex<BTreeMap<Request, (u64, u64)>>);

impl Observer for Seen {
    fn request(&self, request: Request, _: Outcome, _: Duration, bytes: u64) {
        let mut seen = self.0.lock().unwrap();
        let (count, sum) = seen.entry(request).or_default();
        (*count, *sum) = (*count + 1, *sum + bytes);
    }
    fn retry(&self, _: Request, _: Duration) {}
}

impl Seen {
    /// Since the last call.
    fn take(&self) -> BTreeMap<Request, u64> {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().map(|(request, (count, _))| (request, count)).collect()
    }

    fn bytes(&self, request: Request) -> u64 {
        self.0.lock().unwrap().get(&request).map_or(0, |(_, bytes)| *bytes)
    }
}

async fn observed(folder: &Path, log: &Arc<MemoryLog>) -> (Arc<Ledger>, Arc<Seen>) {
    let (seen, url) = (Arc::new(Seen::default()), url(folder));
    let sink = Store::open(&url, &StorageSettings::default(), Arc::clone(&seen) as Arc<dyn Observer>).await.unwrap();
    let observer = Arc::new(Told::default());
    let parts = LedgerParts { pipeline: Arc::new(pipeline(&url)), ledger: sink.clone(), sink, log: log.clone(), remaker: log.clone(), observer };
    let ledger = Ledger::open_with(parts, timing()).await.unwrap();
    seen.take();
    (ledger, seen)
}

fn head_file(folder: &Path) -> PathBuf {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("head.")?.strip_suffix(".json")?.parse::<u64>().ok();
    let heads = std::fs::read_dir(folder.join("_kas3/test/ledger/orders/00000")).unwrap().map(|entry| entry.unwrap().path());
    heads.filter(|path| number(path).is_some()).max_by_key(number).unwrap()
}

fn head_json(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(head_file(folder)).unwrap()).unwrap()
}

/// What the head holds, as somebody decodes it who knows nothing of kas3.
fn items(folder: &Path) -> Vec<Vec<u8>> {
    let head = head_json(folder);
    head["bytes"].as_array().map_or(Vec::new(), |items| items.iter().map(|item| STANDARD.decode(item.as_str().unwrap()).unwrap()).collect())
}

fn staged(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("_kas3/test/staged/orders/00000")).map_or(0, Iterator::count)
}

fn occupy(folder: &Path, path: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "somebody else's\n").unwrap();
}

const NAMES: [&str; 2] = ["orders/group=0/0_0.txt", "orders/group=1/0_1.txt"];

/// A span of four records, committed and not published: its names are taken for a moment.
async fn committed(folder: &Path, log: &Arc<MemoryLog>) {
    let (ledger, sink) = (ledger(folder, log).await, store(&url(folder)).await);
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let span = close_by(Way::InHead, log, &sink, &partition, 4);
    NAMES.iter().for_each(|path| occupy(folder, path));
    assert_eq!(partition.commit(span).await.unwrap_err().kind(), Kind::Stopped);
    NAMES.iter().for_each(|path| std::fs::remove_file(folder.join(path)).unwrap());
}

/// A span up to `next` of one file with these bytes.
fn span_of(partition: &Partition, next: i64, files: &[Bytes]) -> ClosedSpan {
    let files = files.iter().enumerate().map(|(number, bytes)| ClosedFile {
        path: format!("orders/{next}/0_{number}.txt"),
        role: Role::Data,
        body: Body::Whole(bytes.clone()),
        bytes: bytes.len() as u64,
        records: 1,
        rows: 1,
        checksum: Checksum::from_xxh3(xxh3_128(bytes)),
        offsets: Some(Bounds { min: next - 1, max: next - 1 }),
        timestamps: None,
        content_type: "text/plain",
        content_encoding: None,
    });
    let (of, id, span) = (partition.of().clone(), random_name(), Span { first: partition.position().next, next });
    let stretches = vec![ClosedStretch { of, span, leader_epoch: 0 }];
    let counts = Counts::default();
    ClosedSpan { id, stretches, now: Timestamp::UNIX_EPOCH, roll: Roll::Age, counts, timestamps: None, files: files.collect() }
}

#[tokio::test]
async fn a_small_file_costs_the_swap_and_its_own_write() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 60));
    let (ledger, seen) = observed(folder.path(), &log).await;
    let sink = store(&url(folder.path())).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    seen.take();
    for next in (1..=60).step_by(2) {
        let span = close_by(Way::InHead, &log, &sink, &partition, next);
        let files = span.files.len() as u64;
        partition.commit(span).await.unwrap();
        assert_eq!(seen.take(), BTreeMap::from([(Request::Create, files), (Request::Swap, 1)]), "up to {next}");
        assert!(partition.unsettled());
    }
    assert_eq!(staged(folder.path()), 0);
    partition.settle().await.unwrap();
    assert_eq!(seen.take(), BTreeMap::from([(Request::Swap, 1)]), "nothing lies about");
}

#[tokio::test]
async fn a_head_holds_the_files_of_its_pending_span_behind_everything_else_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    for (next, held) in [(4, ["0\ta 0\n2\ta 2\n", "1\ta 1\n3\ta 3\n"]), (8, ["4\ta 4\n6\ta 6\n", "5\ta 5\n7\ta 7\n"])] {
        let span = close_by(Way::InHead, &log, &sink, &partition, next);
        partition.commit(span).await.unwrap();
        assert_eq!(items(folder.path()), held.map(|text| text.as_bytes().to_vec()), "up to {next}");
        let text = std::fs::read_to_string(head_file(folder.path())).unwrap();
        let (before, behind) = text.rsplit_once("\"bytes\": [").unwrap();
        assert!(before.contains("\"segment\"") && !behind.contains(": "), "it is the last field: {text}");
        let staged: Vec<Value> =
            head_json(folder.path())["pending"][0]["files"].as_array().unwrap().iter().map(|file| file["staged"].clone()).collect();
        assert_eq!(staged, [serde_json::json!({ "head": { "item": 0 } }), serde_json::json!({ "head": { "item": 1 } })]);
    }
    partition.settle().await.unwrap();
    assert!(!std::fs::read_to_string(head_file(folder.path())).unwrap().contains("\"bytes\": ["));
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn the_files_of_a_span_ride_in_the_head_up_to_a_limit_and_lie_in_a_bundle_beyond_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let ledger = ledger(folder.path(), &log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let most = usize::try_from(BYTES_IN_HEAD_MAX).unwrap();
    let of_size = |bytes: usize| -> Bytes { (0..bytes).map(|n| u8::try_from(n * n % 251).unwrap()).collect() };
    for (next, files, in_head) in [(1, [most - 3, 3], true), (2, [most, 1], false), (3, [0, 5], true)] {
        let files = files.map(of_size);
        let span = span_of(&partition, next, &files);
        partition.commit(span).await.unwrap();
        assert_eq!((items(folder.path()).len() == 2, staged(folder.path()) == 0), (in_head, in_head), "up to {next}");
        for (number, bytes) in files.iter().enumerate() {
            assert!(std::fs::read(folder.path().join(format!("orders/{next}/0_{number}.txt"))).unwrap() == *bytes, "up to {next}");
        }
    }
}

#[tokio::test]
async fn where_the_ledger_lies_elsewhere_no_record_goes_there() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = MemoryLog::new(Topic::with("a", 8));
    let mut settings = pipeline(&url(folder.path()));
    settings.ledger_url = url(elsewhere.path());
    let ledger = ledger_of(settings, &log, &Arc::default()).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let span = close_by(Way::InHead, &log, &store(&url(folder.path())).await, &partition, 8);
    partition.commit(span).await.unwrap();
    assert!(items(elsewhere.path()).is_empty());
    assert_eq!((staged(folder.path()), records(folder.path())), (1, expected(&log)));
}

#[tokio::test]
async fn whoever_takes_over_publishes_from_the_head_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    committed(folder.path(), &log).await;
    assert!(visible(folder.path()).is_empty());
    // Kafka cannot help any more
    log.change(|topic| topic.earliest = 4);
    let told = Arc::new(Told::default());
    let ledger = ledger_of(pipeline(&url(folder.path())), &log, &told).await;
    let head = ledger.heads().await.unwrap().remove(0);
    assert!(!ledger.is_visible(&head).await.unwrap());
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    assert_eq!(records(folder.path()), expected(&MemoryLog::new(Topic::with("a", 4))));
    assert!(ledger.is_visible(partition.head()).await.unwrap() && partition.unsettled() && !told.holds("amended"));
    partition.settle().await.unwrap();
    assert!(items(folder.path()).is_empty());
}

#[tokio::test]
async fn damaged_bytes_in_a_head_are_made_again() {
    let damages: [fn(&mut Value); 5] = [
        |head| head["bytes"][1] = STANDARD.encode("1\ta 1\n3\ta 4\n").into(),
        |head| head["bytes"][1] = "no base64!".into(),
        |head| _ = head["bytes"].as_array_mut().unwrap().pop(),
        |head| _ = head.as_object_mut().unwrap().remove("bytes"),
        |head| head["bytes"] = "of another kind".into(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Topic::with("a", 8));
        committed(folder.path(), &log).await;
        let mut head = head_json(folder.path());
        damage(&mut head);
        std::fs::write(head_file(folder.path()), serde_json::to_vec_pretty(&head).unwrap()).unwrap();
        let told = Arc::new(Told::default());
        let ledger = ledger_of(pipeline(&url(folder.path())), &log, &told).await;
        let partition = ledger.open_partition(&of()).await.unwrap();
        assert!(told.holds("amended"), "damage {number}");
        assert_eq!(records(folder.path()), expected(&log)[..4], "damage {number}");
        let made_again: Vec<Vec<u8>> = items(folder.path());
        assert_eq!(made_again.last().unwrap(), b"1\ta 1\n3\ta 3\n", "damage {number}: what was made again rides in the head, too");
        drop(partition);
        work_by(Way::InTurn, &ledger, &log, &store(&url(folder.path())).await, &of()).await.unwrap();
        assert_eq!(records(folder.path()), expected(&log), "damage {number}");
    }
}

#[tokio::test]
async fn a_decision_about_a_pending_span_keeps_what_the_head_holds_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    committed(folder.path(), &log).await;
    log.change(|topic| topic.earliest = 4);
    occupy(folder.path(), NAMES[1]);
    let ledger = ledger(folder.path(), &log).await;
    assert_eq!(ledger.open_partition(&of()).await.err().unwrap().kind(), Kind::Stopped);
    ledger.accept(&of(), Decision::default()).await.unwrap();
    let files = visible(folder.path());
    assert_eq!((files["orders/group=1/0_1-i1.txt"].as_str(), files[NAMES[1]].as_str()), ("1\ta 1\n3\ta 3\n", "somebody else's\n"));
}

#[tokio::test]
async fn the_bytes_in_heads_are_read_by_those_alone_who_publish_them() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let before = ledger(folder.path(), &log).await;
    let mut partition = before.open_partition(&of()).await.unwrap();
    let span = span_of(&partition, 4, &[Bytes::from(vec![7; 1 << 20])]);
    partition.commit(span).await.unwrap();
    drop(partition);
    let (ledger, seen) = observed(folder.path(), &log).await;
    ledger.heads().await.unwrap();
    ledger.sweep().await.unwrap();
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    assert!(seen.bytes(Request::Get) < 5 * (64 << 10), "{}", seen.bytes(Request::Get));
    assert_eq!(seen.take().get(&Request::Create), None, "what is there is looked at, not written once more");
    assert_eq!(partition.position().next, 4);
    let span = span_of(&partition, 8, &[Bytes::from_static(b"x")]);
    partition.commit(span).await.unwrap();
}

#[tokio::test]
async fn partitions_that_begin_together_create_one_start_record() {
    let folder = tempfile::tempdir().unwrap();
    let topic = Topic { partitions: vec![vec![Some("a".to_owned())]; 64], ..Topic::with("a", 1) };
    let log = MemoryLog::new(topic);
    let (ledger, seen) = observed(folder.path(), &log).await;
    let all: Vec<TopicPartition> = (0..64).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
    for opened in join_all(all.iter().map(|of| ledger.open_partition(of))).await {
        assert_eq!(opened.unwrap().position().next, 0);
    }
    let requests = seen.take();
    assert_eq!(requests[&Request::Create], 64 + 1, "{requests:?}");
    assert!(requests[&Request::List] < 32, "{requests:?}");
    assert_eq!(*log.starts.lock().unwrap(), 1);
}
