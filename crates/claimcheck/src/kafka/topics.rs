//! What a producer knows of its topics: how large their batches may be, and what is on its way to those that take less than the
//! client sends at once.
//!
//! librdkafka makes batches of one size for all topics. A topic that takes less refuses the whole batch. So no more records of such a
//! topic are with librdkafka than one of its batches holds; the others wait. When a topic refuses a batch all the same, because its
//! limit was lowered, nothing more is handed over until all that is on its way was answered, and what was refused goes first.

use super::lock;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The largest record batch of a topic that does not say.
pub(super) const TOPIC_BYTES_MAX: u64 = 1_048_588;
/// What a batch weighs besides its records: 61 bytes, and room to err.
const BATCH_BYTES: u64 = 128;
/// A limit below the client's batches is asked for again after so long: it may have been raised.
const KNOWN_FOR: Duration = Duration::from_secs(600);

/// The topics of a producer; `R` is a record that is ready to go.
pub(super) struct Topics<R> {
    /// A limit that is known better than topics tell; 0: there is none.
    fixed: u64,
    /// The client's batches have at most so many bytes.
    client_batch: u64,
    known: RwLock<HashMap<String, Arc<Topic<R>>>>,
    /// Those that refused a batch and are not through with it.
    stopped: Mutex<Vec<Arc<Topic<R>>>>,
}

/// One topic.
pub(super) struct Topic<R> {
    pub(super) name: String,
    client_batch: u64,
    /// Bytes of its largest batch; 0 while that is not known.
    most: AtomicU64,
    /// When that was asked for.
    asked: Mutex<Option<Instant>>,
    stage: AtomicU8,
    records: AtomicU64,
    bytes: AtomicU64,
    overtaking: AtomicU64,
    refused: Mutex<Refused<R>>,
}

/// What a topic's batches were refused for, in the order of the records.
struct Refused<R> {
    /// Refused since the topic was stopped.
    new: Vec<R>,
    /// To be handed over again.
    again: VecDeque<R>,
}

/// How far a topic is with what it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// It takes records.
    Open,
    /// It refused a batch; what is on its way is waited for.
    Waiting,
    /// Its limit is asked for, and what is too large alone is stored.
    Asking,
    /// What it refused is handed over again.
    Again,
}

impl<R> Topics<R> {
    pub(super) fn new(fixed: Option<u64>, client_batch: u64) -> Topics<R> {
        Topics { fixed: fixed.unwrap_or(0), client_batch, known: RwLock::default(), stopped: Mutex::new(Vec::new()) }
    }

    /// A topic by its name.
    pub(super) fn of(&self, name: &str) -> Arc<Topic<R>> {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(known);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name.to_owned()).or_insert_with(|| Arc::new(Topic::new(name, self.fixed, self.client_batch))))
    }

    /// A record that was refused with its batch; it will be handed over again.
    pub(super) fn refused(&self, topic: &Arc<Topic<R>>, record: R) {
        lock(&topic.refused).new.push(record);
        if topic.stage() == Stage::Open {
            lock(&self.stopped).push(Arc::clone(topic));
        }
        topic.enter(Stage::Waiting);
    }

    /// Those that refused a batch.
    pub(super) fn stopped(&self) -> Vec<Arc<Topic<R>>> {
        lock(&self.stopped).clone()
    }

    /// A topic takes records again, unless it refused one meanwhile.
    pub(super) fn reopen(&self, topic: &Topic<R>) {
        if !lock(&topic.refused).new.is_empty() {
            return topic.enter(Stage::Waiting);
        }
        topic.enter(Stage::Open);
        lock(&self.stopped).retain(|stopped| stopped.name != topic.name);
    }
}

impl<R> Topic<R> {
    fn new(name: &str, most: u64, client_batch: u64) -> Topic<R> {
        Topic {
            name: name.to_owned(),
            client_batch,
            most: AtomicU64::new(most),
            asked: Mutex::new(None),
            stage: AtomicU8::new(Stage::Open as u8),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            overtaking: AtomicU64::new(0),
            refused: Mutex::new(Refused { new: Vec::new(), again: VecDeque::new() }),
        }
    }

    /// Bytes of its largest batch; `None` when that has to be asked for, first or again.
    pub(super) fn most(&self) -> Option<u64> {
        let most = self.most.load(Ordering::Relaxed);
        let is_old = || lock(&self.asked).is_some_and(|asked| asked.elapsed() > KNOWN_FOR);
        (most > 0 && (most >= self.client_batch || !is_old())).then_some(most)
    }

    /// What it was found to take.
    pub(super) fn takes(&self, most: u64) {
        *lock(&self.asked) = Some(Instant::now());
        self.most.store(most.max(1), Ordering::Relaxed);
    }

    /// What it was said to take is not so; it is asked for again before the next record.
    pub(super) fn forget(&self) {
        self.most.store(0, Ordering::Relaxed);
    }

