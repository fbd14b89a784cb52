//! Which topics are meant: names, and expressions that match whole names.

use crate::error::{Error, Result};

/// One entry of `source.topics`, or a key of `topics`.
#[derive(Clone, Debug)]
pub enum TopicPattern {
    /// A literal name.
    Name(String),
    /// A regular expression, written with a leading `^` and compiled with both anchors: it matches whole names.
    Expression(regex::Regex),
}

impl TopicPattern {
    /// Reads a topic's name, or an expression that begins with `^`; `key` is where it stands.
    ///
    /// # Errors
    /// `Config`, naming the key and the way out.
    pub fn parse(key: &str, text: &str) -> Result<Self> {
        pattern(key, text)
    }

    /// The pattern as it is written.
    pub fn written(&self) -> String {
        match self {
            TopicPattern::Name(name) => name.clone(),
            TopicPattern::Expression(expression) => {
                let text = expression.as_str();
                format!("^{}", text.strip_prefix("^(").and_then(|text| text.strip_suffix(")$")).unwrap_or(text))
            }
        }
    }

    /// Whether `topic` is meant.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            TopicPattern::Name(name) => name == topic,
            TopicPattern::Expression(expression) => expression.is_match(topic),
        }
    }
}

/// A topic's name, or an expression that begins with `^`.
fn pattern(key: &str, text: &str) -> Result<TopicPattern> {
    if let Some(expression) = text.strip_prefix('^') {
        // The whole name must match, whichever alternative comes first. A plain group, because librdkafka's engine knows no other.
        return match regex::Regex::new(&format!("^({expression})$")) {
            Ok(compiled) => Ok(TopicPattern::Expression(compiled)),
            Err(_) => {
                // Compiled again as written, so that the message shows what the user wrote.
                let reason = regex::Regex::new(text).err().map_or_else(|| "unbalanced".to_owned(), |error| last_line(&error.to_string()));
                Err(Error::config(format!("`{key}` holds `{text}`, which is no regular expression: {reason}"))
                    .hint("the syntax is that of Rust's `regex`; a `.` that is meant as such is written `\\\\.`, and a bracket `\\\\(`"))
            }
        };
    }
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if text.is_empty() || text.len() > 249 || text == "." || text == ".." || !text.chars().all(legal) {
        let error = Error::config(format!("`{key}` holds `{text}`, which is no topic's name"));
        return Err(if text.contains(['*', '[', '(', '|', '+', '\\']) {
            error.hint(format!("begin a regular expression with `^`, as `\"^{}\"`", text.replace('*', ".*").replace("..*", ".*")))
        } else {
            error.hint("names are up to 249 letters, digits, `.`, `_` and `-`")
        });
    }
    Ok(TopicPattern::Name(text.to_owned()))
}

fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
