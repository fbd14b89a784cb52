//! What a consumer does with partitions besides reading them: pausing, looking where it stands, storing offsets, asking the brokers.

use super::Consumer;
use crate::{
    Error, Kind, Result,
    kafka::{
        client, lock, names,
        records::{Partition, Position, list_of},
    },
};
use rdkafka::{Offset, consumer::Consumer as _, metadata::Metadata, topic_partition_list::TopicPartitionList};
use std::{collections::HashMap, time::Duration};

/// Seeking back what was read ahead of a partition that is paused.
const SEEK_WAIT: Duration = Duration::from_secs(30);

fn list(partitions: &[(String, i32)]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in partitions {
        names::check_topic(topic)?;
        list.add_partition(topic, *partition);
    }
    Ok(list)
}

impl Consumer {
    /// Reads no more of these partitions until [`Consumer::resume`]: nothing of them is handed out, not even what was read ahead. The
    /// consumer stays in its group and keeps them.
    ///
    /// # Errors
    /// `Config` for partitions that are not assigned; those of Kafka.
    pub fn pause(&self, partitions: &[(String, i32)]) -> Result<()> {
        let failed = |error| client::error_of_kafka("partitions cannot be paused", error);
        self.check_assigned(partitions)?;
        self.kafka.pause(&list(partitions)?).map_err(failed)?;
        lock(&self.state).paused_by_caller.extend(partitions.iter().cloned());
        for (topic, partition) in partitions {
            // what was read ahead is read again afterwards: here it would hold memory that others wait for
            let first = {
                let mut state = lock(&self.state);
                let of_it = |position: &Position| position.topic == *topic && position.partition == *partition;
                let first = state.ahead.iter().find(|ahead| of_it(&ahead.position)).map(|ahead| ahead.position.offset);
                state.ahead.retain(|ahead| !of_it(&ahead.position));
                first
            };
            if let Some(offset) = first {
                let sought = self.kafka.seek(topic, *partition, Offset::Offset(offset), SEEK_WAIT);
                sought.map_err(|error| client::error_of_kafka("a paused partition cannot be sought back", error))?;
            }
        }
        Ok(())
    }

    /// Reads paused partitions on, from where they were.
    ///
    /// # Errors
    /// `Config` for partitions that are not assigned; those of Kafka.
    pub fn resume(&self, partitions: &[(String, i32)]) -> Result<()> {
        self.check_assigned(partitions)?;
        let full = {
            let mut state = lock(&self.state);
            for partition in partitions {
                state.paused_by_caller.remove(partition);
            }
            state.paused
        };
        if full {
            // they are read on with the others, when there is room
            return Ok(());
        }
        self.kafka.resume(&list(partitions)?).map_err(|error| client::error_of_kafka("partitions cannot be read on", error))
    }

    fn check_assigned(&self, partitions: &[(String, i32)]) -> Result<()> {
        let ours = self.kafka.assignment().map_err(|error| client::error_of_kafka("the assignment is not known", error))?;
        for (topic, partition) in partitions {
            names::check_topic(topic)?;
            if ours.find_partition(topic, *partition).is_none() {
                return Err(Error::new(Kind::Config, format!("partition {partition} of `{topic}` is not assigned to this consumer"))
                    .hint("look at `assignment()`; a group assigns partitions while `poll` runs"));
            }
        }
        Ok(())
    }

    /// Of these partitions those that the caller has not paused.
    pub(super) fn without_paused(&self, partitions: &TopicPartitionList) -> TopicPartitionList {
        let state = lock(&self.state);
        let mut others = TopicPartitionList::new();
        for each in partitions.elements() {
            if !state.paused_by_caller.contains(&(each.topic().to_owned(), each.partition())) {
                others.add_partition(each.topic(), each.partition());
            }
        }
        others
    }

    /// For each partition the offset after the newest record that was handed out; `None` before the first one.
    pub fn position(&self, partitions: &[(String, i32)]) -> Vec<Option<i64>> {
        let state = lock(&self.state);
        partitions.iter().map(|partition| state.next.get(partition).copied()).collect()
    }

