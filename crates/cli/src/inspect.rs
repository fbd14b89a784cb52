//! A pipeline as the tools see it: its stores, its Kafka and its ledger, opened for looking.

use async_trait::async_trait;
use kas3_sink::{
    Result,
    ledger::{Ledger, LedgerParts, NothingRemade, Unwatched},
    pipeline::{Remaking, open_stores},
    plan::{Pipeline, Start},
    record::Record,
    report::Report,
    source::{Log, kafka::KafkaLog},
    span::{Position, TopicPartition},
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
    let parts = LedgerParts {
        pipeline: Arc::clone(pipeline),
        sink: sink.clone(),
        ledger: ledger_store,
        remaker: Remaking::new(Arc::clone(pipeline), Arc::clone(&log) as Arc<dyn Log>),
        log: Arc::clone(&log) as Arc<dyn Log>,
        observer: Arc::new(Unwatched),
    };
    let ledger = Ledger::look(parts);
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
    let parts = LedgerParts {
        pipeline: Arc::clone(pipeline),
        sink: sink.clone(),
        ledger: ledger_store,
        log: Arc::new(NoKafka),
        remaker: Arc::new(NothingRemade),
        observer: Arc::new(Unwatched),
    };
    let ledger = Ledger::look(parts);
    Ok((sink, ledger))
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
    async fn resolve_start(&self, _: &str, _: &Start) -> Result<Vec<i64>> {
        not_asked()
    }
    async fn bounds(&self, _: &TopicPartition) -> Result<(i64, i64)> {
        not_asked()
    }
    async fn high_watermark(&self, _: &TopicPartition) -> Result<i64> {
        not_asked()
    }
    fn cut_back(&self, _: &TopicPartition, _: Position) -> Result<Option<i64>> {
        not_asked()
    }
    async fn reported(&self, _: &TopicPartition) -> Result<Option<Report>> {
        not_asked()
    }
    async fn compacted(&self, _: &str) -> Result<bool> {
        not_asked()
    }
    fn read(&self, _: &TopicPartition, _: i64, _: i64, _: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        not_asked()
    }
}
