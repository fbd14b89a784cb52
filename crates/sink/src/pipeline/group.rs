//! Who else uses the pipeline's consumer group. Kafka divides the partitions among all members, whoever they are: a stranger's are
//! read by nobody of ours, so another pipeline is refused at the start, and others are named for as long as they are there.

use crate::{
    error::{Error, Kind, Result},
    ledger::Origin,
    plan::Pipeline,
    source::{
        Log,
        kafka::{Group, KafkaLog},
    },
    span::TopicPartition,
    status::Status,
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// How long a start waits for what the group's coordinator says.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(10);
/// How often the group is looked at while a pipeline runs.
const EVERY: Duration = Duration::from_secs(60);

/// The group, and the other pipelines that use it.
#[derive(Clone, Debug)]
pub struct Company {
    /// Who is in it.
    pub group: Group,
    /// Names of other pipelines: of members, and of those that reported to it.
    pub pipelines: BTreeSet<String>,
}

impl Company {
    /// Looks at the group of a pipeline that reads `topics`.
    ///
    /// # Errors
    /// `Transient` when Kafka does not say.
    pub async fn of(log: &KafkaLog, pipeline: &Pipeline, topics: &[String]) -> Result<Company> {
        let group = log.group().await?;
        let mut pipelines: BTreeSet<String> = group.strangers.iter().filter_map(|stranger| stranger.pipeline.clone()).collect();
        if !group.strangers.is_empty() {
            let mut asked = Vec::new();
            for topic in topics {
                for partition in 0..log.partitions(topic).await? {
                    asked.push(TopicPartition::new(topic.as_str(), partition));
                }
            }
            let reports = futures::future::try_join_all(asked.iter().map(|of| log.reported(of))).await?;
            let origins = reports.into_iter().flatten().filter_map(|report| Origin::parse(&report.metadata).ok()?);
            pipelines.extend(origins.map(|origin| origin.pipeline));
        }
        pipelines.remove(&pipeline.name);
        Ok(Company { group, pipelines })
    }

    /// Why the pipeline must not join: another one is there, and each would get a part of the partitions.
    pub fn refusal(&self) -> Option<Error> {
        if self.group.strangers.is_empty() || self.pipelines.is_empty() {
            return None;
        }
        let names = self.pipelines.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "consumer group `{}` is used by another pipeline, {names}, and each would get a part of the partitions: {}",
            self.group.name,
            self.strangers().join("; ")
        );
        Some(Error::new(Kind::Config, text).hint("give each pipeline a `source.group` of its own, or stop that one first"))
    }

    /// The strangers, one sentence each.
    pub fn strangers(&self) -> Vec<String> {
        self.group.strangers.iter().map(ToString::to_string).collect()
    }
}

/// Looks at the group before the pipeline joins it. A group that cannot be looked at is no reason to stay away.
///
/// # Errors
/// `Config` when another pipeline is in it.
pub(super) async fn before_joining(log: &KafkaLog, pipeline: &Pipeline, topics: &[String], status: &Status) -> Result<()> {
    match tokio::time::timeout(FIRST_LOOK_MAX, Company::of(log, pipeline, topics)).await {
        Ok(Ok(company)) => {
            if let Some(refusal) = company.refusal() {
                return Err(refusal);
            }
            status.set_strangers(&pipeline.group, &company.strangers());
        }
        Ok(Err(error)) => tracing::debug!(error = %error.chain(), "cannot look at the group now"),
        Err(_) => tracing::debug!("the group's coordinator does not say who is in it"),
    }
    Ok(())
}

/// Names strangers for as long as they are in the group. Never ends.
pub(super) async fn watch(log: Arc<KafkaLog>, group: String, status: Arc<Status>) {
    loop {
        tokio::time::sleep(EVERY).await;
        match log.group().await {
            // while it rebalances, members come and go
            Ok(found) if found.at_rest => status.set_strangers(&group, &found.strangers.iter().map(ToString::to_string).collect::<Vec<_>>()),
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %error.chain(), "cannot look at the group now"),
        }
    }
}
