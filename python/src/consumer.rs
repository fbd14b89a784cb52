//! The consumer.

use crate::{
    cluster::{self, GroupMetadata},
    convert, errors,
    events::Events,
    fork::Owned,
    lock::lock,
    logs,
    stream::PayloadFile,
    wait,
};
use kas3_claimcheck::{
    Error, Kind, Unobserved,
    kafka::{
        Consumer as Core, ConsumerSettings, Failed, Incoming, Position, Rebalance, Received, check_topic, error_of_kafka,
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
/// A client that signs in with `oauth_cb` asks for its first token so soon.
const TOKEN_WAIT: Duration = Duration::from_millis(200);

/// Topic, partition and offset.
type Place = (String, i32, i64);
/// What there is of a place in Kafka: an offset, or -1001 for none.
const NO_OFFSET: i64 = -1001;

/// A consumer; its settings are JSON.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Consumer(Owned<Inner>);

struct Inner {
    core: Mutex<Option<Arc<Core>>>,
    events: Arc<Events>,
    /// What a callback raised, for the `poll` in which it ran.
    raised: Arc<Mutex<Option<PyErr>>>,
    /// A record that came with an exception of a callback: the next `poll` gives it.
    kept: Mutex<Option<Received>>,
}

impl Consumer {
    fn inner(&self, py: Python<'_>) -> PyResult<&Inner> {
        self.0.get(py, "consumer")
    }

    fn core(&self, py: Python<'_>) -> PyResult<Arc<Core>> {
        lock(&self.inner(py)?.core).clone().ok_or_else(|| errors::closed(py, "consumer"))
    }
}

impl Inner {
    fn raise_of_callback(&self) -> PyResult<()> {
        lock(&self.raised).take().map_or(Ok(()), Err)
    }
}

#[pymethods]
impl Consumer {
    /// `callbacks` names those that there are; `oauth` gives tokens.
    #[new]
    #[pyo3(signature = (settings, callbacks=Vec::new(), oauth=None))]
    fn new(py: Python<'_>, settings: &str, callbacks: Vec<String>, oauth: Option<Py<PyAny>>) -> PyResult<Self> {
        let settings: ConsumerSettings = convert::settings(py, settings)?;
        let events = Arc::new(Events::new(&callbacks, oauth));
        let heard = events.clone();
        let core = wait::asking(py, move || Core::open_heard(settings, Arc::new(Unobserved), heard))?;
        let inner = Inner { core: Mutex::new(Some(Arc::new(core))), events, raised: Arc::default(), kept: Mutex::default() };
        let made = Consumer(Owned::new(inner));
        if made.inner(py)?.events.give_tokens() {
            // librdkafka asks within a poll, and until then no question to a broker is answered
            let core = made.core(py)?;
            _ = py.detach(|| core.poll(TOKEN_WAIT));
        }
        Ok(made)
    }

    /// Joins the group. `listener` is called with `assigned`, `revoked` or `lost`, and the partitions.
    #[pyo3(signature = (topics, listener=None))]
    fn subscribe(&self, py: Python<'_>, topics: Vec<String>, listener: Option<Py<PyAny>>) -> PyResult<()> {
        let core = self.core(py)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let raised = self.inner(py)?.raised.clone();
        let listener =
            listener.map(|listener| -> Box<dyn Fn(&Rebalance) + Send + Sync> { Box::new(move |rebalance| tell(&listener, rebalance, &raised)) });
        py.detach(|| core.subscribe(&topics, listener)).map_err(|error| errors::raised(py, &error))
    }

    /// Leaves the subscription.
    fn unsubscribe(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core(py)?;
        *lock(&self.inner(py)?.kept) = None;
        py.detach(|| core.unsubscribe());
        Ok(())
    }

    /// Takes partitions without a group's assignment, each from its offset; a negative one is that of the group, or a logical one of
    /// librdkafka's: -1 the end, -2 the beginning.
    fn assign(&self, py: Python<'_>, partitions: Vec<Place>) -> PyResult<()> {
        let core = self.core(py)?;
        let mut list = TopicPartitionList::new();
        for (topic, partition, offset) in &partitions {
            let offset = match *offset {
                -1 => Offset::End,
                -2 => Offset::Beginning,
                offset if offset < 0 => Offset::Stored,
                offset => Offset::Offset(offset),
            };
            check_topic(topic).map_err(|error| errors::raised(py, &error))?;
            let refused = |error| errors::raised(py, &Error::new(Kind::Record, "the partition cannot be named").source(error));
            list.add_partition_offset(topic, *partition, offset).map_err(refused)?;
        }
        *lock(&self.inner(py)?.kept) = None;
        py.detach(|| core.assign(&list)).map_err(|error| errors::raised(py, &error))
    }

    /// Takes all partitions that topics have now, from their beginning or their end, without a group.
    fn assign_topics(&self, py: Python<'_>, topics: Vec<String>, from_end: bool) -> PyResult<()> {
        let core = self.core(py)?;
        wait::asking(py, move || {
            let mut list = TopicPartitionList::new();
            for topic in &topics {
                let unknown = |error| error_of_kafka(&format!("the partitions of topic `{topic}` are not known"), error);
                let metadata = core.metadata(Some(topic), METADATA_WAIT)?;
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
        })
    }

    /// The partitions that this consumer has.
    fn assignment(&self, py: Python<'_>) -> PyResult<Vec<(String, i32)>> {
        let core = self.core(py)?;
        let failed = |error| errors::raised(py, &error_of_kafka("the assignment is not known", error));
        let list = py.detach(|| core.client().assignment()).map_err(failed)?;
        Ok(list.elements().iter().map(|each| (each.topic().to_owned(), each.partition())).collect())
    }

    /// The next record, as [`record`] tells it; `None` when there was none in time, or an event came.
    #[pyo3(signature = (timeout=None))]
    fn poll<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let core = self.core(py)?;
        let inner = self.inner(py)?;
        if let Some(kept) = lock(&inner.kept).take() {
            return record(py, kept, &core).map(Some);
        }
        let step = |wait: Duration| match core.poll(wait) {
            Ok(Some(received)) => Some(Ok(Some(received))),
            Ok(None) if lock(&inner.raised).is_some() || inner.events.are_there() => Some(Ok(None)),
            Ok(None) => None,
            Err(failed) => Some(Err(failed)),
        };
        match wait::until(py, wait::deadline(timeout), step)? {
            None | Some(Ok(None)) => inner.raise_of_callback().map(|()| None),
            Some(Ok(Some(received))) => match inner.raise_of_callback() {
                Ok(()) => record(py, received, &core).map(Some),
                Err(raised) => {
                    *lock(&inner.kept) = Some(received);
                    Err(raised)
                }
            },
            Some(Err(failed)) => {
                // a record that failed stays in front: nothing is lost when the callback's exception goes first
                inner.raise_of_callback()?;
                Err(exception(py, &failed))
            }
        }
    }

    /// Appends to a list what the client said, as `(callback, …)`.
    fn events(&self, py: Python<'_>, into: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner(py)?.events.hand_over(py, into)
    }

    /// Passes over the record that the last `poll` failed for.
    fn skip(&self, py: Python<'_>) -> PyResult<Option<Place>> {
        let skipped = self.core(py)?.skip();
        Ok(skipped.map(|position| (position.topic, position.partition, position.offset)))
    }

    /// Commits what was handed out; what was committed. In the background only when asked for.
    fn commit(&self, py: Python<'_>, in_background: bool) -> PyResult<Vec<Place>> {
        let (core, events) = (self.core(py)?, self.inner(py)?.events.clone());
        let place = |offset: Offset| if let Offset::Offset(offset) = offset { offset } else { -1 };
        let places = |list: &TopicPartitionList| -> Vec<Place> {
            list.elements().iter().map(|each| (each.topic().to_owned(), each.partition(), place(each.offset()))).collect()
        };
        if in_background && events.tell_commits() {
            let next = places(&core.next_offsets());
            let (told, committing) = (next.clone(), by_partition(py, next.clone())?);
            let work = move || events.committed_by_hand(core.commit_offsets(&committing).err(), told);
            let begun = std::thread::Builder::new().name("kas3-commit".to_owned()).spawn(work);
            begun.map_err(|error| errors::raised(py, &Error::new(Kind::Fatal, "no thread can be started").source(error)))?;
            return Ok(next);
        }
        let committed = wait::asking(py, move || {
            let next = core.next_offsets();
            let done = if in_background { core.commit_async() } else { core.commit() };
            done.map(|()| next)
        })?;
        Ok(places(&committed))
    }

    /// Commits offsets: for each partition that of the next record to read. `tell`: the callback `on_commit` hears of it.
    #[pyo3(signature = (next, tell=false))]
    fn commit_offsets(&self, py: Python<'_>, next: Vec<Place>, tell: bool) -> PyResult<()> {
        let (core, events) = (self.core(py)?, self.inner(py)?.events.clone());
        let by_partition = by_partition(py, next.clone())?;
        wait::asking(py, move || core.commit_offsets(&by_partition))?;
        if tell {
            events.committed_by_hand(None, next);
        }
        Ok(())
    }

    /// Stores offsets for the next commit.
    fn store_offsets(&self, py: Python<'_>, next: Vec<Place>) -> PyResult<()> {
        let core = self.core(py)?;
        let next = by_partition(py, next)?;
        py.detach(|| core.store_next(&next)).map_err(|error| errors::raised(py, &error))
    }

    /// Reads a partition from an offset on.
    fn seek(&self, py: Python<'_>, topic: String, partition: i32, offset: i64) -> PyResult<()> {
        let core = self.core(py)?;
        *lock(&self.inner(py)?.kept) = None;
        let position = Position { topic, partition, offset };
        wait::asking(py, move || core.seek(&position, SEEK_WAIT))
    }

    /// Reads no more of partitions until `resume`.
    fn pause(&self, py: Python<'_>, partitions: Vec<(String, i32)>) -> PyResult<()> {
        let core = self.core(py)?;
        wait::asking(py, move || core.pause(&partitions))
    }

    /// Reads paused partitions on.
    fn resume(&self, py: Python<'_>, partitions: Vec<(String, i32)>) -> PyResult<()> {
        let core = self.core(py)?;
        wait::asking(py, move || core.resume(&partitions))
    }

    /// For each partition the offset after the newest record that was handed out.
    fn position(&self, py: Python<'_>, partitions: Vec<(String, i32)>) -> PyResult<Vec<i64>> {
        let known = self.core(py)?.position(&partitions);
        Ok(known.into_iter().map(|offset| offset.unwrap_or(NO_OFFSET)).collect())
    }

    /// The offsets that the group has committed.
    fn committed(&self, py: Python<'_>, partitions: Vec<(String, i32)>, timeout: f64) -> PyResult<Vec<i64>> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        let known = wait::asking(py, move || core.committed(&partitions, timeout))?;
        Ok(known.into_iter().map(|offset| offset.unwrap_or(NO_OFFSET)).collect())
    }

    /// For each partition the offset of its first record from a time on, -1 where there is none.
    fn offsets_for_times(&self, py: Python<'_>, times: Vec<Place>, timeout: f64) -> PyResult<Vec<i64>> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        let known = wait::asking(py, move || core.offsets_for_times(&times, timeout))?;
        Ok(known.into_iter().map(|offset| offset.unwrap_or(-1)).collect())
    }

    /// Offset of the oldest record of a partition, and the one after its newest.
    fn watermarks(&self, py: Python<'_>, topic: String, partition: i32, timeout: f64) -> PyResult<(i64, i64)> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        wait::asking(py, move || core.watermarks(&topic, partition, timeout))
    }

    /// The same as the client knows them from its last fetch, without asking; -1001 for what it does not know.
    fn cached_watermarks(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<(i64, i64)> {
        let core = self.core(py)?;
        cluster::cached_watermarks(core.client().client().native_ptr(), topic, partition).map_err(|error| errors::raised(py, &error))
    }

    /// What the brokers know of a topic, or of all.
    #[pyo3(signature = (topic, timeout))]
    fn metadata<'py>(&self, py: Python<'py>, topic: Option<String>, timeout: f64) -> PyResult<Bound<'py, PyAny>> {
        let (core, timeout) = (self.core(py)?, wait::seconds(timeout));
        let known = wait::asking(py, move || Ok((core.metadata(topic.as_deref(), timeout)?, core.cluster_id(timeout))))?;
        cluster::to_python(py, &known.0, known.1.as_deref())
    }

    /// The consumer's place in its group, for a transaction.
    fn group_metadata(&self, py: Python<'_>) -> PyResult<GroupMetadata> {
        let metadata = self.core(py)?.group_metadata();
        let none = || errors::raised(py, &Error::new(Kind::Config, "this consumer is in no group"));
        metadata.map(GroupMetadata::new).ok_or_else(none)
    }

    /// Offsets are committed by the client.
    fn auto_commits(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.core(py)?.auto_commits())
    }

    /// Whether another process made it, of which this one is a fork.
    fn inherited(&self) -> bool {
        !self.0.is_here()
    }

    /// Whether `close` was called.
    fn closed(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(lock(&self.inner(py)?.core).is_none())
    }

    /// Leaves the group. In a child nothing is left.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(inner) = self.0.if_here() else { return Ok(()) };
        let Some(core) = lock(&inner.core).clone() else { return Ok(()) };
        let committing = core.clone();
        wait::beside(py, move || committing.commit_last())?;
        // callbacks run here, on the caller's thread, and may still use it
        wait::interruptible(py, || core.leave())?;
        *lock(&inner.kept) = None;
        let last = (lock(&inner.core).take(), core);
        wait::beside(py, move || drop(last))?;
        logs::hand_over(py)?;
        inner.raise_of_callback()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut core = Some((lock(&self.core).take(), lock(&self.kept).take()));
        // leaving the group waits, and calls back
        _ = Python::try_attach(|py| py.detach(|| drop(core.take())));
    }
}

