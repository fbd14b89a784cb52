//! The formats of references: a registry, one file and one row each.
//!
//! A format says how a record's value and headers name a payload. Which ones a consumer accepts is a setting: those that mark
//! references by a header ([`ReferenceFormat::marked`]) are safe, since no payload of a user can be mistaken for one; the
//! others look at values alone, and are taken only when they are asked for. Formats that cannot be told apart in one topic are
//! refused together ([`are_told_apart`]).

mod aws;
mod bakdata;
mod irori;
mod kaf_s3_connector;
mod kafscale;
mod kas3;
mod uri;

use crate::{
    Error, Kind, Reason, Reference, Result,
    reference::{Compression, Headers},
};
use bytes::Bytes;
use kas3_store::{Scheme, StoreUrl};
use serde_json::{Map, Value};

/// What a format found in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The payload itself, without what the format puts around it.
    Inline(Bytes),
    /// Where the payload is.
    Reference(Reference),
}

/// What tells a payload that lies in its record from a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inline {
    /// Nothing of its own: the value is the payload, as it would be without a claim check.
    Bare,
    /// A header, which every record has.
    Header,
    /// The first byte of the value, which every value has.
    FirstByte,
}

/// How a record names a payload.
pub trait ReferenceFormat: Send + Sync + std::fmt::Debug {
    /// As settings name it.
    fn name(&self) -> &'static str;

    /// References are marked by a header, so that no payload can be mistaken for one.
    fn marked(&self) -> bool;

    /// Where the format comes from, for the manual.
    fn about(&self) -> &'static str;

    /// What a record holds; `None` when it is not of this format. `value` is `None` for a record without one.
    ///
    /// # Errors
    /// `malformed_message` or `unknown_version` for a record of this format that cannot be read.
    fn read(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Option<Found>>;

    /// The value of a record that names a payload; headers of the format are added to `headers`.
    ///
    /// # Errors
    /// `Config` for formats that are only read.
    fn write(&self, reference: &Reference, headers: &mut Headers) -> Result<Bytes>;

    /// The value of a record that holds its payload.
    fn write_inline(&self, payload: Bytes, _headers: &mut Headers) -> Bytes {
        payload
    }

    /// References can be written.
    fn writes(&self) -> bool {
        true
    }

    /// How a record that holds its payload looks.
    fn inline(&self) -> Inline;

    /// Name and value of a header by which [`Inline::Bare`] payloads can be marked when that is asked for (`inline_header`), so that
    /// they can stand beside a format that looks at first bytes.
    fn inline_header(&self) -> Option<(&'static str, &'static [u8])> {
        None
    }

    /// Where a record's key lies, when the key went through the store.
    ///
    /// # Errors
    /// As [`ReferenceFormat::read`].
    fn read_key(&self, _key: &Bytes, _headers: &Headers) -> Result<Option<Reference>> {
        Ok(None)
    }

    /// Marks a key that lies in its record, where the format marks keys.
    fn mark_key(&self, _headers: &mut Headers) {}

    /// The tag that objects get with `ttl_seconds`.
    fn ttl_tag(&self) -> &'static str {
        "kas3-ttl-seconds"
    }

    /// Larger objects go up in parts, unless a setting says otherwise.
    fn multipart_bytes(&self) -> u64 {
        64 << 20
    }

    /// Objects carry metadata by which `kas3 payloads` knows them.
    fn marks_objects(&self) -> bool {
        false
    }

    /// Names of headers that are the format's own: no record of a user may carry them.
    fn headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// The template of keys, unless a setting says otherwise.
    fn keys(&self) -> &'static str {
        "{uuid}"
    }

    /// Compressions that a reference can name.
    fn compressions(&self) -> &'static [Compression] {
        &[Compression::None]
    }
}

/// All formats. The first is kas3's own.
pub const FORMATS: &[&dyn ReferenceFormat] =
    &[&kas3::Kas3, &kaf_s3_connector::KafS3Connector, &bakdata::Header, &bakdata::Value, &aws::PayloadOffloading, &kafscale::Lfs, &irori::Irori];

/// A format by its name.
///
/// # Errors
/// `Config`, naming those that exist.
pub fn format_named(name: &str) -> Result<&'static dyn ReferenceFormat> {
    FORMATS.iter().find(|format| format.name() == name).copied().ok_or_else(|| {
        let names: Vec<String> = FORMATS.iter().map(|format| format!("`{}`", format.name())).collect();
        Error::new(Kind::Config, format!("unknown reference format `{}`", name.escape_debug())).hint(format!("formats are {}", names.join(", ")))
    })
}

/// Whether each of two formats leaves the payloads of the other as they are in one topic. One that looks at the first byte of every
/// value would cut that byte off a payload that nothing marks. `inline_header`: producers mark those that can be marked.
pub fn are_told_apart(one: &dyn ReferenceFormat, other: &dyn ReferenceFormat, inline_header: bool) -> bool {
    let is_marked = |format: &dyn ReferenceFormat| inline_header && format.inline_header().is_some();
    let takes = |one: &dyn ReferenceFormat, other: &dyn ReferenceFormat| {
        one.inline() == Inline::FirstByte && other.inline() == Inline::Bare && !is_marked(other)
    };
    !takes(one, other) && !takes(other, one)
}

pub(crate) use kas3::HEADER as KAS3_HEADER;

/// The largest value that is looked at as a reference: a larger one is a payload, whatever it begins with.
pub(crate) const REFERENCE_BYTES_MAX: usize = 256 << 10;

/// A value as a JSON object; `None` for everything else.
fn json_object(value: Option<&Bytes>) -> Option<Map<String, Value>> {
    let value = value.filter(|value| value.len() <= REFERENCE_BYTES_MAX)?;
    if !value.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(value).ok()
}

/// A string field that may be absent or null.
fn text_field(object: &Map<String, Value>, name: &str) -> Result<Option<String>> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed(format!("field `{name}` of the reference is no string"))),
    }
}

/// A string field that must be there.
fn needed(object: &Map<String, Value>, name: &str) -> Result<String> {
    text_field(object, name)?.filter(|text| !text.is_empty()).ok_or_else(|| malformed(format!("the reference has no field `{name}`")))
}

fn malformed(what: impl Into<String>) -> Error {
    Error::refused(Reason::MalformedReference, what)
}

/// `s3://bucket/key`, or a file's URL, as bucket and key.
fn bucket_and_key(url: &str) -> Result<(String, String)> {
    let wrong = || malformed(format!("`{}` is not the URL of an object", url.chars().take(200).collect::<String>().escape_debug()));
    match StoreUrl::parse(url) {
        Ok(url) if url.scheme() == Scheme::S3 && !url.bucket().is_empty() && !url.path().is_empty() => {
            Ok((url.bucket().to_owned(), url.path().to_owned()))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests;
