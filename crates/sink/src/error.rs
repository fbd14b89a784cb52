//! The library's one error: what kind it is by what the caller does about it, what we were doing, the way out, and the source.

use kas3_store::error::Detail;

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

/// The record that an error is about.
#[derive(Default)]
struct OfRecord {
    offset: Option<i64>,
    reason: Option<&'static str>,
}

impl Detail for OfRecord {}

kas3_store::error_type!(
    /// An error of the sink.
    Error(Kind, OfRecord)
);

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A configuration that cannot be.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Error::new(Kind::Config, message)
    }

    /// The same error, naming the record that caused it.
    #[must_use]
    pub fn at(self, offset: i64) -> Self {
        Error(self.0.with(|record| record.offset = Some(offset)))
    }

    /// The same error with a fixed code of why a record does not fit, for metrics.
    #[must_use]
    pub fn because(self, reason: &'static str) -> Self {
        Error(self.0.with(|record| record.reason = Some(reason)))
    }

    /// The fixed code of why a record does not fit, where there is one.
    pub fn reason(&self) -> Option<&'static str> {
        self.0.detail().reason
    }

    /// The offset of the record that caused it.
    pub fn offset(&self) -> Option<i64> {
        self.0.detail().offset
    }
}

/// Errors that are gathered, so that all of them are told at once.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Error>);

impl Mistakes {
    /// One more.
    pub fn add(&mut self, error: Error) {
        self.0.push(error);
    }

    /// What came of something; its error is gathered.
    pub fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    /// The same of something that gathers errors itself.
    pub fn take_all<T>(&mut self, result: Result<T, Mistakes>) -> Option<T> {
        result.map_err(|more| self.0.extend(more.0)).ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Mistakes {
    type Item = Error;
    type IntoIter = std::vec::IntoIter<Error>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
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
