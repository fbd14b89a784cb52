//! The strftime parts: which patterns are allowed, what their output can hold, and a cache, because formatting a time costs
//! more than everything else that a path does with a record. What counts as a time in a value is said in reading.rs.

mod edge;
mod reading;

pub(super) use reading::{time_from_number, time_from_text};

use super::{charset::CharSet, encode};
use crate::error::{Error, Kind, Result};
use jiff::{Timestamp, tz::TimeZone};
use std::fmt::Write;

/// One folder's share of a strftime pattern: the pattern between two `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimeFormat {
    pattern: String,
    /// The output changes at full multiples of this, in milliseconds of local time.
    unit_ms: i64,
    /// What the output can hold.
    pub(super) output: CharSet,
    /// Whether it begins with a literal `.` or `_`.
    pub(super) hidden: bool,
    /// Bytes of the longest output.
    pub(super) longest: usize,
}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Conversions: letter, how often the output changes, and what it holds (in the notation of [`CharSet::of`]).
const CONVERSIONS: [(char, i64, &str); 32] = [
    ('Y', DAY, "0-9"),
    ('y', DAY, "0-9"),
    ('C', DAY, "0-9"),
    ('m', DAY, "0-9"),
    ('d', DAY, "0-9"),
    ('e', DAY, "0-9 "),
    ('j', DAY, "0-9"),
    ('q', DAY, "0-9"),
    ('U', DAY, "0-9"),
    ('W', DAY, "0-9"),
    ('V', DAY, "0-9"),
    ('G', DAY, "0-9"),
    ('g', DAY, "0-9"),
    ('u', DAY, "0-9"),
    ('w', DAY, "0-9"),
    ('F', DAY, "0-9-"),
    ('a', DAY, "A-Za-z"),
    ('A', DAY, "A-Za-z"),
    ('b', DAY, "A-Za-z"),
    ('B', DAY, "A-Za-z"),
    ('h', DAY, "A-Za-z"),
    ('z', DAY, "0-9+-"),
    ('Z', DAY, "A-Za-z0-9+-"),
    ('H', HOUR, "0-9"),
    ('I', HOUR, "0-9"),
    ('k', HOUR, "0-9 "),
    ('l', HOUR, "0-9 "),
    ('p', HOUR, "A-Za-z"),
    ('P', HOUR, "A-Za-z"),
    ('M', MINUTE, "0-9"),
    ('S', SECOND, "0-9"),
    ('s', SECOND, "0-9-"),
];
/// Those whose output holds a `:`, which is encoded.
const CLOCKS: [(char, i64); 2] = [('R', MINUTE), ('T', SECOND)];

/// Bytes of a conversion's longest output, encoded. Names of timezones have no limit of their own; none has more.
fn longest(letter: char) -> usize {
    match letter {
        's' | 'T' | 'Z' => 12,
        'F' => 10,
        'A' | 'B' => 9,
        'R' | 'z' => 7,
        'Y' | 'G' => 4,
        'j' | 'a' | 'b' | 'h' => 3,
        _ => 2,
    }
}

impl TimeFormat {
    /// Reads one folder's pattern; the message says what is wrong with it.
    pub(super) fn parse(pattern: &str) -> Result<Self, String> {
        let mut output = CharSet::NONE;
        let mut unit_ms = DAY;
        let mut plain = String::new();
        let mut conversions_longest = 0;
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                plain.push(character);
                continue;
            }
            let mut letter = characters.next();
            if let Some('-' | '_' | '0' | '^') = letter {
                if letter == Some('_') {
                    output.add(b' ');
                }
                letter = characters.next();
            }
            let Some(letter) = letter else { return Err("ends with a bare `%`".to_owned()) };
            conversions_longest += if letter == '%' { 0 } else { longest(letter) };
            if letter == '%' {
                plain.push('%');
            } else if let Some((_, unit, holds)) = CONVERSIONS.iter().find(|(known, ..)| *known == letter) {
                unit_ms = unit_ms.min(*unit);
                output = output.union(CharSet::of(holds));
            } else if let Some((_, unit)) = CLOCKS.iter().find(|(known, _)| *known == letter) {
                unit_ms = unit_ms.min(*unit);
                output = output.union(CharSet::of("0-9A%"));
            } else {
                return Err(match letter {
                    'D' | 'x' => format!("holds `%{letter}`, which depends on customs; write `%Y-%m-%d` or `%m/%d/%y`"),
                    _ => format!("holds `%{letter}`, which is none of {}", known_conversions()),
                });
            }
        }
        let mut encoded = String::new();
        if !plain.is_empty() {
            encode::push(&mut encoded, plain.as_bytes(), false);
        }
        encoded.bytes().for_each(|byte| output.add(byte));
        let (hidden, longest) = (pattern.starts_with(['.', '_']), encoded.len() + conversions_longest);
        Ok(TimeFormat { pattern: pattern.to_owned(), unit_ms, output, hidden, longest })
    }
}

