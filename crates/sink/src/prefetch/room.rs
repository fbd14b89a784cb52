//! Room in memory for what transforms bring. Taken in the order of the records of a partition, so that nobody behind can hold
//! what the next one in line needs; given back when the lane has taken the record in.

use crate::budget::{Budget, Held};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for, in bytes: so there are few enough of them to count in 32 bits.
const UNIT_BYTES: u64 = 4 << 10;

/// A payload is there twice while its lane takes it in: as it came, and in the encoder's block.
const COPIES: u64 = 2;

/// Room for all lanes that share transforms. What is larger than all of it goes alone.
pub(crate) struct Room {
    all: Arc<Semaphore>,
    units: u32,
    budget: Option<Arc<Budget>>,
}

/// The part of the room that one lane may take: half, so that a lane that cannot go on leaves room to the others.
pub(crate) struct LaneRoom {
    room: Arc<Room>,
    own: Arc<Semaphore>,
    units: u32,
}

/// Bytes that have their room, until this is dropped.
#[derive(Default)]
pub(crate) struct Ticket {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
    held: Option<Held>,
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

fn semaphore(units: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)))
}

impl Room {
    /// Room for `bytes`, counted in the budget if there is one.
    pub(crate) fn new(bytes: u64, budget: Option<Arc<Budget>>) -> Arc<Self> {
        let units = units(bytes).max(2);
        Arc::new(Room { all: semaphore(units), units, budget })
    }

    /// The part of one lane.
    pub(crate) fn lane(self: &Arc<Self>) -> LaneRoom {
        let units = (self.units / 2).max(1);
        LaneRoom { room: Arc::clone(self), own: semaphore(units), units }
    }
}

impl LaneRoom {
    /// Waits for room. To be asked for one record of the lane after the other.
    pub(crate) async fn take(&self, bytes: u64) -> Ticket {
        let wanted = units(bytes.saturating_mul(COPIES));
        // both are open for as long as they live
        let own = Arc::clone(&self.own).acquire_many_owned(wanted.min(self.units)).await.ok();
        let all = Arc::clone(&self.room.all).acquire_many_owned(wanted.min(self.room.units)).await.ok();
        let held = self.room.budget.as_ref().map(|budget| Held::new(budget, bytes));
        Ticket { _own: own, _all: all, held }
    }
}

impl Ticket {
    /// So many bytes came.
    pub(crate) fn came(&mut self, bytes: u64) {
        if let Some(held) = &mut self.held {
            held.resize(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn what_is_larger_than_all_of_the_room_goes_alone_and_a_lane_that_holds_on_leaves_half_to_the_others() {
        let room = Room::new(2 << 20, None);
        let (one, two) = (room.lane(), room.lane());
        let stuck = one.take(512 << 10).await;
        assert!(one.take(1).now_or_never().is_none(), "a lane has half of the room");
        let other = two.take(512 << 10).now_or_never().expect("the other half is for others");
        let third = room.lane();
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
}
