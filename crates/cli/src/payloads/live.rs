//! The references that records hold: read from whole topics, kept as hashes.
//!
//! A reference costs 16 bytes and its place in the table: 20 to 40 bytes, however long its key is. Two keys with one hash would
//! keep an object that could go; never the other way round.

use crate::claims::log::{Isolation, Positions, TopicLog, headers_of, read_all, value_of};
use bytes::Bytes;
use kas3_claimcheck::{ClaimCheck, FORMATS, Found, Headers, Reason};
use kas3_sink::record::Record;
use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    ops::ControlFlow,
};
use xxhash_rust::xxh3::xxh3_128;

/// Hashes are as good as random: their own bytes are the hash.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, hash: u128) {
        // the low half
        self.0 = hash as u64;
    }
}

/// What records name below the prefix.
pub(super) struct Live {
    codec: ClaimCheck,
    named: HashSet<u128, BuildHasherDefault<AsItIs>>,
    /// How far each partition was read.
    reached: Positions,
    pub(super) records: u64,
    /// References, those to elsewhere and repeated ones included.
    pub(super) references: u64,
    /// Records that are marked as references and cannot be read, the first of them in words.
    pub(super) unreadable: u64,
    pub(super) first_unreadable: Option<String>,
    pub(super) partitions: usize,
}

fn hash(bucket: &str, key: &str) -> u128 {
    xxh3_128(format!("{bucket}\0{key}").as_bytes())
}

impl Live {
    pub(super) fn new(codec: ClaimCheck) -> Live {
        let named = HashSet::default();
        Live { codec, named, reached: Positions::new(), records: 0, references: 0, unreadable: 0, first_unreadable: None, partitions: 0 }
    }

    /// Which records are looked at: all that any consumer can be given, uncommitted ones too.
    pub(super) const ISOLATION: Isolation = Isolation::Everything;

    /// Different objects that are named.
    pub(super) fn objects(&self) -> usize {
        self.named.len()
    }

    /// Whether a record names the object of this path.
    pub(super) fn names(&self, path: &str) -> bool {
        let (bucket, key) = self.codec.named(path);
        self.named.contains(&hash(&bucket, &key))
    }

    /// Reads what these topics hold, from where it came to the last time. Blocks the thread.
    ///
    /// # Errors
    /// When a topic cannot be read to its end: then what is named is not known.
    pub(super) fn read(&mut self, log: &TopicLog, topics: &[String], dead_letters: Option<&str>) -> anyhow::Result<()> {
        let mut all = topics.to_vec();
        if let Some(topic) = dead_letters
            && !all.iter().any(|name| name == topic)
            && log.partitions(topic)?.is_some()
        {
            all.push(topic.to_owned());
        }
        let mut reached = std::mem::take(&mut self.reached);
        let partitions = read_all(log, &all, &mut reached, &mut |record| {
            self.take(record);
            Ok(ControlFlow::Continue(()))
        })?;
        self.partitions = partitions.len();
        self.reached = reached;
        Ok(())
    }

    fn take(&mut self, record: &Record<'_>) {
        self.records += 1;
        let headers = headers_of(record);
        let value = value_of(record);
        let of_value = self.note(value.as_ref(), &headers);
        let of_key = record.key.map(Bytes::copy_from_slice).and_then(|key| self.note_key(&key, &headers));
        if let Some(error) = of_value.or(of_key) {
            self.unreadable += 1;
            self.first_unreadable.get_or_insert_with(|| format!("record {} of `{}` [{}]: {error}", record.offset, record.topic, record.partition));
        }
    }

    /// Notes the object of a key that was offloaded; the error of one that is marked so and cannot be read.
    fn note_key(&mut self, key: &Bytes, headers: &Headers) -> Option<String> {
        let mut error = None;
        for format in FORMATS {
            match format.read_key(key, headers) {
                Ok(Some(reference)) => self.add(&reference.bucket, &reference.key),
                Ok(None) => {}
                Err(failure) => error = Some(failure.chain()),
            }
        }
        error
    }

    /// Notes whatever any format takes for a reference; the error of one that cannot be read here, but maybe by somebody else.
    fn note(&mut self, value: Option<&Bytes>, headers: &Headers) -> Option<String> {
        let mut error = None;
        for format in FORMATS {
            match format.read(value, headers) {
                Ok(Some(Found::Reference(reference))) => self.add(&reference.bucket, &reference.key),
                Ok(_) => {}
                Err(failure) if format.marked() || is_newer(&failure) => error = Some(failure.chain()),
                // a value that only looks like a reference is a user's own
                Err(_) => {}
            }
        }
        for (bucket, key) in value.and_then(of_dead_letter).into_iter().flatten() {
            self.add(&bucket, &key);
        }
        error
    }

