//! Publishing: make the files of a committed span visible. Anyone who reads the head may do it, as often as they like, and
//! nothing is ever overwritten.
//!
//! A file counts as published when an object with this span's id and the file's number is under its path. Requests give up
//! with the head that they were sent for: after a minute it is read again before anything else is sent.

use super::{
    Ledger,
    head_writer::HeadWriter,
    retry::{MayPass, passing},
    stored::Role,
    stored::{Entry, File, Place},
};
use crate::{
    error::{Error, Kind, Result},
    span::{Checksum, TopicPartition},
    stops,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use kas3_store::{Completed, Created, Info, PutOptions, Store, Swapped, kill_point};
use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// How long a head counts as fresh: publishing requests give up then, retries included.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(60);
/// Files of one span that are published at once.
const PUBLISH_AT_ONCE: usize = 16;
/// Bytes of an object that are compared at a time where a store keeps no metadata.
const COMPARE_BYTES: u64 = 8 << 20;

/// What became of one file.
enum Fate {
    Published,
    /// Its staged bytes are gone or refused, and its object is not there.
    Lost,
    /// A request failed or the head is no longer fresh: once more, after a look at the head.
    Again(Option<Error>),
}

/// What is under a file's path.
enum Found {
    Ours,
    Nothing,
}

impl HeadWriter {
    /// Publishes the pending span that somebody committed, amending what is lost; returns when all its files were seen. Looks
    /// first: mostly all of them are there, and a look costs less than a write.
    ///
    /// # Errors
    /// `Fenced` when somebody moved the partition meanwhile; `Stopped` for a foreign object or what is beyond repair; `Newer` where a
    /// newer kas3 committed what this one does not understand.
    pub(super) async fn publish(&mut self, bodies: HashMap<u32, Bytes>) -> Result<()> {
        self.publish_span(bodies, true).await
    }

    /// The same of a span that was committed a moment ago, so that nobody can have published it before.
    ///
    /// # Errors
    /// As [`HeadWriter::publish`].
    pub(super) async fn publish_own(&mut self, bodies: HashMap<u32, Bytes>) -> Result<()> {
        self.publish_span(bodies, false).await
    }

    async fn publish_span(&mut self, mut bodies: HashMap<u32, Bytes>, look_first: bool) -> Result<()> {
        let Some(entry) = self.head.pending.first().cloned() else { return Ok(()) };
        let mut files = self.ledger.files(&entry, &self.of).await?;
        self.ledger.check_understood(&self.of, &entry, &files)?;
        let store = self.ledger.store_of(&self.of, &entry).await?;
        let mut published: BTreeSet<u32> = files.iter().filter(|file| file.lost).map(|file| file.number).collect();
        if look_first {
            published.extend(self.ledger.seen(&self.of, &store, &entry, &files).await?);
        }
        let mut backoff = self.ledger.backoff();
        while published.len() < files.len() {
            let todo: Vec<&File> = files.iter().filter(|file| !published.contains(&file.number)).collect();
            let ledger = Arc::clone(&self.ledger);
            let without: Vec<&File> = todo.iter().copied().filter(|file| !bodies.contains_key(&file.number)).collect();
            let mut read = self.bytes_of(&ledger, &without).await?;
            bodies.extend(read.files.drain());
            let lost = self.publish_round(&store, &entry, &todo, &mut bodies, &mut published).await?;
            without.iter().for_each(|file| _ = bodies.remove(&file.number));
            drop(read);
            if published.len() + lost.len() < files.len() {
                backoff.sleep().await;
                self.refresh().await?;
                continue;
            }
            if lost.is_empty() {
                break;
            }
            let lost = self.wait_for_lost(&store, &entry, &files, lost, &mut published).await?;
            if !lost.is_empty() {
                bodies = self.amend(&store, &lost).await?;
                let entry = self.head.pending.first().expect("an amendment keeps the span pending");
                files = self.ledger.files(entry, &self.of).await?;
            }
        }
        self.ledger.move_cursor(&self.of, &store, &entry, &files).await?;
        self.ledger.observer.published(&self.of, entry.span(), files.len());
        Ok(())
    }

    /// Tries every file once; numbers of those whose bytes are gone.
    async fn publish_round(
        &self,
        store: &Store,
        entry: &Entry,
        todo: &[&File],
        bodies: &mut HashMap<u32, Bytes>,
        published: &mut BTreeSet<u32>,
    ) -> Result<Vec<u32>> {
        let deadline = self.seen() + self.ledger.timing.publish_deadline;
        // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
        let mut attempts = Vec::with_capacity(todo.len());
        for file in todo {
            let body = bodies.get(&file.number).cloned();
            attempts.push(async move { (file.number, self.ledger.publish_file(&self.of, store, entry, file, body, deadline).await) });
        }
        let mut attempts = stream::iter(attempts).buffer_unordered(PUBLISH_AT_ONCE);
        let (mut lost, mut stopped, mut retried) = (Vec::new(), None, false);
        while let Some((number, fate)) = attempts.next().await {
            match fate {
                Ok(Fate::Published) => {
                    // thousands of files may be on their way: what is there needs no memory any more
                    bodies.remove(&number);
                    published.insert(number);
                }
                Ok(Fate::Lost) => lost.push(number),
                Ok(Fate::Again(error)) => {
                    if let Some(error) = error.filter(|_| !std::mem::replace(&mut retried, true)) {
                        self.ledger.observer.retrying(&self.of, "publish", &error);
                    }
                }
                Err(error) => _ = stopped.get_or_insert(error),
            }
        }
        lost.sort_unstable();
        stopped.map_or(Ok(lost), Err)
    }

    /// Looks for lost files until `sink.amend_after`: a completion may take minutes to show. What is left is gone.
    async fn wait_for_lost(
        &mut self,
        store: &Store,
        entry: &Entry,
        files: &[File],
        mut lost: Vec<u32>,
        published: &mut BTreeSet<u32>,
    ) -> Result<Vec<u32>> {
        let until = Instant::now() + self.ledger.pipeline.amend_after;
        let urls =
            |lost: &[u32]| files.iter().filter(|file| lost.contains(&file.number)).map(|file| format!("`{}`", file.url)).take(3).collect::<Vec<_>>();
        self.ledger.observer.warning(
            &self.of,
            &format!(
                "staged bytes of {} file(s) of a committed span are gone ({}); looking for the files until {:?} have passed, then they are made again",
                lost.len(),
                urls(&lost).join(", "),
                self.ledger.pipeline.amend_after
            ),
        );
        let mut backoff = self.ledger.backoff();
        loop {
            let mut still = Vec::new();
            for file in files.iter().filter(|file| lost.contains(&file.number)) {
                let look = || self.ledger.find(&self.of, store, entry, file);
                match self.ledger.patiently(&self.of, "look for a file", look).await? {
                    Found::Ours => _ = published.insert(file.number),
                    Found::Nothing => still.push(file.number),
                }
            }
            lost = still;
            if lost.is_empty() || Instant::now() >= until {
                return Ok(lost);
            }
            backoff.sleep().await;
            self.refresh().await?;
        }
    }
}

impl Ledger {
    /// Refuses to act for a pending span of which anything is said in words of a newer version.
    pub(super) fn check_understood(&self, of: &TopicPartition, entry: &Entry, files: &[File]) -> Result<()> {
        let Some(what) = entry.not_understood(files) else { return Ok(()) };
        Err(stops::newer(of, &self.ledger.url_of(&self.head_path(of)), &format!("{what}, which this kas3 does not know")))
    }

    /// The store that a pending span was committed for: the sink's, or the one that the sink's URL named then.
    pub(super) async fn store_of(&self, of: &TopicPartition, entry: &Entry) -> Result<Store> {
        if entry.base == self.sink.url() || entry.base.is_empty() {
            return Ok(self.sink.clone());
        }
        if let Some(store) = self.others.lock().ok().and_then(|others| others.get(&entry.base).cloned()) {
            return Ok(store);
        }
        self.observer.warning(
            of,
            &format!(
                "a span is pending for sink `{}`, while the settings say `{}`: it is published where it was committed for",
                entry.base,
                self.sink.url()
            ),
        );
        let opened = Store::open(&entry.base, &self.pipeline.storage, std::sync::Arc::new(kas3_store::Unobserved)).await;
        let store = opened.map_err(|error| stops::other_sink(of, entry.span(), &entry.base, error))?;
        if let Ok(mut others) = self.others.lock() {
            others.insert(entry.base.clone(), store.clone());
        }
        Ok(store)
    }

    async fn publish_file(
        &self,
        of: &TopicPartition,
        store: &Store,
        entry: &Entry,
        file: &File,
        body: Option<Bytes>,
        deadline: Instant,
    ) -> Result<Fate> {
        let path = path_of(of, store, file)?;
        if Instant::now() >= deadline {
            return Ok(Fate::Again(None));
        }
        let options = put_options(of, entry, file, Some(deadline));
        let sent = match file.place() {
            Some(Place::Upload(upload)) => {
                kill_point("complete.before");
                let completed = store.complete_upload(&path, &upload.id, &upload.parts, &options).await;
                kill_point("complete.after");
                match completed {
                    Ok(Completed::Done) => return Ok(Fate::Published),
                    Ok(Completed::Refused(reason)) => {
                        self.observer.warning(of, &format!("the store refuses to complete the upload of `{}`: {reason}", file.url));
                        Ok(())
                    }
                    Ok(Completed::Exists | Completed::Gone) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            Some(Place::Bundle(_) | Place::Head(_)) => match self.staged_bytes(store, file, body).await {
                Ok(Some(body)) => {
                    if Instant::now() >= deadline {
                        return Ok(Fate::Again(None));
                    }
                    kill_point("put.before");
                    let created = store.create(&path, body, &options).await;
                    kill_point("put.after");
                    match created {
                        Ok(Created::Done(_)) => return Ok(Fate::Published),
                        Ok(Created::Exists) => Ok(()),
                        Err(error) => Err(error),
                    }
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
            // what only a newer version finds was refused before
            Some(Place::Unknown(_)) | None => Ok(()),
        };
        if let Err(error) = sent {
            return if error.may_pass() { Ok(Fate::Again(Some(error.into()))) } else { Err(error.into()) };
        }
        match self.find(of, store, entry, file).await {
            Ok(Found::Ours) => {
                self.abort_leftover(store, &path, file).await;
                Ok(Fate::Published)
            }
            Ok(Found::Nothing) => Ok(Fate::Lost),
            Err(error) if error.may_pass() => Ok(Fate::Again(Some(error))),
            Err(error) => Err(error),
        }
    }

    /// An upload whose object is there already, by a request of somebody else, only costs money: best effort.
    async fn abort_leftover(&self, store: &Store, path: &str, file: &File) {
        if let Some(Place::Upload(upload)) = file.place() {
            let _ = store.abort_upload(path, &upload.id).await;
        }
    }

    /// The bytes of a small file: the committer's own, or read; `None` when they are gone or are not what they were.
    async fn staged_bytes(&self, store: &Store, file: &File, body: Option<Bytes>) -> kas3_store::Result<Option<Bytes>> {
        let Some(Place::Bundle(bundle)) = file.place().filter(|_| body.is_none()) else { return Ok(body) };
        match store.range(&bundle.path, bundle.from..bundle.to).await {
            Ok(body) => Ok(Some(body).filter(|body| Checksum::from_xxh3(xxh3_128(body)) == file.stored)),
            Err(error) if error.kind() == kas3_store::Kind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The numbers of those files that are there already. What cannot be found out now counts as not there.
    ///
    /// # Errors
    /// `Stopped` when something is somebody else's.
    async fn seen(&self, of: &TopicPartition, store: &Store, entry: &Entry, files: &[File]) -> Result<Vec<u32>> {
        // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
        let mut looks = Vec::with_capacity(files.len());
        for file in files.iter().filter(|file| !file.lost) {
            looks.push(async move { (file.number, self.is_there(of, store, entry, file).await) });
        }
        let mut looks = stream::iter(looks).buffer_unordered(PUBLISH_AT_ONCE);
        let mut seen = Vec::new();
        while let Some((number, there)) = looks.next().await {
            match there {
                Ok(true) => seen.push(number),
                Ok(false) => {}
                Err(error) if error.may_pass() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }

    /// Whether a file of a span is visible.
    ///
    /// # Errors
    /// `Stopped` when something else is under its path.
    pub(super) async fn is_there(&self, of: &TopicPartition, store: &Store, entry: &Entry, file: &File) -> Result<bool> {
        Ok(matches!(self.find(of, store, entry, file).await?, Found::Ours))
    }

    /// What is under the path of a file.
    ///
    /// # Errors
    /// `Stopped` when it is somebody else's.
    async fn find(&self, of: &TopicPartition, store: &Store, entry: &Entry, file: &File) -> Result<Found> {
        let path = path_of(of, store, file)?;
        let Some(info) = store.info(&path).await.map_err(passing)? else { return Ok(Found::Nothing) };
        match self.recognise(store, entry, file, &info).await? {
            None => Ok(Found::Ours),
            Some(other) => Err(stops::foreign(of, entry.span(), &file.url, &other)),
        }
    }

    /// `None` when an object is the file; otherwise what it is.
    pub(super) async fn recognise(&self, store: &Store, entry: &Entry, file: &File, info: &Info) -> Result<Option<String>> {
        let Some(metadata) = &info.metadata else {
            let same = info.bytes == file.bytes && stored_checksum(store, &info.path, info.bytes).await? == file.stored;
            return Ok((!same).then(|| format!("{} bytes, other content", info.bytes)));
        };
        Ok(match metadata.get("kas3-span") {
            Some(span) if *span == format!("{}/{}", entry.id, file.number) => None,
            Some(span) => Some(format!("file `{span}` of another span or pipeline")),
            None => Some(format!("{} bytes, without the mark of kas3", info.bytes)),
        })
    }

    /// Swaps the cursor of DeviantArt's kafka-connect-s3 forward, never backwards.
    async fn move_cursor(&self, of: &TopicPartition, store: &Store, entry: &Entry, files: &[File]) -> Result<()> {
        if !self.pipeline.cursor {
            return Ok(());
        }
        let last = files
            .iter()
            .filter(|file| file.role == Role::SideFile && !file.lost)
            .max_by_key(|file| (file.offsets.iter().flatten().map(|bounds| bounds.max).max(), file.number));
        let Some(last) = last else { return Ok(()) };
        let key = key_of(&last.url);
        let place = (entry.incarnation, entry.span().next);
        let path = format!("last_chunk_index.{}-{:05}.txt", of.topic, of.partition);
        let mut options = PutOptions::data("text/plain; charset=utf-8");
        options.metadata = vec![("kas3-next".into(), place.1.to_string()), ("kas3-incarnation".into(), place.0.to_string())];
        kill_point("cursor.before");
        loop {
            let info = self.patiently(of, "look at the cursor", || store.info(&path)).await?;
            if let Some(info) = &info
                && self.cursor_place(of, store, info).await? >= Some(place)
            {
                break;
            }
            let expected = info.as_ref().map(|info| &info.version);
            let swap = || store.replace(&path, expected, Bytes::from(key.clone()), &options);
            if let Swapped::Done(_) = self.patiently(of, "move the cursor", swap).await? {
                break;
            }
        }
        kill_point("cursor.after");
        Ok(())
    }

    /// How far a cursor is: incarnation and offset, from its metadata, or from the number that its key ends in.
    async fn cursor_place(&self, of: &TopicPartition, store: &Store, info: &Info) -> Result<Option<(u32, i64)>> {
        if let Some(metadata) = &info.metadata
            && let (Some(next), Some(incarnation)) = (metadata.get("kas3-next"), metadata.get("kas3-incarnation"))
        {
            return Ok(incarnation.parse().ok().zip(next.parse().ok()));
        }
        let object = self.patiently(of, "read the cursor", || store.get(&info.path, 8192)).await?;
        Ok(object.and_then(|object| place_of_key(std::str::from_utf8(&object.bytes).ok()?)))
    }
}

/// Incarnation and offset at the end of an index's key. The offset is that of the file's first record, so a cursor without
/// metadata counts as one span behind and is written once more, with the same content.
fn place_of_key(key: &str) -> Option<(u32, i64)> {
    let stem = key.trim().strip_suffix(".index.json")?;
    let digits = |text: &str| text.len() - text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (stem, incarnation) = match stem.rsplit_once("-i") {
        Some((before, number)) if !number.is_empty() && digits(number) == 0 => (before, number.parse().ok()?),
        _ => (stem, 0),
    };
    stem[digits(stem)..].parse().ok().map(|offset| (incarnation, offset))
}

/// The key that a URL names inside its bucket; on a local disk the path.
fn key_of(url: &str) -> String {
    kas3_store::StoreUrl::parse(url).map_or_else(|_| url.to_owned(), kas3_store::StoreUrl::key)
}

/// The path of a file below its store's prefix.
pub(super) fn path_of(of: &TopicPartition, store: &Store, file: &File) -> Result<String> {
    match store.path_of(&file.url) {
        Some(path) if !path.starts_with("_kas3/") => Ok(path),
        _ => Err(Error::new(
            Kind::Stopped,
            format!("partition `{of}` stops: its head names the file `{}`, which does not lie below `{}`", file.url, store.url()),
        )
        .hint("restore the head that kas3 wrote")),
    }
}

/// How a file of a span is written: the same for its upload's begin, its completion and a PUT.
pub(super) fn put_options(of: &TopicPartition, entry: &Entry, file: &File, deadline: Option<Instant>) -> PutOptions {
    let span = entry.span();
    let mut options = PutOptions::data(interned(&file.content_type));
    options.content_encoding = file.content_encoding.as_deref().map(interned);
    options.metadata = metadata(of, &entry.id, file.number, span.first, Some(span.next));
    options.deadline = deadline;
    options
}

/// Metadata of file `number` of span `id`: the mark by which it is known again, and what is useful to people. `next` is not
/// known yet when an upload begins.
pub fn metadata(of: &TopicPartition, id: &str, number: u32, first: i64, next: Option<i64>) -> Vec<(Cow<'static, str>, String)> {
    let mut metadata = vec![
        ("kas3-span".into(), format!("{id}/{number}")),
        ("kas3-topic".into(), of.topic.to_string()),
        ("kas3-partition".into(), of.partition.to_string()),
        ("kas3-first".into(), first.to_string()),
    ];
    metadata.extend(next.map(|next| ("kas3-next".into(), next.to_string())));
    metadata
}

async fn stored_checksum(store: &Store, path: &str, bytes: u64) -> Result<Checksum> {
    let mut hasher = Xxh3::new();
    let mut at = 0;
    while at < bytes {
        let read = store.range(path, at..bytes.min(at + COMPARE_BYTES)).await.map_err(passing)?;
        if read.is_empty() {
            break;
        }
        at += read.len() as u64;
        hasher.update(&read);
    }
    Ok(Checksum::from_xxh3(hasher.digest128()))
}

/// A media type from a head as the store wants it. There are a handful; what is beyond a limit is served as bytes.
fn interned(text: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let Ok(mut known) = KNOWN.lock() else { return "application/octet-stream" };
    if let Some(found) = known.get(text) {
        return found;
    }
    if known.len() >= 64 || text.len() > 128 || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return "application/octet-stream";
    }
    let leaked: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(leaked);
    leaked
}
