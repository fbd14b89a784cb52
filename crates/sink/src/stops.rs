//! Loud stops: what was found, what it means, and the command that decides. The partition stops, the others go on.

use crate::{
    error::{Error, Kind},
    report::Report,
    span::{Span, TopicPartition},
};
use std::{path::Path, sync::OnceLock};

/// How the commands in messages name the configuration of this process.
static CONFIGURATION: OnceLock<String> = OnceLock::new();

/// Says which file this process was configured with, so that the commands in messages can be pasted; `None`: by environment
/// variables. The first word counts, because a process has one configuration.
pub fn name_configuration(file: Option<&Path>) {
    let _ = CONFIGURATION.set(file.map_or_else(String::new, |file| quoted(&file.to_string_lossy())));
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./:@%+=,".contains(character);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// A command on this process's configuration, as `kas3 ledger show orders.yaml`; `FILE` stands for it where nobody named it.
pub fn command(words: &str) -> String {
    match CONFIGURATION.get().map_or("FILE", String::as_str) {
        "" => format!("kas3 {words}"),
        file => format!("kas3 {words} {file}"),
    }
}

/// The `kas3 ledger accept` command for a partition; `more` follows it.
pub fn accept_command(of: &TopicPartition, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(" {more}") };
    format!("{} --topic {} --partition {}{more}", command("ledger accept"), of.topic, of.partition)
}

/// What kind of stop it is, for decisions about many partitions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopKind {
    /// Retention deleted records that were not read.
    Retention,
    /// The log was cut back.
    CutBack,
    /// The topic was deleted and created again.
    CreatedAgain,
    /// The topic does not exist.
    TopicGone,
    /// Another cluster answers.
    OtherCluster,
    /// The head is missing, or cannot be read.
    HeadLost,
    /// The head is older than what was reported to the consumer group.
    SetBack,
    /// A segment of the history is missing, or cannot be read.
    SegmentLost,
    /// The start record is missing, or cannot be read.
    StartRecordLost,
    /// An object of somebody else has the name of a file.
    ForeignObject,
    /// Files of a committed span are lost for good.
    FilesLost,
    /// A record does not fit.
    BadRecord,
    /// A setting is in the way: there is nothing to accept.
    Setting,
}

impl StopKind {
    /// Every kind.
    pub const ALL: [StopKind; 13] = [
        StopKind::Retention,
        StopKind::CutBack,
        StopKind::CreatedAgain,
        StopKind::TopicGone,
        StopKind::OtherCluster,
        StopKind::HeadLost,
        StopKind::SetBack,
        StopKind::SegmentLost,
        StopKind::StartRecordLost,
        StopKind::ForeignObject,
        StopKind::FilesLost,
        StopKind::BadRecord,
        StopKind::Setting,
    ];

    /// The kind in one word.
    pub fn name(self) -> &'static str {
        match self {
            StopKind::Retention => "retention",
            StopKind::CutBack => "cut_back",
            StopKind::CreatedAgain => "created_again",
            StopKind::TopicGone => "topic_gone",
            StopKind::OtherCluster => "other_cluster",
            StopKind::HeadLost => "head_lost",
            StopKind::SetBack => "set_back",
            StopKind::SegmentLost => "segment_lost",
            StopKind::StartRecordLost => "start_record_lost",
            StopKind::ForeignObject => "foreign_object",
            StopKind::FilesLost => "files_lost",
            StopKind::BadRecord => "bad_record",
            StopKind::Setting => "setting",
        }
    }

    /// The kind of an error that stops a partition; `None` for other errors, and for what nobody decides about.
    pub fn of(error: &Error) -> Option<StopKind> {
        match error.kind() {
            Kind::BadRecord => Some(StopKind::BadRecord),
            Kind::Stopped => StopKind::ALL.into_iter().find(|kind| error.reason() == Some(kind.name())),
            _ => None,
        }
    }

    /// What accepting such a stop does, for people.
    ///
    /// # Errors
    /// Why it cannot be decided without naming an offset, or at all.
    pub fn accepting(self) -> Result<&'static str, &'static str> {
        match self {
            StopKind::Retention => Ok("records the deleted offsets as a gap"),
            StopKind::CutBack => Ok("goes on where the log was cut, in a new incarnation"),
            StopKind::CreatedAgain | StopKind::OtherCluster => Ok("reads the other topic from its beginning, in a new incarnation"),
            StopKind::SegmentLost => Ok("gives up the history before it"),
            StopKind::StartRecordLost => Ok("writes the start record again from the heads"),
            StopKind::ForeignObject => Ok("publishes the file under the name of a new incarnation"),
            StopKind::FilesLost => Ok("records the missing files as lost"),
            StopKind::BadRecord => Ok("passes over the record, and records a gap"),
            StopKind::HeadLost | StopKind::SetBack => Err("only you can say from which offset it goes on: accept each with `--next N`"),
            StopKind::TopicGone => Err("its topic does not exist"),
            StopKind::Setting => Err("it is a setting that stops it"),
        }
    }
}

