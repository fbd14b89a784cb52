//! Who else wrote what a topic's first start would write: looked at once, before its start record is made, because from then on
//! all its records come again. A person decides whether they are to be there twice (`source.start.beside`).
//!
//! What is looked at is bounded: the ledgers of [`PIPELINES_MAX`] other pipelines below the sink's URL and the ledger's, one page of
//! what lies where the topic's files go, and the reports in the consumer group.

use super::{
    Ledger,
    listing::{PAGE, whole_folder},
    retry::MayPass,
    start::RECORD_BYTES_MAX,
    stored::{HEAD_BYTES_MAX, Origin, StartRecord},
};
use crate::{coalesce::each, error::Result, plan::Start, report::Report, span::TopicPartition};
use kas3_store::{Info, Store};
use serde_json::Value;
use std::{collections::HashMap, fmt, sync::Arc};

/// Other pipelines that are looked at.
const PIPELINES_MAX: usize = 100;
/// Heads of another pipeline's topic that are read to see where its files lie.
const HEADS_MAX: i32 = 3;
/// Where all ledgers lie, below a store's URL.
const LEDGERS: &str = "_kas3/";

/// What tells that somebody else wrote a topic where this pipeline would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Another pipeline began the topic.
    Pipeline {
        /// Its name.
        name: String,
        /// Its start record.
        url: String,
    },
    /// Objects lie where the topic's files go.
    Object {
        /// The first of them.
        url: String,
    },
    /// Another pipeline reported to our consumer group.
    Report {
        /// Its name.
        name: String,
        /// Of this partition.
        of: TopicPartition,
        /// Up to this offset.
        next: i64,
        /// The group.
        group: String,
    },
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trace::Pipeline { name, url } => write!(f, "pipeline `{name}` has begun it (`{url}`)"),
            Trace::Object { url } => write!(f, "`{url}` lies where its files go"),
            Trace::Report { name, of, next, group } => {
                write!(f, "pipeline `{name}` reported offset {next} of `{of}` to consumer group `{group}`")
            }
        }
    }
}

impl Ledger {
    /// What tells that somebody else wrote the topic of `of` where this pipeline would, begun by `start`. After a start at the offsets
    /// of a consumer group, files are expected: it goes on behind them.
    ///
    /// # Errors
    /// When a store or Kafka cannot be asked.
    pub(super) async fn traces(&self, of: &TopicPartition, start: &Start) -> Result<Vec<Trace>> {
        let look = |topics: Vec<Arc<str>>| async move {
            // partitions of one topic are opened together, and look for the same
            let mut known: HashMap<Arc<str>, Vec<Trace>> = topics.iter().map(|topic| (Arc::clone(topic), Vec::new())).collect();
            self.look_for_pipelines(of, &mut known).await?;
            for (topic, found) in &mut known {
                found.extend(self.look_for_reports(of, topic).await?);
                found.extend(self.look_for_objects(of, topic).await?);
            }
            each(topics.len(), topics.iter().map(|topic| Ok(known.get(topic).cloned().unwrap_or_default())).collect())
        };
        let mut found = self.traces.ask(Arc::clone(&of.topic), look).await?;
        if matches!(start, Start::Group(_)) {
            found.retain(|trace| !matches!(trace, Trace::Object { .. }));
        }
        Ok(found)
    }

    async fn look_for_pipelines(&self, of: &TopicPartition, topics: &mut HashMap<Arc<str>, Vec<Trace>>) -> Result<()> {
        let apart = self.ledger.url() != self.sink.url();
        for (store, below_sink) in [(&self.sink, true), (&self.ledger, false)].into_iter().take(if apart { 2 } else { 1 }) {
            for name in self.other_pipelines(of, store).await? {
                let folder = format!("{LEDGERS}{name}/topics/");
                let records = self.patiently(of, "list start records of another pipeline", || whole_folder(store, &folder)).await?;
                for (topic, found) in topics.iter_mut() {
                    let path = format!("{folder}{topic}.json");
                    if records.iter().any(|record| record.path == path)
                        && self.begins(of, store, &path, topic).await?
                        && self.writes_here(store, &name, topic, below_sink).await?
                    {
                        found.push(Trace::Pipeline { name: name.clone(), url: store.url_of(&path) });
                    }
                }
            }
        }
        Ok(())
    }

