//! The embedded broker: librdkafka's in-process one, and a producer that fills it.

use super::orders::{self, TOPIC};
use crate::exit::failed;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    mocking::MockCluster,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use std::{ops::Range, time::Duration};

pub(super) struct Broker {
    producer: ThreadedProducer<DefaultProducerContext>,
    cluster: MockCluster<'static, DefaultProducerContext>,
    partitions: i32,
    total: u64,
}

/// How long the broker may take to take in what was produced.
const FLUSH: Duration = Duration::from_secs(20);

impl Broker {
    pub(super) fn start(partitions: i32, total: u64) -> anyhow::Result<Self> {
        let not_up = |error: KafkaError| anyhow::Error::from(error).context("the embedded broker does not come up");
        let cluster = MockCluster::new(1).map_err(not_up)?;
        cluster.create_topic(TOPIC, partitions, 1).map_err(not_up)?;
        let producer = ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("enable.idempotence", "true")
            .set("linger.ms", "20")
            .create()
            .map_err(not_up)?;
        Ok(Broker { producer, cluster, partitions, total })
    }

    pub(super) fn servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Produces these orders, round robin.
    pub(super) fn produce(&self, numbers: Range<u64>) -> anyhow::Result<()> {
        for number in numbers {
            let order = orders::order(number, self.total);
            let partition = i32::try_from(number % u64::from(self.partitions.unsigned_abs())).unwrap_or(0);
            let mut record = BaseRecord::to(TOPIC).partition(partition).key(&order.key).payload(&order.value).timestamp(order.timestamp_ms);
            while let Err((error, back)) = self.producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(anyhow::Error::from(error).context("the embedded broker does not take orders"));
                }
                self.producer.flush(FLUSH)?;
                record = back;
            }
        }
        Ok(())
    }

    /// Waits until the broker has everything.
    pub(super) fn flush(&self) -> anyhow::Result<()> {
        self.producer
            .flush(FLUSH)
            .map_err(|error| failed(format!("the embedded broker did not take all orders: {error}"), "run it again on a machine that is less busy"))
    }
}
