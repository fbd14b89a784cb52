//! The path template, the only partitioner: where a record's file lies, below the sink's URL.
//!
//! It guarantees that a path stays below the prefix and out of `_kas3`, and that topic, partition and offset can be read back
//! from every name, so that no two files of a pipeline ever want the same one.
//!
//! ```
//! use kas3_sink::{path::{Limits, NameContext, PathCache, PathTemplate, TemplateOptions}, record::OwnedRecord, row::Row};
//! let options = TemplateOptions { timezone: jiff::tz::TimeZone::UTC, single_topic: false, limits: Limits::OBJECT };
//! let template = PathTemplate::parse("{topic}/date={timestamp:%Y-%m-%d}/{partition}_{offset:06}", &options)?;
//! let record = OwnedRecord { topic: "orders".into(), partition: 3, offset: 42, timestamp_ms: Some(1_767_225_600_000), ..Default::default() };
//! let context = NameContext { now: jiff::Timestamp::UNIX_EPOCH, incarnation: 0, extension: ".jsonl.gz".into() };
//! let mut cache = PathCache::default();
//! let group = template.group(&Row::of(record.borrow()), &context, &mut cache)?;
//! let name = template.name(group, 42, &context);
//! assert_eq!(name, "orders/date=2026-01-01/3_000042.jsonl.gz");
//! assert_eq!(template.read_back(&name, ".jsonl.gz").map(|parts| parts.offset), Some(42));
//! # Ok::<(), kas3_sink::Error>(())
//! ```

mod charset;
mod disjoint;
mod doubts;
mod encode;
mod json;
mod names;
mod overlap;
mod parse;
mod prefix;
mod preset;
mod render;
mod time;

pub use disjoint::check_disjoint;
pub use doubts::Doubt;
pub use encode::MISSING;
pub use names::NameParts;
pub use preset::{PRESETS, Preset};
pub use render::PathCache;

use crate::{error::Result, row::Row};
use jiff::{Timestamp, tz::TimeZone};
use kas3_store::{Scheme, StoreUrl};
use names::Names;
use parse::{Part, Segment, TimeSource};
use std::fmt::Write;

/// A parsed template, such as `{topic}/date={timestamp:%Y-%m-%d}/{partition:05}_{offset:012}`.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    source: String,
    segments: Vec<Segment>,
    names: Names,
    timezone: TimeZone,
    limits: Limits,
    kind: Varies,
}

/// What the group of a record depends on, besides partition and `{now}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Varies {
    Never,
    ByTimestamp,
    ByContent,
}

/// What a template is read for.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    /// Timezone of the strftime parts.
    pub timezone: TimeZone,
    /// Whether the template serves one literal topic, so that names need not hold it.
    pub single_topic: bool,
    /// How long paths may be.
    pub limits: Limits,
}

/// How long paths may be, in bytes. Longer values are cut and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One folder or file name.
    pub segment_bytes: usize,
    /// The whole path below the sink's URL.
    pub path_bytes: usize,
}

impl Limits {
    /// An object store with 1024 bytes a key, with some left for a prefix.
    pub const OBJECT: Limits = Limits { segment_bytes: 900, path_bytes: 900 };
    /// A local disk with 255 bytes a name.
    pub const DISK: Limits = Limits { segment_bytes: 255, path_bytes: 2048 };

    /// The limits below the sink's URL: what its prefix leaves.
    pub fn below(url: &str) -> Self {
        match StoreUrl::parse(url) {
            Ok(url) if url.scheme() == Scheme::S3 => {
                let left = 1024_usize.saturating_sub(url.prefix().len());
                // stores that keep objects as files, MinIO among them, refuse longer names between two slashes
                Limits { segment_bytes: left.min(Limits::DISK.segment_bytes), path_bytes: left }
            }
            _ => Limits::DISK,
        }
    }
}

/// What a name is made of besides its record.
#[derive(Clone, Debug)]
pub struct NameContext {
    /// `{now}`: read once per span and kept in the head, so that an amendment makes the same names.
    pub now: Timestamp,
    /// Incarnation of the topic; from 1 on names end in `-i<n>` before the extension.
    pub incarnation: u32,
    /// Extension with its leading dot, as `.jsonl.gz`.
    pub extension: String,
}

/// Stands in a group for the offset of the file's first record; encoded values and literals never hold it.
const OFFSET: char = '\0';

impl PathTemplate {
    /// Parses and checks one template, or the name of a [`Preset`].
    ///
    /// # Errors
    /// `Config` for a template that could leave the prefix, enter `_kas3`, or give two spans one name.
    pub fn parse(source: &str, options: &TemplateOptions) -> Result<Self> {
        let text = match source.contains(['{', '}', '/']) {
            true => source,
            false => match Preset::named(source) {
                Some(preset) => preset.path(options.single_topic),
                None => {
                    return Err(parse::no_preset(source));
                }
            },
        };
        let segments = parse::segments(text)?;
        let names = Names::of(text, &segments, options.single_topic)?;
        let kind = segments.iter().flatten().map(varies).max_by_key(|kind| *kind as u8).unwrap_or(Varies::Never);
        Ok(PathTemplate { source: text.to_owned(), segments, names, timezone: options.timezone.clone(), limits: options.limits, kind })
    }

