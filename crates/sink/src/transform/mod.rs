//! What happens to records on their way from Kafka to a lane.
//!
//! A transform that waits for others (a store, a registry) sees records before their lane does: many at once, in order, within a
//! bound of memory. Whatever one does to a record, its offset stays, so that exactly once holds for it as for any other.
//!
//! Adding a transform is one file and one row in [`TRANSFORMS`]: configuration, schema, reference page and the messages of
//! mistakes read that list. Its settings are its factory.
//!
//! ```
//! let text = "
//! name: orders
//! source: {topics: [orders], kafka: {bootstrap.servers: 'localhost:9092'}}
//! transforms: [{type: claim_check, url: 's3://payloads/orders'}]
//! sink: {url: 's3://lake/raw'}
//! ";
//! let pipeline = kas3_sink::config::load(text, &|_| None)?.pipeline()?;
//! assert!(!pipeline.default.transforms.is_empty());
//! # Ok::<(), kas3_sink::Error>(())
//! ```

pub(crate) mod ahead;
mod claim_check;
mod room;
mod settings;
mod through;

pub use claim_check::ClaimCheckTransform;
pub(crate) use room::{LaneRoom, Room, Ticket};
pub use settings::TransformSettings;
pub(crate) use through::Through;

use crate::{
    config::SinkSettings,
    error::Result,
    record::{Headers, OwnedHeaders, OwnedRecord, Record},
};
use async_trait::async_trait;
use bytes::Bytes;
use kas3_store::{Observer, StorageSettings};
use schemars::{Schema, SchemaGenerator};
use serde_json::Value as Json;
use std::{fmt, sync::Arc};
use tokio::sync::OnceCell;

/// Every transform, in the order of the reference page.
pub const TRANSFORMS: &[TransformRow] = &[claim_check::ROW];

/// A row of [`TRANSFORMS`].
pub struct TransformRow {
    /// The name in `type`.
    pub name: &'static str,
    /// What it does, in one line of the reference page.
    pub doc: &'static str,
    /// The schema of its settings, without `type`.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Reads its settings, without `type`.
    pub read: fn(Json) -> Result<Arc<dyn Configured>, serde_json::Error>,
}

/// The settings of a transform, as written. Its Debug shows no secrets.
pub trait Configured: fmt::Debug + Send + Sync {
    /// Looks at the settings and makes the transform; `key` is where they stand, as `transforms[0]`.
    ///
    /// # Errors
    /// `Config`, naming the key and the way out.
    fn build(&self, key: &str, sink: &SinkSettings) -> Result<Arc<dyn Transform>>;

    /// The settings as JSON, without secrets.
    fn json(&self) -> Json;

    /// How its store is reached, when it has one of its own: secrets are there.
    fn storage(&self) -> Option<&StorageSettings> {
        None
    }
}

/// A transform that was validated and not opened.
#[async_trait]
pub trait Transform: fmt::Debug + Send + Sync {
    /// What it will do, for people.
    fn about(&self) -> String;

    /// Connects to whatever it asks. Makes no request but what credentials need.
    ///
    /// # Errors
    /// `Config` for settings that cannot be.
    async fn open(&self, observer: Arc<dyn Observer>) -> Result<Opened>;
}

/// A transform that was opened, by its kind.
#[non_exhaustive]
pub enum Opened {
    /// It waits for others.
    Waiting(Arc<dyn Waiting>),
}

/// A transform that waits for others: before the lane, for many records at once.
#[async_trait]
pub trait Waiting: Send + Sync {
    /// What a record needs; `None`: it passes as it is. Makes no request.
    ///
    /// # Errors
    /// `BadRecord`, with its reason, for a record that cannot be taken.
    fn look(&self, record: &Record<'_>) -> Result<Option<Box<dyn Need>>>;

    /// Records that it works on at once, of one partition.
    fn at_once(&self) -> usize;

    /// Tries what it will ask of others, for `kas3 check`.
    async fn try_out(&self) -> Vec<Tried>;
}

/// What a record needs of others.
#[async_trait]
pub trait Need: Send + Sync {
    /// Bytes that the answer will take in memory. Asked once, perhaps with a cheap request, before there is room for it.
    async fn bytes(&self) -> u64;

    /// The record's change. Asked again after an error of kind `Transient`.
    ///
    /// # Errors
    /// `BadRecord`, with its reason; `Transient` when it may go well later.
    async fn get(&self) -> Result<Change>;
}

/// What a transform makes of a record: the rest stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The new value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// All headers.
    pub headers: OwnedHeaders,
}

impl Change {
    /// The record as it is now.
    pub fn on<'a>(&'a self, record: &Record<'a>) -> Record<'a> {
        let headers = (!self.headers.0.is_empty()).then_some(&self.headers as &dyn Headers);
        Record { value: self.value.as_deref(), headers, ..*record }
    }
}

/// What trying something out gave.
#[derive(Debug)]
pub enum Tried {
    /// It works.
    Good(String),
    /// Good to know.
    Known(String),
    /// It stands in the way.
    Bad(crate::Error),
}

/// The transforms of a topic, in their order. Opened once in a process, by whoever comes first.
#[derive(Default)]
pub struct Chain {
    plans: Vec<Arc<dyn Transform>>,
    opened: OnceCell<Arc<[Arc<dyn Waiting>]>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plans.fmt(f)
    }
}

impl Chain {
    /// These transforms.
    pub fn new(plans: Vec<Arc<dyn Transform>>) -> Self {
        Chain { plans, opened: OnceCell::new() }
    }

    /// Whether records pass as they are.
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// What each will do, for people.
    pub fn about(&self) -> Vec<String> {
        self.plans.iter().map(|plan| plan.about()).collect()
    }

    /// The transforms that wait for others, opened; `observer` sees their requests if it comes first.
    ///
    /// # Errors
    /// As [`Transform::open`].
    pub async fn open(&self, observer: Arc<dyn Observer>) -> Result<Arc<[Arc<dyn Waiting>]>> {
        let opened = self.opened.get_or_try_init(|| async {
            let mut waiting = Vec::with_capacity(self.plans.len());
            for plan in &self.plans {
                let Opened::Waiting(opened) = plan.open(Arc::clone(&observer)).await?;
                waiting.push(opened);
            }
            Ok::<_, crate::Error>(waiting.into())
        });
        opened.await.map(Arc::clone)
    }

    /// One record as the transforms leave it, for looks at a sample.
    ///
    /// # Errors
    /// As [`Need::get`].
    pub async fn apply(&self, record: OwnedRecord, observer: Arc<dyn Observer>) -> Result<OwnedRecord> {
        let mut record = record;
        for transform in self.open(observer).await?.iter() {
            let need = transform.look(&record.borrow())?;
            if let Some(need) = need {
                let change = need.get().await?;
                record = OwnedRecord::from(&change.on(&record.borrow()));
            }
        }
        Ok(record)
    }
}
