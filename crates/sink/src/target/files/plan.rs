//! From the settings of a sink of files to its plan: every template parsed, every contradiction refused.

use super::{FilesSettings, Settle};
use crate::{
    error::{Error, Mistakes, Result},
    format::{Format, FormatSettings},
    path::{Limits, PathTemplate, TemplateOptions, check_disjoint},
    plan::TopicPlan,
    suggest::nearest,
    target::{Configured, Given, SinkPlan, TopicSettings, chain, roll},
    topics::TopicPattern,
    urls::{check_storage, check_url},
};
use jiff::tz::TimeZone;
use kas3_store::StorageSettings;
use serde_json::{Value as Json, json};
use std::{sync::Arc, time::Duration};

/// The least time that counts as quiet.
const QUIET_LEAST: Duration = Duration::from_secs(5);
/// Where the storage settings of the sink stand.
const STORAGE_KEY: &str = "sink.storage";

impl Configured for FilesSettings {
    fn plan(&self, given: &Given<'_>) -> Result<SinkPlan, Mistakes> {
        let mut mistakes = Mistakes::default();
        let url = mistakes.take(check_url("sink.url", &self.url));
        let ledger_url = given.ledger_url.map_or_else(|| url.clone(), |ledger| mistakes.take(check_url("ledger.url", ledger)));
        let urls: Vec<String> = url.iter().chain(&ledger_url).cloned().collect();
        mistakes.take(check_storage(STORAGE_KEY, &self.storage, &urls));
        let timezone = mistakes.take(timezone(&self.timezone));
        // Templates and formats are looked at whatever is wrong with the rest.
        let (below, zone) = (url.clone().unwrap_or_default(), timezone.clone().unwrap_or(TimeZone::UTC));
        let default = default_plan(self, given, &below, &zone, &mut mistakes).map(Arc::new);
        let overrides = override_plans(self, given, default.as_deref(), &below, &zone, &mut mistakes);
        let (Some(default), Some(overrides)) = (default, overrides) else { return Err(mistakes) };
        mistakes.take(check_names(given.topics, &default, &overrides));
        mistakes.take(check_cursor(self.cursor, &default, &overrides));
        let (Some(url), Some(ledger_url), Some(timezone), true) = (url, ledger_url, timezone, mistakes.is_empty()) else { return Err(mistakes) };
        Ok(SinkPlan {
            storage: self.storage.clone(),
            timezone,
            settle: match self.settle {
                Some(Settle::Next) => None,
                Some(Settle::After(period)) => Some(period.0),
                None => Some(quiet(&default, &overrides)),
            },
            amend_after: self.amend_after.0,
            default,
            overrides,
            cursor: self.cursor,
            shape: json!({
                "url": url,
                "path": self.path,
                "timezone": self.timezone,
                "format": self.format,
                "roll": self.roll,
                "bad_records": self.bad_records,
                "cursor": self.cursor,
            }),
            url,
            ledger_url,
        })
    }

    fn json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn storage(&self) -> &StorageSettings {
        &self.storage
    }
}

/// How long nothing must follow until a span is settled by a swap of its own: long enough that a partition which goes on never needs
/// one. What is read is committed within `roll.age`.
fn quiet(default: &TopicPlan, overrides: &[(TopicPattern, Arc<TopicPlan>)]) -> Duration {
    let ages = std::iter::once(default.roll.age).chain(overrides.iter().map(|(_, plan)| plan.roll.age));
    ages.max().unwrap_or_default().saturating_mul(2).max(QUIET_LEAST)
}

fn timezone(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        Error::config(format!("`sink.timezone` is `{name}`, which is no timezone"))
            .hint("write a name of the IANA database, as `UTC` or `Europe/Berlin`")
    })
}

fn default_plan(sink: &FilesSettings, given: &Given<'_>, url: &str, timezone: &TimeZone, mistakes: &mut Mistakes) -> Option<TopicPlan> {
    let options =
        TemplateOptions { timezone: timezone.clone(), single_topic: matches!(given.topics, [TopicPattern::Name(_)]), limits: Limits::below(url) };
    let path = mistakes.take(path("sink.path", &sink.path, &options));
    let format = mistakes.take(build_format("sink.format", &sink.format));
    let roll = roll("sink.roll", &sink.roll, mistakes);
    let transforms = chain("transforms", given.transforms, (STORAGE_KEY, &sink.storage), mistakes);
    Some(TopicPlan { path: path?, format: format?, roll, bad_records: sink.bad_records, transforms: transforms? })
}

