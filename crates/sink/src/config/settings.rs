//! What the user writes.

use super::{
    choices::{Settle, Start},
    ordered::Ordered,
    properties::Properties,
    units::{Bytes, Period},
};
use crate::transform::TransformSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A pipeline: topics in, files out.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of the pipeline: the folder of its ledger and the label of its metrics. Letters, digits, `-`, `_` and `.`.
    #[schemars(extend("examples" = ["orders"]))]
    pub name: String,
    /// Where records come from.
    pub source: SourceSettings,
    /// What happens to records on their way, in order: each `{type: …}`, with the settings of that type.
    #[serde(default)]
    pub transforms: Vec<TransformSettings>,
    /// Where records go.
    pub sink: SinkSettings,
    /// What differs per topic, by name or by `^expression`; the first that matches applies.
    #[serde(default)]
    pub topics: Ordered<TopicSettings>,
    /// Where the ledger lies, and in which form.
    #[serde(default)]
    pub ledger: LedgerSettings,
    /// The largest resident size of the process: Kafka's queues, open blocks, parts in flight. At least `64MiB`.
    #[serde(default = "default_memory")]
    #[schemars(extend("examples" = ["512MiB"]))]
    pub memory: Bytes,
    /// Address of page, `/health`, `/metrics` and `/api`, or `off`. Loopback unless you open it.
    #[serde(default = "default_http")]
    #[schemars(extend("format" = "address", "examples" = ["0.0.0.0:9080", "off"]))]
    pub http: String,
    /// How long SIGTERM may take to flush and publish before the process stops all the same; what was not committed is read again.
    #[serde(default = "default_shutdown")]
    #[schemars(extend("examples" = ["25s"]))]
    pub shutdown_deadline: Period,
}

fn default_memory() -> Bytes {
    Bytes(256 << 20)
}
fn default_http() -> String {
    "127.0.0.1:9080".to_owned()
}
fn default_shutdown() -> Period {
    Period(std::time::Duration::from_secs(25))
}

/// Where records come from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// Topics: names, or regular expressions beginning with `^`, matched against the whole name.
    #[schemars(extend("examples" = [["orders", "^events\\..*"]]))]
    pub topics: Vec<String>,
    /// Consumer group; by default the pipeline's name.
    #[serde(default)]
    #[schemars(extend("examples" = ["orders-to-lake"]))]
    pub group: Option<String>,
    /// Where topics begin that the ledger does not know: `earliest`, `latest`, `{timestamp: 2026-01-01T00:00:00Z}` or
    /// `{group: connect-orders}` (that group's offsets).
    #[serde(default)]
    #[schemars(extend("examples" = ["latest", {"timestamp": "2026-01-01T00:00:00Z"}]))]
    pub start: Start,
    /// librdkafka properties, as `bootstrap.servers`. `sasl.mechanism: AWS_MSK_IAM` signs in to Amazon MSK with the AWS
    /// credentials of the process.
    #[schemars(extend("examples" = [{"bootstrap.servers": "localhost:9092"}]))]
    pub kafka: Properties,
    /// How long a revocation may take to flush before the partition is given away; what was not committed by then is read
    /// again by its next owner.
    #[serde(default = "default_revoke")]
    #[schemars(extend("examples" = ["5s"]))]
    pub revoke_deadline: Period,
}

fn default_revoke() -> Period {
    Period(std::time::Duration::from_secs(5))
}

/// Where records go.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSettings {
    /// Kind of sink: `files`.
    #[serde(rename = "type", default = "default_sink_type")]
    pub kind: String,
    /// `s3://bucket/prefix` or `file:///folder`.
    #[schemars(extend("examples" = ["s3://bucket/prefix", "file:///data/lake"]))]
    pub url: String,
    /// How the store is reached. Credentials: the default AWS chain, or the keys named here.
    #[serde(default)]
    pub storage: kas3_store::StorageSettings,
    /// Path of a file below the URL, without extension: `{topic} {partition} {offset}` (of its first record; numbers with a
    /// width, `{partition:05}`), `{timestamp:%Y-%m-%d}` of the record, `{now:%Y}` of the span, `{value.a.b}`,
    /// `{value.a.b:%Y-%m-%d}`, `{key}`, `{header.name}`. A name without braces is a preset:
    /// `zooz`, `deviantart` or `delta_connector`.
    #[serde(default = "default_path")]
    #[schemars(extend("examples" = ["{topic}/date={timestamp:%Y-%m-%d}/hour={timestamp:%H}/{partition}_{offset}", "zooz"]))]
    pub path: String,
    /// Timezone of the strftime parts and of `roll.clock`, as `Europe/Berlin`.
    #[serde(default = "default_timezone")]
    #[schemars(extend("examples" = ["Europe/Berlin"]))]
    pub timezone: String,
    /// What files hold.
    #[serde(default)]
    pub format: FormatSettings,
    /// When files are closed: whichever comes first.
    #[serde(default)]
    pub roll: RollSettings,
    /// What to do with a record that does not fit the format or the path.
    #[serde(default)]
    pub bad_records: BadRecords,
    /// After publishing, when no commit follows: how long until the ledger notes that the span is published. `next`: with
    /// the next commit.
    #[serde(default)]
    pub settle: Settle,
    /// How long a missing file may still turn up before it is made again from Kafka.
    #[serde(default = "default_amend")]
    #[schemars(extend("examples" = ["5m"]))]
    pub amend_after: Period,
    /// Also keep the cursor objects `last_chunk_index.<topic>-<partition>.txt` of DeviantArt's connector. Needs
    /// `format.index: side_file`.
    #[serde(default)]
    pub cursor: bool,
}

