//! The index beside the file, `<name>.index.json`, byte for byte as DeviantArt's kafka-connect-s3 writes it, for readers that
//! were made for that connector. It cannot tell gaps between offsets: the index inside the file can.
//!
//! ```text
//! {"chunks":[{"byte_length_uncompressed":2890,"num_records":100,"byte_length":275,"byte_offset":0,"first_record_offset":0}]}
//! ```

use super::index::OpenBlock;
use bytes::Bytes;
use std::io::Write;

/// A side file being written.
#[derive(Default)]
pub(super) struct SideFileWriter {
    chunks: Vec<u8>,
    position: u64,
}

impl SideFileWriter {
    /// Adds a block of `bytes` stored and `content_bytes` uncompressed bytes.
    pub(super) fn add(&mut self, bytes: u64, content_bytes: u64, block: &OpenBlock) {
        if !self.chunks.is_empty() {
            self.chunks.push(b',');
        }
        let (records, position, first) = (block.rows(), self.position, block.first());
        write!(
            self.chunks,
            "{{\"byte_length_uncompressed\":{content_bytes},\"num_records\":{records},\"byte_length\":{bytes},\
             \"byte_offset\":{position},\"first_record_offset\":{first}}}"
        )
        .expect("writing into memory never fails");
        self.position += bytes;
    }

    pub(super) fn buffered(&self) -> usize {
        self.chunks.capacity()
    }

    pub(super) fn finish(self) -> Bytes {
        [b"{\"chunks\":[".as_slice(), &self.chunks, b"]}"].concat().into()
    }
}
