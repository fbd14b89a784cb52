//! What a worker tells the committer of a lane.

use crate::{budget::Held, error::Error, ledger::ClosedSpan, span::Position};

/// What a committer is told.
pub(super) enum Command {
    /// Stage, commit and publish a span; `held` gives its bytes back to the budget, however the command ends.
    Commit { span: Box<ClosedSpan>, held: Held },
    /// Move the head without files.
    Advance(Position),
    /// Settle and end; the lane failed if a failure is given.
    Finish { failure: Option<Error> },
}