    /// The names of other pipelines whose ledgers are in `store`: one request each, because a listing has no folders.
    async fn other_pipelines(&self, of: &TopicPartition, store: &Store) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        while found.len() < PIPELINES_MAX {
            let page = self.patiently(of, "list pipelines", || store.list(LEDGERS, after.as_deref(), 1)).await?;
            let first = page.first().and_then(|info| info.path.strip_prefix(LEDGERS));
            let Some(name) = first.and_then(|rest| rest.split('/').next()) else { break };
            // `0` follows `/`
            after = Some(format!("{LEDGERS}{name}0"));
            if name != self.pipeline.name {
                found.push(name.to_owned());
            }
        }
        Ok(found)
    }

    /// Whether a start record is the one of `topic`: `orders.1.json` may be that of `orders` in incarnation 1. One that cannot be
    /// read counts.
    async fn begins(&self, of: &TopicPartition, store: &Store, path: &str, topic: &str) -> Result<bool> {
        let object = match store.get(path, RECORD_BYTES_MAX).await {
            Ok(object) => object,
            Err(error) if error.kind() == kas3_store::Kind::Denied => return Ok(true),
            Err(error) if self.patient && error.may_pass() => {
                self.patiently(of, "read another pipeline's start record", || store.get(path, RECORD_BYTES_MAX)).await?
            }
            Err(error) => return Err(error.into()),
        };
        let Some(object) = object else { return Ok(false) };
        let record = serde_json::from_slice::<Value>(&object.bytes).ok();
        Ok(record.and_then(|record| Some(record.get("topic")?.as_str()? == topic)).unwrap_or(true))
    }

    /// Whether another pipeline's files of `topic` lie below our sink, as far as its heads tell. A ledger below the sink is taken to
    /// be of files there until they say otherwise; one elsewhere, which pipelines of many sinks may share, is not.
    async fn writes_here(&self, store: &Store, name: &str, topic: &str, below_sink: bool) -> Result<bool> {
        let (here, mut elsewhere) = (format!("{}/", self.sink.url()), false);
        for partition in 0..HEADS_MAX {
            let head = format!("{LEDGERS}{name}/ledger/{topic}/{partition:05}/head.json");
            // one that may not be read tells nothing
            let Ok(Some(object)) = store.read_cell(&head, HEAD_BYTES_MAX).await else { continue };
            for url in urls(&object.bytes) {
                if format!("{url}/").starts_with(&here) {
                    return Ok(true);
                }
                elsewhere = true;
            }
        }
        Ok(below_sink && !elsewhere)
    }

    async fn look_for_reports(&self, of: &TopicPartition, topic: &Arc<str>) -> Result<Option<Trace>> {
        let partitions = self.patiently(of, "ask for the topic's partitions", || self.log.partitions(topic)).await?;
        let asked: Vec<TopicPartition> = (0..partitions).map(|partition| TopicPartition { topic: Arc::clone(topic), partition }).collect();
        // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
        let mut asks = Vec::with_capacity(asked.len());
        for of in &asked {
            asks.push(self.report_of(of));
        }
        let reports = futures::future::try_join_all(asks).await?;
        let others = asked.iter().zip(reports).filter_map(|(of, report)| {
            let report = report?;
            let origin = Origin::parse(&report.metadata).ok()??;
            let group = self.pipeline.group.clone();
            (origin.pipeline != self.pipeline.name).then(|| Trace::Report { name: origin.pipeline, of: of.clone(), next: report.next, group })
        });
        Ok(others.into_iter().next())
    }

    async fn report_of(&self, of: &TopicPartition) -> Result<Option<Report>> {
        self.patiently(of, "ask for the group's offset", || self.log.reported(of)).await
    }

    /// The first object that lies where files of the topic go: below a folder of its own any with our extension, elsewhere one whose
    /// name is a file's.
    async fn look_for_objects(&self, of: &TopicPartition, topic: &Arc<str>) -> Result<Option<Trace>> {
        let plan = self.pipeline.plan(topic);
        let extension = format!(".{}", plan.format.extension());
        let (prefix, own) = plan.path.begins_with(topic);
        let is_file = |info: &&Info| {
            let path = info.path.as_str();
            !path.starts_with(LEDGERS) && path.ends_with(&extension) && (own || self.place_in_topic(topic, path).is_some())
        };
        let mut after: Option<String> = None;
        loop {
            let page = self.patiently(of, "list what is there", || self.sink.list(&prefix, after.as_deref(), PAGE)).await?;
            if let Some(info) = page.iter().find(is_file) {
                return Ok(Some(Trace::Object { url: self.sink.url_of(&info.path) }));
            }
            // ledgers lie among the names of a template that begins with a value: what comes behind them is looked at too
            match page.last() {
                Some(last) if page.len() >= PAGE && last.path.starts_with(LEDGERS) => after = Some("_kas30".to_owned()),
                _ => return Ok(None),
            }
        }
    }

    /// What forbids the first start of a topic, in words; `None`: it may begin.
    pub(super) async fn found_beside(&self, of: &TopicPartition, start: &Start) -> Result<Option<String>> {
        let found = self.traces(of, start).await?;
        Ok((!found.is_empty()).then(|| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }

    /// Begins a topic beside what others wrote, as a person decided; what they wrote, and the start record. `None`: nothing forbids it.
    pub(super) async fn begin_beside(&self, of: &TopicPartition) -> Result<Option<(String, Arc<StartRecord>)>> {
        let rule = self.start_rule(&self.open_pipeline_record().await?, &of.topic);
        let Some(found) = self.found_beside(of, &rule).await? else { return Ok(None) };
        Ok(Some((found, self.open_start_record(of, true).await?)))
    }

    /// Topics that `pipeline.json` was written for and the configuration does not read, in words; `None` when there are none. Two
    /// deployments with one name look like this, and a topic that was taken out of `source.topics`.
    ///
    /// # Errors
    /// When the object cannot be read, or a newer kas3 wrote it.
    pub async fn other_topics(&self) -> Result<Option<String>> {
        let Some(record) = self.pipeline_record().await? else { return Ok(None) };
        let others: Vec<String> = record.topics.iter().filter(|topic| !self.pipeline.reads(topic)).map(|topic| format!("`{topic}`")).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let read: Vec<String> = self.pipeline.topics.iter().map(|topic| format!("`{}`", topic.written())).collect();
        Ok(Some(format!(
            "pipeline `{}` began with {}, which `source.topics` ({}) does not name: another deployment may use this name, or nobody reads them now",
            self.pipeline.name,
            shortened(&others),
            shortened(&read)
        )))
    }
}

/// Names, the first few of many.
fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// Where the files lie that a head speaks of, of whatever version.
fn urls(head: &[u8]) -> Vec<String> {
    let Ok(head) = serde_json::from_slice::<Value>(head) else { return Vec::new() };
    let entries = ["pending", "closed"].into_iter().filter_map(|list| head.get(list)?.as_array()).flatten();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    entries
        .flat_map(|entry| {
            let files = entry.get("files").and_then(Value::as_array).into_iter().flatten();
            files.filter_map(move |file| text(file.get("url"))).chain(text(entry.get("base"))).collect::<Vec<_>>()
        })
        .collect()
}
