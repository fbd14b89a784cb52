//! A Producer and a Consumer on librdkafka whose payloads travel through a store.

mod client;
mod consumer;
mod gate;
mod lanes;
mod producer;
mod settings;

pub use client::{error_of_kafka, properties_of_client};
pub use consumer::{Consumer, Failed, Incoming, Listener, Position, Rebalance, Received};
pub(crate) use gate::Ticket;
pub use producer::{Delivered, Outgoing, Payload, Producer, Report, Undelivered};
pub use rdkafka;
pub use settings::{ConsumerSettings, DeleteSettings, Order, Policy, ProducerSettings};
