//! A target: files and positions in memory. Both change together, under one lock, so that each record is in it once.

use async_trait::async_trait;
use kas3_sink::{
    Error, Kind, Result,
    lane::BeginUpload,
    ledger::{Body, ClosedSpan},
    report::Report,
    span::{Position, TopicPartition},
    target::{OpenPartition, Progress, Target},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

#[derive(Default)]
struct State {
    text: String,
    positions: BTreeMap<TopicPartition, i64>,
}

/// All partitions.
#[derive(Clone, Default)]
pub(super) struct InMemory(Arc<Mutex<State>>);

impl InMemory {
    pub(super) fn text(&self) -> String {
        self.0.lock().unwrap().text.clone()
    }
    pub(super) fn next(&self, of: &TopicPartition) -> i64 {
        self.0.lock().unwrap().positions.get(of).copied().unwrap_or(0)
    }
}

/// One partition that a lane works on.
struct Open {
    of: TopicPartition,
    next: i64,
    target: InMemory,
}

#[async_trait]
impl Target for InMemory {
    async fn open_partition(&self, of: &TopicPartition) -> Result<Box<dyn OpenPartition>> {
        Ok(Box::new(Open { of: of.clone(), next: self.next(of), target: self.clone() }))
    }
    async fn progress(&self) -> Result<Vec<Progress>> {
        let state = self.0.lock().unwrap();
        Ok(state.positions.iter().map(|(of, next)| Progress { of: of.clone(), next: *next, pending: false }).collect())
    }
    async fn sweep(&self) -> Result<()> {
        Ok(())
    }
    fn begin_upload(&self, _: &TopicPartition) -> BeginUpload {
        Box::new(|_, _| None)
    }
}

impl Open {
    /// Moves the position and adds the text, or neither: whoever comes late finds another position.
    fn move_to(&mut self, next: i64, text: &str) -> Result<()> {
        let mut state = self.target.0.lock().unwrap();
        let position = state.positions.entry(self.of.clone()).or_default();
        if *position != self.next {
            return Err(Error::new(Kind::Fenced, format!("somebody else moved `{}` to {position}", self.of)));
        }
        *position = next;
        state.text.push_str(text);
        self.next = next;
        Ok(())
    }
}

#[async_trait]
impl OpenPartition for Open {
    fn of(&self) -> &TopicPartition {
        &self.of
    }
    fn position(&self) -> Position {
        Position { next: self.next, leader_epoch: -1 }
    }
    fn incarnation(&self) -> u32 {
        0
    }
    fn report(&self) -> Report {
        Report { next: self.next, metadata: String::new() }
    }
    fn unsettled(&self) -> bool {
        false
    }
    async fn commit(&mut self, span: ClosedSpan) -> Result<()> {
        let text: String = span
            .files
            .iter()
            .filter_map(|file| if let Body::Whole(bytes) = &file.body { Some(bytes) } else { None })
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        self.move_to(span.stretches[0].span.next, &text)
    }
    async fn advance(&mut self, position: Position) -> Result<()> {
        self.move_to(position.next, "")
    }
    async fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}