fn stop(kind: StopKind, of: &TopicPartition, what: String, before: &str, more: &str) -> Error {
    Error::new(Kind::Stopped, format!("partition `{of}` stops: {what}")).hint(format!("{before}`{}`", accept_command(of, more))).because(kind.name())
}

/// Retention deleted records that were not read yet.
pub fn overtaken(of: &TopicPartition, next: i64, earliest: i64) -> Error {
    let what = format!(
        "the next offset to read is {next}, but the earliest that Kafka still has is {earliest}; records {next} to {} were deleted unread",
        earliest - 1
    );
    stop(StopKind::Retention, of, what, "record the gap and go on: ", "")
}

/// The log ends before what was already read, or lost what was read and grew again; `resume` is the offset to go on from.
pub fn cut_back(of: &TopicPartition, next: i64, end: i64, resume: i64) -> Error {
    let what = format!(
        "offsets up to {next} were read, but the log now ends or differs at {end}; it was cut back, and offsets from there on are new records"
    );
    stop(StopKind::CutBack, of, what, "begin a new incarnation there, whose file names tell it apart: ", &format!("--next {resume}"))
}

/// The topic has another id.
pub fn recreated(of: &TopicPartition, was: &str, is: &str) -> Error {
    let what = format!("topic `{}` has the id `{is}`, the ledger was written for `{was}`; it was deleted and created again", of.topic);
    stop(StopKind::CreatedAgain, of, what, "read the new topic from its beginning, under names that tell it apart: ", "")
}

/// The topic does not exist.
pub fn gone(of: &TopicPartition) -> Error {
    Error::new(Kind::Stopped, format!("partition `{of}` stops: topic `{}` does not exist any more", of.topic))
        .hint(format!("remove it from `source.topics`; if it is created again: `{}`", accept_command(of, "")))
        .because(StopKind::TopicGone.name())
}

/// Another cluster answers.
pub fn other_cluster(of: &TopicPartition, was: &str, is: &str) -> Error {
    let what = format!("cluster `{is}` answers, the ledger was written for cluster `{was}`, whose offsets mean other records");
    stop(StopKind::OtherCluster, of, what, "correct `bootstrap.servers`, or read this cluster's topic from its beginning: ", "")
}

