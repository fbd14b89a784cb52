//! What a user of the ledger notices: starts, stops, decisions, amendments, history and the cursor; on a real folder.
#![allow(clippy::unwrap_used)]

mod ledger_support;

use bytes::Bytes;
use jiff::Timestamp;
use kas3_sink::{
    Error, Kind,
    ledger::{Body, ClosedFile, ClosedSpan, ClosedStretch, EntryKind, Ledger, Partition, Role, random_name},
    plan::Start,
    report::{Origin, Report},
    span::{Bounds, Checksum, Counts, Position, Roll, Span, TopicPartition},
};
use ledger_support::*;
use std::{path::Path, sync::Arc};
use tempfile::TempDir;

/// A folder with everything of a log of eight records in it.
async fn sunk() -> (TempDir, Arc<MemoryLog>) {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    sink_all(folder.path(), &log).await;
    (folder, log)
}

async fn sink_all(folder: &Path, log: &Arc<MemoryLog>) {
    let (ledger, sink) = (ledger(folder, log).await, store(&url(folder)).await);
    work(&ledger, log, &sink, &of()).await.unwrap();
}

/// Stops at opening: the message and its way out.
async fn stop(folder: &Path, log: &Arc<MemoryLog>) -> (String, String) {
    stopped(ledger(folder, log).await.open_partition(&of()).await)
}

fn stopped<T>(result: Result<T, Error>) -> (String, String) {
    let Err(error) = result else { panic!("nothing stopped") };
    assert_eq!(error.kind(), Kind::Stopped, "{error}");
    (error.to_string(), error.way_out().unwrap().to_owned())
}

async fn accept(folder: &Path, log: &Arc<MemoryLog>, next: Option<i64>) -> Result<Vec<String>, Error> {
    Ok(ledger(folder, log).await.accept(&of(), next).await?.decisions)
}

fn remove(folder: &Path, wanted: impl Fn(&str) -> bool) {
    let mut removed = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if wanted(path.to_str().unwrap()) {
                std::fs::remove_file(path).unwrap();
                removed += 1;
            }
        }
    }
    assert!(removed > 0, "there was something to remove");
}

fn report(ledger: &str, next: i64) -> Report {
    Report { next, metadata: Origin { kas3: 1, pipeline: "test".to_owned(), ledger: ledger.to_owned(), incarnation: 0 }.text() }
}

/// A committed span whose files are not published: its bundle was deleted, or its place taken, a moment before.
async fn commit_and(log: &Arc<MemoryLog>, ledger: &Arc<Ledger>, folder: &Path, next: i64, harm: impl Fn(&ClosedSpan)) -> Result<Partition, Error> {
    let mut partition = ledger.open_partition(&of()).await?;
    let span = close(log, &store(&url(folder)).await, &partition, next);
    harm(&span);
    partition.commit(span).await?;
    Ok(partition)
}

fn occupy(folder: &Path, path: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "somebody else's\n").unwrap();
}

#[tokio::test]
async fn two_workers_that_resolve_different_starts_begin_at_one() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 5));
    let latest = || {
        let mut pipeline = pipeline(&url(folder.path()));
        pipeline.start = Start::Latest;
        pipeline
    };
    let one = ledger_of(latest(), &log, &Arc::default()).await;
    let other = ledger_of(latest(), &log, &Arc::default()).await;
    assert_eq!(one.open_partition(&of()).await.unwrap().position().next, 5);
    log.change(|topic| topic.partitions[0].push(Some("late".to_owned())));
    assert_eq!(other.open_partition(&of()).await.unwrap().position().next, 5, "the second worker resolved 6, and found 5");
}

#[tokio::test]
async fn what_appears_after_the_first_start_begins_at_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 5));
    let mut settings = pipeline(&url(folder.path()));
    settings.start = Start::Latest;
    let ledger = ledger_of(settings, &log, &Arc::default()).await;
    assert_eq!(ledger.open_partition(&of()).await.unwrap().position().next, 5);
    log.change(|topic| topic.partitions.push(vec![Some("first".to_owned())]));
    assert_eq!(ledger.open_partition(&TopicPartition::new(TOPIC, 1)).await.unwrap().position().next, 0, "a partition that appears later");
    log.topics.lock().unwrap().insert("events.new".to_owned(), Topic::with("b", 3));
    assert_eq!(ledger.open_partition(&TopicPartition::new("events.new", 0)).await.unwrap().position().next, 0, "a topic found by expression");
}

