//! The one way in which a head changes: a swap of what was read, known again after a lost answer.

use super::{
    Ledger, random_name,
    stored::{File, HEAD_BEGINNING_BYTES, HEAD_BYTES_MAX, Head, Item, Items, NEEDS, Place, Unusable, VERSION_OLDEST, version_to_write},
};
use crate::{
    error::{Error, Kind, Result},
    span::{Checksum, TopicPartition},
    stops,
};
use bytes::Bytes;
use jiff::Timestamp;
use kas3_store::{Created, Object, Pieces, Swapped, Version, kill_point};
use std::{collections::HashMap, sync::Arc, time::SystemTime};
use tokio::{sync::SemaphorePermit, time::Instant};
use xxhash_rust::xxh3::xxh3_128;

/// A head as it was last seen, and the writer who may swap it.
pub(super) struct HeadWriter {
    pub(super) ledger: Arc<Ledger>,
    pub(super) of: TopicPartition,
    pub(super) head: Head,
    version: Version,
    /// As it is stored, it holds bytes of files.
    holds_bytes: bool,
    /// When the store last told that this is the head.
    seen: Instant,
    session: String,
    counter: u64,
}

/// A head as the store has it: without the bytes of files, of which it is only known whether there are any.
pub(super) struct StoredHead {
    pub(super) version: Version,
    /// When it was swapped last, by the store's clock.
    modified: SystemTime,
    head: Result<Head, Unusable>,
    holds_bytes: bool,
}

/// Bytes of files that were read from a head, for as long as they are needed; few may have some at a time.
#[derive(Default)]
pub(super) struct BytesOfHead<'a> {
    pub(super) files: HashMap<u32, Bytes>,
    _place: Option<SemaphorePermit<'a>>,
}

/// What became of a sent head.
enum Sent {
    Ours(Version),
    Unchanged,
    Other(Box<Head>),
    Vanished,
}

impl HeadWriter {
    /// Reads a head; `None` when there is none.
    pub(super) async fn read(ledger: &Arc<Ledger>, of: &TopicPartition) -> Result<Option<HeadWriter>> {
        Ok(Self::read_dated(ledger, of).await?.map(|(writer, _)| writer))
    }

    /// The same, and when it was swapped last, by the store's clock.
    pub(super) async fn read_dated(ledger: &Arc<Ledger>, of: &TopicPartition) -> Result<Option<(HeadWriter, SystemTime)>> {
        let Some(stored) = ledger.read_head_object(of).await? else { return Ok(None) };
        let head = ledger.decode_head(of, &stored)?;
        let mut writer = HeadWriter::new(ledger, of, head, stored.version);
        writer.holds_bytes = stored.holds_bytes;
        Ok(Some((writer, stored.modified)))
    }

    /// Whoever has just seen `head` in this version.
    fn new(ledger: &Arc<Ledger>, of: &TopicPartition, head: Head, version: Version) -> HeadWriter {
        let (ledger, of) = (ledger.clone(), of.clone());
        HeadWriter { ledger, of, head, version, holds_bytes: false, seen: Instant::now(), session: random_name(), counter: 0 }
    }

    /// Creates a head, or finds the one that another worker created first.
    pub(super) async fn create(ledger: &Arc<Ledger>, of: &TopicPartition, mut head: Head) -> Result<HeadWriter> {
        let session = random_name();
        head.session.clone_from(&session);
        head.counter = 1;
        head.version = ledger.version_to_write(&head)?;
        let bytes = Bytes::from(head.encode());
        let path = ledger.head_path(of);
        let mut backoff = ledger.backoff();
        loop {
            kill_point("open.before");
            match ledger.ledger.create_cell(&path, bytes.clone()).await {
                Ok(Created::Done(version)) => {
                    kill_point("open.after");
                    return Ok(HeadWriter { session, counter: 1, ..HeadWriter::new(ledger, of, head, version) });
                }
                Ok(Created::Exists) => {}
                Err(error) => ledger.keep_trying(of, "create the head", error)?,
            }
            if let Some(found) = HeadWriter::read(ledger, of).await? {
                return Ok(if found.head.session == session { HeadWriter { session, counter: 1, ..found } } else { found });
            }
            backoff.sleep().await;
        }
    }

