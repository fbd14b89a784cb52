//! Looks whether every partition has an owner in the group, on behalf of static members under `cooperative-sticky`.
//!
//! A cooperative group gives a partition away in two rebalances: in the first it is taken from its old owner, and when that one has
//! let go and joins again, the second gives it to the new one. A static member that dies between the two and comes back in time
//! gets the share of the first without a rebalance, and Kafka waits for nothing: the partition belongs to nobody until somebody
//! joins or leaves. So whoever might come back like that looks at the group, and has it rebalance.

use super::{KafkaLog, native::Member};
use crate::{plan::Pipeline, span::TopicPartition};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

/// How soon after the start the group is looked at for the first time.
const FIRST: Duration = Duration::from_secs(1);
/// How often at most the group is looked at while all is well.
const RARELY_MIN: Duration = Duration::from_secs(10);
/// `session.timeout.ms` where the user set none.
const SESSION: Duration = Duration::from_secs(45);
/// Added to the time that an owner may take to flush what it gives away.
const FLUSHED: Duration = Duration::from_secs(2);
/// Looks in a row that must find a partition without an owner.
const LOOKS: usize = 2;
/// The longest pause after a rebalance that did not help.
const AGAIN_MAX: Duration = Duration::from_secs(600);

/// Watches whether the partitions of a pipeline have owners.
pub struct Owners {
    log: Arc<KafkaLog>,
    found: Found,
}

impl Owners {
    /// `None` where no partition is left alone like this: without `group.instance.id`, under an eager protocol (which takes and
    /// gives in one rebalance), and under KIP-848 (whose broker does both).
    pub(super) fn new(log: Arc<KafkaLog>, pipeline: &Pipeline) -> Option<Owners> {
        let property = |name: &str| pipeline.kafka.get(name).map(String::as_str);
        let instance = property("group.instance.id")?.to_owned();
        let classic = property("group.protocol") != Some("consumer");
        let cooperative = property("partition.assignment.strategy").is_none_or(|strategy| strategy.contains("cooperative"));
        let session = property("session.timeout.ms").and_then(|ms| ms.parse().ok()).map_or(SESSION, Duration::from_millis);
        let found = Found::new(instance, pipeline.revoke_deadline + FLUSHED, session.max(RARELY_MIN));
        (classic && cooperative).then_some(Owners { log, found })
    }

    /// Calls `orphaned` whenever this worker should have the group rebalance, with the partitions that need it. Never ends.
    pub async fn watch(mut self, orphaned: impl Fn(Vec<TopicPartition>) + Send) {
        loop {
            tokio::time::sleep(self.found.next).await;
            match self.log.shares().await {
                Ok(Some((partitions, members))) => {
                    let orphans = self.found.look(partitions, &members);
                    if !orphans.is_empty() {
                        orphaned(orphans);
                    }
                }
                Ok(None) => self.found.rebalances(),
                Err(error) => {
                    tracing::debug!(error = %error.chain(), "cannot look at the group now");
                    self.found.unknown();
                }
            }
        }
    }
}

/// What one worker's looks at the group have found.
struct Found {
    instance: String,
    /// Between looks while some partition has no owner: whoever gives one away has let go of it in that time.
    soon: Duration,
    /// Between looks while all have.
    rarely: Duration,
    /// Until the next look.
    next: Duration,
    /// Without an owner in so many looks in a row.
    suspects: BTreeSet<TopicPartition>,
    looks: usize,
    /// Rebalances since all had owners.
    vain: u32,
}

impl Found {
    fn new(instance: String, soon: Duration, rarely: Duration) -> Self {
        Found { instance, soon, rarely, next: FIRST, suspects: BTreeSet::new(), looks: 0, vain: 0 }
    }

