//! Start records: where the partitions of a topic begin.

use super::{Unusable, check_version, instant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where the partitions of a topic begin, resolved once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Version of the form.
    pub version: u32,
    /// Topic.
    pub topic: String,
    /// Id of the topic; `None` while the brokers know no ids.
    pub topic_id: Option<String>,
    /// Id of the cluster.
    pub cluster_id: String,
    /// Incarnation that begins here.
    pub incarnation: u32,
    /// When it was written; for people.
    #[serde(with = "instant")]
    pub written_at: Timestamp,
    /// The partitions of that moment. One that is missing appeared later, and begins at its beginning.
    pub partitions: Vec<PartitionStart>,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Where one partition begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionStart {
    /// Partition number.
    pub partition: i32,
    /// The first offset to read.
    pub start: i64,
    /// What newer versions keep here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl PartitionStart {
    /// Where `partition` begins.
    pub fn new(partition: i32, start: i64) -> Self {
        PartitionStart { partition, start, extra: Map::new() }
    }
}

impl StartRecord {
    /// The first offset of `partition`; 0 for one that appeared later.
    pub fn start(&self, partition: i32) -> i64 {
        self.partitions.iter().find(|of| of.partition == partition).map_or(0, |of| of.start)
    }

    /// Has `partition` begin at `start`.
    pub(in crate::ledger) fn move_start(&mut self, partition: i32, start: i64) {
        match self.partitions.iter_mut().find(|of| of.partition == partition) {
            Some(of) => of.start = start,
            None => self.partitions.push(PartitionStart::new(partition, start)),
        }
        self.partitions.sort_by_key(|of| of.partition);
    }

    /// Reads the start record of `topic` in `incarnation` and checks it.
    ///
    /// # Errors
    /// What is wrong with it; the caller names the object.
    pub fn decode(bytes: &[u8], topic: &str, incarnation: u32) -> Result<StartRecord, Unusable> {
        check_version(bytes)?;
        let record: StartRecord = serde_json::from_slice(bytes)?;
        if record.topic != topic || record.incarnation != incarnation {
            return Err(Unusable::Broken(format!("it is the start of `{}` in incarnation {}", record.topic, record.incarnation)));
        }
        match record.partitions.iter().find(|of| of.partition < 0 || of.start < 0) {
            Some(wrong) => Err(Unusable::Broken(format!("partition {} starts at {}", wrong.partition, wrong.start))),
            None => Ok(record),
        }
    }
}
