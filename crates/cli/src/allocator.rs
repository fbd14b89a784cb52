//! The allocator of the whole process, librdkafka and the compressors included: jemalloc under malloc's own names.
//!
//! Pages that are free go back to the system within a second, because `memory` limits the resident size, not what is in use.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SETTINGS: &[u8; 71] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0,narenas:4\0\0";

/// What jemalloc reads when the process starts.
#[allow(unsafe_code)]
// SAFETY: jemalloc declares `const char *malloc_conf` for programs to define; this is a pointer to text that ends in a zero.
#[unsafe(export_name = "malloc_conf")]
#[used]
pub(crate) static MALLOC_CONF: &[u8; 71] = SETTINGS;

/// All arenas, as jemalloc names them.
const GIVE_BACK: &std::ffi::CStr = c"arena.4096.purge";

/// Gives all pages that are free back to the system, and waits for that.
#[allow(unsafe_code)]
pub(crate) fn give_back() {
    // SAFETY: a name that ends in a zero; the command reads and writes nothing of ours.
    unsafe { tikv_jemalloc_sys::mallctl(GIVE_BACK.as_ptr().cast(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0) };
}
