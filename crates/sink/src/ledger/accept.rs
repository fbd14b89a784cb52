//! `kas3 ledger accept`: a person decides, and the decision is recorded. It looks for itself what stopped the partition.
//!
//! | found | what it does |
//! | --- | --- |
//! | Kafka deleted records unread | a gap in the history, up to the earliest record or `--next` |
//! | the log was cut back; topic re-created; another cluster | a new incarnation, whose file names end in `-i<n>` |
//! | head lost, unreadable, or older than the group's report | a new head in a new incarnation at `--next`, which it asks for |
//! | start record lost | written again from the heads |
//! | a first start where somebody else wrote before | the start record of the topic, beside it |
//! | segment lost | the history before it is given up |
//! | a foreign object under a file's name | the file goes under the name of a new incarnation |
//! | staged bytes lost beyond repair | the files are recorded as lost |
//! | none of these, but `--next` | forward: a gap; backward, with `--again`: a new incarnation |
//!
//! Going back reads records a second time. It is refused without `--again`, and the head says for ever that it was done.
//!
//! What a newer kas3 wrote is nothing to decide about: it is refused before anything is recorded, whatever was asked for.

mod position;

use super::{
    Ledger,
    head_writer::HeadWriter,
    publish::path_of,
    stored::{Begun, File, Head, Origin, PartitionStart, Place, Role, Why, Word},
};
use crate::{
    error::{Error, Kind, Result},
    report::Report,
    span::TopicPartition,
    stops::{StopKind, accept_command, newer},
};
use jiff::Timestamp;
use kas3_store::{Store, Version};
use serde_json::Map;
use std::{collections::HashMap, sync::Arc};

/// Rounds of deciding about the files of one span: foreign names first, then what is beyond repair, each once more at most.
const ROUNDS_MAX: usize = 4;

/// The code of the error that says that nothing stops the partition, as far as ledger and log tell.
pub const NOTHING_TO_ACCEPT: &str = "nothing_to_accept";

/// What a person decides beside accepting what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Where to go on.
    pub next: Option<i64>,
    /// Records that are in files may be read a second time.
    pub again: bool,
    /// Only this kind of stop is accepted, and nothing that shows behind it; `None`: whatever is found.
    pub only: Option<StopKind>,
}

impl Decision {
    /// Going on at `next`.
    pub fn at(next: i64) -> Self {
        Decision { next: Some(next), ..Decision::default() }
    }
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What was recorded, one sentence each, for the person.
    pub decisions: Vec<String>,
    /// The head after it.
    pub head: Head,
}

/// Kafka as it is now.
struct Now {
    cluster_id: String,
    topic_id: Option<String>,
    earliest: i64,
    end: i64,
    reported: Option<(Report, Origin)>,
}

impl Now {
    fn is_of(&self, cluster_id: &str, topic_id: Option<&str>) -> bool {
        let same_topic = match (topic_id, self.topic_id.as_deref()) {
            (Some(was), Some(is)) => was == is,
            _ => true,
        };
        cluster_id == self.cluster_id && same_topic
    }

    fn check(&self, of: &TopicPartition, next: i64) -> Result<()> {
        if (self.earliest..=self.end).contains(&next) {
            return Ok(());
        }
        Err(Error::new(Kind::Config, format!("offset {next} of `{of}` cannot be read: Kafka has {} to {}", self.earliest, self.end)))
    }
}

