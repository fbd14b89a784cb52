//! `source.start`: a word, or a section.

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

/// `source.start` as it is written: where topics begin, and whether they may begin beside others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// Where a topic begins that the ledger does not know.
    pub start: Start,
    /// Begin also where somebody else wrote the topic's records before.
    pub beside: bool,
}

const STARTS: [&str; 2] = ["earliest", "latest"];

impl Start {
    fn word(text: &str) -> Option<Start> {
        match text {
            "earliest" => Some(Start::Earliest),
            "latest" => Some(Start::Latest),
            _ => None,
        }
    }
}

impl Serialize for Beginning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match &self.start {
            Start::Earliest => ("from", STARTS[0]),
            Start::Latest => ("from", STARTS[1]),
            Start::Timestamp(time) => ("timestamp", time.as_str()),
            Start::Group(group) => ("group", group.as_str()),
        };
        if key == "from" && !self.beside {
            return serializer.serialize_str(value);
        }
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(key, value)?;
        if self.beside {
            map.serialize_entry("beside", &true)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Beginning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Choice;
        impl<'de> Visitor<'de> for Choice {
            type Value = Beginning;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`earliest`, `latest`, or a section with `from`, `timestamp` or `group`, and with `beside`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Beginning, E> {
                let start = Start::word(text).ok_or_else(|| E::unknown_variant(text, &STARTS))?;
                Ok(Beginning { start, beside: false })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Beginning, A::Error> {
                let (mut starts, mut beside) = (Vec::new(), false);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "beside" => beside = map.next_value()?,
                        "timestamp" => starts.push(Start::Timestamp(map.next_value()?)),
                        "group" => starts.push(Start::Group(map.next_value()?)),
                        "from" => {
                            let word: String = map.next_value()?;
                            starts.push(Start::word(&word).ok_or_else(|| A::Error::unknown_variant(&word, &STARTS))?);
                        }
                        other => return Err(A::Error::unknown_field(other, &["from", "timestamp", "group", "beside"])),
                    }
                }
                if starts.len() > 1 {
                    return Err(A::Error::custom("`source.start` wants only one of `from`, `timestamp` and `group`"));
                }
                Ok(Beginning { start: starts.pop().unwrap_or_default(), beside })
            }
        }
        deserializer.deserialize_any(Choice)
    }
}

impl JsonSchema for Beginning {
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
                "properties": {
                    "from": { "type": "string", "enum": STARTS },
                    "timestamp": { "type": "string", "format": "date-time" },
                    "group": { "type": "string" },
                    "beside": { "type": "boolean" },
                },
                "additionalProperties": false,
                "minProperties": 1,
            },
        ] })
    }
}
