//! What a new user reads who makes a mistake.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use kas3_sink::config::load;
use std::fmt::Write;

const HEAD: &str = "name: orders\nsource:\n  topics: [orders]\n  kafka: {bootstrap.servers: b:9092}\nsink:\n  url: s3://lake/raw\n";

fn message(text: &str) -> String {
    let error = match load(text, &|name| (name == "HOST").then(|| "kafka".to_owned())).and_then(|loaded| loaded.pipeline()) {
        Err(error) => error,
        Ok(_) => return "ACCEPTED".to_owned(),
    };
    assert_eq!(error.kind(), kas3_sink::Kind::Config);
    let hint = error.way_out().map_or(String::new(), |hint| format!("\n  hint: {hint}"));
    format!("{}{hint}", error.chain())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a list of mistakes")]
fn every_usual_mistake_is_named_with_its_place_and_the_way_out() {
    let sink = |lines: &str| format!("{HEAD}  {}\n", lines.replace('\n', "\n  "));
    let top = |lines: &str| format!("{HEAD}{lines}\n");
    let kafka = |inside: &str| HEAD.replace("bootstrap.servers: b:9092", inside);
    let topics = |inside: &str| HEAD.replace("[orders]", inside);
    let cases: Vec<(&str, String)> = vec![
        ("an empty file", "# nothing\n".into()),
        ("no YAML", "name: [orders\n".into()),
        ("a tab", "name: orders\nsource:\n\ttopics: [orders]\n".into()),
        ("a key twice", top("memory: 1GiB\nmemory: 2GiB")),
        ("a misspelt section", HEAD.replace("sink:", "snik:")),
        ("a misspelt key", sink("roll: {byte: 1MiB}")),
        ("a key with its unit", sink("roll:\n  bytes: 1MiB\n  age_ms: 5")),
        ("a key in the wrong section", sink("bytes: 1MiB")),
        ("a key that nobody knows", sink("flavour: vanilla")),
        ("a key of one's own in a section", sink("x-anchors: 1")),
        ("two mistakes", top("memory: 16MiB\nflavour: vanilla")),
        ("a section that is not indented", HEAD.replace("  kafka:", "kafka:")),
        ("a missing section", "name: orders\nsource: {topics: [orders], kafka: {bootstrap.servers: b}}\n".into()),
        ("a missing key", HEAD.replace("  url: s3://lake/raw\n", "  timezone: UTC\n")),
        ("an empty value", HEAD.replace("name: orders", "name:")),
        ("a size without a unit that exists", sink("roll: {bytes: 128M}")),
        ("a duration without a unit", sink("roll: {age: 300}")),
        ("a number that is none", sink("roll: {records: lots}")),
        ("a negative number", sink("roll: {records: -1}")),
        ("a text where a list belongs", topics("orders")),
        ("a number where a name belongs", HEAD.replace("name: orders", "name: 7")),
        ("a truth that is none", sink("cursor: maybe")),
        ("an unknown word", sink("format: {compression: gzipp}")),
        ("an unknown format", sink("format: {type: jsonl}")),
        ("a level out of bounds", sink("format: {level: 900}")),
        ("a start that does not exist", topics("[orders]\n  start: beginning")),
        ("a start that is no time", topics("[orders]\n  start: {timestamp: yesterday}")),
        ("a start before 1970", topics("[orders]\n  start: {timestamp: 1969-12-31T00:00:00Z}")),
        ("two starts", topics("[orders]\n  start: {timestamp: 2026-01-01T00:00:00Z, group: g}")),
        ("a variable that is not set", sink("timezone: ${ZONE}")),
        ("a variable that is no name", sink("timezone: ${9}")),
        ("a variable not closed", sink("timezone: ${ZONE")),
        ("no topics", topics("[]")),
        ("a topic twice", topics("[orders, orders]")),
        ("a pattern without its mark", topics("['orders-*']")),
        ("a bad expression", topics("['^orders-(']")),
        ("a pipeline with spaces", HEAD.replace("name: orders", "name: my orders")),
        ("no brokers", kafka("client.id: x")),
        ("misspelt brokers", kafka("boostrap.servers: b:9092")),
        ("the group in the wrong place", kafka("bootstrap.servers: b, group.id: g")),
        ("a reset", kafka("bootstrap.servers: b, auto.offset.reset: latest")),
        ("commits by timer", kafka("bootstrap.servers: b, enable.auto.commit: true")),
        ("a mechanism without its protocol", kafka("bootstrap.servers: b, sasl.mechanism: PLAIN")),
        ("an unknown sink", HEAD.replace("  url:", "  type: delta\n  url:")),
        ("an unknown transform", top("transforms: [{type: flatten}]")),
        ("a transform without its type", top("transforms: [{url: s3://payloads}]")),
        ("a misspelt transform", top("transforms: [{type: claim_chek, url: s3://payloads}]")),
        ("a transform that is a word", top("transforms: [claim_check]")),
        ("a misspelt key of a transform", top("transforms: [{type: claim_check, url: s3://payloads, acept: [kas3]}]")),
        ("a claim check without a place", top("transforms: [{type: claim_check}]")),
        ("a claim check on a folder that is no URL", top("transforms: [{type: claim_check, url: /payloads}]")),
        ("a claim check of an unknown format", top("transforms: [{type: claim_check, url: s3://payloads, accept: [kas3, kafka]}]")),
        (
            "a claim check of formats that cannot be told apart",
            top("transforms: [{type: claim_check, url: s3://payloads, accept: [kas3, bakdata-value]}]"),
        ),
        ("a claim check twice", top("transforms: [{type: claim_check, url: s3://a}, {type: claim_check, url: s3://b}]")),
        ("a claim check that reads nothing", top("topics: {orders: {transforms: [{type: claim_check, url: s3://a, downloads: 0}]}}")),
        ("http without leave for payloads", top("transforms: [{type: claim_check, url: s3://a, storage: {endpoint: 'http://localhost:9000'}}]")),
        ("a folder that is no URL", HEAD.replace("s3://lake/raw", "/data/lake")),
        ("a relative folder", HEAD.replace("s3://lake/raw", "file://data/lake")),
        ("a scheme of Hadoop's", HEAD.replace("s3://lake/raw", "s3a://lake/raw")),
        ("a prefix inside the ledger", HEAD.replace("s3://lake/raw", "s3://lake/_kas3/x")),
        ("http without leave", sink("storage: {endpoint: \"http://localhost:9000\"}")),
        ("half a key", sink("storage: {access_key_id: AKIA}")),
        ("an unknown timezone", sink("timezone: Berlin")),
        ("a settle that is neither", sink("settle: later")),
        ("a clock that does not divide the day", sink("roll: {clock: 7h}")),
        ("a roll at zero", sink("roll: {records: 0}")),
        ("a cursor without side files", sink("cursor: true")),
        ("a side file without gzip", sink("format: {index: side_file, compression: zstd}")),
        ("too little memory", top("memory: 16MiB")),
        ("an address that is none", top("http: 9080")),
        ("an address without a port", top("http: example")),
        ("a section for a topic that is not read", top("topics: {order: {bad_records: skip}}")),
        (
            "two sections that give one name",
            topics("[orders, payments]") + "topics:\n  orders: {path: \"x/{partition}_{offset}\"}\n  payments: {path: \"x/{partition}_{offset}\"}\n",
        ),
        ("an extension that leaves the folder", sink("format: {extension: ../gz}")),
        ("a path without the offset", sink("path: \"{topic}/{partition}\"")),
    ];
    let mut text = String::new();
    for (title, yaml) in cases {
        writeln!(text, "## {title}\n{}\n", message(&yaml)).unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn every_path_that_could_do_harm_is_refused_with_a_reason() {
    let mut text = String::new();
    for path in [
        "",
        "orders",
        "zoos",
        "/{topic}/{partition}_{offset}",
        "../{topic}/{partition}_{offset}",
        "{topic}/../{partition}_{offset}",
        "{topic}//{partition}_{offset}",
        "{topic}/{partition}_{offset}/",
        "{topic}\\\\{partition}_{offset}",
        "{topic}/\\u0000{partition}_{offset}",
        "_kas3/{topic}/{partition}_{offset}",
        "_tmp/{topic}/{partition}_{offset}",
        "{topic}/.{partition}_{offset}",
        "{topic}/{timestamp:_%Y}/{partition}_{offset}",
        "{topic}/{offset}",
        "{partition}_{offset}",
        "{topic}{partition}_{offset}",
        "{topic}-{value.a}/{partition}_{offset}",
        "{topic}/{value.a}{partition}_{offset}",
        "{topic}/{partition}{offset}",
        "{topic}/{partition}_{offset}{key}",
        "{topic}/{partition}-i{offset}",
        "{topic}/{partition}_{offset}_{key}",
        "{topic}/{timestamp}/{partition}_{offset}",
        "{topic}/{timestamp:%Q}/{partition}_{offset}",
        "{topic}/{now:%D}/{partition}_{offset}",
        "{topic}/{value}/{partition}_{offset}",
        "{topic}/{value.a..b}/{partition}_{offset}",
        "{topic}/{key:x}/{partition}_{offset}",
        "{topic}/{partion}_{offset}",
        "{topic}/{partition:5d}_{offset}",
        "{topic}/{partition_{offset}",
        "{topic}/partition}_{offset}",
    ] {
        let yaml = format!("{}  path: \"{path}\"\n", HEAD.replace("[orders]", "[orders, payments]"));
        writeln!(text, "## {path}\n{}\n", message(&yaml)).unwrap();
    }
    assert!(!text.contains("ACCEPTED"), "{text}");
    insta::assert_snapshot!(text);
}