    /// Replaces a head that cannot be read, of which only the version is known. For people who accept its loss.
    pub(super) async fn overwrite(ledger: &Arc<Ledger>, of: &TopicPartition, version: Version, head: Head) -> Result<HeadWriter> {
        let mut writer = HeadWriter::new(ledger, of, head.clone(), version);
        writer.swap(head, "accept").await?;
        Ok(writer)
    }

    /// Swaps the head, whatever it takes, unless somebody else did. While a span is pending, the bytes of its files stay in the head;
    /// with the span they go.
    ///
    /// # Errors
    /// `Fenced` when somebody moved the partition; `Stopped` when the head vanished or cannot be read; `Newer` when a newer kas3
    /// swapped it.
    pub(super) async fn swap(&mut self, head: Head, what: &'static str) -> Result<()> {
        let pending = |head: &Head| head.pending.first().map(|entry| entry.id.clone());
        let stays = self.holds_bytes && pending(&head).is_some() && pending(&head) == pending(&self.head);
        let items = match stays {
            // what cannot be read cannot be kept: those files are made again
            true => Items::of(&self.read_whole(what).await?.bytes).map_or(Vec::new(), |items| items.carried()),
            false => Vec::new(),
        };
        self.swap_with(head, items, what).await
    }

    /// The same with these bytes of files, and no others, in the head.
    ///
    /// # Errors
    /// As [`HeadWriter::swap`].
    pub(super) async fn swap_with(&mut self, mut head: Head, items: Vec<Item>, what: &'static str) -> Result<()> {
        self.counter += 1;
        head.session.clone_from(&self.session);
        head.counter = self.counter;
        head.written_at = Timestamp::now();
        head.settings.clone_from(&self.ledger.pipeline.settings_digest);
        head.version = self.ledger.version_to_write(&head)?;
        let holds_bytes = !items.is_empty();
        let bytes = head.encode_with(items);
        if bytes.len() as u64 > HEAD_BYTES_MAX {
            return Err(Error::new(Kind::Fatal, format!("the head of `{}` would have {} bytes, {HEAD_BYTES_MAX} are allowed", self.of, bytes.len())));
        }
        let mut backoff = self.ledger.backoff();
        loop {
            // before it is sent: whoever sleeps over the answer has not seen the head since
            let seen = Instant::now();
            match self.send(&bytes, what).await? {
                Sent::Ours(version) => {
                    self.head = head;
                    self.version = version;
                    self.holds_bytes = holds_bytes;
                    self.seen = seen;
                    return Ok(());
                }
                Sent::Unchanged => backoff.sleep().await,
                Sent::Other(found) => return Err(self.fenced(&found, what)),
                Sent::Vanished => return Err(self.vanished(if what == "amend" { self.unpublished() } else { self.head.next })),
            }
        }
    }

    /// One request; every answer but success is taken for a lost one, and the head is asked.
    async fn send(&self, bytes: &Pieces, what: &str) -> Result<Sent> {
        let path = self.ledger.head_path(&self.of);
        match self.ledger.ledger.swap_cell(&path, &self.version, bytes.clone()).await {
            Ok(Swapped::Done(version)) => return Ok(Sent::Ours(version)),
            Ok(Swapped::Moved) => {}
            Err(error) => self.ledger.keep_trying(&self.of, what, error)?,
        }
        let Some(object) = self.ledger.read_head_object(&self.of).await? else { return Ok(Sent::Vanished) };
        if object.version == self.version {
            return Ok(Sent::Unchanged);
        }
        let found = self.ledger.decode_head(&self.of, &object)?;
        if found.session == self.session && found.counter == self.counter {
            return Ok(Sent::Ours(object.version));
        }
        Ok(Sent::Other(Box::new(found)))
    }

