//! From [`Settings`] to [`Pipeline`]: every template parsed, every contradiction refused. A contradiction names both keys.

use super::{Settings, SourceSettings};
use crate::{
    error::{Error, Mistakes, Result},
    ledger::{VERSION, VERSION_OLDEST},
    plan::{Pipeline, Start},
    target::{Given, SinkPlan},
    topics::TopicPattern,
};
use serde_json::{Value as Json, json};

/// Checks settings and builds from them what the pipeline runs on.
///
/// # Errors
/// `Config` for every contradiction and every value that cannot be.
pub(super) fn validate(settings: Settings) -> Result<Pipeline, Mistakes> {
    let mut mistakes = Mistakes::default();
    mistakes.take(check_name(&settings.name));
    let topics = topic_patterns(&settings.source, &mut mistakes);
    check_source(&settings.source, &mut mistakes);
    mistakes.take(check_ledger_version(&settings, NEEDS));
    let sink = topics.as_ref().and_then(|topics| {
        let (sections, ledger_url) = (&settings.topics.0, settings.ledger.url.as_deref());
        mistakes.take_all(settings.sink.settings.plan(&Given { topics, sections, transforms: &settings.transforms, ledger_url }))
    });
    if settings.memory.0 < MEMORY_BYTES_MIN {
        mistakes.add(
            Error::config(format!("`memory` is `{}`, less than `80MiB`", settings.memory))
                .hint("Kafka's queues and one part in flight need that much"),
        );
    }
    let http = mistakes.take(address(&settings.http));
    match (topics, sink, http) {
        (Some(topics), Some(sink), Some(http)) if mistakes.is_empty() => Ok(pipeline(settings, topics, sink, http)),
        _ => Err(mistakes),
    }
}

fn pipeline(settings: Settings, topics: Vec<TopicPattern>, sink: SinkPlan, http: Option<std::net::SocketAddr>) -> Pipeline {
    let settings_digest = digest(&settings, &sink.shape);
    let group = settings.source.group.clone().unwrap_or_else(|| settings.name.clone());
    let SinkPlan { url, ledger_url, storage, timezone, settle, amend_after, default, overrides, cursor, .. } = sink;
    Pipeline {
        name: settings.name,
        topics,
        group,
        start: settings.source.start.start,
        beside: settings.source.start.beside,
        kafka: settings.source.kafka,
        target: settings.sink.kind,
        url,
        ledger_url,
        ledger_version: settings.ledger.version,
        storage,
        timezone,
        settle,
        amend_after,
        shutdown_deadline: settings.shutdown_deadline.0,
        revoke_deadline: settings.source.revoke_deadline.0,
        memory_bytes: settings.memory.0,
        http,
        default,
        overrides,
        cursor,
        settings_digest,
    }
}

/// The least `memory`.
const MEMORY_BYTES_MIN: u64 = 80 << 20;

/// A setting whose effect only a newer version of the ledger's forms can hold.
struct Need {
    key: &'static str,
    version: u32,
    is_set: fn(&Settings) -> bool,
}

/// What version 1 cannot hold, one row a setting: nothing yet.
const NEEDS: &[Need] = &[];

/// Whether the version that `ledger.version` pins is known, and holds what the settings make.
fn check_ledger_version(settings: &Settings, needs: &[Need]) -> Result<()> {
    let Some(pinned) = settings.ledger.version else { return Ok(()) };
    if !(VERSION_OLDEST..=VERSION).contains(&pinned) {
        return Err(Error::config(format!("`ledger.version` is `{pinned}`, and this kas3 knows versions {VERSION_OLDEST} to {VERSION}"))
            .hint("leave it out to write the oldest version that holds what is needed"));
    }
    let Some(need) = needs.iter().find(|need| need.version > pinned && (need.is_set)(settings)) else { return Ok(()) };
    Err(Error::config(format!("`ledger.version` is `{pinned}`, and `{}` needs version {}", need.key, need.version))
        .hint(format!("raise `ledger.version` to `{}` once every worker runs a kas3 that knows it, or leave out `{}`", need.version, need.key)))
}

/// Whether `text` may be a folder in the ledger and a label.
fn check_name(name: &str) -> Result<()> {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let hint = "a name is 1 to 128 letters, digits, `-`, `_` and `.`, and begins with a letter or a digit";
    if name.is_empty() {
        return Err(Error::config("`name` is empty").hint(hint));
    }
    if name.len() > 128 || !name.chars().all(legal) || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(Error::config(format!("`name` cannot be `{name}`")).hint(hint));
    }
    Ok(())
}

/// The topics to read, unless one of them cannot be.
fn topic_patterns(source: &SourceSettings, mistakes: &mut Mistakes) -> Option<Vec<TopicPattern>> {
    let topics = &source.topics;
    if topics.is_empty() {
        mistakes.add(Error::config("`source.topics` is empty").hint("name at least one topic, or an expression, as `\"^orders-.*\"`"));
        return None;
    }
    for (index, topic) in topics.iter().enumerate() {
        if topics[..index].contains(topic) {
            mistakes.add(Error::config(format!("`source.topics` names `{topic}` twice")));
        }
    }
    let read: Vec<Option<TopicPattern>> = topics.iter().map(|topic| mistakes.take(TopicPattern::parse("source.topics", topic))).collect();
    read.into_iter().collect()
}

