//! Files as a target: the ledger's partitions, and uploads into the sink's store.

use crate::{
    budget::Budget,
    error::{Kind, Result},
    lane::BeginUpload,
    ledger::{ClosedSpan, Ledger, LedgerParts, Partition, Upload},
    plan::Pipeline,
    report::Report,
    span::{Position, TopicPartition},
    target::{OpenPartition, Opening, Progress, Target},
};
use async_trait::async_trait;
use kas3_store::Store;
use std::sync::Arc;
use tokio::runtime::Handle;

struct Files {
    pipeline: Arc<Pipeline>,
    sink: Store,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    runtime: Handle,
}

/// Opens the ledger.
///
/// # Errors
/// As [`Ledger::open`].
pub async fn open(opening: Opening) -> Result<Arc<dyn Target>> {
    let Opening { pipeline, sink, ledger_store, log, remaker, observer, budget } = opening;
    let parts = LedgerParts { pipeline: Arc::clone(&pipeline), sink: sink.clone(), ledger: ledger_store, log, remaker, observer };
    let ledger = Ledger::open(parts).await?;
    Ok(Arc::new(Files { pipeline, sink, ledger, budget, runtime: Handle::current() }))
}

#[async_trait]
impl Target for Files {
    async fn open_partition(&self, of: &TopicPartition) -> Result<Box<dyn OpenPartition>> {
        Ok(Box::new(self.ledger.open_partition(of).await?))
    }

    async fn progress(&self) -> Result<Vec<Progress>> {
        let mut progress = Vec::new();
        for head in self.ledger.heads().await? {
            // what is pending may be visible for long, and settled with the next commit
            let pending = match self.ledger.is_visible(&head).await {
                Ok(visible) => !visible,
                // who owns it is told why
                Err(error) if error.kind() == Kind::Stopped => true,
                Err(error) => return Err(error),
            };
            progress.push(Progress { of: head.of(), next: head.next, pending });
        }
        Ok(progress)
    }

    async fn sweep(&self) -> Result<()> {
        self.ledger.sweep().await
    }

    fn begin_upload(&self, of: &TopicPartition) -> BeginUpload {
        let (runtime, sink, budget) = (self.runtime.clone(), self.sink.clone(), Arc::clone(&self.budget));
        let staging = self.pipeline.staged_prefix(of);
        Box::new(move |path, options| {
            let budget = Arc::clone(&budget);
            Some(Upload::begin(&runtime, sink.clone(), path.to_owned(), staging.clone(), options, Arc::new(move |bytes| budget.hold(bytes))))
        })
    }
}

#[async_trait]
impl OpenPartition for Partition {
    fn of(&self) -> &TopicPartition {
        self.of()
    }
    fn position(&self) -> Position {
        self.position()
    }
    fn incarnation(&self) -> u32 {
        self.incarnation()
    }
    fn report(&self) -> Report {
        self.report()
    }
    fn unsettled(&self) -> bool {
        self.unsettled()
    }
    async fn commit(&mut self, span: ClosedSpan) -> Result<()> {
        self.commit(span).await
    }
    async fn advance(&mut self, position: Position) -> Result<()> {
        self.advance(position).await
    }
    async fn settle(&mut self) -> Result<()> {
        self.settle().await
    }
}