#[tokio::test]
async fn a_stale_worker_is_fenced_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
    let mut stale = ledger.open_partition(&of()).await.unwrap();
    let held = close(&log, &sink, &stale, 5);
    work(&ledger, &log, &sink, &of()).await.unwrap();
    let before = visible(folder.path());
    assert_eq!(stale.commit(held).await.unwrap_err().kind(), Kind::Fenced);
    assert_eq!(stale.settle().await.err().map(|error| error.kind()), None, "nothing was pending in what it knew");
    assert_eq!(visible(folder.path()), before);
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn a_commit_that_was_dropped_half_way_asks_to_open_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let span = close(&log, &sink, &partition, 3);
    let _ = futures::FutureExt::now_or_never(partition.commit(span));
    let span = close(&log, &sink, &partition, 3);
    assert_eq!(partition.commit(span).await.unwrap_err().kind(), Kind::Fenced);
    drop(partition);
    work(&ledger, &log, &sink, &of()).await.unwrap();
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn records_that_retention_took_stop_the_partition_until_the_gap_is_accepted() {
    let (folder, log) = sunk().await;
    log.change(|topic| {
        topic.partitions[0].extend((8..14).map(|offset| Some(format!("a {offset}"))));
        topic.earliest = 11;
    });
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("`orders-0`") && what.contains("is 8") && what.contains("has is 11") && what.contains("8 to 10"), "{what}");
    assert!(hint.contains("kas3 ledger accept FILE --topic orders --partition 0"), "{hint}");
    assert!(accept(folder.path(), &log, None).await.unwrap()[0].contains("8 to 10"));
    sink_all(folder.path(), &log).await;
    assert_eq!(records(folder.path()).len(), 11, "0 to 7 and 11 to 13");
    let ledger = ledger(folder.path(), &log).await;
    let history = ledger.history(&ledger.heads().await.unwrap()[0]).await.unwrap();
    let gaps: Vec<_> = history.iter().filter(|entry| entry.kind == EntryKind::Gap).map(|entry| entry.span()).collect();
    assert_eq!(gaps, [Span { first: 8, next: 11 }]);
}

#[tokio::test]
async fn a_topic_created_again_goes_on_in_a_new_incarnation_under_names_of_its_own() {
    let (folder, log) = sunk().await;
    log.change(|topic| *topic = Topic::with("b", 8));
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("`b`") && what.contains("`a`") && hint.contains("accept"), "{what} {hint}");
    accept(folder.path(), &log, None).await.unwrap();
    sink_all(folder.path(), &log).await;
    let files = visible(folder.path());
    assert_eq!(records(folder.path()).len(), 16);
    assert!(files.keys().any(|path| path == "orders/group=0/0_0.txt") && files.keys().any(|path| path == "orders/group=0/0_0-i1.txt"), "{files:?}");
    assert_eq!(accept(folder.path(), &log, None).await.unwrap_err().kind(), Kind::Config, "there is nothing more to accept");
}

#[tokio::test]
async fn a_topic_that_was_created_again_while_a_lane_filled_is_noticed_before_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let ledger = ledger(folder.path(), &log).await;
    let committed = commit_and(&log, &ledger, folder.path(), 3, |_| log.change(|topic| topic.id = "b".to_owned())).await;
    assert!(stopped(committed).0.contains("created again"));
    assert!(visible(folder.path()).is_empty());
}

#[tokio::test]
async fn a_log_that_was_cut_back_goes_on_from_its_end_in_a_new_incarnation() {
    let (folder, log) = sunk().await;
    log.change(|topic| topic.partitions[0].truncate(6));
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("cut back") && what.contains('6') && hint.contains("--next 6"), "{what} {hint}");
    accept(folder.path(), &log, None).await.unwrap();
    log.change(|topic| topic.partitions[0].extend([Some("new 6".to_owned()), Some("new 7".to_owned())]));
    sink_all(folder.path(), &log).await;
    let values = records(folder.path());
    assert_eq!(values.iter().filter(|value| value.contains("new")).count(), 2);
    assert_eq!(values.len(), 10, "nothing that was visible changed");
}

