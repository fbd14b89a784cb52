//! Producer and Consumer on a real Kafka and a real S3 service (`KAFKA_BOOTSTRAP_SERVERS`, `S3_ENDPOINT_URL`), and on librdkafka's
//! mock broker where a broker must misbehave.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use bytes::Bytes;
use kas3_claimcheck::{
    ClaimCheckSettings, Headers, Kind, Reason, Reference, StorageSettings,
    kafka::{
        Consumer, ConsumerSettings, DeleteSettings, Incoming, Order, Outgoing, Payload, Policy, Producer, ProducerSettings, Received, Report,
        Undelivered,
        rdkafka::{
            ClientConfig,
            admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication},
            client::DefaultClientContext,
            consumer::{BaseConsumer, Consumer as _},
            mocking::MockCluster,
            topic_partition_list::TopicPartitionList,
        },
    },
};
use kas3_store::Secret;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(30);

/// Services of the environment, with a bucket and a topic of this test's own.
struct Ground {
    brokers: String,
    endpoint: String,
    key: String,
    secret: String,
    name: String,
    runtime: tokio::runtime::Runtime,
}

fn ground(test: &str, partitions: i32, config: &[(&str, &str)]) -> Option<Ground> {
    ground_with(test, partitions, config, &[""])
}

/// With further topics, whose names end so.
fn ground_with(test: &str, partitions: i32, config: &[(&str, &str)], endings: &[&str]) -> Option<Ground> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(brokers), Some(endpoint)) = (get("KAFKA_BOOTSTRAP_SERVERS"), get("S3_ENDPOINT_URL")) else {
        let without = get("KAS3_WITHOUT_SERVICES");
        assert_eq!(without.as_deref(), Some("1"), "no services: run `make test`, or `dev/services up` and set what it prints");
        return None;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let name = format!("claims-{test}-{}", uuid::Uuid::new_v4().simple());
    let ground = Ground { brokers, endpoint, key: get("AWS_ACCESS_KEY_ID").unwrap(), secret: get("AWS_SECRET_ACCESS_KEY").unwrap(), name, runtime };
    ground.runtime.block_on(async {
        ground.client().create_bucket().bucket(ground.bucket()).send().await.unwrap();
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &ground.brokers).create().unwrap();
        for ending in endings {
            let (name, replication) = (format!("{}{ending}", ground.name), TopicReplication::Fixed(1));
            let topic = NewTopic { name: &name, num_partitions: partitions, replication, config: config.to_vec() };
            admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
        }
    });
    Some(ground)
}

impl Ground {
    fn bucket(&self) -> String {
        // at most 63 characters
        self.name[self.name.len().saturating_sub(60)..].trim_start_matches('-').to_owned()
    }

    fn client(&self) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .force_path_style(true)
            .build();
        Client::from_conf(config)
    }

    fn claims(&self) -> ClaimCheckSettings {
        let storage = StorageSettings {
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".to_owned()),
            allow_http: true,
            access_key_id: Some(Secret::new(&self.key)),
            secret_access_key: Some(Secret::new(&self.secret)),
            max_attempts: Some(2),
            ..StorageSettings::default()
        };
        ClaimCheckSettings { url: format!("s3://{}/claims", self.bucket()), storage, max_inline_bytes: 10_000, ..ClaimCheckSettings::default() }
    }

    fn kafka(&self, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [("bootstrap.servers", self.brokers.as_str())];
        base.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn producing(&self) -> ProducerSettings {
        ProducerSettings { claim_check: self.claims(), kafka: self.kafka(&[]), ..ProducerSettings::default() }
    }

    fn consuming(&self, group: &str) -> ConsumerSettings {
        let group = format!("{group}-{}", self.name);
        let kafka = self.kafka(&[("group.id", &group), ("auto.offset.reset", "earliest"), ("enable.auto.commit", "false")]);
        ConsumerSettings { claim_check: self.claims(), kafka, ..ConsumerSettings::default() }
    }

    fn consumer(&self, settings: ConsumerSettings) -> Consumer {
        let consumer = Consumer::open(settings).unwrap();
        consumer.subscribe(&[&self.name], None).unwrap();
        consumer
    }

    fn objects(&self) -> Vec<String> {
        let listed = self.runtime.block_on(async { self.client().list_objects_v2().bucket(self.bucket()).send().await.unwrap() });
        listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
    }

    fn overwrite(&self, reference: &Reference, body: Vec<u8>) {
        self.runtime.block_on(async {
            self.client().put_object().bucket(&reference.bucket).key(&reference.key).body(body.into()).send().await.unwrap();
        });
    }

    fn delete(&self, reference: &Reference) {
        self.runtime.block_on(async {
            self.client().delete_object().bucket(&reference.bucket).key(&reference.key).send().await.unwrap();
        });
    }

    /// The offset that a group has committed.
    fn committed(&self, settings: &ConsumerSettings) -> Option<i64> {
        let asked: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).set("group.id", &settings.kafka["group.id"]).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.name, 0);
        asked.committed_offsets(list, LONG).unwrap().elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
    }

    fn send(&self, producer: &Producer, payloads: &[Bytes]) -> Vec<Option<Reference>> {
        payloads.iter().map(|payload| producer.send_and_wait(Outgoing::new(&self.name, payload.clone())).unwrap().reference).collect()
    }
}

