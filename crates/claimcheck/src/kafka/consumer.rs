//! The Consumer: payloads are read ahead beside one another, within a bound, and handed out in the order of their records.

use super::{
    client,
    dead_letters::DeadLetters,
    deletions::Deletions,
    events::{ClientEvents, Unheard, hands_on},
    interrupt, lock, names,
    read_ahead::{Limits, ReadAhead},
    records::{Failed, Incoming, Listener, Partition, Position, Rebalance, Received, list_of, positions},
    settings::{ConsumerSettings, Policy},
};
use crate::{ClaimCheck, Error, Kind, Reason, Reference, Result};
use kas3_store::Observer;
use rdkafka::{
    Offset,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, ConsumerGroupMetadata},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionList,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

mod partitions;

/// While one waits for a payload, the client is served at least so often.
const SERVE: Duration = Duration::from_millis(50);
/// While there is no room for records, the client is served at least so often.
const SERVE_FULL: Duration = Duration::from_secs(1);
/// Fewer records read ahead are not summed up: their values are bounded by the largest record.
const SUMMED_FROM: usize = 64;
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// A consumer. One thread polls; the other methods may be called from any.
pub struct Consumer {
    claims: ClaimCheck,
    kafka: BaseConsumer<Assignments>,
    settings: ConsumerSettings,
    auto_commit: bool,
    /// The caller says which offsets may be committed, by [`Consumer::store_next`].
    stores_itself: bool,
    limits: Limits,
    state: Mutex<State>,
    letters: DeadLetters,
    deletions: Deletions,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Default)]
struct State {
    ahead: VecDeque<ReadAhead>,
    /// Offsets after the newest records that were handed out.
    next: HashMap<Partition, i64>,
    /// Of those, what the client was not told yet: the caller may still be busy with it.
    to_store: HashMap<Partition, i64>,
    /// When the client was polled last.
    served: Option<Instant>,
    /// What the caller stored itself.
    stored: HashMap<Partition, i64>,
    /// Partitions are paused until there is room.
    paused: bool,
    /// Partitions that the caller paused: they stay so when there is room.
    paused_by_caller: HashSet<Partition>,
}

/// Hears of assignments, within the client's poll.
struct Assignments {
    listener: Mutex<Option<Arc<Listener>>>,
    gone: Mutex<Vec<Partition>>,
    events: Arc<dyn ClientEvents>,
}

impl Assignments {
    fn tell(&self, rebalance: &Rebalance) {
        let listener = lock(&self.listener).clone();
        if let Some(listener) = listener {
            listener(rebalance);
        }
    }
}

