//! librdkafka clients: their properties, and what they call back.

use super::{NO_TOPIC, native::topic_error};
use crate::{
    error::{Error, Kind, Result},
    plan::Pipeline,
    source::Event,
    span::TopicPartition,
};
use kas3_kafka::{Connection, refusal};
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, RDKafkaErrorCode},
    types::RDKafkaRespErr,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// The consumer that everything here is built on.
pub(super) type Consumer = BaseConsumer<Context>;

/// librdkafka's words for an instance id that is in use: the source says what follows from it, and at every try they come again.
const UNRELEASED: &str = "The instance ID is still used";

/// The `client.id` of a pipeline's clients, where the user names none.
pub(super) fn client_id(pipeline: &str) -> String {
    format!("{OF_KAS3}{pipeline}")
}

/// How the `client.id` of a pipeline begins, unless the user named one; its name follows.
pub(super) const OF_KAS3: &str = "kas3-";

/// What librdkafka logs at every try of every connection. The errors come as errors too.
const REPEATED: [&str; 3] = ["FAIL", "ERROR", "REQTMOUT"];

/// Properties of every client of a pipeline. What the user wrote wins over what is only a default here.
pub(super) fn properties(pipeline: &Pipeline) -> ClientConfig {
    let mut config = kas3_kafka::client_config(&pipeline.kafka);
    let mut default = |name: &str, value: &str| {
        if !pipeline.kafka.contains_key(name) {
            config.set(name, value);
        }
    };
    default("isolation.level", "read_committed");
    // by which the group's members are told apart: whose they are
    default("client.id", &client_id(&pipeline.name));
    default("max.poll.interval.ms", &poll_interval_ms(pipeline).to_string());
    // a full queue waits this long before it fetches again; the default of a second stalls every sink that is slower than the broker
    default("fetch.queue.backoff.ms", "2");
    if pipeline.kafka.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
        default("partition.assignment.strategy", "cooperative-sticky");
    }
    Connection::sign_in(&mut config);
    config.set("group.id", &pipeline.group);
    config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error").set("enable.partition.eof", "true");
    config.set_log_level(if pipeline.kafka.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config
}

/// How long the poll loop may be silent, and with it how long a request to join waits for its answer. The loop is never silent, so
/// librdkafka's five minutes would only be the time that a worker has no partitions after such a request was swallowed.
const POLL_INTERVAL: Duration = Duration::from_secs(60);
/// librdkafka's own default.
const SESSION_TIMEOUT_MS: u64 = 45_000;

/// A session may not be longer, and a rebalance waits for as long: until everybody has given back what it must.
fn poll_interval_ms(pipeline: &Pipeline) -> u64 {
    let session_ms = pipeline.kafka.get("session.timeout.ms").and_then(|ms| ms.parse().ok()).unwrap_or(SESSION_TIMEOUT_MS);
    let giving_back = POLL_INTERVAL / 2 + pipeline.revoke_deadline;
    let giving_back_ms = u64::try_from(giving_back.as_millis()).unwrap_or(u64::MAX);
    u64::try_from(POLL_INTERVAL.as_millis()).unwrap_or(u64::MAX).max(session_ms).max(giving_back_ms)
}

/// What librdkafka keeps around each message, and a payload of usual size, in bytes.
const SMALL_MESSAGE: u64 = 512;

/// The largest values that librdkafka takes for its queue, whatever memory there is.
const QUEUE_KBYTES_MAX: u64 = 2_097_151;
const QUEUE_MESSAGES_MAX: u64 = 10_000_000;

