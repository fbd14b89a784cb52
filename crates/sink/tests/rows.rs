//! Several rows of one record, and none: through lane, encoder, block index, `verify` and `cat`, with everything that may happen
//! to them: files of their own for each, a roll at any place, a row that does not fit, staged bytes that are lost.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod run_support;

use bytes::Bytes;
use kas3_sink::{
    config,
    format::lines::envelope,
    ledger::{Remake, Remaker},
    pipeline::Remaking,
    plan::{Pipeline, TopicPlan},
    record::OwnedRecord,
    refused::Refused,
    row::{Row, Rows, Value},
    source::memory::MemoryLog,
    span::Span,
    transform::{Chain, Step, Transform},
    verify::{self, cat},
};
use proptest::{collection::vec, prelude::*, sample::select};
use run_support::{TOPIC, look, of, run};
use std::{collections::BTreeMap, path::Path, sync::Arc};

/// One row for each word of a value; a value `-` is no JSON and no word: it has no row.
#[derive(Debug)]
struct Words;

impl Transform for Words {
    fn about(&self) -> String {
        "a row for each word".to_owned()
    }

    fn apply<'a>(&self, row: Row<'a>, out: &mut Rows<'a>) -> Result<(), Refused> {
        let text = String::from_utf8_lossy(row.bytes().unwrap_or_default()).into_owned();
        for word in text.split_whitespace().filter(|word| *word != "-") {
            // `bad` becomes what the format refuses: a newline and no JSON
            let value = if word == "bad" { "not\njson".to_owned() } else { format!("{{\"w\":\"{word}\"}}") };
            out.push(row.made(0, Value::Owned(Some(Bytes::from(value)))));
        }
        Ok(())
    }
}

fn pipeline(folder: &Path, more: &str) -> Arc<Pipeline> {
    pipeline_with(folder, more, Arc::new(Words))
}

fn pipeline_with(folder: &Path, more: &str, transform: Arc<dyn Transform>) -> Arc<Pipeline> {
    let text = format!(
        "name: test\nsource: {{topics: [{TOPIC}], kafka: {{bootstrap.servers: 'unused:1'}}}}\nhttp: off\nsink:\n  url: 'file://{}'\n  {more}\n",
        folder.display()
    );
    let mut pipeline = config::load(&text, &|_| None).unwrap().pipeline().unwrap();
    let plan = &pipeline.default;
    pipeline.default = Arc::new(TopicPlan {
        path: plan.path.clone(),
        format: Arc::clone(&plan.format),
        roll: plan.roll.clone(),
        bad_records: plan.bad_records,
        transforms: Arc::new(Chain::new(vec![Step::Transform(transform)])),
    });
    Arc::new(pipeline)
}

fn log(values: &[String]) -> MemoryLog {
    let log = MemoryLog::default();
    for (offset, value) in (0..).zip(values) {
        let value = Some(value.clone().into_bytes());
        log.push(OwnedRecord { topic: TOPIC.into(), offset, timestamp_ms: Some(offset), value, ..OwnedRecord::default() });
    }
    log
}

/// The rows of each offset as `cat` reads them back, after `verify` has found nothing.
async fn read_back(pipeline: &Arc<Pipeline>, log: &MemoryLog) -> (BTreeMap<i64, Vec<String>>, verify::Report) {
    let (sink, ledger) = look(pipeline, log).await;
    let log: Arc<dyn kas3_sink::source::Log> = Arc::new(log.clone());
    let report = verify::verify(Arc::clone(pipeline), sink.clone(), Arc::clone(&ledger), log, &verify::Options::default()).await.unwrap();
    assert!(report.ok, "{:?}", report.findings);
    let mut rows: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let span = Span { first: 0, next: report.partitions.first().map_or(0, |partition| partition.next) };
    if span.next > 0 {
        let mut each = |offset: Option<i64>, row: &[u8]| {
            let value = envelope::decode(row).map_or_else(|_| row.to_vec(), |record| record.value.unwrap());
            rows.entry(offset.unwrap()).or_default().push(String::from_utf8(value).unwrap());
            Ok(())
        };
        cat::read(pipeline, sink, &ledger, &of(), span, &mut each).await.unwrap();
    }
    (rows, report)
}

