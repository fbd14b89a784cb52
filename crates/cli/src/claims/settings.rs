//! What `produce`, `consume` and `payloads` are told: one file for all three, or the environment.

use kas3_claimcheck::{
    ClaimCheckSettings,
    kafka::{ConsumerSettings, DeleteSettings, Order, Policy, ProducerSettings},
};
use kas3_sink::{
    Error, Kind, config,
    properties::{Properties, is_secret},
    units::Bytes,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// The claim check: records whose large payloads travel through a store. One file serves `produce`, `consume` and `payloads`;
/// each takes what concerns it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimsSettings {
    /// Topic that `produce` sends to; `consume` and `payloads` read it too.
    #[serde(default)]
    #[schemars(extend("examples" = ["orders"]))]
    pub(crate) topic: Option<String>,
    /// Further topics that `consume` and `payloads` read: names, or expressions that begin with `^`. For `payloads gc` these must
    /// be all whose records name payloads below `claim_check.url`.
    #[serde(default)]
    #[schemars(extend("examples" = [["orders", "^events\\..*"]]))]
    pub(crate) topics: Vec<String>,
    /// Where payloads go, and which references are believed.
    pub(crate) claim_check: ClaimCheckSettings,
    /// librdkafka properties, as `bootstrap.servers`. `consume` needs `group.id`; it begins at the earliest record unless
    /// `auto.offset.reset` says otherwise, and commits after it has written a payload unless `enable.auto.commit` is true.
    #[schemars(extend("examples" = [{"bootstrap.servers": "localhost:9092", "group.id": "readers"}]))]
    pub(crate) kafka: Properties,
    /// Bytes of payloads that are on their way at most, up or down; a larger one goes alone.
    #[serde(default = "default_memory")]
    #[schemars(extend("examples" = ["512MiB"]))]
    pub(crate) memory_bytes: Bytes,
    /// Topic for what could not be delivered (`produce`), and for `dead_letter` (`consume`).
    #[serde(default)]
    pub(crate) dead_letter_topic: Option<String>,
    /// Address of `/metrics` and `/health`, or `off`.
    #[serde(default = "default_http")]
    #[schemars(extend("format" = "address", "examples" = ["127.0.0.1:8000", "off"]))]
    pub(crate) http: String,
    /// `produce`: which records may overtake one another.
    #[serde(default)]
    pub(crate) order: Order,
    /// `produce`: how long a call waits for room before it tries again, in milliseconds.
    #[serde(default = "default_send_timeout")]
    pub(crate) send_timeout_ms: u64,
    /// `produce`: the largest record of the topic, where that is known better than the topic tells; by default the topic is asked
    /// for its `max.message.bytes`.
    #[serde(default)]
    pub(crate) topic_bytes_max: Option<u64>,
    /// `consume`: records read ahead at most.
    #[serde(default = "default_prefetch")]
    pub(crate) prefetch: usize,
    /// `consume`: payloads of more bytes are written as they come, without lying in memory.
    #[serde(default = "default_stream_above")]
    #[schemars(extend("examples" = ["1MiB"]))]
    pub(crate) stream_above_bytes: Bytes,
    /// `consume`: what becomes of records whose payloads are gone (404).
    #[serde(default)]
    pub(crate) on_missing: Policy,
    /// `consume`: what becomes of records whose payloads may not be read (403).
    #[serde(default)]
    pub(crate) on_forbidden: Policy,
    /// `consume`: what becomes of records and payloads that cannot be trusted.
    #[serde(default)]
    pub(crate) on_corrupt: Policy,
    /// `consume`: payloads that are deleted after they were consumed.
    #[serde(default)]
    pub(crate) delete: DeleteSettings,
}

fn default_memory() -> Bytes {
    Bytes(256 << 20)
}
fn default_http() -> String {
    "off".to_owned()
}
fn default_send_timeout() -> u64 {
    30_000
}
fn default_prefetch() -> usize {
    256
}
fn default_stream_above() -> Bytes {
    Bytes(8 << 20)
}

impl ClaimsSettings {
    /// Settings with nothing in them but defaults.
    pub(super) fn new(claim_check: ClaimCheckSettings, kafka: Properties) -> Self {
        ClaimsSettings {
            topic: None,
            topics: Vec::new(),
            claim_check,
            kafka,
            memory_bytes: default_memory(),
            dead_letter_topic: None,
            http: default_http(),
            order: Order::default(),
            send_timeout_ms: default_send_timeout(),
            topic_bytes_max: None,
            prefetch: default_prefetch(),
            stream_above_bytes: default_stream_above(),
            on_missing: Policy::default(),
            on_forbidden: Policy::default(),
            on_corrupt: Policy::default(),
            delete: DeleteSettings::default(),
        }
    }
}

/// Settings that are not secret wherever they come from: messages that hide a topic or a host help nobody.
pub(super) const PUBLIC: [&str; 9] = [
    "topic",
    "topics",
    "claim_check.url",
    "claim_check.storage.endpoint",
    "claim_check.storage.region",
    "kafka.bootstrap.servers",
    "kafka.group.id",
    "kafka.security.protocol",
    "kafka.sasl.mechanism",
];

