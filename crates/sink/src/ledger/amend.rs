//! Amending: a committed file whose staged bytes are gone is made again from Kafka, under the same span id and the same name,
//! and must come out the same. Staged bytes that vanish thus cost work and never a record, as long as Kafka has the span.

use super::{
    Ledger,
    closed_span::ClosedFile,
    head_writer::HeadWriter,
    publish::path_of,
    random_name,
    remaker::Remake,
    stage::{self, StagedFiles},
    stored::{Entry, File, Place},
};
use crate::{
    error::{Kind, Result},
    stops,
};
use bytes::Bytes;
use kas3_store::{Pieces, Store, kill_point};
use std::collections::{BTreeMap, HashMap};

impl HeadWriter {
    /// Makes `lost` files again, stages them, and swaps the head with the new staged forms; the bytes that are in memory.
    ///
    /// # Errors
    /// `Stopped` when Kafka no longer has the span, or the files come out different.
    pub(super) async fn amend(&mut self, store: &Store, lost: &[u32]) -> Result<HashMap<u32, Bytes>> {
        let entry = self.head.pending.first().cloned().expect("a lost file belongs to a pending span");
        let files = self.ledger.files(&entry, &self.of).await?;
        let wanted: Vec<&File> = files.iter().filter(|file| lost.contains(&file.number)).collect();
        self.abort_uploads(store, &wanted).await?;
        self.still_in_kafka(&entry, &wanted).await?;
        let made = self.remake(store, &entry, &wanted).await?;
        let staged = match self.ledger.stage(&self.of, store, made, entry.incarnation, entry.span().first).await {
            // Parts that were lost while the files were made again: nothing was swapped, the caller begins anew.
            Err(error) if error.kind() == Kind::Fenced => return Err(error),
            staged => staged?,
        };
        let mut new: BTreeMap<u32, File> = staged.files.into_iter().map(|file| (file.number, file)).collect();
        let files: Vec<File> = files
            .into_iter()
            .map(|old| match new.remove(&old.number) {
                // what was checked to be the same stays as it was written, with what a newer version keeps there
                Some(File { bytes, stored, content_type, content_encoding, staged, .. }) => {
                    File { bytes, stored, content_type, content_encoding, staged, ..old }
                }
                // it was seen, and what the head held of it goes with this swap
                None if matches!(old.place(), Some(Place::Head(_))) => File { staged: None, ..old },
                None => old,
            })
            .collect();
        let mut head = self.head.clone();
        let mut amended = entry;
        (amended.files, amended.files_in) = self.listed(amended.span().first, files).await?;
        head.pending = vec![amended];
        kill_point("amend.before");
        self.swap_with(head, staged.items, "amend").await?;
        kill_point("amend.after");
        self.ledger.observer.amended(&self.of);
        Ok(staged.bodies)
    }

    /// An upload that could not be completed must never complete later, beside the one that takes its place.
    async fn abort_uploads(&self, store: &Store, wanted: &[&File]) -> Result<()> {
        for file in wanted {
            if let Some(Place::Upload(upload)) = file.place() {
                let path = path_of(&self.of, store, file)?;
                self.ledger.patiently(&self.of, "abort an upload", || store.abort_upload(&path, &upload.id)).await?;
            }
        }
        Ok(())
    }

    /// Whether Kafka still has exactly the records of the span.
    async fn still_in_kafka(&self, entry: &Entry, wanted: &[&File]) -> Result<()> {
        let beyond = |why: String| stops::beyond_repair(&self.of, entry.span(), &urls(wanted), &why);
        let cluster = self.ledger.cluster_id(&self.of).await?;
        if cluster != self.head.cluster_id {
            return Err(beyond(format!("cluster `{cluster}` answers instead of `{}`", self.head.cluster_id)));
        }
        let id = self.ledger.topic_id(&self.of).await.map_err(|error| match error.kind() {
            Kind::Transient => error,
            _ => beyond("the topic is gone".to_owned()).source(error),
        })?;
        if let (Some(was), Some(is)) = (&self.head.topic_id, &id)
            && was != is
        {
            return Err(beyond(format!("the topic was deleted and created again (id `{is}` instead of `{was}`)")));
        }
        let (earliest, end) = self.ledger.patiently(&self.of, "ask for the log's bounds", || self.ledger.log.bounds(&self.of)).await?;
        if earliest > entry.span().first || end < entry.span().next {
            return Err(beyond(format!("Kafka has offsets {earliest} to {end}")));
        }
        Ok(())
    }

