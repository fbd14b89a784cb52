//! Properties of clients.

use rdkafka::ClientConfig;
use std::collections::BTreeMap;

/// Properties that groups and consumers alone have.
const CONSUMER_ONLY: [&str; 16] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.remote.assignor",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.commit.interval.ms",
    "isolation.level",
    "enable.partition.eof",
    "check.crcs",
    "allow.auto.create.topics",
];

/// The properties of a consumer that say how the brokers are reached, for a producer or an admin client beside it.
pub fn properties_of_client(kafka: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let of_client = |name: &str| !CONSUMER_ONLY.contains(&name) && !name.starts_with("queued.") && !name.starts_with("fetch.");
    kafka.iter().filter(|(name, _)| of_client(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What the user wrote, over the few properties that all clients have.
pub fn client_config(kafka: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "kas3");
    for (name, value) in kafka {
        config.set(name, value);
    }
    config
}
