//! Single values against the schema of their setting.

use super::schema::types;
use crate::{
    suggest::{listed, nearest},
    units::{Bytes, Period},
};
use serde_json::Value as Json;
use serde_yaml_ng::{Number, Value};

/// What is wrong with a value, to follow its path in backticks, and the way out, which may be empty.
pub(super) type Complaint = (String, String);

/// Whether a value is of a type that the schema takes.
pub(super) fn fits(value: &Value, schema: &Json) -> bool {
    types(schema).iter().any(|name| match *name {
        "object" => value.is_mapping(),
        "array" => value.is_sequence(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_bool(),
        _ => false,
    })
}

/// Checks a word of a choice.
pub(super) fn word(value: &Value, words: &[&str]) -> Result<(), Complaint> {
    let text = match value {
        Value::String(text) => text.as_str(),
        other => return Err((format!("wants one of {}, found {}", listed(words), found(other)), String::new())),
    };
    if words.contains(&text) {
        return Ok(());
    }
    let hint = nearest(text, words).map_or(String::new(), |near| format!("did you mean `{near}`?"));
    Err((format!("is `{text}`, which is none of {}", listed(words)), hint))
}

/// Checks a number, a text or a truth, and turns what `${…}` left as text into what is wanted.
pub(super) fn scalar(value: &mut Value, schema: &Json, secret: bool) -> Result<(), Complaint> {
    let types = types(schema);
    if value.is_sequence() && types.contains(&"array") {
        return Ok(());
    }
    let format = schema["format"].as_str().unwrap_or_default();
    if format == "address" && matches!(value, Value::Bool(false)) {
        *value = Value::String("off".to_owned());
    }
    if let Value::String(text) = &*value
        && !types.contains(&"string")
    {
        let text = text.trim();
        if let (true, Ok(number)) = (types.contains(&"integer"), text.parse::<u64>()) {
            *value = Value::Number(Number::from(number));
        } else if let (true, Ok(boolean)) = (types.contains(&"boolean"), text.parse::<bool>()) {
            *value = Value::Bool(boolean);
        }
    }
    let shown = if secret { "something else".to_owned() } else { found(value) };
    if !fits(value, schema) {
        let (what, hint) = match (types.first().copied().unwrap_or_default(), format) {
            ("string", "duration" | "settle") => ("a duration", "write a number with its unit, as `5m`"),
            ("string", "size") => ("a size", "write a whole number with its unit, as `128MiB`"),
            ("string", "block") => ("a size, `auto` or `file`", "write a whole number with its unit, as `256KiB`, or one of these words"),
            ("string", "address") => ("an address", "write `127.0.0.1:9080`, or `off`"),
            ("string", _) => ("text", if value.is_mapping() || value.is_sequence() { "" } else { "put it in quotes" }),
            ("integer", _) => ("a whole number", ""),
            ("boolean", _) => ("`true` or `false`", ""),
            (other, _) => (other, ""),
        };
        return Err((format!("wants {what}, found {shown}"), hint.to_owned()));
    }
    if let Some(number) = value.as_i64().or_else(|| value.as_u64().map(|number| number.try_into().unwrap_or(i64::MAX))) {
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) || (number < 0 && matches!(format, "size" | "block")) {
            let bounds = most.map_or(String::new(), |most| format!(" and at most {most}"));
            return Err((format!("is `{number}`; it must be at least {}{bounds}", least.unwrap_or(0)), String::new()));
        }
    }
    formatted(value, format).map_err(|what| (what, String::new()))
}

/// Texts of a known form; the message follows the path.
fn formatted(value: &Value, format: &str) -> Result<(), String> {
    let Value::String(text) = value else { return Ok(()) };
    let wrong = |message: String| format!("cannot be: {message}");
    match format {
        "size" => text.parse::<Bytes>().map(drop).map_err(wrong),
        "settle" if text == "next" => Ok(()),
        "block" if matches!(text.as_str(), "auto" | "file") => Ok(()),
        "block" => text.parse::<Bytes>().map(drop).map_err(|message| wrong(format!("{message}, or `auto`, or `file`"))),
        "settle" => text.parse::<Period>().map(drop).map_err(|message| wrong(format!("{message}, or `next`"))),
        "duration" => text.parse::<Period>().map(drop).map_err(wrong),
        "date-time" if text.parse::<jiff::Timestamp>().is_err() => {
            Err(format!("is `{text}`, which is no RFC 3339 time; write it as `2026-01-01T00:00:00Z`"))
        }
        _ => Ok(()),
    }
}

/// What a value is, for messages.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(boolean) => format!("`{boolean}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) => {
            let short: String = text.chars().take(60).collect();
            format!("the text `{short}{}`", if short.len() < text.len() { "…" } else { "" })
        }
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a section".to_owned(),
        Value::Tagged(tagged) => format!("the tag `{}`", tagged.tag),
    }
}