fn payload(seed: usize, bytes: usize) -> Bytes {
    (0..bytes).map(|n| u8::try_from((n * 31 + seed * 7 + n / 1000) % 251).unwrap()).collect()
}

fn next(consumer: &Consumer) -> Received {
    consumer.poll(LONG).unwrap().expect("a record within the time")
}

fn bytes(received: &Received) -> &Bytes {
    match &received.payload {
        Incoming::Bytes(bytes) => bytes,
        Incoming::Tombstone | Incoming::Stream(_) => panic!("the record holds no bytes"),
    }
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn records_of_all_sizes_arrive_in_the_order_of_the_calls_with_everything_they_had() {
    for order in [Order::Topic, Order::Key] {
        let Some(ground) = ground("order", 3, &[]) else { return };
        let producer = Producer::open(ProducerSettings { order, ..ground.producing() }).unwrap();
        // older ones would be past the topic's retention
        let began = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
        let sizes = [10, 300_000, 0, 9_999, 1_200_000, 50, 20_000, 10_001];
        for n in 0..120usize {
            let record = Outgoing {
                partition: n.is_multiple_of(4).then_some(1),
                headers: vec![("n".to_owned(), Some(Bytes::from(n.to_string()))), ("null".to_owned(), None)],
                timestamp: Some(began + i64::try_from(n).unwrap()),
                ..Outgoing::new(&ground.name, payload(n, sizes[n % sizes.len()])).key(format!("k{}", n % 5))
            };
            let report: Report = Box::new(move |result| {
                if let Err(undelivered) = result {
                    panic!("record {n}: {undelivered:?}")
                }
            });
            producer.send(record, Some(report)).unwrap();
        }
        producer.send(Outgoing { payload: Payload::Tombstone, ..Outgoing::new(&ground.name, Bytes::new()).key("gone") }, None).unwrap();
        assert_eq!(producer.close(LONG), 0);

        let settings = ground.consuming(&format!("{order:?}"));
        let consumer = ground.consumer(ConsumerSettings { memory_bytes: 1 << 20, ..settings });
        let mut seen: BTreeMap<(i32, String), Vec<usize>> = BTreeMap::new();
        let (mut count, mut tombstones) = (0, 0);
        while count < 121 {
            let received = next(&consumer);
            count += 1;
            let key = String::from_utf8(received.key.clone().unwrap().to_vec()).unwrap();
            if matches!(received.payload, Incoming::Tombstone) {
                assert_eq!(key, "gone");
                tombstones += 1;
                continue;
            }
            let headers: Headers = received.headers.clone();
            let n: usize = String::from_utf8(headers[0].1.clone().unwrap().to_vec()).unwrap().parse().unwrap();
            assert!(*bytes(&received) == payload(n, sizes[n % sizes.len()]), "record {n}");
            assert_eq!((headers.len(), &headers[1]), (2, &("null".to_owned(), None)), "no header of a reference is left");
            assert_eq!((key.clone(), received.timestamp), (format!("k{}", n % 5), Some(began + i64::try_from(n).unwrap())));
            assert_eq!(received.reference.is_some(), sizes[n % sizes.len()] > 10_000, "record {n}");
            if n.is_multiple_of(4) {
                assert_eq!(received.position.partition, 1);
                if order == Order::Key {
                    // a record for a partition does not wait for those of its key
                    continue;
                }
            }
            let line = if order == Order::Topic { (received.position.partition, String::new()) } else { (received.position.partition, key) };
            seen.entry(line).or_default().push(n);
        }
        assert_eq!(tombstones, 1);
        assert!(seen.values().all(|numbers| numbers.is_sorted()), "{order:?}: {seen:?}");
    }
}

#[test]
fn a_record_goes_to_the_store_when_its_topic_or_its_client_has_no_room_for_it() {
    let Some(ground) = ground("room", 1, &[("max.message.bytes", "50000")]) else { return };
    let claim_check = ClaimCheckSettings { max_inline_bytes: 900_000, ..ground.claims() };
    let producer = Producer::open(ProducerSettings { claim_check: claim_check.clone(), ..ground.producing() }).unwrap();
    let references = ground.send(&producer, &[payload(1, 40_000), payload(2, 50_000), payload(3, 600_000)]);
    assert_eq!(references.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true]);
    let file = tempfile::NamedTempFile::new().unwrap();
    for (bytes, offloaded) in [(40_000, false), (60_000, true)] {
        std::fs::write(file.path(), payload(5, bytes)).unwrap();
        let sent = producer.send_and_wait(Outgoing { payload: Payload::File(file.path().into()), ..Outgoing::new(&ground.name, Bytes::new()) });
        assert_eq!(sent.unwrap().reference.is_some(), offloaded, "a file of {bytes} bytes");
    }
    let small_client = ground.kafka(&[("message.max.bytes", "20000")]);
    let producer = Producer::open(ProducerSettings { claim_check, kafka: small_client, ..ground.producing() }).unwrap();
    assert!(ground.send(&producer, &[payload(4, 21_000)])[0].is_some());
}

