//! `sink.settle`: a duration, or the word `next`.

use crate::units::Period;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::borrow::Cow;

/// When the ledger notes that a span is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// With the next commit.
    Next,
    /// With the next commit, or after this time when none follows.
    After(Period),
}

impl Serialize for Settle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Settle::Next => serializer.serialize_str("next"),
            Settle::After(period) => period.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Settle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "next" => Ok(Settle::Next),
            _ => text.parse().map(Settle::After).map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for Settle {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Settle".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "settle", "examples": ["5s", "next"] })
    }
}
