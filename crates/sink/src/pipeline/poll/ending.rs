//! How lanes end: finished, failed, stopped, given back to the group.

use super::Loop;
use crate::{
    conditions::{Cause, ConditionKind},
    error::{Error, Kind},
    pipeline::{
        LaneId, Left, Unflushed,
        assignment::{Behind, LaneHandle, REOPEN_MAX, REOPEN_MIN, Stage},
        worker::Work,
    },
    span::{Roll, TopicPartition},
    status::Phase,
};
use std::{collections::HashMap, sync::atomic::Ordering, time::Instant};

impl Loop {
    pub(super) fn lane_ended(&mut self, id: LaneId, failure: Option<Error>) {
        let Some(of) = self.assignment.of_lane(id) else { return };
        let Some(owned) = self.assignment.owned.get_mut(&of) else { return };
        if let Stage::Running(lane) = std::mem::replace(&mut owned.stage, Stage::Finished) {
            lane.drop_now();
        }
        let committed = owned.status.committed.load(Ordering::Relaxed);
        let leaving = self.stopping.is_some() || self.assignment.releasing.as_ref().is_some_and(|releasing| releasing.partitions.contains(&of));
        if let Some(releasing) = self.assignment.releasing.as_mut() {
            releasing.waiting.remove(&id);
        }
        // what somebody else has moved on is theirs
        if failure.as_ref().is_some_and(|error| error.kind() != Kind::Fenced) && self.stopping.is_some() {
            self.note_unflushed(&of);
        }
        match failure {
            None if leaving => {}
            None => self.reached_target(&of),
            Some(error) if matches!(error.kind(), Kind::Fenced | Kind::Transient) => {
                if !leaving {
                    // while something wider is wrong, that is told, once for all
                    match self.context.status.conditions().explained() {
                        true => tracing::debug!(partition = %of, error = %error.chain(), "opening it again"),
                        false => self.context.status.warn(format!("`{of}`: {}; opening it again", error.chain())),
                    }
                    self.reopen(&of);
                }
            }
            Some(error) => {
                let behind = error.offset().map_or(Behind::Commit(committed), Behind::Record);
                self.stopped(&of, &error, behind);
            }
        }
    }

    /// Of this partition something was read that is not published, and it is too late for that.
    fn note_unflushed(&mut self, of: &TopicPartition) {
        let Some(owned) = self.assignment.owned.get(of) else { return };
        let [next, position] = [&owned.status.committed, &owned.status.position].map(|offset| offset.load(Ordering::Relaxed));
        if position > next && !self.unflushed.iter().any(|unflushed| unflushed.of == *of) {
            self.unflushed.push(Unflushed { of: of.clone(), next, position });
        }
    }

    /// What is not done at the end of a shutdown.
    pub(super) fn left(&mut self) -> Left {
        let running: Vec<TopicPartition> =
            self.assignment.owned.iter().filter(|(_, owned)| matches!(owned.stage, Stage::Running(_))).map(|(of, _)| of.clone()).collect();
        for of in &running {
            self.note_unflushed(of);
        }
        let unflushed = std::mem::take(&mut self.unflushed);
        if !unflushed.is_empty() {
            self.context.status.warn(format!(
                "{} partitions were not flushed within `shutdown_deadline`; what was not committed is read again at the next start",
                unflushed.len()
            ));
        }
        let stopped = std::mem::take(&mut self.stopped).into_iter().collect();
        Left { stopped, unflushed, before_end: self.targets.as_ref().is_some_and(|targets| !targets.is_empty()) }
    }

    pub(super) fn stopped(&mut self, of: &TopicPartition, error: &Error, behind: Behind) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        owned.stops += 1;
        owned.stop = Some(behind);
        let wait = (REOPEN_MIN * 2_u32.saturating_pow(owned.stops - 1)).min(REOPEN_MAX);
        owned.stage = Stage::Stopped(Instant::now() + wait);
        let reason = in_full(error);
        owned.status.gets_on();
        owned.status.stop(&error.chain(), error.way_out());
        self.stopped.insert(of.clone(), reason);
        if self.targets.is_some() {
            self.reached_target(of);
        }
    }

    /// What stopped the partition is behind it.
    pub(super) fn goes_on(&mut self, of: &TopicPartition) {
        let Some(owned) = self.assignment.owned.get_mut(of) else { return };
        (owned.stops, owned.stop) = (0, None);
        owned.status.goes_on();
        self.stopped.remove(of);
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
            if self.targets.is_none() {
                self.stopped.remove(of);
            }
        }
        self.mark_gone();
        if let Err(error) = self.source.release(&assigned) {
            tracing::warn!(error = %error.chain(), "cannot give partitions back now; the group takes them");
        }
        if self.assignment.owned.is_empty() && self.stopping.is_none() {
            self.await_group();
        }
    }

    /// From now on the group has to give us partitions before anything is read.
    pub(super) fn await_group(&self) {
        if self.topics.is_empty() {
            return;
        }
        let pipeline = &self.context.pipeline;
        let session = pipeline.kafka.get("session.timeout.ms").map_or("45000", String::as_str);
        let reason = format!(
            "a member that died keeps its partitions until its session ends (`session.timeout.ms`: {session}), one that is slow until it has flushed \
             them, and others may have them all"
        );
        let servers = pipeline.kafka.get("bootstrap.servers").map_or("", String::as_str);
        let hint =
            format!("`kafka-consumer-groups.sh --bootstrap-server {servers} --describe --members --group {}` names the members", pipeline.group);
        self.context.status.conditions().begin(ConditionKind::GroupAwaited, pipeline.group.as_str(), Cause::new(reason, hint), Instant::now());
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
