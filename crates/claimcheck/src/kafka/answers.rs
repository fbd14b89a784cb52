//! What Kafka answers for records: counted, told, and for failures whether they are certain.

use super::{
    client,
    events::{ClientEvents, hands_on},
    lock,
    outgoing::{Delivered, Undelivered},
    ready::{Ready, Sending, Topics},
};
use rdkafka::{
    error::RDKafkaErrorCode,
    message::{DeliveryResult, Message},
    producer::ProducerContext,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Counts what was accepted and not answered yet.
#[derive(Default)]
pub(super) struct Answers {
    outstanding: AtomicU64,
    /// Guards nothing: who waits for the last answer holds it between looking and sleeping.
    waiting: Mutex<()>,
    settled: Condvar,
    pub(super) failures: Mutex<VecDeque<Failure>>,
}

impl Answers {
    pub(super) fn accepted(&self) {
        self.outstanding.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn answered(&self) {
        if self.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
            drop(lock(&self.waiting));
            self.settled.notify_all();
        }
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire)
    }

    /// Waits until nothing is outstanding; returns how much is.
    pub(super) fn settle(&self, deadline: Instant) -> u64 {
        let mut waiting = lock(&self.waiting);
        while self.outstanding() > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            waiting = self.settled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        self.outstanding()
    }
}

/// Hears of deliveries, on the thread that polls.
pub(super) struct Deliveries {
    pub(super) answers: Arc<Answers>,
    pub(super) topics: Arc<Topics>,
    /// A record that fails in a transaction fails all of it: nothing is handed over again.
    pub(super) transactional: bool,
    pub(super) events: Arc<dyn ClientEvents>,
}

pub(super) struct Failure {
    pub(super) sending: Box<Sending>,
    pub(super) undelivered: Undelivered,
}

hands_on!(Deliveries);

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Sending>;

    fn delivery(&self, result: &DeliveryResult<'_>, mut sending: Box<Sending>) {
        sending.topic.left(sending.bytes);
        match result {
            Ok(message) => {
                sending.topic.arrived();
                if let Some(report) = lock(&sending.report).take() {
                    let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
                    let (timestamp, reference) = (message.timestamp().to_millis(), sending.reference.take().map(|reference| *reference));
                    report(Ok(Delivered { topic, partition, offset, timestamp, reference }));
                }
                self.answers.answered();
            }
            Err((error, message)) => {
                let (code, certain) = (error.rdkafka_error_code(), certainly_not_there(message));
                if code == Some(RDKafkaErrorCode::MessageSizeTooLarge) {
                    if certain && !self.transactional && !sending.is_dead_letter {
                        let topic = sending.topic.clone();
                        return self.topics.refused(&topic, Ready::of_message(message, sending));
                    }
                    sending.topic.forget();
                }
                let topic = message.topic().to_owned();
                let undelivered = Undelivered {
                    error: client::error_of_kafka(&format!("a record was not delivered to topic `{topic}`"), error.clone()),
                    topic,
                    code,
                    reference: sending.reference.take().map(|reference| *reference),
                    certain,
                };
                lock(&self.answers.failures).push_back(Failure { sending, undelivered });
            }
        }
    }
}

/// librdkafka knows whether a record was ever sent: what was sent and not acknowledged may be there all the same.
#[allow(unsafe_code)]
fn certainly_not_there(message: &rdkafka::message::BorrowedMessage<'_>) -> bool {
    // SAFETY: the message lives as long as the reference to it, and the function only reads it.
    let status = unsafe { rdkafka_sys::rd_kafka_message_status(message.ptr()) };
    status == rdkafka_sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}
