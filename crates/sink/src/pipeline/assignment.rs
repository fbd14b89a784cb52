//! What the poll loop knows of the partitions that are ours: which are being opened, which have a lane, which stopped, and what
//! a rebalance still waits for.

use super::{
    LaneId,
    resolver::Input,
    worker::{LaneShared, Work},
};
use crate::{span::TopicPartition, status::PartitionStatus};
use crossbeam_channel::Sender;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle};

/// A stopped partition is looked at again after this, then ever more rarely.
pub(super) const REOPEN_MIN: Duration = Duration::from_secs(15);
/// A stopped partition is looked at again at least this often.
pub(super) const REOPEN_MAX: Duration = Duration::from_secs(300);

/// The partitions that are ours.
#[derive(Default)]
pub(super) struct Assignment {
    pub(super) owned: BTreeMap<TopicPartition, Owned>,
    /// Partitions that were given to us and not yet to librdkafka.
    pub(super) assigning: Option<Assigning>,
    /// Partitions that are being flushed before they are given away.
    pub(super) releasing: Option<Releasing>,
    /// Distinguishes the answers to one opening from those to an earlier one.
    pub(super) epoch: u64,
}

/// One partition that is ours.
pub(super) struct Owned {
    pub(super) epoch: u64,
    pub(super) stage: Stage,
    /// librdkafka reads it: it may be sought in.
    pub(super) assigned: bool,
    pub(super) status: Arc<PartitionStatus>,
    pub(super) stops: u32,
    /// It stopped, and counts as stopped until this is behind it, however often it is tried again.
    pub(super) stop: Option<Behind>,
}

/// What has to be behind a partition that stopped before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    /// Its head is read, and what is pending published.
    Opening,
    /// The record at this offset is taken in, or passed over.
    Record(i64),
    /// Something behind this offset is committed.
    Commit(i64),
}

impl Behind {
    /// Whether it is, of a partition that was opened at `next`.
    pub(super) fn opened_at(self, next: i64) -> bool {
        match self {
            Behind::Opening => true,
            Behind::Record(offset) | Behind::Commit(offset) => next > offset,
        }
    }
}

/// How far one partition is.
pub(super) enum Stage {
    /// Its head is being read.
    Opening(JoinHandle<()>),
    /// It was opened, and waits to be assigned together with the others.
    Opened(Box<dyn crate::target::OpenPartition>),
    /// It is read.
    Running(LaneHandle),
    /// It stopped; looked at again then.
    Stopped(Instant),
    /// Everything up to its target is published.
    Finished,
}

/// What the poll loop holds of a lane.
pub(super) struct LaneHandle {
    pub(super) id: LaneId,
    pub(super) shared: Arc<LaneShared>,
    pub(super) worker: Sender<Work>,
    pub(super) committer: JoinHandle<()>,
    /// No more is fetched: it was told to finish.
    pub(super) finishing: bool,
    /// Its partition is not read until the lane has caught up.
    pub(super) paused: bool,
    /// Takes batches through transforms before the worker sees them; `None`: the topic has none that wait.
    pub(super) resolver: Option<UnboundedSender<Input>>,
    /// The offset after what was handed over.
    pub(super) fed: i64,
    /// Reading failed, and nothing has come since.
    pub(super) read_failed: bool,
}

impl LaneHandle {
    /// Forgets the lane and stops its committer wherever it is.
    pub(super) fn drop_now(self) {
        self.shared.ended.cancel();
        self.committer.abort();
        let _ = self.worker.send(Work::Drop { lane: self.id });
    }
}

/// An assignment that is being prepared.
pub(super) struct Assigning {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) since: Instant,
}

/// A revocation that is being flushed.
pub(super) struct Releasing {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) waiting: HashSet<LaneId>,
    pub(super) deadline: Instant,
}

impl Assignment {
    /// The partition of a running lane.
    pub(super) fn of_lane(&self, id: LaneId) -> Option<TopicPartition> {
        self.owned.iter().find(|(_, owned)| matches!(&owned.stage, Stage::Running(lane) if lane.id == id)).map(|(of, _)| of.clone())
    }

    /// Lanes that are read, finishing ones included.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &LaneHandle> {
        self.owned.values().filter_map(|owned| if let Stage::Running(lane) = &owned.stage { Some(lane) } else { None })
    }

    /// Whether every partition of the assignment in preparation is opened or stopped.
    pub(super) fn ready(&self) -> bool {
        self.assigning.as_ref().is_some_and(|assigning| {
            assigning.partitions.iter().all(|of| !matches!(self.owned.get(of).map(|owned| &owned.stage), Some(Stage::Opening(_))))
        })
    }

    /// Forgets a partition, with its lane if it has one.
    pub(super) fn forget(&mut self, of: &TopicPartition) {
        match self.owned.remove(of).map(|owned| owned.stage) {
            Some(Stage::Running(lane)) => lane.drop_now(),
            Some(Stage::Opening(task)) => task.abort(),
            _ => {}
        }
    }
}
