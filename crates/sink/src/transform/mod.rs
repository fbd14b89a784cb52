//! What happens to records on their way from Kafka into files.
//!
//! There are two kinds. What waits for others (a store, a registry) is *prefetched* before the lane sees a record
//! ([`Prefetch`], driven by `crate::prefetch`). Everything else is a [`Transform`]: it works in the lane, on one row, and makes none, one or several
//! rows of it. Whatever one does, the offset stays, so that exactly once holds for it as for any other.
//!
//! Adding one is one file and one row in [`TRANSFORMS`]: configuration, schema, reference page and the messages of mistakes
//! read that list. Its settings are its factory.
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

mod claim_check;

pub use claim_check::ClaimCheckTransform;

use crate::{
    error::Result,
    record::{Change, OwnedRecord, Record},
    refused::Refused,
    registry::{Chosen, Component, Entry},
    row::{Row, Rows},
};
use async_trait::async_trait;
use kas3_store::{Observer, StorageSettings};
use serde_json::Value as Json;
use std::{fmt, sync::Arc};
use tokio::sync::OnceCell;

/// Every transform, in the order of the reference page.
pub const TRANSFORMS: &[Entry<Arc<dyn Configured>>] = &[claim_check::ENTRY];

/// An entry of `transforms` in the configuration.
pub type TransformSettings = Chosen<Arc<dyn Configured>>;

/// The settings of a transform, as written. Its Debug shows no secrets.
pub trait Configured: fmt::Debug + Send + Sync {
    /// Looks at the settings and makes the step; `key` is where they stand, as `transforms[0]`; `sink_storage` is how the sink's
    /// store is reached, with the key under which that stands.
    ///
    /// # Errors
    /// `Config`, naming the key and the way out.
    fn build(&self, key: &str, sink_storage: (&str, &StorageSettings)) -> Result<Step>;

    /// The settings as JSON, without secrets.
    fn json(&self) -> Json;

    /// How its store is reached, when it has one of its own: secrets are there.
    fn storage(&self) -> Option<&StorageSettings>;
}

impl Component for Arc<dyn Configured> {
    const KIND: &'static str = "transform";
    const DEFAULT: Option<&'static str> = None;
    fn entries() -> &'static [Entry<Self>] {
        TRANSFORMS
    }
    fn json(&self) -> Json {
        self.as_ref().json()
    }
}

/// A transform that was validated, by its kind.
#[derive(Clone, Debug)]
pub enum Step {
    /// It works in the lane.
    Transform(Arc<dyn Transform>),
    /// It waits for others.
    Prefetch(Arc<dyn PrefetchPlan>),
}

/// Makes none, one or several rows of one: pure, so that the same records always give the same rows. It reads no clock, draws no
/// random numbers and asks nobody.
pub trait Transform: fmt::Debug + Send + Sync {
    /// What it will do, for people.
    fn about(&self) -> String;

    /// Appends the rows that `row` becomes to `out`, in order; none: the row is filtered.
    ///
    /// # Errors
    /// Why the record is refused; what was appended before is dropped.
    fn apply<'a>(&self, row: Row<'a>, out: &mut Rows<'a>) -> Result<(), Refused>;
}

/// What waits for others, validated and not opened.
#[async_trait]
pub trait PrefetchPlan: fmt::Debug + Send + Sync {
    /// What it will do, for people.
    fn about(&self) -> String;

    /// Connects to whatever it asks. Makes no request but what credentials need.
    ///
    /// # Errors
    /// `Config` for settings that cannot be.
    async fn open(&self, observer: Arc<dyn Observer>) -> Result<Arc<dyn Prefetch>>;
}

