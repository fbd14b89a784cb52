//! What clients of librdkafka say besides answers: errors, statistics, their log, commits in the background; and where they ask for
//! tokens.

use rdkafka::{ClientContext, client::OAuthToken, config::RDKafkaLogLevel, error::KafkaError, topic_partition_list::TopicPartitionList};
use std::sync::Arc;

/// Hears of a client, from whatever thread serves it: it must not wait.
///
/// ```
/// use kas3_claimcheck::kafka::ClientEvents;
/// struct Shown;
/// impl ClientEvents for Shown {
///     fn error(&self, error: &kas3_claimcheck::kafka::rdkafka::error::KafkaError, reason: &str) {
///         eprintln!("{error}: {reason}");
///     }
/// }
/// ```
pub trait ClientEvents: Send + Sync {
    /// An error that concerns no record: connections, sign-in, or a fatal one. The client mends itself unless it is fatal.
    fn error(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }

    /// librdkafka's statistics as JSON, every `statistics.interval.ms`.
    fn statistics(&self, _json: &str) {}

    /// A line of librdkafka's log.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kas3_kafka::log(level, facility, message);
    }

    /// Offsets were committed in the background, or could not be.
    fn committed(&self, _result: &Result<(), KafkaError>, _offsets: &TopicPartitionList) {}

    /// A token for a client that signs in by OAUTHBEARER, for `sasl.oauthbearer.config`. This one may wait.
    ///
    /// # Errors
    /// Why there is none; librdkafka asks again later.
    fn token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Err("OAUTHBEARER needs `sasl.oauthbearer.method: oidc` with its properties, or somebody who gives tokens".into())
    }
}

/// Nobody listens: what matters goes to the log.
pub struct Unheard;

impl ClientEvents for Unheard {}

/// A context whose field `events` hears what its client says.
macro_rules! hands_on {
    ($context:ty) => {
        impl rdkafka::ClientContext for $context {
            const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

            fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
                self.events.log(level, facility, message);
            }

            fn stats_raw(&self, statistics: &[u8]) {
                self.events.statistics(&String::from_utf8_lossy(statistics));
            }

            fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
                self.events.error(&error, reason);
            }

            fn generate_oauth_token(&self, config: Option<&str>) -> Result<rdkafka::client::OAuthToken, Box<dyn std::error::Error>> {
                self.events.token(config)
            }
        }
    };
}
pub(super) use hands_on;

/// The context of a client beside another one: it has its log and its tokens, and says nothing more.
pub(super) struct Beside {
    pub(super) events: Arc<dyn ClientEvents>,
}

impl ClientContext for Beside {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.events.log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.events.token(config)
    }
}
