//! What waits for others before the lane: many records of a partition at once, in order, within a bound of memory.
//!
//! What is to be fetched say the transforms of that kind ([`crate::transform::Prefetch`]); here it is fetched, and records go on
//! in the order of their offsets, as if Kafka had held them so.

mod blocking;
mod in_order;
mod room;

pub(crate) use blocking::BlockingPrefetch;
pub(crate) use in_order::{InOrder, PrefetchObserver, Prefetched};
pub(crate) use room::{LaneRoom, Room, Ticket};
