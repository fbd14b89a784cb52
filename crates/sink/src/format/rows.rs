//! Formats of rows: a codec writes each record behind the one before, and what it wrote is cut into blocks.
//!
//! Guarantee: a row never spans two blocks, rows keep the order of their records, and a record that does not fit leaves no
//! byte behind. A row format is a [`RowCodec`]; everything else of it is here:
//!
//! ```text
//! record --RowCodec::write--> open block --full--> compressed, indexed, ready to take
//! ```

use super::{
    Appended, Encoder, Finished, Format,
    blocks::{BlockPlan, BlockWriter},
};
use crate::{
    config::{Absent, BadRecords},
    error::{Error, Kind, Result},
    record::Record,
};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of a row at most, and so of the content of a block. Kafka's own largest record is smaller.
pub(super) const ROW_BYTES_MAX: usize = 1 << 30;

/// Turns one record into one row. Holds settings only, so that all encoders of a format share it.
pub(super) trait RowCodec: Send + Sync + 'static {
    /// How many bytes the row will take; right for nearly all records, never binding.
    fn expected_bytes(&self, record: &Record<'_>) -> usize;
    /// Appends the row of `record` to `block`. What is appended before an error is taken back by the caller.
    fn write(&self, record: &Record<'_>, block: &mut Vec<u8>) -> Result<Row, Misfit>;
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// Its row is in the block.
    Written,
    /// A policy leaves it out; nothing was written.
    Filtered,
}

/// Why a record does not fit.
#[derive(Debug)]
pub(super) struct Misfit {
    reason: &'static str,
    key: Option<&'static str>,
}

impl Misfit {
    pub(super) fn new(reason: &'static str) -> Self {
        Misfit { reason, key: None }
    }

    /// The same with the key below `format` that decides about such records.
    pub(super) fn key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    #[cold]
    fn error(self, record: &Record<'_>) -> Error {
        let doing = format!("record at offset `{}` of `{}-{}` does not fit: {}", record.offset, record.topic, record.partition, self.reason);
        let key = self.key.map(|key| format!("`format.{key}` says what to do with such records; ")).unwrap_or_default();
        Error::new(Kind::BadRecord, doing).hint(format!("{key}`bad_records: skip` leaves out whatever does not fit")).at(record.offset)
    }
}

/// What the policies say of a record whose value is absent or empty.
pub(super) fn absent(record: &Record<'_>, tombstones: Absent, empty_values: Absent) -> Result<Row, Misfit> {
    let (policy, reason, key) = match record.value {
        None => (tombstones, "it is a tombstone", "tombstones"),
        Some(_) => (empty_values, "its value is empty", "empty_values"),
    };
    match policy {
        Absent::Null => Ok(Row::Written),
        Absent::Skip => Ok(Row::Filtered),
        Absent::Reject => Err(Misfit::new(reason).key(key)),
    }
}

/// A row format with its settings.
pub(super) struct RowFormat<C> {
    plan: Arc<BlockPlan>,
    codec: Arc<C>,
    bad: BadRecords,
}

impl<C: RowCodec> RowFormat<C> {
    pub(super) fn new(plan: BlockPlan, bad: BadRecords, codec: C) -> Self {
        RowFormat { plan: Arc::new(plan), codec: Arc::new(codec), bad }
    }
}

impl<C: RowCodec> Format for RowFormat<C> {
    fn extension(&self) -> &str {
        &self.plan.extension
    }
    fn content_type(&self) -> &'static str {
        self.plan.content_type
    }
    fn content_encoding(&self) -> Option<&'static str> {
        self.plan.content_encoding
    }
    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        let blocks = BlockWriter::new(Arc::clone(&self.plan));
        Ok(Box::new(RowEncoder { codec: Arc::clone(&self.codec), bad: self.bad, blocks }))
    }
}

/// One file of rows.
struct RowEncoder<C> {
    codec: Arc<C>,
    bad: BadRecords,
    blocks: BlockWriter,
}

impl<C: RowCodec> Encoder for RowEncoder<C> {
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended> {
        let mut appended = Appended::default();
        for record in records {
            self.blocks.check_order(record)?;
            let start = self.blocks.room(self.codec.expected_bytes(record))?;
            let row = self.codec.write(record, self.blocks.open());
            let fits = self.blocks.open().len() - start <= ROW_BYTES_MAX;
            match row.and_then(|row| if fits { Ok(row) } else { Err(Misfit::new("its row is larger than 1 GiB")) }) {
                Ok(Row::Written) => {
                    self.blocks.end_row(start, record)?;
                    appended.written += 1;
                }
                Ok(Row::Filtered) => appended.filtered += 1,
                Err(misfit) => {
                    self.blocks.open().truncate(start);
                    if self.bad == BadRecords::Stop {
                        return Err(misfit.error(record));
                    }
                    appended.filtered += 1;
                }
            }
        }
        Ok(appended)
    }

    fn records(&self) -> u64 {
        self.blocks.records()
    }

    fn take(&mut self) -> Bytes {
        self.blocks.take()
    }

    fn size(&self) -> u64 {
        self.blocks.size()
    }

    fn buffered(&self) -> usize {
        size_of::<Self>() + self.blocks.buffered()
    }

    fn shrink(&mut self) -> Result<()> {
        self.blocks.shrink()
    }

    fn finish(self: Box<Self>) -> Result<Finished> {
        self.blocks.finish()
    }
}
