//! From a text to [`Settings`].

use super::{
    Redactor, Settings,
    check::{is_unknown, unknown_value},
    mistakes::{Lines, Mistake, told},
    place::{Step, shown},
    schema::{OWN_KEYS, Schema, required},
    substitute::{Marks, Replaced},
    validate::validate,
};
use crate::{
    error::{Error, Kind, Mistakes, Result},
    path::Preset,
    plan::Pipeline,
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_yaml_ng::{Mapping, Value};

/// Settings that were read, and what must be hidden when they are talked about.
#[derive(Clone)]
pub struct Loaded {
    /// What was written.
    pub settings: Settings,
    /// Hides the secrets in it: secret settings, and what came from the environment, except where that is plainly no secret (the
    /// pipeline's name, topics, brokers, URLs, sizes).
    pub redactor: Redactor,
    /// Hides everything that came from the environment: what stands in the wrong place may be a secret all the same.
    strict: Redactor,
    /// What the one who runs this should know: names that are set and have no use here.
    pub notes: Vec<String>,
    lines: Lines,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("Loaded {{ settings: {:?}, notes: {:?} }}", self.settings, self.notes);
        f.write_str(&self.strict.redact(&text))
    }
}

impl Loaded {
    /// The validated configuration. Errors show no secrets.
    ///
    /// # Errors
    /// `Config` for every contradiction and every value that cannot be, in one.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let mistakes = |found: Mistakes| told(found.into_iter().map(|error| self.lines.mistake(&error)).collect());
        validate(self.settings.clone()).map_err(|found| self.strict.redact_error(mistakes(found)))
    }
}

/// Reads a configuration file. `env` gives the values of environment variables.
///
/// # Errors
/// `Config`: not YAML, or every mistake in it: variables that are not set, unknown keys, missing ones, values that cannot be,
/// contradictions. Errors show no secrets.
pub fn load(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    let Written { tree, marked, mistakes, redactor, mut strict } =
        Written::read(text, env, "it needs at least `name`, `source` and `sink`", &PUBLIC)?;
    let loaded = finish(tree, Some(marked), mistakes, redactor).map_err(|error| strict.redact_error(error))?;
    strict.merge(&loaded.redactor);
    Ok(Loaded { strict, ..loaded })
}

/// Reads other settings than a pipeline's by the same rules: `${…}`, unknown keys refused with the nearest name, secrets hidden.
/// The redactor hides what [`Loaded::redactor`] would. `needs` says what a file holds at least, `public` names the settings that
/// are no secrets even when they come from the environment.
///
/// # Errors
/// As [`load`].
pub fn load_as<T: JsonSchema + DeserializeOwned>(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    needs: &str,
    public: &[&str],
) -> Result<(T, Redactor)> {
    let Written { mut tree, marked, mut mistakes, mut redactor, strict } = Written::read(text, env, needs, public)?;
    let schema = Schema::of::<T>();
    schema.secrets(&tree).iter().for_each(|secret| redactor.hide(secret));
    let mut found = schema.check(&mut tree);
    let lines = Lines::new(Some(marked), Value::Null, std::mem::take(&mut found.aliases));
    mistakes.extend(found.mistakes(&lines));
    let settings = if mistakes.is_empty() { serde_yaml_ng::from_value(tree).map_err(|error| unreadable(&error)) } else { Err(told(mistakes)) };
    let settings = settings.map_err(|error| redactor.redact_error(strict.redact_error(error)))?;
    Ok((settings, redactor))
}

/// Whether a text has every key at its top that settings of this kind need, and so is meant as such.
pub fn is_meant_as<T: JsonSchema>(text: &str) -> bool {
    let tree = Marks::place(without_mark(text)).ok().and_then(|(marked, _)| serde_yaml_ng::from_str::<Value>(&marked).ok());
    let schema = Schema::of::<T>();
    tree.as_ref().and_then(Value::as_mapping).is_some_and(|map| required(schema.root()).iter().all(|key| map.contains_key(*key)))
}

fn unreadable(error: &serde_yaml_ng::Error) -> Error {
    Error::new(Kind::Config, "the configuration cannot be read").source(error.to_string())
}

/// A text without the byte order mark that some editors put before it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A file whose `${…}` have their values.
struct Written {
    tree: Value,
    /// The text that lines are looked up in.
    marked: String,
    /// `${…}` that have no value.
    mistakes: Vec<Mistake>,
    /// Hides what came from the environment and is not plainly public.
    redactor: Redactor,
    /// Hides everything that came from the environment.
    strict: Redactor,
}

impl Written {
    fn read(text: &str, env: &dyn Fn(&str) -> Option<String>, needs: &str, public: &[&str]) -> Result<Written> {
        let (marked, marks) = Marks::place(without_mark(text))?;
        let mut tree = parse(&marked, &marks, needs)?;
        if let Value::Mapping(map) = &mut tree {
            // what anchors name there stands where it is used by now
            map.retain(|key, _| !key.as_str().is_some_and(|key| key.starts_with(OWN_KEYS)));
        }
        let mut replacing = Replacing { marks: &marks, env, path: Vec::new(), values: Vec::new(), mistakes: Vec::new() };
        replacing.replace(&mut tree);
        let Replacing { values, mistakes, .. } = replacing;
        let (mut redactor, mut strict) = (Redactor::default(), Redactor::default());
        for (path, value) in &values {
            strict.hide(value);
            if is_hidden(path, value, public) {
                redactor.hide(value);
            }
        }
        Ok(Written { tree, marked, mistakes, redactor, strict })
    }
}

