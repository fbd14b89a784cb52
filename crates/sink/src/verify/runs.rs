//! A history whose offsets began anew: runs of spans that follow each other, one for each beginning. An older run is compared with
//! Kafka like the newest one, as long as it is of the same topic. Where the log was cut back since, it may hold other records by
//! now; and where a person had the partition read again, records lie in files of two runs.

use super::Comparison;
use crate::{
    error::Result,
    ledger::{Entry, Head},
    source::Identity,
    span::{Span, TopicPartition},
};
use std::{collections::HashMap, ops::Range};

/// The runs of one history.
pub(super) struct Runs {
    /// The numbers of their spans, oldest first; the last is of the log that Kafka has now.
    runs: Vec<Range<usize>>,
    /// Where each begins.
    firsts: Vec<i64>,
}

impl Runs {
    /// Of the spans of a history, whose `current`-th is the first of the newest run.
    pub(super) fn new(spans: &[Span], current: usize) -> Self {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for number in 0..current {
            match runs.last_mut() {
                Some(run) if spans[number - 1].next == spans[number].first => run.end += 1,
                _ => runs.push(number..number + 1),
            }
        }
        runs.push(current..spans.len());
        let firsts = runs.iter().map(|run| spans.get(run.start).map_or(i64::MAX, |span| span.first)).collect();
        Runs { runs, firsts }
    }

    /// The run of a span.
    pub(super) fn of(&self, number: usize) -> usize {
        self.runs.partition_point(|run| run.end <= number).min(self.runs.len() - 1)
    }

    /// The offset after a run.
    pub(super) fn end(&self, run: usize, spans: &[Span]) -> i64 {
        self.runs[run].clone().next_back().and_then(|last| spans.get(last)).map_or(0, |span| span.next)
    }

    /// The first offset of all runs after this one.
    pub(super) fn first_after(&self, run: usize) -> i64 {
        self.firsts[run + 1..].iter().copied().min().unwrap_or(i64::MAX)
    }

    /// Up to where the log certainly still holds the records of a run whose newest span is of `incarnation`: it was not cut back
    /// below that since. Of a beginning about which the head says nothing, a log that was cut back cannot be told from one that was
    /// read again.
    pub(super) fn certain_until(&self, run: usize, incarnation: u32, head: &Head) -> i64 {
        let cut = head.begun.iter().filter(|begun| begun.incarnation > incarnation).filter_map(|begun| begun.cut_at);
        let known = |first: &i64| head.begun.iter().any(|begun| begun.start == *first && begun.why.known().is_some());
        let unknown = self.firsts[run + 1..].iter().copied().filter(|first| !known(first));
        cut.chain(unknown).min().unwrap_or(i64::MAX)
    }
}

/// Which incarnations of a partition are of the topic that Kafka has now.
#[derive(Default)]
pub(super) struct Incarnations(HashMap<u32, bool>);

impl Incarnations {
    /// Whether a span was read from the topic that Kafka has now. Where no start record says so, it is not known to be.
    pub(super) async fn is_of(&mut self, comparison: &Comparison, of: &TopicPartition, entry: &Entry, now: &Identity) -> Result<bool> {
        if let Some(known) = self.0.get(&entry.incarnation) {
            return Ok(*known);
        }
        let identity = comparison.ledger.identity_of(of, entry.incarnation).await?;
        let same = identity.is_some_and(|identity| identity.is_same(now));
        self.0.insert(entry.incarnation, same);
        Ok(same)
    }
}

/// Stretches of offsets that are kept at most; beyond that the last one grows over what it does not know.
const STRETCHES_MAX: usize = 1 << 20;

/// Which records were found in files of earlier runs.
#[derive(Default)]
pub(super) struct Copies {
    earlier: Vec<Span>,
    /// Those of the run that is being compared, and the record that was seen last.
    run: Vec<Span>,
    last: Option<i64>,
    /// Only what a later run covers as well is worth keeping.
    from: i64,
}

impl Copies {
    /// Begins the next run; later ones begin at `from` at the earliest.
    pub(super) fn begin(&mut self, from: i64) {
        self.earlier.append(&mut self.run);
        self.earlier.sort_unstable_by_key(|span| span.first);
        let mut merged: Vec<Span> = Vec::new();
        for span in self.earlier.drain(..) {
            match merged.last_mut() {
                Some(last) if span.first <= last.next => last.next = last.next.max(span.next),
                _ => merged.push(span),
            }
        }
        self.earlier = merged;
        (self.last, self.from) = (None, from);
    }

    /// Takes note of a record of Kafka, in the order of offsets; whether a file of this run and one of an earlier run hold it.
    pub(super) fn see(&mut self, offset: i64, found: bool) -> bool {
        if found && offset >= self.from {
            let full = self.run.len() >= STRETCHES_MAX;
            match self.run.last_mut() {
                // offsets between two records of Kafka that follow each other hold none
                Some(last) if self.last.is_some_and(|before| last.next == before + 1) || full => last.next = offset + 1,
                _ => self.run.push(Span { first: offset, next: offset + 1 }),
            }
        }
        self.last = Some(offset);
        let at = self.earlier.partition_point(|span| span.next <= offset);
        found && self.earlier.get(at).is_some_and(|span| span.first <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: i64, next: i64) -> Span {
        Span { first, next }
    }

    #[test]
    fn a_history_falls_apart_where_offsets_begin_anew() {
        let spans = [span(0, 50), span(50, 152), span(100, 120), span(120, 300), span(40, 60)];
        let runs = Runs::new(&spans, 4);
        assert_eq!([0, 1, 2, 3, 4].map(|number| runs.of(number)), [0, 0, 1, 1, 2]);
        assert_eq!([0, 1, 2].map(|run| runs.end(run, &spans)), [152, 300, 60]);
        assert_eq!([0, 1, 2].map(|run| runs.first_after(run)), [40, 40, i64::MAX]);
        let nothing_new = Runs::new(&spans[..2], 2);
        assert_eq!((nothing_new.of(1), nothing_new.first_after(0)), (0, i64::MAX), "a run that is still empty");
    }

    #[test]
    fn records_of_two_runs_are_told_also_across_offsets_that_hold_none() {
        let mut copies = Copies::default();
        copies.begin(100);
        for offset in [98, 100, 101, 104, 105] {
            assert!(!copies.see(offset, offset != 101));
        }
        copies.begin(i64::MAX);
        let found: Vec<i64> = [99, 100, 101, 104, 105, 106].into_iter().filter(|offset| copies.see(*offset, true)).collect();
        assert_eq!(found, [100, 104, 105]);
        assert_eq!(copies.earlier, [span(100, 101), span(104, 106)]);
        assert!(!copies.see(107, false) && copies.run.is_empty());
    }
}
