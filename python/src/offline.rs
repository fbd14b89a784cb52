//! Brokers inside this process, for tests: librdkafka's own, one set for all clients.

use crate::errors;
use kas3_claimcheck::kafka::{error_of_kafka, rdkafka::mocking::MockCluster};
use pyo3::prelude::*;
use std::sync::Mutex;

static BROKERS: Mutex<Option<String>> = Mutex::new(None);

/// Addresses of brokers that live as long as this process and forget everything with it.
#[pyfunction]
pub(crate) fn offline_brokers(py: Python<'_>) -> PyResult<String> {
    let mut brokers = crate::producer::lock(&BROKERS);
    if let Some(brokers) = &*brokers {
        return Ok(brokers.clone());
    }
    let cluster = MockCluster::new(1).map_err(|error| errors::raised(py, &error_of_kafka("no brokers can be started in this process", error)))?;
    let addresses = cluster.bootstrap_servers();
    // clients may use it until the very end
    std::mem::forget(cluster);
    *brokers = Some(addresses.clone());
    Ok(addresses)
}
