//! The records of a partition as Kafka has them, in windows of bounded memory, read in a thread of their own.

use crate::{
    error::{Error, Kind, Result},
    record::{OwnedRecord, Record},
    span::TopicPartition,
};
use async_trait::async_trait;
use std::{collections::VecDeque, sync::Arc};
use tokio::{sync::mpsc, task::JoinHandle};

/// Kafka, as far as a comparison needs it.
#[async_trait]
pub trait RecordLog: Send + Sync + 'static {
    /// The ids of cluster and topic, as now; `None` when the topic is gone.
    ///
    /// # Errors
    /// When Kafka cannot be asked.
    async fn identity(&self, topic: &str) -> Result<Option<Identity>>;

    /// The first offset that Kafka still has, and the end.
    ///
    /// # Errors
    /// When Kafka cannot be asked.
    async fn bounds(&self, of: &TopicPartition) -> Result<(i64, i64)>;

    /// Whether the topic is compacted, so that records may be missing between others.
    ///
    /// # Errors
    /// When Kafka cannot be asked.
    async fn compacted(&self, topic: &str) -> Result<bool>;

    /// Calls `each` for the records of `[first, next)` in the order of their offsets, read-committed. Blocks.
    ///
    /// # Errors
    /// When Kafka fails, and whatever `each` answers.
    fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()>;
}

/// What a ledger's head is written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Id of the topic; `None` while the brokers know no ids.
    pub topic_id: Option<String>,
}

/// Bytes of one window, roughly: payloads, and what is kept per record.
const WINDOW_BYTES: usize = 16 << 20;
/// What is kept per record beside its payload, roughly.
const RECORD_BYTES: usize = 256;

/// Records of consecutive spans, handed out span by span.
pub(super) struct Records {
    windows: mpsc::Receiver<Vec<OwnedRecord>>,
    reader: Option<JoinHandle<Result<()>>>,
    left: VecDeque<OwnedRecord>,
}

impl Records {
    /// Begins to read `[first, next)`.
    pub(super) fn read(log: Arc<dyn RecordLog>, of: TopicPartition, first: i64, next: i64) -> Self {
        let (send, windows) = mpsc::channel(1);
        let reader = tokio::task::spawn_blocking(move || read(&*log, &of, first, next, &send));
        Records { windows, reader: Some(reader), left: VecDeque::new() }
    }

    /// Nothing to read.
    pub(super) fn none() -> Self {
        let (_, windows) = mpsc::channel(1);
        Records { windows, reader: None, left: VecDeque::new() }
    }

    /// The next records before `next`, and whether there may be more of them. Records before `first` are passed over.
    pub(super) async fn window(&mut self, first: i64, next: i64) -> Result<(Vec<OwnedRecord>, bool)> {
        if self.left.is_empty() {
            match self.windows.recv().await {
                Some(window) => self.left = window.into(),
                None => {
                    self.finish().await?;
                    return Ok((Vec::new(), false));
                }
            }
        }
        let ours = self.left.partition_point(|record| record.offset < next);
        let more = ours == self.left.len();
        let records = self.left.drain(..ours).filter(|record| record.offset >= first).collect();
        Ok((records, more))
    }

    async fn finish(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.await.map_err(|error| Error::new(Kind::Fatal, "the thread that reads Kafka failed").source(error))?,
            None => Ok(()),
        }
    }
}

fn read(log: &dyn RecordLog, of: &TopicPartition, first: i64, next: i64, send: &mpsc::Sender<Vec<OwnedRecord>>) -> Result<()> {
    let gone = || Error::new(Kind::Fatal, "nobody compares any more");
    let (mut window, mut bytes) = (Vec::new(), 0);
    log.read(of, first, next, &mut |record| {
        if record.offset < first || record.offset >= next {
            return Ok(());
        }
        window.push(OwnedRecord::from(record));
        bytes += record.payload_bytes() + RECORD_BYTES;
        if bytes >= WINDOW_BYTES {
            bytes = 0;
            send.blocking_send(std::mem::take(&mut window)).map_err(|_| gone())?;
        }
        Ok(())
    })?;
    if window.is_empty() { Ok(()) } else { send.blocking_send(window).map_err(|_| gone()) }
}
