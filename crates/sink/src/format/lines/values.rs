//! Bare values as lines: what `json_lines` and `text` have in common.
//!
//! A value costs one search for a newline and one copy. Only a value that holds one, or that is absent or empty, takes the
//! slow way through its policy. A newline is `\n`, `\r` or both: most readers of lines end a line at each of them. (U+2028 and its
//! like are none: no reader of JSON Lines ends a line there.)

use super::{
    Absent, LinesSettings, Newlines, json,
    rows::{Outcome, RowCodec, absent, refused},
};
use crate::{
    refused::{Refused, Step},
    row::Row,
};
use memchr::memchr2;

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
    check_json: bool,
    tombstones: Absent,
    empty_values: Absent,
}

impl Values {
    pub(super) fn new(dialect: Dialect, settings: &LinesSettings) -> Self {
        let LinesSettings { newlines, check_json, tombstones, empty_values, .. } = *settings;
        Values { dialect, newlines, check_json, tombstones, empty_values }
    }

    fn write_absent(&self, row: &mut Vec<u8>) {
        row.extend_from_slice(match self.dialect {
            Dialect::Json => b"null\n",
            Dialect::Text => b"\n",
        });
    }

    fn write_broken(&self, value: &[u8], line: &mut Vec<u8>) -> Result<(), Refused> {
        match (self.newlines, self.dialect) {
            (Newlines::Compact, Dialect::Json) if json::compact(value, line) => {}
            (Newlines::Compact, Dialect::Json) => {
                return Err(refused("not_json", "the value holds a newline and is not JSON that could be compacted", "newlines"));
            }
            (Newlines::Reject, _) | (Newlines::Compact, Dialect::Text) => return Err(refused("newline", "the value holds a newline", "newlines")),
            (Newlines::Space, _) => json::spaced(value, line),
            (Newlines::Escape, _) => {
                let text = std::str::from_utf8(value)
                    .map_err(|_| refused("not_utf8", "the value holds a newline and is not UTF-8, which a JSON string must be", "newlines"))?;
                json::write_string(text, line);
            }
        }
        line.push(b'\n');
        Ok(())
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
                let start = block.len();
                if memchr2(b'\n', b'\r', value).is_some() {
                    self.write_broken(value, block)?;
                } else {
                    block.extend_from_slice(value);
                    block.push(b'\n');
                }
                if self.check_json {
                    check_json(&block[start..])?;
                }
                Ok(Outcome::Written)
            }
        }
    }
}

/// Refuses a line that is not JSON; what is wrong with it is said with its place.
fn check_json(line: &[u8]) -> Result<(), Refused> {
    json::check(line).map_err(|detail| Refused::new(Step::Encode, "not_json", detail).hint(CHECK_JSON_HINT))
}

const CHECK_JSON_HINT: &str = "`format.check_json: false` writes such values as they are";