    /// What a commit commits: what the caller stored, if it stores itself, else what was handed out.
    pub(super) fn to_commit(&self) -> HashMap<Partition, i64> {
        let state = lock(&self.state);
        if self.stores_itself { state.stored.clone() } else { state.next.clone() }
    }

    /// Says which offsets the next commit commits, for each partition that of the next record to read. For callers that have set
    /// `enable.auto.offset.store` to false.
    ///
    /// # Errors
    /// `Config` when offsets are stored automatically; those of Kafka.
    pub fn store_next(&self, next: &HashMap<(String, i32), i64>) -> Result<()> {
        if !self.stores_itself {
            return Err(Error::new(Kind::Config, "offsets are stored when the next record is asked for, so none can be stored by hand")
                .hint("set `enable.auto.offset.store` to false"));
        }
        for (topic, _) in next.keys() {
            names::check_topic(topic)?;
        }
        self.kafka.store_offsets(&list_of(next)).map_err(|error| client::error_of_kafka("offsets were not stored", error))?;
        lock(&self.state).stored.extend(next.iter().map(|(partition, next)| (partition.clone(), *next)));
        Ok(())
    }

    /// Leaves the subscription; its partitions are given back within the next polls.
    pub fn unsubscribe(&self) {
        self.kafka.unsubscribe();
        lock(&self.state).ahead.clear();
    }

    /// The offsets that the group has committed; `None` where there is none.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn committed(&self, partitions: &[(String, i32)], timeout: Duration) -> Result<Vec<Option<i64>>> {
        let failed = |error| client::error_of_kafka("the committed offsets are not known", error);
        let known = self.kafka.committed_offsets(list(partitions)?, timeout).map_err(failed)?;
        known.elements().iter().map(|each| each.error().map(|()| offset_of(each.offset())).map_err(failed)).collect()
    }

    /// For each partition the offset of its first record from a time on (milliseconds since 1970); `None` where there is none yet.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn offsets_for_times(&self, times: &[(String, i32, i64)], timeout: Duration) -> Result<Vec<Option<i64>>> {
        let failed = |error| client::error_of_kafka("the offsets for these times are not known", error);
        let mut asked = TopicPartitionList::new();
        for (topic, partition, time) in times {
            names::check_topic(topic)?;
            asked.add_partition_offset(topic, *partition, Offset::Offset(*time)).map_err(failed)?;
        }
        let known = self.kafka.offsets_for_times(asked, timeout).map_err(failed)?;
        known.elements().iter().map(|each| each.error().map(|()| offset_of(each.offset())).map_err(failed)).collect()
    }

    /// Offset of the oldest record of a partition, and the one after its newest.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn watermarks(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(i64, i64)> {
        names::check_topic(topic)?;
        let asked = self.kafka.fetch_watermarks(topic, partition, timeout);
        asked.map_err(|error| client::error_of_kafka(&format!("the offsets of `{topic}` [{partition}] are not known"), error))
    }

    /// What the brokers know of one topic, or of all.
    ///
    /// # Errors
    /// Those of Kafka; `Record` for a name that no topic can have.
    pub fn metadata(&self, topic: Option<&str>, timeout: Duration) -> Result<Metadata> {
        if let Some(topic) = topic {
            names::check_topic(topic)?;
        }
        self.kafka.fetch_metadata(topic, timeout).map_err(|error| client::error_of_kafka("the topics are not known", error))
    }

    /// The cluster's id, if the brokers tell one within `timeout`.
    pub fn cluster_id(&self, timeout: Duration) -> Option<String> {
        self.kafka.client().fetch_cluster_id(timeout)
    }

    /// Offsets as a list that transactions take.
    ///
    /// # Errors
    /// `Record` for names and offsets that cannot be.
    pub fn offsets(next: &[(String, i32, i64)]) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (topic, partition, next) in next {
            names::check_topic(topic)?;
            let wrong = |error| Error::new(Kind::Record, format!("{next} is no offset of `{topic}` [{partition}]")).source(error);
            list.add_partition_offset(topic, *partition, Offset::Offset(*next)).map_err(wrong)?;
        }
        Ok(list)
    }
}

fn offset_of(offset: Offset) -> Option<i64> {
    if let Offset::Offset(offset) = offset { Some(offset) } else { None }
}