/// Bounds what librdkafka reads ahead to about `bytes` of memory, all partitions together: half of it waits in the queue, the
/// rest is for the answer to the fetch that began just before the queue was full, as it arrives and uncompressed.
pub(super) fn bound_queue(config: &mut ClientConfig, pipeline: &Pipeline, bytes: u64) {
    let mut bound = |name: &str, value: u64| {
        if !pipeline.kafka.contains_key(name) {
            config.set(name, value.to_string());
        }
    };
    bound("queued.max.messages.kbytes", (bytes / 2 / 1024).min(QUEUE_KBYTES_MAX));
    bound("queued.min.messages", (bytes / 2 / SMALL_MESSAGE).clamp(1000, QUEUE_MESSAGES_MAX));
    let fetch = (bytes / 16).clamp(1 << 20, 8 << 20);
    bound("fetch.message.max.bytes", fetch.min(1 << 20));
    // librdkafka refuses less than its `message.max.bytes`
    let message = pipeline.kafka.get("message.max.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    bound("fetch.max.bytes", fetch.max(message));
}

/// Makes a client.
///
/// # Errors
/// `Config` when librdkafka refuses a property, naming it.
pub(super) fn create(config: &ClientConfig, pipeline: &Pipeline) -> Result<Arc<Consumer>> {
    config.create_with_context(Context::new(pipeline)).map(Arc::new).map_err(|source| {
        let hint = refusal::property_hint(&source.to_string());
        match source {
            // shown as it is it would repeat the value, which may be a secret under a misspelt name
            KafkaError::ClientConfig(_, reason, ..) => Error::new(Kind::Config, format!("make a Kafka client from `source.kafka`: {reason}")),
            source => Error::new(Kind::Config, "make a Kafka client from `source.kafka`").source(source),
        }
        .hint(hint)
    })
}

/// What librdkafka was not told yet.
pub(super) enum Unanswered {
    /// These partitions were given to us.
    Assigned(Vec<TopicPartition>),
    /// These partitions were taken away.
    Revoked(Vec<TopicPartition>),
}

/// What librdkafka calls back: it only takes notes, and never waits.
pub(super) struct Context {
    events: Mutex<Vec<Event>>,
    connection: Connection,
    /// A rebalance that was noted and not answered yet: librdkafka waits for the answer, and so does leaving the group.
    unanswered: Mutex<Option<Unanswered>>,
    closing: AtomicBool,
    /// When the client last had an error to tell.
    erred: Mutex<Option<Instant>>,
}

impl Context {
    fn new(pipeline: &Pipeline) -> Self {
        Context {
            events: Mutex::default(),
            connection: Connection::new(&pipeline.kafka, &pipeline.storage),
            unanswered: Mutex::default(),
            closing: AtomicBool::new(false),
            erred: Mutex::default(),
        }
    }

    /// Events since the last time.
    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }

    /// The newest error of the client, for a message about a broker that does not answer.
    pub(super) fn last_error(&self) -> Option<String> {
        self.connection.last_error()
    }

    /// The same, unless it is older than this.
    pub(super) fn error_since(&self, since: Instant) -> Option<String> {
        let erred = *self.erred.lock().unwrap_or_else(PoisonError::into_inner);
        self.last_error().filter(|_| erred.is_some_and(|at| at >= since))
    }

    fn note(&self, error: &KafkaError, reason: &str) {
        self.connection.note(error, reason);
        *self.erred.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a broker refuses us again and again.
    pub(super) fn is_refused(&self) -> bool {
        self.connection.refusals() > 1
    }

    /// From now on revocations are answered at once: the client is leaving. What was not answered so far is given back.
    pub(super) fn close(&self) -> Option<Unanswered> {
        self.closing.store(true, Ordering::SeqCst);
        self.answered()
    }

    /// Notes that librdkafka has its answer.
    pub(super) fn answered(&self) -> Option<Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // some of it comes as an error too, and some does not: that a port speaks TLS, for one
        let lost = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
        let text = message.split_once("]: ").map_or(message, |(_, text)| text);
        if facility == REPEATED[0] && !refusal::is_final(&lost, text) {
            self.note(&lost, text);
        }
        let level = if message.contains(UNRELEASED) || REPEATED.contains(&facility) { RDKafkaLogLevel::Debug } else { level };
        kas3_kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if reason.contains(UNRELEASED) || reason.contains(NO_TOPIC) {
            tracing::debug!(target: "librdkafka", %error, "{reason}");
            return;
        }
        // an error ends what was asked, and names this as what was seen last; while it runs, whether brokers answer is asked for and told
        // once: each try of each connection would be a line
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        self.note(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> std::result::Result<OAuthToken, Box<dyn std::error::Error>> {
        self.connection.token()
    }
}

impl ConsumerContext for Context {
    /// Only notes what happened. librdkafka waits for assign and unassign as long as it takes, while the poll loop goes on.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        use rdkafka::consumer::Consumer as _;
        if self.closing.load(Ordering::SeqCst) {
            // each protocol takes its own call only, and leaving the group waits until one was taken; what comes now and was
            // never ours cannot be given back
            let given = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
            let _ = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative if given => consumer.incremental_assign(list),
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            return;
        }
        let partitions: Vec<TopicPartition> =
            list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect();
        *self.unanswered.lock().unwrap_or_else(PoisonError::into_inner) = Some(match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Unanswered::Assigned(partitions.clone()),
            _ => Unanswered::Revoked(partitions.clone()),
        });
        self.push(match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Event::Assigned(partitions),
            _ if consumer.assignment_lost() => Event::Lost(partitions),
            _ => Event::Revoked(partitions),
        });
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // for lag tools only; the ledger is what counts
            tracing::debug!(%error, "the group did not take our report");
        }
    }
}

