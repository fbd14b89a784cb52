//! Stored forms of every version, kept for ever: what they read as, and that what a later version added is kept.
//!
//! `KAS3_GOLDEN=write` writes the readings of forms that are new; those of old forms never change.
#![allow(clippy::unwrap_used)]

use kas3_sink::{
    ledger::{Entry, File, Head, PipelineRecord, SegmentKind, StartRecord, decode_segment, encode_segment},
    span::TopicPartition,
};
use serde_json::Value;
use std::{fmt::Debug, fs, path::PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger/v1").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

fn reads_as(name: &str, read: &impl Debug) {
    let path = golden(&format!("{name}.reads.txt"));
    let text = format!("{read:#?}\n");
    if std::env::var("KAS3_GOLDEN").is_ok_and(|mode| mode == "write") && !path.exists() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}");
}

/// The same JSON, whatever its spaces and the order of its keys.
fn same(one: &[u8], other: &[u8]) {
    let values = |bytes: &[u8]| -> Vec<Value> { serde_json::Deserializer::from_slice(bytes).into_iter().map(Result::unwrap).collect() };
    assert_eq!(values(one), values(other));
}

#[test]
fn a_head_of_version_1_reads_as_it_always_did_and_keeps_what_it_does_not_know() {
    let head = Head::decode(&bytes("head.json")).unwrap();
    reads_as("head.json", &head);
    let again = Head::decode(&head.encode()).unwrap();
    assert_eq!(again, head);
    assert_eq!(head.extra["a field of a later version"], Value::from(vec![1, 2, 3]));
    same(&serde_json::to_vec(&head.pending[0].files[0].extra).unwrap(), b"{\"a field of a later version\": {\"kept\": true}}");
}

#[test]
fn segments_of_version_1_read_as_they_always_did() {
    let of = TopicPartition::new("orders", 7);
    let history = decode_segment::<Entry>(&bytes("history.jsonl"), SegmentKind::History, &of).unwrap();
    reads_as("history.jsonl", &history);
    same(&encode_segment(&history.0, &history.1), &bytes("history.jsonl"));
    let files = decode_segment::<File>(&bytes("files.jsonl"), SegmentKind::Files, &of).unwrap();
    reads_as("files.jsonl", &files);
    same(&encode_segment(&files.0, &files.1), &bytes("files.jsonl"));
}

#[test]
fn start_records_of_version_1_read_as_they_always_did() {
    let start = StartRecord::decode(&bytes("start.json"), "orders", 1).unwrap();
    reads_as("start.json", &start);
    assert_eq!((start.start(7), start.start(3)), (40, 0), "a partition that appeared later begins at its beginning");
    same(&serde_json::to_vec(&start).unwrap(), &bytes("start.json"));
    let pipeline = PipelineRecord::decode(&bytes("pipeline.json"), "lake").unwrap();
    reads_as("pipeline.json", &pipeline);
    same(&serde_json::to_vec(&pipeline).unwrap(), &bytes("pipeline.json"));
}

#[test]
fn a_head_that_cannot_be_is_refused_with_its_reason() {
    let good: Value = serde_json::from_slice(&bytes("head.json")).unwrap();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut head = good.clone();
        change(&mut head);
        Head::decode(&serde_json::to_vec(&head).unwrap()).unwrap_err()
    };
    assert!(refused(&|head| head["version"] = 2.into()).contains("a newer kas3 wrote it"));
    assert!(refused(&|head| head["next"] = (-1).into()).contains("is at -1"));
    assert!(refused(&|head| head["next"] = 131.into()).contains("the newest span ends at 130"));
    assert!(refused(&|head| head["pending"][0]["partitions"][0]["first"] = 99.into()).contains("begins at 99 where the one before ends at 100"));
    assert!(refused(&|head| head["pending"][0]["partitions"][0]["next"] = 7.into()).contains("covers offsets 100 to 7"));
    assert!(refused(&|head| head["pending"][0]["partitions"][0]["topic"] = "other".into()).contains("belongs to `other-7`"));
    assert!(refused(&|head| head["pending"][0]["partitions"] = Value::Array(Vec::new())).contains("lists 0 partitions"));
    assert!(refused(&|head| head["pending"][0]["files"][1]["number"] = 0.into()).contains("listed twice"));
    assert!(refused(&|head| head["pending"][0]["files"][0]["url"] = "s3://lake/../x".into()).contains("`s3://lake/../x`"));
    assert!(refused(&|head| head["pending"][0]["files"][0]["staged"]["bundle"]["path"] = "orders/x".into()).contains("`orders/x`"));
    assert!(refused(&|head| head["pending"][0]["files"][0]["staged"]["bundle"]["to"] = 7.into()).contains("0 to 7"));
    assert!(refused(&|head| head["pending"][0]["id"] = "../x".into()).contains("not the id"));
    assert!(refused(&|head| head["segment"] = "../x.jsonl".into()).contains("not the name of a segment"));
    assert!(Head::decode(b"").is_err() && Head::decode(b"{\"version\":1}").is_err());
    let of = TopicPartition::new("orders", 7);
    let cut = &bytes("history.jsonl")[..200];
    assert!(decode_segment::<Entry>(cut, SegmentKind::History, &of).is_err());
    assert!(decode_segment::<File>(&bytes("history.jsonl"), SegmentKind::Files, &of).unwrap_err().contains("History"));
}
