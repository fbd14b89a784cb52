//! Reads stretches of partitions from their first to their last record, outside of any group: for amendments, verify and tools.
//!
//! Reading is complete or fails: a stretch counts as read only at the end that was asked for, or at the end of the log.

use super::{client, native, read_error, truncated_at};
use crate::{
    error::{Error, Kind, Result},
    plan::Pipeline,
    record::Record,
    span::{Position, TopicPartition},
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a reader waits for a record before it gives up.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Records taken at once.
const BATCH_RECORDS: usize = 1000;
/// Bytes for the queue of a pipeline's reader.
const QUEUE_BYTES: u64 = 8 << 20;

/// How far a reader came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Everything before this was read: at least what was asked for, or the end of the partition.
    pub next: i64,
}

/// A stretch of one partition, `[first, next)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The partition.
    pub partition: i32,
    /// Its first offset.
    pub first: i64,
    /// The offset after its last.
    pub next: i64,
}

/// A client that reads stretches, one call after the other: making one costs as much as reading many records.
pub struct StretchReader<C: ConsumerContext + 'static> {
    native: native::Client,
    consumer: Arc<BaseConsumer<C>>,
}

impl StretchReader<client::Context> {
    /// A reader for a pipeline's cluster.
    ///
    /// # Errors
    /// `Config` when librdkafka refuses a property.
    pub(super) fn of_pipeline(pipeline: &Pipeline) -> Result<Self> {
        Self::with(pipeline, client::properties(pipeline))
    }

    /// The same, which reads what open transactions hold back too.
    ///
    /// # Errors
    /// As [`StretchReader::of_pipeline`].
    pub(super) fn uncommitted(pipeline: &Pipeline) -> Result<Self> {
        let mut config = client::properties(pipeline);
        config.set("isolation.level", "read_uncommitted");
        Self::with(pipeline, config)
    }

    fn with(pipeline: &Pipeline, mut config: ClientConfig) -> Result<Self> {
        client::bound_queue(&mut config, pipeline, QUEUE_BYTES);
        config.remove("group.instance.id");
        // the client is never a member of the group, so it must not wait for one that speaks another protocol
        config.remove("group.protocol");
        let consumer = client::create(&config, pipeline)?;
        consumer.context().close();
        Ok(StretchReader::new(consumer))
    }

    /// Calls `each` for the records of `[first, next)` in the order of their offsets. Blocks.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the beginning; `Transient` when nothing comes; whatever `each` answers.
    pub(super) fn read_one(&self, of: &TopicPartition, first: i64, next: i64, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<Reached> {
        let stretch = Stretch { partition: of.partition, first, next };
        let reached = self.read(&of.topic, &[stretch], &mut |record| each(record).map(ControlFlow::Continue))?;
        Ok(Reached { next: reached.get(&of.partition).copied().unwrap_or(first) })
    }

    /// Where the log was cut back below `position`, whose leader epoch is known; `None` where it was not. Blocks.
    ///
    /// # Errors
    /// `Transient` when no broker says so in time.
    pub(super) fn cut_back(&self, of: &TopicPartition, position: Position, timeout: Duration) -> Result<Option<i64>> {
        let until = Instant::now() + timeout;
        let queue = self.native.split(of)?;
        self.native.assign(&[(of.clone(), position)])?;
        let answer = self.first_answer(of, position, &queue, until);
        let given_back = self.native.unassign(std::slice::from_ref(of));
        let answer = answer?;
        given_back?;
        Ok(answer)
    }

    /// What comes first at a position: a record or the end say that the log is the one that was read.
    fn first_answer(&self, of: &TopicPartition, position: Position, queue: &native::Queue, until: Instant) -> Result<Option<i64>> {
        let mut sought = false;
        while Instant::now() < until {
            // librdkafka asks about the leader epoch only when it seeks
            sought = sought || self.native.seek(&[(of.clone(), position)], Duration::from_secs(1)).is_ok();
            for message in queue.take(BATCH_RECORDS).iter().filter(|_| sought) {
                match message.error() {
                    None | Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::OffsetOutOfRange) => return Ok(None),
                    Some(RDKafkaErrorCode::AutoOffsetReset) => return Ok(truncated_at(&message.error_text())),
                    Some(code) => {
                        let error = read_error(of, message, code, position.next);
                        if error.kind() != Kind::Transient {
                            return Err(error);
                        }
                    }
                }
            }
            let _ = self.consumer.poll(Duration::from_millis(2));
        }
        Err(Error::new(Kind::Transient, format!("no broker says whether the log of `{of}` was cut back"))
            .hint("look at the brokers, and run it again"))
    }

