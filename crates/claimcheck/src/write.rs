//! Payloads go up: in one piece, or in parts while they are read, hashed on the way.

use crate::{
    Error, Kind, Result,
    about::About,
    compress::{self, Compressor},
    reference::{Compression, Hasher, Reference, Sha, hex},
    resources::Resources,
    work,
};
use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesOrdered, StreamExt};
use kas3_store::{Completed, PART_BYTES, PartId, PutOptions, Store, UploadId};
use std::{borrow::Cow, path::Path};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Parts of one stream in flight: what it may hold in memory is one more.
const PARTS_IN_FLIGHT: usize = 4;
/// Where a disk keeps parts meanwhile, below the prefix; S3 has a place of its own for them.
const STAGING: &str = "_kas3/uploads";
/// Bytes read and hashed at a time.
const READ_BYTES: usize = 1 << 20;

/// One payload on its way up.
pub(crate) struct Upload<'a> {
    resources: &'a Resources,
    about: &'a About<'a>,
    uuid: uuid::Uuid,
}

impl<'a> Upload<'a> {
    pub(crate) fn of(resources: &'a Resources, about: &'a About<'a>) -> Result<Upload<'a>> {
        Ok(Upload { resources, about, uuid: uuid::Uuid::new_v4() })
    }

    fn store(&self) -> &Store {
        &self.resources.places.own().store
    }

    fn compression(&self) -> Compression {
        self.resources.plan.settings.compression
    }

    /// Below the prefix. Objects that are named by their content say how they are compressed: one name, one object.
    fn path(&self, sha256: Option<&Sha>) -> String {
        let keys = &self.resources.plan.keys;
        let key = keys.key(self.about.topic, &self.uuid, sha256);
        match self.compression() {
            Compression::Gzip if keys.names_content() => format!("{key}.gz"),
            Compression::Zstd if keys.names_content() => format!("{key}.zst"),
            _ => key,
        }
    }

    fn options(&self, sha256: Option<&Sha>) -> PutOptions {
        let plan = &self.resources.plan;
        let content_type = self.about.content_type.unwrap_or("application/octet-stream").to_owned();
        let mut options = PutOptions::data(content_type);
        if plan.format.marks_objects() {
            options.metadata.push((Cow::Borrowed("kas3-claim-check"), "1".to_owned()));
            options.metadata.extend(sha256.map(|sha| (Cow::Borrowed("kas3-sha256"), hex(sha))));
            options.metadata.extend(self.compression().name().map(|name| (Cow::Borrowed("kas3-compression"), name.to_owned())));
        }
        if let Some(seconds) = plan.settings.ttl_seconds {
            let now = jiff::Timestamp::now().as_second();
            options.metadata.push((Cow::Borrowed("ttl_epoch"), (now + i64::try_from(seconds).unwrap_or(i64::MAX / 2)).to_string()));
            options.tags.push((plan.format.ttl_tag().to_owned(), seconds.to_string()));
        }
        options
    }

    fn reference(&self, path: &str, bytes: u64, hasher: Hasher, etag: Option<String>) -> Reference {
        let place = self.resources.places.own();
        let settings = &self.resources.plan.settings;
        let (sha256, prefix_sums) = hasher.finish();
        let shared = self.resources.plan.keys.names_content();
        Reference {
            bucket: place.bucket.clone(),
            key: place.key(path),
            size: Some(bytes),
            content_type: self.about.content_type.map(str::to_owned),
            sha256: Some(sha256),
            prefix_sums,
            // a shared object may be written again, with an ETag of its own where the store encrypts
            etag: etag.filter(|etag| place.has_etags() && !shared && !etag.is_empty()),
            compression: self.compression(),
            encryption: settings.storage.sse.map(|sse| sse.name().to_owned()),
            shared,
        }
    }

    /// A payload that lies in memory.
    pub(crate) async fn whole(&self, payload: Bytes) -> Result<Reference> {
        let _permit = self.resources.uploads.acquire().await.map_err(|error| Error::new(Kind::Fatal, "the claim check is closed").source(error))?;
        let bytes = payload.len() as u64;
        let (compression, level) = (self.compression(), self.resources.plan.settings.level);
        let parts = bytes > self.resources.plan.multipart_bytes && compression == Compression::None;
        if parts && !self.resources.plan.keys.needs_hash() {
            // hashed part by part while the parts before it go up
            return self.parts_of(payload).await;
        }
        let work = move || {
            let mut hasher = Hasher::new(Some(bytes));
            hasher.update(&payload);
            let object = match compression {
                Compression::None => payload,
                _ => compress::compress(compression, level, &payload)?.into(),
            };
            Ok((hasher, object))
        };
        let (hasher, object): (Hasher, Bytes) = work::on_bytes(bytes, work).await?;
        let sha256 = hasher.clone().finish().0;
        let path = self.path(Some(&sha256));
        let options = self.options(Some(&sha256));
        if object.len() as u64 > self.resources.plan.multipart_bytes {
            self.known_parts(&path, &options, object).await?;
            return Ok(self.reference(&path, bytes, hasher, None));
        }
        let signed = if compression == Compression::None { Some(sha256) } else { None };
        let options = PutOptions { sha256: signed, ..options };
        let version = self.store().put(&path, object, &options).await?;
        Ok(self.reference(&path, bytes, hasher, Some(version.0)))
    }

    async fn known_parts(&self, path: &str, options: &PutOptions, object: Bytes) -> Result<()> {
        let mut parts = Parts::begin(self.store(), path, options).await?;
        let sent = async {
            let mut rest = object;
            while !rest.is_empty() {
                parts.send(rest.split_to(rest.len().min(PART_BYTES))).await?;
            }
            parts.complete().await
        }
        .await;
        parts.ended(sent).await
    }

    async fn parts_of(&self, payload: Bytes) -> Result<Reference> {
        let bytes = payload.len() as u64;
        let path = self.path(None);
        let options = self.options(None);
        let mut parts = Parts::begin(self.store(), &path, &options).await?;
        let mut hasher = Hasher::new(Some(bytes));
        let sent = async {
            let mut rest = payload;
            while !rest.is_empty() {
                let part = rest.split_to(rest.len().min(PART_BYTES));
                let hashed = part.clone();
                let mut moved = hasher.clone();
                // the part goes up while it is hashed
                let hashing = work::beside(move || {
                    moved.update(&hashed);
                    moved
                });
                let (hashed, sent) = tokio::join!(hashing, parts.send(part));
                sent?;
                hasher = hashed?;
            }
            parts.complete().await
        }
        .await;
        parts.ended(sent).await?;
        Ok(self.reference(&path, bytes, hasher, None))
    }

    /// What a reader gives. `size` is for its chunks, when known; `sha256` for keys that need it, and is compared at the end.
    pub(crate) async fn stream(&self, mut reader: impl AsyncRead + Send + Unpin, size: Option<u64>, sha256: Option<Sha>) -> Result<Reference> {
        let _permit = self.resources.uploads.acquire().await.map_err(|error| Error::new(Kind::Fatal, "the claim check is closed").source(error))?;
        let path = self.path(sha256.as_ref());
        let options = self.options(sha256.as_ref());
        let mut source = Source::new(self.compression(), self.resources.plan.settings.level, self.resources.plan.settings.max_payload_bytes, size)?;
        let first = source.part(&mut reader).await?;
        let mut etag = None;
        if source.ended && source.ready() == 0 {
            etag = Some(self.store().put(&path, first, &options).await?.0);
        } else {
            let mut parts = Parts::begin(self.store(), &path, &options).await?;
            let sent = async {
                parts.send(first).await?;
                while !(source.ended && source.ready() == 0) {
                    let part = source.part(&mut reader).await?;
                    // the end may show only when the parts before it are full
                    if !part.is_empty() {
                        parts.send(part).await?;
                    }
                }
                parts.complete().await
            }
            .await;
            parts.ended(sent).await?;
        }
        let bytes = source.hasher.bytes();
        let reference = self.reference(&path, bytes, source.hasher, etag);
        if sha256.is_some_and(|sha256| reference.sha256 != Some(sha256)) {
            return Err(Error::new(Kind::Record, "the file changed while it was sent").hint("send it again when nobody writes to it"));
        }
        Ok(reference)
    }
}

/// SHA-256 of a file.
pub(crate) async fn hash_file(path: &Path) -> std::io::Result<Sha> {
    let path = path.to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Hasher::new(None);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match std::io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(hasher.finish().0),
                read => hasher.update(&buffer[..read]),
            }
        }
    });
    hashed.await.map_err(std::io::Error::other)?
}

