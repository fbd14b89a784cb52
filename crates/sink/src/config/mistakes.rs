//! Mistakes of a file: all that one look finds are told at once, in the order of their lines, each with its way out.

use super::{
    lines::line_of,
    place::{Place, Step},
};
use crate::error::{Error, Kind};
use serde_yaml_ng::Value;
use std::fmt::Write;

/// What is wrong on a line, in words, and the way out.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) line: Option<usize>,
    pub(super) what: String,
    pub(super) hint: Option<String>,
}

/// Mistakes that are listed at most; their number is said all the same.
pub(super) const LISTED_MAX: usize = 50;

/// One error that tells all of them.
pub(super) fn told(mut mistakes: Vec<Mistake>) -> Error {
    if mistakes.len() == 1
        && let Some(Mistake { line, what, hint }) = mistakes.pop()
    {
        let error = Error::new(Kind::Config, line.map_or(what.clone(), |line| format!("{what} (line {line})")));
        return match hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
    }
    mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
    let mut text = format!("{} mistakes", mistakes.len());
    for Mistake { line, what, hint } in mistakes.iter().take(LISTED_MAX) {
        let line = line.map_or(String::new(), |line| format!("line {line}: "));
        // A String never refuses what is written to it.
        let _ = write!(text, "\n  {line}{what}");
        if let Some(hint) = hint {
            let _ = write!(text, "\n      hint: {hint}");
        }
    }
    if mistakes.len() > LISTED_MAX {
        let _ = write!(text, "\n  and {} more", mistakes.len() - LISTED_MAX);
    }
    Error::new(Kind::Config, text)
}

/// Where in a text settings stand.
#[derive(Clone, Default)]
pub(super) struct Lines {
    text: Option<String>,
    /// What the text holds, every setting under the name that is meant.
    tree: Value,
    aliases: Vec<Place>,
}

impl Lines {
    /// Of `text`, if the settings have one; `tree` is what it holds, but for the `aliases`.
    pub(super) fn new(text: Option<String>, tree: Value, aliases: Vec<Place>) -> Lines {
        Lines { text, tree, aliases }
    }

    /// The line of what is written at `path`, or of the section that it is missing in.
    pub(super) fn of(&self, path: &[Step]) -> Option<usize> {
        line_of(self.text.as_deref()?, path)
    }

    /// What an error tells. The first setting that it names, in backticks, is where it stands.
    pub(super) fn mistake(&self, error: &Error) -> Mistake {
        let what = error.chain();
        let line = what.split('`').skip(1).step_by(2).find_map(|named| self.of(&self.written(&self.steps(named)?)));
        Mistake { line, what, hint: error.way_out().map(str::to_owned) }
    }

    /// The steps to a setting that a message names, as `sink.roll.age` or `sink.format.level: 900`. What is missing in the tree
    /// is one last step.
    fn steps(&self, named: &str) -> Option<Vec<Step>> {
        let named = named.split_once(": ").map_or(named, |(path, _)| path);
        let (mut value, mut rest, mut steps) = (&self.tree, named, Vec::new());
        while !rest.is_empty() {
            let (step, inner, behind) = match value {
                Value::Mapping(map) => {
                    let ends = |behind: &str| behind.is_empty() || behind.starts_with(['.', '[']);
                    let found = map.iter().find_map(|(key, inner)| {
                        let key = key.as_str()?;
                        rest.strip_prefix(key).filter(|behind| ends(behind)).map(|behind| (key, inner, behind))
                    });
                    let Some((key, inner, behind)) = found else { break };
                    (Step::Key(key.to_owned()), inner, behind)
                }
                Value::Sequence(items) => {
                    let Some((index, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) else { break };
                    let Some((index, inner)) = index.parse().ok().and_then(|index: usize| Some((index, items.get(index)?))) else { break };
                    (Step::Index(index), inner, behind)
                }
                _ => break,
            };
            steps.push(step);
            (value, rest) = (inner, behind.strip_prefix('.').unwrap_or(behind));
        }
        if !rest.is_empty() && !steps.is_empty() {
            steps.push(Step::Key(rest.to_owned()));
        }
        (!steps.is_empty()).then_some(steps)
    }

    fn written(&self, meant: &[Step]) -> Vec<Step> {
        let alias = self.aliases.iter().filter(|alias| meant.starts_with(&alias.meant)).max_by_key(|alias| alias.meant.len());
        alias.map_or_else(|| meant.to_vec(), |alias| [&alias.written, &meant[alias.meant.len()..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stands_where_the_setting_that_it_names_does() {
        let text = "name: p\nsource:\n  kafka:\n    bootstrap.servers: b\nsnik:\n  url: /data\ntopics: [a, b]\n";
        let mut tree: Value = serde_yaml_ng::from_str(text).expect("YAML");
        let map = tree.as_mapping_mut().expect("a section");
        let sink = map.remove("snik").expect("it is there");
        map.insert("sink".into(), sink);
        let key = |key: &str| vec![Step::Key(key.to_owned())];
        let lines = Lines::new(Some(text.to_owned()), tree, vec![Place { written: key("snik"), meant: key("sink") }]);
        for (message, line) in [
            ("`source.kafka.bootstrap.servers` is empty", Some(4)),
            ("`source.kafka.sasl.mechanism` is missing", Some(3)),
            ("`sink.url` is `/data`, which has no scheme", Some(6)),
            ("`topics[1]` is odd", Some(7)),
            ("the paths of `x` and `name: other` are one", Some(1)),
            ("nothing is `named`", None),
        ] {
            assert_eq!(lines.mistake(&Error::config(message)).line, line, "{message}");
        }
    }

    #[test]
    fn one_mistake_is_one_line_and_several_are_a_list_in_the_order_of_their_lines() {
        let mistake = |line, what: &str, hint: Option<&str>| Mistake { line, what: what.to_owned(), hint: hint.map(str::to_owned) };
        let one = told(vec![mistake(Some(3), "`a` is odd", Some("make it even"))]);
        assert_eq!((one.to_string().as_str(), one.way_out()), ("`a` is odd (line 3)", Some("make it even")));
        let several = told(vec![mistake(None, "`c` is missing", None), mistake(Some(9), "`b` is odd", None), mistake(Some(3), "`a`", Some("out"))]);
        assert_eq!(several.to_string(), "3 mistakes\n  line 3: `a`\n      hint: out\n  line 9: `b` is odd\n  `c` is missing");
    }
}
