//! The pipeline that moves Kafka topics into object storage exactly once.
//!
//! Rooms, from the ground up; each knows only those above it (`dev/rooms` checks that):
//!
//! | room | what it holds |
//! | --- | --- |
//! | `error` `units` `suggest` `urls` `properties` `topics` `registry` `backoff` `coalesce` | the ground that all share |
//! | [`record`] [`batch`] [`row`] [`refused`] [`span`] [`report`] | what flows |
//! | [`conditions`] [`status`] [`metrics`] [`budget`] [`limits`] | what a process says of itself, and what it may hold |
//! | [`path`] [`mod@format`] [`transform`] | where a row lies, what a file holds, what happens to rows |
//! | [`plan`] | what a pipeline runs on: the configuration after it was validated |
//! | [`source`] | where records come from |
//! | [`ledger`] | the protocol |
//! | [`lane`] | partitions that roll together, their files, refusals |
//! | [`target`] | where records go |
//! | [`config`] | what the user writes |
//! | `prefetch` | what waits for others before the lane |
//! | [`pipeline`] [`verify`] | threads and queues; comparing files with Kafka |

mod backoff;
pub mod batch;
pub mod budget;
mod coalesce;
pub mod conditions;
pub mod config;
pub mod error;
pub mod format;
pub mod lane;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod path;
pub mod pipeline;
pub mod plan;
mod prefetch;
pub mod properties;
pub mod record;
pub mod refused;
pub mod registry;
pub mod report;
pub mod row;
pub mod source;
pub mod span;
pub mod status;
pub mod stops;
mod suggest;
pub mod target;
pub mod topics;
pub mod transform;
pub mod units;
mod urls;
pub mod verify;

pub use error::{Error, Kind, Result};
