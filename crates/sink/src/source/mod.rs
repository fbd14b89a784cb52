//! Where records come from. A source hands out batches of one partition, in order, and says what its consumer group does.
//!
//! It is driven by one thread, which never waits for a store: what an event needs is done elsewhere, and answered by
//! [`Source::assign`] and [`Source::release`] when it is done.

pub mod kafka;
pub mod memory;

use crate::{
    error::{Error, Result},
    record::Record,
    span::{Position, TopicPartition},
    transform::Change,
};
use std::{ops::Range, sync::Arc, time::Duration};

/// What the consumer group, or the log, says.
#[derive(Debug)]
pub enum Event {
    /// These partitions are ours from now on; answer with [`Source::assign`].
    Assigned(Vec<TopicPartition>),
    /// These partitions are taken away; answer with [`Source::release`] once they are flushed.
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to somebody else already; answer with [`Source::release`] at once.
    Lost(Vec<TopicPartition>),
    /// The source cannot go on at all.
    Failed(Error),
}

/// What reading one partition gave.
#[derive(Default)]
pub struct Fetched {
    /// Records, if there were any.
    pub batch: Option<Batch>,
    /// The end was reached: nothing before this offset is left to read.
    pub end: Option<i64>,
    /// The partition cannot be read on.
    pub error: Option<Error>,
}

/// Where records come from.
pub trait Source: Send {
    /// Serves the client for up to `wait`; called all the time, also while nothing can be read.
    fn poll(&mut self, wait: Duration) -> Vec<Event>;
    /// Reads these topics from now on, instead of those before.
    fn subscribe(&mut self, topics: &[String]);
    /// Has the group share its partitions out anew, while what is ours goes on. Does not wait.
    fn rejoin(&mut self) {}
    /// Begins to read partitions at their positions. A position whose `next` is negative: assigned, and not read before [`Source::seek`].
    ///
    /// # Errors
    /// When the group does not allow it (any more); an event follows.
    fn assign(&mut self, partitions: &[(TopicPartition, Position)]) -> Result<()>;
    /// Gives partitions back.
    ///
    /// # Errors
    /// As [`Source::assign`].
    fn release(&mut self, partitions: &[TopicPartition]) -> Result<()>;
    /// Reads an assigned partition on from another position, also when it was paused.
    ///
    /// # Errors
    /// `Transient`: try again later.
    fn seek(&mut self, of: &TopicPartition, position: Position) -> Result<()>;
    /// Reads no more of an assigned partition until [`Source::seek`]; what was read ahead is dropped.
    fn pause(&mut self, of: &TopicPartition);
    /// Takes up to `max` records of any partitions without waiting: those of one partition together, in their order.
    fn fetch(&mut self, max: usize) -> Vec<(TopicPartition, Fetched)>;
    /// The end of the partition as far as known without asking.
    fn known_end(&self, of: &TopicPartition) -> Option<i64>;
    /// Tells the group how far we are, for lag tools only. Does not wait.
    fn report(&mut self, reports: &[(TopicPartition, crate::ledger::Report)]);
    /// Leaves the group.
    fn close(self: Box<Self>);
}

/// Records of one partition in the order of their offsets.
pub struct Batch(Inner);

enum Inner {
    Kafka(kafka::Messages, bool),
    Memory(Vec<crate::record::OwnedRecord>),
    Changed(Changed),
}

/// Some records of another batch, as transforms left them.
struct Changed {
    batch: Arc<Batch>,
    /// Which of its records.
    records: Range<usize>,
    /// The changed ones by their place in the whole batch, in order.
    changes: Vec<(usize, Change)>,
}

impl Batch {
    fn kafka(messages: kafka::Messages, headers: bool) -> Self {
        Batch(Inner::Kafka(messages, headers))
    }

    /// Records that own their bytes, as tests and the memory source have them.
    pub fn owned(records: Vec<crate::record::OwnedRecord>) -> Self {
        Batch(Inner::Memory(records))
    }

    /// Some records of `batch`, changed at these places of the whole batch.
    pub(crate) fn changed(batch: Arc<Batch>, records: Range<usize>, changes: Vec<(usize, Change)>) -> Self {
        Batch(Inner::Changed(Changed { batch, records, changes }))
    }

    /// Appends the records to `into`, borrowed from this batch.
    pub fn records<'a>(&'a self, topic: &'a str, into: &mut Vec<Record<'a>>) {
        match &self.0 {
            Inner::Kafka(messages, headers) => {
                into.extend(messages.iter().filter(|message| message.error().is_none()).map(|message| message.record(topic, *headers)))
            }
            Inner::Memory(records) => into.extend(records.iter().map(crate::record::OwnedRecord::borrow)),
            Inner::Changed(Changed { batch, records, changes }) => {
                let begin = into.len();
                batch.stretch(topic, records.clone(), into);
                for (at, change) in changes {
                    let record = &mut into[begin + at - records.start];
                    *record = change.on(record);
                }
            }
        }
    }

    /// Appends the records of these places to `into`.
    fn stretch<'a>(&'a self, topic: &'a str, places: Range<usize>, into: &mut Vec<Record<'a>>) {
        match &self.0 {
            Inner::Kafka(messages, headers) => {
                let records = messages.iter().filter(|message| message.error().is_none()).skip(places.start).take(places.len());
                into.extend(records.map(|message| message.record(topic, *headers)));
            }
            Inner::Memory(records) => into.extend(records[places].iter().map(crate::record::OwnedRecord::borrow)),
            Inner::Changed(_) => {
                let mut all = Vec::new();
                self.records(topic, &mut all);
                into.extend_from_slice(&all[places]);
            }
        }
    }

    /// Leader epoch of the record at `offset`; -1 when not known.
    pub fn leader_epoch_at(&self, offset: i64) -> i32 {
        match &self.0 {
            Inner::Kafka(messages, _) => {
                // nearly always it is the last one
                let found = messages.iter().rfind(|message| message.error().is_none() && message.offset() == offset);
                found.map_or(-1, kafka::Message::leader_epoch)
            }
            Inner::Memory(_) => -1,
            Inner::Changed(changed) => changed.batch.leader_epoch_at(offset),
        }
    }

    /// The offset after the last record; `None` when there is none.
    pub fn next_offset(&self) -> Option<i64> {
        match &self.0 {
            Inner::Kafka(messages, _) => messages.iter().rfind(|message| message.error().is_none()).map(|message| message.offset() + 1),
            Inner::Memory(records) => records.last().map(|record| record.offset + 1),
            Inner::Changed(Changed { batch, records, .. }) => {
                let mut last = Vec::new();
                batch.stretch("", records.end.saturating_sub(1).max(records.start)..records.end, &mut last);
                last.last().map(|record| record.offset + 1)
            }
        }
    }

    /// How many messages the batch holds.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Kafka(messages, _) => messages.len(),
            Inner::Memory(records) => records.len(),
            Inner::Changed(changed) => changed.records.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that the batch holds, in bytes: payloads and what librdkafka keeps per message.
    pub fn held_bytes(&self) -> usize {
        /// Size of librdkafka's op and message around a payload, roughly.
        const PER_MESSAGE: usize = 320;
        match &self.0 {
            Inner::Kafka(messages, _) => messages.iter().map(kafka::Message::payload_bytes).sum::<usize>() + messages.len() * PER_MESSAGE,
            Inner::Memory(records) => records.iter().map(|record| record.borrow().payload_bytes() + PER_MESSAGE).sum(),
            // the whole batch is there until the last of its pieces is gone; what it was changed to has its room
            Inner::Changed(_) => 0,
        }
    }
}
