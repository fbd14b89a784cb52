//! How much memory reading some bytes takes: an allocator that counts per thread, and a bound on what it counted.
//!
//! Memory that C libraries take is not counted; libFuzzer's limit on the resident size covers that.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// The system's allocator, counting.
pub struct Counted;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends frees what it held after its counters are gone.
    let _ = HELD.try_with(|held| {
        let now = held.get() + bytes;
        held.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting takes no memory.
#[allow(unsafe_code, reason = "there is no other way to count what is allocated")]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both may be there for a moment.
        count(bytes.cast_signed());
        count(-layout.size().cast_signed());
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Does `work`, which may hold `bytes_max` bytes of memory more at a time than there were before.
pub fn bounded<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    let held = PEAK.get() - before;
    assert!(held <= bytes_max.cast_signed(), "{held} bytes of memory were held, at most {bytes_max} are allowed");
    result
}
