//! Payloads that are deleted once they were consumed: after the commit of their offsets, here and in all groups that are named.

use super::{
    client,
    leaving::Member,
    lock,
    records::{Partition, Position, positions},
    settings::DeleteSettings,
};
use crate::{ClaimCheck, Reference, Result};
use rdkafka::{
    consumer::{Consumer as _, DefaultConsumerContext},
    topic_partition_list::TopicPartitionList,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::Duration,
};

const GROUP_WAIT: Duration = Duration::from_secs(10);

/// What is to be deleted.
pub(super) struct Deletions {
    settings: DeleteSettings,
    kafka: BTreeMap<String, String>,
    state: Mutex<State>,
    /// Clients by which other groups are asked how far they are.
    groups: Mutex<HashMap<String, Member<DefaultConsumerContext>>>,
}

#[derive(Default)]
struct State {
    /// Handed out and not committed.
    handed_out: HashMap<Partition, BTreeMap<i64, Reference>>,
    /// Committed here, and waited for in other groups.
    due: Vec<(Position, Reference)>,
}

impl Deletions {
    pub(super) fn new(settings: DeleteSettings, kafka: &BTreeMap<String, String>) -> Deletions {
        Deletions { settings, kafka: kas3_kafka::properties_of_client(kafka), state: Mutex::default(), groups: Mutex::default() }
    }

    /// Payloads are deleted at all.
    pub(super) fn are_wanted(&self) -> bool {
        self.settings.after_commit
    }

    /// A record was handed out with the payload of this reference.
    pub(super) fn note(&self, position: &Position, reference: &Reference) {
        if self.settings.after_commit && !reference.shared {
            let mut state = lock(&self.state);
            let partition = (position.topic.clone(), position.partition);
            state.handed_out.entry(partition).or_default().insert(position.offset, reference.clone());
        }
    }

    /// A partition went to somebody who will read its records again.
    pub(super) fn forget(&self, partition: &Partition) {
        lock(&self.state).handed_out.remove(partition);
    }

    /// Nothing more is committed here.
    pub(super) fn forget_all(&self) {
        *lock(&self.state) = State::default();
    }

    /// Deletes what the commit of these offsets made superfluous, here and in the other groups. What cannot be deleted stays.
    pub(super) async fn committed(&self, next: &HashMap<Partition, i64>, claims: &ClaimCheck) {
        let due = self.due(next);
        if due.is_empty() {
            return;
        }
        let passed = self.passed_by_others(&due);
        let (done, waiting): (Vec<_>, Vec<_>) = due.into_iter().zip(passed).partition(|(_, passed)| *passed);
        lock(&self.state).due.extend(waiting.into_iter().map(|(due, _)| due));
        let deletions = done.iter().map(|((_, reference), _)| async move {
            if let Err(error) = claims.delete(reference).await {
                tracing::warn!(key = reference.key, %error, "a consumed payload was not deleted; `kas3 payloads gc` finds it");
            }
        });
        futures::future::join_all(deletions).await;
    }

    /// What is behind this group, and what waited for others before.
    fn due(&self, next: &HashMap<Partition, i64>) -> Vec<(Position, Reference)> {
        let mut state = lock(&self.state);
        let mut due = std::mem::take(&mut state.due);
        for (of, next) in next {
            let Some(handed_out) = state.handed_out.get_mut(of) else { continue };
            let later = handed_out.split_off(next);
            let done = std::mem::replace(handed_out, later);
            let position = |offset| Position { topic: of.0.clone(), partition: of.1, offset };
            due.extend(done.into_iter().map(|(offset, reference)| (position(offset), reference)));
        }
        due
    }

    /// Which of these records all other groups have committed. An unknown answer is no.
    fn passed_by_others(&self, due: &[(Position, Reference)]) -> Vec<bool> {
        let mut passed = vec![true; due.len()];
        for group in &self.settings.other_groups {
            let committed = self.committed_by(group, due);
            if let Err(error) = &committed {
                tracing::warn!(group, error = error.chain(), "how far another group is cannot be asked; payloads stay for now");
            }
            let committed = committed.unwrap_or_default();
            for (passed, (position, _)) in passed.iter_mut().zip(due) {
                let next = committed.get(&(position.topic.clone(), position.partition)).copied().unwrap_or(-1);
                *passed &= next > position.offset;
            }
        }
        passed
    }

    fn committed_by(&self, group: &str, due: &[(Position, Reference)]) -> Result<HashMap<Partition, i64>> {
        let failed = |error| client::error_of_kafka("another group cannot be asked", error);
        let mut groups = lock(&self.groups);
        if !groups.contains_key(group) {
            let mut config = client::config(&self.kafka)?;
            config.set("group.id", group).set("enable.auto.commit", "false");
            groups.insert(group.to_owned(), Member::new(config.create().map_err(failed)?));
        }
        let Some(asked) = groups.get(group) else { return Ok(HashMap::new()) };
        let mut list = TopicPartitionList::new();
        for (position, _) in due {
            if list.find_partition(&position.topic, position.partition).is_none() {
                list.add_partition(&position.topic, position.partition);
            }
        }
        let offsets = asked.committed_offsets(list, GROUP_WAIT).map_err(failed)?;
        let known = positions(&offsets).into_iter().filter(|position| position.offset >= 0);
        Ok(known.map(|position| ((position.topic, position.partition), position.offset)).collect())
    }
}
