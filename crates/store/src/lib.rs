//! A URL opens as an object store: conditional writes, staging, permits, bounded retries, limits and credentials.
//!
//! Two stores are whole: `s3://bucket/prefix` and `file:///folder`. Both promise the same, and one conformance list checks it:
//! an object is created by exactly one of many that try, a cell (an object that changes) is swapped by exactly one of many
//! that saw the same version, staged bytes are durable and invisible, and completing an upload never overwrites.
//!
//! ```no_run
//! # async fn example() -> kas3_store::Result<()> {
//! use kas3_store::{Created, PutOptions, Store, StorageSettings, Unobserved};
//! let store = Store::open("file:///tmp/lake", &StorageSettings::default(), std::sync::Arc::new(Unobserved)).await?;
//! let created = store.create("orders/0_0.jsonl", bytes::Bytes::from_static(b"{}\n"), &PutOptions::data("application/x-ndjson")).await?;
//! assert!(matches!(created, Created::Done(_)));
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod attempt;
mod aws;
mod breaker;
mod conditions;
mod credentials;
pub mod error;
#[cfg(feature = "kill-points")]
pub mod faults;
pub mod gate;
mod kill;
mod local;
mod options;
mod paths;
mod pieces;
mod reading;
mod retry;
mod s3;
mod settings;
mod sums;
pub mod urls;

pub use aws::aws_credentials;
pub use breaker::{BreakerState, Breakers, Refusing};
pub use error::{Error, Kind, Result};
pub use kill::kill_point;
pub use options::{Class, PutOptions};
pub use pieces::Pieces;
pub use reading::{Beginning, Reading};
pub use settings::{Checksum, Encryption, Secret, StorageSettings};
pub use urls::{Scheme, StoreUrl, UrlFault};

use bytes::Bytes;
use reading::Remainder;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Bytes of every part of an upload, the last aside: some stores refuse parts of unequal size.
pub const PART_BYTES: usize = 8 << 20;
/// Parts of one upload at most.
pub const PARTS_MAX: usize = 10_000;

/// A store, opened at a prefix. Cheap to clone. All paths are relative to the prefix, with `/` between segments.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    url: String,
    backend: Backend,
}

/// Futures of the S3 client are large; boxed here, they do not swell every future that waits for a store.
enum Backend {
    Local(local::Local),
    S3(Box<s3::S3>),
}

/// What an object is, as far as swaps go: an ETag, or the number of a local cell. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub String);

/// An object that was read whole.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its version.
    pub version: Version,
}

/// What a store says of an object without reading it.
#[derive(Clone, Debug)]
pub struct Info {
    /// Path below the store's prefix.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Version.
    pub version: Version,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
    /// Its own metadata, keys in lower case; `None` when the answer does not hold it (listings) or the file system keeps none.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Its media type; `None` where the answer does not hold it (listings) and on a local disk, which keeps none.
    pub content_type: Option<String>,
}

/// What became of a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object is there with our bytes, by this call.
    Done(Version),
    /// An object was there before. After a lost answer it may be our own: read and compare.
    Exists,
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The cell holds our bytes, by this call.
    Done(Version),
    /// The cell's version is another one. After a lost answer that may be our own swap: read and compare.
    Moved,
}

/// What became of completing an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completed {
    /// The object is there now.
    Done,
    /// An object was there before, perhaps ours: look at its metadata.
    Exists,
    /// The store does not know the upload (completed before, aborted or expired).
    Gone,
    /// The store refuses these parts for good, with its reason.
    Refused(String),
}

/// Names an upload. Opaque; kept in the head, so that anyone can complete it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

/// What the store answered for a part (an ETag, and a checksum where the settings ask for one). Opaque; kept in the head.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartId(pub String);

/// An upload that is open in the store.
#[derive(Clone, Debug)]
pub struct OpenUpload {
    /// Path that it would complete to.
    pub path: String,
    /// Its name.
    pub id: UploadId,
    /// When it was begun, by the store's clock.
    pub begun: SystemTime,
}

