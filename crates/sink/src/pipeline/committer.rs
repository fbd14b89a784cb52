//! One task per assigned partition: it takes closed spans to the ledger, one after the other, and settles when nothing follows.

use super::{LaneId, Notice, command::Command, worker::Work};
use crate::{
    error::{Error, Kind},
    ledger::ClosedSpan,
    status::PartitionStatus,
    target::OpenPartition,
};
use crossbeam_channel::Sender;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a settlement that failed waits before it is tried again.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);

/// What a committer works with.
pub(super) struct Committer {
    pub(super) lane: LaneId,
    pub(super) partition: Box<dyn OpenPartition>,
    pub(super) commands: UnboundedReceiver<Command>,
    pub(super) worker: Sender<Work>,
    pub(super) notices: Sender<Notice>,
    pub(super) status: Arc<PartitionStatus>,
    /// `None`: settle with the next commit.
    pub(super) settle: Option<Duration>,
}

impl Committer {
    /// Runs until it is told to finish, fails, or is dropped: every step of the ledger may be cut off anywhere.
    pub(super) async fn run(mut self) {
        let mut settle_in = self.settle;
        loop {
            let pause = settle_in.filter(|_| self.partition.unsettled());
            let command = tokio::select! {
                command = self.commands.recv() => command,
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                    settle_in = match self.partition.settle().await {
                        Ok(()) => {
                            self.status.gets_on();
                            self.settle
                        }
                        Err(error) if error.kind() == Kind::Transient => {
                            self.status.retries("settle it", &error);
                            Some(SETTLE_AGAIN)
                        }
                        Err(error) => return self.fail(error),
                    };
                    continue;
                }
            };
            settle_in = self.settle;
            let done = match command {
                Some(Command::Commit { span, held }) => {
                    let place = held.commit_place().await;
                    let done = self.commit(*span).await;
                    drop((place, held));
                    done
                }
                Some(Command::Advance(position)) => self.partition.advance(position).await,
                Some(Command::Finish { failure }) => return self.finish(failure).await,
                None => return,
            };
            match done {
                Ok(()) => self.committed(),
                Err(error) => return self.fail(error),
            }
        }
    }

    async fn commit(&mut self, span: ClosedSpan) -> Result<(), Error> {
        let (counts, roll, files) = (span.counts, span.roll, span.files.len() as u64);
        let bytes: u64 = span.files.iter().map(|file| file.bytes).sum();
        // thousands of files may be in a span
        let names =
            tracing::enabled!(tracing::Level::DEBUG).then(|| span.files.iter().map(|file| (file.path.clone(), file.bytes)).collect::<Vec<_>>());
        self.partition.commit(span).await?;
        for (path, bytes) in names.into_iter().flatten() {
            tracing::debug!(partition = %self.partition.of(), path, bytes, roll = roll.name(), "file published");
        }
        self.status.count_published(&counts, roll, files, bytes);
        Ok(())
    }

    fn committed(&self) {
        let position = self.partition.position();
        self.status.gets_on();
        self.status.committed.store(position.next, Ordering::Relaxed);
        self.status.published.store(position.next, Ordering::Relaxed);
        let _ = self.worker.send(Work::Committed { lane: self.lane, position });
        let _ = self.notices.send(Notice::Report { of: self.partition.of().clone(), report: self.partition.report() });
    }

    async fn finish(mut self, failure: Option<Error>) {
        if self.partition.unsettled()
            && let Err(error) = self.partition.settle().await
        {
            tracing::warn!(partition = %self.partition.of(), error = %error.chain(), "left without settling; the next owner does it");
        }
        let _ = self.notices.send(match failure {
            Some(error) => Notice::Failed { lane: self.lane, error },
            None => Notice::Finished { lane: self.lane },
        });
    }

    fn fail(self, error: Error) {
        let _ = self.notices.send(Notice::Failed { lane: self.lane, error });
    }
}
