//! What a consumer hands out: records with their payloads, those that failed, and what happened to the assignment.

use crate::{Error, PayloadStream, Reference, reference::Headers};
use bytes::Bytes;
use rdkafka::{Offset, topic_partition_list::TopicPartitionList};
use std::collections::HashMap;

/// Topic and partition.
pub(super) type Partition = (String, i32);

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What a record brought.
pub enum Incoming {
    /// No value: on a compacted topic, the deletion of the key.
    Tombstone,
    /// The payload, verified.
    Bytes(Bytes),
    /// A large payload, verified as it is read.
    Stream(PayloadStream),
}

/// A record with its payload.
pub struct Received {
    /// Where it stands.
    pub position: Position,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// That time is the broker's (`LogAppendTime`), not the sender's.
    pub appended: bool,
    /// Key.
    pub key: Option<Bytes>,
    /// Headers of its sender; those of the reference are taken out.
    pub headers: Headers,
    /// Payload.
    pub payload: Incoming,
    /// Where the payload lay, when it was offloaded.
    pub reference: Option<Reference>,
}

/// A record whose payload cannot be had, with what Kafka has of it.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Where it stands; `None` when no record was at fault.
    pub position: Option<Position>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value as it stands in Kafka.
    pub value: Option<Bytes>,
    /// Its headers as they stand in Kafka.
    pub headers: Headers,
    /// Where its payload should be, when that can be read.
    pub reference: Option<Reference>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.position {
            Some(Position { topic, partition, offset }) => write!(f, "record {offset} of `{topic}` [{partition}]: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<Error> for Box<Failed> {
    fn from(error: Error) -> Self {
        Box::new(Failed { error, position: None, key: None, value: None, headers: Headers::new(), reference: None })
    }
}

/// What happened to the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions came.
    Assigned(Vec<Position>),
    /// Partitions go; offsets can still be committed.
    Revoked(Vec<Position>),
    /// Partitions are gone; others have them already.
    Lost(Vec<Position>),
}

/// Hears of rebalances, within [`Consumer::poll`](crate::kafka::Consumer::poll).
pub type Listener = Box<dyn Fn(&Rebalance) + Send + Sync>;

/// What a list of librdkafka's names; -1001, librdkafka's own "none", where there is no offset.
pub(super) fn positions(list: &TopicPartitionList) -> Vec<Position> {
    let offset = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { -1001 };
    list.elements()
        .iter()
        .map(|each| Position { topic: each.topic().to_owned(), partition: each.partition(), offset: offset(each.offset()) })
        .collect()
}

/// Offsets as librdkafka takes them.
pub(super) fn list_of(next: &HashMap<Partition, i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in next {
        // an offset from 0 on is always taken
        _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
    }
    list
}
