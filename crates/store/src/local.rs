//! The store on a local disk: `file:///folder`.
//!
//! A disk has no conditional writes, so everything rests on the hard link, which never overwrites: an object is a hidden
//! file that was made durable and then linked under its name; a cell `a/head.json` is the files `a/head.<n>.json`, of which the highest
//! counts. File and folder are synced before success is said.
//!
//! Hidden names of our own begin with `.kas3-`: `.kas3-tmp/` at the top holds files being written (swept after an hour),
//! `.kas3-upload-*` staged uploads, `.kas3-cell.*` marks cells for listings, `.kas3-lock.*` guards replaced objects.

mod cells;
mod disk;
mod listing;
mod reading;
mod sys;
mod uploads;

use crate::{
    Beginning, Completed, Created, Error, Info, Kind, Object, Observer, OpenUpload, PartId, Pieces, PutOptions, Request, Result, Swapped, UploadId,
    Version,
    answer::{Answer, Part, outcome_of},
    breaker::Breaker,
    sums,
};
use bytes::Bytes;
use disk::Disk;
pub(crate) use reading::Remainder;
use std::{ops::Range, sync::Arc};
use tokio::time::Instant;

/// The folder of a URL, opened. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Local {
    disk: Arc<Disk>,
    observer: Arc<dyn Observer>,
    /// Keeps what the disk refuses; a disk is never waited for.
    breaker: Option<Arc<Breaker>>,
}

impl Local {
    /// Opens the folder of a `file://` URL; makes it, parents included, when it is not there.
    pub(crate) async fn open(url: &str, observer: Arc<dyn Observer>) -> Result<Local> {
        let root = disk::folder_of_url(url)?;
        let disk = Arc::new(blocking(move || Disk::open(root)).await?);
        let breaker = observer.breakers().map(|breakers| breakers.of(disk.url().to_owned()));
        Ok(Local { disk, observer, breaker })
    }

    pub(crate) fn url(&self) -> &str {
        self.disk.url()
    }

    pub(crate) fn ignores_case(&self) -> bool {
        self.disk.ignores_case()
    }

    pub(crate) async fn get(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        let path = path.to_owned();
        self.run(Request::Get, 0, move |disk| disk.get(&path, limit)).await
    }

