//! Messages that librdkafka lent us, as a batch of records.

use super::native::{Message, Messages};
use crate::{
    batch::{PER_MESSAGE, SourceBatch},
    row::Row,
};
use std::ops::Range;

/// The records among some messages of one partition.
pub(super) struct KafkaBatch {
    pub(super) messages: Messages,
    /// Whether anybody looks at headers.
    pub(super) headers: bool,
    /// Messages that are records, not errors.
    pub(super) records: usize,
}

impl SourceBatch for KafkaBatch {
    fn rows<'a>(&'a self, topic: &'a str, places: Range<usize>, into: &mut Vec<Row<'a>>) {
        let records = self.messages.iter().filter(|message| message.error().is_none());
        into.extend(records.skip(places.start).take(places.len()).map(|message| Row::of(message.record(topic, self.headers))));
    }

    fn len(&self) -> usize {
        self.records
    }

    fn offset_at(&self, place: usize) -> Option<i64> {
        // from the end, because it is the last one that is asked for
        let behind = self.records.checked_sub(place + 1)?;
        self.messages.iter().rev().filter(|message| message.error().is_none()).nth(behind).map(Message::offset)
    }

    fn leader_epoch_at(&self, offset: i64) -> i32 {
        // nearly always it is the last one
        let found = self.messages.iter().rfind(|message| message.error().is_none() && message.offset() == offset);
        found.map_or(-1, Message::leader_epoch)
    }

    fn held_bytes(&self) -> usize {
        self.messages.iter().map(Message::payload_bytes).sum::<usize>() + self.messages.len() * PER_MESSAGE
    }
}
