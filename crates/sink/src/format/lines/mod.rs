//! Formats of lines: a row a line, blocks of lines that are compressed by themselves, and an index of the blocks inside the file.
//!
//! ```text
//! row --RowCodec--> open block --full--> compressed, indexed, ready to take        (rows.rs, blocks.rs, index.rs)
//! file --index--> blocks --uncompressed--> lines with their offsets                (read.rs)
//! ```
//!
//! `json_lines` and `text` write bare values (values.rs) or envelopes (envelope.rs).

mod block_size;
mod blocks;
mod compare;
pub mod envelope;
pub mod index;
mod json;
pub(super) mod json_lines;
pub mod read;
mod rows;
mod settings;
mod side_file;
pub(super) mod text;
mod values;

pub use block_size::BlockSize;
pub use settings::{Absent, Compression, IndexPlace, LinesSettings, Newlines};

/// Bytes of a row at most, and so of the content of a block. Kafka's own largest record is smaller.
const ROW_BYTES_MAX: usize = 1 << 30;
/// Uncompressed size of the largest block, one large row aside, in bytes.
const BLOCK_BYTES_MAX: u64 = 64 << 20;
