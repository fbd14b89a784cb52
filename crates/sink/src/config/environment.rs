//! `kas3 run` without a file: the same tree from environment variables, under the names of the sinks that kas3 replaces.
//!
//! Two families of names exist, after the systems that they come from. Each keeps its own layout and its own defaults, so that
//! a deployment changes its image and nothing else.

use super::{
    Redactor,
    load::{Loaded, finish},
    mistakes::{Lines, told},
};
use crate::error::{Error, Mistakes, Result};
use serde_yaml_ng::{Mapping, Value};

/// A name that `kas3 run` without a file reads.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentName {
    /// The variable.
    pub name: &'static str,
    /// Which family it belongs to.
    pub family: Family,
    /// What it is without, in the words of the reference page.
    pub default: &'static str,
    /// What it means, and which setting it becomes.
    pub meaning: &'static str,
}

/// Whose name a variable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Zooz' kafka-s3-connector.
    Zooz,
    /// Kafka S3 Delta Lake Connector.
    DeltaConnector,
    /// Understood with either.
    Both,
}

impl Family {
    /// The family in the reference page.
    pub fn label(self) -> &'static str {
        match self {
            Family::Zooz => "Zooz",
            Family::DeltaConnector => "Delta connector",
            Family::Both => "both",
        }
    }
}

const fn row(name: &'static str, family: Family, default: &'static str, meaning: &'static str) -> EnvironmentName {
    EnvironmentName { name, family, default, meaning }
}

/// All names, in the order of the reference page.
pub const ENVIRONMENT: &[EnvironmentName] = &[
    row("KAFKA_HOST", Family::Zooz, "", "Brokers, `source.kafka.bootstrap.servers`. Chooses the family."),
    row("SOURCE_KAFKA_TOPIC", Family::Zooz, "", "The topic; `KAFKA_TOPICS` names several."),
    row("APP_ID", Family::Zooz, "s3-connector", "`source.group`, and `name` unless `KAS3_NAME` is set."),
    row("FLUSH_INTERVAL_MINUTES", Family::Zooz, "15", "`sink.roll.age`, in minutes."),
    row("DEFAULT_KAFKA_STARTPOINT", Family::Zooz, "latest", "`source.start`: `earliest` or `latest`."),
    row("COMPRESSION_TYPE", Family::Zooz, "none", "`sink.format.compression`: `gzip` gives `.json.gz`, none `.json`."),
    row("S3_ROOT_PATH", Family::Zooz, "", "Prefix in the bucket, as `S3_PREFIX`."),
    row("MAX_FLUSH_RETRIES", Family::Zooz, "", "No use here: kas3 goes on trying, and publishes once."),
    row("FLUSH_TIMEOUT_SECONDS", Family::Zooz, "", "No use here: requests have limits of their own, and a flush that fails is taken up again."),
    row("KAFKA_BOOTSTRAP_SERVERS", Family::DeltaConnector, "", "Brokers, `source.kafka.bootstrap.servers`. Chooses the family."),
    row("CONNECT_GROUP_ID", Family::DeltaConnector, "kafka-s3-connect-cluster", "`source.group`, and `name` unless `KAS3_NAME` is set."),
    row("BATCH_SIZE", Family::DeltaConnector, "1000", "`sink.roll.records`."),
    row("FLUSH_INTERVAL", Family::DeltaConnector, "60", "`sink.roll.age`, in seconds."),
    row("KAFKA_TOPICS", Family::Both, "", "Topics with commas between, `source.topics`; names, or expressions beginning with `^`."),
    row("S3_BUCKET_NAME", Family::Both, "", "The bucket of `sink.url`."),
    row("S3_PREFIX", Family::Both, "", "The prefix of `sink.url`."),
    row("S3_REGION", Family::Both, "us-east-1", "`sink.storage.region`."),
    row("S3_ENDPOINT_URL", Family::Both, "", "`sink.storage.endpoint`; one with `http://` sets `sink.storage.allow_http`."),
    row("S3_ACCESS_KEY", Family::Both, "", "`sink.storage.access_key_id`; without it the default AWS credentials."),
    row("S3_SECRET_KEY", Family::Both, "", "`sink.storage.secret_access_key`."),
    row("KAFKA_SECURITY_PROTOCOL", Family::Both, "", "`source.kafka.security.protocol`."),
    row("KAFKA_SASL_MECHANISM", Family::Both, "", "`source.kafka.sasl.mechanism`."),
    row("KAFKA_SASL_USERNAME", Family::Both, "", "`source.kafka.sasl.username`."),
    row("KAFKA_SASL_PASSWORD", Family::Both, "", "`source.kafka.sasl.password`."),
    row("KAFKA_SSL_CA_LOCATION", Family::Both, "", "`source.kafka.ssl.ca.location`."),
    row("KAFKA_SSL_CERTIFICATE_LOCATION", Family::Both, "", "`source.kafka.ssl.certificate.location`."),
    row("KAFKA_SSL_KEY_LOCATION", Family::Both, "", "`source.kafka.ssl.key.location`."),
    row("KAFKA_SSL_KEY_PASSWORD", Family::Both, "", "`source.kafka.ssl.key.password`."),
    row("KAS3_NAME", Family::Both, "", "`name` of the pipeline."),
    row("KAS3_MEMORY", Family::Both, "256MiB", "`memory`."),
    row("KAS3_HTTP", Family::Both, "127.0.0.1:9080", "`http`."),
];

