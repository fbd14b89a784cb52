//! `claim_check`: references become the payloads that they name, verified.
//!
//! A payload that is gone, forbidden or not what was sent is a bad record: its policy decides, and no line is ever written for
//! it in silence. A store that does not answer is waited for.

use super::{Configured, Prefetch, PrefetchPlan, Probe, Request, Step};
use crate::{
    error::{Error, Kind, Result},
    record::{Change, Headers, OwnedHeaders, Record},
    registry::Entry,
    units::Bytes as Size,
    urls::{check_storage, check_url},
};
use async_trait::async_trait;
use bytes::Bytes;
use kas3_claimcheck::{Claim, ClaimCheck, ClaimCheckSettings, Kind as Claims, Reason, Reference, format_named};
use kas3_store::{Observer, StorageSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::sync::Arc;
use tokio::sync::Semaphore;

pub(super) const ENTRY: Entry<Arc<dyn Configured>> = Entry {
    name: "claim_check",
    doc: "Writes the payloads that references name, not the references: payloads too large for Kafka that were sent through an object \
          store. Each is verified by size, ETag and SHA-256. One that is gone, forbidden or not what was sent is a bad record \
          (`bad_records`); a store that does not answer is waited for. Tombstones and payloads in records pass as they are. Keys that were \
          sent through the store, which bakdata's serde can do, are fetched as well.",
    schema: ClaimCheckTransform::json_schema,
    read: |json| Ok(Arc::new(serde_json::from_value::<ClaimCheckTransform>(json)?)),
};

/// Which references are believed, and how their payloads are read.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimCheckTransform {
    /// Where the payloads lie: `s3://bucket/prefix` or `file:///folder`. References to elsewhere are refused.
    #[schemars(extend("examples" = ["s3://payloads/orders"]))]
    pub url: String,
    /// How that store is reached; by default as `sink.storage`.
    #[serde(default)]
    pub storage: Option<StorageSettings>,
    /// Further places whose payloads references may name, as URLs; reached with the same `storage`.
    #[serde(default)]
    #[schemars(extend("examples" = [["s3://payloads-of-last-year/orders"]]))]
    pub read_from: Vec<String>,
    /// Formats of the references that are taken: `kas3`, `kaf-s3-connector`, `bakdata`, `bakdata-value`,
    /// `aws-payload-offloading`, `kafscale` or `irori`. By default those that mark references by a header, so that no payload can be
    /// mistaken for one. Two that cannot be told apart in one topic are refused.
    #[serde(default)]
    #[schemars(extend("examples" = [["kas3", "kaf-s3-connector"]]))]
    pub accept: Vec<String>,
    /// A larger payload is a bad record. Each is held in memory whole, and twice while it is written; one that is larger than what
    /// `memory` has for payloads (about a twelfth of it) is read alone, and may exceed `memory`.
    #[serde(default = "default_payload")]
    #[schemars(extend("examples" = ["256MiB"]))]
    pub max_payload_bytes: Size,
    /// References without a checksum are bad records.
    #[serde(default = "yes")]
    pub require_integrity: bool,
    /// Records that hold their payload pass as they are; `false`: they are bad records.
    #[serde(default = "yes")]
    pub allow_inline_payloads: bool,
    /// All producers that write `kas3` to these topics have `inline_header: true`, so their payloads in records are marked and
    /// `bakdata-value` can be accepted beside.
    #[serde(default)]
    pub inline_header: bool,
    /// Payloads that are read at once by one process.
    #[serde(default = "default_downloads")]
    #[schemars(extend("examples" = [64]))]
    pub downloads: usize,
}

fn default_payload() -> Size {
    Size(64 << 20)
}
fn default_downloads() -> usize {
    32
}
fn yes() -> bool {
    true
}

