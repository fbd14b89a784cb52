//! What the configuration asks for and no file holds: partitions that have not begun, offsets that were not read, and those that
//! wait for a transaction to end.

use super::{
    Comparison, Options,
    report::{NotBegun, Report},
};
use crate::{
    error::{Error, Kind, Result},
    ledger::Head,
    source::Identity,
    span::TopicPartition,
    topics::TopicPattern,
};
use std::{collections::BTreeSet, sync::Arc};

/// What of a partition nobody has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    /// Its first offset.
    pub(super) first: i64,
    /// The end of the partition.
    pub(super) end: i64,
    /// Offsets from `first` to `end`; none where they hold no record.
    pub(super) offsets: u64,
    /// Offsets behind an open transaction.
    pub(super) waiting: u64,
}

impl Comparison {
    /// What of a partition is there from `next` on. Records that are produced meanwhile may or may not count.
    pub(super) async fn unread(&self, of: &TopicPartition, next: i64) -> Result<Unread> {
        // in this order: an end that moves between two questions is no open transaction
        let high = self.log.high_watermark(of).await?;
        let (earliest, end) = self.log.bounds(of).await?;
        let first = next.max(earliest);
        if earliest > next {
            self.note(format!(
                "`{of}`: records {next} to {} were deleted before they were read: the partition stops until that is accepted",
                earliest - 1
            ));
        }
        let holds = first < end && self.holds_record(of, first, end).await?;
        let offsets = if holds || earliest > next { end.saturating_sub(next).max(0).unsigned_abs() } else { 0 };
        Ok(Unread { first: next, end, offsets, waiting: high.saturating_sub(end.max(next)).max(0).unsigned_abs() })
    }

    /// Whether there is a record in `[first, next)`: markers of transactions are none, nor is what compaction left.
    async fn holds_record(&self, of: &TopicPartition, first: i64, next: i64) -> Result<bool> {
        let (log, of) = (Arc::clone(&self.log), of.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let (mut at, mut width) = (first, 1);
            let mut found = false;
            while at < next && !found {
                let until = next.min(at + width);
                log.read(&of, at, until, &mut |_| {
                    found = true;
                    Ok(())
                })?;
                (at, width) = (until, width * 4);
            }
            Ok(found)
        });
        looked.await.map_err(|source| Error::new(Kind::Fatal, "look for unread records").source(source))?
    }

    /// Looks for what the configuration asks for and the ledger does not know.
    pub(super) async fn not_begun(&self, heads: &[Head], options: &Options, report: &mut Report) -> Result<()> {
        let there: BTreeSet<String> = self.log.topics().await?.into_iter().collect();
        for pattern in &self.pipeline.topics {
            if let TopicPattern::Name(name) = pattern
                && !there.contains(name)
                && options.topic.as_ref().is_none_or(|topic| topic == name)
            {
                report.absent_topics.push(name.clone());
            }
        }
        for topic in there.iter().filter(|topic| self.pipeline.reads(topic)) {
            let partitions = self.log.partitions(topic).await?;
            let wanted: Vec<TopicPartition> =
                (0..partitions).map(|partition| TopicPartition::new(topic.as_str(), partition)).filter(|of| options.wants(of)).collect();
            if wanted.is_empty() {
                continue;
            }
            let Some(now) = Identity::now(&*self.log, topic).await? else { continue };
            let known = |of: &TopicPartition| heads.iter().find(|head| head.topic == *topic && head.partition == of.partition);
            let of_now = |head: &Head| Identity { cluster_id: head.cluster_id.clone(), topic_id: head.topic_id.clone() }.is_same(&now);
            let new: Vec<TopicPartition> = wanted.into_iter().filter(|of| !known(of).is_some_and(of_now)).collect();
            if new.is_empty() {
                continue;
            }
            let begins = self.ledger.beginnings(topic, partitions).await?;
            for of in new {
                let from = usize::try_from(of.partition).ok().and_then(|partition| begins.get(partition)).copied().unwrap_or(0);
                let why = if known(&of).is_some() {
                    "the ledger knows another topic, or cluster, under this name: the partition stops until that is accepted"
                } else {
                    "no worker opened it yet"
                };
                self.add_not_begun(&of, from, why, report).await?;
            }
        }
        Ok(())
    }

    async fn add_not_begun(&self, of: &TopicPartition, from: i64, why: &str, report: &mut Report) -> Result<()> {
        let (earliest, _) = self.log.bounds(of).await?;
        let Unread { first, end, offsets, waiting } = self.unread(of, from.max(earliest)).await?;
        report.totals.not_begun += offsets;
        report.totals.waiting_for_transaction += waiting;
        report.not_begun.push(NotBegun {
            topic: of.topic.to_string(),
            partition: of.partition,
            from: first,
            end,
            unread: offsets,
            waiting_for_transaction: waiting,
            why: why.to_owned(),
        });
        Ok(())
    }
}
