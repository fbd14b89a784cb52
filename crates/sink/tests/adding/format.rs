//! A format: key and value of a row on one line, with a separator between.

use bytes::Bytes;
use kas3_sink::{
    Result,
    format::{Appended, Configured, Encoder, Finished, Format},
    refused::{Refused, Step},
    registry::Entry,
    row::Row,
    span::{Bounds, Checksum},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) const ENTRY: Entry<Arc<dyn Configured>> = Entry {
    name: "separated",
    doc: "Key and value on one line.",
    schema: Separated::json_schema,
    read: |json| Ok(Arc::new(serde_json::from_value::<Separated>(json)?)),
};

/// The settings are the factory.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Separated {
    /// What stands between key and value.
    separator: char,
}

impl Configured for Separated {
    fn build(&self, _: &str) -> Result<Arc<dyn Format>> {
        Ok(Arc::new(self.clone()))
    }
    fn json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Format for Separated {
    fn extension(&self) -> &str {
        "txt"
    }
    fn content_type(&self) -> &'static str {
        "text/plain"
    }
    fn content_encoding(&self) -> Option<&'static str> {
        None
    }
    fn has_side_file(&self) -> bool {
        false
    }
    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(File { separator: self.separator, ..File::default() }))
    }
}

/// One file being written. It holds everything until it ends; a real format hands on what is encoded.
#[derive(Default)]
struct File {
    separator: char,
    content: Vec<u8>,
    rows: u64,
    records: u64,
    offsets: Option<Bounds>,
    timestamps: Option<Bounds>,
}

impl Encoder for File {
    fn append(&mut self, rows: &[Row<'_>]) -> Result<Appended> {
        let mut appended = Appended::default();
        for row in rows {
            if let Some(refused) = self.refuses(row) {
                appended.refused = Some(refused);
                break;
            }
            self.content.extend_from_slice(row.record.key.unwrap_or_default());
            self.content.extend_from_slice(self.separator.encode_utf8(&mut [0; 4]).as_bytes());
            self.content.extend_from_slice(row.bytes().unwrap_or_default());
            self.content.push(b'\n');
            self.rows += 1;
            self.records += u64::from(self.offsets.is_none_or(|offsets| offsets.max != row.record.offset));
            Bounds::widen(&mut self.offsets, row.record.offset);
            row.record.timestamp_ms.iter().for_each(|at| Bounds::widen(&mut self.timestamps, *at));
            appended.written += 1;
        }
        Ok(appended)
    }
    fn refuses(&self, row: &Row<'_>) -> Option<Refused> {
        let broken = row.bytes().is_some_and(|value| value.contains(&b'\n'));
        broken.then(|| Refused::new(Step::Encode, "newline", "the value holds a newline"))
    }
    fn rows(&self) -> u64 {
        self.rows
    }
    fn take(&mut self) -> Bytes {
        Bytes::new()
    }
    fn size(&self) -> u64 {
        self.content.len() as u64
    }
    fn buffered(&self) -> usize {
        self.content.capacity()
    }
    fn shrink(&mut self) -> Result<()> {
        Ok(())
    }
    fn finish(self: Box<Self>) -> Result<Finished> {
        Ok(Finished {
            bytes: self.content.len() as u64,
            rows: self.rows,
            records: self.records,
            checksum: Checksum::from_xxh3(xxhash_rust::xxh3::xxh3_128(&self.content)),
            offsets: self.offsets,
            timestamps: self.timestamps,
            side_file: None,
            tail: self.content.into(),
        })
    }
}
