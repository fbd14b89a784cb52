//! The status of a process as Prometheus text (exposition format 0.0.4).
//!
//! Every number comes from one [`Snapshot`], so that the lines of one scrape agree with each other, and reading costs the
//! pipeline nothing.
//!
//! ```text
//! kas3_lag_records{pipeline="orders",topic="orders",partition="0"} 42
//! ```

use crate::{
    conditions::{ConditionKind, Severity},
    status::{PartitionSnapshot, Phase, Snapshot, State},
};
use std::fmt::Write;

/// Media type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is to Prometheus.
#[derive(Clone, Copy)]
enum Type {
    Counter,
    Gauge,
}

/// A metric of one partition: name, type, help, and its value where the partition has one.
type OfPartition = (&'static str, Type, &'static str, fn(&Snapshot, &PartitionSnapshot) -> Option<f64>);

/// Metrics with the labels `pipeline`, `topic` and `partition`. A row here is a metric; the reference page reads the list too.
const PARTITION: &[OfPartition] = &[
    ("kas3_records_read_total", Type::Counter, "Records read from Kafka.", |_, p| Some(p.records_read as f64)),
    ("kas3_records_written_total", Type::Counter, "Records in published files.", |_, p| Some(p.records_written as f64)),
    ("kas3_records_filtered_total", Type::Counter, "Records that the configuration wants away.", |_, p| Some(p.records_filtered as f64)),
    ("kas3_records_refused_total", Type::Counter, "Records that do not fit and were passed over, as `bad_records: skip` says.", |_, p| {
        Some(p.records_refused as f64)
    }),
    ("kas3_written_bytes_total", Type::Counter, "Bytes in published files, as stored.", |_, p| Some(p.bytes_written as f64)),
    ("kas3_files_published_total", Type::Counter, "Published files.", |_, p| Some(p.files_written as f64)),
    ("kas3_files_amended_total", Type::Counter, "Files made again because their staged bytes were gone.", |_, p| Some(p.files_amended as f64)),
    ("kas3_payloads_resolved_total", Type::Counter, "Payloads that took the place of their references.", |_, p| Some(p.payloads_resolved as f64)),
    ("kas3_payload_bytes_total", Type::Counter, "Bytes of those payloads.", |_, p| Some(p.payload_bytes as f64)),
    ("kas3_position_offset", Type::Gauge, "The next offset to read.", |_, p| p.position.map(|offset| offset as f64)),
    ("kas3_committed_offset", Type::Gauge, "The next offset in the ledger's head.", |_, p| p.committed.map(|offset| offset as f64)),
    ("kas3_published_offset", Type::Gauge, "Everything before this offset is published.", |_, p| p.published.map(|offset| offset as f64)),
    ("kas3_end_offset", Type::Gauge, "The end of the partition in Kafka, records of open transactions included.", |_, p| {
        p.end.map(|offset| offset as f64)
    }),
    ("kas3_stable_offset", Type::Gauge, "The last stable offset: what lies from here on waits for transactions that are open.", |_, p| {
        p.stable.map(|offset| offset as f64)
    }),
    ("kas3_lag_records", Type::Gauge, "Offsets between what is published and the end of the partition.", |_, p| p.lag_records.map(|lag| lag as f64)),
    ("kas3_unread_records", Type::Gauge, "Offsets between the next one to read and the end of the partition.", |_, p| {
        p.unread_records.map(|unread| unread as f64)
    }),
    (
        "kas3_lag_seconds",
        Type::Gauge,
        "Age of the oldest record that is unread, or read and not published; 0 when there is none. While no broker answers, at least the time since one did.",
        |_, p| p.lag_seconds,
    ),
    (
        "kas3_oldest_unpublished_timestamp_seconds",
        Type::Gauge,
        "Timestamp of the oldest record that was read and is not published, in seconds since the epoch.",
        |_, p| p.oldest_unpublished_ms.map(|oldest| oldest as f64 / 1000.0),
    ),
    ("kas3_open_files", Type::Gauge, "Files being written.", |_, p| Some(p.open_files as f64)),
    ("kas3_partition_buffered_bytes", Type::Gauge, "Bytes held for the partition: queued batches, open blocks, encoded bytes.", |_, p| {
        Some(p.buffered_bytes as f64)
    }),
    ("kas3_partition_stopped", Type::Gauge, "1 when the partition stopped until a person decides.", |_, p| {
        Some(f64::from(u8::from(p.state == State::Stopped)))
    }),
];

