//! Whole comparisons on a local folder: sound ones, and ones whose files, ledger or log were damaged on purpose.

use super::*;
use crate::{
    format::lines::{BlockSize, Compression, IndexPlace, LinesSettings},
    ledger::{Body, ClosedFile, ClosedSpan, ClosedStretch, Decision, LedgerParts, NothingRemade, Role, Unwatched},
    path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions},
    plan::{RollPlan, Start, TopicPlan},
    record::{OwnedRecord, Record},
    refused::BadRecords,
    row::Row,
    span::{Counts, Position, Roll},
    topics::TopicPattern,
    units::Bytes,
};
use async_trait::async_trait;
use jiff::{Timestamp, tz::TimeZone};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Mutex,
};

const TOPIC: &str = "orders";

/// A topic of one partition in memory.
#[derive(Default)]
struct Memory {
    records: Mutex<BTreeMap<i64, OwnedRecord>>,
    earliest: Mutex<i64>,
    compacted: Mutex<bool>,
    topic_id: Mutex<Option<String>>,
    /// Offsets at the end that hold no records, as markers of transactions.
    markers: Mutex<i64>,
    /// Offsets behind the end that belong to an open transaction.
    open_transaction: Mutex<i64>,
    cut_at: Mutex<Option<i64>>,
    /// Topics beside the one with records, and partitions of each.
    others: Mutex<Vec<String>>,
    partitions: Mutex<i32>,
}

impl Memory {
    fn end(&self) -> i64 {
        self.records.lock().unwrap().keys().last().map_or(0, |last| last + 1) + *self.markers.lock().unwrap()
    }
}

#[async_trait]
impl Log for Memory {
    async fn cluster_id(&self) -> Result<String> {
        Ok("cluster".to_owned())
    }
    async fn topics(&self) -> Result<Vec<String>> {
        Ok([vec![TOPIC.to_owned()], self.others.lock().unwrap().clone()].concat())
    }
    async fn topic_id(&self, _: &str) -> Result<Option<String>> {
        Ok(self.topic_id.lock().unwrap().clone())
    }
    async fn partitions(&self, _: &str) -> Result<i32> {
        Ok(1 + *self.partitions.lock().unwrap())
    }
    async fn resolve_start(&self, _: &str, _: &Start) -> Result<Vec<i64>> {
        Ok(vec![0; 1 + *self.partitions.lock().unwrap() as usize])
    }
    async fn bounds(&self, _: &TopicPartition) -> Result<(i64, i64)> {
        Ok((*self.earliest.lock().unwrap(), self.end()))
    }
    async fn high_watermark(&self, of: &TopicPartition) -> Result<i64> {
        Ok(self.bounds(of).await?.1 + *self.open_transaction.lock().unwrap())
    }
    fn cut_back(&self, _: &TopicPartition, _: Position) -> Result<Option<i64>> {
        Ok(*self.cut_at.lock().unwrap())
    }
    async fn reported(&self, _: &TopicPartition) -> Result<Option<crate::report::Report>> {
        Ok(None)
    }
    async fn compacted(&self, _: &str) -> Result<bool> {
        Ok(*self.compacted.lock().unwrap())
    }
    fn read(&self, _: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        let records: Vec<OwnedRecord> = self.records.lock().unwrap().range(first..next.max(first)).map(|(_, record)| record.clone()).collect();
        records.iter().try_for_each(|record| each(&record.borrow()))
    }
}

/// A pipeline whose spans are written by hand.
struct Lab {
    folder: tempfile::TempDir,
    pipeline: Arc<Pipeline>,
    store: Store,
    ledger: Arc<Ledger>,
    log: Arc<Memory>,
}

const PATH: &str = "{topic}/hour={timestamp:%H}/{partition}_{offset}";

impl Lab {
    async fn new(format: LinesSettings) -> Self {
        Lab::at(tempfile::tempdir().unwrap(), format, PATH).await
    }

