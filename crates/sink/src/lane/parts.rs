//! Encoded bytes of one file on their way into parts of one size.

use super::BeginUpload;
use crate::ledger::Upload;
use bytes::{Bytes, BytesMut};
use kas3_store::{PART_BYTES, PutOptions};
use std::collections::VecDeque;

/// Encoded bytes of one file that were not sent.
#[derive(Default)]
pub(super) struct Parts {
    chunks: VecDeque<Bytes>,
    /// Bytes that were not sent.
    pub(super) bytes: usize,
    /// Parts that were sent.
    pub(super) sent: usize,
    /// The number of the file's upload in its span, and the upload if the file is wanted.
    pub(super) upload: Option<(u32, Option<Upload>)>,
}

impl Parts {
    pub(super) fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Sends what fills whole parts; the first one begins the upload, as the next of the span's uploads.
    pub(super) fn send_whole(&mut self, path: &str, uploads: &mut u32, begin: &mut BeginUpload, options: impl Fn(u32) -> PutOptions) {
        while self.bytes >= PART_BYTES {
            self.sent += 1;
            let part = self.cut(PART_BYTES);
            let (_, upload) = self.upload.get_or_insert_with(|| {
                *uploads += 1;
                (*uploads - 1, begin(path, options(*uploads - 1)))
            });
            if let Some(upload) = upload {
                upload.push(part);
            }
        }
    }

    /// Everything that was not sent.
    pub(super) fn rest(&mut self) -> Bytes {
        self.cut(self.bytes)
    }

    fn cut(&mut self, bytes: usize) -> Bytes {
        self.bytes -= bytes;
        match self.chunks.front_mut() {
            Some(front) if front.len() > bytes => return front.split_to(bytes),
            Some(front) if front.len() == bytes => return self.chunks.pop_front().unwrap_or_default(),
            _ => {}
        }
        let mut part = BytesMut::with_capacity(bytes);
        while part.len() < bytes {
            let Some(front) = self.chunks.front_mut() else { break };
            let missing = bytes - part.len();
            if front.len() <= missing {
                part.extend_from_slice(front);
                self.chunks.pop_front();
            } else {
                part.extend_from_slice(&front.split_to(missing));
            }
        }
        part.freeze()
    }
}