/// Checks a tree and builds the settings from it; `text` is what lines are looked up in, `mistakes` is what was found before.
pub(super) fn finish(mut written: Value, text: Option<String>, mut mistakes: Vec<Mistake>, mut redactor: Redactor) -> Result<Loaded> {
    // Before anything can fail that shows them.
    let schema = Schema::new();
    schema.secrets(&written).iter().for_each(|secret| redactor.hide(secret));
    let mut found = schema.check(&mut written);
    let lines = Lines::new(text, written.clone(), std::mem::take(&mut found.aliases));
    let dropped = std::mem::take(&mut found.dropped);
    mistakes.extend(found.mistakes(&lines));
    apply_presets(&mut written);
    if !mistakes.is_empty() {
        for error in beside(&written, dropped, &mut redactor) {
            mistakes.push(lines.mistake(&error));
        }
        return Err(redactor.redact_error(told(mistakes)));
    }
    let settings: Settings = serde_yaml_ng::from_value(written).map_err(|error| redactor.redact_error(unreadable(&error)))?;
    redactor.merge(&Redactor::of(&settings));
    Ok(Loaded { settings, strict: redactor.clone(), redactor, notes: Vec::new(), lines })
}

/// The keys at the top of a file.
const PARTS: [&str; 9] = ["name", "source", "transforms", "sink", "topics", "ledger", "memory", "http", "shutdown_deadline"];

/// What stands for what a file must have and does not say.
const STAND_INS: [(&str, &str); 3] = [
    ("name", "stand-in"),
    ("source", "{topics: [kas3-topic-in-place-of-another], kafka: {bootstrap.servers: stand-in}}"),
    ("sink", "{url: 'file:///stand-in'}"),
];

