//! What lanes, paths and encoders work with: rows. A record from Kafka is one row; transforms make none, one or several of it.
//!
//! The identity of a row (where its record stands in Kafka, with everything that Kafka has of it) never changes, whatever its
//! value becomes: so exactly once holds for transformed records as for any others. Rows of one record are numbered in order.
//!
//! ```
//! use kas3_sink::{record::OwnedRecord, row::{Row, Value}};
//! let record = OwnedRecord { topic: "orders".into(), offset: 7, value: Some(b"a b".to_vec()), ..OwnedRecord::default() };
//! let row = Row::of(record.borrow());
//! let second = row.made(1, Value::Owned(Some("b".into())));
//! assert_eq!((second.record.offset, second.nth, second.bytes()), (7, 1, Some(&b"b"[..])));
//! ```

use crate::record::{OwnedRecord, Record};
use bytes::Bytes;

/// A row: a record's identity, and what is to be written of it.
#[derive(Clone)]
pub struct Row<'a> {
    /// The record as Kafka has it.
    pub record: Record<'a>,
    /// Its number among the rows of the record, from 0.
    pub nth: u32,
    /// What is written.
    pub value: Value<'a>,
}

/// The value of a row.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// Bytes of the record, untouched; `None` is a tombstone.
    Raw(Option<&'a [u8]>),
    /// Bytes that a transform made; `None` is a tombstone.
    Owned(Option<Bytes>),
}

impl<'a> Row<'a> {
    /// A record as it is.
    #[inline]
    pub fn of(record: Record<'a>) -> Self {
        Row { value: Value::Raw(record.value), nth: 0, record }
    }

    /// Another row of the same record.
    pub fn made(&self, nth: u32, value: Value<'a>) -> Self {
        Row { record: self.record, nth, value }
    }

    /// The value's bytes; `None` is a tombstone.
    #[inline]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.value {
            Value::Raw(bytes) => *bytes,
            Value::Owned(bytes) => bytes.as_deref(),
        }
    }

    /// Bytes of key and value, for limits and metrics.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.record.key.map_or(0, <[u8]>::len) + self.bytes().map_or(0, <[u8]>::len)
    }
}

/// A row that owns its bytes: what is compared with files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRow {
    /// The record.
    pub record: OwnedRecord,
    /// Its number among the rows of the record, from 0.
    pub nth: u32,
    /// The value, where it is not the record's own.
    pub value: Option<Option<Bytes>>,
}

impl OwnedRow {
    /// The row, borrowed.
    pub fn borrow(&self) -> Row<'_> {
        let record = self.record.borrow();
        let value = match &self.value {
            None => Value::Raw(record.value),
            Some(value) => Value::Raw(value.as_deref()),
        };
        Row { record, nth: self.nth, value }
    }
}

impl From<OwnedRecord> for OwnedRow {
    fn from(record: OwnedRecord) -> Self {
        OwnedRow { record, nth: 0, value: None }
    }
}

impl From<&Row<'_>> for OwnedRow {
    fn from(row: &Row<'_>) -> Self {
        let value = match &row.value {
            Value::Raw(_) => None,
            Value::Owned(value) => Some(value.clone()),
        };
        OwnedRow { record: OwnedRecord::from(&row.record), nth: row.nth, value }
    }
}

/// Takes the rows that a transform makes of one row, in their order.
#[derive(Default)]
pub struct Rows<'a>(Vec<Row<'a>>);

impl<'a> Rows<'a> {
    /// Takes the next row; its number follows from its place.
    pub fn push(&mut self, row: Row<'a>) {
        self.0.push(row);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows, numbered from 0.
    pub fn into_numbered(mut self) -> Vec<Row<'a>> {
        for (nth, row) in (0..).zip(&mut self.0) {
            row.nth = nth;
        }
        self.0
    }
}

impl<'a> IntoIterator for Rows<'a> {
    type Item = Row<'a>;
    type IntoIter = std::vec::IntoIter<Row<'a>>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
