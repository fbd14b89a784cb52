//! Opening: the ledger of a pipeline, its partitions, and now and then the pending spans that nobody looks after.
//!
//! Opening fences nothing, and need not: a worker that opened a partition and lost it loses its next swap.

use super::{
    Ledger, LedgerParts, Partition, Timing,
    head_writer::HeadWriter,
    listing::partitions,
    stored::{Head, Origin},
};
use crate::{
    coalesce::Coalesced,
    error::{Kind, Result},
    report::Report,
    span::TopicPartition,
    stops,
};
use futures::{StreamExt, stream};
use kas3_store::Scheme;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// What opening a partition would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// The next offset that is read.
    pub next: i64,
    /// It has no head yet: this would be its first start.
    pub is_new: bool,
    /// A committed span would be published first.
    pub pending: bool,
}

/// Heads that are read or looked after at once.
const HEADS_AT_ONCE: usize = 16;

impl Ledger {
    /// Opens the ledger of a pipeline for work: races the conditional writes of both stores, and reads `pipeline.json` or
    /// creates it.
    ///
    /// # Errors
    /// `Fatal` when a store breaks the protocol; the store's errors at the first try, so that a wrong setting shows at once.
    pub async fn open(parts: LedgerParts) -> Result<Arc<Ledger>> {
        Ledger::open_with(parts, Timing::default()).await
    }

