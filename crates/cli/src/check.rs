//! `kas3 check`: what will happen, and what stands in the way.

use crate::{
    configuration,
    exit::Exit,
    inspect::{self, NoKafka},
    output::Results,
    readable, redact, runtime,
};
use clap::Args;
use jiff::Timestamp;
use kas3_sink::{
    Error, Kind,
    ledger::{Head, Ledger, LedgerParts, NothingRemade, Unwatched},
    path::{NameContext, PathCache},
    plan::{Pipeline, RollPlan, Start},
    record::OwnedRecord,
    row::Row,
    source::Log,
    source::kafka::KafkaLog,
    span::TopicPartition,
    stops,
    topics::TopicPattern,
    transform::Probe,
};
use kas3_store::{BucketRules, Scheme, Store, StoreUrl, Unobserved};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// Say what will happen, and what stands in the way
///
/// Reads the configuration, asks Kafka for topics, permissions and offsets, and the store for permissions, conditional writes and
/// lifecycle rules. Writes nothing but a few objects under `_kas3/<pipeline>/check`, which it deletes.
#[derive(Args, Debug)]
#[command(after_help = "\
Each line begins with ✓ (good), ! (good to know) or ✗ (stands in the way). Exits 1 when there is a ✗.")]
pub(crate) struct CheckArguments {
    /// Configuration
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn check(arguments: CheckArguments) -> anyhow::Result<Exit> {
    let pipeline = configuration::from_file(&arguments.file)?;
    runtime::block_on(async move {
        let mut findings = Findings { results: Results::new(), found: 0 };
        findings.good(&format!("configuration `{}` of pipeline `{}`", arguments.file.display(), pipeline.name))?;
        configuration::warnings(&pipeline).iter().try_for_each(|warning| findings.known(warning))?;
        let kafka = kafka(&pipeline, &mut findings).await?;
        let stores = stores(&pipeline, &mut findings).await?;
        if let Some(stores) = stores {
            ledger(&pipeline, kafka.as_ref(), stores, &mut findings).await?;
        }
        transforms(&pipeline, &mut findings).await?;
        layout(&pipeline, kafka.as_ref(), &mut findings).await?;
        let text = if findings.found == 0 {
            format!("Nothing stands in the way: kas3 run {}", arguments.file.display())
        } else {
            format!("{} in the way", readable::count(findings.found, "thing"))
        };
        findings.line(&text)?;
        findings.results.flush()?;
        Ok(if findings.found == 0 { Exit::Done } else { Exit::Found })
    })
}

struct Findings {
    results: Results,
    found: u64,
}

impl Findings {
    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.results.line(&redact::text(text))?)
    }

    fn good(&mut self, text: &str) -> anyhow::Result<()> {
        self.line(&format!("✓ {text}"))
    }

    fn known(&mut self, text: &str) -> anyhow::Result<()> {
        self.line(&format!("! {text}"))
    }

    fn bad(&mut self, error: &Error) -> anyhow::Result<()> {
        self.found += 1;
        self.line(&format!("✗ {}", error.chain()))?;
        match error.way_out() {
            Some(hint) => self.line(&format!("    {hint}")),
            None => Ok(()),
        }
    }
}

/// What Kafka has: the topics with their partitions' first offsets and ends, and a record of one of them.
struct Kafka {
    log: Arc<KafkaLog>,
    topics: BTreeMap<String, Vec<(i64, i64)>>,
    sample: Option<OwnedRecord>,
}

