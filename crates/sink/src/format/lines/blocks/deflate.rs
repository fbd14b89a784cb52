//! Finding the last block of a deflate stream (RFC 1951), so that another stream can follow it in the same gzip member.
//!
//! libdeflate compresses faster than anything that streams, but each of its streams says in its last block that nothing follows.
//! Where that block begins is found by reading the codes, which costs a small part of making them: nothing is copied.

/// Bytes of an empty stored block behind its head: no bytes, and their complement. It ends at a full byte.
const EMPTY_STORED: [u8; 4] = [0, 0, 0xff, 0xff];

/// Lets another stream follow the one that `out` holds from `start` on: its last block is no longer the last, and ends at a full
/// byte. `None`, with `out` as it was, when that is no deflate stream of one piece.
pub(super) fn leave_open(scanner: &mut Scanner, out: &mut Vec<u8>, start: usize) -> Option<()> {
    let last = scanner.last_block(&out[start..])?;
    let bytes = out.len() - start;
    if last.end.div_ceil(8) != bytes {
        return None;
    }
    out[start + last.head / 8] &= !(1 << (last.head % 8));
    // The head of the stored block is three bits of nothing: those that are free in the last byte, or a byte more.
    if bytes * 8 - last.end < 3 {
        out.push(0);
    }
    out.extend_from_slice(&EMPTY_STORED);
    Some(())
}

/// Where the last block of a stream lies, in bits.
#[derive(Debug, PartialEq, Eq)]
struct LastBlock {
    head: usize,
    end: usize,
}

/// Reads streams over; its tables are kept from one to the next.
#[derive(Default)]
pub(super) struct Scanner {
    literals: Code,
    distances: Code,
    lengths: Code,
}

/// The order in which lengths of the code for code lengths are stored.
const LENGTHS_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// The symbol that ends a block; those above it are lengths of copies.
const END: u16 = 256;
/// Extra bits of the lengths of copies, from symbol 257 on.
const LENGTH_EXTRA: [u32; 29] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// Symbols of distances, of which each pair has one extra bit more than the one before, from the third pair on.
const DISTANCES: u16 = 30;

impl Scanner {
    fn last_block(&mut self, stream: &[u8]) -> Option<LastBlock> {
        let mut bits = Bits::new(stream);
        loop {
            bits.refill();
            let head = bits.position();
            let (last, kind) = (bits.take(1)?, bits.take(2)?);
            match kind {
                0 => bits.skip_stored()?,
                1 => {
                    self.fixed()?;
                    self.codes(&mut bits)?;
                }
                2 => {
                    self.dynamic(&mut bits)?;
                    self.codes(&mut bits)?;
                }
                _ => return None,
            }
            if last == 1 {
                return Some(LastBlock { head, end: bits.position() });
            }
        }
    }

    /// The codes that need not be written.
    fn fixed(&mut self) -> Option<()> {
        let mut lengths = [8; 288];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        self.literals.build(&lengths)?;
        self.distances.build(&[5; DISTANCES as usize])
    }

    fn dynamic(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        bits.refill();
        let (literals, distances, stored) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
        let mut of_lengths = [0; LENGTHS_ORDER.len()];
        for place in &LENGTHS_ORDER[..stored] {
            bits.refill();
            of_lengths[*place] = bits.take(3)? as u8;
        }
        self.lengths.build(&of_lengths)?;
        let mut lengths = [0_u8; 257 + 31 + 32];
        let all = literals + distances;
        let mut at = 0;
        while at < all {
            bits.refill();
            let (length, times) = match self.lengths.symbol(bits)? {
                16 => (lengths[at.checked_sub(1)?], bits.take(2)? + 3),
                17 => (0, bits.take(3)? + 3),
                18 => (0, bits.take(7)? + 11),
                length => (length as u8, 1),
            };
            lengths[..all].get_mut(at..at + times)?.fill(length);
            at += times;
        }
        self.literals.build(&lengths[..literals])?;
        self.distances.build(&lengths[literals..all])
    }

    /// Reads over the codes of a block, up to its end.
    fn codes(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        loop {
            bits.refill();
            let mut symbol = self.literals.symbol(bits)?;
            // at most 15 bits each, of the 56 that are there
            if symbol < END {
                symbol = self.literals.symbol(bits)?;
            }
            if symbol < END {
                continue;
            }
            if symbol == END {
                return Some(());
            }
            bits.skip(*LENGTH_EXTRA.get(usize::from(symbol - END - 1))?)?;
            bits.refill();
            let distance = self.distances.symbol(bits).filter(|distance| *distance < DISTANCES)?;
            bits.skip(u32::from(distance / 2).saturating_sub(1))?;
        }
    }
}

/// A prefix code: for each number of `bits` bits the symbol that it begins with, and that symbol's length.
#[derive(Default)]
struct Code {
    table: Vec<u16>,
    bits: u32,
}