    /// Whether all records of one partition and span belong into one file, so that grouping can be skipped: [`group`](Self::group)
    /// of any of them is the group of all.
    pub fn is_constant(&self) -> bool {
        self.kind == Varies::Never
    }

    /// A key that is the same for two rows of one partition and span exactly when they belong into the same file: the path
    /// with the place of `{offset}` left open. [`PathCache::repeated`] says whether it is the one of the call before.
    ///
    /// # Errors
    /// `BadRecord` when the row does not fit (as a `{value.a:%Y}` that is no time); `Stopped` when the topic's name alone
    /// makes the path longer than the store allows.
    #[inline]
    pub fn group<'c>(&self, row: &Row<'_>, context: &NameContext, cache: &'c mut PathCache) -> Result<&'c str> {
        if !(self.kind != Varies::ByContent && cache.holds_for(&row.record, context)) {
            self.render(row, context, cache)?;
        }
        Ok(cache.group())
    }

    /// The path of the file whose group is `group` and whose first record is at `offset`: below the sink's URL, with extension.
    pub fn name(&self, group: &str, offset: i64, context: &NameContext) -> String {
        let mut name = String::with_capacity(group.len() + 20 + context.extension.len());
        let widths = self.segments.iter().flatten().filter_map(|part| match part {
            Part::Offset { width } => Some(*width),
            _ => None,
        });
        let mut pieces = group.split(OFFSET);
        name.push_str(pieces.next().unwrap_or_default());
        for (piece, width) in pieces.zip(widths) {
            // Writing into a String cannot fail.
            let _ = write!(name, "{offset:0width$}");
            name.push_str(piece);
        }
        if context.incarnation > 0 {
            let _ = write!(name, "-i{}", context.incarnation);
        }
        name.push_str(&context.extension);
        name
    }

    /// What a name of this template says of its file; `None` for a name that it never makes.
    pub fn read_back(&self, path: &str, extension: &str) -> Option<NameParts> {
        let stem = path.strip_suffix(extension)?;
        let digits = stem.len() - stem.trim_end_matches(|character: char| character.is_ascii_digit()).len();
        let (name, incarnation) = match stem[..stem.len() - digits].strip_suffix("-i") {
            Some(name) if digits > 0 => (name, stem[stem.len() - digits..].parse().ok().filter(|incarnation| *incarnation > 0)?),
            _ => (stem, 0),
        };
        let parts = self.names.read(&self.segments, name)?;
        Some(NameParts { incarnation, ..parts })
    }

    /// Checks that names of `topic` fit the limits whatever the partition, offset and values.
    ///
    /// # Errors
    /// `Config`, naming the lengths.
    pub fn check_length(&self, topic: &str, extension: &str) -> Result<()> {
        let extension_bytes = extension.len().max(render::SIDE_FILE_BYTES) + render::INCARNATION_BYTES;
        let mut total = self.segments.len() - 1;
        for (index, segment) in self.segments.iter().enumerate() {
            let last = index + 1 == self.segments.len();
            let bytes = segment.iter().map(|part| least_bytes(part, topic)).sum::<usize>() + if last { extension_bytes } else { 0 };
            total += bytes;
            if bytes > self.limits.segment_bytes {
                return Err(self.too_long(topic, bytes, self.limits.segment_bytes, crate::Kind::Config));
            }
        }
        if total > self.limits.path_bytes {
            return Err(self.too_long(topic, total, self.limits.path_bytes, crate::Kind::Config));
        }
        Ok(())
    }

    fn too_long(&self, topic: &str, bytes: usize, limit: usize, kind: crate::Kind) -> crate::Error {
        crate::Error::new(kind, format!("path template `{self}` makes names of {bytes} bytes for topic `{topic}`, the store allows {limit}"))
            .hint("shorten the template's own text or the prefix of `sink.url`, or put `{topic}` into a folder of its own")
    }
}

fn varies(part: &Part) -> Varies {
    match part {
        Part::Literal(_) | Part::Topic | Part::Partition { .. } | Part::Offset { .. } | Part::Time { source: TimeSource::Now, .. } => Varies::Never,
        Part::Time { source: TimeSource::Record, .. } => Varies::ByTimestamp,
        Part::Time { .. } | Part::Field(_) => Varies::ByContent,
    }
}

/// The least bytes that a part needs in every case: numbers and times at their longest, values cut as short as they can be.
fn least_bytes(part: &Part, topic: &str) -> usize {
    match part {
        Part::Literal(text) => text.len(),
        Part::Topic => topic.len() + 2,
        Part::Partition { width } => (*width).max(10),
        Part::Offset { width } => (*width).max(render::OFFSET_BYTES),
        // times are never cut
        Part::Time { source: TimeSource::Now, format, .. } => format.longest,
        Part::Time { format, .. } => format.longest.max(encode::MISSING.len() + 2),
        Part::Field(_) => render::VALUE_BYTES_MIN,
    }
}

impl std::fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}
