//! One shape for every list of what can be chosen by name: formats, transforms, targets.
//!
//! A component owns its settings; reading them makes its factory. Adding one is a file with an [`Entry`] and a row in the
//! list that [`Component::entries`] gives: the configuration, its JSON Schema, the reference page, the messages of mistakes
//! and the conformance tests read that list.
//!
//! ```
//! use kas3_sink::{format::FormatSettings, registry::Chosen};
//! let chosen: FormatSettings = serde_json::from_str(r#"{"type": "text", "compression": "zstd"}"#)?;
//! assert_eq!(chosen.kind, "text");
//! # Ok::<(), serde_json::Error>(())
//! ```

use crate::suggest::{listed, nearest};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value as Json;
use std::{borrow::Cow, fmt};

/// A row of a registry: something that `type` names.
pub struct Entry<S: 'static> {
    /// The name in `type`.
    pub name: &'static str,
    /// What it is, in one line of the reference page.
    pub doc: &'static str,
    /// The schema of its settings, without `type`.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads its settings, without `type`.
    pub read: fn(Json) -> Result<S, serde_json::Error>,
}

/// The settings of one kind of component, as its registry reads them.
pub trait Component: Clone + fmt::Debug + Sized + 'static {
    /// What the registry lists, as `format`.
    const KIND: &'static str;
    /// The entry that is meant where `type` is not written.
    const DEFAULT: Option<&'static str>;
    /// Every entry, in the order of the reference page.
    fn entries() -> &'static [Entry<Self>];
    /// The settings as JSON, without `type` and without secrets.
    fn json(&self) -> Json;
}

/// A section of the configuration whose `type` says what else it holds.
#[derive(Clone, Debug)]
pub struct Chosen<S> {
    /// The name in `type`.
    pub kind: &'static str,
    /// The rest, by the component that `type` names.
    pub settings: S,
}

impl<S: Component> Chosen<S> {
    /// The component `kind` with settings given as JSON.
    ///
    /// # Errors
    /// In words: an unknown name, or settings that it does not take.
    pub fn read(kind: &str, settings: Json) -> Result<Self, String> {
        let Some(entry) = S::entries().iter().find(|entry| entry.name == kind) else {
            let names: Vec<&str> = S::entries().iter().map(|entry| entry.name).collect();
            let meant = nearest(kind, &names).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
            return Err(format!("there is no {} `{kind}`: {meant}there are {}", S::KIND, listed(&names)));
        };
        let settings = (entry.read)(settings).map_err(|error| error.to_string())?;
        Ok(Chosen { kind: entry.name, settings })
    }
}

impl<S: Component> Default for Chosen<S> {
    fn default() -> Self {
        let kind = S::DEFAULT.expect("only what has a default entry is left out");
        Chosen::read(kind, Json::Object(serde_json::Map::new())).expect("the default entry needs no settings")
    }
}

impl<'de, S: Component> Deserialize<'de> for Chosen<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut written = Json::deserialize(deserializer)?;
        let kind = written.as_object_mut().and_then(|section| section.remove("type"));
        let kind = kind.as_ref().and_then(Json::as_str).or(S::DEFAULT).unwrap_or_default();
        Chosen::read(kind, written).map_err(D::Error::custom)
    }
}

impl<S: Component> Serialize for Chosen<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        let mut json = self.settings.json();
        if let Some(section) = json.as_object_mut() {
            section.insert("type".to_owned(), self.kind.into());
        }
        json.serialize(serializer)
    }
}

/// The key of a schema that names the default entry.
pub(crate) const DEFAULT_TYPE: &str = "x-default-type";

impl<S: Component> JsonSchema for Chosen<S> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        S::KIND.into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let variants: Vec<Json> = S::entries().iter().map(|entry| variant(entry, S::DEFAULT == Some(entry.name), generator)).collect();
        match S::DEFAULT {
            Some(default) => json_schema!({ "oneOf": variants, DEFAULT_TYPE: default }),
            None => json_schema!({ "oneOf": variants }),
        }
    }
}

/// The schema of one entry's section: its settings, and `type` with its name.
fn variant<S: Component>(entry: &Entry<S>, default: bool, generator: &mut SchemaGenerator) -> Json {
    let mut schema = (entry.schema)(generator).to_value();
    let Some(object) = schema.as_object_mut() else { return schema };
    object.insert("description".to_owned(), entry.doc.into());
    if !default {
        let required = object.entry("required").or_insert_with(|| Json::Array(Vec::new()));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, "type".into());
        }
    }
    if let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) {
        let mut kind = serde_json::json!({ "type": "string", "const": entry.name, "description": format!("Which {} it is.", S::KIND) });
        if default {
            kind["default"] = entry.name.into();
        }
        properties.insert("type".to_owned(), kind);
    }
    schema
}
