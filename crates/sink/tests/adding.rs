//! How something is added to kas3: a format, a transform, a target, each by the smallest real example. `docs/extending.md` shows
//! these files; a test compares them. What is shown here is what a file in `format/`, `transform/` or `target/` holds; there it
//! also gets its row in the registry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "adding/format.rs"]
mod format;
#[path = "adding/target.rs"]
mod target;
#[path = "adding/transform.rs"]
mod transform;

use kas3_sink::{
    budget::Budget,
    config,
    pipeline::{self, Destination, Ended, Options, Parts},
    plan::{Pipeline, TopicPlan},
    record::OwnedRecord,
    registry::Chosen,
    source::memory::{MemoryLog, MemorySource},
    span::TopicPartition,
    status::Status,
    transform::Chain,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

fn log() -> MemoryLog {
    let log = MemoryLog::default();
    for (offset, value) in (0..).zip(["a,b", "", "c"]) {
        let value = Some(value.as_bytes().to_vec());
        log.push(OwnedRecord { topic: "orders".into(), offset, key: Some(b"k".to_vec()), value, ..OwnedRecord::default() });
    }
    log
}

/// A pipeline whose topics have the example's format and transform.
fn pipeline() -> Arc<Pipeline> {
    let text = "name: example\nsource: {topics: [orders], kafka: {bootstrap.servers: 'unused:1'}}\nhttp: off\nsink: {url: 'file:///unused'}\n";
    let mut pipeline = config::load(text, &|_| None).unwrap().pipeline().unwrap();
    let format = (format::ENTRY.read)(serde_json::json!({ "separator": ";" })).unwrap().build("sink.format").unwrap();
    let step = (transform::ENTRY.read)(serde_json::json!({ "at": "," })).unwrap();
    let step = step.build("transforms[0]", ("sink.storage", &pipeline.storage)).unwrap();
    let plan = &pipeline.default;
    pipeline.default = Arc::new(TopicPlan {
        path: plan.path.clone(),
        format,
        roll: plan.roll.clone(),
        bad_records: plan.bad_records,
        transforms: Arc::new(Chain::new(vec![step])),
    });
    Arc::new(pipeline)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_through_the_examples_transform_and_format_into_its_target_once_each() {
    let (pipeline, log) = (pipeline(), log());
    let target = target::InMemory::default();
    let of = TopicPartition::new("orders", 0);
    for _ in 0..2 {
        let status = Status::new(&pipeline.name, pipeline.memory_bytes);
        let parts = Parts {
            pipeline: Arc::clone(&pipeline),
            destination: Destination::Own(Arc::new(target.clone())),
            log: Arc::new(log.clone()),
            source: Box::new(MemorySource::new(log.clone(), vec![of.clone()])),
            topics: vec!["orders".to_owned()],
            budget: Budget::new(pipeline.memory_bytes, Arc::clone(&status)),
            status,
        };
        let options = Options { until_end: true, ..Options::default() };
        let ended = pipeline::run_parts(parts, None, options, CancellationToken::new()).await.unwrap();
        assert!(matches!(ended, Ended::Done), "{ended:?}");
    }
    // the empty value has no part, and so no row
    assert_eq!(target.text(), "k;a\nk;b\nk;c\n");
    assert_eq!(target.next(&of), 3);
}

#[test]
fn what_an_entry_does_not_know_is_refused_by_its_name() {
    assert!((format::ENTRY.read)(serde_json::json!({ "newlines": "space" })).unwrap_err().to_string().contains("newlines"));
    let unknown = Chosen::<Arc<dyn kas3_sink::format::Configured>>::read("separated", serde_json::json!({})).unwrap_err();
    assert_eq!(unknown, "there is no format `separated`: there are `json_lines`, `text`");
}

#[test]
fn the_page_shows_these_files() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/extending.md")).unwrap();
    for name in ["format", "transform", "target"] {
        let path = format!("{}/tests/adding/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read_to_string(&path).unwrap();
        assert!(page.contains(file.trim()), "docs/extending.md does not show `crates/sink/tests/adding/{name}.rs` as it is");
    }
}