    async fn at(folder: tempfile::TempDir, format: LinesSettings, path: &str) -> Self {
        let options = TemplateOptions { timezone: TimeZone::UTC, single_topic: true, limits: Limits::DISK };
        let roll = RollPlan {
            bytes: 1 << 30,
            records: 1000,
            age: std::time::Duration::from_secs(60),
            idle: None,
            clock: None,
            files: 100,
            files_of_record: 100,
        };
        let plan = TopicPlan {
            path: PathTemplate::parse(path, &options).unwrap(),
            format: format.of("json_lines").unwrap().settings.build("format").unwrap(),
            roll,
            bad_records: BadRecords::Stop,
            transforms: Arc::default(),
        };
        let url = format!("file://{}", folder.path().display());
        let pipeline = Arc::new(Pipeline {
            name: "lab".to_owned(),
            topics: vec![TopicPattern::Name(TOPIC.to_owned()), TopicPattern::parse("source.topics", "^more-.*").unwrap()],
            group: "lab".to_owned(),
            start: Start::Earliest,
            beside: false,
            kafka: crate::properties::Properties::default(),
            target: crate::target::files::NAME,
            url: url.clone(),
            ledger_url: url.clone(),
            ledger_version: None,
            storage: kas3_store::StorageSettings::default(),
            timezone: TimeZone::UTC,
            settle: None,
            amend_after: std::time::Duration::from_secs(1),
            shutdown_deadline: std::time::Duration::from_secs(1),
            revoke_deadline: std::time::Duration::from_secs(1),
            memory_bytes: 64 << 20,
            http: None,
            default: Arc::new(plan),
            overrides: Vec::new(),
            cursor: false,
            settings_digest: "digest".to_owned(),
        });
        let store = Store::open(&url, &pipeline.storage, Arc::new(kas3_store::Unobserved)).await.unwrap();
        let log = Arc::new(Memory::default());
        let parts = LedgerParts {
            pipeline: Arc::clone(&pipeline),
            sink: store.clone(),
            ledger: store.clone(),
            log: Arc::clone(&log) as Arc<dyn Log>,
            remaker: Arc::new(NothingRemade),
            observer: Arc::new(Unwatched),
        };
        let ledger = Ledger::open(parts).await.unwrap();
        Lab { folder, pipeline, store, ledger, log }
    }

    /// Records of `offsets`, four a quarter of an hour.
    fn produce(&self, offsets: impl IntoIterator<Item = i64>) {
        let mut records = self.log.records.lock().unwrap();
        for offset in offsets {
            let value = (offset % 10 != 9).then(|| format!("{{\"id\":{offset}}}").into_bytes());
            let timestamp_ms = Some(offset * 225_000);
            let record = OwnedRecord { topic: TOPIC.to_owned(), partition: 0, offset, timestamp_ms, key: None, value, ..OwnedRecord::default() };
            records.insert(offset, record);
        }
    }

    /// Commits the span, with files as the pipeline would make them of the records that `keep` lets through.
    async fn sink(&self, first: i64, next: i64, keep: impl Fn(i64) -> bool) {
        self.try_sink(first, next, keep).await.unwrap();
    }

    async fn try_sink(&self, first: i64, next: i64, keep: impl Fn(i64) -> bool) -> Result<()> {
        let of = TopicPartition::new(TOPIC, 0);
        let mut partition = self.ledger.open_partition(&of).await?;
        let records: Vec<OwnedRecord> = self.log.records.lock().unwrap().range(first..next).map(|(_, record)| record.clone()).collect();
        let plan = self.pipeline.plan(TOPIC);
        let context =
            NameContext { now: Timestamp::UNIX_EPOCH, incarnation: partition.incarnation(), extension: format!(".{}", plan.format.extension()) };
        let mut cache = PathCache::default();
        let mut groups: BTreeMap<String, Vec<&OwnedRecord>> = BTreeMap::new();
        for record in records.iter().filter(|record| keep(record.offset)) {
            groups.entry(plan.path.group(&Row::of(record.borrow()), &context, &mut cache).unwrap().to_owned()).or_default().push(record);
        }
        let files: Vec<ClosedFile> =
            groups.iter().map(|(group, records)| closed_file(plan, &plan.path.name(group, records[0].offset, &context), records)).collect();
        let written = files.iter().map(|file| file.records).sum();
        let read = records.len() as u64;
        let closed = ClosedSpan {
            id: crate::ledger::random_name(),
            stretches: vec![ClosedStretch { of, span: Span { first, next }, leader_epoch: -1 }],
            now: Timestamp::UNIX_EPOCH,
            roll: Roll::Records,
            counts: Counts { read, written, rows: written, filtered: read - written, ..Counts::default() },
            timestamps: None,
            files,
        };
        partition.commit(closed).await?;
        partition.settle().await
    }

