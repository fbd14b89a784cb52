//! Between the poll loop and a worker: a task for each lane whose topic has transforms that wait for others. It takes batches
//! through them in order, and hands on what is ready, so that the lane sees records as if Kafka had held them so.
//!
//! It is dropped at any moment: what it had not handed on is read again by whoever goes on from the head.

use super::{
    LaneId,
    worker::{Intake, LaneShared, Queued, Work},
};
use crate::{
    batch::Batch,
    error::Error,
    prefetch::{InOrder, PrefetchObserver, Prefetched, Room},
    refused::BadRecords,
    span::TopicPartition,
    status::{PartitionStatus, Status},
    transform::Chain,
};
use crossbeam_channel::Sender;
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the poll loop hands over.
pub(super) struct Input {
    pub(super) batch: Option<Batch>,
    pub(super) end: Option<i64>,
    pub(super) queued: Queued,
}

/// What a resolver works with.
pub(super) struct Resolver {
    pub(super) lane: LaneId,
    pub(super) chain: Arc<Chain>,
    pub(super) room: Arc<Room>,
    pub(super) bad: BadRecords,
    pub(super) worker: Sender<Work>,
    pub(super) shared: Arc<LaneShared>,
    pub(super) watch: Watching,
    /// Gone when the task is: the source may not be closed before.
    pub(super) alive: Sender<()>,
}

/// Tells the status what becomes of the records of a partition.
pub(super) struct Watching {
    pub(super) of: TopicPartition,
    pub(super) status: Arc<Status>,
    pub(super) partition: Arc<PartitionStatus>,
}

impl PrefetchObserver for Watching {
    fn changed(&self, bytes: u64) {
        self.partition.payloads.fetch_add(1, Ordering::Relaxed);
        self.partition.payload_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn again(&self, error: &Error) -> bool {
        self.status.retrying(&self.of, "reading a payload", error);
        true
    }
}

impl Resolver {
    /// Begins; ends when the answer is dropped, or the lane has ended.
    pub(super) fn start(self, runtime: &tokio::runtime::Handle) -> UnboundedSender<Input> {
        let (sender, inputs) = unbounded_channel();
        runtime.spawn(async move {
            let ended = self.shared.ended.clone();
            // whatever it works on is dropped with it
            let _ = ended.run_until_cancelled(self.run(inputs)).await;
        });
        sender
    }

    async fn run(self, mut inputs: UnboundedReceiver<Input>) {
        let Resolver { lane, chain, room, bad, worker, shared, watch, alive } = self;
        let send = |intake: Intake| _ = worker.send(Work::Batch { lane, intake });
        let fail = |error: Error| _ = worker.send(Work::Fail { lane, error });
        let in_order = match chain.open(Arc::clone(&watch.status) as Arc<dyn kas3_store::Observer>).await {
            Ok(prefetches) => InOrder { prefetches, room: room.lane(), bad },
            Err(error) => return fail(error),
        };
        while let Some(Input { batch, end, queued }) = inputs.recv().await {
            if let Some(batch) = batch {
                let hand_on = |Prefetched { batch, refused, tickets }| {
                    send(Intake { batch: Some(batch), refused, _tickets: tickets, ..Intake::default() });
                };
                match in_order.take(batch, &watch.of.topic, &watch, hand_on).await {
                    Ok(true) => {}
                    // the lane stops at the refused record
                    Ok(false) => return,
                    Err(error) => return fail(error),
                }
            }
            shared.unresolved.fetch_sub(queued.bytes(), Ordering::Release);
            send(Intake { end, _queued: Some(queued), ..Intake::default() });
        }
        drop(alive);
    }
}
