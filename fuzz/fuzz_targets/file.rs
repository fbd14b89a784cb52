#![no_main]

#[global_allocator]
static ALLOCATOR: kas3_fuzz::memory::Counted = kas3_fuzz::memory::Counted;

libfuzzer_sys::fuzz_target!(|data: &[u8]| kas3_fuzz::blocks::file(data));