    async fn verify(&self) -> Report {
        verify(Arc::clone(&self.pipeline), self.store.clone(), Arc::clone(&self.ledger), Arc::clone(&self.log) as Arc<dyn Log>, &Options::default())
            .await
            .unwrap()
    }

    /// The visible files, in the order of their paths.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                if name.starts_with(['_', '.']) {
                    continue;
                }
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found.sort();
        found
    }
}

fn closed_file(plan: &TopicPlan, path: &str, records: &[&OwnedRecord]) -> ClosedFile {
    let mut encoder = plan.format.encoder().unwrap();
    let rows: Vec<Row<'_>> = records.iter().map(|record| Row::of(record.borrow())).collect();
    assert_eq!(encoder.append(&rows).unwrap().refused, None);
    let finished = encoder.finish().unwrap();
    ClosedFile {
        path: path.to_owned(),
        role: Role::Data,
        bytes: finished.bytes,
        records: finished.records,
        rows: finished.rows,
        checksum: finished.checksum,
        body: Body::Whole(finished.tail),
        offsets: finished.offsets,
        timestamps: finished.timestamps,
        content_type: plan.format.content_type(),
        content_encoding: None,
    }
}

/// What was found, by kind, with the numbers of gaps, doubles and differences.
fn found(report: &Report) -> (Vec<FindingKind>, [u64; 3]) {
    let totals = &report.totals;
    (report.findings.iter().map(|finding| finding.kind).collect(), [totals.gaps, totals.doubles, totals.differences])
}

fn plain() -> LinesSettings {
    LinesSettings { compression: Compression::None, ..LinesSettings::default() }
}

/// Every way in which a line may find its record: by index, by the ledger, by its envelope, by the path template.
fn formats() -> Vec<LinesSettings> {
    vec![
        LinesSettings { block: BlockSize::Fixed(Bytes(16 << 10)), ..LinesSettings::default() },
        LinesSettings { block: BlockSize::File, ..LinesSettings::default() },
        LinesSettings { compression: Compression::Zstd, block: BlockSize::File, ..LinesSettings::default() },
        LinesSettings { compression: Compression::Zstd, ..LinesSettings::default() },
        LinesSettings { envelope: true, ..plain() },
        LinesSettings { index: IndexPlace::SideFile, ..LinesSettings::default() },
        plain(),
    ]
}

