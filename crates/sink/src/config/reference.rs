//! The reference page and the JSON Schema, made from the doc comments of [`Settings`](super::Settings). Both are files of the
//! project; a check keeps them up to date.

use super::{
    environment::ENVIRONMENT,
    schema::{Schema, types, variants, words},
};
use crate::{path::PRESETS, registry::DEFAULT_TYPE};
use serde_json::Value as Json;
use std::fmt::Write;

/// The JSON Schema of a configuration file, for editors.
pub fn schema_json() -> String {
    let mut text = serde_json::to_string_pretty(Schema::new().root()).unwrap_or_default();
    text.push('\n');
    text
}

/// The reference page of all settings, in Markdown.
pub fn reference_markdown() -> String {
    let schema = Schema::new();
    let mut page = String::from(HEAD);
    let (mut shown, mut later) = (Vec::new(), Vec::new());
    section(&mut page, &schema, "", schema.root(), &mut shown, &mut later);
    for (title, object) in later {
        if !shown.contains(&object) {
            shown.push(object);
            section(&mut page, &schema, &title, object, &mut shown, &mut Vec::new());
        }
    }
    presets(&mut page);
    environment(&mut page);
    page
}

/// The tables of any settings, in Markdown.
pub fn settings_markdown<T: schemars::JsonSchema>() -> String {
    let schema = Schema::of::<T>();
    let mut page = String::new();
    section(&mut page, &schema, "", schema.root(), &mut Vec::new(), &mut Vec::new());
    page
}

const HEAD: &str = "<!-- Generated from the doc comments of the settings; do not edit. -->

# Settings

One YAML file describes one pipeline. Unknown keys are refused. `${NAME}` and `${NAME:-default}` take values from the environment,
`$${` stands for `${` itself. Top-level keys that begin with `x-` are yours, for YAML anchors. Sizes are written as `128MiB`, durations as `5m`. A JSON Schema for editors is `docs/schema.json`.
";

/// One table of keys, then the tables of the sections in it. A String never refuses what is written to it, so results of
/// `write!` are dropped here.
fn section<'a>(page: &mut String, schema: &'a Schema, path: &str, object: &'a Json, shown: &mut Vec<&'a Json>, later: &mut Vec<(String, &'a Json)>) {
    let title = if path.is_empty() { "The file".to_owned() } else { format!("`{path}`") };
    let _ = writeln!(page, "\n## {title}\n");
    if let Some(about) = object["description"].as_str() {
        let _ = writeln!(page, "{}\n", flat(about));
    }
    page.push_str("| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n");
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut inner = Vec::new();
    for (key, property) in object["properties"].as_object().into_iter().flatten() {
        let resolved = only_variant(schema.resolve(property));
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let entries = schema.resolve(&resolved["additionalProperties"]);
        if resolved["properties"].is_object() {
            inner.push((full.clone(), resolved));
        } else if entries["properties"].is_object() {
            inner.push((format!("{full}.<topic>"), entries));
        } else if let Some(variants) = variants(resolved) {
            inner.extend(variants.into_iter().map(|(name, section)| (format!("{full} with type: {name}"), section)));
        }
        let sections = variants(schema.resolve(&resolved["items"])).unwrap_or_default();
        later.extend(sections.into_iter().map(|(name, section)| (format!("{full}[] with type: {name}"), section)));
        let default = if required.contains(&key.as_str()) { "required".to_owned() } else { default_text(property, resolved) };
        let examples = property["examples"].as_array().into_iter().flatten().map(value_text).collect::<Vec<_>>().join(", ");
        let meaning = meaning(property, resolved);
        let _ = writeln!(page, "| `{key}` | {} | {default} | {} | {} |", type_text(schema, resolved), cell(&meaning), cell(&examples));
    }
    // What was shown under one section is not shown again under another.
    for (full, object) in inner {
        if !shown.contains(&object) {
            shown.push(object);
            section(page, schema, &full, object, shown, later);
        }
    }
}

