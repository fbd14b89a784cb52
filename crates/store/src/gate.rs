//! Bounds what is held in memory, in the order of those who ask: nobody behind can take the room that the next one in line needs.
//!
//! ```text
//! tickets:  1 ──── 2 ──── 3        2 waits for room: 3 waits as well, however small it is
//! room:     [1111      ]  limit
//! ```
//! Guarantee: never more than the limit is held, but for one that is larger than all of it, which goes alone. Whoever is the first
//! in line gets its room as soon as enough was given back, so as long as those who have room give it back, nobody waits for ever.
//! What fits at once costs one lock and no allocation.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

/// Room for so many bytes. Cheap to clone.
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    limit: u64,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Tickets that have not had their turn, with what those ask for that are being waited for.
    line: BTreeMap<u64, Option<Waiting>>,
    held: u64,
}

struct Waiting {
    bytes: u64,
    waker: Waker,
}

/// A place in the line; later the room that it was given. Gives both back when it is dropped.
pub struct Ticket {
    gate: Gate,
    number: u64,
    held: u64,
}

/// The part of a gate that one of many takes: half, so that one that cannot go on leaves room to the others.
pub struct Share {
    own: Gate,
    all: Gate,
}

/// Room in a share, until this is dropped.
pub struct SharedTicket {
    _own: Ticket,
    _all: Ticket,
}

impl Gate {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Gate {
        Gate(Arc::new(Shared { state: Mutex::default(), limit }))
    }

    /// A share of it.
    pub fn share(&self) -> Share {
        Share { own: Gate::new(self.0.limit / 2), all: self.clone() }
    }

    /// The next place in the line.
    pub fn ticket(&self) -> Ticket {
        let mut state = self.state();
        let number = state.number();
        state.line.insert(number, None);
        Ticket { gate: self.clone(), number, held: 0 }
    }

    /// Room for `bytes` if nobody is in line and there is enough.
    pub fn at_once(&self, bytes: u64) -> Option<Ticket> {
        let mut state = self.state();
        if !state.line.is_empty() || !state.fits(bytes, self.0.limit) {
            return None;
        }
        state.held += bytes;
        let number = state.number();
        Some(Ticket { gate: self.clone(), number, held: bytes })
    }

    /// Room for `bytes`, behind all that are in line now.
    pub async fn take(&self, bytes: u64) -> Ticket {
        if let Some(ticket) = self.at_once(bytes) {
            return ticket;
        }
        let mut ticket = self.ticket();
        ticket.take(bytes).await;
        ticket
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.state().held
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn fits(&self, bytes: u64, limit: u64) -> bool {
        self.held == 0 || self.held.saturating_add(bytes) <= limit
    }

    /// The first in line, if it is waited for and there is enough now.
    fn next_to_go(&mut self, limit: u64) -> Option<Waker> {
        let bytes = self.line.first_key_value()?.1.as_ref()?.bytes;
        let goes = self.fits(bytes, limit);
        self.line.first_entry().filter(|_| goes)?.get_mut().take().map(|waiting| waiting.waker)
    }
}

impl Ticket {
    /// Takes the room if it is this ticket's turn and there is enough. Once only.
    pub fn try_take(&mut self, bytes: u64) -> bool {
        self.take_or_wait(bytes, None)
    }

    /// Waits for the room. Once only.
    pub async fn take(&mut self, bytes: u64) {
        std::future::poll_fn(|context| if self.take_or_wait(bytes, Some(context.waker())) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn take_or_wait(&mut self, bytes: u64, waker: Option<&Waker>) -> bool {
        let limit = self.gate.0.limit;
        let mut state = self.gate.state();
        let is_first = state.line.first_key_value().is_some_and(|(number, _)| *number == self.number);
        if !is_first || !state.fits(bytes, limit) {
            if let (Some(waker), Some(place)) = (waker, state.line.get_mut(&self.number)) {
                *place = Some(Waiting { bytes, waker: waker.clone() });
            }
            return false;
        }
        state.line.remove(&self.number);
        state.held += bytes;
        self.held = bytes;
        let next = state.next_to_go(limit);
        drop(state);
        next.into_iter().for_each(Waker::wake);
        true
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.line.remove(&self.number);
        state.held -= self.held;
        let next = state.next_to_go(self.gate.0.limit);
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }
}

impl Share {
    /// Waits for room for `bytes`: first in the share, which keeps nobody else waiting, then in all of it.
    pub async fn take(&self, bytes: u64) -> SharedTicket {
        let own = self.own.take(bytes).await;
        SharedTicket { _own: own, _all: self.all.take(bytes).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::time::Duration;

    #[tokio::test]
    async fn room_is_given_in_order_and_never_beyond_the_limit() {
        let gate = Gate::new(100);
        let (mut first, mut second, mut third) = (gate.ticket(), gate.ticket(), gate.ticket());
        assert!(!second.try_take(10), "it is not its turn");
        first.take(70).await;
        assert!(!second.try_take(40), "there is no room");
        assert!(!third.try_take(10), "nobody overtakes");
        assert!(gate.at_once(1).is_none(), "nobody overtakes");
        drop(first);
        second.take(40).await;
        third.take(60).await;
        assert_eq!(gate.held(), 100);
    }

    #[tokio::test]
    async fn one_beyond_the_limit_goes_alone_and_one_that_leaves_the_line_holds_up_nobody() {
        let gate = Gate::new(100);
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

    #[tokio::test]
    async fn what_is_larger_than_all_of_the_room_goes_alone_and_a_share_that_holds_on_leaves_half_to_the_others() {
        let gate = Gate::new(2 << 20);
        let (one, two) = (gate.share(), gate.share());
        let stuck = one.take(1 << 20).await;
        assert!(one.take(1).now_or_never().is_none(), "a share has half of the room");
        let other = two.take(1 << 20).now_or_never().expect("the other half is for others");
        let third = gate.share();
        let mut large = Box::pin(third.take(64 << 20));
        assert!((&mut large).now_or_never().is_none(), "there is no room");
        drop(stuck);
        assert!((&mut large).now_or_never().is_none(), "it goes alone");
        drop(other);
        let large = large.now_or_never().expect("it goes alone, but it goes");
        assert!(two.take(1).now_or_never().is_none());
        drop(large);
        assert!(two.take(1).now_or_never().is_some());
    }

    /// Many tasks, some larger than all, some that give up while they wait: each of the others gets its room.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everybody_gets_room_whoever_gives_up() {
        let (gate, taken) = (Gate::new(100), Arc::new(Mutex::new(0)));
        let mut tasks = Vec::new();
        for number in 0..500_u64 {
            let (mut ticket, taken) = (gate.ticket(), Arc::clone(&taken));
            tasks.push(tokio::spawn(async move {
                if number % 7 == 3 {
                    _ = tokio::time::timeout(Duration::from_micros(number), std::future::pending::<()>()).await;
                    return;
                }
                ticket.take(number * 13 % 120).await;
                *taken.lock().unwrap() += 1;
                tokio::task::yield_now().await;
            }));
        }
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(30), task).await.expect("somebody waits for ever").unwrap();
        }
        assert_eq!(gate.held(), 0);
        assert_eq!(*taken.lock().unwrap(), (0..500).filter(|number| number % 7 != 3).count());
    }
}
