//! Records that are given up on purpose, and what Kafka knows of topics: what a producer does besides sending.

use super::{Line, Producer, Ready, Shared};
use crate::{
    Result,
    kafka::{answers::Failure, client, lines::Place, lock, names, outgoing::Undelivered},
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
        let Ready { mut sending, .. } = ready;
        let topic = sending.topic.name.clone();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClaimCheckSettings, Kind,
        kafka::{Outgoing, Payload, ProducerSettings, Report},
    };
    use std::{
        collections::BTreeMap,
        sync::{Arc, Mutex},
    };

    /// One whose brokers never answer.
    fn producer(folder: &std::path::Path) -> Producer {
        Producer::open(ProducerSettings {
            claim_check: ClaimCheckSettings { url: format!("file://{}", folder.display()), max_inline_bytes: 10, ..Default::default() },
            kafka: BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]),
            topic_bytes_max: Some(1_000_000),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn a_record_without_a_topic_is_refused_and_the_next_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let producer = producer(folder.path());
        for payload in [vec![1], vec![1; 1000]] {
            let refused = producer.send(Outgoing::new("", payload), None).unwrap_err();
            assert_eq!(refused.kind(), Kind::Record);
        }
        let mut record = Outgoing::new("topic", vec![1]);
        record.headers.push(("a\0b".to_owned(), None));
        assert_eq!(producer.send(record, None).unwrap_err().kind(), Kind::Record);
        assert!(producer.metadata(Some(""), Duration::from_millis(1)).is_err());
        assert!(producer.send(Outgoing::new("topic", vec![1]), None).is_ok());
        let unnamed = ProducerSettings { dead_letter_topic: Some(String::new()), ..Default::default() };
        assert_eq!(Producer::open(unnamed).err().unwrap().kind(), Kind::Record);
    }

    #[test]
    fn what_is_given_up_is_reported_once_and_its_payloads_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let producer = producer(folder.path());
        let heard = Arc::new(Mutex::new(Vec::new()));
        for bytes in [1, 100_000, 1, 100_000] {
            let heard = heard.clone();
            let report: Report = Box::new(move |result| lock(&heard).push(result.unwrap_err()));
            producer.send(Outgoing::new("topic", Payload::from(vec![1; bytes])), Some(report)).unwrap();
        }
        producer.purge(true, true);
        assert_eq!(producer.flush(Duration::from_secs(30)), 0);
        {
            let heard = lock(&heard);
            assert_eq!(heard.len(), 4);
            assert!(heard.iter().all(|failed| failed.certain && failed.code == Some(RDKafkaErrorCode::PurgeQueue)), "{heard:?}");
        }
        let objects = || std::fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_file()).count();
        let until = std::time::Instant::now() + Duration::from_secs(10);
        while objects() > 0 && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(objects(), 0);
    }
}
