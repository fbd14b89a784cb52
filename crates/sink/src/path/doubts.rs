//! What a template says that is hardly what was meant: it makes paths, and nobody would want them. [`PathTemplate::parse`] refuses
//! what cannot be; these are warnings.

use super::{
    PathTemplate, encode,
    json::{self, Found},
    parse::{Field, Part, TimeSource, ValuePath},
};
use crate::{record::OwnedRecord, row::Row, suggest};
use std::collections::BTreeSet;

/// A doubt about a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What will be.
    pub what: String,
    /// What was probably meant.
    pub fix: String,
}

/// Date patterns as Java, .NET and others write them, and strftime's for each.
const LETTERS: [(&str, &str); 12] = [
    ("yyyy", "%Y"),
    ("YYYY", "%Y"),
    ("uuuu", "%Y"),
    ("yy", "%y"),
    ("YY", "%y"),
    ("MM", "%m"),
    ("dd", "%d"),
    ("DD", "%d"),
    ("HH", "%H"),
    ("hh", "%H"),
    ("mm", "%M"),
    ("ss", "%S"),
];

/// Extensions that people write into a template, and kas3 appends.
const EXTENSIONS: [&str; 12] = ["json", "jsonl", "ndjson", "txt", "text", "log", "csv", "gz", "gzip", "zst", "zstd", "parquet"];

impl PathTemplate {
    /// Doubts that need no record; `extension` is what follows each name, as `.jsonl.gz`.
    pub fn doubts(&self, extension: &str) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let patterns = patterns(&self.source);
        for (placeholder, pattern) in &patterns {
            let java = letters(pattern).any(|word| LETTERS.iter().any(|(letters, _)| *letters == word));
            if java || !pattern.contains('%') {
                let mut meant = (*pattern).to_owned();
                LETTERS.iter().for_each(|(letters, strftime)| meant = meant.replace(letters, strftime));
                let fix = if java {
                    format!("write `{}`", placeholder.replace(*pattern, &meant))
                } else {
                    "name a part of the time, as `%Y-%m-%d`".to_owned()
                };
                doubts.push(Doubt { what: format!("`{placeholder}` holds letters that stand for themselves: every path has them as they are"), fix });
            }
        }
        let has = |conversions: &[&str]| conversions.iter().any(|conversion| patterns.iter().any(|(_, pattern)| pattern.contains(conversion)));
        if has(&["%M"]) && !has(&["%m", "%b", "%B", "%h", "%j", "%F"]) && !has(&["%H", "%I", "%k", "%l"]) {
            let what = "`%M` is the minute, and there is neither a month nor an hour beside it".to_owned();
            doubts.push(Doubt { what, fix: "the month is `%m`".to_owned() });
        }
        if let Some(Part::Literal(end)) = self.segments.last().and_then(|segment| segment.last())
            && let Some((_, written)) = end.split_once('.')
            && written.split('.').any(|piece| EXTENSIONS.contains(&piece))
        {
            let what = format!("names end in `.{written}{extension}`: the extension comes behind the template by itself");
            doubts.push(Doubt { what, fix: format!("leave `.{written}` out of the template; `sink.format` decides the extension") });
        }
        doubts
    }

    /// Values of the path that none of these records has.
    pub fn unfilled(&self, records: &[OwnedRecord]) -> Vec<Doubt> {
        let parts: Vec<&Part> = self.segments.iter().flatten().collect();
        let mut doubts: Vec<Doubt> = Vec::new();
        for part in parts {
            if !records.is_empty() && records.iter().all(|record| lacks(part, record)) {
                let what =
                    format!("`{}` is in none of {} records that were read: their files go to `{}`", part.label(), records.len(), encode::MISSING);
                let doubt = Doubt { what, fix: known(part, records) };
                if !doubts.contains(&doubt) {
                    doubts.push(doubt);
                }
            }
        }
        doubts
    }
}

/// The placeholders of times, each with its pattern.
fn patterns(source: &str) -> Vec<(&str, &str)> {
    let placeholders = source.match_indices('{').filter_map(|(at, _)| source[at..].find('}').map(|end| &source[at..=at + end]));
    let of_time = |placeholder: &&str| ["{timestamp:", "{now:", "{value."].iter().any(|begin| placeholder.starts_with(begin));
    placeholders.filter(of_time).filter_map(|text| Some((text, text.split_once(':')?.1.trim_end_matches('}')))).collect()
}

/// Runs of letters in a pattern that belong to no conversion.
fn letters(pattern: &str) -> impl Iterator<Item = String> {
    let mut plain = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character == '%' {
            plain.push(' ');
            if matches!(characters.next(), Some('-' | '_' | '0' | '^')) {
                characters.next();
            }
        } else {
            plain.push(if character.is_ascii_alphabetic() { character } else { ' ' });
        }
    }
    plain.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn lacks(part: &Part, record: &OwnedRecord) -> bool {
    let has_no = |path: &ValuePath| {
        let row = Row::of(record.borrow());
        let Some(value) = row.bytes().filter(|value| !value.is_empty()) else { return true };
        matches!(json::find(value, &path.steps), Ok(Found::Missing))
    };
    match part {
        Part::Field(Field::Value(path)) | Part::Time { source: TimeSource::Value(path), .. } => has_no(path),
        Part::Field(Field::Key) => record.key.as_ref().is_none_or(Vec::is_empty),
        Part::Field(Field::Header(name)) => !record.headers.0.iter().any(|(known, _)| known == name.as_bytes()),
        Part::Time { source: TimeSource::Record, .. } => record.timestamp_ms.is_none(),
        _ => false,
    }
}

