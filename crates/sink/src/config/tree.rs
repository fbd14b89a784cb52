//! Checks what the user wrote against the schema of its settings, mostly [`Settings`](super::Settings), before anything is built from it: so an error
//! names the whole path of the setting, its line, and what was probably meant.

use crate::{
    error::{Error, Kind},
    properties::is_secret,
    registry::DEFAULT_TYPE,
    suggest::{listed, nearest},
    units::{Bytes, Period},
};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use serde_yaml_ng::{Mapping, Number, Value};
use std::fmt;

/// One step towards a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A path as people write it: `source.topics[1]`.
pub(super) fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) path: Vec<Step>,
    /// Follows the path in backticks.
    what: String,
    hint: String,
}

impl Fault {
    fn new(path: &[Step], what: impl Into<String>, hint: impl Into<String>) -> Self {
        Fault { path: path.to_vec(), what: what.into(), hint: hint.into() }
    }

    /// The same with a hint, unless it has one.
    fn or_hint(mut self, hint: impl FnOnce() -> String) -> Self {
        if self.hint.is_empty() {
            self.hint = hint();
        }
        self
    }

    /// As an error; `text` is the YAML that the line is looked up in.
    pub(super) fn into_error(self, text: Option<&str>) -> Error {
        let line = text.and_then(|text| line_of(text, &self.path)).map_or(String::new(), |line| format!(" (line {line})"));
        let subject = if self.path.is_empty() { "the configuration".to_owned() } else { format!("`{}`", shown(&self.path)) };
        let error = Error::new(Kind::Config, format!("{subject} {}{line}", self.what));
        if self.hint.is_empty() { error } else { error.hint(self.hint) }
    }
}

/// The schema of the settings.
pub(super) struct Schema {
    root: Json,
}

impl Schema {
    /// Of a pipeline's settings.
    pub(super) fn new() -> Self {
        Schema::of::<super::Settings>()
    }

    /// Of any settings.
    pub(super) fn of<T: schemars::JsonSchema>() -> Self {
        Schema { root: schemars::schema_for!(T).to_value() }
    }

    /// The texts under `value` that the schema calls secrets, or that are librdkafka's.
    pub(super) fn secrets(&self, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.collect(value, Some(self.root()), &mut found);
        found
    }

    pub(super) fn root(&self) -> &Json {
        &self.root
    }

    /// Follows references and leaves the possibility of null out.
    pub(super) fn resolve<'a>(&'a self, mut schema: &'a Json) -> &'a Json {
        loop {
            if let Some(name) = reference(schema) {
                schema = &self.root["$defs"][name];
            } else if let Some([one, other]) = schema["anyOf"].as_array().map(Vec::as_slice)
                && (is_null(one) || is_null(other))
            {
                schema = if is_null(one) { other } else { one };
            } else {
                return schema;
            }
        }
    }

    /// Checks `value`, and turns what `${…}` left as text into the numbers and booleans that are wanted.
    pub(super) fn check(&self, value: &mut Value) -> Result<(), Fault> {
        self.value(value, &self.root, &mut Vec::new())
    }

    /// Values of another kind than the schema's are looked through all the same: an error may be about to show them.
    fn collect(&self, value: &Value, schema: Option<&Json>, found: &mut Vec<String>) {
        let secret = schema.is_some_and(|schema| self.is_secret(schema));
        let schema = schema.map(|schema| self.resolve(schema)).map(|schema| match variants(schema) {
            // what it is may be misspelt: then what looks like any of them counts
            Some(variants) => {
                let kind = value.get("type").and_then(Value::as_str).or(schema[DEFAULT_TYPE].as_str());
                variants.iter().find(|(name, _)| Some(*name) == kind).unwrap_or(&variants[0]).1
            }
            None => schema,
        });
        match value {
            Value::Mapping(map) => {
                for (key, entry) in map {
                    let key = key.as_str().unwrap_or_default();
                    let inner = schema.and_then(|schema| schema["properties"].get(key).or_else(|| schema.get("additionalProperties")));
                    self.collect(entry, inner.filter(|inner| inner.is_object()), found);
                    if let (true, Some(text)) = (secret || is_secret(key), scalar_text(entry)) {
                        found.push(text);
                    }
                }
            }
            Value::Sequence(items) => {
                for item in items {
                    found.extend(scalar_text(item).filter(|_| secret));
                    self.collect(item, schema.map(|schema| &schema["items"]), found);
                }
            }
            scalar => found.extend(scalar_text(scalar).filter(|_| secret)),
        }
    }

