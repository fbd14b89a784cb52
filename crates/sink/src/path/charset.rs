//! A set of bytes: what a part of a path can hold.

/// A set of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharSet([u64; 4]);

impl CharSet {
    pub(super) const NONE: CharSet = CharSet([0; 4]);

    /// The bytes named by `text`: single characters, and ranges as `a-z`; a `-` at the end means itself.
    pub(super) fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut set = CharSet::NONE;
        let mut index = 0;
        while index < bytes.len() {
            if index + 2 < bytes.len() && bytes[index + 1] == b'-' {
                (bytes[index]..=bytes[index + 2]).for_each(|byte| set.add(byte));
                index += 3;
            } else {
                set.add(bytes[index]);
                index += 1;
            }
        }
        set
    }

    /// All bytes for which `wanted` holds.
    pub(super) fn filter(wanted: impl Fn(u8) -> bool) -> Self {
        let mut set = CharSet::NONE;
        (0..=255).filter(|byte| wanted(*byte)).for_each(|byte| set.add(byte));
        set
    }

    pub(super) fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(super) fn contains(self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & (1 << (byte & 63)) != 0
    }

    pub(super) fn union(self, other: CharSet) -> Self {
        CharSet(std::array::from_fn(|index| self.0[index] | other.0[index]))
    }

    pub(super) fn meets(self, other: CharSet) -> bool {
        self.0.iter().zip(other.0).any(|(mine, theirs)| mine & theirs != 0)
    }
}
