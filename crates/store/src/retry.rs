//! Bounded retries, for all requests in this one place: what is tried again is decided by the kind of the error, how often
//! and how long by the settings, when by exponential backoff with full jitter, or by the store where it says so.

use crate::{
    Error, Kind, Observer, Outcome, Request, Result,
    answer::Answer,
    attempt::FailedAttempt,
    breaker::{Breaker, Leave},
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout_at};

/// The first delay is drawn from zero to this; each further one from twice as much.
const DELAY_FIRST: Duration = Duration::from_millis(100);
/// The same when the store asks to slow down.
const DELAY_FIRST_THROTTLED: Duration = Duration::from_millis(400);
/// No delay is drawn from more.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// How often and how long a request is tried.
#[derive(Clone)]
pub(crate) struct Retries {
    pub(crate) attempts_max: u32,
    pub(crate) time_max: Duration,
    pub(crate) observer: Arc<dyn Observer>,
    /// What makes requests wait while the store is down; none for who must hear of it at once.
    pub(crate) breaker: Option<Arc<Breaker>>,
}

impl Retries {
    /// The same, but one attempt only.
    pub(crate) fn once(&self) -> Retries {
        Retries { attempts_max: 1, ..self.clone() }
    }

    /// Runs attempts until one succeeds, fails for good, or the bounds are reached. Each is reported. `sent` bytes go up with
    /// each attempt; at `deadline` even a running attempt is given up. Waiting for the breaker is no attempt, but takes time.
    pub(crate) async fn run<T: Answer, F: Future<Output = Result<T, FailedAttempt>>>(
        &self,
        request: Request,
        sent: usize,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T> {
        let last = Instant::now() + self.time_max;
        let last = deadline.map_or(last, |deadline| deadline.min(last));
        let mut attempts = 0;
        loop {
            let Some(leave) = self.leave(last).await else { return Err(too_late().error.after(attempts)) };
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
                Ok(answer) => {
                    leave.answered(request);
                    return Ok(answer);
                }
                Err(failure) if failure.alone => {
                    leave.refused(request, &failure);
                    failure
                }
                Err(failure) => {
                    leave.failed(&failure);
                    failure
                }
            };
            let delay = delay_after(attempts, &failure);
            if failure.error.kind() != Kind::Transient || attempts >= self.attempts_max || Instant::now() + delay >= last {
                return Err(failure.error.after(attempts));
            }
            self.observer.retry(request, delay);
            tracing::debug!(?request, attempts, ?delay, error = ?failure.error, "trying again");
            sleep(delay).await;
        }
    }

    async fn leave(&self, until: Instant) -> Option<Leave<'_>> {
        match &self.breaker {
            Some(breaker) => breaker.leave(until).await,
            None => Some(Leave::always()),
        }
    }
}

fn too_late() -> FailedAttempt {
    FailedAttempt::new(Error::new(Kind::Transient, "the store did not answer before the deadline"), Outcome::Failed)
}