fn by_partition(py: Python<'_>, places: Vec<Place>) -> PyResult<HashMap<(String, i32), i64>> {
    for (topic, _, offset) in &places {
        check_topic(topic).map_err(|error| errors::raised(py, &error))?;
        if *offset < 0 {
            let error = Error::new(Kind::Record, format!("{offset} is no offset of a record of `{topic}`")).hint("name one from 0 on");
            return Err(errors::raised(py, &error));
        }
    }
    Ok(places.into_iter().map(|(topic, partition, offset)| ((topic, partition), offset)).collect())
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

/// As `(topic, partition, offset, timestamp, whether the broker set it, key, headers, payload, reference)`; the payload is bytes, a [`PayloadFile`] or nothing.
fn record<'py>(py: Python<'py>, received: Received, core: &Arc<Core>) -> PyResult<Bound<'py, PyAny>> {
    let payload = match received.payload {
        Incoming::Tombstone => None,
        Incoming::Bytes(payload) => Some(PyBytes::new(py, &payload).into_any()),
        Incoming::Stream(stream) => Some(PayloadFile::new(stream, core.clone()).into_pyobject(py)?.into_any()),
    };
    let Position { topic, partition, offset } = &received.position;
    let key = convert::optional(py, received.key.as_ref());
    let headers = convert::headers_to_python(py, &received.headers)?;
    let reference = convert::reference_to_python(py, received.reference.as_ref())?;
    (topic, *partition, *offset, received.timestamp, received.appended, key, headers, payload, reference).into_pyobject(py).map(Bound::into_any)
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
