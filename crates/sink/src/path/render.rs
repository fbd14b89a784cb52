//! From a record to the group of its file: the part of the template that runs per record.
//!
//! Where nothing but times vary, a record costs a few comparisons; where values do, its value is scanned as far as needed. No
//! memory is taken once the buffers have grown.

use super::{
    NameContext, OFFSET, PathTemplate, Varies, encode,
    json::{self, Found, Wrong},
    parse::{Field, Part, TimeSource, ValuePath},
    time::{self, TimeCache},
};
use crate::{
    error::{Error, Kind, Result},
    record::Record,
    row::Row,
};
use jiff::Timestamp;
use std::{borrow::Cow, fmt::Write, ops::Range};

/// Digits of the largest offset.
pub(super) const OFFSET_BYTES: usize = 19;
/// Length of the longest `-i<n>`.
pub(super) const INCARNATION_BYTES: usize = 12;
/// Length of `.index.json`, which takes the place of the extension in the name of a side file.
pub(super) const SIDE_FILE_BYTES: usize = 11;
/// The shortest that a value is cut to: a bit of its beginning and the hash.
pub(super) const VALUE_BYTES_MIN: usize = encode::CUT_BYTES + 7;

/// What a lane remembers between two calls of [`PathTemplate::group`]. One template and one lane each have one of their own.
#[derive(Debug, Default)]
pub struct PathCache {
    group: String,
    next: String,
    repeated: bool,
    /// For which records `group` is known to hold, when nothing but times vary.
    steady: Option<Steady>,
    times: Vec<TimeCache>,
    /// Where values lie in `next`: segment and bytes. What may be cut when the path gets too long.
    values: Vec<(usize, Range<usize>)>,
    ends: Vec<usize>,
}

#[derive(Debug)]
struct Steady {
    topic: String,
    partition: i32,
    now: Timestamp,
    from_ms: i64,
    until_ms: i64,
    /// Whether it holds for records without a timestamp too.
    always: bool,
}

impl PathCache {
    /// Whether the last group is the same as the one before it.
    pub fn repeated(&self) -> bool {
        self.repeated
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Whether the last group is that of `record` as well, when nothing but times vary.
    #[inline]
    pub(super) fn holds_for(&mut self, record: &Record<'_>, context: &NameContext) -> bool {
        let Some(steady) = &self.steady else { return false };
        let in_time = steady.always || record.timestamp_ms.is_some_and(|at| steady.from_ms <= at && at < steady.until_ms);
        let holds = in_time && steady.partition == record.partition && steady.now == context.now && steady.topic == record.topic;
        self.repeated |= holds;
        holds
    }
}

impl PathTemplate {
    /// Makes the group of `row` and leaves it in `cache`.
    pub(super) fn render(&self, row: &Row<'_>, context: &NameContext, cache: &mut PathCache) -> Result<()> {
        let record = &row.record;
        cache.steady = None;
        cache.next.clear();
        cache.values.clear();
        cache.ends.clear();
        let (mut from_ms, mut until_ms) = (i64::MIN, i64::MAX);
        for (index, segment) in self.segments.iter().enumerate() {
            if index > 0 {
                cache.next.push('/');
            }
            for (place, part) in segment.iter().enumerate() {
                let begin = cache.next.len();
                if let Some(window) = self.part(part, row, context, cache, place == 0)? {
                    (from_ms, until_ms) = (from_ms.max(window.start), until_ms.min(window.end));
                }
                if matches!(part, Part::Field(_)) {
                    cache.values.push((index, begin..cache.next.len()));
                }
            }
            cache.ends.push(cache.next.len());
        }
        self.fit(record, context, cache)?;
        cache.repeated = cache.next == cache.group;
        std::mem::swap(&mut cache.next, &mut cache.group);
        if self.kind != Varies::ByContent && from_ms < until_ms {
            let always = self.kind == Varies::Never;
            cache.steady = Some(Steady { topic: record.topic.to_owned(), partition: record.partition, now: context.now, from_ms, until_ms, always });
        }
        Ok(())
    }

