//! The ledger: how far each partition is, and the protocol that moves it exactly once.
//!
//! Purpose: fix the boundary and the bytes of a span before anything of it is visible, so that any rule may close files and
//! any worker may die at any moment. Guarantee: whoever believes to own a partition, its history is one line of swaps; every
//! committed span becomes visible once, nothing visible is ever overwritten, and nothing is skipped without a person's word.
//!
//! ```text
//! open     read the head or create it; publish what is pending          (open.rs, start.rs)
//! stage    uploads while files grow, one bundle for the small rest      (upload.rs, stage.rs)
//! commit   swap the head: next moves, the span is pending; the bytes of
//!          small files go along, and nothing else is staged then        (partition.rs, head_writer.rs)
//! publish  complete uploads and put files, never over anything          (publish.rs, amend.rs)
//! settle   swap the head: the span joins the history                    (history.rs)
//! ```
//!
//! What is stored, and how it stays readable to older and newer workers, is in `stored/`.
//!
//! ```no_run
//! # use kas3_sink::{ledger::{ClosedSpan, Ledger, LedgerParts}, span::TopicPartition};
//! # async fn example(parts: LedgerParts, span: ClosedSpan) -> kas3_sink::Result<()> {
//! let ledger = Ledger::open(parts).await?;
//! let mut partition = ledger.open_partition(&TopicPartition::new("orders", 0)).await?;
//! let from = partition.position();   // read Kafka from here, then
//! partition.commit(span).await?;     // the span is durable and visible, once
//! partition.settle().await
//! # }
//! ```
//!
//! A model of this protocol is `tests/ledger_model.rs`; the stored forms are described in `docs/ledger.md`.

mod accept;
mod amend;
mod beside;
mod closed_span;
mod head_writer;
mod history;
mod listing;
mod observer;
mod open;
mod partition;
mod publish;
mod reclaim;
mod remaker;
mod retry;
mod stage;
mod start;
mod stopped;
pub mod stored;
mod upload;

pub use accept::{Accepted, Decision, NOTHING_TO_ACCEPT};
pub use beside::Trace;
pub use closed_span::{Body, ClosedFile, ClosedSpan, ClosedStretch};
pub use history::{CLOSED_BYTES_MAX, CLOSED_KEPT, CLOSED_MAX, FILES_BYTES_MAX, History};
pub use observer::{LedgerObserver, Unwatched};
pub use open::Rehearsed;
pub use partition::Partition;
pub use publish::{PUBLISH_DEADLINE, metadata};
pub use remaker::{NothingRemade, Remake, Remaker};
pub use stored::{
    BYTES_IN_HEAD_MAX, Begun, Entry, EntryKind, File, HEAD_BYTES_MAX, Head, Origin, PartitionStart, PipelineRecord, Place, Role, SEGMENT_BYTES_MAX,
    SegmentHeader, SegmentKind, Staged, StartRecord, Stretch, Unusable, VERSION, VERSION_OLDEST, Why, Word, decode_segment, encode_segment,
};
pub use upload::{InFlight, Upload};

use crate::{coalesce::Coalesced, plan::Pipeline, source::Log, span::TopicPartition};
use kas3_store::{Info, Store};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Start records by topic and incarnation.
type StartRecords = HashMap<(Arc<str>, u32), Arc<StartRecord>>;
/// Who asks for the start record of a topic right now.
type Starts = HashMap<Arc<str>, Arc<Coalesced<TopicPartition, Arc<StartRecord>>>>;
/// Pending spans whose bytes are read from heads at once: each may take ten megabytes that nobody has counted.
const HEADS_WITH_BYTES_AT_ONCE: usize = 4;

/// What a ledger works with.
pub struct LedgerParts {
    /// The configuration.
    pub pipeline: Arc<Pipeline>,
    /// The sink's store.
    pub sink: Store,
    /// The ledger's store.
    pub ledger: Store,
    /// What is asked of Kafka.
    pub log: Arc<dyn Log>,
    /// Makes lost files again.
    pub remaker: Arc<dyn Remaker>,
    /// Sees the steps of the protocol.
    pub observer: Arc<dyn LedgerObserver>,
}

/// The ledger of one pipeline, as one process sees it.
pub struct Ledger {
    pipeline: Arc<Pipeline>,
    sink: Store,
    ledger: Store,
    log: Arc<dyn Log>,
    remaker: Arc<dyn Remaker>,
    observer: Arc<dyn LedgerObserver>,
    timing: Timing,
    /// Whether what may pass is tried again for ever: not where a person waits for an answer.
    patient: bool,
    /// Nothing is written: what would be is only said.
    dry: bool,
    /// Start records, which never change.
    records: Mutex<StartRecords>,
    /// Finds or creates the start record of a topic.
    starting: Mutex<Starts>,
    /// Looks for the newest start record of a topic.
    incarnations: Coalesced<Arc<str>, Option<u32>>,
    /// Looks for what others wrote of a topic.
    traces: Coalesced<Arc<str>, Vec<Trace>>,
    /// Looks into folders of partitions: of the ledger, and of staged bytes.
    ledger_folders: Coalesced<String, Vec<Info>>,
    staged_folders: Coalesced<String, Vec<Info>>,
    /// Places among those who read the bytes of a pending span from its head.
    heads_with_bytes: Semaphore,
    /// Sinks of spans that were pending when the sink's URL was changed.
    others: Mutex<HashMap<String, Store>>,
    /// Partitions that are open in this process.
    held: Mutex<HashMap<TopicPartition, usize>>,
    told_settings: AtomicBool,
}

/// How long the ledger waits for what. Tests shorten it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The first pause after a failure.
    pub retry_first: Duration,
    /// The longest pause between attempts.
    pub retry_longest: Duration,
    /// How long a head counts as fresh: publishing requests sent on its behalf give up then.
    pub publish_deadline: Duration,
    /// How long a log may end before our position until it counts as cut back: after a leader's election the new one may lag.
    pub cut_back_after: Duration,
    /// How old the pending span of a partition that this process does not hold must be before it is published from here.
    pub orphan_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            retry_first: Duration::from_millis(200),
            retry_longest: Duration::from_secs(15),
            publish_deadline: PUBLISH_DEADLINE,
            cut_back_after: Duration::from_secs(30),
            orphan_after: Duration::from_secs(60),
        }
    }
}

/// 16 hexadecimal digits.
pub fn random_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