#[tokio::test]
async fn another_cluster_under_the_same_name_stops_the_partition() {
    let (folder, log) = sunk().await;
    "cluster-2".clone_into(&mut log.cluster.lock().unwrap());
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("`cluster-2`") && what.contains("`cluster-1`") && hint.contains("bootstrap.servers"), "{what} {hint}");
}

#[tokio::test]
async fn a_lost_head_is_told_by_the_groups_report_and_needs_a_place_to_go_on() {
    let (folder, log) = sunk().await;
    log.reported.lock().unwrap().insert(of(), report(&url(folder.path()), 8));
    remove(folder.path(), |path| path.contains("head."));
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("was at 8") && hint.contains("--next 8"), "{what} {hint}");
    assert_eq!(accept(folder.path(), &log, None).await.unwrap_err().kind(), Kind::Config);
    accept(folder.path(), &log, Some(8)).await.unwrap();
    log.change(|topic| topic.partitions[0].push(Some("a 8".to_owned())));
    sink_all(folder.path(), &log).await;
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn a_ledger_that_was_moved_or_set_back_is_told_by_the_groups_report() {
    let (folder, log) = sunk().await;
    log.reported.lock().unwrap().insert(of(), report(&url(folder.path()), 9));
    assert!(stop(folder.path(), &log).await.0.contains("older ledger"));
    let elsewhere = tempfile::tempdir().unwrap();
    let (what, hint) = stop(elsewhere.path(), &log).await;
    assert!(what.contains("were moved") && hint.contains(&format!("ledger.url: {}", url(folder.path()))), "{what} {hint}");
}

#[tokio::test]
async fn what_others_wrote_into_the_group_is_a_warning_and_the_ledger_wins() {
    let (folder, log) = sunk().await;
    log.reported.lock().unwrap().insert(of(), Report { next: 2, metadata: String::new() });
    let told = Arc::new(Told::default());
    let ledger = ledger_of(pipeline(&url(folder.path())), &log, &told).await;
    assert_eq!(ledger.open_partition(&of()).await.unwrap().position().next, 8);
    assert!(told.holds("says 2") && told.holds("it wins"));
}

#[tokio::test]
async fn other_settings_are_told_once() {
    let (folder, log) = sunk().await;
    let told = Arc::new(Told::default());
    let mut settings = pipeline(&url(folder.path()));
    settings.settings_digest = "digest-2".to_owned();
    let ledger = ledger_of(settings, &log, &told).await;
    ledger.open_partition(&of()).await.unwrap();
    ledger.open_partition(&of()).await.unwrap();
    assert_eq!(told.0.lock().unwrap().iter().filter(|line| line.contains("digest-1") && line.contains("digest-2")).count(), 1);
}

#[tokio::test]
async fn missing_or_unreadable_objects_of_the_ledger_stop_the_partition_by_name() {
    let (folder, log) = sunk().await;
    remove(folder.path(), |path| path.contains("/topics/"));
    assert!(stop(folder.path(), &log).await.0.contains("topics/orders.json"));
    accept(folder.path(), &log, None).await.unwrap();
    sink_all(folder.path(), &log).await;

    let heads = folder.path().join("_kas3/test/ledger/orders/00000");
    for entry in std::fs::read_dir(&heads).unwrap() {
        std::fs::write(entry.unwrap().path(), "{\"version\": 1, \"next\": -4}").unwrap();
    }
    let (what, hint) = stop(folder.path(), &log).await;
    assert!(what.contains("head.json") && hint.contains("--next N"), "{what} {hint}");
    accept(folder.path(), &log, Some(8)).await.unwrap();
    sink_all(folder.path(), &log).await;
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn a_foreign_object_stops_the_partition_and_accept_finds_another_name() {
    for path in ["orders/group=0/0_0.txt", "orders/group=1/0_1.txt"] {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Topic::with("a", 8));
        let ledger = ledger(folder.path(), &log).await;
        let committed = commit_and(&log, &ledger, folder.path(), 4, |_| occupy(folder.path(), path)).await;
        let (what, hint) = stopped(committed);
        assert!(
            what.contains(path.rsplit('/').next().unwrap()) && what.contains("span 0 to 4") && hint.contains("move that object away"),
            "{what} {hint}"
        );
        assert!(stop(folder.path(), &log).await.0.contains("nothing is overwritten"));
        accept(folder.path(), &log, None).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(path)).unwrap(), "somebody else's\n");
        std::fs::remove_file(folder.path().join(path)).unwrap();
        sink_all(folder.path(), &log).await;
        assert_eq!(records(folder.path()), expected(&log), "{path}");
        assert!(visible(folder.path()).contains_key(&path.replace(".txt", "-i1.txt")));
    }
}

