//! Room in memory for what transforms bring. Taken in the order of the records of a partition, so that nobody behind can hold
//! what the next one in line needs; given back when the lane has taken the record in.

use crate::budget::{Budget, Held};
use kas3_store::gate::{Gate, Share, SharedTicket};
use std::sync::Arc;

/// A payload is there twice while its lane takes it in: as it came, and in the encoder's block.
const COPIES: u64 = 2;

/// Room for all lanes that share transforms. What is larger than all of it goes alone.
pub(crate) struct Room {
    gate: Gate,
    budget: Option<Arc<Budget>>,
}

/// The part of the room that one lane may take: half, so that a lane that cannot go on leaves room to the others.
pub(crate) struct LaneRoom {
    share: Share,
    budget: Option<Arc<Budget>>,
}

/// Bytes that have their room, until this is dropped.
#[derive(Default)]
pub(crate) struct Ticket {
    _room: Option<SharedTicket>,
    held: Option<Held>,
}

impl Room {
    /// Room for `bytes`, counted in the budget if there is one.
    pub(crate) fn new(bytes: u64, budget: Option<Arc<Budget>>) -> Arc<Self> {
        Arc::new(Room { gate: Gate::new(bytes), budget })
    }

    /// The part of one lane.
    pub(crate) fn lane(&self) -> LaneRoom {
        LaneRoom { share: self.gate.share(), budget: self.budget.clone() }
    }
}

impl LaneRoom {
    /// Waits for room. To be asked for one record of the lane after the other.
    pub(crate) async fn take(&self, bytes: u64) -> Ticket {
        let room = self.share.take(bytes.saturating_mul(COPIES)).await;
        Ticket { _room: Some(room), held: self.budget.as_ref().map(|budget| Held::new(budget, bytes)) }
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
