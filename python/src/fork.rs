//! Processes that fork. A child has the memory of its parent and none of its threads: nothing that the parent's threads serve works
//! in the child, and whatever the child would release there (a socket that an epoll of both watches, a client of librdkafka) the
//! parent would miss. So each thing remembers in which process it was made; in a child it is neither used nor released.

use crate::errors;
use pyo3::prelude::*;
use std::{
    mem::ManuallyDrop,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

/// How many forks lie between this process and the one that loaded the module.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Runs in every child, right after the fork.
extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// Begins to notice forks.
#[allow(unsafe_code)]
pub(crate) fn watch() {
    // SAFETY: the handler stays loaded as long as the process lives, and only adds to a number.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Belongs to the process that made it. In a child of that process it cannot be had, and is never dropped.
pub(crate) struct Owned<T> {
    generation: u64,
    process: u32,
    inner: ManuallyDrop<T>,
}

impl<T> Owned<T> {
    pub(crate) fn new(inner: T) -> Owned<T> {
        Owned { generation: generation(), process: std::process::id(), inner: ManuallyDrop::new(inner) }
    }

    /// Whether this process made it.
    pub(crate) fn is_here(&self) -> bool {
        self.generation == generation()
    }

    /// What is owned; in a child `ForkedError`, which names `what`.
    pub(crate) fn get(&self, py: Python<'_>, what: &str) -> PyResult<&T> {
        if self.is_here() { Ok(&self.inner) } else { Err(errors::forked(py, what, self.process)) }
    }

    /// The same for calls that have nothing to do in a child.
    pub(crate) fn if_here(&self) -> Option<&T> {
        self.is_here().then_some(&*self.inner)
    }
}

impl<T> Drop for Owned<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        if self.is_here() {
            // SAFETY: it is dropped here and nowhere else, and nobody can reach it afterwards.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}

/// Something that every process makes for itself when it first needs it. What the parent made is forgotten in the child.
pub(crate) struct PerProcess<T>(AtomicPtr<Owned<T>>);

impl<T: Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> PerProcess<T> {
        PerProcess(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// This process's own. No lock is taken: a thread that is not there any more may have held it.
    #[allow(unsafe_code)]
    pub(crate) fn get_or_make<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let known = self.0.load(Ordering::Acquire);
        // SAFETY: what was stored once is freed by `drop` alone, which needs this whole.
        if let Some(inner) = unsafe { known.as_ref() }.and_then(Owned::if_here) {
            return Ok(inner);
        }
        let made = Box::into_raw(Box::new(Owned::new(make()?)));
        let stored = match self.0.compare_exchange(known, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(of_another_thread) => {
                // SAFETY: it was never stored, so nobody else knows of it.
                drop(unsafe { Box::from_raw(made) });
                of_another_thread
            }
        };
        // SAFETY: as above; a thread of this process stored it, and no thread replaces what its own process stored.
        Ok(unsafe { &(*stored).inner })
    }
}

impl<T> Drop for PerProcess<T> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        let stored = *self.0.get_mut();
        if !stored.is_null() {
            // SAFETY: it came from `Box::into_raw`, and is freed here alone. In a child `Owned` drops nothing of the parent's.
            drop(unsafe { Box::from_raw(stored) });
        }
    }
}
