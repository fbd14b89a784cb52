//! How lanes end: finished, failed, stopped, given back to the group.

use super::Loop;
use crate::{
    error::{Error, Kind},
    pipeline::{
        LaneId,
        assignment::{LaneHandle, REOPEN_MAX, REOPEN_MIN, Stage},
        worker::Work,
    },
    span::{Roll, TopicPartition},
    status::{Phase, State},
};
use std::{collections::HashMap, time::Instant};

impl Loop {
    pub(super) fn lane_ended(&mut self, id: LaneId, failure: Option<Error>) {
        let Some(of) = self.assignment.of_lane(id) else { return };
        let Some(owned) = self.assignment.owned.get_mut(&of) else { return };
        if let Stage::Running(lane) = std::mem::replace(&mut owned.stage, Stage::Finished) {
            lane.drop_now();
        }
        let leaving = self.stopping.is_some() || self.assignment.releasing.as_ref().is_some_and(|releasing| releasing.partitions.contains(&of));
        if let Some(releasing) = self.assignment.releasing.as_mut() {
            releasing.waiting.remove(&id);
        }
        match failure {
            None if leaving => {}
            None => self.reached_target(&of),
            Some(error) if matches!(error.kind(), Kind::Fenced | Kind::Transient) => {
                if !leaving {
                    self.context.status.warn(format!("`{of}`: {}; opening it again", error.chain()));
                    self.reopen(&of);
                }
            }
            Some(error) => self.stopped(&of, &error),
        }
    }

    pub(super) fn stopped(&mut self, of: &TopicPartition, error: &Error) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        owned.stops += 1;
        let wait = (REOPEN_MIN * 2_u32.saturating_pow(owned.stops - 1)).min(REOPEN_MAX);
        owned.stage = Stage::Stopped(Instant::now() + wait);
        let reason = in_full(error);
        if owned.stops == 1 {
            tracing::error!(partition = %of, hint = error.way_out().unwrap_or_default(), "partition stopped: {}", error.chain());
        }
        owned.status.set_state(State::Stopped, Some(reason.clone()));
        self.stopped.insert(of.clone(), reason);
        if self.targets.is_some() {
            self.reached_target(of);
        }
    }

    pub(super) fn reached_target(&mut self, of: &TopicPartition) {
        if let Some(targets) = &mut self.targets {
            targets.remove(of);
        }
    }

    pub(super) fn done(&self) -> bool {
        self.targets.as_ref().is_some_and(HashMap::is_empty)
    }

    pub(super) fn begin_shutdown(&mut self) {
        tracing::info!("stopping: closing and publishing what is open");
        self.context.status.set_phase(Phase::Stopping);
        self.stopping = Some(Instant::now() + self.context.pipeline.shutdown_deadline);
        for owned in self.assignment.owned.values_mut() {
            if let Stage::Running(lane) = &mut owned.stage {
                finish(lane, Roll::Shutdown);
            }
        }
    }

    pub(super) fn release_when_flushed(&mut self) {
        let ready = self.assignment.releasing.as_ref().is_some_and(|releasing| releasing.waiting.is_empty() || Instant::now() >= releasing.deadline);
        if let Some(releasing) = self.assignment.releasing.take_if(|_| ready) {
            if !releasing.waiting.is_empty() {
                self.context.status.warn(format!(
                    "{} partitions were not flushed within `source.revoke_deadline`; their next owner reads again what was not committed",
                    releasing.waiting.len()
                ));
            }
            self.send_reports();
            self.release(releasing.partitions);
        }
    }

    pub(super) fn release(&mut self, partitions: Vec<TopicPartition>) {
        let assigned: Vec<TopicPartition> =
            partitions.iter().filter(|of| self.assignment.owned.get(of).is_some_and(|owned| owned.assigned)).cloned().collect();
        for of in &partitions {
            self.assignment.forget(of);
            self.context.status.forget(of);
            self.reports.remove(of);
        }
        self.mark_gone();
        if let Err(error) = self.source.release(&assigned) {
            tracing::warn!(error = %error.chain(), "cannot give partitions back now; the group takes them");
        }
    }
}

/// An error with its way out.
pub(super) fn in_full(error: &Error) -> String {
    error.way_out().map_or_else(|| error.chain(), |hint| format!("{} (hint: {hint})", error.chain()))
}

pub(super) fn finish(lane: &mut LaneHandle, roll: Roll) {
    if !lane.finishing {
        lane.finishing = true;
        // what its transforms still wait for is read again by whoever goes on
        lane.shared.ended.cancel();
        let _ = lane.worker.send(Work::Finish { lane: lane.id, roll });
    }
}