/// Sends payloads as fast as they are taken, and says how many went through the store.
fn send_all(producer: &Producer, topic: &str, payloads: &[Bytes]) -> usize {
    let results = Arc::new(Mutex::new(Vec::new()));
    for payload in payloads {
        let results = results.clone();
        let report: Report = Box::new(move |result| results.lock().unwrap().push(result.map_err(|undelivered| undelivered.error.chain())));
        producer.send(Outgoing::new(topic, payload.clone()), Some(report)).unwrap();
    }
    assert_eq!(producer.flush(LONG), 0);
    let results = std::mem::take(&mut *results.lock().unwrap());
    assert_eq!(results.len(), payloads.len(), "each is reported once");
    results.into_iter().map(|result| result.expect("delivered")).filter(|delivered| delivered.reference.is_some()).count()
}

/// What a consumer gets, in order.
fn all_of(consumer: &Consumer, count: usize) -> Vec<Bytes> {
    (0..count).map(|_| bytes(&next(consumer)).clone()).collect()
}

#[test]
fn small_records_reach_a_topic_whose_batches_are_smaller_than_the_clients() {
    let Some(ground) = ground("narrow", 1, &[("max.message.bytes", "50000")]) else { return };
    let claim_check = ClaimCheckSettings { max_inline_bytes: 900_000, ..ground.claims() };
    let transaction = ("transactional.id", ground.name.as_str());
    let payloads: Vec<Bytes> = (0..60).map(|n| payload(n, if n % 20 == 7 { 48_000 } else { 9_000 })).collect();
    for more in [&[("linger.ms", "200")][..], &[("linger.ms", "5"), ("compression.type", "lz4")], &[("linger.ms", "200"), transaction]] {
        let settings = ProducerSettings { claim_check: claim_check.clone(), kafka: ground.kafka(more), ..ground.producing() };
        let producer = Producer::open(settings).unwrap();
        if more.contains(&transaction) {
            producer.init_transactions(LONG).unwrap();
            producer.begin_transaction().unwrap();
        }
        assert_eq!(send_all(&producer, &ground.name, &payloads), 0, "none of them is too large for a record");
        if more.contains(&transaction) {
            producer.commit_transaction(LONG).unwrap();
        }
    }
    let consumer = ground.consumer(ground.consuming("narrow"));
    for _ in 0..3 {
        assert!(all_of(&consumer, payloads.len()) == payloads, "in the order of the calls");
    }
}

