//! What the fuzz targets do with their bytes. Each body feeds outside bytes to the code that reads such bytes in production and
//! asserts what a user relies on: no panic, memory within a bound, what is accepted says the same when it is written and read
//! again. A body that returns is content, one that panics found something.
//!
//! libFuzzer drives them from `fuzz_targets/`; `make test` feeds them the kept corpora on stable Rust, without libFuzzer
//! (`crates/sink/tests/fuzz_corpora.rs`), where every input that ever found something lies as well.

pub mod blocks;
pub mod configuration;
pub mod ledger;
pub mod memory;
pub mod paths;
pub mod values;
