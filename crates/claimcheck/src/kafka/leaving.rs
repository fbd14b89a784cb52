//! A consumer of a group whose coordinator may be gone: librdkafka then waits for ever, in a commit and at the client's end. Both are
//! done on a thread of their own and waited for within a limit. What is still waited for then ends with the process, or when the
//! coordinator is back; the group takes the partitions when the session ends.

use super::{client, interrupt, lock};
use crate::{Error, Kind, Result};
use rdkafka::{
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::KafkaResult,
    topic_partition_list::TopicPartitionList,
};
use std::{
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Leaving the group takes no longer, the last commit and the client's end included.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(5);
/// Of that, the last commit: the group should still hear that its partitions are given back.
pub(super) const LAST_COMMIT_MAX: Duration = Duration::from_secs(3);
/// What the client's end has at least.
const END_MIN: Duration = Duration::from_millis(500);

/// A client whose end does not wait for ever.
pub(super) struct Member<C: ConsumerContext + 'static> {
    /// `None` only while it is dropped.
    kafka: Option<Arc<BaseConsumer<C>>>,
    leave_by: OnceLock<Instant>,
    /// The answer to a commit that was not waited for: none is sent before it is there, or an older one could come after a newer.
    unanswered: Mutex<Option<mpsc::Receiver<KafkaResult<()>>>>,
}

impl<C: ConsumerContext + 'static> Member<C> {
    pub(super) fn new(kafka: BaseConsumer<C>) -> Member<C> {
        Member { kafka: Some(Arc::new(kafka)), leave_by: OnceLock::new(), unanswered: Mutex::new(None) }
    }

    /// Until when it is to have left its group: [`LEAVE_MAX`] after this is asked for the first time.
    pub(super) fn leave_by(&self) -> Instant {
        *self.leave_by.get_or_init(|| Instant::now() + LEAVE_MAX)
    }

    /// Commits, and waits for the answer until `limit`.
    ///
    /// # Errors
    /// Those of Kafka; `Transient` when there was no answer: the offsets are committed or not.
    pub(super) fn commit_within(&self, offsets: TopicPartitionList, limit: Duration) -> Result<()> {
        let Some(kafka) = self.kafka.clone() else { return Ok(()) };
        let deadline = Instant::now() + limit;
        let unknown = || {
            let what = format!("the group's coordinator did not answer a commit within {} s: its offsets are committed or not", limit.as_secs());
            Error::new(Kind::Transient, what).hint("look whether the brokers run, and commit again")
        };
        let mut unanswered = lock(&self.unanswered);
        if let Some(before) = unanswered.take()
            && let Err(Unanswered::Waiting(error)) = answer_of(&before, deadline)
        {
            *unanswered = Some(before);
            return Err(error.unwrap_or_else(unknown));
        }
        let answer = beside(move || kafka.commit(&offsets, CommitMode::Sync))?;
        match answer_of(&answer, deadline) {
            Ok(done) => done.map_err(|error| client::error_of_kafka("offsets were not committed", error)),
            Err(Unanswered::Never) => Err(unknown()),
            Err(Unanswered::Waiting(error)) => {
                *unanswered = Some(answer);
                Err(error.unwrap_or_else(unknown))
            }
        }
    }
}

impl<C: ConsumerContext + 'static> Deref for Member<C> {
    type Target = BaseConsumer<C>;

    fn deref(&self) -> &BaseConsumer<C> {
        self.kafka.as_deref().unwrap_or_else(|| unreachable!("the client is taken when it is dropped"))
    }
}

impl<C: ConsumerContext + 'static> Drop for Member<C> {
    fn drop(&mut self) {
        let limit = self.leave_by().saturating_duration_since(Instant::now()).max(END_MIN);
        let Some(kafka) = self.kafka.take() else { return };
        match beside(move || drop(kafka)) {
            Ok(ended) if ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) => {
                tracing::warn!("the group is left without its coordinator, which does not answer: it takes the partitions when the session ends");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(error = error.chain(), "the group could not be left in an orderly way"),
        }
    }
}

/// Why there is no answer.
enum Unanswered {
    /// It may still come; an error when the caller no longer wants to wait for it.
    Waiting(Option<Error>),
    /// Nobody gives it any more.
    Never,
}

/// Waits for an answer until `deadline`, or until the caller is interrupted.
fn answer_of<T>(answer: &mpsc::Receiver<T>, deadline: Instant) -> Result<T, Unanswered> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(left.min(interrupt::SLICE)) {
            Ok(answer) => return Ok(answer),
            Err(RecvTimeoutError::Disconnected) => return Err(Unanswered::Never),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Err(Unanswered::Waiting(None)),
            Err(RecvTimeoutError::Timeout) => interrupt::check().map_err(|error| Unanswered::Waiting(Some(error)))?,
        }
    }
}

/// Does what may wait for ever on a thread of its own.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<mpsc::Receiver<T>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = std::thread::Builder::new().name("kas3-group".to_owned()).spawn(move || {
        // nobody waits any more, or hears of it now
        _ = sender.send(work());
    });
    spawned.map_err(|error| Error::new(Kind::Fatal, "no thread can be started").source(error))?;
    Ok(receiver)
}
