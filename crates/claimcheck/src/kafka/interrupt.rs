//! Calls that wait can be torn from it: by a signal, when the caller is an interpreter that has to look for them.

use crate::{Error, Kind, Result};
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// A waiting call looks so often whether it should go on.
pub(super) const SLICE: Duration = Duration::from_millis(50);

type Check<'a> = &'a dyn Fn() -> bool;

thread_local! {
    /// What the caller of this thread wants asked while it waits.
    static CHECK: RefCell<Option<Check<'static>>> = const { RefCell::new(None) };
}

/// Gives the thread back its former check, however `work` ends.
struct Restore(Option<Check<'static>>);

impl Drop for Restore {
    fn drop(&mut self) {
        CHECK.with(|check| *check.borrow_mut() = self.0.take());
    }
}

/// Does `work`, whose waits of this thread ask `interrupted` every 50 ms and end with an error once it says so.
///
/// ```
/// use kas3_claimcheck::kafka::interruptible;
/// let pressed = || false;                         // Ctrl-C, say
/// assert_eq!(interruptible(&pressed, || 1 + 1), 2);
/// ```
#[allow(unsafe_code)]
pub fn interruptible<T>(interrupted: &dyn Fn() -> bool, work: impl FnOnce() -> T) -> T {
    // SAFETY: only the lifetime changes. The reference is taken out again before this function returns or unwinds, by `Restore`, and
    // it is used by this thread alone.
    let check = unsafe { std::mem::transmute::<Check<'_>, Check<'static>>(interrupted) };
    let _restore = Restore(CHECK.with(|slot| slot.borrow_mut().replace(check)));
    work()
}

/// Fails when the caller of this thread wants to go on without an answer.
pub(super) fn check() -> Result<()> {
    let asked = CHECK.with(|check| *check.borrow());
    match asked {
        Some(interrupted) if interrupted() => Err(Error::new(Kind::Transient, "the call was interrupted while it waited").hint("call again")),
        _ => Ok(()),
    }
}

/// Waits for `work`, and looks meanwhile whether to go on.
pub(super) fn block_on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> Result<T> {
    if CHECK.with(|check| check.borrow().is_none()) {
        return Ok(runtime.block_on(work));
    }
    let mut work = std::pin::pin!(work);
    loop {
        if let Ok(done) = runtime.block_on(async { tokio::time::timeout(SLICE, work.as_mut()).await }) {
            return Ok(done);
        }
        check()?;
    }
}

/// Waits as `block_on` does, at most until `deadline`; `None` when that came first.
pub(super) fn block_on_until<T>(runtime: &Runtime, deadline: Instant, work: impl Future<Output = T>) -> Result<Option<T>> {
    block_on(runtime, async { tokio::time::timeout_at(deadline.into(), work).await.ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_its_caller_wants_to_go_and_not_before() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let begun = Instant::now();
        let pressed = || begun.elapsed() > Duration::from_millis(60);
        let waited = interruptible(&pressed, || block_on(&runtime, std::future::pending::<()>()));
        assert!(waited.is_err() && begun.elapsed() < Duration::from_secs(5));
        // outside nobody asks, and inside another one only the inner one
        assert!(block_on(&runtime, async { 1 }).is_ok());
        let inner = interruptible(&|| true, || interruptible(&|| false, || check().is_ok()));
        assert!(inner && check().is_ok());
        assert_eq!(block_on_until(&runtime, Instant::now() + SLICE, std::future::pending::<()>()).unwrap(), None);
    }
}
