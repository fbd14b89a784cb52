//! What the core logs goes to Python's `logging`, logger `kas3`. No thread of ours calls into Python for it: lines wait here until a
//! thread of the caller's is in one of our calls, or until the process ends.

use crate::{fork::PerProcess, lock::lock};
use pyo3::{exceptions::PyException, prelude::*, sync::PyOnceLock};
use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

/// Lines that wait at most; further ones are counted.
const LINES_MAX: usize = 1000;

/// How soon a change of the logger's level is noticed.
const LEVEL_EVERY_MS: u64 = 1000;

static EMIT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LEVEL_OF_LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// The level from which the logger takes lines, and when it was asked last, in milliseconds since 1970.
static LEVEL: AtomicU8 = AtomicU8::new(30);
static ASKED: AtomicU64 = AtomicU64::new(0);
static LINES: PerProcess<Lines> = PerProcess::new();

#[derive(Default)]
struct Lines {
    queue: Mutex<VecDeque<Line>>,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

struct Line {
    /// Python's number of the level.
    level: u8,
    target: String,
    message: String,
    /// Seconds since 1970.
    at: f64,
}

fn lines() -> &'static Lines {
    match LINES.get_or_make(|| Ok::<_, Infallible>(Lines::default())) {
        Ok(lines) => lines,
        Err(never) => match never {},
    }
}

/// Python's number of a level of ours.
fn level_of(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        _ => 10,
    }
}

/// Whether the logger takes lines of a level.
pub(crate) fn is_wanted(level: u8) -> bool {
    level >= LEVEL.load(Ordering::Relaxed)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn ask_for_level(py: Python<'_>) -> PyResult<()> {
    let now = u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX);
    if now.saturating_sub(ASKED.load(Ordering::Relaxed)) < LEVEL_EVERY_MS {
        return Ok(());
    }
    ASKED.store(now, Ordering::Relaxed);
    let level: i64 = LEVEL_OF_LOGGER.import(py, "kas3._logs", "level")?.call0()?.extract()?;
    LEVEL.store(u8::try_from(level.clamp(0, 255)).unwrap_or(u8::MAX), Ordering::Relaxed);
    Ok(())
}

/// Puts a line in the queue.
pub(crate) fn keep(level: u8, target: &str, message: String) {
    if !is_wanted(level) {
        return;
    }
    let lines = lines();
    let mut queue = lock(&lines.queue);
    if queue.len() >= LINES_MAX {
        lines.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let at = since_1970().as_secs_f64();
    queue.push_back(Line { level, target: target.to_owned(), message, at });
    lines.waiting.store(queue.len(), Ordering::Release);
}

thread_local! {
    /// A handler of Python's is running, and may use this package itself.
    static HANDING_OVER: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Gives lines that wait to `logging`. What its handlers raise they show themselves; a signal goes on.
pub(crate) fn hand_over(py: Python<'_>) -> PyResult<()> {
    ask_for_level(py)?;
    let lines = lines();
    if lines.waiting.load(Ordering::Acquire) == 0 || HANDING_OVER.get() {
        return Ok(());
    }
    HANDING_OVER.set(true);
    let done = handed_over(py, lines);
    HANDING_OVER.set(false);
    done
}

fn handed_over(py: Python<'_>, lines: &Lines) -> PyResult<()> {
    let emit = EMIT.import(py, "kas3._logs", "emit")?;
    // only what waits now: a handler may make further lines
    for _ in 0..lines.waiting.load(Ordering::Acquire) {
        let line = {
            let mut queue = lock(&lines.queue);
            let line = queue.pop_front();
            lines.waiting.store(queue.len(), Ordering::Release);
            line
        };
        let Some(line) = line else { break };
        if let Err(error) = emit.call1((line.level, line.target, line.message, line.at)) {
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            error.write_unraisable(py, None);
        }
    }
    let dropped = lines.dropped.swap(0, Ordering::Relaxed);
    if dropped > 0 {
        keep(30, "kas3", format!("{dropped} lines of the log were dropped: nobody called kas3 while they came"));
    }
    Ok(())
}

/// Gives lines that wait to `logging`, at the end of the process.
#[pyfunction]
pub(crate) fn hand_over_logs(py: Python<'_>) -> PyResult<()> {
    hand_over(py)
}

/// Lines become a message with the fields of their event behind it.
struct ToPython;

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let Text { mut message, fields } = text;
        message.push_str(&fields);
        keep(level_of(*event.metadata().level()), event.metadata().target(), message);
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // writing to a string cannot fail
        _ = if field.name() == "message" { write!(self.message, "{value:?}") } else { write!(self.fields, " {}={value:?}", field.name()) };
    }
}

/// Where the core's log goes. `KAS3_LOG` (as `info`, or `kas3_claimcheck=debug,librdkafka=info`) sends it to stderr instead, straight
/// from the threads that make it: that shows something even when the interpreter hangs.
pub(crate) fn begin() {
    // somebody else in this process may have set one up: then theirs is used
    if let Ok(filter) = EnvFilter::try_from_env("KAS3_LOG") {
        _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
        return;
    }
    // what `rdkafka` says of errors, librdkafka has said itself; what librdkafka says has come through its client
    let wanted = Targets::new().with_default(LevelFilter::WARN).with_targets([
        ("kas3_claimcheck", LevelFilter::DEBUG),
        ("kas3_store", LevelFilter::DEBUG),
        ("kas3_kafka", LevelFilter::DEBUG),
        ("librdkafka", LevelFilter::DEBUG),
        ("rdkafka", LevelFilter::OFF),
    ]);
    _ = tracing_subscriber::registry().with(ToPython.with_filter(wanted)).try_init();
}
