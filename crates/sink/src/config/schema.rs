//! The schema of settings, mostly of [`Settings`](super::Settings), made from their types: what it calls a section, a choice, a
//! secret.

use crate::{properties::is_secret, registry::DEFAULT_TYPE};
use serde_json::Value as Json;
use serde_yaml_ng::Value;

/// Keys at the top of a file that begin so hold what anchors name, and mean nothing by themselves.
pub(super) const OWN_KEYS: &str = "x-";

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
        let mut root = schemars::schema_for!(T).to_value();
        if let Some(root) = root.as_object_mut() {
            root.insert("patternProperties".to_owned(), serde_json::json!({ format!("^{OWN_KEYS}"): true }));
        }
        Schema { root }
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

    /// Whether values of it are hidden.
    pub(super) fn is_secret(&self, schema: &Json) -> bool {
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

/// The keys of a section.
pub(super) fn names(schema: &Json) -> Vec<&str> {
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// The keys that a section must have.
pub(super) fn required(schema: &Json) -> Vec<&str> {
    schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect()
}

/// The first sentence of a setting's manual text.
pub(super) fn meaning(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.trim_end_matches('.').len());
    text[..end].to_owned()
}
