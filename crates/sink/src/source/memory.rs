//! A source in memory: a log of a few partitions, assigned as the test says. For tests of the pipeline, and for programs that
//! bring their own records.

use super::{Event, Fetched, Log, Source};
use crate::{
    batch::Batch,
    error::{Error, Kind, Result},
    plan::Start,
    record::{OwnedRecord, Record},
    report::Report,
    span::{Position, TopicPartition},
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A log that several sources and tests share.
#[derive(Clone, Default)]
pub struct MemoryLog(Arc<Mutex<BTreeMap<TopicPartition, Partition>>>);

#[derive(Default)]
struct Partition {
    records: Vec<OwnedRecord>,
    end: i64,
    reported: Option<Report>,
}

impl MemoryLog {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, Partition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record; its topic, partition and offset say where. Offsets may leave gaps, but only grow.
    pub fn push(&self, record: OwnedRecord) {
        let of = TopicPartition::new(record.topic.as_str(), record.partition);
        let mut partitions = self.lock();
        let partition = partitions.entry(of).or_default();
        assert!(record.offset >= partition.end, "offsets only grow");
        partition.end = record.offset + 1;
        partition.records.push(record);
    }

    /// Moves the end without a record, as a transaction marker does.
    pub fn set_end(&self, of: &TopicPartition, end: i64) {
        let mut partitions = self.lock();
        let partition = partitions.entry(of.clone()).or_default();
        partition.end = partition.end.max(end);
    }

    /// The end of a partition.
    pub fn end(&self, of: &TopicPartition) -> i64 {
        self.lock().get(of).map_or(0, |partition| partition.end)
    }

    /// Partitions of a topic.
    pub fn partitions(&self, topic: &str) -> i32 {
        i32::try_from(self.lock().keys().filter(|of| &*of.topic == topic).count()).unwrap_or(i32::MAX)
    }

    /// Records of `[first, next)`.
    pub fn records(&self, of: &TopicPartition, first: i64, next: i64) -> Vec<OwnedRecord> {
        self.lock().get(of).map_or_else(Vec::new, |partition| {
            let from = partition.records.partition_point(|record| record.offset < first);
            partition.records[from..].iter().take_while(|record| record.offset < next).cloned().collect()
        })
    }

    /// What was reported last.
    pub fn reported(&self, of: &TopicPartition) -> Option<Report> {
        self.lock().get(of).and_then(|partition| partition.reported.clone())
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn cluster_id(&self) -> Result<String> {
        Ok("memory".to_owned())
    }

    async fn topics(&self) -> Result<Vec<String>> {
        let mut topics: Vec<String> = self.lock().keys().map(|of| of.topic.to_string()).collect();
        topics.dedup();
        Ok(topics)
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        match Log::partitions(self, topic).await? {
            0 => Err(Error::new(Kind::Missing, format!("there is no topic `{topic}`"))),
            _ => Ok(Some(topic.to_owned())),
        }
    }

    async fn partitions(&self, topic: &str) -> Result<i32> {
        Ok(MemoryLog::partitions(self, topic))
    }

    async fn resolve_start(&self, topic: &str, start: &Start) -> Result<Vec<i64>> {
        let at = |partition| match start {
            Start::Latest => self.end(&TopicPartition::new(topic, partition)),
            _ => 0,
        };
        Ok((0..MemoryLog::partitions(self, topic)).map(at).collect())
    }

    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)> {
        Ok((0, self.end(of)))
    }

    async fn high_watermark(&self, of: &TopicPartition) -> Result<i64> {
        Ok(self.end(of))
    }

    fn cut_back(&self, _: &TopicPartition, _: Position) -> Result<Option<i64>> {
        Ok(None)
    }

    async fn reported(&self, of: &TopicPartition) -> Result<Option<Report>> {
        Ok(MemoryLog::reported(self, of))
    }

    async fn compacted(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        self.records(of, first, next).iter().try_for_each(|record| each(&record.borrow()))
    }
}

/// A source over a [`MemoryLog`].
pub struct MemorySource {
    log: MemoryLog,
    events: VecDeque<Event>,
    positions: BTreeMap<TopicPartition, i64>,
    paused: BTreeSet<TopicPartition>,
}

impl MemorySource {
    /// A source that is assigned `partitions` at first.
    pub fn new(log: MemoryLog, partitions: Vec<TopicPartition>) -> Self {
        MemorySource { log, events: VecDeque::from([Event::Assigned(partitions)]), positions: BTreeMap::new(), paused: BTreeSet::new() }
    }
}

impl Source for MemorySource {
    fn poll(&mut self, wait: Duration) -> Vec<Event> {
        if self.events.is_empty() {
            std::thread::sleep(wait);
        }
        self.events.drain(..).collect()
    }

    fn subscribe(&mut self, _: &[String]) {}

    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<()> {
        for (of, position) in partitions {
            self.positions.insert(of.clone(), position.next);
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for of in partitions {
            self.positions.remove(of);
            self.paused.remove(of);
        }
        Ok(())
    }

    fn seek(&mut self, of: &TopicPartition, position: Position) -> Result<()> {
        self.positions.insert(of.clone(), position.next);
        self.paused.remove(of);
        Ok(())
    }

    fn pause(&mut self, of: &TopicPartition) {
        self.paused.insert(of.clone());
    }

    fn fetch(&mut self, max: usize) -> Vec<(TopicPartition, Fetched)> {
        let mut found = Vec::new();
        let mut room = max;
        for (of, position) in self.positions.iter_mut().filter(|(of, position)| **position >= 0 && !self.paused.contains(of)) {
            let end = self.log.end(of);
            let mut records = self.log.records(of, *position, end);
            records.truncate(room);
            room -= records.len();
            let mut fetched = Fetched::default();
            match records.last() {
                Some(last) => {
                    *position = last.offset + 1;
                    fetched.batch = Some(Batch::owned(records));
                }
                None if room > 0 => {
                    *position = end;
                    fetched.end = Some(end);
                }
                None => continue,
            }
            found.push((of.clone(), fetched));
        }
        found
    }

    fn known_end(&self, of: &TopicPartition) -> Option<i64> {
        Some(self.log.end(of))
    }

    fn report(&mut self, reports: &[(TopicPartition, Report)]) {
        for (of, report) in reports {
            if let Some(partition) = self.log.lock().get_mut(of) {
                partition.reported = Some(report.clone());
            }
        }
    }

    fn close(self: Box<Self>) {}
}
