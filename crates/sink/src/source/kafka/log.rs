//! What ledger and tools ask of a cluster. A client of its own, which never joins the group.

use super::{
    Ends, Group, KafkaSource, Owners, Reached, client,
    client::Consumer,
    native::{self, Member},
    reader::StretchReader,
};
use crate::{
    coalesce::{Coalesced, copy, each},
    error::{Error, Kind, Result},
    plan::{Pipeline, Start},
    record::Record,
    report::Report,
    source::{Log, Source},
    span::{Position, TopicPartition},
    topics::TopicPattern,
};
use async_trait::async_trait;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How long one question may take.
const ASK: Duration = Duration::from_secs(20);
/// How often topics are looked for that an expression names.
const REFRESH: Duration = Duration::from_secs(30);

/// How librdkafka names its in-process broker, which has no controller to ask for topic ids, and describes no groups.
const IN_PROCESS: &str = "mockCluster";

/// Topics that the configuration names.
#[derive(Debug, Default)]
pub struct Topics {
    /// Those that exist, sorted.
    pub found: Vec<String>,
    /// Literal names that do not, each with what the broker said.
    pub missing: Vec<(String, Error)>,
}

/// A cluster, as far as ledger and tools ask it.
pub struct KafkaLog {
    pipeline: Arc<Pipeline>,
    consumer: Arc<Consumer>,
    native: native::Client,
    cluster: String,
    /// How long one question may take.
    ask: Duration,
    ending: Arc<AtomicBool>,
    readers: Mutex<Vec<StretchReader<client::Context>>>,
    topic_ids: Coalesced<String, Option<String>>,
    bounds: Coalesced<TopicPartition, (i64, i64)>,
    high_watermarks: Coalesced<TopicPartition, i64>,
    reported: Coalesced<TopicPartition, Option<Report>>,
    events: Option<std::thread::JoinHandle<()>>,
}

impl KafkaLog {
    /// Connects, and waits until a broker answers.
    ///
    /// # Errors
    /// `Config` for a property that librdkafka refuses; `Transient` when no broker answers.
    pub async fn connect(pipeline: &Arc<Pipeline>) -> Result<Arc<KafkaLog>> {
        KafkaLog::connect_within(pipeline, ASK).await
    }

