//! A pipeline from its configuration to its end: threads, queues and shutdown.
//!
//! One thread drives the source and never waits for a store. Workers own lanes; one task a partition takes closed spans to the
//! ledger. What a rebalance asks for is done by the others while the poll loop goes on, so that an outage of the store, however
//! long, evicts nobody.
//!
//! ```no_run
//! # async fn example(pipeline: std::sync::Arc<kas3_sink::plan::Pipeline>) -> kas3_sink::Result<()> {
//! use kas3_sink::{pipeline, status::Status};
//! let status = Status::new(&pipeline.name, pipeline.memory_bytes);
//! let ended = pipeline::run(pipeline, pipeline::Options { until_end: true, ..Default::default() }, status, Default::default()).await?;
//! println!("{ended:?}");
//! # Ok(()) }
//! ```

mod assignment;
mod command;
mod committer;
mod ends;
mod group;
mod poll;
mod remake;
mod resolver;
mod topics;
mod trial;
mod worker;

use crate::{
    budget::Budget,
    error::{Error, Kind, Result},
    ledger::LedgerObserver,
    plan::Pipeline,
    report::Report,
    source::{
        Log, Source,
        kafka::{Ends, KafkaLog},
    },
    span::TopicPartition,
    status::{Phase, Status},
    target::{self, OpenPartition, Opening, Progress, Target},
};
pub use group::Company;
use kas3_store::Store;
#[cfg(test)]
pub(crate) use remake::RemadeSpan;
pub use remake::Remaking;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use topics::AskTopics;
pub use topics::{Named, named};
pub use trial::next_refused;

/// How often a process looks for pending spans that nobody owns any more.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// How long a run that reached its end waits for its first look at the whole ledger.
const SWEEP_WAIT: Duration = Duration::from_secs(60);

/// How often what is wrong is looked at, for the log.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a run to the end waits for Kafka to say where the end is, and how soon it asks again.
const ENDS_WAIT: Duration = Duration::from_secs(60);
const ENDS_AGAIN: Duration = Duration::from_secs(1);

/// How a pipeline runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stop when everything up to the end offsets seen at start is published.
    pub until_end: bool,
    /// Makes the allocator give its free pages back to the system at once; asked for when the process has nearly grown to `memory`.
    pub trim: Option<fn()>,
}

/// How a pipeline ended.
#[derive(Debug)]
pub enum Ended {
    /// Everything up to the end offsets seen at start is published.
    Done,
    /// Some partitions stopped, for the reasons given; all others are done.
    Stopped(Vec<(TopicPartition, String)>),
    /// It was asked to stop.
    Shutdown(Left),
}

/// What a pipeline that was asked to stop had not done by then.
#[derive(Debug, Default)]
pub struct Left {
    /// Partitions that had stopped, for the reasons given.
    pub stopped: Vec<(TopicPartition, String)>,
    /// Partitions of which something was read and not published in time.
    pub unflushed: Vec<Unflushed>,
    /// It was to end by itself, and has not.
    pub before_end: bool,
}

impl Left {
    /// Whether everything was done.
    pub fn is_empty(&self) -> bool {
        self.stopped.is_empty() && self.unflushed.is_empty() && !self.before_end
    }
}

/// A partition of which something was read and not published. What was committed is published by the next start, the rest is read
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unflushed {
    /// Which.
    pub of: TopicPartition,
    /// The first offset that is not published.
    pub next: i64,
    /// The offset after what was read.
    pub position: i64,
}

/// Names one opened lane; never used twice in a process.
type LaneId = u64;

/// What the others tell the poll loop.
enum Notice {
    /// A partition's head was read and what was pending is published.
    Opened { of: TopicPartition, epoch: u64, partition: Box<dyn OpenPartition> },
    /// A partition cannot be opened until a person decides.
    NotOpened { of: TopicPartition, epoch: u64, error: Error },
    /// A lane is flushed, published and settled.
    Finished { lane: LaneId },
    /// A lane cannot go on.
    Failed { lane: LaneId, error: Error },
    /// How far a partition is.
    Report { of: TopicPartition, report: Report },
    /// The topics that the configuration names, as of now.
    Topics(Named),
    /// How far all partitions are, those that others own included.
    Progress(Vec<Progress>),
    /// Partitions that nobody in the group owns although it is at rest.
    Orphans(Vec<TopicPartition>),
}

/// Runs a pipeline on Kafka until it is done or asked to stop.
///
/// # Errors
/// `Config`, `Missing` or `Fatal` before anything was read; `Fatal` when the source cannot go on.
pub async fn run(pipeline: Arc<Pipeline>, options: Options, status: Arc<Status>, stop: CancellationToken) -> Result<Ended> {
    let (parts, watches) = match stop.run_until_cancelled(parts(pipeline, options, status)).await {
        Some(parts) => parts?,
        None => return Ok(Ended::Shutdown(Left { before_end: options.until_end, ..Left::default() })),
    };
    run_parts(parts, Some(watches), options, stop).await
}