/// What is wrong with a tree beside what was `dropped` from it. What follows from a value that is not there is no mistake of its own.
fn beside(tree: &Value, mut dropped: Vec<String>, redactor: &mut Redactor) -> Vec<Error> {
    let Value::Mapping(written) = tree else { return Vec::new() };
    let whole = STAND_INS.map(|(part, text)| (part, serde_yaml_ng::from_str::<Value>(text).unwrap_or_default()));
    let mut parts: Mapping = whole.iter().map(|(part, value)| (Value::from(*part), value.clone())).collect();
    for part in PARTS {
        let stand_in = whole.iter().find(|(of, _)| *of == part).map(|(_, value)| value);
        let Some(mut value) = written.get(part).cloned() else {
            dropped.extend(stand_in.map(|_| part.to_owned()));
            continue;
        };
        if let (Value::Mapping(value), Some(Value::Mapping(stand_in))) = (&mut value, stand_in) {
            let missing: Vec<_> = stand_in.iter().filter(|(key, _)| !value.contains_key(*key)).collect();
            dropped.extend(missing.iter().filter_map(|(key, _)| Some(format!("{part}.{}", key.as_str()?))));
            value.extend(missing.into_iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        let before = parts.insert(Value::from(part), value);
        if serde_yaml_ng::from_value::<Settings>(Value::Mapping(parts.clone())).is_err() {
            dropped.push(part.to_owned());
            match before {
                Some(before) => drop(parts.insert(Value::from(part), before)),
                None => drop(parts.remove(part)),
            }
        }
    }
    let Ok(settings) = serde_yaml_ng::from_value::<Settings>(Value::Mapping(parts)) else { return Vec::new() };
    redactor.merge(&Redactor::of(&settings));
    let of_dropped = |named: &str| {
        dropped.iter().any(|path| named.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', ':'])))
    };
    let follows = |error: &Error| error.chain().split('`').skip(1).step_by(2).any(of_dropped);
    validate(settings).err().into_iter().flatten().filter(|error| !follows(error)).collect()
}

fn parse(marked: &str, marks: &Marks, needs: &str) -> Result<Value> {
    let mut tree: Value = serde_yaml_ng::from_str(marked).map_err(|error| not_yaml(marked, marks, &error))?;
    if tree.is_null() {
        return Err(Error::new(Kind::Config, "the configuration is empty").hint(needs));
    }
    tree.apply_merge().map_err(|error| not_yaml(marked, marks, &error))?;
    Ok(tree)
}

fn not_yaml(marked: &str, marks: &Marks, error: &serde_yaml_ng::Error) -> Error {
    let message = marks.as_written(&error.to_string());
    if let Some((place, key)) = message.split_once("duplicate entry with key \"") {
        let section = place.trim_end_matches([' ', ':', '.']);
        let (key, rest) = key.split_once('"').unwrap_or((key, ""));
        let key = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
        return Error::new(Kind::Config, format!("`{key}` is there twice{}", rest.trim_end())).hint("each key may be there once");
    }
    let wrong = Error::new(Kind::Config, format!("the configuration is not valid YAML: {message}"));
    let line = error.location().and_then(|location| marked.lines().nth(location.line().saturating_sub(1)));
    let indented_by_tab = line.is_some_and(|line| line[..line.len() - line.trim_start().len()].contains('\t'));
    if indented_by_tab {
        return wrong.hint("indent with spaces: YAML allows no tabs there");
    }
    if line.is_some_and(|line| line.contains(": \"") && line.contains('\\')) {
        return wrong.hint("in double quotes `\\` begins an escape: write `\\\\`, or use single quotes");
    }
    wrong
}

/// Puts values into the places of marks, and keeps which of them came from the environment and where they went.
struct Replacing<'a> {
    marks: &'a Marks,
    env: &'a dyn Fn(&str) -> Option<String>,
    path: Vec<Step>,
    values: Vec<(String, String)>,
    mistakes: Vec<Mistake>,
}

impl Replacing<'_> {
    fn replace(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                let Some(Replaced { text, from_environment, mistakes }) = self.marks.replace(text, self.env) else { return };
                self.values.extend(from_environment.into_iter().map(|value| (shown(&self.path), value)));
                *value = if mistakes.is_empty() { Value::String(text) } else { unknown_value() };
                self.mistakes.extend(mistakes);
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push(Step::Index(index));
                    self.replace(item);
                    self.path.pop();
                }
            }
            Value::Mapping(map) => {
                let mut replaced = Mapping::new();
                for (mut key, mut entry) in std::mem::take(map) {
                    self.replace(&mut key);
                    self.path.push(Step::Key(key.as_str().unwrap_or_default().to_owned()));
                    self.replace(&mut entry);
                    self.path.pop();
                    if is_unknown(&key) {
                        // a key that is not known is told already
                        continue;
                    }
                    if replaced.insert(key.clone(), entry).is_some() {
                        let key = key.as_str().unwrap_or_default();
                        self.mistakes.push(Mistake { line: None, what: format!("`{key}` is there twice, once by `${{…}}`"), hint: None });
                    }
                }
                *map = replaced;
            }
            Value::Tagged(tagged) => self.replace(&mut tagged.value),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Settings whose values are no secrets even when they come from the environment: messages that hide a topic or a host help
/// nobody.
const PUBLIC: [&str; 23] = [
    "name",
    "source.topics",
    "source.group",
    "source.start",
    "source.kafka.bootstrap.servers",
    "source.kafka.security.protocol",
    "source.kafka.sasl.mechanism",
    "source.kafka.sasl.mechanisms",
    "source.kafka.client.id",
    "sink.type",
    "sink.url",
    "sink.path",
    "sink.timezone",
    "sink.format",
    "sink.roll",
    "sink.settle",
    "sink.amend_after",
    "sink.storage.endpoint",
    "sink.storage.region",
    "ledger.url",
    "ledger.version",
    "memory",
    "http",
];

/// The same within an entry of `transforms`.
const PUBLIC_OF_TRANSFORMS: [&str; 6] = ["type", "url", "read_from", "accept", "storage.endpoint", "storage.region"];

fn is_hidden(path: &str, value: &str, public: &[&str]) -> bool {
    let within = |path: &str, public: &[&str]| {
        public.iter().any(|public| path.strip_prefix(public).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
    };
    let in_transform = path.split_once("transforms[").and_then(|(_, entry)| entry.split_once("].")).map(|(_, key)| key);
    let public = match in_transform {
        Some(key) => within(key, &PUBLIC_OF_TRANSFORMS),
        None => within(path, public),
    };
    // `user:password@host`.
    !public || value.contains('@')
}

/// Gives files the form that a preset of paths stands for, where the settings do not say otherwise.
fn apply_presets(tree: &mut Value) {
    let written = tree.get("sink").and_then(|sink| sink.get("format")).cloned().unwrap_or_else(|| Value::Mapping(Mapping::new()));
    if let Some(Value::Mapping(topics)) = tree.get_mut("topics") {
        topics.values_mut().for_each(|section| apply_preset(section, &written));
    }
    if let Some(sink) = tree.get_mut("sink") {
        apply_preset(sink, &written);
    }
}

fn apply_preset(section: &mut Value, inherited: &Value) {
    let Some(preset) = section.get("path").and_then(Value::as_str).and_then(Preset::named) else { return };
    let Value::Mapping(section) = section else { return };
    let mut format = section.get("format").unwrap_or(inherited).clone();
    if let Value::Mapping(format) = &mut format {
        for (key, value) in preset.format {
            format.entry(Value::from(*key)).or_insert_with(|| Value::from(*value));
        }
        if let Some(base) = preset.base_extension {
            let compression = format.get("compression").and_then(Value::as_str).unwrap_or("gzip");
            let extension = match compression {
                "none" => base.to_owned(),
                "zstd" => format!("{base}.zst"),
                _ => format!("{base}.gz"),
            };
            format.entry(Value::from("extension")).or_insert_with(|| Value::from(extension));
        }
    }
    section.insert(Value::from("format"), format);
}
