//! Where partitions begin: one start per partition, whoever resolves it first.
//!
//! Start records and `pipeline.json` are created only, never changed. An incarnation has its own record, `<topic>.<n>.json`;
//! the record names its topic, because `a.1.json` may be `a` in incarnation 1 or the first start of a topic `a.1`.

use super::{
    Ledger,
    listing::whole_folder,
    stored::{PartitionStart, PipelineRecord, StartRecord, Unusable},
};
use crate::{
    coalesce::each,
    error::{Error, Kind, Result},
    plan::Start,
    source::Identity,
    span::TopicPartition,
    stops,
    topics::TopicPattern,
};
use bytes::Bytes;
use jiff::Timestamp;
use kas3_store::{Created, Info, PutOptions, kill_point};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};

/// The largest start record or `pipeline.json` that is read, in bytes: enough for 200,000 partitions or topics.
pub(super) const RECORD_BYTES_MAX: u64 = 64 << 20;

impl Ledger {
    fn pipeline_record_path(&self) -> String {
        format!("_kas3/{}/pipeline.json", self.pipeline.name)
    }

    pub(super) fn start_record_path(&self, topic: &str, incarnation: u32) -> String {
        match incarnation {
            0 => format!("_kas3/{}/topics/{topic}.json", self.pipeline.name),
            n => format!("_kas3/{}/topics/{topic}.{n}.json", self.pipeline.name),
        }
    }

    /// Reads `pipeline.json`; `None` when there is none.
    pub(super) async fn pipeline_record(&self) -> Result<Option<PipelineRecord>> {
        let object = self.ledger.get(&self.pipeline_record_path(), RECORD_BYTES_MAX).await?;
        object.map(|object| self.decode_pipeline_record(&object.bytes)).transpose()
    }

    /// Reads `pipeline.json`, or creates it with the topics of this moment.
    pub(super) async fn open_pipeline_record(&self) -> Result<PipelineRecord> {
        let path = self.pipeline_record_path();
        loop {
            if let Some(record) = self.pipeline_record().await? {
                return Ok(record);
            }
            let mut topics = self.begun_topics().await?;
            if topics.is_empty() {
                topics = self.log.topics().await?.into_iter().filter(|topic| self.pipeline.reads(topic)).collect();
            } else {
                let url = self.ledger.url_of(&path);
                tracing::warn!(
                    "`{url}` is missing, though topics have begun: it is written again with those, and all others begin at their beginning"
                );
            }
            topics.sort();
            let record = PipelineRecord {
                version: self.version_of_new(),
                pipeline: self.pipeline.name.clone(),
                written_at: Timestamp::now(),
                topics,
                extra: Map::new(),
            };
            if self.dry {
                return Ok(record);
            }
            let bytes = Bytes::from(serde_json::to_vec_pretty(&record).expect("a record has only string keys"));
            kill_point("pipeline.before");
            let created = self.ledger.create(&path, bytes, &PutOptions::ledger("application/json")).await?;
            kill_point("pipeline.after");
            if matches!(created, Created::Done(_)) {
                return Ok(record);
            }
        }
    }

    /// Topics that have a start record, by the names of the records. There are none before `pipeline.json` was written once.
    async fn begun_topics(&self) -> Result<Vec<String>> {
        let folder = format!("_kas3/{}/topics/", self.pipeline.name);
        let records = whole_folder(&self.ledger, &folder).await?;
        Ok(records.iter().filter_map(|info| Some(info.path.strip_prefix(&folder)?.strip_suffix(".json")?.to_owned())).collect())
    }

    fn decode_pipeline_record(&self, bytes: &[u8]) -> Result<PipelineRecord> {
        let url = || self.ledger.url_of(&self.pipeline_record_path());
        PipelineRecord::decode(bytes, &self.pipeline.name).map_err(|why| match why {
            Unusable::Newer(why) => stops::newer_kas3(format!("`{}` cannot be used: {why}", url())),
            Unusable::Broken(why) => Error::new(Kind::Fatal, format!("`{}` cannot be used: {why}", url()))
                .hint("restore it; deleted, it is written again with the topics that have begun, and an expression finds all others new"),
        })
    }

    /// Refuses a ledger that a newer kas3 began; every other fault of `pipeline.json` is nothing to look for here.
    pub(super) async fn check_pipeline_record(&self, of: &TopicPartition) -> Result<()> {
        let path = self.pipeline_record_path();
        let object = self.patiently(of, "read pipeline.json", || self.ledger.get(&path, RECORD_BYTES_MAX)).await?;
        match object.map(|object| self.decode_pipeline_record(&object.bytes)) {
            Some(Err(error)) if error.kind() == Kind::Newer => Err(error),
            _ => Ok(()),
        }
    }

