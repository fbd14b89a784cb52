//! What a file holds. A format turns rows into bytes, and reads back what it wrote; it reads no clock and draws no random
//! numbers, so that the same rows always give the same bytes.
//!
//! Adding a format is one file with its settings, its encoder and its reader, a row in [`FORMATS`] and one in [`READERS`]:
//! configuration, reference page, `verify`, `cat` and the conformance tests read those lists. Formats of lines share the room
//! [`lines`]; a columnar one needs nothing of it.
//!
//! ```
//! use kas3_sink::{format::FormatSettings, record::OwnedRecord, row::Row};
//! let format = FormatSettings::default().settings.build("sink.format")?;
//! assert_eq!(format.extension(), "jsonl.gz");
//! let mut encoder = format.encoder()?;
//! let record = OwnedRecord { topic: "orders".into(), value: Some(b"{\"id\":1}".to_vec()), ..OwnedRecord::default() };
//! encoder.append(&[Row::of(record.borrow())])?;
//! assert_eq!(encoder.finish()?.rows, 1);
//! # Ok::<(), kas3_sink::Error>(())
//! ```

pub mod lines;
pub mod read;

use crate::{
    error::Result,
    refused::Refused,
    registry::{Chosen, Component, Entry},
    row::Row,
    span::{Bounds, Checksum},
};
use bytes::Bytes;
use serde_json::Value as Json;
use std::{fmt, sync::Arc};

/// Every format, in the order of the reference page.
pub const FORMATS: &[Entry<Arc<dyn Configured>>] = &[lines::json_lines::ENTRY, lines::text::ENTRY];

/// What reads files back, by their first bytes; the last one takes everything.
pub const READERS: &[&dyn read::Reader] = &[&lines::read::LinesReader];

/// The section `format` of the configuration.
pub type FormatSettings = Chosen<Arc<dyn Configured>>;

/// The settings of a format, as written: its factory.
pub trait Configured: fmt::Debug + Send + Sync {
    /// Checks the settings and makes the format; `key` is where they stand, as `sink.format`.
    ///
    /// # Errors
    /// `Config` for a value out of range, or settings that contradict each other; it names the keys.
    fn build(&self, key: &str) -> Result<Arc<dyn Format>>;

    /// The settings as JSON.
    fn json(&self) -> Json;
}

impl Component for Arc<dyn Configured> {
    const KIND: &'static str = "format";
    const DEFAULT: Option<&'static str> = Some("json_lines");
    fn entries() -> &'static [Entry<Self>] {
        FORMATS
    }
    fn json(&self) -> Json {
        self.as_ref().json()
    }
}

/// A format with its settings.
pub trait Format: Send + Sync {
    /// The extension of its files, with compression and without the leading dot, as `jsonl.gz`.
    fn extension(&self) -> &str;
    /// The media type of its files.
    fn content_type(&self) -> &'static str;
    /// The `Content-Encoding` of its files, when the settings ask for one; by default objects carry none, because clients
    /// that see one decompress behind the reader's back.
    fn content_encoding(&self) -> Option<&'static str>;
    /// Whether its files have an index beside them, as DeviantArt's kafka-connect-s3 has it.
    fn has_side_file(&self) -> bool;
    /// A new file.
    ///
    /// # Errors
    /// When an encoder cannot be made.
    fn encoder(&self) -> Result<Box<dyn Encoder>>;
}

/// One file being written.
pub trait Encoder: Send {
    /// Appends rows in their order, up to the first one that does not fit: it and those behind it are not in the file then.
    ///
    /// # Errors
    /// When the encoder is broken: what it holds is not known any more.
    fn append(&mut self, rows: &[Row<'_>]) -> Result<Appended>;
    /// Why a row does not fit, if it does not, without appending it: asked before rows that must be written together.
    fn refuses(&self, row: &Row<'_>) -> Option<Refused>;
    /// Rows in the file so far.
    fn rows(&self) -> u64;
    /// Encoded bytes that were not taken yet; the caller cuts them into parts. Empty when there are none.
    fn take(&mut self) -> Bytes;
    /// Encoded so far, taken or not, plus what the open block is expected to add, in bytes: what `roll.bytes` looks at.
    fn size(&self) -> u64;
    /// Bytes of memory that the encoder holds (open block, encoded bytes not taken, index): what the budget counts.
    fn buffered(&self) -> usize;
    /// Closes the open block early, to give memory back: it becomes encoded bytes. Does nothing when that would not help.
    ///
    /// # Errors
    /// When the compressor fails.
    fn shrink(&mut self) -> Result<()>;
    /// Ends the file: the rest of its bytes, with the index, and what the ledger keeps of it.
    ///
    /// # Errors
    /// When the compressor fails.
    fn finish(self: Box<Self>) -> Result<Finished>;
}

/// What became of appended rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Rows that are in the file now.
    pub written: u64,
    /// Rows that a setting of the format filters (tombstones, empty values).
    pub filtered: u64,
    /// The row after these `written + filtered` ones does not fit.
    pub refused: Option<Refused>,
}

impl Appended {
    /// Rows that were dealt with, from the front.
    pub fn taken(&self) -> usize {
        usize::try_from(self.written + self.filtered).unwrap_or(usize::MAX)
    }
}

/// A file that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Bytes after those taken before.
    pub tail: Bytes,
    /// All encoded bytes of the file, those taken before included.
    pub bytes: u64,
    /// Rows in the file.
    pub rows: u64,
    /// Records that these rows are of.
    pub records: u64,
    /// Checksum of the rows: of each row's logical content and a newline, in their order, whatever the encoding.
    pub checksum: Checksum,
    /// Smallest and largest offset; `None` in a file without rows.
    pub offsets: Option<Bounds>,
    /// Smallest and largest timestamp in milliseconds; `None` when no record has one.
    pub timestamps: Option<Bounds>,
    /// The side file (DeviantArt's `.index.json`) when the settings ask for one instead of an index inside.
    pub side_file: Option<Bytes>,
}

#[cfg(test)]
mod tests;
