//! The producer.

use crate::{
    convert::{self, PyHeaders},
    errors, wait,
};
use kas3_claimcheck::kafka::{Delivered, Outgoing, Payload, Producer as Core, ProducerSettings, Report, Undelivered};
use pyo3::{prelude::*, pybacked::PyBackedBytes};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of records, until a thread of Python's asks.
#[derive(Default)]
struct Reports {
    queue: Mutex<VecDeque<(u64, Result<Delivered, Undelivered>)>>,
    arrived: Condvar,
}

impl Reports {
    fn push(&self, token: u64, result: Result<Delivered, Undelivered>) {
        lock(&self.queue).push_back((token, result));
        self.arrived.notify_all();
    }

    fn take(&self, wait: Duration) -> Option<VecDeque<(u64, Result<Delivered, Undelivered>)>> {
        let queue = lock(&self.queue);
        let mut queue = if queue.is_empty() && !wait.is_zero() {
            self.arrived.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
        } else {
            queue
        };
        if queue.is_empty() { None } else { Some(std::mem::take(&mut *queue)) }
    }
}

/// A producer; its settings are JSON.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Producer {
    core: Mutex<Option<Arc<Core>>>,
    reports: Arc<Reports>,
}

impl Producer {
    fn core(&self, py: Python<'_>) -> PyResult<Arc<Core>> {
        lock(&self.core).clone().ok_or_else(|| errors::closed(py, "producer"))
    }
}

#[pymethods]
impl Producer {
    #[new]
    fn new(py: Python<'_>, settings: &str) -> PyResult<Self> {
        let settings: ProducerSettings = convert::settings(py, settings)?;
        let core = py.detach(|| Core::open(settings)).map_err(|error| errors::raised(py, &error))?;
        Ok(Producer { core: Mutex::new(Some(Arc::new(core))), reports: Arc::default() })
    }

    /// Accepts a record; neither payload nor path is a tombstone. With a token, `reports` tells what became of it.
    #[pyo3(signature = (topic, payload=None, *, path=None, key=None, headers=None, partition=None, timestamp=None, content_type=None, token=None))]
    #[expect(clippy::too_many_arguments, reason = "a record has so many parts, and Python names each")]
    fn send(
        &self,
        py: Python<'_>,
        topic: String,
        payload: Option<PyBackedBytes>,
        path: Option<PathBuf>,
        key: Option<PyBackedBytes>,
        headers: Option<PyHeaders>,
        partition: Option<i32>,
        timestamp: Option<i64>,
        content_type: Option<String>,
        token: Option<u64>,
    ) -> PyResult<()> {
        let core = self.core(py)?;
        let payload = match (payload, path) {
            (Some(payload), _) => Payload::Bytes(convert::bytes(payload)),
            (None, Some(path)) => Payload::File(path),
            (None, None) => Payload::Tombstone,
        };
        let mut record = Outgoing::new(topic, payload);
        record.key = key.map(convert::bytes);
        record.headers = convert::headers(headers);
        record.partition = partition;
        record.timestamp = timestamp;
        record.content_type = content_type;
        let reports = self.reports.clone();
        let report = token.map(|token| -> Report { Box::new(move |result| reports.push(token, result)) });
        py.detach(|| core.send(record, report)).map_err(|error| errors::raised_by_send(py, &error))
    }

    /// What became of records since the last call, as `(token, exception or None, topic, partition, offset, reference)`; waits
    /// for the first one.
    #[pyo3(signature = (timeout=None))]
    fn reports<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let taken = wait::until(py, wait::deadline(timeout), |wait| self.reports.take(wait))?.unwrap_or_default();
        let told = |(token, result): (u64, Result<Delivered, Undelivered>)| match result {
            Ok(delivered) => {
                let reference = convert::reference_to_python(py, delivered.reference.as_ref())?;
                (token, py.None(), delivered.topic, delivered.partition, delivered.offset, reference).into_pyobject(py).map(Bound::into_any)
            }
            Err(failed) => {
                let exception = errors::exception(py, &failed.error)?;
                exception.setattr("certain", failed.certain)?;
                let reference = convert::reference_to_python(py, failed.reference.as_ref())?;
                (token, exception, failed.topic, -1, -1, reference).into_pyobject(py).map(Bound::into_any)
            }
        };
        taken.into_iter().map(told).collect()
    }

    /// Waits until all records were answered; how many were not.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u64> {
        let Some(core) = lock(&self.core).clone() else { return Ok(0) };
        let flushed = |wait| (core.flush(wait) == 0).then_some(());
        wait::until(py, wait::deadline(timeout), flushed)?;
        Ok(core.outstanding())
    }

    /// Records that were accepted and not answered.
    fn outstanding(&self) -> u64 {
        lock(&self.core).as_ref().map_or(0, |core| core.outstanding())
    }

    /// Whether `close` was called.
    fn closed(&self) -> bool {
        lock(&self.core).is_none()
    }

    /// Where payloads are written.
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.core(py)?.claims().url().to_owned())
    }

    /// Stops; what was not answered is given up.
    fn close(&self, py: Python<'_>) {
        let core = lock(&self.core).take();
        py.detach(|| drop(core));
    }

    fn init_transactions(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let core = self.core(py)?;
        py.detach(|| core.init_transactions(seconds(timeout))).map_err(|error| errors::raised(py, &error))
    }

    fn begin_transaction(&self, py: Python<'_>) -> PyResult<()> {
        self.core(py)?.begin_transaction().map_err(|error| errors::raised(py, &error))
    }

    fn commit_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let core = self.core(py)?;
        py.detach(|| core.commit_transaction(seconds(timeout))).map_err(|error| errors::raised(py, &error))
    }

    fn abort_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let core = self.core(py)?;
        py.detach(|| core.abort_transaction(seconds(timeout))).map_err(|error| errors::raised(py, &error))
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let core = lock(&self.core).take();
        // its threads are joined: that waits, and must not hold the interpreter if there still is one
        let mut core = Some(core);
        _ = Python::try_attach(|py| py.detach(|| drop(core.take())));
    }
}

fn seconds(timeout: f64) -> Duration {
    Duration::try_from_secs_f64(timeout).unwrap_or(Duration::from_secs(3600))
}