/// Where there is one kind of something and `type` need not be written, its section is the only one.
fn only_variant(resolved: &Json) -> &Json {
    match variants(resolved).as_deref() {
        Some([(_, only)]) if resolved[DEFAULT_TYPE].is_string() => only,
        _ => resolved,
    }
}

fn meaning(property: &Json, resolved: &Json) -> String {
    let mut text = flat(property["description"].as_str().or(resolved["description"].as_str()).unwrap_or_default());
    let choices =
        resolved["oneOf"].as_array().into_iter().flatten().filter_map(|choice| Some((choice["const"].as_str()?, choice["description"].as_str()?)));
    for (word, about) in choices {
        let _ = write!(text, " `{word}`: {}", flat(about));
    }
    text
}

fn type_text(schema: &Schema, resolved: &Json) -> String {
    if let Some(words) = words(resolved) {
        return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    }
    if let Some(variants) = variants(resolved) {
        return variants.iter().map(|(name, _)| format!("`{{type: {name}, …}}`")).collect::<Vec<_>>().join(" or ");
    }
    if let Some(name) = resolved["const"].as_str() {
        return format!("`{name}`");
    }
    if let Some(choices) = resolved["anyOf"].as_array() {
        return choices.iter().map(|choice| type_text(schema, choice)).collect::<Vec<_>>().join(" or ");
    }
    match (resolved["format"].as_str().unwrap_or_default(), types(resolved).first().copied().unwrap_or_default()) {
        ("size", _) => "size".to_owned(),
        ("duration", _) => "duration".to_owned(),
        ("settle", _) => "duration or `next`".to_owned(),
        ("block", _) => "size, `auto` or `file`".to_owned(),
        ("address", _) => "address or `off`".to_owned(),
        (_, "object") => match resolved["properties"].as_object() {
            Some(keys) if resolved["maxProperties"] == 1 => keys.keys().map(|key| format!("`{{{key}: …}}`")).collect::<Vec<_>>().join(" or "),
            Some(_) => "section".to_owned(),
            None => "map".to_owned(),
        },
        (_, "array") => format!("list of {}", type_text(schema, schema.resolve(&resolved["items"]))),
        (_, "string") => "text".to_owned(),
        (_, "integer") => "number".to_owned(),
        (_, "boolean") => "`true`, `false`".to_owned(),
        _ => "any".to_owned(),
    }
}

fn default_text(property: &Json, resolved: &Json) -> String {
    match &property["default"] {
        Json::Null => String::new(),
        // The table of the section says it key by key.
        Json::Object(_) if resolved["properties"].is_object() || variants(resolved).is_some() => String::new(),
        default => cell(&value_text(default)),
    }
}

fn value_text(value: &Json) -> String {
    match value {
        Json::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn presets(page: &mut String) {
    page.push_str("\n## Presets of `sink.path`\n\nA name in place of a template gives the layout of another sink, and its form of files where `format` does not say otherwise.\n\n");
    page.push_str("| name | layout of | template | format |\n| --- | --- | --- | --- |\n");
    for preset in PRESETS {
        let mut format: Vec<String> = preset.format.iter().map(|(key, value)| format!("`{key}: {value}`")).collect();
        format.extend(preset.base_extension.map(|base| format!("extension `{base}` before that of the compression")));
        let several =
            if preset.path_of_one == preset.path_of_many { String::new() } else { format!("; for several topics `{}`", preset.path_of_many) };
        let _ = writeln!(page, "| `{}` | {} | `{}`{several} | {} |", preset.name, preset.about, preset.path_of_one, format.join(", "));
    }
}

fn environment(page: &mut String) {
    page.push_str("\n## Environment\n\n`kas3 run` without a file builds the same settings from the environment, under the names of two other sinks. Names of one family only may be set;\nthe family decides about the layout (the presets `zooz` and `delta_connector`) and the defaults.\n\n");
    page.push_str("| name | family | default | meaning |\n| --- | --- | --- | --- |\n");
    for row in ENVIRONMENT {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}`", row.default) };
        let _ = writeln!(page, "| `{}` | {} | {default} | {} |", row.name, row.family.label(), row.meaning);
    }
}