async fn kafka(pipeline: &Arc<Pipeline>, findings: &mut Findings) -> anyhow::Result<Option<Kafka>> {
    let log = match KafkaLog::connect(pipeline).await {
        Ok(log) => log,
        Err(error) => {
            findings.bad(&error)?;
            return Ok(None);
        }
    };
    let servers = pipeline.kafka.get("bootstrap.servers").map_or("", String::as_str);
    findings.good(&format!("Kafka at `{servers}`, cluster `{}`", log.cluster_id().await?))?;
    let mut kafka = Kafka { log: Arc::clone(&log), topics: BTreeMap::new(), sample: None };
    match log.topics().await {
        Ok(topics) if topics.is_empty() => findings.known("no topic matches `source.topics` yet; `run` waits for one")?,
        Ok(topics) => {
            for topic in topics {
                match bounds(&log, &topic).await {
                    Ok(bounds) => {
                        let offsets = bounds.iter().map(|(earliest, end)| end.saturating_sub(*earliest).max(0)).sum::<i64>();
                        findings.good(&format!(
                            "topic `{topic}`: {}, {} offsets",
                            readable::count(bounds.len() as u64, "partition"),
                            readable::number(offsets)
                        ))?;
                        configuration::too_large(pipeline, &topic, log.record_bytes_max(&topic).await)
                            .iter()
                            .try_for_each(|warning| findings.known(warning))?;
                        kafka.topics.insert(topic, bounds);
                    }
                    Err(error) => findings.bad(&error)?,
                }
            }
        }
        Err(error) => findings.bad(&error)?,
    }
    if let Some(topic) = kafka.topics.keys().next().cloned() {
        match sample(&log, &kafka.topics).await {
            Ok(None) => findings.known("the topics hold no record yet, so reading could not be tried")?,
            Ok(found) => {
                findings.good("records can be read")?;
                kafka.sample = found;
            }
            Err(error) => findings.bad(&error)?,
        }
        match log.reported(&TopicPartition::new(topic.as_str(), 0)).await {
            Ok(_) => findings.good(&format!("consumer group `{}` can be used", pipeline.group))?,
            Err(error) => findings.bad(&error)?,
        }
    }
    Ok(Some(kafka))
}

async fn bounds(log: &KafkaLog, topic: &str) -> kas3_sink::Result<Vec<(i64, i64)>> {
    let mut bounds = Vec::new();
    for partition in 0..log.partitions(topic).await? {
        bounds.push(log.bounds(&TopicPartition::new(topic, partition)).await?);
    }
    Ok(bounds)
}

