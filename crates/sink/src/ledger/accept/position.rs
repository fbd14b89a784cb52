//! Where a partition goes on: gaps, and incarnations that begin anew.

use super::{Now, begun, needs_next};
use crate::{
    error::{Error, Kind, Result},
    ledger::{
        Ledger,
        head_writer::HeadWriter,
        stored::{EntryKind, Head, PartitionStart, StartRecord, Why},
    },
    plan::Start,
    span::{Position, TopicPartition},
    stops::accept_command,
};
use jiff::Timestamp;
use std::sync::Arc;

/// How a head and Kafka's log stand to each other.
pub(super) struct Stand {
    now: Now,
    /// The topic, or the cluster, is another one.
    other: bool,
    /// What the consumer group says, where that is further than the head.
    reported: Option<i64>,
    /// From this offset on the log holds other records than those that were read.
    cut: Option<i64>,
    /// Up to here records of this very log were read.
    read_to: i64,
}

impl Stand {
    /// Whether going on at `next` reads records a second time.
    fn is_again(&self, next: i64) -> bool {
        !self.other && next < self.read_to
    }
}

/// An incarnation that may be begun.
enum Incarnation {
    /// Its start record is there.
    There(Arc<StartRecord>),
    /// It has this number, and begins like an older one of the same topic.
    New(u32, Option<Arc<StartRecord>>),
}

impl Ledger {
    /// A start record above `above` that belongs to Kafka as it is now: the newest, or the number of a new one.
    async fn incarnation_above(&self, of: &TopicPartition, above: Option<u32>, now: &Now) -> Result<Incarnation> {
        let newest = self.newest_incarnation(of).await?;
        let record = match newest {
            Some(newest) => self.start_record(of, newest).await?,
            None => None,
        };
        let fits = record.filter(|record| now.is_of(&record.cluster_id, record.topic_id.as_deref()));
        if let Some(record) = fits.as_ref().filter(|record| above.is_some_and(|above| record.incarnation > above)) {
            return Ok(Incarnation::There(Arc::clone(record)));
        }
        let mut number = newest.max(above).map_or(1, |highest| highest.saturating_add(1));
        while !self.starts(of, number).await? {
            // `orders.1.json` is the first start of a topic `orders.1`
            number = number.saturating_add(1);
        }
        Ok(Incarnation::New(number, fits))
    }

    /// A start record above `above` that belongs to Kafka as it is now: the newest, or a new one in which this partition
    /// begins at `start`.
    pub(super) async fn new_incarnation(&self, of: &TopicPartition, above: Option<u32>, now: &Now, start: Option<i64>) -> Result<Arc<StartRecord>> {
        loop {
            let (number, like) = match self.incarnation_above(of, above, now).await? {
                Incarnation::There(record) => return Ok(record),
                Incarnation::New(number, like) => (number, like),
            };
            let (topic_id, cluster_id) = (now.topic_id.clone(), now.cluster_id.clone());
            let mut record = match &like {
                Some(record) => StartRecord { incarnation: number, topic_id, cluster_id, written_at: Timestamp::now(), ..StartRecord::clone(record) },
                None => {
                    let starts = self.patiently(of, "resolve the start", || self.log.resolve_start(&of.topic, &Start::Earliest)).await?;
                    let partitions = (0..).zip(starts).map(|(partition, start)| PartitionStart::new(partition, start)).collect();
                    self.new_start_record(of, number, topic_id, cluster_id, partitions)
                }
            };
            if let Some(start) = start {
                record.move_start(of.partition, start);
            }
            self.create_start_record(of, &record).await?;
            // Read back, so that of two people at once both take the one that is there.
            if let Some(record) = self.start_record(of, number).await?.filter(|record| now.is_of(&record.cluster_id, record.topic_id.as_deref())) {
                return Ok(record);
            }
        }
    }

    /// Going back without a word that says so: what it would read a second time, and under which names.
    pub(super) async fn going_back(
        &self,
        of: &TopicPartition,
        now: &Now,
        above: Option<u32>,
        first: i64,
        read_to: i64,
        head: Option<&Head>,
    ) -> Result<Error> {
        let number = match self.incarnation_above(of, above, now).await? {
            Incarnation::There(record) => record.incarnation,
            Incarnation::New(number, _) => number,
        };
        let counted = match head {
            Some(head) => match self.written_between(head, first, read_to).await {
                Err(error) if error.kind() == Kind::Stopped => None,
                counted => Some(counted?),
            },
            None => None,
        };
        let (records, exact) = counted.unwrap_or((read_to.saturating_sub(first).unsigned_abs(), false));
        let records = format!("{}{records} record{}", if exact { "" } else { "up to " }, if records == 1 { "" } else { "s" });
        let extension = self.pipeline.plan(&of.topic).format.extension();
        let text = format!(
            "partition `{of}` was read up to {read_to}: going on from {first} reads {records} (offsets {first} to {}) a second time, into files whose \
             names end in `-i{number}.{extension}`; those that are in files stay there, too",
            read_to - 1
        );
        Ok(Error::new(Kind::Config, text).hint(format!("if that is what you want: `{}`", accept_command(of, &format!("--next {first} --again")))))
    }