    fn value(&self, value: &mut Value, schema: &Json, path: &mut Vec<Step>) -> Result<(), Fault> {
        let secret = self.is_secret(schema);
        let schema = self.resolve(schema);
        if let Some(variants) = variants(schema) {
            return self.variant(value, &variants, schema[DEFAULT_TYPE].as_str(), path);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let choice = choices.iter().find(|choice| fits(value, choice)).unwrap_or(&choices[0]);
            let sections: Vec<&str> = choices.iter().flat_map(names).collect();
            return self.value(value, choice, path).map_err(|fault| fault.or_hint(|| format!("or a section with one of {}", listed(&sections))));
        }
        if !schema.is_object() || types(schema).is_empty() && words(schema).is_none() {
            // Anything goes; whoever reads it looks closer.
            return Ok(());
        }
        if let Some(words) = words(schema) {
            return word(value, &words, path);
        }
        if schema["type"] == "object" {
            return self.object(value, schema, path);
        }
        if schema["type"] == "array" {
            let Value::Sequence(items) = value else {
                return Err(Fault::new(path, format!("wants a list, found {}", found(value)), "write a list, as `[orders, payments]`"));
            };
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Step::Index(index));
                self.value(item, &schema["items"], path)?;
                path.pop();
            }
            return Ok(());
        }
        scalar(value, schema, path, secret)
    }

    /// A section whose `type` says what else it holds.
    fn variant(&self, value: &mut Value, variants: &[(&str, &Json)], default: Option<&str>, path: &mut Vec<Step>) -> Result<(), Fault> {
        let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
        let of = |kind: &str| variants.iter().find(|(name, _)| *name == kind).map(|(_, schema)| *schema);
        let Value::Mapping(section) = &mut *value else {
            if let Some(schema) = default.and_then(of) {
                return self.object(value, schema, path);
            }
            return Err(Fault::new(path, format!("wants a section of settings, found {}", found(value)), format!("write `{{type: {}}}`", names[0])));
        };
        path.push(Step::Key("type".to_owned()));
        match section.get_mut("type") {
            None if default.is_some() => {}
            None => return Err(Fault::new(path, "is missing", format!("there are {}", listed(&names)))),
            Some(kind) => word(kind, &names, path).map_err(|fault| fault.or_hint(|| format!("write one of them, as `{}`", names[0])))?,
        }
        path.pop();
        let kind = section.get("type").and_then(Value::as_str).or(default).unwrap_or_default().to_owned();
        of(&kind).map_or(Ok(()), |schema| self.object(value, schema, path))
    }

    fn object(&self, value: &mut Value, schema: &Json, path: &mut Vec<Step>) -> Result<(), Fault> {
        let Value::Mapping(map) = value else {
            let keys = names(schema);
            let hint = if keys.is_empty() { String::new() } else { format!("it holds {}", listed(&keys)) };
            return Err(Fault::new(path, format!("wants a section of settings, found {}", found(value)), hint));
        };
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let mut checked = Mapping::new();
        for (key, mut entry) in std::mem::take(map) {
            let key = key_text(key, path)?;
            path.push(Step::Key(key.clone()));
            let known = schema["properties"].get(&key);
            let Some(inner) = known.or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object())) else {
                return Err(self.unknown(schema, &key, path));
            };
            let wanted = known.is_none() || required.contains(&key.as_str());
            if entry.is_null() && wanted {
                return Err(Fault::new(path, "has no value", "write one, or leave the key out"));
            }
            // A key with nothing behind it, as when all below is commented out, is as good as none.
            if !entry.is_null() {
                self.value(&mut entry, inner, path)?;
                checked.insert(Value::String(key), entry);
            }
            path.pop();
        }
        if let Some(missing) = required.iter().find(|key| !checked.contains_key(**key)) {
            path.push(Step::Key((*missing).to_owned()));
            let hint = meaning(&schema["properties"][*missing]);
            let fault = Fault { path: path.clone(), what: "is missing".to_owned(), hint };
            return Err(fault);
        }
        let bounds = ("minProperties", "maxProperties");
        let count = checked.len() as u64;
        if schema[bounds.0].as_u64().is_some_and(|least| count < least) || schema[bounds.1].as_u64().is_some_and(|most| count > most) {
            return Err(Fault::new(path, format!("wants exactly one of {}", listed(&names(schema))), ""));
        }
        *map = checked;
        Ok(())
    }

    fn unknown(&self, schema: &Json, key: &str, path: &[Step]) -> Fault {
        let siblings = names(schema);
        let parent = shown(&path[..path.len() - 1]);
        let full = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        let hint = if let Some(near) = nearest(key, &siblings) {
            format!("did you mean `{}`?", full(near))
        } else if let Some(elsewhere) = self.elsewhere(key) {
            format!("there is `{elsewhere}`")
        } else {
            format!("{} holds {}", if parent.is_empty() { "the configuration".to_owned() } else { format!("`{parent}`") }, listed(&siblings))
        };
        Fault::new(path, "is not a setting", hint)
    }

    /// Where a setting of that name is known.
    fn elsewhere(&self, key: &str) -> Option<String> {
        let mut open = vec![(String::new(), &self.root)];
        let mut found = Vec::new();
        while let Some((parent, schema)) = open.pop() {
            let schema = self.resolve(schema);
            let sections = variants(schema).map_or_else(|| vec![schema], |variants| variants.into_iter().map(|(_, section)| section).collect());
            for (name, inner) in sections.into_iter().filter_map(|section| section["properties"].as_object()).flatten() {
                let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
                if name == key {
                    found.push(path.clone());
                }
                open.push((path, inner));
            }
        }
        found.into_iter().min()
    }

    fn is_secret(&self, schema: &Json) -> bool {
        let alternatives = schema["anyOf"].as_array().into_iter().flatten();
        reference(schema).into_iter().chain(alternatives.filter_map(reference)).any(|name| name == "Secret")
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn reference(schema: &Json) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn is_null(schema: &Json) -> bool {
    schema["type"] == "null"
}

/// The types of a schema without null.
pub(super) fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::String(one) => vec![one.as_str()],
        Json::Array(several) => several.iter().filter_map(Json::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    }
}