/// The plans of topics with sections of their own; `default` is missing when something in it cannot be, which was told.
fn override_plans(
    sink: &FilesSettings,
    given: &Given<'_>,
    default: Option<&TopicPlan>,
    url: &str,
    timezone: &TimeZone,
    mistakes: &mut Mistakes,
) -> Option<Vec<(TopicPattern, Arc<TopicPlan>)>> {
    let single = matches!(given.topics, [TopicPattern::Name(_)]);
    let mut plans = Vec::new();
    for (topic, section) in given.sections {
        let Some(pattern) = mistakes.take(TopicPattern::parse("topics", topic)) else {
            plans.push(None);
            continue;
        };
        let key = format!("topics.{topic}");
        mistakes.take(check_reach(given.topics, &pattern, topic));
        // A section of its own for one literal topic need not name it, but one inherited from all topics must.
        let own_topic = section.path.is_some() && matches!(pattern, TopicPattern::Name(_));
        let options = TemplateOptions { timezone: timezone.clone(), single_topic: single || own_topic, limits: Limits::below(url) };
        plans.push(override_plan(sink, (&key, section), default, &options, mistakes).map(|plan| (pattern, Arc::new(plan))));
    }
    plans.into_iter().collect()
}

/// The plan of one section; what it does not name is as in the default.
fn override_plan(
    sink: &FilesSettings,
    (key, section): (&str, &TopicSettings),
    default: Option<&TopicPlan>,
    options: &TemplateOptions,
    mistakes: &mut Mistakes,
) -> Option<TopicPlan> {
    let TopicSettings { path: own_path, format: own_format, roll: own_roll, bad_records, transforms: own_transforms } = section;
    let path = match own_path {
        Some(own) => mistakes.take(path(&format!("{key}.path"), own, options)),
        // it is read again, because a template need not name the one topic of its section
        None => default.and_then(|_| mistakes.take(path("sink.path", &sink.path, options))),
    };
    let format = match own_format {
        Some(own) => mistakes.take(build_format(&format!("{key}.format"), own)),
        None => default.map(|default| Arc::clone(&default.format)),
    };
    let roll = match own_roll {
        Some(own) => Some(roll(&format!("{key}.roll"), own, mistakes)),
        None => default.map(|default| default.roll.clone()),
    };
    let transforms = match own_transforms {
        Some(own) => chain(&format!("{key}.transforms"), own, (STORAGE_KEY, &sink.storage), mistakes),
        None => default.map(|default| Arc::clone(&default.transforms)),
    };
    Some(TopicPlan { path: path?, format: format?, roll: roll?, bad_records: bad_records.unwrap_or(sink.bad_records), transforms: transforms? })
}

/// A section for a literal topic that is not read, but for a letter or two, is a misspelling. Others may wait for their topic.
fn check_reach(topics: &[TopicPattern], pattern: &TopicPattern, written: &str) -> Result<()> {
    let TopicPattern::Name(name) = pattern else { return Ok(()) };
    if topics.iter().any(|read| read.matches(name)) {
        return Ok(());
    }
    let names: Vec<&str> = topics.iter().filter_map(|read| if let TopicPattern::Name(name) = read { Some(name.as_str()) } else { None }).collect();
    match nearest(name, &names) {
        Some(near) => Err(Error::config(format!("`topics.{written}` is a section for a topic that `source.topics` does not name"))
            .hint(format!("did you mean `topics.{near}`? or name `{written}` in `source.topics` as well"))),
        None => Ok(()),
    }
}

fn path(key: &str, text: &str, options: &TemplateOptions) -> Result<PathTemplate> {
    PathTemplate::parse(text, options).map_err(|error| {
        let hint = error.way_out().map(str::to_owned);
        let named = Error::config(format!("`{key}`: {error}"));
        match hint {
            Some(hint) => named.hint(hint),
            None => named,
        }
    })
}

/// Builds a format; `key` is where its settings stand.
fn build_format(key: &str, settings: &FormatSettings) -> Result<Arc<dyn Format>> {
    settings.settings.build(key)
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

/// The cursor names the newest side file, so every topic must have side files.
fn check_cursor(cursor: bool, default: &TopicPlan, overrides: &[(TopicPattern, Arc<TopicPlan>)]) -> Result<()> {
    if !cursor {
        return Ok(());
    }
    if !default.format.has_side_file() {
        return Err(
            Error::config("`sink.cursor` needs `sink.format.index: side_file`").hint("the cursor names the newest side file: set both, or neither")
        );
    }
    match overrides.iter().find(|(_, plan)| !plan.format.has_side_file()) {
        Some((pattern, _)) => Err(Error::config(format!("`sink.cursor` needs `topics.{}.format.index: side_file`", pattern.written()))
            .hint("the cursor names the newest side file: set it for every topic, or leave `sink.cursor` out")),
        None => Ok(()),
    }
}
