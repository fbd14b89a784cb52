//! Checks what the user wrote against the schema of its settings before anything is built from it: so a message names the whole
//! path of a setting, its line, and what was probably meant.
//!
//! One look finds every mistake. What a mistake leaves unsaid is mended in the tree where it can be: a misspelt key stands under
//! the name that is meant, a misplaced one in its section, and a value that cannot be is left out. So the rest can be checked as
//! well, and no mistake is told twice.

use super::{
    homes::{Home, homes, meant, told},
    mistakes::{LISTED_MAX, Lines, Mistake},
    place::{Place, Step, shown},
    scalars::{Complaint, fits, found as kind_of, scalar, word},
    schema::{OWN_KEYS, Schema, meaning, names, required, types, variants, words},
};
use crate::{
    registry::DEFAULT_TYPE,
    suggest::{listed, nearest},
};
use serde_json::Value as Json;
use serde_yaml_ng::{
    Mapping, Value,
    value::{Tag, TaggedValue},
};

/// The tag of a value that is not known, because a variable in it is not set; nobody can write it.
const UNKNOWN: &str = "\u{e000}";

/// What stands for a value that is not known: nothing is said about it.
pub(super) fn unknown_value() -> Value {
    Value::Tagged(Box::new(TaggedValue { tag: Tag::new(UNKNOWN), value: Value::Null }))
}

pub(super) fn is_unknown(value: &Value) -> bool {
    matches!(value, Value::Tagged(tagged) if tagged.tag == UNKNOWN)
}

/// What is wrong, and where.
struct Fault {
    place: Place,
    /// Follows the path in backticks.
    what: String,
    hint: String,
    /// The setting is not there.
    missing: bool,
}

/// A setting that stands in the wrong section.
struct Moved<'a> {
    place: Place,
    value: Value,
    schema: &'a Json,
}

/// What a check found, and what it made of the tree.
#[derive(Default)]
pub(super) struct Found<'a> {
    faults: Vec<Fault>,
    /// Settings whose values the tree no longer has.
    pub(super) dropped: Vec<String>,
    /// Settings that stand elsewhere, or under another name, than they are meant.
    pub(super) aliases: Vec<Place>,
    moved: Vec<Moved<'a>>,
}

impl Found<'_> {
    /// All that is wrong, as people read it.
    pub(super) fn mistakes(self, lines: &Lines) -> Vec<Mistake> {
        let told = |(number, Fault { place, what, hint, .. }): (usize, Fault)| {
            let subject = if place.written.is_empty() { "the configuration".to_owned() } else { format!("`{}`", shown(&place.written)) };
            // looking a line up reads the file once more; beyond what is listed nobody sees it
            let line = (number < LISTED_MAX).then(|| lines.of(&place.written)).flatten();
            Mistake { line, what: format!("{subject} {what}"), hint: (!hint.is_empty()).then_some(hint) }
        };
        self.faults.into_iter().enumerate().map(told).collect()
    }

    fn fault(&mut self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.faults.push(Fault { place: place.clone(), what: what.into(), hint: hint.into(), missing: false });
    }

    /// The setting `key` of the section at `place` is not there.
    fn missing(&mut self, place: &mut Place, key: &str, hint: String) {
        place.enter(Step::Key(key.to_owned()));
        self.faults.push(Fault { place: place.clone(), what: "is missing".to_owned(), hint, missing: true });
        place.leave();
    }

    /// Leaves a value out.
    fn drop_value(&mut self, value: &mut Value, place: &Place) {
        *value = Value::Null;
        self.dropped.push(shown(&place.meant));
    }

    /// Says what is wrong with a value, and leaves it out.
    fn wrong(&mut self, value: &mut Value, place: &Place, (what, hint): Complaint) {
        self.fault(place, what, hint);
        self.drop_value(value, place);
    }
}

