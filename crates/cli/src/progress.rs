//! What long-running commands show on a terminal: one line that is redrawn; `kas3 run` adds a line for each partition that
//! stopped.

use crate::readable;
use indicatif::{ProgressBar, ProgressStyle};
use kas3_sink::status::{Phase, Snapshot, Status};
use std::{
    io::{self, IsTerminal},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Whether progress is shown: on a terminal that can redraw a line.
pub(crate) fn is_shown() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Runs `write`, which writes to standard error, with the progress out of its way.
pub(crate) fn above(write: impl FnOnce()) {
    match BAR.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Redraws the progress until it is dropped.
pub(crate) struct Progress(JoinHandle<()>);

/// Conditions that are shown below the line.
const SHOWN_MAX: usize = 10;

/// How often the line is redrawn.
const REDRAW: Duration = Duration::from_millis(200);

impl Progress {
    /// Shows `status` from now on, where there is a terminal. Must be called inside the runtime.
    pub(crate) fn show(status: &Arc<Status>) -> Option<Self> {
        let status = Arc::clone(status);
        let mut rate = Rate::new();
        Self::of(move || {
            let snapshot = status.snapshot();
            let read = snapshot.partitions.iter().map(|partition| partition.records_read).sum();
            line(&snapshot, rate.update(read, Instant::now()))
        })
    }

    /// Shows what `line` says from now on, where there is a terminal. Must be called inside the runtime.
    pub(crate) fn of(mut line: impl FnMut() -> String + Send + 'static) -> Option<Self> {
        if !is_shown() {
            return None;
        }
        let bar = BAR.get_or_init(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Some(Progress(tokio::spawn(async move {
            let mut tick = tokio::time::interval(REDRAW);
            loop {
                tick.tick().await;
                bar.set_message(line());
                bar.tick();
            }
        })))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
        if let Some(bar) = BAR.get() {
            bar.finish_and_clear();
        }
    }
}

/// Records per second, smoothed over a few seconds.
pub(crate) struct Rate {
    before: Option<(u64, Instant)>,
    per_second: f64,
}

impl Rate {
    pub(crate) fn new() -> Self {
        Rate { before: None, per_second: 0.0 }
    }

    /// What `total` says about the speed.
    pub(crate) fn update(&mut self, total: u64, now: Instant) -> f64 {
        /// Weight of the newest measurement.
        const NEWEST: f64 = 0.2;
        if let Some((before, at)) = self.before {
            let seconds = now.duration_since(at).as_secs_f64();
            if seconds > 0.0 {
                let newest = total.saturating_sub(before) as f64 / seconds;
                self.per_second += NEWEST * (newest - self.per_second);
            }
        }
        self.before = Some((total, now));
        self.per_second
    }
}

fn line(snapshot: &Snapshot, per_second: f64) -> String {
    let sum = |value: fn(&kas3_sink::status::PartitionSnapshot) -> u64| snapshot.partitions.iter().map(value).sum::<u64>();
    let lag: i64 = snapshot.partitions.iter().filter_map(|partition| partition.lag_records).sum();
    let what = match snapshot.phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopping => "stopping",
    };
    let mut text = format!(
        "{} {what}: {} records/s, {} published in {} ({}), lag {}, {}, {} open",
        snapshot.pipeline,
        readable::number(per_second.round() as i64),
        readable::number(snapshot.published.records),
        readable::count(snapshot.published.files, "file"),
        readable::bytes(snapshot.published.bytes),
        readable::number(lag),
        readable::count(snapshot.partitions.len() as u64, "partition"),
        readable::number(sum(|partition| partition.open_files)),
    );
    for condition in snapshot.conditions.iter().take(SHOWN_MAX) {
        let hint = condition.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        text.push_str(&format!("\n  {}{hint}", condition.text));
    }
    if let Some(more) = snapshot.conditions.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
        text.push_str(&format!("\n  and {more} more; `/health` lists them"));
    }
    crate::redact::text(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_follows_what_is_read_and_falls_when_nothing_comes() {
        let start = Instant::now();
        let mut rate = Rate::new();
        for second in 0..60 {
            rate.update(second * 1000, start + Duration::from_secs(second));
        }
        assert!((rate.per_second - 1000.0).abs() < 10.0, "{}", rate.per_second);
        for second in 60..120 {
            rate.update(59_000, start + Duration::from_secs(second));
        }
        assert!(rate.per_second < 10.0, "{}", rate.per_second);
    }
}
