//! Where in the settings a key of some name may stand: for keys that stand in the wrong section.

use super::{
    scalars::fits,
    schema::{Schema, names, required, types, variants},
};
use serde_json::Value as Json;
use serde_yaml_ng::Value;

/// A section in which a key may stand.
pub(super) struct Home<'a> {
    /// The keys that lead to the section, from the top of the file; `transforms[]` and `topics.<topic>` stand for any of many.
    section: Vec<String>,
    /// Whether the section is one, and not one of many.
    one: bool,
    required: bool,
    /// The schema of the key's value.
    pub(super) schema: &'a Json,
}

impl Home<'_> {
    /// The keys that lead to the section; `None` when there may be many of it.
    pub(super) fn path(&self) -> Option<&[String]> {
        self.one.then_some(self.section.as_slice())
    }

    fn shown(&self) -> String {
        if self.section.is_empty() { "at the top of the file".to_owned() } else { format!("below `{}`", self.section.join(".")) }
    }
}

/// Every section in which `key` with such a value may stand, the nearest to the top first.
pub(super) fn homes<'a>(schema: &'a Schema, key: &str, value: &Value) -> Vec<Home<'a>> {
    let mut open = vec![(Vec::new(), true, schema.root())];
    let mut found: Vec<Home<'a>> = Vec::new();
    while let Some((path, one, at)) = open.pop() {
        let at = schema.resolve(at);
        let sections = variants(at).map_or_else(|| vec![at], |variants| variants.into_iter().map(|(_, section)| section).collect());
        for section in sections {
            for (name, inner) in section["properties"].as_object().into_iter().flatten() {
                if name == key {
                    found.push(Home { section: path.clone(), one, required: required(section).contains(&key), schema: inner });
                }
                open.push((with(&path, name), one, inner));
            }
            if section["items"].is_object() {
                open.push((behind(&path, "[]"), false, &section["items"]));
            }
            let entries = &section["additionalProperties"];
            if !names(schema.resolve(entries)).is_empty() {
                open.push((with(&path, "<topic>"), false, entries));
            } else if types(entries).len() > 1 && key.contains('.') {
                // librdkafka's properties, the one map whose values are of several kinds
                found.push(Home { section: path, one, required: false, schema: entries });
                break;
            }
        }
    }
    found.retain(|home| may_be(value, schema.resolve(home.schema)));
    found.sort_by(|one, other| (one.section.len(), &one.section).cmp(&(other.section.len(), &other.section)));
    found
}

fn with(path: &[String], name: &str) -> Vec<String> {
    [path, &[name.to_owned()]].concat()
}

fn behind(path: &[String], mark: &str) -> Vec<String> {
    let mut path = path.to_vec();
    if let Some(last) = path.last_mut() {
        last.push_str(mark);
    }
    path
}

/// Whether it is of a kind that the schema takes, or a scalar where one is wanted: what exactly it says is another question.
fn may_be(value: &Value, schema: &Json) -> bool {
    let types = types(schema);
    if types.is_empty() {
        return variants(schema).is_none() || value.is_mapping();
    }
    let scalar = !value.is_mapping() && !value.is_sequence();
    fits(value, schema) || scalar && types.iter().any(|name| !matches!(*name, "object" | "array"))
}

/// The one section that is meant, if one is: the only one, or the only one that cannot do without the key.
pub(super) fn meant<'h, 'a>(homes: &'h [Home<'a>]) -> Option<&'h Home<'a>> {
    let only = |wanted: &dyn Fn(&Home<'a>) -> bool| {
        let mut fitting = homes.iter().filter(|home| home.one && wanted(home));
        fitting.next().filter(|_| fitting.next().is_none())
    };
    only(&|_| true).or_else(|| only(&|home| home.required))
}

/// Where a key belongs, in words.
pub(super) fn told(key: &str, homes: &[Home<'_>]) -> String {
    let places: Vec<String> = match meant(homes) {
        Some(home) => vec![home.shown()],
        None => homes.iter().take(HOMES_MAX).map(Home::shown).collect(),
    };
    format!("`{key}` belongs {}", places.join(", or "))
}

/// Sections that a message names at most.
const HOMES_MAX: usize = 4;
