//! Where the threads of an engine wait: services for work, writers for memory. Knows nothing of either.
//!
//! What is waited for changes first, then the gate is knocked at. Who waits looks with the gate held, so it either sees the
//! change or is asleep when the knock comes: none is lost.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Guards nothing but the waiting: work and memory are looked at anew after each wake-up.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    lock: Mutex<()>,
    has_work: Condvar,
    has_memory: Condvar,
}

impl Gate {
    /// Wakes who waits for work.
    pub(crate) fn wake_workers(&self) {
        drop(self.lock());
        self.has_work.notify_all();
    }

    /// Wakes who waits for work or for memory.
    pub(crate) fn wake_all(&self) {
        self.wake_workers();
        self.has_memory.notify_all();
    }

    /// Blocks while `is_idle` says so and the time is not up.
    pub(crate) fn wait_for_work(&self, wait_max: Duration, is_idle: impl Fn() -> bool) {
        let gate = self.lock();
        drop(self.has_work.wait_timeout_while(gate, wait_max, |()| is_idle()));
    }

    /// Blocks, a `step` at a time, until `is_over` says so. Workers are woken before each: there may be work that has come
    /// due by time alone.
    pub(crate) fn wait_for_memory(&self, step: Duration, mut is_over: impl FnMut() -> bool) {
        let mut gate = self.lock();
        while !is_over() {
            self.has_work.notify_all();
            gate = self.has_memory.wait_timeout(gate, step).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
