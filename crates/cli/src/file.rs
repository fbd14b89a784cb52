//! Configuration files as such: their text, and which kind of configuration they are meant as.

use kas3_sink::{Error, Kind, config};
use schemars::JsonSchema;
use std::path::Path;

/// Bytes of a configuration file at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

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
    let bytes = std::fs::read(file).map_err(unreadable)?;
    let not_text = |_| Error::new(Kind::Config, format!("the configuration `{shown}` is not UTF-8")).hint("save it as UTF-8");
    Ok(String::from_utf8(bytes).map_err(not_text)?)
}

/// Whether a text has every key at its top that settings of the one kind need, and not those of the other.
pub(crate) fn is_rather<T: JsonSchema, Other: JsonSchema>(text: &str) -> bool {
    config::is_meant_as::<T>(text) && !config::is_meant_as::<Other>(text)
}

/// What a configuration file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A pipeline.
    Pipeline,
    /// The claim check.
    Claims,
}

impl Of {
    /// That a file is of this, where the other was wanted.
    pub(crate) fn told(self, file: &Path) -> anyhow::Error {
        let file = file.display();
        let (is, isnt, hint) = match self {
            Of::Pipeline => (
                "a pipeline",
                "the claim check",
                format!("`kas3 run {file}` and `kas3 check {file}` take it; `docs/claim-check.md` has one of the claim check"),
            ),
            Of::Claims => (
                "the claim check",
                "a pipeline",
                format!("`kas3 produce {file}`, `kas3 consume {file}` and `kas3 payloads ls {file}` take it; the README has one of a pipeline"),
            ),
        };
        Error::new(Kind::Config, format!("the configuration `{file}` is one of {is}, not of {isnt}")).hint(hint).into()
    }
}
