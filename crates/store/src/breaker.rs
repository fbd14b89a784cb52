//! A circuit breaker around a store: when it fails for everybody, everybody waits, and one request at a time finds out whether
//! it is back. Beside that it keeps what a store refuses that answers: no permission, no bucket, no room.
//!
//! Without it every partition would repeat its own requests through an outage, and say so in the log: a thousand voices for one
//! cause. It changes nothing of what a request may do: whoever has a deadline gives up then, and limits of retries hold.
//!
//! ```text
//! closed --failures on end, for seconds--> open --a probe is answered--> closed
//!                                           ^--the probe fails: later--'
//! ```

use crate::{Error, Request, attempt::FailedAttempt};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

/// So many failures on end open it when they took [`FAILING_MIN`] together: a blip that hits many requests at once does not.
const FAILURES_MIN: u32 = 5;
const FAILING_MIN: Duration = Duration::from_secs(2);
/// Two will do when they are so far apart: requests that are never answered fail slowly.
const FAILURES_SLOW: u32 = 2;
const FAILING_SLOW: Duration = Duration::from_secs(10);
/// The wait for the first probe, drawn from its upper half; each further one is twice as long.
const PROBE_FIRST: Duration = Duration::from_secs(1);
/// The longest wait for a probe, unless the store asks for more.
const PROBE_MAX: Duration = Duration::from_secs(15);
/// Those who waited do not all begin at one moment, but within this.
const SPREAD: Duration = Duration::from_millis(500);
/// Nobody waits and nothing was tried for so long: there is no outage without requests.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// So many refusals of one kind of request, none granted between them, mean that the store refuses when they are so far apart.
const REFUSALS_MIN: u32 = 2;
const REFUSING_MIN: Duration = Duration::from_secs(1);
/// What only tidies up is asked for rarely: its refusal is kept for so long.
const TIDYING_FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// The breakers of one process, one for each store that it asks: an endpoint and a bucket. Cheap to clone.
///
/// They do nothing until they are [armed](Breakers::arm): at a start, a wrong setting must show at once.
#[derive(Clone, Default)]
pub struct Breakers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    armed: AtomicBool,
    all: Mutex<BTreeMap<String, Arc<Breaker>>>,
}

/// One breaker, as of now.
#[derive(Clone, Debug)]
pub struct BreakerState {
    /// The store: its endpoint and bucket.
    pub store: String,
    /// How long it has been open; `None` when it is closed.
    pub open_for: Option<Duration>,
    /// Requests fail right now, though perhaps not for long enough to open it.
    pub failing: bool,
    /// What failed last.
    pub reason: String,
    /// The way out of that; empty where there is none to name.
    pub hint: String,
    /// Times that it was opened.
    pub opened: u64,
    /// It answers, and refuses what is asked.
    pub refusing: Option<Refusing>,
}

/// What a store refuses that answers.
#[derive(Clone, Debug)]
pub struct Refusing {
    /// For how long, without granting a request of the kind.
    pub lasted: Duration,
    /// What it answered last.
    pub reason: String,
    /// The way out; empty where there is none to name.
    pub hint: String,
    /// It refuses only what tidies up: records become visible all the same.
    pub tidying: bool,
}

impl Breakers {
    /// From now on they open.
    pub fn arm(&self) {
        self.0.armed.store(true, Ordering::Relaxed);
    }

    /// All of them, by name.
    pub fn states(&self) -> Vec<BreakerState> {
        lock(&self.0.all).values().map(|breaker| breaker.now()).collect()
    }

    /// The breaker of one store, the same for everybody who names it.
    pub(crate) fn of(&self, store: String) -> Arc<Breaker> {
        let mut all = lock(&self.0.all);
        let breaker = || Breaker { store: store.clone(), shared: Arc::downgrade(&self.0), state: Mutex::default(), changed: Notify::new() };
        Arc::clone(all.entry(store.clone()).or_insert_with(|| Arc::new(breaker())))
    }
}

/// What only tidies up may be refused while everything else goes on.
fn tidies(request: Request) -> bool {
    matches!(request, Request::Delete | Request::AbortUpload)
}

/// Refusals of one kind of request since one was granted.
struct Refusals {
    first: Instant,
    last: Instant,
    count: u32,
    reason: String,
    hint: String,
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.states()).finish()
    }
}

/// The breaker of one store.
pub(crate) struct Breaker {
    store: String,
    shared: std::sync::Weak<Shared>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Failures since the last answer: how many, the first and the last.
    failures: Option<(u32, Instant, Instant)>,
    reason: String,
    hint: String,
    open: Option<Open>,
    waiting: usize,
    opened: u64,
    refusals: BTreeMap<Request, Refusals>,
}

struct Open {
    since: Instant,
    wait: Duration,
    probe_at: Instant,
    probing: bool,
}

/// Leave to send one request. Dropped without a word, the request never came to an end.
pub(crate) struct Leave<'a> {
    breaker: Option<&'a Breaker>,
    probes: bool,
}

