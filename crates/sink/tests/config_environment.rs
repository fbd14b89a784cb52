//! `kas3 run` without a file: the names of the sinks that kas3 replaces give their layouts.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use kas3_sink::{
    config::{Loaded, from_environment},
    path::{NameContext, PathCache},
    plan::Start,
    record::OwnedRecord,
};
use std::time::Duration;

fn loaded(names: &[(&str, &str)]) -> Result<Loaded, String> {
    let env = |name: &str| names.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    from_environment(&env).map_err(|error| format!("{}; {}", error.chain(), error.way_out().unwrap_or_default()))
}

fn first_name(loaded: &Loaded, topic: &str) -> String {
    let pipeline = loaded.pipeline().unwrap();
    let plan = pipeline.plan(topic);
    let record = OwnedRecord { topic: topic.into(), partition: 4, offset: 1200, timestamp_ms: Some(1_552_392_001_000), ..Default::default() };
    let context = NameContext { now: jiff::Timestamp::UNIX_EPOCH, incarnation: 0, extension: format!(".{}", plan.format.extension()) };
    let mut cache = PathCache::default();
    let group = plan.path.group(&kas3_sink::row::Row::of(record.borrow()), &context, &mut cache).unwrap();
    format!("{}/{}", pipeline.url, plan.path.name(group, 1200, &context))
}

const ZOOZ: [(&str, &str); 3] = [("KAFKA_HOST", "k1:9092,k2:9092"), ("SOURCE_KAFKA_TOPIC", "my-topic"), ("S3_BUCKET_NAME", "my-bucket")];
const DELTA: [(&str, &str); 3] = [("KAFKA_BOOTSTRAP_SERVERS", "k:9092"), ("KAFKA_TOPICS", "user-events, order-events"), ("S3_BUCKET_NAME", "lake")];

fn with<'a>(base: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    base.iter().chain(more).copied().collect()
}

#[test]
fn the_names_of_zooz_give_its_layout_and_its_defaults() {
    let plain = loaded(&ZOOZ).unwrap();
    assert_eq!(first_name(&plain, "my-topic"), "s3://my-bucket/date=2019-03-12/hour=12/4_1200.json");
    let pipeline = plain.pipeline().unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.group.as_str(), pipeline.start), ("s3-connector", "s3-connector", Start::Latest));
    assert_eq!(pipeline.default.roll.age, Duration::from_secs(15 * 60));
    assert_eq!(pipeline.kafka["bootstrap.servers"], "k1:9092,k2:9092");
    let more = [
        ("APP_ID", "billing"),
        ("S3_ROOT_PATH", "/raw/"),
        ("COMPRESSION_TYPE", "gzip"),
        ("FLUSH_INTERVAL_MINUTES", "2"),
        ("DEFAULT_KAFKA_STARTPOINT", "earliest"),
        ("MAX_FLUSH_RETRIES", "5"),
        ("FLUSH_TIMEOUT_SECONDS", "300"),
        ("S3_ACCESS_KEY", "ABCDEFGHIJKLMNOPQRST"),
        ("S3_SECRET_KEY", "1234567890123456789/1234/123456789012345"),
    ];
    let full = loaded(&with(&ZOOZ, &more)).unwrap();
    assert_eq!(first_name(&full, "my-topic"), "s3://my-bucket/raw/date=2019-03-12/hour=12/4_1200.json.gz");
    let pipeline = full.pipeline().unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.default.roll.age.as_secs(), pipeline.start), ("billing", 120, Start::Earliest));
    assert_eq!(pipeline.storage.access_key_id.as_ref().map(|key| key.expose()), Some("ABCDEFGHIJKLMNOPQRST"));
    assert_eq!(full.notes.len(), 2, "{:?}", full.notes);
    assert!(!format!("{full:?}").contains("1234567890123456789"));
}

