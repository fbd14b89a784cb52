//! Bare values as lines: what `json_lines` and `text` have in common.
//!
//! A value costs one search for a newline and one copy. Only a value that holds one, or that is absent or empty, takes the
//! slow way through its policy.

use super::{
    json,
    rows::{Misfit, Row, RowCodec, absent},
};
use crate::{
    config::{Absent, FormatSettings, Newlines},
    record::Record,
};
use memchr::memchr;

/// What lines are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON texts.
    Json,
    /// Anything.
    Text,
}

/// Writes a record's value as a line.
pub(super) struct Values {
    dialect: Dialect,
    newlines: Newlines,
    tombstones: Absent,
    empty_values: Absent,
}

impl Values {
    pub(super) fn new(dialect: Dialect, settings: &FormatSettings) -> Self {
        Values { dialect, newlines: settings.newlines, tombstones: settings.tombstones, empty_values: settings.empty_values }
    }

    fn write_absent(&self, row: &mut Vec<u8>) {
        row.extend_from_slice(match self.dialect {
            Dialect::Json => b"null\n",
            Dialect::Text => b"\n",
        });
    }

    fn write_broken(&self, value: &[u8], row: &mut Vec<u8>) -> Result<(), Misfit> {
        match (self.newlines, self.dialect) {
            (Newlines::Compact, Dialect::Json) if json::compact(value, row) => {}
            (Newlines::Compact, Dialect::Json) => {
                return Err(Misfit::new("the value holds a newline and is not JSON that could be compacted").key("newlines"));
            }
            (Newlines::Reject, _) | (Newlines::Compact, Dialect::Text) => return Err(Misfit::new("the value holds a newline").key("newlines")),
            (Newlines::Space, _) => json::spaced(value, row),
            (Newlines::Escape, _) => match std::str::from_utf8(value) {
                Ok(text) => json::write_string(text, row),
                Err(_) => return Err(Misfit::new("the value holds a newline and is not UTF-8, which a JSON string must be").key("newlines")),
            },
        }
        row.push(b'\n');
        Ok(())
    }
}

impl RowCodec for Values {
    fn expected_bytes(&self, record: &Record<'_>) -> usize {
        record.value.map_or(0, <[u8]>::len).max(4) + 1
    }

    fn write(&self, record: &Record<'_>, block: &mut Vec<u8>) -> Result<Row, Misfit> {
        match record.value {
            None | Some([]) => {
                let row = absent(record, self.tombstones, self.empty_values)?;
                if row == Row::Written {
                    self.write_absent(block);
                }
                Ok(row)
            }
            Some(value) => {
                if memchr(b'\n', value).is_some() {
                    self.write_broken(value, block)?;
                } else {
                    block.extend_from_slice(value);
                    block.push(b'\n');
                }
                Ok(Row::Written)
            }
        }
    }
}
