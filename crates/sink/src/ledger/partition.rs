//! A partition that a lane works on: commit, advance, settle. One owner task; what other workers do shows at the next swap.

use super::{
    Ledger,
    closed_span::{ClosedFile, ClosedSpan, ClosedStretch},
    head_writer::HeadWriter,
    publish::path_of,
    random_name,
    stored::{Counts, Entry, EntryKind, Head, Origin, Place, Stretch},
};
use crate::{
    error::{Error, Kind, Result},
    report::Report,
    span::{Position, TopicPartition},
    stops,
};
use jiff::Timestamp;
use kas3_store::{Scheme, Store, UploadId, kill_point};
use serde_json::Map;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// An opened partition. Dropping it, or any of its futures, is safe at any moment: it is what a crash does. After a future was
/// dropped half-way the partition must be opened again.
pub struct Partition {
    writer: HeadWriter,
    _hold: Hold,
    /// A step was begun and not ended.
    broken: bool,
}

/// Staged bytes that nobody needs once their span is settled.
struct Leftovers {
    of: TopicPartition,
    store: Store,
    bundles: BTreeSet<String>,
    uploads: Vec<(String, UploadId)>,
}

impl Partition {
    pub(super) fn new(writer: HeadWriter) -> Partition {
        let hold = writer.ledger.hold(&writer.of);
        Partition { writer, _hold: hold, broken: false }
    }

    /// Whose it is.
    pub fn of(&self) -> &TopicPartition {
        &self.writer.of
    }

    /// Where reading goes on.
    pub fn position(&self) -> Position {
        self.writer.head.position()
    }

    /// The incarnation that names carry.
    pub fn incarnation(&self) -> u32 {
        self.writer.head.incarnation
    }

    /// The head as this worker knows it.
    pub fn head(&self) -> &Head {
        &self.writer.head
    }

    /// The id of the topic that the offsets belong to.
    pub fn topic_id(&self) -> Option<&str> {
        self.writer.head.topic_id.as_deref()
    }

    /// Whether a published span waits for the swap that says so.
    pub fn unsettled(&self) -> bool {
        !self.writer.head.pending.is_empty()
    }

    /// What the consumer group is told.
    pub fn report(&self) -> Report {
        Report { next: self.writer.head.next, metadata: self.writer.ledger.origin(&self.writer.head).text() }
    }

    /// Stages, commits and publishes a span. Transient troubles are retried inside for as long as they last.
    ///
    /// # Errors
    /// `Fenced`: somebody moved the partition, or an upload was lost; drop what is open and open the partition again.
    /// `Stopped`: a person must decide. `Newer`: a newer kas3 moved the partition on.
    pub async fn commit(&mut self, span: ClosedSpan) -> Result<()> {
        self.begin()?;
        self.check_span(&span)?;
        let done = self.commit_inside(span).await;
        self.end(done)
    }

    /// Moves on without files: transaction markers, compaction.
    ///
    /// # Errors
    /// As [`Partition::commit`].
    pub async fn advance(&mut self, to: Position) -> Result<()> {
        let at = self.writer.head.next;
        if to.next < at {
            return Err(Error::new(Kind::Fatal, format!("partition `{}` cannot go back from {at} to {}", self.writer.of, to.next)));
        }
        if to.next == at {
            return Ok(());
        }
        self.begin()?;
        let entry = self.writer.entry_between(EntryKind::Empty, at, to);
        let done = async {
            self.writer.check_topic().await?;
            self.move_without_files(entry, to).await
        }
        .await;
        self.end(done)
    }

