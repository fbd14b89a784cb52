//! What an error of librdkafka means.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A property is wrong; nothing was started.
    Config,
    /// A record is larger than the client or the topic takes.
    TooLarge,
    /// No permission, or no valid credentials.
    Denied,
    /// There is no such topic.
    Missing,
    /// It may go well when tried again.
    Transient,
    /// The client cannot go on.
    Fatal,
}

/// What an error means for its caller.
pub fn kind(error: &KafkaError) -> Kind {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => Kind::Config,
        KafkaError::Transaction(error) if error.is_retriable() => Kind::Transient,
        other => match other.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Kind::TooLarge,
            Some(
                Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::TransactionalIdAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication,
            ) => Kind::Denied,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Kind::Missing,
            Some(Code::Fatal | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId) => Kind::Fatal,
            _ => Kind::Transient,
        },
    }
}

/// The way out, where there is one to name whoever asked.
pub fn hint(error: &KafkaError) -> Option<&'static str> {
    match error {
        KafkaError::ClientConfig(..) => Some("look at the properties in `kafka`"),
        other => match other.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Some("lower `max_inline_bytes`, or raise `message.max.bytes` and the topic's `max.message.bytes`"),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some("create the topic, or look at its name"),
            _ => None,
        },
    }
}
