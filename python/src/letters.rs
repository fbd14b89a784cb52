//! Dead letters: a bare producer beside the others, whose records are small and never offloaded.

use crate::{convert, errors, events::Events, fork::Owned, wait};
use kas3_claimcheck::kafka::{
    ClientEvents, check_topic, error_of_kafka, properties_of_client,
    rdkafka::{
        ClientConfig, ClientContext,
        client::OAuthToken,
        config::RDKafkaLogLevel,
        error::KafkaError,
        message::DeliveryResult,
        producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    },
};
use pyo3::{prelude::*, pybacked::PyBackedBytes};
use std::{collections::BTreeMap, time::Duration};

/// A bare producer; its settings are librdkafka's properties, as JSON. Those that consumers alone have are passed over.
#[pyclass(module = "kas3._kas3", frozen)]
pub(crate) struct Letters(Owned<Sending>);

struct Sending(Option<ThreadedProducer<Heard>>);

/// It signs in as the client beside it does, and tells nobody but the log.
struct Heard(Events);

impl ClientContext for Heard {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, _statistics: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.token(config)
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(target: "kas3_claimcheck", %error, "a dead letter was not delivered");
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut producer = Some(self.0.take());
        // its thread is joined: that waits
        _ = Python::try_attach(|py| py.detach(|| drop(producer.take())));
    }
}

#[pymethods]
impl Letters {
    #[new]
    #[pyo3(signature = (properties, oauth=None))]
    fn new(py: Python<'_>, properties: &str, oauth: Option<Py<PyAny>>) -> PyResult<Self> {
        let properties: BTreeMap<String, String> = convert::settings(py, properties)?;
        let mut config = ClientConfig::new();
        for (name, value) in properties_of_client(&properties) {
            config.set(name, value);
        }
        // a transaction of the producer beside it is none of theirs
        config.remove("transactional.id");
        let failed = |error| error_of_kafka("no producer for dead letters can be made", error);
        let events = Events::new(&[], oauth);
        let producer = wait::asking(py, move || config.create_with_context(Heard(events)).map_err(failed))?;
        Ok(Letters(Owned::new(Sending(Some(producer)))))
    }

    /// Sends a letter.
    fn send(&self, py: Python<'_>, topic: &str, value: PyBackedBytes) -> PyResult<()> {
        let Some(producer) = &self.0.get(py, "producer of dead letters")?.0 else { return Ok(()) };
        check_topic(topic).map_err(|error| errors::raised(py, &error))?;
        let record = BaseRecord::<[u8], [u8]>::to(topic).payload(&value);
        let sent = producer.send(record).map_err(|(error, _)| error);
        sent.map_err(|error| errors::raised_by_send(py, &error_of_kafka(&format!("a dead letter was not sent to `{topic}`"), error)))
    }

    /// Waits until all were answered; how many were not.
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<i32> {
        let Some(producer) = &self.0.get(py, "producer of dead letters")?.0 else { return Ok(0) };
        let flushed = |wait: Duration| producer.flush(wait.max(Duration::from_millis(1))).ok();
        wait::until(py, wait::deadline(timeout), flushed)?;
        Ok(producer.in_flight_count())
    }
}