/// Reads the first record of the first partition that has one.
async fn sample(log: &Arc<KafkaLog>, topics: &BTreeMap<String, Vec<(i64, i64)>>) -> kas3_sink::Result<Option<OwnedRecord>> {
    for (topic, bounds) in topics {
        for (partition, (earliest, end)) in (0..).zip(bounds.iter().copied()) {
            if earliest >= end {
                continue;
            }
            let (log, of) = (Arc::clone(log), TopicPartition::new(topic.as_str(), partition));
            let read = tokio::task::spawn_blocking(move || {
                let mut found = None;
                log.read(&of, earliest, earliest + 1, &mut |record| {
                    found.get_or_insert_with(|| OwnedRecord::from(record));
                    Ok(())
                })?;
                Ok(found)
            });
            let found: kas3_sink::Result<_> = read.await.map_err(|error| Error::new(Kind::Fatal, "read a record").source(error))?;
            if let Some(found) = found? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

async fn stores(pipeline: &Pipeline, findings: &mut Findings) -> anyhow::Result<Option<(Store, Store)>> {
    let (sink, ledger) = match inspect::stores(pipeline).await {
        Ok(stores) => stores,
        Err(error) => {
            findings.bad(&error)?;
            return Ok(None);
        }
    };
    let same = sink.url() == ledger.url();
    let mut usable = true;
    for (what, store) in [("sink", &sink), ("ledger", &ledger)].into_iter().take(if same { 1 } else { 2 }) {
        match store.check_conditions(&format!("_kas3/{}/check", pipeline.name)).await {
            Ok(()) => findings
                .good(&format!("{what} `{}`: can be written and keeps its conditions (16 creates, 16 swaps and 2 completions raced)", store.url()))?,
            Err(error) => {
                findings.bad(&Error::from(error))?;
                usable = false;
            }
        }
        match store.bucket_rules().await {
            Ok(Some(rules)) if store.scheme() == Scheme::S3 => lifecycle(pipeline, what, store, &rules, findings)?,
            Ok(None) if store.scheme() == Scheme::S3 => findings.known(&format!(
                "{what}: the store does not show lifecycle rules; with `s3:GetLifecycleConfiguration` this looks for one that deletes the ledger"
            ))?,
            Ok(_) => {}
            Err(error) => findings.known(&format!("{what}: lifecycle rules cannot be seen: {}", Error::from(error).chain()))?,
        }
    }
    Ok(usable.then_some((sink, ledger)))
}

/// Rules that delete what they should not, and the one that should be there.
fn lifecycle(pipeline: &Pipeline, what: &str, store: &Store, rules: &BucketRules, findings: &mut Findings) -> anyhow::Result<()> {
    let ledger = format!("_kas3/{}/", pipeline.name);
    for rule in rules.expiring(&ledger) {
        let text = format!("{what}: the bucket's rule `{}` deletes objects below `{ledger}`, where the ledger is", rule.id);
        findings.bad(
            &Error::new(Kind::Config, text).hint("give that rule a prefix that leaves `_kas3/` out: a ledger that expires stops its partitions"),
        )?;
    }
    for rule in rules.expiring("").filter(|rule| rule.expires_after_days.is_some_and(|days| days < 2)) {
        findings.known(&format!("{what}: the bucket's rule `{}` deletes files within two days", rule.id))?;
    }
    match rules.aborting("") {
        Some(rule) => findings.good(&format!("{what}: the bucket's rule `{}` aborts incomplete uploads", rule.id)),
        None => {
            findings.known(&format!("{what}: no rule aborts incomplete uploads, which cost money until somebody does; to add one:"))?;
            for line in abort_rule(store).lines() {
                findings.line(&format!("    {line}"))?;
            }
            Ok(())
        }
    }
}

/// The command that adds the rule for incomplete uploads.
fn abort_rule(store: &Store) -> String {
    let (bucket, prefix) = StoreUrl::parse(store.url()).map_or(("", String::new()), |url| (url.bucket(), url.prefix()));
    let rule = serde_json::json!({ "Rules": [{
        "ID": "kas3-incomplete-uploads", "Status": "Enabled", "Filter": { "Prefix": prefix }, "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 },
    }] });
    format!(
        "aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration '{rule}'\n(it replaces all rules of the bucket: keep the others in it)"
    )
}

/// What the ledger knows, and where each topic goes on.
async fn ledger(pipeline: &Arc<Pipeline>, kafka: Option<&Kafka>, stores: (Store, Store), findings: &mut Findings) -> anyhow::Result<()> {
    let (sink, ledger_store) = stores;
    let log: Arc<dyn Log> = match kafka {
        Some(kafka) => Arc::clone(&kafka.log) as Arc<dyn Log>,
        None => Arc::new(NoKafka),
    };
    let parts = LedgerParts {
        pipeline: Arc::clone(pipeline),
        sink,
        ledger: ledger_store,
        log,
        remaker: Arc::new(NothingRemade),
        observer: Arc::new(Unwatched),
    };
    let ledger = Ledger::look(parts);
    let heads = match ledger.heads().await {
        Ok(heads) => heads,
        Err(error) => return findings.bad(&error),
    };
    if heads.is_empty() {
        findings.good("the ledger is empty: this is the pipeline's first start")?;
    } else {
        findings.good(&format!("the ledger knows {}", readable::count(heads.len() as u64, "partition")))?;
    }
    let Some(kafka) = kafka else { return Ok(()) };
    for (topic, bounds) in &kafka.topics {
        let known: Vec<&Head> = heads.iter().filter(|head| head.topic == *topic).collect();
        let mut behind = 0;
        for head in &known {
            let Some((earliest, end)) = usize::try_from(head.partition).ok().and_then(|partition| bounds.get(partition)) else { continue };
            behind += (end - head.next).max(0);
            if let Some(error) = stop(&kafka.log, head, *earliest, *end).await? {
                findings.bad(&error)?;
            }
        }
        let new = bounds.len().saturating_sub(known.len());
        if !known.is_empty() {
            let behind = readable::number(behind);
            findings.good(&format!(
                "topic `{topic}` goes on where the ledger is: {}, {behind} offsets behind",
                readable::count(known.len() as u64, "partition")
            ))?;
        }
        if new > 0 {
            let start = if known.is_empty() { start(&pipeline.start) } else { "their beginning, as partitions that appeared later".to_owned() };
            findings.good(&format!("topic `{topic}` begins at {start}: {}", readable::count(new as u64, "new partition")))?;
        }
    }
    Ok(())
}

/// What would stop a partition at once.
async fn stop(log: &KafkaLog, head: &Head, earliest: i64, end: i64) -> anyhow::Result<Option<Error>> {
    let of = head.of();
    let (cluster, topic) = (log.cluster_id().await?, log.topic_id(&head.topic).await?);
    Ok(if cluster != head.cluster_id {
        Some(stops::other_cluster(&of, &head.cluster_id, &cluster))
    } else if let (Some(was), Some(is)) = (&head.topic_id, &topic)
        && was != is
    {
        Some(stops::recreated(&of, was, is))
    } else if earliest > head.next {
        Some(stops::overtaken(&of, head.next, earliest))
    } else if end < head.next {
        Some(stops::cut_back(&of, head.next, end, end))
    } else {
        None
    })
}

fn start(start: &Start) -> String {
    match start {
        Start::Earliest => "the first record that Kafka has".to_owned(),
        Start::Latest => "what is produced from the first run on".to_owned(),
        Start::Timestamp(time) => format!("the first record at or after {time}"),
        Start::Group(group) => format!("the offsets of consumer group `{group}`"),
    }
}

/// What happens to records on their way, and whether those that are asked for it answer.
async fn transforms(pipeline: &Pipeline, findings: &mut Findings) -> anyhow::Result<()> {
    for (key, chain) in pipeline.chains() {
        for about in chain.about() {
            findings.good(&format!("{key}: {about}"))?;
        }
        let opened = match chain.open(Arc::new(Unobserved)).await {
            Ok(opened) => opened,
            Err(error) => {
                findings.bad(&error)?;
                continue;
            }
        };
        for transform in opened.iter() {
            for tried in transform.probe().await {
                match tried {
                    Probe::Good(text) => findings.good(&format!("{key}: {text}"))?,
                    Probe::Known(text) => findings.known(&format!("{key}: {text}"))?,
                    Probe::Bad(error) => findings.bad(&error)?,
                }
            }
        }
    }
    Ok(())
}

/// Where files will lie, and when they are closed.
async fn layout(pipeline: &Pipeline, kafka: Option<&Kafka>, findings: &mut Findings) -> anyhow::Result<()> {
    let literal = pipeline.topics.iter().filter_map(|pattern| match pattern {
        TopicPattern::Name(name) => Some(name.clone()),
        TopicPattern::Expression(_) => None,
    });
    let topics: BTreeSet<String> = kafka.into_iter().flat_map(|kafka| kafka.topics.keys().cloned()).chain(literal).collect();
    let mut roll = None;
    for topic in topics.iter().take(LAYOUTS_MAX) {
        let plan = pipeline.plan(topic);
        let sample = kafka.and_then(|kafka| kafka.sample.as_ref()).filter(|sample| sample.topic == *topic);
        let sample = match sample {
            Some(sample) => match plan.transforms.fetched(sample.clone(), Arc::new(Unobserved)).await {
                Ok(sample) => Some(sample),
                Err(error) => {
                    findings.known(&format!("the first record of topic `{topic}` cannot be had: {}", error.chain()))?;
                    None
                }
            },
            None => None,
        };
        let record = sample.unwrap_or_else(|| OwnedRecord {
            topic: topic.clone(),
            timestamp_ms: Some(Timestamp::now().as_millisecond()),
            key: Some(b"key".to_vec()),
            value: Some(b"{}".to_vec()),
            ..OwnedRecord::default()
        });
        let context = NameContext { now: Timestamp::now(), incarnation: 0, extension: format!(".{}", plan.format.extension()) };
        let mut cache = PathCache::default();
        match plan.path.group(&Row::of(record.borrow()), &context, &mut cache) {
            Ok(group) => findings.good(&format!("files like {}/{}", pipeline.url, plan.path.name(group, record.offset, &context)))?,
            Err(error) => findings.bad(&error)?,
        }
        if roll.as_ref() != Some(&plan.roll) {
            findings.good(&format!("closed at {}", rolls(&plan.roll)))?;
            roll = Some(plan.roll.clone());
        }
    }
    Ok(())
}

/// Topics whose files are shown.
const LAYOUTS_MAX: usize = 10;

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
