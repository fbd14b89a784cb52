//! What a user of the ledger notices: starts, stops, decisions, amendments, history and the cursor; on a real folder.
#![allow(clippy::unwrap_used)]

mod ledger_support;

use bytes::Bytes;
use jiff::Timestamp;
use kas3_sink::{
    Error, Kind,
    ledger::{Body, ClosedFile, ClosedSpan, ClosedStretch, Decision, EntryKind, Ledger, LedgerParts, Origin, Partition, Role, Why, random_name},
    plan::Start,
    report::Report,
    span::{Bounds, Checksum, Counts, Position, Roll, Span, TopicPartition},
    stops::StopKind,
};
use ledger_support::*;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};
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
    decide(folder, log, Decision { next, ..Decision::default() }).await
}

async fn decide(folder: &Path, log: &Arc<MemoryLog>, decision: Decision) -> Result<Vec<String>, Error> {
    Ok(ledger(folder, log).await.accept(&of(), decision).await?.decisions)
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
async fn a_log_that_was_cut_back_and_grew_past_what_was_read_goes_on_where_it_was_cut() {
    for (next, gap) in [(None, None), (Some(6), None), (Some(9), Some(Span { first: 6, next: 9 }))] {
        let (folder, log) = sunk().await;
        log.change(|topic| {
            topic.partitions[0].truncate(6);
            topic.partitions[0].extend((6..12).map(|offset| Some(format!("new {offset}"))));
        });
        *log.cut_at.lock().unwrap() = Some(6);
        let looked = ledger(folder.path(), &log).await.stop_of(&of()).await.unwrap().unwrap();
        assert!(looked.way_out().unwrap().contains("--next 6"), "{looked}");
        let back = accept(folder.path(), &log, Some(4)).await.unwrap_err();
        assert!(back.to_string().contains("2 records (offsets 4 to 5) a second time"), "what was cut off is not read again: {back}");
        accept(folder.path(), &log, next).await.unwrap();
        let head = ledger(folder.path(), &log).await.head(&of()).await.unwrap().unwrap();
        let begun = &head.begun[0];
        assert_eq!((begun.why.known(), begun.start, begun.read_to, begun.cut_at), (Some(Why::CutBack), 6, 8, Some(6)));
        let gaps: Vec<Span> = head.closed.iter().filter(|entry| entry.kind == EntryKind::Gap).map(|entry| entry.span()).collect();
        assert_eq!(gaps, gap.into_iter().collect::<Vec<_>>(), "nothing is passed over silently");
        *log.cut_at.lock().unwrap() = None;
        sink_all(folder.path(), &log).await;
        assert_eq!(records(folder.path()).iter().filter(|value| value.contains("new")).count(), if gap.is_some() { 3 } else { 6 });
    }
}

#[tokio::test]
async fn going_back_needs_a_word_that_says_so_and_is_kept_for_ever() {
    let (folder, log) = sunk().await;
    let before = everything(folder.path());
    let refused = accept(folder.path(), &log, Some(3)).await.unwrap_err();
    let (what, hint) = (refused.to_string(), refused.way_out().unwrap());
    assert_eq!(refused.kind(), Kind::Config);
    assert!(what.contains("5 records (offsets 3 to 7) a second time") && what.contains("`-i1.txt`"), "{what}");
    assert!(hint.contains("--topic orders --partition 0 --next 3 --again"), "{hint}");
    assert!(everything(folder.path()) == before, "something was decided");

    let decisions = decide(folder.path(), &log, Decision { next: Some(3), again: true, only: None }).await.unwrap();
    assert!(decisions[0].contains("incarnation 1 begins at offset 3 (offsets 3 to 7 are read a second time"), "{decisions:?}");
    sink_all(folder.path(), &log).await;
    assert_eq!(records(folder.path()).len(), 8 + 5);
    log.change(|topic| topic.partitions[0].truncate(6));
    accept(folder.path(), &log, None).await.unwrap();
    let begun = ledger(folder.path(), &log).await.head(&of()).await.unwrap().unwrap().begun;
    let kept: Vec<_> = begun.iter().map(|begun| (begun.why.known(), begun.incarnation, begun.start, begun.read_to, begun.offsets_again())).collect();
    assert_eq!(kept, [(Some(Why::Again), 1, 3, 8, 5), (Some(Why::CutBack), 2, 6, 8, 0)]);
}

#[tokio::test]
async fn accepting_one_kind_of_stop_decides_nothing_that_shows_behind_it() {
    let (folder, log) = sunk().await;
    remove(folder.path(), |path| path.contains("/topics/"));
    log.change(|topic| {
        topic.partitions[0].extend((8..14).map(|offset| Some(format!("a {offset}"))));
        topic.earliest = 11;
    });
    let kind = async || ledger(folder.path(), &log).await.stop_of(&of()).await.unwrap().as_ref().and_then(StopKind::of);
    assert_eq!(kind().await, Some(StopKind::StartRecordLost));
    let only = Decision { only: Some(StopKind::StartRecordLost), ..Decision::default() };
    assert_eq!(decide(folder.path(), &log, only).await.unwrap().len(), 1);
    assert_eq!(kind().await, Some(StopKind::Retention));
    accept(folder.path(), &log, None).await.unwrap();
    assert_eq!(kind().await, None);
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
    assert_eq!(ledger(folder.path(), &log).await.stop_of(&of()).await.unwrap().as_ref().and_then(StopKind::of), Some(StopKind::HeadLost));
    let again = accept(folder.path(), &log, Some(5)).await.unwrap_err();
    assert!(again.to_string().contains("up to 3 records (offsets 5 to 7) a second time"), "{again}");
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
    assert!(what.contains("head.json") && hint.ends_with("--partition 0`"), "{what} {hint}");
    let unknown = accept(folder.path(), &log, None).await.unwrap_err();
    assert!(unknown.way_out().unwrap().contains("--next N") && unknown.to_string().contains("Kafka has 0 to 8"), "{unknown}");
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
    let kinds: Vec<_> = head.closed.iter().map(|entry| (entry.kind.known().unwrap(), entry.span().next)).collect();
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
    let staged = std::fs::read_dir(folder.path().join("_kas3/test/staged/orders/00000"));
    assert!(staged.map_or(true, |mut files| files.next().is_none()), "they rode in the head");
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

fn golden(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger").join(name)).unwrap()
}

/// The newest head of the partition, as it lies on the disk.
fn head_file(folder: &Path) -> PathBuf {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("head.")?.strip_suffix(".json")?.parse::<u64>().ok();
    let heads = std::fs::read_dir(folder.join("_kas3/test/ledger/orders/00000")).unwrap().map(|entry| entry.unwrap().path());
    heads.filter(|path| number(path).is_some()).max_by_key(number).unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = json(path);
    change(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// Adds a field to every object, as a later kas3 may.
fn sprinkle(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(sprinkle),
        Value::Object(members) => {
            members.values_mut().for_each(sprinkle);
            members.insert("of tomorrow".to_owned(), Value::from(vec![1]));
        }
        _ => {}
    }
}

/// Objects that do not have that field.
fn bare(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(bare).collect(),
        Value::Object(members) if !members.contains_key("of tomorrow") => vec![value.to_string()],
        Value::Object(members) => members.values().flat_map(bare).collect(),
        _ => Vec::new(),
    }
}

/// What history keeps of a span, as JSON.
fn settled(mut span: Value) -> Value {
    for gone in ["base", "settings"] {
        span.as_object_mut().unwrap().remove(gone);
    }
    for file in span["files"].as_array_mut().unwrap() {
        file.as_object_mut().unwrap().remove("staged");
    }
    span
}

#[tokio::test]
async fn fields_and_words_of_a_later_kas3_outlive_open_commit_publish_settle_and_history() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    let (sink, options) = (store(&url(folder.path())).await, kas3_store::PutOptions::ledger("application/json"));
    let text = golden("tomorrow/head.json").replace("file:///lake", &url(folder.path()));
    sink.create_cell("_kas3/test/ledger/orders/00000/head.json", Bytes::from(text.clone())).await.unwrap();
    for (path, form) in [("_kas3/test/topics/orders.json", "tomorrow/start.json"), ("_kas3/test/pipeline.json", "tomorrow/pipeline.json")] {
        sink.create(path, Bytes::from(golden(form)), &options).await.unwrap();
    }
    let bundle = Bytes::from_static(b"4\ta 4\n6\ta 6\n5\ta 5\n7\ta 7\n");
    sink.create("_kas3/test/staged/orders/00000/0-00000000000000000004-77aa", bundle, &options).await.unwrap();

    let before: Value = serde_json::from_str(&text).unwrap();
    let spans: Vec<Value> = before["closed"].as_array().unwrap().iter().cloned().chain([settled(before["pending"][0].clone())]).collect();
    let ledger = ledger(folder.path(), &log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    assert_eq!(records(folder.path()), expected(&log)[4..]);
    assert_eq!(json(&head_file(folder.path())), before, "what is published is not settled yet");
    log.change(|topic| topic.partitions[0].extend((8..14).map(|offset| Some(format!("a {offset}")))));
    let span = close(&log, &sink, &partition, 11);
    partition.commit(span).await.unwrap();
    let now = json(&head_file(folder.path()));
    assert_eq!((now["closed"].as_array().unwrap(), &now["of tomorrow"]), (&spans, &before["of tomorrow"]));
    partition.settle().await.unwrap();
    let now = json(&head_file(folder.path()));
    assert_eq!((&now["closed"].as_array().unwrap()[..3], &now["of tomorrow"], &now["version"]), (&spans[..], &before["of tomorrow"], &1.into()));
    drop(partition);

    log.change(|topic| topic.partitions[0].extend((14..250).map(|offset| Some(format!("a {offset}")))));
    sink_all(folder.path(), &log).await;
    let now = json(&head_file(folder.path()));
    assert_eq!(now["of tomorrow"], before["of tomorrow"]);
    let segment = head_file(folder.path()).with_file_name(now["segment"].as_str().unwrap());
    let lines: Vec<Value> = std::fs::read_to_string(segment).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1..4], spans);
    assert_eq!(records(folder.path()), expected(&log)[4..]);
    for (path, form) in [("_kas3/test/topics/orders.json", "tomorrow/start.json"), ("_kas3/test/pipeline.json", "tomorrow/pipeline.json")] {
        assert_eq!(std::fs::read_to_string(folder.path().join(path)).unwrap(), golden(form));
    }
}

