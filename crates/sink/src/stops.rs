//! Loud stops: what was found, what it means, and the command that decides. The partition stops, the others go on.

use crate::{
    error::{Error, Kind},
    report::Report,
    span::{Span, TopicPartition},
};

/// The `kas3 ledger accept` command for a partition; `more` follows it.
pub fn accept_command(of: &TopicPartition, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(" {more}") };
    format!("kas3 ledger accept FILE --topic {} --partition {}{more}", of.topic, of.partition)
}

fn stop(of: &TopicPartition, what: String, before: &str, more: &str) -> Error {
    Error::new(Kind::Stopped, format!("partition `{of}` stops: {what}")).hint(format!("{before}`{}`", accept_command(of, more)))
}

/// Retention deleted records that were not read yet.
pub fn overtaken(of: &TopicPartition, next: i64, earliest: i64) -> Error {
    let what = format!(
        "the next offset to read is {next}, but the earliest that Kafka still has is {earliest}; records {next} to {} were deleted unread",
        earliest - 1
    );
    stop(of, what, "record the gap and go on: ", "")
}

/// The log ends before what was already read, or lost what was read and grew again; `resume` is the offset to go on from.
pub fn cut_back(of: &TopicPartition, next: i64, end: i64, resume: i64) -> Error {
    let what = format!(
        "offsets up to {next} were read, but the log now ends or differs at {end}; it was cut back, and offsets from there on are new records"
    );
    stop(of, what, "begin a new incarnation there, whose file names tell it apart: ", &format!("--next {resume}"))
}

/// The topic has another id.
pub fn recreated(of: &TopicPartition, was: &str, is: &str) -> Error {
    let what = format!("topic `{}` has the id `{is}`, the ledger was written for `{was}`; it was deleted and created again", of.topic);
    stop(of, what, "read the new topic from its beginning, under names that tell it apart: ", "")
}

/// The topic does not exist.
pub fn gone(of: &TopicPartition) -> Error {
    Error::new(Kind::Stopped, format!("partition `{of}` stops: topic `{}` does not exist any more", of.topic))
        .hint(format!("remove it from `source.topics`; if it is created again: `{}`", accept_command(of, "")))
}

/// Another cluster answers.
pub fn other_cluster(of: &TopicPartition, was: &str, is: &str) -> Error {
    let what = format!("cluster `{is}` answers, the ledger was written for cluster `{was}`, whose offsets mean other records");
    stop(of, what, "correct `bootstrap.servers`, or read this cluster's topic from its beginning: ", "")
}

/// No head, but the group has a report of ours.
pub fn lost(of: &TopicPartition, ledger: &str, report: &Report, reported_ledger: &str) -> Error {
    if reported_ledger == ledger {
        let what =
            format!("its head is missing from ledger `{ledger}`, but the consumer group says that kas3 was at {}; the head was lost", report.next);
        stop(of, what, "restore the ledger, or go on without it: ", &format!("--next {}", report.next))
    } else {
        let what = format!(
            "ledger `{ledger}` does not know it, but the consumer group says that kas3 was at {} with ledger `{reported_ledger}`; sink or ledger were moved",
            report.next
        );
        stop(of, what, &format!("set `ledger.url: {reported_ledger}`, copy the ledger, or go on without it: "), &format!("--next {}", report.next))
    }
}

/// The first start of a topic that somebody else wrote where this pipeline would.
pub fn beside(of: &TopicPartition, found: &str) -> Error {
    let what =
        format!("this would be the first start of topic `{}`, and somebody else wrote it here before, so its records would be here twice", of.topic);
    Error::new(Kind::Stopped, format!("partition `{of}` stops: {what}: {found}")).hint(format!(
        "go on as that pipeline, with its `name`; or give this one another `sink.url`; or, if both are wanted, set `source.start: {{beside: true}}`, \
         or begin this topic so: `{}`",
        accept_command(of, "")
    ))
}

/// No head and no report, but a segment of its history: the group's offsets expire sooner than a ledger.
pub fn lost_but_for(of: &TopicPartition, ledger: &str, segment: &str) -> Error {
    let what = format!("its head is missing from ledger `{ledger}`, but its history is there, as `{segment}`; the head was lost");
    stop(of, what, "restore the ledger, or go on without it: ", "--next N")
}