    /// Where a topic without a start record begins: by `start`, unless an expression found it after the first start.
    pub(super) fn start_rule(&self, known: &PipelineRecord, topic: &str) -> Start {
        let named = self.pipeline.topics.iter().any(|pattern| matches!(pattern, TopicPattern::Name(name) if name == topic));
        if named || known.topics.iter().any(|name| name == topic) { self.pipeline.start.clone() } else { Start::Earliest }
    }

    /// Where the partitions of a topic begin that have no head yet, in their order, by what is known now. Nothing is written.
    ///
    /// # Errors
    /// When the ledger or Kafka cannot be asked; `Config` when `source.start` names nothing that is there.
    pub async fn beginnings(&self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let of = TopicPartition::new(topic, 0);
        if let Some(newest) = self.newest_incarnation(&of).await?
            && let Some(record) = self.start_record(&of, newest).await?
        {
            let same = self.check_belongs(&of, &record.cluster_id, record.topic_id.as_deref()).await;
            return match same {
                Ok(_) => Ok((0..partitions).map(|partition| record.start(partition)).collect()),
                // the topic of now begins at its beginning, once somebody accepts it
                Err(error) if error.kind() == Kind::Stopped => self.log.resolve_start(topic, &Start::Earliest).await,
                Err(error) => Err(error),
            };
        }
        let record = self.ledger.get(&self.pipeline_record_path(), RECORD_BYTES_MAX).await?;
        let rule = match record {
            Some(object) => self.start_rule(&self.decode_pipeline_record(&object.bytes)?, topic),
            None => self.pipeline.start.clone(),
        };
        self.log.resolve_start(topic, &rule).await
    }

