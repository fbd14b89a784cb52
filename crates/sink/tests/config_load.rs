//! What a configuration file becomes.
// A test ends where it cannot go on; so do its helpers.
#![allow(clippy::unwrap_used)]

use kas3_sink::{
    config::{Loaded, load},
    plan::{Pipeline, Start},
    topics::TopicPattern,
};
use std::time::Duration;

const FULL: &str = include_str!("golden/config/full.yaml");

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "KAFKA_USER" => "sink-user-7",
        "KAFKA_PASSWORD" => "p#ss: \"w{or}d\" 'x'",
        "BUCKET" => "lake",
        "S3_KEY" => "AKIA1234567890",
        "S3_SECRET" => "s3cr3t/with+slash",
        "RECORDS" => "250000",
        "EMPTY" => "",
        _ => return None,
    };
    Some(value.to_owned())
}

fn loaded(text: &str) -> Loaded {
    load(text, &environment).unwrap_or_else(|error| panic!("{}", error.chain()))
}

fn pipeline(text: &str) -> Pipeline {
    loaded(text).pipeline().unwrap_or_else(|error| panic!("{} ({:?})", error.chain(), error.way_out()))
}

fn with_sink(lines: &str) -> String {
    format!("name: p\nsource: {{topics: [orders], kafka: {{bootstrap.servers: b:9092}}}}\nsink:\n  url: s3://lake\n{lines}\n")
}

#[test]
fn the_full_example_reads_as_its_golden_form() {
    let settings = serde_json::to_string_pretty(&loaded(FULL).settings).unwrap() + "\n";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config/full.json");
    if std::env::var_os("KAS3_WRITE_DOCS").is_some() {
        std::fs::write(&path, &settings).unwrap();
    }
    let tree = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(tree(&settings), tree(&golden), "the tree that a full file reads as has changed");
}

#[test]
fn the_full_example_becomes_the_pipeline_that_it_describes() {
    let pipeline = pipeline(FULL);
    assert_eq!((pipeline.url.as_str(), pipeline.ledger_url.as_str()), ("s3://lake/raw", "s3://lake/ledger"));
    assert_eq!(pipeline.kafka["bootstrap.servers"], "broker-1:9092,broker-2:9092");
    assert_eq!(pipeline.kafka["sasl.password"], "p#ss: \"w{or}d\" 'x'", "a value from the environment is never YAML");
    assert_eq!(pipeline.kafka["socket.keepalive.enable"], "true");
    assert_eq!(pipeline.start, Start::Timestamp("2026-01-01T00:00:00Z".into()));
    assert_eq!((pipeline.settle, pipeline.http, pipeline.memory_bytes), (None, None, 512 << 20));
    assert_eq!(pipeline.default.roll.clock, Some(Duration::from_secs(3600)));
    assert_eq!(pipeline.default.format.extension(), "ndjson.zst");
    let orders = pipeline.plan("orders");
    assert_eq!((orders.roll.bytes, orders.format.extension()), (1 << 30, "ndjson.zst"), "what a section does not name is as in `sink`");
    assert_eq!(pipeline.plan("events.audit.eu").format.extension(), "jsonl");
    assert_eq!(pipeline.plan("events.web").roll.records, 250_000);
    assert!(pipeline.reads("events.web") && !pipeline.reads("my.events.web") && !pipeline.reads("orders2"));
}

#[test]
fn the_least_that_a_user_writes_is_enough() {
    let pipeline = pipeline(&with_sink(""));
    assert_eq!((pipeline.group.as_str(), pipeline.start.clone()), ("p", Start::Earliest));
    assert_eq!((pipeline.settle, pipeline.amend_after), (Some(Duration::from_secs(600)), Duration::from_secs(300)));
    assert_eq!(pipeline.http.map(|address| address.to_string()).as_deref(), Some("127.0.0.1:9080"));
    assert_eq!(pipeline.default.format.extension(), "jsonl.gz");
    assert_eq!(pipeline.default.path.to_string(), "{topic}/date={timestamp:%Y-%m-%d}/{partition}_{offset}");
}

#[test]
fn a_span_is_settled_by_itself_once_no_partition_that_goes_on_would_wait_so_long() {
    let settle = |sink: &str, topics: &str| pipeline(&format!("{}{topics}", with_sink(sink))).settle.map(|settle| settle.as_millis());
    assert_eq!(settle("  roll: {age: 10m}", "\n"), Some(1_200_000));
    assert_eq!(settle("  roll: {age: 1s}", "\n"), Some(5_000), "a commit may take a moment");
    assert_eq!(settle("  roll: {age: 1s}", "\ntopics: {orders: {roll: {age: 1h}}}\n"), Some(7_200_000));
    assert_eq!(settle("  settle: 200ms", "\n"), Some(200));
    assert_eq!(settle("  settle: next", "\n"), None);
}

