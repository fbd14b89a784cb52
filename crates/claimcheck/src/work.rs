//! Work that would hold up the async threads is done beside them.

use crate::{Error, Kind, Result};

/// Hashing so much takes a few hundred microseconds, compressing it more.
const INLINE_BYTES_MAX: u64 = 64 << 10;

/// Does `work` on so many bytes: here, or on a thread where it may take its time.
pub(crate) async fn on_bytes<T: Send + 'static>(bytes: u64, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if bytes <= INLINE_BYTES_MAX { work() } else { beside(work).await? }
}

/// Does what waits or takes long on a thread of its own.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::new(Kind::Fatal, "the work on a payload stopped").source(error))
}
