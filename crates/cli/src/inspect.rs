//! A pipeline as the tools see it: its stores, its Kafka and its ledger, opened for looking.

use async_trait::async_trait;
use kas3_sink::{
    Result,
    config::Pipeline,
    ledger::{Ledger, Log, Unwatched},
    pipeline::open_stores,
    record::Record,
    source::kafka::KafkaLog,
    span::TopicPartition,
    verify::{Identity, RecordLog},
};
use kas3_store::{Store, Unobserved};
use std::sync::Arc;

/// A pipeline, opened for looking.
pub(crate) struct Inspection {
    pub(crate) sink: Store,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) log: Arc<KafkaLog>,
}

/// Opens stores, Kafka and ledger.
///
/// # Errors
/// When a store or Kafka cannot be reached.
pub(crate) async fn open(pipeline: &Arc<Pipeline>) -> Result<Inspection> {
    let (sink, ledger_store) = stores(pipeline).await?;
    let log = KafkaLog::connect(pipeline).await?;
    let ledger = Ledger::look(Arc::clone(pipeline), sink.clone(), ledger_store, Arc::clone(&log) as Arc<dyn Log>, Arc::new(Unwatched));
    Ok(Inspection { sink, ledger, log })
}

/// Opens the sink's store, and the ledger's where it is another one.
///
/// # Errors
/// When a store cannot be opened.
pub(crate) async fn stores(pipeline: &Pipeline) -> Result<(Store, Store)> {
    open_stores(pipeline, &Arc::new(Unobserved)).await
}

/// Opens stores and ledger without Kafka, for commands that read the ledger alone.
///
/// # Errors
/// When a store cannot be opened.
pub(crate) async fn without_kafka(pipeline: &Arc<Pipeline>) -> Result<(Store, Arc<Ledger>)> {
    let (sink, ledger_store) = stores(pipeline).await?;
    let ledger = Ledger::look(Arc::clone(pipeline), sink.clone(), ledger_store, Arc::new(NoKafka), Arc::new(Unwatched));
    Ok((sink, ledger))
}

/// Kafka for `verify`.
pub(crate) struct KafkaRecords {
    pub(crate) log: Arc<KafkaLog>,
}

#[async_trait]
impl RecordLog for KafkaRecords {
    async fn identity(&self, topic: &str) -> Result<Option<Identity>> {
        let cluster_id = self.log.cluster_id().await?;
        match self.log.topic_id(topic).await {
            Ok(topic_id) => Ok(Some(Identity { cluster_id, topic_id })),
            Err(error) if error.kind() == kas3_sink::Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)> {
        self.log.bounds(of).await
    }

    async fn compacted(&self, topic: &str) -> Result<bool> {
        Ok(self.log.compacted(topic).await)
    }

    fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        self.log.read(of, first, next, each).map(|_| ())
    }
}

/// A log that is never asked: for commands that read the ledger alone.
pub(crate) struct NoKafka;

fn not_asked<T>() -> Result<T> {
    Err(kas3_sink::Error::new(kas3_sink::Kind::Fatal, "this command does not ask Kafka"))
}

#[async_trait]
impl Log for NoKafka {
    async fn cluster_id(&self) -> Result<String> {
        not_asked()
    }
    async fn topics(&self) -> Result<Vec<String>> {
        not_asked()
    }
    async fn topic_id(&self, _: &str) -> Result<Option<String>> {
        not_asked()
    }
    async fn partitions(&self, _: &str) -> Result<i32> {
        not_asked()
    }
    async fn resolve_start(&self, _: &str, _: &kas3_sink::config::Start) -> Result<Vec<i64>> {
        not_asked()
    }
    async fn bounds(&self, _: &TopicPartition) -> Result<(i64, i64)> {
        not_asked()
    }
    async fn reported(&self, _: &TopicPartition) -> Result<Option<kas3_sink::ledger::Report>> {
        not_asked()
    }
    async fn remake(&self, _: &kas3_sink::ledger::Remake) -> Result<Vec<(u32, kas3_sink::ledger::ClosedFile)>> {
        not_asked()
    }
}