    /// Appends one part to `cache.next`; for a time of the record, from when until when it stays the same.
    fn part(&self, part: &Part, row: &Row<'_>, context: &NameContext, cache: &mut PathCache, leading: bool) -> Result<Option<Range<i64>>> {
        let record = &row.record;
        match part {
            Part::Literal(text) => cache.next.push_str(text),
            Part::Topic => encode::push(&mut cache.next, record.topic.as_bytes(), leading),
            // Writing into a String cannot fail.
            Part::Partition { width } => drop(write!(cache.next, "{:0width$}", record.partition)),
            Part::Offset { .. } => cache.next.push(OFFSET),
            Part::Field(field) => field_text(&mut cache.next, field, row, leading)?,
            Part::Time { source, format, slot } => {
                let at_ms = match source {
                    TimeSource::Record => record.timestamp_ms,
                    TimeSource::Now => Some(context.now.as_millisecond()),
                    TimeSource::Value(path) => self.time_in_value(path, row)?,
                };
                let Some(at_ms) = at_ms else {
                    encode::push(&mut cache.next, b"", leading);
                    // Such a record says nothing about the next one.
                    return Ok(Some(0..0));
                };
                if cache.times.len() <= *slot {
                    cache.times.resize_with(slot + 1, TimeCache::default);
                }
                let (text, from_ms, until_ms) = cache.times[*slot].text(format, &self.timezone, at_ms, leading)?;
                cache.next.push_str(text);
                if *source == TimeSource::Record {
                    return Ok(Some(from_ms..until_ms));
                }
            }
        }
        Ok(None)
    }

    fn time_in_value(&self, path: &ValuePath, row: &Row<'_>) -> Result<Option<i64>> {
        let (time, text) = match scalar(path, row)? {
            Found::Missing => return Ok(None),
            Found::Text(text) if text.is_empty() => return Ok(None),
            Found::Text(text) => (std::str::from_utf8(&text).ok().and_then(|text| time::time_from_text(text.trim(), &self.timezone)), text),
            Found::Number(number) => (time::time_from_number(number, &self.timezone), Cow::Borrowed(number.as_bytes())),
            Found::Bool(value) => (None, Cow::Borrowed(if value { &b"true"[..] } else { &b"false"[..] })),
        };
        time.map(Some).ok_or_else(|| {
            let error = Error::new(Kind::BadRecord, format!("`value.{}` is no time: `{}`", path.text, shown(&text)));
            error
                .because("no_time")
                .hint("a time is RFC 3339 text, a date in digits as `20260101`, or a count of seconds, milli-, micro- or nanoseconds since 1970")
        })
    }

    /// Cuts values when the path is longer than the store allows.
    fn fit(&self, record: &Record<'_>, context: &NameContext, cache: &mut PathCache) -> Result<()> {
        let offsets: usize = self.segments.iter().flatten().map(|part| self.open_bytes(part)).sum();
        let tail = context.extension.len().max(SIDE_FILE_BYTES) + if context.incarnation > 0 { INCARNATION_BYTES } else { 0 };
        let longest = cache.next.len() + offsets + tail;
        if longest <= self.limits.segment_bytes.min(self.limits.path_bytes) {
            return Ok(());
        }
        self.cut(record, tail, cache)
    }

    /// Bytes that a part still gains when the name is made.
    fn open_bytes(&self, part: &Part) -> usize {
        match part {
            Part::Offset { width } => (*width).max(OFFSET_BYTES) - 1,
            _ => 0,
        }
    }

