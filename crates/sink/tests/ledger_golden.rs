//! Stored forms of every version, kept for ever: what they read as, and that what a later version added is kept.
//!
//! `KAS3_GOLDEN=write` writes the readings of forms that are new; those of old forms never change.
#![allow(clippy::unwrap_used)]

use kas3_sink::{
    ledger::{Begun, Entry, File, Head, PipelineRecord, SegmentKind, StartRecord, Unusable, decode_segment, encode_segment},
    span::{Roll, TopicPartition},
};
use serde_json::Value;
use std::{fmt::Debug, fs, path::PathBuf};

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ledger/v1").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(golden(name)).unwrap()
}

/// A form of version 1 as a later kas3 writes it: fields and words that this one does not know, wherever there may be any.
fn tomorrow(name: &str) -> Vec<u8> {
    fs::read(golden("../tomorrow").join(name)).unwrap()
}

/// A form of which this one knows nothing but where its version stands.
fn v2(name: &str) -> Vec<u8> {
    fs::read(golden("../v2").join(name)).unwrap()
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
fn beginnings_that_a_person_decided_about_read_as_they_always_did() {
    let head = Head::decode(&bytes("head_begun.json")).unwrap();
    reads_as("head_begun.json", &head.begun);
    same(&head.encode(), &bytes("head_begun.json"));
    assert_eq!(head.begun.iter().map(Begun::offsets_again).collect::<Vec<_>>(), [0, 52]);
}

#[test]
fn a_head_that_takes_files_along_tells_the_rest_of_itself_to_those_who_read_its_beginning() {
    let stored = bytes("head-with-files.json");
    let head = Head::decode(&stored).unwrap();
    reads_as("head-with-files.json", &head);
    let beginning = stored.windows(12).position(|window| window == b"\"bytes\": [\n ").unwrap() + 8;
    assert_eq!(Head::decode_beginning(&stored[..beginning]), Some(Ok(head.clone())));
    assert_eq!(head.extra.keys().collect::<Vec<_>>(), ["a field of a later version"], "what is needed of it is read from the store, not carried on");
    assert_eq!(head.pending[0].files[1].staged.as_ref().unwrap().head.as_ref().unwrap().item, 1);
    let json: Value = serde_json::from_slice(&stored).unwrap();
    assert_eq!(json["bytes"][1], "eyJpZCI6MTAxfQo=", "the item, in base64");
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
        Head::decode(&serde_json::to_vec(&head).unwrap()).unwrap_err().to_string()
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
    assert!(decode_segment::<File>(&bytes("history.jsonl"), SegmentKind::Files, &of).unwrap_err().to_string().contains("History"));
}

#[test]
fn what_a_later_kas3_writes_in_version_1_is_read_and_written_again_as_it_was() {
    let head = Head::decode(&tomorrow("head.json")).unwrap();
    same(&head.encode(), &tomorrow("head.json"));
    let (pending, closed) = (&head.pending[0], &head.closed);
    assert_eq!(pending.roll.as_ref().map(|roll| (roll.as_str(), roll.known())), Some(("tide", None)));
    assert_eq!((closed[1].kind.as_str(), closed[1].kind.known(), closed[0].files[1].role.as_str()), ("mirror", None, "letters"));
    assert!(closed.iter().all(|entry| entry.roll.as_ref().is_none_or(|roll| Roll::ALL.iter().all(|known| roll != known))));

    let of = TopicPartition::new("orders", 7);
    let history = decode_segment::<Entry>(&tomorrow("history.jsonl"), SegmentKind::History, &of).unwrap();
    same(&encode_segment(&history.0, &history.1), &tomorrow("history.jsonl"));
    let files = decode_segment::<File>(&tomorrow("files.jsonl"), SegmentKind::Files, &of).unwrap();
    same(&encode_segment(&files.0, &files.1), &tomorrow("files.jsonl"));
    let start = StartRecord::decode(&tomorrow("start.json"), "orders", 0).unwrap();
    same(&serde_json::to_vec(&start).unwrap(), &tomorrow("start.json"));
    let pipeline = PipelineRecord::decode(&tomorrow("pipeline.json"), "test").unwrap();
    same(&serde_json::to_vec(&pipeline).unwrap(), &tomorrow("pipeline.json"));
}

#[test]
fn an_unknown_field_in_any_object_of_a_form_and_an_unknown_word_in_any_open_place_is_kept() {
    let mut head: Value = serde_json::from_slice(&bytes("head.json")).unwrap();
    sprinkle(&mut head);
    for place in ["/pending/0/kind", "/pending/0/roll", "/pending/0/files/0/role", "/closed/0/kind"] {
        *head.pointer_mut(place).unwrap() = "a word of tomorrow".into();
    }
    head["begun"] = serde_json::json!([{ "incarnation": 1, "why": "a word of tomorrow", "start": 40, "read_to": 90,
        "decided_at": "2026-03-01T11:00:00Z", "of tomorrow": ["its", "own"] }]);
    head["pending"][0]["files"][1]["staged"] = serde_json::json!({ "a place of tomorrow": { "with": ["its", "own"] } });
    let read = Head::decode(&serde_json::to_vec(&head).unwrap()).unwrap();
    same(&read.encode(), &serde_json::to_vec(&head).unwrap());
    for name in ["history.jsonl", "files.jsonl"] {
        let lines: Vec<Value> = serde_json::Deserializer::from_slice(&bytes(name)).into_iter().map(Result::unwrap).collect();
        let lines: Vec<String> = lines
            .into_iter()
            .map(|mut line| {
                sprinkle(&mut line);
                line.to_string()
            })
            .collect();
        let (text, of) = (lines.join("\n"), TopicPartition::new("orders", 7));
        let written = match name {
            "files.jsonl" => decode_segment::<File>(text.as_bytes(), SegmentKind::Files, &of).map(|(header, files)| encode_segment(&header, &files)),
            _ => decode_segment::<Entry>(text.as_bytes(), SegmentKind::History, &of).map(|(header, entries)| encode_segment(&header, &entries)),
        };
        same(&written.unwrap(), text.as_bytes());
    }
}

/// Adds a field to every object.
fn sprinkle(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(sprinkle),
        Value::Object(members) => {
            members.values_mut().for_each(sprinkle);
            members.insert("of tomorrow".to_owned(), serde_json::json!({ "kept": [1, null, { "whole": "é" }] }));
        }
        _ => {}
    }
}

