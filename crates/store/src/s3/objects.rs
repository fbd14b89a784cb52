//! Objects, listings and cells.

use super::{
    S3,
    failures::Reply,
    version,
    wire::{Ask, Response},
};
use crate::{
    Beginning, Class, Created, Error, Info, Kind, Object, Outcome, Pieces, PutOptions, Request, Result, Swapped, Version, answer,
    attempt::FailedAttempt,
    paths,
    retry::Retries,
    sums::{Sum, Sums},
};
use aws_sdk_s3::{
    primitives::{DateTime, DateTimeFormat},
    types::EncodingType,
};
use bytes::{Bytes, BytesMut};
use std::{collections::BTreeMap, ops::Range, time::SystemTime};
use tokio::time::Instant;

/// Keys of one page: S3's own limit.
const PAGE: usize = 1000;

/// Memory reserved on the store's word alone, before bytes have come.
const RESERVED_MAX: u64 = 8 << 20;

/// What a write of ours asks of the version that is there.
#[derive(Clone, Copy)]
enum Condition<'a> {
    Absent,
    Is(&'a Version),
    Any,
}

impl S3 {
    /// A request without a body to this bucket.
    fn ask<'a>(&'a self, method: &'static str, key: &'a str) -> Ask<'a> {
        let mut ask = Ask::new(method, key);
        ask.header_of("x-amz-expected-bucket-owner", self.writes.owner.as_deref());
        ask
    }

    pub(crate) async fn get(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        let key = &self.key(path)?;
        let ask = &self.ask("GET", key);
        let attempt = || async move {
            let response = match self.wire.send(ask).await {
                Ok(response) => response,
                Err(reply) if reply.is_no_object() => return Ok(None),
                Err(reply) => return Err(self.failure(Request::Get, key, reply).await),
            };
            let bytes = length(&response);
            if bytes > limit {
                return Err(FailedAttempt::new(answer::too_large(path, bytes, limit), Outcome::Done));
            }
            let version = version(response.header("etag"));
            Ok(Some(Object { bytes: whole(response, key, bytes, limit).await?, version }))
        };
        self.retries.run(Request::Get, 0, None, attempt).await
    }

    /// The first bytes of an object, `bytes_max` at most.
    pub(crate) async fn begin(&self, path: &str, bytes_max: u64) -> Result<Option<Beginning>> {
        let key = &self.key(path)?;
        let mut ask = self.ask("GET", key);
        ask.header("range", format!("bytes=0-{}", bytes_max.saturating_sub(1)));
        let ask = &ask;
        let attempt = || async move {
            let response = match self.wire.send(ask).await {
                Ok(response) => response,
                Err(reply) if reply.status == 416 => return Ok(First::OfNothing),
                Err(reply) if reply.is_no_object() => return Ok(First::Absent),
                Err(reply) => return Err(self.failure(Request::Get, key, reply).await),
            };
            let bytes = length(&response);
            let size = match response.header("content-range") {
                Some(range) => range.rsplit_once('/').and_then(|(_, size)| size.parse().ok()).ok_or_else(|| no_ranges(path))?,
                None if bytes <= bytes_max => bytes,
                None => return Err(no_ranges(path)),
            };
            let Info { version, modified, .. } = info_of(path, &response, size);
            let bytes = whole(response, key, bytes, bytes_max).await?;
            Ok(First::Bytes(Beginning { bytes, size, version, modified }))
        };
        match self.retries.run(Request::Get, 0, None, attempt).await? {
            First::Bytes(beginning) => Ok(Some(beginning)),
            First::Absent => Ok(None),
            First::OfNothing => {
                let Some(info) = self.info(path).await? else { return Ok(None) };
                Ok(Some(Beginning { bytes: Bytes::new(), size: info.bytes, version: info.version, modified: info.modified }))
            }
        }
    }

    pub(crate) async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let key = &self.key(path)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let mut ask = self.ask("GET", key);
        ask.header("range", format!("bytes={}-{}", range.start, range.end - 1));
        let (ask, length) = (&ask, range.end - range.start);
        let attempt = || async move {
            let response = match self.wire.send(ask).await {
                Ok(response) => response,
                Err(reply) if reply.status == 416 => return Ok(Bytes::new()),
                Err(reply) => return Err(self.failure(Request::Get, key, reply).await),
            };
            if response.header("content-range").is_none() {
                return Err(no_ranges(path));
            }
            whole(response, key, length, length).await
        };
        self.retries.run(Request::Get, 0, None, attempt).await
    }

    pub(crate) async fn read(&self, path: &str, from: u64, version: Option<&Version>) -> Result<Option<(Info, Option<Remainder>)>> {
        let key = &self.key(path)?;
        let mut ask = self.ask("GET", key);
        if from > 0 {
            ask.header("range", format!("bytes={from}-"));
        }
        if let Some(version) = version {
            ask.header("if-match", quoted(version));
        }
        let ask = &ask;
        let attempt = || async move {
            match self.wire.send(ask).await {
                Ok(response) => begun(path, key, from, response.patient()),
                Err(reply) if reply.status == 416 => Ok(Begun::AtEnd),
                Err(reply) if reply.is_no_object() || (version.is_some() && reply.is_precondition()) => Ok(Begun::Absent),
                Err(reply) => Err(self.failure(Request::Get, key, reply).await),
            }
        };
        match self.retries.run(Request::Get, 0, None, attempt).await? {
            Begun::Before(begun) => Ok(Some((begun.0, Some(begun.1)))),
            Begun::Absent => Ok(None),
            Begun::AtEnd => {
                let info = self.info(path).await?.filter(|info| version.is_none_or(|version| *version == info.version));
                Ok(info.map(|info| (info, None)))
            }
        }
    }

    pub(crate) async fn info(&self, path: &str) -> Result<Option<Info>> {
        self.info_before(path, None).await
    }

    pub(super) async fn info_before(&self, path: &str, deadline: Option<Instant>) -> Result<Option<Info>> {
        let key = &self.key(path)?;
        let ask = &self.ask("HEAD", key);
        let attempt = || async move {
            match self.wire.send(ask).await {
                Ok(response) => Ok(Some(info_of(path, &response, length(&response)))),
                Err(reply) if reply.is_no_object() => Ok(None),
                Err(reply) => Err(self.failure(Request::Head, key, reply).await),
            }
        };
        self.retries.run(Request::Head, 0, deadline, attempt).await
    }

    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Info>> {
        let mut found = Vec::new();
        let mut after = after.map(|after| format!("{}{after}", self.root));
        while found.len() < max {
            // Some of what a page shows may be no path of ours: then the next page follows.
            let wanted = (max - found.len()).min(PAGE);
            let page = self.page(prefix, after.as_deref(), wanted).await?;
            found.extend(page.found);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(found)
    }

    /// Names of the folders right below `folder`, by the store's delimiter.
    pub(crate) async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = format!("{}{folder}", self.root);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = self.folder_page(&prefix, token.as_deref()).await?;
            found.extend(page.found);
            token = page.next;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn folder_page(&self, prefix: &str, token: Option<&str>) -> Result<FolderPage> {
        let attempt = || async move {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).delimiter("/");
            let request = request.set_continuation_token(token.map(str::to_owned)).set_expected_bucket_owner(self.writes.owner.clone());
            let answer = match request.encoding_type(EncodingType::Url).send().await.map_err(Reply::of) {
                Ok(answer) => answer,
                Err(reply) => return Err(self.failure(Request::List, prefix, reply).await),
            };
            let encoded = answer.encoding_type == Some(EncodingType::Url);
            let keys = answer.common_prefixes.unwrap_or_default().into_iter().filter_map(|common| decode(common.prefix?, encoded));
            let found = keys.filter_map(|key| Some(key.strip_prefix(prefix)?.trim_end_matches('/').to_owned())).filter(|name| !name.is_empty());
            Ok(FolderPage { found: found.collect(), next: answer.next_continuation_token.filter(|_| answer.is_truncated == Some(true)) })
        };
        self.retries.run(Request::List, 0, None, attempt).await
    }

    async fn page(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Page> {
        let prefix = &format!("{}{prefix}", self.root);
        let keys_max = i32::try_from(max).unwrap_or(i32::MAX);
        let attempt = || async move {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(keys_max);
            let request = request.set_start_after(after.map(str::to_owned)).set_expected_bucket_owner(self.writes.owner.clone());
            // Keys may hold what XML cannot.
            let answer = match request.encoding_type(EncodingType::Url).send().await.map_err(Reply::of) {
                Ok(answer) => answer,
                Err(reply) => return Err(self.failure(Request::List, prefix, reply).await),
            };
            let encoded = answer.encoding_type == Some(EncodingType::Url);
            let mut last = None;
            let mut found = Vec::new();
            for object in answer.contents.unwrap_or_default() {
                let Some(key) = object.key.and_then(|key| decode(key, encoded)) else { continue };
                if let Some(path) = self.path(&key) {
                    let (bytes, version, modified) = (size(object.size), version(object.e_tag.as_deref()), time(object.last_modified));
                    found.push(Info { path: path.to_owned(), bytes, version, modified, metadata: None, content_type: None });
                }
                last = Some(key);
            }
            Ok(Page { found, next: last.filter(|_| answer.is_truncated == Some(true)) })
        };
        self.retries.run(Request::List, 0, None, attempt).await
    }

    pub(crate) async fn create(&self, path: &str, pieces: Pieces, options: &PutOptions) -> Result<Created> {
        let version = self.write(&self.retries, path, &pieces, options, Request::Create, Condition::Absent).await?;
        Ok(version.map_or(Created::Exists, Created::Done))
    }

    pub(crate) async fn put(&self, path: &str, bytes: Bytes, options: &PutOptions) -> Result<Version> {
        let version = self.write(&self.retries, path, &bytes.into(), options, Request::Put, Condition::Any).await?;
        version.ok_or_else(|| Error::new(Kind::Fatal, format!("the store took a write of `{path}` for a conditional one")))
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let key = &self.key(path)?;
        let ask = &self.ask("DELETE", key);
        let attempt = || async move {
            match self.wire.send(ask).await {
                Ok(response) => {
                    response.finish().await;
                    Ok(())
                }
                Err(reply) if reply.is_no_object() => Ok(()),
                Err(reply) => Err(self.failure(Request::Delete, key, reply).await),
            }
        };
        self.retries.run(Request::Delete, 0, None, attempt).await
    }

    pub(crate) async fn create_cell(&self, path: &str, bytes: &Pieces) -> Result<Created> {
        let options = PutOptions::ledger("application/json");
        // Sent once: a second one could not tell its own echo from somebody else's write.
        let version = self.write(&self.retries.once(), path, bytes, &options, Request::Create, Condition::Absent).await?;
        Ok(version.map_or(Created::Exists, Created::Done))
    }

    pub(crate) async fn swap_cell(&self, path: &str, expected: &Version, bytes: &Pieces) -> Result<Swapped> {
        let options = PutOptions::ledger("application/json");
        self.replace(path, Some(expected), bytes, &options).await
    }

    pub(crate) async fn replace(&self, path: &str, expected: Option<&Version>, bytes: &Pieces, options: &PutOptions) -> Result<Swapped> {
        let condition = expected.map_or(Condition::Absent, Condition::Is);
        let version = self.write(&self.retries.once(), path, bytes, options, Request::Swap, condition).await?;
        Ok(version.map_or(Swapped::Moved, Swapped::Done))
    }

    /// Writes an object if the condition holds; `None` when it does not.
    async fn write(
        &self,
        retries: &Retries,
        path: &str,
        pieces: &Pieces,
        options: &PutOptions,
        request: Request,
        condition: Condition<'_>,
    ) -> Result<Option<Version>> {
        let key = &self.key(path)?;
        let sums = Sums::of(self.writes.checksum, pieces, options.sha256).await?;
        let mut ask = self.ask_to_put(key, pieces, &sums);
        self.describe(&mut ask, options)?;
        match condition {
            Condition::Absent => ask.header("if-none-match", "*"),
            Condition::Is(version) => ask.header("if-match", quoted(version)),
            Condition::Any => {}
        }
        let ask = &ask;
        let attempt = || async move {
            let reply = match self.wire.send(ask).await {
                Ok(response) => {
                    let version = version(response.header("etag"));
                    response.finish().await;
                    return Ok(Some(version));
                }
                Err(reply) => reply,
            };
            let refused = match condition {
                Condition::Absent => reply.is_precondition(),
                Condition::Is(_) => reply.is_precondition() || reply.is_no_object(),
                Condition::Any => false,
            };
            if refused { Ok(None) } else { Err(self.failure(request, key, reply).await) }
        };
        retries.run(request, pieces.len(), options.deadline, attempt).await
    }

    /// A request that takes a body to this bucket, an object or a part.
    pub(super) fn ask_to_put<'a>(&'a self, key: &'a str, pieces: &Pieces, sums: &'a Sums) -> Ask<'a> {
        let mut ask = Ask::with_body("PUT", key, pieces, &sums.sha256);
        ask.header_of("x-amz-expected-bucket-owner", self.writes.owner.as_deref());
        if let Some((sum, header)) = sums.checksum.as_ref().and_then(|sum| Some((sum, Sum::header(sum)?))) {
            ask.header(header, sum.value.as_str());
        }
        ask
    }

    /// What an object is and how it is kept.
    fn describe<'a>(&'a self, ask: &mut Ask<'a>, options: &'a PutOptions) -> Result<()> {
        let (writes, data) = (&self.writes, options.class == Class::Data);
        ask.header("content-type", options.content_type.as_ref());
        ask.header_of("content-encoding", options.content_encoding);
        ask.header_of("x-amz-server-side-encryption", writes.sse);
        ask.header_of("x-amz-server-side-encryption-aws-kms-key-id", writes.sse_key.as_deref());
        let bucket_key = writes.bucket_key.map(|on| if on { "true" } else { "false" });
        ask.header_of("x-amz-server-side-encryption-bucket-key-enabled", bucket_key);
        ask.header_of("x-amz-storage-class", writes.storage_class.as_deref().filter(|_| data));
        ask.header_of("x-amz-acl", writes.acl.as_deref().filter(|_| data));
        if let Some(tagging) = writes.tagging(options)? {
            ask.header("x-amz-tagging", tagging);
        }
        // by name: one that is given twice must not be signed twice
        let metadata: BTreeMap<&str, &str> = options.metadata.iter().map(|(key, value)| (key.as_ref(), value.as_str())).collect();
        for (key, value) in metadata {
            ask.header(format!("x-amz-meta-{key}"), value);
        }
        Ok(())
    }
}

