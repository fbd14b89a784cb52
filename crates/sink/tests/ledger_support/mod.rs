//! A log in memory, a worker that sinks it by the real ledger into a folder, and the oracle.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{Timestamp, tz::TimeZone};
use kas3_sink::{
    Error, Kind, Result,
    format::{Encoder, Format},
    ledger::{
        Body, ClosedFile, ClosedSpan, ClosedStretch, Entry, Ledger, LedgerObserver, LedgerParts, Partition, Remake, Remaker, Role, Timing, Upload,
        metadata, random_name,
    },
    path::{Limits, PathTemplate, TemplateOptions},
    plan::{Pipeline, RollPlan, Start, TopicPlan},
    record::Record,
    refused::BadRecords,
    report::Report,
    source::Log,
    span::{Bounds, Checksum, Counts, Position, Roll, Span, TopicPartition},
    topics::TopicPattern,
};
use kas3_store::{PutOptions, StorageSettings, Store, Unobserved};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use xxhash_rust::xxh3::xxh3_128;

pub const TOPIC: &str = "orders";

pub fn of() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// One topic in memory.
#[derive(Clone)]
pub struct Topic {
    pub id: String,
    pub partitions: Vec<Vec<Option<String>>>,
    pub earliest: i64,
}

impl Topic {
    /// A topic of one partition with `records` records.
    pub fn with(id: &str, records: i64) -> Topic {
        Topic { id: id.to_owned(), partitions: vec![(0..records).map(|offset| Some(format!("{id} {offset}"))).collect()], earliest: 0 }
    }
}

pub struct MemoryLog {
    pub cluster: Mutex<String>,
    pub topics: Mutex<BTreeMap<String, Topic>>,
    pub reported: Mutex<HashMap<TopicPartition, Report>>,
    pub starts: Mutex<u32>,
    /// Where the broker would say that the log was cut back.
    pub cut_at: Mutex<Option<i64>>,
}

impl MemoryLog {
    pub fn new(topic: Topic) -> Arc<MemoryLog> {
        Arc::new(MemoryLog {
            cluster: Mutex::new("cluster-1".to_owned()),
            topics: Mutex::new(BTreeMap::from([(TOPIC.to_owned(), topic)])),
            reported: Mutex::default(),
            starts: Mutex::default(),
            cut_at: Mutex::default(),
        })
    }

    pub fn change(&self, change: impl FnOnce(&mut Topic)) {
        change(self.topics.lock().unwrap().get_mut(TOPIC).unwrap());
    }

    fn with<T>(&self, topic: &str, look: impl FnOnce(&Topic) -> T) -> Result<T> {
        self.topics.lock().unwrap().get(topic).map(look).ok_or_else(|| Error::new(Kind::Missing, format!("no topic `{topic}`")))
    }

    pub fn end(&self, of: &TopicPartition) -> i64 {
        self.with(&of.topic, |topic| topic.partitions[of.partition as usize].len() as i64).unwrap()
    }

    fn lines(&self, of: &TopicPartition, span: Span) -> Result<Vec<(i64, String)>> {
        self.with(&of.topic, |topic| {
            if topic.earliest > span.first {
                return Err(Error::new(Kind::Missing, "Kafka no longer has it"));
            }
            let records = &topic.partitions[of.partition as usize];
            Ok((span.first..span.next).filter_map(|offset| records[offset as usize].clone().map(|value| (offset, value))).collect())
        })?
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn cluster_id(&self) -> Result<String> {
        Ok(self.cluster.lock().unwrap().clone())
    }
    async fn topics(&self) -> Result<Vec<String>> {
        Ok(self.topics.lock().unwrap().keys().cloned().collect())
    }
    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        self.with(topic, |topic| Some(topic.id.clone()))
    }
    async fn partitions(&self, topic: &str) -> Result<i32> {
        self.with(topic, |topic| topic.partitions.len() as i32)
    }
    async fn resolve_start(&self, topic: &str, start: &Start) -> Result<Vec<i64>> {
        *self.starts.lock().unwrap() += 1;
        self.with(topic, |topic| {
            topic.partitions.iter().map(|records| if *start == Start::Latest { records.len() as i64 } else { topic.earliest }).collect()
        })
    }
    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)> {
        self.with(&of.topic, |topic| (topic.earliest, topic.partitions[of.partition as usize].len() as i64))
    }
    async fn high_watermark(&self, of: &TopicPartition) -> Result<i64> {
        Ok(self.bounds(of).await?.1)
    }
    fn cut_back(&self, _: &TopicPartition, position: Position) -> Result<Option<i64>> {
        Ok(self.cut_at.lock().unwrap().filter(|at| *at < position.next))
    }
    async fn reported(&self, of: &TopicPartition) -> Result<Option<Report>> {
        Ok(self.reported.lock().unwrap().get(of).cloned())
    }
    async fn compacted(&self, _: &str) -> Result<bool> {
        Ok(false)
    }
    fn read(&self, _: &TopicPartition, _: i64, _: i64, _: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        unreachable!("this log makes files by itself")
    }
}

