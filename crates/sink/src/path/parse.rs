//! From the text of a template to its parts, folder by folder.

use super::{charset::CharSet, encode, json::Step, time::TimeFormat};
use crate::error::{Error, Kind, Result};

/// One folder of a template, or its file name.
pub(super) type Segment = Vec<Part>;

/// What a path is made of. No part but a literal's own text ever holds a `/`, and none is ever empty.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    Literal(String),
    Topic,
    Partition {
        width: usize,
    },
    Offset {
        width: usize,
    },
    /// A formatted time; `slot` is its place in the cache.
    Time {
        source: TimeSource,
        format: TimeFormat,
        slot: usize,
    },
    Field(Field),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TimeSource {
    Record,
    Now,
    Value(ValuePath),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Value(ValuePath),
    Key,
    Header(String),
}

/// A path in a JSON value, as written and as steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValuePath {
    pub(super) text: String,
    pub(super) steps: Vec<Step>,
}

impl Part {
    /// Bytes that the part can hold, whatever the record.
    pub(super) fn charset(&self) -> CharSet {
        match self {
            Part::Literal(text) => CharSet::filter(|byte| text.as_bytes().contains(&byte)),
            // `%` from an encoded leading dot or underscore.
            Part::Topic => CharSet::of("A-Za-z0-9._%-"),
            Part::Partition { .. } | Part::Offset { .. } => CharSet::of("0-9"),
            Part::Time { source: TimeSource::Now, format, .. } => format.output,
            // What stands for a missing time, its first underscore encoded where it begins a segment.
            Part::Time { format, .. } => {
                format.output.union(CharSet::filter(|byte| b"%5F".contains(&byte) || encode::MISSING.as_bytes().contains(&byte)))
            }
            Part::Field(_) => CharSet::filter(encode::may_hold),
        }
    }

    /// How the part is written in a template.
    pub(super) fn label(&self) -> String {
        match self {
            Part::Literal(text) => text.clone(),
            Part::Topic => "{topic}".to_owned(),
            Part::Partition { .. } => "{partition}".to_owned(),
            Part::Offset { .. } => "{offset}".to_owned(),
            Part::Time { source: TimeSource::Record, .. } => "{timestamp:…}".to_owned(),
            Part::Time { source: TimeSource::Now, .. } => "{now:…}".to_owned(),
            Part::Time { source: TimeSource::Value(path), .. } => format!("{{value.{}:…}}", path.text),
            Part::Field(Field::Value(path)) => format!("{{value.{}}}", path.text),
            Part::Field(Field::Key) => "{key}".to_owned(),
            Part::Field(Field::Header(name)) => format!("{{header.{name}}}"),
        }
    }
}

/// An error of the template `source`.
pub(super) fn wrong(source: &str, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Config, format!("path template `{source}`: {what}"))
}

/// `source` has no braces and is no preset either.
pub(super) fn no_preset(source: &str) -> Error {
    let known: Vec<&str> = super::PRESETS.iter().map(|preset| preset.name).collect();
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(name, source), *name)).min().filter(|(distance, _)| *distance <= 2);
    let error = wrong(source, "it is neither a template nor a preset");
    match nearest {
        Some((_, name)) => error.hint(format!("did you mean the preset `{name}`?")),
        None => error.hint(format!(
            "write a template, as `{{topic}}/{{partition}}_{{offset}}`, or one of the presets {}",
            known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )),
    }
}

/// Reads a template. The segments are checked for what could leave the prefix or hide files, not yet for names.
pub(super) fn segments(source: &str) -> Result<Vec<Segment>> {
    let mut building = Building { segments: vec![Vec::new()], slots: 0 };
    let mut rest = source;
    while let Some(at) = rest.find(['{', '}']) {
        building.literal(&rest[..at]);
        let brace = &rest[at..];
        if brace.starts_with("{{") || brace.starts_with("}}") {
            building.literal(&brace[..1]);
            rest = &brace[2..];
        } else if brace.starts_with('}') {
            return Err(wrong(source, "a `}` closes nothing").hint("write `}}` for the character itself"));
        } else {
            let Some(end) = brace.find('}') else {
                return Err(wrong(source, "a `{` is not closed").hint("write `{{` for the character itself"));
            };
            building.placeholder(source, &brace[1..end])?;
            rest = &brace[end + 1..];
        }
    }
    building.literal(rest);
    check_segments(source, &building.segments)?;
    Ok(building.segments)
}

struct Building {
    segments: Vec<Segment>,
    slots: usize,
}

impl Building {
    fn literal(&mut self, text: &str) {
        for (index, piece) in text.split('/').enumerate() {
            if index > 0 {
                self.segments.push(Vec::new());
            }
            if piece.is_empty() {
                continue;
            }
            match self.segments.last_mut().and_then(|segment| segment.last_mut()) {
                Some(Part::Literal(before)) => before.push_str(piece),
                _ => self.push(Part::Literal(piece.to_owned())),
            }
        }
    }

    fn push(&mut self, part: Part) {
        if let Some(segment) = self.segments.last_mut() {
            segment.push(part);
        }
    }