/// Metrics of the process with the label `pipeline` alone.
type OfProcess = (&'static str, Type, &'static str, fn(&Snapshot) -> f64);

const PROCESS: &[OfProcess] = &[
    ("kas3_start_time_seconds", Type::Gauge, "When the process began, in seconds since the epoch.", |s| s.started.as_millisecond() as f64 / 1000.0),
    ("kas3_running", Type::Gauge, "1 while records are read and written; 0 while the process starts or stops, or no broker answers.", |s| {
        f64::from(u8::from(s.phase == Phase::Running && !s.has(ConditionKind::BrokersUnreachable)))
    }),
    ("kas3_healthy", Type::Gauge, "1 while `/health` answers 200: no condition is failing.", |s| f64::from(u8::from(s.healthy()))),
    ("kas3_poll_age_seconds", Type::Gauge, "Time since the poll loop last went round.", |s| s.poll_age_ms as f64 / 1000.0),
    ("kas3_partitions_assigned", Type::Gauge, "Partitions of this process.", |s| s.partitions.len() as f64),
    ("kas3_partitions_stopped", Type::Gauge, "Partitions that stopped until a person decides.", |s| s.stopped().count() as f64),
    ("kas3_buffered_bytes", Type::Gauge, "Bytes that the memory budget counts right now.", |s| s.buffered_bytes as f64),
    ("kas3_resident_bytes", Type::Gauge, "Resident size of the process.", |s| s.resident_bytes as f64),
    ("kas3_resident_max_bytes", Type::Gauge, "Largest resident size that the pipeline saw.", |s| s.resident_bytes_max as f64),
    ("kas3_memory_limit_bytes", Type::Gauge, "The setting `memory`.", |s| s.memory_limit as f64),
    (
        "kafka_connector_records_processed_total",
        Type::Counter,
        "Records in published files: the name that the Delta connector's dashboards use.",
        |s| s.published.records as f64,
    ),
    (
        "kafka_connector_records_failed_total",
        Type::Counter,
        "Records that were refused and passed over: the name that the Delta connector's dashboards use.",
        |s| s.published.refused as f64,
    ),
];

/// The requests that carry bytes of files, for `kafka_connector_s3_write_duration`.
const WRITES: [&str; 3] = ["create", "part", "complete_upload"];

const REFUSALS: &str = "Refused records by reason; a partition that stopped is looked at again, and counts again.";
const BREAKER_OPEN: &str = "1 while the object store is down: requests wait, and one at a time asks whether it is back.";
const CONDITIONS: &str = "What is wrong or waited for, by kind and severity: how many stores, partitions or groups `/health` names.";
const STORE_REFUSES: &str = "1 while the object store answers and refuses: no permission, no bucket, no room.";
const BREAKER_OPENED: &str = "Times that the object store was found down.";

/// The snapshot as Prometheus text.
pub fn text(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(4096 + snapshot.partitions.len() * 2048);
    let pipeline = escape(&snapshot.pipeline);
    head(&mut out, "kas3_build_info", Type::Gauge, "Version of kas3; always 1.");
    line(&mut out, "kas3_build_info", &format!("pipeline=\"{pipeline}\",version=\"{}\"", escape(snapshot.version)), 1.0);
    for (name, kind, help, value) in PROCESS {
        head(&mut out, name, *kind, help);
        line(&mut out, name, &format!("pipeline=\"{pipeline}\""), value(snapshot));
    }
    let labels: Vec<String> = snapshot
        .partitions
        .iter()
        .map(|partition| format!("pipeline=\"{pipeline}\",topic=\"{}\",partition=\"{}\"", escape(&partition.topic), partition.partition))
        .collect();
    for (name, kind, help, value) in PARTITION {
        head(&mut out, name, *kind, help);
        for (partition, labels) in snapshot.partitions.iter().zip(&labels) {
            if let Some(value) = value(snapshot, partition) {
                line(&mut out, name, labels, value);
            }
        }
    }
    head(&mut out, "kas3_spans_total", Type::Counter, "Closed spans by the reason of their roll.");
    for (partition, labels) in snapshot.partitions.iter().zip(&labels) {
        for (roll, count) in &partition.spans {
            line(&mut out, "kas3_spans_total", &format!("{labels},reason=\"{roll}\""), *count as f64);
        }
    }
    head(&mut out, "kas3_refusals_total", Type::Counter, REFUSALS);
    for (partition, labels) in snapshot.partitions.iter().zip(&labels) {
        for (reason, count) in &partition.refusals {
            line(&mut out, "kas3_refusals_total", &format!("{labels},reason=\"{reason}\""), *count as f64);
        }
    }
    conditions(&mut out, snapshot, &pipeline);
    store(&mut out, snapshot, &pipeline);
    out
}

