//! The environment names of kaf-s3-connector 2.0, and the few that kas3 adds.
//!
//! What these commands write from the environment, they write in that system's format unless `S3_FORMAT` says otherwise: a
//! deployment changes its image, and readers of either kind stay.

use super::settings::{Claims, ClaimsSettings, Origin, hide_properties};
use kas3_claimcheck::{ClaimCheckSettings, kafka::Policy};
use kas3_sink::{
    Error, Kind,
    config::{KAFKA_PROPERTIES, Redactor, kafka_property},
    properties::Properties,
};
use kas3_store::StoreUrl;
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, time::Duration};

/// A name that these commands read.
pub(crate) struct Name {
    /// The variable.
    pub(crate) name: &'static str,
    /// What it is without.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

const fn row(name: &'static str, default: &'static str, meaning: &'static str) -> Name {
    Name { name, default, meaning }
}

/// All names, in the order of the reference page.
pub(crate) const NAMES: &[Name] = &[
    row("MODE", "consumer", "`producer` or `consumer`: what `kas3 claim-check` does."),
    row("TOPIC", "", "The topic; required."),
    row("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "`kafka.bootstrap.servers`."),
    row("KAFKA_GROUP_ID", "", "`kafka.group.id`; a consumer needs it."),
    row("KAFKA_SECURITY_PROTOCOL", "", "`kafka.security.protocol`."),
    row("KAFKA_SASL_MECHANISM", "", "`kafka.sasl.mechanism`."),
    row("KAFKA_SASL_USERNAME", "", "`kafka.sasl.username`."),
    row("KAFKA_SASL_PASSWORD", "", "`kafka.sasl.password`."),
    row("KAFKA_SSL_CA_LOCATION", "", "`kafka.ssl.ca.location`."),
    row("KAFKA_SSL_CERTIFICATE_LOCATION", "", "`kafka.ssl.certificate.location`."),
    row("KAFKA_SSL_KEY_LOCATION", "", "`kafka.ssl.key.location`."),
    row("KAFKA_SSL_KEY_PASSWORD", "", "`kafka.ssl.key.password`."),
    row("KAFKA_ENABLE_AUTO_COMMIT", "false", "`kafka.enable.auto.commit`. Without it offsets are committed after payloads are written."),
    row("KAFKA_AUTO_OFFSET_RESET", "earliest", "`kafka.auto.offset.reset`: where a group begins that has committed nothing. A name of kas3."),
    row("DLQ_TOPIC", "", "`dead_letter_topic`. When it is set, records that cannot be resolved go there unless `S3_ON_…` says otherwise."),
    row("S3_BUCKET", "", "The bucket of `claim_check.url`; required."),
    row("S3_PREFIX", "", "The prefix of `claim_check.url`."),
    row("AWS_REGION", "", "`claim_check.storage.region`."),
    row("S3_ENDPOINT_URL", "", "`claim_check.storage.endpoint`; one with `http://` sets `allow_http`."),
    row("S3_DELETE_AFTER_CONSUME", "false", "`delete.after_commit`."),
    row("S3_ALLOW_INLINE_PAYLOADS", "true", "`claim_check.allow_inline_payloads`."),
    row("S3_REQUIRE_INTEGRITY", "true", "`claim_check.require_integrity`."),
    row("S3_MAX_INLINE_BYTES", "900000", "`claim_check.max_inline_bytes`."),
    row("S3_MAX_PAYLOAD_BYTES", "5368709120", "`claim_check.max_payload_bytes`."),
    row("S3_DETERMINISTIC_KEYS", "false", "`claim_check.keys: \"{sha256}\"`."),
    row("S3_TTL_SECONDS", "", "`claim_check.ttl_seconds`."),
    row("S3_COMPRESSION", "none", "`claim_check.compression`: `gzip`, or `zstd` with `S3_FORMAT=kas3`."),
    row("S3_SSE", "", "`claim_check.storage.sse`."),
    row("S3_SSE_KMS_KEY_ID", "", "`claim_check.storage.sse_kms_key_id`."),
    row("S3_FORMAT", "kaf-s3-connector", "`claim_check.format`: the references that are written. A name of kas3."),
    row("S3_ACCEPT", "kas3,kaf-s3-connector", "`claim_check.accept`: the references that are taken. A name of kas3."),
    row("S3_INLINE_HEADER", "false", "`claim_check.inline_header`. A name of kas3."),
    row("S3_ON_MISSING", "fail", "`on_missing`: `fail`, `skip` or `dead_letter`. A name of kas3."),
    row("S3_ON_FORBIDDEN", "fail", "`on_forbidden`, the same. A name of kas3."),
    row("S3_ON_CORRUPT", "fail", "`on_corrupt`, the same. A name of kas3."),
    row("POLL_TIMEOUT", "5.0", "Seconds that one look for a record waits; signals are heard meanwhile."),
    row("METRICS_PORT", "8000", "Port of `/metrics` and `/health`; 0 turns them off."),
    row("METRICS_ADDRESS", "127.0.0.1", "Their address; `0.0.0.0` opens them to other machines."),
    row("LOG_LEVEL", "", "`DEBUG`, `INFO`, `WARNING` or `ERROR`; `--log-level` and `KAS3_LOG` go before."),
    row("KAS3_MEMORY", "268435456", "`memory_bytes`. A name of kas3."),
];

/// Variables that go to librdkafka as those of the sink do.
const OF_GROUPS: [&str; 2] = ["KAFKA_GROUP_ID", "KAFKA_AUTO_OFFSET_RESET"];

/// Builds the settings from variables.
///
/// # Errors
/// `Config`, naming the variable and the way out.
pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<(Claims, Redactor), Error> {
    let names = Names { env };
    let mut settings = ClaimsSettings::new(names.claim_check()?, Properties(names.kafka()?));
    settings.topic = names.get("TOPIC");
    settings.dead_letter_topic = names.get("DLQ_TOPIC");
    let policy = if settings.dead_letter_topic.is_some() { Policy::DeadLetter } else { Policy::Fail };
    settings.on_missing = names.word("S3_ON_MISSING")?.unwrap_or(policy);
    settings.on_forbidden = names.word("S3_ON_FORBIDDEN")?.unwrap_or(policy);
    settings.on_corrupt = names.word("S3_ON_CORRUPT")?.unwrap_or(policy);
    settings.delete.after_commit = names.truth("S3_DELETE_AFTER_CONSUME", false)?;
    if let Some(text) = names.get("KAS3_MEMORY") {
        settings.memory_bytes = text.parse().map_err(|message| wrong("KAS3_MEMORY", &text).hint(message))?;
    }
    let port = names.number("METRICS_PORT", 8000)?;
    let port = u16::try_from(port).map_err(|_| wrong("METRICS_PORT", &port.to_string()).hint("a port is at most 65535"))?;
    let address = names.get("METRICS_ADDRESS").unwrap_or_else(|| "127.0.0.1".to_owned());
    settings.http = match port {
        0 => "off".to_owned(),
        _ if address == "localhost" => format!("127.0.0.1:{port}"),
        _ if address.contains(':') => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    };
    let mut redactor = Redactor::default();
    hide_properties(&settings.kafka, &mut redactor);
    let poll_timeout = names.seconds("POLL_TIMEOUT", 5.0)?;
    let http_is_wanted = names.get("METRICS_PORT").is_some() || names.get("METRICS_ADDRESS").is_some();
    Ok((Claims { settings, origin: Origin::Environment, http_is_wanted, poll_timeout }, redactor))
}

fn wrong(name: &str, text: &str) -> Error {
    Error::new(Kind::Config, format!("the environment variable `{name}` is `{text}`"))
}

struct Names<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Names<'_> {
    /// The value of a variable that is set to something.
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, Error> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| wrong(name, &text).hint("write a whole number"))
    }

    fn seconds(&self, name: &str, default: f64) -> Result<Duration, Error> {
        let Some(text) = self.get(name) else { return Ok(Duration::from_secs_f64(default)) };
        let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.ok_or_else(|| wrong(name, &text).hint("write seconds, as `5.0`"))
    }

    fn truth(&self, name: &str, default: bool) -> Result<bool, Error> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err(wrong(name, &text).hint("write `true` or `false`")),
        }
    }

    /// A word of a fixed choice, as the settings spell it.
    fn word<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let read = serde_json::from_value(serde_json::Value::String(text.clone()));
        read.map(Some).map_err(|error| wrong(name, &text).hint(error.to_string()))
    }

    fn kafka(&self) -> Result<BTreeMap<String, String>, Error> {
        let servers = self.get("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|| "localhost:9092".to_owned());
        let mut kafka = BTreeMap::from([("bootstrap.servers".to_owned(), servers)]);
        for name in KAFKA_PROPERTIES.iter().chain(&OF_GROUPS) {
            if let Some(value) = self.get(name) {
                kafka.insert(kafka_property(name), value);
            }
        }
        if self.get("KAFKA_ENABLE_AUTO_COMMIT").is_some() {
            kafka.insert("enable.auto.commit".to_owned(), self.truth("KAFKA_ENABLE_AUTO_COMMIT", false)?.to_string());
        }
        Ok(kafka)
    }

    fn claim_check(&self) -> Result<ClaimCheckSettings, Error> {
        let missing = || {
            Error::new(Kind::Config, "there is neither a configuration file nor the environment variable `S3_BUCKET`")
                .hint("name a file, or set `S3_BUCKET`, `TOPIC` and `KAFKA_BOOTSTRAP_SERVERS`; no bucket has a default name")
        };
        let bucket = self.get("S3_BUCKET").ok_or_else(missing)?;
        let url = StoreUrl::s3(&bucket, &self.get("S3_PREFIX").unwrap_or_default()).to_string();
        let mut settings = ClaimCheckSettings {
            url,
            format: self.get("S3_FORMAT").unwrap_or_else(|| "kaf-s3-connector".to_owned()),
            max_inline_bytes: self.number("S3_MAX_INLINE_BYTES", 900_000)?,
            max_payload_bytes: self.number("S3_MAX_PAYLOAD_BYTES", 5 << 30)?,
            keys: self.truth("S3_DETERMINISTIC_KEYS", false)?.then(|| "{sha256}".to_owned()),
            compression: self.word("S3_COMPRESSION")?.unwrap_or_default(),
            require_integrity: self.truth("S3_REQUIRE_INTEGRITY", true)?,
            allow_inline_payloads: self.truth("S3_ALLOW_INLINE_PAYLOADS", true)?,
            inline_header: self.truth("S3_INLINE_HEADER", false)?,
            ..ClaimCheckSettings::default()
        };
        let accept = self.get("S3_ACCEPT").unwrap_or_else(|| "kas3,kaf-s3-connector".to_owned());
        settings.accept = accept.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        if self.get("S3_TTL_SECONDS").is_some() {
            settings.ttl_seconds = Some(self.number("S3_TTL_SECONDS", 0)?);
        }
        let storage = &mut settings.storage;
        storage.region = self.get("AWS_REGION");
        storage.endpoint = self.get("S3_ENDPOINT_URL");
        storage.allow_http = storage.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        storage.sse = self.word("S3_SSE")?;
        storage.sse_kms_key_id = self.get("S3_SSE_KMS_KEY_ID");
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(pairs: &[(&str, &str)]) -> Result<Claims, Error> {
        read(&|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())).map(|(claims, _)| claims)
    }

    #[test]
    fn the_names_of_kaf_s3_connector_mean_what_they_mean_there() {
        let claims = read_from(&[
            ("TOPIC", "large"),
            ("KAFKA_BOOTSTRAP_SERVERS", "broker:9092"),
            ("KAFKA_GROUP_ID", "g"),
            ("KAFKA_SASL_PASSWORD", "hunter2"),
            ("S3_BUCKET", "b"),
            ("S3_PREFIX", "p/"),
            ("S3_DETERMINISTIC_KEYS", "Yes"),
            ("S3_COMPRESSION", "gzip"),
            ("S3_SSE", "aws:kms"),
            ("S3_SSE_KMS_KEY_ID", "k"),
            ("S3_ENDPOINT_URL", "http://minio:9000"),
            ("S3_DELETE_AFTER_CONSUME", "1"),
            ("DLQ_TOPIC", "dead"),
            ("POLL_TIMEOUT", "0.5"),
            ("METRICS_ADDRESS", "0.0.0.0"),
        ])
        .expect("settings");
        let settings = &claims.settings;
        assert_eq!(settings.claim_check.url, "s3://b/p");
        assert_eq!(settings.claim_check.format, "kaf-s3-connector");
        assert_eq!(settings.claim_check.keys.as_deref(), Some("{sha256}"));
        assert!(settings.claim_check.storage.allow_http && settings.delete.after_commit);
        assert_eq!((settings.on_corrupt, settings.on_missing), (Policy::DeadLetter, Policy::DeadLetter));
        assert_eq!(settings.http, "0.0.0.0:8000");
        assert_eq!(claims.poll_timeout, Duration::from_millis(500));
        let kafka = claims.consumer(None).expect("a consumer").kafka;
        assert_eq!(kafka["sasl.password"], "hunter2");
        assert_eq!(kafka["enable.auto.commit"], "false");
        assert!(!claims.producer().kafka.contains_key("group.id"));
        assert!(!format!("{claims:?}").contains("hunter2"));
    }

    #[test]
    fn a_variable_that_cannot_be_is_named_with_the_way_out() {
        for (name, value) in [
            ("S3_MAX_INLINE_BYTES", "1MB"),
            ("S3_DETERMINISTIC_KEYS", "maybe"),
            ("S3_COMPRESSION", "rar"),
            ("S3_ON_CORRUPT", "ignore"),
            ("METRICS_PORT", "99999"),
            ("POLL_TIMEOUT", "-1"),
        ] {
            let error = read_from(&[("S3_BUCKET", "b"), (name, value)]).expect_err(name);
            assert!(error.to_string().contains(name) && error.way_out().is_some(), "{error}");
        }
        let error = read_from(&[("TOPIC", "t")]).expect_err("no bucket");
        assert!(error.to_string().contains("S3_BUCKET"), "{error}");
    }
}
