//! A file that goes up in parts while it grows: its bytes are durable and invisible until a head names the upload.

use crate::{
    backoff::Backoff,
    error::{Error, Kind, Result},
    span::Checksum,
};
use bytes::Bytes;
use kas3_store::{PARTS_MAX, PartId, PutOptions, Store, UploadId, kill_point};
use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use xxhash_rust::xxh3::Xxh3;

/// Called with bytes that an upload holds: positive when a part is handed over, negative when it is on its way no more.
pub type InFlight = Arc<dyn Fn(i64) + Send + Sync>;

/// A file that goes up in parts while it grows. Begun and fed by a thread that must not wait; dropping it before it was
/// committed aborts it in the background, best effort.
pub struct Upload {
    runtime: Handle,
    store: Store,
    path: String,
    begun: watch::Receiver<Option<UploadId>>,
    parts: Vec<JoinHandle<Option<PartId>>>,
    state: Arc<State>,
    in_flight: InFlight,
    hasher: Box<Xxh3>,
    bytes: u64,
    done: bool,
}

#[derive(Default)]
struct State {
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl State {
    fn fail(&self, error: Error) {
        if let Ok(mut first) = self.error.lock() {
            first.get_or_insert(error);
        }
        self.failed.store(true, Ordering::Release);
    }
}

/// Gives the bytes of a part back, however its task ends.
struct Held(InFlight, i64);

impl Drop for Held {
    fn drop(&mut self) {
        (self.0)(-self.1);
    }
}

/// An upload whose parts are all in the store.
pub(super) struct Uploaded {
    pub(super) id: UploadId,
    pub(super) parts: Vec<PartId>,
    pub(super) stored: Checksum,
    pub(super) bytes: u64,
}

impl Upload {
    /// Begins an upload to `path`; nothing is waited for. `staging` is the folder of the partition's staged bytes.
    pub fn begin(runtime: &Handle, store: Store, path: String, staging: String, options: PutOptions, in_flight: InFlight) -> Upload {
        let state = Arc::new(State::default());
        let (announce, begun) = watch::channel(None);
        let task = begin_task(store.clone(), path.clone(), staging, options, state.clone(), announce);
        runtime.spawn(task);
        Upload {
            runtime: runtime.clone(),
            store,
            path,
            begun,
            parts: Vec::new(),
            state,
            in_flight,
            hasher: Box::new(Xxh3::new()),
            bytes: 0,
            done: false,
        }
    }

    /// Hands a part over: exactly [`kas3_store::PART_BYTES`], the last aside.
    pub fn push(&mut self, part: Bytes) {
        self.hasher.update(&part);
        self.bytes += part.len() as u64;
        if self.parts.len() >= PARTS_MAX {
            self.state.fail(Error::new(Kind::Fatal, format!("`{}` has more than {PARTS_MAX} parts", self.path)).hint("lower `roll.bytes`"));
            return;
        }
        let held = Held(self.in_flight.clone(), i64::try_from(part.len()).unwrap_or(i64::MAX));
        (held.0)(held.1);
        let number = u32::try_from(self.parts.len() + 1).expect("PARTS_MAX fits");
        let task = part_task(self.store.clone(), self.path.clone(), self.begun.clone(), number, part, held, self.state.clone());
        self.parts.push(self.runtime.spawn(task));
    }

    /// Parts handed over so far.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Whether a part can no longer go up, or the upload is gone: the span must be read again.
    pub fn failed(&self) -> bool {
        self.state.failed.load(Ordering::Acquire)
    }

    /// Waits until all parts are in the store. The upload is not aborted after this: a head may name it soon.
    pub(super) async fn finish(mut self) -> Result<Uploaded> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for handle in &mut self.parts {
            match handle.await {
                Ok(Some(part)) => parts.push(part),
                Ok(None) | Err(_) => return Err(self.lost()),
            }
        }
        let Some(id) = self.begun.borrow().clone() else { return Err(self.lost()) };
        if self.failed() {
            return Err(self.lost());
        }
        self.done = true;
        Ok(Uploaded { id, parts, stored: Checksum::from_xxh3(self.hasher.digest128()), bytes: self.bytes })
    }

    fn lost(&self) -> Error {
        match self.state.error.lock().ok().and_then(|mut first| first.take()) {
            // a store that refuses for good would refuse the span that is read again as well
            Some(cause) if cause.kind() != Kind::Missing => Error::new(Kind::Stopped, format!("`{}` cannot be uploaded", self.path)).source(cause),
            cause => {
                let error = Error::new(Kind::Fenced, format!("the upload of `{}` was lost while it grew, so its span is read again", self.path));
                match cause {
                    Some(cause) => error.source(cause),
                    None => error,
                }
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        for part in &self.parts {
            part.abort();
        }
        let (store, path, mut begun) = (self.store.clone(), std::mem::take(&mut self.path), self.begun.clone());
        self.runtime.spawn(async move {
            if let Ok(id) = begun.wait_for(Option::is_some).await.map(|id| id.clone())
                && let Some(id) = id
            {
                // What this misses is reclaimed by the next owner, or by the bucket's rule for incomplete uploads.
                let _ = store.abort_upload(&path, &id).await;
            }
        });
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("path", &self.path).field("parts", &self.parts.len()).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

async fn begin_task(store: Store, path: String, staging: String, options: PutOptions, state: Arc<State>, announce: watch::Sender<Option<UploadId>>) {
    let mut backoff = Backoff::default();
    loop {
        kill_point("upload.before");
        match store.begin_upload(&path, &staging, &options).await {
            Ok(id) => {
                kill_point("upload.after");
                announce.send_replace(Some(id));
                return;
            }
            Err(error) if worth_a_retry(error.kind()) => backoff.sleep().await,
            Err(error) => return state.fail(error.into()),
        }
    }
}

/// A part that a store refuses for good, or an upload that is gone, ends the upload; an outage does not, however long.
fn worth_a_retry(kind: kas3_store::Kind) -> bool {
    matches!(kind, kas3_store::Kind::Transient | kas3_store::Kind::Denied)
}

async fn part_task(
    store: Store,
    path: String,
    mut begun: watch::Receiver<Option<UploadId>>,
    number: u32,
    part: Bytes,
    _held: Held,
    state: Arc<State>,
) -> Option<PartId> {
    let id = begun.wait_for(Option::is_some).await.ok()?.clone()?;
    let mut backoff = Backoff::default();
    loop {
        kill_point("part.before");
        match store.put_part(&path, &id, number, part.clone()).await {
            Ok(part) => {
                kill_point("part.after");
                return Some(part);
            }
            Err(error) if worth_a_retry(error.kind()) && !state.failed.load(Ordering::Acquire) => backoff.sleep().await,
            Err(error) => {
                state.fail(error.into());
                return None;
            }
        }
    }
}
