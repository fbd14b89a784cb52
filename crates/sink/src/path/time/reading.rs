//! What counts as a time in a value, and which one it is. `docs/path-templates.md` has the same as a table.
//!
//! Digits alone are a date where only a date makes sense: nobody writes `20260101` for a day of August 1970. What looks like one and
//! is none (`20261399`) is no time, rather than another one than was meant.

use super::edge::{self, floor_ms};
use jiff::{Timestamp, civil::DateTime, fmt::temporal::Pieces, tz::TimeZone};

/// A time from text, in milliseconds since 1970: RFC 3339, or digits. Without an offset it is a time in `timezone`.
pub(in crate::path) fn time_from_text(text: &str, timezone: &TimeZone) -> Option<i64> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.len() {
            4 | 6 | 8 | 14 => date(text, timezone),
            12 | 17 if is_of_our_time(text) => date(text, timezone),
            _ => counted(text),
        };
    }
    if let Some(ms) = counted(text) {
        return Some(ms);
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(floor_ms(timestamp));
    }
    let pieces = Pieces::parse(text).ok()?;
    let local = pieces.date().to_datetime(pieces.time().unwrap_or_default());
    match (pieces.to_numeric_offset(), pieces.to_time_zone().ok()?) {
        (Some(offset), _) => Some(moment(local, &TimeZone::UTC)? - i64::from(offset.seconds()) * 1000),
        (None, Some(zone)) => moment(local, &zone),
        (None, None) => moment(local, timezone),
    }
}

/// A time from a number as JSON has it, in milliseconds since 1970: a date in digits where only that makes sense, or a count.
pub(in crate::path) fn time_from_number(text: &str, timezone: &TimeZone) -> Option<i64> {
    let whole = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|byte| byte == b'0')).map_or(text, |(whole, _)| whole);
    let is_date = matches!(whole.len(), 4 | 6 | 8 | 14 | 17) && is_of_our_time(whole) && whole.bytes().all(|byte| byte.is_ascii_digit());
    if is_date { date(whole, timezone) } else { counted(text) }
}

/// Whether digits begin as a year of these two centuries does.
fn is_of_our_time(digits: &str) -> bool {
    digits.starts_with("19") || digits.starts_with("20")
}

/// `yyyy[MM[dd[HHmm[ss[SSS]]]]]`, in a timezone.
fn date(digits: &str, timezone: &TimeZone) -> Option<i64> {
    let part = |at: usize, length: usize, missing: i16| digits.get(at..at + length).map_or(Some(missing), |part| part.parse().ok());
    let small = |at: usize, missing: i16| part(at, 2, missing).and_then(|part| i8::try_from(part).ok());
    let milliseconds = i32::from(part(14, 3, 0)?) * 1_000_000;
    let civil = DateTime::new(part(0, 4, 0)?, small(4, 1)?, small(6, 1)?, small(8, 0)?, small(10, 0)?, small(12, 0)?, milliseconds);
    moment(civil.ok().filter(|civil| civil.year() > 0)?, timezone)
}

/// The moment of a local time.
fn moment(civil: DateTime, timezone: &TimeZone) -> Option<i64> {
    match civil.to_zoned(timezone.clone()) {
        Ok(zoned) => Some(floor_ms(zoned.timestamp())),
        Err(_) => edge::moment(civil, timezone),
    }
}

/// The last day of the year 9999 in seconds, wherever it is: how some say "never", in milliseconds as well. As a thousandth of that it
/// would be four minutes of the year 1978.
const NEVER_S: std::ops::Range<u64> = 253_402_128_000..253_402_387_200;

