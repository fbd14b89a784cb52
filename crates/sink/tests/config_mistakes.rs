//! Every mistake of a file is told in one run, once, on its line; what is meant by a misplaced key is recognised.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use kas3_sink::config::load;

fn told(text: &str) -> String {
    let error = load(text, &|_| None).and_then(|loaded| loaded.pipeline()).expect_err("a mistake");
    assert_eq!(error.kind(), kas3_sink::Kind::Config);
    let hint = error.way_out().map_or(String::new(), |hint| format!("\nhint: {hint}"));
    format!("{}{hint}", error.chain())
}

/// What is said, without the ways out.
fn lines(text: &str) -> Vec<String> {
    told(text).lines().filter(|line| !line.trim_start().starts_with("hint:")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn mistakes_of_every_kind_are_told_together_in_the_order_of_their_lines() {
    let text = "\
name: my orders
source:
  topics: orders
  start: beginning
  kafka: {boostrap.servers: 'b:9092', group.id: mine}
snik:
  url: /data/lake
  flavour: vanilla
  timezone: Berlin
  format: {compression: gzipp, level: ${LEVEL}}
  roll: {age: 300, records: 0}
topics:
  orders: {path: '{topic}/{partition}', bad_record: skip}
memory: 16MiB
http: nowhere
";
    assert_eq!(
        lines(text),
        [
            "17 mistakes",
            "line 1: `name` cannot be `my orders`",
            "line 3: `source.topics` wants a list, found the text `orders`",
            "line 4: `source.start` is `beginning`, which is none of `earliest`, `latest`",
            "line 5: `source.kafka.group.id` is kas3's own to set",
            "line 5: `source.kafka.bootstrap.servers` is missing",
            "line 6: `snik` is not a setting",
            "line 7: `sink.url` is `/data/lake`, which has no scheme",
            "line 8: `snik.flavour` is not a setting",
            "line 9: `sink.timezone` is `Berlin`, which is no timezone",
            "line 10: the environment variable `LEVEL` is not set",
            "line 10: `snik.format.compression` is `gzipp`, which is none of `none`, `gzip`, `zstd`",
            "line 11: `snik.roll.age` wants a duration, found the number `300`",
            "line 11: `sink.roll.records` is zero",
            "line 13: `topics.orders.bad_record` is not a setting",
            "line 13: `topics.orders.path`: path template `{topic}/{partition}`: `{offset}` is missing: two files would get one name",
            "line 14: `memory` is `16MiB`, less than `80MiB`",
            "line 15: `http` is `nowhere`, which is no address",
        ]
    );
}

#[test]
fn what_follows_from_another_mistake_is_not_told_beside_it() {
    let file = |sink: &str| format!("name: p\nsource: {{topics: [orders], kafka: {{bootstrap.servers: b}}}}\nsink:\n  url: s3://lake\n  {sink}\n");
    for (sink, said) in [
        // misspelt, it is meant all the same
        ("storage: {endpoint: 'http://s3', allow_htp: true}", "`sink.storage.allow_htp` is not a setting (line 5)"),
        // the side file that the cursor needs would be there
        ("cursor: true\n  format: {index: side_fil}", "`sink.format.index` is `side_fil`, which is none of `inside`, `side_file` (line 6)"),
        (
            "cursor: true\n  format: {type: json_line, index: side_file}",
            "`sink.format.type` is `json_line`, which is none of `json_lines`, `text` (line 6)",
        ),
    ] {
        assert_eq!(lines(&file(sink)), [said], "{sink}");
    }
    assert_eq!(lines("name: p\nsource:\n  topic: [orders]\n  kafka: {bootstrap.servers: b}\nsink: {url: s3://lake}\n").len(), 1);
}

#[test]
fn a_section_that_is_not_indented_as_it_should_be_is_recognised() {
    let kafka = "kafka: {bootstrap.servers: b}";
    let top = format!("name: p\nsource:\n  topics: [orders]\n{kafka}\nsink: {{url: s3://lake}}\n");
    assert_eq!(told(&top), "`kafka` is not a setting (line 4)\nhint: `kafka` belongs below `source`");
    let below_sink = format!("name: p\nsource:\n  topics: [orders]\nsink:\n  url: s3://lake\n  {kafka}\n");
    assert_eq!(told(&below_sink), "`sink.kafka` is not a setting (line 6)\nhint: `kafka` belongs below `source`");
    let beside = "name: p\nsource:\n  topics: [orders]\n  kafka:\n  bootstrap.servers: b\nsink: {url: s3://lake}\n";
    let said = told(beside);
    assert!(said.contains("line 4: `source.kafka` has no value"), "{said}");
    assert!(
        said.contains("line 5: `source.bootstrap.servers` is not a setting\n      hint: `bootstrap.servers` belongs below `source.kafka`"),
        "{said}"
    );
    let all = format!("name: p\nsource:\ntopics: [orders]\n{kafka}\nsink: {{url: s3://lake}}\nmemory: 1GiB\n");
    let said = told(&all);
    assert!(said.contains("line 2: `source` has no value\n      hint: indent below it what it holds: "), "{said}");
    assert!(
        said.contains("line 3: `topics` wants a section of settings, found a list\n      hint: with a list in it `topics` belongs below `source`"),
        "{said}"
    );
    assert!(said.contains("line 4: `kafka` is not a setting") && said.starts_with("3 mistakes"), "{said}");
    let outwards = format!("name: p\nsource: {{topics: [orders], {kafka}}}\nsink:\n  url: s3://lake\n  memory: 1GiB\n  age: 5m\n");
    let said = told(&outwards);
    assert!(said.contains("hint: `memory` belongs at the top of the file") && said.contains("hint: `age` belongs below `sink.roll`"), "{said}");
}

#[test]
fn what_stands_in_the_wrong_place_is_checked_as_well() {
    let text = "name: p\nsource:\n  topics: [orders]\nsink: {url: s3://lake}\nkafka: {bootstrap.servers: b, group.id: mine}\nroll: {age: 5}\n";
    assert_eq!(
        lines(text),
        [
            "4 mistakes",
            "line 5: `kafka` is not a setting",
            "line 5: `source.kafka.group.id` is kas3's own to set",
            "line 6: `roll` is not a setting",
            "line 6: `roll.age` wants a duration, found the number `5`",
        ]
    );
}

#[test]
fn a_byte_order_mark_is_passed_over_and_keys_of_ones_own_hold_anchors() {
    let text = "\u{feff}x-roll: &roll {age: 1m, records: 7}\nx-unused: {secret: ${NOT_SET}, anything: [1]}\nname: p\n\
                source: {topics: [orders, payments], kafka: {bootstrap.servers: b}}\nsink: {url: s3://lake, roll: *roll}\n\
                topics:\n  orders: {roll: {<<: *roll, records: 9}}\n";
    let pipeline = load(text, &|_| None).and_then(|loaded| loaded.pipeline()).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert_eq!((pipeline.default.roll.records, pipeline.plan("orders").roll.records), (7, 9));
    assert_eq!(pipeline.plan("orders").roll.age.as_secs(), 60);
    let inner = text.replace("sink: {url", "sink: {x-mine: 1, url");
    assert_eq!(
        told(&inner),
        "`sink.x-mine` is not a setting (line 5)\nhint: keys of your own, as `x-mine` for anchors, stand at the top of the file"
    );
}

#[test]
fn thousands_of_mistakes_are_counted_and_the_first_are_shown() {
    let text: String = (0..5000).map(|number| format!("wrong-{number}: 1\n")).collect();
    let said = told(&text);
    assert!(said.starts_with("5003 mistakes\n") && said.lines().count() < 150 && said.ends_with("more"), "{}", &said[..200]);
}
