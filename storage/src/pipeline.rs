//! Two halves of a job on two threads: one reads and computes, the other encodes and writes. Blocks pass in order, and
//! few wait at a time. The second thread lives as long as the job; where there is one processor, there is none.
//!
//! The only place of this crate that starts a thread. Knows nothing of the jobs.

use std::sync::{Mutex, PoisonError, mpsc};
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

/// The schedules of the model checker know nothing of threads that it has not started.
fn has_second_processor() -> bool {
    !cfg!(shuttle) && thread::available_parallelism().is_ok_and(|processors| 1 < processors.get())
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