    /// Records that spans of the head's topic wrote of `[first, next)`, and whether that is their very number.
    async fn written_between(&self, head: &Head, first: i64, next: i64) -> Result<(u64, bool)> {
        let (mut records, mut exact) = (0, true);
        let other_before = head.begun.iter().filter(|begun| begun.why == Why::OtherTopic).map(|begun| begun.incarnation).max();
        let mut history = self.walk(head).await?.with_pending();
        while let Some(entries) = history.page().await? {
            for entry in entries.iter().filter(|entry| other_before.is_none_or(|begun| entry.incarnation >= begun)) {
                let span = entry.span();
                let within = span.next.min(next).saturating_sub(span.first.max(first)).max(0).unsigned_abs();
                let whole = span.next.saturating_sub(span.first).unsigned_abs();
                records += entry.counts.written.min(within);
                exact &= within == 0 || within == whole || entry.counts.written == whole;
            }
        }
        let offsets = next.saturating_sub(first).unsigned_abs();
        Ok((records.min(offsets), exact && records <= offsets))
    }
}

impl HeadWriter {
    /// How head and log stand to each other.
    pub(super) async fn stand(&self) -> Result<Stand> {
        let ledger = &self.ledger;
        let now = ledger.kafka_now(&self.of).await?;
        let at = self.head.next;
        let other = !now.is_of(&self.head.cluster_id, self.head.topic_id.as_deref());
        let ours = now.reported.as_ref().filter(|(_, origin)| origin.ledger == ledger.ledger.url() && origin.incarnation == self.head.incarnation);
        let reported = ours.map(|(report, _)| report.next).filter(|next| *next > at && !other);
        let cut = if other { None } else { ledger.cut_of(&self.of, &self.head).await?.or((now.end < at).then_some(now.end)) };
        let read_to = reported.unwrap_or(at);
        Ok(Stand { other, reported, cut, read_to: cut.map_or(read_to, |cut| cut.min(read_to)), now })
    }

    /// The same, with a look at whether `next` can be, and may be.
    pub(super) async fn stand_checked(&self, next: i64, again: bool) -> Result<Stand> {
        let stand = self.stand().await?;
        stand.now.check(&self.of, next)?;
        if !again && stand.is_again(next) {
            let above = Some(self.head.incarnation);
            return Err(self.ledger.going_back(&self.of, &stand.now, above, next, stand.read_to, Some(&self.head)).await?);
        }
        Ok(stand)
    }

    pub(super) async fn accept_position(&mut self, stand: &Stand, next: Option<i64>, decisions: &mut Vec<String>) -> Result<()> {
        let (now, at) = (&stand.now, self.head.next);
        if stand.other {
            return self.begin_anew(stand, next, Why::OtherTopic, decisions).await;
        }
        if let (Some(reported), None) = (stand.reported, next) {
            return Err(needs_next(&self.of, now, &format!("the head says {at} of partition"), "and is older than the last report", Some(reported)));
        }
        match next {
            Some(next) if stand.is_again(next) => self.begin_anew(stand, Some(next), Why::Again, decisions).await,
            next if stand.cut.is_some() => {
                let from = stand.cut.map(|cut| cut.max(now.earliest));
                self.begin_anew(stand, from, Why::CutBack, decisions).await?;
                match next.filter(|next| *next > self.head.next) {
                    Some(next) => self.record_gap(now, next, "skipped by request", decisions).await,
                    None => Ok(()),
                }
            }
            Some(next) if stand.reported.is_some() => self.begin_anew(stand, Some(next), Why::Lost, decisions).await,
            Some(next) if next > at => self.record_gap(now, next, "skipped by request", decisions).await,
            _ if now.earliest > at => self.record_gap(now, now.earliest, "Kafka deleted the records before they were read", decisions).await,
            _ => Ok(()),
        }
    }

    async fn record_gap(&mut self, now: &Now, next: i64, reason: &str, decisions: &mut Vec<String>) -> Result<()> {
        now.check(&self.of, next)?;
        let to = Position { next, leader_epoch: -1 };
        let mut gap = self.entry_between(EntryKind::Gap, self.head.next, to);
        gap.reason = Some(reason.to_owned());
        decisions.push(format!("offsets {} to {} are recorded as a gap: {reason}", self.head.next, next - 1));
        let mut head = self.with_history(Some(gap)).await?;
        head.next = next;
        head.leader_epoch = -1;
        self.swap(head, "accept").await
    }

    async fn begin_anew(&mut self, stand: &Stand, start: Option<i64>, why: Why, decisions: &mut Vec<String>) -> Result<()> {
        let now = &stand.now;
        if let Some(start) = start {
            now.check(&self.of, start)?;
        }
        let record = self.ledger.new_incarnation(&self.of, Some(self.head.incarnation), now, start).await?;
        let start = start.unwrap_or_else(|| record.start(self.of.partition));
        let read_to = if why == Why::Again { stand.read_to } else { stand.reported.unwrap_or(self.head.next) };
        let mut head = self.with_history(None).await?;
        head.cluster_id.clone_from(&now.cluster_id);
        head.topic_id.clone_from(&now.topic_id);
        head.incarnation = record.incarnation;
        head.start = start;
        head.next = start;
        head.leader_epoch = -1;
        head.begun.push(begun(&head, why, read_to, stand.cut));
        let because = match why {
            Why::Again => format!("offsets {start} to {} are read a second time, as you said", read_to - 1),
            Why::CutBack => "the log was cut back there".to_owned(),
            Why::OtherTopic => "topic or cluster are others".to_owned(),
            Why::Lost => "an older ledger was restored".to_owned(),
        };
        decisions
            .push(format!("incarnation {} begins at offset {start} ({because}); its files end in `-i{}`", record.incarnation, record.incarnation));
        self.swap(head, "accept").await
    }
}
