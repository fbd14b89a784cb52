//! What a claim check is told. The doc comment of a field is its manual text.

use crate::{
    Error, Kind, Result,
    formats::{FORMATS, Inline, ReferenceFormat, are_told_apart, format_named},
    keys::KeyTemplate,
    reference::Compression,
};
use kas3_store::StorageSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where payloads go and which references are believed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimCheckSettings {
    /// Where payloads are written, and where the payloads of references must lie: `s3://bucket/prefix`, or `file:///folder`.
    /// There is no default.
    pub url: String,
    /// How the store is reached.
    pub storage: StorageSettings,
    /// Further places whose payloads references may name, as URLs; reached with the same `storage`.
    pub read_from: Vec<String>,
    /// Format of the references that are written. Default: `kas3`.
    pub format: String,
    /// Formats of the references that are taken. Default: those that mark references by a header, and the one that is written. Two
    /// that cannot be told apart in one topic are refused.
    pub accept: Vec<String>,
    /// Payloads of at most so many bytes stay in their records, if record and topic have room. Default: 900000.
    pub max_inline_bytes: u64,
    /// Larger payloads are neither sent nor read. Default: 5368709120.
    pub max_payload_bytes: u64,
    /// Template of keys below the prefix: `{uuid}`, `{sha256}` (equal payloads share one object), `{topic}`, `{now:%Y/%m/%d}`;
    /// one of the first two must be there. Default: that of the format, mostly `{uuid}`.
    pub keys: Option<String>,
    /// Compression of objects: `none`, `gzip`, or `zstd` with formats that can name it. Default: `none`.
    pub compression: Compression,
    /// Level of the compressor: gzip 1-12, zstd 1-19. Default: gzip 6, zstd 3.
    pub level: Option<i32>,
    /// Larger objects go up in parts of 8 MiB. Default: 67108864, and 8388608 with the format `kaf-s3-connector`.
    pub multipart_bytes: Option<u64>,
    /// Seconds after which a lifecycle rule may delete a payload: objects get the tag `kas3-ttl-seconds` with this number
    /// (`kaf-s3-ttl-seconds` with that format). Longer than the topic's retention, or readers find nothing.
    pub ttl_seconds: Option<u64>,
    /// Uploads at once. Default: 32.
    pub uploads: usize,
    /// Refuse references without a checksum. Default: true.
    pub require_integrity: bool,
    /// Take records that hold their payload. Default: true.
    pub allow_inline_payloads: bool,
    /// Records of format `kas3` that hold their payload have the header `kas3-inline`: producers add it, and consumers may then
    /// accept `bakdata-value`, which looks at first bytes, from the same topic. Default: false.
    pub inline_header: bool,
}

impl Default for ClaimCheckSettings {
    fn default() -> Self {
        ClaimCheckSettings {
            url: String::new(),
            storage: StorageSettings::default(),
            read_from: Vec::new(),
            format: "kas3".to_owned(),
            accept: Vec::new(),
            max_inline_bytes: 900_000,
            max_payload_bytes: 5 << 30,
            keys: None,
            compression: Compression::None,
            level: None,
            multipart_bytes: None,
            ttl_seconds: None,
            uploads: 32,
            require_integrity: true,
            allow_inline_payloads: true,
            inline_header: false,
        }
    }
}

impl ClaimCheckSettings {
    /// Whether settings can be, without opening anything.
    ///
    /// # Errors
    /// `Config`, naming the key and the way out.
    pub fn check(&self) -> Result<()> {
        Plan::of(self.clone()).map(drop)
    }
}

/// A larger object cannot go up in one piece, by S3.
const SINGLE_PUT_BYTES_MAX: u64 = 5 << 30;

/// Settings that were looked at.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: ClaimCheckSettings,
    pub(crate) format: &'static dyn ReferenceFormat,
    pub(crate) accept: Vec<&'static dyn ReferenceFormat>,
    pub(crate) keys: KeyTemplate,
    pub(crate) multipart_bytes: u64,
}

