//! The end of a span: all of its files at once, with what the ledger keeps of them.

use super::{BeginUpload, LanePartition, OpenFile, OpenSpan};
use crate::{
    error::Result,
    format::Finished,
    ledger::{self, Body, ClosedFile, ClosedSpan, ClosedStretch, Role},
    plan::TopicPlan,
    span::{Checksum, Roll, Span, TopicPartition},
};
use bytes::Bytes;
use kas3_store::PutOptions;

/// Closes a span; `None` when no partition of it moved.
pub(super) fn close(
    mut span: OpenSpan,
    partitions: &[LanePartition],
    plan: &TopicPlan,
    roll: Roll,
    begin: &mut BeginUpload,
) -> Result<Option<ClosedSpan>> {
    let moved = partitions.iter().zip(&span.begins).filter(|(partition, (first, _))| partition.position.next > *first);
    let stretches: Vec<ClosedStretch> = moved
        .map(|(LanePartition { of, position, .. }, (first, _))| ClosedStretch {
            of: of.clone(),
            span: Span { first: *first, next: position.next },
            leader_epoch: position.leader_epoch,
        })
        .collect();
    if stretches.is_empty() {
        // the first record of the span was a bad one
        return Ok(None);
    }
    let files = close_files(&partitions[0].of, &mut span, plan, begin)?;
    Ok(Some(ClosedSpan { id: span.id, stretches, now: span.opened.wall, roll, counts: span.counts, timestamps: span.timestamps, files }))
}

/// Ends every file: uploads first, in the order in which they began (their numbers are in their metadata), then whole files,
/// then side files. A file in which nothing was written is left out.
fn close_files(of: &TopicPartition, span: &mut OpenSpan, plan: &TopicPlan, begin: &mut BeginUpload) -> Result<Vec<ClosedFile>> {
    let first = span.begins[0].0;
    let (mut uploads, mut wholes, mut sides) = (Vec::new(), Vec::new(), Vec::new());
    for open in span.files.drain(..) {
        let OpenFile { path, encoder, mut parts, .. } = open;
        let mut finished = encoder.finish()?;
        if finished.rows == 0 {
            continue;
        }
        parts.push(std::mem::take(&mut finished.tail));
        parts.send_whole(&path, &mut span.uploads, begin, |number| options(of, plan, &span.id, first, number));
        let rest = parts.rest();
        if let Some(side) = finished.side_file.take() {
            let name = path.strip_suffix(&span.begins[0].1.extension).unwrap_or(&path);
            sides.push(side_file(format!("{name}.index.json"), side, &finished));
        }
        match parts.upload.take() {
            Some((_, None)) => {}
            Some((number, Some(mut upload))) => {
                if !rest.is_empty() {
                    upload.push(rest);
                }
                uploads.push((number, data_file(path, Body::Upload(upload), &finished, plan)));
            }
            None => wholes.push(data_file(path, Body::Whole(rest), &finished, plan)),
        }
    }
    uploads.sort_by_key(|(number, _)| *number);
    Ok(uploads.into_iter().map(|(_, file)| file).chain(wholes).chain(sides).collect())
}

fn data_file(path: String, body: Body, finished: &Finished, plan: &TopicPlan) -> ClosedFile {
    ClosedFile {
        path,
        role: Role::Data,
        body,
        bytes: finished.bytes,
        records: finished.records,
        rows: finished.rows,
        checksum: finished.checksum.clone(),
        offsets: finished.offsets,
        timestamps: finished.timestamps,
        content_type: plan.format.content_type(),
        content_encoding: plan.format.content_encoding(),
    }
}

/// The index beside a data file.
fn side_file(path: String, side: Bytes, finished: &Finished) -> ClosedFile {
    ClosedFile {
        path,
        role: Role::SideFile,
        bytes: side.len() as u64,
        records: 0,
        rows: 0,
        checksum: Checksum::from_xxh3(xxhash_rust::xxh3::xxh3_128(&side)),
        body: Body::Whole(side),
        offsets: finished.offsets,
        timestamps: finished.timestamps,
        content_type: "application/json",
        content_encoding: None,
    }
}

/// How an upload is written; `next` of the span is not known yet.
pub(super) fn options(of: &TopicPartition, plan: &TopicPlan, span: &str, first: i64, number: u32) -> PutOptions {
    let mut options = PutOptions::data(plan.format.content_type());
    options.content_encoding = plan.format.content_encoding();
    options.metadata = ledger::metadata(of, span, number, first, None);
    options
}
