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

/// Columns of text; the first ones to the left, the others, but the last when it is words, to the right.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    left: usize,
}

impl Table {
    /// A table with these headings, of which the first `left` columns are words.
    pub(crate) fn new(headings: &[&str], left: usize) -> Self {
        Table { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], left }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..columns).map(|column| self.rows.iter().filter_map(|row| row.get(column)).map(wide).max().unwrap_or(0)).collect();
        let words = |column: usize| column < self.left || self.rows[1..].iter().filter_map(|row| row.get(column)).any(|cell| is_words(cell));
        let line = |row: &Vec<String>| {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                if words(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

fn is_words(cell: &str) -> bool {
    cell.chars().next().is_some_and(char::is_alphabetic)
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

    #[test]
    fn a_table_puts_numbers_to_the_right_and_words_to_the_left() {
        let mut table = Table::new(&["partition", "next", "state"], 1);
        table.row(vec!["orders-0".to_owned(), "1,000".to_owned(), "settled".to_owned()]);
        table.row(vec!["o-1".to_owned(), "7".to_owned(), "stopped".to_owned()]);
        assert_eq!(table.lines(), ["partition   next  state", "orders-0   1,000  settled", "o-1            7  stopped"]);
    }
}
