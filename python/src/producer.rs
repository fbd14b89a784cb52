//! The producer.

use crate::{
    cluster::{self, GroupMetadata},
    convert::{self, PyHeaders},
    errors,
    events::Events,
    fork::Owned,
    lock::lock,
    logs, wait,
};
use kas3_claimcheck::{
    Unobserved,
    kafka::{Consumer, Delivered, Outgoing, Payload, Producer as Core, ProducerSettings, Report, Undelivered},
};
use pyo3::{prelude::*, pybacked::PyBackedBytes};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

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

    /// Waits for a first report, if there is none; whether there is one.
    fn wait(&self, wait: Duration) -> bool {
        let queue = lock(&self.queue);
        let queue = if queue.is_empty() && !wait.is_zero() {
            self.arrived.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0
        } else {
            queue
        };
        !queue.is_empty()
    }
}

/// A producer; its settings are JSON.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Producer(Owned<Inner>);

struct Inner {
    core: Mutex<Option<Arc<Core>>>,
    reports: Arc<Reports>,
    events: Arc<Events>,
}

impl Producer {
    fn inner(&self, py: Python<'_>) -> PyResult<&Inner> {
        self.0.get(py, "producer")
    }

    fn core(&self, py: Python<'_>) -> PyResult<Arc<Core>> {
        lock(&self.inner(py)?.core).clone().ok_or_else(|| errors::closed(py, "producer"))
    }
}

/// What became of a record, as Python takes it.
fn told<'py>(py: Python<'py>, token: u64, result: &Result<Delivered, Undelivered>) -> PyResult<Bound<'py, PyAny>> {
    match result {
        Ok(delivered) => {
            let Delivered { topic, partition, offset, timestamp, reference } = delivered;
            let reference = convert::reference_to_python(py, reference.as_ref())?;
            (token, py.None(), topic, *partition, *offset, *timestamp, reference).into_pyobject(py).map(Bound::into_any)
        }
        Err(failed) => {
            let exception = errors::exception(py, &failed.error)?;
            exception.setattr("certain", failed.certain)?;
            let reference = convert::reference_to_python(py, failed.reference.as_ref())?;
            (token, exception, &failed.topic, -1, -1, py.None(), reference).into_pyobject(py).map(Bound::into_any)
        }
    }
}

#[pymethods]
impl Producer {
    /// `callbacks` names those that there are; `oauth` gives tokens.
    #[new]
    #[pyo3(signature = (settings, callbacks=Vec::new(), oauth=None))]
    fn new(py: Python<'_>, settings: &str, callbacks: Vec<String>, oauth: Option<Py<PyAny>>) -> PyResult<Self> {
        let settings: ProducerSettings = convert::settings(py, settings)?;
        let events = Arc::new(Events::new(&callbacks, oauth));
        let heard = events.clone();
        let core = wait::asking(py, move || Core::open_heard(settings, Arc::new(Unobserved), heard))?;
        Ok(Producer(Owned::new(Inner { core: Mutex::new(Some(Arc::new(core))), reports: Arc::default(), events })))
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
        let reports = self.inner(py)?.reports.clone();
        let report = token.map(|token| -> Report { Box::new(move |result| reports.push(token, result)) });
        wait::interruptible(py, || core.send(record, report))?.map_err(|error| errors::raised_by_send(py, &error))
    }

    /// Appends to a list what became of records since the last call, as `(token, exception or None, topic, partition, offset, timestamp,
    /// reference)`; waits for the first one, or for an event. A report leaves its queue only once it is in the list.
    #[pyo3(signature = (into, timeout=None))]
    fn reports(&self, py: Python<'_>, into: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let Inner { reports, events, .. } = self.inner(py)?;
        wait::until(py, wait::deadline(timeout), |wait| (reports.wait(wait) || events.are_there()).then_some(()))?;
        // those that are there now, or one who sends as fast as they come would never leave
        let there = lock(&reports.queue).len();
        for _ in 0..there {
            let Some((token, result)) = lock(&reports.queue).pop_front() else { break };
            let appended = told(py, token, &result).and_then(|told| into.call_method1("append", (told,)));
            if let Err(error) = appended {
                lock(&reports.queue).push_front((token, result));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Appends to a list what the client said, as `(callback, …)`.
    fn events(&self, py: Python<'_>, into: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner(py)?.events.hand_over(py, into)
    }

    /// Waits until all records were answered; how many were not.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<u64> {
        let Some(core) = lock(&self.inner(py)?.core).clone() else { return Ok(0) };
        let flushed = |wait| (core.flush(wait) == 0).then_some(());
        wait::until(py, wait::deadline(timeout), flushed)?;
        Ok(core.outstanding())
    }

    /// Records that were accepted and not answered.
    fn outstanding(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(lock(&self.inner(py)?.core).as_ref().map_or(0, |core| core.outstanding()))
    }

    /// Whether another process made it, of which this one is a fork.
    fn inherited(&self) -> bool {
        !self.0.is_here()
    }

    /// Whether `close` was called.
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(lock(&self.inner(py)?.core).is_none())
    }

    /// Where payloads are written.
    fn url(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.core(py)?.claims().url().to_owned())
    }

    /// Stops; what was not answered is given up. In a child nothing is stopped.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(inner) = self.0.if_here() else { return Ok(()) };
        let core = lock(&inner.core).take();
        wait::beside(py, move || drop(core))?;
        logs::hand_over(py)
    }

    /// Gives records up.
    fn purge(&self, py: Python<'_>, in_queue: bool, in_flight: bool) -> PyResult<()> {
        let core = self.core(py)?;
        py.detach(|| core.purge(in_queue, in_flight));
        Ok(())
    }

    /// What the brokers know of a topic, or of all.
    #[pyo3(signature = (topic, timeout))]
    fn metadata<'py>(&self, py: Python<'py>, topic: Option<String>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        let known = wait::asking(py, move || Ok((core.metadata(topic.as_deref(), timeout)?, core.cluster_id(timeout))))?;
        cluster::to_python(py, &known.0, known.1.as_deref())
    }

    fn init_transactions(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        wait::asking(py, move || core.init_transactions(timeout))
    }

    fn begin_transaction(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core(py)?;
        py.detach(|| core.begin_transaction()).map_err(|error| errors::raised(py, &error))
    }

    fn send_offsets_to_transaction(
        &self,
        py: Python<'_>,
        next: Vec<(String, i32, i64)>,
        group: &Bound<'_, GroupMetadata>,
        timeout: f64,
    ) -> PyResult<()> {
        let (core, timeout, group) = (self.core(py)?, wait::seconds(timeout), group.get().metadata(py)?);
        wait::asking(py, move || core.send_offsets_to_transaction(&Consumer::offsets(&next)?, &group, timeout))
    }

    fn commit_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        wait::asking(py, move || core.commit_transaction(timeout))
    }

    fn abort_transaction(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        wait::asking(py, move || core.abort_transaction(timeout))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let core = lock(&self.core).take();
        // its threads are joined: that waits, and must not hold the interpreter if there still is one
        let mut core = Some(core);
        _ = Python::try_attach(|py| py.detach(|| drop(core.take())));
    }
}