#[test]
fn secrets_appear_in_no_debug_text_and_no_serialised_form() {
    let loaded = loaded(FULL);
    let pipeline = loaded.pipeline().unwrap();
    let shown = [
        format!("{loaded:?} {loaded:#?}"),
        format!("{:?} {:#?}", loaded.settings, pipeline),
        serde_json::to_string(&loaded.settings).unwrap(),
        loaded.redactor.redact("login of sink-user-7 with p#ss: \"w{or}d\" 'x' failed; s3cr3t%2Fwith%2Bslash").into_owned(),
    ];
    for text in shown {
        for secret in ["p#ss", "w{or}d", "s3cr3t", "AKIA1234567890"] {
            assert!(!text.contains(secret), "`{secret}` in {text}");
        }
        assert!(text.contains("***"));
    }
    assert_eq!(loaded.redactor.redact("bucket lake, topic orders"), "bucket lake, topic orders", "what is no secret stays readable");
}

#[test]
fn a_password_in_a_url_is_hidden_as_it_is_and_as_clients_send_it() {
    let text = with_sink("  storage: {proxy: 'http://me:proxy-pass@proxy:3128'}")
        .replace("b:9092", "b:9092, sasl.oauthbearer.token.endpoint.url: 'https://me:oidc-pass@idp/token?a=b@c'");
    let redactor = load(&text, &|_| None).unwrap().redactor;
    let shown = redactor.redact("https://me:oidc-pass@idp/token, proxy-pass, Basic bWU6cHJveHktcGFzcw==, b@c");
    assert_eq!(shown, "https://me:***@idp/token, ***, Basic ***, b@c");
}

#[test]
fn secrets_appear_in_no_error_whatever_is_wrong_about_them() {
    let env = |name: &str| (name == "SECRET").then(|| "hunter2-hunter2".to_owned());
    for lines in [
        "  settle: ${SECRET}",
        "  format: {compression: \"${SECRET}\"}",
        "  storage: {allow_http: \"x${SECRET}\"}",
        "  roll: {age: \"${SECRET}\"}",
        "  ${SECRET}: 1",
        "  timezone: u@${SECRET}",
        "  storage: {endpoint: \"ftp://user:${SECRET}@host\"}",
        "  storage: {secret_access_key: [hunter2-hunter2]}",
        "  storage: {secret_access_key: hunter2-hunter2, endpoint: \"hunter2-hunter2\"}",
        "  storage: {acces_key_id: \"${SECRET}\"}",
        "  storage: {proxy: \"http://me:hunter2-hunter2@proxy\", endpoint: \"http://me:hunter2-hunter2@proxy\"}",
        "  storage: {secret_access_key: {hunter2-hunter2: 1}}",
    ] {
        let error = match load(&with_sink(lines), &env).and_then(|loaded| loaded.pipeline()) {
            Err(error) => error,
            Ok(_) => panic!("{lines} was accepted"),
        };
        let text = format!("{error} {error:?} {} {:?}", error.chain(), error.way_out());
        assert!(!text.contains("hunter2"), "{lines}: {text}");
    }
}

#[test]
fn variables_are_replaced_where_values_stand_and_nowhere_else() {
    let text = with_sink(
        "  # password: ${NOT_SET}\n  path: 'x{topic}/$${NAME}-{partition}_{offset}'\n  timezone: ${EMPTY:-Europe/Berlin}\n  roll: {records: ${RECORDS}, age: ${AGE:-7m}}",
    );
    let error = load(&text, &environment).unwrap().pipeline().unwrap_err();
    assert!(error.to_string().contains("{NAME}"), "an escaped `${{` is text, here a placeholder that does not exist: {error}");
    let text = text.replace("$${NAME}", "$$${{NAME}}");
    let pipeline = pipeline(&text.replace("$$${{NAME}}", "n"));
    assert_eq!((pipeline.default.roll.records, pipeline.default.roll.age.as_secs()), (250_000, 420));
}

#[test]
fn off_may_be_written_as_people_write_it() {
    for http in ["off", "\"off\"", "false"] {
        assert_eq!(pipeline(&format!("{}http: {http}\n", with_sink(""))).http, None, "{http}");
    }
    assert!(pipeline(&format!("{}http: localhost:0\n", with_sink(""))).http.is_some());
}

#[test]
fn starts_are_a_word_a_time_or_a_group() {
    let start = |start: &str| pipeline(&with_sink("").replace("topics: [orders]", &format!("topics: [orders], start: {start}"))).start;
    assert_eq!(start("latest"), Start::Latest);
    assert_eq!(start("{timestamp: 2026-01-01T00:00:00Z}"), Start::Timestamp("2026-01-01T00:00:00Z".into()));
    assert_eq!(start("{group: connect-orders}"), Start::Group("connect-orders".into()));
    assert_eq!(start("{from: latest}"), Start::Latest);
}

