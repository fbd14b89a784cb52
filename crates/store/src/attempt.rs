//! One attempt at a request, when it failed: what the retries and the breaker decide by.

use crate::{Error, Kind, Outcome};
use std::time::Duration;

/// The longest `Retry-After` that is believed.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// An attempt that failed.
pub(crate) struct FailedAttempt {
    pub(crate) error: Error,
    pub(crate) outcome: Outcome,
    /// The store asks not to be asked again before.
    pub(crate) retry_after: Option<Duration>,
    /// It says nothing of other requests: the store answered this one, as a store that is well may.
    pub(crate) alone: bool,
    /// The store refuses, and another try does not change that: no permission, no bucket, no room.
    pub(crate) refuses: bool,
}

impl FailedAttempt {
    pub(crate) fn new(error: Error, outcome: Outcome) -> Self {
        let alone = error.kind() != Kind::Transient;
        let refuses = error.kind() == Kind::Denied;
        FailedAttempt { error, outcome, retry_after: None, alone, refuses }
    }

    /// How long the store asks to be left alone.
    pub(crate) fn wait_min(&self) -> Duration {
        self.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
    }
}
