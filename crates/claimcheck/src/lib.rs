//! The claim check: payloads too large for Kafka travel through S3, and a reference to each through Kafka.
//!
//! [`ClaimCheck`] is a codec to be put around a client of one's own; with feature `kafka` there are a `Producer` and a
//! `Consumer`. What a reference names is verified before it is handed out: bucket, prefix, size before and while it is read,
//! ETag, SHA-256, and what it inflates to. A record is never sent before its payload is stored, so there is no reference to
//! nothing; what a crash leaves behind is a payload without a reference, which `kas3 payloads gc` finds.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use kas3_claimcheck::{About, ClaimCheck, ClaimCheckSettings};
//! let folder = tempfile::tempdir().unwrap();
//! let settings = ClaimCheckSettings { url: format!("file://{}", folder.path().display()), ..Default::default() };
//! let claims = ClaimCheck::open(settings).await?;
//!
//! let payload = vec![7; 5_000_000];
//! let sent = claims.offload(payload.clone().into(), &About::topic("orders")).await?;
//! assert!(sent.value.len() < 500);            // goes to Kafka, with sent.headers
//!
//! let got = claims.resolve(Some(sent.value), &sent.headers).await?;
//! assert_eq!(got.unwrap(), payload);
//! # Ok::<(), kas3_claimcheck::Error>(()) }).unwrap();
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

/// The examples of the manual are tests.
#[cfg(all(doctest, feature = "kafka"))]
#[doc = include_str!("../../../docs/claim-check.md")]
struct Manual;

mod about;
mod codec;
mod compress;
mod error;
mod formats;
#[cfg(feature = "kafka")]
pub mod kafka;
mod keys;
mod places;
mod read;
mod reference;
mod resources;
mod settings;
pub mod trace;
mod work;
mod write;

pub use about::About;
pub use codec::{Claim, ClaimCheck, Sent};
pub use error::{Error, Kind, Reason, Result};
pub use formats::{FORMATS, Found, Inline, ReferenceFormat, are_told_apart, format_named};
pub use kas3_store::{Observer, StorageSettings, Unobserved};
pub use places::bucket_and_prefix;
pub use read::PayloadStream;
pub use reference::{CHUNK_BYTES, Compression, Headers, PREFIX_SUM_BYTES, PREFIX_SUMS_MAX, PrefixSums, Reference, Sha};
pub use settings::ClaimCheckSettings;
