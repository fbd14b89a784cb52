#![no_main]
//! The port of a worker, whose sources are part of a program and are taken in by path.

#[path = "../../crates/cli/src/http/mod.rs"]
#[allow(dead_code, reason = "only connections are looked at, not the port that accepts them")]
mod http;
#[path = "../src/port.rs"]
mod port;
#[path = "../../crates/cli/src/redact.rs"]
#[allow(dead_code, reason = "there are no secrets here")]
mod redact;

#[global_allocator]
static ALLOCATOR: kas3_fuzz::memory::Counted = kas3_fuzz::memory::Counted;

libfuzzer_sys::fuzz_target!(|data: &[u8]| port::requests(data));
