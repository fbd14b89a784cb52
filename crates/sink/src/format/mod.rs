//! What a file holds. A format turns records into bytes; it does no I/O, reads no clock and draws no random numbers, so that
//! the same records always give the same bytes.
//!
//! Adding a format is one file and one row in [`FORMATS`]: configuration, reference page and conformance tests read that list.

use crate::{
    error::Result,
    record::Record,
    span::{Bounds, Checksum},
};
use bytes::Bytes;

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
    /// Appends records in their order. A record that does not fit is an error of kind `BadRecord` that names its offset;
    /// the records before it in `records` are then in the file, it and those after it are not.
    ///
    /// # Errors
    /// `BadRecord` for a record that the policy does not let pass.
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended>;
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
