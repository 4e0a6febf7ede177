//! The locks of what many threads share at once (group commit, versions, memtables): those of the standard library, or, with
//! `--cfg shuttle`, those of the model checker that runs `engine::tests::schedules` (`docs/reliability.md`).

#[cfg(not(shuttle))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, atomic};
#[cfg(not(shuttle))]
pub(crate) use std::thread::yield_now;

#[cfg(shuttle)]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock, atomic};
#[cfg(shuttle)]
pub(crate) use shuttle::thread::yield_now;
