//! Order, room, pieces and failures, with a transform that answers when and as a test says.

use super::*;
use crate::{prefetch::Room, record::OwnedRecord, transform::Probe};
use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const TOPIC: &str = "orders";

/// `get:<bytes>` is brought after a while drawn at random, `bad` is refused, `gone` is found to be when it is asked for, `never` never
/// comes, `later` comes at the third time; everything else passes.
#[derive(Default)]
struct Fake {
    asked: AtomicU64,
    /// Bytes that were asked for and not given back, and the most that there ever were.
    held: Mutex<(u64, u64)>,
}

struct Wanted {
    fake: Arc<Fake>,
    what: String,
    tries: AtomicU64,
}

impl Fake {
    fn hold(&self, bytes: u64) {
        let mut held = self.held.lock().unwrap();
        held.0 += bytes;
        held.1 = held.1.max(held.0);
    }
}

struct FakeTransform(Arc<Fake>);

#[async_trait]
impl Prefetch for FakeTransform {
    fn request(&self, record: &Record<'_>) -> Result<Option<Box<dyn Request>>> {
        let what = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
        if what == "bad" {
            return Err(Error::new(Kind::BadRecord, "it cannot be").because("malformed_message"));
        }
        let needs = ["get:", "gone", "never", "later"].iter().any(|word| what.starts_with(word));
        Ok(needs.then(|| Box::new(Wanted { fake: Arc::clone(&self.0), what, tries: AtomicU64::new(0) }) as Box<dyn Request>))
    }

    fn at_once(&self) -> usize {
        8
    }

    async fn probe(&self) -> Vec<Probe> {
        Vec::new()
    }
}

impl Wanted {
    fn size(&self) -> u64 {
        self.what.strip_prefix("get:").map_or(0, |bytes| bytes.parse().unwrap())
    }
}

#[async_trait]
impl Request for Wanted {
    async fn bytes(&self) -> u64 {
        self.size()
    }

    async fn fetch(&self) -> Result<Change> {
        self.fake.asked.fetch_add(1, Ordering::Relaxed);
        self.fake.hold(self.size());
        let wait_ms = rand::rng().random_range(0..5);
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        match self.what.as_str() {
            "gone" => Err(Error::new(Kind::BadRecord, "it is gone").because("object_missing")),
            "never" => std::future::pending().await,
            "later" if self.tries.fetch_add(1, Ordering::Relaxed) < 2 => Err(Error::new(Kind::Transient, "not now")),
            _ => Ok(Change { value: Some(Bytes::from(format!("got {}", self.what))), ..Change::default() }),
        }
    }
}

