//! What a comparison found: numbers, and findings with their places. Its JSON form is described in `docs/operations.md`.

use crate::{
    ledger::Begun,
    span::{Span, TopicPartition},
};
use jiff::Timestamp;
use serde::Serialize;

/// Version of the JSON form.
pub const VERSION: u32 = 1;
/// Findings that are kept in full; all are counted.
pub const FINDINGS_MAX: usize = 1000;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Name of the pipeline.
    pub pipeline: String,
    /// When the comparison began.
    pub began: Timestamp,
    /// Nothing was found: every record that was compared is in exactly one file, or in one of each incarnation that a person began
    /// further back.
    pub ok: bool,
    /// Everything that the configuration asks for and Kafka has was read and is published: nothing unread, not begun, waiting for a
    /// transaction or not visible yet. What was left out or accepted as lost is not asked for any more.
    pub complete: bool,
    /// The sums of all partitions.
    pub totals: Totals,
    /// Every partition that was compared.
    pub partitions: Vec<PartitionReport>,
    /// Partitions that the configuration asks for and of whose topic as it is now the ledger knows nothing.
    pub not_begun: Vec<NotBegun>,
    /// Topics that the configuration names and that Kafka does not have, or does not show.
    pub absent_topics: Vec<String>,
    /// What was found, the first of them.
    pub findings: Vec<Finding>,
    /// How many were found.
    pub findings_total: u64,
    /// What a person should know, though it is no finding.
    pub notes: Vec<String>,
}

/// Numbers of one partition, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Closed spans.
    pub spans: u64,
    /// Files that were read.
    pub files: u64,
    /// Bytes of those files as stored.
    pub bytes: u64,
    /// Records in those files.
    pub records_in_files: u64,
    /// Records that Kafka gave for those spans.
    pub records_in_kafka: u64,
    /// Records found in exactly one file, with the same content.
    pub equal: u64,
    /// Records of Kafka that are in no file, as the ledger says (policies, transforms, dead letters).
    pub left_out: u64,
    /// Records of Kafka that are in no file, though they should be.
    pub gaps: u64,
    /// Records that are in files more than once.
    pub doubles: u64,
    /// Lines that are not what Kafka has, and files that are not what the ledger says.
    pub differences: u64,
    /// Objects under the sink's URL, looking like files of this pipeline, that no span names.
    pub foreign: u64,
    /// Records in files that could not be compared with Kafka, so that only their files were checked.
    pub not_comparable: u64,
    /// The same by reason.
    pub not_comparable_because: NotComparable,
    /// Records that lie in files of an earlier incarnation, too, because a person had the partition read again from further back;
    /// each is also among `equal` once for each of them.
    pub doubled_by_decision: u64,
    /// Offsets whose loss a person accepted.
    pub accepted: u64,
    /// Spans that are committed and wait to be published.
    pub pending: u64,
    /// Records of those spans whose files are not visible yet.
    pub unpublished: u64,
    /// Offsets that Kafka has and that were not read yet, in partitions that have begun; none where they hold no record.
    pub unread: u64,
    /// Offsets of partitions that have not begun.
    pub not_begun: u64,
    /// Offsets behind a transaction that is still open, so that nobody who reads committed records sees them.
    pub waiting_for_transaction: u64,
    /// Offsets that Kafka has and that a head spoke of which was lost: whether a file holds them is not known.
    pub unknown: u64,
}

/// Records that could not be compared with Kafka, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NotComparable {
    /// Kafka no longer has them: retention, compaction, records that were deleted.
    pub deleted: u64,
    /// The topic that they were read from is gone, or another topic or cluster is there now.
    pub other_topic: u64,
    /// The log was cut back since, and holds other records at these offsets.
    pub cut_back: u64,
    /// What their rows should hold cannot be fetched any more.
    pub payload_gone: u64,
    /// It cannot be told which record a row of the file belongs to.
    pub unmatched: u64,
}

impl NotComparable {
    pub(super) fn count(&mut self, why: Reason) -> &mut u64 {
        match why {
            Reason::Deleted => &mut self.deleted,
            Reason::OtherTopic => &mut self.other_topic,
            Reason::CutBack => &mut self.cut_back,
            Reason::PayloadGone => &mut self.payload_gone,
            Reason::Unmatched => &mut self.unmatched,
        }
    }
}

/// Why something cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Deleted,
    OtherTopic,
    CutBack,
    PayloadGone,
    Unmatched,
}

impl Totals {
    /// Whether everything that Kafka has was read and is visible.
    pub(super) fn is_complete(&self) -> bool {
        self.unread + self.not_begun + self.waiting_for_transaction + self.unpublished + self.unknown == 0
    }

