//! Who is in the pipeline's consumer group: its own workers, and strangers, whose partitions it does not get. A stranger is known by
//! its `client.id`: kas3 gives the pipeline's name to its own.

use super::{
    client::{OF_KAS3, client_id},
    native::{Described, Member},
};
use crate::{plan::Pipeline, span::TopicPartition};
use std::{collections::BTreeSet, fmt};

/// The group of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// It does not rebalance, and has members.
    pub at_rest: bool,
    /// Members that may be workers of the pipeline.
    pub workers: usize,
    /// Members that are not.
    pub strangers: Vec<Stranger>,
    /// What the workers have.
    ours: BTreeSet<TopicPartition>,
}

/// A member of the group that is no worker of the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stranger {
    /// Its `client.id`.
    pub client_id: String,
    /// Where it is, as `/10.0.0.7`.
    pub host: String,
    /// The pipeline that it works for, where its `client.id` says so.
    pub pipeline: Option<String>,
    /// What the group gave to it.
    pub partitions: Vec<TopicPartition>,
}

impl Group {
    pub(super) fn new(pipeline: &Pipeline, described: Described) -> Group {
        let ours = pipeline.kafka.get("client.id").cloned().unwrap_or_else(|| client_id(&pipeline.name));
        // an id of the user's may be another one in each process
        let told = !pipeline.kafka.contains_key("client.id");
        let is_stranger = |member: &Member| {
            // nor does an id that begins as kas3's own tell whose another one is
            let other = (told || !ours.starts_with(OF_KAS3)) && member.client_id.strip_prefix(OF_KAS3).is_some_and(|name| name != pipeline.name);
            member.client_id != ours && (told || other)
        };
        let (strangers, workers): (Vec<Member>, Vec<Member>) = described.members.into_iter().partition(is_stranger);
        let mut strangers: Vec<Stranger> = strangers
            .into_iter()
            .map(|Member { client_id, host, mut partitions, .. }| {
                partitions.sort();
                Stranger { pipeline: client_id.strip_prefix(OF_KAS3).map(str::to_owned), client_id, host, partitions }
            })
            .collect();
        strangers.sort();
        Group {
            name: pipeline.group.clone(),
            at_rest: described.at_rest,
            workers: workers.len(),
            strangers,
            ours: workers.into_iter().flat_map(|member| member.partitions).collect(),
        }
    }

    /// Who has each of these partitions, in words.
    pub fn owners_of(&self, partitions: &[TopicPartition]) -> String {
        let mut parts = Vec::new();
        let mut rest: Vec<&TopicPartition> = partitions.iter().collect();
        for stranger in &self.strangers {
            let (his, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|of| stranger.partitions.contains(of));
            rest = others;
            if !his.is_empty() {
                parts.push(format!("{}to {}, which is no worker of this pipeline", belong(&his), stranger.who()));
            }
        }
        let (ours, nobodys): (Vec<_>, Vec<_>) = rest.into_iter().partition(|of| self.ours.contains(of));
        if !ours.is_empty() {
            parts.push(format!("{}to other workers of this pipeline", belong(&ours)));
        }
        if !nobodys.is_empty() {
            let why = if self.at_rest { "" } else { ", because the group rebalances" };
            parts.push(format!("{}to nobody yet{why}", belong(&nobodys)));
        }
        parts.join("; ")
    }
}

impl Stranger {
    /// Who it is.
    pub fn who(&self) -> String {
        let of = self.pipeline.as_ref().map_or_else(String::new, |pipeline| format!(" of pipeline `{pipeline}`"));
        format!("client `{}`{of} at `{}`", self.client_id, self.host)
    }
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partitions.is_empty() {
            true => write!(f, "{} has no partition", self.who()),
            false => write!(f, "{} has {}", self.who(), listed(self.partitions.iter())),
        }
    }
}

fn belong(partitions: &[&TopicPartition]) -> String {
    format!("{} {} ", listed(partitions.iter().copied()), if partitions.len() == 1 { "belongs" } else { "belong" })
}

/// Partitions, the first few of many.
fn listed<'a>(partitions: impl ExactSizeIterator<Item = &'a TopicPartition>) -> String {
    const SHOWN: usize = 4;
    let more = partitions.len().saturating_sub(SHOWN);
    let shown = partitions.take(SHOWN).map(|of| format!("`{of}`")).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn pipeline(kafka: &str) -> Pipeline {
        let text = format!("name: lake\nsource: {{topics: [t], kafka: {{bootstrap.servers: b{kafka}}}}}\nsink: {{url: s3://lake}}");
        config::load(&text, &|_| None).unwrap().pipeline().unwrap()
    }

    fn member(client_id: &str, partitions: &[i32]) -> Member {
        let partitions = partitions.iter().map(|partition| TopicPartition::new("t", *partition)).collect();
        Member { client_id: client_id.to_owned(), host: "/10.0.0.7".to_owned(), partitions, ..Member::default() }
    }

    fn strangers(kafka: &str) -> Vec<String> {
        let members =
            [member("kas3-lake", &[0]), member("kas3-lake", &[1]), member("kas3-other", &[3, 2]), member("reports", &[]), member("mine", &[])];
        let group = Group::new(&pipeline(kafka), Described { at_rest: true, members: members.to_vec() });
        assert_eq!(group.workers + group.strangers.len(), 5);
        group.strangers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn members_of_other_pipelines_and_other_clients_are_strangers() {
        let other = "client `kas3-other` of pipeline `other` at `/10.0.0.7` has `t-2`, `t-3`";
        assert_eq!(strangers(""), [other, "client `mine` at `/10.0.0.7` has no partition", "client `reports` at `/10.0.0.7` has no partition"]);
        assert_eq!(strangers(", client.id: mine"), [other], "with an id of the user's, each worker may have another one");
    }

    #[test]
    fn who_has_a_partition_is_said_for_each() {
        let members = vec![member("kas3-lake", &[0]), member("reports", &[1])];
        let group = Group::new(&pipeline(""), Described { at_rest: false, members });
        let asked: Vec<TopicPartition> = (0..3).map(|partition| TopicPartition::new("t", partition)).collect();
        assert_eq!(
            group.owners_of(&asked),
            "`t-1` belongs to client `reports` at `/10.0.0.7`, which is no worker of this pipeline; \
             `t-0` belongs to other workers of this pipeline; `t-2` belongs to nobody yet, because the group rebalances"
        );
    }
}