    /// The same, with so long a time for the first answer and for each later one.
    ///
    /// # Errors
    /// As [`KafkaLog::connect`].
    pub async fn connect_within(pipeline: &Arc<Pipeline>, ask: Duration) -> Result<Arc<KafkaLog>> {
        let mut config = client::properties(pipeline);
        config.remove("group.instance.id");
        let consumer = client::create(&config, pipeline)?;
        let native = native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _);
        let ending = Arc::new(AtomicBool::new(false));
        let events = {
            let (consumer, ending) = (Arc::clone(&consumer), Arc::clone(&ending));
            // serves logs, errors and token refreshes; there are no records
            std::thread::Builder::new().name("kas3-kafka".to_owned()).spawn(move || {
                while !ending.load(Ordering::Relaxed) {
                    let _ = consumer.poll(Duration::from_millis(100));
                }
            })
        };
        let events = events.map_err(|source| Error::new(Kind::Fatal, "start a thread for Kafka's events").source(source))?;
        let mut log = KafkaLog {
            pipeline: Arc::clone(pipeline),
            consumer,
            native,
            cluster: String::new(),
            ask,
            ending,
            readers: Mutex::default(),
            topic_ids: Coalesced::default(),
            bounds: Coalesced::default(),
            high_watermarks: Coalesced::default(),
            reported: Coalesced::default(),
            events: Some(events),
        };
        let asked = Arc::clone(&log.consumer);
        log.cluster = blocking(move || {
            client::first_metadata(&asked, ask)?;
            asked.client().fetch_cluster_id(ask).ok_or_else(|| client::unreachable_broker(&asked, KafkaError::NoMessageReceived))
        })
        .await?;
        Ok(Arc::new(log))
    }

    /// A member of the pipeline's group with so many bytes for what it reads ahead, subscribed to `topics`.
    ///
    /// # Errors
    /// As [`KafkaSource`].
    pub fn source(&self, queue_bytes: u64, topics: &[String]) -> Result<Box<dyn Source>> {
        Ok(Box::new(KafkaSource::new(&self.pipeline, &self.native, queue_bytes, topics)?))
    }

    /// How often to look for topics anew: `topic.metadata.refresh.interval.ms` where the user set it.
    pub fn refresh_interval(&self) -> Duration {
        let set = self.pipeline.kafka.get("topic.metadata.refresh.interval.ms").and_then(|value| value.parse().ok());
        set.map_or(REFRESH, |ms: u64| Duration::from_millis(ms.max(100)))
    }

    /// Who is in the pipeline's group.
    ///
    /// # Errors
    /// `Transient` when the group's coordinator does not say.
    pub async fn group(&self) -> Result<Group> {
        if self.cluster.starts_with(IN_PROCESS) {
            return Ok(Group::new(&self.pipeline, native::Described::default()));
        }
        let (native, group, ask) = (self.native.clone(), self.pipeline.group.clone(), self.ask);
        let described = blocking(move || native.describe(&group, ask)).await?;
        Ok(Group::new(&self.pipeline, described))
    }

    /// Topics that the configuration names: those that exist, and literal names that do not.
    ///
    /// # Errors
    /// `Transient` when no broker answers, `Fatal` for a topic that may not be read.
    pub async fn topics(&self) -> Result<Topics> {
        let all: BTreeSet<String> = Log::topics(self).await?.into_iter().collect();
        let mut missing = Vec::new();
        for pattern in &self.pipeline.topics {
            if let TopicPattern::Name(name) = pattern
                && !all.contains(name)
            {
                // asked by name: a broker may hide a topic, and says so only then
                let (consumer, asked, ask) = (Arc::clone(&self.consumer), name.clone(), self.ask);
                match blocking(move || client::metadata(&consumer, Some(&asked), ask)).await {
                    Err(error) if error.kind() == Kind::Missing => missing.push((name.clone(), error)),
                    answer => drop(answer?),
                }
            }
        }
        Ok(Topics { found: all.into_iter().filter(|topic| self.pipeline.reads(topic)).collect(), missing })
    }

    /// What asks where partitions end.
    pub fn ends(self: &Arc<Self>) -> Ends {
        Ends::new(self)
    }

    pub(super) fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    pub(super) fn consumer(&self) -> Arc<Consumer> {
        Arc::clone(&self.consumer)
    }

    pub(super) fn native(&self) -> native::Client {
        self.native.clone()
    }

    /// What sees to it that no partition is left without an owner; `None` where nobody need.
    pub fn owners(self: &Arc<Self>) -> Option<Owners> {
        Owners::new(Arc::clone(self), &self.pipeline)
    }

    /// All partitions of the topics that the configuration names, and who owns what in the pipeline's group; `None` while it
    /// rebalances.
    ///
    /// # Errors
    /// `Transient` when no broker answers, or the group's does not say.
    pub(super) async fn shares(&self) -> Result<Option<(BTreeSet<TopicPartition>, Vec<Member>)>> {
        let (consumer, native, group, ask) = (Arc::clone(&self.consumer), self.native.clone(), self.pipeline.group.clone(), self.ask);
        let asked = blocking(move || {
            let described = native.describe(&group, ask)?;
            if !described.at_rest {
                return Ok(None);
            }
            Ok(Some((client::metadata(&consumer, None, ask)?, described.members)))
        });
        let Some((metadata, members)) = asked.await? else { return Ok(None) };
        let partitions = metadata.topics().iter().filter(|topic| self.pipeline.reads(topic.name()));
        let partitions = partitions.flat_map(|topic| topic.partitions().iter().map(|partition| TopicPartition::new(topic.name(), partition.id())));
        Ok(Some((partitions.collect(), members)))
    }

    /// Calls `each` for every record of `[first, next)`, read-committed, in the order of their offsets. Blocks the thread.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the beginning; whatever `each` answers.
    pub fn read_stretch(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Reached> {
        self.with_reader(|reader| reader.read_one(of, first, next, each))
    }

    /// Reads by a client that has nothing else to do.
    fn with_reader<T>(&self, read: impl FnOnce(&StretchReader<client::Context>) -> Result<T>) -> Result<T> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => StretchReader::of_pipeline(&self.pipeline)?,
        };
        let read = read(&reader)?;
        // one that failed is not kept
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        Ok(read)
    }

    /// The largest record that a topic takes, in bytes as producers send it; `None` when the broker does not say.
    pub async fn record_bytes_max(&self, topic: &str) -> Option<u64> {
        let (native, name) = (self.native.clone(), topic.to_owned());
        let asked = blocking(move || native.topic_setting(&name, "max.message.bytes", ASK)).await;
        asked.ok().flatten().and_then(|bytes| bytes.parse().ok())
    }

    /// Offsets of one question about many partitions, each with its own outcome; `time` as ListOffsets has it.
    async fn offsets_at(&self, partitions: Vec<TopicPartition>, time: Offset) -> Result<Vec<Result<i64>>> {
        let (consumer, ask) = (Arc::clone(&self.consumer), self.ask);
        blocking(move || {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for of in &partitions {
                let added = list.add_partition_offset(&of.topic, of.partition, time);
                added.map_err(|source| Error::new(Kind::Fatal, format!("ask for offsets of `{of}`")).source(source))?;
            }
            let unanswered =
                |source: KafkaError, of: &dyn std::fmt::Display| Error::new(Kind::Transient, format!("ask for offsets of `{of}`")).source(source);
            let answers = consumer.offsets_for_times(list, ask).map_err(|source| match &partitions[..] {
                [of] => unanswered(source, of),
                _ => unanswered(source, &format!("{} partitions", partitions.len())),
            })?;
            let elements = answers.elements();
            let answers: HashMap<(&str, i32), _> = elements.iter().map(|answer| ((answer.topic(), answer.partition()), answer)).collect();
            let offset = |of: &TopicPartition| match answers.get(&(&*of.topic, of.partition)) {
                None => Err(Error::new(Kind::Transient, format!("the broker does not say what `{of}` holds"))),
                Some(answer) => match answer.error() {
                    Err(source) => Err(unanswered(source, of)),
                    Ok(()) => Ok(answer.offset().to_raw().unwrap_or(-1)),
                },
            };
            Ok(partitions.iter().map(offset).collect())
        })
        .await
    }

    /// The same for all of these partitions of one topic, or an error.
    async fn list_offsets(&self, topic: &str, partitions: &[i32], time: Offset) -> Result<Vec<i64>> {
        let partitions = partitions.iter().map(|partition| TopicPartition::new(topic, *partition)).collect();
        self.offsets_at(partitions, time).await?.into_iter().collect()
    }

    /// First offsets and ends of many partitions.
    async fn bounds_of(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Result<(i64, i64)>>> {
        let earliest = self.offsets_at(partitions.clone(), Offset::Beginning).await?;
        let ends = self.offsets_at(partitions.clone(), Offset::End).await?;
        let bounds = earliest.into_iter().zip(ends).map(|(earliest, end)| Ok((earliest?, end?))).collect();
        each(partitions.len(), bounds)
    }

    async fn committed(&self, group: Option<String>, partitions: Vec<TopicPartition>) -> Result<Vec<Option<Report>>> {
        let consumer = match group {
            None => Arc::clone(&self.consumer),
            Some(group) => {
                let mut config = client::properties(&self.pipeline);
                config.set("group.id", group);
                client::create(&config, &self.pipeline)?
            }
        };
        let ask = self.ask;
        blocking(move || {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for of in &partitions {
                list.add_partition(&of.topic, of.partition);
            }
            let topics: BTreeSet<&str> = partitions.iter().map(|of| &*of.topic).collect();
            let answers = committed_offsets(&consumer, list, ask).map_err(|source| {
                let topics = topics.into_iter().collect::<Vec<_>>().join("`, `");
                Error::new(Kind::Transient, format!("ask for the group's offsets of `{topics}`"))
                    .hint("the principal needs READ on the group: see docs/permissions.md")
                    .source(source)
            })?;
            let report = |next: i64, metadata: &str| (next >= 0).then(|| Report { next, metadata: metadata.to_owned() });
            let elements = answers.elements();
            let answers: HashMap<(&str, i32), _> = elements.iter().map(|answer| ((answer.topic(), answer.partition()), answer)).collect();
            let of = |of: &TopicPartition| {
                let answer = answers.get(&(&*of.topic, of.partition))?;
                report(answer.offset().to_raw().unwrap_or(-1), answer.metadata())
            };
            Ok(partitions.iter().map(of).collect())
        })
        .await
    }
}