    pub(super) fn not_comparable(&mut self, why: Reason, records: u64) {
        self.not_comparable += records;
        *self.not_comparable_because.count(why) += records;
    }

    pub(super) fn add(&mut self, other: &Totals) {
        self.spans += other.spans;
        self.files += other.files;
        self.bytes += other.bytes;
        self.records_in_files += other.records_in_files;
        self.records_in_kafka += other.records_in_kafka;
        self.equal += other.equal;
        self.left_out += other.left_out;
        self.gaps += other.gaps;
        self.doubles += other.doubles;
        self.differences += other.differences;
        self.foreign += other.foreign;
        self.not_comparable += other.not_comparable;
        self.accepted += other.accepted;
        self.pending += other.pending;
        let (because, more) = (&mut self.not_comparable_because, &other.not_comparable_because);
        because.deleted += more.deleted;
        because.other_topic += more.other_topic;
        because.cut_back += more.cut_back;
        because.payload_gone += more.payload_gone;
        because.unmatched += more.unmatched;
        self.doubled_by_decision += other.doubled_by_decision;
        self.unpublished += other.unpublished;
        self.unread += other.unread;
        self.not_begun += other.not_begun;
        self.waiting_for_transaction += other.waiting_for_transaction;
        self.unknown += other.unknown;
    }
}

/// One partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// Incarnation of the topic.
    pub incarnation: u32,
    /// The first offset of this incarnation.
    pub start: i64,
    /// The next offset that the sink will read.
    pub next: i64,
    /// The first offset that Kafka still has; `None` when the topic is gone or another one.
    pub earliest: Option<i64>,
    /// The end in Kafka; `None` when the topic is gone or another one.
    pub end: Option<i64>,
    /// Whether the configuration still asks for its topic.
    pub configured: bool,
    /// How incarnations began that a person decided about.
    pub begun: Vec<Begun>,
    /// Its numbers.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A partition that the configuration asks for and that has not begun.
#[derive(Clone, Debug, Serialize)]
pub struct NotBegun {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// The first offset that it will be read from.
    pub from: i64,
    /// The end in Kafka.
    pub end: i64,
    /// Its offsets that nobody has read; none where they hold no record.
    pub unread: u64,
    /// Offsets behind a transaction that is still open.
    pub waiting_for_transaction: u64,
    /// Why it has not begun.
    pub why: String,
}

/// What kind of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A record of Kafka is in no file, or a file is not there.
    Gap,
    /// A record is in files more than once.
    Double,
    /// A line is not what Kafka has, or a file not what the ledger says.
    Difference,
    /// An object that looks like a file of this pipeline, and that no span names.
    Foreign,
    /// The ledger contradicts itself.
    Ledger,
}

impl FindingKind {
    /// The kind in one word.
    pub fn name(self) -> &'static str {
        match self {
            FindingKind::Gap => "gap",
            FindingKind::Double => "double",
            FindingKind::Difference => "difference",
            FindingKind::Foreign => "foreign",
            FindingKind::Ledger => "ledger",
        }
    }
}

/// One fault, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What kind of fault it is.
    pub kind: FindingKind,
    /// Topic, where it belongs to one.
    pub topic: Option<String>,
    /// Partition, where it belongs to one.
    pub partition: Option<i32>,
    /// The span, where it belongs to one.
    pub span: Option<Span>,
    /// Offsets that are meant.
    pub offsets: Option<Span>,
    /// URL of the file.
    pub file: Option<String>,
    /// What was found, in words.
    pub detail: String,
}

impl Report {
    pub(super) fn new(pipeline: &str) -> Self {
        Report {
            version: VERSION,
            pipeline: pipeline.to_owned(),
            began: Timestamp::now(),
            ok: true,
            complete: true,
            totals: Totals::default(),
            partitions: Vec::new(),
            not_begun: Vec::new(),
            absent_topics: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.ok = false;
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

impl Finding {
    pub(super) fn new(kind: FindingKind, of: &TopicPartition, detail: impl Into<String>) -> Self {
        Finding {
            kind,
            topic: Some(of.topic.to_string()),
            partition: Some(of.partition),
            span: None,
            offsets: None,
            file: None,
            detail: detail.into(),
        }
    }

    pub(super) fn span(mut self, span: Span) -> Self {
        self.span = Some(span);
        self
    }

    pub(super) fn file(mut self, url: &str) -> Self {
        self.file = Some(url.to_owned());
        self
    }
}
