//! `format.block`: a size, or one of the words `auto` and `file`.

use crate::units::Bytes as Size;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;

/// How much content a block holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BlockSize {
    /// It grows with the file.
    #[default]
    Auto,
    /// Always the same, in bytes.
    Fixed(Size),
    /// All of the file.
    File,
}

impl Serialize for BlockSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            BlockSize::Auto => serializer.serialize_str("auto"),
            BlockSize::Fixed(size) => size.serialize(serializer),
            BlockSize::File => serializer.serialize_str("file"),
        }
    }
}

impl<'de> Deserialize<'de> for BlockSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(BlockSize::Fixed(Size(bytes))),
            Written::Text(text) => match text.as_str() {
                "auto" => Ok(BlockSize::Auto),
                "file" => Ok(BlockSize::File),
                _ => text.parse().map(BlockSize::Fixed).map_err(|message: String| D::Error::custom(format!("{message}, or `auto`, or `file`"))),
            },
        }
    }
}

impl JsonSchema for BlockSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "BlockSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "format": "block" })
    }
}
