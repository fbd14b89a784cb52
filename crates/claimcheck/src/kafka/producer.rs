//! The Producer: payloads go up beside one another, records leave in order, and nothing is deleted on a mere suspicion.

mod answering;

use super::{
    answers::{Answers, Deliveries, Failure},
    client,
    events::{Beside, ClientEvents, Unheard},
    interrupt,
    lines::{Lines, Place},
    lock, names,
    outgoing::{Delivered, Outgoing, Payload, Report, Undelivered},
    ready::{Ready, Sending, Topics},
    settings::{Order, ProducerSettings},
    topics::{Stage, TOPIC_BYTES_MAX},
};
use crate::{About, ClaimCheck, Error, Kind, Result, codec::Sent, trace};
use bytes::Bytes;
use kas3_store::Observer;
use opentelemetry::{Context as Tracing, trace::SpanKind};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod purging;
mod transactions;

/// Unit of the memory that payloads share.
const PERMIT_BYTES: u64 = 1 << 10;
/// The largest record of librdkafka, unless a property says otherwise.
const CLIENT_BYTES_MAX: u64 = 1_000_000;
/// The largest batch of librdkafka, unless a property says otherwise.
const CLIENT_BATCH_MAX: u64 = 1_000_000;
/// What a record weighs besides key, value and headers: its batch's header, lengths, timestamps, and the headers of its format.
const RECORD_OVERHEAD_BYTES: u64 = 256;
/// What a payload that is read while it is sent holds in memory: its parts in flight, and the one that is read.
const STREAM_BYTES: u64 = 6 * kas3_store::PART_BYTES as u64;
const DESCRIBE_WAIT: Duration = Duration::from_secs(5);

/// A producer. Share it by reference; every method may be called from any thread, but none that waits from async code.
pub struct Producer {
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
    polling: Option<JoinHandle<()>>,
}

type Line = (String, u64);

struct Shared {
    claims: ClaimCheck,
    kafka: BaseProducer<Deliveries>,
    order: Order,
    send_timeout: Duration,
    dead_letter_topic: Option<String>,
    lines: Mutex<Lines<Line, Ready>>,
    answers: Arc<Answers>,
    /// The program has set a propagator: contexts are carried, and spans begun.
    traces: bool,
    memory: Arc<Semaphore>,
    memory_bytes: u64,
    /// Payloads that were accepted and are not stored: more of them would only grow cold.
    queue: Arc<Semaphore>,
    client_bytes_max: u64,
    admin: AdminClient<Beside>,
    topics: Arc<Topics>,
    closing: AtomicBool,
    /// Records that never came to Kafka, since the transaction began.
    refused: AtomicU64,
    /// How often what waits for its upload was given up.
    purges: AtomicU64,
}

impl Producer {
    /// Opens the stores and the client. Asks neither of them anything yet.
    ///
    /// # Errors
    /// `Config` for settings that cannot be.
    pub fn open(settings: ProducerSettings) -> Result<Producer> {
        Producer::open_observed(settings, Arc::new(kas3_store::Unobserved))
    }

    /// The same, with one who sees every request to the stores.
    ///
    /// # Errors
    /// As [`Producer::open`].
    pub fn open_observed(settings: ProducerSettings, observer: Arc<dyn Observer>) -> Result<Producer> {
        Producer::open_heard(settings, observer, Arc::new(Unheard))
    }

