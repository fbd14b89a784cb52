//! The Consumer: payloads are read ahead beside one another, within a bound, and handed out in the order of their records.

use super::{
    client,
    gate::{Gate, Ticket},
    settings::{ConsumerSettings, Policy},
};
use crate::{Claim, ClaimCheck, Error, Kind, PayloadStream, Reason, Reference, Result, reference::Headers};
use bytes::Bytes;
use kas3_store::Observer;
use rdkafka::{
    ClientContext, Message, Offset,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
    topic_partition_list::TopicPartitionList,
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// While one waits for a payload, the client is served at least so often.
const SERVE: Duration = Duration::from_millis(50);
/// Fewer records read ahead are not summed up: their values are bounded by the largest record.
const SUMMED_FROM: usize = 64;
const DEAD_LETTER_WAIT: Duration = Duration::from_secs(30);
const GROUP_WAIT: Duration = Duration::from_secs(10);
const LEAVE_WAIT: Duration = Duration::from_secs(5);

type Partition = (String, i32);

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// What a record brought.
pub enum Incoming {
    /// No value: on a compacted topic, the deletion of the key.
    Tombstone,
    /// The payload, verified.
    Bytes(Bytes),
    /// A large payload, verified as it is read.
    Stream(PayloadStream),
}

/// A record with its payload.
pub struct Received {
    /// Where it stands.
    pub position: Position,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
    /// Key.
    pub key: Option<Bytes>,
    /// Headers of its sender; those of the reference are taken out.
    pub headers: Headers,
    /// Payload.
    pub payload: Incoming,
    /// Where the payload lay, when it was offloaded.
    pub reference: Option<Reference>,
}

/// A record whose payload cannot be had, with what Kafka has of it.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub error: Error,
    /// Where it stands; `None` when no record was at fault.
    pub position: Option<Position>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value as it stands in Kafka.
    pub value: Option<Bytes>,
    /// Its headers as they stand in Kafka.
    pub headers: Headers,
    /// Where its payload should be, when that can be read.
    pub reference: Option<Reference>,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.position {
            Some(Position { topic, partition, offset }) => write!(f, "record {offset} of `{topic}` [{partition}]: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<Error> for Box<Failed> {
    fn from(error: Error) -> Self {
        Box::new(Failed { error, position: None, key: None, value: None, headers: Headers::new(), reference: None })
    }
}

/// What happened to the assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Partitions came.
    Assigned(Vec<Position>),
    /// Partitions go; offsets can still be committed.
    Revoked(Vec<Position>),
    /// Partitions are gone; others have them already.
    Lost(Vec<Position>),
}

/// Hears of rebalances, within [`Consumer::poll`].
pub type Listener = Box<dyn Fn(&Rebalance) + Send + Sync>;

/// A consumer. One thread polls; the other methods may be called from any.
pub struct Consumer {
    claims: ClaimCheck,
    kafka: BaseConsumer<Assignments>,
    settings: ConsumerSettings,
    auto_commit: bool,
    gate: Gate,
    state: Mutex<State>,
    letters: Mutex<Option<BaseProducer<Letters>>>,
    groups: Mutex<HashMap<String, BaseConsumer>>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
struct State {
    ahead: VecDeque<Ahead>,
    /// Offsets after the newest records that were handed out.
    next: HashMap<Partition, i64>,
    /// Of those, what the client was not told yet: the caller may still be busy with it.
    to_store: HashMap<Partition, i64>,
    deletes: HashMap<Partition, BTreeMap<i64, Reference>>,
    /// Committed here, and waited for in other groups.
    deletes_due: Vec<(Position, Reference)>,
}

/// A record read ahead.
struct Ahead {
    position: Position,
    timestamp: Option<i64>,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Headers,
    reference: Option<Reference>,
    content: Content,
    /// Room of its payload.
    ticket: Option<Ticket>,
}

enum Content {
    Here(Option<Bytes>),
    Coming(oneshot::Receiver<(Result<Bytes>, Ticket)>),
    AsStream,
    Broken(Error),
}

/// Hears of assignments, within the client's poll.
struct Assignments {
    listener: Mutex<Option<Arc<Listener>>>,
    gone: Mutex<Vec<Partition>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn positions(list: &TopicPartitionList) -> Vec<Position> {
    let offset = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { -1001 };
    list.elements()
        .iter()
        .map(|each| Position { topic: each.topic().to_owned(), partition: each.partition(), offset: offset(each.offset()) })
        .collect()
}

impl Assignments {
    fn tell(&self, rebalance: &Rebalance) {
        let listener = lock(&self.listener).clone();
        if let Some(listener) = listener {
            listener(rebalance);
        }
    }
}

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &rdkafka::consumer::Rebalance<'_>) {
        if let rdkafka::consumer::Rebalance::Revoke(list) = rebalance {
            let gone = positions(list);
            let rebalance = if consumer.assignment_lost() { Rebalance::Lost(gone.clone()) } else { Rebalance::Revoked(gone.clone()) };
            self.tell(&rebalance);
            lock(&self.gone).extend(gone.into_iter().map(|position| (position.topic, position.partition)));
        }
    }

    fn post_rebalance(&self, _consumer: &BaseConsumer<Self>, rebalance: &rdkafka::consumer::Rebalance<'_>) {
        if let rdkafka::consumer::Rebalance::Assign(list) = rebalance {
            self.tell(&Rebalance::Assigned(positions(list)));
        }
    }
}

impl Consumer {
    /// Opens the stores and the client. Asks neither of them anything yet.
    ///
    /// # Errors
    /// `Config` for settings that cannot be.
    pub fn open(settings: ConsumerSettings) -> Result<Consumer> {
        Consumer::open_observed(settings, Arc::new(kas3_store::Unobserved))
    }

    /// The same, with one who sees every request to the stores.
    ///
    /// # Errors
    /// As [`Consumer::open`].
    pub fn open_observed(settings: ConsumerSettings, observer: Arc<dyn Observer>) -> Result<Consumer> {
        let runtime = client::runtime()?;
        let claims = runtime.block_on(ClaimCheck::open_observed(settings.claim_check.clone(), observer))?;
        let mut config = client::config(&settings.kafka)?;
        if settings.kafka.get("group.id").is_none_or(String::is_empty) {
            return Err(Error::new(Kind::Config, "`group.id` is missing").hint("set it in `kafka`"));
        }
        let truth = |value: &String| ["true", "1", "yes", "on", "t"].contains(&value.trim().to_lowercase().as_str());
        let auto_commit = settings.kafka.get("enable.auto.commit").is_none_or(truth);
        check_policies(&settings, auto_commit)?;
        // what was only read ahead must never be committed
        config.set("enable.auto.offset.store", "false");
        let context = Assignments { listener: Mutex::new(None), gone: Mutex::default() };
        let kafka = BaseConsumer::from_config_and_context(&config, context);
        let kafka = kafka.map_err(|error| client::error_of_kafka("no consumer can be made", error))?;
        let gate = Gate::new(settings.memory_bytes, settings.downloads.max(1));
        let (state, letters, groups) = (Mutex::default(), Mutex::default(), Mutex::default());
        Ok(Consumer { claims, kafka, settings, auto_commit, gate, state, letters, groups, runtime: Some(runtime) })
    }

    /// The codec that it uses.
    pub fn claims(&self) -> &ClaimCheck {
        &self.claims
    }

    /// The client, for what is not wrapped here. Do not poll it.
    pub fn client(&self) -> &BaseConsumer<impl ConsumerContext> {
        &self.kafka
    }

    /// Offsets are committed by the client, a record's when the next one is asked for.
    pub fn auto_commits(&self) -> bool {
        self.auto_commit
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().unwrap_or_else(|| unreachable!("the runtime is taken when the consumer is dropped"))
    }

    /// Joins the group for `topics` (names, or expressions that begin with `^`).
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn subscribe(&self, topics: &[&str], listener: Option<Listener>) -> Result<()> {
        *lock(&self.kafka.context().listener) = listener.map(Arc::new);
        self.kafka.subscribe(topics).map_err(|error| client::error_of_kafka("the topics cannot be subscribed to", error))
    }

    /// Takes partitions without a group's assignment.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<()> {
        lock(&self.state).ahead.clear();
        self.kafka.assign(partitions).map_err(|error| client::error_of_kafka("the partitions cannot be assigned", error))
    }

    /// The next record with its payload; `None` when there was none within `timeout`.
    ///
    /// # Errors
    /// What the policies do not pass over. A record that failed is tried again by the next call, until [`Consumer::skip`].
    pub fn poll(&self, timeout: Duration) -> Result<Option<Received>, Box<Failed>> {
        let deadline = Instant::now() + timeout;
        self.store_offsets();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = if lock(&self.state).ahead.is_empty() { left } else { Duration::ZERO };
            self.fill(wait)?;
            let first = lock(&self.state).ahead.pop_front();
            let Some(ahead) = first else {
                if deadline <= Instant::now() {
                    return Ok(None);
                }
                continue;
            };
            match self.settle(ahead, deadline.saturating_duration_since(Instant::now()).min(SERVE)) {
                Settled::Here(received) => return Ok(Some(*received)),
                Settled::Passed => {}
                Settled::Waiting(ahead) => {
                    self.put_back(*ahead);
                    if deadline <= Instant::now() {
                        return Ok(None);
                    }
                }
                Settled::Failed(ahead, error) => return Err(self.failed(*ahead, error)),
            }
        }
    }

    /// Tells the client what the caller is done with: it asked for the next record.
    fn store_offsets(&self) {
        let stored = std::mem::take(&mut lock(&self.state).to_store);
        if !stored.is_empty() {
            // partitions that went meanwhile are refused, and their next owner reads from the last commit
            _ = self.kafka.store_offsets(&list_of(&stored));
        }
    }

    /// Reads ahead as far as there is room.
    fn fill(&self, mut wait: Duration) -> Result<(), Box<Failed>> {
        loop {
            let full = {
                let state = lock(&self.state);
                let held = self.gate.held();
                let in_records = || state.ahead.iter().filter_map(|ahead| ahead.value.as_ref()).map(|value| value.len() as u64).sum::<u64>();
                state.ahead.len() >= self.settings.prefetch.max(1)
                    || (held >= self.settings.memory_bytes && !state.ahead.is_empty())
                    || (state.ahead.len() >= SUMMED_FROM && in_records() >= self.settings.memory_bytes)
            };
            if full {
                // the client still wants to be served; nothing is read
                self.forget_gone();
                return Ok(());
            }
            let polled = self.kafka.poll(wait);
            self.forget_gone();
            match polled {
                None => return Ok(()),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => return Err(self.of_client(error)),
                Some(Ok(message)) => {
                    let ahead = self.ahead(&message);
                    lock(&self.state).ahead.push_back(ahead);
                }
            }
            wait = Duration::ZERO;
        }
    }

    fn of_client(&self, error: KafkaError) -> Box<Failed> {
        let doing = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::PollExceeded) => "the group took the partitions away: `max.poll.interval.ms` passed between two calls",
            _ => "records cannot be read",
        };
        client::error_of_kafka(doing, error).into()
    }

    fn forget_gone(&self) {
        let gone = std::mem::take(&mut *lock(&self.kafka.context().gone));
        if gone.is_empty() {
            return;
        }
        let mut state = lock(&self.state);
        let is_gone = |topic: &String, partition: i32| gone.iter().any(|(of, number)| of == topic && *number == partition);
        state.ahead.retain(|ahead| !is_gone(&ahead.position.topic, ahead.position.partition));
        for partition in &gone {
            state.next.remove(partition);
            state.to_store.remove(partition);
            state.deletes.remove(partition);
        }
    }

    fn ahead(&self, message: &BorrowedMessage<'_>) -> Ahead {
        let headers = client::headers_of_message(message);
        let value = message.payload().map(Bytes::copy_from_slice);
        let mut reference = None;
        let mut ticket = None;
        let content = match self.claims.claim(value.as_ref(), &headers) {
            Ok(Claim::Tombstone) => Content::Here(None),
            Ok(Claim::Inline(payload)) => Content::Here(Some(payload)),
            Ok(Claim::Reference(found)) => {
                let streams = self.settings.stream_above_bytes.is_some_and(|most| found.size.is_none_or(|size| size > most));
                let content = if streams { Content::AsStream } else { self.fetch(&found, self.gate.ticket()) };
                reference = Some(found);
                content
            }
            Err(error) => Content::Broken(error),
        };
        if let (Content::Here(Some(payload)), Some(_)) = (&content, &value) {
            let mut own = self.gate.ticket();
            // what is in the record is in memory already: it counts, and waits for nobody
            if own.try_take(payload.len() as u64) {
                ticket = Some(own);
            }
        }
        let position = Position { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
        let (timestamp, key) = (message.timestamp().to_millis(), message.key().map(Bytes::copy_from_slice));
        Ahead { position, timestamp, key, value, headers, reference, content, ticket }
    }

    fn fetch(&self, reference: &Reference, mut ticket: Ticket) -> Content {
        let (sender, receiver) = oneshot::channel();
        let (claims, reference) = (self.claims.clone(), reference.clone());
        self.runtime().spawn(async move {
            let fetched = claims.fetch_within(&reference, &mut ticket).await;
            _ = sender.send((fetched, ticket));
        });
        Content::Coming(receiver)
    }

    fn put_back(&self, ahead: Ahead) {
        let mut state = lock(&self.state);
        state.ahead.push_front(ahead);
        drop(state);
        self.forget_gone();
    }

    fn settle(&self, mut ahead: Ahead, wait: Duration) -> Settled {
        let content = std::mem::replace(&mut ahead.content, Content::Here(None));
        let fetched = match content {
            Content::Here(None) => Ok(Incoming::Tombstone),
            Content::Here(Some(payload)) => Ok(Incoming::Bytes(payload)),
            Content::Broken(error) => Err(error),
            Content::AsStream => match &ahead.reference {
                Some(reference) => self.runtime().block_on(self.claims.stream(reference)).map(Incoming::Stream),
                None => Ok(Incoming::Tombstone),
            },
            Content::Coming(mut receiver) => {
                let waited = match receiver.try_recv() {
                    Ok(fetched) => Ok(Ok(fetched)),
                    Err(oneshot::error::TryRecvError::Closed) => Ok(Err(())),
                    Err(oneshot::error::TryRecvError::Empty) => self
                        .runtime()
                        .block_on(async { tokio::time::timeout(wait, &mut receiver).await.map(|fetched| fetched.map_err(drop)).map_err(drop) }),
                };
                match waited {
                    Ok(Ok((fetched, ticket))) => {
                        ahead.ticket = Some(ticket);
                        fetched.map(Incoming::Bytes)
                    }
                    Ok(Err(())) => Err(Error::new(Kind::Fatal, "the download of a payload stopped")),
                    Err(()) => {
                        ahead.content = Content::Coming(receiver);
                        return Settled::Waiting(Box::new(ahead));
                    }
                }
            }
        };
        match fetched {
            Ok(payload) => Settled::Here(Box::new(self.hand_out(ahead, payload))),
            Err(error) => self.refuse(ahead, error),
        }
    }

    fn hand_out(&self, ahead: Ahead, payload: Incoming) -> Received {
        let Ahead { position, timestamp, key, headers, reference, .. } = ahead;
        self.passed(&position, reference.as_ref());
        Received { headers: self.claims.headers_of_user(&headers), position, timestamp, key, payload, reference }
    }

    /// A record is behind us: its offset may be committed once the caller asks for the next one, or says so.
    fn passed(&self, position: &Position, reference: Option<&Reference>) {
        let mut state = lock(&self.state);
        let partition = (position.topic.clone(), position.partition);
        state.next.insert(partition.clone(), position.offset + 1);
        state.to_store.insert(partition.clone(), position.offset + 1);
        if let Some(reference) = reference.filter(|reference| self.settings.delete.after_commit && !reference.shared) {
            state.deletes.entry(partition).or_default().insert(position.offset, reference.clone());
        }
    }

    fn policy(&self, error: &Error) -> Policy {
        match error.kind() {
            Kind::Missing if error.reason() == Some(Reason::ObjectMissing) => self.settings.on_missing,
            Kind::Denied if error.reason() == Some(Reason::ObjectForbidden) => self.settings.on_forbidden,
            Kind::Integrity => self.settings.on_corrupt,
            _ => Policy::Fail,
        }
    }

    fn refuse(&self, ahead: Ahead, error: Error) -> Settled {
        let Position { topic, partition, offset } = &ahead.position;
        match self.policy(&error) {
            Policy::Fail => return Settled::Failed(Box::new(ahead), error),
            Policy::Skip => tracing::warn!(topic, partition, offset, error = error.chain(), "a record is passed over"),
            Policy::DeadLetter => {
                let sent = self.letter(&ahead.position, ahead.key.as_ref(), ahead.value.as_ref(), ahead.headers.clone(), &error);
                if let Err(failure) = sent {
                    return Settled::Failed(Box::new(ahead), failure);
                }
                tracing::warn!(topic, partition, offset, error = error.chain(), "a record went to the dead letters");
            }
        }
        self.passed(&ahead.position, None);
        Settled::Passed
    }

    /// The record stays in front, and is tried again.
    fn failed(&self, mut ahead: Ahead, error: Error) -> Box<Failed> {
        let (position, key, value, headers) = (ahead.position.clone(), ahead.key.clone(), ahead.value.clone(), ahead.headers.clone());
        let failed = Box::new(Failed { error, position: Some(position), key, value, headers, reference: ahead.reference.clone() });
        ahead.ticket = None;
        let streams = |reference: &Reference| self.settings.stream_above_bytes.is_some_and(|most| reference.size.is_none_or(|size| size > most));
        ahead.content = match (&ahead.reference, self.claims.claim(ahead.value.as_ref(), &ahead.headers)) {
            (Some(reference), Ok(_)) if streams(reference) => Content::AsStream,
            (Some(reference), Ok(_)) => {
                // it takes the first place again: those behind it hold room, and wait for it
                let (sender, receiver) = oneshot::channel();
                let (claims, reference) = (self.claims.clone(), reference.clone());
                let ticket = self.gate.ticket();
                self.runtime().spawn(async move {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    _ = sender.send((claims.fetch(&reference).await, ticket));
                });
                Content::Coming(receiver)
            }
            (_, Err(error)) => Content::Broken(error),
            (None, Ok(_)) => Content::Here(ahead.value.clone()),
        };
        self.put_back(ahead);
        failed
    }

    /// Passes over the record that the last call failed for: its offset counts as consumed.
    pub fn skip(&self) -> Option<Position> {
        let ahead = lock(&self.state).ahead.pop_front()?;
        self.passed(&ahead.position, None);
        Some(ahead.position)
    }

    /// The same, but only of this record: whether it was still in front. It is not when its partition went meanwhile.
    pub fn skip_record(&self, position: &Position) -> bool {
        let ahead = {
            let mut state = lock(&self.state);
            if state.ahead.front().is_some_and(|ahead| ahead.position == *position) { state.ahead.pop_front() } else { None }
        };
        if let Some(ahead) = &ahead {
            self.passed(&ahead.position, None);
        }
        ahead.is_some()
    }

    /// Sends a record that failed to `dead_letter_topic`, as Kafka has it, with the reason in headers, and waits until it is
    /// there. For callers whose policies are their own; [`Consumer::skip`] passes it over afterwards.
    ///
    /// # Errors
    /// `Config` without a topic for dead letters; those of Kafka.
    pub fn dead_letter(&self, failed: &Failed) -> Result<()> {
        let Some(position) = &failed.position else { return Ok(()) };
        self.letter(position, failed.key.as_ref(), failed.value.as_ref(), failed.headers.clone(), &failed.error)
    }

    fn letter(&self, position: &Position, key: Option<&Bytes>, value: Option<&Bytes>, mut headers: Headers, error: &Error) -> Result<()> {
        let Some(topic) = &self.settings.dead_letter_topic else {
            return Err(Error::new(Kind::Config, "`dead_letter_topic` is missing").hint("name the topic"));
        };
        let mut letters = lock(&self.letters);
        if letters.is_none() {
            let config = client::config(&client::properties_of_client(&self.settings.kafka))?;
            let made = config.create_with_context(Letters);
            *letters = Some(made.map_err(|error| client::error_of_kafka("no producer for dead letters can be made", error))?);
        }
        let Some(producer) = letters.as_ref() else { return Ok(()) };
        let text = |text: String| Some(Bytes::from(text));
        headers.push(("kas3-error".to_owned(), text(error.chain())));
        headers.push(("kas3-reason".to_owned(), text(error.reason().map_or("", Reason::code).to_owned())));
        headers.push(("kas3-topic".to_owned(), text(position.topic.clone())));
        headers.push(("kas3-partition".to_owned(), text(position.partition.to_string())));
        headers.push(("kas3-offset".to_owned(), text(position.offset.to_string())));
        let failure = Arc::<Mutex<Option<KafkaError>>>::default();
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, failure.clone()).headers(client::owned(&headers));
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.payload(value);
        }
        let lost = |error| {
            let lost = client::error_of_kafka(&format!("a dead letter was not sent to `{topic}`"), error);
            lost.hint("look whether the topic exists and may be written to; the record is tried again")
        };
        producer.send(record).map_err(|(error, _)| lost(error))?;
        producer.flush(DEAD_LETTER_WAIT).map_err(lost)?;
        let failure = lock(&failure).take();
        failure.map_or(Ok(()), |error| Err(lost(error)))
    }

    /// Commits the offsets of everything that was handed out.
    ///
    /// # Errors
    /// Those of Kafka; payloads are deleted only after success.
    pub fn commit(&self) -> Result<()> {
        let next = lock(&self.state).next.clone();
        self.commit_offsets(&next)
    }

    /// Commits a record's offset, and with it those before it in its partition.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub fn commit_record(&self, position: &Position) -> Result<()> {
        self.commit_offsets(&HashMap::from([((position.topic.clone(), position.partition), position.offset + 1)]))
    }

    /// Commits offsets: for each partition that of the next record to read.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub fn commit_offsets(&self, next: &HashMap<(String, i32), i64>) -> Result<()> {
        if next.is_empty() {
            return Ok(());
        }
        self.kafka.commit(&list_of(next), CommitMode::Sync).map_err(|error| client::error_of_kafka("offsets were not committed", error))?;
        self.committed(next);
        Ok(())
    }

    /// Commits in the background. Payloads to delete make it wait like [`Consumer::commit`]: they need the answer.
    ///
    /// # Errors
    /// Those of Kafka that show at once.
    pub fn commit_async(&self) -> Result<()> {
        let next = lock(&self.state).next.clone();
        if self.settings.delete.after_commit {
            return self.commit_offsets(&next);
        }
        if next.is_empty() {
            return Ok(());
        }
        self.kafka.commit(&list_of(&next), CommitMode::Async).map_err(|error| client::error_of_kafka("offsets were not committed", error))
    }

    /// Deletes what the commit made superfluous, here and in the other groups.
    fn committed(&self, next: &HashMap<Partition, i64>) {
        let due = {
            let mut state = lock(&self.state);
            let mut due = std::mem::take(&mut state.deletes_due);
            for ((topic, partition), next) in next {
                let Some(deletes) = state.deletes.get_mut(&(topic.clone(), *partition)) else { continue };
                let later = deletes.split_off(next);
                let done = std::mem::replace(deletes, later);
                due.extend(done.into_iter().map(|(offset, reference)| (Position { topic: topic.clone(), partition: *partition, offset }, reference)));
            }
            due
        };
        if due.is_empty() {
            return;
        }
        let passed = self.passed_by_others(&due);
        let mut kept = Vec::new();
        let mut deletions = Vec::new();
        for ((position, reference), passed) in due.into_iter().zip(passed) {
            if passed { deletions.push(reference) } else { kept.push((position, reference)) }
        }
        lock(&self.state).deletes_due.extend(kept);
        let claims = self.claims.clone();
        self.runtime().block_on(async {
            let many = deletions.iter().map(|reference| claims.delete(reference));
            for (done, reference) in futures::future::join_all(many).await.into_iter().zip(&deletions) {
                if let Err(error) = done {
                    tracing::warn!(key = reference.key, %error, "a consumed payload was not deleted; `kas3 payloads gc` finds it");
                }
            }
        });
    }

    /// Which of these records all other groups have committed. An unknown answer is no.
    fn passed_by_others(&self, due: &[(Position, Reference)]) -> Vec<bool> {
        let mut passed = vec![true; due.len()];
        for group in &self.settings.delete.other_groups {
            let committed = self.committed_by(group, due);
            if let Err(error) = &committed {
                tracing::warn!(group, error = error.chain(), "how far another group is cannot be asked; payloads stay for now");
            }
            let committed = committed.unwrap_or_default();
            for (passed, (position, _)) in passed.iter_mut().zip(due) {
                let next = committed.get(&(position.topic.clone(), position.partition)).copied().unwrap_or(-1);
                *passed &= next > position.offset;
            }
        }
        passed
    }

    fn committed_by(&self, group: &str, due: &[(Position, Reference)]) -> Result<HashMap<Partition, i64>> {
        let mut groups = lock(&self.groups);
        if !groups.contains_key(group) {
            let mut config = client::config(&client::properties_of_client(&self.settings.kafka))?;
            config.set("group.id", group).set("enable.auto.commit", "false");
            let asked: BaseConsumer = config.create().map_err(|error| client::error_of_kafka("another group cannot be asked", error))?;
            groups.insert(group.to_owned(), asked);
        }
        let Some(asked) = groups.get(group) else { return Ok(HashMap::new()) };
        let mut list = TopicPartitionList::new();
        for (position, _) in due {
            if list.find_partition(&position.topic, position.partition).is_none() {
                list.add_partition(&position.topic, position.partition);
            }
        }
        let offsets = asked.committed_offsets(list, GROUP_WAIT).map_err(|error| client::error_of_kafka("another group cannot be asked", error))?;
        let known = positions(&offsets).into_iter().filter(|position| position.offset >= 0);
        Ok(known.map(|position| ((position.topic, position.partition), position.offset)).collect())
    }

    /// Offsets after what was handed out, as a transaction takes them.
    ///
    /// # Errors
    /// `Fatal` for a partition that Kafka's client does not take.
    pub fn next_offsets(&self) -> TopicPartitionList {
        list_of(&lock(&self.state).next)
    }

    /// The group's metadata, for a transaction.
    pub fn group_metadata(&self) -> Option<ConsumerGroupMetadata> {
        self.kafka.group_metadata()
    }

    /// Reads a partition from `offset` on; what was read ahead of it is dropped.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn seek(&self, position: &Position, timeout: Duration) -> Result<()> {
        let seen = self.kafka.seek(&position.topic, position.partition, Offset::Offset(position.offset), timeout);
        seen.map_err(|error| client::error_of_kafka("the partition cannot be sought", error))?;
        self.drop_ahead(&position.topic, position.partition);
        Ok(())
    }

    /// Drops what was read ahead of a partition, as before a seek of the client's own.
    pub fn drop_ahead(&self, topic: &str, partition: i32) {
        let mut state = lock(&self.state);
        state.ahead.retain(|ahead| ahead.position.topic != topic || ahead.position.partition != partition);
        let partition = (topic.to_owned(), partition);
        state.next.remove(&partition);
        state.to_store.remove(&partition);
    }

    /// Leaves the group; the listener hears of it, and may still commit. What was handed out counts as consumed where offsets are
    /// committed by the client; payloads whose offsets were not committed are kept.
    pub fn close(&self) {
        self.store_offsets();
        if self.auto_commit {
            let next = lock(&self.state).next.clone();
            if !next.is_empty()
                && let Err(error) = self.kafka.commit(&list_of(&next), CommitMode::Sync)
            {
                tracing::debug!(%error, "the last offsets were not committed");
            }
        }
        let subscribed = self.kafka.subscription().is_ok_and(|topics| topics.count() > 0);
        self.kafka.unsubscribe();
        let deadline = Instant::now() + LEAVE_WAIT;
        // the group takes its partitions back within the client's poll; what that still reads was not handed out
        while subscribed && Instant::now() < deadline && self.kafka.assignment().is_ok_and(|left| left.count() > 0) {
            _ = self.kafka.poll(SERVE);
        }
        let mut state = lock(&self.state);
        *state = State::default();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        lock(&self.state).ahead.clear();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Hears whether a dead letter arrived.
struct Letters;

impl ClientContext for Letters {}

impl ProducerContext for Letters {
    type DeliveryOpaque = Arc<Mutex<Option<KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, failure: Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            *lock(&failure) = Some(error.clone());
        }
    }
}

