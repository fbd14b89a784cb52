//! A Producer and a Consumer on librdkafka whose payloads travel through a store.

mod ahead;
mod answers;
mod client;
mod consumer;
mod deletions;
mod gate;
mod lanes;
mod letters;
mod outgoing;
mod producer;
mod records;
mod settings;

pub use client::{error_of_kafka, properties_of_client};
pub use consumer::Consumer;
pub(crate) use gate::Ticket;
pub use outgoing::{Delivered, Outgoing, Payload, Report, Undelivered};
pub use producer::Producer;
pub use rdkafka;
pub use records::{Failed, Incoming, Listener, Position, Rebalance, Received};
pub use settings::{ConsumerSettings, DeleteSettings, Order, Policy, ProducerSettings};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a thread that panicked has left is taken as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
