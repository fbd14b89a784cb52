//! Bounds what is read ahead, in the order of the records: nobody behind can take the room that the next one in line needs.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Room for so many bytes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Gate(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    limit: u64,
    /// Downloads at once: those in front are done sooner if not all run beside one another.
    downloads: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Tickets that have not had their turn.
    waiting: BTreeSet<u64>,
    held: u64,
}

/// A place in the line; later the room that it was given. Gives both back when it is dropped.
pub(crate) struct Ticket {
    gate: Gate,
    number: u64,
    held: u64,
}

impl Gate {
    pub(super) fn new(limit: u64, downloads: usize) -> Gate {
        Gate(Arc::new(Shared { state: Mutex::default(), changed: Notify::new(), limit, downloads: Arc::new(Semaphore::new(downloads)) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next place in the line.
    pub(super) fn ticket(&self) -> Ticket {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number);
        Ticket { gate: self.clone(), number, held: 0 }
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        self.state().held
    }
}

impl Ticket {
    /// Takes the room if it is this ticket's turn and there is enough; a payload beyond the limit goes alone.
    pub(super) fn try_take(&mut self, bytes: u64) -> bool {
        let mut state = self.gate.state();
        if state.waiting.first() != Some(&self.number) || (state.held > 0 && state.held + bytes > self.gate.0.limit) {
            return false;
        }
        state.waiting.remove(&self.number);
        state.held += bytes;
        self.held = bytes;
        drop(state);
        self.gate.0.changed.notify_waiters();
        true
    }

    /// Waits for the room.
    pub(super) async fn take(&mut self, bytes: u64) {
        loop {
            let gate = self.gate.clone();
            let changed = gate.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.try_take(bytes) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.waiting.remove(&self.number);
        state.held -= self.held;
        drop(state);
        self.gate.0.changed.notify_waiters();
    }
}

impl crate::read::Admission for Ticket {
    fn at_once(&mut self, bytes: u64) -> bool {
        self.try_take(bytes)
    }

    async fn wait(&mut self, bytes: u64) {
        self.take(bytes).await;
    }

    async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        // never closed
        self.gate.0.downloads.clone().acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn room_is_given_in_order_and_never_beyond_the_limit() {
        let gate = Gate::new(100, 1);
        let (mut first, mut second, mut third) = (gate.ticket(), gate.ticket(), gate.ticket());
        assert!(!second.try_take(10), "it is not its turn");
        first.take(70).await;
        assert!(!second.try_take(40), "there is no room");
        assert!(!third.try_take(10), "nobody overtakes");
        drop(first);
        second.take(40).await;
        third.take(60).await;
        assert_eq!(gate.held(), 100);
    }

    #[tokio::test]
    async fn one_beyond_the_limit_goes_alone_and_one_that_leaves_the_line_holds_up_nobody() {
        let gate = Gate::new(100, 1);
        let (mut first, mut huge, gone, mut last) = (gate.ticket(), gate.ticket(), gate.ticket(), gate.ticket());
        first.take(1).await;
        let waiting = tokio::spawn(async move {
            huge.take(1000).await;
            huge
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished());
        drop(first);
        let huge = waiting.await.unwrap();
        assert!(!last.try_take(1));
        drop(gone);
        drop(huge);
        assert!(last.try_take(1));
    }
}
