//! Numbers as people read them.

use std::time::Duration;

/// A number with a comma between each three digits: `1,234,567`.
pub(crate) fn number(value: impl TryInto<i128>) -> String {
    let value: i128 = value.try_into().unwrap_or(0);
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size with at most one digit after the point: `1.5 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A count with its noun: `1 file`, `2 files`.
pub(crate) fn count(value: u64, noun: &str) -> String {
    let plural = if value == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(value))
}

/// A time span: `850 ms`, `12.3 s`, `5 min 02 s`, `3 h 07 min`.
pub(crate) fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0 => format!("{} ms", value.as_millis()),
        1..60 => format!("{:.1} s", value.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sizes_and_durations_read_well() {
        assert_eq!([number(0), number(999), number(1000), number(-1_234_567)], ["0", "999", "1,000", "-1,234,567"]);
        assert_eq!([bytes(1023), bytes(1536), bytes(5 << 30)], ["1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([count(1, "file"), count(2000, "file")], ["1 file", "2,000 files"]);
        let times = [850, 12_300, 302_000, 11_220_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(times, ["850 ms", "12.3 s", "5 min 02 s", "3 h 07 min"]);
    }
}
