//! The store's one error.

use std::fmt;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The URL or a setting is wrong.
    Config,
    /// The object, bucket or folder is not there.
    Missing,
    /// No permission.
    Denied,
    /// It may go well later; retries inside are used up. The request may have been done all the same.
    Transient,
    /// The store refuses for good, or breaks the protocol.
    Fatal,
}

/// An error of a store.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    doing: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The store's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`: what happened, in lower case, values in backticks, no full stop.
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, doing: doing.into(), hint: None, source: None }))
    }

    /// The same error with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, said of the last of many attempts.
    pub(crate) fn after(mut self, attempts: u32) -> Self {
        if attempts > 1 {
            self.0.doing = format!("{} ({attempts} attempts)", self.0.doing);
        }
        self
    }

    /// What the caller does about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The way out, if there is one to name.
    pub fn way_out(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.doing)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.doing)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source:?}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