#[tokio::test]
async fn sound_files_of_every_format_are_equal_record_by_record() {
    for format in formats() {
        let lab = Lab::new(format.clone()).await;
        // Gaps between offsets, as compaction leaves them, and records that a policy left out.
        lab.produce((0..1000).filter(|offset| offset % 7 != 3));
        lab.sink(0, 400, |offset| offset % 10 != 9).await;
        lab.sink(400, 1000, |offset| offset % 10 != 9).await;
        let report = lab.verify().await;
        assert!(report.ok, "{format:?}: {:#?}", report.findings);
        let records = lab.log.records.lock().unwrap().len() as u64;
        assert_eq!((report.totals.records_in_kafka, report.totals.equal + report.totals.left_out), (records, records), "{format:?}");
        assert!(report.totals.files > 2, "a span has several files");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_is_a_gap_of_its_records() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    std::fs::remove_file(&lab.files()[1]).unwrap();
    let report = lab.verify().await;
    assert_eq!(found(&report), (vec![FindingKind::Gap], [16, 0, 0]), "{:#?}", report.findings);
    assert_eq!(report.findings[0].offsets, Some(Span { first: 16, next: 32 }));
    assert_eq!(report.totals.equal, 84);
}

#[tokio::test]
async fn a_line_that_was_altered_is_named_with_both_contents() {
    for format in [LinesSettings { envelope: true, ..plain() }, plain()] {
        let lab = Lab::new(format).await;
        lab.produce(0..100);
        lab.sink(0, 100, |_| true).await;
        let file = &lab.files()[1];
        let text = std::fs::read_to_string(file).unwrap();
        std::fs::write(file, text.replace(":20}", ":-1}")).unwrap();
        let report = lab.verify().await;
        let (kinds, numbers) = found(&report);
        assert_eq!((kinds, numbers), (vec![FindingKind::Difference; 2], [0, 0, 2]), "{:#?}", report.findings);
        assert_eq!(report.findings[0].offsets, Some(Span { first: 20, next: 21 }));
        assert!(report.findings[0].detail.contains("-1") && report.findings[0].detail.contains("20"), "{}", report.findings[0].detail);
        assert!(report.findings[1].detail.contains("not those that were written"), "{}", report.findings[1].detail);
        assert_eq!(report.totals.equal, 99);
    }
}

#[tokio::test]
async fn a_line_that_was_doubled_or_removed_is_found_without_an_index() {
    for format in [LinesSettings { envelope: true, ..plain() }, plain()] {
        doubled_and_removed(format).await;
    }
}

async fn doubled_and_removed(format: LinesSettings) {
    let bare = !format.envelope;
    let lab = Lab::new(format).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    let files = lab.files();
    let lines = |file: &PathBuf| std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let mut doubled = lines(&files[0]);
    doubled.insert(3, doubled[3].clone());
    std::fs::write(&files[0], doubled.join("\n") + "\n").unwrap();
    let mut shorter = lines(&files[1]);
    shorter.remove(4);
    std::fs::write(&files[1], shorter.join("\n") + "\n").unwrap();
    let report = lab.verify().await;
    let of = |kind| report.findings.iter().filter(|finding| finding.kind == kind).filter_map(|finding| finding.offsets).collect::<Vec<_>>();
    if bare {
        // A line that tells no offset is one too many where it stands.
        assert!(
            report.findings.iter().any(|finding| finding.kind == FindingKind::Difference && finding.detail.contains("1 line too many")),
            "{:#?}",
            report.findings
        );
    } else {
        assert_eq!(of(FindingKind::Double), [Span { first: 3, next: 4 }]);
    }
    assert_eq!(of(FindingKind::Gap), [Span { first: 20, next: 21 }]);
    assert_eq!(report.totals.equal, if bare { 99 } else { 98 });
}

#[tokio::test]
async fn bytes_that_were_damaged_on_the_disk_are_a_difference_and_their_records_a_gap() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    let file = &lab.files()[0];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[30] ^= 0xff;
    std::fs::write(file, bytes).unwrap();
    let report = lab.verify().await;
    assert!(!report.ok);
    assert_eq!((report.totals.gaps, report.totals.equal), (16, 84), "{:#?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::Difference));
}

#[tokio::test]
async fn a_record_that_the_sink_lost_is_a_gap_even_though_every_checksum_is_right() {
    for format in formats() {
        let lab = Lab::new(format.clone()).await;
        lab.produce(0..100);
        lab.sink(0, 100, |offset| offset != 42).await;
        // The ledger's count makes it a record that was left out; without that it is a gap.
        assert!(lab.verify().await.ok, "{format:?}");
        rewrite_heads(&lab, "\"filtered\": 1", "\"filtered\": 0");
        let report = lab.verify().await;
        assert_eq!(found(&report), (vec![FindingKind::Gap], [1, 0, 0]), "{format:?}: {:#?}", report.findings);
        assert_eq!(report.findings[0].offsets, Some(Span { first: 42, next: 43 }), "{format:?}");
    }
}

/// Changes the ledger behind its back.
fn rewrite_heads(lab: &Lab, from: &str, to: &str) {
    let folder = lab.folder.path().join("_kas3/lab/ledger/orders/00000");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }
}

#[tokio::test]
async fn a_copy_of_a_file_that_no_span_names_is_found_and_other_objects_are_only_noted() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    let file = &lab.files()[0];
    std::fs::copy(file, file.with_file_name("0_5000.jsonl.gz")).unwrap();
    std::fs::write(lab.folder.path().join("README.txt"), "hello").unwrap();
    std::fs::create_dir(lab.folder.path().join("_hidden")).unwrap();
    std::fs::copy(file, lab.folder.path().join("_hidden/0_0.jsonl.gz")).unwrap();
    let report = lab.verify().await;
    assert_eq!((report.totals.foreign, report.findings.len()), (1, 1), "{:#?}", report.findings);
    assert!(report.findings[0].file.as_deref().unwrap().ends_with("0_5000.jsonl.gz"));
    assert!(report.notes.iter().any(|note| note.contains("1 objects")), "{:?}", report.notes);
}