fn delay_after(attempts: u32, failure: &FailedAttempt) -> Duration {
    let first = if failure.outcome == Outcome::Throttled { DELAY_FIRST_THROTTLED } else { DELAY_FIRST };
    let most = first.saturating_mul(1 << (attempts - 1).min(20)).min(DELAY_MAX);
    // on top of what the store asks for, so that not everybody comes back at one moment
    failure.wait_min() + most.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::RETRY_AFTER_MAX;
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

    fn failing(kind: Kind, outcome: Outcome) -> Result<(), FailedAttempt> {
        Err(FailedAttempt::new(Error::new(kind, "it failed"), outcome))
    }

    fn retries(attempts_max: u32, time_max: Duration) -> (Arc<Seen>, Retries) {
        let seen = Arc::new(Seen::default());
        (seen.clone(), Retries { attempts_max, time_max, observer: seen, breaker: None })
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
        let never = retries.run(Request::Create, 0, deadline, std::future::pending::<Result<(), FailedAttempt>>).await;
        assert_eq!(never.unwrap_err().kind(), Kind::Transient);
        assert!((300..3000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    }

    #[test]
    fn delays_are_drawn_from_a_span_that_doubles_up_to_a_limit() {
        for (attempts, most) in [(1, DELAY_FIRST), (2, DELAY_FIRST * 2), (5, DELAY_FIRST * 16), (50, DELAY_MAX), (u32::MAX, DELAY_MAX)] {
            let failed = failing(Kind::Transient, Outcome::Failed).unwrap_err();
            let delays: Vec<Duration> = (0..200).map(|_| delay_after(attempts, &failed)).collect();
            assert!(
                delays.iter().all(|delay| *delay <= most)
                    && delays.iter().any(|delay| *delay > most / 2)
                    && delays.iter().any(|delay| *delay < most / 2)
            );
        }
        let mut throttled = failing(Kind::Transient, Outcome::Throttled).unwrap_err();
        assert!((0..200).any(|_| delay_after(1, &throttled) > DELAY_FIRST));
        throttled.retry_after = Some(Duration::from_secs(5));
        assert!((0..200).all(|_| delay_after(1, &throttled) >= Duration::from_secs(5)), "the store is given the time that it asks for");
        throttled.retry_after = Some(Duration::from_secs(86_400));
        assert!((0..200).all(|_| delay_after(50, &throttled) <= RETRY_AFTER_MAX + DELAY_MAX), "but not a day");
    }

    #[tokio::test]
    async fn what_fails_for_good_is_not_tried_again() {
        for kind in [Kind::Config, Kind::Missing, Kind::Denied, Kind::Fatal] {
            let (seen, retries) = retries(8, Duration::from_secs(3600));
            let error = retries.run(Request::Get, 0, None, || async move { failing(kind, Outcome::Failed) }).await.unwrap_err();
            assert_eq!((error.kind(), seen.outcomes.lock().unwrap().len()), (kind, 1));
        }
    }

    fn guarded(breakers: &crate::Breakers, time_max: Duration) -> Retries {
        Retries { breaker: Some(breakers.of("store".to_owned())), ..retries(3, time_max).1 }
    }

    /// Requests that fail until the breaker has opened.
    async fn until_open(retries: &Retries, breakers: &crate::Breakers) {
        let open = || breakers.states()[0].open_for.is_some();
        while !open() {
            let _ = retries.once().run(Request::Get, 0, None, || async { failing(Kind::Transient, Outcome::Failed) }).await;
            sleep(Duration::from_millis(100)).await;
        }
    }

    #[tokio::test]
    async fn an_outage_stops_everybody_but_one_until_an_answer_comes() {
        let breakers = crate::Breakers::default();
        let retries = guarded(&breakers, Duration::from_secs(60));
        breakers.arm();
        until_open(&retries, &breakers).await;
        let (calls, well) = (&std::sync::atomic::AtomicU32::new(0), &std::sync::atomic::AtomicBool::new(false));
        use std::sync::atomic::Ordering::Relaxed;
        let attempt = || async move {
            calls.fetch_add(1, Relaxed);
            if well.load(Relaxed) { Ok(()) } else { failing(Kind::Transient, Outcome::Failed) }
        };
        let many = futures::future::join_all((0..50).map(|_| retries.run(Request::Get, 0, None, attempt)));
        let recovery = async {
            sleep(Duration::from_millis(1500)).await;
            assert!((1..=2).contains(&calls.load(Relaxed)), "one probe, or two, in one and a half seconds, not {}", calls.load(Relaxed));
            let state = breakers.states().remove(0);
            assert!(state.open_for.is_some_and(|open| open > FAILING) && state.opened == 1 && state.reason == "it failed", "{state:?}");
            well.store(true, Relaxed);
        };
        let (many, ()) = tokio::join!(many, recovery);
        assert!(many.iter().all(Result::is_ok), "who waited goes on, and waiting is no attempt");
        let state = breakers.states().remove(0);
        assert!(state.open_for.is_none() && !state.failing && state.opened == 1, "{state:?}");
    }

    #[tokio::test]
    async fn a_store_that_refuses_says_so_until_it_grants_a_request_of_that_kind() {
        let breakers = crate::Breakers::default();
        let retries = guarded(&breakers, Duration::from_secs(60));
        breakers.arm();
        let refuse = |request| retries.run(request, 0, None, || async { failing(Kind::Denied, Outcome::Denied) });
        let refusing = || breakers.states().remove(0).refusing;
        for _ in 0..20 {
            assert!(refuse(Request::Put).await.is_err());
        }
        assert!(refusing().is_none(), "all at one moment");
        sleep(Duration::from_millis(1100)).await;
        assert!(refuse(Request::Put).await.is_err());
        retries.run(Request::Get, 0, None, || async { Ok(()) }).await.unwrap();
        let found = refusing().unwrap();
        assert!(found.lasted > Duration::from_secs(1) && found.reason == "it failed" && !found.tidying, "{found:?}");
        assert!(breakers.states()[0].open_for.is_none(), "nobody waits: others may be granted what they ask");
        retries.run(Request::Put, 0, None, || async { Ok(()) }).await.unwrap();
        assert!(refusing().is_none());
    }

    const FAILING: Duration = Duration::from_secs(2);

    #[tokio::test]
    async fn who_waits_for_a_store_gives_up_in_time_and_sends_nothing() {
        let breakers = crate::Breakers::default();
        let retries = guarded(&breakers, Duration::from_millis(300));
        breakers.arm();
        until_open(&retries, &breakers).await;
        let breaker = breakers.of("store".to_owned());
        // somebody else's probe, which hangs
        let probe = breaker.leave(Instant::now() + Duration::from_secs(5)).await.unwrap();
        for deadline in [None, Some(Instant::now() + Duration::from_millis(100))] {
            let started = Instant::now();
            let error = retries.run(Request::Get, 0, deadline, || async { panic!("it was sent") as Result<(), FailedAttempt> }).await.unwrap_err();
            assert!(error.kind() == Kind::Transient && started.elapsed() < Duration::from_millis(1000), "{error} after {:?}", started.elapsed());
        }
        // the probe's sender is gone: the next one takes its place
        drop(probe);
        retries.run(Request::Get, 0, None, || async { Ok(()) }).await.unwrap();
    }

    #[tokio::test]
    async fn a_blip_an_answer_in_between_or_a_start_opens_nothing() {
        let breakers = crate::Breakers::default();
        let retries = guarded(&breakers, Duration::from_secs(60)).once();
        let fails = || async { failing(Kind::Transient, Outcome::Failed) };
        for round in 0..40 {
            let _ = retries.run(Request::Get, 0, None, fails).await;
            sleep(Duration::from_millis(60)).await;
            assert!(breakers.states()[0].open_for.is_none(), "not armed, round {round}");
        }
        let _ = retries.run(Request::Get, 0, None, || async { failing(Kind::Missing, Outcome::Refused) }).await;
        breakers.arm();
        let blip = futures::future::join_all((0..50).map(|_| retries.run(Request::Get, 0, None, fails)));
        assert!(blip.await.iter().all(Result::is_err) && breakers.states()[0].open_for.is_none(), "fifty at one moment");
        for round in 0..40 {
            let _ = retries.run(Request::Get, 0, None, fails).await;
            sleep(Duration::from_millis(60)).await;
            if round % 4 == 0 {
                let _ = retries.run(Request::Get, 0, None, || async { failing(Kind::Denied, Outcome::Denied) }).await;
            }
            assert!(breakers.states()[0].open_for.is_none(), "an answer now and then, round {round}");
        }
    }
}