impl Ledger {
    /// Records a person's decision about a partition that stopped, so that it can be opened again.
    ///
    /// # Errors
    /// `Config` when there is nothing to decide (with the code [`NOTHING_TO_ACCEPT`]), when `next` is needed or cannot be, or when it
    /// goes back and `again` is not said; `Fenced` when a worker moved the partition meanwhile; `Newer` when a newer kas3 wrote any of
    /// what is there. After `Newer`, and where going back is refused, nothing was changed.
    pub async fn accept(self: &Arc<Self>, of: &TopicPartition, decision: Decision) -> Result<Accepted> {
        let mut decisions = Vec::new();
        self.check_pipeline_record(of).await?;
        let head = match self.read_head_object(of).await? {
            None => self.accept_lost(of, None, decision, &mut decisions).await?,
            Some(object) => match self.decode_head(of, &object) {
                Err(error) if error.kind() == Kind::Newer => return Err(error),
                Err(_) => self.accept_lost(of, Some(object.version), decision, &mut decisions).await?,
                Ok(_) => self.accept_found(of, decision, &mut decisions).await?,
            },
        };
        if decisions.is_empty() {
            return Err(Error::new(Kind::Config, format!("there is nothing to accept for partition `{of}`: nothing stops it"))
                .hint("`--next N` moves it all the same: forward with a gap, backward only with `--again`, under new names")
                .because(NOTHING_TO_ACCEPT));
        }
        Ok(Accepted { decisions, head })
    }

    async fn kafka_now(&self, of: &TopicPartition) -> Result<Now> {
        let cluster_id = self.cluster_id(of).await?;
        let topic_id = self.topic_id(of).await?;
        let (earliest, end) = self.patiently(of, "ask for the log's bounds", || self.log.bounds(of)).await?;
        let reported = self.patiently(of, "ask for the group's offset", || self.log.reported(of)).await?;
        let reported = match reported {
            Some(report) => self.origin_of(of, &report)?.map(|origin| (report, origin)),
            None => None,
        };
        let reported = reported.filter(|(_, origin)| origin.pipeline == self.pipeline.name);
        Ok(Now { cluster_id, topic_id, earliest, end, reported })
    }

    /// No head that can be read: a new one, in an incarnation of its own, because the names of the lost one are not known.
    async fn accept_lost(
        self: &Arc<Self>,
        of: &TopicPartition,
        unreadable: Option<Version>,
        decision: Decision,
        decisions: &mut Vec<String>,
    ) -> Result<Head> {
        let next = decision.next;
        let now = self.kafka_now(of).await?;
        let newest = self.newest_incarnation(of).await?;
        let record = match newest {
            Some(newest) => self.start_record(of, newest).await?,
            None => None,
        };
        let recreated = record.as_ref().is_some_and(|record| !now.is_of(&record.cluster_id, record.topic_id.as_deref()));
        // asked in any case: a segment of a newer kas3 says that the head was of one, too
        let has_segment = self.segment_without_head(of).await?.is_some();
        let was_there = unreadable.is_some() || now.reported.is_some() || has_segment;
        if !was_there && !recreated && next.is_none() && (record.is_some() || !self.topic_has_heads(of).await?) {
            if record.is_none()
                && let Some((found, record)) = self.begin_beside(of).await?
            {
                decisions.push(format!("topic `{}` begins beside what others wrote: {found}", of.topic));
                return Ok(self.new_head(of, &now.cluster_id, now.topic_id, record.incarnation, record.start(of.partition)));
            }
            return Ok(self.new_head(of, &now.cluster_id, now.topic_id, 0, 0));
        }
        let was_at = now.reported.as_ref().map(|(report, _)| report.next);
        if next.is_none() && !recreated {
            return Err(needs_next(of, &now, "the head of partition", "is lost", was_at));
        }
        if let Some(next) = next {
            now.check(of, next)?;
        }
        let read_to = was_at.filter(|_| !recreated);
        let again = read_to.is_some_and(|read_to| next.is_some_and(|next| next < read_to));
        let above = now.reported.as_ref().map_or(newest, |(_, origin)| Some(origin.incarnation).max(if recreated { newest } else { None }));
        if again && !decision.again {
            let (first, next) = (next.unwrap_or_default(), read_to.unwrap_or_default());
            return Err(self.going_back(of, &now, above, first, next, None).await?);
        }
        let record = self.new_incarnation(of, above, &now, next).await?;
        let start = next.unwrap_or_else(|| record.start(of.partition));
        let mut head = self.new_head(of, &now.cluster_id, now.topic_id.clone(), record.incarnation, start);
        let why = match (again, recreated) {
            (true, _) => Why::Again,
            (false, true) => Why::OtherTopic,
            (false, false) => Why::Lost,
        };
        head.begun.push(begun(&head, why, read_to.unwrap_or(start), None));
        let writer = match unreadable {
            Some(version) => HeadWriter::overwrite(self, of, version, head).await?,
            None => HeadWriter::create(self, of, head).await?,
        };
        decisions.push(format!("a new head begins at {start}, in incarnation {}; the history before it is lost", record.incarnation));
        Ok(writer.head)
    }