#[tokio::test]
async fn what_kafka_no_longer_has_is_counted_and_only_its_files_are_checked() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..200);
    lab.sink(0, 100, |_| true).await;
    lab.sink(100, 200, |_| true).await;
    lab.log.records.lock().unwrap().retain(|offset, _| *offset >= 130);
    *lab.log.earliest.lock().unwrap() = 130;
    let report = lab.verify().await;
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!((report.totals.equal, report.totals.not_comparable, report.totals.not_comparable_because.deleted), (70, 130, 130));
    let first = &lab.files()[0];
    std::fs::write(first, std::fs::read(first).unwrap().iter().rev().copied().collect::<Vec<u8>>()).unwrap();
    assert!(!lab.verify().await.ok, "the checksums are still compared");
}

#[tokio::test]
async fn a_record_that_only_the_file_has_is_a_difference_unless_the_topic_is_compacted() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    lab.log.records.lock().unwrap().remove(&33);
    let report = lab.verify().await;
    assert_eq!(found(&report), (vec![FindingKind::Difference], [0, 0, 1]), "{:#?}", report.findings);
    *lab.log.compacted.lock().unwrap() = true;
    let report = lab.verify().await;
    assert!(report.ok);
    assert_eq!((report.totals.equal, report.totals.not_comparable), (99, 1));
}

#[tokio::test]
async fn a_topic_that_was_created_again_is_noted_and_its_old_files_are_checked_by_checksum() {
    let lab = Lab::new(LinesSettings::default()).await;
    *lab.log.topic_id.lock().unwrap() = Some("one".to_owned());
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    *lab.log.topic_id.lock().unwrap() = Some("other".to_owned());
    let report = lab.verify().await;
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!((report.totals.equal, report.totals.not_comparable_because.other_topic, report.totals.not_comparable_because.deleted), (0, 100, 0));
    assert!(report.notes.iter().any(|note| note.contains("another topic")), "{:?}", report.notes);
    assert_eq!((report.complete, report.not_begun[0].unread), (false, 100), "nobody has read the new topic");
}

#[tokio::test]
async fn a_partition_whose_files_got_new_names_by_accept_is_compared_as_before() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..200);
    lab.sink(0, 100, |_| true).await;
    let foreign = lab.folder.path().join("orders/hour=06");
    std::fs::create_dir_all(&foreign).unwrap();
    std::fs::write(foreign.join("0_100.jsonl.gz"), "foreign").unwrap();
    assert_eq!(lab.try_sink(100, 200, |_| true).await.unwrap_err().kind(), crate::Kind::Stopped);
    let of = TopicPartition::new(TOPIC, 0);
    lab.ledger.accept(&of, Decision::default()).await.unwrap();
    lab.ledger.open_partition(&of).await.unwrap().settle().await.unwrap();
    let report = lab.verify().await;
    assert_eq!((report.totals.equal, report.totals.foreign, report.findings.len()), (200, 1, 1), "{:#?}", report.findings);
}

#[tokio::test]
async fn what_the_configuration_asks_for_and_no_file_holds_is_listed() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..100);
    lab.sink(0, 100, |_| true).await;
    *lab.log.markers.lock().unwrap() = 2;
    let report = lab.verify().await;
    assert!(report.ok && report.complete, "markers of transactions are no records: {report:#?}");
    *lab.log.markers.lock().unwrap() = 0;
    *lab.log.open_transaction.lock().unwrap() = 7;
    let report = lab.verify().await;
    assert_eq!((report.ok, report.complete, report.totals.unread, report.totals.waiting_for_transaction), (true, false, 0, 7));
    *lab.log.open_transaction.lock().unwrap() = 0;
    lab.produce(100..130);
    let report = lab.verify().await;
    assert_eq!((report.ok, report.complete, report.totals.unread, report.partitions[0].totals.unread), (true, false, 30, 30));
    lab.sink(100, 130, |_| true).await;
    assert!(lab.verify().await.complete);
    *lab.log.partitions.lock().unwrap() = 1;
    *lab.log.others.lock().unwrap() = vec!["more-1".to_owned(), "other".to_owned()];
    let report = lab.verify().await;
    let listed: Vec<_> = report.not_begun.iter().map(|of| (of.topic.as_str(), of.partition, of.from, of.end, of.unread)).collect();
    assert_eq!(listed, [("more-1", 0, 0, 130, 130), ("more-1", 1, 0, 130, 130), (TOPIC, 1, 0, 130, 130)]);
    assert_eq!((report.ok, report.complete, report.totals.not_begun, report.totals.unread), (true, false, 390, 0));
    let options = Options { topic: Some(TOPIC.to_owned()), partition: Some(0) };
    let report = verify(Arc::clone(&lab.pipeline), lab.store.clone(), Arc::clone(&lab.ledger), Arc::clone(&lab.log) as Arc<dyn Log>, &options).await;
    assert!(report.unwrap().complete, "only what was asked about");
}

