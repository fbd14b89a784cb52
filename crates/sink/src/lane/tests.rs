//! The lane against a model that knows nothing of runs, blocks and files, over random logs, batches, waits and accidents.

use super::{append::RUN_BYTES, *};
use crate::{
    Kind, config,
    format::lines::{BlockSize, Compression, IndexPlace, LinesSettings},
    ledger::{Body, ClosedFile, ClosedSpan, ClosedStretch, Remake, Role},
    path::NameContext,
    pipeline::RemadeSpan,
    plan::Pipeline,
    record::OwnedRecord,
    span::{Checksum, Span},
    units::Bytes as Size,
};
use bytes::Bytes;
use kas3_store::PART_BYTES;
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{collections::BTreeMap, io::Read};

const TOPIC: &str = "orders";
/// 2026-03-29 00:50 UTC, ten minutes before Berlin's clocks go forward.
const WALL_MS: i64 = 1_774_745_400_000;

fn only(position: Position) -> LanePartition {
    LanePartition { of: TopicPartition::new(TOPIC, 3), incarnation: 0, position }
}

/// What a record holds, and so what becomes of it.
#[derive(Clone, Debug)]
enum Value {
    /// JSON with a field that paths look at, on one line or several, and a filling.
    Json {
        field: &'static str,
        broken: bool,
        fill: usize,
    },
    /// Nested deeper than any stack, with a number beyond any float.
    Monstrous,
    /// A line that is not JSON.
    Text,
    /// Not JSON, and not a line.
    TwoLines,
    Tombstone,
}

impl Value {
    fn bytes(&self) -> Option<Vec<u8>> {
        let text = match self {
            Value::Json { field, broken, fill } => {
                let fill = "x".repeat(*fill);
                if *broken { format!("{{\n \"p\": \"{field}\",\r\n \"f\": \"{fill}\" }}") } else { format!("{{\"p\":\"{field}\",\"f\":\"{fill}\"}}") }
            }
            Value::Monstrous => format!("{{\"x\":{}1e999999{},\"p\":\"deep\",\n\"n\":{}}}", "[".repeat(3000), "]".repeat(3000), "9".repeat(400)),
            Value::Text => "not JSON".to_owned(),
            Value::TwoLines => "not\nJSON".to_owned(),
            Value::Tombstone => return None,
        };
        Some(text.into_bytes())
    }

    /// Its line in a file; `None` when it does not fit. `by_field`: the path looks at it.
    fn line(&self, by_field: bool) -> Option<String> {
        match self {
            Value::Json { field, fill, .. } => Some(format!("{{\"p\":\"{field}\",\"f\":\"{}\"}}\n", "x".repeat(*fill))),
            Value::Monstrous => self.bytes().map(|bytes| String::from_utf8(bytes).unwrap().replace('\n', "") + "\n"),
            Value::Text if by_field => None,
            Value::Text => Some("not JSON\n".to_owned()),
            Value::TwoLines => None,
            Value::Tombstone => Some("null\n".to_owned()),
        }
    }

    fn field(&self) -> &'static str {
        match self {
            Value::Json { field, .. } => field,
            Value::Monstrous => "deep",
            Value::Text | Value::TwoLines | Value::Tombstone => crate::path::MISSING,
        }
    }
}

/// What happens to a lane, in this order.
#[derive(Clone, Debug)]
enum Step {
    /// The next so many records come, so many of those before once more, with a leader epoch.
    Batch { records: usize, again: usize, leader_epoch: i32 },
    /// So many milliseconds go by, and somebody looks whether files are to be closed.
    Wait(u64),
    /// Memory is short.
    Shrink,
    /// Everything since the last roll is forgotten.
    Abandon,
}

#[derive(Clone, Debug)]
struct Scenario {
    start: i64,
    log: Vec<(u64, Option<i64>, Value)>,
    steps: Vec<Step>,
    roll: RollPlan,
    path: &'static str,
    format: LinesSettings,
    skip: bool,
    berlin: bool,
}

