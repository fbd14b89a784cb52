//! Topics read from outside of any group: what is there, and every record of it. For `payloads`, and for where `consume` ends.
//!
//! Reading is complete or fails: a partition counts as read only at the end offset that was asked for, or at the end of the log.

use kas3_claimcheck::{
    Headers,
    kafka::{error_of_kafka, properties_of_client},
};
use kas3_sink::{Error, Kind};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers as _},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long one question may take.
const ASK: Duration = Duration::from_secs(20);
/// How long the first answer may take.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How long a reader waits for a record before it gives up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
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

/// A stretch of one partition, `[first, next)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) partition: i32,
    pub(crate) first: i64,
    pub(crate) next: i64,
}

/// What a reader does after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next one.
    GoOn,
    /// It has seen enough.
    Stop,
}

/// Topics of a cluster, to be looked at.
pub(crate) struct TopicLog {
    consumer: BaseConsumer<Told>,
}

/// Keeps what librdkafka last told of its connections.
#[derive(Default)]
struct Told(Mutex<Option<(bool, String)>>);

impl Told {
    fn refused(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|(refused, _)| *refused)
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, reason)| reason.clone())
    }
}

impl ClientContext for Told {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        use RDKafkaErrorCode as Code;
        let code = error.rdkafka_error_code();
        let refused = matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL | Code::ClusterAuthorizationFailed));
        let passing = code == Some(Code::AllBrokersDown);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !(passing && told.is_some()) {
            *told = Some((refused, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Told {}

impl TopicLog {
    /// Makes a client, and waits until a broker answers. `servers` is what names the brokers.
    ///
    /// # Errors
    /// `Config` for a property that librdkafka refuses; `Transient` when no broker answers.
    pub(crate) fn connect(kafka: &BTreeMap<String, String>, isolation: Isolation, servers: &str) -> anyhow::Result<TopicLog> {
        let mut config = ClientConfig::new();
        config.extend(properties_of_client(kafka));
        // assigning needs a name, and no permission on it
        config.set("group.id", kafka.get("group.id").map_or("kas3-payloads", String::as_str));
        config.set("isolation.level", if isolation == Isolation::Committed { "read_committed" } else { "read_uncommitted" });
        config.set("enable.auto.commit", "false").set("enable.auto.offset.store", "false").set("enable.partition.eof", "true");
        // what retention deletes meanwhile is no longer there to be read
        config.set("auto.offset.reset", "earliest");
        config.set("queued.max.messages.kbytes", QUEUE_KIB).set("fetch.queue.backoff.ms", "2");
        if !kafka.contains_key("client.id") {
            config.set("client.id", "kas3");
        }
        let consumer = config.create_with_context(Told::default()).map_err(|error| error_of_kafka("no client can be made", error))?;
        let log = TopicLog { consumer };
        log.first_answer().map_err(|error| unreachable_broker(kafka, servers, error, log.consumer.context()))?;
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
                Err(error) if self.consumer.context().refused() || begun.elapsed() > FIRST_ANSWER => return Err(error),
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

    /// Calls `each` for every record of these stretches of a topic; within a partition in order. Blocks the thread.
    ///
    /// # Errors
    /// `Transient` when a stretch cannot be read to its end; whatever `each` answers.
    pub(crate) fn read(
        &self,
        topic: &str,
        stretches: &[Stretch],
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> anyhow::Result<Then>,
    ) -> anyhow::Result<()> {
        let stretches: Vec<Stretch> = stretches.iter().copied().filter(|stretch| stretch.first < stretch.next).collect();
        for some in stretches.chunks(PARTITIONS_AT_ONCE) {
            let outcome = self.read_some(topic, some, each);
            let unassigned = self.consumer.unassign();
            if outcome? == Then::Stop {
                return Ok(());
            }
            unassigned.map_err(|error| error_of_kafka("partitions cannot be given back", error))?;
        }
        Ok(())
    }

    fn read_some(
        &self,
        topic: &str,
        stretches: &[Stretch],
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> anyhow::Result<Then>,
    ) -> anyhow::Result<Then> {
        let mut list = TopicPartitionList::with_capacity(stretches.len());
        let cannot = |error| error_of_kafka(&format!("`{topic}` cannot be read"), error);
        for stretch in stretches {
            list.add_partition_offset(topic, stretch.partition, Offset::Offset(stretch.first)).map_err(cannot)?;
        }
        self.consumer.assign(&list).map_err(cannot)?;
        let mut open: BTreeMap<i32, i64> = stretches.iter().map(|stretch| (stretch.partition, stretch.next)).collect();
        let mut heard = Instant::now();
        while !open.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.remove(&partition);
                    heard = Instant::now();
                }
                Some(Err(error)) if is_passing(&error) => tracing::debug!(topic, %error, "reading goes on after an error"),
                Some(Err(error)) => return Err(cannot(error).into()),
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let Some(next) = open.get(&message.partition()).copied() else { continue };
                    if message.offset() < next && each(&message)? == Then::Stop {
                        return Ok(Then::Stop);
                    }
                    if message.offset() + 1 >= next {
                        open.remove(&message.partition());
                    }
                }
            }
            if heard.elapsed() > SILENCE_MAX {
                let partitions = open.keys().map(|partition| format!("`{topic}` [{partition}]")).collect::<Vec<_>>().join(", ");
                let text = format!("{partitions} could not be read to the end: no record came within {} s", SILENCE_MAX.as_secs());
                return Err(Error::new(Kind::Transient, text).hint("look at the brokers, and run it again").into());
            }
        }
        Ok(Then::GoOn)
    }
}

/// librdkafka tells of connections that broke and goes on by itself.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    let code = error.rdkafka_error_code();
    matches!(code, Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve | Code::LeaderNotAvailable))
}

fn unreachable_broker(kafka: &BTreeMap<String, String>, servers: &str, error: KafkaError, told: &Told) -> Error {
    let brokers = kafka.get("bootstrap.servers").map_or("", String::as_str);
    Error::new(Kind::Transient, format!("no broker answers at `{brokers}`"))
        .source(told.reason().unwrap_or_else(|| error.to_string()))
        .hint(format!("look at `{servers}`, and at the properties that sign in"))
}

/// The headers of a message, as formats of references read them.
pub(crate) fn headers_of(message: &BorrowedMessage<'_>) -> Headers {
    let Some(headers) = message.headers() else { return Headers::new() };
    headers.iter().map(|header| (header.key.to_owned(), header.value.map(bytes::Bytes::copy_from_slice))).collect()
}

/// Positions reached so far: what a second look begins at.
pub(crate) type Reached = BTreeMap<(String, i32), i64>;

/// Reads everything of these topics that `reached` does not hold, and notes how far that was. Returns the partitions.
///
/// # Errors
/// As [`TopicLog::read`]; then `reached` says nothing.
pub(crate) fn read_all(
    log: &TopicLog,
    wanted: &[String],
    reached: &mut Reached,
    each: &mut dyn FnMut(&BorrowedMessage<'_>) -> anyhow::Result<Then>,
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
