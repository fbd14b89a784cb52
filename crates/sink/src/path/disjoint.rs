//! Whether two templates of one pipeline can give two topics the same name. The answer is on the safe side: what cannot be
//! shown to be different counts as the same.

use super::{
    PathTemplate,
    encode::encoded_topic,
    overlap::{self, Atom, can_be_equal},
    parse::{Part, Segment},
};
use crate::{
    error::{Error, Kind, Result},
    topics::TopicPattern,
};

/// Checks that no two topics can get a file of the same name: each entry is a template and the topics that it applies to. Of
/// the topics that an entry's pattern matches, any may use it.
///
/// # Errors
/// `Config`, naming both patterns and both templates.
pub fn check_disjoint(entries: &[(&TopicPattern, &PathTemplate)]) -> Result<()> {
    for (index, first) in entries.iter().enumerate() {
        for second in &entries[index + 1..] {
            if !disjoint(*first, *second) {
                let (one, other) = (pattern_text(first.0), pattern_text(second.0));
                return Err(Error::new(
                    Kind::Config,
                    format!("the paths of topics `{one}` (`{}`) and `{other}` (`{}`) can give two topics the same name", first.1, second.1),
                )
                .hint("begin both with `{topic}/`, or with different words"));
            }
        }
    }
    Ok(())
}

fn pattern_text(pattern: &TopicPattern) -> &str {
    match pattern {
        TopicPattern::Name(name) => name,
        TopicPattern::Expression(expression) => expression.as_str(),
    }
}

fn disjoint(first: (&TopicPattern, &PathTemplate), second: (&TopicPattern, &PathTemplate)) -> bool {
    if let (TopicPattern::Name(one), TopicPattern::Name(other)) = (first.0, second.0)
        && one == other
    {
        return true;
    }
    if first.1.segments.len() != second.1.segments.len() {
        return true;
    }
    let last = first.1.segments.len() - 1;
    (0..=last).any(|index| {
        let (one, other) = (&first.1.segments[index], &second.1.segments[index]);
        same_topic(first.1, second.1, index)
            || (index < last && (speaks_of_another(first, second, index) || speaks_of_another(second, first, index)))
            || !can_be_equal(&texts(first.0, one, index == last), &texts(second.0, other, index == last))
    })
}

/// Both read the topic from this segment in the same way, so equal names speak of the same topic.
fn same_topic(first: &PathTemplate, second: &PathTemplate, index: usize) -> bool {
    shape(&first.segments[index]) == shape(&second.segments[index]) && first.names.reads_topic(&first.segments, index)
}

fn shape(segment: &Segment) -> Vec<String> {
    segment.iter().map(Part::label).collect()
}

/// The segment of `named`, one literal topic, is a fixed text, and `other` would read a topic from it that is the very same
/// one, none at all, or not one of its own.
fn speaks_of_another(named: (&TopicPattern, &PathTemplate), other: (&TopicPattern, &PathTemplate), index: usize) -> bool {
    let TopicPattern::Name(topic) = named.0 else { return false };
    let mut text = String::new();
    for (place, part) in named.1.segments[index].iter().enumerate() {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Topic => text.push_str(&encoded_topic(topic, place == 0)),
            _ => return false,
        }
    }
    if !other.1.names.reads_topic(&other.1.segments, index) {
        return false;
    }
    match other.1.names.topic_of(&other.1.segments, index, &text) {
        None => true,
        Some(read) => read == *topic || !other.0.matches(&read),
    }
}

/// What a segment can be, an incarnation and an extension behind it if it is the last.
fn texts(pattern: &TopicPattern, segment: &Segment, last: bool) -> Vec<Atom> {
    let topic = match pattern {
        TopicPattern::Name(topic) => Some(topic.as_str()),
        TopicPattern::Expression(_) => None,
    };
    overlap::atoms(segment, topic).into_iter().chain(last.then(overlap::anything)).collect()
}
