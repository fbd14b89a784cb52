//! The records of a partition as Kafka has them, in windows of bounded memory, read in a thread of their own.

use crate::{
    config::BadRecords,
    error::{Error, Kind, Result},
    record::{OwnedRecord, Record},
    span::TopicPartition,
    transform::{Chain, Through},
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

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

/// A window as the reader gives it.
#[derive(Default)]
struct Read {
    records: Vec<OwnedRecord>,
    refused: BTreeMap<i64, String>,
}

/// Records of consecutive spans as transforms leave them, handed out span by span.
pub(super) struct Records {
    windows: mpsc::Receiver<Read>,
    reader: Option<JoinHandle<Result<()>>>,
    left: VecDeque<OwnedRecord>,
    refused: BTreeMap<i64, String>,
}

impl Records {
    /// Begins to read `[first, next)`.
    pub(super) fn read(log: Arc<dyn RecordLog>, of: TopicPartition, chain: Arc<Chain>, first: i64, next: i64) -> Self {
        let (send, windows) = mpsc::channel(1);
        let runtime = Handle::current();
        let reader = tokio::task::spawn_blocking(move || read(&*log, &of, (&chain, &runtime), first, next, &send));
        Records { windows, reader: Some(reader), left: VecDeque::new(), refused: BTreeMap::new() }
    }

    /// Nothing to read.
    pub(super) fn none() -> Self {
        let (_, windows) = mpsc::channel(1);
        Records { windows, reader: None, left: VecDeque::new(), refused: BTreeMap::new() }
    }

    /// The next records before `next`, and whether there may be more of them. Records before `first` are passed over.
    pub(super) async fn window(&mut self, first: i64, next: i64) -> Result<(Vec<OwnedRecord>, bool)> {
        if self.left.is_empty() {
            match self.windows.recv().await {
                Some(Read { records, refused }) => {
                    self.left = records.into();
                    self.refused = refused;
                }
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

    /// Records of the newest window that transforms cannot take any more, with the reasons; they are there as Kafka has them.
    pub(super) fn refused(&self) -> &BTreeMap<i64, String> {
        &self.refused
    }

    async fn finish(&mut self) -> Result<()> {
        match self.reader.take() {
            Some(reader) => reader.await.map_err(|error| Error::new(Kind::Fatal, "the thread that reads Kafka failed").source(error))?,
            None => Ok(()),
        }
    }
}

fn read(
    log: &dyn RecordLog,
    of: &TopicPartition,
    (chain, runtime): (&Chain, &Handle),
    first: i64,
    next: i64,
    send: &mpsc::Sender<Read>,
) -> Result<()> {
    let gone = || Error::new(Kind::Fatal, "nobody compares any more");
    let mut through = Through::open(chain, &of.topic, BadRecords::Skip, runtime)?;
    let (mut window, mut bytes) = (Read::default(), 0);
    let mut keep = |record: &Record<'_>, refused: Option<Error>| {
        if let Some(error) = refused {
            window.refused.insert(record.offset, error.chain());
        }
        window.records.push(OwnedRecord::from(record));
        bytes += record.payload_bytes() + RECORD_BYTES;
        if bytes >= WINDOW_BYTES {
            bytes = 0;
            send.blocking_send(std::mem::take(&mut window)).map_err(|_| gone())?;
        }
        Ok(())
    };
    log.read(of, first, next, &mut |record| {
        if record.offset < first || record.offset >= next {
            return Ok(());
        }
        through.push(record, &mut keep)
    })?;
    through.flush(&mut keep)?;
    if window.records.is_empty() { Ok(()) } else { send.blocking_send(window).map_err(|_| gone()) }
}