#[tokio::test]
async fn unknown_fields_of_a_pending_span_are_kept_where_it_is_published_and_where_its_files_are_made_again() {
    for lost in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Topic::with("a", 8));
        leave_pending(folder.path(), &log).await;
        change(&head_file(folder.path()), sprinkle);
        if lost {
            remove(folder.path(), |path| path.contains("/staged/"));
        }
        let told = Arc::new(Told::default());
        let ledger = ledger_of(pipeline(&url(folder.path())), &log, &told).await;
        let partition = ledger.open_partition(&of()).await.unwrap();
        assert_eq!(told.holds("amended"), lost);
        let mut pending = json(&head_file(folder.path()))["pending"][0].clone();
        if lost {
            // where its bytes are is told anew
            pending = settled(pending);
        }
        assert_eq!(bare(&pending), Vec::<String>::new());
        drop(partition);
        sink_all(folder.path(), &log).await;
        let head = json(&head_file(folder.path()));
        let bare_spans: Vec<String> = head["closed"].as_array().unwrap().iter().flat_map(bare).collect();
        assert_eq!(bare_spans.len(), 1, "the last span is our own: {bare_spans:?}");
        assert_eq!(records(folder.path()), expected(&log));
    }
}

#[tokio::test]
async fn a_start_record_that_is_carried_on_into_another_incarnation_keeps_what_a_later_kas3_wrote() {
    let (folder, log) = sunk().await;
    let records = folder.path().join("_kas3/test/topics");
    change(&records.join("orders.json"), sprinkle);
    decide(folder.path(), &log, Decision { next: Some(4), again: true, only: None }).await.unwrap();
    let (old, mut new) = (json(&records.join("orders.json")), json(&records.join("orders.1.json")));
    assert_eq!((&new["incarnation"], &new["partitions"][0]["start"]), (&1.into(), &4.into()));
    for changed in ["/incarnation", "/partitions/0/start", "/written_at"] {
        *new.pointer_mut(changed).unwrap() = old.pointer(changed).unwrap().clone();
    }
    assert_eq!(new, old);
}