/// Commits a span and is killed before publishing: its sender never comes back, and its staged bytes are deleted.
async fn lose_staged_bytes(folder: &Path, log: &Arc<MemoryLog>) {
    let ledger = ledger(folder, log).await;
    let blocked = ["orders/group=0/0_0.txt", "orders/group=1/0_1.txt"];
    let committed = commit_and(log, &ledger, folder, 4, |_| blocked.iter().for_each(|path| occupy(folder, path))).await;
    stopped(committed);
    blocked.iter().for_each(|path| std::fs::remove_file(folder.join(path)).unwrap());
    remove(folder, |path| path.contains("/staged/"));
}

#[tokio::test]
async fn staged_bytes_that_vanish_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    lose_staged_bytes(folder.path(), &log).await;
    let told = Arc::new(Told::default());
    let ledger = ledger_of(pipeline(&url(folder.path())), &log, &told).await;
    work(&ledger, &log, &store(&url(folder.path())).await, &of()).await.unwrap();
    assert!(told.holds("amended orders-0"));
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn what_cannot_be_made_again_stops_until_it_is_recorded_as_lost() {
    for differs in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Topic::with("a", 8));
        lose_staged_bytes(folder.path(), &log).await;
        let left = expected(&log)[4..].to_vec();
        log.change(|topic| match differs {
            true => topic.partitions[0][0] = Some("another value".to_owned()),
            false => topic.earliest = 1,
        });
        let (what, _) = stop(folder.path(), &log).await;
        assert!(what.contains("span 0 to 4") && what.contains(if differs { "checksum" } else { "Kafka has offsets 1 to 8" }), "{what}");
        let decisions = accept(folder.path(), &log, None).await.unwrap();
        assert!(decisions.iter().all(|decision| decision.contains("recorded as lost")), "{decisions:?}");
        sink_all(folder.path(), &log).await;
        assert_eq!(records(folder.path()), left);
    }
}

#[tokio::test]
async fn a_span_that_nobody_looks_after_is_published_by_a_sweep() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 4));
    let occupied = "orders/group=0/0_0.txt";
    let one = ledger(folder.path(), &log).await;
    stopped(commit_and(&log, &one, folder.path(), 4, |_| occupy(folder.path(), occupied)).await);
    std::fs::remove_file(folder.path().join(occupied)).unwrap();
    let other = ledger(folder.path(), &log).await;
    other.sweep().await.unwrap();
    assert_eq!(records(folder.path()), expected(&log));
    assert!(other.heads().await.unwrap()[0].pending.is_empty());
}

#[tokio::test]
async fn a_sink_that_moved_while_a_span_is_pending_publishes_it_where_it_was_committed_for() {
    let (old, new, ledger_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = MemoryLog::new(Topic::with("a", 8));
    let settings = |sink: &Path| {
        let mut settings = pipeline(&url(sink));
        settings.ledger_url = url(ledger_folder.path());
        settings
    };
    let before = ledger_of(settings(old.path()), &log, &Arc::default()).await;
    let occupied = "orders/group=0/0_0.txt";
    stopped(commit_and(&log, &before, old.path(), 4, |_| occupy(old.path(), occupied)).await);
    std::fs::remove_file(old.path().join(occupied)).unwrap();
    let told = Arc::new(Told::default());
    let after = ledger_of(settings(new.path()), &log, &told).await;
    work(&after, &log, &store(&url(new.path())).await, &of()).await.unwrap();
    assert!(told.holds("published where it was committed for"));
    assert_eq!(records(old.path()), expected(&log)[..4]);
    assert_eq!(records(new.path()), expected(&log)[4..]);
}

#[tokio::test]
async fn offsets_without_records_move_the_head_without_files() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 3));
    log.change(|topic| topic.partitions[0].extend([None, None, None, None, None, None]));
    sink_all(folder.path(), &log).await;
    let ledger = ledger(folder.path(), &log).await;
    let head = ledger.heads().await.unwrap().remove(0);
    let kinds: Vec<_> = head.closed.iter().map(|entry| (entry.kind, entry.span().next)).collect();
    assert_eq!((head.next, kinds), (9, vec![(EntryKind::Files, 3), (EntryKind::Empty, 9)]), "two stretches without records are one");
}

