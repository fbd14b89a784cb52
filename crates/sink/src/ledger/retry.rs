//! Patience: what may go well later is tried again for ever, visibly, with growing pauses. Limits of single requests are the
//! store's; an outage of any length must not lose a span that is closed.

use super::Ledger;
use crate::{
    backoff::Backoff,
    error::{Error, Kind, Result},
    span::TopicPartition,
};
use std::future::Future;

/// Whether an error may go away without anybody changing the program. Denied is among them: credentials expire and come back.
pub(super) trait MayPass {
    fn may_pass(&self) -> bool;
}

impl MayPass for kas3_store::Error {
    fn may_pass(&self) -> bool {
        matches!(self.kind(), kas3_store::Kind::Transient | kas3_store::Kind::Denied | kas3_store::Kind::Missing)
    }
}

/// A store's error for those who retry by the kind of ours: what may pass is transient, a denial included.
pub(super) fn passing(error: kas3_store::Error) -> Error {
    if error.may_pass() { Error::new(Kind::Transient, "object store").source(error) } else { error.into() }
}

impl MayPass for Error {
    fn may_pass(&self) -> bool {
        self.kind() == Kind::Transient
    }
}

impl Ledger {
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.timing.retry_first, self.timing.retry_longest)
    }

    /// Repeats `attempt` until it succeeds or fails for good; in a ledger for looking, once.
    pub(super) async fn patiently<T, E, F>(&self, of: &TopicPartition, what: &str, attempt: impl Fn() -> F) -> Result<T>
    where
        E: MayPass + Into<Error>,
        F: Future<Output = Result<T, E>>,
    {
        let mut backoff = self.backoff();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) if self.patient && error.may_pass() => {
                    self.observer.retrying(of, what, &error.into());
                    backoff.sleep().await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
