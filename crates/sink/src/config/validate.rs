//! From [`Settings`] to [`Pipeline`]: every template parsed, every contradiction refused. A contradiction names both keys.

use super::{
    BadRecords, FormatSettings, Pipeline, RollPlan, RollSettings, Settings, Settle, SinkSettings, Start, TopicPattern, TopicPlan, TopicSettings, tree,
};
use crate::{
    error::{Error, Kind, Result},
    format,
    ledger::{VERSION, VERSION_OLDEST},
    path::{Limits, PathTemplate, TemplateOptions, check_disjoint},
    transform::{Chain, TransformSettings},
};
use jiff::tz::TimeZone;
use std::{sync::Arc, time::Duration};

/// Checks settings and builds from them what the pipeline runs on.
///
/// # Errors
/// `Config` for a contradiction or a value that cannot be.
pub fn validate(settings: Settings) -> Result<Pipeline> {
    check_name(&settings.name)?;
    check_kind(&settings)?;
    let topics = topic_patterns(&settings.source.topics)?;
    check_start(&settings.source.start)?;
    super::kafka::check(&settings.source.kafka)?;
    let url = super::url::check("sink.url", &settings.sink.url)?;
    let ledger_url = settings.ledger.url.as_deref().map_or(Ok(url.clone()), |ledger| super::url::check("ledger.url", ledger))?;
    super::url::check_storage("sink.storage", &settings.sink.storage, &[url.clone(), ledger_url.clone()])?;
    check_ledger_version(&settings, NEEDS)?;
    let timezone = timezone(&settings.sink.timezone)?;
    let default = Arc::new(default_plan(&settings, &topics, &url, &timezone)?);
    let overrides = override_plans(&settings, &default, &topics, &url, &timezone)?;
    check_names(&topics, &default, &overrides)?;
    check_cursor(&settings)?;
    if settings.memory.0 < MEMORY_BYTES_MIN {
        return Err(
            config(format!("`memory` is `{}`, less than `64MiB`", settings.memory)).hint("Kafka's queues and one part in flight need that much")
        );
    }
    let http = address(&settings.http)?;
    let settings_digest = digest(&settings, &url);
    let group = settings.source.group.clone().unwrap_or_else(|| settings.name.clone());
    if group.is_empty() {
        return Err(config("`source.group` is empty").hint("leave it out to use the pipeline's name"));
    }
    Ok(Pipeline {
        name: settings.name,
        topics,
        group,
        start: settings.source.start,
        kafka: settings.source.kafka,
        url,
        ledger_url,
        ledger_version: settings.ledger.version,
        storage: settings.sink.storage,
        timezone,
        settle: match settings.sink.settle {
            Settle::Next => None,
            Settle::After(period) => Some(period.0),
        },
        amend_after: settings.sink.amend_after.0,
        shutdown_deadline: settings.shutdown_deadline.0,
        revoke_deadline: settings.source.revoke_deadline.0,
        memory_bytes: settings.memory.0,
        http,
        default,
        overrides,
        cursor: settings.sink.cursor,
        settings_digest,
    })
}

/// The least `memory`.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// Parts of an upload times their size: no file can be larger.
const ROLL_BYTES_MAX: u64 = (kas3_store::PART_BYTES * kas3_store::PARTS_MAX) as u64;
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn config(message: impl Into<String>) -> Error {
    Error::new(Kind::Config, message)
}

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
        return Err(config(format!("`ledger.version` is `{pinned}`, and this kas3 knows versions {VERSION_OLDEST} to {VERSION}"))
            .hint("leave it out to write the oldest version that holds what is needed"));
    }
    let Some(need) = needs.iter().find(|need| need.version > pinned && (need.is_set)(settings)) else { return Ok(()) };
    Err(config(format!("`ledger.version` is `{pinned}`, and `{}` needs version {}", need.key, need.version))
        .hint(format!("raise `ledger.version` to `{}` once every worker runs a kas3 that knows it, or leave out `{}`", need.version, need.key)))
}

