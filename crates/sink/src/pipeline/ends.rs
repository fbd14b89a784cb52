//! Looks at the other side every few seconds: whether brokers answer, where partitions end, what waits for transactions, and how
//! old what is unread is. What is found goes to the status.

use crate::{
    conditions::{Cause, ConditionKind},
    source::kafka::{End, Ends},
    span::TopicPartition,
    status::{PartitionStatus, State, Status},
};
use jiff::Timestamp;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How often brokers are asked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Partitions whose first unread record is read for its time, in one round: the others have theirs in later ones.
const PEEKS_MAX: usize = 8;

/// How long a look at one record may keep the others waiting.
const PEEK_MAX: Duration = Duration::from_secs(5);

/// What one look leaves for the next.
#[derive(Default)]
struct Seen {
    /// The last stable offset at which each partition waits for a transaction, and since when.
    transactions: HashMap<TopicPartition, (i64, Instant)>,
    /// First unread offsets whose record was looked for.
    peeked: HashSet<(TopicPartition, i64)>,
}

/// Looks until it is dropped.
pub(super) async fn watch(ends: Ends, status: Arc<Status>) {
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let partitions = status.partitions();
        let (asked, asked_ms) = (Instant::now(), Timestamp::now().as_millisecond());
        let answers = ends.ask(partitions.iter().map(|(of, _)| of.clone()).collect()).await;
        // what was given away meanwhile is somebody else's
        let ours: BTreeSet<String> = status.partitions().iter().map(|(of, _)| of.to_string()).collect();
        match answers {
            Err(error) => {
                let cause = Cause::new(error.chain(), error.way_out().unwrap_or_default());
                status.conditions().begin(ConditionKind::BrokersUnreachable, ends.servers(), cause, ends.answered());
            }
            Ok(answers) => {
                status.conditions().end(ConditionKind::BrokersUnreachable, ends.servers());
                let mut answered = HashSet::new();
                for ((of, partition), answer) in partitions.iter().zip(answers) {
                    let subject = of.to_string();
                    match answer {
                        Ok(end) => {
                            answered.insert(of.clone());
                            status.conditions().end(ConditionKind::PartitionUnreachable, &subject);
                            partition.ends_at(end.end, end.stable, asked_ms);
                            seen.look_at_transaction(&ends, &status, of, partition, end);
                        }
                        // it waits for a person, and says so; its topic may be gone
                        Err(_) if partition.state().0 == State::Stopped => status.conditions().end(ConditionKind::PartitionUnreachable, &subject),
                        Err(error) => {
                            let hint = "look at the leader of the partition; it goes on by itself once there is one";
                            status.conditions().begin(ConditionKind::PartitionUnreachable, subject, Cause::new(error.chain(), hint), asked);
                        }
                    }
                }
                let answered: Vec<_> = partitions.into_iter().filter(|(of, _)| answered.contains(of)).collect();
                seen.peek(&ends, &answered).await;
            }
        }
        status.conditions().keep(&[ConditionKind::PartitionUnreachable, ConditionKind::TransactionOpen], &ours);
        seen.transactions.retain(|of, _| ours.contains(&of.to_string()));
    }
}

impl Seen {
    /// A transaction holds back what is next when everything stable is read and there is more.
    fn look_at_transaction(&mut self, ends: &Ends, status: &Status, of: &TopicPartition, partition: &PartitionStatus, end: End) {
        let (conditions, subject) = (status.conditions(), of.to_string());
        let waits = end.end > end.stable && partition.position.load(Ordering::Relaxed) >= end.stable;
        let before = self.transactions.get(of).copied();
        if before.is_some_and(|(stable, _)| !waits || stable != end.stable) {
            self.transactions.remove(of);
            conditions.end(ConditionKind::TransactionOpen, &subject);
        }
        if !waits {
            return;
        }
        let (_, since) = *self.transactions.entry(of.clone()).or_insert((end.stable, Instant::now()));
        let reason = format!("{} offsets from {} on are behind it", end.end - end.stable, end.stable);
        let hint = format!(
            "`kafka-transactions.sh --bootstrap-server {} describe-producers --topic {} --partition {}` names its producer; it ends by itself, by \
             `transaction.timeout.ms` at the latest",
            ends.servers(),
            of.topic,
            of.partition
        );
        conditions.begin(ConditionKind::TransactionOpen, subject, Cause::new(reason, hint), since);
    }

    /// Looks at the first unread records of partitions that do not move, for their times.
    async fn peek(&mut self, ends: &Ends, partitions: &[(TopicPartition, Arc<PartitionStatus>)]) {
        let waiting = partitions.iter().filter_map(|(of, partition)| Some((of, partition, partition.unread_without_time(ASK_EVERY)?)));
        let mut places: HashSet<(TopicPartition, i64)> = HashSet::new();
        let mut peeks = 0;
        for (of, partition, first) in waiting {
            let place = (of.clone(), first);
            if self.peeked.contains(&place) {
                places.insert(place);
                continue;
            }
            if peeks == PEEKS_MAX {
                continue;
            }
            peeks += 1;
            let looked = ends.first_timestamp(of.clone(), first, partition.end.load(Ordering::Relaxed));
            match tokio::time::timeout(PEEK_MAX, looked).await {
                Ok(Ok(Some(timestamp_ms))) => partition.first_unread_at(first, timestamp_ms),
                Ok(Ok(None)) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(partition = %of, first, error = %error.chain(), "cannot look at the first unread record"),
            }
            places.insert(place);
        }
        self.peeked = places;
    }
}