    async fn remake(&self, store: &Store, entry: &Entry, wanted: &[&File]) -> Result<Vec<(u32, ClosedFile)>> {
        let mut by_incarnation: BTreeMap<u32, Vec<&File>> = BTreeMap::new();
        for file in wanted {
            by_incarnation.entry(file.incarnation.unwrap_or(entry.incarnation)).or_default().push(file);
        }
        let mut all = Vec::new();
        for (incarnation, mut files) in by_incarnation {
            files.sort_by_key(|file| file.number);
            let order = Remake {
                of: self.of.clone(),
                id: entry.id.clone(),
                store: store.clone(),
                span: entry.span(),
                leader_epoch: entry.end().leader_epoch,
                incarnation,
                now: entry.now,
                wanted: files.iter().map(|file| file.number).collect(),
                paths: files.iter().map(|file| path_of(&self.of, store, file)).collect::<Result<_>>()?,
            };
            let made = self.ledger.patiently(&self.of, "make lost files again", || self.ledger.remaker.remake(&order)).await;
            let made = made.map_err(|error| match error.kind() {
                // who waits for nothing has not found out whether they can be made
                Kind::Transient => error,
                _ => stops::beyond_repair(&self.of, entry.span(), &urls(&files), &error.chain()).source(error),
            })?;
            self.check_remade(store, entry, &files, &made)?;
            all.extend(made);
        }
        Ok(all)
    }

    /// Names, records and content must be those of the commit: other bytes would be other records under the same span.
    fn check_remade(&self, store: &Store, entry: &Entry, files: &[&File], made: &[(u32, ClosedFile)]) -> Result<()> {
        let differ = |why: String| {
            let settings = if entry.settings == self.ledger.pipeline.settings_digest { "" } else { "; the span was closed under other settings" };
            stops::beyond_repair(&self.of, entry.span(), &urls(files), &format!("{why}{settings}"))
        };
        if made.len() != files.len() {
            return Err(differ(format!("{} files came out of {} that were wanted", made.len(), files.len())));
        }
        for file in files {
            let Some((_, new)) = made.iter().find(|(number, _)| *number == file.number) else {
                return Err(differ(format!("file {} did not come out", file.number)));
            };
            if store.url_of(&new.path) != file.url {
                return Err(differ(format!("`{}` came out as `{}`", file.url, store.url_of(&new.path))));
            }
            if new.records != file.records || new.rows != file.rows() || new.checksum != file.checksum {
                let text = format!(
                    "`{}` came out with {} records and checksum `{}` instead of {} and `{}`",
                    file.url, new.records, new.checksum.0, file.records, file.checksum.0
                );
                return Err(differ(text));
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Makes the bytes of closed files durable: waits for uploads, puts bundles. What the head is to take along is durable with
    /// its swap. It takes none where the ledger lies elsewhere than the files: who may read the one may not read the others.
    pub(super) async fn stage(
        &self,
        of: &crate::span::TopicPartition,
        store: &Store,
        closed: Vec<(u32, ClosedFile)>,
        incarnation: u32,
        first: i64,
    ) -> Result<StagedFiles> {
        let random = random_name();
        let prefix = self.pipeline.staged_prefix(of);
        let name = |n: usize| {
            if n == 0 { format!("{prefix}{incarnation}-{first:020}-{random}") } else { format!("{prefix}{incarnation}-{first:020}-{random}{n}") }
        };
        let mut staged = stage::lay_out(closed, store, store.url() == self.ledger.url(), name).await?;
        let options = kas3_store::PutOptions::ledger("application/octet-stream");
        for (path, content) in std::mem::take(&mut staged.bundles) {
            let bundle = Pieces::from(content);
            kill_point("bundle.before");
            // The name is random: an object that exists is our own, created by a request whose answer was lost.
            self.patiently(of, "stage a bundle", || store.create(&path, bundle.clone(), &options)).await?;
            kill_point("bundle.after");
        }
        Ok(staged)
    }
}

fn urls(files: &[&File]) -> Vec<String> {
    files.iter().map(|file| file.url.clone()).collect()
}