    /// How long ago the store told that this is the head.
    pub(super) fn seen(&self) -> Instant {
        self.seen
    }

    /// Asks the store whether this still is the head, so that something may be sent on its behalf.
    ///
    /// # Errors
    /// `Fenced` when it is not.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        let seen = Instant::now();
        let Some(object) = self.ledger.read_head_object(&self.of).await? else { return Err(self.vanished(self.unpublished())) };
        if object.version != self.version {
            let found = self.ledger.decode_head(&self.of, &object)?;
            return Err(self.fenced(&found, "publish"));
        }
        self.seen = seen;
        Ok(())
    }

    /// The head to its end, as it is stored.
    ///
    /// # Errors
    /// As [`HeadWriter::refresh`].
    async fn read_whole(&mut self, what: &'static str) -> Result<Object> {
        let (seen, path) = (Instant::now(), self.ledger.head_path(&self.of));
        let read = || self.ledger.ledger.read_cell(&path, HEAD_BYTES_MAX);
        let Some(object) = self.ledger.patiently(&self.of, "read the files in the head", read).await? else {
            return Err(self.vanished(self.unpublished()));
        };
        if object.version != self.version {
            let found = Head::decode(&object.bytes).map_err(|why| why.stop(&self.of, &self.ledger.ledger.url_of(&path)))?;
            return Err(self.fenced(&found, what));
        }
        self.seen = seen;
        Ok(object)
    }

    /// The bytes of those files that lie in the head. Of one whose bytes are damaged there are none: it is made again.
    ///
    /// # Errors
    /// As [`HeadWriter::refresh`].
    pub(super) async fn bytes_of<'a>(&mut self, ledger: &'a Ledger, files: &[&File]) -> Result<BytesOfHead<'a>> {
        let in_head = |file: &&File| if let Some(Place::Head(place)) = file.place() { Some(place.item) } else { None };
        if !files.iter().any(|file| in_head(file).is_some()) {
            return Ok(BytesOfHead::default());
        }
        let place = ledger.heads_with_bytes.acquire().await.ok();
        let whole = self.read_whole("publish").await?;
        let items = Items::of(&whole.bytes).ok();
        let bytes = |file: &&File| items.as_ref()?.file(in_head(file)?).filter(|bytes| Checksum::from_xxh3(xxh3_128(bytes)) == file.stored);
        Ok(BytesOfHead { files: files.iter().filter_map(|file| Some((file.number, bytes(file)?))).collect(), _place: place })
    }

    fn vanished(&self, next: i64) -> Error {
        stops::vanished(&self.of, &self.ledger.ledger.url_of(&self.ledger.head_path(&self.of)), next)
    }

    /// The first offset that may be in no visible file: with the head, the bytes of the pending span are gone.
    fn unpublished(&self) -> i64 {
        self.head.pending.first().map_or(self.head.next, |entry| entry.span().first)
    }

    fn fenced(&self, found: &Head, what: &str) -> Error {
        Error::new(
            Kind::Fenced,
            format!(
                "partition `{}` was moved from {} to {} by another worker (session `{}`) before `{what}`",
                self.of, self.head.next, found.next, found.session
            ),
        )
    }
}

impl StoredHead {
    fn whole(object: Object, modified: SystemTime) -> StoredHead {
        let holds_bytes = Items::of(&object.bytes).is_ok_and(|items| !items.is_empty());
        StoredHead { version: object.version, modified, head: Head::decode(&object.bytes), holds_bytes }
    }
}

impl Ledger {
    /// Where the head of a partition lies, below the ledger's URL.
    pub fn head_path(&self, of: &TopicPartition) -> String {
        format!("{}head.json", self.folder(of))
    }

