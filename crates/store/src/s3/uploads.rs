//! Multipart uploads: begun, filled, completed unless an object is there, aborted, listed.

use super::{
    S3,
    failures::Reply,
    objects::{decode, time},
};
use crate::{
    Checksum, Class, Completed, Error, Kind, OpenUpload, PartId, Pieces, PutOptions, Request, Result, UploadId,
    answer::{Answer, Part},
    paths,
    sums::{Sum, Sums},
};
use aws_sdk_s3::{
    operation::list_multipart_uploads::ListMultipartUploadsOutput,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType, ObjectCannedAcl, ServerSideEncryption, StorageClass},
};
use bytes::Bytes;
use std::sync::atomic::{AtomicU32, Ordering};

/// So many conflicts on end, and nothing else, mean that an upload cannot be completed for good.
const CONFLICTS_MAX: u32 = 5;

impl S3 {
    pub(crate) async fn begin_upload(&self, path: &str, options: &PutOptions) -> Result<UploadId> {
        let key = &self.key(path)?;
        let writes = &self.writes;
        let data = options.class == Class::Data;
        let algorithm = match writes.checksum {
            Checksum::None => None,
            Checksum::Crc32 => Some(ChecksumAlgorithm::Crc32),
            Checksum::Crc32c => Some(ChecksumAlgorithm::Crc32C),
            Checksum::Crc64nvme => Some(ChecksumAlgorithm::Crc64Nvme),
            Checksum::Sha256 => Some(ChecksumAlgorithm::Sha256),
        };
        let begin = self.client.create_multipart_upload().bucket(&self.bucket).key(key);
        let begin = begin
            .content_type(options.content_type.as_ref())
            .set_content_encoding(options.content_encoding.map(str::to_owned))
            .set_checksum_algorithm(algorithm)
            .set_expected_bucket_owner(writes.owner.clone())
            .set_server_side_encryption(writes.sse.map(ServerSideEncryption::from))
            .set_ssekms_key_id(writes.sse_key.clone())
            .set_bucket_key_enabled(writes.bucket_key)
            .set_storage_class(writes.storage_class.as_deref().filter(|_| data).map(StorageClass::from))
            .set_acl(writes.acl.as_deref().filter(|_| data).map(ObjectCannedAcl::from))
            .set_tagging(writes.tagging(options)?);
        let begin = &options.metadata.iter().fold(begin, |begin, (key, value)| begin.metadata(key.as_ref(), value));
        let attempt = || async move {
            match begin.clone().send().await.map_err(Reply::of) {
                Ok(answer) => Ok(answer.upload_id.map(UploadId)),
                Err(reply) => Err(self.failure(Request::BeginUpload, key, reply).await),
            }
        };
        let id = self.retries.run(Request::BeginUpload, 0, options.deadline, attempt).await?;
        id.ok_or_else(|| Error::new(Kind::Fatal, format!("the store began an upload to `{key}` without naming it")))
    }