/// Whether `text` may be a folder in the ledger and a label.
fn check_name(name: &str) -> Result<()> {
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let hint = "a name is 1 to 128 letters, digits, `-`, `_` and `.`, and begins with a letter or a digit";
    if name.is_empty() {
        return Err(config("`name` is empty").hint(hint));
    }
    if name.len() > 128 || !name.chars().all(legal) || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(config(format!("`name` cannot be `{name}`")).hint(hint));
    }
    Ok(())
}

/// Kinds of sinks.
const KINDS: [&str; 1] = ["files"];

fn check_kind(settings: &Settings) -> Result<()> {
    let kind = settings.sink.kind.as_str();
    if !KINDS.contains(&kind) {
        let error = config(format!("`sink.type` names an unknown sink `{kind}`"));
        let there_are = format!("this version has {}", tree::listed(&KINDS));
        return Err(match tree::nearest(kind, &KINDS) {
            Some(near) => error.hint(format!("did you mean `{near}`? {there_are}")),
            None => error.hint(there_are),
        });
    }
    Ok(())
}

fn topic_patterns(topics: &[String]) -> Result<Vec<TopicPattern>> {
    if topics.is_empty() {
        return Err(config("`source.topics` is empty").hint("name at least one topic, or an expression, as `\"^orders-.*\"`"));
    }
    for (index, topic) in topics.iter().enumerate() {
        if topics[..index].contains(topic) {
            return Err(config(format!("`source.topics` names `{topic}` twice")));
        }
    }
    topics.iter().map(|topic| pattern("source.topics", topic)).collect()
}

/// A topic's name, or an expression that begins with `^`.
fn pattern(key: &str, text: &str) -> Result<TopicPattern> {
    if let Some(expression) = text.strip_prefix('^') {
        // The whole name must match, whichever alternative comes first. A plain group, because librdkafka's engine knows no other.
        return match regex::Regex::new(&format!("^({expression})$")) {
            Ok(compiled) => Ok(TopicPattern::Expression(compiled)),
            Err(_) => {
                // Compiled again as written, so that the message shows what the user wrote.
                let reason = regex::Regex::new(text).err().map_or_else(|| "unbalanced".to_owned(), |error| last_line(&error.to_string()));
                Err(config(format!("`{key}` holds `{text}`, which is no regular expression: {reason}"))
                    .hint("the syntax is that of Rust's `regex`; a `.` that is meant as such is written `\\\\.`, and a bracket `\\\\(`"))
            }
        };
    }
    let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    if text.is_empty() || text.len() > 249 || text == "." || text == ".." || !text.chars().all(legal) {
        let error = config(format!("`{key}` holds `{text}`, which is no topic's name"));
        return Err(if text.contains(['*', '[', '(', '|', '+', '\\']) {
            error.hint(format!("begin a regular expression with `^`, as `\"^{}\"`", text.replace('*', ".*").replace("..*", ".*")))
        } else {
            error.hint("names are up to 249 letters, digits, `.`, `_` and `-`")
        });
    }
    Ok(TopicPattern::Name(text.to_owned()))
}

fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn check_start(start: &Start) -> Result<()> {
    match start {
        Start::Timestamp(time) if time.parse::<jiff::Timestamp>().is_err() => {
            Err(config(format!("`source.start.timestamp` is `{time}`, which is no RFC 3339 time")).hint("write it as `2026-01-01T00:00:00Z`"))
        }
        Start::Group(group) if group.is_empty() => Err(config("`source.start.group` is empty").hint("name the consumer group whose offsets count")),
        _ => Ok(()),
    }
}

fn timezone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        config(format!("`sink.timezone` is `{name}`, which is no timezone")).hint("write a name of the IANA database, as `UTC` or `Europe/Berlin`")
    })
}

fn default_plan(settings: &Settings, topics: &[TopicPattern], url: &str, timezone: &TimeZone) -> Result<TopicPlan> {
    let sink = &settings.sink;
    let options = TemplateOptions { timezone: timezone.clone(), single_topic: matches!(topics, [TopicPattern::Name(_)]), limits: Limits::below(url) };
    Ok(TopicPlan {
        path: path("sink.path", &sink.path, &options)?,
        format: build_format("sink", &sink.format, sink.bad_records)?,
        roll: roll("sink.roll", &sink.roll)?,
        bad_records: sink.bad_records,
        transforms: chain("transforms", &settings.transforms, sink)?,
    })
}

