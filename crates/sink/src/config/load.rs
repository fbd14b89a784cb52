//! From a text to [`Settings`].

use super::{
    Redactor, Settings,
    substitute::{Marks, Replaced},
    tree::{Schema, Step, shown},
    validate::validate,
};
use crate::{
    error::{Error, Kind, Result},
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
    /// `Config` for a contradiction or a value that cannot be.
    pub fn pipeline(&self) -> Result<Pipeline> {
        validate(self.settings.clone()).map_err(|error| self.strict.redact_error(error))
    }
}

/// Reads a configuration file. `env` gives the values of environment variables.
///
/// # Errors
/// `Config`: not YAML, a variable that is not set, an unknown key, a value of the wrong kind. Errors show no secrets.
pub fn load(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    let Written { tree, marked, redactor, mut strict } = Written::read(text, env, "it needs at least `name`, `source` and `sink`", &PUBLIC)?;
    let loaded = finish(tree, Some(&marked), redactor).map_err(|error| strict.redact_error(error))?;
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
    let Written { mut tree, marked, mut redactor, strict } = Written::read(text, env, needs, public)?;
    let schema = Schema::of::<T>();
    schema.secrets(&tree).iter().for_each(|secret| redactor.hide(secret));
    let hidden = |error: Error| redactor.redact_error(strict.redact_error(error));
    schema.check(&mut tree).map_err(|fault| hidden(fault.into_error(Some(&marked))))?;
    let settings = serde_yaml_ng::from_value(tree).map_err(|error| hidden(unreadable(&error)))?;
    Ok((settings, redactor))
}

fn unreadable(error: &serde_yaml_ng::Error) -> Error {
    Error::new(Kind::Config, "the configuration cannot be read").source(error.to_string())
}

/// A file whose `${…}` have their values.
struct Written {
    tree: Value,
    /// The text that lines are looked up in.
    marked: String,
    /// Hides what came from the environment and is not plainly public.
    redactor: Redactor,
    /// Hides everything that came from the environment.
    strict: Redactor,
}

impl Written {
    fn read(text: &str, env: &dyn Fn(&str) -> Option<String>, needs: &str, public: &[&str]) -> Result<Written> {
        let (marked, marks) = Marks::place(text)?;
        let mut tree = parse(&marked, &marks, needs)?;
        let mut values = Vec::new();
        replace_marks(&mut tree, &marks, env, &mut Vec::new(), &mut values)?;
        let (mut redactor, mut strict) = (Redactor::default(), Redactor::default());
        for (path, value) in &values {
            strict.hide(value);
            if is_hidden(path, value, public) {
                redactor.hide(value);
            }
        }
        Ok(Written { tree, marked, redactor, strict })
    }
}

/// Checks a tree and builds the settings from it; `text` is what lines are looked up in.
pub(super) fn finish(mut written: Value, text: Option<&str>, mut redactor: Redactor) -> Result<Loaded> {
    // Before anything can fail that shows them.
    let schema = Schema::new();
    schema.secrets(&written).iter().for_each(|secret| redactor.hide(secret));
    schema.check(&mut written).map_err(|fault| redactor.redact_error(fault.into_error(text)))?;
    apply_presets(&mut written);
    let settings: Settings = serde_yaml_ng::from_value(written).map_err(|error| redactor.redact_error(unreadable(&error)))?;
    redactor.merge(&Redactor::of(&settings));
    Ok(Loaded { settings, strict: redactor.clone(), redactor, notes: Vec::new() })
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
fn replace_marks(
    value: &mut Value,
    marks: &Marks,
    env: &dyn Fn(&str) -> Option<String>,
    path: &mut Vec<Step>,
    values: &mut Vec<(String, String)>,
) -> Result<()> {
    match value {
        Value::String(text) => {
            if let Some(Replaced { text: replaced, from_environment }) = marks.replace(text, env)? {
                values.extend(from_environment.into_iter().map(|value| (shown(path), value)));
                *text = replaced;
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push(Step::Index(index));
                replace_marks(item, marks, env, path, values)?;
                path.pop();
            }
        }
        Value::Mapping(map) => {
            let mut replaced = Mapping::new();
            for (mut key, mut entry) in std::mem::take(map) {
                replace_marks(&mut key, marks, env, path, values)?;
                path.push(Step::Key(key.as_str().unwrap_or_default().to_owned()));
                replace_marks(&mut entry, marks, env, path, values)?;
                path.pop();
                if replaced.insert(key.clone(), entry).is_some() {
                    let key = key.as_str().unwrap_or_default();
                    return Err(Error::new(Kind::Config, format!("`{key}` is there twice, once by `${{…}}`")));
                }
            }
            *map = replaced;
        }
        Value::Tagged(tagged) => replace_marks(&mut tagged.value, marks, env, path, values)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
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
