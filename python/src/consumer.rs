//! The consumer.

use crate::{convert, errors, producer::lock, wait};
use kas3_claimcheck::{
    Error, Kind,
    kafka::{
        Consumer as Core, ConsumerSettings, Failed, Incoming, Position, Rebalance, Received, error_of_kafka,
        rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _},
    },
};
use pyo3::{prelude::*, types::PyBytes};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

const SEEK_WAIT: Duration = Duration::from_secs(30);
const METADATA_WAIT: Duration = Duration::from_secs(30);

/// Topic, partition and offset.
type Place = (String, i32, i64);

/// A consumer; its settings are JSON.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Consumer {
    core: Mutex<Option<Arc<Core>>>,
    /// What a callback raised, for the `poll` in which it ran.
    raised: Arc<Mutex<Option<PyErr>>>,
    /// A record that came with an exception of a callback: the next `poll` gives it.
    kept: Mutex<Option<Received>>,
}

impl Consumer {
    fn core(&self, py: Python<'_>) -> PyResult<Arc<Core>> {
        lock(&self.core).clone().ok_or_else(|| errors::closed(py, "consumer"))
    }

    fn raise_of_callback(&self) -> PyResult<()> {
        lock(&self.raised).take().map_or(Ok(()), Err)
    }
}

#[pymethods]
impl Consumer {
    #[new]
    fn new(py: Python<'_>, settings: &str) -> PyResult<Self> {
        let settings: ConsumerSettings = convert::settings(py, settings)?;
        let core = py.detach(|| Core::open(settings)).map_err(|error| errors::raised(py, &error))?;
        Ok(Consumer { core: Mutex::new(Some(Arc::new(core))), raised: Arc::default(), kept: Mutex::default() })
    }

    /// Joins the group. `listener` is called with `assigned`, `revoked` or `lost`, and the partitions.
    #[pyo3(signature = (topics, listener=None))]
    fn subscribe(&self, py: Python<'_>, topics: Vec<String>, listener: Option<Py<PyAny>>) -> PyResult<()> {
        let core = self.core(py)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let raised = self.raised.clone();
        let listener =
            listener.map(|listener| -> Box<dyn Fn(&Rebalance) + Send + Sync> { Box::new(move |rebalance| tell(&listener, rebalance, &raised)) });
        py.detach(|| core.subscribe(&topics, listener)).map_err(|error| errors::raised(py, &error))
    }

    /// Takes partitions without a group's assignment, each from its offset; a negative one is that of the group.
    fn assign(&self, py: Python<'_>, partitions: Vec<Place>) -> PyResult<()> {
        let core = self.core(py)?;
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in &partitions {
            let offset = if *offset >= 0 { Offset::Offset(*offset) } else { Offset::Stored };
            let refused = |error| errors::raised(py, &Error::new(Kind::Record, "the partition cannot be named").source(error));
            list.add_partition_offset(topic, *partition, offset).map_err(refused)?;
        }
        py.detach(|| core.assign(&list)).map_err(|error| errors::raised(py, &error))
    }

    /// Takes all partitions that topics have now, from their beginning or their end, without a group.
    fn assign_topics(&self, py: Python<'_>, topics: Vec<String>, from_end: bool) -> PyResult<()> {
        let core = self.core(py)?;
        let assigned = py.detach(|| {
            let mut list = TopicPartitionList::new();
            for topic in &topics {
                let unknown = |error| error_of_kafka(&format!("the partitions of topic `{topic}` are not known"), error);
                let metadata = core.client().fetch_metadata(Some(topic), METADATA_WAIT).map_err(unknown)?;
                let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
                if partitions.is_empty() {
                    return Err(Error::new(Kind::Missing, format!("topic `{topic}` has no partitions")).hint("create the topic, or look at its name"));
                }
                for partition in partitions {
                    let offset = if from_end { Offset::End } else { Offset::Beginning };
                    list.add_partition_offset(topic, partition.id(), offset).map_err(unknown)?;
                }
            }
            core.assign(&list)
        });
        assigned.map_err(|error| errors::raised(py, &error))
    }

    /// The partitions that this consumer has.
    fn assignment(&self, py: Python<'_>) -> PyResult<Vec<(String, i32)>> {
        let core = self.core(py)?;
        let failed = |error| errors::raised(py, &error_of_kafka("the assignment is not known", error));
        let list = py.detach(|| core.client().assignment()).map_err(failed)?;
        Ok(list.elements().iter().map(|each| (each.topic().to_owned(), each.partition())).collect())
    }