/// All kinds, also those of which there is none: an alert needs a series that is 0.
fn conditions(out: &mut String, snapshot: &Snapshot, pipeline: &str) {
    head(out, "kas3_conditions", Type::Gauge, CONDITIONS);
    for kind in ConditionKind::ALL {
        for (severity, name) in [(Severity::Failing, "failing"), (Severity::Warning, "warning")] {
            let count = snapshot.conditions.iter().filter(|condition| condition.kind == kind && condition.severity == severity).count();
            if count > 0 || severity == kind.severity() {
                line(out, "kas3_conditions", &format!("pipeline=\"{pipeline}\",kind=\"{}\",severity=\"{name}\"", kind.name()), count as f64);
            }
        }
    }
}

fn store(out: &mut String, snapshot: &Snapshot, pipeline: &str) {
    let labels = |request: &str, outcome: &str| format!("pipeline=\"{pipeline}\",request=\"{request}\",outcome=\"{outcome}\"");
    let name = "kas3_store_request_duration_seconds";
    let _ = writeln!(out, "# HELP {name} Attempts at the object store, retried ones included, by kind and outcome.\n# TYPE {name} summary");
    for requests in &snapshot.requests {
        let labels = labels(requests.request, requests.outcome);
        line(out, "kas3_store_request_duration_seconds_sum", &labels, requests.seconds);
        line(out, "kas3_store_request_duration_seconds_count", &labels, requests.count as f64);
    }
    head(out, "kas3_store_requests_total", Type::Counter, "Attempts at the object store, retried ones included, by kind and outcome.");
    for requests in &snapshot.requests {
        line(out, "kas3_store_requests_total", &labels(requests.request, requests.outcome), requests.count as f64);
    }
    head(out, "kas3_store_bytes_total", Type::Counter, "Bytes that requests to the object store carried.");
    for requests in &snapshot.requests {
        line(out, "kas3_store_bytes_total", &labels(requests.request, requests.outcome), requests.bytes as f64);
    }
    head(out, "kas3_store_retries_total", Type::Counter, "Attempts at the object store that were repeated.");
    for (request, count) in &snapshot.retries {
        line(out, "kas3_store_retries_total", &format!("pipeline=\"{pipeline}\",request=\"{request}\""), *count as f64);
    }
    let stores = || snapshot.stores.iter().map(|store| (store, format!("pipeline=\"{pipeline}\",store=\"{}\"", escape(&store.store))));
    head(out, "kas3_store_breaker_open", Type::Gauge, BREAKER_OPEN);
    for (store, labels) in stores() {
        line(out, "kas3_store_breaker_open", &labels, f64::from(u8::from(store.down_seconds.is_some())));
    }
    head(out, "kas3_store_breaker_opened_total", Type::Counter, BREAKER_OPENED);
    for (store, labels) in stores() {
        line(out, "kas3_store_breaker_opened_total", &labels, store.opened as f64);
    }
    head(out, "kas3_store_refusing", Type::Gauge, STORE_REFUSES);
    for (store, labels) in stores() {
        line(out, "kas3_store_refusing", &labels, f64::from(u8::from(store.refusing_seconds.is_some())));
    }
    head(out, "kas3_rebalances_total", Type::Counter, "Rebalances of the consumer group by kind.");
    for (kind, count) in &snapshot.rebalances {
        line(out, "kas3_rebalances_total", &format!("pipeline=\"{pipeline}\",kind=\"{kind}\""), *count as f64);
    }
    let name = "kafka_connector_s3_write_duration";
    let writes = || snapshot.requests.iter().filter(|requests| WRITES.contains(&requests.request));
    let _ = writeln!(
        out,
        "# HELP {name} Seconds of requests that write files: the name that the Delta connector's dashboards use.\n# TYPE {name} summary"
    );
    line(out, "kafka_connector_s3_write_duration_sum", &format!("pipeline=\"{pipeline}\""), writes().map(|requests| requests.seconds).sum());
    line(out, "kafka_connector_s3_write_duration_count", &format!("pipeline=\"{pipeline}\""), writes().map(|requests| requests.count as f64).sum());
}