    /// Takes in a look at a group that is at rest; answers with the partitions for whose sake we must have it rebalance. Static
    /// members take turns, in the order of their ids, so that not all of them do so at once.
    fn look(&mut self, partitions: BTreeSet<TopicPartition>, members: &[Member]) -> Vec<TopicPartition> {
        let instances = || members.iter().filter_map(|member| member.instance.as_deref());
        if !instances().any(|instance| instance == self.instance) {
            self.unknown();
            return Vec::new();
        }
        let owned: HashSet<&TopicPartition> = members.iter().flat_map(|member| &member.partitions).collect();
        let unowned: BTreeSet<TopicPartition> = partitions.into_iter().filter(|of| !owned.contains(of)).collect();
        if unowned.is_empty() {
            (self.next, self.looks, self.vain) = (self.rarely, 0, 0);
            self.suspects.clear();
            return Vec::new();
        }
        let still: BTreeSet<TopicPartition> = unowned.intersection(&self.suspects).cloned().collect();
        self.looks = if still.is_empty() { 1 } else { self.looks + 1 };
        self.suspects = if still.is_empty() { unowned } else { still };
        self.next = self.soon;
        let turn = instances().filter(|instance| *instance < self.instance.as_str()).count();
        if self.looks < LOOKS + turn {
            return Vec::new();
        }
        self.next = (self.soon * 2_u32.saturating_pow(self.vain.min(16))).min(AGAIN_MAX);
        self.vain += 1;
        self.looks = 0;
        std::mem::take(&mut self.suspects).into_iter().collect()
    }

    /// The group rebalances, so that whatever had no owner may get one.
    fn rebalances(&mut self) {
        self.looks = 0;
        self.suspects.clear();
        self.unknown();
    }

    /// Nothing was learnt: we are no member (yet), or nobody answers.
    fn unknown(&mut self) {
        self.next = (self.next * 2).min(self.rarely);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(7);
    const RARELY: Duration = Duration::from_secs(45);

    fn partitions(numbers: &[i32]) -> Vec<TopicPartition> {
        numbers.iter().map(|number| TopicPartition::new("t", *number)).collect()
    }

    /// What somebody sees to whom the members' shares of the partitions 0 to 3 look like this.
    fn look(found: &mut Found, shares: &[(&str, &[i32])]) -> Vec<TopicPartition> {
        let member = |(instance, share): &(&str, &[i32])| Member {
            instance: Some((*instance).to_owned()),
            partitions: partitions(share),
            ..Member::default()
        };
        found.look(partitions(&[0, 1, 2, 3]).into_iter().collect(), &shares.iter().map(member).collect::<Vec<_>>())
    }

    fn found(instance: &str) -> Found {
        Found::new(instance.to_owned(), SOON, RARELY)
    }

    #[test]
    fn a_partition_that_two_looks_find_without_an_owner_makes_the_group_rebalance() {
        let mut one = found("one");
        assert_eq!(look(&mut one, &[("one", &[0, 1, 2]), ("two", &[])]), []);
        assert_eq!(one.next, SOON);
        assert_eq!(look(&mut one, &[("one", &[0, 1, 2]), ("two", &[])]), partitions(&[3]));
        assert_eq!(look(&mut one, &[("one", &[0, 1, 2]), ("two", &[3])]), []);
        assert_eq!(one.next, RARELY);
    }

    #[test]
    fn partitions_on_their_way_make_no_rebalance() {
        let mut one = found("one");
        for unowned in [3, 0, 3, 0] {
            let share: Vec<i32> = (0..4).filter(|number| *number != unowned).collect();
            assert_eq!(look(&mut one, &[("one", &share)]), [], "each look finds another one");
        }
        assert_eq!(look(&mut one, &[("one", &[0, 1])]), partitions(&[]));
        one.rebalances();
        assert_eq!(look(&mut one, &[("one", &[0, 1])]), [], "the group has rebalanced since");
    }

    #[test]
    fn static_members_take_turns() {
        let mut two = found("two");
        let shares: &[(&str, &[i32])] = &[("one", &[0]), ("two", &[1, 2])];
        assert_eq!(look(&mut two, shares), []);
        assert_eq!(look(&mut two, shares), [], "it is the turn of the other one");
        assert_eq!(look(&mut two, shares), partitions(&[3]), "which did nothing");
    }

    #[test]
    fn a_worker_that_is_no_member_waits_and_one_that_rebalances_in_vain_does_so_ever_more_rarely() {
        let mut one = found("one");
        assert_eq!(look(&mut one, &[("two", &[])]), []);
        assert_eq!(look(&mut one, &[("two", &[])]), []);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert_eq!(look(&mut one, &[("one", &[0, 1, 2])]), []);
            assert_eq!(look(&mut one, &[("one", &[0, 1, 2])]), partitions(&[3]));
            pauses.push(one.next);
        }
        assert_eq!((pauses[0], pauses[1], pauses[9]), (SOON, SOON * 2, AGAIN_MAX));
    }
}