#[test]
fn a_limit_that_was_lowered_is_asked_for_again_and_what_was_refused_arrives_in_order() {
    let Some(ground) = ground("lowered", 1, &[]) else { return };
    let claim_check = ClaimCheckSettings { max_inline_bytes: 900_000, ..ground.claims() };
    let kafka = ground.kafka(&[("linger.ms", "300")]);
    let producer = Producer::open(ProducerSettings { claim_check, kafka, ..ground.producing() }).unwrap();
    let mut expected = vec![payload(99, 60_000)];
    assert_eq!(send_all(&producer, &ground.name, &expected), 0);
    ground.runtime.block_on(async {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &ground.brokers).create().unwrap();
        let lower = AlterConfig::new(ResourceSpecifier::Topic(&ground.name)).set("max.message.bytes", "20000");
        admin.alter_configs([&lower], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    });
    std::thread::sleep(Duration::from_secs(1));
    let payloads: Vec<Bytes> = (0..30).map(|n| payload(n, if n == 11 { 60_000 } else { 3_000 })).collect();
    assert_eq!(send_all(&producer, &ground.name, &payloads), 1, "the one that is too large now");
    assert_eq!(send_all(&producer, &ground.name, &payloads[..12]), 1, "what was learnt holds");
    expected.extend(payloads.iter().chain(&payloads[..12]).cloned());
    let consumer = ground.consumer(ground.consuming("lowered"));
    assert!(all_of(&consumer, expected.len()) == expected, "in the order of the calls");

    // a key that is too large by itself: no payload can be moved out of its way
    let record = Outgoing::new(&ground.name, payload(1, 100)).key(vec![7; 30_000]);
    let undelivered = reported(&producer, record).unwrap_err();
    assert!(undelivered.certain && undelivered.error.kind() == Kind::Record && undelivered.error.way_out().is_some(), "{undelivered:?}");
    assert_eq!(send_all(&producer, &ground.name, &payloads[..3]), 0, "the topic goes on");
}

#[test]
fn leaving_takes_seconds_when_the_groups_coordinator_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let claim_check = ClaimCheckSettings { url: format!("file://{}", folder.path().display()), ..ClaimCheckSettings::default() };
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let kafka = |more: &[(&str, &str)]| -> BTreeMap<String, String> {
        let all = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        all.chain([("bootstrap.servers".to_owned(), cluster.bootstrap_servers())]).collect()
    };
    let producer = Producer::open(ProducerSettings { claim_check: claim_check.clone(), kafka: kafka(&[]), ..ProducerSettings::default() }).unwrap();
    producer.send_and_wait(Outgoing::new("t", payload(0, 500))).unwrap();
    let consumer = |group: &str, auto_commit: &str| {
        let session = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500"), ("auto.offset.reset", "earliest")];
        let kafka = kafka(&[&session[..], &[("group.id", group), ("enable.auto.commit", auto_commit)]].concat());
        let consumer = Consumer::open(ConsumerSettings { claim_check: claim_check.clone(), kafka, ..ConsumerSettings::default() }).unwrap();
        consumer.subscribe(&["t"], None).unwrap();
        next(&consumer);
        consumer
    };
    let (closed, dropped, commits) = (consumer("a", "true"), consumer("b", "true"), consumer("c", "false"));
    cluster.broker_down(1).unwrap();
    let begun = Instant::now();
    closed.close();
    drop(closed);
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let begun = Instant::now();
    drop(dropped);
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let error = commits.commit().unwrap_err();
    assert!(error.kind() == Kind::Transient && begun.elapsed() < Duration::from_secs(9), "{error:?} after {:?}", begun.elapsed());
    drop(commits);
    cluster.broker_up(1).unwrap();
}

#[test]
fn only_what_was_handed_out_and_asked_past_is_committed_by_the_client() {
    let Some(ground) = ground("auto", 1, &[]) else { return };
    let producer = Producer::open(ground.producing()).unwrap();
    ground.send(&producer, &(0..20).map(|n| payload(n, 30_000)).collect::<Vec<_>>());
    let mut settings = ground.consuming("auto");
    settings.kafka.insert("enable.auto.commit".to_owned(), "true".to_owned());
    settings.kafka.insert("auto.commit.interval.ms".to_owned(), "100".to_owned());
    let consumer = ground.consumer(settings.clone());
    for _ in 0..3 {
        next(&consumer);
    }
    // twenty are read ahead, three handed out, and of the third nobody knows whether it was processed
    eventually("two are committed", || ground.committed(&settings) == Some(2));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(ground.committed(&settings), Some(2));
    consumer.close();
    assert_eq!(ground.committed(&settings), Some(3), "an orderly end counts what was handed out");
}