impl Plan {
    pub(crate) fn of(settings: ClaimCheckSettings) -> Result<Plan> {
        let wrong = |what: String, hint: &str| Err(Error::new(Kind::Config, what).hint(hint));
        if settings.url.is_empty() {
            return wrong("no place for payloads is named".to_owned(), "set `url` to `s3://bucket/prefix`; there is no default");
        }
        let format = format_named(&settings.format)?;
        if !format.writes() {
            return wrong(format!("format `{}` is only read", settings.format), "write `kas3`, and name the other one in `accept`");
        }
        if settings.max_payload_bytes == 0 {
            return wrong("`max_payload_bytes` is 0".to_owned(), "name the largest payload that may be sent");
        }
        if settings.max_inline_bytes > settings.max_payload_bytes {
            let (inline, payload) = (settings.max_inline_bytes, settings.max_payload_bytes);
            return wrong(format!("`max_inline_bytes` ({inline}) is more than `max_payload_bytes` ({payload})"), "lower the one or raise the other");
        }
        if settings.ttl_seconds == Some(0) {
            return wrong("`ttl_seconds` is 0".to_owned(), "leave it out to keep payloads");
        }
        if settings.uploads == 0 {
            return wrong("`uploads` is 0".to_owned(), "allow at least one upload");
        }
        check_compression(&settings, format)?;
        let multipart_bytes = settings.multipart_bytes.unwrap_or(format.multipart_bytes());
        if multipart_bytes == 0 || multipart_bytes > SINGLE_PUT_BYTES_MAX {
            return wrong(
                format!("`multipart_bytes` is {multipart_bytes}"),
                "it is between 1 and 5368709120, the largest object that goes up in one piece",
            );
        }
        Ok(Plan {
            accept: accepted(&settings, format)?,
            keys: KeyTemplate::parse(settings.keys.as_deref().unwrap_or(format.keys()))?,
            format,
            multipart_bytes,
            settings,
        })
    }
}

fn check_compression(settings: &ClaimCheckSettings, format: &dyn ReferenceFormat) -> Result<()> {
    let name = settings.compression.name().unwrap_or("none");
    if !format.compressions().contains(&settings.compression) {
        let known: Vec<&str> = format.compressions().iter().map(|known| known.name().unwrap_or("none")).collect();
        let error = Error::new(Kind::Config, format!("references of format `{}` cannot name `compression: {name}`", format.name()));
        return Err(error.hint(format!("this format knows {}", known.join(", "))));
    }
    let most = match settings.compression {
        Compression::Gzip => 12,
        Compression::Zstd => 19,
        _ => return Ok(()),
    };
    match settings.level {
        Some(level) if !(1..=most).contains(&level) => {
            Err(Error::new(Kind::Config, format!("`level: {level}` is no level of {name}")).hint(format!("levels of {name} are 1 to {most}")))
        }
        _ => Ok(()),
    }
}

fn accepted(settings: &ClaimCheckSettings, format: &'static dyn ReferenceFormat) -> Result<Vec<&'static dyn ReferenceFormat>> {
    let apart = |one: &dyn ReferenceFormat, other: &dyn ReferenceFormat| are_told_apart(one, other, settings.inline_header);
    let mut accept: Vec<&'static dyn ReferenceFormat> = if settings.accept.is_empty() {
        let of_choice = |known: &&'static dyn ReferenceFormat| known.name() == format.name() || (known.marked() && apart(*known, format));
        FORMATS.iter().copied().filter(of_choice).collect()
    } else {
        settings.accept.iter().map(|name| format_named(name)).collect::<Result<_>>()?
    };
    for (index, one) in accept.iter().enumerate() {
        if let Some(other) = accept[index + 1..].iter().find(|other| !apart(*one, **other)) {
            return Err(mixed(*one, *other));
        }
    }
    // a header says for certain what a record is; a first byte only when nothing else did
    accept.sort_by_key(|format| (!format.marked(), format.inline() == Inline::FirstByte));
    Ok(accept)
}

/// Two formats that cannot be told apart in one topic.
fn mixed(one: &dyn ReferenceFormat, other: &dyn ReferenceFormat) -> Error {
    let (cuts, bare) = if one.inline() == Inline::FirstByte { (one, other) } else { (other, one) };
    let (cuts, name) = (cuts.name(), bare.name());
    let error = Error::new(
        Kind::Config,
        format!(
            "`accept` names `{cuts}` and `{name}`: `{cuts}` takes the first byte off every value, and nothing marks the payloads that records \
             of `{name}` hold, so those would lose a byte"
        ),
    );
    error.hint(match bare.inline_header() {
        Some(_) => format!("set `inline_header: true` at all producers that write `{name}`, then here as well; or accept one of the two"),
        None => "accept one of the two: a topic can hold only one of them".to_owned(),
    })
}
