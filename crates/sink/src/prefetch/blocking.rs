//! Prefetching for those who read Kafka outside the pipeline, record by record and on a thread that may wait: files made again,
//! and comparisons. The same resolution as the pipeline's, so that both see the same records.

use super::{
    Room,
    in_order::{Impatient, InOrder},
};
use crate::{
    batch::Batch,
    error::{Error, Kind, Result},
    record::{OwnedRecord, Record},
    refused::{BadRecords, Refused},
    transform::Chain,
};
use kas3_store::Unobserved;
use std::sync::{Arc, mpsc};
use tokio::runtime::Handle;

/// Records, and their bytes, that go through together.
const RECORDS_MAX: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;
/// Room for what transforms bring to one reader.
const ROOM_BYTES: u64 = 16 << 20;

/// Fetches what records need, on a thread that may wait.
pub(crate) struct BlockingPrefetch {
    /// `None`: they pass as they are.
    in_order: Option<Arc<InOrder>>,
    topic: Arc<str>,
    runtime: Handle,
    waiting: Vec<OwnedRecord>,
    bytes: usize,
}

/// Takes a record with what was fetched for it, or with the reason why it cannot be taken.
pub(crate) type Each<'a> = dyn FnMut(&Record<'_>, Option<Refused>) -> Result<()> + 'a;

impl BlockingPrefetch {
    /// Opens what waits for others, if nobody did.
    ///
    /// # Errors
    /// As [`Chain::open`].
    pub(crate) fn open(chain: &Chain, topic: &Arc<str>, bad: BadRecords, runtime: &Handle) -> Result<Self> {
        let in_order = if chain.waits() {
            let opened = runtime.block_on(chain.open(Arc::new(Unobserved)))?;
            Some(Arc::new(InOrder { prefetches: opened, room: Room::new(2 * ROOM_BYTES, None).lane(), bad }))
        } else {
            None
        };
        Ok(BlockingPrefetch { in_order, topic: Arc::clone(topic), runtime: runtime.clone(), waiting: Vec::new(), bytes: 0 })
    }

    /// Takes the next record; it comes out in time.
    ///
    /// # Errors
    /// `Transient` when a transform does not get its answer; whatever `each` answers.
    pub(crate) fn push(&mut self, record: &Record<'_>, each: &mut Each<'_>) -> Result<()> {
        if self.in_order.is_none() {
            return each(record, None);
        }
        self.waiting.push(OwnedRecord::from(record));
        self.bytes += record.payload_bytes();
        if self.waiting.len() < RECORDS_MAX && self.bytes < BATCH_BYTES {
            return Ok(());
        }
        self.flush(each)
    }

    /// Waits for all that were pushed.
    ///
    /// # Errors
    /// As [`BlockingPrefetch::push`].
    pub(crate) fn flush(&mut self, each: &mut Each<'_>) -> Result<()> {
        let Some(in_order) = self.in_order.as_ref().filter(|_| !self.waiting.is_empty()) else { return Ok(()) };
        let (in_order, topic, batch) = (Arc::clone(in_order), Arc::clone(&self.topic), Batch::owned(std::mem::take(&mut self.waiting)));
        self.bytes = 0;
        let (sender, pieces) = mpsc::channel();
        let task = self.runtime.spawn(async move { in_order.take(batch, &topic, &Impatient, |piece| _ = sender.send(piece)).await });
        let mut done = Ok(());
        for mut piece in pieces {
            let mut rows = Vec::new();
            piece.batch.rows(&self.topic, &mut rows);
            let last = rows.len().saturating_sub(1);
            done = rows.iter().enumerate().try_for_each(|(at, row)| each(&row.record, piece.refused.take_if(|_| at == last)));
            if done.is_err() {
                task.abort();
                break;
            }
        }
        done?;
        self.runtime.block_on(task).map_err(|error| Error::new(Kind::Fatal, "the work on records stopped").source(error))?.map(|_| ())
    }
}
