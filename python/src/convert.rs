//! Python's values and ours.

use crate::errors;
use bytes::Bytes;
use kas3_claimcheck::{Error, Headers, Kind, Reference};
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyDict, PyList},
};
use std::fmt::Write;

/// Headers as Python gives them.
pub(crate) type PyHeaders = Vec<(String, Option<PyBackedBytes>)>;

/// Settings come as JSON: the core's own reader names what it does not know.
pub(crate) fn settings<T: serde::de::DeserializeOwned>(py: Python<'_>, json: &str) -> PyResult<T> {
    let wrong = |error| errors::raised(py, &Error::new(Kind::Config, "the settings cannot be read").source(error));
    serde_json::from_str(json).map_err(wrong)
}

/// Bytes of Python's, not copied: they are immutable, and kept alive for as long as they are needed.
pub(crate) fn bytes(backed: PyBackedBytes) -> Bytes {
    Bytes::from_owner(backed)
}

pub(crate) fn headers(given: Option<PyHeaders>) -> Headers {
    given.unwrap_or_default().into_iter().map(|(name, value)| (name, value.map(bytes))).collect()
}

pub(crate) fn headers_to_python<'py>(py: Python<'py>, headers: &Headers) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, headers.iter().map(|(name, value)| (name, optional(py, value.as_ref()))))
}

pub(crate) fn optional<'py>(py: Python<'py>, bytes: Option<&Bytes>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, bytes))
}

pub(crate) fn reference_to_python<'py>(py: Python<'py>, reference: Option<&Reference>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let Some(reference) = reference else { return Ok(None) };
    let sha256 = reference.sha256.map(|sha| {
        sha.iter().fold(String::with_capacity(64), |mut text, byte| {
            _ = write!(text, "{byte:02x}");
            text
        })
    });
    let dict = PyDict::new(py);
    dict.set_item("bucket", &reference.bucket)?;
    dict.set_item("key", &reference.key)?;
    dict.set_item("size", reference.size)?;
    dict.set_item("sha256", sha256)?;
    dict.set_item("etag", &reference.etag)?;
    dict.set_item("compression", reference.compression.name())?;
    dict.set_item("content_type", &reference.content_type)?;
    dict.set_item("encryption", &reference.encryption)?;
    dict.set_item("shared", reference.shared)?;
    Ok(Some(dict))
}

/// YAML, of which JSON is a part, as JSON: Python's own library knows only the latter.
#[pyfunction]
pub(crate) fn yaml_to_json(py: Python<'_>, text: &str) -> PyResult<String> {
    let wrong = |error: String| errors::raised(py, &Error::new(Kind::Config, format!("the configuration is no YAML and no JSON: {error}")));
    let value: serde_json::Value = serde_yaml_ng::from_str(text).map_err(|error| wrong(error.to_string()))?;
    serde_json::to_string(&value).map_err(|error| wrong(error.to_string()))
}
