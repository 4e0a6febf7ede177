//! Background threads: two for each database, one for each lane of the engine's work, which is done when it is due, and
//! a third where the log is synced by time.
//!
//! Order: a thread waits for work, does it, and after a failure waits longer before it tries again. Stopping:
//! the stop flag is raised, the engine is closed by the caller (which ends the wait for work at once, and one for a turn
//! within a second), the threads are joined.
//! The threads of an engine that is closed alone end by themselves. Of many databases as many work at once in each lane as
//! there are processors, and one more for each that takes very long ([`Turns`]). Syncs wait for nobody
//! ([`keep_synced`]).
//! Knows nothing of what the work is.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use icecore_storage::Engine;
use icecore_storage::clock::{Clock, SystemClock};
use icecore_storage::model::SECOND_NS;
use icecore_storage::options::Durability;

use crate::{Error, ErrorKind, Result};

/// Longest wait between two looks at an idle engine; ages and retention fall due without a write.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// So often is a log of durability `interval` synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Longest pause after a failure.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// When no turn was taken or given back for so long, there is room for one more: a merge of hours, one that keeps to a rate, or
/// a seal that jobs wait for, must not hold up all others.
const STANDSTILL_NS: i64 = 10 * SECOND_NS;
/// Niceness of the threads of merges and rolls above that of the process: where processors are short, such a thread gets a third of
/// what one gets that decodes writes, syncs them, flushes or answers.
const JOBS_NICENESS: i32 = 5;
/// As many times as there are processors may work at once, however long they take.
const PLACES_SHARE: usize = 2;

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
    /// Waits for work, but no longer than this; tells whether there may be some.
    wait: fn(&Engine, Duration) -> bool,
    work: fn(&Engine) -> icecore_storage::Result<()>,
    niceness: i32,
}

/// Flushes come beside the other jobs, and before them: a long roll must not keep memory from being given back.
const LANES: [Lane; 2] = [
    Lane {
        thread: "icecore-flush",
        wait: Engine::wait_for_flush,
        work: Engine::flush_memtables_due,
        niceness: 0,
    },
    Lane { thread: "icecore-jobs", wait: wait_for_jobs, work: Engine::run_jobs, niceness: JOBS_NICENESS },
];

/// Makes this thread, and those that it starts from now on, give way to others where processors are short.
#[cfg(target_os = "linux")]
fn be_nice(niceness: i32) {
    // On Linux this is the priority of the thread alone.
    if 0 < niceness
        && let Err(error) = rustix::process::setpriority_process(None, niceness)
    {
        tracing::debug!(%error, "background work keeps the priority of the process");
    }
}

/// Elsewhere priorities are those of the whole process.
#[cfg(not(target_os = "linux"))]
fn be_nice(_niceness: i32) {}

/// Jobs also fall due by time.
fn wait_for_jobs(engine: &Engine, wait_max: Duration) -> bool {
    engine.wait_for_jobs(wait_max);
    true
}

/// How many databases work at once in a lane: each holds buffers, and more than there are processors only divide them. Who
/// has waited longest is next.
#[derive(Debug)]
struct Turns {
    state: Mutex<TurnState>,
    changed: Condvar,
    processors: usize,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct TurnState {
    at_work: usize,
    /// How many may be at work: one more than there are processors for each standstill, until one of those that stood still
    /// is done.
    places: usize,
    /// Tickets of who waits, in their order.
    waiting: VecDeque<u64>,
    next_ticket: u64,
    /// When a turn was taken or given back, in monotonic time.
    moved_ns: i64,
}

impl Default for Turns {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new(processors, Arc::new(SystemClock::default()))
    }
}

impl Turns {
    fn new(processors: usize, clock: Arc<dyn Clock>) -> Self {
        let (waiting, moved_ns) = (VecDeque::new(), clock.monotonic_ns());
        let state = TurnState { at_work: 0, places: processors, waiting, next_ticket: 0, moved_ns };
        Self { state: Mutex::new(state), changed: Condvar::new(), processors, clock }
    }

