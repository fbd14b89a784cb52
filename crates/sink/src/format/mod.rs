//! What a file holds. A format turns records into bytes; it does no I/O, reads no clock and draws no random numbers, so that
//! the same records always give the same bytes.
//!
//! Adding a format is one file and one row in [`FORMATS`]: configuration, reference page and conformance tests read that list.
//! Formats of rows (a line a record) share `rows.rs` and the compressed blocks below it; a columnar one needs neither.
//!
//! ```
//! use kas3_sink::{config::{BadRecords, FormatSettings}, format, record::OwnedRecord};
//! let format = format::build(&FormatSettings::default(), BadRecords::Stop)?;
//! assert_eq!(format.extension(), "jsonl.gz");
//! let mut encoder = format.encoder()?;
//! let record = OwnedRecord { topic: "orders".into(), value: Some(b"{\"id\":1}".to_vec()), ..OwnedRecord::default() };
//! encoder.append(&[record.borrow()])?;
//! assert_eq!(encoder.finish()?.records, 1);
//! # Ok::<(), kas3_sink::Error>(())
//! ```

mod blocks;
pub mod envelope;
pub mod index;
mod json;
mod json_lines;
mod lines;
pub mod read;
mod rows;
mod side_file;
mod text;

use crate::{
    config::{BadRecords, FormatSettings},
    error::{Error, Kind, Result},
    record::Record,
    span::{Bounds, Checksum},
};
use bytes::Bytes;
use std::sync::Arc;

/// Every format, in the order of the reference page.
pub const FORMATS: &[FormatRow] = &[json_lines::ROW, text::ROW];

/// A row of [`FORMATS`].
pub struct FormatRow {
    /// The name in `format.type`.
    pub name: &'static str,
    /// What it is, in one line of the reference page.
    pub doc: &'static str,
    /// Checks the settings and makes the format.
    pub build: fn(&FormatSettings, BadRecords) -> Result<Arc<dyn Format>>,
}

/// The format that `settings` ask for; `bad` says what its encoders do with a record that does not fit.
///
/// # Errors
/// `Config` for an unknown name, a value out of range, or settings that contradict each other; it names the keys.
pub fn build(settings: &FormatSettings, bad: BadRecords) -> Result<Arc<dyn Format>> {
    if let Some(row) = FORMATS.iter().find(|row| row.name == settings.kind) {
        return (row.build)(settings, bad);
    }
    let names: Vec<String> = FORMATS.iter().map(|row| format!("`{}`", row.name)).collect();
    let nearest = FORMATS
        .iter()
        .map(|row| (strsim::jaro_winkler(&settings.kind.to_lowercase(), row.name), row.name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let there_are = format!("there are {}", names.join(", "));
    let hint = nearest.map_or_else(|| there_are.clone(), |(_, name)| format!("did you mean `{name}`? {there_are}"));
    Err(Error::new(Kind::Config, format!("`format.type` names an unknown format `{}`", settings.kind)).hint(hint))
}

/// A format with its settings.
pub trait Format: Send + Sync {
    /// The extension of its files, with compression and without the leading dot, as `jsonl.gz`.
    fn extension(&self) -> &str;
    /// The media type of its files.
    fn content_type(&self) -> &'static str;
    /// The `Content-Encoding` of its files, when the settings ask for one; by default objects carry none, because clients
    /// that see one decompress behind the reader's back.
    fn content_encoding(&self) -> Option<&'static str> {
        None
    }
    /// A new file.
    fn encoder(&self) -> Result<Box<dyn Encoder>>;
}

/// One file being written.
pub trait Encoder: Send {
    /// Appends records in their order. A record that does not fit is an error of kind `BadRecord` that names its offset (`Error::at`);
    /// the records before it in `records` are then in the file, it and those after it are not.
    ///
    /// # Errors
    /// `BadRecord` for a record that the policy does not let pass.
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended>;
    /// Records in the file so far.
    fn records(&self) -> u64;
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

/// What became of appended records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Records that are in the file now.
    pub written: u64,
    /// Records that a policy left out (tombstones, empty values, bad records to skip).
    pub filtered: u64,
}

/// A file that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Bytes after those taken before.
    pub tail: Bytes,
    /// All encoded bytes of the file, those taken before included.
    pub bytes: u64,
    /// Records in the file.
    pub records: u64,
    /// Checksum of the uncompressed content.
    pub checksum: Checksum,
    /// Smallest and largest offset; `None` in a file without records.
    pub offsets: Option<Bounds>,
    /// Smallest and largest timestamp in milliseconds; `None` when no record has one.
    pub timestamps: Option<Bounds>,
    /// The side file (seed 003's `.index.json`) when the settings ask for one instead of an index inside.
    pub side_file: Option<Bytes>,
}

#[cfg(test)]
mod tests;