/// Where the settings are from: messages name the keys of a file, or variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File,
    /// The environment, under the names of kaf-s3-connector.
    Environment,
}

/// The settings of one command.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    pub(crate) settings: ClaimsSettings,
    pub(crate) origin: Origin,
    /// The port was asked for; otherwise one that is taken is no error.
    pub(crate) http_is_wanted: bool,
    /// How long one look for a record waits.
    pub(crate) poll_timeout: Duration,
}

/// Hides the passwords among librdkafka's properties.
pub(super) fn hide_properties(kafka: &Properties, redactor: &mut config::Redactor) {
    kafka.iter().filter(|(name, _)| is_secret(name)).for_each(|(_, value)| redactor.hide(value));
}

impl Claims {
    /// The key of a file, or the variable, for messages.
    pub(crate) fn named(&self, key: &'static str, variable: &'static str) -> &'static str {
        match self.origin {
            Origin::File => key,
            Origin::Environment => variable,
        }
    }

    /// The topic to send to; `given` on the command line wins.
    pub(crate) fn topic(&self, given: Option<String>) -> anyhow::Result<String> {
        given.or_else(|| self.settings.topic.clone()).ok_or_else(|| {
            let hint = format!("set `{}`, or say `--topic`", self.named("topic", "TOPIC"));
            Error::new(Kind::Config, "no topic to send to is named").hint(hint).into()
        })
    }

    /// The topics to read; those `given` on the command line win.
    pub(crate) fn topics(&self, given: &[String]) -> anyhow::Result<Vec<String>> {
        let mut topics = if given.is_empty() { [self.settings.topic.as_slice(), &self.settings.topics].concat() } else { given.to_vec() };
        topics.sort();
        topics.dedup();
        if topics.is_empty() {
            let hint = format!("set `{}`, or say `--topic`", self.named("topics", "TOPIC"));
            return Err(Error::new(Kind::Config, "no topic to read is named").hint(hint).into());
        }
        Ok(topics)
    }

    /// Where `/metrics` and `/health` are; `None`: nowhere.
    pub(crate) fn http(&self) -> anyhow::Result<Option<SocketAddr>> {
        let text = self.settings.http.as_str();
        if text == "off" {
            return Ok(None);
        }
        let wrong = |_| {
            let error = Error::new(Kind::Config, format!("`{}` is `{text}`, which is no address", self.named("http", "METRICS_ADDRESS")));
            error.hint(if self.origin == Origin::File { "write `127.0.0.1:8000`, or `off`" } else { "write the number of an address, as `0.0.0.0`" })
        };
        Ok(Some(text.parse().map_err(wrong)?))
    }

    /// What a producer is told: no group's properties.
    pub(crate) fn producer(&self) -> ProducerSettings {
        let settings = &self.settings;
        ProducerSettings {
            claim_check: settings.claim_check.clone(),
            kafka: kas3_claimcheck::kafka::properties_of_client(&settings.kafka),
            memory_bytes: settings.memory_bytes.0,
            order: settings.order,
            send_timeout_ms: settings.send_timeout_ms,
            dead_letter_topic: settings.dead_letter_topic.clone(),
            topic_bytes_max: settings.topic_bytes_max,
        }
    }

    /// What a consumer is told. Its policies are carried out here, where they are counted.
    pub(crate) fn consumer(&self, group: Option<String>) -> anyhow::Result<ConsumerSettings> {
        let settings = &self.settings;
        let mut kafka: BTreeMap<String, String> = settings.kafka.0.clone();
        if let Some(group) = group {
            kafka.insert("group.id".to_owned(), group);
        }
        if kafka.get("group.id").is_none_or(|group| group.trim().is_empty()) {
            let hint = format!("set `{}`, or say `--group`", self.named("kafka.group.id", "KAFKA_GROUP_ID"));
            return Err(Error::new(Kind::Config, "no consumer group is named").hint(hint).into());
        }
        for (name, value) in [("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")] {
            kafka.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let policies = [settings.on_missing, settings.on_forbidden, settings.on_corrupt];
        if policies.contains(&Policy::DeadLetter) && settings.dead_letter_topic.is_none() {
            let hint = format!("name the topic in `{}`", self.named("dead_letter_topic", "DLQ_TOPIC"));
            return Err(Error::new(Kind::Config, "a policy is `dead_letter`, and no topic for dead letters is named").hint(hint).into());
        }
        Ok(ConsumerSettings {
            claim_check: settings.claim_check.clone(),
            kafka,
            memory_bytes: settings.memory_bytes.0,
            prefetch: settings.prefetch,
            stream_above_bytes: Some(settings.stream_above_bytes.0),
            dead_letter_topic: settings.dead_letter_topic.clone(),
            delete: settings.delete.clone(),
            ..ConsumerSettings::default()
        })
    }
}
