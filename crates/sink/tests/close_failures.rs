//! A file that cannot be closed: its span is read again, and no record behind it is taken in before.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod run_support;

use bytes::Bytes;
use kas3_sink::{
    Error, Kind, Result, config,
    format::{Appended, Encoder, Finished, Format},
    plan::TopicPlan,
    record::OwnedRecord,
    refused::Refused,
    row::Row,
    source::memory::MemoryLog,
};
use run_support::{TOPIC, run};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// A format whose files cannot be ended the first few times.
struct Failing {
    format: Arc<dyn Format>,
    failures: Arc<AtomicU32>,
}

struct File {
    encoder: Box<dyn Encoder>,
    failures: Arc<AtomicU32>,
}

impl Format for Failing {
    fn extension(&self) -> &str {
        self.format.extension()
    }
    fn content_type(&self) -> &'static str {
        self.format.content_type()
    }
    fn content_encoding(&self) -> Option<&'static str> {
        self.format.content_encoding()
    }
    fn has_side_file(&self) -> bool {
        self.format.has_side_file()
    }
    fn encoder(&self) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(File { encoder: self.format.encoder()?, failures: Arc::clone(&self.failures) }))
    }
}

impl Encoder for File {
    fn append(&mut self, rows: &[Row<'_>]) -> Result<Appended> {
        self.encoder.append(rows)
    }
    fn refuses(&self, row: &Row<'_>) -> Option<Refused> {
        self.encoder.refuses(row)
    }
    fn rows(&self) -> u64 {
        self.encoder.rows()
    }
    fn take(&mut self) -> Bytes {
        self.encoder.take()
    }
    fn size(&self) -> u64 {
        self.encoder.size()
    }
    fn buffered(&self) -> usize {
        self.encoder.buffered()
    }
    fn shrink(&mut self) -> Result<()> {
        self.encoder.shrink()
    }
    fn finish(self: Box<Self>) -> Result<Finished> {
        let fails = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Err(Error::new(Kind::Transient, "the compressor failed")) } else { self.encoder.finish() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_a_file_that_cannot_be_closed_is_written_once_and_nothing_before_it_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "name: test\nsource: {{topics: [{TOPIC}], kafka: {{bootstrap.servers: 'unused:1'}}}}\nhttp: off\nsink:\n  url: 'file://{}'\n  \
         path: '{{topic}}/{{partition}}_{{offset}}'\n  format: {{compression: none}}\n  roll: {{records: 10}}\n",
        folder.path().display()
    );
    let mut pipeline = config::load(&text, &|_| None).unwrap().pipeline().unwrap();
    let plan = &pipeline.default;
    let failures = Arc::new(AtomicU32::new(3));
    pipeline.default = Arc::new(TopicPlan {
        path: plan.path.clone(),
        format: Arc::new(Failing { format: Arc::clone(&plan.format), failures: Arc::clone(&failures) }),
        roll: plan.roll.clone(),
        bad_records: plan.bad_records,
        transforms: Arc::clone(&plan.transforms),
    });
    // several rolls are due in one batch
    let log = MemoryLog::default();
    for offset in 0..500 {
        log.push(OwnedRecord { topic: TOPIC.into(), offset, value: Some(offset.to_string().into_bytes()), ..OwnedRecord::default() });
    }
    assert_eq!(run(&Arc::new(pipeline), &log).await, Vec::<String>::new());
    assert_eq!(failures.load(Ordering::Relaxed), 0);
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder.path().join(TOPIC)).unwrap().map(|file| file.unwrap().path()) {
        if !file.file_name().unwrap().to_str().unwrap().starts_with('.') {
            found.extend(std::fs::read_to_string(file).unwrap().lines().map(|line| line.parse::<i64>().unwrap()));
        }
    }
    found.sort_unstable();
    assert_eq!(found, (0..500).collect::<Vec<_>>());
}
