//! Background threads: two for each database, one for each lane of the engine's work, which is done when it is due.
//!
//! Order: a thread waits for work, does it, and after a failure waits longer before it tries again. Stopping:
//! the stop flag is raised, the engine is closed by the caller (which ends the wait at once), the threads are joined.
//! The threads of an engine that is closed alone end by themselves.
//! Knows nothing of what the work is.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use icecore_storage::Engine;

use crate::{Error, ErrorKind, Result};

/// Longest wait between two looks at an idle engine; ages and retention fall due without a write.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The order to stop, which can be waited for.
#[derive(Debug, Default)]
pub(crate) struct StopFlag {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl StopFlag {
    /// Gives the order.
    pub(crate) fn raise(&self) {
        *self.is_raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.raised.notify_all();
    }

    /// Whether the order was given.
    pub(crate) fn is_raised(&self) -> bool {
        *self.is_raised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the flag is raised or the time is up; tells whether it is raised.
    pub(crate) fn wait(&self, pause: Duration) -> bool {
        let guard = self.is_raised.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.raised.wait_timeout_while(guard, pause, |is_raised| !*is_raised);
        let (guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

/// A kind of work that has a thread of its own.
#[derive(Debug, Clone, Copy)]
struct Lane {
    thread: &'static str,
    wait: fn(&Engine, Duration),
    work: fn(&Engine) -> icecore_storage::Result<()>,
}

/// Flushes come beside the other jobs: a long roll must not keep memory from being given back.
const LANES: [Lane; 2] = [
    Lane { thread: "icecore-flush", wait: Engine::wait_for_flush, work: Engine::flush_due },
    Lane { thread: "icecore-jobs", wait: Engine::wait_for_jobs, work: Engine::run_jobs },
];

/// The service threads of a data directory.
#[derive(Debug, Default)]
pub(crate) struct Services {
    stop: Arc<StopFlag>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Services {
    /// Starts the threads of one engine.
    ///
    /// # Errors
    /// `Internal` when the system gives no thread.
    pub(crate) fn serve(&self, name: &str, engine: &Arc<Engine>) -> Result<()> {
        for lane in LANES {
            let (engine, stop) = (Arc::clone(engine), Arc::clone(&self.stop));
            let database = name.to_owned();
            let thread = std::thread::Builder::new()
                .name(lane.thread.to_owned())
                .spawn(move || run(lane, &database, &engine, &stop))
                .map_err(|error| {
                    Error::new(ErrorKind::Internal, format!("cannot start a service thread: {error}"))
                })?;
            self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(())
    }

    /// Tells the threads to end after what they are doing.
    pub(crate) fn raise_stop(&self) {
        self.stop.raise();
    }

    /// Waits for the threads to end.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a service thread panicked");
            }
        }
    }
}

fn run(lane: Lane, database: &str, engine: &Engine, stop: &StopFlag) {
    let mut pause = WAIT_MAX;
    let is_over = || stop.is_raised() || engine.is_closed();
    while !is_over() {
        (lane.wait)(engine, WAIT_MAX);
        if is_over() {
            return;
        }
        match (lane.work)(engine) {
            Ok(()) => pause = WAIT_MAX,
            Err(error) => {
                if is_over() {
                    return;
                }
                tracing::error!(database, %error, retry_s = pause.as_secs(), "background work failed");
                // The work is still due, so the engine would not wait: pause here, longer each time.
                if stop.wait(pause) {
                    return;
                }
                pause = (2 * pause).min(PAUSE_MAX);
            }
        }
    }
}