/// What remains of an object that is read piece by piece.
pub(crate) struct Remainder {
    response: Response,
    key: String,
    bytes: u64,
}

impl Remainder {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = self.response.next().await;
        next.map_err(|error| Error::new(Kind::Transient, format!("the answer with `{}` was cut short", self.key)).source(error))
    }
}

/// What an object begins with.
enum First {
    Bytes(Beginning),
    /// It is empty.
    OfNothing,
    Absent,
}

impl answer::Answer for First {
    fn outcome(&self) -> Outcome {
        if matches!(self, First::Absent) { Outcome::Refused } else { Outcome::Done }
    }
    fn bytes(&self) -> u64 {
        if let First::Bytes(beginning) = self { beginning.bytes.len() as u64 } else { 0 }
    }
}

/// Where a reading begins.
enum Begun {
    Before(Box<(Info, Remainder)>),
    /// There is nothing where it begins.
    AtEnd,
    Absent,
}

impl answer::Answer for Begun {
    fn outcome(&self) -> Outcome {
        if matches!(self, Begun::Absent) { Outcome::Refused } else { Outcome::Done }
    }
    fn bytes(&self) -> u64 {
        if let Begun::Before(begun) = self { begun.1.bytes } else { 0 }
    }
}

fn begun(path: &str, key: &str, from: u64, response: Response) -> Result<Begun, FailedAttempt> {
    let bytes = length(&response);
    let size = match response.header("content-range") {
        _ if from == 0 => bytes,
        None => return Err(no_ranges(path)),
        Some(range) => match range.strip_prefix(&format!("bytes {from}-")).and_then(|rest| rest.split_once('/')?.1.parse().ok()) {
            Some(size) => size,
            None => {
                let error = Error::new(Kind::Fatal, format!("the store was asked for `{path}` from byte {from} on, and answered with `{range}`"));
                return Err(FailedAttempt::new(error.hint("use a store that knows range requests"), Outcome::Failed));
            }
        },
    };
    let info = info_of(path, &response, size);
    Ok(Begun::Before(Box::new((info, Remainder { response, key: key.to_owned(), bytes }))))
}