    async fn topic_has_heads(&self, of: &TopicPartition) -> Result<bool> {
        let heads = format!("_kas3/{}/ledger/{}/", self.pipeline.name, of.topic);
        Ok(!self.patiently(of, "list heads", || self.ledger.list(&heads, None, 1)).await?.is_empty())
    }

    async fn accept_found(self: &Arc<Self>, of: &TopicPartition, decision: Decision, decisions: &mut Vec<String>) -> Result<Head> {
        let Some(mut writer) = HeadWriter::read(self, of).await? else {
            return Err(Error::new(Kind::Transient, format!("the head of `{of}` vanished a moment ago")));
        };
        writer.check_understood().await?;
        self.check_nothing_newer(of, writer.head.incarnation).await?;
        // what is refused is refused before anything is recorded
        let asked = match decision.next {
            Some(next) => Some(writer.stand_checked(next, decision.again).await?),
            None => None,
        };
        let may = |kind: StopKind| decision.only.is_none_or(|only| only == kind);
        if may(StopKind::SegmentLost) {
            writer.accept_segments(decisions).await?;
        }
        if may(StopKind::StartRecordLost) {
            writer.accept_start_record(decisions).await?;
        }
        if matches!(decision.only, Some(StopKind::SegmentLost | StopKind::StartRecordLost)) {
            return Ok(writer.head);
        }
        writer.accept_files(decision.only, decisions).await?;
        if matches!(decision.only, Some(StopKind::ForeignObject | StopKind::FilesLost)) {
            return Ok(writer.head);
        }
        let stand = match asked {
            Some(stand) => stand,
            None => writer.stand().await?,
        };
        writer.accept_position(&stand, decision.next, decisions).await?;
        Ok(writer.head)
    }

    /// Refuses a report or a start record of a newer version before anything is decided.
    async fn check_nothing_newer(&self, of: &TopicPartition, incarnation: u32) -> Result<()> {
        if let Some(report) = self.patiently(of, "ask for the group's offset", || self.log.reported(of)).await? {
            self.origin_of(of, &report)?;
        }
        match self.start_record(of, incarnation).await {
            Err(error) if error.kind() == Kind::Newer => Err(error),
            _ => Ok(()),
        }
    }
}

impl HeadWriter {
    /// Refuses a pending span that says what only a newer version understands, also where the list of its files is lost.
    async fn check_understood(&self) -> Result<()> {
        let Some(entry) = self.head.pending.first() else { return Ok(()) };
        let files = match self.ledger.files(entry, &self.of).await {
            Err(error) if error.kind() == Kind::Stopped => Vec::new(),
            files => files?,
        };
        self.ledger.check_understood(&self.of, entry, &files)
    }

    async fn accept_segments(&mut self, decisions: &mut Vec<String>) -> Result<()> {
        let broken = stops(self.ledger.walk(&self.head).await)?;
        if broken {
            let mut head = self.head.clone();
            if let Some(name) = head.segment.take() {
                decisions.push(format!("the history before offset {} is given up: segment `{name}` or one before it is lost", oldest(&head)));
                head.lost_segments.push(name);
                self.swap(head, "accept").await?;
            }
        }
        let Some(entry) = self.head.pending.first() else { return Ok(()) };
        if !stops(self.ledger.files(entry, &self.of).await)? {
            return Ok(());
        }
        let mut head = self.head.clone();
        for entry in &mut head.pending {
            entry.files_in = None;
            entry.reason = Some("the list of its files was lost".to_owned());
            decisions.push(format!(
                "the list of the files of span {} to {} is lost; what was not visible yet is lost with it",
                entry.span().first,
                entry.span().next
            ));
        }
        self.swap(head, "accept").await
    }

