//! Records of one partition that travel together, from where they were read to their lane.
//!
//! The bytes stay where the source has them; what was prefetched for some records lies beside them.

use crate::{
    record::{Change, OwnedRecord},
    row::Row,
};
use std::{ops::Range, sync::Arc};

/// What a source hands out: records of one partition in the order of their offsets.
pub trait SourceBatch: Send + Sync {
    /// Appends the records of these places to `into`, each as a row that borrows from this batch.
    fn rows<'a>(&'a self, topic: &'a str, places: Range<usize>, into: &mut Vec<Row<'a>>);
    /// How many records there are.
    fn len(&self) -> usize;
    /// The offset of the record at a place.
    fn offset_at(&self, place: usize) -> Option<i64>;
    /// Leader epoch of the record at `offset`; -1 when not known.
    fn leader_epoch_at(&self, offset: i64) -> i32;
    /// Memory that the batch holds, in bytes.
    fn held_bytes(&self) -> usize;
    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Records of one partition in the order of their offsets.
pub struct Batch(Inner);

enum Inner {
    Source(Box<dyn SourceBatch>),
    Changed(Changed),
}

/// Some records of another batch, with what was prefetched for them.
struct Changed {
    batch: Arc<Batch>,
    /// Which of its records.
    places: Range<usize>,
    /// The changed ones by their place in the whole batch, in order.
    changes: Vec<(usize, Change)>,
}

/// Size of a client's bookkeeping around a payload, roughly, in bytes.
pub const PER_MESSAGE: usize = 320;

impl SourceBatch for Vec<OwnedRecord> {
    fn rows<'a>(&'a self, _: &'a str, places: Range<usize>, into: &mut Vec<Row<'a>>) {
        into.extend(self[places].iter().map(|record| Row::of(record.borrow())));
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn offset_at(&self, place: usize) -> Option<i64> {
        self.get(place).map(|record| record.offset)
    }
    fn leader_epoch_at(&self, _: i64) -> i32 {
        -1
    }
    fn held_bytes(&self) -> usize {
        self.iter().map(|record| record.borrow().payload_bytes() + PER_MESSAGE).sum()
    }
}

impl Batch {
    /// Records as a source hands them out.
    pub fn new(records: Box<dyn SourceBatch>) -> Self {
        Batch(Inner::Source(records))
    }

    /// Records that own their bytes, as tests and the memory source have them.
    pub fn owned(records: Vec<OwnedRecord>) -> Self {
        Batch::new(Box::new(records))
    }

    /// Some records of `batch`, changed at these places of the whole batch.
    pub(crate) fn changed(batch: Arc<Batch>, places: Range<usize>, changes: Vec<(usize, Change)>) -> Self {
        Batch(Inner::Changed(Changed { batch, places, changes }))
    }

    /// Appends the records to `into`, each as a row that borrows from this batch.
    pub fn rows<'a>(&'a self, topic: &'a str, into: &mut Vec<Row<'a>>) {
        self.places(topic, 0..self.len(), into);
    }

    /// Appends the records of these places to `into`.
    fn places<'a>(&'a self, topic: &'a str, places: Range<usize>, into: &mut Vec<Row<'a>>) {
        match &self.0 {
            Inner::Source(records) => records.rows(topic, places, into),
            Inner::Changed(Changed { batch, places: of, changes }) => {
                let begin = into.len();
                let wanted = of.start + places.start..of.start + places.end;
                batch.places(topic, wanted.clone(), into);
                for (at, change) in changes.iter().filter(|(at, _)| wanted.contains(at)) {
                    let row = &mut into[begin + at - wanted.start];
                    *row = Row::of(change.on(&row.record));
                }
            }
        }
    }

    /// Leader epoch of the record at `offset`; -1 when not known.
    pub fn leader_epoch_at(&self, offset: i64) -> i32 {
        match &self.0 {
            Inner::Source(records) => records.leader_epoch_at(offset),
            Inner::Changed(changed) => changed.batch.leader_epoch_at(offset),
        }
    }

    /// The offset after the last record; `None` when there is none.
    pub fn next_offset(&self) -> Option<i64> {
        Some(self.offset_at(self.len().checked_sub(1)?)? + 1)
    }

    /// The offset of the record at a place.
    fn offset_at(&self, place: usize) -> Option<i64> {
        match &self.0 {
            Inner::Source(records) => records.offset_at(place),
            Inner::Changed(Changed { batch, places, .. }) => batch.offset_at(places.start + place),
        }
    }

    /// How many records the batch holds.
    pub fn len(&self) -> usize {
        match &self.0 {
            Inner::Source(records) => records.len(),
            Inner::Changed(changed) => changed.places.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether something in it was prefetched.
    pub fn is_changed(&self) -> bool {
        matches!(self.0, Inner::Changed(_))
    }

    /// Memory that the batch holds, in bytes: payloads and what a client keeps per message.
    pub fn held_bytes(&self) -> usize {
        match &self.0 {
            Inner::Source(records) => records.held_bytes(),
            // the whole batch is there until the last of its pieces is gone; what it was changed to has its room
            Inner::Changed(_) => 0,
        }
    }
}