fn no_ranges(path: &str) -> FailedAttempt {
    let error = Error::new(Kind::Fatal, format!("the store answered a request for a range of `{path}` with the whole object"));
    FailedAttempt::new(error.hint("use a store that knows range requests"), Outcome::Failed)
}

/// A whole body, which is expected to be so long.
async fn whole(mut response: Response, key: &str, expected: u64, limit: u64) -> Result<Bytes, FailedAttempt> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(expected.min(RESERVED_MAX)).unwrap_or(0));
    let cut_short =
        |error| FailedAttempt::new(Error::new(Kind::Transient, format!("the answer with `{key}` was cut short")).source(error), Outcome::Failed);
    while let Some(chunk) = response.next().await.map_err(cut_short)? {
        let read = (bytes.len() + chunk.len()) as u64;
        if read > limit {
            return Err(FailedAttempt::new(answer::too_large(key, read, limit), Outcome::Failed));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

fn info_of(path: &str, response: &Response, bytes: u64) -> Info {
    let metadata = response.headers().filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.to_owned())));
    let modified = response.header("last-modified").and_then(|modified| DateTime::from_str(modified, DateTimeFormat::HttpDate).ok());
    Info {
        path: path.to_owned(),
        bytes,
        version: version(response.header("etag")),
        modified: time(modified),
        metadata: Some(metadata.collect()),
        content_type: response.header("content-type").map(str::to_owned),
    }
}

fn length(response: &Response) -> u64 {
    response.header("content-length").and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// Versions hold ETags without the quotes in which they travel.
fn quoted(version: &Version) -> String {
    format!("\"{}\"", version.0)
}

struct Page {
    found: Vec<Info>,
    /// The last key, when more may follow.
    next: Option<String>,
}

impl answer::Answer for Page {}

struct FolderPage {
    found: Vec<String>,
    /// What asks for the page after it.
    next: Option<String>,
}

impl answer::Answer for FolderPage {}

/// Keys come as in a form: `+` is a space.
pub(super) fn decode(key: String, encoded: bool) -> Option<String> {
    if encoded { paths::percent_decode(&key.replace('+', " ")) } else { Some(key) }
}

pub(super) fn time(time: Option<DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default()
}
