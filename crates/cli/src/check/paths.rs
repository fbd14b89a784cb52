//! Where files will lie, by a few real records, and when they are closed.

use super::{
    answers::{Answer, Asking},
    kafka::Found,
};
use crate::readable;
use jiff::Timestamp;
use kas3_sink::{
    Error,
    path::{Doubt, NameContext, PathCache},
    plan::{Pipeline, RollPlan, TopicPlan},
    record::OwnedRecord,
    refused::BadRecords,
    row::Row,
    topics::TopicPattern,
};
use kas3_store::Unobserved;
use std::{collections::BTreeSet, sync::Arc};

/// Topics whose files are shown.
const TOPICS_MAX: usize = 10;
/// Records of a topic whose payloads are fetched: each may be large.
const FETCHED_MAX: usize = 3;

/// The paths of all topics, and what is doubtful about them.
pub(super) async fn all(asking: &Asking, pipeline: &Pipeline, found: &Found) -> Vec<Answer> {
    let mut answers: Vec<Answer> = pipeline.doubts().into_iter().map(|(key, doubt)| doubted(&format!("`{key}`"), doubt)).collect();
    let literal = pipeline.topics.iter().filter_map(|pattern| match pattern {
        TopicPattern::Name(name) => Some(name.clone()),
        TopicPattern::Expression(_) => None,
    });
    let topics: BTreeSet<String> = found.topics.keys().cloned().chain(literal).collect();
    let mut roll = None;
    for topic in topics.iter().take(TOPICS_MAX) {
        let plan = pipeline.plan(topic);
        let read = found.records.get(topic).map_or(&[][..], Vec::as_slice);
        let (more, records) = match asking.ask("paths", "the store of the payloads", fetched(topic, plan, read)).await {
            Ok(fetched) => fetched,
            Err(answer) => (vec![answer], Vec::new()),
        };
        answers.extend(more);
        answers.extend(named(pipeline, topic, plan, &records));
        if roll.as_ref() != Some(&plan.roll) {
            answers.push(Answer::ok("paths", format!("closed at {}", rolls(&plan.roll))));
            roll = Some(plan.roll.clone());
        }
    }
    answers
}

fn doubted(about: &str, doubt: Doubt) -> Answer {
    Answer::warning("paths", format!("{about}: {}", doubt.what)).fix(doubt.fix)
}

/// Records with all that is fetched for them.
async fn fetched(topic: &str, plan: &TopicPlan, read: &[OwnedRecord]) -> (Vec<Answer>, Vec<OwnedRecord>) {
    if plan.transforms.is_empty() {
        return (Vec::new(), read.to_vec());
    }
    let (mut answers, mut records) = (Vec::new(), Vec::new());
    for record in read.iter().rev().take(FETCHED_MAX) {
        match plan.transforms.fetched(record.clone(), Arc::new(Unobserved)).await {
            Ok(record) => records.push(record),
            Err(error) => {
                let place = format!("record {} of `{topic}-{}`", record.offset, record.partition);
                answers.push(Answer::warning("paths", format!("{place} cannot be had: {}", error.chain())));
            }
        }
    }
    (answers, records)
}

/// Where the files of a topic lie, by the newest record, or by one that could be.
fn named(pipeline: &Pipeline, topic: &str, plan: &TopicPlan, records: &[OwnedRecord]) -> Vec<Answer> {
    let context = NameContext { now: Timestamp::now(), incarnation: 0, extension: format!(".{}", plan.format.extension()) };
    let place = |record: &OwnedRecord| {
        let mut cache = PathCache::default();
        let group = plan.path.group(&Row::of(record.borrow()), &context, &mut cache)?;
        Ok::<_, Error>(format!("files like {}/{}", pipeline.url, plan.path.name(group, record.offset, &context)))
    };
    let made = OwnedRecord {
        topic: topic.to_owned(),
        timestamp_ms: Some(Timestamp::now().as_millisecond()),
        key: Some(b"key".to_vec()),
        value: Some(b"{}".to_vec()),
        ..OwnedRecord::default()
    };
    let outcomes: Vec<_> = records.iter().map(place).collect();
    let mut answers = Vec::new();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let good = outcomes.iter().rev().find_map(|outcome| outcome.as_ref().ok());
    match good.cloned().map_or_else(|| place(&made), Ok) {
        Ok(text) => answers.push(Answer::ok("paths", text)),
        Err(error) => answers.push(Answer::error("paths", &error)),
    }
    if let Some((record, Err(error))) = records.iter().zip(&outcomes).find(|(_, outcome)| outcome.is_err()) {
        let of = format!(
            "{refused} of the newest {} records of topic `{topic}` do not fit the path, as {} of `{topic}-{}`",
            records.len(),
            record.offset,
            record.partition
        );
        answers.push(match plan.bad_records {
            BadRecords::Stop => {
                Answer::error("paths", error).about(&format!("{of}, and the first that is read stops its partition (`bad_records: stop`)"))
            }
            BadRecords::Skip => Answer::warning("paths", format!("{of}, and are passed over: {}", error.chain())),
        });
    }
    answers.extend(plan.path.unfilled(records).into_iter().map(|doubt| doubted(&format!("topic `{topic}`"), doubt)));
    answers
}

fn rolls(roll: &RollPlan) -> String {
    let mut rules = vec![
        readable::bytes(roll.bytes),
        readable::count(roll.records, "record"),
        format!("{} after their first record", readable::duration(roll.age)),
    ];
    rules.extend(roll.idle.map(|idle| format!("{} without a record", readable::duration(idle))));
    rules.extend(roll.clock.map(|clock| format!("every full {}", readable::duration(clock))));
    format!("{}, whichever comes first", rules.join(", "))
}