/// Settled up to 3, and a span up to 6 that is committed and not published: a bundle and an upload hold its files.
async fn leave_pending(folder: &Path, log: &Arc<MemoryLog>) {
    let ledger = ledger(folder, log).await;
    let mut partition = ledger.open_partition(&of()).await.unwrap();
    let span = close(log, &store(&url(folder)).await, &partition, 3);
    partition.commit(span).await.unwrap();
    partition.settle().await.unwrap();
    drop(partition);
    let blocked = ["orders/group=0/0_4.txt", "orders/group=1/0_3.txt"];
    stopped(commit_and(log, &ledger, folder, 6, |_| blocked.iter().for_each(|path| occupy(folder, path))).await);
    blocked.iter().for_each(|path| std::fs::remove_file(folder.join(path)).unwrap());
}

/// Every byte of the ledger, of what is staged, and of the files.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // stores are tried out in `check` by everyone who opens a ledger
            match path.is_dir() {
                true if path.ends_with("_kas3/test/check") => {}
                true => folders.push(path),
                false => drop(found.insert(path.clone(), std::fs::read(path).unwrap())),
            }
        }
    }
    found
}

/// The partition stops as a newer kas3's, whoever asks for what, and nothing is touched.
async fn left_to_the_newer(what: &str, folder: &Path, log: &Arc<MemoryLog>) {
    let (before, version) = (everything(folder), head_version(folder).await);
    let newer = |asked: &str, error: Error| {
        assert_eq!(error.kind(), Kind::Newer, "{what}, {asked}: {error}");
        assert!(error.to_string().ends_with("a newer kas3 wrote it"), "{what}, {asked}: {error}");
        let hint = error.way_out().unwrap();
        assert!(hint.contains("run the newer kas3") && !hint.contains("accept"), "{what}, {asked}: {hint}");
    };
    let told = Arc::new(Told::default());
    let ledger = ledger_of(pipeline(&url(folder)), log, &told).await;
    newer("open", ledger.open_partition(&of()).await.err().unwrap());
    for next in [None, Some(0), Some(3), Some(8), Some(100)] {
        newer(&format!("accept {next:?}"), ledger.accept(&of(), Decision { next, again: true, only: None }).await.err().unwrap());
    }
    ledger.sweep().await.unwrap();
    assert!(everything(folder) == before, "{what}: something was touched");
    assert_eq!(head_version(folder).await, version, "{what}");
}

