//! Where records come from. A source hands out batches of one partition, in order, and says what its consumer group does.
//!
//! It is driven by one thread, which never waits for a store: what an event needs is done elsewhere, and answered by
//! [`Source::assign`] and [`Source::release`] when it is done.

pub mod kafka;
mod log;
pub mod memory;

pub use log::{Identity, Log};

use crate::{
    batch::Batch,
    error::{Error, Result},
    report::Report,
    span::{Position, TopicPartition},
};
use std::time::Duration;

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
    fn report(&mut self, reports: &[(TopicPartition, Report)]);
    /// Leaves the group.
    fn close(self: Box<Self>);
}
