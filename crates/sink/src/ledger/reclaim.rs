//! Reclaiming: bytes staged for a span whose `first` is below the head's `next`, and that the head does not name, are of no
//! use to anyone, because a commit of them can no longer win. Anyone may delete them, at open and now and then.

use super::{
    Ledger,
    listing::in_folders,
    stored::{Head, Place},
};
use crate::{
    error::{Error, Result},
    span::TopicPartition,
};
use kas3_store::{OpenUpload, UploadId, kill_point};
use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

/// How long bytes staged within a pending span are left alone: somebody may be amending it at this moment.
const AMENDING_MAX: Duration = Duration::from_secs(3600);

/// What a head names.
struct Named {
    bundles: HashSet<String>,
    uploads: HashSet<UploadId>,
}

impl Ledger {
    /// Deletes bundles of a partition that are of no use. Best effort: what cannot be done now is done later.
    pub(super) async fn reclaim_bundles(&self, head: &Head) -> Result<()> {
        let of = head.of();
        let prefix = self.pipeline.staged_prefix(&of);
        let top = format!("_kas3/{}/staged/", self.pipeline.name);
        let staged = match self.staged_folders.ask(prefix.clone(), |folders| in_folders(&self.sink, &top, folders)).await {
            Ok(staged) => staged,
            Err(error) => return self.reclaim_later(&of, error),
        };
        if staged.is_empty() {
            return Ok(());
        }
        let named = self.named(&of, head).await?;
        for info in &staged {
            let place = info.path.strip_prefix(&prefix).and_then(place_of_bundle);
            let useless = place.is_some_and(|(incarnation, first)| useless(head, incarnation, first, info.modified));
            if useless && !named.bundles.contains(&info.path) {
                kill_point("reclaim.before");
                if let Err(error) = self.sink.delete(&info.path).await {
                    return self.reclaim_later(&of, error.into());
                }
                kill_point("reclaim.after");
            }
        }
        Ok(())
    }

    /// Aborts uploads that are of no use to `known` partitions, where the store can list them. `heads` are those that were read
    /// already. `staging` narrows a local disk's search.
    pub(super) async fn reclaim_uploads(&self, known: &[TopicPartition], heads: Vec<Head>, staging: &str) -> Result<()> {
        let Some(any) = known.first() else { return Ok(()) };
        let listed = match self.sink.list_uploads("", staging).await {
            Ok(listed) => listed.unwrap_or_default(),
            Err(error) => return self.reclaim_later(any, error.into()),
        };
        if listed.is_empty() {
            return Ok(());
        }
        let mut heads: HashMap<TopicPartition, Option<Head>> = heads.into_iter().map(|head| (head.of(), Some(head))).collect();
        let mut named: HashMap<TopicPartition, Option<Named>> = HashMap::new();
        for upload in listed {
            let Some((of, incarnation, offset)) = self.place_of_upload(&upload, known) else { continue };
            if !heads.contains_key(&of) {
                // one that cannot be read keeps its uploads, and stops nobody else's
                let head = self.read_head(&of).await.or_else(|error| self.reclaim_later(&of, error).map(|()| None))?;
                heads.insert(of.clone(), head.map(|(head, _)| head));
            }
            let Some(Some(head)) = heads.get(&of) else { continue };
            if !useless(head, incarnation, offset, upload.begun) {
                continue;
            }
            if !named.contains_key(&of) {
                // nor does one whose pending span cannot be read, or says what only a newer version understands
                let found = self.named(&of, head).await.map(Some).or_else(|error| self.reclaim_later(&of, error).map(|()| None))?;
                named.insert(of.clone(), found);
            }
            let Some(Some(named)) = named.get(&of) else { continue };
            if named.uploads.contains(&upload.id) {
                continue;
            }
            kill_point("reclaim.before");
            if let Err(error) = self.sink.abort_upload(&upload.path, &upload.id).await {
                return self.reclaim_later(&of, error.into());
            }
            kill_point("reclaim.after");
        }
        Ok(())
    }

    fn reclaim_later(&self, of: &TopicPartition, error: Error) -> Result<()> {
        tracing::debug!(partition = %of, error = %error.chain(), "what is staged and of no use is reclaimed later");
        Ok(())
    }

    /// What a head names of what is staged.
    ///
    /// # Errors
    /// `Newer` where it names something in words of a newer version: then nothing is known to be of no use.
    async fn named(&self, of: &TopicPartition, head: &Head) -> Result<Named> {
        let mut named = Named { bundles: HashSet::new(), uploads: HashSet::new() };
        for entry in &head.pending {
            let files = self.files(entry, of).await?;
            self.check_understood(of, entry, &files)?;
            for file in &files {
                match file.place() {
                    Some(Place::Bundle(bundle)) => _ = named.bundles.insert(bundle.path.clone()),
                    Some(Place::Upload(upload)) => _ = named.uploads.insert(upload.id.clone()),
                    Some(Place::Head(_) | Place::Unknown(_)) | None => {}
                }
            }
        }
        Ok(named)
    }

    /// Whose file an upload is for: partition, incarnation and the offset of the file's first record, read back from its path.
    fn place_of_upload(&self, upload: &OpenUpload, known: &[TopicPartition]) -> Option<(TopicPartition, u32, i64)> {
        let mut topics: Vec<&str> = known.iter().map(|of| &*of.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        let place = topics.into_iter().find_map(|topic| self.place_in_topic(topic, &upload.path));
        place.filter(|(of, ..)| known.contains(of))
    }
}

/// Whether bytes staged for a span (or file) that begins at `first` can be of no use, if the head does not name them.
fn useless(head: &Head, incarnation: u32, first: i64, staged: SystemTime) -> bool {
    if incarnation > head.incarnation || (incarnation == head.incarnation && first >= head.next) {
        return false;
    }
    let amended = head.pending.iter().any(|entry| {
        let span = entry.span();
        span.first <= first && first < span.next
    });
    !amended || SystemTime::now().duration_since(staged).is_ok_and(|age| age > AMENDING_MAX)
}

/// `<incarnation>-<first:020>-<random>`.
fn place_of_bundle(name: &str) -> Option<(u32, i64)> {
    let mut words = name.splitn(3, '-');
    let place = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().map(|_| place)
}

#[cfg(test)]
mod tests {
    use super::place_of_bundle;

    #[test]
    fn the_name_of_a_bundle_says_where_its_span_begins() {
        assert_eq!(place_of_bundle("2-00000000000000000012-ab12"), Some((2, 12)));
        assert_eq!(place_of_bundle("2-x-ab12"), None);
        assert_eq!(place_of_bundle("2-12"), None);
    }
}