#[test]
fn a_newer_version_is_told_from_damage_whatever_else_has_changed() {
    let of = TopicPartition::new("orders", 0);
    let all = [
        Head::decode(&v2("head.json")).unwrap_err(),
        StartRecord::decode(&v2("start.json"), "orders", 0).unwrap_err(),
        PipelineRecord::decode(&v2("pipeline.json"), "test").unwrap_err(),
        decode_segment::<Entry>(&v2("history.jsonl"), SegmentKind::History, &of).unwrap_err(),
        decode_segment::<File>(&v2("files.jsonl"), SegmentKind::Files, &of).unwrap_err(),
    ];
    for why in all {
        assert!(matches!(&why, Unusable::Newer(_)), "{why}");
        assert_eq!(why.to_string(), "it has version 2, and this kas3 knows versions up to 1; a newer kas3 wrote it");
    }
    let old = String::from_utf8(v2("head.json")).unwrap().replace("\"version\": 2", "\"version\": 1");
    assert!(matches!(Head::decode(old.as_bytes()), Err(Unusable::Broken(_))), "the same of version 1 is damaged");
}

#[test]
fn more_than_a_list_has_today_and_a_segment_of_another_kind_are_of_a_newer_kas3() {
    let good: Value = serde_json::from_slice(&bytes("head.json")).unwrap();
    let why = |change: &dyn Fn(&mut Value)| {
        let mut head = good.clone();
        change(&mut head);
        Head::decode(&serde_json::to_vec(&head).unwrap()).unwrap_err()
    };
    let twice = |list: &mut Value| list.as_array_mut().map(|list| list.push(list[0].clone())).unwrap();
    assert!(matches!(why(&|head| twice(&mut head["pending"])), Unusable::Newer(_)));
    assert!(matches!(why(&|head| twice(&mut head["closed"][0]["partitions"])), Unusable::Newer(_)));
    assert!(matches!(why(&|head| head["pending"][0]["files"][0]["staged"] = Value::Object(serde_json::Map::new())), Unusable::Broken(_)));
    let of = TopicPartition::new("orders", 7);
    let other = String::from_utf8(bytes("history.jsonl")).unwrap().replace("\"history\"", "\"marks\"");
    let why = decode_segment::<Entry>(other.as_bytes(), SegmentKind::History, &of).unwrap_err();
    assert!(matches!(&why, Unusable::Newer(why) if why.contains("`marks`")), "{why}");
}
