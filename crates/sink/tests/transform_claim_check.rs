//! The claim check in whole pipelines on a source in memory and payloads in a folder: what is written, what stops, what goes on.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use kas3_claimcheck::{About, ClaimCheck, ClaimCheckSettings};
use kas3_sink::{
    budget::Budget,
    config,
    pipeline::{self, Destination, Ended, Options, Parts},
    plan::Pipeline,
    record::{OwnedHeaders, OwnedRecord},
    source::memory::{MemoryLog, MemorySource},
    span::TopicPartition,
    status::Status,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const TOPIC: &str = "orders";

/// A folder for files and one for payloads, a log, and who writes payloads.
struct Lab {
    folder: tempfile::TempDir,
    log: MemoryLog,
    claims: ClaimCheck,
}

/// What a record of the log holds.
enum Sent {
    Inline(Vec<u8>),
    Reference(Vec<u8>),
    Tombstone,
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = ClaimCheckSettings { url: format!("file://{}/payloads", folder.path().display()), max_inline_bytes: 0, ..Default::default() };
        Lab { log: MemoryLog::default(), claims: ClaimCheck::open(settings).await.unwrap(), folder }
    }

    /// Appends a record; the file of its payload, where it has one.
    async fn send(&self, partition: i32, sent: &Sent) -> Option<std::path::PathBuf> {
        let of = TopicPartition::new(TOPIC, partition);
        let mut headers = vec![(b"trace".to_vec(), Some(b"1".to_vec()))];
        let (value, path) = match sent {
            Sent::Tombstone => (None, None),
            Sent::Inline(value) => (Some(value.clone()), None),
            Sent::Reference(payload) => {
                let sent = self.claims.offload(payload.clone().into(), &About { always: true, ..About::topic(TOPIC) }).await.unwrap();
                headers.extend(sent.headers.iter().map(|(name, value)| (name.clone().into_bytes(), value.as_ref().map(|value| value.to_vec()))));
                let key = sent.reference.unwrap().key;
                (Some(sent.value.to_vec()), Some(self.folder.path().join("payloads").join(key)))
            }
        };
        let record = OwnedRecord {
            topic: TOPIC.to_owned(),
            partition,
            offset: self.log.end(&of),
            timestamp_ms: Some(1_700_000_000_000),
            key: None,
            value,
            headers: OwnedHeaders(headers),
        };
        self.log.push(record);
        path
    }

    fn pipeline(&self, transform: &str, format: &str, sink: &str) -> Arc<Pipeline> {
        let folder = self.folder.path().display();
        let text = format!(
            "name: test\nsource: {{topics: [{TOPIC}], kafka: {{bootstrap.servers: 'unused:1'}}}}\nhttp: off\nmemory: 80MiB\n\
             transforms: [{{type: claim_check, url: 'file://{folder}/payloads', {transform}}}]\n\
             sink:\n  url: 'file://{folder}/lake'\n  path: '{{topic}}/{{partition}}_{{offset}}'\n  format: {{compression: none, {format}}}\n{sink}"
        );
        Arc::new(config::load(&text, &|_| None).unwrap().pipeline().unwrap())
    }

    async fn run(&self, pipeline: &Arc<Pipeline>, stop: CancellationToken) -> (Ended, Arc<Status>) {
        let status = Status::new(&pipeline.name, pipeline.memory_bytes);
        let (sink, ledger) = pipeline::open_stores(pipeline, &status).await.unwrap();
        let partitions = (0..self.log.partitions(TOPIC)).map(|partition| TopicPartition::new(TOPIC, partition)).collect();
        let parts = Parts {
            pipeline: Arc::clone(pipeline),
            destination: Destination::Configured { sink, ledger },
            log: Arc::new(self.log.clone()),
            source: Box::new(MemorySource::new(self.log.clone(), partitions)),
            topics: vec![TOPIC.to_owned()],
            budget: Budget::new(pipeline.memory_bytes, Arc::clone(&status)),
            status: Arc::clone(&status),
        };
        (pipeline::run_parts(parts, None, Options { until_end: true, ..Options::default() }, stop).await.unwrap(), status)
    }

    /// Lines of a partition's files, in the order of the files' first offsets.
    fn lines(&self, partition: i32) -> Vec<Vec<u8>> {
        let mut files: Vec<(i64, std::path::PathBuf)> = Vec::new();
        for file in std::fs::read_dir(self.folder.path().join("lake").join(TOPIC)).into_iter().flatten() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if let Some(offset) = name.strip_prefix(&format!("{partition}_")) {
                files.push((offset.split('.').next().unwrap().parse().unwrap(), path));
            }
        }
        files.sort();
        let lines =
            |path: &Path| std::fs::read(path).unwrap().strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        files.iter().flat_map(|(_, path)| -> Vec<Vec<u8>> { lines(path) }).collect()
    }
}

