//! Reading names back. Two spans never give one name because topic, partition and offset can be read back from every name
//! that a template can make; this module finds out how, or says why it cannot be done.
//!
//! No part ever holds a `/`, so a name falls into the template's segments by itself. Within a segment parts are read from the
//! left as long as each ends where something begins that it cannot hold, then from the right in the same way; one part may
//! remain between the two.

use super::{
    overlap,
    parse::{Part, Segment, wrong},
};
use crate::error::Result;

type IsWanted = fn(&Part) -> bool;

/// How a segment is read: parts `..left` from the left, parts `right..` from the right, and a single one between as the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    left: usize,
    right: usize,
}

/// How all segments of a template are read.
#[derive(Clone, Debug)]
pub(super) struct Names(Vec<Reading>);

/// What a name says of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameParts {
    /// Topic, when the template names it.
    pub topic: Option<String>,
    /// Partition number.
    pub partition: i32,
    /// Offset of the file's first record.
    pub offset: i64,
    /// Incarnation of the topic: `n` of `-i<n>`, else 0.
    pub incarnation: u32,
}

impl Reading {
    fn of(segment: &Segment) -> Self {
        let mut left = 0;
        while left < segment.len() && ends_clearly(segment, left) {
            left += 1;
        }
        let mut right = segment.len();
        while right > left && begins_clearly(segment, right - 1) {
            right -= 1;
        }
        Reading { left, right }
    }

    fn covers(self, index: usize) -> bool {
        index < self.left || index >= self.right || self.right - self.left == 1
    }
}

fn ends_clearly(segment: &Segment, index: usize) -> bool {
    match (&segment[index], segment.get(index + 1)) {
        (Part::Literal(_), _) | (_, None) => true,
        (part, Some(Part::Literal(next))) => !part.charset().contains(next.as_bytes()[0]),
        _ => false,
    }
}

fn begins_clearly(segment: &Segment, index: usize) -> bool {
    match (&segment[index], index.checked_sub(1).map(|before| &segment[before])) {
        (Part::Literal(_), _) | (_, None) => true,
        (part, Some(Part::Literal(before))) => before.as_bytes().last().is_some_and(|last| !part.charset().contains(*last)),
        _ => false,
    }
}

impl Names {
    /// Finds out how names are read.
    ///
    /// # Errors
    /// `Config` when a part that must be there is not, or cannot be read back.
    pub(super) fn of(source: &str, segments: &[Segment], single_topic: bool) -> Result<Self> {
        let readings: Vec<Reading> = segments.iter().map(Reading::of).collect();
        let wanted: [(&str, IsWanted); 3] = [
            ("{partition}", |part| matches!(part, Part::Partition { .. })),
            ("{offset}", |part| matches!(part, Part::Offset { .. })),
            ("{topic}", |part| matches!(part, Part::Topic)),
        ];
        for (label, is_wanted) in wanted {
            let mut found = places(segments, is_wanted).peekable();
            if found.peek().is_none() {
                if label == "{topic}" && single_topic {
                    continue;
                }
                let why = if label == "{topic}" { "two topics would give one name" } else { "two files would get one name" };
                return Err(wrong(source, format!("`{label}` is missing: {why}")).hint(format!("for instance `{}`", example(source, label))));
            }
            if !found.clone().any(|(segment, index)| readings[segment].covers(index)) {
                let (segment, index) = found.next().unwrap_or_default();
                return Err(wrong(source, cannot_read(&segments[segment], index, label))
                    .hint("set it apart with `/`, or with a character that its neighbours cannot hold, as `{topic}/{partition}_{offset}`"));
            }
        }
        if segments.last().is_some_and(overlap::can_end_like_incarnation) {
            return Err(wrong(source, "a name can end with `-i` and a number, which stands for a topic that was created again")
                .hint("end the template with `_{offset}`, or with another fixed text"));
        }
        Ok(Names(readings))
    }

    /// Reads a name whose extension and incarnation were taken off.
    pub(super) fn read(&self, segments: &[Segment], name: &str) -> Option<NameParts> {
        let mut parts = NameParts { topic: None, partition: -1, offset: -1, incarnation: 0 };
        let texts: Vec<&str> = name.split('/').collect();
        if texts.len() != segments.len() {
            return None;
        }
        for ((segment, reading), text) in segments.iter().zip(&self.0).zip(texts) {
            read_segment(segment, *reading, text, &mut parts)?;
        }
        (parts.partition >= 0 && parts.offset >= 0).then_some(parts)
    }

