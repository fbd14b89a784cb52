//! `${NAME}` and `${NAME:-default}` in a configuration file.
//!
//! A value never becomes YAML: before the text is parsed each `${…}` gives way to a mark that means nothing to YAML, and only
//! in parsed texts do marks give way to values. So a password with `#`, `: ` or quotes in it changes nothing but itself, and
//! what a comment mentions need not be set.

use super::mistakes::Mistake;
use crate::error::{Error, Kind, Result};
use std::fmt::Write;

/// Private-use characters that frame a mark's number.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// The `${…}` of a text.
pub(super) struct Marks(Vec<Mark>);

struct Mark {
    /// As written, for messages.
    written: String,
    line: usize,
    meaning: Meaning,
}

enum Meaning {
    Variable {
        name: String,
        default: Option<String>,
    },
    /// `$${…}`: the text itself.
    Text(String),
    /// What is wrong with it.
    Wrong(&'static str),
}

/// A text whose marks were replaced.
pub(super) struct Replaced {
    pub(super) text: String,
    /// Values that came from the environment.
    pub(super) from_environment: Vec<String>,
    /// Why it is not whole.
    pub(super) mistakes: Vec<Mistake>,
}

impl Marks {
    /// Replaces every `${…}` of `text` by a mark.
    pub(super) fn place(text: &str) -> Result<(String, Marks)> {
        if let Some(at) = text.find([OPEN, CLOSE]) {
            let line = text[..at].lines().count().max(1);
            return Err(Error::new(Kind::Config, format!("line {line} holds a private-use character, which no setting may hold")));
        }
        let mut marks = Vec::new();
        let mut marked = String::with_capacity(text.len());
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let mut rest = line;
            while let Some(at) = rest.find("${") {
                let escaped = rest[..at].ends_with('$');
                marked.push_str(&rest[..at - usize::from(escaped)]);
                let inside = &rest[at + 2..];
                let end = inside.find('}');
                let written = end.map_or("${", |end| &rest[at..at + end + 3]);
                let _ = write!(marked, "{OPEN}{}{CLOSE}", marks.len());
                let meaning = match end {
                    _ if escaped => Meaning::Text(written.to_owned()),
                    Some(end) => variable(&inside[..end]),
                    None => Meaning::Wrong("it is not closed on this line"),
                };
                marks.push(Mark { written: written.to_owned(), line: number + 1, meaning });
                rest = &rest[at + written.len()..];
            }
            marked.push_str(rest);
        }
        Ok((marked, Marks(marks)))
    }

    /// `text` with its marks replaced by their values; `None` when it has none.
    pub(super) fn replace(&self, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<Replaced> {
        if !text.contains(OPEN) {
            return None;
        }
        let mut replaced = Replaced { text: String::new(), from_environment: Vec::new(), mistakes: Vec::new() };
        for piece in pieces(text) {
            match piece {
                Ok(plain) => replaced.text.push_str(plain),
                Err(number) => {
                    if let Some(mark) = self.0.get(number) {
                        mark.append(&mut replaced, env);
                    }
                }
            }
        }
        Some(replaced)
    }

    /// `text` as it was written, for messages.
    pub(super) fn as_written(&self, text: &str) -> String {
        pieces(text).map(|piece| piece.unwrap_or_else(|number| self.0.get(number).map_or("", |mark| &mark.written))).collect()
    }
}

/// Plain pieces of a text, and the numbers of the marks between them.
fn pieces(text: &str) -> impl Iterator<Item = Result<&str, usize>> {
    text.split(OPEN)
        .enumerate()
        .flat_map(|(index, piece)| match (index, piece.split_once(CLOSE)) {
            (0, _) | (_, None) => [Some(Ok(piece)), None],
            (_, Some((number, plain))) => [Some(Err(number.parse().unwrap_or(usize::MAX))), Some(Ok(plain))],
        })
        .flatten()
}

fn variable(inside: &str) -> Meaning {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default.to_owned())),
        None => (inside, None),
    };
    let first = |first: char| first == '_' || first.is_ascii_alphabetic();
    if !name.starts_with(first) || !name.chars().all(|character| character == '_' || character.is_ascii_alphanumeric()) {
        return Meaning::Wrong("a variable's name is letters, digits and `_`");
    }
    Meaning::Variable { name: name.to_owned(), default }
}

impl Mark {
    fn append(&self, replaced: &mut Replaced, env: &dyn Fn(&str) -> Option<String>) {
        let mistake = |what: String, hint: String| Mistake { line: Some(self.line), what, hint: Some(hint) };
        match &self.meaning {
            Meaning::Text(text) => replaced.text.push_str(text),
            Meaning::Wrong(why) => {
                let hint = "write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself".to_owned();
                replaced.mistakes.push(mistake(format!("`{}`: {why}", self.written), hint));
            }
            Meaning::Variable { name, default } => match (env(name), default) {
                // As in a shell, `:-` also counts for a variable that is set to nothing.
                (Some(value), Some(default)) if value.is_empty() => replaced.text.push_str(default),
                (None, Some(default)) => replaced.text.push_str(default),
                (Some(value), _) => {
                    replaced.text.push_str(&value);
                    replaced.from_environment.push(value);
                }
                (None, None) => {
                    let hint = format!("set it, or write `${{{name}:-default}}`");
                    replaced.mistakes.push(mistake(format!("the environment variable `{name}` is not set"), hint));
                }
            },
        }
    }
}
