//! What Kafka answers for records: counted, told, and for failures whether they are certain.

use super::{
    client,
    events::{ClientEvents, hands_on},
    lock,
    outgoing::{Delivered, Report, Undelivered},
};
use crate::Reference;
use rdkafka::{
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

/// What is kept of a record until Kafka has answered.
pub(super) struct Sending {
    pub(super) reference: Option<Box<Reference>>,
    pub(super) report: Mutex<Option<Report>>,
    /// A dead letter: its own failure makes no further one.
    pub(super) is_dead_letter: bool,
}

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
        match result {
            Ok(message) => {
                if let Some(report) = lock(&sending.report).take() {
                    let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
                    let (timestamp, reference) = (message.timestamp().to_millis(), sending.reference.take().map(|reference| *reference));
                    report(Ok(Delivered { topic, partition, offset, timestamp, reference }));
                }
                self.answers.answered();
            }
            Err((error, message)) => {
                let topic = message.topic().to_owned();
                let code = error.rdkafka_error_code();
                let undelivered = Undelivered {
                    error: client::error_of_kafka(&format!("a record was not delivered to topic `{topic}`"), error.clone()),
                    topic,
                    code,
                    reference: sending.reference.take().map(|reference| *reference),
                    certain: certainly_not_there(message),
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
