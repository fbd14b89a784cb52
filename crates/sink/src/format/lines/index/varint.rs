//! Numbers of variable length: seven bits a byte, the lowest first, the eighth bit set on all but the last; signed ones with
//! their sign in the lowest bit (LEB128 and zigzag, as Protocol Buffers store them).

use super::damaged;
use crate::error::Result;

pub(super) fn push_unsigned(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn push_signed(number: i64, out: &mut Vec<u8>) {
    push_unsigned(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

/// Reads numbers one after the other.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn unsigned(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or_else(|| damaged("it ends early"))?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged("a number beyond 64 bits"))
    }

    pub(super) fn signed(&mut self) -> Result<i64> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }
}
