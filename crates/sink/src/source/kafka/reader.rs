//! Reads a stretch of one partition from its first to its last record, outside of any group: for amendments, verify and tools.

use super::{client, native, read_error};
use crate::{
    config::Pipeline,
    error::{Error, Kind, Result},
    record::Record,
    span::{Position, TopicPartition},
};
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

/// Calls `each` for the records of `[first, next)` in the order of their offsets. Blocks.
pub(super) fn read(
    pipeline: &Pipeline,
    of: &TopicPartition,
    first: i64,
    next: i64,
    each: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<Reached> {
    if first >= next {
        return Ok(Reached { next: first });
    }
    let mut config = client::properties(pipeline);
    client::bound_queue(&mut config, pipeline, QUEUE_BYTES);
    config.remove("group.instance.id");
    let consumer = client::create(&config, pipeline)?;
    let client = native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _);
    let queue = client.split(of)?;
    client.assign(&[(of.clone(), Position { next: first, leader_epoch: -1 })])?;
    let mut heard = Instant::now();
    let reached = loop {
        let messages = queue.take(BATCH_RECORDS);
        if messages.len() == 0 {
            if heard.elapsed() > SILENCE_MAX {
                return Err(Error::new(
                    Kind::Transient,
                    format!("no record of `{of}` from offset `{first}` on came within {} s", SILENCE_MAX.as_secs()),
                ));
            }
            let _ = consumer.poll(Duration::from_millis(10));
            continue;
        }
        heard = Instant::now();
        if let Some(reached) = pass_on(&messages, of, next, each)? {
            break reached;
        }
    };
    consumer.context().close();
    Ok(reached)
}

fn pass_on(messages: &native::Messages, of: &TopicPartition, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Option<Reached>> {
    for message in messages.iter() {
        match message.error() {
            Some(RDKafkaErrorCode::PartitionEOF) => return Ok(Some(Reached { next: message.offset() })),
            Some(code) => {
                let error = read_error(of, message, code);
                if error.kind() != Kind::Transient {
                    return Err(error);
                }
            }
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
