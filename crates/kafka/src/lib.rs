//! What all clients of librdkafka here share, the sink's, the claim check's and the command's: the properties that they begin
//! with, what an error means for its caller, how they sign in to Amazon MSK, and what brokers last said.
//!
//! ```
//! use std::collections::BTreeMap;
//! let kafka = BTreeMap::from([("bootstrap.servers".to_owned(), "b:9092".to_owned()), ("group.id".to_owned(), "g".to_owned())]);
//! let config = kas3_kafka::client_config(&kafka);
//! assert_eq!(config.get("client.id"), Some("kas3"));
//! assert!(!kas3_kafka::properties_of_client(&kafka).contains_key("group.id"));
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod connection;
mod errors;
mod msk_iam;
mod properties;
pub mod refusal;

pub use connection::{Connection, log};
pub use errors::{Kind, hint, kind, kind_of_code};
pub use properties::{client_config, properties_of_client};