    /// The ids of cluster and topic that an incarnation was begun with; `None` where its start record is missing or cannot be read.
    ///
    /// # Errors
    /// When the ledger cannot be read; `Newer` when a newer kas3 wrote the record.
    pub async fn identity_of(&self, of: &TopicPartition, incarnation: u32) -> Result<Option<Identity>> {
        match self.start_record(of, incarnation).await {
            Ok(record) => Ok(record.map(|record| Identity { cluster_id: record.cluster_id.clone(), topic_id: record.topic_id.clone() })),
            Err(error) if error.kind() == Kind::Stopped => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The start record of one incarnation.
    pub(super) async fn start_record(&self, of: &TopicPartition, incarnation: u32) -> Result<Option<Arc<StartRecord>>> {
        let key = (of.topic.clone(), incarnation);
        if let Some(record) = self.records.lock().ok().and_then(|records| records.get(&key).cloned()) {
            return Ok(Some(record));
        }
        let path = self.start_record_path(&of.topic, incarnation);
        let Some(object) = self.patiently(of, "read the start record", || self.ledger.get(&path, RECORD_BYTES_MAX)).await? else { return Ok(None) };
        let record = StartRecord::decode(&object.bytes, &of.topic, incarnation).map_err(|why| why.stop(of, &self.ledger.url_of(&path)))?;
        let record = Arc::new(record);
        if let Ok(mut records) = self.records.lock() {
            records.insert(key, record.clone());
        }
        Ok(Some(record))
    }

    /// Whether the record with this number is one of the topic. `orders.1.json` may as well be the first start of a topic
    /// `orders.1`; one that cannot be read counts as ours, so that it is complained about.
    pub(super) async fn starts(&self, of: &TopicPartition, number: u32) -> Result<bool> {
        let path = self.start_record_path(&of.topic, number);
        let object = self.patiently(of, "read a start record", || self.ledger.get(&path, RECORD_BYTES_MAX)).await?;
        let topic = object
            .and_then(|object| serde_json::from_slice::<Value>(&object.bytes).ok())
            .and_then(|record| Some(record.get("topic")?.as_str()? == &*of.topic));
        Ok(topic.unwrap_or(true))
    }

    /// The highest incarnation of a topic that has a start record.
    pub(super) async fn newest_incarnation(&self, of: &TopicPartition) -> Result<Option<u32>> {
        let look = |topics: Vec<Arc<str>>| async move {
            // partitions of one topic are opened together, and look for the same
            let mut known: HashMap<Arc<str>, Option<u32>> = HashMap::new();
            for topic in &topics {
                if !known.contains_key(topic) {
                    known.insert(Arc::clone(topic), self.look_for_incarnation(of, topic).await?);
                }
            }
            each(topics.len(), topics.iter().map(|topic| Ok(known.get(topic).copied().flatten())).collect())
        };
        self.incarnations.ask(Arc::clone(&of.topic), look).await
    }

    async fn look_for_incarnation(&self, of: &TopicPartition, topic: &Arc<str>) -> Result<Option<u32>> {
        let of = &TopicPartition { topic: Arc::clone(topic), partition: of.partition };
        let prefix = format!("_kas3/{}/topics/{}.", self.pipeline.name, of.topic);
        let records = self.patiently(of, "list start records", || whole_folder(&self.ledger, &prefix)).await?;
        let number = |info: &Info| info.path.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u32> = records.iter().filter_map(number).collect();
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        for number in numbers {
            if self.starts(of, number).await? {
                return Ok(Some(number));
            }
        }
        Ok(self.start_record(of, 0).await?.map(|_| 0))
    }

    /// The newest start record of a topic, created if the topic is new; `beside`: whatever others wrote. Partitions of a topic that are
    /// opened together ask once.
    pub(super) async fn open_start_record(&self, of: &TopicPartition, beside: bool) -> Result<Arc<StartRecord>> {
        if beside != self.pipeline.beside {
            return self.open_start_record_of(of, beside).await;
        }
        let gathered = match self.starting.lock() {
            Ok(mut starting) => Arc::clone(starting.entry(of.topic.clone()).or_default()),
            Err(_) => Arc::default(),
        };
        let look = |partitions: Vec<TopicPartition>| async move {
            let mut found = Vec::with_capacity(partitions.len());
            for of in &partitions {
                // what stops one is told to each by its own name
                found.push(match found.last() {
                    Some(Ok(record)) => Ok(Arc::clone(record)),
                    _ => self.open_start_record_of(of, beside).await,
                });
            }
            Ok(found)
        };
        gathered.ask(of.clone(), look).await
    }

    async fn open_start_record_of(&self, of: &TopicPartition, beside: bool) -> Result<Arc<StartRecord>> {
        loop {
            if let Some(newest) = self.newest_incarnation(of).await? {
                let record = self.start_record(of, newest).await?;
                return record.ok_or_else(|| stops::no_start_record(of, &self.ledger.url_of(&self.start_record_path(&of.topic, newest))));
            }
            let heads = format!("_kas3/{}/ledger/{}/", self.pipeline.name, of.topic);
            if !self.patiently(of, "list heads", || self.ledger.list(&heads, None, 1)).await?.is_empty() {
                if self.newest_incarnation(of).await?.is_some() {
                    continue; // written, with a head, between our two looks
                }
                return Err(stops::no_start_record(of, &self.ledger.url_of(&self.start_record_path(&of.topic, 0))));
            }
            let known = self.open_pipeline_record().await;
            let known = match known {
                Ok(known) => known,
                Err(error) if error.kind() == Kind::Transient => {
                    self.observer.retrying(of, "read pipeline.json", &error);
                    self.backoff().sleep().await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let rule = self.start_rule(&known, &of.topic);
            if !beside && let Some(found) = self.found_beside(of, &rule).await? {
                if self.newest_incarnation(of).await?.is_some() {
                    continue; // begun by another worker of ours meanwhile, whose files these may be
                }
                return Err(stops::beside(of, &found));
            }
            // The id is asked before and after, so that the starts belong to the topic that the record names.
            let topic_id = self.topic_id(of).await?;
            let cluster_id = self.cluster_id(of).await?;
            let starts = self.patiently(of, "resolve the start", || self.log.resolve_start(&of.topic, &rule)).await?;
            if self.topic_id(of).await? != topic_id {
                continue;
            }
            let partitions = (0..).zip(starts).map(|(partition, start)| PartitionStart::new(partition, start)).collect();
            let record = self.new_start_record(of, 0, topic_id, cluster_id, partitions);
            if self.dry {
                return Ok(Arc::new(record));
            }
            self.create_start_record(of, &record).await?;
        }
    }

    /// A start record of this moment.
    pub(super) fn new_start_record(
        &self,
        of: &TopicPartition,
        incarnation: u32,
        topic_id: Option<String>,
        cluster_id: String,
        partitions: Vec<PartitionStart>,
    ) -> StartRecord {
        StartRecord {
            version: self.version_of_new(),
            topic: of.topic.to_string(),
            topic_id,
            cluster_id,
            incarnation,
            written_at: Timestamp::now(),
            partitions,
            extra: Map::new(),
        }
    }

    /// Creates a start record; whether it was ours that won is found by reading it.
    pub(super) async fn create_start_record(&self, of: &TopicPartition, record: &StartRecord) -> Result<()> {
        let bytes = Bytes::from(serde_json::to_vec_pretty(record).expect("a record has only string keys"));
        let path = self.start_record_path(&of.topic, record.incarnation);
        let options = PutOptions::ledger("application/json");
        kill_point("start.before");
        self.patiently(of, "create the start record", || self.ledger.create(&path, bytes.clone(), &options)).await?;
        kill_point("start.after");
        Ok(())
    }

    pub(super) async fn cluster_id(&self, of: &TopicPartition) -> Result<String> {
        self.patiently(of, "ask for the cluster's id", || self.log.cluster_id()).await
    }

    pub(super) async fn topic_id(&self, of: &TopicPartition) -> Result<Option<String>> {
        match self.patiently(of, "ask for the topic's id", || self.log.topic_id(&of.topic)).await {
            Err(error) if error.kind() == Kind::Missing => Err(stops::gone(of).source(error)),
            other => other,
        }
    }
}