impl Breaker {
    /// Waits until a request may be sent; `None` when that is not before `until`.
    pub(crate) async fn leave(&self, until: Instant) -> Option<Leave<'_>> {
        let mut waiting = None;
        loop {
            let changed = self.changed.notified();
            let wake_at = match self.ask() {
                Ok(probes) => {
                    if waiting.is_some() && !probes {
                        sleep(SPREAD.mul_f64(rand::random::<f64>())).await;
                    }
                    return (Instant::now() < until).then_some(Leave { breaker: Some(self), probes });
                }
                Err(wake_at) => wake_at,
            };
            waiting.get_or_insert_with(|| Waiting::new(self));
            if Instant::now() >= until {
                return None;
            }
            let _ = timeout_at(wake_at.min(until), changed).await;
        }
    }

    /// Whether a request may go, and goes as a probe; or when to ask again.
    fn ask(&self) -> Result<bool, Instant> {
        let mut state = lock(&self.state);
        let Some(open) = &mut state.open else { return Ok(false) };
        let now = Instant::now();
        if !open.probing && now >= open.probe_at {
            open.probing = true;
            return Ok(true);
        }
        Err(if open.probing { now + PROBE_FIRST } else { open.probe_at })
    }

    /// The store granted a request, or said that a condition does not hold.
    pub(crate) fn answered(&self, request: Request) {
        self.heard(&mut lock(&self.state)).refusals.remove(&request);
    }

    /// The store answered, and refuses.
    pub(crate) fn refused(&self, request: Request, error: &Error) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let refusals = self.heard(&mut state).refusals.entry(request).or_insert_with(|| Refusals {
            first: now,
            last: now,
            count: 0,
            reason: String::new(),
            hint: String::new(),
        });
        (refusals.last, refusals.reason) = (now, error.chain());
        error.way_out().unwrap_or_default().clone_into(&mut refusals.hint);
        refusals.count += 1;
    }

    fn heard<'a>(&self, state: &'a mut State) -> &'a mut State {
        state.failures = None;
        if let Some(open) = state.open.take() {
            self.changed.notify_waiters();
            tracing::debug!(store = self.store, open_s = open.since.elapsed().as_secs_f32(), "the store answers again");
        }
        state
    }

    fn failed(&self, failure: &FailedAttempt, probed: bool) {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let (count, first) = state.failures.map_or((1, now), |(count, first, _)| (count + 1, first));
        state.failures = Some((count, first, now));
        state.reason = failure.error.chain();
        failure.error.way_out().unwrap_or_default().clone_into(&mut state.hint);
        let least = failure.wait_min();
        if let Some(open) = &mut state.open {
            if probed {
                open.wait = (open.wait * 2).min(PROBE_MAX);
                open.probe_at = now + jittered(open.wait).max(least);
            }
            return;
        }
        let lasted = now - first;
        let opens = (count >= FAILURES_MIN && lasted >= FAILING_MIN) || (count >= FAILURES_SLOW && lasted >= FAILING_SLOW);
        if opens && self.shared.upgrade().is_some_and(|shared| shared.armed.load(Ordering::Relaxed)) {
            state.opened += 1;
            state.open = Some(Open { since: first, wait: PROBE_FIRST, probe_at: now + jittered(PROBE_FIRST).max(least), probing: false });
            tracing::debug!(store = self.store, reason = state.reason, "requests to the store wait from now on");
        }
    }

    fn now(&self) -> BreakerState {
        let mut state = lock(&self.state);
        let forgotten = state.waiting == 0 && state.failures.is_some_and(|(_, _, last)| last.elapsed() >= FORGOTTEN_AFTER);
        if forgotten && state.open.as_ref().is_none_or(|open| !open.probing) {
            state.failures = None;
            if state.open.take().is_some() {
                tracing::debug!(store = self.store, "nobody asks the store any more");
            }
        }
        state.refusals.retain(|request, refusals| refusals.last.elapsed() < if tidies(*request) { TIDYING_FORGOTTEN_AFTER } else { FORGOTTEN_AFTER });
        // what tidies up is asked once: the first refusal of it says all
        let lasts = |refusals: &Refusals| refusals.count >= REFUSALS_MIN && refusals.last - refusals.first >= REFUSING_MIN;
        let lasting = state.refusals.iter().filter(|(request, refusals)| tidies(**request) || lasts(refusals));
        let refusing = lasting.min_by_key(|(request, refusals)| (tidies(**request), refusals.first)).map(|(request, refusals)| Refusing {
            lasted: refusals.first.elapsed(),
            reason: refusals.reason.clone(),
            hint: refusals.hint.clone(),
            tidying: tidies(*request),
        });
        BreakerState {
            store: self.store.clone(),
            open_for: state.open.as_ref().map(|open| open.since.elapsed()),
            failing: state.failures.is_some(),
            reason: state.reason.clone(),
            hint: state.hint.clone(),
            opened: state.opened,
            refusing,
        }
    }
}

impl Leave<'_> {
    /// Leave where there is no breaker.
    pub(crate) fn always() -> Leave<'static> {
        Leave { breaker: None, probes: false }
    }

    /// The store granted the request, or said that a condition does not hold.
    pub(crate) fn answered(mut self, request: Request) {
        if let Some(breaker) = self.breaker.take() {
            breaker.answered(request);
        }
    }

    /// The store answered as a store that is well may: it refuses, or this one request failed.
    pub(crate) fn refused(mut self, request: Request, failure: &FailedAttempt) {
        if let Some(breaker) = self.breaker.take() {
            if failure.refuses && request != Request::ListUploads {
                breaker.refused(request, &failure.error);
            } else {
                breaker.heard(&mut lock(&breaker.state));
            }
        }
    }

    /// It did not answer, or not as a store that is well.
    pub(crate) fn failed(self, failure: &FailedAttempt) {
        if let Some(breaker) = self.breaker {
            breaker.failed(failure, self.probes);
        }
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let (Some(breaker), true) = (self.breaker, self.probes) {
            if let Some(open) = &mut lock(&breaker.state).open {
                open.probing = false;
            }
            breaker.changed.notify_one();
        }
    }
}

/// Counts who waits, for as long as it lives.
struct Waiting<'a>(&'a Breaker);

impl<'a> Waiting<'a> {
    fn new(breaker: &'a Breaker) -> Self {
        lock(&breaker.state).waiting += 1;
        Waiting(breaker)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).waiting -= 1;
    }
}

fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
