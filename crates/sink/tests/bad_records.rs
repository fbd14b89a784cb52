//! Records that producers should not have made, through a whole pipeline: what fits is written as it is, what does not stops its
//! partition with everything before it published, or is left out and counted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod run_support;

use kas3_sink::{
    config, pipeline,
    plan::Pipeline,
    record::OwnedRecord,
    source::{Log, memory::MemoryLog},
};
use run_support::{look, of, run};
use std::{path::Path, sync::Arc};

/// Values, and the line that each becomes; `None`: it does not fit.
fn values() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let as_it_is = |value: &str| (value.as_bytes().to_vec(), Some(value.as_bytes().to_vec()));
    let deep = |between: &str| format!("{{\"p\":\"x\",\"deep\":{}{between}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"p\":\"x\",\"n\":{}}}", "9".repeat(100_000));
    vec![
        as_it_is(r#"{"p":"x","id":1}"#),
        (b"not JSON".to_vec(), None),
        (b"{\"p\":\"x\",".to_vec(), Some(b"{\"p\":\"x\",".to_vec())), // what comes behind the field is nobody's business
        (b"{\"p\":\"x\",\n".to_vec(), None),                          // unless it has to be rewritten
        as_it_is(&deep("")),
        (deep("\n").into_bytes(), Some(deep("").into_bytes())),
        as_it_is(&"[".repeat(100_000)), // has no field; whether it is JSON is nobody's business either
        ([b"{\"q\":".to_vec(), b"[".repeat(100_000)].concat(), None),
        as_it_is(&large),
        as_it_is(r#"{"p":"x","n":1e999999,"m":-0.0,"k":123456789012345678901234567890}"#),
        (br#"{"p":{"a":1}}"#.to_vec(), None),
        as_it_is(r#"{"p":"../../_kas3/x\u0000\n"}"#),
        as_it_is(r#"{"p":"one","p":"two"}"#),
        (b"{\"p\":\"x\",\"s\":\"\r\"}".to_vec(), None),
        (b"{\"p\":\"x\",\r\"s\":1}".to_vec(), Some(b"{\"p\":\"x\",\"s\":1}".to_vec())),
        (b"{\"p\":\"x\",\n\"s\":\"\xff\"}".to_vec(), Some(b"{\"p\":\"x\",\"s\":\"\xff\"}".to_vec())),
        (b"{ \"p\" :\r\n 1.50 }\n".to_vec(), Some(b"{\"p\":1.50}".to_vec())),
        (b"\xef\xbb\xbf{\"p\":1}".to_vec(), None),
        (b"{}{}\n".to_vec(), None),
        as_it_is(r#"{"id":2}"#),
    ]
}

fn pipeline(folder: &Path, policy: &str) -> Arc<Pipeline> {
    let text = format!(
        "name: test\nsource: {{topics: [orders], kafka: {{bootstrap.servers: 'unused:1'}}}}\nhttp: off\nsink:\n  url: 'file://{}'\n  \
         path: '{{topic}}/p={{value.p}}/{{partition}}_{{offset}}'\n  format: {{compression: none}}\n  bad_records: {policy}\n",
        folder.display()
    );
    Arc::new(config::load(&text, &|_| None).unwrap().pipeline().unwrap())
}

/// All lines of all visible files, sorted.
fn lines(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for group in std::fs::read_dir(folder.join("orders")).into_iter().flatten() {
        for file in std::fs::read_dir(group.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                let content = std::fs::read(path).unwrap();
                found.extend(content.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
            }
        }
    }
    found.sort();
    found
}

fn log(values: &[(Vec<u8>, Option<Vec<u8>>)]) -> MemoryLog {
    let log = MemoryLog::default();
    for (offset, (value, _)) in (0..).zip(values) {
        log.push(OwnedRecord { topic: "orders".into(), offset, value: Some(value.clone()), ..OwnedRecord::default() });
    }
    log
}

fn assert_lines(folder: &Path, values: &[(Vec<u8>, Option<Vec<u8>>)]) {
    let shown = |line: &Vec<u8>| format!("{} … {} bytes", line[..line.len().min(60)].escape_ascii(), line.len());
    let mut wanted: Vec<Vec<u8>> = values.iter().filter_map(|(_, line)| line.clone()).collect();
    wanted.sort();
    let found = lines(folder);
    let missing: Vec<String> = wanted.iter().filter(|line| !found.contains(line)).map(shown).collect();
    let more: Vec<String> = found.iter().filter(|line| !wanted.contains(line)).map(shown).collect();
    assert!(found == wanted, "missing: {missing:#?}, and not wanted: {more:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_left_out_and_counted_and_the_rest_is_written_byte_for_byte() {
    let (folder, values) = (tempfile::tempdir().unwrap(), values());
    let (pipeline, log) = (pipeline(folder.path(), "skip"), log(&values));
    assert_eq!(run(&pipeline, &log).await, Vec::<String>::new());
    assert_lines(folder.path(), &values);
    let (_, ledger) = look(&pipeline, &log).await;
    let head = ledger.head(&of()).await.unwrap().unwrap();
    let counts: Vec<_> = head.closed.iter().chain(&head.pending).map(|entry| entry.counts.clone()).collect();
    let misfits = values.iter().filter(|(_, line)| line.is_none()).count() as u64;
    assert_eq!(counts.iter().map(|counts| counts.refused).sum::<u64>(), misfits);
    assert_eq!(counts.iter().map(|counts| counts.read).sum::<u64>(), values.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_that_does_not_fit_stops_its_partition_and_names_itself_with_everything_before_it_published() {
    let values = values();
    for (bad, _) in values.iter().enumerate().filter(|(_, (_, line))| line.is_none()) {
        let fitting: Vec<_> =
            values.iter().enumerate().filter(|(at, (_, line))| *at == bad || line.is_some()).map(|(_, value)| value.clone()).collect();
        let at = fitting.iter().position(|(_, line)| line.is_none()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let reasons = run(&pipeline(folder.path(), "stop"), &log(&fitting)).await;
        assert!(reasons.len() == 1 && reasons[0].contains(&format!("offset {at}")), "{reasons:?} for value {bad}");
        assert!(reasons[0].len() < 1000, "a message of {} bytes", reasons[0].len());
        assert_lines(folder.path(), &fitting[..at]);
        // whoever is to decide learns which record it is without the worker that stopped
        for (policy, found) in [("stop", Some(at as i64)), ("skip", None)] {
            let (pipeline, log) = (pipeline(folder.path(), policy), log(&fitting));
            let (_, ledger) = look(&pipeline, &log).await;
            let head = ledger.head(&of()).await.unwrap().unwrap();
            let refused = pipeline::next_refused(&pipeline, &(Arc::new(log) as Arc<dyn Log>), &head).await.unwrap();
            assert_eq!(refused.as_ref().and_then(kas3_sink::Error::offset), found, "{policy}, value {bad}");
            if let Some(refused) = refused {
                assert!(refused.way_out().unwrap().contains(&format!("--topic orders --partition 0 --next {}", at + 1)), "{:?}", refused.way_out());
            }
        }
    }
}