fn committed_offsets(consumer: &BaseConsumer<client::Context>, list: TopicPartitionList, ask: Duration) -> Result<TopicPartitionList, KafkaError> {
    consumer.committed_offsets(list, ask)
}

/// Runs what librdkafka blocks for, away from the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(source) => Err(Error::new(Kind::Fatal, "ask Kafka").source(source)),
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.consumer.context().close();
        if let Some(events) = self.events.take() {
            let _ = events.join();
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn cluster_id(&self) -> Result<String> {
        Ok(self.cluster.clone())
    }

    async fn topics(&self) -> Result<Vec<String>> {
        let (consumer, ask) = (Arc::clone(&self.consumer), self.ask);
        blocking(move || Ok(client::metadata(&consumer, None, ask)?.topics().iter().map(|topic| topic.name().to_owned()).collect())).await
    }

    async fn topic_id(&self, topic: &str) -> Result<Option<String>> {
        if self.cluster.starts_with(IN_PROCESS) {
            return Ok(None);
        }
        let ask = |topics: Vec<String>| async move {
            // nearly always they are all the same
            let mut known: BTreeMap<&str, Result<Option<String>>> = BTreeMap::new();
            for topic in &topics {
                if !known.contains_key(topic.as_str()) {
                    let (native, name, ask) = (self.native.clone(), topic.clone(), self.ask);
                    let id = blocking(move || native.topic_id(&name, ask)).await;
                    // every step of the ledger that reads or writes Kafka's offsets asks this first
                    if id.as_ref().is_err_and(|error| error.kind() == Kind::Transient) {
                        self.native.bootstrap_again(self.pipeline.kafka.get("bootstrap.servers").map_or("", String::as_str));
                    }
                    known.insert(topic, id);
                }
            }
            let answer = |topic: &String| match known.get(topic.as_str()) {
                Some(Ok(id)) => Ok(id.clone()),
                Some(Err(error)) => Err(copy(error)),
                None => Ok(None),
            };
            each(topics.len(), topics.iter().map(answer).collect())
        };
        self.topic_ids.ask(topic.to_owned(), ask).await
    }

    async fn partitions(&self, topic: &str) -> Result<i32> {
        let (consumer, topic, ask) = (Arc::clone(&self.consumer), topic.to_owned(), self.ask);
        blocking(move || {
            let metadata = client::metadata(&consumer, Some(&topic), ask)?;
            Ok(metadata.topics().first().map_or(0, |topic| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
        })
        .await
    }

    async fn resolve_start(&self, topic: &str, start: &Start) -> Result<Vec<i64>> {
        let partitions: Vec<i32> = (0..Log::partitions(self, topic).await?).collect();
        match start {
            Start::Earliest => self.list_offsets(topic, &partitions, Offset::Beginning).await,
            Start::Latest => self.list_offsets(topic, &partitions, Offset::End).await,
            Start::Timestamp(text) => {
                let time: jiff::Timestamp = text.parse().map_err(|source: jiff::Error| {
                    Error::new(Kind::Config, format!("`source.start.timestamp` is `{text}`, which is no RFC 3339 time"))
                        .hint("write it as `2026-01-01T00:00:00Z`")
                        .source(source)
                })?;
                let ends = self.list_offsets(topic, &partitions, Offset::End).await?;
                let offsets = self.list_offsets(topic, &partitions, Offset::Offset(time.as_millisecond())).await?;
                // no record at or after the time: what comes from now on
                Ok(offsets.into_iter().zip(ends).map(|(offset, end)| if offset < 0 { end } else { offset }).collect())
            }
            Start::Group(group) => {
                let earliest = self.list_offsets(topic, &partitions, Offset::Beginning).await?;
                let partitions = partitions.into_iter().map(|partition| TopicPartition::new(topic, partition)).collect();
                let committed = self.committed(Some(group.clone()), partitions).await?;
                if committed.iter().all(Option::is_none) {
                    return Err(Error::new(Kind::Config, format!("`source.start.group`: group `{group}` has no offsets of topic `{topic}`"))
                        .hint("check the group's name; offsets expire seven days after a group empties"));
                }
                Ok(committed.into_iter().zip(earliest).map(|(report, earliest)| report.map_or(earliest, |report| report.next)).collect())
            }
        }
    }

    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)> {
        self.bounds.ask(of.clone(), |partitions| self.bounds_of(partitions)).await
    }

    async fn high_watermark(&self, of: &TopicPartition) -> Result<i64> {
        let ask = |partitions: Vec<TopicPartition>| async move {
            let (native, count) = (self.native.clone(), partitions.len());
            each(count, blocking(move || native.high_watermarks(&partitions, ASK)).await?)
        };
        self.high_watermarks.ask(of.clone(), ask).await
    }

    async fn reported(&self, of: &TopicPartition) -> Result<Option<Report>> {
        let ask = |partitions: Vec<TopicPartition>| async move {
            let reports = self.committed(None, partitions.clone()).await?;
            each(partitions.len(), reports.into_iter().map(Ok).collect())
        };
        self.reported.ask(of.clone(), ask).await
    }

    async fn compacted(&self, topic: &str) -> Result<bool> {
        if self.cluster.starts_with(IN_PROCESS) {
            return Ok(false);
        }
        let (native, name, ask) = (self.native.clone(), topic.to_owned(), self.ask);
        match blocking(move || native.topic_setting(&name, "cleanup.policy", ask)).await {
            Ok(policy) => Ok(policy.is_some_and(|policy| policy.contains("compact"))),
            Err(error) => {
                tracing::debug!(topic, error = %error.chain(), "cannot ask whether the topic is compacted");
                Ok(false)
            }
        }
    }

    fn cut_back(&self, of: &TopicPartition, position: Position) -> Result<Option<i64>> {
        if position.leader_epoch < 0 { Ok(None) } else { self.with_reader(|reader| reader.cut_back(of, position, ASK)) }
    }

    fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        self.read_stretch(of, first, next, each).map(|_| ())
    }
}