impl Schema {
    /// Checks `value`, turns what `${…}` left as text into the numbers and booleans that are wanted, and mends what it can.
    pub(super) fn check<'a>(&'a self, value: &mut Value) -> Found<'a> {
        let mut found = Found::default();
        self.value(value, self.root(), &mut Place::default(), &mut found);
        while let Some(moved) = found.moved.pop() {
            self.move_in(value, moved, &mut found);
        }
        found
    }

    fn value<'a>(&'a self, value: &mut Value, schema: &'a Json, place: &mut Place, found: &mut Found<'a>) {
        if is_unknown(value) {
            return found.drop_value(value, place);
        }
        let secret = self.is_secret(schema);
        let schema = self.resolve(schema);
        if let Some(variants) = variants(schema) {
            return self.variant(value, &variants, schema[DEFAULT_TYPE].as_str(), place, found);
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let choice = choices.iter().find(|choice| fits(value, choice)).unwrap_or(&choices[0]);
            let sections: Vec<&str> = choices.iter().flat_map(names).collect();
            let before = found.faults.len();
            self.value(value, choice, place, found);
            for fault in found.faults[before..].iter_mut().filter(|fault| fault.hint.is_empty()) {
                fault.hint = format!("or a section with one of {}", listed(&sections));
            }
            return;
        }
        if !schema.is_object() || types(schema).is_empty() && words(schema).is_none() {
            // Anything goes; whoever reads it looks closer.
            return;
        }
        if schema["type"] == "object" {
            return self.object(value, schema, place, found);
        }
        if schema["type"] == "array" {
            return self.list(value, schema, place, found);
        }
        let checked = match words(schema) {
            Some(words) => word(value, &words),
            None => scalar(value, schema, secret),
        };
        if let Err(complaint) = checked {
            found.wrong(value, place, complaint);
        }
    }

    fn list<'a>(&'a self, value: &mut Value, schema: &'a Json, place: &mut Place, found: &mut Found<'a>) {
        let Value::Sequence(items) = value else {
            let complaint = (format!("wants a list, found {}", kind_of(value)), "write a list, as `[orders, payments]`".to_owned());
            return found.wrong(value, place, complaint);
        };
        for (index, item) in items.iter_mut().enumerate() {
            place.enter(Step::Index(index));
            self.value(item, &schema["items"], place, found);
            place.leave();
        }
        // without one of its items it would say something else
        if items.iter().any(Value::is_null) {
            found.drop_value(value, place);
        }
    }

    /// A section whose `type` says what else it holds.
    fn variant<'a>(&'a self, value: &mut Value, variants: &[(&str, &'a Json)], default: Option<&str>, place: &mut Place, found: &mut Found<'a>) {
        let names: Vec<&str> = variants.iter().map(|(name, _)| *name).collect();
        let of = |kind: &str| variants.iter().find(|(name, _)| *name == kind).map(|(_, schema)| *schema);
        let Value::Mapping(section) = &mut *value else {
            if let Some(schema) = default.and_then(of) {
                return self.object(value, schema, place, found);
            }
            let what = format!("wants a section of settings, found {}", kind_of(value));
            return found.wrong(value, place, (what, format!("write `{{type: {}}}`", names[0])));
        };
        match section.get("type") {
            None if default.is_some() => {}
            None => {
                found.missing(place, "type", format!("there are {}", listed(&names)));
                return found.drop_value(value, place);
            }
            Some(kind) if is_unknown(kind) => return found.drop_value(value, place),
            Some(kind) => {
                if let Err((what, hint)) = word(kind, &names) {
                    let hint = if hint.is_empty() { format!("write one of them, as `{}`", names[0]) } else { hint };
                    place.enter(Step::Key("type".to_owned()));
                    found.fault(place, what, hint);
                    place.leave();
                    return found.drop_value(value, place);
                }
            }
        }
        let kind = section.get("type").and_then(Value::as_str).or(default).unwrap_or_default().to_owned();
        if let Some(schema) = of(&kind) {
            self.object(value, schema, place, found);
        }
    }

    fn object<'a>(&'a self, value: &mut Value, schema: &'a Json, place: &mut Place, found: &mut Found<'a>) {
        let Value::Mapping(map) = value else { return self.no_section(value, schema, place, found) };
        let required = required(schema);
        let map_written = std::mem::take(map);
        let count = map_written.values().filter(|entry| !entry.is_null()).count() as u64;
        let mut there: Vec<String> = map_written.keys().filter_map(key_text).collect();
        let mut checked = Mapping::new();
        for (key, mut entry) in map_written {
            let Some(key) = key_text(&key) else {
                found.fault(place, format!("has a key that is {}", kind_of(&key)), "keys are texts");
                continue;
            };
            let known = schema["properties"].get(&key);
            place.enter(Step::Key(key.clone()));
            match known.or_else(|| schema.get("additionalProperties").filter(|inner| inner.is_object())) {
                None => {
                    if let Some((near, entry)) = self.unknown(schema, &key, entry, &there, place, found) {
                        there.push(near.clone());
                        checked.extend((!entry.is_null()).then(|| (Value::String(near), entry)));
                    }
                }
                // A key with nothing behind it, as when all below is commented out, is as good as none.
                Some(inner) if entry.is_null() => {
                    if known.is_none() || required.contains(&key.as_str()) {
                        let hint = self.hint_of_empty(inner);
                        found.wrong(&mut entry, place, ("has no value".to_owned(), hint));
                    }
                }
                Some(inner) => {
                    self.value(&mut entry, inner, place, found);
                    if !entry.is_null() {
                        checked.insert(Value::String(key), entry);
                    }
                }
            }
            place.leave();
        }
        for missing in required.iter().filter(|key| !there.iter().any(|there| there == *key)) {
            found.missing(place, missing, meaning(&schema["properties"][*missing]));
        }
        *map = checked;
        let bounds = ("minProperties", "maxProperties");
        if schema[bounds.0].as_u64().is_some_and(|least| count < least) || schema[bounds.1].as_u64().is_some_and(|most| count > most) {
            found.wrong(value, place, (format!("wants exactly one of {}", listed(&names(schema))), String::new()));
        }
    }

    fn hint_of_empty(&self, schema: &Json) -> String {
        let schema = self.resolve(schema);
        let sections = variants(schema).map_or_else(|| vec![schema], |variants| variants.into_iter().map(|(_, section)| section).collect());
        let keys: Vec<&str> = sections.iter().flat_map(|section| names(section)).collect();
        if !keys.is_empty() {
            format!("indent below it what it holds: {}", listed(&keys))
        } else if sections.iter().any(|section| section["type"] == "object") {
            "indent below it what it holds".to_owned()
        } else {
            "write one, or leave the key out".to_owned()
        }
    }

    /// Something else where a section belongs: of another section, if it stood in there.
    fn no_section<'a>(&'a self, value: &mut Value, schema: &'a Json, place: &Place, found: &mut Found<'a>) {
        let what = format!("wants a section of settings, found {}", kind_of(value));
        let keys = names(schema);
        let elsewhere = match place.meant.last() {
            Some(Step::Key(key)) => homes(self, key, value).into_iter().filter(|home| self.resolve(home.schema) != schema).collect(),
            _ => Vec::new(),
        };
        let hint = match (place.meant.last(), elsewhere.is_empty()) {
            (Some(Step::Key(key)), false) => format!("with {} in it {}", kind_of(value), told(key, &elsewhere)),
            _ if keys.is_empty() => String::new(),
            _ => format!("it holds {}", listed(&keys)),
        };
        let moved = value.clone();
        found.wrong(value, place, (what, hint));
        self.note_moved(place, moved, &elsewhere, found);
    }

    /// A key that the section does not know: misspelt, or of another section. What it is meant as and holds, when that belongs here;
    /// null: a value that cannot be.
    fn unknown<'a>(
        &'a self,
        schema: &'a Json,
        key: &str,
        mut entry: Value,
        there: &[String],
        place: &mut Place,
        found: &mut Found<'a>,
    ) -> Option<(String, Value)> {
        let siblings = names(schema);
        let parent = shown(&place.meant[..place.meant.len() - 1]);
        let full = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") };
        if let Some(near) = nearest(key, &siblings) {
            found.fault(place, "is not a setting", format!("did you mean `{}`?", full(near)));
            if there.iter().any(|there| there == near) || entry.is_null() {
                return None;
            }
            place.meant.pop();
            place.meant.push(Step::Key(near.to_owned()));
            found.aliases.push(place.clone());
            self.value(&mut entry, &schema["properties"][near], place, found);
            return Some((near.to_owned(), entry));
        }
        let homes = homes(self, key, &entry);
        let hint = if !homes.is_empty() {
            told(key, &homes)
        } else if key.starts_with(OWN_KEYS) {
            format!("keys of your own, as `{key}` for anchors, stand at the top of the file")
        } else {
            format!("{} holds {}", if parent.is_empty() { "the configuration".to_owned() } else { format!("`{parent}`") }, listed(&siblings))
        };
        found.fault(place, "is not a setting", hint);
        self.note_moved(place, entry, &homes, found);
        None
    }

    /// Keeps what stands in the wrong section for the right one.
    fn note_moved<'a>(&'a self, place: &Place, value: Value, homes: &[Home<'a>], found: &mut Found<'a>) {
        let (Some(home), Some(key)) = (meant(homes), place.written.last()) else { return };
        let Some(section) = home.path() else { return };
        let meant = section.iter().cloned().map(Step::Key).chain([key.clone()]).collect();
        found.moved.push(Moved { place: Place { written: place.written.clone(), meant }, value, schema: home.schema });
    }

    /// Checks what stood in the wrong section, and puts it where it belongs unless something stands there.
    fn move_in<'a>(&'a self, tree: &mut Value, moved: Moved<'a>, found: &mut Found<'a>) {
        let Moved { mut place, mut value, schema } = moved;
        let Some(home) = section_of(tree, &place.meant) else { return };
        let Some(Step::Key(key)) = place.meant.last().cloned() else { return };
        if value.is_null() || home.contains_key(key.as_str()) {
            return;
        }
        found.faults.retain(|fault| !(fault.missing && fault.place.meant == place.meant));
        found.aliases.push(place.clone());
        self.value(&mut value, schema, &mut place, found);
        if let (false, Some(home)) = (value.is_null(), section_of(tree, &place.meant)) {
            home.insert(Value::String(key), value);
        }
    }
}

/// The section that the last of these steps is in; it is made when it is not there. `None`: something else is in the way.
fn section_of<'t>(tree: &'t mut Value, path: &[Step]) -> Option<&'t mut Mapping> {
    let mut map = tree.as_mapping_mut()?;
    for step in path.split_last()?.1 {
        let Step::Key(key) = step else { return None };
        map = map.entry(Value::String(key.clone())).or_insert_with(|| Value::Mapping(Mapping::new())).as_mapping_mut()?;
    }
    Some(map)
}

fn key_text(key: &Value) -> Option<String> {
    match key {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        _ => None,
    }
}
