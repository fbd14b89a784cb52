//! Records that are given up on purpose, and what Kafka knows of topics: what a producer does besides sending.

use super::{Line, Producer, Ready, Shared};
use crate::{
    Result,
    kafka::{
        answers::Failure,
        client,
        lines::Place,
        lock, names,
        outgoing::Undelivered,
    },
};
use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
    producer::{Producer as _, PurgeConfig},
};
use std::{sync::atomic::Ordering, time::Duration};

impl Producer {
    /// Gives records up; each is reported as not delivered. `in_queue`: those that were not sent yet, and those whose payloads are on
    /// their way to the store; their payloads are deleted. `in_flight`: those that wait for an acknowledgement; they may be in Kafka
    /// all the same, and their payloads stay.
    pub fn purge(&self, in_queue: bool, in_flight: bool) {
        let mut what = PurgeConfig::default();
        if in_queue {
            self.shared.purge_lines();
            what = what.queue();
        }
        if in_flight {
            what = what.inflight();
        }
        self.shared.kafka.purge(what);
    }

    /// What the brokers know of one topic, or of all.
    ///
    /// # Errors
    /// Those of Kafka; `Record` for a name that no topic can have.
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        if let Some(topic) = topic {
            names::check_topic(topic)?;
        }
        let asked = self.shared.kafka.client().fetch_metadata(topic, timeout);
        asked.map_err(|error| client::error_of_kafka("the topics are not known", error))
    }

    /// The cluster's id, if the brokers tell one within `timeout`.
    pub fn cluster_id(&self, timeout: Duration) -> Option<String> {
        self.shared.kafka.client().fetch_cluster_id(timeout)
    }
}

impl Shared {
    fn purge_lines(&self) {
        let given_up = {
            let mut lines = lock(&self.lines);
            self.purges.fetch_add(1, Ordering::AcqRel);
            lines.take_ready()
        };
        for ready in given_up {
            self.give_up(ready);
        }
    }

    /// The upload of a record ended after the record was given up.
    pub(super) fn purged(&self, place: Option<Place<Line>>, ready: Ready) {
        self.give_up(ready);
        let Some(place) = place else { return };
        let mut lines = lock(&self.lines);
        lines.leave(&place);
        lines.drain(place.line(), |ready| self.hand_over(ready));
    }

    /// Reported, and its payload deleted, where other failures are.
    fn give_up(&self, ready: Ready) {
        self.refused.fetch_add(1, Ordering::AcqRel);
        let Ready { topic, mut sending, .. } = ready;
        let code = RDKafkaErrorCode::PurgeQueue;
        let doing = format!("a record for topic `{topic}` was given up before it was sent");
        let undelivered = Undelivered {
            error: client::error_of_kafka(&doing, KafkaError::MessageProduction(code)),
            topic,
            code: Some(code),
            reference: sending.reference.take().map(|reference| *reference),
            certain: true,
        };
        lock(&self.answers.failures).push_back(Failure { sending, undelivered });
    }
}
