//! Dead letters: a bare producer beside the others, whose records are small and never offloaded.

use crate::{convert, errors, wait};
use kas3_claimcheck::kafka::{
    error_of_kafka, properties_of_client,
    rdkafka::{
        ClientConfig,
        producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer},
    },
};
use pyo3::{prelude::*, pybacked::PyBackedBytes};
use std::{collections::BTreeMap, time::Duration};

/// A bare producer; its settings are librdkafka's properties, as JSON. Those that consumers alone have are passed over.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Letters(ThreadedProducer<DefaultProducerContext>);

#[pymethods]
impl Letters {
    #[new]
    fn new(py: Python<'_>, properties: &str) -> PyResult<Self> {
        let properties: BTreeMap<String, String> = convert::settings(py, properties)?;
        let mut config = ClientConfig::new();
        for (name, value) in properties_of_client(&properties) {
            config.set(name, value);
        }
        // a transaction of the producer beside it is none of theirs
        config.remove("transactional.id");
        let failed = |error| errors::raised(py, &error_of_kafka("no producer for dead letters can be made", error));
        py.detach(|| config.create()).map(Letters).map_err(failed)
    }

    /// Sends a letter.
    fn send(&self, py: Python<'_>, topic: &str, value: PyBackedBytes) -> PyResult<()> {
        let record = BaseRecord::<[u8], [u8]>::to(topic).payload(&value);
        let sent = self.0.send(record).map_err(|(error, _)| error);
        sent.map_err(|error| errors::raised_by_send(py, &error_of_kafka(&format!("a dead letter was not sent to `{topic}`"), error)))
    }

    /// Waits until all were answered; how many were not.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<i32> {
        let flushed = |wait: Duration| self.0.flush(wait.max(Duration::from_millis(1))).ok();
        wait::until(py, wait::deadline(timeout), flushed)?;
        Ok(self.0.in_flight_count())
    }
}