    /// The timestamp of the first record of `[first, next)` in milliseconds; `None` where there is no record, or it has none. Blocks.
    ///
    /// # Errors
    /// As [`StretchReader::read_one`].
    pub(super) fn first_timestamp(&self, of: &TopicPartition, first: i64, next: i64) -> Result<Option<i64>> {
        let mut found = None;
        self.read(&of.topic, &[Stretch { partition: of.partition, first, next }], &mut |record| {
            found = record.timestamp_ms;
            Ok::<_, Error>(ControlFlow::Break(()))
        })?;
        Ok(found)
    }
}

impl<C: ConsumerContext + 'static> StretchReader<C> {
    /// Reads by a consumer that has no subscription, nobody else assigns, and that has `enable.partition.eof`.
    pub fn new(consumer: Arc<BaseConsumer<C>>) -> Self {
        StretchReader { native: native::Client::new(consumer.client().native_ptr(), Arc::clone(&consumer) as _), consumer }
    }

    /// Calls `each` for the records of these stretches of a topic, beside one another, those of a partition in the order of their
    /// offsets, until it breaks off. Returns up to where each partition was read that was read to its end. Blocks.
    ///
    /// # Errors
    /// `Missing` when Kafka no longer has the beginning of one, unless the consumer may go on behind it; `Transient` when nothing
    /// comes; whatever `each` answers.
    pub fn read<E: From<Error>>(
        &self,
        topic: &str,
        stretches: &[Stretch],
        each: &mut dyn FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<BTreeMap<i32, i64>, E> {
        let mut progress = Progress::new(topic, stretches);
        let partitions: Vec<TopicPartition> = progress.open.keys().map(|partition| TopicPartition::new(topic, *partition)).collect();
        if partitions.is_empty() {
            return Ok(progress.reached);
        }
        // each is read from a queue of its own: librdkafka undoes forwarding when it stops a partition, some time after it was told to
        let queue = |of: &TopicPartition| Ok((of.partition, self.native.split(of)?));
        let queues = partitions.iter().map(queue).collect::<Result<Vec<_>>>()?;
        let begin = |of: &TopicPartition| (of.clone(), Position { next: progress.open[&of.partition].first, leader_epoch: -1 });
        self.native.assign(&partitions.iter().map(begin).collect::<Vec<_>>())?;
        let outcome = self.read_queues(&queues, &mut progress, each);
        let given_back = self.native.unassign(&partitions);
        outcome?;
        given_back?;
        Ok(progress.reached)
    }

    fn read_queues<E: From<Error>>(
        &self,
        queues: &[(i32, native::Queue)],
        progress: &mut Progress<'_>,
        each: &mut dyn FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        while !progress.open.is_empty() {
            let mut came = false;
            for (partition, queue) in queues {
                // what is done fills its queue, and no more is fetched
                if !progress.open.contains_key(partition) {
                    continue;
                }
                let messages = queue.take(BATCH_RECORDS);
                came |= messages.len() > 0;
                if progress.pass_on(*partition, &messages, each)?.is_break() {
                    return Ok(());
                }
            }
            // also while records come: tokens are renewed there
            if let Some(Err(error)) = self.consumer.poll(Duration::from_millis(if came { 0 } else { 2 })) {
                progress.said = Some(error);
            }
            progress.check_silence()?;
        }
        Ok(())
    }
}

/// How far stretches of one topic have been read.
struct Progress<'a> {
    topic: &'a str,
    /// Those that are not read to their ends.
    open: BTreeMap<i32, Stretch>,
    /// Up to where the others were read.
    reached: BTreeMap<i32, i64>,
    /// When a record or an end last came.
    heard: Instant,
    /// What the client last complained of.
    said: Option<KafkaError>,
}

impl<'a> Progress<'a> {
    fn new(topic: &'a str, stretches: &[Stretch]) -> Self {
        let (open, empty): (Vec<&Stretch>, Vec<&Stretch>) = stretches.iter().partition(|stretch| stretch.first < stretch.next);
        Progress {
            topic,
            open: open.into_iter().map(|stretch| (stretch.partition, *stretch)).collect(),
            reached: empty.into_iter().map(|stretch| (stretch.partition, stretch.first)).collect(),
            heard: Instant::now(),
            said: None,
        }
    }

