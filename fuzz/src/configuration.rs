//! The configuration, as a file and as environment variables.

use super::{memory::bounded, paths};
use kas3_sink::{
    Error, Kind,
    config::{Loaded, from_environment, load},
    plan::Pipeline,
    record::{OwnedHeaders, OwnedRecord},
    topics::TopicPattern,
};

/// What no message and no debug text may show.
const SECRET: &str = "hunter2-hunter2";
/// Templates, expressions and the schema that a configuration is checked against.
const BYTES_MAX: usize = 256 << 20;

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "SECRET" => SECRET,
        "NAME" => "orders",
        "EMPTY" => "",
        "ODD" => "p#ss: \"w{or}d\" 'x'\n- ${NAME}",
        "RECORDS" => "250000",
        _ => return None,
    };
    Some(value.to_owned())
}

/// A configuration file is refused with an error that shows no secret, or is a pipeline that keeps its promises, and reads as
/// the same settings when they are written down.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(BYTES_MAX, || {
        // Only what comes from the environment is a secret wherever it stands.
        let secret = (!text.contains("hunter2")).then_some("hunter2");
        let loaded = match load(text, &variable) {
            Ok(loaded) => loaded,
            Err(error) => return refused(&error, secret),
        };
        assert!(!shows(&format!("{loaded:?}"), secret), "the settings show a secret");
        read_again(&loaded);
        match loaded.pipeline() {
            Ok(pipeline) => accepted(&pipeline, secret),
            Err(error) => refused(&error, secret),
        }
    });
}

/// Environment variables, one a line.
pub fn environment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    bounded(BYTES_MAX, || {
        let lookup = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
        match from_environment(&lookup).and_then(|loaded| loaded.pipeline()) {
            Ok(pipeline) => accepted(&pipeline, None),
            Err(error) => refused(&error, None),
        }
    });
}

fn shows(text: &str, secret: Option<&str>) -> bool {
    secret.is_some_and(|secret| text.contains(secret))
}

fn refused(error: &Error, secret: Option<&str>) {
    assert_eq!(error.kind(), Kind::Config, "{error:?}");
    let shown = format!("{error} {error:?} {} {:?}", error.chain(), error.way_out());
    assert!(!shows(&shown, secret), "an error shows a secret: {shown}");
}

/// Settings without secrets, written as YAML, are the same settings.
fn read_again(loaded: &Loaded) {
    let written = serde_json::to_string(&loaded.settings).expect("settings have only string keys");
    // Secrets are not written, and the marks of `${…}` cannot be.
    if written.contains("***") || written.contains(['\u{e000}', '\u{e001}']) {
        return;
    }
    let yaml = serde_yaml_ng::to_string(&loaded.settings).expect("settings are YAML").replace("${", "$${");
    let again = load(&yaml, &|_| None).unwrap_or_else(|error| panic!("{}\n{yaml}", error.chain()));
    assert_eq!(serde_json::to_string(&again.settings).expect("settings have only string keys"), written, "{yaml}");
}

fn accepted(pipeline: &Pipeline, secret: Option<&str>) {
    assert!(!shows(&format!("{pipeline:?} {pipeline:#?}"), secret), "the pipeline shows a secret");
    for url in [&pipeline.url, &pipeline.ledger_url] {
        let (scheme, path) = url.split_once("://").expect("a URL");
        assert!(matches!(scheme, "s3" | "file"), "{url}");
        assert!(!path.split('/').any(|segment| matches!(segment, "." | ".." | "_kas3")), "{url}");
    }
    let names = pipeline.topics.iter().filter_map(|topic| if let TopicPattern::Name(name) = topic { Some(name.as_str()) } else { None });
    let guesses = ["orders", "events.web", "__internal"].into_iter().filter(|topic| pipeline.reads(topic));
    for topic in names.chain(guesses) {
        let plan = pipeline.plan(topic);
        let extension = format!(".{}", plan.format.extension());
        for record in records(topic) {
            paths::assert_sound_name(&plan.path, &record, 1, &extension, 1024);
        }
    }
}

/// Records whose values want out of their folders.
fn records(topic: &str) -> Vec<OwnedRecord> {
    let record = |value: &str, key: &[u8], timestamp_ms| OwnedRecord {
        topic: topic.to_owned(),
        partition: 7,
        offset: 1234,
        timestamp_ms,
        key: Some(key.to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: OwnedHeaders(vec![(b"h".to_vec(), Some(key.to_vec()))]),
    };
    let long = "x/".repeat(1500);
    vec![
        record("{}", b"..", Some(1_767_225_600_000)),
        record(r#"{"a": "../../_kas3", "t": 1767225600}"#, b"_kas3/x", None),
        record(&format!("{{\"a\": \"{long}\"}}"), long.as_bytes(), Some(0)),
        record("not JSON", b"", Some(i64::MAX)),
    ]
}