fn payload(number: usize, bytes: usize) -> Vec<u8> {
    format!("{{\"id\":{number},\"pad\":\"{}\"}}", "x".repeat(bytes)).into_bytes()
}

fn mixed(number: usize) -> Sent {
    match number % 5 {
        0 => Sent::Tombstone,
        1 | 3 => Sent::Inline(payload(number, 10)),
        _ => Sent::Reference(payload(number, 20_000)),
    }
}

fn line(sent: &Sent) -> Vec<u8> {
    match sent {
        Sent::Tombstone => b"null".to_vec(),
        Sent::Inline(value) | Sent::Reference(value) => value.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_written_in_the_place_of_their_references_and_in_their_order() {
    let lab = Lab::new().await;
    for number in 0..2000 {
        lab.send(i32::try_from(number % 2).unwrap(), &mixed(number)).await;
    }
    let pipeline = lab.pipeline("downloads: 7", "", "  roll: {records: 130}\n");
    let (ended, status) = lab.run(&pipeline, CancellationToken::new()).await;
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    for partition in 0..2 {
        let expected: Vec<Vec<u8>> = (0..2000).filter(|number| number % 2 == partition).map(|number| line(&mixed(number))).collect();
        let found = lab.lines(i32::try_from(partition).unwrap());
        assert!(found == expected, "{} lines of {}", found.len(), expected.len());
    }
    let snapshot = status.snapshot();
    assert_eq!(snapshot.partitions.iter().map(|partition| partition.payloads_resolved).sum::<u64>(), 800);
    assert_eq!(snapshot.buffered_bytes, 0, "everything that was counted was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_has_the_headers_of_the_sender_and_not_those_of_the_reference() {
    let lab = Lab::new().await;
    lab.send(0, &Sent::Reference(b"{\"id\":1}".to_vec())).await;
    let pipeline = lab.pipeline("", "envelope: true", "");
    let (ended, _) = lab.run(&pipeline, CancellationToken::new()).await;
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    let envelope: serde_json::Value = serde_json::from_slice(&lab.lines(0)[0]).unwrap();
    assert_eq!(envelope["value"], "{\"id\":1}");
    assert_eq!(envelope["headers"].as_array().unwrap().len(), 1, "{envelope}");
    assert!(!envelope.to_string().contains("claim-check"), "{envelope}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_cannot_be_had_stops_its_partition_alone_until_it_can_or_is_left_out() {
    let lab = Lab::new().await;
    let mut paths = Vec::new();
    for number in 0..120 {
        paths.push(lab.send(i32::try_from(number % 2).unwrap(), &Sent::Reference(payload(number, 3000))).await.unwrap());
    }
    let gone = std::fs::read(&paths[80]).unwrap();
    std::fs::remove_file(&paths[80]).unwrap();
    std::fs::write(&paths[101], payload(999, 3000)).unwrap();
    let pipeline = lab.pipeline("", "", "");
    let (ended, status) = lab.run(&pipeline, CancellationToken::new()).await;
    let Ended::Stopped(partitions) = ended else { panic!("{ended:?}") };
    let expected = |partition: usize, count: usize| (0..count).map(|at| payload(2 * at + partition, 3000)).collect::<Vec<_>>();
    for (partition, offset, reason) in [(0, 40, "object_missing"), (1, 50, "sha256_mismatch")] {
        let (_, why) = partitions.iter().find(|(of, _)| of.partition == partition).unwrap();
        assert!(why.contains(&format!("offset {offset} ")) && why.contains(reason) && why.contains(&format!("--next {}", offset + 1)), "{why}");
        assert_eq!(lab.lines(partition), expected(usize::try_from(partition).unwrap(), usize::try_from(offset).unwrap()));
    }
    let refused: Vec<_> = status.snapshot().partitions.into_iter().map(|partition| partition.refusals).collect();
    assert_eq!(refused, [vec![("object_missing", 1)], vec![("sha256_mismatch", 1)]]);

    // one comes back, the other is left out
    std::fs::write(&paths[80], gone).unwrap();
    let (ended, status) = lab.run(&lab.pipeline("", "", "  bad_records: skip\n"), CancellationToken::new()).await;
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    assert_eq!(lab.lines(0), expected(0, 60));
    let mut without = expected(1, 60);
    without.remove(50);
    assert_eq!(lab.lines(1), without);
    let left_out = status.snapshot().partitions.iter().map(|partition| (partition.records_refused, partition.records_filtered)).collect::<Vec<_>>();
    assert_eq!(left_out, [(0, 0), (1, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_larger_together_than_what_may_be_held_go_through_and_the_counted_memory_stays_bounded() {
    let lab = Lab::new().await;
    for number in 0..60 {
        lab.send(0, &Sent::Reference(payload(number, 1 << 20))).await;
    }
    let pipeline = lab.pipeline("", "", "  roll: {records: 20}\n");
    let (ended, status) = lab.run(&pipeline, CancellationToken::new()).await;
    assert!(matches!(ended, Ended::Done), "{ended:?}");
    let found = lab.lines(0);
    assert!(found == (0..60).map(|number| payload(number, 1 << 20)).collect::<Vec<_>>(), "{} lines", found.len());
    assert_eq!(status.snapshot().buffered_bytes, 0);
}

#[cfg(feature = "kill-points")]
mod outage {
    use super::*;
    use kas3_store::{
        Request,
        faults::{self, Fault, Verdict, When},
    };
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// The store of the payloads, away for as long as a test says.
    struct Away {
        away: AtomicBool,
        asked: AtomicUsize,
        verdict: Verdict,
    }

    impl Fault for Away {
        fn at(&self, _: Request, _: When) -> Verdict {
            if !self.away.load(Ordering::SeqCst) {
                return Verdict::Pass;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.verdict
        }
    }

    fn install(lab: &Lab, verdict: Verdict) -> Arc<Away> {
        let away = Arc::new(Away { away: AtomicBool::new(true), asked: AtomicUsize::new(0), verdict });
        faults::install(&format!("file://{}/payloads", lab.folder.path().display()), Some(Arc::clone(&away) as Arc<dyn Fault>));
        away
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_store_of_payloads_is_away_others_go_on_and_when_it_is_back_so_does_the_rest() {
        let lab = Lab::new().await;
        for number in 0..400 {
            lab.send(0, &Sent::Reference(payload(number, 2000))).await;
            lab.send(1, &Sent::Inline(payload(number, 2000))).await;
        }
        let away = install(&lab, Verdict::Fail);
        let pipeline = lab.pipeline("", "", "  roll: {records: 50, age: 300ms}\n");
        let others = async {
            until(|| lab.lines(1).len() == 400 && away.asked.load(Ordering::SeqCst) > 3).await;
            assert_eq!(lab.lines(0).len(), 0);
            away.away.store(false, Ordering::SeqCst);
        };
        let ((ended, _), ()) = tokio::join!(lab.run(&pipeline, CancellationToken::new()), others);
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        assert_eq!(lab.lines(0), (0..400).map(|number| payload(number, 2000)).collect::<Vec<_>>());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_shutdown_does_not_wait_for_a_payload_that_never_comes_and_keeps_what_came_before() {
        let lab = Lab::new().await;
        for number in 0..30 {
            lab.send(0, &Sent::Inline(payload(number, 10))).await;
        }
        lab.send(0, &Sent::Reference(payload(30, 10))).await;
        lab.send(0, &Sent::Inline(payload(31, 10))).await;
        let away = install(&lab, Verdict::Hang);
        let pipeline = lab.pipeline("", "", "");
        let stop = CancellationToken::new();
        let stopping = async {
            until(|| away.asked.load(Ordering::SeqCst) > 0).await;
            stop.cancel();
        };
        let begun = std::time::Instant::now();
        let ((ended, _), ()) = tokio::join!(lab.run(&pipeline, stop.clone()), stopping);
        assert!(matches!(ended, Ended::Shutdown(_)), "{ended:?}");
        assert!(begun.elapsed() < pipeline.shutdown_deadline, "it did not wait");
        assert_eq!(lab.lines(0), (0..30).map(|number| payload(number, 10)).collect::<Vec<_>>());
        away.away.store(false, Ordering::SeqCst);
        let (ended, _) = lab.run(&pipeline, CancellationToken::new()).await;
        assert!(matches!(ended, Ended::Done), "{ended:?}");
        assert_eq!(lab.lines(0), (0..32).map(|number| payload(number, 10)).collect::<Vec<_>>());
    }
}
