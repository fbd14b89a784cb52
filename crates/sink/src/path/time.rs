//! The strftime parts: which patterns are allowed, what their output can hold, and a cache, because formatting a time costs
//! more than everything else that a path does with a record.

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

/// Times of which a year has four digits, that of the week (`%G`) as well: the years 1 to 9999, in milliseconds (a day aside at
/// either end for timezones).
const RANGE_MS: std::ops::Range<i64> = -62_135_510_400_000..253_402_214_400_000;

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
    let timestamp = time_of(at_ms)?;
    let zoned = timestamp.to_zoned(timezone.clone());
    scratch.clear();
    write!(scratch, "{}", zoned.strftime(&format.pattern))
        .map_err(|_| Error::new(Kind::BadRecord, format!("time `{timestamp}` does not fit the pattern `{}`", format.pattern)).because("no_time"))?;
    entry.text.clear();
    // Forgotten first: when something below fails, the entry must not hold for any time.
    (entry.from_ms, entry.until_ms) = (0, 0);
    encode::push(&mut entry.text, scratch.as_bytes(), leading);
    (entry.from_ms, entry.until_ms) = window(format.unit_ms, timezone, at_ms, i64::from(zoned.offset().seconds()) * 1000);
    Ok(())
}

/// The time of a number of milliseconds, unless its year has more than four digits.
pub(super) fn time_of(at_ms: i64) -> Result<Timestamp> {
    // Whole seconds, rounded down: no pattern shows less, and `%s` would round times before 1970 up.
    let in_range = RANGE_MS.contains(&at_ms).then(|| Timestamp::from_second(at_ms.div_euclid(1000)).ok()).flatten();
    in_range.ok_or_else(|| {
        Error::new(Kind::BadRecord, format!("time `{at_ms}` (milliseconds since 1970) lies outside the years 1 to 9999"))
            .because("no_time")
            .hint("a producer that counts in microseconds or seconds makes such times")
    })
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

/// A time from text: RFC 3339; without an offset, in `timezone`; or a number of seconds, milli-, micro- or nanoseconds since
/// 1970, told apart by its size. In milliseconds.
pub(super) fn time_from_text(text: &str, timezone: &TimeZone) -> Option<i64> {
    if let Some(ms) = time_from_number(text) {
        return Some(ms);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(floor_ms(timestamp));
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    civil.to_zoned(timezone.clone()).ok().map(|zoned| floor_ms(zoned.timestamp()))
}

fn floor_ms(timestamp: Timestamp) -> i64 {
    let nanoseconds = timestamp.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

/// A number of units since 1970 in milliseconds: below 10^11 seconds (until the year 5138), below 10^14 milliseconds, below
/// 10^17 microseconds, else nanoseconds.
pub(super) fn time_from_number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return match number.unsigned_abs() {
            0..100_000_000_000 => number.checked_mul(1000),
            100_000_000_000..100_000_000_000_000 => Some(number),
            100_000_000_000_000..100_000_000_000_000_000 => Some(number.div_euclid(1000)),
            _ => Some(number.div_euclid(1_000_000)),
        };
    }
    let begins = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number: f64 = if begins { text.parse().ok()? } else { return None };
    let factor = match number.abs() {
        size if size < 1e11 => 1e3,
        size if size < 1e14 => 1.0,
        size if size < 1e17 => 1e-3,
        size if size < 1e20 => 1e-6,
        _ => return None,
    };
    Some((number * factor).floor() as i64)
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
    fn times_are_read_from_text_and_numbers_of_every_usual_unit() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for same in [
            "2026-01-01T00:00:00.250Z",
            "2026-01-01T01:00:00.25+01:00",
            "2026-01-01T01:00:00.25",
            "1767225600.25",
            "1767225600250",
            "1767225600250000",
        ] {
            assert_eq!(time_from_text(same, &berlin), Some(1_767_225_600_250), "{same}");
        }
        assert_eq!(time_from_text("2026-01-01", &berlin), Some(1_767_222_000_000));
        assert_eq!(time_from_text("1767225600250000000", &berlin), Some(1_767_225_600_250));
        for no_time in ["", "yesterday", "nan", "1e300", "2026-13-01"] {
            assert_eq!(time_from_text(no_time, &berlin), None, "{no_time}");
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
