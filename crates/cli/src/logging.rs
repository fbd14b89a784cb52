//! Logs: on standard error, as text or JSON, librdkafka's included, without secrets.

use crate::{output, progress, redact};
use clap::{Args, ValueEnum};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
};
use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

/// How logs look.
#[derive(Args, Debug)]
pub(crate) struct LoggingArguments {
    /// Form of the logs on standard error; `auto`: text on a terminal, JSON otherwise when `run` logs
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto, help_heading = "Logging")]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or by module as `info,kas3_sink=debug` [default: info; warn where progress or results are shown]
    #[arg(long, global = true, env = "KAS3_LOG", hide_env_values = true, value_name = "LEVEL", help_heading = "Logging")]
    log_level: Option<String>,
}

/// Form of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
    /// Text on a terminal, JSON otherwise.
    Auto,
}

/// What these say is not for logs: that a client which has failed, of which an error tells, cannot leave its group as it goes; whose
/// access key was loaded, and which of many places had none, a kilobyte each, where the error says it in a line.
const MUTED: &str = "rdkafka::consumer::base_consumer=off,aws_config=off";

impl LoggingArguments {
    /// Installs the logs for this process; `long_running` for the command whose logs are its output. `environment` is the
    /// variable `LOG_LEVEL` of a command that takes its settings from there.
    pub(crate) fn install(&self, long_running: bool, environment: Option<String>) -> anyhow::Result<()> {
        let terminal = io::stderr().is_terminal();
        let quiet = !long_running || progress::is_shown();
        let named = self.log_level.clone().or_else(|| environment.and_then(of_python));
        let level = named.as_deref().unwrap_or(if quiet { "warn" } else { "info" });
        let filter = EnvFilter::try_new(format!("{MUTED},{level}")).map_err(|error| {
            crate::exit::usage(
                format!("`{level}` is not a log level: {error}"),
                "write error, warn, info, debug or trace, or by module as `info,kas3_sink=debug`",
            )
        })?;
        let json = match self.log_format {
            LogFormat::Json => true,
            LogFormat::Text => false,
            LogFormat::Auto => long_running && !terminal,
        };
        if json {
            output::as_json();
        }
        let layer = tracing_subscriber::fmt::layer().with_writer(Redacted).with_target(json);
        let layer = if json { layer.json().flatten_event(true).boxed() } else { layer.with_ansi(terminal).boxed() };
        tracing_subscriber::registry().with(layer).with(filter).try_init()?;
        std::panic::set_hook(Box::new(|panic| output::say("ERROR", &panicked(panic), None)));
        Ok(())
    }
}

/// The levels of Python's `logging`, which `LOG_LEVEL` names.
fn of_python(level: String) -> Option<String> {
    let level = level.trim().to_lowercase();
    match level.as_str() {
        "" => None,
        "warning" => Some("warn".to_owned()),
        "critical" | "fatal" => Some("error".to_owned()),
        "notset" => Some("trace".to_owned()),
        _ => Some(level),
    }
}

/// A panic in words, without secrets: its message may hold any value.
fn panicked(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let mut text = format!("thread `{}` {panic}", thread.name().unwrap_or_default());
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text.push_str(&format!("\n{backtrace}"));
    }
    redact::text(&text).into_owned()
}

/// Collects one event, then writes it at once, without secrets, above the progress if there is one.
struct Redacted;

struct Event(Vec<u8>);

impl<'a> MakeWriter<'a> for Redacted {
    type Writer = Event;
    fn make_writer(&'a self) -> Event {
        Event(Vec::with_capacity(256))
    }
}

impl Write for Event {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.0);
        progress::above(|| {
            let _ = io::stderr().lock().write_all(redact::text(&text).as_bytes());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kas3_sink::config::Redactor;
    use std::sync::Mutex;

    static SAID: Mutex<String> = Mutex::new(String::new());

    #[test]
    fn a_panic_names_its_place_and_shows_no_secret() {
        let mut redactor = Redactor::default();
        redactor.hide("a-password-nobody-may-see");
        redact::install(redactor);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|panic| SAID.lock().expect("one at a time").push_str(&panicked(panic))));
        let caught = std::panic::catch_unwind(|| panic!("no broker takes a-password-nobody-may-see"));
        std::panic::set_hook(before);
        let said = SAID.lock().expect("one at a time").clone();
        assert!(caught.is_err() && said.contains("panicked at crates/cli/src/logging.rs") && said.contains("no broker takes ***"), "{said}");
    }
}