/// What a pipeline on Kafka is made of, and what it watches there.
async fn parts(pipeline: Arc<Pipeline>, options: Options, status: Arc<Status>) -> Result<(Parts, Watches)> {
    let budget = Budget::trimming(pipeline.memory_bytes, options.trim, Arc::clone(&status));
    let (sink, ledger_store) = open_stores(&pipeline, &status).await?;
    let log = KafkaLog::connect(&pipeline).await?;
    let topics = AskTopics::new(&pipeline, &sink, &ledger_store, &log);
    let named = topics.now().await?;
    if named.found.is_empty() && named.gone.is_empty() {
        status.warn("no topic matches `source.topics` yet; waiting for one".to_owned());
    }
    group::before_joining(&log, &pipeline, &named.found, &status).await?;
    let source = log.source(budget.kafka_bytes(), &named.found)?;
    let watches = Watches { topics, named: named.clone(), ends: log.ends(), log: Arc::clone(&log), group: pipeline.group.clone() };
    let destination = Destination::Configured { sink, ledger: ledger_store };
    Ok((Parts { pipeline, destination, log, source, topics: named.found, budget, status }, watches))
}

/// Where a pipeline writes.
pub enum Destination {
    /// The target that the configuration names, on these stores.
    Configured {
        /// The sink's store.
        sink: Store,
        /// The ledger's store.
        ledger: Store,
    },
    /// A target of one's own.
    Own(Arc<dyn Target>),
}

/// Everything that a pipeline is made of; tests bring a source and a log of their own.
pub struct Parts {
    /// The configuration.
    pub pipeline: Arc<Pipeline>,
    /// Where it writes.
    pub destination: Destination,
    /// What the ledger asks of Kafka.
    pub log: Arc<dyn Log>,
    /// Where records come from, subscribed to `topics`.
    pub source: Box<dyn Source>,
    /// Topics at start.
    pub topics: Vec<String>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// What the process says of itself.
    pub status: Arc<Status>,
}

/// What is looked at in Kafka now and then while a pipeline runs.
pub struct Watches {
    topics: AskTopics,
    /// Topics at the start.
    named: Named,
    ends: Ends,
    log: Arc<KafkaLog>,
    group: String,
}

impl Watches {
    /// Tells the poll loop and the status what is seen, until the answer is dropped.
    fn begin(self, notices: &crossbeam_channel::Sender<Notice>, status: &Arc<Status>) -> Vec<AbortOnDrop> {
        let topics = topics::watch(self.log.refresh_interval(), self.topics, self.named, notices.clone());
        let mut tasks = vec![tokio::spawn(topics)];
        tasks.extend(self.log.owners().map(|owners| {
            let notices = notices.clone();
            tokio::spawn(owners.watch(move |orphans| _ = notices.send(Notice::Orphans(orphans))))
        }));
        tasks.push(tokio::spawn(ends::watch(self.ends, Arc::clone(status))));
        tasks.push(tokio::spawn(group::watch(self.log, self.group, Arc::clone(status))));
        tasks.into_iter().map(AbortOnDrop).collect()
    }
}