#[test]
fn a_record_that_fails_is_not_passed_silently_and_policies_pass_it_as_they_say() {
    let Some(ground) = ground_with("policies", 1, &[], &["", "-letters"]) else { return };
    let producer = Producer::open(ground.producing()).unwrap();
    let references = ground.send(&producer, &[payload(0, 20_000), payload(1, 20_000), payload(2, 20_000), payload(3, 20_000)]);
    ground.delete(references[1].as_ref().unwrap());
    ground.overwrite(references[2].as_ref().unwrap(), payload(9, 20_000).to_vec());

    let consumer = ground.consumer(ground.consuming("fail"));
    assert_eq!(next(&consumer).position.offset, 0);
    for _ in 0..2 {
        let failed = consumer.poll(LONG).err().expect("the payload is gone");
        assert_eq!(
            (failed.error.kind(), failed.error.reason(), failed.position.as_ref().unwrap().offset),
            (Kind::Missing, Some(Reason::ObjectMissing), 1)
        );
        assert_eq!(failed.reference, references[1]);
    }
    ground.overwrite(references[1].as_ref().unwrap(), payload(1, 20_000).to_vec());
    assert_eq!(next(&consumer).position.offset, 1, "it is tried again, and found");
    let failed = consumer.poll(LONG).err().expect("the payload was changed");
    assert_eq!(failed.error.reason(), Some(Reason::EtagMismatch));
    assert_eq!(consumer.skip().unwrap().offset, 2);
    assert_eq!(next(&consumer).position.offset, 3);
    consumer.commit().unwrap();

    ground.delete(references[1].as_ref().unwrap());
    let letters = format!("{}-letters", ground.name);
    let policies = ConsumerSettings {
        on_missing: Policy::Skip,
        on_corrupt: Policy::DeadLetter,
        dead_letter_topic: Some(letters.clone()),
        ..ground.consuming("pass")
    };
    let consumer = ground.consumer(policies);
    assert_eq!([next(&consumer).position.offset, next(&consumer).position.offset], [0, 3]);
    let reader = Consumer::open(ground.consuming("letters")).unwrap();
    reader.subscribe(&[&letters], None).unwrap();
    let failed = reader.poll(LONG).err().expect("the letter still names the payload that was changed");
    let header = |name: &str| failed.headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone()).unwrap();
    assert_eq!((header("kas3-reason"), header("kas3-offset")), (Bytes::from_static(b"etag_mismatch"), Bytes::from_static(b"2")));
}

#[test]
fn payloads_go_after_the_commit_of_every_group_that_needs_them_and_shared_ones_stay() {
    let Some(ground) = ground("delete", 1, &[]) else { return };
    let producer = Producer::open(ground.producing()).unwrap();
    ground.send(&producer, &[payload(0, 20_000), payload(1, 20_000), payload(2, 20_000)]);
    let shared = ClaimCheckSettings { keys: Some("{sha256}".into()), ..ground.claims() };
    let sharing = Producer::open(ProducerSettings { claim_check: shared, ..ground.producing() }).unwrap();
    ground.send(&sharing, &[payload(3, 20_000)]);
    assert_eq!(ground.objects().len(), 4);

    let slow = ground.consuming("slow");
    let delete = DeleteSettings { after_commit: true, other_groups: vec![slow.kafka["group.id"].clone()] };
    let fast = ground.consumer(ConsumerSettings { delete, ..ground.consuming("fast") });
    let positions: Vec<_> = (0..4).map(|_| next(&fast).position).collect();
    assert_eq!(ground.objects().len(), 4, "nothing goes before the commit");
    fast.commit().unwrap();
    assert_eq!(ground.objects().len(), 4, "the other group has read nothing yet");

    let slow = ground.consumer(slow);
    next(&slow);
    next(&slow);
    slow.commit().unwrap();
    fast.commit_record(&positions[3]).unwrap();
    assert_eq!(ground.objects().len(), 2, "two records are behind both groups");
    next(&slow);
    next(&slow);
    slow.commit().unwrap();
    fast.commit_record(&positions[3]).unwrap();
    assert_eq!(ground.objects().len(), 1, "the shared payload stays");

    let auto = ConsumerSettings { delete: DeleteSettings { after_commit: true, ..DeleteSettings::default() }, ..ground.consuming("auto") };
    let kafka = ground.kafka(&[("group.id", "g")]);
    let error = Consumer::open(ConsumerSettings { kafka, ..auto }).err().unwrap();
    assert!(error.kind() == Kind::Config && error.to_string().contains("enable.auto.commit"), "{error}");
}

