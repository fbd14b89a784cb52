//! Kafka as a source, by librdkafka: the consumer of the pipeline, and what ledger and tools ask of a cluster.

mod batch;
mod client;
mod ends;
mod instance;
mod log;
mod native;
mod owners;
mod reader;
mod strangers;

pub use ends::{End, Ends};
pub use log::{KafkaLog, Topics};
pub use owners::Owners;
pub use reader::{Reached, Stretch, StretchReader};
pub use strangers::{Group, Stranger};

use super::{Event, Fetched, Source};
use crate::{
    batch::Batch,
    error::{Error, Kind, Result},
    plan::Pipeline,
    report::Report,
    span::{Position, TopicPartition},
    stops,
};
use batch::KafkaBatch;
use client::{Consumer, Unanswered};
use instance::{GIVE_EACH_ITS_OWN, Unreleased};
use native::Message;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// How long leaving the group may take. librdkafka waits for the answer to a report, and sends one whose coordinator is gone again and
/// again: without an end of its own, leaving has none.
const CLOSE_MAX: Duration = Duration::from_secs(5);
/// How long a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often misplaced partitions are sought, and stopped ones forwarded anew.
const PLACES_EVERY: Duration = Duration::from_millis(100);
/// How long a partition that was taken out and in again is forwarded anew.
const FORWARD_ANEW: Duration = Duration::from_secs(10);

/// How long nothing may come of any broker until the bootstrap servers are named again: without an assignment, and with one,
/// when there may be no records.
const SILENCE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(60)];
/// The longest pause between two times.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// No topic: a name that Kafka allows for none, so that it is never created.
const NO_TOPIC: &str = "kas3 joins its group again";
/// How long librdkafka may take to say that it is none.
const NO_TOPIC_SAID: Duration = Duration::from_secs(30);

/// The consumer of a pipeline.
pub struct KafkaSource {
    /// The records of all partitions.
    queue: native::Queue,
    /// What keeps each assigned partition's records going there.
    forwarded: HashMap<TopicPartition, native::Queue>,
    paused: HashSet<TopicPartition>,
    native: native::Client,
    consumer: Arc<Consumer>,
    headers: bool,
    static_member: bool,
    /// Behind what was handed out of each assigned partition.
    positions: HashMap<TopicPartition, Position>,
    /// Partitions whose place in librdkafka is not to be trusted before they were sought: nothing is handed out of them.
    misplaced: HashSet<TopicPartition>,
    /// When they are sought again.
    seek_again: Instant,
    /// Until when partitions are forwarded anew: librdkafka undoes it when it stops one, some time after it was told to.
    forward_until: Instant,
    bootstrap_servers: String,
    /// When something last came of a broker, and how often the bootstrap servers were named since.
    heard: (Instant, u32),
    topics: Vec<String>,
    /// When the group was last made to rebalance.
    rejoined: Option<Instant>,
    pipeline: Arc<Pipeline>,
    config: ClientConfig,
    /// Another client of the cluster, which can be asked while ours is done for.
    log: native::Client,
    /// Whether the group has ever given us anything.
    joined: bool,
    unreleased: Option<Unreleased>,
}

impl KafkaSource {
    /// A member of the pipeline's group, subscribed to `topics`; `log` is another client of the cluster.
    ///
    /// # Errors
    /// `Config` when librdkafka refuses a property.
    fn new(pipeline: &Arc<Pipeline>, log: &native::Client, queue_bytes: u64, topics: &[String]) -> Result<Self> {
        let mut config = client::properties(pipeline);
        client::bound_queue(&mut config, pipeline, queue_bytes);
        let (consumer, native) = connect(&config, pipeline)?;
        let mut source = KafkaSource {
            queue: native.queue(),
            forwarded: HashMap::new(),
            paused: HashSet::new(),
            native,
            consumer,
            headers: true,
            static_member: pipeline.kafka.contains_key("group.instance.id"),
            positions: HashMap::new(),
            misplaced: HashSet::new(),
            seek_again: Instant::now(),
            forward_until: Instant::now(),
            bootstrap_servers: pipeline.kafka.get("bootstrap.servers").cloned().unwrap_or_default(),
            heard: (Instant::now(), 0),
            topics: Vec::new(),
            rejoined: None,
            pipeline: Arc::clone(pipeline),
            config,
            log: log.clone(),
            joined: false,
            unreleased: None,
        };
        Source::subscribe(&mut source, topics);
        Ok(source)
    }

