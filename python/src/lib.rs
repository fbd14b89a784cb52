//! The Python module `kas3._kas3`: the claim check's producer, consumer and codec, as plain as they are here. What Python's
//! people call lies in `python/kas3`, in Python.
//!
//! Three rules hold everywhere. Whatever waits has let go of the interpreter, and looks for signals twenty times a second. No thread
//! of ours calls into Python: reports of deliveries, events and lines of the log wait in queues until a thread of the caller's asks for
//! them, and rebalances are told within the caller's own `poll`; the one exception is `oauth_cb`. And what a process made, a fork of it
//! neither uses nor releases ([`fork`]).

mod claims;
mod cluster;
mod consumer;
mod convert;
mod errors;
mod events;
mod fork;
mod letters;
mod lock;
mod logs;
mod offline;
mod producer;
mod stream;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _kas3(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::watch();
    logs::begin();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<claims::ClaimCheck>()?;
    module.add_class::<letters::Letters>()?;
    module.add_class::<cluster::GroupMetadata>()?;
    module.add_class::<stream::PayloadFile>()?;
    module.add_function(wrap_pyfunction!(logs::hand_over_logs, module)?)?;
    module.add_function(wrap_pyfunction!(claims::put_object, module)?)?;
    module.add_function(wrap_pyfunction!(claims::get_object, module)?)?;
    module.add_function(wrap_pyfunction!(offline::offline_brokers, module)?)?;
    module.add_function(wrap_pyfunction!(convert::yaml_to_json, module)?)?;
    Ok(())
}