    async fn accept_start_record(&mut self, decisions: &mut Vec<String>) -> Result<()> {
        let found = self.ledger.start_record(&self.of, self.head.incarnation).await;
        if !matches!(found, Ok(None)) && !stops(found)? {
            return Ok(());
        }
        let heads = self.ledger.heads().await?;
        let path = self.ledger.start_record_path(&self.of.topic, self.head.incarnation);
        self.ledger.patiently(&self.of, "delete an unreadable start record", || self.ledger.ledger.delete(&path)).await?;
        let same = heads.iter().filter(|head| *head.topic == *self.of.topic && head.incarnation == self.head.incarnation);
        let partitions = same.map(|head| PartitionStart::new(head.partition, head.start)).collect();
        let (topic_id, cluster_id) = (self.head.topic_id.clone(), self.head.cluster_id.clone());
        let record = self.ledger.new_start_record(&self.of, self.head.incarnation, topic_id, cluster_id, partitions);
        self.ledger.create_start_record(&self.of, &record).await?;
        decisions.push("the start record is written again from the heads; partitions without a head begin at their beginning".to_owned());
        Ok(())
    }

    /// Publishes what is pending; what cannot be is renamed or recorded as lost.
    async fn accept_files(&mut self, only: Option<StopKind>, decisions: &mut Vec<String>) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            if self.head.pending.is_empty() {
                return Ok(());
            }
            match self.publish(HashMap::new()).await {
                Ok(()) => return self.settle().await,
                Err(error) if error.kind() == Kind::Stopped && only.is_none_or(|only| StopKind::of(&error) == Some(only)) => {
                    self.decide_files(decisions).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Kind::Stopped, format!("the pending span of `{}` cannot be published, whatever is decided about its files", self.of)))
    }

    async fn decide_files(&mut self, decisions: &mut Vec<String>) -> Result<()> {
        let Some(mut entry) = self.head.pending.first().cloned() else { return Ok(()) };
        let store = self.ledger.store_of(&self.of, &entry).await?;
        let mut files = self.ledger.files(&entry, &self.of).await?;
        let (mut absent, mut foreign) = (Vec::new(), Vec::new());
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.lost) {
            let path = path_of(&self.of, &store, file)?;
            match self.ledger.patiently(&self.of, "look for a file", || store.info(&path)).await? {
                None => absent.push(index),
                Some(info) if self.ledger.recognise(&store, &entry, file, &info).await?.is_some() => foreign.push(index),
                Some(_) => {}
            }
        }
        let mut head = self.head.clone();
        if foreign.is_empty() {
            for index in absent {
                files[index].lost = true;
                files[index].staged = None;
                decisions.push(format!("`{}` with {} records is recorded as lost", files[index].url, files[index].records));
            }
        } else {
            let now = self.ledger.kafka_now(&self.of).await?;
            let record = self.ledger.new_incarnation(&self.of, Some(head.incarnation), &now, None).await?;
            head.incarnation = record.incarnation;
            for index in foreign {
                let old = files[index].url.clone();
                self.rename(&store, &mut files[index], entry.incarnation, record.incarnation).await?;
                decisions.push(format!("`{old}` belongs to somebody else, so the file becomes `{}`", files[index].url));
            }
        }
        (entry.files, entry.files_in) = self.listed(entry.span().first, files).await?;
        head.pending = vec![entry];
        self.swap(head, "accept").await
    }

    /// Gives a file the name of another incarnation. A bundle does not care; an upload is bound to its name, and made again.
    async fn rename(&self, store: &Store, file: &mut File, was: u32, incarnation: u32) -> Result<()> {
        let path = path_of(&self.of, store, file)?;
        let extension = match &file.role {
            Word::Known(Role::SideFile) => ".index.json".to_owned(),
            Word::Known(Role::Data) => format!(".{}", self.ledger.pipeline.plan(&self.of.topic).format.extension()),
            Word::Unknown(role) => {
                return Err(newer(&self.of, &file.url, &format!("its role is `{}`, which this kas3 does not know", role.escape_default())));
            }
        };
        if let Some(Place::Upload(upload)) = file.place() {
            self.ledger.patiently(&self.of, "abort an upload", || store.abort_upload(&path, &upload.id)).await?;
            file.staged = None;
        }
        file.url = store.url_of(&renamed(&path, &extension, file.incarnation.unwrap_or(was), incarnation));
        file.incarnation = Some(incarnation);
        Ok(())
    }
}