/// No head, but the group has a report of ours.
pub fn lost(of: &TopicPartition, ledger: &str, report: &Report, reported_ledger: &str) -> Error {
    if reported_ledger == ledger {
        let what =
            format!("its head is missing from ledger `{ledger}`, but the consumer group says that kas3 was at {}; the head was lost", report.next);
        stop(StopKind::HeadLost, of, what, "restore the ledger, or go on without it: ", &format!("--next {}", report.next))
    } else {
        let what = format!(
            "ledger `{ledger}` does not know it, but the consumer group says that kas3 was at {} with ledger `{reported_ledger}`; sink or ledger were moved",
            report.next
        );
        stop(
            StopKind::HeadLost,
            of,
            what,
            &format!("set `ledger.url: {reported_ledger}`, copy the ledger, or go on without it: "),
            &format!("--next {}", report.next),
        )
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
    stop(StopKind::HeadLost, of, what, "restore the ledger; to go on without it, this says what is known of where to go on: ", "")
}

/// The head is behind what we reported: an old ledger was restored.
pub fn set_back(of: &TopicPartition, next: i64, reported: i64) -> Error {
    let what = format!("its head says {next}, but kas3 had reported {reported} to the consumer group; an older ledger was restored");
    stop(StopKind::SetBack, of, what, "restore the newest ledger, or go on from the report: ", &format!("--next {reported}"))
}

/// The head vanished while we held it.
pub fn vanished(of: &TopicPartition, head: &str, next: i64) -> Error {
    let what = format!("its head `{head}` vanished while we held it, at {next}");
    stop(StopKind::HeadLost, of, what, "restore it, or go on without it: ", &format!("--next {next}"))
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
    let (kind, before) = if object.ends_with(".jsonl") {
        (StopKind::SegmentLost, "restore it, or go on without the history before it: ")
    } else if object.rsplit('/').nth(1) == Some("topics") {
        (StopKind::StartRecordLost, "restore it, or write it again from the heads: ")
    } else {
        (StopKind::HeadLost, "restore it; to go on without it, this says what is known of where to go on: ")
    };
    stop(kind, of, format!("`{object}` cannot be used: {why}"), before, "")
}

/// A segment of the history is missing.
pub fn segment_missing(of: &TopicPartition, object: &str) -> Error {
    stop(
        StopKind::SegmentLost,
        of,
        format!("segment `{object}` of its history is missing"),
        "restore it, or go on without the history before it: ",
        "",
    )
}

/// There are heads, but no start record.
pub fn no_start_record(of: &TopicPartition, object: &str) -> Error {
    stop(
        StopKind::StartRecordLost,
        of,
        format!("its topic has heads, but the start record `{object}` is missing"),
        "restore it, or write it again from the heads: ",
        "",
    )
}

/// Somebody else's object is where a file must go.
pub fn foreign(of: &TopicPartition, span: Span, url: &str, found: &str) -> Error {
    let what = format!(
        "`{url}`, a file of span {} to {}, holds an object that this pipeline did not write ({found}); nothing is overwritten",
        span.first, span.next
    );
    stop(StopKind::ForeignObject, of, what, "move that object away, or publish under another name: ", "")
}

/// Files are lost and cannot be made again.
pub fn beyond_repair(of: &TopicPartition, span: Span, urls: &[String], why: &str) -> Error {
    let listed = urls.iter().take(3).map(|url| format!("`{url}`")).collect::<Vec<_>>().join(", ");
    let more = if urls.len() > 3 { format!(" and {} more", urls.len() - 3) } else { String::new() };
    let what = format!(
        "the staged bytes of {listed}{more}, of span {} to {}, are gone, and they cannot be made again from Kafka: {why}",
        span.first, span.next
    );
    stop(StopKind::FilesLost, of, what, "if it is the settings that differ, restore those of that time; to record these files as lost: ", "")
}

/// Two files of one span differ in case only.
pub fn case_collision(of: &TopicPartition, span: Span, one: &str, other: &str) -> Error {
    Error::new(
        Kind::Stopped,
        format!("partition `{of}` stops: span {} to {} has the files `{one}` and `{other}`, which are one name on this disk", span.first, span.next),
    )
    .hint("use a store that tells case apart, or a path template whose values differ in more than case")
    .because(StopKind::Setting.name())
}

/// The sink of a pending span cannot be opened.
pub fn other_sink(of: &TopicPartition, span: Span, base: &str, error: kas3_store::Error) -> Error {
    Error::new(
        Kind::Stopped,
        format!("partition `{of}` stops: span {} to {} is committed for sink `{base}`, which cannot be opened", span.first, span.next),
    )
    .source(error)
    .hint(format!("run once with `sink.url: {base}` so that the span is published; then change the URL"))
    .because(StopKind::Setting.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        assert_eq!(quoted("/etc/kas3/orders.yaml"), "/etc/kas3/orders.yaml");
        assert_eq!(quoted("my orders.yaml"), "'my orders.yaml'");
        assert_eq!(quoted("it's.yaml"), r"'it'\''s.yaml'");
    }

    #[test]
    fn a_stop_tells_its_kind_and_names_a_command_without_anything_to_fill_in_but_the_configuration() {
        let of = TopicPartition::new("orders", 3);
        for (error, kind) in [
            (overtaken(&of, 5, 9), StopKind::Retention),
            (cut_back(&of, 9, 5, 5), StopKind::CutBack),
            (recreated(&of, "a", "b"), StopKind::CreatedAgain),
            (unreadable(&of, "s3://lake/_kas3/x/ledger/orders/00003/head.json", "it is empty"), StopKind::HeadLost),
            (unreadable(&of, "s3://lake/_kas3/x/ledger/orders/00003/0-ab.jsonl", "it is empty"), StopKind::SegmentLost),
            (unreadable(&of, "s3://lake/_kas3/x/topics/head.json", "it is empty"), StopKind::StartRecordLost),
            (lost_but_for(&of, "s3://lake", "s3://lake/0-ab.jsonl"), StopKind::HeadLost),
        ] {
            assert_eq!(StopKind::of(&error), Some(kind), "{error}");
            let hint = error.way_out().expect("a way out");
            assert!(hint.contains("kas3 ledger accept FILE --topic orders --partition 3") && !hint.contains("--next N"), "{hint}");
        }
        assert_eq!(StopKind::of(&newer(&of, "head.json", "it has version 2")), None);
    }
}
