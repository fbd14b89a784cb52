//! Bounded retries, for all requests in this one place: what is tried again is decided by the kind of the error, how often
//! and how long by the settings, when by exponential backoff with full jitter.

use crate::{Error, Kind, Observer, Outcome, Request, Result, answer::Answer};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// The first delay is drawn from zero to this; each further one from twice as much.
const DELAY_FIRST: Duration = Duration::from_millis(100);
/// The same when the store asks to slow down.
const DELAY_FIRST_THROTTLED: Duration = Duration::from_millis(400);
/// No delay is drawn from more.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// An attempt that failed.
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) outcome: Outcome,
}

impl Failure {
    pub(crate) fn new(error: Error, outcome: Outcome) -> Self {
        Failure { error, outcome }
    }
}

/// How often and how long a request is tried.
#[derive(Clone)]
pub(crate) struct Retries {
    pub(crate) attempts_max: u32,
    pub(crate) time_max: Duration,
    pub(crate) observer: Arc<dyn Observer>,
}

impl Retries {
    /// The same, but one attempt only.
    pub(crate) fn once(&self) -> Retries {
        Retries { attempts_max: 1, ..self.clone() }
    }

    /// Runs attempts until one succeeds, fails for good, or the bounds are reached. Each is reported. `sent` bytes go up with
    /// each attempt; at `deadline` even a running attempt is given up.
    pub(crate) async fn run<T: Answer, F: Future<Output = Result<T, Failure>>>(
        &self,
        request: Request,
        sent: usize,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let begun = Instant::now();
            // a process that was stopped while it slept must not send what its deadline forbids
            if deadline.is_some_and(|deadline| begun >= deadline) {
                return Err(too_late().error.after(attempts));
            }
            let result = match deadline {
                Some(deadline) => timeout_at(deadline, attempt()).await.unwrap_or_else(|_| Err(too_late())),
                None => attempt().await,
            };
            let (outcome, received) = match &result {
                Ok(answer) => (answer.outcome(), answer.bytes()),
                Err(failure) => (failure.outcome, 0),
            };
            self.observer.request(request, outcome, begun.elapsed(), received.max(sent as u64));
            let failure = match result {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let delay = delay_after(attempts, failure.outcome);
            let next = Instant::now() + delay;
            let in_time = next < started + self.time_max && deadline.is_none_or(|deadline| next < deadline);
            if failure.error.kind() != Kind::Transient || attempts >= self.attempts_max || !in_time {
                return Err(failure.error.after(attempts));
            }
            self.observer.retry(request, delay);
            tracing::debug!(?request, attempts, ?delay, error = ?failure.error, "trying again");
            sleep(delay).await;
        }
    }
}

fn too_late() -> Failure {
    Failure::new(Error::new(Kind::Transient, "the store did not answer before the deadline"), Outcome::Failed)
}

fn delay_after(attempts: u32, outcome: Outcome) -> Duration {
    let first = if outcome == Outcome::Throttled { DELAY_FIRST_THROTTLED } else { DELAY_FIRST };
    let most = first.saturating_mul(1 << (attempts - 1).min(20)).min(DELAY_MAX);
    most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen {
        outcomes: Mutex<Vec<Outcome>>,
        delays: Mutex<Vec<Duration>>,
    }

    impl Observer for Seen {
        fn request(&self, _: Request, outcome: Outcome, _: Duration, _: u64) {
            self.outcomes.lock().unwrap().push(outcome);
        }
        fn retry(&self, _: Request, delay: Duration) {
            self.delays.lock().unwrap().push(delay);
        }
    }

    fn failing(kind: Kind, outcome: Outcome) -> Result<(), Failure> {
        Err(Failure::new(Error::new(kind, "it failed"), outcome))
    }

    fn retries(attempts_max: u32, time_max: Duration) -> (Arc<Seen>, Retries) {
        let seen = Arc::new(Seen::default());
        (seen.clone(), Retries { attempts_max, time_max, observer: seen })
    }

    #[tokio::test]
    async fn attempts_are_bounded_and_each_is_reported() {
        let (seen, retries) = retries(4, Duration::from_secs(3600));
        let error = retries.run(Request::Create, 1, None, || async { failing(Kind::Transient, Outcome::Failed) }).await.unwrap_err();
        assert_eq!(error.to_string(), "it failed (4 attempts)");
        assert_eq!(*seen.outcomes.lock().unwrap(), [Outcome::Failed; 4]);
        assert_eq!(seen.delays.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn time_is_bounded_whatever_the_attempts() {
        let (_, retries) = retries(u32::MAX, Duration::from_secs(1));
        let started = Instant::now();
        retries.run(Request::Get, 0, None, || async { failing(Kind::Transient, Outcome::Failed) }).await.unwrap_err();
        assert!(started.elapsed() <= Duration::from_millis(1200), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_deadline_ends_even_a_running_attempt() {
        let (_, retries) = retries(8, Duration::from_secs(3600));
        let started = Instant::now();
        let deadline = Some(started + Duration::from_millis(300));
        let never = retries.run(Request::Create, 0, deadline, std::future::pending::<Result<(), Failure>>).await;
        assert_eq!(never.unwrap_err().kind(), Kind::Transient);
        assert!((300..3000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    }

    #[test]
    fn delays_are_drawn_from_a_span_that_doubles_up_to_a_limit() {
        for (attempts, most) in [(1, DELAY_FIRST), (2, DELAY_FIRST * 2), (5, DELAY_FIRST * 16), (50, DELAY_MAX), (u32::MAX, DELAY_MAX)] {
            let delays: Vec<Duration> = (0..200).map(|_| delay_after(attempts, Outcome::Failed)).collect();
            assert!(
                delays.iter().all(|delay| *delay <= most)
                    && delays.iter().any(|delay| *delay > most / 2)
                    && delays.iter().any(|delay| *delay < most / 2)
            );
        }
        assert!((0..200).any(|_| delay_after(1, Outcome::Throttled) > DELAY_FIRST));
    }

    #[tokio::test]
    async fn what_fails_for_good_is_not_tried_again() {
        for kind in [Kind::Config, Kind::Missing, Kind::Denied, Kind::Fatal] {
            let (seen, retries) = retries(8, Duration::from_secs(3600));
            let error = retries.run(Request::Get, 0, None, || async move { failing(kind, Outcome::Failed) }).await.unwrap_err();
            assert_eq!((error.kind(), seen.outcomes.lock().unwrap().len()), (kind, 1));
        }
    }
}
