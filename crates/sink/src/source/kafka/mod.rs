//! Kafka as a source, by librdkafka: the consumer of the pipeline, and what ledger and tools ask of a cluster.

mod client;
mod log;
mod native;
mod reader;

pub use log::KafkaLog;
pub(super) use native::{Message, Messages};
pub use reader::Reached;

use super::{Batch, Event, Fetched, Source};
use crate::{
    config::Pipeline,
    error::{Error, Kind, Result},
    ledger::Report,
    span::{Position, TopicPartition},
};
use client::Consumer;
use rdkafka::{
    TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// How long a seek may take.
const SEEK_TIMEOUT: Duration = Duration::from_secs(5);

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
}

impl KafkaSource {
    /// A member of the pipeline's group, subscribed to `topics`.
    ///
    /// # Errors
    /// `Config` when librdkafka refuses a property.
    pub(super) fn new(pipeline: &Pipeline, queue_bytes: u64, topics: &[String]) -> Result<Self> {
        let mut config = client::properties(pipeline);
        client::bound_queue(&mut config, pipeline, queue_bytes);
        let consumer = client::create(&config, pipeline)?;
        let native = native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _);
        let mut source = KafkaSource { queue: native.queue(), forwarded: HashMap::new(), paused: HashSet::new(), native, consumer, headers: true };
        Source::subscribe(&mut source, topics);
        Ok(source)
    }

    /// Sorts what came of one partition into records, its end and an error.
    fn fetched(&self, of: &TopicPartition, messages: native::Messages) -> Fetched {
        let mut fetched = Fetched::default();
        let mut records = 0;
        for message in messages.iter() {
            match message.error() {
                None => records += 1,
                Some(RDKafkaErrorCode::PartitionEOF) => fetched.end = Some(message.offset()),
                Some(code) => fetched.error = Some(read_error(of, message, code)),
            }
        }
        if records > 0 {
            fetched.batch = Some(Batch::kafka(messages, self.headers));
        }
        fetched
    }

    fn on_error(error: &KafkaError) -> Option<Event> {
        match error {
            KafkaError::MessageConsumptionFatal(code) => {
                let hint = match code {
                    RDKafkaErrorCode::FencedInstanceId => "another process uses the same `group.instance.id`: give each its own",
                    RDKafkaErrorCode::UnsupportedVersion => "the broker lacks this group protocol: remove `group.protocol`, or upgrade to Kafka 4.0",
                    _ => "see the message of the broker",
                };
                Some(Event::Failed(Error::new(Kind::Fatal, "the consumer cannot go on").hint(hint).source(error.clone())))
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed) => Some(Event::Failed(
                Error::new(Kind::Fatal, "no permission for the consumer group")
                    .hint("the principal needs READ on the group: see docs/permissions.md")
                    .source(error.clone()),
            )),
            _ => {
                tracing::warn!(%error, "the consumer says");
                None
            }
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, wait: Duration) -> Vec<Event> {
        if let Some(Err(error)) = self.consumer.poll(wait)
            && let Some(event) = Self::on_error(&error)
        {
            self.consumer.context().push(event);
        }
        self.consumer.context().take_events()
    }

    fn subscribe(&mut self, topics: &[String]) {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        if topics.is_empty() {
            self.consumer.unsubscribe();
        } else if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "cannot subscribe");
        }
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
        self.native.assign(partitions)
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
        for of in partitions {
            self.forwarded.remove(of);
        }
        answer
    }

    fn seek(&mut self, of: &TopicPartition, position: Position) -> Result<()> {
        self.native.seek(&[(of.clone(), position)], SEEK_TIMEOUT)?;
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
        for messages in self.queue.take(max).by_partition() {
            let Some((topic, partition)) = messages.of() else {
                tracing::debug!("librdkafka says something of no partition");
                continue;
            };
            let of = TopicPartition::new(topic, partition);
            let fetched = self.fetched(&of, messages);
            found.push((of, fetched));
        }
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

    fn close(mut self: Box<Self>) {
        self.consumer.context().close();
        self.forwarded.clear();
        self.consumer.unsubscribe();
        // serves what leaving brings, the last report's answer included
        for _ in 0..10 {
            let _ = self.consumer.poll(Duration::from_millis(20));
        }
    }
}

/// What an error that came instead of a record means for its partition.
fn read_error(of: &TopicPartition, message: &Message, code: RDKafkaErrorCode) -> Error {
    let text = message.error_text();
    match code {
        RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
            Error::new(Kind::Missing, format!("Kafka no longer has the offset at which `{of}` goes on: {text}"))
        }
        RDKafkaErrorCode::LogTruncation => Error::new(Kind::Stopped, format!("the log of `{of}` was cut back below what was committed: {text}"))
            .hint(format!("`kas3 ledger accept FILE --topic {} --partition {}` goes on with the new log under new names", of.topic, of.partition)),
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition
        | RDKafkaErrorCode::TopicAuthorizationFailed => native::topic_error(&of.topic, code),
        _ => Error::new(Kind::Transient, format!("read `{of}`: {text}")),
    }
}