    pub(crate) async fn range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        let path = path.to_owned();
        self.run(Request::Get, 0, move |disk| disk.range(&path, range)).await
    }

    pub(crate) async fn info(&self, path: &str) -> Result<Option<Info>> {
        let path = path.to_owned();
        self.run(Request::Head, 0, move |disk| disk.info(&path)).await
    }

    pub(crate) async fn list(&self, prefix: &str, after: Option<&str>, max: usize) -> Result<Vec<Info>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.run(Request::List, 0, move |disk| disk.list(&prefix, after.as_deref(), max)).await
    }

    pub(crate) async fn create(&self, path: &str, pieces: Pieces, options: &PutOptions) -> Result<Created> {
        in_time(options)?;
        let sent = pieces.len();
        let (path, metadata, sha256) = (path.to_owned(), options.metadata.clone(), options.sha256);
        let create = move |disk: &Disk| {
            let bytes = pieces.joined();
            same_bytes(&path, &bytes, sha256)?;
            disk.create(&path, &bytes, &metadata)
        };
        self.run(Request::Create, sent, create).await
    }

    pub(crate) async fn put(&self, path: &str, bytes: Bytes, options: &PutOptions) -> Result<Version> {
        in_time(options)?;
        let sent = bytes.len();
        let (path, metadata, sha256) = (path.to_owned(), options.metadata.clone(), options.sha256);
        let put = move |disk: &Disk| same_bytes(&path, &bytes, sha256).and_then(|()| disk.put(&path, &bytes, &metadata));
        self.run(Request::Put, sent, put).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<()> {
        let path = path.to_owned();
        self.run(Request::Delete, 0, move |disk| disk.delete(&path)).await
    }

    pub(crate) async fn read_cell(&self, path: &str, limit: u64) -> Result<Option<Object>> {
        let path = path.to_owned();
        self.run(Request::Get, 0, move |disk| disk.read_cell(&path, limit)).await
    }

    pub(crate) async fn begin_cell(&self, path: &str, bytes_max: u64) -> Result<Option<Beginning>> {
        let path = path.to_owned();
        self.run(Request::Get, 0, move |disk| disk.begin_cell(&path, bytes_max)).await
    }

    pub(crate) async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let folder = folder.to_owned();
        self.run(Request::List, 0, move |disk| disk.folders(&folder)).await
    }

    pub(crate) async fn create_cell(&self, path: &str, bytes: Pieces) -> Result<Created> {
        let path = path.to_owned();
        self.run(Request::Create, bytes.len(), move |disk| disk.create_cell(&path, &bytes)).await
    }

    pub(crate) async fn swap_cell(&self, path: &str, expected: &Version, bytes: Pieces) -> Result<Swapped> {
        let (path, expected) = (path.to_owned(), expected.clone());
        self.run(Request::Swap, bytes.len(), move |disk| disk.swap_cell(&path, &expected, &bytes)).await
    }

    pub(crate) async fn delete_cell(&self, path: &str) -> Result<()> {
        let path = path.to_owned();
        self.run(Request::Delete, 0, move |disk| disk.delete_cell(&path)).await
    }

    pub(crate) async fn replace(&self, path: &str, expected: Option<&Version>, bytes: Bytes, options: &PutOptions) -> Result<Swapped> {
        in_time(options)?;
        let sent = bytes.len();
        let (path, expected, metadata, sha256) = (path.to_owned(), expected.cloned(), options.metadata.clone(), options.sha256);
        let replace = move |disk: &Disk| {
            same_bytes(&path, &bytes, sha256)?;
            disk.replace(&path, expected.as_ref(), &bytes, &metadata)
        };
        self.run(Request::Swap, sent, replace).await
    }

    pub(crate) async fn begin_upload(&self, path: &str, staging: &str, options: &PutOptions) -> Result<UploadId> {
        in_time(options)?;
        let (path, staging, metadata) = (path.to_owned(), staging.to_owned(), options.metadata.clone());
        self.run(Request::BeginUpload, 0, move |disk| disk.begin_upload(&path, &staging, &metadata)).await
    }

    pub(crate) async fn put_part(&self, upload: &UploadId, number: u32, bytes: Bytes) -> Result<PartId> {
        let upload = upload.clone();
        self.run(Request::Part, bytes.len(), move |disk| disk.put_part(&upload, number, &bytes)).await
    }

    pub(crate) async fn complete_upload(&self, path: &str, upload: &UploadId, parts: Vec<Part>, options: &PutOptions) -> Result<Completed> {
        in_time(options)?;
        let (path, upload) = (path.to_owned(), upload.clone());
        self.run(Request::CompleteUpload, 0, move |disk| disk.complete_upload(&path, &upload, &parts)).await
    }

    pub(crate) async fn abort_upload(&self, upload: &UploadId) -> Result<()> {
        let upload = upload.clone();
        self.run(Request::AbortUpload, 0, move |disk| disk.abort_upload(&upload)).await
    }

    pub(crate) async fn list_uploads(&self, prefix: &str, staging: &str) -> Result<Vec<OpenUpload>> {
        let (prefix, staging) = (prefix.to_owned(), staging.to_owned());
        self.run(Request::ListUploads, 0, move |disk| disk.list_uploads(&prefix, &staging)).await
    }

    /// Removes a folder and its parents up to the top as far as they are empty.
    pub(crate) async fn remove_empty(&self, folder: &str) -> Result<()> {
        let (disk, folder) = (self.disk.clone(), folder.to_owned());
        blocking(move || {
            disk.remove_empty(&folder);
            Ok(())
        })
        .await
    }

    async fn run<T: Answer + Send + 'static>(
        &self,
        request: Request,
        sent: usize,
        work: impl FnOnce(&Disk) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let started = Instant::now();
        let disk = self.disk.clone();
        #[cfg(feature = "kill-points")]
        if let Some(delay) = crate::faults::at(self.url(), request, crate::faults::When::Before).await? {
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let _ = blocking(move || work(&disk)).await;
            });
            return Err(crate::faults::injected());
        }
        let result = blocking(move || work(&disk)).await;
        #[cfg(feature = "kill-points")]
        crate::faults::at(self.url(), request, crate::faults::When::After).await?;
        let (outcome, received) = match &result {
            Ok(answer) => (answer.outcome(), answer.bytes()),
            Err(error) => (outcome_of(error), 0),
        };
        self.observer.request(request, outcome, started.elapsed(), received.max(sent as u64));
        if let Some(breaker) = &self.breaker {
            match &result {
                Ok(_) => breaker.answered(request),
                Err(error) if disk::refuses(error) => breaker.refused(request, error),
                Err(_) => {}
            }
        }
        result
    }
}

fn in_time(options: &PutOptions) -> Result<()> {
    match options.deadline {
        Some(deadline) if deadline <= Instant::now() => Err(Error::new(Kind::Transient, "the deadline passed before the request was sent")),
        _ => Ok(()),
    }
}

/// What S3 does with a body that is not what its hash says.
fn same_bytes(path: &str, bytes: &Bytes, sha256: Option<[u8; 32]>) -> Result<()> {
    match sha256 {
        Some(expected) if sums::sha256(bytes) != expected => {
            Err(Error::new(Kind::Fatal, format!("the bytes of `{path}` are not those of their SHA-256"))
                .hint("they changed on their way: give them again"))
        }
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::new(Kind::Fatal, "a file operation did not end").source(error)),
    }
}
