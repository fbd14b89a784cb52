//! Objects, listings and cells.

use super::{
    S3,
    failures::Reply,
    sums::{Sum, with_sum},
    version,
};
use crate::{
    Class, Created, Error, Info, Kind, Object, Outcome, PutOptions, Request, Result, Swapped, Version, answer, paths,
    retry::{Failure, Retries},
};
use aws_sdk_s3::{
    operation::put_object::builders::PutObjectFluentBuilder,
    primitives::{ByteStream, DateTime},
    types::EncodingType,
};
use bytes::{Bytes, BytesMut};
use std::{ops::Range, time::SystemTime};
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
}

impl S3 {
    pub(crate) async fn get(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        let key = &self.key(path)?;
        let attempt = || async move {
            let request = self.client.get_object().bucket(&self.bucket).key(key).set_expected_bucket_owner(self.writes.owner.clone());
            let answer = match request.send().await.map_err(Reply::of) {
                Ok(answer) => answer,
                Err(reply) if reply.is_no_object() => return Ok(None),
                Err(reply) => return Err(self.failure(Request::Get, key, reply).await),
            };
            let bytes = answer.content_length().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or_default();
            if bytes > limit {
                return Err(Failure::new(answer::too_large(path, bytes, limit), Outcome::Done));
            }
            let version = version(answer.e_tag);
            Ok(Some(Object { bytes: self.read(answer.body, key, bytes, limit).await?, version }))
        };
        self.retries.run(Request::Get, 0, None, attempt).await
    }