    /// Whether one of the parts read in segment `index` is the topic.
    pub(super) fn reads_topic(&self, segments: &[Segment], index: usize) -> bool {
        segments[index].iter().enumerate().any(|(place, part)| matches!(part, Part::Topic) && self.0[index].covers(place))
    }

    /// The topic that segment `index` of a name speaks of, if its text can be one of this template's.
    pub(super) fn topic_of(&self, segments: &[Segment], index: usize, text: &str) -> Option<String> {
        let mut parts = NameParts { topic: None, partition: -1, offset: -1, incarnation: 0 };
        read_segment(&segments[index], self.0[index], text, &mut parts)?;
        parts.topic
    }
}

fn places<'a>(segments: &'a [Segment], is_wanted: IsWanted) -> impl Iterator<Item = (usize, usize)> + Clone + 'a {
    segments
        .iter()
        .enumerate()
        .flat_map(move |(place, segment)| segment.iter().enumerate().filter(move |(_, part)| is_wanted(part)).map(move |(index, _)| (place, index)))
}

fn example(source: &str, label: &str) -> String {
    match label {
        "{topic}" => format!("{{topic}}/{source}"),
        _ => format!("{source}_{label}"),
    }
}

fn cannot_read(segment: &Segment, index: usize, label: &str) -> String {
    let beside = |part: &Part| match part {
        Part::Literal(text) => format!("the text `{text}`, which it can hold itself"),
        part => format!("`{}`", part.label()),
    };
    let neighbour = match (index.checked_sub(1).map(|before| &segment[before]), segment.get(index + 1)) {
        (_, Some(after)) if !ends_clearly(segment, index) => format!("before {}", beside(after)),
        (Some(before), _) if !begins_clearly(segment, index) => format!("behind {}", beside(before)),
        _ => "in this folder".to_owned(),
    };
    format!("`{label}` cannot be read back from a name, because it stands {neighbour}: two files could get one name")
}

fn read_segment(segment: &Segment, reading: Reading, mut text: &str, parts: &mut NameParts) -> Option<()> {
    for (index, part) in segment[..reading.left].iter().enumerate() {
        let token = match part {
            Part::Literal(literal) => text.get(..literal.len()).filter(|head| *head == literal)?,
            _ if index + 1 == segment.len() => text,
            part => {
                let holds = part.charset();
                &text[..text.bytes().position(|byte| !holds.contains(byte)).unwrap_or(text.len())]
            }
        };
        text = &text[token.len()..];
        take(part, token, parts)?;
    }
    for (index, part) in segment.iter().enumerate().skip(reading.right).rev() {
        let token = match part {
            Part::Literal(literal) => text.strip_suffix(literal.as_str()).map(|_| &text[text.len() - literal.len()..])?,
            _ if index == 0 => text,
            part => {
                let holds = part.charset();
                &text[text.bytes().rposition(|byte| !holds.contains(byte)).map_or(0, |at| at + 1)..]
            }
        };
        text = &text[..text.len() - token.len()];
        take(part, token, parts)?;
    }
    match reading.right - reading.left {
        0 => text.is_empty().then_some(()),
        1 => take(&segment[reading.left], text, parts),
        _ => Some(()),
    }
}

/// Keeps what `token` says. A number must be written as the template writes it, and repeated parts must agree.
fn take(part: &Part, token: &str, parts: &mut NameParts) -> Option<()> {
    if token.is_empty() {
        return None;
    }
    match part {
        Part::Topic => {
            let topic = decoded_topic(token);
            if parts.topic.as_ref().is_some_and(|before| *before != topic) {
                return None;
            }
            parts.topic = Some(topic);
        }
        Part::Partition { width } => {
            let number = number(token, *width)?;
            let partition = i32::try_from(number).ok()?;
            if parts.partition >= 0 && parts.partition != partition {
                return None;
            }
            parts.partition = partition;
        }
        Part::Offset { width } => {
            let offset = number(token, *width)?;
            if parts.offset >= 0 && parts.offset != offset {
                return None;
            }
            parts.offset = offset;
        }
        Part::Literal(_) | Part::Time { .. } | Part::Field(_) => {}
    }
    Some(())
}

fn number(token: &str, width: usize) -> Option<i64> {
    let number: i64 = if token.bytes().all(|byte| byte.is_ascii_digit()) { token.parse().ok()? } else { return None };
    (format!("{number:0width$}") == token).then_some(number)
}

fn decoded_topic(token: &str) -> String {
    for (escape, plain) in [("%5F", '_'), ("%2E", '.')] {
        if let Some(rest) = token.strip_prefix(escape) {
            return format!("{plain}{rest}");
        }
    }
    token.to_owned()
}
