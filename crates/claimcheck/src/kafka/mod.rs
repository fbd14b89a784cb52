//! A Producer and a Consumer on librdkafka whose payloads travel through a store.

mod answers;
mod client;
mod consumer;
mod dead_letters;
mod deletions;
mod events;
mod interrupt;
mod leaving;
mod lines;
mod names;
mod outgoing;
mod producer;
mod read_ahead;
mod ready;
mod records;
mod settings;
mod topics;

pub use client::error_of_kafka;
pub use consumer::Consumer;
pub use events::{ClientEvents, Unheard};
pub use interrupt::interruptible;
pub use kas3_kafka::{kind_of_code, properties_of_client};
pub use names::check_topic;
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
