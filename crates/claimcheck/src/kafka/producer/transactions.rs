//! Transactions: what is committed is whole, payloads included.
//!
//! A payload goes to the store before its record goes to Kafka, in a transaction as elsewhere, and the commit waits for all of them.
//! A transaction that is aborted leaves records that nobody who reads committed ones will see, and payloads that `kas3 payloads gc` finds.

use super::Producer;
use crate::{Error, Kind, Result, kafka::client};
use rdkafka::{consumer::ConsumerGroupMetadata, producer::Producer as _, topic_partition_list::TopicPartitionList};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

impl Producer {
    /// Prepares transactions (`transactional.id` must be set).
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn init_transactions(&self, timeout: Duration) -> Result<()> {
        self.shared.kafka.init_transactions(timeout).map_err(|error| client::error_of_kafka("transactions cannot be prepared", error))
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn begin_transaction(&self) -> Result<()> {
        self.shared.refused.store(0, Ordering::Release);
        self.shared.kafka.begin_transaction().map_err(|error| client::error_of_kafka("no transaction can be begun", error))
    }

    /// Adds a consumer's offsets to the transaction.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn send_offsets_to_transaction(&self, offsets: &TopicPartitionList, group: &ConsumerGroupMetadata, timeout: Duration) -> Result<()> {
        let sent = self.shared.kafka.send_offsets_to_transaction(offsets, group, timeout);
        sent.map_err(|error| client::error_of_kafka("offsets cannot be added to the transaction", error))
    }

    /// Waits for the transaction's payloads, then commits it.
    ///
    /// # Errors
    /// `Transient` when payloads are still on their way: commit again or abort; and when one was not stored: abort, or readers
    /// would see a part. Those of Kafka.
    pub fn commit_transaction(&self, timeout: Duration) -> Result<()> {
        let begun = Instant::now();
        let left = self.flush(timeout);
        if left > 0 {
            return Err(
                Error::new(Kind::Transient, format!("{left} records of the transaction are still on their way")).hint("commit again, or abort")
            );
        }
        let refused = self.shared.refused.load(Ordering::Acquire);
        if refused > 0 {
            let what = format!("{refused} records of the transaction did not come to Kafka, so the others are not committed");
            return Err(Error::new(Kind::Transient, what).hint("abort, and send its records again"));
        }
        let left = timeout.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        self.shared.kafka.commit_transaction(left).map_err(|error| client::error_of_kafka("the transaction was not committed", error))
    }

    /// Waits for the transaction's payloads, which would else come to the next one, then aborts it. Payloads of records that Kafka
    /// had accepted stay: a reader of uncommitted records may have seen their references.
    ///
    /// # Errors
    /// `Transient` when payloads are still on their way: abort again. Those of Kafka.
    pub fn abort_transaction(&self, timeout: Duration) -> Result<()> {
        let left = self.flush(timeout);
        if left > 0 {
            return Err(Error::new(Kind::Transient, format!("{left} records of the transaction are still on their way")).hint("abort again"));
        }
        self.shared.kafka.abort_transaction(timeout).map_err(|error| client::error_of_kafka("the transaction was not aborted", error))
    }
}