/// A number of units since 1970 in milliseconds: below 10^11 seconds (until the year 5138), below 10^14 milliseconds, below
/// 10^17 microseconds, else nanoseconds.
fn counted(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return match number.unsigned_abs() {
            seconds if NEVER_S.contains(&seconds) => number.checked_mul(1000),
            ms if NEVER_S.contains(&(ms / 1000)) => Some(number),
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

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn at(rfc: &str) -> Option<i64> {
        rfc.parse::<Timestamp>().ok().map(floor_ms)
    }

    #[test]
    fn times_are_read_from_text_and_numbers_of_every_usual_unit() {
        for same in [
            "2026-01-01T00:00:00.250Z",
            "2026-01-01T01:00:00.25+01:00",
            "2026-01-01T01:00:00.25",
            "1767225600.25",
            "1767225600250",
            "1767225600250000",
        ] {
            assert_eq!(time_from_text(same, &berlin()), Some(1_767_225_600_250), "{same}");
        }
        for same in ["1767225600.25", "1767225600250", "1767225600250000", "1767225600250000000", "1.76722560025e9"] {
            assert_eq!(time_from_number(same, &berlin()), Some(1_767_225_600_250), "{same}");
        }
        assert_eq!(time_from_text("2026-01-01", &berlin()), Some(1_767_222_000_000));
        assert_eq!(time_from_text("1767225600250000000", &berlin()), Some(1_767_225_600_250));
        for no_time in ["", "yesterday", "nan", "1e300", "2026-13-01", "9999-12-31T23:59:59+99:00"] {
            assert_eq!(time_from_text(no_time, &berlin()), None, "{no_time}");
        }
    }

    /// The table of docs/path-templates.md.
    #[test]
    fn digits_are_a_date_where_only_a_date_makes_sense() {
        let (no_time, midnight) = (None, at("2025-12-31T23:00:00Z"));
        for (digits, text, number) in [
            ("2026", midnight, midnight),
            ("202601", midnight, midnight),
            ("20260101", midnight, midnight),
            ("20260101123000", at("2026-01-01T11:30:00Z"), at("2026-01-01T11:30:00Z")),
            ("20260101123000250", at("2026-01-01T11:30:00.25Z"), at("2026-01-01T11:30:00.25Z")),
            ("202601011230", at("2026-01-01T11:30:00Z"), at("1976-06-02T22:03:31.230Z")),
            ("19991231", at("1999-12-30T23:00:00Z"), at("1999-12-30T23:00:00Z")),
            // what looks like a date and is none is no time
            ("20261399", no_time, no_time),
            ("202613", no_time, no_time),
            ("20260230", no_time, no_time),
            ("20260101250000", no_time, no_time),
            ("20260101126000999", no_time, no_time),
            ("202601012460", no_time, at("1976-06-02T22:03:32.460Z")),
            ("00000000", no_time, Some(0)),
            // text of these lengths is never a count, a number that cannot be a date of these two centuries is one
            ("1700", at("1700-01-01T00:00:00Z").map(|ms| ms - 53 * 60_000 - 28_000), at("1970-01-01T00:28:20Z")),
            ("17672256", no_time, at("1970-07-24T12:57:36Z")),
            ("176722", no_time, at("1970-01-03T01:05:22Z")),
            ("17672256002500", no_time, at("2530-01-05T00:00:02.5Z")),
            // other lengths are counts
            ("0", Some(0), Some(0)),
            ("2026010112", at("2034-03-15T04:35:12Z"), at("2034-03-15T04:35:12Z")),
            ("1767225600", at("2026-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")),
            ("1767225600250", at("2026-01-01T00:00:00.25Z"), at("2026-01-01T00:00:00.25Z")),
            ("1767225600250000", at("2026-01-01T00:00:00.25Z"), at("2026-01-01T00:00:00.25Z")),
            ("1767225600250000000", at("2026-01-01T00:00:00.25Z"), at("2026-01-01T00:00:00.25Z")),
            ("253402300799999", Some(253_402_300_799_999), Some(253_402_300_799_999)),
            ("253402300799", Some(253_402_300_799_000), Some(253_402_300_799_000)),
            ("17672256002500000", at("2530-01-05T00:00:02.5Z"), at("2530-01-05T00:00:02.5Z")),
        ] {
            assert_eq!(time_from_text(digits, &berlin()), text, "text {digits}");
            assert_eq!(time_from_number(digits, &berlin()), number, "number {digits}");
        }
        // a sign or a fraction makes it a count; a fraction of nothing is how some write whole numbers
        assert_eq!(time_from_text("-2026", &berlin()), Some(-2_026_000));
        assert_eq!(time_from_number("-20260101", &berlin()), Some(-20_260_101_000));
        assert_eq!(time_from_number("2026.5", &berlin()), Some(2_026_500));
        assert_eq!(time_from_number("20260101.0", &berlin()), midnight);
    }
}
