//! Where settings stand in a text.

use super::place::Step;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The line of a setting, from 1: the parser is sent through the text again, up to there, and told to fail.
pub(super) fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let mut path = path;
    loop {
        let stopped = Stop { path }.deserialize(serde_yaml_ng::Deserializer::from_str(text)).err();
        match stopped {
            Some(error) if error.to_string().contains(STOPPED) => return error.location().map(|location| location.line()),
            _ if path.is_empty() => return None,
            // A missing key has no line; its section has.
            _ => path = &path[..path.len() - 1],
        }
    }
}

const STOPPED: &str = "stopped here";

struct Stop<'a> {
    path: &'a [Step],
}

impl<'de> DeserializeSeed<'de> for Stop<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Stop<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STOPPED)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let [Step::Key(wanted), rest @ ..] = self.path else { return Ok(()) };
        loop {
            let here = StopAtKey { wanted, last: rest.is_empty() };
            match map.next_key_seed(here)? {
                None => return Ok(()),
                Some(true) => return map.next_value_seed(Stop { path: rest }),
                Some(false) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let [Step::Index(wanted), rest @ ..] = self.path else { return Ok(()) };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        if rest.is_empty() {
            list.next_element_seed(StopAtValue)?;
        } else {
            list.next_element_seed(Stop { path: rest })?;
        }
        Ok(())
    }
}

/// Whether a key is the wanted one; when that is the last of the path, the parser stops at it.
struct StopAtKey<'a> {
    wanted: &'a str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for StopAtKey<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for StopAtKey<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        if key == self.wanted && self.last {
            return Err(E::custom(STOPPED));
        }
        Ok(key == self.wanted)
    }
}

struct StopAtValue;

impl<'de> DeserializeSeed<'de> for StopAtValue {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for StopAtValue {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STOPPED)
    }
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom(STOPPED))
    }
}