impl Configured for ClaimCheckTransform {
    fn build(&self, key: &str, sink_storage: (&str, &StorageSettings)) -> Result<Step> {
        let config = |what: String| Error::new(Kind::Config, what);
        let url = check_url(&format!("{key}.url"), &self.url)?;
        let mut urls = vec![url.clone()];
        for (index, place) in self.read_from.iter().enumerate() {
            urls.push(check_url(&format!("{key}.read_from[{index}]"), place)?);
        }
        let (storage_key, storage) = match &self.storage {
            Some(own) => (format!("{key}.storage"), own),
            None => (sink_storage.0.to_owned(), sink_storage.1),
        };
        check_storage(&storage_key, storage, &urls)?;
        for (index, name) in self.accept.iter().enumerate() {
            format_named(name).map_err(|error| {
                let named = config(format!("`{key}.accept[{index}]`: {error}"));
                named.hint(error.way_out().unwrap_or_default())
            })?;
        }
        for (name, zero) in [("max_payload_bytes", self.max_payload_bytes.0 == 0), ("downloads", self.downloads == 0)] {
            if zero {
                return Err(config(format!("`{key}.{name}` is zero")).hint("no payload could ever be read; leave the key out for its default"));
            }
        }
        let settings = ClaimCheckSettings {
            url,
            storage: storage.clone(),
            read_from: urls.split_off(1),
            accept: self.accept.clone(),
            max_inline_bytes: 0,
            max_payload_bytes: self.max_payload_bytes.0,
            require_integrity: self.require_integrity,
            allow_inline_payloads: self.allow_inline_payloads,
            inline_header: self.inline_header,
            ..ClaimCheckSettings::default()
        };
        settings.check().map_err(|error| config(format!("`{key}`: {error}")).hint(error.way_out().unwrap_or_default()))?;
        Ok(Step::Prefetch(Arc::new(ClaimCheckPlan { settings, downloads: self.downloads })))
    }

    fn json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn storage(&self) -> Option<&StorageSettings> {
        self.storage.as_ref()
    }
}

/// A claim check that was validated.
#[derive(Debug)]
struct ClaimCheckPlan {
    settings: ClaimCheckSettings,
    downloads: usize,
}

#[async_trait]
impl PrefetchPlan for ClaimCheckPlan {
    fn about(&self) -> String {
        let ClaimCheckSettings { url, read_from, accept, max_payload_bytes, .. } = &self.settings;
        let listed = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let places = if read_from.is_empty() { String::new() } else { format!(" and {}", listed(read_from)) };
        let formats = if accept.is_empty() { "any format that marks its references by a header".to_owned() } else { listed(accept) };
        let size = Size(*max_payload_bytes);
        format!("`claim_check`: payloads up to `{size}` from `{url}`{places}, {} at once; references of {formats}", self.downloads)
    }

    async fn open(&self, observer: Arc<dyn Observer>) -> Result<Arc<dyn Prefetch>> {
        let claims = ClaimCheck::open_observed(self.settings.clone(), observer).await.map_err(of_claim)?;
        let formats = claims.accepts();
        let headers: Vec<&'static str> = formats.iter().flat_map(|format| format.headers()).copied().collect();
        let marked = formats.iter().all(|format| format.marked() && !format.headers().is_empty());
        let permits = Arc::new(Semaphore::new(self.downloads.min(Semaphore::MAX_PERMITS)));
        Ok(Arc::new(ClaimChecks { claims, headers, marked, permits, at_once: self.downloads }))
    }
}

/// A claim check, opened.
struct ClaimChecks {
    claims: ClaimCheck,
    /// Headers of the formats that are taken: they are no user's.
    headers: Vec<&'static str>,
    /// No record without one of these headers is a reference.
    marked: bool,
    permits: Arc<Semaphore>,
    at_once: usize,
}

impl ClaimChecks {
    fn is_ours(&self, name: &[u8]) -> bool {
        self.headers.iter().any(|ours| ours.as_bytes() == name)
    }

    /// What the formats look at.
    fn headers_of_formats(&self, record: &Record<'_>) -> kas3_claimcheck::Headers {
        let Some(headers) = record.headers else { return Vec::new() };
        let ours = (0..headers.len()).filter_map(|index| headers.get(index)).filter(|(name, _)| self.is_ours(name));
        ours.map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice))).collect()
    }

    /// What the sender gave beside the payload.
    fn headers_of_user(&self, record: &Record<'_>) -> OwnedHeaders {
        let all = |headers: &dyn Headers| {
            let user = (0..headers.len()).filter_map(|index| headers.get(index)).filter(|(name, _)| !self.is_ours(name));
            user.map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect()
        };
        OwnedHeaders(record.headers.map_or_else(Vec::new, all))
    }
}

#[async_trait]
impl Prefetch for ClaimChecks {
    fn request(&self, record: &Record<'_>) -> Result<Option<Box<dyn Request>>> {
        let headers = self.headers_of_formats(record);
        let inline_allowed = self.claims.settings().allow_inline_payloads;
        if headers.is_empty() && (record.value.is_none() || (self.marked && inline_allowed)) {
            return Ok(None);
        }
        let value = record.value.map(Bytes::copy_from_slice);
        let claim = self.claims.claim(value.as_ref(), &headers).map_err(of_claim)?;
        let key = self.claims.key_reference(record.key.map(Bytes::copy_from_slice).as_ref(), &headers).map_err(of_claim)?;
        let (here, reference) = match claim {
            Claim::Reference(reference) => (None, Some(reference)),
            Claim::Inline(payload) => (Some(payload), None),
            Claim::Tombstone => (None, None),
        };
        if headers.is_empty() && reference.is_none() && here.as_deref() == record.value {
            return Ok(None);
        }
        let change = Change { value: here, key: None, headers: self.headers_of_user(record) };
        if reference.is_none() && key.is_none() {
            return Ok(Some(Box::new(InlinePayload(change))));
        }
        let (claims, permits) = (self.claims.clone(), Arc::clone(&self.permits));
        Ok(Some(Box::new(Payloads { claims, permits, reference, key, change })))
    }