    fn placeholder(&mut self, source: &str, text: &str) -> Result<()> {
        let (name, spec) = match text.split_once(':') {
            Some((name, spec)) => (name, Some(spec)),
            None => (text, None),
        };
        let plain = |part: Part| match spec {
            None => Ok(part),
            Some(_) => Err(wrong(source, format!("`{{{name}}}` takes nothing after a `:`, found `{{{text}}}`"))),
        };
        let part = match name {
            "topic" => plain(Part::Topic)?,
            "key" => plain(Part::Field(Field::Key))?,
            "partition" => Part::Partition { width: width(source, name, spec)? },
            "offset" => Part::Offset { width: width(source, name, spec)? },
            "timestamp" | "now" => {
                let time = if name == "now" { TimeSource::Now } else { TimeSource::Record };
                let Some(pattern) = spec else {
                    return Err(wrong(source, format!("`{{{name}}}` needs a pattern")).hint(format!("write for instance `{{{name}:%Y-%m-%d}}`")));
                };
                return self.time(source, text, &time, pattern);
            }
            _ => match (name.strip_prefix("value."), name.strip_prefix("header."), spec) {
                (Some(path), _, Some(pattern)) => return self.time(source, text, &TimeSource::Value(value_path(source, path)?), pattern),
                (Some(path), _, None) => Part::Field(Field::Value(value_path(source, path)?)),
                (_, Some(header), _) if !header.is_empty() => plain(Part::Field(Field::Header(header.to_owned())))?,
                _ => return Err(unknown(source, name)),
            },
        };
        self.push(part);
        Ok(())
    }

    /// A strftime pattern; a `/` in it begins a new folder.
    fn time(&mut self, source: &str, text: &str, time: &TimeSource, pattern: &str) -> Result<()> {
        for (index, piece) in pattern.split('/').enumerate() {
            if index > 0 {
                self.segments.push(Vec::new());
            }
            if piece.is_empty() {
                return Err(wrong(source, format!("the pattern of `{{{text}}}` has an empty folder")));
            }
            let format = TimeFormat::parse(piece).map_err(|reason| wrong(source, format!("the pattern of `{{{text}}}` {reason}")))?;
            self.push(Part::Time { source: time.clone(), format, slot: self.slots });
            self.slots += 1;
        }
        Ok(())
    }
}

/// What may stand between braces, for messages.
const PLACEHOLDERS: &str =
    "`{topic}` `{partition}` `{offset}` `{timestamp:%Y-%m-%d}` `{now:%Y-%m-%d}` `{value.field}` `{value.field:%Y-%m-%d}` `{key}` `{header.name}`";

fn unknown(source: &str, name: &str) -> Error {
    let error = wrong(source, format!("`{{{name}}}` is no placeholder"));
    let known = ["topic", "partition", "offset", "timestamp", "now", "value", "key", "header"];
    let first = name.split('.').next().unwrap_or(name);
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, first), *known)).min();
    match nearest {
        Some((0, "value")) => error.hint("name a field of the JSON value, as `{value.customer.id}`"),
        Some((0, "header")) => error.hint("name a header, as `{header.trace-id}`"),
        Some((distance, known)) if distance <= 2 => error.hint(format!("did you mean `{{{known}}}`? there are {PLACEHOLDERS}")),
        _ => error.hint(format!("there are {PLACEHOLDERS}")),
    }
}

fn width(source: &str, name: &str, spec: Option<&str>) -> Result<usize> {
    let Some(spec) = spec else { return Ok(0) };
    match spec.parse() {
        Ok(width @ 1..=20) if spec.bytes().all(|byte| byte.is_ascii_digit()) => Ok(width),
        _ => Err(wrong(source, format!("`{spec}` is no width for `{{{name}}}`")).hint(format!("write 1 to 20 digits, as `{{{name}:05}}`"))),
    }
}

fn value_path(source: &str, path: &str) -> Result<ValuePath> {
    if path.split('.').any(str::is_empty) {
        return Err(
            wrong(source, format!("`{{value.{path}}}` has an empty step")).hint("write the names of members with a dot between, as `{value.a.b}`")
        );
    }
    Ok(ValuePath { text: path.to_owned(), steps: path.split('.').map(Step::new).collect() })
}

fn check_segments(source: &str, segments: &[Segment]) -> Result<()> {
    let below = "paths lie below the sink's URL; begin with a name";
    if source.starts_with('/') {
        return Err(wrong(source, "it begins with `/`, an absolute path").hint(below));
    }
    for segment in segments {
        if segment.is_empty() {
            return Err(wrong(source, "it has an empty folder or file name (`//`, or a `/` at the end)").hint(below));
        }
        if let [Part::Literal(name)] = segment.as_slice()
            && matches!(name.as_str(), "." | "..")
        {
            return Err(wrong(source, format!("`{name}` could leave the sink's prefix")).hint(below));
        }
        let hidden = match &segment[0] {
            Part::Literal(name) => name.starts_with(['.', '_']).then(|| name.clone()),
            Part::Time { format, .. } if format.hidden => Some(segment[0].label()),
            _ => None,
        };
        match hidden {
            Some(name) if name.starts_with("_kas3") => {
                return Err(wrong(source, "it enters `_kas3`, where the ledger lies").hint("choose another name"));
            }
            Some(name) => {
                return Err(wrong(source, format!("`{name}` begins a name with `.` or `_`"))
                    .hint("readers of data lakes skip such names; begin it with a letter or a digit"));
            }
            None => {}
        }
        for part in segment {
            if let Part::Literal(text) = part
                && let Some(character) = text.chars().find(|character| *character == '\\' || character.is_control())
            {
                return Err(wrong(source, format!("it holds the character {character:?}")).hint("separate folders with `/`; no control characters"));
            }
        }
    }
    Ok(())
}