/// The transforms of a list, which stands under `key`.
fn chain(key: &str, transforms: &[TransformSettings], sink: &SinkSettings) -> Result<Arc<Chain>> {
    let mut plans = Vec::with_capacity(transforms.len());
    for (index, transform) in transforms.iter().enumerate() {
        if transforms[..index].iter().any(|before| before.kind == transform.kind) {
            return Err(config(format!("`{key}` holds `{}` twice", transform.kind))
                .hint("one says it all: name further places in its `read_from`, and further formats in its `accept`"));
        }
        plans.push(transform.settings.build(&format!("{key}[{index}]"), sink)?);
    }
    Ok(Arc::new(Chain::new(plans)))
}

fn override_plans(
    settings: &Settings,
    default: &TopicPlan,
    topics: &[TopicPattern],
    url: &str,
    timezone: &TimeZone,
) -> Result<Vec<(TopicPattern, Arc<TopicPlan>)>> {
    let sink = &settings.sink;
    let single = matches!(topics, [TopicPattern::Name(_)]);
    let mut plans = Vec::new();
    for (topic, section) in &settings.topics.0 {
        let pattern = pattern("topics", topic)?;
        let key = format!("topics.{topic}");
        check_reach(topics, &pattern, topic)?;
        let TopicSettings { path: own_path, format, roll: own_roll, bad_records, transforms } = section;
        // A section of its own for one literal topic need not name it, but one inherited from all topics must.
        let own_topic = own_path.is_some() && matches!(pattern, TopicPattern::Name(_));
        let options = TemplateOptions { timezone: timezone.clone(), single_topic: single || own_topic, limits: Limits::below(url) };
        let bad_records = bad_records.unwrap_or(sink.bad_records);
        let (path_key, path_text) = own_path.as_ref().map_or(("sink.path".to_owned(), &sink.path), |own| (format!("{key}.path"), own));
        let (format_key, format) = format.as_ref().map_or(("sink", &sink.format), |own| (key.as_str(), own));
        let (roll_key, roll_settings) = own_roll.as_ref().map_or(("sink.roll".to_owned(), &sink.roll), |own| (format!("{key}.roll"), own));
        let plan = TopicPlan {
            path: path(&path_key, path_text, &options)?,
            format: build_format(format_key, format, bad_records)?,
            roll: roll(&roll_key, roll_settings)?,
            bad_records,
            transforms: match transforms {
                Some(own) => chain(&format!("{key}.transforms"), own, sink)?,
                None => Arc::clone(&default.transforms),
            },
        };
        plans.push((pattern, Arc::new(plan)));
    }
    Ok(plans)
}

/// A section for a literal topic that is not read, but for a letter or two, is a misspelling. Others may wait for their topic.
fn check_reach(topics: &[TopicPattern], pattern: &TopicPattern, written: &str) -> Result<()> {
    let TopicPattern::Name(name) = pattern else { return Ok(()) };
    if topics.iter().any(|read| read.matches(name)) {
        return Ok(());
    }
    let names: Vec<&str> = topics.iter().filter_map(|read| if let TopicPattern::Name(name) = read { Some(name.as_str()) } else { None }).collect();
    match tree::nearest(name, &names) {
        Some(near) => Err(config(format!("`topics.{written}` is a section for a topic that `source.topics` does not name"))
            .hint(format!("did you mean `topics.{near}`?"))),
        None => Ok(()),
    }
}

fn path(key: &str, text: &str, options: &TemplateOptions) -> Result<PathTemplate> {
    PathTemplate::parse(text, options).map_err(|error| {
        let hint = error.way_out().map(str::to_owned);
        let named = config(format!("`{key}`: {error}"));
        match hint {
            Some(hint) => named.hint(hint),
            None => named,
        }
    })
}