const PATHS: [&str; 4] = [
    "{topic}/{partition}_{offset}",
    "{now:%H%M%S}/{partition:05}-{offset:012}",
    "p={value.p}/{partition}_{offset}",
    "{timestamp:%Y-%m-%d}/{partition}_{offset}",
];

impl Scenario {
    fn by_field(&self) -> bool {
        self.path.contains("{value.")
    }

    fn records(&self) -> Vec<OwnedRecord> {
        let mut offset = self.start;
        let records = self.log.iter().map(|(gap, timestamp_ms, value)| {
            let record = OwnedRecord {
                topic: TOPIC.into(),
                partition: 3,
                offset: offset + gap.cast_signed(),
                timestamp_ms: *timestamp_ms,
                value: value.bytes(),
                ..OwnedRecord::default()
            };
            offset = record.offset + 1;
            record
        });
        records.collect()
    }

    fn pipeline(&self) -> Pipeline {
        let format = serde_json::to_string(&self.format).unwrap();
        let (bad, zone) = (if self.skip { "skip" } else { "stop" }, if self.berlin { "Europe/Berlin" } else { "UTC" });
        let text = format!(
            "name: p\nsource: {{topics: [{TOPIC}], kafka: {{bootstrap.servers: b}}}}\nsink:\n  url: file:///tmp/lake\n  path: \"{}\"\n  \
             format: {format}\n  bad_records: {bad}\n  timezone: {zone}\n",
            self.path
        );
        config::load(&text, &|_| None).and_then(|loaded| loaded.pipeline()).unwrap()
    }
}

fn values() -> impl Strategy<Value = Value> {
    let field = select(vec!["a", "b", "c/d", "..", "_kas3", ""]);
    let json = (field, any::<bool>(), prop_oneof![9 => 0..40_usize, 1 => 0..6000_usize]);
    prop_oneof![
        20 => json.prop_map(|(field, broken, fill)| Value::Json { field: if field.is_empty() { crate::path::MISSING } else { field }, broken, fill }),
        1 => Just(Value::Monstrous),
        1 => Just(Value::Text),
        1 => Just(Value::TwoLines),
        2 => Just(Value::Tombstone),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..30_usize, prop_oneof![4 => Just(0), 1 => 0..5_usize], 0..9).prop_map(|(records, again, leader_epoch)| Step::Batch { records, again, leader_epoch }),
        4 => (0..5000_u64).prop_map(Step::Wait),
        2 => Just(Step::Shrink),
        1 => Just(Step::Abandon),
    ]
}

prop_compose! {
    fn rolls()(
        bytes in prop_oneof![Just(u64::MAX), 100..20_000_u64], records in prop_oneof![Just(u64::MAX), 1..40_u64],
        age_ms in prop_oneof![Just(u64::MAX), 1..20_000_u64], idle_ms in option::of(1..6000_u64),
        clock_s in option::of(select(vec![1, 15, 60, 3600])), files in prop_oneof![Just(usize::MAX), 1..4_usize],
    ) -> RollPlan {
        let (idle, clock) = (idle_ms.map(Duration::from_millis), clock_s.map(Duration::from_secs));
        RollPlan { bytes, records, age: Duration::from_millis(age_ms), idle, clock, files, files_of_record: files }
    }
}

prop_compose! {
    fn scenarios()(
        start in prop_oneof![Just(0), 0..1_000_000_i64],
        log in vec((prop_oneof![9 => Just(0_u64), 1 => 1..50_u64], option::of(0..4_000_000_000_000_i64), values()), 0..150),
        steps in vec(steps(), 0..25), roll in rolls(), path in select(PATHS.to_vec()),
        compression in select(vec![Compression::None, Compression::None, Compression::Gzip, Compression::Zstd]),
        side_file: bool, skip: bool, berlin: bool, one_block: bool,
    ) -> Scenario {
        // what a compressed file will have as its size is nothing that a model can know
        let bytes = if compression == Compression::None { roll.bytes } else { u64::MAX };
        let index = if side_file && compression == Compression::Gzip { IndexPlace::SideFile } else { IndexPlace::Inside };
        let one_block = one_block && index == IndexPlace::Inside;
        let format = LinesSettings { compression, index, block: if one_block { BlockSize::File } else { BlockSize::Fixed(Size(4096)) }, ..LinesSettings::default() };
        Scenario { start, log, steps, roll: RollPlan { bytes, ..roll }, path, format, skip, berlin }
    }
}