/// Fetches what records need of others, before their lane sees them: for many records at once.
#[async_trait]
pub trait Prefetch: Send + Sync {
    /// What is to be fetched for a record; `None`: it passes as it is. Makes no request.
    ///
    /// # Errors
    /// `BadRecord`, with its reason, for a record that cannot be taken.
    fn request(&self, record: &Record<'_>) -> Result<Option<Box<dyn Request>>>;

    /// Records that it works on at once, of one partition.
    fn at_once(&self) -> usize;

    /// Tries what it will ask of others, for `kas3 check`.
    async fn probe(&self) -> Vec<Probe>;
}

/// What is to be fetched for one record.
#[async_trait]
pub trait Request: Send + Sync {
    /// Bytes that the answer will take in memory. Asked once, perhaps with a cheap request, before there is room for it.
    async fn bytes(&self) -> u64;

    /// The record's change. Asked again after an error of kind `Transient`.
    ///
    /// # Errors
    /// `BadRecord`, with its reason; `Transient` when it may go well later.
    async fn fetch(&self) -> Result<Change>;
}

/// What trying something out gave.
#[derive(Debug)]
pub enum Probe {
    /// It works.
    Good(String),
    /// Good to know.
    Known(String),
    /// It stands in the way.
    Bad(crate::Error),
}

/// The transforms of a topic, in their order: those that wait for others first. What waits is opened once in a process, by whoever
/// comes first.
#[derive(Default)]
pub struct Chain {
    prefetches: Vec<Arc<dyn PrefetchPlan>>,
    transforms: Vec<Arc<dyn Transform>>,
    opened: OnceCell<Arc<[Arc<dyn Prefetch>]>>,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.prefetches).entries(&self.transforms).finish()
    }
}

impl Chain {
    /// These steps.
    pub fn new(steps: Vec<Step>) -> Self {
        let mut chain = Chain::default();
        for step in steps {
            match step {
                Step::Transform(transform) => chain.transforms.push(transform),
                Step::Prefetch(prefetch) => chain.prefetches.push(prefetch),
            }
        }
        chain
    }

    /// Whether records pass as they are.
    pub fn is_empty(&self) -> bool {
        self.prefetches.is_empty() && self.transforms.is_empty()
    }

    /// Whether records wait for others before their lane.
    pub fn waits(&self) -> bool {
        !self.prefetches.is_empty()
    }

    /// What each will do, for people.
    pub fn about(&self) -> Vec<String> {
        self.prefetches.iter().map(|prefetch| prefetch.about()).chain(self.transforms.iter().map(|transform| transform.about())).collect()
    }

    /// What works in the lane, in order.
    pub fn transforms(&self) -> &[Arc<dyn Transform>] {
        &self.transforms
    }

    /// The rows that the lane makes of a record: all transforms after one another.
    ///
    /// # Errors
    /// Why one of them refuses the record.
    pub fn rows<'a>(&self, record: Record<'a>) -> Result<Vec<Row<'a>>, Refused> {
        let mut rows = vec![Row::of(record)];
        for transform in &self.transforms {
            let mut out = Rows::default();
            for row in rows {
                transform.apply(row, &mut out)?;
            }
            rows = out.into_numbered();
        }
        Ok(rows)
    }

    /// What waits for others, opened; `observer` sees their requests if it comes first.
    ///
    /// # Errors
    /// As [`PrefetchPlan::open`].
    pub async fn open(&self, observer: Arc<dyn Observer>) -> Result<Arc<[Arc<dyn Prefetch>]>> {
        let opened = self.opened.get_or_try_init(|| async {
            let mut opened = Vec::with_capacity(self.prefetches.len());
            for prefetch in &self.prefetches {
                opened.push(prefetch.open(Arc::clone(&observer)).await?);
            }
            Ok::<_, crate::Error>(opened.into())
        });
        opened.await.map(Arc::clone)
    }

    /// One record with all that is fetched for it, for looks at a sample.
    ///
    /// # Errors
    /// As [`Request::fetch`].
    pub async fn fetched(&self, record: OwnedRecord, observer: Arc<dyn Observer>) -> Result<OwnedRecord> {
        let mut record = record;
        for prefetch in self.open(observer).await?.iter() {
            let request = prefetch.request(&record.borrow())?;
            if let Some(request) = request {
                let change = request.fetch().await?;
                record = OwnedRecord::from(&change.on(&record.borrow()));
            }
        }
        Ok(record)
    }
}
