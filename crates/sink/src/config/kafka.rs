//! librdkafka's properties that kas3 owns, and the one that must be there.

use crate::{
    error::{Error, Mistakes},
    properties::Properties,
    suggest::nearest,
};

/// Properties that kas3 sets itself, and what to write instead.
const OWNED: [(&str, &str); 9] = [
    ("group.id", "use `source.group`"),
    ("auto.offset.reset", "use `source.start`: kas3 never skips or repeats records by itself"),
    ("enable.auto.commit", "leave it out: the ledger keeps progress, and kas3 reports it to the group"),
    ("auto.commit.interval.ms", "leave it out: the ledger keeps progress, and kas3 reports it to the group"),
    ("enable.auto.offset.store", "leave it out: the ledger keeps progress, and kas3 reports it to the group"),
    ("enable.partition.eof", "leave it out: kas3 needs it as it is"),
    ("offset.store.method", "leave it out: the ledger keeps progress"),
    ("metadata.broker.list", "use `bootstrap.servers`"),
    ("plugin.library.paths", "leave it out: kas3 loads no plugins"),
];

/// Refuses properties that kas3 owns, and asks for the brokers.
pub(super) fn check(kafka: &Properties, mistakes: &mut Mistakes) {
    for (property, instead) in OWNED {
        if kafka.contains_key(property) {
            mistakes.add(Error::config(format!("`source.kafka.{property}` is kas3's own to set")).hint(instead));
        }
    }
    match kafka.get("bootstrap.servers") {
        Some(servers) if servers.trim().is_empty() => {
            mistakes.add(Error::config("`source.kafka.bootstrap.servers` is empty").hint("name at least one broker, as `localhost:9092`"));
        }
        Some(_) => {}
        None => {
            let names: Vec<&str> = kafka.keys().map(String::as_str).collect();
            let error = Error::config("`source.kafka.bootstrap.servers` is missing");
            mistakes.add(match nearest("bootstrap.servers", &names) {
                Some(near) => error.hint(format!("`source.kafka.{near}` looks like it")),
                None => error.hint("name the brokers, as `kafka: {bootstrap.servers: \"localhost:9092\"}`"),
            });
        }
    }
    let sasl = kafka.get("security.protocol").is_some_and(|protocol| protocol.to_lowercase().starts_with("sasl"));
    let mechanism = kafka.keys().find(|name| name.starts_with("sasl.mechanism"));
    if let (Some(mechanism), false) = (mechanism, sasl) {
        mistakes.add(
            Error::config(format!("`source.kafka.{mechanism}` is set, but `source.kafka.security.protocol` asks for no SASL"))
                .hint("set `security.protocol: SASL_SSL`, or `SASL_PLAINTEXT` without TLS"),
        );
    }
}
