//! Work on more than one thread. [`pipe`]: two halves of a job, one reads and merges, the other writes what is made of it;
//! blocks pass in order, and few wait at a time. [`spread`]: parts of a read, side by side. The threads live as long as
//! the work; where there is one processor, there are none.
//!
//! The only place of this crate that starts a thread. Knows nothing of jobs and reads.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, mpsc};
use std::thread;

use crate::{Error, ErrorKind, Result};

/// Blocks that wait for the second half.
const WAITING_MAX: usize = 1;

/// What the first half hands its blocks to.
pub(crate) type Sink<'a, T> = dyn FnMut(T) -> Result<()> + 'a;

/// Runs `make` here, and on another thread `take` with what it hands over, in order.
///
/// # Errors
/// Those of `take`, which end `make` at its next block, or else those of `make`.
pub(crate) fn pipe<T: Send>(
    make: impl FnOnce(&mut Sink<'_, T>) -> Result<()>,
    take: impl FnMut(T) -> Result<()> + Send,
) -> Result<()> {
    let take = Mutex::new(take);
    let take = |item| take.lock().unwrap_or_else(PoisonError::into_inner)(item);
    if !has_second_processor() {
        return make(&mut { take });
    }
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
        let taker = thread::Builder::new().name("icecore-encode".to_owned());
        // One half after the other is slower, and better than no flush.
        let Ok(taker) = taker.spawn_scoped(scope, || receiver.into_iter().try_for_each(&take)) else {
            return make(&mut { &take });
        };
        let made = make(&mut |item| {
            let stopped = |_| Error::new(ErrorKind::Internal, "the second half of a job has ended");
            sender.send(item).map_err(stopped)
        });
        drop(sender);
        // What stopped the second half has stopped the first.
        taker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).and(made)
    })
}

/// Does the work of each part and gives the results in order. Parts are taken one after the other by this thread and
/// by others beside it, of which all reads together have fewer than there are processors.
///
/// # Errors
/// Those of `work`, of the first part that has one; parts that were not begun then are left.
pub(crate) fn spread<P: Send, T: Send>(
    parts: Vec<P>,
    work: impl Fn(P) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let count = parts.len();
    let queue = Mutex::new(parts.into_iter().enumerate());
    let (done, has_failed) = (Mutex::new(Vec::with_capacity(count)), AtomicBool::new(false));
    let drain = || {
        while !has_failed.load(Ordering::Relaxed) {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((place, part)) = next else { return };
            let result = work(part);
            has_failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..count {
            let Some(place) = Beside::take() else { break };
            let helper = thread::Builder::new().name("icecore-read".to_owned());
            let drain = || {
                drain();
                drop(place);
            };
            if helper.spawn_scoped(scope, drain).is_err() {
                break;
            }
        }
        drain();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A place for a thread beside those of the readers.
struct Beside;

/// How many are taken.
static BESIDE: AtomicUsize = AtomicUsize::new(0);

impl Beside {
    fn take() -> Option<Self> {
        let more = |taken| (taken + 1 < processors()).then_some(taken + 1);
        BESIDE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        BESIDE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn has_second_processor() -> bool {
    1 < processors()
}

/// How many threads can run at once. The schedules of the model checker know nothing of threads that it has not started.
pub(crate) fn processors() -> usize {
    static PROCESSORS: LazyLock<usize> =
        LazyLock::new(|| thread::available_parallelism().map_or(1, NonZeroUsize::get));
    if cfg!(shuttle) { 1 } else { *PROCESSORS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipe_hands_over_all_in_order() {
        let mut taken = Vec::new();
        let make = |sink: &mut Sink<'_, i32>| (0..100).try_for_each(sink);
        let take = |item| {
            taken.push(item);
            Ok(())
        };
        pipe(make, take).unwrap();
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn spread_gives_the_results_in_order_or_the_failure() {
        let double = |part: usize| Ok(part * 2);
        assert_eq!(
            spread((0..50).collect(), double).unwrap(),
            (0..50).map(|part| part * 2).collect::<Vec<_>>()
        );
        assert_eq!(spread(Vec::new(), double).unwrap(), Vec::<usize>::new());
        let refuse = |part| if part < 7 { Ok(part) } else { Err(Error::corruption("seventh")) };
        assert_eq!(spread((0..50).collect(), refuse).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn pipe_ends_with_the_failure_of_either_half() {
        let mut made = 0;
        let make = |sink: &mut Sink<'_, i32>| {
            (0..100).try_for_each(|item| {
                made += 1;
                sink(item)
            })
        };
        let refuse = |item| if item < 3 { Ok(()) } else { Err(Error::corruption("third")) };
        assert_eq!(pipe(make, refuse).unwrap_err().to_string(), Error::corruption("third").to_string());
        assert!(made < 10, "{made} were made for nothing");
        let fail = |_: &mut Sink<'_, i32>| Err(Error::corruption("first half"));
        assert_eq!(pipe(fail, |_| Ok(())).unwrap_err().kind(), ErrorKind::Corruption);
    }
}
