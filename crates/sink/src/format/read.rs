//! Reading files back, whatever format wrote them: the seam between `verify`, `cat` and the formats.
//!
//! Where bytes come from is the caller's business ([`RangeRead`]). What a file is says its beginning, not today's settings: they
//! change, and files stay. A reader stands beside each writer, and decides what holds a row from the documented meaning of its
//! format, not with its encoder, so that a fault of an encoder shows.

use super::READERS;
use crate::{
    error::{Error, Kind, Result},
    row::Row,
    span::TopicPartition,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;

/// Bytes from a file's beginning that tell what it is.
pub const HEAD_BYTES: u64 = 4;

/// A file that is read by ranges.
#[async_trait]
pub trait RangeRead: Send + Sync {
    /// The bytes of `range`, which lies inside the file.
    async fn range(&self, range: Range<u64>) -> Result<Bytes>;
    /// The file's size in bytes.
    async fn size(&self) -> Result<u64>;
}

#[async_trait]
impl RangeRead for Bytes {
    async fn range(&self, range: Range<u64>) -> Result<Bytes> {
        let inside = |position: u64| usize::try_from(position).ok().filter(|position| *position <= self.len());
        match (inside(range.start), inside(range.end)) {
            (Some(start), Some(end)) if start <= end => Ok(self.slice(start..end)),
            _ => Err(Error::new(Kind::Fatal, format!("range `{}-{}` is not inside a file of `{}` bytes", range.start, range.end, self.len()))),
        }
    }
    async fn size(&self) -> Result<u64> {
        Ok(self.len() as u64)
    }
}

/// What to read of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only rows whose offset is in this half-open range, or is not known.
    pub offsets: Range<i64>,
    /// Offset of the first row of a file without index, when the caller knows that there are no gaps and one row a record (in
    /// the ledger: largest − smallest + 1 = records = rows).
    pub dense_from: Option<i64>,
    /// Bytes of a row at most; a longer one is an error. By default 256 MiB.
    pub row_bytes_max: usize,
    /// Uncompressed bytes of a file without index at most; more is an error. By default without a limit, since no more than
    /// a row and a few MiB are held at a time.
    pub content_bytes_max: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { offsets: 0..i64::MAX, dense_from: None, row_bytes_max: 256 << 20, content_bytes_max: u64::MAX }
    }
}

/// A row as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Offset of its record; `None` where the file does not tell.
    pub offset: Option<i64>,
    /// Its logical content, which the file's checksum is over; of lines the line without its newline.
    pub bytes: Bytes,
}

/// Rows that were read together, in their order.
pub type StoredRows = Box<dyn Iterator<Item = StoredRow> + Send>;

/// Reads what a family of formats writes.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Whether a file that begins so (up to [`HEAD_BYTES`]) is of this family.
    fn recognises(&self, head: &[u8]) -> bool;
    /// Opens a file that begins with `head`.
    ///
    /// # Errors
    /// `Fatal` for a damaged file or one of a newer version; whatever `file` fails with.
    async fn open<'a>(&self, file: &'a dyn RangeRead, head: &[u8], options: ReadOptions) -> Result<Box<dyn FileReader + 'a>>;
    /// Whether stored bytes are what the formats of this family make of a row.
    fn holds(&self, stored: &[u8], row: &Row<'_>) -> bool;
    /// The offset that a stored row of this partition names by itself, as an envelope does.
    fn offset_within(&self, stored: &[u8], of: &TopicPartition) -> Option<i64>;
}

/// One file being read from its beginning, or its wanted part.
#[async_trait]
pub trait FileReader: Send {
    /// Whether the file itself tells the offsets of its rows, so that reading may begin at any of them.
    fn is_indexed(&self) -> bool;
    /// The next rows, `None` at the end.
    ///
    /// # Errors
    /// `Fatal` when the file is damaged, cut short or beyond a limit; whatever `file` fails with.
    async fn next(&mut self) -> Result<Option<StoredRows>>;
}

/// What reads a file that begins so.
pub fn reader_of(head: &[u8]) -> &'static dyn Reader {
    READERS.iter().copied().find(|reader| reader.recognises(head)).expect("the last reader takes everything")
}

/// The bytes of `range`, all of them.
///
/// # Errors
/// `Fatal` when there are fewer; whatever `file` fails with.
pub async fn request(file: &dyn RangeRead, range: Range<u64>) -> Result<Bytes> {
    let bytes = file.range(range.clone()).await?;
    if bytes.len() as u64 == range.end - range.start {
        return Ok(bytes);
    }
    Err(Error::new(Kind::Fatal, format!("file gave `{}` bytes for its bytes `{}` to `{}`", bytes.len(), range.start, range.end)))
}
