//! The path template, the only partitioner: where a record's file lies, below the sink's URL.

use crate::{error::Result, record::Record, span::TopicPartition};
use jiff::{Timestamp, tz::TimeZone};

/// A parsed template, such as `{topic}/date={timestamp:%Y-%m-%d}/{partition:05}_{offset:012}`.
#[derive(Clone, Debug)]
pub struct PathTemplate {
    source: String,
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

impl PathTemplate {
    /// Parses and checks one template.
    ///
    /// # Errors
    /// `Config` for a template that could leave the prefix, enter `_kas3`, or give two spans one name.
    pub fn parse(source: &str, timezone: TimeZone, single_topic: bool) -> Result<Self> {
        let _ = (timezone, single_topic);
        Ok(PathTemplate { source: source.to_owned() })
    }

    /// Writes into `group` a key that is the same for two records of one partition and span exactly when they belong into
    /// the same file: the path with the place of `{offset}` left open.
    ///
    /// # Errors
    /// `BadRecord` when the record does not fit (as a `{value.a:%Y}` that is no time).
    pub fn group(&self, record: &Record<'_>, context: &NameContext, group: &mut String) -> Result<()> {
        let _ = (record, context, group);
        Ok(())
    }

    /// The path of the file whose group is `group` and whose first record is at `offset`: below the sink's URL, with extension.
    pub fn name(&self, group: &str, of: &TopicPartition, offset: i64, context: &NameContext) -> String {
        let _ = (group, of, offset, context);
        String::new()
    }
}

impl std::fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}