/// Builds a format; `section` is where its settings stand, `sink` or `topics.<topic>`.
fn build_format(section: &str, settings: &FormatSettings, bad: BadRecords) -> Result<Arc<dyn format::Format>> {
    if let Some(extension) = &settings.extension {
        let legal = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
        let plain = extension.trim_start_matches('.');
        if plain.is_empty() || plain.len() > 40 || !extension.chars().all(legal) || plain.ends_with('.') {
            return Err(config(format!("`{section}.format.extension` cannot be `{extension}`"))
                .hint("letters, digits, `.`, `-` and `_`, without the leading dot, as `json.gz`"));
        }
    }
    format::build(settings, bad).map_err(|error| {
        let whole = |text: &str| text.replace("`format.", &format!("`{section}.format."));
        let named = config(whole(&error.chain()));
        match error.way_out() {
            Some(hint) => named.hint(whole(hint)),
            None => named,
        }
    })
}

fn roll(key: &str, settings: &RollSettings) -> Result<RollPlan> {
    let positive = [
        ("bytes", settings.bytes.0 > 0),
        ("records", settings.records > 0),
        ("age", !settings.age.0.is_zero()),
        ("idle", settings.idle.is_none_or(|idle| !idle.0.is_zero())),
        ("files", settings.files > 0),
    ];
    if let Some((name, _)) = positive.iter().find(|(_, fits)| !fits) {
        return Err(config(format!("`{key}.{name}` is zero")).hint("no file could ever hold a record; leave the key out for its default"));
    }
    if settings.bytes.0 > ROLL_BYTES_MAX {
        return Err(config(format!("`{key}.bytes` is `{}`, more than an upload of 10,000 parts holds", settings.bytes))
            .hint(format!("at most `{}`", super::Bytes(ROLL_BYTES_MAX))));
    }
    if let Some(clock) = settings.clock {
        let day = DAY.as_millis();
        let clock_ms = clock.0.as_millis();
        if clock_ms < 1000 || (!day.is_multiple_of(clock_ms) && !clock_ms.is_multiple_of(day)) {
            return Err(config(format!("`{key}.clock` is `{clock}`, which neither divides a day nor is a number of days"))
                .hint("write for instance `15m`, `1h`, `6h` or `1d`"));
        }
    }
    Ok(RollPlan {
        bytes: settings.bytes.0,
        records: settings.records,
        age: settings.age.0,
        idle: settings.idle.map(|idle| idle.0),
        clock: settings.clock.map(|clock| clock.0),
        files: settings.files,
    })
}

/// Checks that no two topics can get a file of the same name, and that names fit the store.
fn check_names(topics: &[TopicPattern], default: &TopicPlan, overrides: &[(TopicPattern, Arc<TopicPlan>)]) -> Result<()> {
    let own: Vec<(&TopicPattern, &PathTemplate)> = overrides.iter().map(|(pattern, plan)| (pattern, &plan.path)).collect();
    // Topics with a section of their own never use the default.
    let rest = topics.iter().filter(|topic| match topic {
        TopicPattern::Name(name) => !overrides.iter().any(|(pattern, _)| pattern.matches(name)),
        TopicPattern::Expression(_) => true,
    });
    let shared: Vec<(&TopicPattern, &PathTemplate)> = rest.map(|topic| (topic, &default.path)).collect();
    check_disjoint(&own.into_iter().chain(shared).collect::<Vec<_>>())?;
    for topic in topics {
        let TopicPattern::Name(name) = topic else { continue };
        let plan = overrides.iter().find(|(pattern, _)| pattern.matches(name)).map_or(default, |(_, plan)| plan);
        plan.path.check_length(name, &format!(".{}", plan.format.extension()))?;
    }
    Ok(())
}

