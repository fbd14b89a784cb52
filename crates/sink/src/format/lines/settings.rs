//! The settings of formats of lines, as they are written.

use super::BlockSize;
use crate::{format::FormatSettings, registry::Chosen};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The settings of formats of lines.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesSettings {
    /// How files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Level of the compressor: gzip 1-12, zstd 1-19; by default gzip 5, zstd 1.
    #[serde(default)]
    #[schemars(extend("examples" = [9]))]
    pub level: Option<u8>,
    /// Uncompressed size of a block (a gzip member, a zstd frame): what a reader must decompress to reach one record. `auto`: 1 MiB
    /// at first, and up to 32 MiB as the file grows, so that a file has some 64 blocks up to 1.4 GiB of content. A size: all blocks
    /// have it. `file`: exactly one block and no index, for readers that know no more than one; see `docs/readers.md`.
    #[serde(default)]
    #[schemars(extend("examples" = ["256KiB", "file"]))]
    pub block: BlockSize,
    /// Write an object per record, `{"topic":…,"partition":…,"offset":…,"timestamp":…,"key":…,"headers":…,"value":…}`,
    /// instead of the bare value. Lossless: bytes that are not UTF-8 become `{"base64":"…"}`.
    #[serde(default)]
    pub envelope: bool,
    /// What to do with a value that holds a newline: `\n`, `\r` or both (without envelope).
    #[serde(default)]
    pub newlines: Newlines,
    /// `json_lines`: look at each line, and refuse the record whose line is not JSON: no JSON at all, cut short, `NaN`, a byte order
    /// mark, bytes that are not UTF-8. Costs one pass over each value (without envelope; the lines of envelopes are always JSON).
    #[serde(default)]
    pub check_json: bool,
    /// What to do with tombstones (no value).
    #[serde(default)]
    pub tombstones: Absent,
    /// What to do with values of no bytes.
    #[serde(default)]
    pub empty_values: Absent,
    /// Where the block index lies, by which records are found without reading the whole file.
    #[serde(default)]
    pub index: IndexPlace,
    /// Extension instead of the format's own, as `json.gz`.
    #[serde(default)]
    #[schemars(extend("examples" = ["json.gz"]))]
    pub extension: Option<String>,
    /// Set `Content-Encoding` on the objects, so that browsers and some clients decompress by themselves.
    #[serde(default)]
    pub content_encoding: bool,
}

/// How files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all; such files carry no index inside.
    None,
    /// Block-gzip: every block is a member of its own, so files are seekable and read by everything that reads gzip.
    #[default]
    Gzip,
    /// zstd frames with the seekable format's table.
    Zstd,
}

/// What to do with a value that holds a newline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Newlines {
    /// `json_lines`: the JSON is written without white space between its tokens; a value that is not JSON is a bad record.
    /// `text`: a bad record.
    #[default]
    Compact,
    /// Every newline becomes a space; `\r\n` is one.
    Space,
    /// The value becomes a JSON string with `\n` and `\r` in it.
    Escape,
    /// A bad record.
    Reject,
}

/// What to do with a record that has no value, or an empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Absent {
    /// Written: with an envelope as it is; without one as `null` (`json_lines`) or an empty line (`text`).
    #[default]
    Null,
    /// Left out and counted as filtered.
    Skip,
    /// A bad record.
    Reject,
}

/// Where the block index lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IndexPlace {
    /// At the end of the file, invisible to ordinary readers.
    #[default]
    Inside,
    /// In `<name>.index.json` beside the file, as DeviantArt's connector writes it; gzip only.
    SideFile,
}

impl LinesSettings {
    /// The section `format` with these settings and `type: kind`.
    ///
    /// # Errors
    /// In words, when there is no format of that name.
    pub fn of(&self, kind: &str) -> Result<FormatSettings, String> {
        Chosen::read(kind, serde_json::to_value(self).unwrap_or_default())
    }
}