fn known_conversions() -> String {
    let letters = CONVERSIONS.iter().map(|(letter, ..)| *letter).chain(CLOCKS.iter().map(|(letter, _)| *letter));
    letters.map(|letter| format!("`%{letter}`")).collect::<Vec<_>>().join(" ")
}

/// Times that are shown, in milliseconds: those of the years 1 to 9999, wherever they are given, and so a day more at either end.
/// (At the end of the year 9999 no timezone shows a later one, see edge.rs; at the beginning of the year 1 some show the year 0,
/// which has four digits, that of the week as well.)
const RANGE_MS: std::ops::Range<i64> = -62_135_683_200_000..253_402_387_200_000;

/// Formatted times of one part: entries by the unit that the pattern can see, so that a record whose hour was seen before
/// costs two comparisons. It grows while records jump between more units than it holds.
#[derive(Debug, Default)]
pub(super) struct TimeCache {
    entries: Vec<Entry>,
    scratch: String,
    misses: usize,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    from_ms: i64,
    until_ms: i64,
    text: String,
}

/// Entries of a new cache.
const ENTRIES: usize = 16;
/// Entries at most: eleven years of days.
const ENTRIES_MAX: usize = 4096;

impl TimeCache {
    /// The encoded text of `at_ms`, and the times between which it stays the same.
    pub(super) fn text(&mut self, format: &TimeFormat, timezone: &TimeZone, at_ms: i64, leading: bool) -> Result<(&str, i64, i64)> {
        let mut index = self.index(format, at_ms);
        if !self.entries.get(index).is_some_and(|entry| entry.from_ms <= at_ms && at_ms < entry.until_ms) {
            self.grow();
            index = self.index(format, at_ms);
            render(&mut self.entries[index], &mut self.scratch, format, timezone, at_ms, leading)?;
        }
        let entry = &self.entries[index];
        Ok((&entry.text, entry.from_ms, entry.until_ms))
    }

    fn index(&self, format: &TimeFormat, at_ms: i64) -> usize {
        // The length is a power of two, or nothing at first.
        (at_ms.div_euclid(format.unit_ms) as usize) & self.entries.len().wrapping_sub(1)
    }

    /// Doubles the entries when misses are more than time going on explains: a live topic misses once an hour or a day.
    fn grow(&mut self) {
        self.misses += 1;
        let length = self.entries.len();
        if length == 0 {
            self.entries.resize(ENTRIES, Entry::default());
        } else if self.misses > 4 * length && length < ENTRIES_MAX {
            self.entries.clear();
            self.entries.resize(2 * length, Entry::default());
            self.misses = 0;
        }
    }
}

