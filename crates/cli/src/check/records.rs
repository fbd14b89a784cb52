//! A few real records, by which reading is tried, and paths are.

use super::{
    answers::{Answer, Asking},
    kafka::Found,
};
use kas3_sink::{
    Error, Kind,
    record::OwnedRecord,
    source::{Log, kafka::KafkaLog},
    span::TopicPartition,
};
use std::{collections::BTreeMap, sync::Arc};

/// Topics of which records are read.
const TOPICS_MAX: usize = 5;
/// The newest offsets of a partition that are read.
const OFFSETS: i64 = 20;

/// Reads the newest records of one partition of a few topics.
pub(super) async fn read(asking: &Asking, log: &Arc<KafkaLog>, found: &Found) -> (Vec<Answer>, BTreeMap<String, Vec<OwnedRecord>>) {
    let mut places = Vec::new();
    for (topic, bounds) in &found.topics {
        let longest = (0..).zip(bounds).max_by_key(|(_, (earliest, end))| end - earliest);
        if let Some((partition, (earliest, end))) = longest.filter(|(_, (earliest, end))| earliest < end) {
            places.push((TopicPartition::new(topic.as_str(), partition), *earliest, *end));
        }
    }
    if places.is_empty() {
        let nothing = Answer::warning("records", "the topics hold no record yet, so reading could not be tried");
        return (if found.topics.is_empty() { Vec::new() } else { vec![nothing] }, BTreeMap::new());
    }
    places.truncate(TOPICS_MAX);
    let reads = places.iter().map(|(of, earliest, end)| newest(log, of, *earliest, *end));
    let read = match asking.ask("records", "Kafka", futures::future::join_all(reads)).await {
        Ok(read) => read,
        Err(answer) => return (vec![answer], BTreeMap::new()),
    };
    let (mut answers, mut records, mut errors) = (Vec::new(), BTreeMap::new(), Vec::new());
    for ((of, ..), read) in places.iter().zip(read) {
        match read {
            Ok(read) => _ = records.insert(of.topic.to_string(), read),
            Err(error) => errors.push(Answer::error("records", &error)),
        }
    }
    if records.values().any(|records| !records.is_empty()) {
        answers.push(Answer::ok("records", "records can be read"));
    } else if errors.is_empty() {
        answers.push(Answer::warning(
            "records",
            "the newest offsets hold no record that can be read, as behind an open transaction, so reading could not be tried",
        ));
    }
    answers.extend(errors);
    (answers, records)
}

async fn newest(log: &Arc<KafkaLog>, of: &TopicPartition, earliest: i64, end: i64) -> kas3_sink::Result<Vec<OwnedRecord>> {
    let (log, of) = (Arc::clone(log), of.clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        log.read(&of, earliest.max(end - OFFSETS), end, &mut |record| {
            found.push(OwnedRecord::from(record));
            Ok(())
        })?;
        Ok(found)
    });
    read.await.map_err(|error| Error::new(Kind::Fatal, "read a record").source(error))?
}
