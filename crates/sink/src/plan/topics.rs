//! What applies to one topic.

use crate::{format::Format, path::PathTemplate, refused::BadRecords, transform::Chain};
use std::{sync::Arc, time::Duration};

impl std::fmt::Debug for TopicPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicPlan")
            .field("path", &self.path.to_string())
            .field("extension", &self.format.extension())
            .field("roll", &self.roll)
            .field("bad_records", &self.bad_records)
            .field("transforms", &self.transforms)
            .finish()
    }
}

/// What applies to one topic.
pub struct TopicPlan {
    /// Where records go.
    pub path: PathTemplate,
    /// What files hold.
    pub format: Arc<dyn Format>,
    /// When files are closed.
    pub roll: RollPlan,
    /// What to do with a record that does not fit (`BadRecord`).
    pub bad_records: BadRecords,
    /// What happens to records before. Topics that share a list share this.
    pub transforms: Arc<Chain>,
}

/// When files are closed: whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollPlan {
    /// Encoded bytes of the largest file.
    pub bytes: u64,
    /// Records of the span.
    pub records: u64,
    /// Since the span's first record was read.
    pub age: Duration,
    /// Without a new record.
    pub idle: Option<Duration>,
    /// At full multiples of this, in the pipeline's timezone.
    pub clock: Option<Duration>,
    /// Open files of one lane.
    pub files: usize,
    /// Files that the rows of one record may need. It is `files`, also where a span is made again and any number may be open: what is
    /// refused depends on the record alone.
    pub files_of_record: usize,
}
