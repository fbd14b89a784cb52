//! The codec: payloads in, values and headers out, and back.

use crate::{
    Error, Kind, Reason, Result,
    about::About,
    formats::{Found, Inline},
    places::Places,
    read::{self, PayloadStream},
    reference::{Headers, Reference, header},
    resources::Resources,
    settings::{ClaimCheckSettings, Plan},
    write::{self, Upload},
};
use bytes::Bytes;
use kas3_store::{Observer, Unobserved};
use std::{path::Path, sync::Arc};
use tokio::{io::AsyncRead, sync::Semaphore};

/// A claim check, opened. Cheap to clone.
#[derive(Clone)]
pub struct ClaimCheck(Arc<Resources>);

/// What goes to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Value of the record.
    pub value: Bytes,
    /// Headers to add to the record's.
    pub headers: Headers,
    /// The payload's place, when it was offloaded.
    pub reference: Option<Reference>,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No value and no reference: on a compacted topic, the deletion of a key.
    Tombstone,
    /// The payload itself.
    Inline(Bytes),
    /// Where the payload is.
    Reference(Reference),
}

impl ClaimCheck {
    /// Looks at the settings and opens the stores. Makes no request but what credentials need.
    ///
    /// # Errors
    /// `Config` for settings that cannot be, naming the key and the way out.
    pub async fn open(settings: ClaimCheckSettings) -> Result<ClaimCheck> {
        ClaimCheck::open_observed(settings, Arc::new(Unobserved)).await
    }

    /// The same, with one who sees every request to the stores.
    ///
    /// # Errors
    /// As [`ClaimCheck::open`].
    pub async fn open_observed(settings: ClaimCheckSettings, observer: Arc<dyn Observer>) -> Result<ClaimCheck> {
        let plan = Plan::of(settings)?;
        let places = Places::open(&plan.settings, &observer).await?;
        let uploads = Semaphore::new(plan.settings.uploads);
        Ok(ClaimCheck(Arc::new(Resources { plan, places, uploads })))
    }

    /// Its settings.
    pub fn settings(&self) -> &ClaimCheckSettings {
        &self.0.plan.settings
    }

    /// The formats of references that are taken, in the order in which they are tried: those that look at headers first.
    pub fn accepts(&self) -> &[&'static dyn crate::ReferenceFormat] {
        &self.0.plan.accept
    }

    /// Where payloads are written, as `s3://bucket/prefix`.
    pub fn url(&self) -> &str {
        self.0.places.own().store.url()
    }

    /// Stores a payload if it is too large for its record, and says what the record holds.
    ///
    /// # Errors
    /// `Record` for a payload beyond `max_payload_bytes`; else those of the store. Nothing is left behind on purpose; a lost
    /// answer may leave an object without a reference.
    pub async fn offload(&self, payload: Bytes, about: &About<'_>) -> Result<Sent> {
        self.check_size(payload.len() as u64)?;
        if let Some(sent) = self.inline(&payload, about) {
            return Ok(sent);
        }
        let upload = Upload::of(&self.0, about)?;
        upload.whole(payload).await.and_then(|reference| self.sent(reference))
    }

    /// The record of a payload that stays in it; `None` when it must be offloaded.
    pub fn inline(&self, payload: &Bytes, about: &About<'_>) -> Option<Sent> {
        self.stays(payload, about).then(|| self.in_record(payload.clone()))
    }

    /// Whether a payload stays in its record.
    pub(crate) fn stays(&self, payload: &Bytes, about: &About<'_>) -> bool {
        let plan = &self.0.plan;
        let bytes = payload.len() as u64;
        if about.always || bytes > plan.settings.max_inline_bytes || about.room.is_some_and(|room| bytes + 1 > room) {
            return false;
        }
        // a payload that looks like a reference would be taken for one
        plan.format.inline() != Inline::Bare || matches!(plan.format.read(Some(payload), &Headers::new()), Ok(None))
    }

    /// The record of a payload that stays in it.
    pub(crate) fn in_record(&self, payload: Bytes) -> Sent {
        let mut headers = Headers::new();
        let plan = &self.0.plan;
        let value = plan.format.write_inline(payload, &mut headers);
        if let Some((name, mark)) = plan.format.inline_header().filter(|_| plan.settings.inline_header) {
            headers.push((name.to_owned(), Some(Bytes::from_static(mark))));
        }
        Sent { value, headers, reference: None }
    }

    /// Marks a record's key as one that lies in its record, where the format that is written marks keys.
    pub fn mark_key(&self, headers: &mut Headers) {
        self.0.plan.format.mark_key(headers);
    }

