//! The codec, for clients of one's own, and plain objects.

use crate::{
    convert::{self, PyHeaders},
    errors,
    fork::PerProcess,
    wait,
};
use kas3_claimcheck::{About, ClaimCheck as Core, ClaimCheckSettings, Result, Sent, StorageSettings, Unobserved};
use kas3_store::{PutOptions, Store};
use pyo3::{
    prelude::*,
    pybacked::PyBackedBytes,
    types::{PyBytes, PyDict, PyList},
};
use std::{path::PathBuf, sync::Arc};

type Offloaded<'py> = (Bound<'py, PyBytes>, Bound<'py, PyList>, Option<Bound<'py, PyDict>>);

fn offloaded<'py>(py: Python<'py>, sent: &Sent) -> PyResult<Offloaded<'py>> {
    let headers = convert::headers_to_python(py, &sent.headers)?;
    Ok((PyBytes::new(py, &sent.value), headers, convert::reference_to_python(py, sent.reference.as_ref())?))
}

/// A codec; its settings are JSON. It holds no client of Kafka's, only connections to a store: a child of a fork makes its own.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct ClaimCheck {
    settings: ClaimCheckSettings,
    core: PerProcess<Core>,
}

impl ClaimCheck {
    fn core(&self, py: Python<'_>) -> PyResult<&Core> {
        self.core.get_or_make(|| wait::future(py, Core::open(self.settings.clone())))
    }
}

#[pymethods]
impl ClaimCheck {
    #[new]
    fn new(py: Python<'_>, settings: &str) -> PyResult<Self> {
        let made = ClaimCheck { settings: convert::settings(py, settings)?, core: PerProcess::new() };
        made.core(py)?;
        Ok(made)
    }

    /// Value, headers to add, and the payload's place if it was offloaded.
    #[pyo3(signature = (payload, *, topic="", content_type=None, room=None, always=false))]
    fn offload<'py>(
        &self,
        py: Python<'py>,
        payload: PyBackedBytes,
        topic: &str,
        content_type: Option<&str>,
        room: Option<u64>,
        always: bool,
    ) -> PyResult<Offloaded<'py>> {
        let about = About { topic, content_type, room, always };
        let sent = wait::future(py, self.core(py)?.offload(convert::bytes(payload), &about))?;
        offloaded(py, &sent)
    }

    /// The same for a file, which is never held in memory as a whole.
    #[pyo3(signature = (path, *, topic="", content_type=None, always=false))]
    fn offload_file<'py>(&self, py: Python<'py>, path: PathBuf, topic: &str, content_type: Option<&str>, always: bool) -> PyResult<Offloaded<'py>> {
        let about = About { topic, content_type, room: None, always };
        let sent = wait::future(py, self.core(py)?.offload_file(&path, &about))?;
        offloaded(py, &sent)
    }

    /// The payload of a record; `None` for a tombstone.
    #[pyo3(signature = (value, headers=None))]
    fn resolve<'py>(&self, py: Python<'py>, value: Option<PyBackedBytes>, headers: Option<PyHeaders>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let headers = convert::headers(headers);
        let payload = wait::future(py, self.core(py)?.resolve(value.map(convert::bytes), &headers))?;
        Ok(convert::optional(py, payload.as_ref()))
    }

    /// Headers that references do not own.
    fn headers_of_user<'py>(&self, py: Python<'py>, headers: PyHeaders) -> PyResult<Bound<'py, PyList>> {
        convert::headers_to_python(py, &self.core(py)?.headers_of_user(&convert::headers(Some(headers))))
    }

    /// Refuses headers that mark references.
    fn check_headers(&self, py: Python<'_>, headers: PyHeaders) -> PyResult<()> {
        self.core(py)?.check_headers(&convert::headers(Some(headers))).map_err(|error| errors::raised(py, &error))
    }

    /// Deletes the payload of a record, unless others may share it; whether the record names one.
    #[pyo3(signature = (value, headers=None))]
    fn delete(&self, py: Python<'_>, value: Option<PyBackedBytes>, headers: Option<PyHeaders>) -> PyResult<bool> {
        let (value, headers) = (value.map(convert::bytes), convert::headers(headers));
        let claim = self.core(py)?.claim(value.as_ref(), &headers).map_err(|error| errors::raised(py, &error))?;
        let kas3_claimcheck::Claim::Reference(reference) = claim else { return Ok(false) };
        wait::future(py, self.core(py)?.delete(&reference)).map(|()| !reference.shared)
    }

    /// Where payloads are written.
    fn url(&self, py: Python<'_>) -> PyResult<&str> {
        Ok(self.core(py)?.url())
    }
}

async fn store(url: &str, storage: &StorageSettings) -> Result<Store> {
    Ok(Store::open(url, storage, Arc::new(Unobserved)).await?)
}

/// Stores an object; `storage` is JSON.
#[pyfunction]
pub(crate) fn put_object(py: Python<'_>, storage: &str, url: &str, key: &str, payload: PyBackedBytes, content_type: String) -> PyResult<()> {
    let storage: StorageSettings = convert::settings(py, storage)?;
    let payload = convert::bytes(payload);
    wait::future(py, async {
        store(url, &storage).await?.put(key, payload, &PutOptions::data(content_type)).await?;
        Ok(())
    })
}

/// Reads an object whole; `None` when there is none.
#[pyfunction]
pub(crate) fn get_object<'py>(py: Python<'py>, storage: &str, url: &str, key: &str) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let storage: StorageSettings = convert::settings(py, storage)?;
    let object = wait::future(py, async { Ok(store(url, &storage).await?.get(key, u64::MAX).await?) })?;
    Ok(object.map(|object| PyBytes::new(py, &object.bytes)))
}