    /// The folder of a partition's head and segments, below the ledger's URL and with a trailing slash.
    pub(super) fn folder(&self, of: &TopicPartition) -> String {
        format!("_kas3/{}/ledger/{}/{:05}/", self.pipeline.name, of.topic, of.partition)
    }

    /// A head as it is stored. Its end, where files may be, is left in the store unless it is needed to understand the rest.
    pub(super) async fn read_head_object(&self, of: &TopicPartition) -> Result<Option<StoredHead>> {
        let path = self.head_path(of);
        let begin = || self.ledger.begin_cell(&path, HEAD_BEGINNING_BYTES);
        let Some(begun) = self.patiently(of, "read the head", begin).await? else { return Ok(None) };
        let modified = begun.modified;
        if begun.is_whole() {
            return Ok(Some(StoredHead::whole(Object { bytes: begun.bytes, version: begun.version }, modified)));
        }
        if let Some(head) = Head::decode_beginning(&begun.bytes) {
            return Ok(Some(StoredHead { version: begun.version, modified, head, holds_bytes: true }));
        }
        let whole = self.patiently(of, "read the head", || self.ledger.read_cell(&path, HEAD_BYTES_MAX)).await?;
        Ok(whole.map(|whole| StoredHead::whole(whole, modified)))
    }

    pub(super) async fn read_head(&self, of: &TopicPartition) -> Result<Option<(Head, Version)>> {
        let Some(object) = self.read_head_object(of).await? else { return Ok(None) };
        let head = self.decode_head(of, &object)?;
        Ok(Some((head, object.version)))
    }

    pub(super) fn decode_head(&self, of: &TopicPartition, object: &StoredHead) -> Result<Head> {
        let unusable = |why: &Unusable| why.stop(of, &self.ledger.url_of(&self.head_path(of)));
        let head = object.head.clone().map_err(|why| unusable(&why))?;
        if head.topic != *of.topic || head.partition != of.partition || head.pipeline != self.pipeline.name {
            let text = format!("it is the head of `{}-{}` of pipeline `{}`", head.topic, head.partition, head.pipeline);
            return Err(unusable(&Unusable::Broken(text)));
        }
        Ok(head)
    }

    fn version_to_write(&self, head: &Head) -> Result<u32> {
        version_to_write(head, self.pipeline.ledger_version, NEEDS).map_err(|why| {
            Error::new(Kind::Fatal, format!("partition `{}` cannot go on: {why}", head.of()))
                .hint("raise `ledger.version`, or leave it out, once every worker runs a kas3 that knows that version")
        })
    }

    /// The version of objects that begin: the oldest, so that older workers can take over again, or the pinned one.
    pub(super) fn version_of_new(&self) -> u32 {
        self.pipeline.ledger_version.unwrap_or(VERSION_OLDEST)
    }

    /// Passes on what cannot get better, tells the observer about the rest.
    pub(super) fn keep_trying(&self, of: &TopicPartition, what: &str, error: kas3_store::Error) -> Result<()> {
        use super::retry::MayPass;
        if !error.may_pass() {
            return Err(error.into());
        }
        self.observer.retrying(of, what, &error.into());
        Ok(())
    }

    /// A head at its beginning.
    pub(super) fn new_head(&self, of: &TopicPartition, cluster_id: &str, topic_id: Option<String>, incarnation: u32, start: i64) -> Head {
        Head {
            version: self.version_of_new(),
            session: String::new(),
            counter: 0,
            written_at: Timestamp::now(),
            pipeline: self.pipeline.name.clone(),
            topic: of.topic.to_string(),
            partition: of.partition,
            cluster_id: cluster_id.to_owned(),
            topic_id,
            incarnation,
            start,
            next: start,
            leader_epoch: -1,
            settings: self.pipeline.settings_digest.clone(),
            pending: Vec::new(),
            closed: Vec::new(),
            segment: None,
            lost_segments: Vec::new(),
            begun: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }
}
