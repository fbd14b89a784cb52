//! Files of a committed span, made again: the same lane over the same records, with what is fetched for them.

use crate::{
    error::{Error, Kind, Result},
    lane::{BeginUpload, Lane, LanePartition, Now},
    ledger::{self, ClosedFile, Remake, Remaker, Upload},
    plan::{Pipeline, RollPlan, TopicPlan},
    prefetch::BlockingPrefetch,
    record::Record,
    refused::Refused,
    row::Row,
    source::Log,
    span::{Position, Roll},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// A lane that makes a span again holds one partition.
const ONLY: usize = 0;

/// Makes lost files of a pipeline again, from what Kafka still has.
pub struct Remaking {
    pipeline: Arc<Pipeline>,
    log: Arc<dyn Log>,
}

impl Remaking {
    /// For the spans of a pipeline.
    pub fn new(pipeline: Arc<Pipeline>, log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Remaking { pipeline, log })
    }
}

#[async_trait]
impl Remaker for Remaking {
    async fn remake(&self, order: &Remake) -> Result<Vec<(u32, ClosedFile)>> {
        let (pipeline, log, order, runtime) = (Arc::clone(&self.pipeline), Arc::clone(&self.log), order.clone(), Handle::current());
        let made = tokio::task::spawn_blocking(move || {
            let mut span = RemadeSpan::new(&pipeline, &order, &runtime)?;
            log.read(&order.of, order.span.first, order.span.next, &mut |record| span.append(record))?;
            span.finish()
        });
        made.await.map_err(|source| Error::new(Kind::Fatal, "make files again").source(source))?
    }
}

/// A committed span being made again, with only the wanted files kept. It waits for what is fetched: not for async threads.
pub(crate) struct RemadeSpan {
    prefetch: BlockingPrefetch,
    files: RemadeFiles,
}

struct RemadeFiles {
    lane: Lane,
    now: Now,
    wanted: HashMap<String, u32>,
}

impl RemadeSpan {
    /// For the span of `order`.
    ///
    /// # Errors
    /// When what is fetched from cannot be opened.
    pub(crate) fn new(pipeline: &Pipeline, order: &Remake, runtime: &Handle) -> Result<Self> {
        let of = &order.of;
        let plan = pipeline.plan(&of.topic);
        let endless = endless(plan);
        let wanted: HashMap<String, u32> = order.paths.iter().cloned().zip(order.wanted.iter().copied()).collect();
        let begin: BeginUpload = {
            let (numbers, runtime, order) = (wanted.clone(), runtime.clone(), order.clone());
            let staging = pipeline.staged_prefix(of);
            Box::new(move |path, mut options| {
                let number = *numbers.get(path)?;
                options.metadata = ledger::metadata(&order.of, &order.id, number, order.span.first, Some(order.span.next));
                Some(Upload::begin(&runtime, order.store.clone(), path.to_owned(), staging.clone(), options, Arc::new(|_| {})))
            })
        };
        let position = Position { next: order.span.first, leader_epoch: order.leader_epoch };
        let only = LanePartition { of: of.clone(), incarnation: order.incarnation, position };
        let lane = Lane::new(vec![only], endless, pipeline.timezone.clone(), begin);
        let prefetch = BlockingPrefetch::open(&plan.transforms, &of.topic, plan.bad_records, runtime)?;
        Ok(RemadeSpan { prefetch, files: RemadeFiles { lane, now: Now { instant: Instant::now(), wall: order.now }, wanted } })
    }

    /// Takes in the next record of the span.
    pub(crate) fn append(&mut self, record: &Record<'_>) -> Result<()> {
        let files = &mut self.files;
        self.prefetch.push(record, &mut |record, refused| files.append(record, refused))
    }

    /// The wanted files that the records made, with their numbers.
    pub(crate) fn finish(self) -> Result<Vec<(u32, ClosedFile)>> {
        let RemadeSpan { mut prefetch, mut files } = self;
        prefetch.flush(&mut |record, refused| files.append(record, refused))?;
        let Some(span) = files.lane.close(Roll::End)? else { return Ok(Vec::new()) };
        Ok(span.files.into_iter().filter_map(|file| files.wanted.get(&file.path).map(|number| (*number, file))).collect())
    }
}

/// The plan of a lane that never rolls by itself.
pub(super) fn endless(plan: &TopicPlan) -> Arc<TopicPlan> {
    let files_of_record = plan.roll.files_of_record;
    let roll = RollPlan { bytes: u64::MAX, records: u64::MAX, age: Duration::MAX, idle: None, clock: None, files: usize::MAX, files_of_record };
    Arc::new(TopicPlan {
        path: plan.path.clone(),
        format: Arc::clone(&plan.format),
        roll,
        bad_records: plan.bad_records,
        transforms: Arc::clone(&plan.transforms),
    })
}

impl RemadeFiles {
    fn append(&mut self, record: &Record<'_>, refused: Option<Refused>) -> Result<()> {
        match refused {
            Some(refused) => self.lane.refuse(ONLY, record, -1, refused, self.now)?,
            None => {
                self.lane.append(ONLY, &[Row::of(*record)], |_| -1, self.now)?;
            }
        }
        self.lane.take_skipped();
        Ok(())
    }
}
