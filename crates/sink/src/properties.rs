//! librdkafka's properties as the user wrote them, the secret ones never shown.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use std::{borrow::Cow, collections::BTreeMap, fmt, ops::Deref};

/// librdkafka properties. Debug and the serialised form show `***` for those that hold secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(pub BTreeMap<String, String>);

/// Whether a librdkafka property holds a secret.
pub fn is_secret(property: &str) -> bool {
    let hidden = ["password", "secret", ".pem", "sasl.jaas.config", "sasl.oauthbearer.config", "token", "private.key"];
    hidden.iter().any(|part| property.contains(part)) && !PUBLIC.contains(&property)
}

/// Properties whose names sound secret and are not.
const PUBLIC: [&str; 3] = ["sasl.oauthbearer.token.endpoint.url", "ssl.ca.pem", "ssl.certificate.pem"];

impl Deref for Properties {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Properties {
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), if is_secret(name) { "***" } else { value.as_str() }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.shown() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Properties;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of librdkafka properties")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut properties = BTreeMap::new();
                while let Some((name, PropertyValue(value))) = map.next_entry::<String, PropertyValue>()? {
                    properties.insert(name, value);
                }
                Ok(Properties(properties))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// A text, a whole number, a boolean, or a list of these, which librdkafka wants joined by commas.
struct PropertyValue(String);

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl<'de> Visitor<'de> for Scalar {
            type Value = PropertyValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a whole number, true or false, or a list of texts")
            }
            fn visit_str<E>(self, text: &str) -> Result<PropertyValue, E> {
                Ok(PropertyValue(text.to_owned()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<PropertyValue, E> {
                Ok(PropertyValue(value.to_string()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(number.to_string()))
            }
            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<PropertyValue, E> {
                Err(E::custom("a number with a fraction loses its spelling; put it in quotes"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<PropertyValue, A::Error> {
                let mut values = Vec::new();
                while let Some(PropertyValue(value)) = list.next_element()? {
                    if value.contains(',') {
                        return Err(A::Error::custom("a list joined by commas cannot hold a comma"));
                    }
                    values.push(value);
                }
                Ok(PropertyValue(values.join(",")))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

impl JsonSchema for Properties {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "integer", "boolean", "array"], "items": { "type": ["string", "integer", "boolean"] } } })
    }
}
