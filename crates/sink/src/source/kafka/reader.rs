//! Reads a stretch of one partition from its first to its last record, outside of any group: for amendments, verify and tools.

use super::{client, native, read_error};
use crate::{
    error::{Error, Kind, Result},
    plan::Pipeline,
    record::Record,
    span::{Position, TopicPartition},
};
use client::Consumer;
use rdkafka::{consumer::Consumer as _, error::RDKafkaErrorCode};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a reader waits for a record before it gives up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Records taken at once.
const BATCH_RECORDS: usize = 1000;
/// Bytes for the queue of a reader.
const QUEUE_BYTES: u64 = 8 << 20;

/// How far a reader came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Everything before this was read: at least what was asked for, or the end of the partition.
    pub next: i64,
}

/// A client that reads one stretch after the other: making one costs as much as reading many records.
pub(super) struct Reader {
    native: native::Client,
    consumer: Arc<Consumer>,
}

impl Reader {
    /// A reader for a pipeline's cluster.
    ///
    /// # Errors
    /// `Config` when librdkafka refuses a property.
    pub(super) fn new(pipeline: &Pipeline) -> Result<Self> {
        let mut config = client::properties(pipeline);
        client::bound_queue(&mut config, pipeline, QUEUE_BYTES);
        config.remove("group.instance.id");
        // the client is never a member of the group, so it must not wait for one that speaks another protocol
        config.remove("group.protocol");
        let consumer = client::create(&config, pipeline)?;
        consumer.context().close();
        Ok(Reader { native: native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _), consumer })
    }

    /// Calls `each` for the records of `[first, next)` in the order of their offsets. Blocks.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the beginning; `Transient` when nothing comes; whatever `each` answers.
    pub(super) fn read(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Reached> {
        if first >= next {
            return Ok(Reached { next: first });
        }
        let queue = self.native.split(of)?;
        self.native.assign(&[(of.clone(), Position { next: first, leader_epoch: -1 })])?;
        let reached = self.read_queue(&queue, of, first, next, each);
        self.native.unassign(std::slice::from_ref(of))?;
        reached
    }

    fn read_queue(
        &self,
        queue: &native::Queue,
        of: &TopicPartition,
        first: i64,
        next: i64,
        each: &mut dyn FnMut(&Record<'_>) -> Result<()>,
    ) -> Result<Reached> {
        let mut heard = Instant::now();
        loop {
            let messages = queue.take(BATCH_RECORDS);
            if messages.len() == 0 {
                if heard.elapsed() > SILENCE_MAX {
                    let text = format!("no record of `{of}` from offset `{first}` on came within {} s", SILENCE_MAX.as_secs());
                    return Err(Error::new(Kind::Transient, text));
                }
                let _ = self.consumer.poll(Duration::from_millis(2));
                continue;
            }
            heard = Instant::now();
            if let Some(reached) = pass_on(&messages, of, first, next, each)? {
                return Ok(reached);
            }
        }
    }
}

fn pass_on(
    messages: &native::Messages,
    of: &TopicPartition,
    first: i64,
    next: i64,
    each: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Option<Reached>> {
    for message in messages.iter() {
        match message.error() {
            Some(RDKafkaErrorCode::PartitionEOF) => return Ok(Some(Reached { next: message.offset() })),
            Some(code) => {
                let error = read_error(of, message, code, first);
                if error.kind() != Kind::Transient {
                    return Err(error);
                }
            }
            // a batch of the broker may begin before what was asked for
            None if message.offset() < first => {}
            None if message.offset() >= next => return Ok(Some(Reached { next })),
            None => {
                each(&message.record(&of.topic, true))?;
                if message.offset() + 1 >= next {
                    return Ok(Some(Reached { next }));
                }
            }
        }
    }
    Ok(None)
}
