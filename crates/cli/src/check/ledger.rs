//! What the ledger knows, and what `run` would do with each partition: the same looks, without the writing.

use super::{
    answers::{Answer, Asking},
    kafka::Found,
};
use crate::{inspect::NoKafka, readable};
use futures::{StreamExt, stream};
use kas3_sink::{
    Error,
    ledger::{Ledger, LedgerObserver, LedgerParts, NothingRemade, Rehearsed},
    plan::{Pipeline, Start},
    source::{Log, kafka::KafkaLog},
    span::TopicPartition,
    stops,
};
use kas3_store::Store;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Partitions that are rehearsed at once.
const AT_ONCE: usize = 128;
/// Warnings of the ledger that are shown.
const WARNINGS_MAX: usize = 5;

/// Keeps what the ledger warns of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl LedgerObserver for Warnings {
    fn warning(&self, of: &TopicPartition, text: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("`{of}`: {text}"));
    }
}

/// Opens every partition without writing, where the stores can be used; without Kafka, only looks what is there.
pub(super) async fn rehearsed(
    asking: &Asking,
    pipeline: &Arc<Pipeline>,
    log: Option<&Arc<KafkaLog>>,
    stores: Option<(Store, Store)>,
    found: &Found,
) -> Vec<Answer> {
    let Some((sink, ledger)) = stores else { return found.missing.iter().map(|(_, error)| Answer::error("topics", error)).collect() };
    let warnings = Arc::new(Warnings::default());
    let parts = LedgerParts {
        pipeline: Arc::clone(pipeline),
        sink,
        ledger,
        log: log.map_or(Arc::new(NoKafka) as Arc<dyn Log>, |log| Arc::clone(log) as Arc<dyn Log>),
        remaker: Arc::new(NothingRemade),
        observer: Arc::clone(&warnings) as Arc<dyn LedgerObserver>,
    };
    let ledger = Ledger::rehearsal(parts);
    let mut answers = match asking.ask("ledger", "the ledger", known(&ledger, found)).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(error)) => vec![Answer::error("ledger", &error)],
        Err(answer) => return vec![answer],
    };
    match asking.ask("start", "the ledger or Kafka", topics(pipeline, &ledger, found)).await {
        Ok(more) => answers.extend(more),
        Err(answer) => answers.push(answer),
    }
    let warned = std::mem::take(&mut *warnings.0.lock().unwrap_or_else(PoisonError::into_inner));
    if warned.len() > WARNINGS_MAX {
        answers.push(Answer::warning("ledger", format!("and {} more warnings of the ledger", warned.len() - WARNINGS_MAX)));
    }
    answers.extend(warned.into_iter().take(WARNINGS_MAX).map(|text| Answer::warning("ledger", text)));
    answers
}

async fn known(ledger: &Ledger, found: &Found) -> kas3_sink::Result<Vec<Answer>> {
    let heads = ledger.heads().await?;
    let mut answers = vec![match heads.len() {
        0 => Answer::ok("ledger", "the ledger knows no partition yet"),
        count => Answer::ok("ledger", format!("the ledger knows {}", readable::count(count as u64, "partition"))),
    }];
    answers.extend(ledger.other_topics().await?.map(|text| Answer::warning("ledger", text)));
    for (topic, error) in &found.missing {
        answers.push(match heads.iter().find(|head| head.topic == *topic) {
            Some(head) => Answer::error("topics", &stops::gone(&head.of())).about("the other topics go on"),
            None => Answer::error("topics", error),
        });
    }
    Ok(answers)
}

async fn topics(pipeline: &Pipeline, ledger: &Arc<Ledger>, found: &Found) -> Vec<Answer> {
    let mut partitions = Vec::new();
    for (topic, bounds) in &found.topics {
        for (partition, (_, end)) in (0..).zip(bounds) {
            partitions.push((TopicPartition::new(topic.as_str(), partition), *end));
        }
    }
    // a loop, not a closure: of a closure's future the compiler cannot show that it may move between threads
    let mut rehearsals = Vec::with_capacity(partitions.len());
    for (of, _) in &partitions {
        rehearsals.push(ledger.rehearse(of));
    }
    let outcomes: Vec<_> = stream::iter(rehearsals).buffered(AT_ONCE).collect().await;
    let mut topics: BTreeMap<&str, Topic> = BTreeMap::new();
    for ((of, end), outcome) in partitions.iter().zip(outcomes) {
        topics.entry(&of.topic).or_default().take_in(of, *end, outcome);
    }
    topics.into_iter().flat_map(|(name, topic)| topic.answers(name, &pipeline.start)).collect()
}

/// What became of the partitions of one topic.
#[derive(Default)]
struct Topic {
    known: u64,
    behind: i64,
    pending: u64,
    new: u64,
    /// What stops partitions, each with how many it stops and the first of the errors.
    errors: BTreeMap<String, (u64, Option<Error>)>,
}

impl Topic {
    fn take_in(&mut self, of: &TopicPartition, end: i64, outcome: kas3_sink::Result<Rehearsed>) {
        match outcome {
            Ok(Rehearsed { is_new: true, .. }) => self.new += 1,
            Ok(Rehearsed { next, pending, .. }) => {
                self.known += 1;
                self.behind += (end - next).max(0);
                self.pending += u64::from(pending);
            }
            Err(error) => {
                // the same of another partition differs in its name and in numbers alone
                let chain = error.chain();
                let what = chain.split_once(" stops: ").map_or(chain.as_str(), |(_, what)| what);
                let kind: String = what.replace(&of.to_string(), "").chars().filter(|character| !character.is_ascii_digit()).collect();
                let (count, first) = self.errors.entry(kind).or_default();
                *count += 1;
                first.get_or_insert(error);
            }
        }
    }

    fn answers(self, name: &str, start: &Start) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (count, first) in self.errors.into_values() {
            let Some(error) = first else { continue };
            let answer = Answer::error("start", &error);
            answers.push(if count > 1 {
                answer.about(&format!("{} of topic `{name}`, of which the first", readable::count(count, "partition")))
            } else {
                answer
            });
        }
        if self.known > 0 {
            let (count, behind) = (readable::count(self.known, "partition"), readable::number(self.behind));
            answers.push(Answer::ok("start", format!("topic `{name}` goes on where the ledger is: {count}, {behind} offsets behind")));
        }
        if self.pending > 0 {
            let count = readable::count(self.pending, "partition");
            answers.push(Answer::ok("start", format!("topic `{name}`: what is committed and not visible yet is published first, of {count}")));
        }
        if self.new > 0 {
            let from = if self.known == 0 { begins(start) } else { "their beginning, as partitions that appeared later".to_owned() };
            answers.push(Answer::ok("start", format!("topic `{name}` begins at {from}: {}", readable::count(self.new, "new partition"))));
        }
        answers
    }
}

fn begins(start: &Start) -> String {
    match start {
        Start::Earliest => "the first record that Kafka has".to_owned(),
        Start::Latest => "what is produced from the first run on".to_owned(),
        Start::Timestamp(time) => format!("the first record at or after {time}"),
        Start::Group(group) => format!("the offsets of consumer group `{group}`"),
    }
}