/// Variables of the broker that go to librdkafka under the name that their own name spells.
pub const KAFKA_PROPERTIES: [&str; 8] = [
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CA_LOCATION",
    "KAFKA_SSL_CERTIFICATE_LOCATION",
    "KAFKA_SSL_KEY_LOCATION",
    "KAFKA_SSL_KEY_PASSWORD",
];

/// The property of librdkafka that a variable's name spells: `security.protocol` for `KAFKA_SECURITY_PROTOCOL`.
pub fn kafka_property(name: &str) -> String {
    name.trim_start_matches("KAFKA_").to_lowercase().replace('_', ".")
}

/// Settings from environment variables. `notes` of the result say which of them have no use here.
///
/// # Errors
/// `Config` when names of both families are set, when one is missing, or when a value cannot be.
pub fn from_environment(env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded> {
    let names = Names { env };
    let family = names.family()?;
    let mut tree = Value::Mapping(Mapping::new());
    let mut notes = Vec::new();
    let mut mistakes = Mistakes::default();
    mistakes.take(names.source(family, &mut tree));
    mistakes.take(names.sink(&mut tree));
    mistakes.take(match family {
        Family::Zooz => names.zooz(&mut tree, &mut notes),
        Family::DeltaConnector | Family::Both => names.delta_connector(&mut tree),
    });
    if !mistakes.is_empty() {
        let nowhere = Lines::default();
        return Err(told(mistakes.into_iter().map(|error| nowhere.mistake(&error)).collect()));
    }
    let group = get(&tree, &["source", "group"]);
    set(&mut tree, &["name"], names.get("KAS3_NAME").unwrap_or_else(|| pipeline_name(&group, &mut notes)));
    for (name, key) in [("KAS3_MEMORY", "memory"), ("KAS3_HTTP", "http")] {
        if let Some(value) = names.get(name) {
            set(&mut tree, &[key], value);
        }
    }
    let mut loaded = finish(tree, None, Vec::new(), Redactor::default())?;
    loaded.notes = notes;
    Ok(loaded)
}

struct Names<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Names<'_> {
    /// The value of a variable that is set to something.
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str, example: &str) -> Result<String> {
        self.get(name).ok_or_else(|| {
            Error::config(format!("the environment variable `{name}` is not set")).hint(format!("set it, for instance `{name}={example}`"))
        })
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::config(format!("the environment variable `{name}` is `{text}`, which is no whole number above zero"))),
        }
    }

    /// Which family's names are set. Names of both contradict each other.
    fn family(&self) -> Result<Family> {
        let first = |family: Family| ENVIRONMENT.iter().find(|row| row.family == family && self.get(row.name).is_some()).map(|row| row.name);
        match (first(Family::Zooz), first(Family::DeltaConnector)) {
            (Some(one), Some(other)) => {
                let (zooz, delta) = (Family::Zooz.label(), Family::DeltaConnector.label());
                Err(Error::config(format!("the environment variables `{one}` ({zooz}) and `{other}` ({delta}) contradict each other"))
                    .hint("set the names of one family only; `docs/reference.md` lists both"))
            }
            (Some(_), None) if self.get("KAFKA_HOST").is_none() => Err(self.no_broker("KAFKA_HOST")),
            (Some(_), None) => Ok(Family::Zooz),
            (None, Some(_)) if self.get("KAFKA_BOOTSTRAP_SERVERS").is_none() => Err(self.no_broker("KAFKA_BOOTSTRAP_SERVERS")),
            (None, Some(_)) => Ok(Family::DeltaConnector),
            (None, None) => Err(Error::config("there is neither a configuration file nor an environment that describes a pipeline").hint(
                "name a file, `kas3 run pipeline.yaml`; or set `KAFKA_BOOTSTRAP_SERVERS`, `KAFKA_TOPICS` and `S3_BUCKET_NAME` (or `KAFKA_HOST`, \
                 `SOURCE_KAFKA_TOPIC` and `S3_BUCKET_NAME`); `kas3 demo` needs neither",
            )),
        }
    }

    fn no_broker(&self, name: &str) -> Error {
        Error::config(format!("the environment variable `{name}` is not set")).hint(format!("name the brokers, for instance `{name}=localhost:9092`"))
    }

    fn source(&self, family: Family, tree: &mut Value) -> Result<()> {
        let (brokers, topic) = match family {
            Family::Zooz => ("KAFKA_HOST", "SOURCE_KAFKA_TOPIC"),
            Family::DeltaConnector | Family::Both => ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_TOPICS"),
        };
        set(tree, &["source", "kafka", "bootstrap.servers"], self.required(brokers, "localhost:9092")?);
        let topics = match (self.get("SOURCE_KAFKA_TOPIC"), self.get("KAFKA_TOPICS")) {
            (Some(_), Some(_)) => {
                return Err(
                    Error::config("the environment variables `SOURCE_KAFKA_TOPIC` and `KAFKA_TOPICS` contradict each other").hint("set one of them")
                );
            }
            (Some(topic), None) if topic.contains(',') => {
                return Err(Error::config(format!("the environment variable `SOURCE_KAFKA_TOPIC` is `{topic}`, which is no topic's name"))
                    .hint("set `KAFKA_TOPICS` in its place to read several topics"));
            }
            (Some(topic), None) => vec![topic],
            (None, Some(topics)) => topics.split(',').map(str::trim).filter(|topic| !topic.is_empty()).map(str::to_owned).collect(),
            (None, None) => vec![self.required(topic, "orders")?],
        };
        set(tree, &["source", "topics"], topics);
        for name in KAFKA_PROPERTIES {
            if let Some(value) = self.get(name) {
                set(tree, &["source", "kafka", &kafka_property(name)], value);
            }
        }
        Ok(())
    }

    fn sink(&self, tree: &mut Value) -> Result<()> {
        let bucket = self.required("S3_BUCKET_NAME", "my-bucket")?;
        let prefix = match (self.get("S3_PREFIX"), self.get("S3_ROOT_PATH")) {
            (Some(_), Some(_)) => {
                return Err(Error::config("the environment variables `S3_PREFIX` and `S3_ROOT_PATH` contradict each other").hint("set one of them"));
            }
            (prefix, root) => prefix.or(root).unwrap_or_default(),
        };
        let prefix = prefix.trim_matches('/');
        set(tree, &["sink", "url"], kas3_store::StoreUrl::s3(&bucket, prefix).to_string());
        set(tree, &["sink", "storage", "region"], self.get("S3_REGION").unwrap_or_else(|| "us-east-1".to_owned()));
        if let Some(endpoint) = self.get("S3_ENDPOINT_URL") {
            set(tree, &["sink", "storage", "allow_http"], endpoint.starts_with("http://"));
            set(tree, &["sink", "storage", "endpoint"], endpoint);
        }
        match (self.get("S3_ACCESS_KEY"), self.get("S3_SECRET_KEY")) {
            (Some(key), Some(secret)) => {
                set(tree, &["sink", "storage", "access_key_id"], key);
                set(tree, &["sink", "storage", "secret_access_key"], secret);
            }
            (None, None) => {}
            (key, _) => {
                let (there, missing) = if key.is_some() { ("S3_ACCESS_KEY", "S3_SECRET_KEY") } else { ("S3_SECRET_KEY", "S3_ACCESS_KEY") };
                return Err(Error::config(format!("the environment variable `{there}` is set, but `{missing}` is not"))
                    .hint("set both, or neither to use the default AWS credentials"));
            }
        }
        Ok(())
    }

    fn zooz(&self, tree: &mut Value, notes: &mut Vec<String>) -> Result<()> {
        set(tree, &["source", "group"], self.get("APP_ID").unwrap_or_else(|| "s3-connector".to_owned()));
        let start = self.get("DEFAULT_KAFKA_STARTPOINT").unwrap_or_else(|| "latest".to_owned());
        if !matches!(start.as_str(), "earliest" | "latest") {
            return Err(
                Error::config(format!("the environment variable `DEFAULT_KAFKA_STARTPOINT` is `{start}`")).hint("set it to `earliest` or `latest`")
            );
        }
        set(tree, &["source", "start"], start);
        set(tree, &["sink", "path"], "zooz");
        set(tree, &["sink", "format", "compression"], self.compression()?);
        set(tree, &["sink", "roll", "age"], format!("{}m", self.number("FLUSH_INTERVAL_MINUTES", 15)?));
        for row in ENVIRONMENT.iter().filter(|row| row.meaning.starts_with("No use here")) {
            if self.get(row.name).is_some() {
                notes.push(format!("`{}` is set and has {}", row.name, row.meaning.trim_end_matches('.').replacen("No use", "no use", 1)));
            }
        }
        Ok(())
    }

    fn compression(&self) -> Result<&'static str> {
        match self.get("COMPRESSION_TYPE").map(|text| text.to_lowercase()).as_deref() {
            None | Some("none") => Ok("none"),
            Some("gzip" | "gz") => Ok("gzip"),
            Some(other) => {
                Err(Error::config(format!("the environment variable `COMPRESSION_TYPE` is `{other}`")).hint("set it to `gzip`, or leave it out"))
            }
        }
    }

    fn delta_connector(&self, tree: &mut Value) -> Result<()> {
        set(tree, &["source", "group"], self.get("CONNECT_GROUP_ID").unwrap_or_else(|| "kafka-s3-connect-cluster".to_owned()));
        set(tree, &["sink", "path"], "delta_connector");
        set(tree, &["sink", "roll", "records"], self.number("BATCH_SIZE", 1000)?);
        set(tree, &["sink", "roll", "age"], format!("{}s", self.number("FLUSH_INTERVAL", 60)?));
        Ok(())
    }
}

/// A group's name as a pipeline's: other characters become `-`.
fn pipeline_name(group: &str, notes: &mut Vec<String>) -> String {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let mut name: String = group.chars().map(|character| if legal(character) { character } else { '-' }).collect();
    if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        name.insert(0, 'p');
    }
    if name != group {
        notes.push(format!("the pipeline is named `{name}`, because `{group}` cannot be a name; `KAS3_NAME` names it otherwise"));
    }
    name
}

fn set(tree: &mut Value, path: &[&str], value: impl Into<Value>) {
    let Value::Mapping(map) = tree else { return };
    match path {
        [] => {}
        [key] => drop(map.insert(Value::from(*key), value.into())),
        [key, rest @ ..] => set(map.entry(Value::from(*key)).or_insert_with(|| Value::Mapping(Mapping::new())), rest, value),
    }
}

fn get(tree: &Value, path: &[&str]) -> String {
    path.iter().try_fold(tree, |tree, key| tree.get(*key)).and_then(Value::as_str).unwrap_or_default().to_owned()
}