    fn at_once(&self) -> usize {
        self.at_once
    }

    async fn probe(&self) -> Vec<Probe> {
        let settings = self.claims.settings();
        let mut tried = Vec::new();
        for url in std::iter::once(&settings.url).chain(&settings.read_from) {
            let (bucket, prefix) = kas3_claimcheck::bucket_and_prefix(url);
            let key = format!("{prefix}kas3-check-{:016x}", rand::random::<u64>());
            let nothing = Reference { bucket, key, sha256: Some([0; 32]), ..Reference::default() };
            tried.push(match self.claims.fetch(&nothing).await {
                Err(error) if error.reason() == Some(Reason::ObjectForbidden) => Probe::Known(format!(
                    "payloads in `{url}`: the store refuses to say what is not there; without `s3:ListBucket` a payload that is gone looks like a forbidden one"
                )),
                Err(error) if error.reason() != Some(Reason::ObjectMissing) => {
                    Probe::Bad(of_claim(error.doing(format_args!("payloads in `{url}` cannot be asked for"))))
                }
                _ => Probe::Good(format!("payloads in `{url}` can be asked for")),
            });
        }
        tried
    }
}

/// A payload that lies in its record, without what its format puts around it.
struct InlinePayload(Change);

#[async_trait]
impl Request for InlinePayload {
    async fn bytes(&self) -> u64 {
        self.0.value.as_ref().map_or(0, |value| value.len() as u64)
    }

    async fn fetch(&self) -> Result<Change> {
        Ok(self.0.clone())
    }
}

/// A record's payload in a store, its key there, or both.
struct Payloads {
    claims: ClaimCheck,
    permits: Arc<Semaphore>,
    /// Of the payload; without one it is in `change` already.
    reference: Option<Reference>,
    /// Of the key; without one it stays as it is.
    key: Option<Reference>,
    change: Change,
}

impl Payloads {
    /// The reference says it, or the store is asked without reading a byte.
    async fn bytes_of(&self, reference: &Reference) -> u64 {
        let most = self.claims.settings().max_payload_bytes;
        let bytes = match reference.size {
            Some(bytes) => bytes,
            None => {
                let _permit = self.permits.acquire().await;
                // whatever is wrong shows when it is read
                self.claims.look(reference).await.ok().flatten().map_or(0, |info| reference.payload_bytes(info.bytes))
            }
        };
        bytes.min(most)
    }

    async fn fetched(&self, reference: &Reference) -> Result<Bytes> {
        let _permit = self.permits.acquire().await;
        self.claims.fetch(reference).await.map_err(of_claim)
    }
}

#[async_trait]
impl Request for Payloads {
    /// Room is taken in order, before anything is read.
    async fn bytes(&self) -> u64 {
        let mut bytes = self.change.value.as_ref().map_or(0, |value| value.len() as u64);
        for reference in self.reference.iter().chain(&self.key) {
            bytes += self.bytes_of(reference).await;
        }
        bytes
    }

    async fn fetch(&self) -> Result<Change> {
        let mut change = self.change.clone();
        if let Some(reference) = &self.reference {
            change.value = Some(self.fetched(reference).await?);
        }
        if let Some(key) = &self.key {
            change.key = Some(self.fetched(key).await?);
        }
        Ok(change)
    }
}

/// An error of the claim check by what the pipeline does about it. What a store says of the bucket or of credentials may pass;
/// what it says of one payload is about the record.
fn of_claim(error: kas3_claimcheck::Error) -> Error {
    let kind = match (error.kind(), error.reason()) {
        (_, Some(_)) | (Claims::Record | Claims::Integrity, None) => Kind::BadRecord,
        (Claims::Config, None) => Kind::Config,
        (Claims::Missing | Claims::Denied | Claims::Transient, None) => Kind::Transient,
        (Claims::Fatal, None) => Kind::Fatal,
    };
    let (reason, hint) = (error.reason().map(Reason::code), error.way_out().map(str::to_owned));
    let mut ours = Error::new(kind, error.to_string()).source(error);
    if let Some(hint) = hint {
        ours = ours.hint(hint);
    }
    match reason {
        Some(reason) => ours.because(reason),
        None => ours,
    }
}
