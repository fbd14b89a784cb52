//! What a producer and a consumer are told.

use crate::ClaimCheckSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which records may overtake one another on their way to Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// None of a topic: within every partition the order is that of the calls, whatever the partitioner. Uploads still run
    /// beside one another; a record waits for those before it.
    #[default]
    Topic,
    /// Records of other keys, and of other partitions where those are named: a large payload holds up its own key alone.
    /// Records without key and partition keep no order.
    Key,
}

/// A producer's settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProducerSettings {
    /// Where payloads go.
    pub claim_check: ClaimCheckSettings,
    /// Any property of librdkafka, as `{bootstrap.servers: localhost:9092}`. `enable.idempotence` is true unless it is set.
    pub kafka: BTreeMap<String, String>,
    /// Bytes of payloads on their way to the store at most; a larger one goes alone. Default: 268435456.
    pub memory_bytes: u64,
    /// Which records may overtake one another. Default: `topic`.
    pub order: Order,
    /// The largest record of any topic, where that is known better than topics tell. Default: each topic is asked once for its
    /// `max.message.bytes`.
    pub topic_bytes_max: Option<u64>,
    /// How long a call waits for room, in memory and in librdkafka's queue, before it fails. Default: 30000.
    pub send_timeout_ms: u64,
    /// Topic that gets, for every record that was not delivered, what went wrong and its reference.
    pub dead_letter_topic: Option<String>,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        ProducerSettings {
            claim_check: ClaimCheckSettings::default(),
            kafka: BTreeMap::new(),
            memory_bytes: 256 << 20,
            order: Order::Topic,
            topic_bytes_max: None,
            send_timeout_ms: 30_000,
            dead_letter_topic: None,
        }
    }
}

/// What becomes of a record whose payload cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The call fails, again and again, until it can be had or is skipped on purpose: no offset passes it silently.
    #[default]
    Fail,
    /// It is passed over, with a warning and a count.
    Skip,
    /// It goes to `dead_letter_topic` and is passed over once it is there.
    DeadLetter,
}

/// Payloads that are deleted after they were consumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteSettings {
    /// Delete the payloads of records whose offsets were committed. Needs `enable.auto.commit: false`; shared payloads stay.
    /// Default: false.
    pub after_commit: bool,
    /// Other groups that read the topic: a payload is deleted when they have committed its offset as well.
    pub other_groups: Vec<String>,
}

/// A consumer's settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerSettings {
    /// Where payloads may lie.
    pub claim_check: ClaimCheckSettings,
    /// Any property of librdkafka; `bootstrap.servers` and `group.id` are needed.
    pub kafka: BTreeMap<String, String>,
    /// Bytes of payloads that are read ahead at most; a larger one is read alone. Default: 268435456.
    pub memory_bytes: u64,
    /// Records read ahead at most. Default: 256.
    pub prefetch: usize,
    /// Payloads read at once at most. Default: 32.
    pub downloads: usize,
    /// Payloads of more bytes are handed out as streams. Default: none are.
    pub stream_above_bytes: Option<u64>,
    /// Payloads that are gone (404). Default: `fail`.
    pub on_missing: Policy,
    /// Payloads that may not be read (403). Default: `fail`.
    pub on_forbidden: Policy,
    /// Records and payloads that cannot be trusted. Default: `fail`.
    pub on_corrupt: Policy,
    /// Topic for `dead_letter`.
    pub dead_letter_topic: Option<String>,
    /// Payloads that are deleted after they were consumed.
    pub delete: DeleteSettings,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        ConsumerSettings {
            claim_check: ClaimCheckSettings::default(),
            kafka: BTreeMap::new(),
            memory_bytes: 256 << 20,
            prefetch: 256,
            downloads: 32,
            stream_above_bytes: None,
            on_missing: Policy::Fail,
            on_forbidden: Policy::Fail,
            on_corrupt: Policy::Fail,
            dead_letter_topic: None,
            delete: DeleteSettings::default(),
        }
    }
}
