//! Background threads: two for each database, one for each lane of the engine's work, which is done when it is due, and
//! a third where the log is synced by time.
//!
//! Order: a thread waits for work, does it, and after a failure waits longer before it tries again. Stopping:
//! the stop flag is raised, the engine is closed by the caller (which ends the wait at once), the threads are joined.
//! The threads of an engine that is closed alone end by themselves. Of many databases as many work at once in each lane as
//! there are processors, and one more for each ten seconds in which nothing moved ([`Turns`]). Syncs wait for nobody ([`keep_synced`]).
//! Knows nothing of what the work is.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use icecore_storage::Engine;
use icecore_storage::options::Durability;

use crate::{Error, ErrorKind, Result};

/// Longest wait between two looks at an idle engine; ages and retention fall due without a write.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// So often is a log of durability `interval` synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// When no turn was taken or given back for so long, there is one more: a merge of hours, one that keeps to a rate, or a seal
/// that jobs wait for, must not hold up all others.
const STANDSTILL: Duration = Duration::from_secs(10);

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
    Lane { thread: "icecore-flush", wait: Engine::wait_for_flush, work: Engine::flush_memtables_due },
    Lane { thread: "icecore-jobs", wait: Engine::wait_for_jobs, work: Engine::run_jobs },
];

/// How many databases work at once in a lane: each holds buffers, and more than there are processors only divide them.
#[derive(Debug)]
struct Turns {
    state: Mutex<TurnState>,
    given_back: Condvar,
    standstill: Duration,
}

#[derive(Debug)]
struct TurnState {
    /// Below zero while some work because nothing moved.
    free: isize,
    /// When a turn was taken or given back.
    moved: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(isize::try_from(processors).unwrap_or(isize::MAX), STANDSTILL)
    }
}

impl Turns {
    fn new(free: isize, standstill: Duration) -> Self {
        let state = Mutex::new(TurnState { free, moved: Instant::now() });
        Self { state, given_back: Condvar::new(), standstill }
    }

    /// A turn; `None` when there was none for so long: the next call looks for a standstill again.
    fn take(&self, wait_max: Duration) -> Option<Turn<'_>> {
        let is_taken = |state: &mut TurnState| state.free <= 0 && state.moved.elapsed() < self.standstill;
        let waited = self.given_back.wait_timeout_while(self.state(), wait_max, is_taken);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_taken(&mut state) {
            return None;
        }
        *state = TurnState { free: state.free - 1, moved: Instant::now() };
        Some(Turn(self))
    }

    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is given back when it is dropped, also by a panic.
struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        *state = TurnState { free: state.free + 1, moved: Instant::now() };
        drop(state);
        self.0.given_back.notify_one();
    }
}

/// The service threads of a data directory.
#[derive(Debug, Default)]
pub(crate) struct Services {
    stop: Arc<StopFlag>,
    /// Of each lane.
    turns: [Arc<Turns>; LANES.len()],
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Services {
    /// Starts the threads of one engine.
    ///
    /// # Errors
    /// `Internal` when the system gives no thread.
    pub(crate) fn serve(&self, name: &str, engine: &Arc<Engine>) -> Result<()> {
        for (lane, turns) in LANES.into_iter().zip(&self.turns) {
            let (engine, stop, turns) = (Arc::clone(engine), Arc::clone(&self.stop), Arc::clone(turns));
            let database = name.to_owned();
            self.start(lane.thread, move || run(lane, &turns, &database, &engine, &stop))?;
        }
        match engine.durability() {
            Durability::Interval => {
                let (engine, database) = (Arc::clone(engine), name.to_owned());
                self.start("icecore-sync", move || keep_synced(&database, &engine))
            }
            Durability::Fsync | Durability::Memory => Ok(()),
        }
    }

    fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("cannot start a service thread: {error}"))
        })?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
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

fn run(lane: Lane, turns: &Turns, database: &str, engine: &Engine, stop: &StopFlag) {
    let mut pause = WAIT_MAX;
    let is_over = || stop.is_raised() || engine.is_closed();
    while !is_over() {
        (lane.wait)(engine, WAIT_MAX);
        if is_over() {
            return;
        }
        let turn = loop {
            let turn = turns.take(WAIT_MAX);
            if is_over() {
                return;
            }
            if turn.is_some() {
                break turn;
            }
        };
        let worked = (lane.work)(engine);
        drop(turn);
        match worked {
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

/// What the durability `interval` promises waits neither for a flush, nor for the pause after one that failed, nor for a
/// turn. It ends with the engine and not by the stop flag: databases are closed one after the other.
fn keep_synced(database: &str, engine: &Engine) {
    loop {
        engine.wait_for_close(SYNC_EVERY);
        if engine.is_closed() {
            return;
        }
        if let Err(error) = engine.sync_due() {
            // A close, or a drop that takes the files away, may have come in between.
            if !engine.is_closed() {
                tracing::error!(database, %error, "the log cannot be synced");
            }
            // The log is poisoned: until a restart there is nothing to sync any more.
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn turns_are_no_more_than_there_are_and_given_back() {
        let turns = Turns::new(2, Duration::from_secs(60));
        let (at_work, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..50 {
                        let work = || {
                            let _turn = turns.take(Duration::from_secs(60)).expect("at some time");
                            most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            thread::yield_now();
                            at_work.fetch_sub(1, Ordering::SeqCst);
                            assert!(round % 7 != 3, "one that panics");
                        };
                        assert_eq!(catch_unwind(AssertUnwindSafe(work)).is_err(), round % 7 == 3);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(done.into_inner(), 400);
        assert_eq!((most.into_inner(), turns.state().free), (2, 2));
    }

    #[test]
    fn turns_that_are_all_taken_are_given_up() {
        let turns = Turns::new(1, Duration::from_secs(60));
        let turn = turns.take(Duration::ZERO);
        assert!(turn.is_some() && turns.take(Duration::from_millis(5)).is_none());
        drop(turn);
        assert!(turns.take(Duration::ZERO).is_some());
    }

    #[test]
    fn one_more_turn_comes_with_each_standstill() {
        let standstill = Duration::from_millis(200);
        let turns = Turns::new(1, standstill);
        let start = Instant::now();
        let take = || (0..6_000).find_map(|_| turns.take(Duration::from_millis(10))).expect("at some time");
        let held = [take(), take(), take()];
        assert!(2 * standstill <= start.elapsed(), "one by one");
        assert_eq!(turns.state().free, -2);
        drop(held);
        assert_eq!(turns.state().free, 1, "and none stays");
    }
}