    /// Says in the head that the committed span is published; then its bundles are deleted.
    ///
    /// # Errors
    /// As [`Partition::commit`].
    pub async fn settle(&mut self) -> Result<()> {
        if !self.unsettled() {
            return Ok(());
        }
        self.begin()?;
        let done = self.writer.settle().await;
        self.end(done)
    }

    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(Error::new(
                Kind::Fenced,
                format!("a step of partition `{}` was given up half-way, so it must be opened again", self.writer.of),
            ));
        }
        Ok(())
    }

    fn end(&mut self, done: Result<()>) -> Result<()> {
        self.broken = done.is_err();
        done
    }

    fn check_span(&self, closed: &ClosedSpan) -> Result<()> {
        let (of, head) = (&self.writer.of, &self.writer.head);
        let [ClosedStretch { of: whose, span, .. }] = closed.stretches.as_slice() else {
            return Err(Error::new(Kind::Fatal, format!("a head of `{of}` covers one partition, not {}", closed.stretches.len())));
        };
        if whose != of || span.first != head.next || span.next <= span.first {
            let text = format!("span {} to {} of `{whose}` does not follow partition `{of}` at {}", span.first, span.next, head.next);
            return Err(Error::new(Kind::Fatal, text));
        }
        let sink = &self.writer.ledger.sink;
        let mut names = HashMap::new();
        for file in &closed.files {
            let name = if sink.ignores_case() { file.path.to_lowercase() } else { file.path.clone() };
            if let Some(other) = names.insert(name, &file.path) {
                return Err(stops::case_collision(of, *span, other, &file.path));
            }
        }
        Ok(())
    }

    async fn commit_inside(&mut self, closed: ClosedSpan) -> Result<()> {
        let ledger = self.writer.ledger.clone();
        let ClosedStretch { span, leader_epoch, .. } = closed.stretches[0];
        let (incarnation, first) = (self.writer.head.incarnation, span.first);
        let position = Position { next: span.next, leader_epoch };
        let mut entry = self.writer.entry_between(EntryKind::Files, first, position);
        entry.id = closed.id;
        entry.now = closed.now;
        entry.roll = Some(closed.roll.into());
        entry.counts = closed.counts.into();
        entry.timestamps = closed.timestamps.map(Into::into);
        if closed.files.is_empty() {
            self.writer.check_topic().await?;
            return self.move_without_files(entry, position).await;
        }
        let numbered: Vec<(u32, ClosedFile)> = (0..).zip(closed.files).collect();
        let staged = ledger.stage(&self.writer.of, &ledger.sink, numbered, incarnation, first).await?;
        entry.base = ledger.sink.url().to_owned();
        entry.settings.clone_from(&ledger.pipeline.settings_digest);
        (entry.files, entry.files_in) = self.writer.listed(first, staged.files).await?;
        // Asked after the span's last record was read: a client goes on silently in a topic that was created again.
        let topic_id = self.writer.check_topic().await?;
        let before = self.writer.leftovers().await?;
        let mut head = self.writer.with_history(None).await?;
        head.topic_id = head.topic_id.or(topic_id);
        head.next = position.next;
        head.leader_epoch = position.leader_epoch;
        head.pending = vec![entry.clone()];
        let settles = self.unsettled();
        kill_point("commit.before");
        self.writer.swap_with(head, staged.items, "commit").await?;
        kill_point("commit.after");
        if settles {
            ledger.observer.settled(&self.writer.of);
        }
        ledger.observer.committed(&self.writer.of, &entry);
        self.writer.publish_own(staged.bodies).await?;
        ledger.clear(before).await;
        Ok(())
    }

    /// A swap that needs no publishing: the entry is final at once, and what was pending is settled with it.
    async fn move_without_files(&mut self, entry: Entry, to: Position) -> Result<()> {
        let settles = self.unsettled();
        let staged = self.writer.leftovers().await?;
        let mut head = self.writer.with_history(Some(entry.clone())).await?;
        head.next = to.next;
        head.leader_epoch = to.leader_epoch;
        kill_point("advance.before");
        self.writer.swap(head, "advance").await?;
        kill_point("advance.after");
        if settles {
            self.writer.ledger.observer.settled(&self.writer.of);
        }
        self.writer.ledger.observer.committed(&self.writer.of, &entry);
        self.writer.ledger.clear(staged).await;
        Ok(())
    }
}