#[test]
fn the_names_of_the_delta_connector_give_its_layout_and_its_defaults() {
    let plain = loaded(&DELTA).unwrap();
    assert_eq!(first_name(&plain, "order-events"), "s3://lake/order-events/year=2019/month=03/day=12/4_1200.jsonl");
    let pipeline = plain.pipeline().unwrap();
    assert_eq!((pipeline.group.as_str(), pipeline.start), ("kafka-s3-connect-cluster", Start::Earliest));
    assert_eq!((pipeline.default.roll.records, pipeline.default.roll.age.as_secs()), (1000, 60));
    let more = [
        ("S3_REGION", "us-west-2"),
        ("S3_ENDPOINT_URL", "http://minio:9000"),
        ("CONNECT_GROUP_ID", "prod connect"),
        ("BATCH_SIZE", "5000"),
        ("FLUSH_INTERVAL", "30"),
        ("S3_PREFIX", "events"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "sink"),
        ("KAFKA_SASL_PASSWORD", "hunter2-hunter2"),
        ("KAFKA_SSL_CA_LOCATION", "/etc/ca.pem"),
        ("KAS3_MEMORY", "512MiB"),
        ("KAS3_HTTP", "0.0.0.0:8080"),
    ];
    let full = loaded(&with(&DELTA, &more)).unwrap();
    assert_eq!(first_name(&full, "user-events"), "s3://lake/events/user-events/year=2019/month=03/day=12/4_1200.jsonl");
    let pipeline = full.pipeline().unwrap();
    assert_eq!((pipeline.name.as_str(), pipeline.group.as_str()), ("prod-connect", "prod connect"));
    assert_eq!((pipeline.default.roll.records, pipeline.default.roll.age.as_secs(), pipeline.memory_bytes), (5000, 30, 512 << 20));
    assert_eq!((pipeline.storage.allow_http, pipeline.storage.region.as_deref()), (true, Some("us-west-2")));
    assert_eq!(pipeline.kafka["ssl.ca.location"], "/etc/ca.pem");
    assert_eq!(pipeline.kafka["sasl.password"], "hunter2-hunter2");
    assert!(full.notes[0].contains("prod-connect"), "{:?}", full.notes);
    assert!(!format!("{full:?} {pipeline:?}").contains("hunter2"));
}

#[test]
fn one_name_serves_a_pipeline_of_several_topics_too() {
    let several = loaded(&[ZOOZ[0], ZOOZ[2], ("KAFKA_TOPICS", "a,b")]).unwrap();
    assert_eq!(first_name(&several, "b"), "s3://my-bucket/b/date=2019-03-12/hour=12/4_1200.json");
}

#[test]
fn several_mistakes_of_an_environment_are_told_at_once() {
    let error = loaded(&[("KAFKA_BOOTSTRAP_SERVERS", "k"), ("FLUSH_INTERVAL", "60s")]).unwrap_err().to_string();
    let said: Vec<&str> = error.lines().filter(|line| !line.contains("hint:")).collect();
    assert_eq!(said.len(), 4, "{error}");
    assert!(
        said[0] == "3 mistakes" && said[1].contains("`KAFKA_TOPICS`") && said[2].contains("`S3_BUCKET_NAME`") && said[3].contains("`FLUSH_INTERVAL`")
    );
}

#[test]
fn an_environment_that_says_too_little_or_too_much_is_explained() {
    let cases: [(&str, Vec<(&str, &str)>); 11] = [
        ("nothing", vec![]),
        ("both families", with(&ZOOZ, &[("KAFKA_BOOTSTRAP_SERVERS", "k")])),
        ("a stray name of the other family", with(&ZOOZ, &[("BATCH_SIZE", "5")])),
        ("no broker", vec![("SOURCE_KAFKA_TOPIC", "t"), ("S3_BUCKET_NAME", "b")]),
        ("no topic", vec![ZOOZ[0], ZOOZ[2]]),
        ("no bucket", vec![DELTA[0], DELTA[1]]),
        ("two names for topics", with(&ZOOZ, &[("KAFKA_TOPICS", "a,b")])),
        ("half a key", with(&DELTA, &[("S3_SECRET_KEY", "hunter2-hunter2")])),
        ("an interval that is none", with(&DELTA, &[("FLUSH_INTERVAL", "60s")])),
        ("a start that is none", with(&ZOOZ, &[("DEFAULT_KAFKA_STARTPOINT", "middle")])),
        ("memory that is none", with(&DELTA, &[("KAS3_MEMORY", "much")])),
    ];
    let text: Vec<String> = cases.iter().map(|(title, names)| format!("{title}: {}", loaded(names).unwrap_err())).collect();
    insta::assert_snapshot!(text.join("\n"));
}
