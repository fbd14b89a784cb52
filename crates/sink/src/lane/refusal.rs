//! What becomes of a record that a step refuses: decided here for every step, and nowhere else.

use crate::{
    error::{Error, Kind},
    refused::{BadRecords, Refused, Step},
    span::TopicPartition,
    stops::accept_command,
};

/// What a lane does about a refused record.
pub(super) enum Verdict {
    /// Nothing behind it is taken in: the partition stops.
    Stop(Error),
    /// It is passed over and counted as refused.
    Skip,
}

/// Decides about a record of `of` that is refused.
pub(super) fn decide(policy: BadRecords, of: &TopicPartition, offset: i64, refused: &Refused) -> Verdict {
    match policy {
        BadRecords::Stop => Verdict::Stop(stop(of, offset, refused)),
        BadRecords::Skip => Verdict::Skip,
    }
}

/// An error of kind `BadRecord` that names the record, the reason and the ways out.
fn stop(of: &TopicPartition, offset: i64, refused: &Refused) -> Error {
    let own = refused.hint.as_ref().map_or_else(String::new, |hint| format!("{hint}; "));
    let mended = match refused.step {
        Step::Prefetch => "when it can be had again, the partition goes on by itself; ",
        Step::Transform => "correct `transforms` and start again; ",
        Step::Path => "correct `path` and start again; ",
        Step::Encode => "correct `format` and start again; ",
    };
    let pass = accept_command(of, &format!("--next {}", offset + 1));
    Error::new(Kind::BadRecord, format!("`{of}` holds a record at offset {offset} that does not fit: {refused}"))
        .hint(format!(
            "{own}{mended}to leave such records out, set `bad_records: skip`; to pass over this one, once all before it is published: `{pass}`"
        ))
        .at(offset)
        .because(refused.code)
}