    /// It refused a batch whose largest record has so many bytes; `told` is what it says now. When that explains nothing, it takes half of
    /// what was believed, as far as anybody knows.
    pub(super) fn takes_less(&self, told: Option<u64>, largest: u64) -> u64 {
        let before = match self.most.load(Ordering::Relaxed) {
            0 => self.client_batch,
            most => most.min(self.client_batch),
        };
        let most = match told.filter(|told| *told < before) {
            Some(told) => told,
            None if largest + BATCH_BYTES > before => before,
            None => before / 2,
        };
        self.takes(most);
        most
    }

    /// Whether a record of so many bytes fits into a batch of its own.
    pub(super) fn takes_record(&self, bytes: u64) -> bool {
        self.most.load(Ordering::Relaxed) >= bytes + BATCH_BYTES
    }

    /// Whether librdkafka may have a record of so many bytes now: no batch with it can be larger than the topic takes.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        let held = self.bytes.load(Ordering::Relaxed);
        most == 0 || most >= self.client_batch || held == 0 || held + bytes + BATCH_BYTES <= most
    }

    /// A record was handed over.
    pub(super) fn entered(&self, bytes: u64) {
        self.records.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A record was answered, or not taken.
    pub(super) fn left(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.records.fetch_sub(1, Ordering::AcqRel);
    }

    /// A record arrived: before some that were refused, when there are such.
    pub(super) fn arrived(&self) {
        if self.stage() != Stage::Open && self.stage() != Stage::Again {
            self.overtaking.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How many records arrived before others that were refused, since this was asked last.
    pub(super) fn overtaking(&self) -> u64 {
        self.overtaking.swap(0, Ordering::AcqRel)
    }

    /// All that was handed over was answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.records.load(Ordering::Acquire) == 0
    }

    pub(super) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Open,
            1 => Stage::Waiting,
            2 => Stage::Asking,
            _ => Stage::Again,
        }
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// All that it refused, in order.
    pub(super) fn take_refused(&self) -> Vec<R> {
        let mut refused = lock(&self.refused);
        let mut all = std::mem::take(&mut refused.new);
        all.extend(refused.again.drain(..));
        all
    }

    /// What is to be handed over again.
    pub(super) fn hand_over_again(&self, records: Vec<R>) {
        lock(&self.refused).again.extend(records);
    }

    /// The next of them.
    pub(super) fn next_again(&self) -> Option<R> {
        lock(&self.refused).again.pop_front()
    }

    /// It has to wait.
    pub(super) fn put_back(&self, record: R) {
        lock(&self.refused).again.push_front(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_takes_less_than_the_client_sends_gets_one_batch_at_a_time() {
        let topics = Topics::<u32>::new(None, 1_000_000);
        let wide = topics.of("wide");
        assert_eq!(wide.most(), None, "it has to be asked");
        wide.takes(TOPIC_BYTES_MAX);
        wide.entered(999_999);
        assert!(wide.has_room(999_999), "the client's own batches fit");
        let narrow = topics.of("narrow");
        narrow.takes(50_000);
        assert!(narrow.has_room(60_000), "alone it may try");
        narrow.entered(20_000);
        assert!(narrow.has_room(29_000) && !narrow.has_room(30_000));
        narrow.left(20_000);
        assert!(narrow.has_room(30_000) && narrow.is_quiet());
        assert!(narrow.takes_record(49_000) && !narrow.takes_record(50_000));
        assert!(Arc::ptr_eq(&narrow, &topics.of("narrow")));
    }

    #[test]
    fn a_limit_that_was_lowered_is_learnt_from_the_topic_or_by_halves() {
        let topics = Topics::<u32>::new(Some(2_000_000), 1_000_000);
        let topic = topics.of("t");
        assert_eq!(topic.most(), Some(2_000_000));
        assert_eq!(topic.takes_less(Some(50_000), 900), 50_000);
        assert_eq!(topic.takes_less(Some(50_000), 60_000), 50_000, "that record was too large by itself");
        assert_eq!(topic.takes_less(Some(50_000), 900), 25_000, "it says the same, and refuses");
        assert_eq!(topic.takes_less(None, 900), 12_500, "it may not be asked");
        topic.forget();
        assert_eq!((topic.most(), topic.takes_less(Some(3_000_000), 900)), (None, 500_000), "the client's batch was too large");
    }

    #[test]
    fn what_was_refused_goes_first_and_in_its_order() {
        let topics = Topics::new(None, 1_000_000);
        let topic = topics.of("t");
        for record in [1, 2, 3] {
            topics.refused(&topic, record);
        }
        assert_eq!((topic.stage(), topics.stopped().len()), (Stage::Waiting, 1));
        topic.arrived();
        topic.hand_over_again(topic.take_refused());
        topic.enter(Stage::Again);
        topic.arrived();
        assert_eq!((topic.overtaking(), topic.overtaking()), (1, 0));
        let first = topic.next_again().unwrap();
        topics.refused(&topic, first);
        topics.refused(&topic, 2);
        topic.next_again();
        topics.reopen(&topic);
        assert_eq!(topic.stage(), Stage::Waiting, "it refused more meanwhile");
        assert_eq!((topic.take_refused(), topics.stopped().len()), (vec![1, 2, 3], 1), "refused once more");
        topics.reopen(&topic);
        assert_eq!((topic.stage(), topics.stopped().len()), (Stage::Open, 0));
    }
}
