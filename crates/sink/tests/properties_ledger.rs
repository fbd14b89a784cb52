//! Spans in a head: the chain of them is the partition's history, and a break in it never passes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use jiff::Timestamp;
use kas3_sink::{
    ledger::{Entry, EntryKind, Head, Stretch, VERSION},
    span::{Bounds, Counts, Position, Roll, Span},
};
use proptest::{collection::vec, prelude::*};
use serde_json::Map;

fn entry(number: usize, incarnation: u32, span: Span) -> Entry {
    let kind = [EntryKind::Files, EntryKind::Empty, EntryKind::Gap][number % 3];
    Entry {
        id: format!("{number:016x}"),
        kind: kind.into(),
        partitions: vec![Stretch {
            topic: "orders".into(),
            partition: 7,
            first: span.first,
            next: span.next,
            leader_epoch: number as i32 - 1,
            extra: Map::new(),
        }],
        incarnation,
        now: Timestamp::from_second(1_767_225_600 + number as i64).unwrap(),
        roll: (kind == EntryKind::Files).then(|| Roll::ALL[number % Roll::ALL.len()].into()),
        counts: Counts { read: span.next.abs_diff(span.first), ..Counts::default() }.into(),
        timestamps: number.is_multiple_of(2).then_some(Bounds { min: -5, max: number as i64 }.into()),
        base: String::new(),
        settings: String::new(),
        files: Vec::new(),
        files_in: (number % 5 == 4).then(|| format!("{:020}-a.jsonl", span.first)),
        reason: (kind == EntryKind::Gap).then(|| "retention".to_owned()),
        extra: Map::new(),
    }
}

/// A head over spans of the given lengths, beginning at `start`; the last of them pending.
fn head(start: i64, lengths: &[i64]) -> Head {
    let mut next = start;
    let entries = lengths.iter().enumerate().map(|(number, length)| {
        let span = Span { first: next, next: next + length };
        next = span.next;
        entry(number, 0, span)
    });
    let mut closed: Vec<Entry> = entries.collect();
    let pending: Vec<Entry> = closed.pop().into_iter().collect();
    Head {
        version: VERSION,
        session: "s".into(),
        counter: 3,
        written_at: Timestamp::UNIX_EPOCH,
        pipeline: "p".into(),
        topic: "orders".into(),
        partition: 7,
        cluster_id: "c".into(),
        topic_id: None,
        incarnation: 0,
        start,
        next,
        leader_epoch: -1,
        settings: String::new(),
        pending,
        closed,
        segment: None,
        lost_segments: Vec::new(),
        begun: Vec::new(),
        extra: Map::new(),
    }
}

proptest! {
    #[test]
    fn a_chain_of_spans_reads_back_as_itself(start in 0..1_i64 << 60, lengths in vec(0..1_i64 << 40, 0..30)) {
        let head = head(start, &lengths);
        let read = Head::decode(&head.encode()).unwrap();
        prop_assert_eq!(&read, &head);
        prop_assert_eq!(read.position(), Position { next: start + lengths.iter().sum::<i64>(), leader_epoch: -1 });
        let covered: i64 = read.closed.iter().chain(&read.pending).map(|entry| entry.span().next - entry.span().first).sum();
        prop_assert_eq!(covered, read.next - read.start);
    }

    #[test]
    fn a_chain_with_a_gap_an_overlap_or_a_step_back_is_refused(
        start in 0..1_i64 << 60, lengths in vec(1..1_i64 << 40, 1..20), at in any::<prop::sample::Index>(), by in prop_oneof![-100..0_i64, 1..100_i64], which in 0..3_u8,
    ) {
        let mut head = head(start, &lengths);
        let at = at.index(lengths.len());
        let entries = head.closed.len();
        let stretch = if at < entries { &mut head.closed[at].partitions[0] } else { &mut head.pending[0].partitions[0] };
        match which {
            0 if at > 0 => stretch.first += by,
            1 => stretch.next += by,
            _ => head.next += by,
        }
        prop_assert!(Head::decode(&head.encode()).is_err(), "span {} moved by {}", at, by);
    }
}
