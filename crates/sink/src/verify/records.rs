//! The rows that a partition's records make, as Kafka has the records now, in windows of bounded memory, read in a thread of
//! their own. They go through the same transforms as in the pipeline.

use crate::{
    error::{Error, Kind, Result},
    prefetch::BlockingPrefetch,
    record::Record,
    refused::{BadRecords, Refused},
    row::{OwnedRow, Row},
    source::Log,
    span::TopicPartition,
    transform::Chain,
};
use std::{collections::VecDeque, sync::Arc};
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

/// Bytes of one window, roughly: payloads, and what is kept per record.
const WINDOW_BYTES: usize = 16 << 20;
/// What is kept per record beside its payload, roughly.
const RECORD_BYTES: usize = 256;

/// What a record of Kafka comes to.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    /// Its offset.
    pub(super) offset: i64,
    /// The rows that a file must hold; none where a transform filters the record.
    pub(super) rows: Vec<OwnedRow>,
    /// What it needs of others cannot be fetched any more, or a transform refuses it: the reason. Its row is the record as Kafka
    /// has it.
    pub(super) refused: Option<String>,
}

impl Expected {
    /// Whether a setting of the format may leave it out by its nature alone: all of its values are absent or empty.
    pub(super) fn is_absent(&self) -> bool {
        self.rows.iter().all(|row| row.borrow().bytes().is_none_or(<[u8]>::is_empty))
    }
}

/// Records of consecutive spans with what they come to, handed out span by span.
pub(super) struct Records {
    windows: mpsc::Receiver<Vec<Expected>>,
    reader: Option<JoinHandle<Result<()>>>,
    left: VecDeque<Expected>,
}

impl Records {
    /// Begins to read `[first, next)`.
    pub(super) fn read(log: Arc<dyn Log>, of: TopicPartition, chain: Arc<Chain>, first: i64, next: i64) -> Self {
        let (send, windows) = mpsc::channel(1);
        let runtime = Handle::current();
        let reader = tokio::task::spawn_blocking(move || read(&*log, &of, (&chain, &runtime), first, next, &send));
        Records { windows, reader: Some(reader), left: VecDeque::new() }
    }

    /// Nothing to read.
    pub(super) fn none() -> Self {
        let (_, windows) = mpsc::channel(1);
        Records { windows, reader: None, left: VecDeque::new() }
    }

    /// The next records before `next`, and whether there may be more of them. Records before `first` are passed over.
    pub(super) async fn window(&mut self, first: i64, next: i64) -> Result<(Vec<Expected>, bool)> {
        if self.left.is_empty() {
            match self.windows.recv().await {
                Some(records) => self.left = records.into(),
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

fn read(
    log: &dyn Log,
    of: &TopicPartition,
    (chain, runtime): (&Chain, &Handle),
    first: i64,
    next: i64,
    send: &mpsc::Sender<Vec<Expected>>,
) -> Result<()> {
    let gone = || Error::new(Kind::Fatal, "nobody compares any more");
    let mut prefetch = BlockingPrefetch::open(chain, &of.topic, BadRecords::Skip, runtime)?;
    let (mut window, mut bytes) = (Vec::new(), 0);
    let mut keep = |record: &Record<'_>, refused: Option<Refused>| {
        let expected = expect(chain, record, refused);
        bytes += expected.rows.iter().map(|row| row.borrow().payload_bytes() + RECORD_BYTES).sum::<usize>().max(RECORD_BYTES);
        window.push(expected);
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
        prefetch.push(record, &mut keep)
    })?;
    prefetch.flush(&mut keep)?;
    if window.is_empty() { Ok(()) } else { send.blocking_send(window).map_err(|_| gone()) }
}

fn expect(chain: &Chain, record: &Record<'_>, refused: Option<Refused>) -> Expected {
    let (rows, refused) = match refused.map_or_else(|| chain.rows(*record), Err) {
        Ok(rows) => (rows, None),
        Err(refused) => (vec![Row::of(*record)], Some(refused.to_string())),
    };
    Expected { offset: record.offset, rows: rows.iter().map(OwnedRow::from).collect(), refused }
}