    /// Waits for a turn; `None` when it is over before, which is looked at every `look`.
    fn take(&self, look: Duration, is_over: impl Fn() -> bool) -> Option<Turn<'_>> {
        let mut state = self.state();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        loop {
            let is_over = is_over();
            let may_begin = !is_over && state.waiting.front() == Some(&ticket) && self.has_place(&mut state);
            if is_over || may_begin {
                state.waiting.retain(|other| *other != ticket);
                // There may be a place for the next one, too.
                self.changed.notify_all();
            }
            if is_over {
                return None;
            }
            if may_begin {
                state.at_work += 1;
                state.moved_ns = self.clock.monotonic_ns();
                return Some(Turn { turns: self, taken_ns: state.moved_ns });
            }
            state = self.changed.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether one more may work; at a standstill a place is made.
    fn has_place(&self, state: &mut TurnState) -> bool {
        let may_add = state.places <= state.at_work && state.places < PLACES_SHARE * self.processors;
        if may_add && self.is_standstill(state.moved_ns) {
            state.places += 1;
        }
        state.at_work < state.places
    }

    fn is_standstill(&self, since_ns: i64) -> bool {
        STANDSTILL_NS <= self.clock.monotonic_ns().saturating_sub(since_ns)
    }

    fn state(&self) -> MutexGuard<'_, TurnState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is given back when it is dropped, also by a panic.
struct Turn<'a> {
    turns: &'a Turns,
    taken_ns: i64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.at_work -= 1;
        state.moved_ns = self.turns.clock.monotonic_ns();
        // A standstill is of those that have worked for so long at least: with each of them a place goes that was made.
        if self.turns.is_standstill(self.taken_ns) && self.turns.processors < state.places {
            state.places -= 1;
        }
        drop(state);
        self.turns.changed.notify_all();
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
    be_nice(lane.niceness);
    let mut pause = WAIT_MAX;
    let is_over = || stop.is_raised() || engine.is_closed();
    while !is_over() {
        if !(lane.wait)(engine, WAIT_MAX) {
            continue;
        }
        let Some(turn) = turns.take(WAIT_MAX, is_over) else { return };
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

    use icecore_storage::clock::ManualClock;

    use super::*;

    const LOOK: Duration = Duration::from_millis(10);
    const NEVER: Duration = Duration::from_secs(3_600);

    /// Turns, and the time, which stands still.
    fn turns_of(processors: usize) -> (Turns, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(0));
        (Turns::new(processors, Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    #[test]
    fn turns_are_no_more_than_there_are_and_given_back() {
        let (turns, _clock) = turns_of(2);
        let (at_work, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for round in 0..50 {
                        let work = || {
                            let _turn = turns.take(LOOK, || false).expect("at some time");
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
        let state = turns.state();
        assert_eq!((most.into_inner(), state.at_work, state.places, state.waiting.len()), (2, 0, 2, 0));
    }

    #[test]
    fn turns_are_not_waited_for_when_it_is_over() {
        let (turns, _clock) = turns_of(1);
        let turn = turns.take(LOOK, || false);
        let looks = AtomicUsize::new(0);
        assert!(turn.is_some());
        assert!(turns.take(LOOK, || 3 < looks.fetch_add(1, Ordering::SeqCst)).is_none());
        assert_eq!(turns.state().waiting.len(), 0);
        drop(turn);
        assert!(turns.take(LOOK, || false).is_some());
    }

    #[test]
    fn turns_come_in_the_order_of_waiting() {
        let (turns, _clock) = turns_of(1);
        let (order, turn) = (Mutex::new(Vec::new()), turns.take(LOOK, || false));
        thread::scope(|scope| {
            for number in 0..5 {
                let (turns, order) = (&turns, &order);
                scope.spawn(move || {
                    let turn = turns.take(NEVER, || false);
                    order.lock().unwrap().push(number);
                    drop(turn);
                });
                while turns.state().waiting.len() <= number {
                    thread::yield_now();
                }
            }
            drop(turn);
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn places_that_a_standstill_made_serve_all_until_it_ends() {
        let (turns, clock) = turns_of(2);
        let take = || turns.take(LOOK, || false).expect("at some time");
        let looks = AtomicUsize::new(0);
        let has_none = || {
            looks.store(0, Ordering::SeqCst);
            turns.take(LOOK, || 2 < looks.fetch_add(1, Ordering::SeqCst)).is_none()
        };
        let mut long = vec![take(), take()];
        clock.advance(STANDSTILL_NS - 1);
        assert!(has_none());
        clock.advance(1);
        drop(take());
        drop(take());
        let short = take();
        assert!(has_none(), "one more for one standstill, which is there for one after the other");
        drop(short);
        long.push(take());
        clock.advance(STANDSTILL_NS);
        long.push(take());
        clock.advance(STANDSTILL_NS);
        assert!(has_none(), "twice as many as processors");
        drop(long);
        let state = turns.state();
        assert_eq!((state.at_work, state.places), (0, 2));
    }

    /// Threads of merges and rolls, and those that they start, give way; those of flushes do not, nor does who opens.
    #[test]
    #[cfg(target_os = "linux")]
    fn jobs_give_way_to_others_where_processors_are_short() {
        let niceness = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let behind_name = stat.rsplit_once(')').unwrap().1;
            behind_name.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = niceness();
        let of_lane = |lane: Lane| {
            let inner = move || {
                be_nice(lane.niceness);
                (niceness(), thread::spawn(niceness).join().unwrap())
            };
            thread::spawn(inner).join().unwrap()
        };
        let [flushes, jobs] = LANES;
        assert_eq!(
            (of_lane(flushes), of_lane(jobs)),
            ((before, before), (before + JOBS_NICENESS, before + JOBS_NICENESS))
        );
        assert_eq!(niceness(), before);
    }
}