#[async_trait]
impl Remaker for MemoryLog {
    async fn remake(&self, order: &Remake) -> Result<Vec<(u32, ClosedFile)>> {
        let made = files(&self.lines(&order.of, order.span)?, &order.of, order.incarnation);
        let made = (0..).zip(made).filter(|(number, _)| order.wanted.contains(number));
        Ok(made.map(|(number, made)| (number, made.closed(Body::Whole(Bytes::from(made.content.clone()))))).collect())
    }
}

/// A file before it is decided how it goes up.
pub struct Made {
    pub path: String,
    pub content: String,
    pub offsets: Vec<i64>,
}

impl Made {
    fn closed(&self, body: Body) -> ClosedFile {
        let mut offsets = None;
        for offset in &self.offsets {
            Bounds::widen(&mut offsets, *offset);
        }
        ClosedFile {
            path: self.path.clone(),
            role: Role::Data,
            body,
            bytes: self.content.len() as u64,
            records: self.offsets.len() as u64,
            rows: self.offsets.len() as u64,
            checksum: Checksum::from_xxh3(xxh3_128(self.content.as_bytes())),
            offsets,
            timestamps: None,
            content_type: "text/plain",
            content_encoding: None,
        }
    }
}

/// Records of a span by their group: even offsets and odd ones.
fn files(lines: &[(i64, String)], of: &TopicPartition, incarnation: u32) -> Vec<Made> {
    let suffix = if incarnation == 0 { String::new() } else { format!("-i{incarnation}") };
    let mut made: Vec<Made> = Vec::new();
    for parity in 0..2 {
        let mine: Vec<_> = lines.iter().filter(|(offset, _)| offset % 2 == parity).collect();
        let Some((first, _)) = mine.first() else { continue };
        made.push(Made {
            path: format!("{}/group={parity}/{}_{first}{suffix}.txt", of.topic, of.partition),
            content: mine.iter().map(|(offset, value)| format!("{offset}\t{value}\n")).collect(),
            offsets: mine.iter().map(|(offset, _)| *offset).collect(),
        });
    }
    made
}

struct Text;

impl Format for Text {
    fn extension(&self) -> &str {
        "txt"
    }
    fn content_type(&self) -> &'static str {
        "text/plain"
    }
    fn content_encoding(&self) -> Option<&'static str> {
        None
    }
    fn has_side_file(&self) -> bool {
        false
    }
    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        Err(Error::new(Kind::Fatal, "this worker writes its files by itself"))
    }
}

pub fn pipeline(url: &str) -> Pipeline {
    let options = TemplateOptions { timezone: TimeZone::UTC, single_topic: false, limits: Limits::DISK };
    let plan = TopicPlan {
        path: PathTemplate::parse("{topic}/group={key}/{partition}_{offset}", &options).unwrap(),
        format: Arc::new(Text),
        roll: RollPlan { bytes: 1, records: 1, age: Duration::from_secs(1), idle: None, clock: None, files: 10, files_of_record: 10 },
        bad_records: BadRecords::Stop,
        transforms: Arc::default(),
    };
    Pipeline {
        name: "test".to_owned(),
        topics: vec![TopicPattern::Name(TOPIC.to_owned()), TopicPattern::Expression("events.*".parse().unwrap())],
        group: "test".to_owned(),
        start: Start::Earliest,
        beside: false,
        kafka: kas3_sink::properties::Properties::default(),
        target: kas3_sink::target::files::NAME,
        url: url.to_owned(),
        ledger_url: url.to_owned(),
        ledger_version: None,
        storage: StorageSettings::default(),
        timezone: TimeZone::UTC,
        settle: Some(Duration::ZERO),
        amend_after: Duration::from_millis(60),
        shutdown_deadline: Duration::from_secs(1),
        revoke_deadline: Duration::from_secs(1),
        memory_bytes: 1 << 30,
        http: None,
        default: Arc::new(plan),
        overrides: Vec::new(),
        cursor: false,
        settings_digest: "digest-1".to_owned(),
    }
}

pub fn timing() -> Timing {
    Timing {
        retry_first: Duration::from_millis(1),
        retry_longest: Duration::from_millis(4),
        publish_deadline: Duration::from_secs(2),
        cut_back_after: Duration::from_millis(20),
        orphan_after: Duration::ZERO,
    }
}

