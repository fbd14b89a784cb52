//! A record that can go to Kafka: its payload is where it belongs.

use super::{
    client,
    outgoing::{Outgoing, Report},
    topics,
};
use crate::{ClaimCheck, Reference, codec::Sent, reference::Headers};
use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message};
use std::sync::{Arc, Mutex};

/// What a record weighs in a batch besides key, value and headers: lengths, offsets, timestamps.
const RECORD_BYTES: usize = 48;

pub(super) type Topic = topics::Topic<Ready>;
pub(super) type Topics = topics::Topics<Ready>;

/// What is kept of a record until Kafka has answered.
pub(super) struct Sending {
    pub(super) reference: Option<Box<Reference>>,
    pub(super) report: Mutex<Option<Report>>,
    /// A dead letter: its own failure makes no further one.
    pub(super) is_dead_letter: bool,
    pub(super) topic: Arc<Topic>,
    /// What it weighs in its topic's batches.
    pub(super) bytes: u64,
    /// Media type of the object, should its payload go to the store after all.
    pub(super) content_type: Option<String>,
}

/// A record whose payload is where it belongs.
pub(super) struct Ready {
    pub(super) partition: Option<i32>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Headers,
    pub(super) timestamp: Option<i64>,
    pub(super) sending: Box<Sending>,
}

impl Ready {
    /// What goes to Kafka; without `sent`, a record without a value.
    pub(super) fn of(outgoing: Outgoing, sent: Option<Sent>, report: Option<Report>, claims: &ClaimCheck, topic: Arc<Topic>) -> Ready {
        let mut headers = outgoing.headers;
        let (mut value, mut reference) = (None, None);
        if let Some(sent) = sent {
            headers.extend(sent.headers);
            value = Some(sent.value);
            reference = sent.reference.map(Box::new);
        }
        if outgoing.key.is_some() {
            claims.mark_key(&mut headers);
        }
        let (report, content_type) = (Mutex::new(report), outgoing.content_type);
        let sending = Box::new(Sending { reference, report, is_dead_letter: false, topic, bytes: 0, content_type });
        Ready { partition: outgoing.partition, key: outgoing.key, value, headers, timestamp: outgoing.timestamp, sending }.weighed()
    }

    /// A dead letter.
    pub(super) fn letter(topic: Arc<Topic>, letter: String) -> Ready {
        let sending = Box::new(Sending { reference: None, report: Mutex::default(), is_dead_letter: true, topic, bytes: 0, content_type: None });
        Ready { partition: None, key: None, value: Some(letter.into()), headers: Headers::new(), timestamp: None, sending }.weighed()
    }

    /// A record as librdkafka had it, for its partition.
    pub(super) fn of_message(message: &BorrowedMessage<'_>, sending: Box<Sending>) -> Ready {
        Ready {
            partition: Some(message.partition()).filter(|partition| *partition >= 0),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: client::headers_of_message(message),
            timestamp: message.timestamp().to_millis(),
            sending,
        }
    }

    /// The same record with its payload in the store.
    pub(super) fn offloaded(mut self, sent: Sent, mut headers: Headers, claims: &ClaimCheck) -> Ready {
        headers.extend(sent.headers);
        if self.key.is_some() {
            claims.mark_key(&mut headers);
        }
        self.sending.reference = sent.reference.map(Box::new);
        Ready { value: Some(sent.value), headers, ..self }.weighed()
    }

    fn weighed(mut self) -> Ready {
        let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        self.sending.bytes = (of(&self.key) + of(&self.value) + client::bytes_of(&self.headers) + RECORD_BYTES) as u64;
        self
    }
}
