//! The head: the one object per partition that says how far it is. It changes only by compare-and-swap.
//!
//! Everything that is read here comes from outside: sizes are limited by the reader, and [`Head::decode`] refuses what cannot
//! be. Fields and words that this version does not know are kept when the head is written again, so that old and new workers can
//! share a ledger.

use super::{Begun, Entry, Unusable, check_chain, check_version, instant, segment::check_segment_name};
use crate::span::{Position, TopicPartition};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest head that is read, in bytes, with all that it holds of files.
pub const HEAD_BYTES_MAX: u64 = 8 << 20;
/// What is read of a head where the files in it are not needed, in bytes: mostly all the rest.
pub(in crate::ledger) const HEAD_BEGINNING_BYTES: u64 = 64 << 10;

/// The field that holds files, behind all others.
pub(super) const BYTES_FIELD: &str = "bytes";

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the form; a worker writes the one that it found, unless it says what that cannot.
    pub version: u32,
    /// Random name of the writer, so that it knows its own swap again and no two heads are byte-equal.
    pub session: String,
    /// Counts the writer's swaps.
    pub counter: u64,
    /// When it was written, by the writer's clock; for people.
    #[serde(with = "instant")]
    pub written_at: Timestamp,
    /// Name of the pipeline.
    pub pipeline: String,
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Id of the cluster that the offsets belong to.
    pub cluster_id: String,
    /// Id of the topic that the offsets belong to; `None` while the brokers know no ids.
    pub topic_id: Option<String>,
    /// Raised when offsets begin anew (topic re-created, log cut back); from 1 on file names carry it.
    pub incarnation: u32,
    /// The first offset of this incarnation.
    pub start: i64,
    /// The next offset to read.
    pub next: i64,
    /// Leader epoch of the record before `next`; -1 when not known.
    pub leader_epoch: i32,
    /// Digest of the settings of the last writer.
    pub settings: String,
    /// The committed span whose files may not all be visible yet: none or one.
    #[serde(default)]
    pub pending: Vec<Entry>,
    /// The newest settled spans, oldest first.
    #[serde(default)]
    pub closed: Vec<Entry>,
    /// The newest segment of older spans, by its name beside the head.
    #[serde(default)]
    pub segment: Option<String>,
    /// Segments that were lost and whose loss was accepted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost_segments: Vec<String>,
    /// How incarnations began that a person decided about, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Begun>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Head {
    /// Whose head it is.
    pub fn of(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    /// Where reading goes on.
    pub fn position(&self) -> Position {
        Position { next: self.next, leader_epoch: self.leader_epoch }
    }

    /// Reads a head and checks everything that can be checked from itself.
    ///
    /// # Errors
    /// What is wrong with it; the caller names the object.
    pub fn decode(bytes: &[u8]) -> Result<Head, Unusable> {
        let broken = |why: String| Err(Unusable::Broken(why));
        check_version(bytes)?;
        let mut head: Head = serde_json::from_slice(bytes)?;
        // files are no part of what is known of a partition, and are not kept in memory with it
        head.extra.remove(BYTES_FIELD);
        if head.partition < 0 || head.start < 0 || head.next < head.start {
            return broken(format!("partition {} starts at {} and is at {}", head.partition, head.start, head.next));
        }
        if head.pending.len() > 1 {
            return Err(Unusable::Newer(format!("{} spans are pending instead of one", head.pending.len())));
        }
        if let Some(name) = &head.segment {
            check_segment_name(name)?;
        }
        let entries = || head.closed.iter().chain(&head.pending);
        for entry in entries() {
            entry.check()?;
            let stretch = &entry.partitions[0];
            if stretch.topic != head.topic || stretch.partition != head.partition {
                return broken(format!("span `{}` belongs to `{}-{}`", entry.id, stretch.topic, stretch.partition));
            }
        }
        check_chain(entries())?;
        if let Some(last) = entries().last()
            && last.incarnation == head.incarnation
            && last.span().next != head.next
        {
            return broken(format!("`next` is {}, but the newest span ends at {}", head.next, last.span().next));
        }
        Ok(head)
    }

    /// The head as it is stored, without the bytes of files.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a head has only string keys")
    }
}