    /// Takes a client of its own in place of one that the group has refused.
    fn connect_again(&mut self) -> Result<()> {
        let (consumer, native) = connect(&self.config, &self.pipeline)?;
        self.consumer.context().close();
        // what is left of the old client goes with its last part
        self.queue = native.queue();
        self.native = native;
        self.consumer = consumer;
        self.heard = (Instant::now(), 0);
        self.subscribe_to(&self.topics);
        Ok(())
    }

    fn subscribe_to(&self, topics: &[String]) {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        if topics.is_empty() {
            self.consumer.unsubscribe();
        } else if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "cannot subscribe");
        }
    }

    /// Sorts what came of one partition into records, its end and an error.
    fn fetched(&mut self, of: &TopicPartition, messages: native::Messages) -> Fetched {
        let mut fetched = Fetched::default();
        let (mut records, mut next) = (0, -1);
        for message in messages.iter() {
            match message.error() {
                None => {
                    records += 1;
                    next = message.offset() + 1;
                }
                Some(RDKafkaErrorCode::PartitionEOF) => {
                    fetched.end = Some(message.offset());
                    next = message.offset();
                }
                Some(code) => fetched.error = Some(read_error(of, message, code, self.positions.get(of).map_or(-1, |position| position.next))),
            }
        }
        if next >= 0 {
            self.positions.insert(of.clone(), Position { next, leader_epoch: -1 });
        }
        if records > 0 {
            fetched.batch = Some(Batch::new(Box::new(KafkaBatch { messages, headers: self.headers, records })));
        }
        fetched
    }

    fn on_error(&mut self, error: &KafkaError) -> Option<Event> {
        use RDKafkaErrorCode as Code;
        match error {
            KafkaError::MessageConsumptionFatal(Code::UnreleasedInstanceId) if !self.joined => {
                let unreleased = self.unreleased.get_or_insert_with(|| Unreleased::new(&self.pipeline, &self.log));
                unreleased.refused(error).err().map(Event::Failed)
            }
            KafkaError::MessageConsumptionFatal(code) => {
                let hint = match code {
                    Code::FencedInstanceId | Code::UnreleasedInstanceId => GIVE_EACH_ITS_OWN,
                    Code::UnsupportedVersion => "the broker lacks this group protocol: remove `group.protocol`, or upgrade to Kafka 4.0",
                    _ => "see the message of the broker",
                };
                Some(Event::Failed(Error::new(Kind::Fatal, "the consumer cannot go on").hint(hint).source(error.clone())))
            }
            KafkaError::MessageConsumption(Code::GroupAuthorizationFailed) => Some(Event::Failed(
                Error::new(Kind::Fatal, "no permission for the consumer group")
                    .hint("the principal needs READ on the group: see docs/permissions.md")
                    .source(error.clone()),
            )),
            KafkaError::MessageConsumption(Code::InvalidTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed)
                if self.rejoined.is_some_and(|at| at.elapsed() < NO_TOPIC_SAID) =>
            {
                tracing::debug!(%error, "the consumer says of a topic, likely of `{NO_TOPIC}`");
                None
            }
            // whether brokers can be reached is asked for, and told once
            KafkaError::MessageConsumption(
                Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::TimedOutQueue
                | Code::Authentication
                | Code::SSL,
            ) => {
                tracing::debug!(%error, "the consumer says");
                None
            }
            _ => {
                tracing::warn!(%error, "the consumer says");
                None
            }
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, wait: Duration) -> Vec<Event> {
        if let Some(unreleased) = &mut self.unreleased
            && let Some(pause) = unreleased.pausing()
        {
            if !pause.is_zero() {
                std::thread::sleep(wait.min(pause));
                return Vec::new();
            }
            unreleased.trying();
            if let Err(error) = self.connect_again() {
                return vec![Event::Failed(error)];
            }
        }
        let event = match self.consumer.poll(wait) {
            Some(Err(error)) => self.on_error(&error),
            // every partition has a queue of its own before it is assigned
            Some(Ok(_)) => Some(Event::Failed(Error::new(Kind::Fatal, "a record came past the queue of its partition"))),
            None => None,
        };
        if let Some(event) = event {
            self.consumer.context().push(event);
        }
        let events = self.consumer.context().take_events();
        if !self.joined && events.iter().any(|event| matches!(event, Event::Assigned(_))) {
            self.joined = true;
            self.unreleased = None;
        }
        self.listen(!events.is_empty());
        events
    }

    fn subscribe(&mut self, topics: &[String]) {
        self.topics = topics.to_vec();
        self.subscribe_to(topics);
    }

    fn rejoin(&mut self) {
        if self.topics.is_empty() {
            return;
        }
        self.rejoined = Some(Instant::now());
        // librdkafka joins again only for a changed subscription, and looks first whether its topics are there. What it is told
        // meanwhile it takes over before it joins: with the topics as they were, nothing is given back. The group rebalances,
        // because what a member says when it joins, what it owns and since which generation, is not what it said the last time.
        let mut topics = self.topics.clone();
        topics.push(NO_TOPIC.to_owned());
        self.subscribe_to(&topics);
        self.subscribe_to(&self.topics);
    }

    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<()> {
        for (of, position) in partitions {
            if !self.forwarded.contains_key(of) {
                self.forwarded.insert(of.clone(), self.native.forward(of, &self.queue)?);
            }
            if position.next < 0 {
                self.pause(of);
            }
        }
        self.native.assign(partitions)?;
        self.consumer.context().answered();
        self.misplace_kept();
        for (of, position) in partitions {
            self.positions.insert(of.clone(), *position);
            // librdkafka asks whether the log was cut back only when it seeks: what is assigned it takes on trust
            if position.leader_epoch >= 0 {
                self.misplaced.insert(of.clone());
            } else {
                self.misplaced.remove(of);
            }
        }
        self.find_places();
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        for of in partitions {
            // librdkafka would remember it until the partition is ours again
            if self.paused.remove(of)
                && let Err(error) = self.native.resume(of)
            {
                tracing::debug!(partition = %of, error = %error.chain(), "cannot resume");
            }
        }
        let answer = self.native.unassign(partitions);
        self.consumer.context().answered();
        for of in partitions {
            self.forwarded.remove(of);
            self.positions.remove(of);
            self.misplaced.remove(of);
        }
        self.misplace_kept();
        self.find_places();
        answer
    }

    fn seek(&mut self, of: &TopicPartition, position: Position) -> Result<()> {
        if self.native.seek(&[(of.clone(), position)], SEEK_TIMEOUT).is_err() {
            // librdkafka no longer fetches a partition whose offset was out of range: it is taken out and in again
            if self.native.incremental() {
                self.native.unassign(std::slice::from_ref(of))?;
                self.native.assign(&[(of.clone(), position)])?;
                self.forward_until = Instant::now() + FORWARD_ANEW;
            } else {
                self.positions.insert(of.clone(), position);
                let all: Vec<(TopicPartition, Position)> = self.positions.iter().map(|(of, position)| (of.clone(), *position)).collect();
                self.native.assign(&all)?;
                self.forward_until = Instant::now() + FORWARD_ANEW;
            }
        }
        self.positions.insert(of.clone(), position);
        self.misplaced.remove(of);
        if self.paused.contains(of) {
            self.native.resume(of)?;
            self.paused.remove(of);
        }
        Ok(())
    }

    fn pause(&mut self, of: &TopicPartition) {
        if self.forwarded.contains_key(of) && !self.paused.contains(of) {
            match self.native.pause(of) {
                Ok(()) => _ = self.paused.insert(of.clone()),
                Err(error) => tracing::debug!(partition = %of, error = %error.chain(), "cannot pause"),
            }
        }
    }

    fn fetch(&mut self, max: usize) -> Vec<(TopicPartition, Fetched)> {
        let mut found = Vec::new();
        let now = Instant::now();
        if now >= self.seek_again {
            self.seek_again = now + PLACES_EVERY;
            if !self.misplaced.is_empty() {
                self.find_places();
            }
            if now < self.forward_until {
                self.forward_anew();
            }
        }
        for messages in self.queue.take(max).by_partition() {
            let Some((topic, partition)) = messages.of() else {
                tracing::debug!("librdkafka says something of no partition");
                continue;
            };
            let of = TopicPartition::new(topic, partition);
            if self.misplaced.contains(&of) || !self.forwarded.contains_key(&of) {
                continue;
            }
            let fetched = self.fetched(&of, messages);
            found.push((of, fetched));
        }
        self.listen(!found.is_empty());
        found
    }

    fn known_end(&self, of: &TopicPartition) -> Option<i64> {
        self.native.known_end(of)
    }

    fn report(&mut self, reports: &[(TopicPartition, Report)]) {
        let mut list = TopicPartitionList::with_capacity(reports.len());
        for (of, report) in reports {
            let mut element = list.add_partition(&of.topic, of.partition);
            element.set_metadata(&report.metadata);
            if let Err(error) = element.set_offset(rdkafka::Offset::Offset(report.next)) {
                tracing::debug!(%error, partition = %of, "cannot report");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "cannot report to the group now");
        }
    }

    fn close(self: Box<Self>) {
        let (open, closed) = mpsc::channel::<()>();
        let close = move || {
            self.leave();
            // a static member keeps its place while it restarts; the consumer's own end knows that, leaving by hand does not
            if !self.static_member {
                self.consumer.unsubscribe();
            }
            // serves what leaving brings, the last report's answer included
            for _ in 0..10 {
                let _ = self.consumer.poll(Duration::from_millis(20));
            }
            // here the last owner of the consumer waits until the group is left
            drop(self);
            drop(open);
        };
        match std::thread::Builder::new().name("kas3-close".to_owned()).spawn(close) {
            Ok(_) if closed.recv_timeout(CLOSE_MAX) == Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the group is left without its coordinator, which does not answer: it takes the partitions when the session ends");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no thread to leave the group: it takes the partitions when the session ends"),
        }
    }
}

