//! What an error of librdkafka means: one table from its codes to what the caller does about them.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A property is wrong, or what was asked for makes no sense: the same call never goes well.
    Config,
    /// The record does not fit: too large for client or topic, or refused by the broker for what it holds.
    Record,
    /// No permission, or no valid credentials.
    Denied,
    /// There is no such topic, partition, group or offset.
    Missing,
    /// It may go well when tried again.
    Transient,
    /// The client cannot go on.
    Fatal,
}

/// What codes mean. A code that is not named here is that of brokers or connections on their way to another state: it may go well
/// when tried again.
const MEANINGS: &[(Kind, &[Code])] = &[
    (
        Kind::Config,
        &[
            Code::InvalidArgument,
            Code::UnknownProtocol,
            Code::NotImplemented,
            Code::UnsupportedFeature,
            Code::NotConfigured,
            Code::ExistingSubscription,
            Code::Conflict,
            Code::State,
            Code::ReadOnly,
            Code::InvalidType,
            Code::FileSystem,
            Code::InvalidTopic,
            Code::InvalidRequiredAcks,
            Code::InconsistentGroupProtocol,
            Code::InvalidGroupId,
            Code::InvalidSessionTimeout,
            Code::OffsetMetadataTooLarge,
            Code::InvalidCommitOffsetSize,
            Code::UnsupportedSASLMechanism,
            Code::IllegalSASLState,
            Code::UnsupportedVersion,
            Code::TopicAlreadyExists,
            Code::InvalidPartitions,
            Code::InvalidReplicationFactor,
            Code::InvalidReplicaAssignment,
            Code::InvalidConfig,
            Code::InvalidRequest,
            Code::UnsupportedForMessageFormat,
            Code::InvalidTransactionalState,
            Code::InvalidTransactionTimeout,
            Code::SecurityDisabled,
            Code::UnsupportedCompressionType,
            Code::UnsupportedAssignor,
            Code::DuplicateResource,
            Code::GroupMaxSizeReached,
        ],
    ),
    (
        Kind::Record,
        &[
            Code::MessageSizeTooLarge,
            Code::MessageBatchTooLarge,
            Code::InvalidMessage,
            Code::InvalidMessageSize,
            Code::InvalidTimestamp,
            Code::InvalidRecord,
            Code::BadMessage,
            Code::BadCompression,
            Code::KeySerialization,
            Code::ValueSerialization,
            Code::KeyDeserialization,
            Code::ValueDeserialization,
        ],
    ),
    (
        Kind::Denied,
        &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
            Code::TransactionalIdAuthorizationFailed,
            Code::DelegationTokenAuthorizationFailed,
            Code::DelegationTokenOwnerMismatch,
            Code::DelegationTokenExpired,
            Code::PolicyViolation,
        ],
    ),
    (
        Kind::Missing,
        &[
            Code::UnknownPartition,
            Code::UnknownTopic,
            Code::UnknownTopicOrPartition,
            Code::UnknownTopicId,
            Code::UnknownGroup,
            Code::GroupIdNotFound,
            Code::ResourceNotFound,
            Code::DelegationTokenNotFound,
            Code::NoEnt,
            Code::NoOffset,
            Code::OffsetOutOfRange,
            Code::AutoOffsetReset,
            Code::LogTruncation,
        ],
    ),
    (
        Kind::Fatal,
        &[
            Code::Fatal,
            Code::Fenced,
            Code::ProducerFenced,
            Code::InvalidProducerEpoch,
            Code::TransactionCoordinatorFenced,
            Code::FencedInstanceId,
            Code::GaplessGuarantee,
            Code::Inconsistent,
            Code::OutOfOrderSequenceNumber,
            Code::CriticalSystemResource,
            Code::BrokerDestroy,
        ],
    ),
];

/// What a code means for its caller.
pub fn kind_of_code(code: Code) -> Kind {
    let named = |(_, codes): &&(Kind, &[Code])| codes.contains(&code);
    MEANINGS.iter().find(named).map_or(Kind::Transient, |(kind, _)| *kind)
}

/// What an error means for its caller.
pub fn kind(error: &KafkaError) -> Kind {
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) | KafkaError::Subscription(_) => Kind::Config,
        KafkaError::Canceled | KafkaError::MessageConsumptionFatal(_) => Kind::Fatal,
        // of these there are only librdkafka's words: but for an answer that did not come, it is a partition that is not ours
        KafkaError::Seek(words) | KafkaError::PauseResume(words) if !words.to_ascii_lowercase().contains("timed") => Kind::Config,
        // these say themselves what is to be done: an abortable one goes well in the next transaction
        KafkaError::Transaction(error) if error.is_fatal() => Kind::Fatal,
        KafkaError::Transaction(error) if error.is_retriable() || error.txn_requires_abort() => Kind::Transient,
        other => other.rdkafka_error_code().map_or(Kind::Transient, kind_of_code),
    }
}

/// The way out, where there is one to name whoever asked.
pub fn hint(error: &KafkaError) -> Option<&'static str> {
    match error {
        KafkaError::ClientConfig(..) => Some("look at the properties in `kafka`"),
        KafkaError::Transaction(error) if error.txn_requires_abort() => Some("abort the transaction, and send its records again"),
        other => match other.rdkafka_error_code() {
            Some(Code::MessageSizeTooLarge) => Some("lower `max_inline_bytes`, or raise `message.max.bytes` and the topic's `max.message.bytes`"),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some("create the topic, or look at its name"),
            Some(Code::UnknownPartition) => Some("name a partition that the topic has, or none"),
            Some(Code::InvalidTopic) => Some("names of topics have 1 to 249 letters, digits, dots, underscores and hyphens"),
            Some(Code::NoOffset) => Some("nothing was read or stored yet that could be committed"),
            Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => {
                Some("another producer began with the same `transactional.id`: make a new client, or another id")
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_meaning_and_what_cannot_change_by_itself_is_not_tried_again() {
        let mut seen = Vec::new();
        for (_, codes) in MEANINGS {
            for code in *codes {
                assert!(!seen.contains(code), "{code:?} is named twice");
                seen.push(*code);
            }
        }
        for (code, expected) in [
            (Code::UnknownPartition, Kind::Missing),
            (Code::UnknownTopicOrPartition, Kind::Missing),
            (Code::InvalidTopic, Kind::Config),
            (Code::MessageSizeTooLarge, Kind::Record),
            (Code::InvalidRecord, Kind::Record),
            (Code::TopicAuthorizationFailed, Kind::Denied),
            (Code::Fenced, Kind::Fatal),
            (Code::ProducerFenced, Kind::Fatal),
            (Code::MessageTimedOut, Kind::Transient),
            (Code::NotLeaderForPartition, Kind::Transient),
            (Code::RebalanceInProgress, Kind::Transient),
            (Code::AllBrokersDown, Kind::Transient),
            (Code::PurgeQueue, Kind::Transient),
        ] {
            assert_eq!(kind(&KafkaError::MessageProduction(code)), expected, "{code:?}");
        }
        assert_eq!(kind(&KafkaError::MessageConsumptionFatal(Code::BrokerTransportFailure)), Kind::Fatal);
        assert_eq!(kind(&KafkaError::Subscription("topics".to_owned())), Kind::Config);
    }
}