/// A reader's bytes, hashed and compressed, in parts.
struct Source {
    hasher: Hasher,
    compressor: Option<Compressor>,
    out: BytesMut,
    limit: u64,
    ended: bool,
}

impl Source {
    fn new(compression: Compression, level: Option<i32>, limit: u64, size: Option<u64>) -> Result<Source> {
        let compressor = Some(Compressor::new(compression, level)?);
        Ok(Source { hasher: Hasher::new(size), compressor, out: BytesMut::new(), limit, ended: false })
    }

    /// Bytes that wait.
    fn ready(&self) -> usize {
        self.out.len()
    }

    /// The next part; shorter than others only at the end.
    async fn part(&mut self, reader: &mut (impl AsyncRead + Send + Unpin)) -> Result<Bytes> {
        while !self.ended && self.out.len() < PART_BYTES {
            let mut piece = BytesMut::with_capacity(READ_BYTES);
            while piece.len() < READ_BYTES {
                let read = reader.read_buf(&mut piece).await;
                if read.map_err(|error| Error::new(Kind::Record, "the payload cannot be read").source(error))? == 0 {
                    self.ended = true;
                    break;
                }
            }
            if self.hasher.bytes() + piece.len() as u64 > self.limit {
                return Err(Error::new(Kind::Record, format!("the payload has more than `max_payload_bytes` ({})", self.limit))
                    .hint("raise `max_payload_bytes` here and at the consumers"));
            }
            self.take(piece.freeze()).await?;
        }
        Ok(self.out.split_to(self.out.len().min(PART_BYTES)).freeze())
    }

