//! Words of stored forms that may become more: one that this version does not know is kept as it is, and written again unchanged.
//!
//! Whoever only passes a word on need not know it. Whoever acts by its meaning asks [`Word::known`], and stops where there is none.

use super::{EntryKind, Role, SegmentKind, Why};
use crate::span::Roll;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The words of one field that this version knows.
pub trait Vocabulary: Copy + fmt::Debug + PartialEq + 'static {
    /// Every word.
    const WORDS: &'static [Self];

    /// The word as it is stored.
    fn word(self) -> &'static str;
}

/// A word of a stored form.
#[derive(Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// One that this version knows.
    Known(T),
    /// One of a newer version.
    Unknown(String),
}

impl<T: Vocabulary> Word<T> {
    /// What it means; `None` for a word of a newer version.
    pub fn known(&self) -> Option<T> {
        match self {
            Word::Known(known) => Some(*known),
            Word::Unknown(_) => None,
        }
    }

    /// The word as it is stored.
    pub fn as_str(&self) -> &str {
        match self {
            Word::Known(known) => known.word(),
            Word::Unknown(word) => word,
        }
    }
}

impl<T> From<T> for Word<T> {
    fn from(known: T) -> Self {
        Word::Known(known)
    }
}

impl<T: Default> Default for Word<T> {
    fn default() -> Self {
        Word::Known(T::default())
    }
}

impl<T: Vocabulary> PartialEq<T> for Word<T> {
    fn eq(&self, other: &T) -> bool {
        self.known() == Some(*other)
    }
}

impl<T: fmt::Debug> fmt::Debug for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Known(known) => known.fmt(f),
            Word::Unknown(word) => word.fmt(f),
        }
    }
}

impl<T: Vocabulary> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: Vocabulary> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = T::WORDS.iter().find(|known| known.word() == word);
        Ok(known.map_or(Word::Unknown(word), |known| Word::Known(*known)))
    }
}

impl Vocabulary for Roll {
    const WORDS: &'static [Self] = &Roll::ALL;

    fn word(self) -> &'static str {
        self.name()
    }
}

impl Vocabulary for Role {
    const WORDS: &'static [Self] = &[Role::Data, Role::SideFile];

    fn word(self) -> &'static str {
        match self {
            Role::Data => "data",
            Role::SideFile => "side_file",
        }
    }
}

impl Vocabulary for EntryKind {
    const WORDS: &'static [Self] = &[EntryKind::Files, EntryKind::Empty, EntryKind::Gap];

    fn word(self) -> &'static str {
        match self {
            EntryKind::Files => "files",
            EntryKind::Empty => "empty",
            EntryKind::Gap => "gap",
        }
    }
}

impl Vocabulary for SegmentKind {
    const WORDS: &'static [Self] = &[SegmentKind::History, SegmentKind::Files];

    fn word(self) -> &'static str {
        match self {
            SegmentKind::History => "history",
            SegmentKind::Files => "files",
        }
    }
}

impl Vocabulary for Why {
    const WORDS: &'static [Self] = &[Why::Again, Why::CutBack, Why::OtherTopic, Why::Lost];

    fn word(self) -> &'static str {
        match self {
            Why::Again => "again",
            Why::CutBack => "cut_back",
            Why::OtherTopic => "other_topic",
            Why::Lost => "lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays_as_it_is<T: Vocabulary>(unknown: &str) {
        let stored: Vec<&str> = T::WORDS.iter().map(|word| word.word()).chain([unknown]).collect();
        let text = serde_json::to_string(&stored).expect("words");
        let read: Vec<Word<T>> = serde_json::from_str(&text).expect("words");
        let known: Vec<Option<T>> = read.iter().map(Word::known).collect();
        assert_eq!(known, T::WORDS.iter().copied().map(Some).chain([None]).collect::<Vec<_>>());
        assert_eq!(serde_json::to_string(&read).expect("words"), text);
        assert!(read.iter().all(|word| T::WORDS.iter().filter(|known| word == *known).count() == usize::from(word.known().is_some())));
    }

    #[test]
    fn words_are_read_and_written_as_they_are_known_or_not() {
        stays_as_it_is::<Roll>("tide");
        stays_as_it_is::<Role>("Data");
        stays_as_it_is::<EntryKind>("");
        stays_as_it_is::<Why>("Again");
        stays_as_it_is::<SegmentKind>("\u{1f30a} \"so\"");
        assert!(serde_json::from_str::<Word<Role>>("{}").is_err(), "what is no word is another form");
    }
}