#[test]
fn a_transaction_brings_all_of_its_payloads_or_none_and_keeps_those_of_an_aborted_one() {
    let Some(ground) = ground("transaction", 1, &[]) else { return };
    let kafka = ground.kafka(&[("transactional.id", &ground.name)]);
    let producer = Producer::open(ProducerSettings { kafka, ..ground.producing() }).unwrap();
    producer.init_transactions(LONG).unwrap();
    let send = |n: usize| producer.send(Outgoing::new(&ground.name, payload(n, 30_000)), None).unwrap();
    producer.begin_transaction().unwrap();
    (0..5).for_each(send);
    assert_eq!(producer.flush(LONG), 0);
    producer.abort_transaction(LONG).unwrap();
    producer.begin_transaction().unwrap();
    (5..10).for_each(send);
    producer.commit_transaction(LONG).unwrap();
    let consumer = ground.consumer(ground.consuming("committed"));
    for n in 5..10 {
        assert!(*bytes(&next(&consumer)) == payload(n, 30_000), "payload {n}");
    }
    assert!(consumer.poll(Duration::from_millis(500)).unwrap().is_none());
    let mut uncommitted = ground.consuming("uncommitted");
    uncommitted.kafka.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
    let consumer = ground.consumer(uncommitted);
    for n in 0..10 {
        assert!(*bytes(&next(&consumer)) == payload(n, 30_000), "a reader of uncommitted records finds payload {n}");
    }
}

#[test]
fn large_files_and_readers_go_through_as_streams() {
    let Some(ground) = ground("streams", 1, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("large");
    let content = payload(1, 40 << 20);
    std::fs::write(&file, &content).unwrap();
    let producer = Producer::open(ground.producing()).unwrap();
    let sent = producer.send_and_wait(Outgoing {
        payload: Payload::File(file),
        content_type: Some("video/mp4".into()),
        ..Outgoing::new(&ground.name, Bytes::new())
    });
    let reference = sent.unwrap().reference.unwrap();
    assert_eq!((reference.size, reference.content_type.as_deref()), (Some(40 << 20), Some("video/mp4")));
    let reader = Box::new(std::io::Cursor::new(content.clone()));
    producer.send_and_wait(Outgoing { payload: Payload::Reader(reader), ..Outgoing::new(&ground.name, Bytes::new()) }).unwrap();
    let consumer = ground.consumer(ConsumerSettings { stream_above_bytes: Some(1 << 20), ..ground.consuming("streams") });
    for _ in 0..2 {
        let Incoming::Stream(mut stream) = next(&consumer).payload else { panic!("it is large, and comes as a stream") };
        let mut whole = Vec::new();
        ground.runtime.block_on(async {
            while let Some(piece) = stream.next().await.unwrap() {
                whole.extend_from_slice(&piece);
            }
        });
        assert!(whole == content);
    }
}

#[test]
fn a_consumer_that_waits_for_its_store_stays_in_its_group_and_goes_on_afterwards() {
    let Some(ground) = ground("patience", 1, &[]) else { return };
    let producer = Producer::open(ground.producing()).unwrap();
    ground.send(&producer, &(0..6).map(|n| payload(n, 20_000)).collect::<Vec<_>>());
    // a store that takes connections and says nothing, until it speaks for the real one
    let (silent, real) = (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), ground.endpoint.trim_start_matches("http://").to_owned());
    let mut settings = ground.consuming("patience");
    settings.claim_check.storage.endpoint = Some(format!("http://{}", silent.local_addr().unwrap()));
    settings.claim_check.storage.max_attempts = Some(30);
    settings.claim_check.storage.read_timeout_ms = Some(1000);
    for (name, value) in [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "500")] {
        settings.kafka.insert(name.to_owned(), value.to_owned());
    }
    let speaks = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let heard = speaks.clone();
    std::thread::spawn(move || {
        for client in silent.incoming().map_while(Result::ok) {
            if !heard.load(std::sync::atomic::Ordering::Acquire) {
                // kept open, never answered
                std::mem::forget(client);
                continue;
            }
            let store = std::net::TcpStream::connect(&real).unwrap();
            let (mut up, mut down) = ((client.try_clone().unwrap(), store.try_clone().unwrap()), (store, client));
            std::thread::spawn(move || std::io::copy(&mut up.0, &mut up.1));
            std::thread::spawn(move || std::io::copy(&mut down.0, &mut down.1));
        }
    });
    let consumer = ground.consumer(ConsumerSettings { prefetch: 2, ..settings });
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        assert!(consumer.poll(Duration::from_millis(200)).unwrap().is_none());
    }
    assert!(!consumer.client().assignment_lost(), "the group has not taken its partitions away");
    speaks.store(true, std::sync::atomic::Ordering::Release);
    for offset in 0..6 {
        assert_eq!(next(&consumer).position.offset, offset, "each record once, in order");
    }
    consumer.commit().unwrap();
}

