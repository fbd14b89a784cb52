//! Sizes as `128MiB` and durations as `5m`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

/// A size in bytes, written as `128MiB`, `64KiB`, `1GiB`, `10MB` or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1000),
    ("B", 1),
];

impl FromStr for Bytes {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (number, factor) = split_unit(text, &BYTE_UNITS, 1)
            .ok_or_else(|| format!("`{text}` is not a size: write a number with KiB, MiB, GiB, KB, MB or GB, as `128MiB`"))?;
        number.checked_mul(factor).map(Bytes).ok_or_else(|| format!("`{text}` is larger than any store holds"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BYTE_UNITS[..4].iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// A duration, written as `500ms`, `30s`, `5m`, `1h` or `1d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Period {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a duration: write a number with ms, s, m, h or d, as `5m`");
        let (number, factor) = split_unit(text, &TIME_UNITS, 0).ok_or_else(wrong)?;
        if factor == 0 && number != 0 {
            return Err(wrong());
        }
        number.checked_mul(factor).map(|ms| Period(Duration::from_millis(ms))).ok_or_else(wrong)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        match TIME_UNITS.iter().rev().find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", ms / factor),
            None => write!(f, "0s"),
        }
    }
}

fn split_unit(text: &str, units: &[(&str, u64)], bare: u64) -> Option<(u64, u64)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim();
    if unit.is_empty() {
        return Some((number, bare));
    }
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| (number, *factor))
}

macro_rules! as_text {
    ($type:ty, $types:tt, $format:literal) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "format": $format })
            }
        }
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a number with its unit")
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Text)
            }
        }
    };
}
as_text!(Bytes, ["string", "integer"], "size");
as_text!(Period, "string", "duration");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_in_binary_and_decimal_units_and_as_plain_numbers() {
        for (text, bytes) in [("128MiB", 128 << 20), ("64 KiB", 64 << 10), ("10MB", 10_000_000), ("7B", 7), ("4096", 4096), (" 1GiB ", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "10 mib", "10M", "0x10", "1 2", "99999999999999999999"] {
            assert!(wrong.parse::<Bytes>().unwrap_err().contains("is not a size"), "{wrong}");
        }
        assert!("99999999TiB".parse::<Bytes>().unwrap_err().contains("larger than any store holds"));
    }

    #[test]
    fn a_duration_needs_its_unit_unless_it_is_zero() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("1d", 86_400_000), ("0", 0), ("90 s", 90_000)] {
            assert_eq!(text.parse(), Ok(Period(Duration::from_millis(ms))), "{text}");
        }
        for wrong in ["", "5", "5min", "-5s", "1h30m", "5 M", "99999999999999999d"] {
            assert!(wrong.parse::<Period>().unwrap_err().contains("is not a duration"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same_size_and_duration(bytes: u64, ms in 0..u64::MAX / 2) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
            let period = Period(Duration::from_millis(ms));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }

        #[test]
        fn any_text_is_a_value_or_an_error_that_shows_it(text in ".{0,12}") {
            if let Err(message) = text.parse::<Bytes>() {
                prop_assert!(message.contains(&text));
            }
            if let Err(message) = text.parse::<Period>() {
                prop_assert!(message.contains(&text));
            }
        }
    }
}
