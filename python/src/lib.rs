//! The Python module `kas3._kas3`: the claim check's producer, consumer and codec, as plain as they are here. What Python's
//! people call lies in `python/kas3`, in Python.
//!
//! Two rules hold everywhere. Whatever waits has let go of the interpreter, and looks for signals ten times a second. No thread
//! of ours ever calls into Python: reports of deliveries wait in a queue until a thread of the caller's asks for them, and
//! rebalances are told within the caller's own `poll`.

mod claims;
mod consumer;
mod convert;
mod errors;
mod letters;
mod offline;
mod producer;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _kas3(module: &Bound<'_, PyModule>) -> PyResult<()> {
    log_to_stderr();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<producer::Producer>()?;
    module.add_class::<consumer::Consumer>()?;
    module.add_class::<claims::ClaimCheck>()?;
    module.add_class::<letters::Letters>()?;
    module.add_function(wrap_pyfunction!(claims::put_object, module)?)?;
    module.add_function(wrap_pyfunction!(claims::get_object, module)?)?;
    module.add_function(wrap_pyfunction!(offline::offline_brokers, module)?)?;
    module.add_function(wrap_pyfunction!(convert::yaml_to_json, module)?)?;
    Ok(())
}

/// Warnings of the core go to stderr, as those of Python's `logging` do when nobody set it up; `KAS3_LOG` asks for more or less.
/// What `rdkafka` says of errors, librdkafka has said itself.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KAS3_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,librdkafka=error,rdkafka::client=off"));
    // somebody else in this process may have set one up: then theirs is used
    _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}
