//! Who is in the pipeline's consumer group: its own workers, and strangers, whose partitions it does not get. A stranger is known by
//! its `client.id`: kas3 gives the pipeline's name to its own.

use super::{
    client::{OF_KAS3, client_id},
    native::{Described, Member},
};
use crate::{plan::Pipeline, span::TopicPartition};
use std::{collections::BTreeSet, fmt};

/// The `client.id` of versions that did not name the pipeline: whose such a member is cannot be told.
const NAMELESS: &str = "kas3";

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
            let other = member.client_id.strip_prefix(OF_KAS3).is_some_and(|name| name != pipeline.name);
            member.client_id != ours && member.client_id != NAMELESS && (told || other)
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
                parts.push(format!("{} belong to {}, which is no worker of this pipeline", listed(his.into_iter()), stranger.who()));
            }
        }
        let (ours, nobodys): (Vec<_>, Vec<_>) = rest.into_iter().partition(|of| self.ours.contains(of));
        if !ours.is_empty() {
            parts.push(format!("{} belong to other workers of this pipeline", listed(ours.into_iter())));
        }
        if !nobodys.is_empty() {
            let why = if self.at_rest { "" } else { ", because the group rebalances" };
            parts.push(format!("{} belong to nobody yet{why}", listed(nobodys.into_iter())));
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

/// Partitions, the first few of many.
fn listed<'a>(partitions: impl ExactSizeIterator<Item = &'a TopicPartition>) -> String {
    const SHOWN: usize = 4;
    let more = partitions.len().saturating_sub(SHOWN);
    let shown = partitions.take(SHOWN).map(|of| format!("`{of}`")).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
