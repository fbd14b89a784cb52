//! Files of a committed span, made again: the same lane over the same records, which the same transforms changed.

use super::{BeginUpload, Lane, Now, refused_record};
use crate::{
    config::{Pipeline, RollPlan, TopicPlan},
    error::{Error, Result},
    ledger::{self, ClosedFile, Remake, Upload},
    record::Record,
    span::{Position, Roll},
    transform::Through,
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Makes files of a committed span again, with only the wanted files kept. It waits for transforms: not for async threads.
pub(crate) struct Again {
    through: Through,
    made: Made,
}

struct Made {
    lane: Lane,
    now: Now,
    wanted: HashMap<String, u32>,
}

impl Again {
    /// For the span of `remake`.
    ///
    /// # Errors
    /// When a transform cannot be opened.
    pub(crate) fn new(pipeline: &Pipeline, remake: &Remake, runtime: &tokio::runtime::Handle) -> Result<Self> {
        let of = &remake.of;
        let plan = pipeline.plan(&of.topic);
        let never = Duration::MAX;
        let roll = RollPlan { bytes: u64::MAX, records: u64::MAX, age: never, idle: None, clock: None, files: usize::MAX };
        let endless = Arc::new(TopicPlan {
            path: plan.path.clone(),
            format: Arc::clone(&plan.format),
            roll,
            bad_records: plan.bad_records,
            transforms: Arc::clone(&plan.transforms),
        });
        let wanted: HashMap<String, u32> = remake.paths.iter().cloned().zip(remake.wanted.iter().copied()).collect();
        let begin: BeginUpload = {
            let (numbers, runtime, remake) = (wanted.clone(), runtime.clone(), remake.clone());
            let staging = pipeline.staged_prefix(of);
            Box::new(move |path, mut options| {
                let number = *numbers.get(path)?;
                options.metadata = ledger::metadata(&remake.of, &remake.id, number, remake.span.first, Some(remake.span.next));
                Some(Upload::begin(&runtime, remake.store.clone(), path.to_owned(), staging.clone(), options, Arc::new(|_| {})))
            })
        };
        let position = Position { next: remake.span.first, leader_epoch: remake.leader_epoch };
        let lane = Lane::new(of.clone(), endless, pipeline.timezone.clone(), remake.incarnation, position, begin);
        let through = Through::open(&plan.transforms, &of.topic, plan.bad_records, runtime)?;
        Ok(Again { through, made: Made { lane, now: Now { instant: Instant::now(), wall: remake.now }, wanted } })
    }

    /// Takes in the next record of the span.
    pub(crate) fn append(&mut self, record: &Record<'_>) -> Result<()> {
        let made = &mut self.made;
        self.through.push(record, &mut |record, refused| made.append(record, refused))
    }

    /// The wanted files that the records made, with their numbers.
    pub(crate) fn finish(self) -> Result<Vec<(u32, ClosedFile)>> {
        let Again { mut through, mut made } = self;
        through.flush(&mut |record, refused| made.append(record, refused))?;
        let Some(span) = made.lane.close(Roll::End)? else { return Ok(Vec::new()) };
        Ok(span.files.into_iter().filter_map(|file| made.wanted.get(&file.path).map(|number| (*number, file))).collect())
    }
}

impl Made {
    fn append(&mut self, record: &Record<'_>, refused: Option<Error>) -> Result<()> {
        match refused {
            Some(error) if self.lane.plan().bad_records == crate::config::BadRecords::Stop => Err(refused_record(self.lane.of(), error)),
            Some(_) => {
                self.lane.leave_out(record, -1, self.now);
                Ok(())
            }
            None => self.lane.append(std::slice::from_ref(record), |_| -1, self.now).map(|_| ()),
        }
    }
}
