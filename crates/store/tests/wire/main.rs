//! The store on S3 as it looks from the wire: what MinIO lacks is shown against stand-ins.
#![allow(clippy::unwrap_used)]

mod credentials;
mod requests;
mod stand_in;
