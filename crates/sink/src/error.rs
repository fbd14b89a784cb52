//! The library's one error: what kind it is by what the caller does about it, what we were doing, the way out, and the source.

use std::fmt;

/// What the caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The configuration or the command is wrong; nothing was started.
    Config,
    /// A record does not fit the pipeline; its policy decides.
    BadRecord,
    /// It may go well when tried again.
    Transient,
    /// Somebody else moved the partition: open it again.
    Fenced,
    /// Something that was named is not there.
    Missing,
    /// This partition stops until a person decides (`kas3 ledger accept`); the others go on.
    Stopped,
    /// This partition stops because a newer kas3 wrote what is stored of it: nobody decides about that, the newer kas3 goes on.
    Newer,
    /// The process cannot go on.
    Fatal,
}

/// An error of the sink.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    doing: String,
    hint: Option<String>,
    offset: Option<i64>,
    reason: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind`: what happened, in lower case, values in backticks, no full stop.
    pub fn new(kind: Kind, doing: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, doing: doing.into(), hint: None, offset: None, reason: None, source: None }))
    }

    /// The same error with the way out, printed once after the chain as a line `hint: …`.
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

    /// The same error, naming the record that caused it.
    #[must_use]
    pub fn at(mut self, offset: i64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// The same error with a fixed code of why a record does not fit, for metrics.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.0.reason = Some(reason);
        self
    }

    /// The fixed code of why a record does not fit, where there is one.
    pub fn reason(&self) -> Option<&'static str> {
        self.0.reason
    }

    /// The offset of the record that caused it.
    pub fn offset(&self) -> Option<i64> {
        self.0.offset
    }

    /// What the caller does about it.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The way out: of this error, or of the nearest cause that has one.
    pub fn way_out(&self) -> Option<&str> {
        if let Some(hint) = &self.0.hint {
            return Some(hint);
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(ours) = error.downcast_ref::<Error>() {
                return ours.way_out();
            }
            if let Some(store) = error.downcast_ref::<kas3_store::Error>() {
                return store.way_out();
            }
            cause = error.source();
        }
        None
    }

    /// The message and those of all causes, joined by `: `. What a message repeats of its cause is said once.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut last = text.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if !last.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
                last = message;
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.doing)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<kas3_store::Error> for Error {
    fn from(error: kas3_store::Error) -> Self {
        let kind = match error.kind() {
            kas3_store::Kind::Config => Kind::Config,
            kas3_store::Kind::Missing => Kind::Missing,
            kas3_store::Kind::Transient => Kind::Transient,
            kas3_store::Kind::Denied | kas3_store::Kind::Fatal => Kind::Fatal,
        };
        Error::new(kind, "object store").source(error)
    }
}
