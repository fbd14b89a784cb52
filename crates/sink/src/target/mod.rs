//! Where records go. A target keeps the position of each partition where its data becomes visible, and moves both at once: so a
//! restart goes on exactly there, whoever died when.
//!
//! Adding a target is one file with its settings and its two traits, a row in [`TARGETS`] for what the user writes, and one in
//! [`open`] for what runs. [`files`] is the first: the ledger's heads keep the positions, and publishing makes files visible.

pub mod files;
mod settings;

pub use settings::{Given, RollSettings, SinkPlan, TopicSettings, chain, roll};

use crate::{
    budget::Budget,
    error::{Error, Kind, Mistakes, Result},
    lane::BeginUpload,
    ledger::{ClosedSpan, LedgerObserver, Remaker},
    plan::Pipeline,
    registry::{Chosen, Component, Entry},
    report::Report,
    source::Log,
    span::{Position, TopicPartition},
};
use async_trait::async_trait;
use kas3_store::{StorageSettings, Store};
use serde_json::Value as Json;
use std::{fmt, sync::Arc};

/// Every target, in the order of the reference page.
pub const TARGETS: &[Entry<Arc<dyn Configured>>] = &[files::ENTRY];

/// The section `sink` of the configuration.
pub type SinkSettings = Chosen<Arc<dyn Configured>>;

/// The settings of a target, as written. Its Debug shows no secrets.
pub trait Configured: fmt::Debug + Send + Sync {
    /// Checks the settings, together with what the file says beside `sink`, and makes the plan of the sink.
    ///
    /// # Errors
    /// `Config` for everything that cannot be, naming the keys and the way out.
    fn plan(&self, given: &Given<'_>) -> Result<SinkPlan, Mistakes>;

    /// The settings as JSON, without secrets.
    fn json(&self) -> Json;

    /// How its store is reached: secrets are there.
    fn storage(&self) -> &StorageSettings;
}

impl Component for Arc<dyn Configured> {
    const KIND: &'static str = "sink";
    const DEFAULT: Option<&'static str> = Some("files");
    fn entries() -> &'static [Entry<Self>] {
        TARGETS
    }
    fn json(&self) -> Json {
        self.as_ref().json()
    }
}

/// What a target is opened with.
pub struct Opening {
    /// The configuration.
    pub pipeline: Arc<Pipeline>,
    /// The sink's store.
    pub sink: Store,
    /// The ledger's store.
    pub ledger_store: Store,
    /// What is asked of Kafka.
    pub log: Arc<dyn Log>,
    /// Makes lost files again.
    pub remaker: Arc<dyn Remaker>,
    /// Sees the steps of the protocol.
    pub observer: Arc<dyn LedgerObserver>,
    /// Counts the memory of uploads.
    pub budget: Arc<Budget>,
}

/// Opens the target of a pipeline.
///
/// # Errors
/// What the target says: another pipeline's data, a store that cannot be used.
pub async fn open(opening: Opening) -> Result<Arc<dyn Target>> {
    match opening.pipeline.target {
        files::NAME => files::open(opening).await,
        other => Err(Error::new(Kind::Fatal, format!("there is nothing that runs a sink of type `{other}`"))),
    }
}

/// A target, opened by one process for all of its partitions.
#[async_trait]
pub trait Target: Send + Sync {
    /// Opens a partition: finds its position, and finishes what a dead worker left. Locks nobody out.
    ///
    /// # Errors
    /// `Transient` and `Fenced`: try again; `Stopped`: a person decides.
    async fn open_partition(&self, of: &TopicPartition) -> Result<Box<dyn OpenPartition>>;

    /// How far all partitions are, whoever owns them.
    ///
    /// # Errors
    /// When the positions cannot be read.
    async fn progress(&self) -> Result<Vec<Progress>>;

    /// Finishes what nobody owns any more, and reclaims what is of no use.
    ///
    /// # Errors
    /// When it cannot be looked through now.
    async fn sweep(&self) -> Result<()>;

    /// What a lane of a partition calls when one of its files has grown to a part.
    fn begin_upload(&self, of: &TopicPartition) -> BeginUpload;
}

/// An opened partition of a target.
#[async_trait]
pub trait OpenPartition: Send + Sync {
    /// Whose it is.
    fn of(&self) -> &TopicPartition;
    /// Where reading goes on.
    fn position(&self) -> Position;
    /// Raised when offsets begin anew; from 1 on names carry it.
    fn incarnation(&self) -> u32;
    /// What the consumer group is told.
    fn report(&self) -> Report;
    /// Whether there is anything to settle.
    fn unsettled(&self) -> bool;
    /// Makes a span durable and visible, and moves the position behind it, once.
    ///
    /// # Errors
    /// `Fenced` when somebody else moved the partition; `Stopped` when a person decides.
    async fn commit(&mut self, span: ClosedSpan) -> Result<()>;
    /// Moves the position over offsets without rows.
    ///
    /// # Errors
    /// As [`OpenPartition::commit`].
    async fn advance(&mut self, position: Position) -> Result<()>;
    /// Notes that everything that was committed is visible.
    ///
    /// # Errors
    /// As [`OpenPartition::commit`].
    async fn settle(&mut self) -> Result<()>;
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub of: TopicPartition,
    /// The next offset to read.
    pub next: i64,
    /// Something is committed and not visible yet.
    pub pending: bool,
}
