//! Who watches the ledger: metrics, logs and tests.

use super::stored::Entry;
use crate::{
    error::Error,
    span::{Span, TopicPartition},
};

/// Sees the steps of the protocol. Every method does nothing unless overridden.
#[allow(unused_variables)]
pub trait LedgerObserver: Send + Sync {
    /// A span is final; its files will become visible.
    fn committed(&self, of: &TopicPartition, entry: &Entry) {}
    /// All files of a span are visible.
    fn published(&self, of: &TopicPartition, span: Span, files: usize) {}
    /// The head says that the span is published.
    fn settled(&self, of: &TopicPartition) {}
    /// Staged bytes had vanished and were made again from Kafka.
    fn amended(&self, of: &TopicPartition) {}
    /// Somebody should know, nothing stops.
    fn warning(&self, of: &TopicPartition, text: &str) {}
    /// A step failed and will be tried again.
    fn retrying(&self, of: &TopicPartition, what: &str, error: &Error) {}
}

/// An observer that looks away.
pub struct Unwatched;

impl LedgerObserver for Unwatched {}