/// Runs a pipeline on the parts given.
///
/// # Errors
/// As [`run`].
pub async fn run_parts(parts: Parts, watches: Option<Watches>, options: Options, stop: CancellationToken) -> Result<Ended> {
    let Parts { pipeline, destination, log, source, topics: first_topics, budget, status } = parts;
    let _look = AbortOnDrop(tokio::spawn(look(Arc::clone(&status))));
    let opening = async {
        // before anything is amended, which goes through them too
        for (key, chain) in pipeline.chains() {
            let opened = chain.open(Arc::clone(&status) as Arc<dyn kas3_store::Observer>).await;
            opened.map_err(|error| Error::new(error.kind(), format!("open `{key}`")).source(error))?;
        }
        let target = match destination {
            Destination::Own(target) => target,
            Destination::Configured { sink, ledger } => {
                let opening = Opening {
                    pipeline: Arc::clone(&pipeline),
                    sink,
                    ledger_store: ledger,
                    log: Arc::clone(&log),
                    remaker: Remaking::new(Arc::clone(&pipeline), Arc::clone(&log)),
                    observer: Arc::new(StatusObserver(Arc::clone(&status))),
                    budget: Arc::clone(&budget),
                };
                target::open(opening).await?
            }
        };
        let targets = if options.until_end { Some(end_offsets(&log, &first_topics, &status).await?) } else { None };
        Ok::<_, Error>((target, targets))
    };
    let Some(opened) = stop.run_until_cancelled(opening).await else {
        return Ok(Ended::Shutdown(Left { before_end: options.until_end, ..Left::default() }));
    };
    let (target, targets) = opened?;
    status.set_phase(Phase::Running);
    let (notices, inbox) = crossbeam_channel::unbounded();
    let (gone, group) = watches.as_ref().map(|watches| (watches.named.gone.clone(), Arc::clone(&watches.log))).unzip();
    let _watches = watches.map(|watches| watches.begin(&notices, &status));
    let (swept, first_sweep) = tokio::sync::oneshot::channel();
    let _sweep = AbortOnDrop(tokio::spawn(sweep(Arc::clone(&target), swept)));
    let context = poll::Context { pipeline, target, budget, status: Arc::clone(&status), notices, group, runtime: tokio::runtime::Handle::current() };
    let (answer, ended) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("kas3-poll".to_owned())
        .spawn(move || {
            let mut poll = poll::Loop::new(context, source, inbox, first_topics, targets, stop);
            poll.note_gone(gone.unwrap_or_default());
            let ended = poll.run();
            let _ = answer.send(ended);
        })
        .map_err(|source| Error::new(Kind::Fatal, "start the poll thread").source(source))?;
    let ended = ended.await.map_err(|_| Error::new(Kind::Fatal, "the poll thread ended without an answer"))?;
    let _ = thread.join();
    status.look();
    status.look_last();
    if matches!(ended, Ok(Ended::Done | Ended::Stopped(_))) {
        // a run that ends at once would never clean up, and a cron job consists of such runs
        let _ = tokio::time::timeout(SWEEP_WAIT, first_sweep).await;
    }
    ended
}

/// Opens the sink's store, and the ledger's where it is another one, for a run (whose status observes them) or for looking.
///
/// # Errors
/// As [`Store::open`].
pub async fn open_stores<O: kas3_store::Observer + 'static>(pipeline: &Pipeline, observer: &Arc<O>) -> Result<(Store, Store)> {
    let observer = Arc::clone(observer) as Arc<dyn kas3_store::Observer>;
    let sink = Store::open(&pipeline.url, &pipeline.storage, Arc::clone(&observer)).await?;
    let ledger =
        if pipeline.ledger_url == pipeline.url { sink.clone() } else { Store::open(&pipeline.ledger_url, &pipeline.storage, observer).await? };
    Ok((sink, ledger))
}

/// The end of every partition of the topics, as of now: the last stable offset. The brokers have answered before, so that what
/// they cannot say at this moment, of a partition that changes its leader for one, they say a little later.
async fn end_offsets(log: &Arc<dyn Log>, topics: &[String], status: &Status) -> Result<HashMap<TopicPartition, i64>> {
    let until = Instant::now() + ENDS_WAIT;
    loop {
        match ask_end_offsets(log, topics).await {
            Err(error) if error.kind() == Kind::Transient && Instant::now() < until => {
                status.warn(format!("Kafka does not say how far to read, asking again: {}", error.chain()));
                tokio::time::sleep(ENDS_AGAIN).await;
            }
            answer => return answer,
        }
    }
}

async fn ask_end_offsets(log: &Arc<dyn Log>, topics: &[String]) -> Result<HashMap<TopicPartition, i64>> {
    let mut asked = Vec::new();
    for topic in topics {
        for partition in 0..log.partitions(topic).await? {
            asked.push(TopicPartition::new(topic.as_str(), partition));
        }
    }
    // all at once, because they travel together
    let bounds = futures::future::try_join_all(asked.iter().map(|of| log.bounds(of))).await?;
    Ok(asked.into_iter().zip(bounds).map(|(of, (_, end))| (of, end)).collect())
}

/// Has the log told what begins, lasts and ends.
async fn look(status: Arc<Status>) {
    loop {
        status.look();
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Publishes what nobody owns any more and reclaims staged bytes of no use, at start and now and then.
async fn sweep(target: Arc<dyn Target>, first: tokio::sync::oneshot::Sender<()>) {
    let mut first = Some(first);
    loop {
        if let Err(error) = target.sweep().await {
            tracing::warn!(error = %error.chain(), "cannot look through the ledger now");
        }
        if let Some(first) = first.take() {
            let _ = first.send(());
        }
        tokio::time::sleep(SWEEP_EVERY).await;
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes on to the status what the ledger reports.
struct StatusObserver(Arc<Status>);

impl LedgerObserver for StatusObserver {
    fn amended(&self, of: &TopicPartition) {
        self.0.partition(of).amended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn warning(&self, of: &TopicPartition, text: &str) {
        self.0.warn(format!("`{of}`: {text}"));
    }

    fn retrying(&self, of: &TopicPartition, what: &str, error: &Error) {
        self.0.retrying(of, what, error);
    }
}