    /// The same, with one who hears what its clients of librdkafka say.
    ///
    /// # Errors
    /// As [`Producer::open`].
    pub fn open_heard(settings: ProducerSettings, observer: Arc<dyn Observer>, events: Arc<dyn ClientEvents>) -> Result<Producer> {
        if let Some(topic) = &settings.dead_letter_topic {
            names::check_topic(topic)?;
        }
        let runtime = client::runtime()?;
        let claims = runtime.block_on(ClaimCheck::open_observed(settings.claim_check, observer))?;
        let mut config = client::config(&settings.kafka)?;
        if !settings.kafka.contains_key("enable.idempotence") && settings.kafka.get("acks").is_none_or(|acks| acks == "all" || acks == "-1") {
            config.set("enable.idempotence", "true");
        }
        let number = |name: &str| settings.kafka.get(name).and_then(|bytes| bytes.parse::<u64>().ok());
        let client_bytes_max = number("message.max.bytes").unwrap_or(CLIENT_BYTES_MAX);
        let client_batch = number("batch.size").unwrap_or(CLIENT_BATCH_MAX).min(client_bytes_max);
        let (answers, topics) = (Arc::<Answers>::default(), Arc::new(Topics::new(settings.topic_bytes_max, client_batch)));
        let transactional = settings.kafka.contains_key("transactional.id");
        let context = Deliveries { answers: answers.clone(), topics: topics.clone(), transactional, events: events.clone() };
        let kafka = config.create_with_context(context).map_err(|error| client::error_of_kafka("no producer can be made", error))?;
        let admin = client::config(&kas3_kafka::properties_of_client(&settings.kafka))?;
        let admin = AdminClient::from_config_and_context(&admin, Beside { events });
        let admin = admin.map_err(|error| client::error_of_kafka("no admin client can be made", error))?;
        let permits = usize::try_from((settings.memory_bytes / PERMIT_BYTES).clamp(1, 1 << 28)).unwrap_or(1);
        let queue = Arc::new(Semaphore::new(claims.settings().uploads.saturating_mul(2).min(Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared {
            claims,
            kafka,
            order: settings.order,
            send_timeout: Duration::from_millis(settings.send_timeout_ms),
            dead_letter_topic: settings.dead_letter_topic,
            lines: Mutex::new(Lines::new()),
            answers,
            traces: trace::is_on(),
            memory: Arc::new(Semaphore::new(permits)),
            memory_bytes: settings.memory_bytes,
            queue,
            client_bytes_max,
            admin,
            topics,
            closing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            purges: AtomicU64::new(0),
        });
        let polled = (shared.clone(), runtime.handle().clone());
        let polling = std::thread::Builder::new().name("kas3-deliveries".to_owned());
        let polling = polling.spawn(move || answering::poll(&polled.0, &polled.1));
        let polling = polling.map_err(|error| Error::new(Kind::Fatal, "no thread can be started").source(error))?;
        Ok(Producer { shared, runtime: Some(runtime), polling: Some(polling) })
    }

    /// The codec that it uses.
    pub fn claims(&self) -> &ClaimCheck {
        &self.shared.claims
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap_or_else(|| unreachable!("the runtime is taken when the producer is dropped"))
    }

    /// Accepts a record. Waits only for room: its upload goes on beside this, and `report` hears how it ended.
    ///
    /// # Errors
    /// `Record` for what does not fit; `Transient` when there is no room within `send_timeout_ms`. Then `report` is not called.
    pub fn send(&self, record: Outgoing, report: Option<Report>) -> Result<()> {
        let shared = &self.shared;
        if shared.closing.load(Ordering::Acquire) {
            return Err(Error::new(Kind::Fatal, "the producer is closed"));
        }
        let mut outgoing = record;
        names::check_topic(&outgoing.topic)?;
        names::check_headers(&outgoing.headers)?;
        shared.claims.check_headers(&outgoing.headers)?;
        let span = shared.traces.then(|| {
            let parent = outgoing.trace.take().unwrap_or_else(Tracing::current);
            let span = trace::span("kas3.send", SpanKind::Producer, &outgoing.topic, &parent);
            trace::inject(&span, &mut outgoing.headers);
            span
        });
        match &outgoing.payload {
            Payload::Tombstone => {}
            Payload::Bytes(payload) => {
                shared.claims.check_size(payload.len() as u64)?;
                let room = self.room(&outgoing)?;
                if !shared.claims.stays(payload, &About { topic: &outgoing.topic, room: Some(room), ..About::default() }) {
                    return self.offload(outgoing, room, report, span);
                }
            }
            Payload::File(_) | Payload::Reader(_) => {
                let room = self.room(&outgoing)?;
                return self.offload(outgoing, room, report, span);
            }
        }
        let sent = match std::mem::replace(&mut outgoing.payload, Payload::Tombstone) {
            Payload::Bytes(payload) => Some(shared.claims.in_record(payload)),
            _ => None,
        };
        self.send_ready(shared.ready(outgoing, sent, report))
    }

    /// A record that needs no upload: it goes at once, unless others of its line wait.
    fn send_ready(&self, ready: Ready) -> Result<()> {
        let shared = &self.shared;
        shared.answers.accepted();
        let mut ready = ready;
        let mut deadline = None;
        loop {
            let mut lines = lock(&shared.lines);
            // while no payload is on its way there is no line to look for
            let line = if lines.is_empty() { None } else { shared.line_of(&ready.sending.topic.name, ready.partition, ready.key.as_ref()) };
            if let Some(line) = line.filter(|line| !lines.is_clear(line)) {
                lines.enter(line, Some(ready));
                return Ok(());
            }
            let Some(full) = shared.hand_over(ready) else { return Ok(()) };
            drop(lines);
            if Instant::now() >= *deadline.get_or_insert_with(|| Instant::now() + shared.send_timeout) {
                shared.answers.answered();
                return Err(Error::new(Kind::Transient, "records that wait for Kafka's answer fill the queue, and stayed so")
                    .hint("the brokers are slow or down; raise `send_timeout_ms` to wait for longer, or `queue.buffering.max.messages`"));
            }
            if let Err(interrupted) = interrupt::check() {
                shared.answers.answered();
                return Err(interrupted);
            }
            ready = full;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A record whose payload goes to the store, or may: a file that fits into `room` does not.
    fn offload(&self, outgoing: Outgoing, room: u64, report: Option<Report>, span: Option<Tracing>) -> Result<()> {
        let shared = &self.shared;
        let bytes = match &outgoing.payload {
            Payload::Bytes(payload) => payload.len() as u64,
            Payload::File(path) => std::fs::metadata(path).map_or(STREAM_BYTES, |file| file.len().min(STREAM_BYTES)),
            Payload::Reader(_) | Payload::Tombstone => STREAM_BYTES,
        };
        let permits = u32::try_from(bytes.min(shared.memory_bytes).div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let permits = permits.min(u32::try_from(shared.memory_bytes / PERMIT_BYTES).unwrap_or(u32::MAX).max(1));
        let full = "payloads on their way to the store fill `memory_bytes`, and stayed so";
        let memory = self.room_for_payload(&shared.memory, permits, full)?;
        let full = "too many payloads wait for their upload (twice `uploads`), and it stayed so";
        let place_in_queue = self.room_for_payload(&shared.queue, 1, full)?;
        shared.answers.accepted();
        let line = shared.line_of(&outgoing.topic, outgoing.partition, outgoing.key.as_ref());
        let place = line.map(|line| lock(&shared.lines).enter(line, None));
        let (task, purges) = (shared.clone(), shared.purges.load(Ordering::Acquire));
        self.runtime().spawn(async move {
            let result = task.upload(outgoing, room, report).await;
            drop((memory, place_in_queue));
            drop(span);
            task.uploaded(place, purges, result);
        });
        Ok(())
    }

    fn room_for_payload(&self, semaphore: &Arc<Semaphore>, permits: u32, full: &str) -> Result<OwnedSemaphorePermit> {
        if let Ok(permit) = semaphore.clone().try_acquire_many_owned(permits) {
            return Ok(permit);
        }
        let full = || Error::new(Kind::Transient, full).hint("the store is slow or down; raise `send_timeout_ms` to wait for longer");
        let waiting = semaphore.clone().acquire_many_owned(permits);
        let waited = interrupt::block_on_until(self.runtime(), Instant::now() + self.shared.send_timeout, waiting)?;
        waited.ok_or_else(full)?.map_err(|error| full().source(error))
    }

    /// Bytes that a record's value may have in its topic.
    fn room(&self, record: &Outgoing) -> Result<u64> {
        let shared = &self.shared;
        let topic = shared.topics.of(&record.topic);
        let most = match topic.most() {
            Some(most) => most,
            None => {
                let most = interrupt::block_on(self.runtime(), shared.topic_bytes_max(&record.topic))?.unwrap_or(TOPIC_BYTES_MAX);
                topic.takes(most);
                most
            }
        };
        let besides = client::bytes_of(&record.headers) + record.key.as_ref().map_or(0, Bytes::len);
        Ok(most.min(shared.client_bytes_max).saturating_sub(besides as u64 + RECORD_OVERHEAD_BYTES))
    }

    /// Sends a record and waits for Kafka's answer.
    ///
    /// # Errors
    /// As [`Producer::send`], and what became of its delivery.
    pub fn send_and_wait(&self, record: Outgoing) -> Result<Delivered> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let report: Report = Box::new(move |result| _ = sender.send(result));
        self.send(record, Some(report))?;
        match receiver.recv() {
            Ok(result) => result.map_err(|undelivered| undelivered.error),
            Err(error) => Err(Error::new(Kind::Fatal, "the producer was closed before the record was delivered").source(error)),
        }
    }

    /// Waits until all that was accepted has been delivered or has failed, at most for `timeout`. Returns how many have not.
    pub fn flush(&self, timeout: Duration) -> u64 {
        self.shared.answers.settle(Instant::now() + timeout)
    }

    /// Records that were accepted and not answered yet.
    pub fn outstanding(&self) -> u64 {
        self.shared.answers.outstanding()
    }

    /// Flushes, refuses what comes later, and stops. Returns how many records were not answered in time; their payloads stay.
    pub fn close(&self, timeout: Duration) -> u64 {
        let left = self.flush(timeout);
        self.shared.closing.store(true, Ordering::Release);
        left
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        if let Some(polling) = self.polling.take() {
            _ = polling.join();
        }
        self.shared.kafka.purge(PurgeConfig::default().queue().inflight());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn ready(&self, outgoing: Outgoing, sent: Option<Sent>, report: Option<Report>) -> Ready {
        let topic = self.topics.of(&outgoing.topic);
        Ready::of(outgoing, sent, report, &self.claims, topic)
    }

    fn line_of(&self, topic: &str, partition: Option<i32>, key: Option<&Bytes>) -> Option<Line> {
        let hash = |what: &dyn Fn(&mut DefaultHasher)| {
            let mut hasher = DefaultHasher::new();
            what(&mut hasher);
            hasher.finish()
        };
        let line = match (self.order, partition, key) {
            (Order::Topic, _, _) => 0,
            (Order::Key, Some(partition), _) => hash(&|hasher| (1, partition).hash(hasher)),
            (Order::Key, None, Some(key)) => hash(&|hasher| (2, key).hash(hasher)),
            (Order::Key, None, None) => return None,
        };
        Some((topic.to_owned(), line))
    }

    /// The `max.message.bytes` of a topic; `None` when it cannot be asked for.
    async fn topic_bytes_max(&self, topic: &str) -> Option<u64> {
        let asked = [ResourceSpecifier::Topic(topic)];
        let options = AdminOptions::new().request_timeout(Some(DESCRIBE_WAIT));
        let answer = self.admin.describe_configs(&asked, &options).await;
        let entry = |resource: &rdkafka::admin::ConfigResource| resource.get("max.message.bytes").and_then(|entry| entry.value.clone());
        let answer = answer.ok().and_then(|mut answer| answer.pop()).and_then(std::result::Result::ok);
        let most = answer.and_then(|resource| entry(&resource)).and_then(|bytes| bytes.parse().ok());
        if most.is_none() {
            tracing::debug!(topic, "the topic does not say how large its records may be");
        }
        most
    }

    async fn upload(&self, mut outgoing: Outgoing, room: u64, report: Option<Report>) -> Result<Ready, (Undelivered, Option<Report>)> {
        let payload = std::mem::replace(&mut outgoing.payload, Payload::Tombstone);
        let about = About { topic: &outgoing.topic, content_type: outgoing.content_type.as_deref(), room: Some(room), always: true };
        let sent = match payload {
            Payload::Bytes(payload) => self.claims.offload(payload, &about).await,
            Payload::File(path) => self.claims.offload_file(&path, &About { always: false, ..about }).await,
            Payload::Reader(reader) => self.claims.offload_reader(reader, &about).await,
            Payload::Tombstone => return Ok(self.ready(outgoing, None, report)),
        };
        match sent {
            Ok(sent) => {
                // what goes to Kafka is only handed over from here on: a crash leaves a payload, never a reference to nothing
                kas3_store::kill_point("claim.uploaded");
                Ok(self.ready(outgoing, Some(sent), report))
            }
            Err(error) => Err((Undelivered { topic: outgoing.topic, error, code: None, reference: None, certain: true }, report)),
        }
    }

    fn uploaded(&self, place: Option<Place<Line>>, purges: u64, result: Result<Ready, (Undelivered, Option<Report>)>) {
        let result = match result {
            Ok(ready) if self.purges.load(Ordering::Acquire) != purges => return self.purged(place, ready),
            result => result,
        };
        let mut failed = None;
        {
            let mut lines = lock(&self.lines);
            match (result, &place) {
                (Ok(ready), Some(place)) => lines.ready(place, ready),
                (Ok(ready), None) => {
                    // without a line it waits in one of its own when the queue is full
                    if let Some(ready) = self.hand_over(ready) {
                        let line = (ready.sending.topic.name.clone(), rand::random());
                        lines.enter(line, Some(ready));
                    }
                }
                (Err(error), place) => {
                    self.refused.fetch_add(1, Ordering::AcqRel);
                    if let Some(place) = place {
                        lines.leave(place);
                    }
                    failed = Some(error);
                }
            }
            if let Some(place) = &place {
                lines.drain(place.line(), |ready| self.hand_over(ready));
            }
        }
        if let Some((undelivered, report)) = failed {
            self.undelivered(undelivered, report);
        }
    }

    /// Gives a record to librdkafka; gives it back when the queue is full, or its topic can take no more now. What librdkafka refuses for
    /// good is reported.
    fn hand_over(&self, ready: Ready) -> Option<Ready> {
        let Sending { topic, bytes, .. } = &*ready.sending;
        if topic.stage() != Stage::Open || !topic.has_room(*bytes) {
            return Some(ready);
        }
        self.enqueue(ready)
    }

    /// The same, whatever its topic can take.
    fn enqueue(&self, ready: Ready) -> Option<Ready> {
        let Ready { partition, key, value, headers, timestamp, sending } = ready;
        let (topic, bytes) = (sending.topic.clone(), sending.bytes);
        let mut record = BaseRecord::<[u8], [u8], Box<Sending>>::with_opaque_to(&topic.name, sending);
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        if let Some(key) = &key {
            record = record.key(key);
        }
        if let Some(value) = &value {
            record = record.payload(value);
        }
        if let Some(timestamp) = timestamp {
            record = record.timestamp(timestamp);
        }
        if !headers.is_empty() {
            record = record.headers(client::owned(&headers));
        }
        topic.entered(bytes);
        let Err((error, record)) = self.kafka.send(record) else { return None };
        topic.left(bytes);
        let mut sending = record.delivery_opaque;
        if error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
            return Some(Ready { partition, key, value, headers, timestamp, sending });
        }
        self.refused.fetch_add(1, Ordering::AcqRel);
        let undelivered = Undelivered {
            code: error.rdkafka_error_code(),
            error: client::error_of_kafka(&format!("a record was not accepted for topic `{}`", topic.name), error),
            topic: topic.name.clone(),
            reference: sending.reference.take().map(|reference| *reference),
            certain: true,
        };
        lock(&self.answers.failures).push_back(Failure { sending, undelivered });
        None
    }
}
