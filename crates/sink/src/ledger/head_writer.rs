//! The one way in which a head changes: a swap of what was read, known again after a lost answer.

use super::{
    Ledger, random_name,
    stored::{HEAD_BYTES_MAX, Head, NEEDS, Unusable, VERSION_OLDEST, version_to_write},
};
use crate::{
    error::{Error, Kind, Result},
    span::TopicPartition,
    stops,
};
use bytes::Bytes;
use jiff::Timestamp;
use kas3_store::{Created, Object, Swapped, Version, kill_point};
use std::sync::Arc;
use tokio::time::Instant;

/// A head as it was last seen, and the writer who may swap it.
pub(super) struct HeadWriter {
    pub(super) ledger: Arc<Ledger>,
    pub(super) of: TopicPartition,
    pub(super) head: Head,
    version: Version,
    /// When the store last told that this is the head.
    seen: Instant,
    session: String,
    counter: u64,
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
        let Some((head, version)) = ledger.read_head(of).await? else { return Ok(None) };
        Ok(Some(HeadWriter { ledger: ledger.clone(), of: of.clone(), head, version, seen: Instant::now(), session: random_name(), counter: 0 }))
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
                    return Ok(HeadWriter { ledger: ledger.clone(), of: of.clone(), head, version, seen: Instant::now(), session, counter: 1 });
                }
                Ok(Created::Exists) => {}
                Err(error) => ledger.keep_trying(of, "create the head", error)?,
            }
            if let Some((found, version)) = ledger.read_head(of).await? {
                let ours = found.session == session;
                return Ok(HeadWriter {
                    ledger: ledger.clone(),
                    of: of.clone(),
                    head: found,
                    version,
                    seen: Instant::now(),
                    counter: u64::from(ours),
                    session: if ours { session } else { random_name() },
                });
            }
            backoff.sleep().await;
        }
    }

    /// Replaces a head that cannot be read, of which only the version is known. For people who accept its loss.
    pub(super) async fn overwrite(ledger: &Arc<Ledger>, of: &TopicPartition, version: Version, head: Head) -> Result<HeadWriter> {
        let mut writer = HeadWriter {
            ledger: ledger.clone(),
            of: of.clone(),
            head: head.clone(),
            version,
            seen: Instant::now(),
            session: random_name(),
            counter: 0,
        };
        writer.swap(head, "accept").await?;
        Ok(writer)
    }

    /// Swaps the head, whatever it takes, unless somebody else did.
    ///
    /// # Errors
    /// `Fenced` when somebody moved the partition; `Stopped` when the head vanished or cannot be read; `Newer` when a newer kas3
    /// swapped it.
    pub(super) async fn swap(&mut self, mut head: Head, what: &'static str) -> Result<()> {
        self.counter += 1;
        head.session.clone_from(&self.session);
        head.counter = self.counter;
        head.written_at = Timestamp::now();
        head.settings.clone_from(&self.ledger.pipeline.settings_digest);
        head.version = self.ledger.version_to_write(&head)?;
        let bytes = Bytes::from(head.encode());
        if bytes.len() as u64 > HEAD_BYTES_MAX {
            return Err(Error::new(Kind::Fatal, format!("the head of `{}` would have {} bytes, {HEAD_BYTES_MAX} are allowed", self.of, bytes.len())));
        }
        let mut backoff = self.ledger.backoff();
        loop {
            match self.send(&bytes, what).await? {
                Sent::Ours(version) => {
                    self.head = head;
                    self.version = version;
                    self.seen = Instant::now();
                    return Ok(());
                }
                Sent::Unchanged => backoff.sleep().await,
                Sent::Other(found) => return Err(self.fenced(&found, what)),
                Sent::Vanished => {
                    return Err(stops::vanished(&self.of, &self.ledger.ledger.url_of(&self.ledger.head_path(&self.of)), self.head.next));
                }
            }
        }
    }

    /// One request; every answer but success is taken for a lost one, and the head is asked.
    async fn send(&self, bytes: &Bytes, what: &str) -> Result<Sent> {
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
        let Some(object) = self.ledger.read_head_object(&self.of).await? else {
            return Err(stops::vanished(&self.of, &self.ledger.ledger.url_of(&self.ledger.head_path(&self.of)), self.head.next));
        };
        if object.version != self.version {
            let found = self.ledger.decode_head(&self.of, &object)?;
            return Err(self.fenced(&found, "publish"));
        }
        self.seen = seen;
        Ok(())
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

impl Ledger {
    /// Where the head of a partition lies, below the ledger's URL.
    pub fn head_path(&self, of: &TopicPartition) -> String {
        format!("{}head.json", self.folder(of))
    }

    /// The folder of a partition's head and segments, below the ledger's URL and with a trailing slash.
    pub(super) fn folder(&self, of: &TopicPartition) -> String {
        format!("_kas3/{}/ledger/{}/{:05}/", self.pipeline.name, of.topic, of.partition)
    }

    pub(super) async fn read_head_object(&self, of: &TopicPartition) -> Result<Option<Object>> {
        let path = self.head_path(of);
        self.patiently(of, "read the head", || self.ledger.read_cell(&path, HEAD_BYTES_MAX)).await
    }

    pub(super) async fn read_head(&self, of: &TopicPartition) -> Result<Option<(Head, Version)>> {
        let Some(object) = self.read_head_object(of).await? else { return Ok(None) };
        let head = self.decode_head(of, &object)?;
        Ok(Some((head, object.version)))
    }

    pub(super) fn decode_head(&self, of: &TopicPartition, object: &Object) -> Result<Head> {
        let unusable = |why: &Unusable| why.stop(of, &self.ledger.url_of(&self.head_path(of)));
        let head = Head::decode(&object.bytes).map_err(|why| unusable(&why))?;
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