/// An open span as the model sees it: which records were read, and when it began.
struct Open {
    first: i64,
    opened: Now,
    read: Vec<usize>,
}

struct Run {
    scenario: Scenario,
    records: Vec<OwnedRecord>,
    plan: Arc<TopicPlan>,
    timezone: TimeZone,
    lane: Lane,
    now: Now,
    last_record: Instant,
    open: Option<Open>,
    shrunk: bool,
    position: i64,
    spans: Vec<(ClosedSpan, Vec<usize>, bool)>,
    stopped_at: Option<i64>,
}

impl Run {
    fn new(scenario: Scenario, pipeline: &Pipeline) -> Run {
        let plan = pipeline.plan(TOPIC);
        let plan = TopicPlan {
            path: plan.path.clone(),
            format: Arc::clone(&plan.format),
            roll: scenario.roll.clone(),
            bad_records: plan.bad_records,
            transforms: Arc::default(),
        };
        let (plan, timezone) = (Arc::new(plan), pipeline.timezone.clone());
        let position = Position { next: scenario.start, leader_epoch: -1 };
        let lane = Lane::new(vec![only(position)], Arc::clone(&plan), timezone.clone(), Box::new(|_, _| None));
        let now = Now { instant: Instant::now(), wall: Timestamp::from_millisecond(WALL_MS).unwrap() };
        let (records, position) = (scenario.records(), scenario.start);
        let (open, spans) = (None, Vec::new());
        Run { scenario, records, plan, timezone, lane, now, last_record: now.instant, open, shrunk: false, position, spans, stopped_at: None }
    }

    fn go(mut self) -> Run {
        for step in self.scenario.steps.clone() {
            match step {
                Step::Batch { records, again, leader_epoch } => self.batch(records, again, leader_epoch),
                Step::Wait(ms) => {
                    self.now.instant += Duration::from_millis(ms);
                    self.now.wall += Duration::from_millis(ms);
                    let due = self.lane.due(self.now);
                    assert_eq!(due, self.due(), "after {ms} ms");
                    due.into_iter().for_each(|roll| self.close(roll));
                }
                Step::Shrink => {
                    self.lane.shrink().unwrap();
                    self.shrunk = true;
                }
                Step::Abandon => {
                    self.lane.abandon();
                    self.position = self.open.take().map_or(self.position, |open| open.first);
                    self.shrunk = false;
                    assert_eq!((self.lane.position(0).next, self.lane.held(), self.lane.open_files()), (self.position, 0, 0));
                }
            }
            if self.stopped_at.is_some() {
                return self;
            }
        }
        self.batch(usize::MAX, 0, 7);
        if self.stopped_at.is_none() {
            self.close(Roll::End);
            self.lane.reached(0, self.position + 10);
            assert_eq!(self.lane.position(0), Position { next: self.position + 10, leader_epoch: -1 }, "nothing is left up to there");
        }
        self
    }