/// What is kept of a beginning that a person decided about.
fn begun(head: &Head, why: Why, read_to: i64, cut_at: Option<i64>) -> Begun {
    Begun { incarnation: head.incarnation, why: why.into(), start: head.start, read_to, cut_at, decided_at: Timestamp::now(), extra: Map::new() }
}

/// Only a person can say where a partition goes on; `known` is what the consumer group says.
fn needs_next(of: &TopicPartition, now: &Now, what: &str, is: &str, known: Option<i64>) -> Error {
    let kafka = format!("Kafka has {} to {}", now.earliest, now.end);
    let text = format!("{what} `{of}` {is}, and nobody but you can say where to go on");
    match known {
        Some(at) => Error::new(Kind::Config, format!("{text}; the consumer group says that kas3 was at {at}, {kafka}")).hint(format!(
            "`--next` is the offset after the last record that is in a file; by the group's word: `{}`",
            accept_command(of, &format!("--next {at}"))
        )),
        None => Error::new(Kind::Config, format!("{text}; the consumer group does not know, {kafka}"))
            .hint(format!("N is the offset after the last record that is in a file: `{}`", accept_command(of, "--next N"))),
    }
}

/// Whether something is what a person is asked to decide about; other errors go through.
fn stops<T>(found: Result<T>) -> Result<bool> {
    match found {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == Kind::Stopped => Ok(true),
        Err(error) => Err(error),
    }
}

fn oldest(head: &Head) -> i64 {
    head.closed.iter().chain(&head.pending).next().map_or(head.next, |entry| entry.span().first)
}

/// The name of a file in another incarnation: `-i<n>` before the extension, in place of the old one.
fn renamed(path: &str, extension: &str, was: u32, incarnation: u32) -> String {
    let stem = path.strip_suffix(extension);
    let (stem, extension) = stem.map_or_else(
        || {
            let file = path.rfind('/').map_or(0, |slash| slash + 1);
            path.split_at(path[file..].rfind('.').map_or(path.len(), |dot| file + dot))
        },
        |stem| (stem, extension),
    );
    let stem = if was > 0 { stem.strip_suffix(&format!("-i{was}")).unwrap_or(stem) } else { stem };
    format!("{stem}-i{incarnation}{extension}")
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn a_renamed_file_ends_in_its_incarnation_before_the_extension() {
        assert_eq!(renamed("a.b/0_12.jsonl.gz", ".jsonl.gz", 0, 1), "a.b/0_12-i1.jsonl.gz");
        assert_eq!(renamed("a.b/0_12-i1.jsonl.gz", ".jsonl.gz", 1, 4), "a.b/0_12-i4.jsonl.gz");
        assert_eq!(renamed("a.b/0_12.txt", ".jsonl.gz", 0, 2), "a.b/0_12-i2.txt");
        assert_eq!(renamed("a.b/0_12", ".jsonl.gz", 0, 2), "a.b/0_12-i2");
    }
}