fn default_sink_type() -> String {
    "files".to_owned()
}
fn default_path() -> String {
    "{topic}/date={timestamp:%Y-%m-%d}/{partition}_{offset}".to_owned()
}
fn default_timezone() -> String {
    "UTC".to_owned()
}
fn default_amend() -> Period {
    Period(std::time::Duration::from_secs(300))
}

/// What to do with a record that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BadRecords {
    /// The partition stops, naming topic, partition, offset and reason.
    #[default]
    Stop,
    /// The record is left out and counted.
    Skip,
}

/// What files hold.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FormatSettings {
    /// `json_lines`: values as they are, one a line. `text`: the same without any look at them.
    #[serde(rename = "type", default = "default_format")]
    pub kind: String,
    /// How files are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// Level of the compressor: gzip 1-12, zstd 1-19; by default gzip 5, zstd 1.
    #[serde(default)]
    #[schemars(extend("examples" = [9]))]
    pub level: Option<u8>,
    /// Uncompressed size of a block: what a reader must decompress to reach one record.
    #[serde(default = "default_block")]
    #[schemars(extend("examples" = ["256KiB"]))]
    pub block: Bytes,
    /// Write an object per record, `{"topic":…,"partition":…,"offset":…,"timestamp":…,"key":…,"headers":…,"value":…}`,
    /// instead of the bare value. Lossless: bytes that are not UTF-8 become `{"base64":"…"}`.
    #[serde(default)]
    pub envelope: bool,
    /// What to do with a value that holds a newline (without envelope).
    #[serde(default)]
    pub newlines: Newlines,
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

fn default_format() -> String {
    "json_lines".to_owned()
}
fn default_block() -> Bytes {
    Bytes(1 << 20)
}

impl Default for FormatSettings {
    fn default() -> Self {
        FormatSettings {
            kind: default_format(),
            compression: Compression::default(),
            level: None,
            block: default_block(),
            envelope: false,
            newlines: Newlines::default(),
            tombstones: Absent::default(),
            empty_values: Absent::default(),
            index: IndexPlace::default(),
            extension: None,
            content_encoding: false,
        }
    }
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
    /// Every newline (and carriage return before it) becomes a space.
    Space,
    /// The value becomes a JSON string with `\n` in it.
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

/// When files are closed: whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollSettings {
    /// Size of the largest file as it is stored.
    #[serde(default = "default_roll_bytes")]
    #[schemars(extend("examples" = ["128MiB"]))]
    pub bytes: Bytes,
    /// Records of one partition since the last roll.
    #[serde(default = "default_roll_records")]
    #[schemars(extend("examples" = [1000000]))]
    pub records: u64,
    /// Time since the first record was read: the longest that a record waits.
    #[serde(default = "default_roll_age")]
    #[schemars(extend("examples" = ["5m"]))]
    pub age: Period,
    /// Time without a new record.
    #[serde(default)]
    #[schemars(extend("examples" = ["30s"]))]
    pub idle: Option<Period>,
    /// At full multiples of this in the sink's timezone, as `1h` at full hours; a divisor or a multiple of a day.
    #[serde(default)]
    #[schemars(extend("examples" = ["1h"]))]
    pub clock: Option<Period>,
    /// Open files of one partition: paths in which records wait at the same time.
    #[serde(default = "default_roll_files")]
    #[schemars(extend("examples" = [1000]))]
    pub files: usize,
}

fn default_roll_bytes() -> Bytes {
    Bytes(128 << 20)
}
fn default_roll_records() -> u64 {
    10_000_000
}
fn default_roll_age() -> Period {
    Period(std::time::Duration::from_secs(300))
}
fn default_roll_files() -> usize {
    10_000
}

impl Default for RollSettings {
    fn default() -> Self {
        RollSettings {
            bytes: default_roll_bytes(),
            records: default_roll_records(),
            age: default_roll_age(),
            idle: None,
            clock: None,
            files: default_roll_files(),
        }
    }
}

/// What differs for some topics; what is not named is as in `sink`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSettings {
    /// Path of a file, as `sink.path`.
    #[serde(default)]
    pub path: Option<String>,
    /// What files hold, as `sink.format`; replaces it whole.
    #[serde(default)]
    pub format: Option<FormatSettings>,
    /// When files are closed, as `sink.roll`; replaces it whole.
    #[serde(default)]
    pub roll: Option<RollSettings>,
    /// As `sink.bad_records`.
    #[serde(default)]
    pub bad_records: Option<BadRecords>,
    /// As `transforms`; replaces them whole.
    #[serde(default)]
    pub transforms: Option<Vec<TransformSettings>>,
}

/// Where the ledger lies, and in which form.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// URL below which `_kas3/<pipeline>/ledger` lies; by default the sink's.
    #[serde(default)]
    #[schemars(extend("examples" = ["s3://bucket/ledger"]))]
    pub url: Option<String>,
    /// Version of the ledger's stored forms. Without it the oldest is written that holds what is needed, and a head is raised when
    /// something first needs a newer one, so that going back to an older kas3 stays possible until then. With it heads are raised to
    /// it and no further, and a setting that needs a newer version is refused at the start. There is only version 1 yet.
    #[serde(default)]
    #[schemars(extend("examples" = [1]))]
    pub version: Option<u32>,
}