/// What became of a record.
fn reported(producer: &Producer, record: Outgoing) -> Result<(), Box<Undelivered>> {
    let (sender, receiver) = mpsc::channel();
    let report: Report = Box::new(move |result| _ = sender.send(result.map(drop).map_err(Box::new)));
    producer.send(record, Some(report)).unwrap();
    receiver.recv_timeout(LONG).unwrap()
}

#[test]
fn a_payload_is_deleted_after_a_failed_delivery_only_when_the_failure_is_certain() {
    let folder = tempfile::tempdir().unwrap();
    let claim_check =
        ClaimCheckSettings { url: format!("file://{}", folder.path().display()), max_inline_bytes: 10, ..ClaimCheckSettings::default() };
    let files =
        || std::fs::read_dir(folder.path()).unwrap().filter(|entry| !entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.')).count();
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let base = [("message.timeout.ms", "1500"), ("socket.timeout.ms", "60000"), ("enable.idempotence", "false")];
    let kafka: BTreeMap<String, String> = base.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let kafka = kafka.into_iter().chain([("bootstrap.servers".to_owned(), cluster.bootstrap_servers())]).collect();
    let producer = Producer::open(ProducerSettings { claim_check, kafka, ..ProducerSettings::default() }).unwrap();
    producer.send_and_wait(Outgoing::new("t", payload(0, 500))).unwrap();
    assert_eq!(files(), 1);

    let nowhere = reported(&producer, Outgoing { partition: Some(99), ..Outgoing::new("t", payload(1, 500)) }).unwrap_err();
    assert!(nowhere.certain && nowhere.reference.is_some(), "{nowhere:?}");
    eventually("the payload of a record that Kafka cannot have is deleted", || files() == 1);

    // the broker takes the record and answers too late: it will be read, and its payload must be there
    cluster.broker_round_trip_time(1, Duration::from_secs(4)).unwrap();
    let late = reported(&producer, Outgoing::new("t", payload(2, 500))).unwrap_err();
    assert!(!late.certain, "{late:?}");
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(files(), 2, "it stays: the record may turn up");
}

#[test]
fn while_the_store_is_down_records_wait_within_a_bound_and_then_fail_clearly() {
    let Some(ground) = ground("down", 1, &[]) else { return };
    let mut claim_check = ground.claims();
    claim_check.storage.endpoint = Some("http://127.0.0.1:9".to_owned());
    let settings = ProducerSettings { claim_check, memory_bytes: 100_000, send_timeout_ms: 300, ..ground.producing() };
    let producer = Producer::open(ProducerSettings {
        claim_check: ClaimCheckSettings {
            storage: StorageSettings { max_attempts: Some(30), ..settings.claim_check.storage.clone() },
            ..settings.claim_check.clone()
        },
        ..settings.clone()
    })
    .unwrap();
    let failures = Arc::new(Mutex::new(0));
    let mut refused = 0;
    for n in 0..5 {
        let failures = failures.clone();
        let report: Report = Box::new(move |result| *failures.lock().unwrap() += usize::from(result.is_err()));
        if let Err(error) = producer.send(Outgoing::new(&ground.name, payload(n, 40_000)), Some(report)) {
            assert!(error.kind() == Kind::Transient && error.to_string().contains("memory_bytes") && error.way_out().is_some(), "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 3, "two have room");
    producer.send(Outgoing::new(&ground.name, payload(9, 10)), None).unwrap();
    drop(producer);

    let producer = Producer::open(settings).unwrap();
    let undelivered = reported(&producer, Outgoing::new(&ground.name, payload(0, 40_000))).unwrap_err();
    assert!(undelivered.certain && undelivered.error.kind() == Kind::Transient, "{undelivered:?}");
    producer.send_and_wait(Outgoing::new(&ground.name, payload(0, 40))).expect("a record behind one that failed goes its way");
}
