//! Waiting without the interpreter, so that other threads go on and Ctrl-C ends it within a tenth of a second. There are three ways:
//! in slices, where the call can be made again; with a look in between, where the core looks itself; and beside, for calls of
//! librdkafka that wait and cannot be torn from it.

use crate::{errors, fork::PerProcess, logs};
use kas3_claimcheck::{Error, Kind, Result, kafka};
use pyo3::prelude::*;
use std::{
    cell::RefCell,
    sync::mpsc::{RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

const SLICE: Duration = Duration::from_millis(50);

/// Threads for requests to stores, for all codecs of the process.
static RUNTIME: PerProcess<Runtime> = PerProcess::new();

/// Seconds as Python gives them; negative or `None`: for ever.
pub(crate) fn deadline(timeout: Option<f64>) -> Option<Instant> {
    let seconds = timeout.filter(|seconds| *seconds >= 0.0 && seconds.is_finite())?;
    Duration::try_from_secs_f64(seconds).ok().and_then(|timeout| Instant::now().checked_add(timeout))
}

/// The same as a duration, for calls that need one.
pub(crate) fn seconds(timeout: f64) -> Duration {
    Duration::try_from_secs_f64(timeout).map_or(Duration::from_secs(24 * 3600), |timeout| timeout.min(Duration::from_secs(24 * 3600)))
}

/// Calls `step` until it gives something or the time is up; `step` waits at most for as long as it is told.
pub(crate) fn until<T: Send>(py: Python<'_>, deadline: Option<Instant>, mut step: impl FnMut(Duration) -> Option<T> + Send) -> PyResult<Option<T>> {
    loop {
        logs::hand_over(py)?;
        let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if let Some(got) = py.detach(|| step(left.min(SLICE))) {
            return Ok(Some(got));
        }
        py.check_signals()?;
        if left <= SLICE && deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}

/// Waits for requests to stores.
pub(crate) fn future<T: Send>(py: Python<'_>, work: impl Future<Output = Result<T>> + Send) -> PyResult<T> {
    let made = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("kas3-claims").enable_all().build();
    let runtime = RUNTIME.get_or_make(made);
    let runtime = runtime.map_err(|error| errors::raised(py, &Error::new(Kind::Fatal, "no threads can be started").source(error)))?;
    let mut work = std::pin::pin!(work);
    let done = until(py, None, |slice| runtime.block_on(async { tokio::time::timeout(slice, work.as_mut()).await.ok() }))?;
    done.unwrap_or_else(|| Err(stopped())).map_err(|error| errors::raised(py, &error))
}

/// Does work of the core that looks itself whether it should go on.
pub(crate) fn interruptible<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    logs::hand_over(py)?;
    let (done, raised) = py.detach(|| {
        let raised = RefCell::new(None);
        let pressed = || {
            let signals = Python::try_attach(|py| py.check_signals());
            if let Some(Err(error)) = signals {
                raised.borrow_mut().get_or_insert(error);
            }
            raised.borrow().is_some()
        };
        let done = kafka::interruptible(&pressed, work);
        (done, raised.into_inner())
    });
    raised.map_or(Ok(done), Err)
}

/// Does work on a thread of its own. Who is torn from waiting leaves it to its end.
pub(crate) fn beside<T: Send + 'static>(py: Python<'_>, work: impl FnOnce() -> T + Send + 'static) -> PyResult<T> {
    let (sender, receiver) = sync_channel(1);
    let thread = std::thread::Builder::new().name("kas3-call".to_owned()).spawn(move || _ = sender.send(work()));
    thread.map_err(|error| errors::raised(py, &Error::new(Kind::Fatal, "no thread can be started").source(error)))?;
    let done = until(py, None, move |wait| match receiver.recv_timeout(wait) {
        Ok(done) => Some(Some(done)),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(None),
    })?;
    done.flatten().ok_or_else(|| errors::raised(py, &stopped()))
}

/// The same for calls of Kafka's client.
pub(crate) fn asking<T: Send + 'static>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send + 'static) -> PyResult<T> {
    beside(py, work)?.map_err(|error| errors::raised(py, &error))
}

fn stopped() -> Error {
    Error::new(Kind::Fatal, "the thread that did the work stopped")
}