fn check_source(source: &SourceSettings, mistakes: &mut Mistakes) {
    mistakes.take(check_start(&source.start.start));
    super::kafka::check(&source.kafka, mistakes);
    if source.group.as_deref() == Some("") {
        mistakes.add(Error::config("`source.group` is empty").hint("leave it out to use the pipeline's name"));
    }
}

fn check_start(start: &Start) -> Result<()> {
    match start {
        Start::Timestamp(time) => {
            match time.parse::<jiff::Timestamp>() {
                // Kafka takes negative numbers for words, as -1 for the end
                Ok(at) if at.as_millisecond() < 0 => {
                    Err(Error::config(format!("`source.start.timestamp` is `{time}`: Kafka finds no times before 1970"))
                        .hint("to begin with the first record, write `start: earliest`"))
                }
                Ok(_) => Ok(()),
                Err(_) => Err(Error::config(format!("`source.start.timestamp` is `{time}`, which is no RFC 3339 time"))
                    .hint("write it as `2026-01-01T00:00:00Z`")),
            }
        }
        Start::Group(group) if group.is_empty() => {
            Err(Error::config("`source.start.group` is empty").hint("name the consumer group whose offsets count"))
        }
        _ => Ok(()),
    }
}

fn address(text: &str) -> Result<Option<std::net::SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    let numeric = text.replace("localhost", "127.0.0.1");
    numeric.parse().map(Some).map_err(|_| {
        Error::config(format!("`http` is `{text}`, which is no address"))
            .hint("write an address and a port, as `127.0.0.1:9080` or `0.0.0.0:9080`, or `off`")
    })
}

/// Digest of everything that shapes files. Secrets and the way to the store are no part of it.
fn digest(settings: &Settings, sink: &Json) -> String {
    let mut shape = json!({
        "version": 1,
        "topics": settings.source.topics,
        "transforms": settings.transforms,
        // As a list: the order of the sections means something.
        "overrides": settings.topics.0,
    });
    if let (Some(shape), Some(sink)) = (shape.as_object_mut(), sink.as_object()) {
        shape.extend(sink.clone());
    }
    let per_topic = shape["overrides"].as_array_mut().into_iter().flatten().filter_map(|section| section.pointer_mut("/1/transforms"));
    per_topic.for_each(shape_of_transforms);
    shape_of_transforms(&mut shape["transforms"]);
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(shape.to_string().as_bytes()))
}

/// Leaves out how transforms do what they do.
fn shape_of_transforms(transforms: &mut Json) {
    for transform in transforms.as_array_mut().into_iter().flatten().filter_map(Json::as_object_mut) {
        transform.remove("storage");
        transform.remove("downloads");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// What a later version might hold.
    const TOMORROW: [Need; 2] = [
        Need { key: "http", version: 2, is_set: |settings| settings.http == "off" },
        Need { key: "source.group", version: 3, is_set: |settings| settings.source.group.is_some() },
    ];

    fn settings(lines: &str) -> Settings {
        let text = format!("name: p\nsource: {{topics: [orders], kafka: {{bootstrap.servers: b:9092}}}}\n{lines}\n");
        super::super::load(&text, &|_| None).expect("settings").settings
    }

    #[test]
    fn a_pinned_version_of_the_ledger_refuses_what_needs_a_newer_one_at_the_start() {
        let check = |lines: &str, needs: &[Need]| check_ledger_version(&settings(lines), needs);
        let quiet = "sink: {url: s3://lake}\nhttp: \"off\"";
        assert!(check(quiet, &TOMORROW).is_ok(), "without a pin the form is raised where it is needed");
        assert!(check(&format!("{quiet}\nledger: {{version: 1}}"), NEEDS).is_ok());
        let error = check(&format!("{quiet}\nledger: {{version: 1}}"), &TOMORROW).expect_err("a refusal");
        assert_eq!((error.kind(), error.to_string()), (Kind::Config, "`ledger.version` is `1`, and `http` needs version 2".to_owned()));
        assert!(error.way_out().is_some_and(|hint| hint.contains("raise `ledger.version` to `2`") && hint.contains("leave out `http`")));
        assert!(check("sink: {url: s3://lake}\nledger: {version: 1}", &TOMORROW).is_ok());
    }

    #[test]
    fn a_version_of_the_ledger_that_this_kas3_does_not_know_is_refused() {
        for version in [0, VERSION + 1] {
            let settings = settings(&format!("sink: {{url: s3://lake}}\nledger: {{version: {version}}}"));
            let errors: Vec<Error> = validate(settings).expect_err("a refusal").into_iter().collect();
            let text = errors[0].to_string();
            assert!(errors.len() == 1 && errors[0].kind() == Kind::Config && text.contains(&format!("`ledger.version` is `{version}`")), "{text}");
        }
    }
}