/// A partition is open, or being opened, in this process for as long as this lives.
pub(super) struct Hold {
    ledger: Arc<Ledger>,
    of: TopicPartition,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Ok(mut held) = self.ledger.held.lock()
            && let Some(count) = held.get_mut(&self.of)
        {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.of);
            }
        }
    }
}

impl HeadWriter {
    /// An entry of this partition from `first` on, without files.
    pub(super) fn entry_between(&self, kind: EntryKind, first: i64, to: Position) -> Entry {
        Entry {
            id: random_name(),
            kind: kind.into(),
            partitions: vec![Stretch {
                topic: self.of.topic.to_string(),
                partition: self.of.partition,
                first,
                next: to.next,
                leader_epoch: to.leader_epoch,
                extra: Map::new(),
            }],
            incarnation: self.head.incarnation,
            now: Timestamp::now(),
            roll: None,
            counts: Counts::default(),
            timestamps: None,
            base: String::new(),
            settings: String::new(),
            files: Vec::new(),
            files_in: None,
            reason: None,
            extra: Map::new(),
        }
    }

    /// Whether the topic still is the one that the head was written for; its id.
    pub(super) async fn check_topic(&self) -> Result<Option<String>> {
        let id = self.ledger.topic_id(&self.of).await?;
        match (&self.head.topic_id, &id) {
            (Some(was), Some(is)) if was != is => Err(stops::recreated(&self.of, was, is)),
            _ => Ok(id),
        }
    }

    /// The swap for settling alone. All files of the pending span were seen.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let staged = self.leftovers().await?;
        let head = self.with_history(None).await?;
        kill_point("settle.before");
        self.swap(head, "settle").await?;
        kill_point("settle.after");
        self.ledger.observer.settled(&self.of);
        self.ledger.clear(staged).await;
        Ok(())
    }

    /// What is staged for the pending span and may go once it is settled: its bundles, and on a local disk the hidden files
    /// of its uploads, which stay there when they are linked under their names.
    async fn leftovers(&self) -> Result<Option<Leftovers>> {
        let Some(entry) = self.head.pending.first() else { return Ok(None) };
        let store = self.ledger.store_of(&self.of, entry).await?;
        let local = store.scheme() == Scheme::File;
        let (mut bundles, mut uploads) = (BTreeSet::new(), Vec::new());
        for file in self.ledger.files(entry, &self.of).await? {
            match file.place() {
                Some(Place::Bundle(bundle)) => _ = bundles.insert(bundle.path.clone()),
                Some(Place::Upload(upload)) if local => uploads.push((path_of(&self.of, &store, &file)?, upload.id.clone())),
                _ => {}
            }
        }
        Ok(Some(Leftovers { of: self.of.clone(), store, bundles, uploads }))
    }
}

impl Ledger {
    fn origin(&self, head: &Head) -> Origin {
        let (pipeline, ledger) = (self.pipeline.name.clone(), self.ledger.url().to_owned());
        Origin { kas3: head.version, pipeline, ledger, incarnation: head.incarnation }
    }

    /// Deletes what was staged for a settled span. What this misses is reclaimed later: one try is enough. That the store refuses is
    /// known where requests are sent.
    async fn clear(&self, leftovers: Option<Leftovers>) {
        let Some(Leftovers { of, store, bundles, uploads }) = leftovers else { return };
        for path in bundles {
            kill_point("bundle_delete.before");
            if let Err(error) = store.delete(&path).await {
                tracing::debug!(partition = %of, error = %error.chain(), "a bundle of no more use is deleted later");
            }
            kill_point("bundle_delete.after");
        }
        for (path, id) in uploads {
            let _ = store.abort_upload(&path, &id).await;
        }
    }

    pub(super) fn hold(self: &Arc<Self>, of: &TopicPartition) -> Hold {
        if let Ok(mut held) = self.held.lock() {
            *held.entry(of.clone()).or_insert(0) += 1;
        }
        Hold { ledger: Arc::clone(self), of: of.clone() }
    }

    pub(super) fn holds(&self, of: &TopicPartition) -> bool {
        self.held.lock().is_ok_and(|held| held.contains_key(of))
    }
}
