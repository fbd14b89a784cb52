//! What becomes of records that were answered: failures are told, and what a topic refused for its batch's size is sent again.

use super::{Failure, Ready, Shared, Stage, Undelivered, lock};
use crate::{
    About, Error, Kind,
    kafka::{outgoing::Report, ready::Topic},
};
use futures::StreamExt;
use rdkafka::error::RDKafkaErrorCode;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How soon failures are looked at, and records that found librdkafka's queue full are tried again.
const POLL: Duration = Duration::from_millis(100);
/// The same while records wait for room in their topic: it comes with every answer.
const POLL_WAITING: Duration = Duration::from_millis(2);
/// Refused records that go to the store beside one another.
const STORED_AT_ONCE: usize = 16;

/// Serves deliveries until the producer is closed.
pub(super) fn poll(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle) {
    let mut waiting = false;
    while !shared.closing.load(Ordering::Acquire) {
        shared.kafka.poll(if waiting { POLL_WAITING } else { POLL });
        while let Some(failure) = { lock(&shared.answers.failures).pop_front() } {
            failed(shared, runtime, failure);
        }
        let stopped = shared.topics.stopped();
        for topic in &stopped {
            go_on(shared, runtime, topic);
        }
        let mut lines = lock(&shared.lines);
        let stuck = lines.stuck();
        waiting = !stopped.is_empty() || !stuck.is_empty();
        for line in stuck {
            lines.drain(&line, |ready| shared.hand_over(ready));
        }
    }
}

fn failed(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle, failure: Failure) {
    let Failure { sending, undelivered } = failure;
    if sending.is_dead_letter {
        tracing::error!(error = undelivered.error.chain(), "a dead letter was not delivered");
        shared.answers.answered();
        return;
    }
    if let Some(reference) = undelivered.reference.clone().filter(|reference| undelivered.certain && !reference.shared) {
        let claims = shared.claims.clone();
        runtime.spawn(async move {
            if let Err(error) = claims.delete(&reference).await {
                tracing::warn!(key = reference.key, %error, "the payload of a record that was not delivered stays; `kas3 payloads gc` finds it");
            }
        });
    }
    let report = lock(&sending.report).take();
    shared.undelivered(undelivered, report);
}

/// The next step of a topic that refused a batch.
fn go_on(shared: &Arc<Shared>, runtime: &tokio::runtime::Handle, topic: &Arc<Topic>) {
    match topic.stage() {
        Stage::Waiting => {
            // whoever hands a record over looks at the stage first, and holds this meanwhile
            let _nobody_hands_over = lock(&shared.lines);
            if topic.is_quiet() {
                topic.enter(Stage::Asking);
                runtime.spawn(ask_again(shared.clone(), topic.clone()));
            }
        }
        Stage::Again => {
            while let Some(ready) = topic.next_again() {
                let left = if topic.has_room(ready.sending.bytes) { shared.enqueue(ready) } else { Some(ready) };
                if let Some(ready) = left {
                    return topic.put_back(ready);
                }
            }
            shared.topics.reopen(topic);
        }
        Stage::Open | Stage::Asking => {}
    }
}

/// Asks how large the topic's batches may be now, and stores the payloads of records that are too large alone.
async fn ask_again(shared: Arc<Shared>, topic: Arc<Topic>) {
    let told = shared.topic_bytes_max(&topic.name).await;
    let refused = topic.take_refused();
    let largest = refused.iter().map(|ready| ready.sending.bytes).max().unwrap_or(0);
    let most = topic.takes_less(told, largest);
    let (records, overtaking) = (refused.len(), topic.overtaking());
    let name = &topic.name;
    tracing::warn!(topic = name, records, most, "the topic refused a batch for its size; what it holds is sent again in smaller ones");
    if overtaking > 0 {
        tracing::warn!(topic = name, records = overtaking, "records that were on their way arrived before those that are sent again");
    }
    let fitting = futures::stream::iter(refused).map(|ready| shared.fitting(ready, most)).buffered(STORED_AT_ONCE);
    let fitting: Vec<Result<Ready, Failure>> = fitting.collect().await;
    let (mut again, mut failures) = (Vec::with_capacity(records), Vec::new());
    for each in fitting {
        match each {
            Ok(ready) => again.push(ready),
            Err(failure) => failures.push(failure),
        }
    }
    lock(&shared.answers.failures).extend(failures);
    topic.hand_over_again(again);
    topic.enter(Stage::Again);
}

impl Shared {
    /// A record that was refused, small enough for batches of `most` bytes.
    async fn fitting(&self, ready: Ready, most: u64) -> Result<Ready, Failure> {
        let topic = ready.sending.topic.clone();
        if topic.takes_record(ready.sending.bytes) {
            return Ok(ready);
        }
        let ready = match &ready.value {
            Some(value) if ready.sending.reference.is_none() => {
                let (payload, headers) = self.claims.out_of_record(value, ready.headers.clone());
                let content_type = ready.sending.content_type.clone();
                let about = About { topic: &topic.name, content_type: content_type.as_deref(), room: None, always: true };
                match self.claims.offload(payload, &about).await {
                    Ok(sent) => {
                        kas3_store::kill_point("claim.uploaded");
                        ready.offloaded(sent, headers, &self.claims)
                    }
                    Err(error) => return Err(not_delivered(ready, error, None)),
                }
            }
            _ => ready,
        };
        if topic.takes_record(ready.sending.bytes) {
            return Ok(ready);
        }
        let what = format!(
            "a record was not delivered to topic `{}`: it has {} bytes without its payload, and the topic takes {most}",
            topic.name, ready.sending.bytes
        );
        let error = Error::new(Kind::Record, what).hint("raise `max.message.bytes` of the topic, or send less in key and headers");
        Err(not_delivered(ready, error, Some(RDKafkaErrorCode::MessageSizeTooLarge)))
    }

    pub(super) fn undelivered(&self, undelivered: Undelivered, report: Option<Report>) {
        self.dead_letter(&undelivered);
        match report {
            Some(report) => report(Err(undelivered)),
            None => tracing::error!(
                topic = undelivered.topic,
                certain = undelivered.certain,
                error = undelivered.error.chain(),
                "a record was not delivered"
            ),
        }
        self.answers.answered();
    }

    fn dead_letter(&self, undelivered: &Undelivered) {
        let Some(topic) = &self.dead_letter_topic else { return };
        let reference = undelivered.reference.as_ref().map(|reference| serde_json::json!({"bucket": reference.bucket, "key": reference.key}));
        let letter = serde_json::json!({"error": undelivered.error.chain(), "topic": undelivered.topic, "reference": reference});
        self.answers.accepted();
        if self.hand_over(Ready::letter(self.topics.of(topic), letter.to_string())).is_some() {
            self.answers.answered();
            tracing::warn!(topic, "a dead letter was not sent: librdkafka's queue is full");
        }
    }
}

fn not_delivered(mut ready: Ready, error: Error, code: Option<RDKafkaErrorCode>) -> Failure {
    let (topic, reference) = (ready.sending.topic.name.clone(), ready.sending.reference.take().map(|reference| *reference));
    Failure { undelivered: Undelivered { topic, error, code, reference, certain: true }, sending: ready.sending }
}