/// The words of a choice.
pub(super) fn words(schema: &Json) -> Option<Vec<&str>> {
    if let Some(words) = schema["enum"].as_array() {
        return Some(words.iter().filter_map(Json::as_str).collect());
    }
    let choices = schema["oneOf"].as_array()?;
    let words: Vec<&str> = choices.iter().filter_map(|choice| choice["const"].as_str()).collect();
    (words.len() == choices.len()).then_some(words)
}

/// Sections that `type` tells apart: the names, and what each holds.
pub(super) fn variants(schema: &Json) -> Option<Vec<(&str, &Json)>> {
    let choices = schema["oneOf"].as_array().filter(|choices| !choices.is_empty())?;
    choices.iter().map(|choice| Some((choice["properties"]["type"]["const"].as_str()?, choice))).collect()
}

fn fits(value: &Value, schema: &Json) -> bool {
    types(schema).iter().any(|name| match *name {
        "object" => value.is_mapping(),
        "array" => value.is_sequence(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_bool(),
        _ => false,
    })
}

fn word(value: &mut Value, words: &[&str], path: &[Step]) -> Result<(), Fault> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => return Err(Fault::new(path, format!("wants one of {}, found {}", listed(words), found(other)), "")),
    };
    if words.contains(&text.as_str()) {
        return Ok(());
    }
    let hint = nearest(&text, words).map_or(String::new(), |near| format!("did you mean `{near}`?"));
    Err(Fault::new(path, format!("is `{text}`, which is none of {}", listed(words)), hint))
}

fn scalar(value: &mut Value, schema: &Json, path: &[Step], secret: bool) -> Result<(), Fault> {
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
        return Err(Fault::new(path, format!("wants {what}, found {shown}"), hint));
    }
    if let Some(number) = value.as_i64().or_else(|| value.as_u64().map(|number| number.try_into().unwrap_or(i64::MAX))) {
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) || (number < 0 && matches!(format, "size" | "block")) {
            let bounds = most.map_or(String::new(), |most| format!(" and at most {most}"));
            return Err(Fault::new(path, format!("is `{number}`; it must be at least {}{bounds}", least.unwrap_or(0)), ""));
        }
    }
    formatted(value, format).map_err(|what| Fault::new(path, what, ""))
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

fn key_text(key: Value, path: &[Step]) -> Result<String, Fault> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(boolean) => Ok(boolean.to_string()),
        other => Err(Fault::new(path, format!("has a key that is {}", found(&other)), "keys are texts")),
    }
}

/// What a value is, for messages.
fn found(value: &Value) -> String {
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

fn names(schema: &Json) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The first sentence of a setting's manual text.
fn meaning(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.trim_end_matches('.').len());
    text[..end].to_owned()
}

/// The line of a setting, from 1: the parser is sent through the text again, up to there, and told to fail.
fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let mut path = path;
    loop {
        let stopped = Stop { path }.deserialize(serde_yaml_ng::Deserializer::from_str(text)).err();
        match stopped {
            Some(error) if error.to_string().contains(STOPPED) => return error.location().map(|location| location.line()),
            _ if path.is_empty() => return None,
            // A missing key has no line; its section has.
            _ => path = &path[..path.len() - 1],
        }
    }
}

const STOPPED: &str = "stopped here";

struct Stop<'a> {
    path: &'a [Step],
}

impl<'de> DeserializeSeed<'de> for Stop<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Stop<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STOPPED)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let [Step::Key(wanted), rest @ ..] = self.path else { return Ok(()) };
        loop {
            let here = StopAtKey { wanted, last: rest.is_empty() };
            match map.next_key_seed(here)? {
                None => return Ok(()),
                Some(true) => return map.next_value_seed(Stop { path: rest }),
                Some(false) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [Step::Index(wanted), rest @ ..] = self.path else { return Ok(()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        if rest.is_empty() {
            list.next_element_seed(StopAtValue)?;
        } else {
            list.next_element_seed(Stop { path: rest })?;
        }
        Ok(())
    }
}

/// Whether a key is the wanted one; when that is the last of the path, the parser stops at it.
struct StopAtKey<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for StopAtKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for StopAtKey<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.last {
            return Err(E::custom(STOPPED));
        }
        Ok(key == self.wanted)
    }
}

struct StopAtValue;

impl<'de> DeserializeSeed<'de> for StopAtValue {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for StopAtValue {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STOPPED)
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom(STOPPED))
    }
}