async fn head_version(folder: &Path) -> Option<kas3_store::Version> {
    store(&url(folder)).await.read_cell("_kas3/test/ledger/orders/00000/head.json", 1 << 20).await.unwrap().map(|head| head.version)
}

/// A newer kas3 takes the partition over.
async fn swap_to_v2(folder: &Path) {
    let (sink, path) = (store(&url(folder)).await, "_kas3/test/ledger/orders/00000/head.json");
    let found = sink.read_cell(path, 1 << 20).await.unwrap().unwrap();
    sink.swap_cell(path, &found.version, Bytes::from(golden("v2/head.json"))).await.unwrap();
}

#[tokio::test]
async fn what_a_newer_version_wrote_stops_as_such_and_no_decision_overrides_it() {
    let (folder, log) = sunk().await;
    let (staging, options) = ("_kas3/test/staged/orders/00000/", kas3_store::PutOptions::data("text/plain"));
    store(&url(folder.path())).await.begin_upload("orders/group=x/0_2.txt", staging, &options).await.unwrap();
    swap_to_v2(folder.path()).await;
    left_to_the_newer("a head", folder.path(), &log).await;
    let ledger = ledger(folder.path(), &log).await;
    assert_eq!(ledger.heads().await.unwrap_err().kind(), Kind::Newer);
    assert_eq!(ledger.head(&of()).await.unwrap_err().kind(), Kind::Newer);

    let (folder, log) = sunk().await;
    std::fs::write(folder.path().join("_kas3/test/topics/orders.json"), golden("v2/start.json")).unwrap();
    left_to_the_newer("a start record", folder.path(), &log).await;
    remove(folder.path(), |path| path.contains("/head."));
    left_to_the_newer("a start record without a head", folder.path(), &log).await;

    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 450));
    sink_all(folder.path(), &log).await;
    let segment = head_file(folder.path()).with_file_name(json(&head_file(folder.path()))["segment"].as_str().unwrap());
    std::fs::write(segment, golden("v2/history.jsonl")).unwrap();
    left_to_the_newer("a segment", folder.path(), &log).await;
    remove(folder.path(), |path| path.contains("/head."));
    left_to_the_newer("a segment without a head", folder.path(), &log).await;
}