/// The head is behind what we reported: an old ledger was restored.
pub fn set_back(of: &TopicPartition, next: i64, reported: i64) -> Error {
    let what = format!("its head says {next}, but kas3 had reported {reported} to the consumer group; an older ledger was restored");
    stop(of, what, "restore the newest ledger, or go on from the report: ", &format!("--next {reported}"))
}

/// The head vanished while we held it.
pub fn vanished(of: &TopicPartition, head: &str, next: i64) -> Error {
    let what = format!("its head `{head}` vanished while we held it, at {next}");
    stop(of, what, "restore it, or go on without it: ", &format!("--next {next}"))
}

/// An object that a newer kas3 wrote. There is nothing to decide: whatever this version did would destroy or double what the newer
/// one did.
pub fn newer(of: &TopicPartition, object: &str, why: &str) -> Error {
    newer_kas3(format!("partition `{of}` stops: `{object}` cannot be used: {why}"))
}

/// The consumer group has a report of a newer kas3, whose head is not the one that is here.
pub fn newer_report(of: &TopicPartition, group: &str, why: &str) -> Error {
    newer_kas3(format!("partition `{of}` stops: its report in consumer group `{group}` cannot be used: {why}"))
}

/// The same for what belongs to no partition.
pub(crate) fn newer_kas3(what: String) -> Error {
    Error::new(Kind::Newer, format!("{what}; a newer kas3 wrote it"))
        .hint("run the newer kas3 for this pipeline; no command of this one overrides that, and nothing was changed")
}

/// An object of the ledger that cannot be what it should be.
pub fn unreadable(of: &TopicPartition, object: &str, why: &str) -> Error {
    stop(of, format!("`{object}` cannot be used: {why}"), "restore it; to go on without it: ", "--next N")
}

/// A segment of the history is missing.
pub fn segment_missing(of: &TopicPartition, object: &str) -> Error {
    stop(of, format!("segment `{object}` of its history is missing"), "restore it, or go on without the history before it: ", "")
}

/// There are heads, but no start record.
pub fn no_start_record(of: &TopicPartition, object: &str) -> Error {
    stop(of, format!("its topic has heads, but the start record `{object}` is missing"), "restore it, or write it again from the heads: ", "")
}

/// Somebody else's object is where a file must go.
pub fn foreign(of: &TopicPartition, span: Span, url: &str, found: &str) -> Error {
    let what = format!(
        "`{url}`, a file of span {} to {}, holds an object that this pipeline did not write ({found}); nothing is overwritten",
        span.first, span.next
    );
    stop(of, what, "move that object away, or publish under another name: ", "")
}

/// Files are lost and cannot be made again.
pub fn beyond_repair(of: &TopicPartition, span: Span, urls: &[String], why: &str) -> Error {
    let listed = urls.iter().take(3).map(|url| format!("`{url}`")).collect::<Vec<_>>().join(", ");
    let more = if urls.len() > 3 { format!(" and {} more", urls.len() - 3) } else { String::new() };
    let what = format!(
        "the staged bytes of {listed}{more}, of span {} to {}, are gone, and they cannot be made again from Kafka: {why}",
        span.first, span.next
    );
    stop(of, what, "if it is the settings that differ, restore those of that time; to record these files as lost: ", "")
}

/// Two files of one span differ in case only.
pub fn case_collision(of: &TopicPartition, span: Span, one: &str, other: &str) -> Error {
    Error::new(
        Kind::Stopped,
        format!("partition `{of}` stops: span {} to {} has the files `{one}` and `{other}`, which are one name on this disk", span.first, span.next),
    )
    .hint("use a store that tells case apart, or a path template whose values differ in more than case")
}

/// The sink of a pending span cannot be opened.
pub fn other_sink(of: &TopicPartition, span: Span, base: &str, error: kas3_store::Error) -> Error {
    Error::new(
        Kind::Stopped,
        format!("partition `{of}` stops: span {} to {} is committed for sink `{base}`, which cannot be opened", span.first, span.next),
    )
    .source(error)
    .hint(format!("run once with `sink.url: {base}` so that the span is published; then change the URL"))
}
