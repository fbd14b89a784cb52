//! What Kafka has: the cluster, the topics, and who is in the consumer group.

use super::{
    QUESTION_MAX,
    answers::{Answer, Asking},
};
use crate::{configuration, readable};
use kas3_sink::{
    Error,
    pipeline::Company,
    plan::Pipeline,
    record::OwnedRecord,
    source::{Log, kafka::KafkaLog},
    span::TopicPartition,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Added for what comes around a question to Kafka.
const AROUND: Duration = Duration::from_secs(2);

/// The topics with their partitions' first offsets and ends, and what of them is not there.
#[derive(Default)]
pub(super) struct Found {
    pub(super) topics: BTreeMap<String, Vec<(i64, i64)>>,
    /// Literal names that do not exist, each with what the broker said.
    pub(super) missing: Vec<(String, Error)>,
    /// A few records of some of them.
    pub(super) records: BTreeMap<String, Vec<OwnedRecord>>,
}

/// Connects.
pub(super) async fn connect(asking: &Asking, pipeline: &Arc<Pipeline>) -> (Vec<Answer>, Option<Arc<KafkaLog>>) {
    // the client's own time comes first: it knows what it saw last
    let connected = asking.ask("kafka", "Kafka", KafkaLog::connect_within(pipeline, QUESTION_MAX - AROUND)).await;
    match connected {
        Ok(Ok(log)) => {
            let servers = pipeline.kafka.get("bootstrap.servers").map_or("", String::as_str);
            let cluster = log.cluster_id().await.unwrap_or_default();
            (vec![Answer::ok("kafka", format!("Kafka at `{servers}`, cluster `{cluster}`"))], Some(log))
        }
        Ok(Err(error)) => (vec![Answer::error("kafka", &error)], None),
        Err(answer) => (vec![answer], None),
    }
}

/// Which topics there are.
pub(super) async fn topics(asking: &Asking, pipeline: &Pipeline, log: &KafkaLog) -> (Vec<Answer>, Found) {
    let mut found = Found::default();
    let asked = asking.ask("topics", "Kafka", async {
        let topics = log.topics().await?;
        let mut bounded = Vec::new();
        for topic in topics.found {
            let bounds = bounds(log, &topic).await;
            let largest = log.record_bytes_max(&topic).await;
            bounded.push((topic, bounds, largest));
        }
        Ok::<_, Error>((bounded, topics.missing))
    });
    let (bounded, missing) = match asked.await {
        Ok(Ok(topics)) => topics,
        Ok(Err(error)) => return (vec![Answer::error("topics", &error)], found),
        Err(answer) => return (vec![answer], found),
    };
    let mut answers = Vec::new();
    if bounded.is_empty() && missing.is_empty() {
        answers.push(Answer::warning("topics", "no topic matches `source.topics` yet; `run` waits for one"));
    }
    for (topic, bounds, largest) in bounded {
        match bounds {
            Ok(bounds) => {
                let offsets = bounds.iter().map(|(earliest, end)| end.saturating_sub(*earliest).max(0)).sum::<i64>();
                let partitions = readable::count(bounds.len() as u64, "partition");
                answers.push(Answer::ok("topics", format!("topic `{topic}`: {partitions}, {} offsets", readable::number(offsets))));
                let large = configuration::too_large(pipeline, &topic, largest);
                answers.extend(large.map(|warning| Answer::warning("topics", warning)));
                found.topics.insert(topic, bounds);
            }
            Err(error) => answers.push(Answer::error("topics", &error)),
        }
    }
    found.missing = missing;
    (answers, found)
}

async fn bounds(log: &KafkaLog, topic: &str) -> kas3_sink::Result<Vec<(i64, i64)>> {
    let mut partitions = Vec::new();
    for partition in 0..log.partitions(topic).await? {
        partitions.push(TopicPartition::new(topic, partition));
    }
    futures::future::try_join_all(partitions.iter().map(|of| log.bounds(of))).await
}

/// Whether the group can be used, and who is in it.
pub(super) async fn group(asking: &Asking, pipeline: &Pipeline, log: &KafkaLog, found: &Found) -> Vec<Answer> {
    let Some(topic) = found.topics.keys().next() else { return Vec::new() };
    let topics: Vec<String> = found.topics.keys().cloned().collect();
    let asked = asking.ask("group", "the consumer group's coordinator", async {
        log.reported(&TopicPartition::new(topic.as_str(), 0)).await?;
        Ok::<_, Error>(Company::of(log, pipeline, &topics).await)
    });
    let company = match asked.await {
        Ok(Ok(company)) => company,
        Ok(Err(error)) => return vec![Answer::error("group", &error)],
        Err(answer) => return vec![answer],
    };
    let group = &pipeline.group;
    let mut answers = vec![Answer::ok("group", format!("consumer group `{group}` can be used"))];
    match company {
        Ok(company) => match (company.refusal(), company.group.workers) {
            (Some(refusal), _) => answers.push(Answer::error("group", &refusal)),
            (None, 0) if company.group.strangers.is_empty() => {}
            (None, workers) => {
                answers.push(Answer::ok("group", format!("{} of this pipeline in it now", readable::count(workers as u64, "worker"))));
                answers.extend(company.strangers().into_iter().map(|stranger| {
                    Answer::warning(
                        "group",
                        format!("a member of group `{group}` is no worker of this pipeline, and its partitions are not read: {stranger}"),
                    )
                    .fix("end that member, or give the pipeline a `source.group` of its own")
                }));
            }
        },
        Err(error) => answers.push(Answer::warning("group", format!("who is in group `{group}` cannot be seen: {}", error.chain()))),
    }
    answers
}
