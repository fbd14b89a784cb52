//! Bare values as lines: what `json_lines` and `text` have in common.
//!
//! A value costs one search for a newline and one copy. Only a value that holds one, or that is absent or empty, takes the
//! slow way through its policy.

use super::{
    Absent, LinesSettings, Newlines, json,
    rows::{Outcome, RowCodec, absent, refused},
};
use crate::{refused::Refused, row::Row};
use memchr::memchr;

/// What lines are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// JSON texts.
    Json,
    /// Anything.
    Text,
}

/// Writes a row's value as a line.
pub(super) struct Values {
    dialect: Dialect,
    newlines: Newlines,
    tombstones: Absent,
    empty_values: Absent,
}

impl Values {
    pub(super) fn new(dialect: Dialect, settings: &LinesSettings) -> Self {
        Values { dialect, newlines: settings.newlines, tombstones: settings.tombstones, empty_values: settings.empty_values }
    }

    fn write_absent(&self, row: &mut Vec<u8>) {
        row.extend_from_slice(match self.dialect {
            Dialect::Json => b"null\n",
            Dialect::Text => b"\n",
        });
    }

    fn write_broken(&self, value: &[u8], line: &mut Vec<u8>) -> Result<(), Refused> {
        let (code, reason) = match (self.newlines, self.dialect) {
            (Newlines::Compact, Dialect::Json) if json::compact(value, line) => return Ok(line.push(b'\n')),
            (Newlines::Compact, Dialect::Json) => ("not_json", "the value holds a newline and is not JSON that could be compacted"),
            (Newlines::Reject, _) | (Newlines::Compact, Dialect::Text) => ("newline", "the value holds a newline"),
            (Newlines::Space, _) => {
                json::spaced(value, line);
                return Ok(line.push(b'\n'));
            }
            (Newlines::Escape, _) => match std::str::from_utf8(value) {
                Ok(text) => {
                    json::write_string(text, line);
                    return Ok(line.push(b'\n'));
                }
                Err(_) => ("not_utf8", "the value holds a newline and is not UTF-8, which a JSON string must be"),
            },
        };
        Err(refused(code, reason, "newlines"))
    }
}

impl RowCodec for Values {
    fn expected_bytes(&self, row: &Row<'_>) -> usize {
        row.bytes().map_or(0, <[u8]>::len).max(4) + 1
    }

    fn write(&self, row: &Row<'_>, block: &mut Vec<u8>) -> Result<Outcome, Refused> {
        match row.bytes() {
            None | Some([]) => {
                let outcome = absent(row, self.tombstones, self.empty_values)?;
                if outcome == Outcome::Written {
                    self.write_absent(block);
                }
                Ok(outcome)
            }
            Some(value) => {
                if memchr(b'\n', value).is_some() {
                    self.write_broken(value, block)?;
                } else {
                    block.extend_from_slice(value);
                    block.push(b'\n');
                }
                Ok(Outcome::Written)
            }
        }
    }
}
