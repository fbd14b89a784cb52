//! Growing pauses between attempts, with jitter.

use rand::Rng;
use std::time::Duration;

/// Growing pauses with jitter.
pub(crate) struct Backoff {
    pause: Duration,
    longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_millis(200), Duration::from_secs(15))
    }
}

impl Backoff {
    /// From a first pause to a longest one.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Backoff { pause: first, longest }
    }

    /// Waits, longer each time.
    pub(crate) async fn sleep(&mut self) {
        let share = rand::rng().random_range(0.5..1.0);
        tokio::time::sleep(self.pause.mul_f64(share)).await;
        self.pause = (self.pause * 2).min(self.longest);
    }
}
