//! Brokers inside this process, for tests: librdkafka's own, one set for all clients.

use crate::{errors, lock::lock};
use kas3_claimcheck::{
    Error, Kind,
    kafka::{
        error_of_kafka,
        rdkafka::{
            ClientConfig,
            producer::{BaseProducer, Producer as _},
        },
    },
};
use pyo3::prelude::*;
use std::sync::Mutex;

static BROKERS: Mutex<Option<String>> = Mutex::new(None);

/// Addresses of brokers that live as long as this process and forget everything with it.
#[pyfunction]
pub(crate) fn offline_brokers(py: Python<'_>) -> PyResult<String> {
    let mut brokers = lock(&BROKERS);
    if let Some(brokers) = &*brokers {
        return Ok(brokers.clone());
    }
    let (addresses, owner) = begin().map_err(|error| errors::raised(py, &error))?;
    // clients may use its brokers until the very end
    std::mem::forget(owner);
    *brokers = Some(addresses.clone());
    Ok(addresses)
}

fn begin() -> kas3_claimcheck::Result<(String, BaseProducer)> {
    let failed = |error| error_of_kafka("no brokers can be started in this process", error);
    let owner: BaseProducer = ClientConfig::new().set("test.mock.num.brokers", "1").create().map_err(failed)?;
    let addresses = owner.client().mock_cluster().map(|cluster| cluster.bootstrap_servers());
    let addresses = addresses.ok_or_else(|| Error::new(Kind::Fatal, "no brokers can be started in this process"))?;
    join_at_once(&owner);
    Ok((addresses, owner))
}

/// A group of these brokers would wait three seconds for further members.
#[allow(unsafe_code)]
fn join_at_once(owner: &BaseProducer) {
    // SAFETY: the client is alive, its cluster lives as long as the client, and the call only sets a number.
    unsafe {
        let cluster = rdkafka_sys::rd_kafka_handle_mock_cluster(owner.client().native_ptr());
        if !cluster.is_null() {
            rdkafka_sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}
