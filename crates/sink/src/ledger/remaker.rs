//! Who makes lost files of a committed span again. The pipeline does, from Kafka's records; tests bring their own.

use super::closed_span::ClosedFile;
use crate::{
    error::{Error, Kind, Result},
    span::{Span, TopicPartition},
};
use async_trait::async_trait;
use jiff::Timestamp;
use kas3_store::Store;

/// Makes files of a committed span again.
#[async_trait]
pub trait Remaker: Send + Sync {
    /// Reads a span again and makes the wanted files of it, with the same names, because `now` and the incarnation are given.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the whole span; `Transient` when it may go well later.
    async fn remake(&self, order: &Remake) -> Result<Vec<(u32, ClosedFile)>>;
}

/// An order to make files of a committed span again.
#[derive(Clone)]
pub struct Remake {
    /// Whose span it is.
    pub of: TopicPartition,
    /// The span's name.
    pub id: String,
    /// The store that the span was committed for; uploads go there.
    pub store: Store,
    /// Exactly these offsets.
    pub span: Span,
    /// Leader epoch of the span's last record; -1 when not known.
    pub leader_epoch: i32,
    /// The incarnation in the names.
    pub incarnation: u32,
    /// What `{now}` was.
    pub now: Timestamp,
    /// Numbers of the files to make, ascending.
    pub wanted: Vec<u32>,
    /// The path of each wanted file below the sink's URL, in the order of `wanted`.
    pub paths: Vec<String>,
}

/// For ledgers that are only looked at.
pub struct NothingRemade;

#[async_trait]
impl Remaker for NothingRemade {
    async fn remake(&self, order: &Remake) -> Result<Vec<(u32, ClosedFile)>> {
        Err(Error::new(Kind::Fatal, format!("files of `{}` cannot be made again here", order.of)))
    }
}