    async fn take(&mut self, piece: Bytes) -> Result<()> {
        let Some(mut compressor) = self.compressor.take() else { return Ok(()) };
        let mut hasher = self.hasher.clone();
        let ended = self.ended;
        let bytes = piece.len() as u64;
        let work = move || {
            hasher.update(&piece);
            compressor.write(&piece)?;
            let mut out = std::mem::take(compressor.out());
            let compressor = if ended {
                out.append(&mut compressor.finish()?);
                None
            } else {
                Some(compressor)
            };
            Ok((hasher, compressor, out))
        };
        let (hasher, compressor, out) = work::on_bytes(bytes, work).await?;
        self.hasher = hasher;
        self.compressor = compressor;
        self.out.extend_from_slice(&out);
        Ok(())
    }
}

type Sending = std::pin::Pin<Box<dyn Future<Output = kas3_store::Result<PartId>> + Send>>;

/// An upload in parts. Either it is completed, or it is aborted.
struct Parts<'a> {
    store: &'a Store,
    path: String,
    options: &'a PutOptions,
    id: UploadId,
    sending: FuturesOrdered<Sending>,
    sent: Vec<PartId>,
    number: u32,
}

impl<'a> Parts<'a> {
    async fn begin(store: &'a Store, path: &str, options: &'a PutOptions) -> Result<Parts<'a>> {
        let id = store.begin_upload(path, STAGING, options).await?;
        Ok(Parts { store, path: path.to_owned(), options, id, sending: FuturesOrdered::new(), sent: Vec::new(), number: 0 })
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        if part.is_empty() {
            // the payload ended with the part before
            return Ok(());
        }
        self.number += 1;
        let (store, path, id, number) = (self.store.clone(), self.path.clone(), self.id.clone(), self.number);
        // on a task of its own, so that it goes on while the next part is read
        let task = tokio::spawn(async move { store.put_part(&path, &id, number, part).await });
        let gone = |error| kas3_store::Error::new(kas3_store::Kind::Fatal, "the upload of a part stopped").source(error);
        self.sending.push_back(Box::pin(async move { task.await.unwrap_or_else(|error| Err(gone(error))) }));
        while self.sending.len() >= PARTS_IN_FLIGHT {
            self.one().await?;
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<()> {
        if let Some(part) = self.sending.next().await {
            self.sent.push(part?);
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<()> {
        while !self.sending.is_empty() {
            self.one().await?;
        }
        match self.store.complete_upload(&self.path, &self.id, &self.sent, self.options).await? {
            // it is ours after a lost answer, or names equal content
            Completed::Done | Completed::Exists => Ok(()),
            Completed::Gone => Err(Error::new(Kind::Transient, format!("the upload of `{}` was aborted by somebody else", self.path))
                .hint("look for a bucket rule that aborts incomplete uploads too early, and send the payload again")),
            Completed::Refused(why) => Err(Error::new(Kind::Fatal, format!("the store refuses the upload of `{}`: {why}", self.path))),
        }
    }

    /// Aborts what did not go well.
    async fn ended(mut self, result: Result<()>) -> Result<()> {
        if result.is_err() {
            while self.sending.next().await.is_some() {}
            if let Err(error) = self.store.abort_upload(&self.path, &self.id).await {
                tracing::warn!(path = self.path, %error, "an upload was left behind; a bucket rule for incomplete uploads removes it");
            }
        }
        result
    }
}
