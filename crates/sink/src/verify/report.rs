//! What a comparison found: numbers, and findings with their places. Its JSON form is described in `docs/operations.md`.

use crate::span::{Span, TopicPartition};
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
    /// Nothing was found: every record of every closed span that Kafka still has is in exactly one file.
    pub ok: bool,
    /// The sums of all partitions.
    pub totals: Totals,
    /// Every partition that was compared.
    pub partitions: Vec<PartitionReport>,
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
    /// Records in files that Kafka no longer has (retention, compaction, another incarnation), or whose payloads are gone, so that
    /// only their files could be checked.
    pub not_comparable: u64,
    /// Offsets whose loss a person accepted.
    pub accepted: u64,
    /// Spans that are committed and wait to be published.
    pub pending: u64,
}

impl Totals {
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
    /// Its numbers.
    #[serde(flatten)]
    pub totals: Totals,
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
            totals: Totals::default(),
            partitions: Vec::new(),
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