    pub(crate) async fn put_part(&self, path: &str, upload: &UploadId, number: u32, bytes: Bytes) -> Result<PartId> {
        let key = &self.key(path)?;
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|error| Error::new(Kind::Fatal, "the permits are closed").source(error))?;
        let pieces = &Pieces::from(bytes);
        let sums = &Sums::of(self.writes.checksum, pieces, None).await?;
        let mut ask = self.ask_to_put(key, pieces, sums);
        ask.query = format!("partNumber={number}&uploadId={}", paths::query_encode(&upload.0));
        let (ask, length) = (&ask, pieces.len() as u64);
        let attempt = || async move {
            match self.wire.send(ask).await {
                Ok(response) => {
                    let etag = response.header("etag").unwrap_or_default().trim_matches('"').to_owned();
                    response.finish().await;
                    Ok(Part { number, bytes: length, etag: Some(etag), checksum: sums.checksum.as_ref().map(Sum::to_text) })
                }
                Err(reply) => Err(self.failure(Request::Part, key, reply).await),
            }
        };
        self.retries.run(Request::Part, pieces.len(), None, attempt).await?.id()
    }

    pub(crate) async fn complete_upload(&self, path: &str, upload: &UploadId, parts: Vec<Part>, options: &PutOptions) -> Result<Completed> {
        let key = &self.key(path)?;
        let parts = parts.into_iter().map(completed_part).collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let complete = self.client.complete_multipart_upload().bucket(&self.bucket).key(key).upload_id(&upload.0);
        let complete = &complete.multipart_upload(parts).if_none_match("*").set_expected_bucket_owner(self.writes.owner.clone());
        let seen = &AtomicU32::new(0);
        let attempt = || async move {
            let reply = match complete.clone().send().await.map_err(Reply::of) {
                Ok(_) => return Ok(Completion::Is(Completed::Done)),
                Err(reply) => reply,
            };
            let conflicts = if reply.status == 409 { seen.load(Ordering::Relaxed) + 1 } else { 0 };
            seen.store(conflicts, Ordering::Relaxed);
            if reply.is_precondition() {
                return Ok(Completion::Is(Completed::Exists));
            }
            if reply.is_no_upload() {
                return Ok(Completion::NoUpload);
            }
            if reply.refuses_parts() || conflicts >= CONFLICTS_MAX {
                return Ok(Completion::Is(Completed::Refused(reply.text())));
            }
            Err(self.failure(Request::CompleteUpload, key, reply).await)
        };
        match self.retries.run(Request::CompleteUpload, 0, options.deadline, attempt).await? {
            Completion::Is(completed) => Ok(completed),
            Completion::NoUpload => {
                let found = self.info_before(path, options.deadline).await?;
                Ok(if found.is_some() { Completed::Exists } else { Completed::Gone })
            }
        }
    }

    pub(crate) async fn abort_upload(&self, path: &str, upload: &UploadId) -> Result<()> {
        let key = &self.key(path)?;
        let attempt = || async move {
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(&upload.0);
            match abort.set_expected_bucket_owner(self.writes.owner.clone()).send().await.map_err(Reply::of) {
                Ok(_) => Ok(()),
                Err(reply) if reply.is_no_upload() || reply.is_no_object() => Ok(()),
                Err(reply) => Err(self.failure(Request::AbortUpload, key, reply).await),
            }
        };
        self.retries.run(Request::AbortUpload, 0, None, attempt).await
    }

    pub(crate) async fn list_uploads(&self, prefix: &str) -> Result<Option<Vec<OpenUpload>>> {
        let full = format!("{}{prefix}", self.root);
        let listed = self.list_uploads_below(&full).await?;
        // MinIO takes a prefix for a whole key, and lists what is below it only when it is asked for everything
        if listed.as_ref().is_some_and(Vec::is_empty) && !full.is_empty() && !self.endpoint.contains("amazonaws.com") {
            return match self.list_uploads_below("").await {
                Ok(all) => Ok(all.map(|all| all.into_iter().filter(|upload| upload.path.starts_with(prefix)).collect())),
                // a policy may let us see no more than our prefix, of which the store has said that it holds none
                Err(error) if error.kind() == Kind::Denied => Ok(listed),
                Err(error) => Err(error),
            };
        }
        Ok(listed)
    }

    /// Open uploads below this store whose keys begin with `prefix`.
    async fn list_uploads_below(&self, prefix: &str) -> Result<Option<Vec<OpenUpload>>> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let Some(Page(answer)) = self.uploads_page(prefix, after.as_ref()).await? else { return Ok(None) };
            let encoded = answer.encoding_type == Some(EncodingType::Url);
            for upload in answer.uploads.unwrap_or_default() {
                let Some(key) = upload.key.and_then(|key| decode(key, encoded)) else { continue };
                if let (Some(path), Some(id)) = (self.path(&key), upload.upload_id) {
                    found.push(OpenUpload { path: path.to_owned(), id: UploadId(id), begun: time(upload.initiated) });
                }
            }
            let key = answer.next_key_marker.and_then(|key| decode(key, encoded));
            after = key.map(|key| (key, answer.next_upload_id_marker.unwrap_or_default()));
            if answer.is_truncated != Some(true) || after.is_none() {
                return Ok(Some(found));
            }
        }
    }

    async fn uploads_page(&self, prefix: &str, after: Option<&(String, String)>) -> Result<Option<Page>> {
        let attempt = || async move {
            let list = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(prefix).encoding_type(EncodingType::Url);
            let list = list
                .set_key_marker(after.map(|(key, _)| key.clone()))
                .set_upload_id_marker(after.map(|(_, id)| id.clone()).filter(|id| !id.is_empty()))
                .set_expected_bucket_owner(self.writes.owner.clone());
            match list.send().await.map_err(Reply::of) {
                Ok(answer) => Ok(Some(Page(answer))),
                Err(reply) if reply.is_not_implemented() => Ok(None),
                Err(reply) => Err(self.failure(Request::ListUploads, prefix, reply).await),
            }
        };
        self.retries.run(Request::ListUploads, 0, None, attempt).await
    }
}

enum Completion {
    Is(Completed),
    NoUpload,
}

impl Answer for Completion {
    fn outcome(&self) -> crate::Outcome {
        match self {
            Completion::Is(completed) => completed.outcome(),
            Completion::NoUpload => crate::Outcome::Refused,
        }
    }
}

impl Answer for Part {}

struct Page(ListMultipartUploadsOutput);

impl Answer for Page {}

fn completed_part(part: Part) -> CompletedPart {
    let number = i32::try_from(part.number).unwrap_or(i32::MAX);
    let etag = part.etag.map(|etag| format!("\"{etag}\""));
    let completed = CompletedPart::builder().part_number(number).set_e_tag(etag);
    let completed = match part.checksum.as_deref().and_then(Sum::from_text) {
        None => completed,
        Some(Sum { algorithm, value }) => match algorithm {
            Checksum::None => completed,
            Checksum::Crc32 => completed.checksum_crc32(value),
            Checksum::Crc32c => completed.checksum_crc32_c(value),
            Checksum::Crc64nvme => completed.checksum_crc64_nvme(value),
            Checksum::Sha256 => completed.checksum_sha256(value),
        },
    };
    completed.build()
}