/// What the records have in its place.
fn known(part: &Part, records: &[OwnedRecord]) -> String {
    let names: BTreeSet<String> = match part {
        Part::Field(Field::Value(path)) | Part::Time { source: TimeSource::Value(path), .. } => members(path, records),
        Part::Field(Field::Header(_)) => {
            records.iter().flat_map(|record| record.headers.0.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned())).collect()
        }
        _ => BTreeSet::new(),
    };
    let (wrong, begin) = match part {
        Part::Field(Field::Header(name)) => (name.clone(), "header.".to_owned()),
        Part::Field(Field::Value(path)) | Part::Time { source: TimeSource::Value(path), .. } => {
            let (parent, last) = path.text.rsplit_once('.').unwrap_or(("", &path.text));
            (last.to_owned(), if parent.is_empty() { "value.".to_owned() } else { format!("value.{parent}.") })
        }
        _ => return "leave it out of the path, or have the producer set it".to_owned(),
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match suggest::nearest(&wrong, &names) {
        Some(near) => format!("did you mean `{{{begin}{near}}}`?"),
        None if names.is_empty() => "the records have nothing to choose from there".to_owned(),
        None => format!("there are {}", suggest::listed(&names[..names.len().min(12)])),
    }
}

/// Names of the members beside the one that a path names.
fn members(path: &ValuePath, records: &[OwnedRecord]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for record in records {
        let value = record.value.as_deref().and_then(|value| serde_json::from_slice::<serde_json::Value>(value).ok());
        let steps: Vec<&str> = path.text.split('.').collect();
        let parent = steps[..steps.len() - 1].iter().try_fold(value.as_ref(), |value, step| Some(value?.get(step)));
        if let Some(serde_json::Value::Object(members)) = parent.flatten() {
            names.extend(members.keys().cloned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::{Limits, TemplateOptions};
    use jiff::tz::TimeZone;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text, &TemplateOptions { timezone: TimeZone::UTC, single_topic: false, limits: Limits::OBJECT }).unwrap()
    }

    #[test]
    fn date_letters_minutes_for_months_and_a_second_extension_are_doubted() {
        let doubts =
            |text: &str| template(text).doubts(".jsonl.gz").into_iter().map(|doubt| format!("{}; {}", doubt.what, doubt.fix)).collect::<Vec<_>>();
        let java = doubts("{topic}/{timestamp:yyyy-MM-dd}/{partition}_{offset}");
        assert!(java.len() == 1 && java[0].contains("write `{timestamp:%Y-%m-%d}`"), "{java:?}");
        assert!(doubts("{topic}/{now:%Y-MM}/{partition}_{offset}")[0].contains("write `{now:%Y-%m}`"));
        assert!(doubts("{topic}/{value.at:daily}/{partition}_{offset}")[0].contains("%Y-%m-%d"));
        assert!(doubts("{topic}/year={timestamp:%Y}/month={timestamp:%M}/{partition}_{offset}")[0].contains("the month is `%m`"));
        assert!(doubts("{topic}/{partition}_{offset}.json.gz")[0].contains("`.json.gz.jsonl.gz`"));
        for good in [
            "{topic}/{partition}_{offset}",
            "{topic}/{timestamp:%Y/month-%m/%d}/{partition}_{offset}",
            "{topic}/{timestamp:day%d_%H.%M}/{partition}_{offset}",
            "v1.2/{topic}/{partition}_{offset}.part",
        ] {
            assert_eq!(doubts(good), [""; 0], "{good}");
        }
    }

    #[test]
    fn a_value_that_no_record_has_is_doubted_with_the_one_that_was_meant() {
        let record = |value: &str| OwnedRecord { value: Some(value.as_bytes().to_vec()), timestamp_ms: Some(0), ..OwnedRecord::default() };
        let records = [record(r#"{"customer":"a","at":{"day":"x"}}"#), record(r#"{"customer":"b"}"#)];
        let unfilled =
            |text: &str| template(text).unfilled(&records).into_iter().map(|doubt| format!("{}; {}", doubt.what, doubt.fix)).collect::<Vec<_>>();
        let wrong = unfilled("{topic}/{value.custmer}/{partition}_{offset}");
        assert!(wrong.len() == 1 && wrong[0].contains("none of 2 records") && wrong[0].contains("did you mean `{value.customer}`?"), "{wrong:?}");
        assert!(unfilled("{topic}/{value.at.dya}/{partition}_{offset}")[0].contains("did you mean `{value.at.day}`?"));
        assert!(unfilled("{topic}/{key}/{header.x}/{partition}_{offset}").len() == 2);
        assert_eq!(unfilled("{topic}/{value.customer}/{value.at.day}/{timestamp:%F}/{partition}_{offset}"), [""; 0], "one record has it");
        assert_eq!(template("{topic}/{value.custmer}/{partition}_{offset}").unfilled(&[]), []);
    }
}
