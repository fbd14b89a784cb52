//! The envelope: one JSON object per record that holds all of it, losslessly.
//!
//! ```text
//! {"topic":"orders","partition":0,"offset":5,"timestamp":1700000000000,"key":"k","headers":[["trace","7f"],["none",null]],"value":"{\"id\":1}"}
//! ```
//!
//! Key, header names and header and record values are bytes in Kafka. Bytes that are UTF-8 are a JSON string, others the
//! object `{"base64":"…"}` (standard alphabet, padded), and `null` is Kafka's null: a tombstone, a record without key, a header
//! without value. The three never meet, so [`decode`] gives back the record, bit for bit. A value that is itself JSON is a
//! string all the same: embedding it would lose what JSON readers do not keep (digits of numbers, doubled keys, white space).
//! `timestamp` is in milliseconds, `null` where Kafka has none; `headers` is a list in the order of production and `[]` when
//! there are none. Readers ignore keys that they do not know.

use super::{
    Absent, LinesSettings, json,
    rows::{Outcome, RowCodec, absent},
};
use crate::{
    error::{Error, Kind, Result},
    record::{OwnedHeaders, OwnedRecord},
    refused::Refused,
    row::Row,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::io::Write;

/// Writes a row as its envelope.
pub(super) struct Envelopes {
    tombstones: Absent,
    empty_values: Absent,
}

impl Envelopes {
    pub(super) fn new(settings: &LinesSettings) -> Self {
        Envelopes { tombstones: settings.tombstones, empty_values: settings.empty_values }
    }
}

/// Bytes of the keys, punctuation and usual numbers of an envelope.
const FRAME_BYTES: usize = 128;

impl RowCodec for Envelopes {
    fn expected_bytes(&self, row: &Row<'_>) -> usize {
        FRAME_BYTES + row.record.topic.len() + row.payload_bytes()
    }

    fn write(&self, row: &Row<'_>, block: &mut Vec<u8>) -> Result<Outcome, Refused> {
        if matches!(row.bytes(), None | Some([])) && absent(row, self.tombstones, self.empty_values)? == Outcome::Filtered {
            return Ok(Outcome::Filtered);
        }
        write(row, block);
        Ok(Outcome::Written)
    }
}

fn write(row: &Row<'_>, out: &mut Vec<u8>) {
    let record = &row.record;
    out.extend_from_slice(b"{\"topic\":");
    json::write_string(record.topic, out);
    out.extend_from_slice(b",\"partition\":");
    write_number(i64::from(record.partition), out);
    out.extend_from_slice(b",\"offset\":");
    write_number(record.offset, out);
    out.extend_from_slice(b",\"timestamp\":");
    match record.timestamp_ms {
        Some(timestamp) => write_number(timestamp, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"key\":");
    write_bytes(record.key, out);
    out.extend_from_slice(b",\"headers\":[");
    if let Some(headers) = record.headers {
        for (number, (name, value)) in (0..headers.len()).filter_map(|index| headers.get(index)).enumerate() {
            out.extend_from_slice(if number == 0 { b"[" } else { b",[" });
            write_bytes(Some(name), out);
            out.push(b',');
            write_bytes(value, out);
            out.push(b']');
        }
    }
    out.extend_from_slice(b"],\"value\":");
    write_bytes(row.bytes(), out);
    out.extend_from_slice(b"}\n");
}

fn write_number(number: i64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("writing into memory never fails");
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    if let Ok(text) = std::str::from_utf8(bytes) {
        return json::write_string(text, out);
    }
    out.extend_from_slice(b"{\"base64\":\"");
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("four characters for each three bytes are enough");
    out.truncate(start + written);
    out.extend_from_slice(b"\"}");
}

/// The record of an envelope, as `verify` compares it.
///
/// # Errors
/// `BadRecord` when `line` is not an envelope.
pub fn decode(line: &[u8]) -> Result<OwnedRecord> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| Error::new(Kind::BadRecord, "line is not an envelope").source(source);
    let stored: Stored = serde_json::from_slice(line).map_err(|error| refused(error.into()))?;
    let bytes = |data: Option<Data>| data.map(Data::bytes).transpose().map_err(|error| refused(error.into()));
    let mut headers = Vec::with_capacity(stored.headers.len());
    for (name, value) in stored.headers {
        headers.push((name.bytes().map_err(|error| refused(error.into()))?, bytes(value)?));
    }
    Ok(OwnedRecord {
        topic: stored.topic,
        partition: stored.partition,
        offset: stored.offset,
        timestamp_ms: stored.timestamp,
        key: bytes(stored.key)?,
        value: bytes(stored.value)?,
        headers: OwnedHeaders(headers),
    })
}

/// What an envelope holds. `null` must be written: a missing key is not a null one.
#[derive(Deserialize)]
struct Stored {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(deserialize_with = "Option::deserialize")]
    timestamp: Option<i64>,
    #[serde(deserialize_with = "Option::deserialize")]
    key: Option<Data>,
    headers: Vec<(Data, Option<Data>)>,
    #[serde(deserialize_with = "Option::deserialize")]
    value: Option<Data>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Data {
    Text(String),
    Base64(Base64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

impl Data {
    fn bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Data::Text(text) => Ok(text.into_bytes()),
            Data::Base64(data) => STANDARD.decode(data.base64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, option, prelude::*};

    fn data() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..40),
            any::<String>().prop_map(String::into_bytes),
            Just(b"{\"base64\":\"AA==\"}".to_vec()),
            Just(b"null".to_vec())
        ]
    }

    prop_compose! {
        fn record()(
            topic in any::<String>(), partition in any::<i32>(), offset in any::<i64>(), timestamp_ms in option::of(any::<i64>()),
            key in option::of(data()), value in option::of(data()), headers in vec((data(), option::of(data())), 0..4),
        ) -> OwnedRecord {
            OwnedRecord { topic, partition, offset, timestamp_ms, key, value, headers: OwnedHeaders(headers) }
        }
    }

    proptest! {
        #[test]
        fn every_record_comes_back_bit_for_bit_from_one_line(record in record()) {
            let mut line = Vec::new();
            write(&Row::of(record.borrow()), &mut line);
            prop_assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
            prop_assert_eq!(decode(&line).unwrap(), record);
        }

        #[test]
        fn no_bytes_make_decoding_panic(line in vec(any::<u8>(), 0..200)) {
            let _ = decode(&line);
        }
    }

    #[test]
    fn an_envelope_with_a_key_missing_is_refused_and_one_with_a_key_more_is_read() {
        let whole = r#"{"topic":"t","partition":1,"offset":2,"timestamp":null,"key":null,"headers":[],"value":{"base64":"/w=="}}"#;
        assert_eq!(decode(whole.as_bytes()).unwrap().value.as_deref(), Some(&[0xff][..]));
        assert!(decode(whole.replace("\"offset\"", "\"later\":1,\"offset\"").as_bytes()).is_ok());
        for key in ["\"key\":null,", "\"timestamp\":null,", "\"headers\":[],", "\"offset\":2,"] {
            let error = decode(whole.replace(key, "").as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::BadRecord, "{key}");
        }
        assert!(decode(whole.replace("/w==", "*").as_bytes()).is_err());
        assert!(decode(whole.replace("{\"base64\"", "{\"x\":1,\"base64\"").as_bytes()).is_err());
    }
}
