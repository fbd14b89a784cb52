//! What the brokers know of topics, and what a transaction needs of a group.

use crate::{errors, fork::Owned};
use kas3_claimcheck::{
    Result,
    kafka::{
        check_topic, error_of_kafka,
        rdkafka::{
            consumer::ConsumerGroupMetadata,
            error::KafkaError,
            metadata::Metadata,
            types::{RDKafka, RDKafkaRespErr},
        },
    },
};
use pyo3::prelude::*;
use std::{ffi::CString, sync::Arc};

/// `(cluster id, id and name of the broker that answered, [(broker, host, port)], [(topic, [partition], exception)])`; a partition is
/// `(number, leader, replicas, in-sync replicas, exception)`.
pub(crate) fn to_python<'py>(py: Python<'py>, known: &Metadata, cluster: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
    let exception = |what: &str, code: Option<RDKafkaRespErr>| {
        let error = code.map(|code| error_of_kafka(&format!("{what} cannot be used"), KafkaError::MetadataFetch(code.into())));
        error.map(|error| errors::exception(py, &error)).transpose()
    };
    let brokers: Vec<(i32, &str, i32)> = known.brokers().iter().map(|broker| (broker.id(), broker.host(), broker.port())).collect();
    let mut topics = Vec::new();
    for topic in known.topics() {
        let mut partitions = Vec::new();
        for each in topic.partitions() {
            let error = exception(&format!("partition {} of `{}`", each.id(), topic.name()), each.error())?;
            partitions.push((each.id(), each.leader(), each.replicas().to_vec(), each.isr().to_vec(), error));
        }
        topics.push((topic.name(), partitions, exception(&format!("topic `{}`", topic.name()), topic.error())?));
    }
    (cluster, known.orig_broker_id(), known.orig_broker_name(), brokers, topics).into_pyobject(py).map(Bound::into_any)
}

/// A consumer's place in its group, for a transaction.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct GroupMetadata(Owned<Arc<ConsumerGroupMetadata>>);

impl GroupMetadata {
    pub(crate) fn new(metadata: ConsumerGroupMetadata) -> GroupMetadata {
        GroupMetadata(Owned::new(Arc::new(metadata)))
    }

    pub(crate) fn metadata(&self, py: Python<'_>) -> PyResult<Arc<ConsumerGroupMetadata>> {
        Ok(self.0.get(py, "group's metadata")?.clone())
    }
}

/// What a client knows of a partition's bounds from its last fetch.
#[allow(unsafe_code)]
pub(crate) fn cached_watermarks(client: *mut RDKafka, topic: &str, partition: i32) -> Result<(i64, i64)> {
    check_topic(topic)?;
    let failed = |error| error_of_kafka(&format!("the offsets of `{topic}` [{partition}] are not known"), error);
    let name = CString::new(topic).map_err(|error| failed(KafkaError::Nul(error)))?;
    let (mut low, mut high) = (-1001, -1001);
    // SAFETY: the client is alive as long as its owner, who called; the name ends in a zero, and both numbers are ours.
    let answer = unsafe { rdkafka_sys::rd_kafka_get_watermark_offsets(client, name.as_ptr(), partition, &raw mut low, &raw mut high) };
    match answer {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok((low, high)),
        answer => Err(failed(KafkaError::MetadataFetch(answer.into()))),
    }
}