#[tokio::test]
async fn a_report_of_a_newer_version_stops_the_partition_with_a_head_and_without() {
    let (folder, log) = sunk().await;
    let metadata = "{\"kas3\":2,\"pipeline\":{\"name\":\"test\"}}".to_owned();
    log.reported.lock().unwrap().insert(of(), Report { next: 8, metadata });
    left_to_the_newer("a report", folder.path(), &log).await;
    remove(folder.path(), |path| path.contains("/head."));
    left_to_the_newer("a report without a head", folder.path(), &log).await;
}

#[tokio::test]
async fn a_report_of_a_newer_version_is_looked_for_before_anything_else_is_decided() {
    let (folder, log) = sunk().await;
    std::fs::write(folder.path().join("_kas3/test/topics/orders.json"), "damaged").unwrap();
    let ledger = ledger(folder.path(), &log).await;
    log.reported.lock().unwrap().insert(of(), Report { next: 8, metadata: "{\"kas3\":2}".to_owned() });
    let before = everything(folder.path());
    assert_eq!(ledger.accept(&of(), Decision::default()).await.err().unwrap().kind(), Kind::Newer);
    assert!(everything(folder.path()) == before, "something was decided");
}

#[tokio::test]
async fn a_ledger_that_a_newer_version_began_is_not_opened_and_nothing_of_it_accepted() {
    let (folder, log) = sunk().await;
    let path = folder.path().join("_kas3/test/pipeline.json");
    let ledger = ledger(folder.path(), &log).await;
    std::fs::write(&path, golden("v2/pipeline.json")).unwrap();
    remove(folder.path(), |path| path.contains("/head."));
    let before = everything(folder.path());
    let sink = store(&url(folder.path())).await;
    let pipeline = Arc::new(pipeline(&url(folder.path())));
    let observer = Arc::new(Told::default());
    let parts = LedgerParts { pipeline, sink: sink.clone(), ledger: sink, log: log.clone(), remaker: log.clone(), observer };
    let opened = Ledger::open(parts).await;
    assert_eq!(opened.err().unwrap().kind(), Kind::Newer);
    assert_eq!(ledger.accept(&of(), Decision::at(8)).await.err().unwrap().kind(), Kind::Newer);
    assert!(everything(folder.path()) == before, "something was touched");
}