    #[cold]
    fn cut(&self, record: &Record<'_>, tail: usize, cache: &mut PathCache) -> Result<()> {
        let mut lengths: Vec<usize> = cache.values.iter().map(|(_, bytes)| bytes.len()).collect();
        let last = self.segments.len() - 1;
        let mut fixed_total = self.segments.len() - 1;
        let mut begin = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let bytes = cache.ends[index] - begin;
            begin = cache.ends[index] + 1;
            let here: Vec<usize> = (0..lengths.len()).filter(|value| cache.values[*value].0 == index).collect();
            let open: usize = segment.iter().map(|part| self.open_bytes(part)).sum::<usize>() + if index == last { tail } else { 0 };
            let fixed = bytes + open - here.iter().map(|value| lengths[*value]).sum::<usize>();
            fixed_total += fixed;
            level(&mut lengths, &here, self.limits.segment_bytes, fixed)
                .map_err(|needed| self.too_long(record.topic, needed, self.limits.segment_bytes, Kind::Stopped))?;
        }
        let all: Vec<usize> = (0..lengths.len()).collect();
        level(&mut lengths, &all, self.limits.path_bytes, fixed_total)
            .map_err(|needed| self.too_long(record.topic, needed, self.limits.path_bytes, Kind::Stopped))?;
        let whole = std::mem::take(&mut cache.next);
        let mut copied = 0;
        for ((_, bytes), length) in cache.values.iter().zip(lengths) {
            cache.next.push_str(&whole[copied..bytes.start]);
            encode::cut(&mut cache.next, &whole[bytes.clone()], length);
            copied = bytes.end;
        }
        cache.next.push_str(&whole[copied..]);
        Ok(())
    }
}

/// Lowers the longest of `lengths[which]` to one common level, so that they and `fixed` bytes fit into `limit`; what they
/// would need at least when even that is too much.
fn level(lengths: &mut [usize], which: &[usize], limit: usize, fixed: usize) -> Result<(), usize> {
    let sum = |level: usize, lengths: &[usize]| fixed + which.iter().map(|value| lengths[*value].min(level)).sum::<usize>();
    let mut high = which.iter().map(|value| lengths[*value]).max().unwrap_or(0);
    if sum(high, lengths) <= limit {
        return Ok(());
    }
    let mut low = VALUE_BYTES_MIN;
    if sum(low, lengths) > limit {
        return Err(sum(low, lengths));
    }
    // The largest level that fits: `low` always does, `high` never.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if sum(middle, lengths) <= limit { low = middle } else { high = middle }
    }
    which.iter().for_each(|value| lengths[*value] = lengths[*value].min(low));
    Ok(())
}

fn field_text(out: &mut String, field: &Field, row: &Row<'_>, leading: bool) -> Result<()> {
    let record = &row.record;
    match field {
        Field::Key => encode::push(out, record.key.unwrap_or_default(), leading),
        Field::Header(name) => encode::push(out, header(record, name).unwrap_or_default(), leading),
        Field::Value(path) => match scalar(path, row)? {
            Found::Missing => encode::push(out, b"", leading),
            Found::Text(text) => encode::push(out, &text, leading),
            Found::Number(number) => encode::push(out, number.as_bytes(), leading),
            Found::Bool(value) => encode::push(out, if value { b"true" } else { b"false" }, leading),
        },
    }
    Ok(())
}

/// The last header of that name, as Kafka's own clients have it.
fn header<'a>(record: &Record<'a>, name: &str) -> Option<&'a [u8]> {
    let headers = record.headers?;
    (0..headers.len()).rev().find_map(|index| headers.get(index).filter(|(found, _)| *found == name.as_bytes())).and_then(|(_, value)| value)
}

fn scalar<'a>(path: &ValuePath, row: &'a Row<'_>) -> Result<Found<'a>> {
    let Some(value) = row.bytes().filter(|value| !value.is_empty()) else { return Ok(Found::Missing) };
    json::find(value, &path.steps).map_err(|wrong| {
        let (code, what) = match wrong {
            Wrong::NotJson(at) => ("not_json", format!("the value is not JSON at byte {at}, so it has no `{}` for the path", path.text)),
            Wrong::Composite => ("not_scalar", format!("`value.{}` is an object or an array, which is no name for a path", path.text)),
        };
        Error::new(Kind::BadRecord, what).because(code)
    })
}

/// The beginning of a value, for a message.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned()
}