    fn add(&mut self, bucket: &str, key: &str) {
        self.references += 1;
        if self.codec.named("").0 == bucket {
            self.named.insert(hash(bucket, key));
        }
    }
}

/// A reference that others can read, and we cannot.
fn is_newer(error: &kas3_claimcheck::Error) -> bool {
    matches!(error.reason(), Some(Reason::UnknownVersion | Reason::UnsupportedCompression))
}

/// A producer's dead letter names the payload of a record that was not delivered, or is not known to be: whoever looks into
/// that may want it. `{"error": …, "reference": {"bucket" or "s3_bucket": …, "key" or "s3_key": …}}`.
fn of_dead_letter(value: &Bytes) -> Option<[(String, String); 1]> {
    const LETTER_BYTES_MAX: usize = 1 << 20;
    if value.len() > LETTER_BYTES_MAX || value.first() != Some(&b'{') {
        return None;
    }
    let letter: serde_json::Value = serde_json::from_slice(value).ok()?;
    letter.get("error")?;
    let reference = letter.get("reference")?;
    let field = |names: [&str; 2]| names.iter().find_map(|name| reference.get(name)?.as_str()).map(str::to_owned);
    Some([(field(["bucket", "s3_bucket"])?, field(["key", "s3_key"])?)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use kas3_claimcheck::{About, ClaimCheckSettings, StorageSettings};
    use kas3_store::Secret;

    fn live(url: &str, format: &str) -> Live {
        let storage = StorageSettings {
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(Secret::new("key")),
            secret_access_key: Some(Secret::new("secret")),
            ..StorageSettings::default()
        };
        let storage = if url.starts_with("s3:") { storage } else { StorageSettings::default() };
        let settings = ClaimCheckSettings { url: url.to_owned(), format: format.to_owned(), storage, ..ClaimCheckSettings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Live::new(runtime.block_on(ClaimCheck::open(settings)).expect("a codec"))
    }

    #[test]
    fn references_of_every_format_are_live() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("file://{}", folder.path().display());
        for format in FORMATS.iter().filter(|format| format.writes() && format.name() != "bakdata" && !format.name().starts_with("bakdata")) {
            let mut live = live(&url, format.name());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let about = About { always: true, ..About::topic("t") };
            let sent = runtime.block_on(live.codec.offload(Bytes::from_static(b"payload"), &about)).expect("sent");
            let reference = sent.reference.expect("a reference");
            assert_eq!(live.note(Some(&sent.value), &sent.headers), None, "{}", format.name());
            assert!(live.names(&reference.key), "{}", format.name());
            assert!(!live.names("another"), "{}", format.name());
        }
    }

    #[test]
    fn keys_that_went_through_the_store_are_live() {
        let mut live = live("s3://payloads/a b", "bakdata");
        let flag = |flag: u8| vec![("__large.message.backed.key".to_owned(), Some(Bytes::copy_from_slice(&[flag])))];
        let key = Bytes::from_static(b"s3://payloads/a b/t/keys/1");
        assert_eq!((live.note_key(&key, &flag(0)), live.objects()), (None, 0), "a key that lies in its record");
        assert_eq!(live.note_key(&key, &flag(1)), None);
        assert!(live.names("t/keys/1"));
        assert!(live.note_key(&Bytes::from_static(b"no URL"), &flag(1)).is_some(), "what cannot be read is told");
    }

    #[test]
    fn dead_letters_keep_the_payloads_that_they_name() {
        for letter in [
            r#"{"error":"e","topic":"t","reference":{"bucket":"b","key":"k"}}"#,
            r#"{"error": "e", "reference": {"s3_bucket": "b", "s3_key": "k", "etag": null}}"#,
        ] {
            assert_eq!(of_dead_letter(&Bytes::from_static(letter.as_bytes())), Some([("b".to_owned(), "k".to_owned())]));
        }
        assert_eq!(of_dead_letter(&Bytes::from_static(br#"{"error":"e","reference":null}"#)), None);
    }

    #[test]
    fn a_marked_record_that_cannot_be_read_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut live = live(&format!("file://{}", folder.path().display()), "kas3");
        let headers = vec![("kas3-claim-check".to_owned(), Some(Bytes::from_static(b"9")))];
        assert!(live.note(Some(&Bytes::from_static(b"{}")), &headers).is_some_and(|error| error.contains("version")));
        assert_eq!(live.note(Some(&Bytes::from_static(br#"{"s3_bucket":"b","s3_key":"k","compression":7}"#)), &Headers::new()), None);
        for newer in [r#"{"kfs_lfs":2,"bucket":"b","key":"k"}"#, r#"{"s3_bucket":"b","s3_key":"k","compression":"brotli"}"#] {
            assert!(live.note(Some(&Bytes::from_static(newer.as_bytes())), &Headers::new()).is_some(), "{newer}");
        }
    }
}