impl KafkaSource {
    /// Notes that something came, or after a long silence sees to it that there is a broker to ask.
    fn listen(&mut self, came: bool) {
        let now = Instant::now();
        let (since, times) = self.heard;
        if came {
            self.heard = (now, 0);
        } else if now - since >= (SILENCE[usize::from(!self.forwarded.is_empty())] * 2_u32.saturating_pow(times)).min(SILENCE_MAX) {
            self.heard = (now, times.saturating_add(1));
            self.native.bootstrap_again(&self.bootstrap_servers);
        }
    }

    /// librdkafka pauses what stays ours through an incremental rebalance, and goes on behind what a batch brought last, plus one:
    /// where that was the end of a partition, it would pass over the next record.
    fn misplace_kept(&mut self) {
        if self.native.incremental() {
            let read = self.positions.iter().filter(|(_, position)| position.next >= 0);
            self.misplaced.extend(read.map(|(of, _)| of.clone()));
        }
    }

    /// Forwards every partition once more; what has gathered in its own queue meanwhile comes along.
    fn forward_anew(&mut self) {
        for (of, forwarded) in &mut self.forwarded {
            match self.native.forward(of, &self.queue) {
                Ok(anew) => *forwarded = anew,
                Err(error) => tracing::debug!(partition = %of, error = %error.chain(), "cannot forward"),
            }
        }
    }

