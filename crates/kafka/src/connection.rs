//! What a client's context keeps of its connections: what brokers last said, how often they refused us, and how we sign in.

use crate::{msk_iam, refusal};
use kas3_store::StorageSettings;
use rdkafka::{
    ClientConfig,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// The one mechanism that librdkafka does not know by name.
const MSK_IAM: &str = "AWS_MSK_IAM";
/// Where mechanisms are named.
const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];

/// The connections of one client. It only takes notes, and never waits.
#[derive(Default)]
pub struct Connection {
    last_error: Mutex<Option<String>>,
    /// How often a broker has refused us.
    refusals: AtomicU32,
    msk_iam: Option<msk_iam::Signer>,
}

impl Connection {
    /// For a client with these properties. `config` is told of mechanisms that are ours; the credentials of `storage` sign.
    pub fn new(kafka: &BTreeMap<String, String>, storage: &StorageSettings) -> Self {
        let servers = kafka.get("bootstrap.servers").map_or("", String::as_str);
        let signs = MECHANISM.iter().any(|name| kafka.get(*name).is_some_and(|mechanism| mechanism == MSK_IAM));
        Connection { msk_iam: signs.then(|| msk_iam::Signer::new(servers, storage.clone())), ..Connection::default() }
    }

    /// Names the mechanism by which librdkafka asks for the tokens of [`Connection::token`].
    pub fn sign_in(config: &mut ClientConfig) {
        for name in MECHANISM {
            if config.get(name).is_some_and(|mechanism| mechanism == MSK_IAM) {
                config.set(name, "OAUTHBEARER");
            }
        }
    }

    /// Notes an error of the client. That all brokers are down says less than what was seen before it.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        if refusal::is_final(error, reason) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none() || error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *last = Some(reason.to_owned());
        }
    }

    /// The newest error of the client, for a message about a broker that does not answer.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a broker has refused us.
    pub fn refusals(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// A token for a client that signs in by OAUTHBEARER. Asks for credentials, so it may wait.
    ///
    /// # Errors
    /// When there are no credentials, or nobody said where tokens come from.
    pub fn token(&self) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.msk_iam {
            Some(signer) => signer.token(),
            None => Err("OAUTHBEARER needs `sasl.oauthbearer.method: oidc` with its properties, or `sasl.mechanism: AWS_MSK_IAM`".into()),
        }
    }
}

/// librdkafka's log, at the level that it gives.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => tracing::warn!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, "{message}"),
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_kept_and_refusals_are_counted() {
        let connection = Connection::default();
        connection.note(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(connection.last_error().as_deref(), Some("1/1 brokers are down"));
        connection.note(&KafkaError::Global(RDKafkaErrorCode::Authentication), "SASL authentication error: Authentication failed");
        connection.note(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(connection.last_error().as_deref(), Some("SASL authentication error: Authentication failed"));
        assert_eq!(connection.refusals(), 1);
    }

    #[test]
    fn amazons_mechanism_is_asked_for_by_librdkafkas_name_and_only_then_there_are_tokens() {
        let kafka = BTreeMap::from([("sasl.mechanism".to_owned(), "AWS_MSK_IAM".to_owned())]);
        let mut config = crate::client_config(&kafka);
        Connection::sign_in(&mut config);
        assert_eq!(config.get("sasl.mechanism"), Some("OAUTHBEARER"));
        let no_runtime = Connection::new(&kafka, &StorageSettings::default()).token().err().unwrap();
        assert_eq!(no_runtime.to_string(), "no runtime to ask for AWS credentials");
        assert!(Connection::default().token().err().unwrap().to_string().contains("oidc"));
    }
}