    /// Hands on the records of one partition.
    fn pass_on<E: From<Error>>(
        &mut self,
        partition: i32,
        messages: &native::Messages,
        each: &mut dyn FnMut(&Record<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<ControlFlow<()>, E> {
        let Some(Stretch { first, next, .. }) = self.open.get(&partition).copied() else { return Ok(ControlFlow::Continue(())) };
        for message in messages.iter() {
            let offset = message.offset();
            match message.error() {
                Some(RDKafkaErrorCode::PartitionEOF) => {
                    self.end(partition, offset);
                    break;
                }
                Some(code) => {
                    let error = read_error(&TopicPartition::new(self.topic, partition), message, code, first);
                    if error.kind() != Kind::Transient {
                        return Err(error.into());
                    }
                    tracing::debug!(topic = self.topic, partition, error = %error.chain(), "reading goes on after an error");
                }
                // a batch of the broker may begin before what was asked for
                None if offset < first => self.heard = Instant::now(),
                None => {
                    let flow = if offset < next { each(&message.record(self.topic, true))? } else { ControlFlow::Continue(()) };
                    // only now: whoever takes a record may take long
                    self.heard = Instant::now();
                    if flow.is_break() {
                        return Ok(flow);
                    }
                    if offset + 1 >= next {
                        self.end(partition, next);
                        break;
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(&mut self, partition: i32, reached: i64) {
        self.open.remove(&partition);
        self.reached.insert(partition, reached);
        self.heard = Instant::now();
    }

    fn check_silence(&self) -> Result<()> {
        if self.heard.elapsed() <= SILENCE_MAX {
            return Ok(());
        }
        let partitions = self.open.values().map(|stretch| format!("`{}-{}` from offset `{}` on", self.topic, stretch.partition, stretch.first));
        let partitions = partitions.collect::<Vec<_>>().join(", ");
        let text = format!("{partitions} could not be read to the end: no record came within {} s", SILENCE_MAX.as_secs());
        let error = Error::new(Kind::Transient, text).hint("look at the brokers, and run it again");
        Err(match &self.said {
            Some(said) => error.source(said.clone()),
            None => error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::{
        ClientConfig,
        consumer::DefaultConsumerContext,
        mocking::MockCluster,
        producer::{BaseProducer, BaseRecord, Producer as _},
    };

    const PARTITIONS: i32 = 3;
    const RECORDS: i64 = 20;

    fn stretch(partition: i32, first: i64, next: i64) -> Stretch {
        Stretch { partition, first, next }
    }

    #[test]
    fn stretches_are_read_beside_one_another_to_their_ends_or_those_of_the_log_and_again() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("t", PARTITIONS, 1).unwrap();
        let servers = cluster.bootstrap_servers();
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &servers).create().unwrap();
        for number in 0..RECORDS * i64::from(PARTITIONS) {
            let payload = format!("{}", number / i64::from(PARTITIONS));
            let record = BaseRecord::<(), str>::to("t").partition(i32::try_from(number).unwrap() % PARTITIONS).payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        let mut config = kas3_kafka::client_config(&BTreeMap::from([("bootstrap.servers".to_owned(), servers)]));
        config.set("group.id", "g").set("enable.auto.commit", "false").set("enable.partition.eof", "true").set("auto.offset.reset", "error");
        let reader = StretchReader::new(Arc::new(config.create_with_context::<_, BaseConsumer<_>>(DefaultConsumerContext).unwrap()));
        let read = |stretches: &[Stretch], most: usize| {
            let mut seen: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
            let mut left = most;
            let reached = reader.read("t", stretches, &mut |record| {
                assert_eq!(record.value, Some(record.offset.to_string().as_bytes()));
                seen.entry(record.partition).or_default().push(record.offset);
                left -= 1;
                Ok::<_, Error>(if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            });
            (reached.unwrap(), seen)
        };
        let (reached, seen) = read(&[stretch(0, 3, 7), stretch(1, 18, 1000), stretch(2, 5, 5)], usize::MAX);
        assert_eq!(reached, BTreeMap::from([(0, 7), (1, RECORDS), (2, 5)]));
        assert_eq!(seen, BTreeMap::from([(0, (3..7).collect()), (1, vec![18, 19])]));
        // one that breaks off leaves nothing behind for the next
        let (reached, seen) = read(&[stretch(0, 0, RECORDS)], 2);
        assert_eq!((reached, seen), (BTreeMap::new(), BTreeMap::from([(0, vec![0, 1])])));
        let (reached, seen) = read(&[stretch(0, 10, RECORDS), stretch(2, 0, 1)], usize::MAX);
        assert_eq!(reached, BTreeMap::from([(0, RECORDS), (2, 1)]));
        assert_eq!(seen, BTreeMap::from([(0, (10..RECORDS).collect()), (2, vec![0])]));
        let error = reader.read("t", &[stretch(0, 0, 1)], &mut |_| Err::<ControlFlow<()>, _>(Error::new(Kind::Fatal, "enough"))).unwrap_err();
        assert_eq!(error.to_string(), "enough");
    }
}