#[cold]
fn render(entry: &mut Entry, scratch: &mut String, format: &TimeFormat, timezone: &TimeZone, at_ms: i64, leading: bool) -> Result<()> {
    if !RANGE_MS.contains(&at_ms) {
        return Err(Error::new(Kind::BadRecord, format!("time `{at_ms}` (milliseconds since 1970) lies outside the years 1 to 9999"))
            .because("no_time")
            .hint("a producer that counts in microseconds or seconds makes such times"));
    }
    // Whole seconds, rounded down: no pattern shows less, and `%s` would round times before 1970 up.
    let second = at_ms.div_euclid(1000);
    scratch.clear();
    let (written, window) = match Timestamp::from_second(second) {
        Ok(timestamp) => {
            let zoned = timestamp.to_zoned(timezone.clone());
            let window = window(format.unit_ms, timezone, at_ms, i64::from(zoned.offset().seconds()) * 1000);
            (write!(scratch, "{}", zoned.strftime(&format.pattern)).is_ok(), window)
        }
        Err(_) => (edge::write(scratch, &format.pattern, timezone, second).is_some(), (at_ms, at_ms + 1)),
    };
    if !written {
        let message = format!("time `{at_ms}` (milliseconds since 1970) does not fit the pattern `{}`", format.pattern);
        return Err(Error::new(Kind::BadRecord, message).because("no_time"));
    }
    entry.text.clear();
    encode::push(&mut entry.text, scratch.as_bytes(), leading);
    (entry.from_ms, entry.until_ms) = window;
    Ok(())
}