fn check_cursor(settings: &Settings) -> Result<()> {
    let side_file = |format: &FormatSettings| format.index == super::IndexPlace::SideFile;
    if !settings.sink.cursor {
        return Ok(());
    }
    if !side_file(&settings.sink.format) {
        return Err(config("`sink.cursor` needs `sink.format.index: side_file`").hint("the cursor names the newest side file: set both, or neither"));
    }
    let other = settings.topics.0.iter().find(|(_, section)| section.format.as_ref().is_some_and(|format| !side_file(format)));
    match other {
        Some((topic, _)) => Err(config(format!("`sink.cursor` needs `topics.{topic}.format.index: side_file`"))
            .hint("the cursor names the newest side file: set it for every topic, or leave `sink.cursor` out")),
        None => Ok(()),
    }
}

fn address(text: &str) -> Result<Option<std::net::SocketAddr>> {
    if text == "off" {
        return Ok(None);
    }
    let numeric = text.replace("localhost", "127.0.0.1");
    numeric.parse().map(Some).map_err(|_| {
        config(format!("`http` is `{text}`, which is no address"))
            .hint("write an address and a port, as `127.0.0.1:9080` or `0.0.0.0:9080`, or `off`")
    })
}

/// Digest of everything that shapes files. Secrets and the way to the store are no part of it.
fn digest(settings: &Settings, url: &str) -> String {
    let sink = &settings.sink;
    let mut shape = serde_json::json!({
        "version": 1,
        "url": url,
        "topics": settings.source.topics,
        "path": sink.path,
        "timezone": sink.timezone,
        "format": sink.format,
        "roll": sink.roll,
        "bad_records": sink.bad_records,
        "cursor": sink.cursor,
        "transforms": settings.transforms,
        // As a list: the order of the sections means something.
        "overrides": settings.topics.0,
    });
    let per_topic = shape["overrides"].as_array_mut().into_iter().flatten().filter_map(|section| section.pointer_mut("/1/transforms"));
    per_topic.for_each(shape_of_transforms);
    shape_of_transforms(&mut shape["transforms"]);
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(shape.to_string().as_bytes()))
}

/// Leaves out how transforms do what they do.
fn shape_of_transforms(transforms: &mut serde_json::Value) {
    for transform in transforms.as_array_mut().into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        transform.remove("storage");
        transform.remove("downloads");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a later version might hold.
    const TOMORROW: [Need; 2] = [
        Need { key: "sink.cursor", version: 2, is_set: |settings| settings.sink.cursor },
        Need { key: "source.group", version: 3, is_set: |settings| settings.source.group.is_some() },
    ];

    fn settings(lines: &str) -> Settings {
        let text = format!("name: p\nsource: {{topics: [orders], kafka: {{bootstrap.servers: b:9092}}}}\n{lines}\n");
        super::super::load(&text, &|_| None).expect("settings").settings
    }

    #[test]
    fn a_pinned_version_of_the_ledger_refuses_what_needs_a_newer_one_at_the_start() {
        let check = |lines: &str, needs: &[Need]| check_ledger_version(&settings(lines), needs);
        let cursor = "sink: {url: s3://lake, cursor: true}";
        assert!(check(cursor, &TOMORROW).is_ok(), "without a pin the form is raised where it is needed");
        assert!(check(&format!("{cursor}\nledger: {{version: 1}}"), NEEDS).is_ok());
        let error = check(&format!("{cursor}\nledger: {{version: 1}}"), &TOMORROW).expect_err("a refusal");
        assert_eq!((error.kind(), error.to_string()), (Kind::Config, "`ledger.version` is `1`, and `sink.cursor` needs version 2".to_owned()));
        assert!(error.way_out().is_some_and(|hint| hint.contains("raise `ledger.version` to `2`") && hint.contains("leave out `sink.cursor`")));
        assert!(check("sink: {url: s3://lake}\nledger: {version: 1}", &TOMORROW).is_ok());
    }

    #[test]
    fn a_version_of_the_ledger_that_this_kas3_does_not_know_is_refused() {
        for version in [0, VERSION + 1] {
            let error = validate(settings(&format!("sink: {{url: s3://lake}}\nledger: {{version: {version}}}"))).expect_err("a refusal");
            assert!(error.kind() == Kind::Config && error.to_string().contains(&format!("`ledger.version` is `{version}`")), "{error}");
        }
    }
}