/// What each record must become, by the same words; `bad` in it refuses all of it.
fn expected(values: &[String]) -> BTreeMap<i64, Vec<String>> {
    let rows = |value: &String| -> Vec<String> {
        value.split_whitespace().filter(|word| *word != "-").map(|word| format!("{{\"w\":\"{word}\"}}")).collect()
    };
    (0..)
        .zip(values)
        .filter(|(_, value)| !value.contains("bad"))
        .map(|(offset, value)| (offset, rows(value)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
}

fn sorted(mut rows: BTreeMap<i64, Vec<String>>) -> BTreeMap<i64, Vec<String>> {
    rows.values_mut().for_each(|rows| rows.sort());
    rows
}

fn value() -> impl Strategy<Value = String> {
    let words = vec(select(vec!["a", "b", "c", "d", "a"]), 1..6).prop_map(|words| words.join(" "));
    prop_oneof![8 => words, 2 => Just("-".to_owned()), 1 => Just("a bad b".to_owned()), 1 => Just("bad".to_owned())]
}

/// A path for each word, and one for all; compressed and not, with an index inside and beside.
const LAYOUTS: [&str; 5] = [
    "path: '{topic}/{partition}_{offset}'\n  format: {block: 4KiB}",
    "path: '{topic}/w={value.w}/{partition}_{offset}'",
    "path: '{topic}/w={value.w}/{partition}_{offset}'\n  format: {compression: zstd}",
    "path: '{topic}/w={value.w}/{partition}_{offset}'\n  format: {envelope: true, compression: none}",
    "path: '{topic}/w={value.w}/{partition}_{offset}'\n  format: {type: text, newlines: reject}",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn each_record_has_all_of_its_rows_or_none_whatever_rolls_and_wherever_they_go(
        values in vec(value(), 1..120), layout in select(LAYOUTS.to_vec()), records in prop_oneof![Just(10_000_u64), 1..20_u64], files in 4..8_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let more = format!("{layout}\n  roll: {{records: {records}, files: {files}}}\n  bad_records: skip");
            let (pipeline, log) = (pipeline(folder.path(), &more), log(&values));
            assert_eq!(run(&pipeline, &log).await, Vec::<String>::new());
            let (rows, report) = read_back(&pipeline, &log).await;
            // rows of one record in different files come in the order of the files
            assert_eq!(sorted(rows), sorted(expected(&values)));
            let wanted = expected(&values).len() as u64;
            assert_eq!((report.totals.records_in_kafka, report.totals.equal), (values.len() as u64, wanted));
            assert_eq!(report.totals.left_out, values.len() as u64 - wanted);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_which_one_row_does_not_fit_stops_its_partition_with_none_of_its_rows_written() {
    let values: Vec<String> = ["a b", "c", "a bad", "d"].map(str::to_owned).to_vec();
    for layout in LAYOUTS {
        let folder = tempfile::tempdir().unwrap();
        let (pipeline, log) = (pipeline(folder.path(), layout), log(&values));
        for _ in 0..2 {
            let reasons = run(&pipeline, &log).await;
            assert!(reasons.len() == 1 && reasons[0].contains("offset 2"), "{reasons:?}");
        }
        let (rows, _) = read_back(&pipeline, &log).await;
        assert_eq!(sorted(rows), sorted(expected(&values[..2])), "{layout}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_rows_need_more_files_than_may_be_open_is_refused_and_stops_nothing_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<String> = ["a", "a b c", "b"].map(str::to_owned).to_vec();
    let (pipeline, log) = (pipeline(folder.path(), &format!("{}\n  roll: {{files: 2}}", LAYOUTS[1])), log(&values));
    let reasons = run(&pipeline, &log).await;
    assert!(reasons.len() == 1 && reasons[0].contains("`roll.files: 2`") && reasons[0].contains("offset 1"), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_with_refused_records_is_made_again_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<String> = ["a", "a b c", "b", "a bad", "b a", "-"].map(str::to_owned).to_vec();
    let more = format!("{}\n  roll: {{files: 2}}\n  bad_records: skip", LAYOUTS[1]);
    let (pipeline, log) = (pipeline(folder.path(), &more), log(&values));
    assert!(run(&pipeline, &log).await.is_empty());
    let (sink, ledger) = look(&pipeline, &log).await;
    let head = ledger.head(&of()).await.unwrap().unwrap();
    assert_eq!(head.closed.iter().map(|entry| entry.counts.refused).sum::<u64>(), 2);
    let remaking = Remaking::new(Arc::clone(&pipeline), Arc::new(log));
    for entry in &head.closed {
        let order = Remake {
            of: of(),
            id: entry.id.clone(),
            store: sink.clone(),
            span: entry.span(),
            leader_epoch: -1,
            incarnation: entry.incarnation,
            now: entry.now,
            wanted: entry.files.iter().map(|file| file.number).collect(),
            paths: entry.files.iter().map(|file| sink.path_of(&file.url).unwrap()).collect(),
        };
        let made = remaking.remake(&order).await.unwrap();
        let made: BTreeMap<u32, _> = made.into_iter().map(|(number, file)| (number, (file.records, file.rows, file.checksum))).collect();
        let was = entry.files.iter().map(|file| (file.number, (file.records, file.rows(), file.checksum.clone()))).collect();
        assert_eq!(made, was);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_file_lost_and_one_that_it_has_twice_are_found() {
    let values: Vec<String> = (0..20).map(|n| format!("a{n} b{n}")).collect();
    for (damage, kind) in [("remove", "difference"), ("double", "difference")] {
        let folder = tempfile::tempdir().unwrap();
        let (pipeline, log) =
            (pipeline(folder.path(), "path: '{topic}/{partition}_{offset}'\n  format: {envelope: true, compression: none}"), log(&values));
        assert!(run(&pipeline, &log).await.is_empty());
        let file = folder.path().join("orders/0_0.jsonl");
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let damaged: Vec<&str> = match damage {
            "remove" => lines.iter().enumerate().filter(|(at, _)| *at != 7).map(|(_, line)| *line).collect(),
            _ => lines.iter().take(8).chain(&lines[7..]).copied().collect(),
        };
        std::fs::write(&file, damaged.join("\n") + "\n").unwrap();
        let (sink, ledger) = look(&pipeline, &log).await;
        let log: Arc<dyn kas3_sink::source::Log> = Arc::new(log);
        let report = verify::verify(Arc::clone(&pipeline), sink, ledger, log, &verify::Options::default()).await.unwrap();
        let kinds: Vec<&str> = report.findings.iter().map(|finding| finding.kind.name()).collect();
        let wanted = if damage == "remove" { "gap" } else { "double" };
        assert!(!report.ok && kinds.contains(&wanted) && kinds.contains(&kind), "{damage}: {:?}", report.findings);
    }
}

/// Counts how often it is asked.
#[derive(Debug, Default)]
struct Counted(std::sync::atomic::AtomicUsize);

impl Transform for Counted {
    fn about(&self) -> String {
        "counts".to_owned()
    }

    fn apply<'a>(&self, row: Row<'a>, out: &mut Rows<'a>) -> Result<(), Refused> {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        out.push(row);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolls_within_a_batch_make_few_rows_anew() {
    let values: Vec<String> = (0..4_000).map(|number| format!("{{\"n\":{number},\"w\":\"{}\"}}", "x".repeat(500))).collect();
    for roll in ["{records: 10}", "{bytes: 64KiB}"] {
        let folder = tempfile::tempdir().unwrap();
        let counted = Arc::new(Counted::default());
        let more = format!("format: {{compression: none, block: 4KiB}}\n  roll: {roll}");
        let (pipeline, log) = (pipeline_with(folder.path(), &more, Arc::clone(&counted) as _), log(&values));
        assert_eq!(run(&pipeline, &log).await, Vec::<String>::new());
        let asked = counted.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!((4_000..4_000 * 10).contains(&asked), "{roll}: asked {asked} times for 4,000 records");
    }
}