    /// The next record, as `(topic, partition, offset, timestamp, key, headers, payload, reference)`.
    #[pyo3(signature = (timeout=None))]
    fn poll<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(kept) = lock(&self.kept).take() {
            return record(py, &kept).map(Some);
        }
        let core = self.core(py)?;
        let step = |wait: Duration| match core.poll(wait) {
            Ok(Some(received)) => Some(Ok(received)),
            Ok(None) if lock(&self.raised).is_some() => Some(Err(None)),
            Ok(None) => None,
            Err(failed) => Some(Err(Some(failed))),
        };
        let polled = wait::until(py, wait::deadline(timeout), step)?;
        match polled {
            None => self.raise_of_callback().map(|()| None),
            Some(Ok(received)) => match self.raise_of_callback() {
                Ok(()) => record(py, &received).map(Some),
                Err(raised) => {
                    *lock(&self.kept) = Some(received);
                    Err(raised)
                }
            },
            Some(Err(failed)) => {
                // a record that failed stays in front: nothing is lost when the callback's exception goes first
                self.raise_of_callback()?;
                Err(failed.map_or_else(|| errors::closed(py, "consumer"), |failed| exception(py, &failed)))
            }
        }
    }

    /// Passes over the record that the last `poll` failed for.
    fn skip(&self, py: Python<'_>) -> PyResult<Option<Place>> {
        let skipped = self.core(py)?.skip();
        Ok(skipped.map(|position| (position.topic, position.partition, position.offset)))
    }

    /// Commits what was handed out; what was committed. In the background only when asked for.
    fn commit(&self, py: Python<'_>, in_background: bool) -> PyResult<Vec<Place>> {
        let core = self.core(py)?;
        let committed = py.detach(|| {
            let next = core.next_offsets();
            let done = if in_background { core.commit_async() } else { core.commit() };
            done.map(|()| next)
        });
        let committed = committed.map_err(|error| errors::raised(py, &error))?;
        let place = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { -1 };
        Ok(committed.elements().iter().map(|each| (each.topic().to_owned(), each.partition(), place(each.offset()))).collect())
    }

    /// Commits offsets: for each partition that of the next record to read.
    fn commit_offsets(&self, py: Python<'_>, next: Vec<Place>) -> PyResult<()> {
        let core = self.core(py)?;
        let next: HashMap<(String, i32), i64> = next.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)).collect();
        py.detach(|| core.commit_offsets(&next)).map_err(|error| errors::raised(py, &error))
    }

    /// Reads a partition from an offset on.
    fn seek(&self, py: Python<'_>, topic: String, partition: i32, offset: i64) -> PyResult<()> {
        let core = self.core(py)?;
        *lock(&self.kept) = None;
        let position = Position { topic, partition, offset };
        py.detach(|| core.seek(&position, SEEK_WAIT)).map_err(|error| errors::raised(py, &error))
    }

    /// Offsets are committed by the client.
    fn auto_commits(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.core(py)?.auto_commits())
    }

    /// Whether `close` was called.
    fn closed(&self) -> bool {
        lock(&self.core).is_none()
    }

    /// Leaves the group.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(core) = lock(&self.core).clone() else { return Ok(()) };
        py.detach(|| {
            // callbacks may still use it
            core.close();
            drop(lock(&self.core).take());
            drop(core);
        });
        self.raise_of_callback()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let mut core = Some(lock(&self.core).take());
        // leaving the group waits, and calls back
        _ = Python::try_attach(|py| py.detach(|| drop(core.take())));
    }
}

fn tell(listener: &Py<PyAny>, rebalance: &Rebalance, raised: &Mutex<Option<PyErr>>) {
    let (event, partitions) = match rebalance {
        Rebalance::Assigned(partitions) => ("assigned", partitions),
        Rebalance::Revoked(partitions) => ("revoked", partitions),
        Rebalance::Lost(partitions) => ("lost", partitions),
    };
    let places: Vec<Place> = partitions.iter().map(|each| (each.topic.clone(), each.partition, each.offset)).collect();
    // without an interpreter nobody is there to be told
    _ = Python::try_attach(|py| {
        if let Err(error) = listener.call1(py, (event, places)) {
            lock(raised).get_or_insert(error);
        }
    });
}

fn record<'py>(py: Python<'py>, received: &Received) -> PyResult<Bound<'py, PyAny>> {
    let payload = match &received.payload {
        Incoming::Tombstone => None,
        Incoming::Bytes(payload) => Some(PyBytes::new(py, payload)),
        Incoming::Stream(_) => {
            let error = Error::new(Kind::Config, "`stream_above_bytes` hands out streams, which Python does not read").hint("leave it out");
            return Err(errors::raised(py, &error));
        }
    };
    let Position { topic, partition, offset } = &received.position;
    let key = convert::optional(py, received.key.as_ref());
    let headers = convert::headers_to_python(py, &received.headers)?;
    let reference = convert::reference_to_python(py, received.reference.as_ref())?;
    (topic, *partition, *offset, received.timestamp, key, headers, payload, reference).into_pyobject(py).map(Bound::into_any)
}

/// The exception for a record that cannot be had, with what Kafka has of it.
fn exception(py: Python<'_>, failed: &Failed) -> PyErr {
    let made = || -> PyResult<Bound<'_, PyAny>> {
        let exception = errors::exception(py, &failed.error)?;
        if let Some(Position { topic, partition, offset }) = &failed.position {
            exception.setattr("topic", topic)?;
            exception.setattr("partition", *partition)?;
            exception.setattr("offset", *offset)?;
            exception.setattr("key", convert::optional(py, failed.key.as_ref()))?;
            exception.setattr("value", convert::optional(py, failed.value.as_ref()))?;
            exception.setattr("headers", convert::headers_to_python(py, &failed.headers)?)?;
            exception.setattr("reference", convert::reference_to_python(py, failed.reference.as_ref())?)?;
        }
        Ok(exception)
    };
    made().map_or_else(|failure| failure, PyErr::from_value)
}