/// Keeps what the ledger tells.
#[derive(Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl Told {
    pub fn holds(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(text))
    }
    fn tell(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

impl LedgerObserver for Told {
    fn committed(&self, _: &TopicPartition, entry: &Entry) {
        self.tell(format!("committed {} to {}", entry.span().first, entry.span().next));
    }
    fn settled(&self, of: &TopicPartition) {
        self.tell(format!("settled {of}"));
    }
    fn amended(&self, of: &TopicPartition) {
        self.tell(format!("amended {of}"));
    }
    fn warning(&self, _: &TopicPartition, text: &str) {
        self.tell(format!("warning: {text}"));
    }
}

pub fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

pub async fn store(url: &str) -> Store {
    Store::open(url, &StorageSettings::default(), Arc::new(Unobserved)).await.unwrap()
}

pub async fn ledger_of(pipeline: Pipeline, log: &Arc<MemoryLog>, told: &Arc<Told>) -> Arc<Ledger> {
    let (sink, ledger) = (store(&pipeline.url).await, store(&pipeline.ledger_url).await);
    let parts = LedgerParts { pipeline: Arc::new(pipeline), sink, ledger, log: log.clone(), remaker: log.clone(), observer: told.clone() };
    Ledger::open_with(parts, timing()).await.unwrap()
}

pub async fn ledger(folder: &Path, log: &Arc<MemoryLog>) -> Arc<Ledger> {
    ledger_of(pipeline(&url(folder)), log, &Arc::default()).await
}

/// How a worker of a test stages its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Even offsets in a bundle, odd ones in an upload.
    Apart,
    /// All of them in the head.
    InHead,
    /// The one and the other, span by span.
    InTurn,
}

pub const WAYS: [Way; 3] = [Way::Apart, Way::InHead, Way::InTurn];

/// Closes a span of a partition: its even offsets in a bundle, its odd ones in an upload.
pub fn close(log: &MemoryLog, sink: &Store, partition: &Partition, next: i64) -> ClosedSpan {
    close_by(Way::Apart, log, sink, partition, next)
}

/// The same with its files staged so.
pub fn close_by(way: Way, log: &MemoryLog, sink: &Store, partition: &Partition, next: i64) -> ClosedSpan {
    let (of, id) = (partition.of().clone(), random_name());
    let span = Span { first: partition.position().next, next };
    let lines = log.lines(&of, span).unwrap();
    let staging = format!("_kas3/test/staged/{}/{:05}/", of.topic, of.partition);
    let mut closed = Vec::new();
    for (number, made) in (0..).zip(files(&lines, &of, partition.incarnation())) {
        let content = Bytes::from(made.content.clone());
        let apart = way == Way::Apart || (way == Way::InTurn && span.first / 3 % 2 == 1);
        let body = if apart && made.path.contains("group=1") {
            let mut options = PutOptions::data("text/plain");
            options.metadata = metadata(&of, &id, number, span.first, None);
            let runtime = tokio::runtime::Handle::current();
            let mut upload = Upload::begin(&runtime, sink.clone(), made.path.clone(), staging.clone(), options, Arc::new(|_| {}));
            upload.push(content);
            Body::Upload(upload)
        } else {
            Body::Whole(content)
        };
        closed.push(made.closed(body));
    }
    let counts = Counts { read: lines.len() as u64, written: lines.len() as u64, rows: lines.len() as u64, ..Counts::default() };
    let stretches = vec![ClosedStretch { of, span, leader_epoch: 0 }];
    ClosedSpan { id, stretches, now: Timestamp::UNIX_EPOCH, roll: Roll::Records, counts, timestamps: None, files: closed }
}

/// Sinks a partition up to the end of its log, in spans of three offsets; settles alone after every second.
pub async fn work(ledger: &Arc<Ledger>, log: &MemoryLog, sink: &Store, of: &TopicPartition) -> Result<()> {
    work_by(Way::Apart, ledger, log, sink, of).await
}

/// The same with its files staged so.
pub async fn work_by(way: Way, ledger: &Arc<Ledger>, log: &MemoryLog, sink: &Store, of: &TopicPartition) -> Result<()> {
    'open: loop {
        let mut partition = ledger.open_partition(of).await?;
        let mut spans = 0;
        while partition.position().next < log.end(of) {
            let next = (partition.position().next + 3).min(log.end(of));
            let empty = log.lines(of, Span { first: partition.position().next, next })?.is_empty();
            let mut moved = match empty {
                true => partition.advance(Position { next, leader_epoch: 0 }).await,
                false => {
                    let span = close_by(way, log, sink, &partition, next);
                    partition.commit(span).await
                }
            };
            spans += 1;
            if moved.is_ok() && spans % 2 == 0 {
                moved = partition.settle().await;
            }
            match moved {
                Err(error) if error.kind() == Kind::Fenced => continue 'open,
                moved => moved?,
            }
        }
        match partition.settle().await {
            Err(error) if error.kind() == Kind::Fenced => continue 'open,
            settled => return settled,
        }
    }
}

/// Every visible file with its content.
pub fn visible(folder: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.starts_with('_') || name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// Records in visible files, sorted: `offset\tvalue`.
pub fn records(folder: &Path) -> Vec<String> {
    let mut lines: Vec<String> = visible(folder).values().flat_map(|content| content.lines().map(str::to_owned)).collect();
    lines.sort_by_key(|line| line.split('\t').next().unwrap().parse::<i64>().unwrap());
    lines
}

/// What visible files must hold.
pub fn expected(log: &MemoryLog) -> Vec<String> {
    let lines = log.lines(&of(), Span { first: 0, next: log.end(&of()) }).unwrap();
    lines.into_iter().map(|(offset, value)| format!("{offset}\t{value}")).collect()
}
