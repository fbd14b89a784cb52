//! What a reference says of a payload, whatever the format that carries it.

use crate::{Error, Reason, Result};
use bytes::Bytes;
use kas3_store::StoreUrl;
use sha2::{Digest, Sha256};

/// Headers of a record, in order; a name may occur again, a value may be null.
pub type Headers = Vec<(String, Option<Bytes>)>;

/// The newest value under `name`.
pub(crate) fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_deref().unwrap_or_default())
}

/// SHA-256 of a payload, uncompressed.
pub type Sha = [u8; 32];

/// How an object's bytes are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, with no time in its header: equal payloads make equal objects.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy in the framing of Kafka's Java client; read only.
    Snappy,
    /// LZ4 frames; read only.
    Lz4,
}

impl Compression {
    /// The name in references, as `gzip`; none for [`Compression::None`].
    pub fn name(self) -> Option<&'static str> {
        match self {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::Snappy => Some("snappy"),
            Compression::Lz4 => Some("lz4"),
        }
    }

    /// By the name in a reference.
    ///
    /// # Errors
    /// `unsupported_compression` for a name that is not known.
    pub fn named(name: Option<&str>) -> Result<Compression> {
        match name {
            None | Some("" | "none") => Ok(Compression::None),
            Some("gzip") => Ok(Compression::Gzip),
            Some("zstd") => Ok(Compression::Zstd),
            Some("snappy") => Ok(Compression::Snappy),
            Some("lz4") => Ok(Compression::Lz4),
            Some(other) => Err(Error::refused(Reason::UnsupportedCompression, format!("compression `{}` is not known", other.escape_debug()))),
        }
    }
}

/// Bytes of a prefix sum.
pub const PREFIX_SUM_BYTES: usize = 16;
/// Prefix sums of one reference at most: what a reference may weigh.
pub const PREFIX_SUMS_MAX: usize = 1024;
/// A payload's first chunk size; doubled until [`PREFIX_SUMS_MAX`] are enough.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Checksums by which a stream is verified while it is read: after every `chunk` bytes of the payload, the first 16 bytes of
/// the SHA-256 of **everything so far**. They cost no second pass over the payload, and what was handed out was verified with
/// all that came before it. The end is covered by the payload's own SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixSums {
    /// Bytes of the payload between two sums.
    pub chunk: u64,
    /// One sum after each whole chunk, the payload's end aside.
    pub sums: Vec<[u8; PREFIX_SUM_BYTES]>,
}

/// A payload in a store, as a reference names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// Bucket; for payloads on a local disk the folder's URL, `file:///folder`.
    pub bucket: String,
    /// Key of the object in its bucket.
    pub key: String,
    /// Bytes of the payload, uncompressed.
    pub size: Option<u64>,
    /// Media type.
    pub content_type: Option<String>,
    /// SHA-256 of the payload, uncompressed.
    pub sha256: Option<Sha>,
    /// Checksums of its chunks, for payloads of more than one.
    pub prefix_sums: Option<PrefixSums>,
    /// The object's ETag, without quotes.
    pub etag: Option<String>,
    /// How the object is compressed.
    pub compression: Compression,
    /// Server-side encryption that it was written with, as `aws:kms`: a hint for who is denied.
    pub encryption: Option<String>,
    /// Other records may name the same object: it is never deleted after one of them.
    pub shared: bool,
}

/// What a compressed payload comes to when its reference does not say: times its object, a guess.
const INFLATED_TIMES: u64 = 8;

impl Reference {
    /// Bytes of the payload, for who reserves memory: what the reference says, else a guess from the object's bytes.
    pub fn payload_bytes(&self, object_bytes: u64) -> u64 {
        let times = if self.compression == Compression::None { 1 } else { INFLATED_TIMES };
        self.size.unwrap_or(object_bytes.saturating_mul(times))
    }

    /// `s3://bucket/key`.
    pub fn url(&self) -> String {
        if self.bucket.contains("://") { format!("{}/{}", self.bucket, self.key) } else { StoreUrl::s3(&self.bucket, "").join(&self.key) }
    }
}

/// Hashes a payload as it passes: its SHA-256, and the prefix sums.
#[derive(Clone)]
pub(crate) struct Hasher {
    sha: Sha256,
    chunk: u64,
    bytes: u64,
    sums: Vec<[u8; PREFIX_SUM_BYTES]>,
}