    /// The same with other waits.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub async fn open_with(parts: LedgerParts, timing: Timing) -> Result<Arc<Ledger>> {
        let opened = Ledger::made(parts, timing, true, false);
        let folder = format!("_kas3/{}/check", opened.pipeline.name);
        opened.sink.check_conditions(&folder).await?;
        if opened.ledger.url() != opened.sink.url() {
            opened.ledger.check_conditions(&folder).await?;
        }
        opened.open_pipeline_record().await?;
        if let Some(text) = opened.other_topics().await? {
            tracing::warn!("{text}");
        }
        Ok(opened)
    }

    /// The ledger of a pipeline that looks what opening would do, and writes nothing. What fails is an error at once, after the
    /// store's own retries.
    pub fn rehearsal(parts: LedgerParts) -> Arc<Ledger> {
        let timing = Timing { cut_back_after: Duration::ZERO, ..Timing::default() };
        Ledger::made(parts, timing, false, true)
    }

    /// The ledger of a pipeline for looking (`show`, `verify`) and for `accept`: makes no request. What fails is an error at once,
    /// after the store's own retries.
    pub fn look(parts: LedgerParts) -> Arc<Ledger> {
        Ledger::made(parts, Timing::default(), false, false)
    }

    fn made(parts: LedgerParts, timing: Timing, patient: bool, dry: bool) -> Arc<Ledger> {
        let LedgerParts { pipeline, sink, ledger, log, remaker, observer } = parts;
        Arc::new(Ledger {
            pipeline,
            sink,
            ledger,
            log,
            remaker,
            observer,
            timing,
            patient,
            dry,
            records: Mutex::default(),
            starting: Mutex::default(),
            incarnations: Coalesced::default(),
            traces: Coalesced::default(),
            ledger_folders: Coalesced::default(),
            staged_folders: Coalesced::default(),
            heads_with_bytes: tokio::sync::Semaphore::new(super::HEADS_WITH_BYTES_AT_ONCE),
            others: Mutex::default(),
            held: Mutex::default(),
            told_settings: false.into(),
        })
    }

    /// Opens a partition: reads its head or creates it, publishes what is pending, checks that ledger and Kafka still belong
    /// together, and reclaims what is of no use. Transient troubles are retried inside for as long as they last.
    ///
    /// # Errors
    /// `Stopped`: a person must decide; the hint names the command. `Newer`: a newer kas3 wrote what is there; nobody decides.
    pub async fn open_partition(self: &Arc<Self>, of: &TopicPartition) -> Result<Partition> {
        let mut backoff = self.backoff();
        // from now on a sweep of this process leaves the partition alone
        let _hold = self.hold(of);
        loop {
            match self.try_open(of).await {
                Err(error) if error.kind() == Kind::Fenced => {
                    self.observer.retrying(of, "open", &error);
                    backoff.sleep().await;
                }
                other => return other,
            }
        }
    }

    async fn try_open(self: &Arc<Self>, of: &TopicPartition) -> Result<Partition> {
        let found = HeadWriter::read(self, of).await?;
        let is_new = found.is_none();
        let mut writer = match found {
            Some(writer) => writer,
            None => self.create_head(of).await?,
        };
        self.tell_settings(of, &writer.head);
        // First, because it needs no Kafka: what is committed becomes visible whatever became of the topic.
        writer.publish(std::collections::HashMap::new()).await?;
        self.check_head(of, &writer.head).await?;
        if !is_new {
            // before there was a head, nobody staged anything
            self.reclaim_bundles(&writer.head).await?;
        }
        if self.sink.scheme() == Scheme::File {
            self.reclaim_uploads(std::slice::from_ref(of), vec![writer.head.clone()], &self.pipeline.staged_prefix(of)).await?;
        }
        Ok(Partition::new(writer))
    }

    /// What opening a partition would do, by the same looks; for a ledger made by [`Ledger::rehearsal`].
    ///
    /// # Errors
    /// As [`Ledger::open_partition`], and what cannot be asked now.
    pub async fn rehearse(self: &Arc<Self>, of: &TopicPartition) -> Result<Rehearsed> {
        let Some((head, _)) = self.read_head(of).await? else {
            let head = self.first_head(of).await?;
            return Ok(Rehearsed { next: head.next, is_new: true, pending: false });
        };
        self.tell_settings(of, &head);
        if let Some(entry) = head.pending.first() {
            self.store_of(of, entry).await?;
            let files = self.files(entry, of).await?;
            self.check_understood(of, entry, &files)?;
        }
        let pending = !self.is_visible(&head).await?;
        self.check_head(of, &head).await?;
        Ok(Rehearsed { next: head.next, is_new: false, pending })
    }

    /// Whether ledger and Kafka still belong together.
    async fn check_head(&self, of: &TopicPartition, head: &Head) -> Result<()> {
        self.check_start_record(of, head).await?;
        self.check_segment(of, head).await?;
        self.check_log(of, head).await
    }

    /// Refuses to begin a partition whose head was there once; what is to be told of another pipeline's report.
    pub(super) async fn check_not_lost(&self, of: &TopicPartition) -> Result<Option<String>> {
        let reported = self.patiently(of, "ask for the group's offset", || self.log.reported(of)).await?;
        let mut other = None;
        if let Some(report) = &reported {
            match self.origin_of(of, report)? {
                Some(origin) if origin.pipeline == self.pipeline.name => return Err(stops::lost(of, self.ledger.url(), report, &origin.ledger)),
                Some(origin) => {
                    other = Some(format!(
                        "the consumer group was used by pipeline `{}` up to {}; this pipeline does not start from it",
                        origin.pipeline, report.next
                    ));
                }
                None => {}
            }
        }
        match self.segment_without_head(of).await? {
            Some(segment) => Err(stops::lost_but_for(of, self.ledger.url(), &segment)),
            None => Ok(other),
        }
    }

    /// Whether Kafka's cluster and topic are those of the ledger; their ids.
    pub(super) async fn check_belongs(&self, of: &TopicPartition, cluster: &str, topic: Option<&str>) -> Result<(String, Option<String>)> {
        let cluster_id = self.cluster_id(of).await?;
        if cluster_id != cluster {
            return Err(stops::other_cluster(of, cluster, &cluster_id));
        }
        let topic_id = self.topic_id(of).await?;
        match (topic, &topic_id) {
            (Some(was), Some(is)) if was != is => Err(stops::recreated(of, was, is)),
            _ => Ok((cluster_id, topic_id)),
        }
    }

    async fn create_head(self: &Arc<Self>, of: &TopicPartition) -> Result<HeadWriter> {
        let head = self.first_head(of).await?;
        HeadWriter::create(self, of, head).await
    }

    /// The head of a partition that has none yet.
    async fn first_head(&self, of: &TopicPartition) -> Result<Head> {
        let other = self.check_not_lost(of).await?;
        let record = self.open_start_record(of, self.pipeline.beside).await?;
        let (cluster_id, topic_id) = self.check_belongs(of, &record.cluster_id, record.topic_id.as_deref()).await?;
        if let Some(text) = other {
            self.observer.warning(of, &text);
        }
        Ok(self.new_head(of, &cluster_id, record.topic_id.clone().or(topic_id), record.incarnation, record.start(of.partition)))
    }

    fn tell_settings(&self, of: &TopicPartition, head: &Head) {
        if head.settings != self.pipeline.settings_digest && !self.told_settings.swap(true, Ordering::Relaxed) {
            let text = format!(
                "the ledger was last written with other settings (digest `{}`, ours `{}`): a change that is being rolled out, or two deployments of one name",
                head.settings, self.pipeline.settings_digest
            );
            self.observer.warning(of, &text);
        }
    }

    pub(super) async fn check_start_record(&self, of: &TopicPartition, head: &Head) -> Result<()> {
        match self.start_record(of, head.incarnation).await? {
            Some(_) => Ok(()),
            None => Err(stops::no_start_record(of, &self.ledger.url_of(&self.start_record_path(&of.topic, head.incarnation)))),
        }
    }

    /// Whether Kafka still has what the head speaks of.
    pub(super) async fn check_log(&self, of: &TopicPartition, head: &Head) -> Result<()> {
        self.check_belongs(of, &head.cluster_id, head.topic_id.as_deref()).await?;
        let until = Instant::now() + self.timing.cut_back_after;
        let mut backoff = self.backoff();
        loop {
            let (earliest, end) = self.patiently(of, "ask for the log's bounds", || self.log.bounds(of)).await?;
            if earliest > head.next {
                return Err(stops::overtaken(of, head.next, earliest));
            }
            if end >= head.next {
                break;
            }
            if Instant::now() >= until {
                // it may have grown since: what follows the cut is to be read
                let cut = self.cut_of(of, head).await.ok().flatten().unwrap_or(end);
                return Err(stops::cut_back(of, head.next, cut, cut));
            }
            backoff.sleep().await;
        }
        self.check_report(of, head).await
    }

    async fn check_report(&self, of: &TopicPartition, head: &Head) -> Result<()> {
        let Some(report) = self.patiently(of, "ask for the group's offset", || self.log.reported(of)).await? else {
            if head.next > head.start {
                let text = format!(
                    "the consumer group has no offset of it: it was deleted, it expired, or no worker lived to report one; the ledger says {}, and it wins",
                    head.next
                );
                self.observer.warning(of, &text);
            }
            return Ok(());
        };
        let ours = self.origin_of(of, &report)?.filter(|origin| origin.pipeline == self.pipeline.name && origin.ledger == self.ledger.url());
        let Some(origin) = ours else {
            if report.next != head.next {
                let text = format!("the consumer group says {}, by somebody else's hand; the ledger says {}, and it wins", report.next, head.next);
                self.observer.warning(of, &text);
            }
            return Ok(());
        };
        if origin.incarnation == head.incarnation && report.next > head.next {
            // A report of a moment ago may be newer than the head that we read a moment before it.
            let now = self.read_head(of).await?.map_or(head.next, |(head, _)| head.next);
            if report.next > now {
                return Err(stops::set_back(of, now, report.next));
            }
        }
        Ok(())
    }

    /// Who reported; `None` for somebody else than kas3.
    ///
    /// # Errors
    /// `Newer` when a newer kas3 did: then its ledger is newer, too, wherever it is.
    pub(super) fn origin_of(&self, of: &TopicPartition, report: &Report) -> Result<Option<Origin>> {
        Origin::parse(&report.metadata).map_err(|why| stops::newer_report(of, &self.pipeline.group, &why))
    }

    /// The head of one partition, if it has one.
    ///
    /// # Errors
    /// `Stopped` for a head that cannot be read, `Newer` for one of a newer version.
    pub async fn head(&self, of: &TopicPartition) -> Result<Option<Head>> {
        Ok(self.read_head(of).await?.map(|(head, _)| head))
    }

    /// All heads of the pipeline, in the order of their paths.
    ///
    /// # Errors
    /// `Stopped` for a head that cannot be read, `Newer` for one of a newer version.
    pub async fn heads(&self) -> Result<Vec<Head>> {
        let begun = self.begun_partitions().await?;
        // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
        let mut reads = Vec::with_capacity(begun.len());
        for of in &begun {
            reads.push(self.read_head(of));
        }
        let heads: Vec<Result<_>> = stream::iter(reads).buffered(HEADS_AT_ONCE).collect().await;
        heads.into_iter().filter_map(|head| head.map(|found| found.map(|(head, _)| head)).transpose()).collect()
    }

    /// Partitions that have begun, in the order of their paths.
    pub(super) async fn begun_partitions(&self) -> Result<Vec<TopicPartition>> {
        partitions(&self.ledger, &format!("_kas3/{}/ledger/", self.pipeline.name)).await
    }

    /// The partitions of a topic that have a head: it has begun.
    ///
    /// # Errors
    /// When heads cannot be listed.
    pub async fn begun(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        Ok(self.begun_partitions().await?.into_iter().filter(|of| *of.topic == *topic).collect())
    }

    /// Looks through all heads of the pipeline, at start and now and then: publishes spans that are pending for a while in
    /// partitions that this process does not hold (perhaps nobody does), and reclaims uploads that are of no use. What stops
    /// one partition is a warning here.
    ///
    /// # Errors
    /// When heads cannot be listed.
    pub async fn sweep(self: &Arc<Self>) -> Result<()> {
        let known = self.begun_partitions().await?;
        // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
        let mut visits = Vec::new();
        for of in &known {
            // what this process holds it looks after anyway
            if !self.holds(of) {
                visits.push(self.visit(of));
            }
        }
        let heads: Vec<Option<Head>> = stream::iter(visits).buffer_unordered(HEADS_AT_ONCE).collect().await;
        let heads = heads.into_iter().flatten().collect();
        self.reclaim_uploads(&known, heads, &format!("_kas3/{}/staged/", self.pipeline.name)).await
    }

    async fn visit(self: &Arc<Self>, of: &TopicPartition) -> Option<Head> {
        match self.look_after(of).await {
            Ok(head) => head,
            Err(error) => {
                if error.kind() != Kind::Fenced {
                    self.observer.warning(of, &error.chain());
                }
                None
            }
        }
    }

    async fn look_after(self: &Arc<Self>, of: &TopicPartition) -> Result<Option<Head>> {
        let Some((mut writer, modified)) = HeadWriter::read_dated(self, of).await? else { return Ok(None) };
        // An owner that lives settles within `sink.settle`; where that is left to the next commit, nobody can tell, and the
        // span is published from here but not settled: a swap would take the partition out of its owner's hands.
        let patience = self.timing.orphan_after.saturating_add(self.pipeline.settle.unwrap_or(Duration::ZERO));
        let orphaned = SystemTime::now().duration_since(modified).is_ok_and(|age| age >= patience);
        if !writer.head.pending.is_empty() && orphaned && !self.holds(of) {
            writer.publish(std::collections::HashMap::new()).await?;
            if self.pipeline.settle.is_some() && !self.holds(of) {
                writer.settle().await?;
            }
        }
        Ok(Some(writer.head))
    }

    /// Whether everything that a head says is committed is visible, and so stays: the store is asked for each file of its pending span.
    ///
    /// # Errors
    /// The store's, and `Stopped` where the list of the files cannot be read.
    pub async fn is_visible(&self, head: &Head) -> Result<bool> {
        let of = head.of();
        for entry in &head.pending {
            let (store, files) = (self.store_of(&of, entry).await?, self.files(entry, &of).await?);
            for file in files.iter().filter(|file| !file.lost) {
                if !self.is_there(&of, &store, entry, file).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Partition, incarnation and offset of the file that a path of `topic` names; `None` for a path that is not such a name.
    pub(super) fn place_in_topic(&self, topic: &str, path: &str) -> Option<(TopicPartition, u32, i64)> {
        let plan = self.pipeline.plan(topic);
        let parts = plan.path.read_back(path, &format!(".{}", plan.format.extension()))?;
        let same = parts.topic.as_deref().is_none_or(|name| name == topic);
        same.then(|| (TopicPartition::new(topic, parts.partition), parts.incarnation, parts.offset))
    }
}
