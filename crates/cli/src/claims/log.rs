//! Topics read from outside of any group: what is there, and every record of it. For `payloads`, and for where `consume` ends.
//!
//! Reading is complete or fails: a partition counts as read only at the end offset that was asked for, or at the end of the log.

use bytes::Bytes;
use kas3_claimcheck::{
    Headers,
    kafka::{error_of_kafka, properties_of_client},
};
use kas3_kafka::Connection;
pub(crate) use kas3_sink::source::kafka::Stretch;
use kas3_sink::{Error, Kind, record::Record, source::kafka::StretchReader};
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long one question may take.
const ASK: Duration = Duration::from_secs(20);
/// How long the first answer may take.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// Partitions read beside one another: each has a queue of its own.
const PARTITIONS_AT_ONCE: usize = 16;
/// KiB that one partition's queue holds at most; a larger record comes alone.
const QUEUE_KIB: &str = "1024";

/// Which records are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Those of committed transactions, and those without one.
    Committed,
    /// All that a consumer can be given: those of open and aborted transactions too.
    Everything,
}

/// Topics of a cluster, to be looked at.
pub(crate) struct TopicLog {
    consumer: Arc<BaseConsumer<Quiet>>,
    reader: StretchReader<Quiet>,
}

/// The context of a tool's client: what librdkafka has to say is for who looks for it.
#[derive(Default)]
struct Quiet(Connection);

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        kas3_kafka::log(RDKafkaLogLevel::Debug, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

impl TopicLog {
    /// Makes a client, and waits until a broker answers. `servers` is what names the brokers.
    ///
    /// # Errors
    /// `Config` for a property that librdkafka refuses; `Transient` when no broker answers.
    pub(crate) fn connect(kafka: &BTreeMap<String, String>, isolation: Isolation, servers: &str) -> anyhow::Result<TopicLog> {
        let mut config = kas3_kafka::client_config(&properties_of_client(kafka));
        // assigning needs a name, and no permission on it
        config.set("group.id", kafka.get("group.id").map_or("kas3-payloads", String::as_str));
        config.set("isolation.level", if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" });
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("enable.partition.eof", "true");
        // what retention deletes meanwhile is no longer there to be read
        config.set("auto.offset.reset", "earliest");
        config.set("queued.max.messages.kbytes", QUEUE_KIB).set("fetch.queue.backoff.ms", "2");
        let consumer = config.create_with_context(Quiet::default()).map_err(|error| error_of_kafka("no client can be made", error))?;
        let consumer = Arc::new(consumer);
        let log = TopicLog { reader: StretchReader::new(Arc::clone(&consumer)), consumer };
        log.first_answer().map_err(|error| unreachable_broker(kafka, servers, error, &log.consumer.context().0))?;
        Ok(log)
    }

    /// Waits until a broker answers, or refuses to.
    fn first_answer(&self) -> Result<(), KafkaError> {
        let begun = Instant::now();
        loop {
            // the question itself would wait on after a refusal
            let answer = self.consumer.fetch_metadata(None, Duration::from_secs(2));
            let _ = self.consumer.poll(Duration::ZERO);
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if self.consumer.context().0.refusals() > 0 || begun.elapsed() > FIRST_ANSWER => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// The topics that names and expressions (`^…`) stand for, with the number of their partitions.
    ///
    /// # Errors
    /// `Missing` for a name that does not exist; `Config` for an expression that is none.
    pub(crate) fn topics(&self, wanted: &[String]) -> anyhow::Result<BTreeMap<String, i32>> {
        let mut found = BTreeMap::new();
        let (expressions, names): (Vec<&String>, Vec<&String>) = wanted.iter().partition(|name| name.starts_with('^'));
        for name in names {
            let partitions = self.partitions(name)?.ok_or_else(|| {
                Error::new(Kind::Missing, format!("topic `{name}` does not exist, or may not be seen"))
                    .hint("look at its name, and at READ and DESCRIBE on it")
            })?;
            found.insert(name.clone(), partitions);
        }
        if expressions.is_empty() {
            return Ok(found);
        }
        let metadata = self.consumer.fetch_metadata(None, ASK).map_err(|error| error_of_kafka("topics cannot be listed", error))?;
        for expression in expressions {
            let hint = "write a regular expression, as `^events\\..*`";
            let wrong =
                |error: regex::Error| Error::new(Kind::Config, format!("`{expression}` in `topics` is no expression")).source(error).hint(hint);
            let matches = regex::Regex::new(&format!("^(?:{})$", expression.trim_start_matches('^').trim_end_matches('$'))).map_err(wrong)?;
            let of = metadata.topics().iter().filter(|topic| !topic.name().starts_with("__") && matches.is_match(topic.name()));
            found.extend(of.map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX))));
        }
        Ok(found)
    }

    /// How many partitions a topic has; `None` when there is none of the name.
    pub(crate) fn partitions(&self, topic: &str) -> anyhow::Result<Option<i32>> {
        let asked = |error| error_of_kafka(&format!("topic `{topic}` cannot be asked for"), error);
        let metadata = match self.consumer.fetch_metadata(Some(topic), ASK) {
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            other => other.map_err(asked)?,
        };
        let Some(answer) = metadata.topics().first() else { return Ok(None) };
        match answer.error().map(RDKafkaErrorCode::from) {
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(asked(KafkaError::MetadataFetch(code)).into()),
            None => Ok(Some(i32::try_from(answer.partitions().len()).unwrap_or(i32::MAX))),
        }
    }

    /// First offset and end of a partition. The end is that of the isolation: behind the last record that can be read.
    pub(crate) fn bounds(&self, topic: &str, partition: i32) -> anyhow::Result<Stretch> {
        let bounds = self.consumer.fetch_watermarks(topic, partition, ASK);
        let (first, next) = bounds.map_err(|error| error_of_kafka(&format!("`{topic}` [{partition}] does not say what it holds"), error))?;
        Ok(Stretch { partition, first, next })
    }

    /// Calls `each` for every record of these stretches of a topic, until it breaks off; within a partition in order. Blocks the
    /// thread.
    ///
    /// # Errors
    /// `Transient` when a stretch cannot be read to its end; whatever `each` answers.
    pub(crate) fn read(
        &self,
        topic: &str,
        stretches: &[Stretch],
        each: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let mut stopped = false;
        let stretches: Vec<Stretch> = stretches.iter().copied().filter(|stretch| stretch.first < stretch.next).collect();
        for some in stretches.chunks(PARTITIONS_AT_ONCE) {
            self.reader.read(topic, some, &mut |record| {
                let flow = each(record)?;
                stopped |= flow.is_break();
                anyhow::Ok(flow)
            })?;
            if stopped {
                break;
            }
        }
        Ok(())
    }
}

fn unreachable_broker(kafka: &BTreeMap<String, String>, servers: &str, error: KafkaError, connection: &Connection) -> Error {
    let brokers = kafka.get("bootstrap.servers").map_or("", String::as_str);
    Error::new(Kind::Transient, format!("no broker answers at `{brokers}`"))
        .source(connection.last_error().unwrap_or_else(|| error.to_string()))
        .hint(format!("look at `{servers}`, and at the properties that sign in"))
}

/// The value of a record, copied.
pub(crate) fn value_of(record: &Record<'_>) -> Option<Bytes> {
    record.value.map(Bytes::copy_from_slice)
}

/// The headers of a record, as formats of references read them.
pub(crate) fn headers_of(record: &Record<'_>) -> Headers {
    let Some(headers) = record.headers else { return Headers::new() };
    let header = |(name, value): (&[u8], Option<&[u8]>)| (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice));
    (0..headers.len()).filter_map(|index| headers.get(index)).map(header).collect()
}

/// Positions reached so far: what a second look begins at.
pub(crate) type Positions = BTreeMap<(String, i32), i64>;

/// Reads everything of these topics that `reached` does not hold, and notes how far that was. Returns the partitions.
///
/// # Errors
/// As [`TopicLog::read`]; then `reached` says nothing.
pub(crate) fn read_all(
    log: &TopicLog,
    wanted: &[String],
    reached: &mut Positions,
    each: &mut dyn FnMut(&Record<'_>) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<BTreeSet<(String, i32)>> {
    let mut partitions = BTreeSet::new();
    for (topic, count) in log.topics(wanted)? {
        let mut stretches = Vec::new();
        for partition in 0..count {
            let mut stretch = log.bounds(&topic, partition)?;
            let of = (topic.clone(), partition);
            // a log that is shorter than it was is another one: it is read whole
            let before = reached.get(&of).copied().filter(|before| *before <= stretch.next).unwrap_or(0);
            stretch.first = stretch.first.max(before);
            reached.insert(of.clone(), stretch.next);
            partitions.insert(of);
            stretches.push(stretch);
        }
        log.read(&topic, &stretches, each)?;
    }
    Ok(partitions)
}
