//! Errors become exceptions of `kas3.errors`, a class for each kind.

use kas3_claimcheck::{
    Error, Kind,
    kafka::rdkafka::{error::KafkaError, types::RDKafkaErrorCode},
};
use pyo3::{prelude::*, sync::PyOnceLock};
use std::ffi::CStr;

static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static FORKED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

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

/// What came from Kafka's client in an error, if it did.
fn of_kafka(error: &Error) -> Option<&KafkaError> {
    std::error::Error::source(error)?.downcast_ref::<KafkaError>()
}

/// librdkafka's name of a code, as `_MSG_TIMED_OUT`.
#[allow(unsafe_code)]
fn name_of_code(code: RDKafkaErrorCode) -> Option<String> {
    let code = rdkafka_sys::types::RDKafkaRespErr::try_from(code as i32).ok()?;
    // SAFETY: librdkafka gives a text of its own for every code, which lives for ever.
    let name = unsafe { CStr::from_ptr(rdkafka_sys::rd_kafka_err2name(code)) };
    Some(name.to_string_lossy().into_owned())
}

/// The exception for an error.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    exception_of_kind(py, name(error.kind()), error)
}

fn exception_of_kind<'py>(py: Python<'py>, kind: &str, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    let make = MAKE.import(py, "kas3.errors", "make")?;
    let reason = error.reason().map(kas3_claimcheck::Reason::code);
    let code = of_kafka(error).and_then(KafkaError::rdkafka_error_code);
    // code, its name, and whether it is fatal, may be tried again, ends the transaction
    let told = code.map(|code| {
        let (fatal, retriable, abort) = match of_kafka(error) {
            Some(KafkaError::Transaction(error)) => (error.is_fatal(), error.is_retriable(), error.txn_requires_abort()),
            _ => (error.kind() == Kind::Fatal, error.kind() == Kind::Transient, false),
        };
        (code as i32, name_of_code(code), fatal, retriable, abort)
    });
    make.call1((kind, error.chain(), reason, error.way_out(), told))
}

/// The exception to raise for an error.
pub(crate) fn raised(py: Python<'_>, error: &Error) -> PyErr {
    exception(py, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// The same for an error of `send`: what may go well later there is a full queue.
pub(crate) fn raised_by_send(py: Python<'_>, error: &Error) -> PyErr {
    let kind = if error.kind() == Kind::Transient && of_kafka(error).is_none() { "queue_full" } else { name(error.kind()) };
    exception_of_kind(py, kind, error).map_or_else(|failure| failure, PyErr::from_value)
}

/// For what is asked of a client after it was closed.
pub(crate) fn closed(py: Python<'_>, what: &str) -> PyErr {
    raised(py, &Error::new(Kind::Fatal, format!("the {what} is closed")))
}

/// For what is asked of a client in a child of the process that made it.
pub(crate) fn forked(py: Python<'_>, what: &str, process: u32) -> PyErr {
    let made = || FORKED.import(py, "kas3.errors", "make_forked")?.call1((what, process));
    made().map_or_else(|failure| failure, PyErr::from_value)
}
