//! Tries the next records of a partition as the pipeline would take them, and writes nothing: whether a record stands in its way
//! can be told without the worker that stopped at it.

use super::remake::endless;
use crate::{
    error::{Error, Kind, Result},
    lane::{Lane, LanePartition, Now},
    ledger::Head,
    plan::Pipeline,
    prefetch::BlockingPrefetch,
    record::Record,
    refused::Refused,
    row::Row,
    source::Log,
    span::{Position, TopicPartition},
};
use std::sync::Arc;
use tokio::runtime::Handle;

/// A lane of one partition.
const ONLY: usize = 0;
/// Offsets that are looked at together.
const WINDOW: i64 = 64;
/// Offsets that are looked at, at most, where all records are filtered.
const LOOKED_AT_MAX: i64 = 10_000;

/// The error by which the pipeline would stop at the next record of a partition that it does not leave out; `None` when it takes it,
/// and when there is none. Everything before such a record is committed before the partition stops, so nothing else stands before it.
///
/// # Errors
/// When Kafka, or what records need of others, cannot be read.
pub async fn next_refused(pipeline: &Arc<Pipeline>, log: &Arc<dyn Log>, head: &Head) -> Result<Option<Error>> {
    let of = head.of();
    let (earliest, end) = log.bounds(&of).await?;
    let (first, end) = (head.next.max(earliest), end.min(head.next.max(earliest) + LOOKED_AT_MAX));
    let (pipeline, log, incarnation, runtime) = (Arc::clone(pipeline), Arc::clone(log), head.incarnation, Handle::current());
    let tried = tokio::task::spawn_blocking(move || {
        let mut trial = Trial::new(&pipeline, &of, incarnation, first, &runtime)?;
        let mut at = first;
        while at < end && !trial.is_over() {
            let next = end.min(at + WINDOW);
            log.read(&of, at, next, &mut |record| trial.take(record))?;
            trial.flush()?;
            at = next;
        }
        Ok(trial.lane.refused)
    });
    tried.await.map_err(|source| Error::new(Kind::Fatal, "try the next records").source(source))?
}

struct Trial {
    prefetch: BlockingPrefetch,
    lane: TrialLane,
}

struct TrialLane {
    lane: Lane,
    now: Now,
    refused: Option<Error>,
}

impl Trial {
    fn new(pipeline: &Pipeline, of: &TopicPartition, incarnation: u32, next: i64, runtime: &Handle) -> Result<Self> {
        let plan = pipeline.plan(&of.topic);
        let only = LanePartition { of: of.clone(), incarnation, position: Position { next, leader_epoch: -1 } };
        let lane = Lane::new(vec![only], endless(plan), pipeline.timezone.clone(), Box::new(|_, _| None));
        let prefetch = BlockingPrefetch::open(&plan.transforms, &of.topic, plan.bad_records, runtime)?;
        Ok(Trial { prefetch, lane: TrialLane { lane, now: Now::read(), refused: None } })
    }

    fn is_over(&self) -> bool {
        self.lane.is_over()
    }

    fn take(&mut self, record: &Record<'_>) -> Result<()> {
        let lane = &mut self.lane;
        if lane.is_over() { Ok(()) } else { self.prefetch.push(record, &mut |record, refused| lane.take(record, refused)) }
    }

    fn flush(&mut self) -> Result<()> {
        let lane = &mut self.lane;
        self.prefetch.flush(&mut |record, refused| lane.take(record, refused))
    }
}

impl TrialLane {
    /// A record was refused, or one was taken that will be in a file.
    fn is_over(&self) -> bool {
        self.refused.is_some() || self.lane.open_files() > 0
    }

    fn take(&mut self, record: &Record<'_>, refused: Option<Refused>) -> Result<()> {
        if self.is_over() {
            return Ok(());
        }
        let taken = match refused {
            Some(refused) => self.lane.refuse(ONLY, record, -1, refused, self.now),
            None => self.lane.append(ONLY, &[Row::of(*record)], |_| -1, self.now).map(drop),
        };
        self.lane.take_skipped();
        match taken {
            Err(error) if error.kind() == Kind::BadRecord => {
                self.refused = Some(error);
                Ok(())
            }
            other => other,
        }
    }
}