enum Settled {
    Here(Box<Received>),
    Passed,
    Waiting(Box<Ahead>),
    Failed(Box<Ahead>, Error),
}

fn list_of(next: &HashMap<Partition, i64>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), next) in next {
        // an offset from 0 on is always taken
        _ = list.add_partition_offset(topic, *partition, Offset::Offset(*next));
    }
    list
}

fn check_policies(settings: &ConsumerSettings, auto_commit: bool) -> Result<()> {
    let wrong = |what: &str, hint: &str| Err(Error::new(Kind::Config, what).hint(hint));
    let policies = [settings.on_missing, settings.on_forbidden, settings.on_corrupt];
    if policies.contains(&Policy::DeadLetter) && settings.dead_letter_topic.is_none() {
        return wrong("a policy is `dead_letter`, and `dead_letter_topic` is missing", "name the topic");
    }
    if settings.delete.after_commit && auto_commit {
        return wrong(
            "`delete.after_commit` needs `enable.auto.commit: false`",
            "commit after processing: with automatic commits a payload could go before its record is processed",
        );
    }
    if settings.delete.after_commit && settings.delete.other_groups.is_empty() {
        tracing::warn!("`delete.after_commit` without `delete.other_groups`: no other group can read the payloads of this topic");
    }
    Ok(())
}
