//! One entry of `transforms`: which transform it is decides what else it holds.

use super::{Configured, TRANSFORMS, TransformRow};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value as Json;
use std::{borrow::Cow, sync::Arc};

/// A transform as written: `type`, and the settings of that type.
#[derive(Clone, Debug)]
pub struct TransformSettings {
    /// The name in `type`.
    pub kind: &'static str,
    /// The rest.
    pub settings: Arc<dyn Configured>,
}

impl<'de> Deserialize<'de> for TransformSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut written = Json::deserialize(deserializer)?;
        let kind = written.as_object_mut().and_then(|section| section.remove("type"));
        let kind = kind.as_ref().and_then(Json::as_str).unwrap_or_default();
        let row = TRANSFORMS.iter().find(|row| row.name == kind).ok_or_else(|| D::Error::custom(format!("there is no transform `{kind}`")))?;
        let settings = (row.read)(written).map_err(D::Error::custom)?;
        Ok(TransformSettings { kind: row.name, settings })
    }
}

impl Serialize for TransformSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = self.settings.json();
        if let Some(section) = json.as_object_mut() {
            section.insert("type".to_owned(), self.kind.into());
        }
        json.serialize(serializer)
    }
}

impl JsonSchema for TransformSettings {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Transform".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let variants: Vec<Json> = TRANSFORMS.iter().map(|row| variant(row, generator)).collect();
        json_schema!({ "oneOf": variants })
    }
}

/// The schema of one transform's section: its settings, and `type` with its name.
fn variant(row: &TransformRow, generator: &mut SchemaGenerator) -> Json {
    let mut schema = (row.schema)(generator).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), row.doc.into());
        let required = object.entry("required").or_insert_with(|| Json::Array(Vec::new()));
        if let Some(required) = required.as_array_mut() {
            required.insert(0, "type".into());
        }
        if let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert("type".to_owned(), serde_json::json!({ "type": "string", "const": row.name, "description": "Which transform it is." }));
        }
    }
    schema
}
