//! The rate of background work: what jobs write is spread over time, byte by byte, so that a large merge does not take
//! the disk for itself. A job sleeps where it writes; when somebody waits for its end, it hurries; when the engine closes, it
//! is given up there.
//!
//! Knows nothing of the jobs.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::model::SECOND_NS;
use crate::sync::{Mutex, PoisonError};
use crate::{Error, ErrorKind, Result};

/// Longest sleep between two looks at whether somebody waits.
const STEP: Duration = Duration::from_millis(20);

/// Bytes a second, and how far ahead they have been used up.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second_max: Option<u64>,
    /// Monotonic time at which the rate would have let through all that was written.
    paid_ns: Mutex<i64>,
    hurries: AtomicUsize,
    /// Monotonic time from which on jobs hurry although nobody waits.
    hurried_from_ns: AtomicI64,
    is_stopped: AtomicBool,
}

/// While it lives, jobs do not sleep, and what they write is not counted.
#[derive(Debug)]
pub(crate) struct Hurry<'a>(&'a AtomicUsize);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pace {
    /// `None`: no limit.
    pub(crate) fn new(bytes_per_second_max: Option<u64>) -> Self {
        let (paid_ns, hurries) = (Mutex::new(i64::MIN), AtomicUsize::new(0));
        let hurried_from_ns = AtomicI64::new(i64::MAX);
        Self { bytes_per_second_max, paid_ns, hurries, hurried_from_ns, is_stopped: AtomicBool::new(false) }
    }

    /// Somebody waits for a job.
    pub(crate) fn hurry(&self) -> Hurry<'_> {
        self.hurries.fetch_add(1, Ordering::AcqRel);
        Hurry(&self.hurries)
    }

    /// Jobs hurry from a monotonic time on, until this is called again; `i64::MAX`: they do not.
    pub(crate) fn hurry_from(&self, monotonic_ns: i64) {
        self.hurried_from_ns.store(monotonic_ns, Ordering::Release);
    }

    /// No job shall go on: what is half done is done again another time.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Tells a job in its midst whether it may go on.
    ///
    /// # Errors
    /// `Unavailable` after [`Pace::stop`].
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(Error::new(ErrorKind::Unavailable, "the job was given up: the database closes"));
        }
        Ok(())
    }

    /// After `bytes` were written: sleeps until the rate lets them through.
    pub(crate) fn spend(&self, clock: &dyn Clock, bytes: u64) {
        let Some(rate) = self.bytes_per_second_max else { return };
        if self.is_hurried(clock) {
            return;
        }
        let cost_ns = u128::from(bytes) * u128::from(SECOND_NS.unsigned_abs()) / u128::from(rate.max(1));
        let cost_ns = i64::try_from(cost_ns).unwrap_or(i64::MAX);
        let mut paid_ns = self.paid_ns.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_ns = clock.monotonic_ns().max(*paid_ns).saturating_add(cost_ns);
        let until_ns = *paid_ns;
        drop(paid_ns);
        while !self.is_hurried(clock) && !self.is_stopped() {
            let left_ns = until_ns.saturating_sub(clock.monotonic_ns());
            if left_ns <= 0 {
                return;
            }
            clock.sleep(Duration::from_nanos(left_ns.unsigned_abs()).min(STEP));
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    fn is_hurried(&self, clock: &dyn Clock) -> bool {
        let from_ns = self.hurried_from_ns.load(Ordering::Acquire);
        0 < self.hurries.load(Ordering::Acquire) || from_ns <= clock.monotonic_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn spend_takes_the_time_that_the_rate_asks_for() {
        let (pace, clock) = (Pace::new(Some(1000)), ManualClock::new(0));
        pace.spend(&clock, 500);
        assert_eq!(clock.monotonic_ns(), SECOND_NS / 2);
        clock.advance(SECOND_NS);
        pace.spend(&clock, 10);
        assert_eq!(clock.monotonic_ns(), SECOND_NS * 151 / 100, "what was not used is not saved up");
    }

    #[test]
    fn spend_does_not_sleep_in_a_hurry_or_without_a_rate() {
        let (pace, clock) = (Pace::new(Some(1)), ManualClock::new(0));
        let hurry = pace.hurry();
        pace.spend(&clock, 1000);
        drop(hurry);
        Pace::new(None).spend(&clock, 1000);
        assert_eq!(clock.monotonic_ns(), 0);
        pace.spend(&clock, 1);
        assert_eq!(clock.monotonic_ns(), SECOND_NS);
    }

    #[test]
    fn stop_ends_sleep_and_job() {
        let (pace, clock) = (Pace::new(Some(1)), ManualClock::new(0));
        pace.stop();
        pace.spend(&clock, 1000);
        assert_eq!(pace.check().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(clock.monotonic_ns(), 0);
    }
}