impl Code {
    /// Makes the canonical code of these lengths, 0 to 15 bits.
    fn build(&mut self, lengths: &[u8]) -> Option<()> {
        let longest = lengths.iter().copied().max().filter(|longest| *longest < 16)?;
        self.bits = u32::from(longest.max(1));
        self.table.clear();
        self.table.resize(1 << self.bits, 0);
        let mut next = 0_u32;
        for length in 1..=longest {
            next <<= 1;
            for (symbol, _) in lengths.iter().enumerate().filter(|(_, of)| **of == length) {
                if next >> length != 0 {
                    return None;
                }
                let first = (next.reverse_bits() >> (32 - u32::from(length))) as usize;
                let entry = (symbol as u16) << 4 | u16::from(length);
                self.table[first..].iter_mut().step_by(1 << length).for_each(|place| *place = entry);
                next += 1;
            }
        }
        Some(())
    }

    #[inline]
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let entry = *self.table.get(bits.look(self.bits))?;
        // an entry of no symbol has no length
        bits.skip(u32::from(entry & 15)).filter(|()| entry & 15 > 0)?;
        Some(entry >> 4)
    }
}

/// Bits of a stream, the lowest of each byte first.
struct Bits<'a> {
    stream: &'a [u8],
    /// The first byte that is not in `buffer`.
    next: usize,
    buffer: u64,
    /// Bits of `buffer` that count.
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(stream: &'a [u8]) -> Self {
        Bits { stream, next: 0, buffer: 0, count: 0 }
    }

    /// Makes at least 56 bits available, or all that are left.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.stream.get(self.next..).and_then(<[u8]>::first_chunk) {
            self.buffer |= u64::from_le_bytes(*word) << self.count;
            let bytes = (63 - self.count) / 8;
            self.next += bytes as usize;
            self.count += bytes * 8;
            return;
        }
        while self.count < 56
            && let Some(byte) = self.stream.get(self.next)
        {
            self.buffer |= u64::from(*byte) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    /// The next bits, of which some may lie behind the end.
    #[inline]
    fn look(&self, bits: u32) -> usize {
        (self.buffer & ((1 << bits) - 1)) as usize
    }

    #[inline]
    fn skip(&mut self, bits: u32) -> Option<()> {
        self.count = self.count.checked_sub(bits)?;
        self.buffer >>= bits;
        Some(())
    }

    #[inline]
    fn take(&mut self, bits: u32) -> Option<usize> {
        let taken = self.look(bits);
        self.skip(bits)?;
        Some(taken)
    }

    /// The number of the next bit in the stream.
    fn position(&self) -> usize {
        self.next * 8 - self.count as usize
    }

    /// Goes behind the bytes of a stored block.
    fn skip_stored(&mut self) -> Option<()> {
        let at = self.position().div_ceil(8);
        let bytes = u16::from_le_bytes(*self.stream.get(at..)?.first_chunk()?);
        self.next = at + 4 + usize::from(bytes);
        (self.buffer, self.count) = (0, 0);
        (self.next <= self.stream.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};
    use std::io::{Read, Write};

    /// One stream of several pieces, by compressors that are given each piece alone.
    fn joined(pieces: &[Vec<u8>], level: i32) -> Vec<u8> {
        let mut scanner = Scanner::default();
        let mut out = Vec::new();
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(level).unwrap());
        for (number, piece) in pieces.iter().enumerate() {
            let start = out.len();
            out.resize(start + compressor.deflate_compress_bound(piece.len()), 0);
            let written = compressor.deflate_compress(piece, &mut out[start..]).unwrap();
            out.truncate(start + written);
            if number + 1 < pieces.len() {
                leave_open(&mut scanner, &mut out, start).unwrap();
            }
        }
        out
    }

    fn inflated(stream: &[u8]) -> Vec<u8> {
        let mut decoder = flate2::read::DeflateDecoder::new(stream);
        let mut content = Vec::new();
        decoder.read_to_end(&mut content).unwrap();
        assert_eq!(decoder.total_in(), stream.len() as u64, "one stream");
        content
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..3000),
            "[a-c]{0,200}".prop_map(String::into_bytes),
            (0..200_000_usize, 1..5000_usize).prop_map(|(bytes, step)| (0..bytes).map(|at| (at / step + at % 7) as u8).collect()),
            (0..80_000_u64).prop_map(|lines| (0..lines / 20)
                .flat_map(|n| format!("{{\"id\":{n},\"h\":\"{:x}\"}}\n", n.wrapping_mul(0x9e37_79b9)).into_bytes())
                .collect()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn pieces_become_one_stream_that_holds_all_of_them(pieces in vec(piece(), 1..6), level in 1..=12_i32) {
            prop_assert!(inflated(&joined(&pieces, level)) == pieces.concat());
        }

        #[test]
        fn the_last_block_of_a_stream_by_another_compressor_is_found_too(content in piece(), level in 0..10_u32) {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(&content).unwrap();
            let mut out = encoder.finish().unwrap();
            leave_open(&mut Scanner::default(), &mut out, 0).unwrap();
            out.extend_from_slice(&[3, 0]);
            prop_assert!(inflated(&out) == content);
        }

        #[test]
        fn no_bytes_make_looking_for_it_panic(stream in vec(any::<u8>(), 0..300)) {
            let mut out = stream.clone();
            if leave_open(&mut Scanner::default(), &mut out, 0).is_none() {
                prop_assert!(out == stream);
            }
        }
    }
}