#[tokio::test]
async fn a_worker_whose_partition_a_newer_version_took_over_stops_at_its_next_swap() {
    for step in ["commit", "advance", "settle"] {
        let folder = tempfile::tempdir().unwrap();
        let log = MemoryLog::new(Topic::with("a", 8));
        let (ledger, sink) = (ledger(folder.path(), &log).await, store(&url(folder.path())).await);
        let mut partition = ledger.open_partition(&of()).await.unwrap();
        let span = close(&log, &sink, &partition, 4);
        partition.commit(span).await.unwrap();
        swap_to_v2(folder.path()).await;
        let (heads, files) = (head_version(folder.path()).await, visible(folder.path()));
        let done = match step {
            "commit" => {
                let span = close(&log, &sink, &partition, 8);
                partition.commit(span).await
            }
            "advance" => partition.advance(Position { next: 6, leader_epoch: 0 }).await,
            _ => partition.settle().await,
        };
        assert_eq!(done.unwrap_err().kind(), Kind::Newer, "{step}");
        assert_eq!((head_version(folder.path()).await, visible(folder.path())), (heads, files), "{step}");
        assert_eq!(std::fs::read_to_string(head_file(folder.path())).unwrap(), golden("v2/head.json"), "{step}");
    }
}

#[tokio::test]
async fn a_pending_span_in_words_of_a_later_kas3_is_left_to_it_and_goes_on_with_it() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 7] = [
        ("mirror", |span| span["kind"] = "mirror".into()),
        ("letters", |span| span["files"][0]["role"] = "letters".into()),
        ("cellar", |span| span["files"][1]["staged"] = serde_json::json!({ "cellar": { "shelf": 4 } })),
        ("upload, bundle", |span| span["files"][1]["staged"]["bundle"] = span["files"][0]["staged"]["bundle"].clone()),
        ("sha256:01", |span| span["files"][0]["stored"] = "sha256:01".into()),
        ("sha256:02", |span| span["files"][1]["checksum"] = "sha256:02".into()),
        ("2 partitions", |span| {
            let stretch = span["partitions"][0].clone();
            span["partitions"].as_array_mut().unwrap().push(stretch);
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    leave_pending(folder.path(), &log).await;
    let sink = store(&url(folder.path())).await;
    // of no use, as far as a span that is understood tells
    let (staging, options) = ("_kas3/test/staged/orders/00000/", kas3_store::PutOptions::data("text/plain"));
    sink.begin_upload("orders/group=x/0_1.txt", staging, &options).await.unwrap();
    let head = head_file(folder.path());
    let good = std::fs::read(&head).unwrap();
    for (word, of_tomorrow) in changes {
        change(&head, |head| of_tomorrow(&mut head["pending"][0]));
        left_to_the_newer(word, folder.path(), &log).await;
        let error = ledger(folder.path(), &log).await.open_partition(&of()).await.err().unwrap();
        assert!(error.to_string().contains(word), "{word}: {error}");
        std::fs::write(&head, &good).unwrap();
    }
    sink_all(folder.path(), &log).await;
    assert_eq!(records(folder.path()), expected(&log));
}

#[tokio::test]
async fn a_pinned_version_is_what_is_written_and_a_head_keeps_the_one_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let log = MemoryLog::new(Topic::with("a", 8));
    for pinned in [None, Some(1)] {
        let mut settings = pipeline(&url(folder.path()));
        settings.ledger_version = pinned;
        let ledger = ledger_of(settings, &log, &Arc::default()).await;
        work(&ledger, &log, &store(&url(folder.path())).await, &of()).await.unwrap();
        assert_eq!(json(&head_file(folder.path()))["version"], 1);
        log.change(|topic| topic.partitions[0].push(Some("more".to_owned())));
    }
}