    pub(crate) async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let key = &self.key(path)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let header = &format!("bytes={}-{}", range.start, range.end - 1);
        let length = range.end - range.start;
        let attempt = || async move {
            let request = self.client.get_object().bucket(&self.bucket).key(key).range(header);
            let answer = match request.set_expected_bucket_owner(self.writes.owner.clone()).send().await.map_err(Reply::of) {
                Ok(answer) => answer,
                Err(reply) if reply.status == 416 => return Ok(Bytes::new()),
                Err(reply) => return Err(self.failure(Request::Get, key, reply).await),
            };
            if answer.content_range().is_none() {
                let error = Error::new(Kind::Fatal, format!("the store answered a request for a range of `{path}` with the whole object"));
                return Err(Failure::new(error.hint("use a store that knows range requests"), Outcome::Failed));
            }
            self.read(answer.body, key, length, length).await
        };
        self.retries.run(Request::Get, 0, None, attempt).await
    }

    async fn read(&self, mut body: ByteStream, key: &str, expected: u64, limit: u64) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(expected.min(RESERVED_MAX)).unwrap_or(0));
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| {
                let error = Error::new(Kind::Transient, format!("the answer with `{key}` was cut short")).source(error);
                Failure::new(error, Outcome::Failed)
            })?;
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(Failure::new(answer::too_large(key, (bytes.len() + chunk.len()) as u64, limit), Outcome::Failed));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    pub(crate) async fn info(&self, path: &str) -> Result<Option<Info>> {
        self.info_before(path, None).await
    }

    pub(super) async fn info_before(&self, path: &str, deadline: Option<Instant>) -> Result<Option<Info>> {
        let key = &self.key(path)?;
        let attempt = || async move {
            let request = self.client.head_object().bucket(&self.bucket).key(key).set_expected_bucket_owner(self.writes.owner.clone());
            let answer = match request.send().await.map_err(Reply::of) {
                Ok(answer) => answer,
                Err(reply) if reply.is_no_object() => return Ok(None),
                Err(reply) => return Err(self.failure(Request::Head, key, reply).await),
            };
            let metadata = answer.metadata.unwrap_or_default().into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect();
            Ok(Some(Info {
                path: path.to_owned(),
                bytes: size(answer.content_length),
                version: version(answer.e_tag),
                modified: time(answer.last_modified),
                metadata: Some(metadata),
            }))
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
                    let (bytes, version, modified) = (size(object.size), version(object.e_tag), time(object.last_modified));
                    found.push(Info { path: path.to_owned(), bytes, version, modified, metadata: None });
                }
                last = Some(key);
            }
            Ok(Page { found, next: last.filter(|_| answer.is_truncated == Some(true)) })
        };
        self.retries.run(Request::List, 0, None, attempt).await
    }

    pub(crate) async fn create(&self, path: &str, bytes: Bytes, options: &PutOptions) -> Result<Created> {
        let version = self.write(&self.retries, path, &bytes, options, Request::Create, Condition::Absent).await?;
        Ok(version.map_or(Created::Exists, Created::Done))
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let key = &self.key(path)?;
        let attempt = || async move {
            let request = self.client.delete_object().bucket(&self.bucket).key(key).set_expected_bucket_owner(self.writes.owner.clone());
            match request.send().await.map_err(Reply::of) {
                Ok(_) => Ok(()),
                Err(reply) if reply.is_no_object() => Ok(()),
                Err(reply) => Err(self.failure(Request::Delete, key, reply).await),
            }
        };
        self.retries.run(Request::Delete, 0, None, attempt).await
    }

    pub(crate) async fn create_cell(&self, path: &str, bytes: Bytes) -> Result<Created> {
        let options = PutOptions::ledger("application/json");
        // Sent once: a second one could not tell its own echo from somebody else's write.
        let version = self.write(&self.retries.once(), path, &bytes, &options, Request::Create, Condition::Absent).await?;
        Ok(version.map_or(Created::Exists, Created::Done))
    }

    pub(crate) async fn swap_cell(&self, path: &str, expected: &Version, bytes: Bytes) -> Result<Swapped> {
        let options = PutOptions::ledger("application/json");
        self.replace(path, Some(expected), bytes, &options).await
    }

    pub(crate) async fn replace(&self, path: &str, expected: Option<&Version>, bytes: Bytes, options: &PutOptions) -> Result<Swapped> {
        let condition = expected.map_or(Condition::Absent, Condition::Is);
        let version = self.write(&self.retries.once(), path, &bytes, options, Request::Swap, condition).await?;
        Ok(version.map_or(Swapped::Moved, Swapped::Done))
    }

    /// Writes an object if the condition holds; `None` when it does not.
    async fn write(
        &self,
        retries: &Retries,
        path: &str,
        bytes: &Bytes,
        options: &PutOptions,
        request: Request,
        condition: Condition<'_>,
    ) -> Result<Option<Version>> {
        let key = &self.key(path)?;
        let sum = &Sum::of(self.writes.checksum, bytes).await?;
        let attempt = || async move {
            let put = self.put(key, bytes, sum.as_ref(), options);
            let (put, swaps) = match condition {
                Condition::Absent => (put.if_none_match("*"), false),
                Condition::Is(version) => (put.if_match(format!("\"{}\"", version.0)), true),
            };
            match put.send().await.map_err(Reply::of) {
                Ok(answer) => Ok(Some(version(answer.e_tag))),
                Err(reply) if reply.is_precondition() || (swaps && reply.is_no_object()) => Ok(None),
                Err(reply) => Err(self.failure(request, key, reply).await),
            }
        };
        retries.run(request, bytes.len(), options.deadline, attempt).await
    }

    fn put(&self, key: &str, bytes: &Bytes, sum: Option<&Sum>, options: &PutOptions) -> PutObjectFluentBuilder {
        let writes = &self.writes;
        let data = options.class == Class::Data;
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(bytes.clone()));
        let put = with_sum!(put, sum)
            .content_type(options.content_type)
            .set_content_encoding(options.content_encoding.map(str::to_owned))
            .set_expected_bucket_owner(writes.owner.clone())
            .set_server_side_encryption(writes.sse.clone())
            .set_ssekms_key_id(writes.sse_key.clone())
            .set_bucket_key_enabled(writes.bucket_key)
            .set_storage_class(writes.storage_class.clone().filter(|_| data))
            .set_acl(writes.acl.clone().filter(|_| data))
            .set_tagging(writes.tagging.clone().filter(|_| data));
        options.metadata.iter().fold(put, |put, (key, value)| put.metadata(*key, value))
    }
}

struct Page {
    found: Vec<Info>,
    /// The last key, when more may follow.
    next: Option<String>,
}

impl answer::Answer for Page {}

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
