//! The pipeline that moves Kafka topics into object storage exactly once.

pub mod config;
pub mod error;
pub mod format;
pub mod ledger;
pub mod path;
pub mod record;
pub mod span;
pub mod status;

pub use error::{Error, Kind, Result};