impl Hasher {
    /// For a payload of so many bytes, when that is known.
    pub(crate) fn new(expected: Option<u64>) -> Hasher {
        let mut chunk = CHUNK_BYTES;
        while expected.is_some_and(|bytes| bytes / chunk > PREFIX_SUMS_MAX as u64) {
            chunk *= 2;
        }
        Hasher::with_chunk(chunk)
    }

    pub(crate) fn with_chunk(chunk: u64) -> Hasher {
        Hasher { sha: Sha256::new(), chunk, bytes: 0, sums: Vec::new() }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.bytes > 0 && self.bytes.is_multiple_of(self.chunk) {
                self.note_sum();
            }
            let room = self.chunk - self.bytes % self.chunk;
            let take = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
            self.sha.update(&bytes[..take]);
            self.bytes += take as u64;
            bytes = &bytes[take..];
        }
    }

    /// A stream of unknown length doubles its chunks as it grows: every second sum stays.
    fn note_sum(&mut self) {
        self.sums.push(short(&self.sha));
        if self.sums.len() > PREFIX_SUMS_MAX {
            self.chunk *= 2;
            self.sums = self.sums.iter().skip(1).step_by(2).copied().collect();
            if !self.bytes.is_multiple_of(self.chunk) {
                // the newest one stands at the middle of a chunk now
                self.sums.truncate(usize::try_from(self.bytes / self.chunk).unwrap_or(usize::MAX));
            }
        }
    }

    /// Bytes that passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a sum after the bytes so far is.
    pub(crate) fn sum(&self) -> [u8; PREFIX_SUM_BYTES] {
        short(&self.sha)
    }

    pub(crate) fn finish(self) -> (Sha, Option<PrefixSums>) {
        let sums = (!self.sums.is_empty()).then_some(PrefixSums { chunk: self.chunk, sums: self.sums });
        (self.sha.finalize().into(), sums)
    }
}

fn short(sha: &Sha256) -> [u8; PREFIX_SUM_BYTES] {
    let whole: Sha = sha.clone().finalize().into();
    let mut sum = [0; PREFIX_SUM_BYTES];
    sum.copy_from_slice(&whole[..PREFIX_SUM_BYTES]);
    sum
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// A SHA-256 in hexadecimal, either case.
pub(crate) fn sha_of_hex(text: &str) -> Option<Sha> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut sha = [0; 32];
    for (byte, pair) in sha.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(sha)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums_of(payload: &[u8], chunk: u64) -> Vec<[u8; PREFIX_SUM_BYTES]> {
        let whole = usize::try_from(chunk).unwrap();
        let ends = (1..).map(|n| n * whole).take_while(|end| *end < payload.len());
        ends.map(|end| Sha256::digest(&payload[..end])[..PREFIX_SUM_BYTES].try_into().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn sums_do_not_depend_on_how_the_payload_comes(payload in proptest::collection::vec(any::<u8>(), 0..2000), cuts in proptest::collection::vec(1usize..300, 1..20)) {
            let mut hasher = Hasher::with_chunk(64);
            let mut rest = &payload[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                hasher.update(piece);
                rest = after;
            }
            let (sha, sums) = hasher.finish();
            prop_assert_eq!(sha, <Sha>::from(Sha256::digest(&payload)));
            prop_assert_eq!(sums.map_or_else(Vec::new, |sums| sums.sums), sums_of(&payload, 64));
        }
    }

    #[test]
    fn a_stream_of_unknown_length_keeps_a_bounded_number_of_sums() {
        let payload: Vec<u8> = (0..4 * PREFIX_SUMS_MAX * 4 + 3).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut hasher = Hasher::with_chunk(4);
        payload.chunks(7).for_each(|piece| hasher.update(piece));
        let sums = hasher.finish().1.unwrap();
        assert!(sums.sums.len() <= PREFIX_SUMS_MAX && sums.chunk > 4, "{} of {}", sums.sums.len(), sums.chunk);
        assert_eq!(sums.sums, sums_of(&payload, sums.chunk));
    }

    #[test]
    fn hexadecimal_goes_both_ways() {
        let sha: Sha = Sha256::digest(b"kas3").into();
        assert_eq!(sha_of_hex(&hex(&sha)), Some(sha));
        assert_eq!(sha_of_hex(&hex(&sha).to_uppercase()), Some(sha));
        assert_eq!((sha_of_hex("ab"), sha_of_hex(&"zz".repeat(32))), (None, None));
    }
}
