//! A whole pipeline over records in memory: its stores are real, and nothing of Kafka is needed.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses some of it, and one that cannot go on fails")]

use kas3_sink::{
    budget::Budget,
    ledger::{Ledger, LedgerParts, NothingRemade, Unwatched},
    pipeline::{self, Destination, Ended, Options, Parts},
    plan::Pipeline,
    source::memory::{MemoryLog, MemorySource},
    span::TopicPartition,
    status::Status,
};
use kas3_store::Store;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub const TOPIC: &str = "orders";

pub fn of() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// Runs to the end; the reasons of partitions that stopped.
pub async fn run(pipeline: &Arc<Pipeline>, log: &MemoryLog) -> Vec<String> {
    let status = Status::new(&pipeline.name, pipeline.memory_bytes);
    let (sink, ledger) = pipeline::open_stores(pipeline, &status).await.unwrap();
    let parts = Parts {
        pipeline: Arc::clone(pipeline),
        destination: Destination::Configured { sink, ledger },
        log: Arc::new(log.clone()),
        source: Box::new(MemorySource::new(log.clone(), vec![of()])),
        topics: vec![TOPIC.to_owned()],
        budget: Budget::new(pipeline.memory_bytes, Arc::clone(&status)),
        status,
    };
    match pipeline::run_parts(parts, None, Options { until_end: true, ..Options::default() }, CancellationToken::new()).await.unwrap() {
        Ended::Stopped(partitions) => partitions.into_iter().map(|(_, reason)| reason).collect(),
        Ended::Done => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// The sink's store, and the ledger for looking.
pub async fn look(pipeline: &Arc<Pipeline>, log: &MemoryLog) -> (Store, Arc<Ledger>) {
    let (sink, ledger) = pipeline::open_stores(pipeline, &Status::new(&pipeline.name, pipeline.memory_bytes)).await.unwrap();
    let parts = LedgerParts {
        pipeline: Arc::clone(pipeline),
        sink: sink.clone(),
        ledger,
        log: Arc::new(log.clone()),
        remaker: Arc::new(NothingRemade),
        observer: Arc::new(Unwatched),
    };
    (sink, Ledger::look(parts))
}
