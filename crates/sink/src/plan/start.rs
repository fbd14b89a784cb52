//! `source.start`: a word, or something with a value.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};
use std::{borrow::Cow, fmt};

/// Where a topic begins that the ledger does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first record that Kafka still has.
    #[default]
    Earliest,
    /// Records produced from now on.
    Latest,
    /// The first record at or after an RFC 3339 time.
    Timestamp(String),
    /// The committed offsets of a consumer group; partitions without one begin at the earliest record.
    Group(String),
}

const STARTS: [&str; 2] = ["earliest", "latest"];

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            Start::Earliest => return serializer.serialize_str(STARTS[0]),
            Start::Latest => return serializer.serialize_str(STARTS[1]),
            Start::Timestamp(time) => ("timestamp", time),
            Start::Group(group) => ("group", group),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(key, value)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = Start;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`earliest`, `latest`, `{timestamp: …}` or `{group: …}`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Start, E> {
                match text {
                    "earliest" => Ok(Start::Earliest),
                    "latest" => Ok(Start::Latest),
                    _ => Err(E::unknown_variant(text, &STARTS)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Start, A::Error> {
                let start = match map.next_entry::<String, String>()? {
                    Some((key, time)) if key == "timestamp" => Start::Timestamp(time),
                    Some((key, group)) if key == "group" => Start::Group(group),
                    _ => return Err(A::Error::custom("wants one of `timestamp` and `group`")),
                };
                match map.next_key::<String>()? {
                    None => Ok(start),
                    Some(_) => Err(A::Error::custom("wants only one of `timestamp` and `group`")),
                }
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl JsonSchema for Start {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "enum": STARTS },
            {
                "type": "object",
                "properties": { "timestamp": { "type": "string", "format": "date-time" }, "group": { "type": "string" } },
                "additionalProperties": false,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ] })
    }
}