/// What a bucket does by itself below a store's prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketRules {
    /// Rules that are on and reach something below the prefix.
    pub rules: Vec<BucketRule>,
}

/// One lifecycle rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRule {
    /// Its name in the bucket.
    pub id: String,
    /// Paths that it reaches begin so, below the store's prefix; empty: all of them.
    pub prefix: String,
    /// It asks for tags or sizes besides, so it may reach fewer objects than its prefix says.
    pub narrowed: bool,
    /// It deletes objects.
    pub expires: bool,
    /// Days after which it deletes objects; `None` when it does not, or at a date.
    pub expires_after_days: Option<u32>,
    /// Days after which it aborts incomplete uploads.
    pub aborts_uploads_after_days: Option<u32>,
}

impl BucketRules {
    /// Rules that delete objects whose paths begin with `prefix`, some of them at least.
    pub fn expiring<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a BucketRule> {
        self.rules.iter().filter(move |rule| rule.expires && (rule.prefix.starts_with(prefix) || prefix.starts_with(&rule.prefix)))
    }

    /// The rule by which uploads to all paths that begin with `prefix` are aborted when nobody completes them.
    pub fn aborting(&self, prefix: &str) -> Option<&BucketRule> {
        self.rules.iter().find(|rule| rule.aborts_uploads_after_days.is_some() && !rule.narrowed && prefix.starts_with(&rule.prefix))
    }
}

/// Kind of request, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Whole or ranged read.
    Get,
    /// Look at an object.
    Head,
    /// List objects.
    List,
    /// Create an object.
    Create,
    /// Write an object, whatever is there.
    Put,
    /// Swap a cell.
    Swap,
    /// Delete an object.
    Delete,
    /// Begin an upload.
    BeginUpload,
    /// Send a part.
    Part,
    /// Complete an upload.
    CompleteUpload,
    /// Abort an upload.
    AbortUpload,
    /// List uploads.
    ListUploads,
}

/// How a request ended, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done.
    Done,
    /// A condition did not hold (412), or the object is missing (404): an answer, not a failure.
    Refused,
    /// The store asked to slow down (503, 429).
    Throttled,
    /// Another failure: 5xx, connection, time-out.
    Failed,
    /// No permission (401, 403).
    Denied,
}

/// Sees every attempt, retried ones included.
pub trait Observer: Send + Sync {
    /// One attempt ended.
    fn request(&self, request: Request, outcome: Outcome, took: Duration, bytes: u64);
    /// An attempt will be repeated after `delay`.
    fn retry(&self, request: Request, delay: Duration);
    /// The breakers of those who work for long and must bear an outage. Without any, requests fail when their retries are used up,
    /// as tools want it.
    fn breakers(&self) -> Option<&Breakers> {
        None
    }
}

/// An observer that looks away.
pub struct Unobserved;

impl Observer for Unobserved {
    fn request(&self, _: Request, _: Outcome, _: Duration, _: u64) {}
    fn retry(&self, _: Request, _: Duration) {}
}

impl Store {
    /// Opens a URL: `s3://bucket/prefix` or `file:///folder` (made when it is not there). Makes no request but what
    /// credentials need.
    ///
    /// # Errors
    /// `Config` for a URL or setting that cannot be, or a folder on a network file system; `Denied` for a folder that may
    /// not be made.
    pub async fn open(url: &str, settings: &StorageSettings, observer: Arc<dyn Observer>) -> Result<Store> {
        let scheme = match StoreUrl::parse(url) {
            Ok(parsed) => Some(parsed.scheme()),
            // the folder's own message names the path that it would be
            Err(UrlFault::Relative) => Some(Scheme::File),
            Err(_) => None,
        };
        let (url, backend) = match scheme {
            Some(Scheme::File) => {
                let local = local::Local::open(url, observer).await?;
                (local.url().to_owned(), Backend::Local(local))
            }
            Some(Scheme::S3) => {
                let s3 = Box::pin(s3::S3::open(url, settings, observer)).await?;
                (s3.url().to_owned(), Backend::S3(Box::new(s3)))
            }
            None => {
                let hint = "a store is `s3://bucket/prefix`, or `file://` followed by an absolute path, as `file:///var/lib/kas3`";
                return Err(Error::new(Kind::Config, format!("`{url}` is not the URL of a store")).hint(hint));
            }
        };
        Ok(Store(Arc::new(Inner { url, backend })))
    }

