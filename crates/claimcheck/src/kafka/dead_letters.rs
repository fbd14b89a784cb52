//! Dead letters of a consumer: records as Kafka has them, with the reason in headers.

use super::{
    client,
    events::{ClientEvents, hands_on},
    lock,
    records::Position,
};
use crate::{Error, Kind, Reason, Result, reference::Headers};
use bytes::Bytes;
use rdkafka::{
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const WAIT: Duration = Duration::from_secs(30);

/// Sends dead letters; its producer is made with the first of them.
pub(super) struct DeadLetters {
    topic: Option<String>,
    kafka: BTreeMap<String, String>,
    events: Arc<dyn ClientEvents>,
    producer: Mutex<Option<BaseProducer<Deliveries>>>,
}

/// Hears whether a dead letter arrived.
struct Deliveries {
    events: Arc<dyn ClientEvents>,
}

hands_on!(Deliveries);

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Mutex<Option<KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, failure: Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            *lock(&failure) = Some(error.clone());
        }
    }
}

impl DeadLetters {
    /// To `topic`, if there is one, over the brokers that these properties name.
    pub(super) fn new(topic: Option<String>, kafka: &BTreeMap<String, String>, events: Arc<dyn ClientEvents>) -> DeadLetters {
        DeadLetters { topic, kafka: kas3_kafka::properties_of_client(kafka), events, producer: Mutex::default() }
    }

    /// Sends one and waits until it is there.
    pub(super) fn send(&self, position: &Position, key: Option<&Bytes>, value: Option<&Bytes>, mut headers: Headers, error: &Error) -> Result<()> {
        let Some(topic) = &self.topic else {
            return Err(Error::new(Kind::Config, "`dead_letter_topic` is missing").hint("name the topic"));
        };
        let mut producer = lock(&self.producer);
        let producer = match &mut *producer {
            Some(producer) => producer,
            none => {
                let made = client::config(&self.kafka)?.create_with_context(Deliveries { events: self.events.clone() });
                none.insert(made.map_err(|error| client::error_of_kafka("no producer for dead letters can be made", error))?)
            }
        };
        let Position { topic: from, partition, offset } = position;
        let reason = error.reason().map_or("", Reason::code);
        for (name, text) in [
            ("kas3-error", error.chain()),
            ("kas3-reason", reason.to_owned()),
            ("kas3-topic", from.clone()),
            ("kas3-partition", partition.to_string()),
            ("kas3-offset", offset.to_string()),
        ] {
            headers.push((name.to_owned(), Some(Bytes::from(text))));
        }
        let failure = Arc::<Mutex<Option<KafkaError>>>::default();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, failure.clone()).headers(client::owned(&headers));
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        let lost = |error| {
            let lost = client::error_of_kafka(&format!("a dead letter was not sent to `{topic}`"), error);
            lost.hint("look whether the topic exists and may be written to; the record is tried again")
        };
        producer.send(record).map_err(|(error, _)| lost(error))?;
        producer.flush(WAIT).map_err(lost)?;
        let failure = lock(&failure).take();
        failure.map_or(Ok(()), |error| Err(lost(error)))
    }
}
