//! `--until-end`: where the partitions ended when the command began, and whether they have been read up to there.
//!
//! The last offsets of a partition may hold nothing that a consumer is given (markers of transactions, records compacted away
//! or aborted), so a position that stays below the end is looked at from outside: if nothing can be read there, it is the end.

use super::log::{Isolation, Stretch, TopicLog};
use kas3_claimcheck::kafka::{
    Consumer, Position, Rebalance,
    rdkafka::{TopicPartitionList, consumer::Consumer as _},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const ASK: Duration = Duration::from_secs(20);

type Partition = (String, i32);

/// The partitions that are ours, as rebalances tell.
#[derive(Clone, Default)]
pub(super) struct Assigned(Arc<Mutex<Option<HashSet<Partition>>>>);

impl Assigned {
    /// Hears of a rebalance.
    pub(super) fn hear(&self, rebalance: &Rebalance) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = known.get_or_insert_default();
        let (came, of) = match rebalance {
            Rebalance::Assigned(of) => (true, of),
            Rebalance::Revoked(of) | Rebalance::Lost(of) => (false, of),
        };
        for position in of {
            let partition = (position.topic.clone(), position.partition);
            if came {
                ours.insert(partition);
            } else {
                ours.remove(&partition);
            }
        }
    }

    /// Those of these positions that are still ours.
    pub(super) fn of(&self, next: &HashMap<Partition, i64>) -> HashMap<Partition, i64> {
        let ours = self.now().unwrap_or_default();
        next.iter().filter(|(partition, _)| ours.contains(*partition)).map(|(partition, next)| (partition.clone(), *next)).collect()
    }

    /// Whether a record's partition is ours.
    pub(super) fn has(&self, position: &Position) -> bool {
        self.now().is_some_and(|ours| ours.contains(&(position.topic.clone(), position.partition)))
    }

    /// `None` until the group has spoken.
    fn now(&self) -> Option<HashSet<Partition>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Where the partitions ended at the start.
pub(super) struct EndOffsets {
    log: TopicLog,
    ends: BTreeMap<Partition, Stretch>,
    done: HashSet<Partition>,
    /// Where a group begins that has committed nothing.
    from_earliest: bool,
}

impl EndOffsets {
    /// Asks where all partitions of the topics end now.
    ///
    /// # Errors
    /// When a topic does not exist, or Kafka does not answer.
    pub(super) fn ask(kafka: &BTreeMap<String, String>, topics: &[String], servers: &str) -> anyhow::Result<EndOffsets> {
        let committed = kafka.get("isolation.level").is_none_or(|level| level == "read_committed");
        let log = TopicLog::connect(kafka, if committed { Isolation::Committed } else { Isolation::Everything }, servers)?;
        let mut ends = BTreeMap::new();
        for (topic, count) in log.topics(topics)? {
            for partition in 0..count {
                ends.insert((topic.clone(), partition), log.bounds(&topic, partition)?);
            }
        }
        let from_earliest = kafka.get("auto.offset.reset").is_some_and(|reset| ["earliest", "smallest", "beginning"].contains(&reset.as_str()));
        Ok(EndOffsets { log, ends, done: HashSet::new(), from_earliest })
    }

    /// Whether all partitions that are ours have been read up to their ends. `reached` holds the offsets after what was handed
    /// out. To be asked when nothing came.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub(super) fn reached(&mut self, consumer: &Consumer, assigned: &Assigned, reached: &HashMap<Partition, i64>) -> anyhow::Result<bool> {
        let Some(ours) = assigned.now() else { return Ok(false) };
        let open: Vec<Partition> = ours.into_iter().filter(|of| self.ends.contains_key(of) && !self.done.contains(of)).collect();
        let unknown: Vec<&Partition> = open.iter().filter(|of| !reached.contains_key(*of)).collect();
        let committed = committed(consumer, &unknown)?;
        for of in &open {
            let Stretch { first, next: end, .. } = self.ends[of];
            let begin = if self.from_earliest { first } else { end };
            let next = reached.get(of).or_else(|| committed.get(of)).copied().unwrap_or(begin).max(first);
            if next >= end || !self.holds(of, next, end)? {
                self.done.insert(of.clone());
            }
        }
        Ok(open.iter().all(|of| self.done.contains(of)))
    }

    /// Whether any record can be read there.
    fn holds(&self, (topic, partition): &Partition, first: i64, next: i64) -> anyhow::Result<bool> {
        let mut found = false;
        self.log.read(topic, &[Stretch { partition: *partition, first, next }], &mut |_| {
            found = true;
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

fn committed(consumer: &Consumer, of: &[&Partition]) -> anyhow::Result<HashMap<Partition, i64>> {
    if of.is_empty() {
        return Ok(HashMap::new());
    }
    let mut list = TopicPartitionList::with_capacity(of.len());
    for (topic, partition) in of {
        list.add_partition(topic, *partition);
    }
    let answer = consumer.client().committed_offsets(list, ASK);
    let answer = answer.map_err(|error| kas3_claimcheck::kafka::error_of_kafka("the group's offsets cannot be asked for", error))?;
    let elements = answer.elements();
    let known =
        elements.iter().filter_map(|each| Some(((each.topic().to_owned(), each.partition()), each.offset().to_raw().filter(|next| *next >= 0)?)));
    Ok(known.collect())
}
