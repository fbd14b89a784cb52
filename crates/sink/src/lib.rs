//! The pipeline that moves Kafka topics into object storage exactly once.

pub mod budget;
pub mod config;
pub mod error;
pub mod format;
mod gather;
pub mod lane;
pub mod ledger;
pub mod metrics;
pub mod path;
pub mod pipeline;
pub mod record;
pub mod source;
pub mod span;
pub mod status;
pub mod transform;
pub mod verify;

pub use error::{Error, Kind, Result};
