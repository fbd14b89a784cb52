//! Errors become exceptions of `kas3.errors`, a class for each kind.

use kas3_claimcheck::{
    Error, Kind,
    kafka::rdkafka::{error::KafkaError, types::RDKafkaErrorCode},
};
use pyo3::{prelude::*, sync::PyOnceLock};

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Config => "config",
        Kind::Record => "record",
        Kind::Integrity => "integrity",
        Kind::Missing => "missing",
        Kind::Denied => "denied",
        Kind::Transient => "transient",
        Kind::Fatal => "fatal",
    }
}

/// The code of Kafka's client in an error, when it came from there.
fn code(error: &Error) -> Option<RDKafkaErrorCode> {
    std::error::Error::source(error)?.downcast_ref::<KafkaError>()?.rdkafka_error_code()
}

/// The exception for an error.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    exception_of_kind(py, name(error.kind()), error)
}

fn exception_of_kind<'py>(py: Python<'py>, kind: &str, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make = MAKE.import(py, "kas3.errors", "make")?;
    let reason = error.reason().map(kas3_claimcheck::Reason::code);
    make.call1((kind, error.chain(), reason, error.way_out(), code(error).map(|code| code as i32)))
}

/// The exception to raise for an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// The same for an error of `send`: what may go well later there is a full queue.
pub(crate) fn raised_by_send(py: Python<'_>, error: &Error) -> PyErr {
    let kind = if error.kind() == Kind::Transient && code(error).is_none() { "queue_full" } else { name(error.kind()) };
    exception_of_kind(py, kind, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// For what is asked of a client after it was closed.
pub(crate) fn closed(py: Python<'_>, what: &str) -> PyErr {
    raised(py, &Error::new(Kind::Fatal, format!("the {what} is closed")))
}