/// From when until when local time shows the same unit under the same offset.
fn window(unit_ms: i64, timezone: &TimeZone, at_ms: i64, offset_ms: i64) -> (i64, i64) {
    let from = (at_ms + offset_ms).div_euclid(unit_ms) * unit_ms - offset_ms;
    let until = from + unit_ms;
    // A timezone's offset may change inside the unit; what was shown before holds only up to the change.
    let second = at_ms.div_euclid(1000);
    let at = |second: i64| Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
    let changed = timezone.preceding(at(second + 1)).next().map_or(from, |change| change.timestamp().as_millisecond());
    let changes = timezone.following(at(second)).next().map_or(until, |change| change.timestamp().as_millisecond());
    (from.max(changed.min(at_ms)), until.min(changes.max(at_ms + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fresh(pattern: &str, timezone: &TimeZone, at_ms: i64) -> String {
        let mut out = String::new();
        let text = Timestamp::from_second(at_ms.div_euclid(1000)).unwrap().to_zoned(timezone.clone()).strftime(pattern).to_string();
        encode::push(&mut out, text.as_bytes(), false);
        out
    }

    #[test]
    fn the_usual_times_of_never_are_shown_in_every_timezone() {
        let pattern = "%Y-%m-%dT%T %G-W%V %a %j %q %s %z%Z";
        let shown = |zone: &str, text: &str| {
            let timezone = TimeZone::get(zone).unwrap();
            let at_ms = time_from_text(text, &timezone).unwrap_or_else(|| panic!("{text} is no time"));
            let format = TimeFormat::parse(pattern).unwrap();
            let mut cache = TimeCache::default();
            let (text, from, until) = cache.text(&format, &timezone, at_ms, false).unwrap();
            assert!(from <= at_ms && at_ms < until);
            assert!(text.bytes().all(|byte| format.output.contains(byte)) && text.len() <= format.longest, "{text}");
            text.replace("%3A", ":")
        };
        for (zone, text, expected) in [
            ("UTC", "9999-12-31", "9999-12-31T00:00:00 9999-W52 Fri 365 4 253402214400 +0000UTC"),
            ("UTC", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59 9999-W52 Fri 365 4 253402300799 +0000UTC"),
            ("UTC", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59 9999-W52 Fri 365 4 253402300799 +0000UTC"),
            ("UTC", "9999-12-30T21:59:59Z", "9999-12-30T21:59:59 9999-W52 Thu 364 4 253402207199 +0000UTC"),
            ("UTC", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00 0001-W01 Mon 001 1 -62135596800 +0000UTC"),
            ("UTC", "00010101", "0001-01-01T00:00:00 0001-W01 Mon 001 1 -62135596800 +0000UTC"),
            ("UTC", "9999", "9999-01-01T00:00:00 9998-W53 Fri 001 1 253370764800 +0000UTC"),
            ("America/New_York", "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59 9999-W52 Fri 365 4 253402318799 -0500EST"),
            ("America/New_York", "9999-12-31", "9999-12-31T00:00:00 9999-W52 Fri 365 4 253402232400 -0500EST"),
            // there it is 1:00 of the year 10000: a name has four digits for a year, and nobody means more than "never"
            ("Europe/Berlin", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59 9999-W52 Fri 365 4 253402300799 +0100CET"),
            ("Pacific/Auckland", "9999-12-31", "9999-12-31T00:00:00 9999-W52 Fri 365 4 253402167600 +1300NZDT"),
            ("Pacific/Auckland", "9999-12-31T23:59:59+00:00", "9999-12-31T23:59:59 9999-W52 Fri 365 4 253402300799 +1300NZDT"),
            ("Europe/Berlin", "0001-01-01", "0001-01-01T00:00:00 0001-W01 Mon 001 1 -62135600008 +005328LMT"),
            ("America/New_York", "0001-01-01T00:00:00Z", "0000-12-31T19:03:58 0000-W52 Sun 366 4 -62135596800 -045602LMT"),
        ] {
            assert_eq!(shown(zone, text), expected, "{text} in {zone}");
        }
    }

    #[test]
    fn times_outside_of_the_years_one_to_9999_are_refused() {
        let format = TimeFormat::parse("%Y").unwrap();
        for at_ms in [i64::MIN, -62_135_683_200_001, 253_402_387_200_000, i64::MAX] {
            let error = TimeCache::default().text(&format, &TimeZone::UTC, at_ms, false).map(drop).unwrap_err();
            assert_eq!((error.kind(), error.reason()), (Kind::BadRecord, Some("no_time")), "{at_ms}");
        }
        for at_ms in [-62_135_683_200_000, 253_402_387_199_999] {
            assert!(TimeCache::default().text(&format, &TimeZone::UTC, at_ms, false).is_ok(), "{at_ms}");
        }
    }

    #[test]
    fn patterns_that_depend_on_customs_or_are_unknown_are_refused() {
        assert!(TimeFormat::parse("%Q").unwrap_err().contains("`%Q`"));
        assert!(TimeFormat::parse("%D").unwrap_err().contains("%Y-%m-%d"));
        assert!(TimeFormat::parse("%Y%").unwrap_err().contains("bare"));
    }

    #[test]
    fn an_hour_that_a_clock_change_cuts_in_two_is_shown_right_on_both_sides() {
        let lord_howe = TimeZone::get("Australia/Lord_Howe").unwrap();
        let format = TimeFormat::parse("%H%z").unwrap();
        let mut cache = TimeCache::default();
        // On 2026-04-05 the clock there goes back by half an hour at 02:00 (15:00 UTC).
        for at in (1_775_307_600_000..1_775_318_400_000).step_by(600_000) {
            let (text, ..) = cache.text(&format, &lord_howe, at, false).unwrap();
            assert_eq!(text, fresh("%H%z", &lord_howe, at), "{at}");
        }
    }

    proptest! {
        #[test]
        fn the_cache_never_shows_another_time_than_a_fresh_format(
            zone in prop_oneof!["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns", "Africa/Monrovia", "Pacific/Apia"],
            pattern in prop_oneof!["%Y-%m-%d", "%H", "%Y %j %H:%M", "%T", "%s", "%F %z", "%G-%V %b %p"],
            start in -3_000_000_000_000_i64..4_000_000_000_000,
            steps in proptest::collection::vec(-9_000_000_i64..9_000_000, 1..80),
        ) {
            let timezone = TimeZone::get(&zone).unwrap();
            let format = TimeFormat::parse(&pattern).unwrap();
            let mut cache = TimeCache::default();
            let mut at = start;
            for step in steps {
                at += step;
                let (text, from, until) = cache.text(&format, &timezone, at, false).unwrap();
                prop_assert!(from <= at && at < until);
                prop_assert_eq!(text, fresh(&pattern, &timezone, at));
                prop_assert!(text.bytes().all(|byte| format.output.contains(byte)), "{}", text);
                let text = text.to_owned();
                prop_assert_eq!(&text, &fresh(&pattern, &timezone, from));
                prop_assert_eq!(&text, &fresh(&pattern, &timezone, until - 1));
            }
        }
    }
}