#[test]
fn a_start_beside_others_is_asked_for_and_goes_with_every_start() {
    let beside = |start: &str| {
        let pipeline = pipeline(&with_sink("").replace("topics: [orders]", &format!("topics: [orders], start: {start}")));
        (pipeline.start, pipeline.beside)
    };
    assert_eq!(beside("{beside: true}"), (Start::Earliest, true));
    assert_eq!(beside("{from: latest, beside: true}"), (Start::Latest, true));
    assert_eq!(beside("{group: connect-orders, beside: false}"), (Start::Group("connect-orders".into()), false));
    assert_eq!(beside("{beside: \"true\", timestamp: 2026-01-01T00:00:00Z}"), (Start::Timestamp("2026-01-01T00:00:00Z".into()), true));
    assert_eq!(beside("latest"), (Start::Latest, false));
}

#[test]
fn topic_sections_apply_in_the_order_of_the_file() {
    let text = "name: p\nsource: {topics: ['^.*'], kafka: {bootstrap.servers: b}}\nsink: {url: s3://lake}\ntopics:\n  ^z.*: {roll: {records: 1}}\n  ^.*y: {roll: {records: 2}}\n  ^a.*: {roll: {records: 3}}\n";
    let pipeline = pipeline(text);
    let records = |topic: &str| pipeline.plan(topic).roll.records;
    assert_eq!((records("zy"), records("ay"), records("ab"), records("b")), (1, 2, 3, 10_000_000));
}

#[test]
fn an_expression_matches_whole_names_whichever_alternative_comes_first() {
    let text = with_sink("").replace("[orders]", "['^a|ab|b.*']");
    let pipeline = pipeline(&text);
    assert!(pipeline.reads("a") && pipeline.reads("ab") && pipeline.reads("bcd"));
    assert!(!pipeline.reads("abc") && !pipeline.reads("cab"));
    assert!(matches!(&pipeline.topics[0], TopicPattern::Expression(expression) if expression.as_str() == "^(a|ab|b.*)$"));
}

#[test]
fn a_preset_brings_its_form_of_files_unless_the_settings_say_otherwise() {
    let plan = |lines: &str| {
        let plan = pipeline(&with_sink(lines)).default;
        (plan.path.to_string(), plan.format.extension().to_owned())
    };
    assert_eq!(plan("  path: zooz").1, "json.gz");
    assert_eq!(plan("  path: zooz\n  format: {compression: none}").1, "json");
    assert_eq!(plan("  path: zooz\n  format: {extension: txt.gz}").1, "txt.gz");
    assert_eq!(plan("  path: zooz").0, "date={timestamp:%Y-%m-%d}/hour={timestamp:%H}/{partition}_{offset}");
    assert_eq!(plan("  path: deviantart\n  cursor: true").1, "gz");
    assert_eq!(plan("  path: delta_connector").1, "jsonl");
    let several = pipeline(&with_sink("  path: zooz").replace("[orders]", "[orders, payments]"));
    assert!(several.default.path.to_string().starts_with("{topic}/date="));
    let own = pipeline(&format!("{}topics: {{orders: {{path: deviantart}}}}\n", with_sink("  format: {block: 64KiB}")));
    assert_eq!((own.plan("orders").format.extension(), own.default.format.extension()), ("gz", "jsonl.gz"));
}

#[test]
fn the_digest_follows_what_shapes_files_and_nothing_else() {
    let digest = |text: &str| pipeline(text).settings_digest;
    let plain = digest(&with_sink(""));
    assert_eq!(plain, digest(&format!("{}memory: 1GiB\nhttp: off\n", with_sink("  storage: {access_key_id: a, secret_access_key: b}"))));
    assert_eq!(plain, digest(&with_sink("").replace("s3://lake", "s3://lake/")));
    for other in ["  roll: {age: 1m}", "  timezone: Asia/Tokyo", "  format: {level: 9}", "  path: zooz", "  bad_records: skip"] {
        assert_ne!(plain, digest(&with_sink(other)), "{other}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(text in "[ -~\n]{0,200}") {
        let _ = load(&text, &|_| None).and_then(|loaded| loaded.pipeline());
    }

    #[test]
    fn a_value_from_the_environment_arrives_as_it_is(value in "[^\u{0}]{1,40}") {
        let text = with_sink("").replace("b:9092}", "b:9092, client.rack: ${RACK}, ssl.key.password: 'a${RACK}b'}");
        let loaded = load(&text, &|_| Some(value.clone())).unwrap();
        proptest::prop_assert_eq!(&loaded.settings.source.kafka["client.rack"], &value);
        proptest::prop_assert_eq!(&loaded.settings.source.kafka["ssl.key.password"], &format!("a{value}b"));
    }
}