fn batch(values: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Batch {
    let record = |(offset, value): (i64, Vec<u8>)| OwnedRecord { topic: TOPIC.to_owned(), offset, value: Some(value), ..OwnedRecord::default() };
    Batch::owned((100..).zip(values.into_iter().map(Into::into)).map(record).collect())
}

struct Patient;

impl PrefetchObserver for Patient {
    fn again(&self, _: &Error) -> bool {
        true
    }
}

/// Offsets with what their records hold now, and what was refused.
#[derive(Default)]
struct Got {
    records: Vec<(i64, String)>,
    refused: Vec<(i64, &'static str)>,
    pieces: usize,
}

impl Got {
    fn take(&mut self, piece: &Prefetched) {
        let mut records = Vec::new();
        piece.batch.rows(TOPIC, &mut records);
        self.pieces += 1;
        if let Some(refused) = &piece.refused {
            let offset = records.pop().unwrap().record.offset;
            self.refused.push((offset, refused.code));
        }
        self.records.extend(records.iter().map(|row| (row.record.offset, String::from_utf8_lossy(row.bytes().unwrap()).into_owned())));
    }

    fn offsets(&self) -> Vec<i64> {
        self.records.iter().map(|(offset, _)| *offset).collect()
    }
}

fn in_order(room_bytes: u64, bad: BadRecords) -> (InOrder, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let prefetches: Arc<[Arc<dyn Prefetch>]> = Arc::new([Arc::new(FakeTransform(Arc::clone(&fake))) as Arc<dyn Prefetch>]);
    (InOrder { prefetches, room: Room::new(room_bytes, None).lane(), bad }, fake)
}

async fn all(values: &[&str], bad: BadRecords) -> (Result<bool>, Got) {
    let mut got = Got::default();
    let done = in_order(1 << 20, bad).0.take(batch(values.to_vec()), TOPIC, &Patient, |piece| got.take(&piece)).await;
    (done, got)
}

#[tokio::test]
async fn answers_that_come_in_any_order_are_handed_on_in_that_of_the_records() {
    let values: Vec<String> = (0..200).map(|at| if at % 3 == 0 { format!("plain {at}") } else { format!("get:{at}") }).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let (done, got) = all(&values, BadRecords::Stop).await;
    assert!(done.unwrap());
    let expected: Vec<(i64, String)> = (100..)
        .zip(&values)
        .map(|(offset, value)| (offset, if value.starts_with("get") { format!("got {value}") } else { (*value).to_owned() }))
        .collect();
    assert_eq!(got.records, expected);
}

#[tokio::test]
async fn records_before_one_that_never_comes_do_not_wait_for_it_and_none_behind_it_goes_ahead() {
    let (in_order, _) = in_order(1 << 20, BadRecords::Stop);
    let mut got = Got::default();
    let taking = in_order.take(batch(["plain", "get:1", "plain", "never", "get:2", "plain"]), TOPIC, &Patient, |piece| got.take(&piece));
    assert!(tokio::time::timeout(Duration::from_millis(200), taking).await.is_err());
    assert_eq!(got.offsets(), [100, 101, 102]);
}

#[tokio::test]
async fn what_is_larger_than_the_room_comes_in_pieces_and_a_payload_beyond_it_alone() {
    let room_bytes = 4 << 20;
    let (in_order, fake) = in_order(room_bytes, BadRecords::Stop);
    let in_order = Arc::new(in_order);
    let mut values = vec![format!("get:{}", 200 << 10); 30];
    values.insert(11, format!("get:{}", 5 << 20));
    let sizes: Vec<u64> = values.iter().map(|value| value[4..].parse().unwrap()).collect();
    let (sender, mut pieces) = tokio::sync::mpsc::unbounded_channel();
    let task = {
        let (in_order, batch) = (Arc::clone(&in_order), batch(values));
        tokio::spawn(async move { in_order.take(batch, TOPIC, &Patient, |piece| _ = sender.send(piece)).await })
    };
    let mut got = Got::default();
    while let Some(piece) = pieces.recv().await {
        // a slow lane
        tokio::time::sleep(Duration::from_millis(2)).await;
        got.take(&piece);
        let taken: u64 =
            got.offsets()[got.records.len() - piece.batch.len()..].iter().map(|offset| sizes[usize::try_from(offset - 100).unwrap()]).sum();
        fake.held.lock().unwrap().0 -= taken;
    }
    assert!(task.await.unwrap().unwrap());
    assert_eq!(got.offsets(), (100..131).collect::<Vec<_>>());
    assert!(got.pieces > 10, "{} pieces", got.pieces);
    let most = fake.held.lock().unwrap().1;
    assert_eq!(most, 5 << 20, "the large one was alone");
}

#[tokio::test]
async fn behind_a_record_that_cannot_be_had_nothing_comes_when_its_partition_is_to_stop() {
    for (bad, reason) in [("bad", "malformed_message"), ("gone", "object_missing")] {
        let (done, got) = all(&["get:1", "plain", bad, "get:2", "plain"], BadRecords::Stop).await;
        assert!(!done.unwrap());
        assert_eq!((got.offsets(), got.refused), (vec![100, 101], vec![(102, reason)]));
    }
}

#[tokio::test]
async fn records_that_cannot_be_had_are_named_one_by_one_when_they_are_to_be_left_out() {
    let (done, got) = all(&["bad", "get:1", "gone", "gone", "plain", "bad"], BadRecords::Skip).await;
    assert!(done.unwrap());
    assert_eq!(got.offsets(), [101, 104]);
    assert_eq!(got.refused, [(100, "malformed_message"), (102, "object_missing"), (103, "object_missing"), (105, "malformed_message")]);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_again_unless_somebody_waits_for_the_error() {
    let values = ["get:1", "later", "get:2"];
    let (done, got) = all(&values, BadRecords::Stop).await;
    assert!(done.unwrap());
    assert_eq!(got.offsets(), [100, 101, 102]);
    let (in_order, _) = in_order(1 << 20, BadRecords::Stop);
    let mut got = Got::default();
    let error = in_order.take(batch(values), TOPIC, &Impatient, |piece| got.take(&piece)).await.unwrap_err();
    assert_eq!((error.kind(), got.offsets()), (Kind::Transient, vec![100]));
}