    /// As a worker does it: takes in, closes where that is due, takes in the rest.
    fn batch(&mut self, records: usize, again: usize, leader_epoch: i32) {
        let from = self.records.partition_point(|record| record.offset < self.position);
        let owned = self.records[from.saturating_sub(again)..from.saturating_add(records).min(self.records.len())].to_vec();
        let borrowed: Vec<Row<'_>> = owned.iter().map(|record| Row::of(record.borrow())).collect();
        // every record has an epoch of its own, as after an election in the middle of a batch
        let epoch_at = |offset: i64| match owned.binary_search_by_key(&offset, |record| record.offset) {
            Ok(at) => leader_epoch + i32::try_from(at).unwrap(),
            Err(_) => -1,
        };
        let mut rest = &borrowed[..];
        loop {
            let due_before = self.due();
            let before = self.lane.position(0);
            let progress = match self.lane.append(0, rest, epoch_at, self.now) {
                Ok(progress) => progress,
                Err(error) => return self.stopped(&error),
            };
            let consumed = self.consume(&rest[..progress.taken]);
            rest = &rest[progress.taken..];
            let expected = if consumed == 0 { before.leader_epoch } else { epoch_at(self.position - 1) };
            assert!(consumed == 0 || expected >= leader_epoch, "the last record taken in is of this batch");
            assert_eq!(self.lane.position(0), Position { next: self.position, leader_epoch: expected });
            if due_before.is_some() {
                assert_eq!((progress.roll, consumed), (due_before, 0), "it was due before the batch came");
            } else if progress.roll == Some(Roll::Files) {
                self.check_one_file_too_many(rest);
            } else {
                self.last_record = if rest.is_empty() { self.now.instant } else { self.last_record };
                assert_eq!(progress.roll, self.due());
                assert!(progress.roll.is_some() || rest.is_empty(), "it stops for no reason");
                self.check_not_later(&borrowed, consumed);
            }
            let Some(roll) = progress.roll else { return };
            self.close(roll);
            if rest.is_empty() {
                return;
            }
        }
    }