hands_on!(Assignments);

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

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.events.committed(&result, offsets);
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
        Consumer::open_heard(settings, observer, Arc::new(Unheard))
    }

    /// The same, with one who hears what its clients of librdkafka say.
    ///
    /// # Errors
    /// As [`Consumer::open`].
    pub fn open_heard(settings: ConsumerSettings, observer: Arc<dyn Observer>, events: Arc<dyn ClientEvents>) -> Result<Consumer> {
        let runtime = client::runtime()?;
        let claims = runtime.block_on(ClaimCheck::open_observed(settings.claim_check.clone(), observer))?;
        let mut config = client::config(&settings.kafka)?;
        if settings.kafka.get("group.id").is_none_or(String::is_empty) {
            return Err(Error::new(Kind::Config, "`group.id` is missing").hint("set it in `kafka`"));
        }
        let is_on = |name: &str| settings.kafka.get(name).is_none_or(|value| truth(value));
        let (auto_commit, stores_itself) = (is_on("enable.auto.commit"), !is_on("enable.auto.offset.store"));
        check_policies(&settings, auto_commit)?;
        // what was only read ahead must never be committed
        config.set("enable.auto.offset.store", "false");
        let context = Assignments { listener: Mutex::new(None), gone: Mutex::default(), events: events.clone() };
        let kafka = BaseConsumer::from_config_and_context(&config, context);
        let kafka = kafka.map_err(|error| client::error_of_kafka("no consumer can be made", error))?;
        let limits = Limits::new(settings.memory_bytes, settings.downloads.max(1));
        let letters = DeadLetters::new(settings.dead_letter_topic.clone(), &settings.kafka, events);
        let deletions = Deletions::new(settings.delete.clone(), &settings.kafka);
        let (state, runtime) = (Mutex::default(), Some(runtime));
        Ok(Consumer { claims, kafka, settings, auto_commit, stores_itself, limits, state, letters, deletions, runtime })
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
        topics.iter().try_for_each(|topic| names::check_topic(topic))?;
        *lock(&self.kafka.context().listener) = listener.map(Arc::new);
        self.kafka.subscribe(topics).map_err(|error| client::error_of_kafka("the topics cannot be subscribed to", error))
    }

    /// Takes partitions without a group's assignment.
    ///
    /// # Errors
    /// Those of Kafka.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<()> {
        partitions.elements().iter().try_for_each(|each| names::check_topic(each.topic()))?;
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
                Settled::HandedOut(received) => return Ok(Some(*received)),
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
        if !stored.is_empty() && !self.stores_itself {
            // partitions that went meanwhile are refused, and their next owner reads from the last commit
            _ = self.kafka.store_offsets(&list_of(&stored));
        }
    }

    /// Reads ahead as far as there is room.
    fn fill(&self, mut wait: Duration) -> Result<(), Box<Failed>> {
        loop {
            let full = {
                let state = lock(&self.state);
                let held = self.limits.held();
                let in_records = || state.ahead.iter().filter_map(|ahead| ahead.value.as_ref()).map(|value| value.len() as u64).sum::<u64>();
                state.ahead.len() >= self.settings.prefetch.max(1)
                    || (held >= self.settings.memory_bytes && !state.ahead.is_empty())
                    || (state.ahead.len() >= SUMMED_FROM && in_records() >= self.settings.memory_bytes)
            };
            if full {
                return self.serve();
            }
            self.read_on()?;
            if !self.read_one(wait)? {
                return Ok(());
            }
            wait = Duration::ZERO;
        }
    }

    /// Reads a record ahead, if one comes within `wait`; whether more may be there.
    fn read_one(&self, wait: Duration) -> Result<bool, Box<Failed>> {
        let polled = self.kafka.poll(wait);
        lock(&self.state).served = Some(Instant::now());
        self.forget_gone();
        match polled {
            None => Ok(false),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(true),
            Some(Err(error)) => Err(self.of_client(error)),
            Some(Ok(message)) => {
                let ahead = ReadAhead::read(&message, self.runtime(), &self.claims, &self.limits, self.settings.stream_above_bytes);
                lock(&self.state).ahead.push_back(ahead);
                Ok(true)
            }
        }
    }

    /// While there is no room for records, the client is served all the same, or the group would take the partitions away after
    /// `max.poll.interval.ms`: a payload may be large, and a store away for long. Nothing is read meanwhile.
    fn serve(&self) -> Result<(), Box<Failed>> {
        if lock(&self.state).served.is_some_and(|served| served.elapsed() < SERVE_FULL) {
            return Ok(());
        }
        let failed = |error| client::error_of_kafka("partitions cannot be paused", error);
        let ours = self.kafka.assignment().map_err(failed)?;
        self.kafka.pause(&ours).map_err(failed)?;
        lock(&self.state).paused = true;
        while self.read_one(Duration::ZERO)? {}
        Ok(())
    }

    /// There is room again.
    fn read_on(&self) -> Result<(), Box<Failed>> {
        if std::mem::take(&mut lock(&self.state).paused) {
            let failed = |error| client::error_of_kafka("partitions cannot be read on", error);
            let ours = self.kafka.assignment().map_err(failed)?;
            self.kafka.resume(&self.without_paused(&ours)).map_err(failed)?;
        }
        Ok(())
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
            state.stored.remove(partition);
            state.paused_by_caller.remove(partition);
            self.deletions.forget(partition);
        }
    }

    fn put_back(&self, ahead: ReadAhead) {
        let mut state = lock(&self.state);
        state.ahead.push_front(ahead);
        drop(state);
        self.forget_gone();
    }

    fn settle(&self, mut ahead: ReadAhead, wait: Duration) -> Settled {
        match ahead.wait(self.runtime(), &self.claims, wait) {
            None => Settled::Waiting(Box::new(ahead)),
            Some(Ok(payload)) => Settled::HandedOut(Box::new(self.hand_out(ahead, payload))),
            Some(Err(error)) => self.refuse(ahead, error),
        }
    }

    fn hand_out(&self, ahead: ReadAhead, payload: Incoming) -> Received {
        let ReadAhead { position, timestamp, appended, key, headers, reference, .. } = ahead;
        self.passed(&position, reference.as_ref());
        Received { headers: self.claims.headers_of_user(&headers), position, timestamp, appended, key, payload, reference }
    }

    /// A record is behind us: its offset may be committed once the caller asks for the next one, or says so.
    fn passed(&self, position: &Position, reference: Option<&Reference>) {
        let mut state = lock(&self.state);
        let partition = (position.topic.clone(), position.partition);
        state.next.insert(partition.clone(), position.offset + 1);
        state.to_store.insert(partition, position.offset + 1);
        drop(state);
        if let Some(reference) = reference {
            self.deletions.note(position, reference);
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

    fn refuse(&self, ahead: ReadAhead, error: Error) -> Settled {
        let Position { topic, partition, offset } = &ahead.position;
        match self.policy(&error) {
            Policy::Fail => return Settled::Failed(Box::new(ahead), error),
            Policy::Skip => tracing::warn!(topic, partition, offset, error = error.chain(), "a record is passed over"),
            Policy::DeadLetter => {
                let sent = self.letters.send(&ahead.position, ahead.key.as_ref(), ahead.value.as_ref(), ahead.headers.clone(), &error);
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
    fn failed(&self, mut ahead: ReadAhead, error: Error) -> Box<Failed> {
        let failed = ahead.failed(error);
        ahead.try_again(self.runtime(), &self.claims, &self.limits);
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
        self.letters.send(position, failed.key.as_ref(), failed.value.as_ref(), failed.headers.clone(), &failed.error)
    }

    /// Commits the offsets of everything that was handed out.
    ///
    /// # Errors
    /// Those of Kafka; payloads are deleted only after success.
    pub fn commit(&self) -> Result<()> {
        self.commit_offsets(&self.to_commit())
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
        if self.deletions.are_wanted() {
            self.runtime().block_on(self.deletions.committed(next, &self.claims));
        }
        Ok(())
    }

    /// Commits in the background. Payloads to delete make it wait like [`Consumer::commit`]: they need the answer.
    ///
    /// # Errors
    /// Those of Kafka that show at once.
    pub fn commit_async(&self) -> Result<()> {
        let next = self.to_commit();
        if self.deletions.are_wanted() {
            return self.commit_offsets(&next);
        }
        if next.is_empty() {
            return Ok(());
        }
        self.kafka.commit(&list_of(&next), CommitMode::Async).map_err(|error| client::error_of_kafka("offsets were not committed", error))
    }

    /// Offsets after what was handed out, as a transaction takes them.
    ///
    /// # Errors
    /// `Fatal` for a partition that Kafka's client does not take.
    pub fn next_offsets(&self) -> TopicPartitionList {
        list_of(&self.to_commit())
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
        names::check_topic(&position.topic)?;
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
        self.commit_last();
        self.leave();
    }

    /// The first half of [`Consumer::close`]: commits what counts as consumed, and waits for Kafka's answer.
    pub fn commit_last(&self) {
        self.store_offsets();
        if self.auto_commit {
            let next = self.to_commit();
            if !next.is_empty()
                && let Err(error) = self.kafka.commit(&list_of(&next), CommitMode::Sync)
            {
                tracing::debug!(%error, "the last offsets were not committed");
            }
        }
    }

    /// The second half of [`Consumer::close`]: gives the partitions back.
    pub fn leave(&self) {
        let subscribed = self.kafka.subscription().is_ok_and(|topics| topics.count() > 0);
        self.kafka.unsubscribe();
        let deadline = Instant::now() + LEAVE_WAIT;
        // the group takes its partitions back within the client's poll; what that still reads was not handed out
        while subscribed && Instant::now() < deadline && interrupt::check().is_ok() && self.kafka.assignment().is_ok_and(|left| left.count() > 0) {
            _ = self.kafka.poll(SERVE);
        }
        *lock(&self.state) = State::default();
        self.deletions.forget_all();
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

enum Settled {
    HandedOut(Box<Received>),
    Passed,
    Waiting(Box<ReadAhead>),
    Failed(Box<ReadAhead>, Error),
}

fn truth(value: &str) -> bool {
    ["true", "1", "yes", "on", "t"].contains(&value.trim().to_lowercase().as_str())
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