    /// Seeks what is misplaced to where it was; what cannot be sought now is tried again with the next fetch.
    fn find_places(&mut self) {
        let places: Vec<_> = self.misplaced.iter().filter_map(|of| Some((of.clone(), *self.positions.get(of)?))).collect();
        if places.is_empty() || self.native.seek(&places, SEEK_TIMEOUT).is_ok() {
            self.misplaced.clear();
            return;
        }
        let until = Instant::now() + SEEK_TIMEOUT;
        for (of, position) in places {
            // each may wait for a broker that is gone: polling must go on, and the others are sought the next time
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            match self.native.seek(&[(of.clone(), position)], left) {
                Ok(()) => _ = self.misplaced.remove(&of),
                Err(error) => tracing::debug!(partition = %of, error = %error.chain(), "cannot go on after the rebalance yet"),
            }
        }
    }

    /// Answers what librdkafka waits for, now and from now on: without it leaving the group would wait for ever.
    fn leave(&self) {
        let answer = match self.consumer.context().close() {
            Some(Unanswered::Assigned(partitions)) => {
                let nowhere = Position { next: -1, leader_epoch: -1 };
                self.native.assign(&partitions.into_iter().map(|of| (of, nowhere)).collect::<Vec<_>>())
            }
            Some(Unanswered::Revoked(partitions)) => self.native.unassign(&partitions),
            None => Ok(()),
        };
        if let Err(error) = answer {
            tracing::debug!(error = %error.chain(), "a last rebalance was not taken");
        }
    }
}

