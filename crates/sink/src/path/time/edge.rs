//! The last hours of the year 9999, where the usual dates of "never" lie and which a [`Timestamp`] does not reach: it leaves room
//! for any UTC offset.
//!
//! The calendar repeats itself every 400 years, to the day of the week, and so do the rules of timezones: a time there is shown as
//! that of 400 years before. Where local time is in the year 10000 already, the last second of the year 9999 is shown.

use jiff::{Timestamp, civil::DateTime, fmt::strtime::BrokenDownTime, tz::TimeZone};
use std::fmt::Write;

/// Years after which the calendar begins again.
const CYCLE_YEARS: i16 = 400;
/// The same in seconds.
const CYCLE_SECONDS: i64 = 146_097 * 86_400;
/// The last second of the year 9999, as a local time without an offset.
const LAST_SECOND: i64 = 253_402_300_799;

/// Appends a time behind the last of `Timestamp`, in seconds since 1970; `None` when the pattern cannot show it.
pub(super) fn write(out: &mut String, pattern: &str, timezone: &TimeZone, second: i64) -> Option<()> {
    let same = Timestamp::from_second(second - CYCLE_SECONDS).ok()?;
    let info = timezone.to_offset_info(same);
    let local = (second + i64::from(info.offset().seconds())).min(LAST_SECOND);
    let earlier = Timestamp::from_second(local - CYCLE_SECONDS).ok()?.to_zoned(TimeZone::UTC).datetime();
    let mut shown = BrokenDownTime::from(later(earlier)?);
    shown.set_offset(Some(info.offset()));
    write!(out, "{}", shown.to_string(spelled_out(pattern, second, info.abbreviation())).ok()?).ok()
}

/// The moment of a local time that a timestamp does not reach, in milliseconds since 1970.
pub(super) fn moment(civil: DateTime, timezone: &TimeZone) -> Option<i64> {
    let earlier = civil.with().year(civil.year().checked_sub(CYCLE_YEARS)?).build().ok()?;
    let zoned = earlier.to_zoned(timezone.clone()).ok()?;
    floor_ms(zoned.timestamp()).checked_add(CYCLE_SECONDS * 1000)
}

/// Whole milliseconds since 1970, rounded down.
pub(super) fn floor_ms(timestamp: Timestamp) -> i64 {
    let nanoseconds = timestamp.as_nanosecond().div_euclid(1_000_000);
    i64::try_from(nanoseconds).unwrap_or(i64::MAX)
}

fn later(civil: DateTime) -> Option<DateTime> {
    civil.with().year(civil.year().checked_add(CYCLE_YEARS)?).build().ok()
}

/// The pattern with that in place of `%s` and `%Z` which only a `Timestamp` could say.
fn spelled_out(pattern: &str, second: i64, abbreviation: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let conversion = &rest[at + 1..];
        let flags = conversion.len() - conversion.trim_start_matches(['-', '_', '0', '^']).len();
        let letter = conversion[flags..].chars().next();
        let end = at + 1 + flags + letter.map_or(0, char::len_utf8);
        match letter {
            Some('s') => drop(write!(out, "{second}")),
            Some('Z') => out.push_str(abbreviation),
            _ => out.push_str(&rest[at..end]),
        }
        rest = &rest[end..];
    }
    out + rest
}