#[tokio::test]
async fn records_that_a_person_had_read_again_are_doubled_by_decision_and_both_incarnations_are_compared() {
    for format in formats() {
        let lab = Lab::new(format.clone()).await;
        lab.produce((0..152).filter(|offset| offset % 7 != 3));
        lab.sink(0, 152, |_| true).await;
        let of = TopicPartition::new(TOPIC, 0);
        lab.ledger.accept(&of, Decision { next: Some(100), again: true, only: None }).await.unwrap();
        let before = lab.verify().await;
        let records = lab.log.records.lock().unwrap().len() as u64;
        assert_eq!((before.ok, before.totals.equal, before.totals.not_comparable, before.totals.unread), (true, records, 0, 52), "{before:#?}");
        lab.sink(100, 152, |offset| offset != 120).await;
        let report = lab.verify().await;
        assert!(report.ok, "{format:?}: {:#?}", report.findings);
        let again = (100..152).filter(|offset| offset % 7 != 3 && *offset != 120).count() as u64;
        assert_eq!((report.totals.doubled_by_decision, report.totals.equal, report.totals.not_comparable), (again, records + again, 0), "{format:?}");
        assert_eq!(report.partitions[0].begun[0].start, 100);
        // an older ledger says nothing about how the incarnation began: the records tell all the same
        let heads = lab.folder.path().join("_kas3/lab/ledger/orders/00000");
        for head in std::fs::read_dir(heads).unwrap().map(|entry| entry.unwrap().path()) {
            let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&head).unwrap()).unwrap_or_default();
            if changed.as_object_mut().is_some_and(|head| head.remove("begun").is_some()) {
                std::fs::write(&head, changed.to_string()).unwrap();
            }
        }
        let report = lab.verify().await;
        assert_eq!((report.ok, report.totals.doubled_by_decision, report.partitions[0].begun.len()), (true, again, 0), "{format:?}");
        let first = lab.files().into_iter().find(|file| file.to_str().unwrap().contains("0_0.")).unwrap();
        std::fs::remove_file(first).unwrap();
        assert!(!lab.verify().await.ok, "{format:?}: an older incarnation's file is missing");
    }
}

#[tokio::test]
async fn what_a_log_held_before_it_was_cut_back_is_not_comparable_and_nothing_is_called_a_difference() {
    for format in formats() {
        let lab = Lab::new(format.clone()).await;
        lab.produce(0..200);
        lab.sink(0, 120, |_| true).await;
        lab.sink(120, 200, |_| true).await;
        for (offset, record) in lab.log.records.lock().unwrap().range_mut(150..) {
            record.value = Some(format!("{{\"new\":{offset}}}").into_bytes());
        }
        *lab.log.cut_at.lock().unwrap() = Some(150);
        lab.ledger.accept(&TopicPartition::new(TOPIC, 0), Decision::default()).await.unwrap();
        *lab.log.cut_at.lock().unwrap() = None;
        lab.sink(150, 200, |_| true).await;
        let report = lab.verify().await;
        assert!(report.ok, "{format:?}: {:#?}", report.findings);
        let because = report.totals.not_comparable_because;
        assert_eq!((report.totals.equal, because.cut_back, because.deleted, report.totals.doubled_by_decision), (200, 50, 0, 0), "{format:?}");
    }
}

