//! What producer and consumer share: clients, errors, the runtime for requests to the store.

use crate::{Error, Kind, Result, reference::Headers};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{Header, Headers as _, OwnedHeaders},
};
use std::collections::BTreeMap;

/// By the numbers of `log_level`, which are those of syslog.
const LOG_LEVELS: [RDKafkaLogLevel; 8] = [
    RDKafkaLogLevel::Emerg,
    RDKafkaLogLevel::Alert,
    RDKafkaLogLevel::Critical,
    RDKafkaLogLevel::Error,
    RDKafkaLogLevel::Warning,
    RDKafkaLogLevel::Notice,
    RDKafkaLogLevel::Info,
    RDKafkaLogLevel::Debug,
];

pub(super) fn config(kafka: &BTreeMap<String, String>) -> Result<ClientConfig> {
    if kafka.get("bootstrap.servers").or_else(|| kafka.get("metadata.broker.list")).is_none_or(String::is_empty)
        && !kafka.contains_key("test.mock.num.brokers")
    {
        return Err(Error::new(Kind::Config, "`bootstrap.servers` is missing").hint("set it in `kafka`, as `localhost:9092`"));
    }
    let mut config = kas3_kafka::client_config(kafka);
    // librdkafka's own property does nothing here: the level is set once more when the client is made
    if let Some(level) = kafka.get("log_level").and_then(|level| level.parse().ok()).and_then(|level: usize| LOG_LEVELS.get(level)) {
        config.set_log_level(*level);
    }
    Ok(config)
}

/// An error of Kafka's client, with what was being done.
pub fn error_of_kafka(doing: &str, error: KafkaError) -> Error {
    let kind = match kas3_kafka::kind(&error) {
        kas3_kafka::Kind::Config => Kind::Config,
        kas3_kafka::Kind::Record => Kind::Record,
        kas3_kafka::Kind::Denied => Kind::Denied,
        kas3_kafka::Kind::Missing => Kind::Missing,
        kas3_kafka::Kind::Transient => Kind::Transient,
        kas3_kafka::Kind::Fatal => Kind::Fatal,
    };
    let hint = kas3_kafka::hint(&error);
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