    /// The payload of a record as [`ClaimCheck::in_record`] made it, and the sender's headers.
    #[cfg(feature = "kafka")]
    pub(crate) fn out_of_record(&self, value: &Bytes, headers: Headers) -> (Bytes, Headers) {
        let format = self.0.plan.format;
        let payload = match format.read(Some(value), &headers) {
            Ok(Some(Found::Inline(payload))) => payload,
            _ => value.clone(),
        };
        (payload, headers.into_iter().filter(|(name, _)| !format.headers().contains(&name.as_str())).collect())
    }

    /// Stores what `reader` gives, which never lies in memory as a whole: parts of 8 MiB go up while it is read.
    ///
    /// # Errors
    /// `Record` beyond `max_payload_bytes`, or for key templates that need the payload's hash first (use
    /// [`ClaimCheck::offload_file`]); else those of the reader and the store.
    pub async fn offload_reader(&self, reader: impl AsyncRead + Send + Unpin, about: &About<'_>) -> Result<Sent> {
        if self.0.plan.keys.needs_hash() {
            return Err(Error::new(Kind::Record, "keys with `{sha256}` need the payload's hash before its first byte is sent")
                .hint("send a file or the whole payload, or use `{uuid}` in `keys`"));
        }
        let reference = Upload::of(&self.0, about)?.stream(reader, None, None).await?;
        self.sent(reference)
    }

    /// Stores a file without holding it in memory; small ones go into the record like any payload.
    ///
    /// # Errors
    /// `Record` beyond `max_payload_bytes`; else those of the file and the store.
    pub async fn offload_file(&self, path: &Path, about: &About<'_>) -> Result<Sent> {
        let unreadable = |error: std::io::Error| Error::new(Kind::Record, format!("`{}` cannot be read", path.display())).source(error);
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let bytes = file.metadata().await.map_err(unreadable)?.len();
        self.check_size(bytes)?;
        if bytes <= self.0.plan.settings.max_inline_bytes.max(kas3_store::PART_BYTES as u64) {
            let payload = tokio::fs::read(path).await.map_err(unreadable)?;
            return self.offload(payload.into(), about).await;
        }
        let known = if self.0.plan.keys.needs_hash() { Some(write::hash_file(path).await.map_err(unreadable)?) } else { None };
        let reference = Upload::of(&self.0, about)?.stream(file, Some(bytes), known).await?;
        self.sent(reference)
    }

    fn sent(&self, reference: Reference) -> Result<Sent> {
        let mut headers = Headers::new();
        let value = self.0.plan.format.write(&reference, &mut headers)?;
        Ok(Sent { value, headers, reference: Some(reference) })
    }

    pub(crate) fn check_size(&self, bytes: u64) -> Result<()> {
        let most = self.0.plan.settings.max_payload_bytes;
        if bytes > most {
            return Err(Error::new(Kind::Record, format!("the payload has {bytes} bytes, more than `max_payload_bytes` ({most})"))
                .hint("raise `max_payload_bytes` here and at the consumers"));
        }
        Ok(())
    }

    /// Headers that no record of a user may carry: they are those of the formats that are written or taken.
    ///
    /// # Errors
    /// `Record`, naming the header.
    pub fn check_headers(&self, headers: &Headers) -> Result<()> {
        let plan = &self.0.plan;
        let formats = || std::iter::once(&plan.format).chain(&plan.accept);
        for (name, _) in headers {
            if formats().any(|format| format.headers().contains(&name.as_str())) {
                return Err(Error::new(Kind::Record, format!("the record carries the header `{name}`, which marks references"))
                    .hint("leave it out: a consumer would take the payload for a reference"));
            }
        }
        Ok(())
    }

    /// What a record holds, by the formats that are accepted, in their order. Makes no request.
    ///
    /// # Errors
    /// `Integrity` for a reference that cannot be read, or a payload in a record where those are not allowed.
    pub fn claim(&self, value: Option<&Bytes>, headers: &Headers) -> Result<Claim> {
        for format in &self.0.plan.accept {
            match format.read(value, headers)? {
                Some(Found::Reference(reference)) => return Ok(Claim::Reference(reference)),
                Some(Found::Inline(payload)) => return self.inline_claim(payload),
                None => {}
            }
        }
        match value {
            None => Ok(Claim::Tombstone),
            Some(value) => self.inline_claim(value.clone()),
        }
    }

