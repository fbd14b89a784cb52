//! What a producer takes, and what it tells of it.

use crate::{Error, Reference, Result, reference::Headers};
use bytes::Bytes;
use opentelemetry::Context as Tracing;
use rdkafka::error::RDKafkaErrorCode;
use std::path::PathBuf;
use tokio::io::AsyncRead;

/// A payload to send.
pub enum Payload {
    /// No value: on a compacted topic, the deletion of the key.
    Tombstone,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A file, read while it is sent.
    File(PathBuf),
    /// What a reader gives, read while it is sent; always offloaded.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Payload::Bytes(bytes.into())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Payload::Bytes(bytes)
    }
}

/// A record to send.
pub struct Outgoing {
    /// Topic.
    pub topic: String,
    /// Partition; by default the partitioner's choice.
    pub partition: Option<i32>,
    /// Key.
    pub key: Option<Bytes>,
    /// Payload.
    pub payload: Payload,
    /// Headers; none may be those of a reference.
    pub headers: Headers,
    /// Milliseconds since 1970; by default now.
    pub timestamp: Option<i64>,
    /// Media type of the object.
    pub content_type: Option<String>,
    /// The caller's trace, carried in the headers; by default the current one.
    pub trace: Option<Tracing>,
}

impl Outgoing {
    /// A record with nothing but a payload.
    pub fn new(topic: impl Into<String>, payload: impl Into<Payload>) -> Outgoing {
        Outgoing {
            topic: topic.into(),
            partition: None,
            key: None,
            payload: payload.into(),
            headers: Headers::new(),
            timestamp: None,
            content_type: None,
            trace: None,
        }
    }

    /// The same with a key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Outgoing {
        self.key = Some(key.into());
        self
    }
}

/// A record that Kafka has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset; -1 when the acknowledgement does not say (`acks=0`).
    pub offset: i64,
    /// Milliseconds since 1970, as Kafka has it.
    pub timestamp: Option<i64>,
    /// Its payload's place, when it was offloaded.
    pub reference: Option<Reference>,
}

/// A record that was not delivered, as far as is known.
#[derive(Debug)]
pub struct Undelivered {
    /// Topic.
    pub topic: String,
    /// What went wrong.
    pub error: Error,
    /// The code of Kafka's client, when it was Kafka.
    pub code: Option<RDKafkaErrorCode>,
    /// Its payload's place. It was deleted if the failure is `certain` and nobody shares it.
    pub reference: Option<Reference>,
    /// Kafka certainly does not have the record. Otherwise it may turn up later, and its payload stays.
    pub certain: bool,
}

/// Called once for every record that was accepted, from a thread of the producer: it must not wait.
pub type Report = Box<dyn FnOnce(Result<Delivered, Undelivered>) + Send>;