fn head(out: &mut String, name: &str, kind: Type, help: &str) {
    let kind = match kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
    };
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, labels: &str, value: f64) {
    let _ = writeln!(out, "{name}{{{labels}}} {value}");
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The metrics as a Markdown table, for the manual.
pub fn reference() -> String {
    let mut out = String::from("| metric | type | what |\n| --- | --- | --- |\n");
    let mut row = |name: &str, kind: &str, help: &str| {
        let _ = writeln!(out, "| `{name}` | {kind} | {help} |");
    };
    let word = |kind: Type| match kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
    };
    for (name, kind, help, _) in PARTITION {
        row(&format!("{name}{{topic,partition}}"), word(*kind), help);
    }
    row("kas3_spans_total{topic,partition,reason}", "counter", "Closed spans by the reason of their roll.");
    row("kas3_refusals_total{topic,partition,reason}", "counter", REFUSALS);
    for (name, kind, help, _) in PROCESS {
        row(name, word(*kind), help);
    }
    row("kas3_conditions{kind,severity}", "gauge", CONDITIONS);
    row("kas3_store_requests_total{request,outcome}", "counter", "Attempts at the object store, retried ones included, by kind and outcome.");
    row("kas3_store_request_duration_seconds{request,outcome}", "summary", "The time that they took: sum and count.");
    row("kas3_store_bytes_total{request,outcome}", "counter", "Bytes that requests to the object store carried.");
    row("kas3_store_retries_total{request}", "counter", "Attempts at the object store that were repeated.");
    row("kas3_store_breaker_open{store}", "gauge", BREAKER_OPEN);
    row("kas3_store_breaker_opened_total{store}", "counter", BREAKER_OPENED);
    row("kas3_store_refusing{store}", "gauge", STORE_REFUSES);
    row("kas3_rebalances_total{kind}", "counter", "Rebalances of the consumer group by kind.");
    row("kafka_connector_s3_write_duration", "summary", "Seconds of requests that write files: the name that the Delta connector's dashboards use.");
    row("kas3_build_info{version}", "gauge", "Version of kas3; always 1.");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// A snapshot with one healthy and one stopped partition.
    fn snapshot() -> Snapshot {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let partition = |number, state, reason: Option<&str>| PartitionSnapshot {
            topic: "orders".to_owned(),
            partition: number,
            state,
            reason: reason.map(str::to_owned),
            position: Some(120),
            committed: Some(100),
            published: Some(90),
            end: Some(150),
            stable: Some(140),
            lag_records: Some(60),
            unread_records: Some(30),
            lag_seconds: Some(if number == 0 { 1.5 } else { 53.25 }),
            oldest_unpublished_ms: (number == 0).then_some(1_000_000_000_500),
            open_files: 3,
            buffered_bytes: 4096,
            records_read: 120,
            records_written: 88,
            records_filtered: 2,
            records_refused: 2,
            bytes_written: 1024,
            files_written: 4,
            files_amended: 0,
            payloads_resolved: 7,
            payload_bytes: 7 << 20,
            refusals: vec![("object_missing", 1)],
            refused_last: Vec::new(),
            spans: vec![("bytes", 1), ("age", 2)],
        };
        Snapshot {
            pipeline: "a \"quoted\\ name".to_owned(),
            version: "0.1.0",
            started: at(1_000_000_000),
            now: at(1_000_000_002),
            phase: Phase::Running,
            poll_age_ms: 250,
            memory_limit: 256 << 20,
            resident_bytes: 50 << 20,
            resident_bytes_max: 60 << 20,
            buffered_bytes: 8192,
            rebalances: vec![("assigned", 1), ("revoked", 0), ("lost", 0)],
            requests: vec![
                crate::status::RequestSnapshot { request: "create", outcome: "done", count: 4, seconds: 0.5, bytes: 1024 },
                crate::status::RequestSnapshot { request: "get", outcome: "failed", count: 1, seconds: 0.25, bytes: 0 },
            ],
            retries: vec![("get", 1)],
            stores: vec![crate::status::StoreSnapshot {
                store: "http://minio:9000/lake".to_owned(),
                down_seconds: Some(12.5),
                reason: Some("it cannot be reached".to_owned()),
                opened: 2,
                refusing_seconds: None,
            }],
            conditions: vec![crate::conditions::Condition {
                kind: ConditionKind::PartitionStopped,
                severity: Severity::Failing,
                subject: "orders-1".to_owned(),
                since: at(1_000_000_001),
                seconds: 1.0,
                reason: "a gap".to_owned(),
                hint: None,
                text: "partition `orders-1` has been stopped for 1 s: a gap".to_owned(),
            }],
            published: crate::status::PublishedSnapshot { records: 176, filtered: 4, refused: 4, files: 8, bytes: 2048 },
            warnings: Vec::new(),
            partitions: vec![partition(0, State::Running, None), partition(1, State::Stopped, Some("a gap"))],
        }
    }

    #[test]
    fn every_sample_follows_its_type_and_no_metric_is_declared_twice() {
        let text = text(&snapshot());
        let mut declared: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().expect("a name");
                assert!(!declared.contains(&name), "{name} is declared twice");
                declared.push(name);
            } else if !line.starts_with('#') {
                let name = line.split('{').next().expect("a name");
                let last = declared.last().expect("a type before the first sample");
                assert!([last.to_string(), format!("{last}_sum"), format!("{last}_count")].contains(&name.to_owned()), "{name} below {last}");
                let value = line.rsplit(' ').next().expect("a value");
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }

    #[test]
    fn values_and_labels_are_what_a_dashboard_would_read() {
        let text = text(&snapshot());
        for expected in [
            r#"kas3_lag_records{pipeline="a \"quoted\\ name",topic="orders",partition="0"} 60"#,
            r#"kas3_lag_seconds{pipeline="a \"quoted\\ name",topic="orders",partition="0"} 1.5"#,
            r#"kas3_lag_seconds{pipeline="a \"quoted\\ name",topic="orders",partition="1"} 53.25"#,
            r#"kas3_unread_records{pipeline="a \"quoted\\ name",topic="orders",partition="1"} 30"#,
            r#"kas3_running{pipeline="a \"quoted\\ name"} 1"#,
            r#"kas3_healthy{pipeline="a \"quoted\\ name"} 0"#,
            r#"kas3_conditions{pipeline="a \"quoted\\ name",kind="partition_stopped",severity="failing"} 1"#,
            r#"kas3_conditions{pipeline="a \"quoted\\ name",kind="brokers_unreachable",severity="failing"} 0"#,
            r#"kas3_conditions{pipeline="a \"quoted\\ name",kind="transaction_open",severity="warning"} 0"#,
            r#"kas3_store_refusing{pipeline="a \"quoted\\ name",store="http://minio:9000/lake"} 0"#,
            r#"kas3_partition_stopped{pipeline="a \"quoted\\ name",topic="orders",partition="1"} 1"#,
            r#"kas3_spans_total{pipeline="a \"quoted\\ name",topic="orders",partition="0",reason="age"} 2"#,
            r#"kas3_refusals_total{pipeline="a \"quoted\\ name",topic="orders",partition="1",reason="object_missing"} 1"#,
            r#"kas3_store_requests_total{pipeline="a \"quoted\\ name",request="get",outcome="failed"} 1"#,
            r#"kas3_store_breaker_open{pipeline="a \"quoted\\ name",store="http://minio:9000/lake"} 1"#,
            r#"kas3_store_breaker_opened_total{pipeline="a \"quoted\\ name",store="http://minio:9000/lake"} 2"#,
            r#"kas3_poll_age_seconds{pipeline="a \"quoted\\ name"} 0.25"#,
            r#"kafka_connector_records_processed_total{pipeline="a \"quoted\\ name"} 176"#,
            r#"kafka_connector_s3_write_duration_sum{pipeline="a \"quoted\\ name"} 0.5"#,
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
        }
        assert!(!text.contains(r#"kas3_oldest_unpublished_timestamp_seconds{pipeline="a \"quoted\\ name",topic="orders",partition="1"}"#));
    }

    #[test]
    fn the_reference_names_every_metric_that_the_text_has() {
        let reference = reference();
        for line in text(&snapshot()).lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = line.split(' ').next().expect("a name");
            assert!(reference.contains(&format!("`{name}")), "{name} is missing in the reference");
        }
    }
}