    fn inline_claim(&self, payload: Bytes) -> Result<Claim> {
        if !self.0.plan.settings.allow_inline_payloads {
            return Err(Error::refused(Reason::InlineNotAllowed, "the record holds no reference, and `allow_inline_payloads` is false")
                .hint("name the format of its reference in `accept`, or allow payloads in records"));
        }
        Ok(Claim::Inline(payload))
    }

    /// Where a record's key lies, when the key went through the store: some formats offload keys as well as values.
    ///
    /// # Errors
    /// `Integrity` for a reference that cannot be read.
    pub fn key_reference(&self, key: Option<&Bytes>, headers: &Headers) -> Result<Option<Reference>> {
        let Some(key) = key.filter(|_| !headers.is_empty()) else { return Ok(None) };
        for format in &self.0.plan.accept {
            if let Some(reference) = format.read_key(key, headers)? {
                return Ok(Some(reference));
            }
        }
        Ok(None)
    }

    /// The key of a record: fetched and verified when it went through the store, else as it is.
    ///
    /// # Errors
    /// Those of [`ClaimCheck::key_reference`] and [`ClaimCheck::fetch`].
    pub async fn resolve_key(&self, key: Option<Bytes>, headers: &Headers) -> Result<Option<Bytes>> {
        match self.key_reference(key.as_ref(), headers)? {
            Some(reference) => self.fetch(&reference).await.map(Some),
            None => Ok(key),
        }
    }

    /// The payload of a record, verified; `None` for a tombstone.
    ///
    /// # Errors
    /// Those of [`ClaimCheck::claim`] and [`ClaimCheck::fetch`].
    pub async fn resolve(&self, value: Option<Bytes>, headers: &Headers) -> Result<Option<Bytes>> {
        match self.claim(value.as_ref(), headers)? {
            Claim::Tombstone => Ok(None),
            Claim::Inline(payload) => Ok(Some(payload)),
            Claim::Reference(reference) => self.fetch(&reference).await.map(Some),
        }
    }

    /// The headers of a record without those of references: what its sender gave it.
    pub fn headers_of_user(&self, headers: &Headers) -> Headers {
        let ours = |name: &str| self.0.plan.accept.iter().any(|format| format.headers().contains(&name));
        headers.iter().filter(|(name, _)| !ours(name)).cloned().collect()
    }

    /// Reads the payload that a reference names, and verifies it.
    ///
    /// # Errors
    /// `Integrity` with its [`Reason`]; `Missing` (404), `Denied` (403), `Transient` when the store does not answer.
    pub async fn fetch(&self, reference: &Reference) -> Result<Bytes> {
        read::whole(&self.0, reference, &mut read::Unlimited).await
    }

    /// The same, once there is room for it.
    #[cfg(feature = "kafka")]
    pub(crate) async fn fetch_within(&self, reference: &Reference, room: &mut impl read::Admission) -> Result<Bytes> {
        read::whole(&self.0, reference, room).await
    }

    /// Opens the payload that a reference names as a stream: what it gives was verified with all that came before.
    ///
    /// # Errors
    /// As [`ClaimCheck::fetch`]; the later ones come from the stream.
    pub async fn stream(&self, reference: &Reference) -> Result<PayloadStream> {
        read::stream(self.0.clone(), reference).await
    }

    /// Whether the object is there and is as large as its reference says, by one request that reads no bytes. `None`: gone.
    ///
    /// # Errors
    /// As [`ClaimCheck::fetch`], but what only the bytes can tell.
    pub async fn look(&self, reference: &Reference) -> Result<Option<kas3_store::Info>> {
        let (place, path) = self.0.places.of(reference)?;
        Ok(place.store.info(path).await?)
    }

    /// Deletes a payload. A shared one is left: other records may name it.
    ///
    /// # Errors
    /// Those of the store, and of a reference to another place.
    pub async fn delete(&self, reference: &Reference) -> Result<()> {
        if reference.shared {
            return Ok(());
        }
        let (place, path) = self.0.places.of(reference)?;
        Ok(place.store.delete(path).await?)
    }

    /// The store in which payloads are written, for who lists them.
    pub fn store(&self) -> &kas3_store::Store {
        &self.0.places.own().store
    }

    /// Bucket and key of a path below the prefix, as references name it.
    pub fn named(&self, path: &str) -> (String, String) {
        let own = self.0.places.own();
        (own.bucket.clone(), own.key(path))
    }

    /// Whether a record's headers say that it is a reference of kas3.
    pub fn is_marked(headers: &Headers) -> bool {
        header(headers, crate::formats::KAS3_HEADER).is_some()
    }
}
