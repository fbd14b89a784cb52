//! Reads a configuration, and from then on keeps its secrets out of everything that is printed.

use crate::redact;
use kas3_sink::{Error, Kind, config, plan::Pipeline, stops};
use std::{path::Path, sync::Arc};

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration of a file, or of environment variables where none is named.
///
/// # Errors
/// As [`from_file`] and [`from_environment`].
pub(crate) fn of(file: Option<&Path>) -> anyhow::Result<Arc<Pipeline>> {
    file.map_or_else(from_environment, from_file)
}

/// The configuration of a file.
///
/// # Errors
/// `Config` for a file that cannot be read, or says what cannot be.
pub(crate) fn from_file(file: &Path) -> anyhow::Result<Arc<Pipeline>> {
    let shown = file.display();
    stops::name_configuration(Some(file));
    let text = text_of(file, "`kas3 demo` works without one; the README has one to begin with")?;
    let named = |error: anyhow::Error| error.context(format!("configuration `{shown}`"));
    take(config::load(&text, &environment).map_err(|error| named(error.into()))?).map_err(named)
}

/// The text of a configuration file; `example` says where to find one to begin with.
///
/// # Errors
/// `Config` for a file that cannot be read, or is none.
pub(crate) fn text_of(file: &Path, example: &'static str) -> anyhow::Result<String> {
    let shown = file.display();
    let unreadable = |source: std::io::Error| {
        let hint = if source.kind() == std::io::ErrorKind::NotFound { example } else { "give a YAML file that you may read" };
        Error::new(Kind::Config, format!("cannot read the configuration `{shown}`")).source(source).hint(hint)
    };
    let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(Error::new(Kind::Config, format!("configuration `{shown}` has {bytes} bytes")).hint("a configuration has 1 MiB at most").into());
    }
    Ok(std::fs::read_to_string(file).map_err(unreadable)?)
}

/// The configuration of environment variables.
///
/// # Errors
/// `Config` for variables that are missing, or say what cannot be.
pub(crate) fn from_environment() -> anyhow::Result<Arc<Pipeline>> {
    stops::name_configuration(None);
    take(config::from_environment(&environment)?)
}

fn take(loaded: config::Loaded) -> anyhow::Result<Arc<Pipeline>> {
    let pipeline = loaded.pipeline()?;
    redact::install(loaded.redactor);
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    Ok(Arc::new(pipeline))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
