//! The asynchronous runtime of a command.

use std::future::Future;

/// Runs a command's future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("kas3").build()?;
    let outcome = runtime.block_on(future);
    // A request that hangs must not keep a finished command from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome
}
