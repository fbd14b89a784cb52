//! Formats of lines: a codec writes each row behind the one before, and what it wrote is cut into blocks.
//!
//! Guarantee: a row never spans two blocks, rows keep their order, and a row that does not fit leaves no byte behind. A format
//! of lines is a [`RowCodec`]; everything else of it is here:
//!
//! ```text
//! row --RowCodec::write--> open block --full--> compressed, indexed, ready to take
//! ```

use super::{
    Absent, ROW_BYTES_MAX,
    blocks::{BlockPlan, BlockWriter},
};
use crate::{
    error::Result,
    format::{Appended, Encoder, Finished, Format},
    refused::{Refused, Step},
    row::Row,
};
use bytes::Bytes;
use std::sync::Arc;

/// Turns one row into one line. Holds settings only, so that all encoders of a format share it.
pub(super) trait RowCodec: Send + Sync + 'static {
    /// How many bytes the line will take; right for nearly all rows, never binding.
    fn expected_bytes(&self, row: &Row<'_>) -> usize;
    /// Appends the line of `row` to `block`. What is appended before a refusal is taken back by the caller.
    fn write(&self, row: &Row<'_>, block: &mut Vec<u8>) -> Result<Outcome, Refused>;
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its line is in the block.
    Written,
    /// A setting filters it; nothing was written.
    Filtered,
}

/// A refusal about which the setting `key` of the format decides.
#[cold]
pub(super) fn refused(code: &'static str, reason: &'static str, key: &'static str) -> Refused {
    Refused::new(Step::Encode, code, reason).hint(format!("`format.{key}` says what to do with such records"))
}

/// What the settings say of a row whose value is absent or empty.
pub(super) fn absent(row: &Row<'_>, tombstones: Absent, empty_values: Absent) -> Result<Outcome, Refused> {
    let (policy, code, reason, key) = match row.bytes() {
        None => (tombstones, "tombstone", "it is a tombstone", "tombstones"),
        Some(_) => (empty_values, "empty_value", "its value is empty", "empty_values"),
    };
    match policy {
        Absent::Null => Ok(Outcome::Written),
        Absent::Skip => Ok(Outcome::Filtered),
        Absent::Reject => Err(refused(code, reason, key)),
    }
}

/// A format of lines with its settings.
pub(super) struct RowFormat<C> {
    plan: Arc<BlockPlan>,
    codec: Arc<C>,
}

impl<C: RowCodec> RowFormat<C> {
    pub(super) fn new(plan: BlockPlan, codec: C) -> Self {
        RowFormat { plan: Arc::new(plan), codec: Arc::new(codec) }
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
    fn has_side_file(&self) -> bool {
        self.plan.has_side_file()
    }
    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        let blocks = BlockWriter::new(Arc::clone(&self.plan));
        Ok(Box::new(RowEncoder { codec: Arc::clone(&self.codec), blocks }))
    }
}

/// One file of lines.
struct RowEncoder<C> {
    codec: Arc<C>,
    blocks: BlockWriter,
}

impl<C: RowCodec> Encoder for RowEncoder<C> {
    fn append(&mut self, rows: &[Row<'_>]) -> Result<Appended> {
        let mut appended = Appended::default();
        for row in rows {
            self.blocks.check_order(&row.record)?;
            let start = self.blocks.room(self.codec.expected_bytes(row))?;
            let outcome = self.codec.write(row, self.blocks.open());
            let bytes = self.blocks.open().len() - start;
            match outcome.and_then(|outcome| fits(outcome, bytes)) {
                Ok(Outcome::Written) => {
                    self.blocks.end_row(start, &row.record)?;
                    appended.written += 1;
                }
                Ok(Outcome::Filtered) => appended.filtered += 1,
                Err(refused) => {
                    self.blocks.open().truncate(start);
                    appended.refused = Some(refused);
                    break;
                }
            }
        }
        Ok(appended)
    }

    fn refuses(&self, row: &Row<'_>) -> Option<Refused> {
        let mut line = Vec::with_capacity(self.codec.expected_bytes(row));
        let outcome = self.codec.write(row, &mut line);
        outcome.and_then(|outcome| fits(outcome, line.len())).err()
    }

    fn rows(&self) -> u64 {
        self.blocks.rows()
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

fn fits(outcome: Outcome, bytes: usize) -> Result<Outcome, Refused> {
    if bytes <= ROW_BYTES_MAX { Ok(outcome) } else { Err(Refused::new(Step::Encode, "too_large", "its row is larger than 1 GiB")) }
}
