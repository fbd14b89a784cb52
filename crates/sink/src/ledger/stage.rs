//! Staging: bytes that are durable and invisible.
//!
//! A file that reaches a part becomes an upload whose parts go up while the file grows; at the roll, all files still
//! smaller go up together as a bundle. What is staged means nothing until a head names it. Where all files of a span are
//! small, the head itself takes them along: its swap stages them, and there is nothing to put before it or to delete behind it.

use super::{
    closed_span::{Body, ClosedFile},
    stored::{BYTES_IN_HEAD_MAX, File, Item, Staged},
};
use crate::{
    error::{Error, Kind, Result},
    span::Checksum,
};
use bytes::Bytes;
use kas3_store::Store;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_128;

/// Bytes of a bundle at most, a single larger file aside; more small files make a second bundle.
const BUNDLE_BYTES_MAX: u64 = 32 << 20;

/// Files of a span whose bytes are all durable, and the bytes that are still in memory.
pub(super) struct StagedFiles {
    pub(super) files: Vec<File>,
    pub(super) bodies: HashMap<u32, Bytes>,
    /// Bundles to put before the head may name these files: path and content.
    pub(super) bundles: Vec<(String, Vec<Bytes>)>,
    /// What the head must take along when it names them.
    pub(super) items: Vec<Item>,
}

/// Waits for uploads and lays out the rest: in the head, if it may take files along and they fit, else in bundles; `bundle_path`
/// names the n-th bundle. Puts nothing by itself.
pub(super) async fn lay_out(
    closed: Vec<(u32, ClosedFile)>,
    store: &Store,
    may_ride: bool,
    bundle_path: impl Fn(usize) -> String,
) -> Result<StagedFiles> {
    let mut laid = StagedFiles { files: Vec::with_capacity(closed.len()), bodies: HashMap::new(), bundles: Vec::new(), items: Vec::new() };
    let in_head = may_ride && fit_into_head(&closed);
    let mut room = 0u64;
    for (number, file) in closed {
        let (staged, stored, bytes) = match file.body {
            Body::Upload(upload) => {
                let uploaded = upload.finish().await?;
                (Staged::upload(uploaded.id, uploaded.parts), uploaded.stored, uploaded.bytes)
            }
            Body::Whole(body) if in_head => {
                let item = u32::try_from(laid.items.len()).map_err(|error| Error::new(Kind::Fatal, "too many files in one span").source(error))?;
                let (stored, bytes) = (Checksum::from_xxh3(xxh3_128(&body)), body.len() as u64);
                laid.items.push(Item::File(body.clone()));
                laid.bodies.insert(number, body);
                (Staged::head(item), stored, bytes)
            }
            Body::Whole(body) => {
                let bytes = body.len() as u64;
                if laid.bundles.is_empty() || room + bytes > BUNDLE_BYTES_MAX {
                    laid.bundles.push((bundle_path(laid.bundles.len()), Vec::new()));
                    room = 0;
                }
                let (path, content) = laid.bundles.last_mut().expect("one was pushed");
                let staged = Staged::bundle(path.clone(), room, room + bytes);
                room += bytes;
                let stored = Checksum::from_xxh3(xxh3_128(&body));
                content.push(body.clone());
                laid.bodies.insert(number, body);
                (staged, stored, bytes)
            }
        };
        if bytes != file.bytes {
            return Err(Error::new(Kind::Fatal, format!("`{}` says that it has {} bytes, and handed over {bytes}", file.path, file.bytes)));
        }
        laid.files.push(File {
            number,
            url: store.url_of(&file.path),
            role: file.role.into(),
            bytes,
            records: file.records,
            rows: (file.rows != file.records).then_some(file.rows),
            checksum: file.checksum,
            stored,
            offsets: vec![file.offsets.map(Into::into)],
            timestamps: file.timestamps.map(Into::into),
            content_type: file.content_type.to_owned(),
            content_encoding: file.content_encoding.map(str::to_owned),
            incarnation: None,
            lost: false,
            staged: Some(staged),
            extra: serde_json::Map::new(),
        });
    }
    Ok(laid)
}

/// Files of a span in a head: what stands around each of them takes room as well.
const FILES_IN_HEAD_MAX: usize = 10_000;

/// Whether all of them are here, and small enough together. A span with an upload is large, and one request more does not matter.
fn fit_into_head(closed: &[(u32, ClosedFile)]) -> bool {
    let whole = |file: &ClosedFile| if let Body::Whole(body) = &file.body { Some(body.len() as u64) } else { None };
    let bytes = closed.iter().try_fold(0, |sum, (_, file)| Some(sum + whole(file)?));
    closed.len() <= FILES_IN_HEAD_MAX && bytes.is_some_and(|bytes| bytes <= BYTES_IN_HEAD_MAX)
}