#[tokio::test]
async fn files_without_index_are_matched_when_there_are_more_records_than_a_window_holds() {
    let lab = Lab::new(plain()).await;
    let long = "x".repeat(100_000);
    for offset in (0..600).filter(|offset| offset % 5 != 1) {
        let value = Some(format!("{{\"id\":{offset},\"long\":\"{long}\"}}").into_bytes());
        // Every record goes to another file than the one before.
        let record = OwnedRecord { topic: TOPIC.to_owned(), offset, timestamp_ms: Some(offset % 24 * 3_600_000), value, ..OwnedRecord::default() };
        lab.log.records.lock().unwrap().insert(offset, record);
    }
    lab.sink(0, 600, |_| true).await;
    let report = lab.verify().await;
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!((report.totals.files, report.totals.equal), (24, 480));
}

#[tokio::test]
async fn cat_reads_the_wanted_offsets_and_says_why_others_are_not_there() {
    for format in formats() {
        let lab = Lab::new(format.clone()).await;
        lab.produce((0..100).filter(|offset| *offset != 50));
        lab.sink(0, 60, |_| true).await;
        lab.sink(60, 100, |_| true).await;
        let mut lines = Vec::new();
        let mut each = |offset: Option<i64>, line: &[u8]| {
            lines.push((offset, String::from_utf8(line.to_vec()).unwrap()));
            Ok(())
        };
        let of = TopicPartition::new(TOPIC, 0);
        let span = Span { first: 46, next: 110 };
        let read = cat::read(&lab.pipeline, lab.store.clone(), &lab.ledger, &of, span, &mut each).await.unwrap();
        if read.unsure == 0 {
            let offsets: Vec<i64> = lines.iter().filter_map(|(offset, _)| *offset).collect();
            assert_eq!(offsets, (46..100).filter(|offset| *offset != 50).collect::<Vec<_>>(), "{format:?}");
            assert!(lines[0].1.contains("46"), "{format:?}: {}", lines[0].1);
            assert_eq!(
                read.nothing.iter().map(|(span, _)| *span).collect::<Vec<_>>(),
                [Span { first: 50, next: 51 }, Span { first: 100, next: 110 }]
            );
            assert!(read.nothing[1].1.contains("not committed yet"));
        } else {
            assert!(lines.iter().any(|(_, line)| line == "{\"id\":46}"), "{format:?}: all lines of the file are handed out");
        }
    }
}

#[tokio::test]
async fn what_a_newer_kas3_wrote_is_told_as_not_compared_and_everything_else_is_compared() {
    let lab = Lab::new(LinesSettings::default()).await;
    lab.produce(0..300);
    for first in [0, 100, 200] {
        lab.sink(first, first + 100, |_| true).await;
    }
    let heads = std::fs::read_dir(lab.folder.path().join("_kas3/lab/ledger").join(TOPIC).join("00000")).unwrap();
    let head = heads.map(|entry| entry.unwrap().path()).max_by_key(|path| path.metadata().unwrap().modified().unwrap()).unwrap();
    let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&head).unwrap()).unwrap();
    changed["closed"][0]["kind"] = "mirror".into();
    changed["closed"][1]["roll"] = "tide".into();
    changed["closed"][1]["files"][0]["role"] = "letters".into();
    let letters = changed["closed"][1]["files"][0]["records"].as_u64().unwrap();
    std::fs::write(&head, changed.to_string()).unwrap();
    let report = lab.verify().await;
    assert_eq!(found(&report), (vec![FindingKind::Ledger; 2], [0, 0, 2]), "{:#?}", report.findings);
    assert!(report.findings[0].detail.contains("`mirror`") && report.findings[1].detail.contains("`letters`"), "{:#?}", report.findings);
    assert_eq!((report.totals.spans, report.totals.equal), (3, 200 - letters));

    let mut lines = 0;
    let mut each = |_: Option<i64>, _: &[u8]| {
        lines += 1;
        Ok(())
    };
    let of = TopicPartition::new(TOPIC, 0);
    let read = cat::read(&lab.pipeline, lab.store.clone(), &lab.ledger, &of, Span { first: 0, next: 300 }, &mut each).await.unwrap();
    assert_eq!((lines, read.records), (200 - letters, 200 - letters));
    let told: Vec<&str> = read.nothing.iter().map(|(_, why)| why.as_str()).collect();
    assert!(told.len() == 2 && told[0].contains("`mirror`") && told[1].contains("`letters`"), "{told:?}");
}
