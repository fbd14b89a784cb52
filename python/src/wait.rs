//! Waiting without the interpreter, in slices, so that Ctrl-C ends it.

use pyo3::prelude::*;
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_millis(100);

/// Seconds as Python gives them; negative or `None`: for ever.
pub(crate) fn deadline(timeout: Option<f64>) -> Option<Instant> {
    let seconds = timeout.filter(|seconds| *seconds >= 0.0 && seconds.is_finite())?;
    Duration::try_from_secs_f64(seconds).ok().and_then(|timeout| Instant::now().checked_add(timeout))
}

/// Calls `step` until it gives something or the time is up; `step` waits at most for as long as it is told.
pub(crate) fn until<T: Send>(py: Python<'_>, deadline: Option<Instant>, mut step: impl FnMut(Duration) -> Option<T> + Send) -> PyResult<Option<T>> {
    loop {
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