    /// The model takes the same records in; how many.
    fn consume(&mut self, taken: &[Row<'_>]) -> usize {
        let fresh: Vec<i64> = taken.iter().map(|row| row.record.offset).filter(|offset| *offset >= self.position).collect();
        for offset in &fresh {
            let at = self.records.binary_search_by_key(offset, |record| record.offset).unwrap();
            let (first, opened) = (self.position, self.now);
            self.open.get_or_insert_with(|| Open { first, opened, read: Vec::new() }).read.push(at);
            self.position = offset + 1;
        }
        fresh.len()
    }

    /// A record that does not fit: what is before it is in the lane, and goes on its way.
    fn stopped(&mut self, error: &Error) {
        assert_eq!(error.kind(), Kind::BadRecord, "{error:?}");
        assert!(!self.scenario.skip, "{error:?}");
        let offset = error.offset().expect("the record's offset");
        let (first, opened) = (self.position, self.now);
        let before: Vec<OwnedRecord> = self.records.iter().filter(|record| (self.position..offset).contains(&record.offset)).cloned().collect();
        self.consume(&before.iter().map(|record| Row::of(record.borrow())).collect::<Vec<_>>());
        self.open.get_or_insert_with(|| Open { first, opened, read: Vec::new() });
        self.position = offset;
        let at = self.records.binary_search_by_key(&offset, |record| record.offset).unwrap();
        assert_eq!(self.scenario.log[at].2.line(self.scenario.by_field()), None, "the record at {offset} does fit");
        assert_eq!(self.lane.position(0).next, offset);
        self.close(Roll::Shutdown);
        self.stopped_at = Some(offset);
    }

    /// What is due, by the rules as the manual has them.
    fn due(&self) -> Option<Roll> {
        let open = self.open.as_ref()?;
        let roll = &self.scenario.roll;
        let window = |wall: Timestamp, clock: Duration| {
            let local = wall.to_zoned(self.timezone.clone()).datetime();
            let seconds = local.duration_since(jiff::civil::date(1970, 1, 1).to_datetime(jiff::civil::Time::midnight())).as_secs();
            seconds.div_euclid(clock.as_secs().cast_signed())
        };
        let rules = [
            (Roll::Bytes, self.files(&open.read).values().any(|(content, _)| content.len() as u64 >= roll.bytes)),
            (Roll::Records, open.read.len() as u64 >= roll.records),
            (Roll::Age, self.now.instant - open.opened.instant >= roll.age),
            (Roll::Idle, roll.idle.is_some_and(|idle| self.now.instant - self.last_record >= idle)),
            (Roll::Clock, roll.clock.is_some_and(|clock| window(self.now.wall, clock) != window(open.opened.wall, clock))),
        ];
        rules.into_iter().find(|(_, due)| *due).map(|(roll, _)| roll)
    }

    /// What the records of one file have in common; `None` when the path refuses the record.
    fn group_of(&self, at: usize) -> Option<String> {
        let (_, timestamp_ms, value) = &self.scenario.log[at];
        let day = timestamp_ms.map(|ms| Timestamp::from_millisecond(ms).unwrap().to_zoned(self.timezone.clone()).date().to_string());
        match self.scenario.path {
            path if path.contains("{value.") => (!matches!(value, Value::Text | Value::TwoLines)).then(|| value.field().to_owned()),
            path if path.contains("{timestamp") => Some(day.unwrap_or_default()),
            _ => Some(String::new()),
        }
    }

    /// Contents and records of the files that some records make. A file in which nothing is written is there as well.
    fn files(&self, read: &[usize]) -> BTreeMap<String, (String, Vec<usize>)> {
        let mut files: BTreeMap<String, (String, Vec<usize>)> = BTreeMap::new();
        for &at in read {
            let Some(group) = self.group_of(at) else { continue };
            let (content, records) = files.entry(group).or_default();
            if let Some(line) = self.scenario.log[at].2.line(self.scenario.by_field()) {
                content.push_str(&line);
                records.push(at);
            }
        }
        files
    }

    fn check_one_file_too_many(&self, rest: &[Row<'_>]) {
        let open = self.files(&self.open.as_ref().expect("an open span").read);
        assert_eq!((open.len(), self.lane.open_files()), (self.scenario.roll.files, self.scenario.roll.files));
        let next = self.records.binary_search_by_key(&rest[0].record.offset, |record| record.offset).unwrap();
        assert!(self.group_of(next).is_some_and(|group| !open.contains_key(&group)), "its file is open");
    }

    /// The last run of records, those that went to one file together, brought the roll; the ones before did not.
    fn check_not_later(&self, batch: &[Row<'_>], consumed: usize) {
        let Some(open) = &self.open else { return };
        assert!(open.read.len() as u64 <= self.scenario.roll.records);
        let bytes = self.scenario.roll.bytes;
        let largest = batch.iter().map(Row::payload_bytes).max().unwrap_or(0) + 10;
        for (content, _) in self.files(&open.read).values() {
            assert!((content.len() as u64) < bytes.saturating_add((RUN_BYTES + largest) as u64), "{} bytes, {bytes} are a roll", content.len());
        }
        let last = open.read.last().and_then(|at| self.group_of(*at));
        let run = open.read.iter().rev().take(consumed).take_while(|at| self.group_of(**at) == last).count();
        let before = self.files(&open.read[..open.read.len() - run]);
        assert!(before.values().all(|(content, _)| (content.len() as u64) < bytes), "a run too late");
    }

    fn close(&mut self, roll: Roll) {
        let closed = self.lane.close(roll).unwrap();
        assert_eq!((self.lane.held(), self.lane.open_files(), self.lane.is_open()), (0, 0, false));
        let (open, shrunk) = (self.open.take(), std::mem::take(&mut self.shrunk));
        let Some(open) = open.filter(|open| open.first < self.position) else { return assert!(closed.is_none(), "{closed:?}") };
        let closed = closed.expect("a span");
        let [stretch] = closed.stretches.as_slice() else { panic!("{closed:?}") };
        assert_eq!((closed.roll, stretch.span, closed.now), (roll, Span { first: open.first, next: self.position }, open.opened.wall));
        self.check_files(&closed, &open);
        self.spans.push((closed, open.read, shrunk));
    }

    /// Counts, bounds, names and contents, the latter by decoders that are not ours.
    fn check_files(&self, closed: &ClosedSpan, open: &Open) {
        let mut wanted = self.files(&open.read);
        assert!(wanted.len() <= self.scenario.roll.files);
        wanted.retain(|_, (_, records)| !records.is_empty());
        let written: usize = wanted.values().map(|(_, records)| records.len()).sum();
        let (read, written) = (open.read.len() as u64, written as u64);
        assert_eq!(closed.counts, Counts { read, written, rows: written, refused: read - written, ..Counts::default() });
        let bounds = |records: &[usize], of: &dyn Fn(&OwnedRecord) -> Option<i64>| {
            let values = records.iter().filter_map(|at| of(&self.records[*at]));
            values.clone().min().zip(values.max()).map(|(min, max)| Bounds { min, max })
        };
        assert_eq!(closed.timestamps, bounds(&open.read, &|record| record.timestamp_ms));
        let data: Vec<&ClosedFile> = closed.files.iter().filter(|file| file.role == Role::Data).collect();
        assert_eq!(data.len(), wanted.len(), "{wanted:?}");
        let sides = closed.files.len() - data.len();
        assert_eq!(sides, if self.scenario.format.index == IndexPlace::SideFile { data.len() } else { 0 });
        let context = NameContext { now: open.opened.wall, incarnation: 0, extension: format!(".{}", self.plan.format.extension()) };
        for (content, records) in wanted.values() {
            // the first record that belongs there names the file, even if the format refuses it then
            let group = self.group_of(records[0]);
            let first = &self.records[*open.read.iter().find(|at| self.group_of(**at) == group).unwrap()];
            let mut cache = PathCache::default();
            let path = self.plan.path.name(self.plan.path.group(&Row::of(first.borrow()), &context, &mut cache).unwrap(), first.offset, &context);
            let file = data.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("no file {path}"));
            assert_eq!((file.records, file.rows), (records.len() as u64, records.len() as u64));
            assert_eq!(file.offsets, bounds(records, &|record| Some(record.offset)));
            assert_eq!(file.timestamps, bounds(records, &|record| record.timestamp_ms));
            assert_eq!(file.checksum, Checksum::from_xxh3(xxhash_rust::xxh3::xxh3_128(content.as_bytes())));
            let stored = whole(file);
            assert_eq!(file.bytes, stored.len() as u64);
            assert!(uncompressed(self.scenario.format.compression, &stored) == content.as_bytes(), "{} holds something else", file.path);
        }
    }
}

fn whole(file: &ClosedFile) -> Bytes {
    match &file.body {
        Body::Whole(bytes) => bytes.clone(),
        Body::Upload(_) => panic!("`{}` is too small for an upload", file.path),
    }
}

fn uncompressed(compression: Compression, stored: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    match compression {
        Compression::None => content.extend_from_slice(stored),
        Compression::Gzip => drop(flate2::read::MultiGzDecoder::new(stored).read_to_end(&mut content).unwrap()),
        Compression::Zstd => content = zstd::stream::decode_all(stored).unwrap(),
    }
    content
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn spans_follow_each_other_and_hold_every_record_once_whatever_rolls_them(scenario in scenarios()) {
        let pipeline = scenario.pipeline();
        let run = Run::new(scenario, &pipeline).go();
        let mut next = run.scenario.start;
        for (span, ..) in &run.spans {
            let span = span.stretches[0].span;
            prop_assert_eq!(span.first, next);
            next = span.next;
        }
        let read: Vec<usize> = run.spans.iter().flat_map(|(_, read, _)| read.iter().copied()).collect();
        let until = run.stopped_at.unwrap_or(i64::MAX);
        let wanted = run.records.partition_point(|record| record.offset < until);
        prop_assert_eq!(read, (0..wanted).collect::<Vec<_>>());
        prop_assert_eq!(next, run.position);
    }

    #[test]
    fn a_span_made_again_has_the_same_files_whatever_its_batches_were(scenario in scenarios(), wanted: u8) {
        let pipeline = scenario.pipeline();
        let run = Run::new(scenario, &pipeline).go();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let store = runtime.block_on(kas3_store::Store::open(&url, &pipeline.storage, Arc::new(kas3_store::Unobserved))).unwrap();
        for (span, read, shrunk) in &run.spans {
            let numbers: Vec<u32> = (0..).take(span.files.len()).filter(|number| wanted.rotate_left(*number) & 1 == 1).collect();
            let of_number = |number: &u32| &span.files[*number as usize];
            let ClosedStretch { of, span: offsets, leader_epoch } = span.stretches[0].clone();
            let remake = Remake {
                of, id: span.id.clone(), store: store.clone(), span: offsets, leader_epoch, incarnation: 0,
                now: span.now, paths: numbers.iter().map(|number| of_number(number).path.clone()).collect(), wanted: numbers.clone(),
            };
            let mut remade = RemadeSpan::new(&pipeline, &remake, runtime.handle()).unwrap();
            for at in read {
                remade.append(&run.records[*at].borrow()).unwrap();
            }
            let made = remade.finish().unwrap();
            prop_assert_eq!(made.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers);
            for (number, file) in &made {
                let before = of_number(number);
                prop_assert_eq!((&file.path, file.records, file.offsets, file.timestamps), (&before.path, before.records, before.offsets, before.timestamps));
                prop_assert_eq!(&file.checksum, &before.checksum);
                prop_assert!(*shrunk || whole(file) == whole(before), "the bytes of {} are others", file.path);
            }
        }
    }
}

#[test]
fn files_that_grow_past_a_part_go_up_in_parts_numbered_as_they_began() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let scenario = Scenario {
        start: 5,
        log: Vec::new(),
        steps: Vec::new(),
        roll: RollPlan {
            bytes: u64::MAX,
            records: u64::MAX,
            age: Duration::MAX,
            idle: None,
            clock: None,
            files: usize::MAX,
            files_of_record: usize::MAX,
        },
        path: PATHS[2],
        format: LinesSettings { compression: Compression::None, ..LinesSettings::default() },
        skip: false,
        berlin: false,
    };
    let pipeline = scenario.pipeline();
    let store = runtime.block_on(kas3_store::Store::open(&url, &pipeline.storage, Arc::new(kas3_store::Unobserved))).unwrap();
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    let begin: BeginUpload = {
        let (begun, handle) = (Arc::clone(&begun), runtime.handle().clone());
        Box::new(move |path, options| {
            begun.lock().unwrap().push(path.to_owned());
            Some(Upload::begin(&handle, store.clone(), path.to_owned(), "_kas3/p/staged/".into(), options, Arc::new(|_| {})))
        })
    };
    let position = Position { next: 5, leader_epoch: -1 };
    let plan = Arc::clone(pipeline.plan(TOPIC));
    let mut lane = Lane::new(vec![only(position)], plan, TimeZone::UTC, begin);
    let fill = "x".repeat(1 << 20);
    // `small` first, then `late` and `early`: the one that fills a part first has number 0
    let order = ["small", "late", "early"].into_iter().chain(std::iter::repeat_n("early", 20)).chain(std::iter::repeat_n("late", 9));
    for (offset, field) in (5..).zip(order) {
        let value = if field == "small" { format!("{{\"p\":\"{field}\"}}") } else { format!("{{\"p\":\"{field}\",\"f\":\"{fill}\"}}") };
        let record = OwnedRecord { topic: TOPIC.into(), partition: 3, offset, value: Some(value.into_bytes()), ..OwnedRecord::default() };
        let progress = lane.append(0, &[Row::of(record.borrow())], |_| 0, Now::read()).unwrap();
        assert_eq!((progress.taken, progress.roll), (1, None));
        assert!(lane.held() < 3 * (PART_BYTES + (4 << 20)), "{}", lane.held());
    }
    let closed = lane.close(Roll::End).unwrap().unwrap();
    assert_eq!(*begun.lock().unwrap(), ["p=early/3_7.jsonl", "p=late/3_6.jsonl"]);
    let files: Vec<_> = closed
        .files
        .iter()
        .map(|file| (file.path.as_str(), file.records, if let Body::Upload(upload) = &file.body { upload.parts() } else { 0 }))
        .collect();
    assert_eq!(files, [("p=early/3_7.jsonl", 21, 3), ("p=late/3_6.jsonl", 10, 2), ("p=small/3_5.jsonl", 1, 0)]);
    assert_eq!(closed.stretches[0].span, Span { first: 5, next: 37 });
}
