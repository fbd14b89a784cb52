//! A `group.instance.id` that the group has not released yet.
//!
//! A classic group lets a static member that was killed come back at once. Under KIP-848 the broker refuses it until the session of
//! the dead one has timed out, and librdkafka takes that for the end of the client. Only time tells a dead member from another
//! process with the same id: so the client is made anew until the session of a dead one must be over.

use super::native;
use crate::{
    error::{Error, Kind},
    plan::Pipeline,
};
use rdkafka::error::KafkaError;
use std::time::{Duration, Instant};

/// The longest session that a broker allows unless told otherwise (`group.consumer.max.session.timeout.ms`), for one that does not
/// say how long the group's is.
const SESSION_MAX: Duration = Duration::from_secs(60);
/// How long the broker may take to say so.
const ASK: Duration = Duration::from_secs(2);
/// Added to the session: brokers look at their clocks now and then.
const GRACE: Duration = Duration::from_secs(5);
/// Between two clients, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(5)];

/// The way out when two processes have one id.
pub(super) const GIVE_EACH_ITS_OWN: &str = "another process uses the same `group.instance.id`: give each its own";

/// A wait for the release of the instance id.
pub(super) struct Unreleased {
    instance: String,
    patience: Duration,
    until: Instant,
    pause: Duration,
    /// When the present client was made.
    tried: Instant,
    /// When the next client is made; `None` while one tries.
    again: Option<Instant>,
}

impl Unreleased {
    /// Begins to wait, and says so. `log` is a client that can still ask.
    pub(super) fn new(pipeline: &Pipeline, log: &native::Client) -> Self {
        let instance = pipeline.kafka.get("group.instance.id").cloned().unwrap_or_default();
        let session = match log.group_setting(&pipeline.group, "consumer.session.timeout.ms", ASK) {
            Ok(setting) => setting.and_then(|ms| ms.parse().ok()).map(Duration::from_millis),
            Err(error) => {
                tracing::debug!(error = %error.chain(), "cannot ask for the session timeout of the group");
                None
            }
        };
        let patience = session.unwrap_or(SESSION_MAX) + GRACE;
        tracing::warn!(
            "the group still has a member with the `group.instance.id` `{instance}`: if that one is dead, its session times out; trying again for up to {} s",
            patience.as_secs()
        );
        let now = Instant::now();
        Unreleased { instance, patience, until: now + patience, pause: PAUSE[0], tried: now, again: None }
    }

    /// The group has refused us again: plans the next client.
    ///
    /// # Errors
    /// `Fatal` when time cannot help any more.
    pub(super) fn refused(&mut self, error: &KafkaError) -> Result<(), Error> {
        let now = Instant::now();
        if now - self.tried >= GRACE {
            // nobody answered for so long: a broker that was away counts sessions anew
            self.until = now + self.patience;
        }
        if now >= self.until {
            let text = format!("the `group.instance.id` `{}` is still in use after {} s", self.instance, self.patience.as_secs());
            return Err(Error::new(Kind::Fatal, text).hint(GIVE_EACH_ITS_OWN).source(error.clone()));
        }
        // the last try comes when the wait is over
        self.again = Some((now + self.pause).min(self.until));
        self.pause = (self.pause * 2).min(PAUSE[1]);
        Ok(())
    }

    /// How long until the next client; `None` while one tries.
    pub(super) fn pausing(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(Instant::now()))
    }

    /// The next client is made.
    pub(super) fn trying(&mut self) {
        self.tried = Instant::now();
        self.again = None;
    }
}