/// Asks for metadata and says what an answer means.
pub(super) fn metadata(consumer: &Consumer, topic: Option<&str>, timeout: Duration) -> Result<rdkafka::metadata::Metadata> {
    use rdkafka::consumer::Consumer as _;
    let metadata = consumer.fetch_metadata(topic, timeout).map_err(|source| unreachable_broker(consumer, source))?;
    if let Some(topic) = topic {
        let answer = metadata.topics().iter().find(|answer| answer.name() == topic);
        if let Some(code) = answer.and_then(rdkafka::metadata::MetadataTopic::error) {
            return Err(topic_error(topic, code.into()));
        }
        if answer.is_none_or(|answer| answer.partitions().is_empty()) {
            return Err(topic_error(topic, RDKafkaErrorCode::UnknownTopicOrPartition));
        }
    }
    Ok(metadata)
}

/// The first answer of a broker. One that refuses us is not asked for as long as one that is not there (yet).
pub(super) fn first_metadata(consumer: &Consumer, timeout: Duration) -> Result<rdkafka::metadata::Metadata> {
    /// As long as this one broker may refuse while another one is slow.
    const STEP: Duration = Duration::from_secs(3);
    use rdkafka::consumer::Consumer as _;
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match metadata(consumer, None, STEP.min(left)) {
            Err(error) if error.kind() == Kind::Transient && left > STEP && !consumer.context().is_refused() => {}
            answer => return answer,
        }
    }
}

/// No broker answers: with what the client saw last.
pub(super) fn unreachable_broker(consumer: &Consumer, source: KafkaError) -> Error {
    use rdkafka::consumer::Consumer as _;
    let reason = consumer.context().last_error().unwrap_or_default();
    let seen = if reason.is_empty() { String::new() } else { format!(" (last seen: {reason})") };
    Error::new(Kind::Transient, format!("no broker of `bootstrap.servers` answers{seen}")).hint(refusal::way_out(&reason)).source(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_request_to_join_waits_a_minute_unless_a_session_or_giving_back_takes_longer() {
        let interval = |kafka: &str, source: &str| {
            let text = format!("name: p\nsource: {{topics: [t], kafka: {{bootstrap.servers: 'b:1'{kafka}}}{source}}}\nsink: {{url: s3://lake}}\n");
            let pipeline = config::load(&text, &|_| None).and_then(|loaded| loaded.pipeline()).expect("a pipeline");
            properties(&pipeline).get("max.poll.interval.ms").map(str::to_owned)
        };
        assert_eq!(interval("", "").as_deref(), Some("60000"));
        assert_eq!(interval(", session.timeout.ms: 90000", "").as_deref(), Some("90000"));
        assert_eq!(interval("", ", revoke_deadline: 5m").as_deref(), Some("330000"));
        assert_eq!(interval(", max.poll.interval.ms: 300000", "").as_deref(), Some("300000"), "what the user wrote wins");
    }
}