#[tokio::test]
async fn a_long_history_moves_into_segments_and_reads_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 450));
    sink_all(folder.path(), &log).await;
    let ledger = ledger(folder.path(), &log).await;
    let head = ledger.heads().await.unwrap().remove(0);
    assert!(head.segment.is_some() && head.closed.len() <= 64);
    let history = ledger.history(&head).await.unwrap();
    assert_eq!(history.iter().map(|entry| entry.counts.written).sum::<u64>(), 450);
    let segment = head.segment.unwrap();
    remove(folder.path(), |path| path.ends_with(&segment));
    assert!(stop(folder.path(), &log).await.0.contains(&segment));
    accept(folder.path(), &log, None).await.unwrap();
    sink_all(folder.path(), &log).await;
}

/// A span of many small files, or of files that a test names.
fn named_span(partition: &Partition, next: i64, paths: &[String], role: Role) -> ClosedSpan {
    let files = paths.iter().map(|path| ClosedFile {
        path: path.clone(),
        role,
        body: Body::Whole(Bytes::from(path.clone())),
        bytes: path.len() as u64,
        records: 1,
        rows: 1,
        checksum: Checksum::from_xxh3(0),
        offsets: Some(Bounds { min: next - 1, max: next - 1 }),
        timestamps: None,
        content_type: "text/plain",
        content_encoding: None,
    });
    let span = Span { first: partition.position().next, next };
    let (of, id) = (partition.of().clone(), random_name());
    let counts = Counts::default();
    let stretches = vec![ClosedStretch { of, span, leader_epoch: 0 }];
    ClosedSpan { id, stretches, now: Timestamp::UNIX_EPOCH, roll: Roll::Files, counts, timestamps: None, files: files.collect() }
}

#[tokio::test]
async fn a_long_list_of_files_is_a_segment_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let ledger = ledger(folder.path(), &log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let paths: Vec<String> = (0..400).map(|n| format!("orders/value={n}/0_{n}.txt")).collect();
    let span = named_span(&partition, 8, &paths, Role::Data);
    partition.commit(span).await.unwrap();
    assert!(partition.head().pending[0].files.is_empty());
    partition.settle().await.unwrap();
    let history = ledger.history(partition.head()).await.unwrap();
    assert_eq!(ledger.files(&history[0], &of()).await.unwrap().len(), 400);
    assert_eq!(visible(folder.path()).len(), 400);
    assert!(
        std::fs::read_dir(folder.path().join("_kas3/test/staged/orders/00000")).is_ok_and(|mut files| files.next().is_none()),
        "the bundle is deleted"
    );
}

#[tokio::test]
async fn the_cursor_moves_forward_and_never_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let mut settings = pipeline(&url(folder.path()));
    settings.cursor = true;
    let ledger = ledger_of(settings, &log, &Arc::default()).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let cursor = folder.path().join("last_chunk_index.orders-00000.txt");
    for (next, name) in [(4, "orders-00000-000000000000.index.json"), (8, "orders-00000-000000000004.index.json")] {
        let span = named_span(&partition, next, &[name.to_owned()], Role::SideFile);
        partition.commit(span).await.unwrap();
        assert!(std::fs::read_to_string(&cursor).unwrap().ends_with(name));
    }
    // Another worker went on meanwhile, and this one publishes late: the cursor stays.
    let (sink, path) = (store(&url(folder.path())).await, "last_chunk_index.orders-00000.txt");
    let version = sink.info(path).await.unwrap().unwrap().version;
    let mut options = kas3_store::PutOptions::data("text/plain");
    options.metadata = vec![("kas3-next".into(), "100".to_owned()), ("kas3-incarnation".into(), "0".to_owned())];
    let ahead = Bytes::from_static(b"orders-00000-000000000090.index.json");
    sink.replace(path, Some(&version), ahead.clone(), &options).await.unwrap();
    log.change(|topic| topic.partitions[0].push(Some("a 8".to_owned())));
    let span = named_span(&partition, 9, &["orders-00000-000000000008.index.json".to_owned()], Role::SideFile);
    partition.commit(span).await.unwrap();
    assert_eq!(std::fs::read(&cursor).unwrap(), ahead);
}

