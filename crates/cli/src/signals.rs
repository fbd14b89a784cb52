//! How commands that run for long are asked to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The first SIGTERM or SIGINT cancels `stop`, the second ends the process. Must be called inside the runtime.
///
/// # Errors
/// When the system gives no handler.
pub(crate) fn watch(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        next(&mut terminate, &mut interrupt).await;
        tracing::info!("asked to stop: flushing; a second signal ends it at once");
        stop.cancel();
        let code = next(&mut terminate, &mut interrupt).await;
        // Nothing is lost by this: what was not committed is read again.
        std::process::exit(code);
    });
    Ok(())
}

/// Waits for a signal; the exit code that belongs to it.
async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = terminate.recv() => 128 + libc::SIGTERM,
        _ = interrupt.recv() => 128 + libc::SIGINT,
    }
}
