//! What `produce` and `consume` count, under the names that kaf-s3-connector's container gives its counters.
//!
//! ```text
//! # TYPE produce_delivered counter
//! produce_delivered{partition="0",topic="orders"} 3
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A loop that has said nothing for so long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Counters by name and labels.
pub(crate) struct Counters {
    counters: Mutex<BTreeMap<&'static str, BTreeMap<String, u64>>>,
    /// When the poll loop was last heard; `None` while there is none, or while it may take its time.
    heard: Mutex<Option<Instant>>,
}

/// An event's name and what it means, for the manual.
pub(crate) const EVENTS: &[(&str, &str)] = &[
    ("stdin_lines", "Lines of standard input that became records."),
    ("stdin_blank_lines", "Blank lines, which are passed over."),
    ("produce_inline", "Records delivered with their payload inside. `topic`"),
    ("produce_offloaded", "Records delivered with a reference to their payload. `topic`"),
    ("produce_delivered", "Records that Kafka has. `topic`, `partition`"),
    ("produce_error", "Records that were not delivered."),
    ("produce_queue_full", "Waits for room that took longer than `send_timeout_ms`. `topic`"),
    ("consume_inline", "Records written whose payload was inside. `topic`"),
    ("consume_success", "Records written whose payload was offloaded. `topic`"),
    ("consume_skipped", "Records passed over: `reason` is `tombstone`, `object_missing` or `object_forbidden`. `topic`, `reason`"),
    ("consume_integrity_error", "Records and payloads that cannot be trusted. `reason`"),
    ("consume_unhandled_error", "Failures of Kafka or the store that were tried again."),
];

impl Counters {
    pub(crate) fn new() -> Self {
        Counters { counters: Mutex::default(), heard: Mutex::new(None) }
    }

    /// Counts an event.
    pub(crate) fn count(&self, event: &'static str, labels: &[(&str, &str)]) {
        self.add(event, labels, 1);
    }

    /// Counts an event and the bytes of its payload beside it.
    pub(crate) fn count_bytes(&self, event: &'static str, labels: &[(&str, &str)], bytes: u64) {
        self.add(event, labels, 1);
        let of_bytes = match event {
            "produce_inline" => "produce_inline_bytes",
            "produce_offloaded" => "produce_offloaded_bytes",
            "produce_delivered" => "produce_delivered_bytes",
            "produce_error" => "produce_error_bytes",
            "consume_inline" => "consume_inline_bytes",
            "consume_success" => "consume_success_bytes",
            "stdin_lines" => "stdin_lines_bytes",
            _ => return,
        };
        self.add(of_bytes, labels, bytes);
    }

    fn add(&self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        *lock(&self.counters).entry(name).or_default().entry(pairs.join(",")).or_default() += value;
    }

    /// The sum of a counter over its labels.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        lock(&self.counters).get(name).map_or(0, |series| series.values().sum())
    }

    /// The poll loop is alive.
    pub(crate) fn beat(&self) {
        *lock(&self.heard) = Some(Instant::now());
    }

    /// How long the poll loop has been silent, when that is too long.
    pub(crate) fn silence(&self) -> Option<Duration> {
        lock(&self.heard).map(|heard| heard.elapsed()).filter(|silence| *silence > SILENCE_MAX)
    }

    /// As Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, series) in lock(&self.counters).iter() {
            // a String never refuses what is written to it
            let _ = writeln!(text, "# TYPE {name} counter");
            for (labels, value) in series {
                let _ = if labels.is_empty() { writeln!(text, "{name} {value}") } else { writeln!(text, "{name}{{{labels}}} {value}") };
            }
        }
        text
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_bytes_beside_them_and_labels_that_parse() {
        let counters = Counters::new();
        counters.count_bytes("produce_inline", &[("topic", "a\"b")], 7);
        counters.count_bytes("produce_inline", &[("topic", "c")], 3);
        counters.count("stdin_blank_lines", &[]);
        assert_eq!((counters.sum("produce_inline"), counters.sum("produce_inline_bytes")), (2, 10));
        let text = counters.text();
        assert!(text.contains("# TYPE produce_inline_bytes counter\n"), "{text}");
        assert!(text.contains("produce_inline{topic=\"a\\\"b\"} 1\n") && text.contains("stdin_blank_lines 1\n"), "{text}");
    }
}