#[tokio::test]
async fn two_files_of_one_name_in_a_span_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let ledger = ledger(folder.path(), &log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let span = named_span(&partition, 8, &["a/0_0.txt".to_owned(), "a/0_0.txt".to_owned()], Role::Data);
    assert!(stopped(partition.commit(span).await).0.contains("a/0_0.txt"));
    assert!(visible(folder.path()).is_empty());
}

#[tokio::test]
async fn a_span_that_does_not_follow_the_head_is_a_mistake_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let ledger = ledger(folder.path(), &log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let mut span = named_span(&partition, 8, &["a/0_0.txt".to_owned()], Role::Data);
    span.stretches[0].span.first = 2;
    assert_eq!(partition.commit(span).await.unwrap_err().kind(), Kind::Fatal);
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    partition.advance(Position { next: 4, leader_epoch: 1 }).await.unwrap();
    assert_eq!(partition.advance(Position { next: 3, leader_epoch: 1 }).await.unwrap_err().kind(), Kind::Fatal);
}

#[tokio::test]
async fn what_a_killed_worker_left_staged_is_reclaimed_once_it_is_of_no_use() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
    let staging = "_kas3/test/staged/orders/00000/";
    let options = kas3_store::PutOptions::data("text/plain");
    sink.create(&format!("{staging}0-{:020}-dead", 2), Bytes::from_static(b"x"), &options).await.unwrap();
    sink.create(&format!("{staging}0-{:020}-alive", 8), Bytes::from_static(b"x"), &options).await.unwrap();
    sink.begin_upload("orders/group=x/0_2.txt", staging, &options).await.unwrap();
    sink.begin_upload("orders/group=x/0_9.txt", staging, &options).await.unwrap();
    work(&ledger, &log, &sink, &of()).await.unwrap();
    ledger.open_partition(&of()).await.unwrap();
    let left: Vec<_> = sink.list(staging, None, 10).await.unwrap().into_iter().map(|info| info.path).collect();
    assert_eq!(left, [format!("{staging}0-{:020}-alive", 8)]);
    let uploads: Vec<_> = sink.list_uploads("", staging).await.unwrap().unwrap().into_iter().map(|upload| upload.path).collect();
    assert_eq!(uploads, ["orders/group=x/0_9.txt"]);
}

#[tokio::test]
async fn a_sweep_reclaims_uploads_of_partitions_that_its_process_holds_and_is_stopped_by_no_head_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
    let staging = "_kas3/test/staged/orders/00000/";
    let options = kas3_store::PutOptions::data("text/plain");
    work(&ledger, &log, &sink, &of()).await.unwrap();
    let _held = ledger.open_partition(&of()).await.unwrap();
    sink.create_cell("_kas3/test/ledger/orders/00001/head.json", Bytes::from_static(b"{}")).await.unwrap();
    for (path, staging) in
        [("orders/group=x/0_2.txt", staging), ("orders/group=x/0_9.txt", staging), ("orders/group=x/1_2.txt", "_kas3/test/staged/orders/00001/")]
    {
        sink.begin_upload(path, staging, &options).await.unwrap();
    }
    ledger.sweep().await.unwrap();
    let left = sink.list_uploads("", "_kas3/test/staged/").await.unwrap().unwrap();
    let mut left: Vec<_> = left.into_iter().map(|upload| upload.path).collect();
    left.sort();
    assert_eq!(left, ["orders/group=x/0_9.txt", "orders/group=x/1_2.txt"]);
}