/// A client of a pipeline's group.
fn connect(config: &ClientConfig, pipeline: &Pipeline) -> Result<(Arc<Consumer>, native::Client)> {
    let consumer = client::create(config, pipeline)?;
    let native = native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _);
    Ok((consumer, native))
}

impl Drop for KafkaSource {
    /// A source that was never used, because something else failed, leaves as well.
    fn drop(&mut self) {
        self.leave();
        self.forwarded.clear();
    }
}

/// Where a log ends that was cut back, from the only place where librdkafka says so: `Partition log truncation detected at …:
/// broker end offset is 150 (offset leader epoch 5). …` comes with the code of an offset reset.
fn truncated_at(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("truncation detected")?;
    let (_, rest) = rest.split_once("end offset is ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What an error that came instead of a record means for its partition, which was to be read on from `next`.
fn read_error(of: &TopicPartition, message: &Message, code: RDKafkaErrorCode, next: i64) -> Error {
    let text = message.error_text();
    if let (RDKafkaErrorCode::AutoOffsetReset, Some(end)) = (code, truncated_at(&text)) {
        return stops::cut_back(of, next.max(end), end, end);
    }
    match code {
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::LogTruncation => {
            Error::new(Kind::Missing, format!("Kafka no longer has the offset at which `{of}` goes on: {text}"))
        }
        // librdkafka passes over what it cannot read: going on would lose records silently
        RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::BadCompression | RDKafkaErrorCode::NotImplemented => {
            Error::new(Kind::Stopped, format!("Kafka has records of `{of}` that cannot be read: {text}"))
                .hint("look at the broker's disk and the topic's compression; a restart tries again")
        }
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::TopicAuthorizationFailed => native::topic_error(&of.topic, code),
        _ => Error::new(Kind::Transient, format!("read `{of}`: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::truncated_at;

    #[test]
    fn a_log_that_was_cut_back_is_known_by_librdkafkas_words() {
        let text = "Partition log truncation detected at offset 180 (leader epoch 5): broker end offset is 150 (offset leader epoch 5). Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
        assert_eq!(truncated_at(text), Some(150));
        assert_eq!(truncated_at("fetch failed due to requested offset not available on the broker: Broker: Offset out of range (broker 1)"), None);
    }
}