    /// The kind of this store.
    pub fn scheme(&self) -> Scheme {
        match &self.0.backend {
            Backend::Local(_) => Scheme::File,
            Backend::S3(_) => Scheme::S3,
        }
    }

    /// The URL without a trailing slash; percent-encoded for `file://`, raw for `s3://`, as is the custom of each.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The absolute URL of a path.
    pub fn url_of(&self, path: &str) -> String {
        match &self.0.backend {
            Backend::Local(_) => format!("{}/{}", self.0.url, paths::percent_encode(path)),
            Backend::S3(_) => format!("{}/{path}", self.0.url),
        }
    }

    /// The path of an absolute URL, if it lies below this store's prefix.
    pub fn path_of(&self, url: &str) -> Option<String> {
        let path = url.strip_prefix(&self.0.url)?.strip_prefix('/')?;
        let path = match &self.0.backend {
            Backend::Local(_) => paths::percent_decode(path)?,
            Backend::S3(_) => path.to_owned(),
        };
        paths::check(&path).ok().map(|()| path)
    }

    /// Reads an object whole; `None` when there is none.
    ///
    /// # Errors
    /// `Fatal` when it is larger than `limit` bytes (nothing beyond is read).
    pub async fn get(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.get(path, limit).await,
            Backend::S3(s3) => Box::pin(s3.get(path, limit)).await,
        }
    }

    /// Reads a range; shorter when the object ends before.
    ///
    /// # Errors
    /// `Missing` when there is no object.
    pub async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.range(path, range).await,
            Backend::S3(s3) => Box::pin(s3.range(path, range)).await,
        }
    }

    /// Opens an object to read it piece by piece from byte `from`; `None` when there is none. At its end or beyond, the reading
    /// is empty. Only opening it is tried again.
    pub async fn read(&self, path: &str, from: u64) -> Result<Option<Reading>> {
        self.open_reading(path, from, None).await
    }

    /// The same, but of this version only, so that a reading which goes on never mixes two objects; `None` when it is not there
    /// any more: deleted, or another one in its place.
    pub async fn read_version(&self, path: &str, from: u64, version: &Version) -> Result<Option<Reading>> {
        self.open_reading(path, from, Some(version)).await
    }

    async fn open_reading(&self, path: &str, from: u64, version: Option<&Version>) -> Result<Option<Reading>> {
        paths::check(path)?;
        Ok(match &self.0.backend {
            Backend::Local(local) => local.read(path, from, version).await?.map(|(info, rest)| Reading::new(info, Remainder::Local(rest))),
            Backend::S3(s3) => {
                let read = Box::pin(s3.read(path, from, version)).await?;
                read.map(|(info, rest)| Reading::new(info, rest.map_or(Remainder::Nothing, |rest| Remainder::S3(Box::new(rest)))))
            }
        })
    }

    /// What the store says of an object, its metadata included; `None` when there is none. Not for cells.
    pub async fn info(&self, path: &str) -> Result<Option<Info>> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.info(path).await,
            Backend::S3(s3) => Box::pin(s3.info(path)).await,
        }
    }

    /// Objects whose paths begin with `prefix`, in the order of their paths, those after `after`, at most `max` (one page).
    /// Cells on a local disk are listed under their plain path. Nothing that is staged on a local disk is listed.
    /// A page shorter than `max` is the last one.
    pub async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Info>> {
        paths::check_prefix(prefix)?;
        match &self.0.backend {
            Backend::Local(local) => local.list(prefix, after, max).await,
            Backend::S3(s3) => Box::pin(s3.list(prefix, after, max)).await,
        }
    }

    /// Names of the folders right below `folder` (empty, or ending in `/`), in the order of their paths, however much lies in them.
    /// On a local disk folders without an object count, too.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        paths::check_prefix(folder)?;
        match &self.0.backend {
            Backend::Local(local) => local.folders(folder).await,
            Backend::S3(s3) => Box::pin(s3.folders(folder)).await,
        }
    }

    /// Creates an object, or says that one exists. Never overwrites. Durable when it returns.
    pub async fn create(&self, path: &str, bytes: impl Into<Pieces>, options: &PutOptions) -> Result<Created> {
        paths::check(path)?;
        let pieces = bytes.into();
        options.check()?;
        match &self.0.backend {
            Backend::Local(local) => local.create(path, pieces, options).await,
            Backend::S3(s3) => Box::pin(s3.create(path, pieces, options)).await,
        }
    }

    /// Writes an object, whatever is there: for names that are random, or that name their content. Durable when it returns.
    /// Tried again after an answer that was lost.
    pub async fn put(&self, path: &str, bytes: Bytes, options: &PutOptions) -> Result<Version> {
        paths::check(path)?;
        options.check()?;
        match &self.0.backend {
            Backend::Local(local) => local.put(path, bytes, options).await,
            Backend::S3(s3) => Box::pin(s3.put(path, bytes, options)).await,
        }
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, path: &str) -> Result<()> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.delete(path).await,
            Backend::S3(s3) => Box::pin(s3.delete(path)).await,
        }
    }

    /// Reads a cell; `None` when there is none.
    pub async fn read_cell(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.read_cell(path, limit).await,
            Backend::S3(s3) => Box::pin(s3.get(path, limit)).await,
        }
    }

    /// Reads the first bytes of a cell, at most `bytes_max`, with one request; `None` when there is none.
    pub async fn begin_cell(&self, path: &str, bytes_max: u64) -> Result<Option<Beginning>> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.begin_cell(path, bytes_max).await,
            Backend::S3(s3) => Box::pin(s3.begin(path, bytes_max)).await,
        }
    }

    /// Creates a cell: exactly one of many that try wins. Not retried inside after an answer that may be lost.
    pub async fn create_cell(&self, path: &str, bytes: impl Into<Pieces>) -> Result<Created> {
        paths::check(path)?;
        let pieces = bytes.into();
        match &self.0.backend {
            Backend::Local(local) => local.create_cell(path, pieces).await,
            Backend::S3(s3) => Box::pin(s3.create_cell(path, &pieces)).await,
        }
    }

    /// Swaps a cell if its version still is `expected`: exactly one of many that try wins. Every error is a lost answer:
    /// the swap may have been done, or may still be. On a local disk a cell `a/head.json` is the files `a/head.<n>.json`.
    pub async fn swap_cell(&self, path: &str, expected: &Version, bytes: impl Into<Pieces>) -> Result<Swapped> {
        paths::check(path)?;
        let pieces = bytes.into();
        match &self.0.backend {
            Backend::Local(local) => local.swap_cell(path, expected, pieces).await,
            Backend::S3(s3) => Box::pin(s3.swap_cell(path, expected, &pieces)).await,
        }
    }

    /// Deletes a cell, whatever its version: for checks and clean-up only.
    pub async fn delete_cell(&self, path: &str) -> Result<()> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.delete_cell(path).await,
            Backend::S3(s3) => Box::pin(s3.delete(path)).await,
        }
    }

    /// Replaces a plain object if its version is `expected` (`None`: if there is none), for objects that other systems read
    /// and that must lie under exactly this path on every store (the cursor of DeviantArt's kafka-connect-s3).
    pub async fn replace(&self, path: &str, expected: Option<&Version>, bytes: Bytes, options: &PutOptions) -> Result<Swapped> {
        paths::check(path)?;
        options.check()?;
        match &self.0.backend {
            Backend::Local(local) => local.replace(path, expected, bytes, options).await,
            Backend::S3(s3) => Box::pin(s3.replace(path, expected, &bytes.into(), options)).await,
        }
    }

    /// Begins an upload to `path`. `staging` is the folder in which a local disk keeps the hidden bytes until then.
    pub async fn begin_upload(&self, path: &str, staging: &str, options: &PutOptions) -> Result<UploadId> {
        paths::check(path)?;
        paths::check_prefix(staging)?;
        options.check()?;
        match &self.0.backend {
            Backend::Local(local) => local.begin_upload(path, staging, options).await,
            Backend::S3(s3) => Box::pin(s3.begin_upload(path, options)).await,
        }
    }

    /// Sends part `number` (from 1), [`PART_BYTES`] long unless it is the last. Waits for one of the process's permits.
    /// Parts may be sent side by side and in any order; a part that is sent again takes the place of the first.
    ///
    /// # Errors
    /// `Missing` when the store does not know the upload; `Fatal` for a part that no store would take.
    pub async fn put_part(&self, path: &str, upload: &UploadId, number: u32, bytes: Bytes) -> Result<PartId> {
        paths::check(path)?;
        if number == 0 || number as usize > PARTS_MAX || bytes.is_empty() || bytes.len() > PART_BYTES {
            let (bytes, last) = (bytes.len(), PARTS_MAX);
            return Err(Error::new(
                Kind::Fatal,
                format!("part {number} of {bytes} bytes cannot be: parts are 1 to {last}, of 1 to {PART_BYTES} bytes"),
            ));
        }
        match &self.0.backend {
            Backend::Local(local) => local.put_part(upload, number, bytes).await,
            Backend::S3(s3) => Box::pin(s3.put_part(path, upload, number, bytes)).await,
        }
    }

    /// Completes an upload unless an object is under its path already. Safe to repeat. `options` as given at its begin.
    pub async fn complete_upload(&self, path: &str, upload: &UploadId, parts: &[PartId], options: &PutOptions) -> Result<Completed> {
        paths::check(path)?;
        options.check()?;
        let parts = match answer::Part::list(parts) {
            Ok(parts) => parts,
            Err(reason) => return Ok(Completed::Refused(reason)),
        };
        match &self.0.backend {
            Backend::Local(local) => local.complete_upload(path, upload, parts, options).await,
            Backend::S3(s3) => Box::pin(s3.complete_upload(path, upload, parts, options)).await,
        }
    }

    /// Aborts an upload; one that is not there is no error. On a local disk this also removes the staged bytes of a completed
    /// one.
    pub async fn abort_upload(&self, path: &str, upload: &UploadId) -> Result<()> {
        paths::check(path)?;
        match &self.0.backend {
            Backend::Local(local) => local.abort_upload(upload).await,
            Backend::S3(s3) => Box::pin(s3.abort_upload(path, upload)).await,
        }
    }

    /// Open uploads to paths below `prefix` (on a local disk: hidden files in staging folder `staging`); `None` when the store
    /// cannot list them.
    pub async fn list_uploads(&self, prefix: &str, staging: &str) -> Result<Option<Vec<OpenUpload>>> {
        paths::check_prefix(prefix)?;
        paths::check_prefix(staging)?;
        match &self.0.backend {
            Backend::Local(local) => local.list_uploads(prefix, staging).await.map(Some),
            Backend::S3(s3) => Box::pin(s3.list_uploads(prefix)).await,
        }
    }

    /// Lifecycle rules of the bucket that reach below this store's prefix; `None` when the store has none of the kind or does not
    /// let us look. A local disk has no rules.
    pub async fn bucket_rules(&self) -> Result<Option<BucketRules>> {
        match &self.0.backend {
            Backend::Local(_) => Ok(Some(BucketRules::default())),
            Backend::S3(s3) => Box::pin(s3.bucket_rules()).await,
        }
    }

    /// Whether two URLs of this kind of store name one file on a disk that ignores case.
    pub fn ignores_case(&self) -> bool {
        match &self.0.backend {
            Backend::Local(local) => local.ignores_case(),
            Backend::S3(_) => false,
        }
    }

    /// Races 16 creates, 16 swaps and two completions below `folder`, and cleans up.
    ///
    /// # Errors
    /// `Fatal` unless exactly one of each wins: this store breaks the protocol.
    pub async fn check_conditions(&self, folder: &str) -> Result<()> {
        conditions::check(self, folder).await
    }
}
