//! What a claim check works with.

use crate::{places::Places, settings::Plan};
use tokio::sync::Semaphore;

pub(crate) struct Resources {
    /// The settings, validated.
    pub(crate) plan: Plan,
    pub(crate) places: Places,
    /// Payloads that are uploaded at once.
    pub(crate) uploads: Semaphore,
}
