//! What producer and consumer share: properties, errors, the runtime for requests to the store.

use crate::{Error, Kind, Result, reference::Headers};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Headers as _, OwnedHeaders},
};
use std::collections::BTreeMap;

/// Properties that groups and consumers alone have.
const CONSUMER_ONLY: [&str; 16] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.commit.interval.ms",
    "isolation.level",
    "enable.partition.eof",
    "check.crcs",
    "allow.auto.create.topics",
];

/// The properties of a consumer that say how the brokers are reached, for a producer or an admin client beside it.
pub fn properties_of_client(kafka: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let of_client = |name: &str| !CONSUMER_ONLY.contains(&name) && !name.starts_with("queued.") && !name.starts_with("fetch.");
    kafka.iter().filter(|(name, _)| of_client(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn config(kafka: &BTreeMap<String, String>) -> Result<ClientConfig> {
    if kafka.get("bootstrap.servers").or_else(|| kafka.get("metadata.broker.list")).is_none_or(String::is_empty)
        && !kafka.contains_key("test.mock.num.brokers")
    {
        return Err(Error::new(Kind::Config, "`bootstrap.servers` is missing").hint("set it in `kafka`, as `localhost:9092`"));
    }
    let mut config = ClientConfig::new();
    for (name, value) in kafka {
        config.set(name, value);
    }
    config.set("client.id", kafka.get("client.id").map_or("kas3", String::as_str));
    Ok(config)
}

/// An error of Kafka's client, with what was being done.
pub fn error_of_kafka(doing: &str, error: KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    let kind = match &error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => Kind::Config,
        KafkaError::Transaction(error) if error.is_retriable() => Kind::Transient,
        other => match other.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Kind::Record,
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication,
            ) => Kind::Denied,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Kind::Missing,
            Some(Code::Fatal | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId) => Kind::Fatal,
            _ => Kind::Transient,
        },
    };
    let hint = match &error {
        KafkaError::ClientConfig(..) => Some("look at the properties in `kafka`"),
        other => match other.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Some("lower `max_inline_bytes`, or raise `message.max.bytes` and the topic's `max.message.bytes`"),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some("create the topic, or look at its name"),
            _ => None,
        },
    };
    let made = Error::new(kind, doing.to_owned()).source(error);
    match hint {
        Some(hint) => made.hint(hint),
        None => made,
    }
}

/// Threads for requests to the store, of a client that was not given a runtime.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("kas3-claims")
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Fatal, "no threads can be started").source(error))
}

pub(super) fn owned(headers: &Headers) -> OwnedHeaders {
    let all = OwnedHeaders::new_with_capacity(headers.len());
    headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: value.as_deref() }))
}

pub(super) fn bytes_of(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 10).sum()
}

/// The headers of a message that was read.
pub(super) fn headers_of_message<M: rdkafka::Message>(message: &M) -> Headers {
    match message.headers() {
        Some(headers) => (0..headers.count())
            .map(|index| headers.get(index))
            .map(|header| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice)))
            .collect(),
        None => Headers::new(),
    }
}
