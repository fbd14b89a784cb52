//! What a run waits for that it does not do itself: partitions that others own, and topics that are gone.

use super::{Loop, ending::in_full};
use crate::{span::TopicPartition, stops};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long others may own what is still to be read until that is said.
const FIRST: Duration = Duration::from_secs(10);
/// How often it is said again at most.
const AGAIN: Duration = Duration::from_secs(60);

/// Since when a run waits for others, and when that was last said.
#[derive(Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Loop {
    /// With `--until-end`: says who has the partitions that are still to be read and are not ours.
    pub(super) fn say_waiting(&mut self) {
        let others = self.waited_for();
        if others.is_empty() {
            // in any case: an answer may have come late
            self.context.status.set_waiting(&self.context.pipeline.group, None);
            self.waiting = Waiting::default();
            return;
        }
        let since = *self.waiting.since.get_or_insert_with(Instant::now);
        if since.elapsed() < FIRST || self.waiting.said.is_some_and(|said| said.elapsed() < AGAIN) {
            return;
        }
        self.waiting.said = Some(Instant::now());
        let Some(log) = self.context.group.clone() else { return };
        let (status, pipeline) = (Arc::clone(&self.context.status), Arc::clone(&self.context.pipeline));
        self.context.runtime.spawn(async move {
            let count = match others.len() {
                1 => "1 partition is".to_owned(),
                count => format!("{count} partitions are"),
            };
            let text = match log.group().await {
                Ok(group) => {
                    let owners = group.owners_of(&others);
                    status.set_strangers(&pipeline.group, &group.strangers.iter().map(ToString::to_string).collect::<Vec<_>>());
                    format!("{count} still to be published, and not by this process: {owners}")
                }
                Err(error) => format!("{count} still to be published; the group does not say by whom: {}", error.chain()),
            };
            status.set_waiting(&pipeline.group, Some((text, since)));
        });
    }

    fn waited_for(&self) -> Vec<TopicPartition> {
        let Some(targets) = self.targets.as_ref().filter(|_| self.assignment.assigning.is_none() && self.stopping.is_none()) else {
            return Vec::new();
        };
        let mut others: Vec<TopicPartition> = targets.keys().filter(|of| !self.assignment.owned.contains_key(of)).cloned().collect();
        others.sort();
        others
    }

    /// Takes note of the topics that do not exist any more.
    pub(in crate::pipeline) fn note_gone(&mut self, gone: BTreeMap<String, Vec<TopicPartition>>) {
        for (topic, partitions) in &gone {
            if let (false, Some(of)) = (self.gone.contains_key(topic), partitions.first()) {
                let error = stops::gone(of);
                tracing::error!(
                    topic,
                    hint = error.way_out().unwrap_or_default(),
                    "topic `{topic}` does not exist any more; its partitions are stopped, the other topics go on"
                );
            }
        }
        for (topic, partitions) in std::mem::replace(&mut self.gone, gone) {
            if !self.gone.contains_key(&topic) {
                tracing::info!(topic, "topic `{topic}` exists again");
                for of in partitions.iter().filter(|of| !self.assignment.owned.contains_key(of)) {
                    self.context.status.forget(of);
                    self.stopped.remove(of);
                }
            }
        }
        self.mark_gone();
    }

    /// Shows partitions of topics that are gone as stopped: nobody is given them any more. Those that are still ours say so themselves.
    pub(super) fn mark_gone(&mut self) {
        let partitions: Vec<TopicPartition> = self.gone.values().flatten().filter(|of| !self.assignment.owned.contains_key(of)).cloned().collect();
        for of in partitions {
            let error = stops::gone(&of);
            self.context.status.partition(&of).stop(&error.chain(), error.way_out());
            if self.targets.is_some() {
                self.reached_target(&of);
            }
            self.stopped.insert(of, in_full(&error));
        }
    }
}
