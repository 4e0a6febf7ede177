//! What one query may use: time, memory, samples, series, points. Every operator charges it; it answers an error, never a
//! crash.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use icecore_storage::model::{SeriesId, SeriesKey};
use icecore_storage::scan::Meter;
use regex::{Regex, RegexBuilder};

use crate::memory::{Account, MemoryPool};
use crate::{Error, ErrorKind, Result};

/// How errors name [`Limits::series_max`]: `series_max` alone is a bound of writes.
pub(crate) const SERIES_MAX: &str = "query_series_max";
/// Bytes the compiled patterns of one text may take together.
const PATTERNS_BYTES_MAX: usize = 16 << 20;
/// Bytes a compiled pattern may take, tried one after the other: what it is charged is the first that is enough.
const PATTERN_BYTES: [usize; 3] = [16 << 10, 128 << 10, 1 << 20];

/// Samples that are charged between two looks at the clock, which takes as long as reading some of them.
const CLOCK_SAMPLES: u64 = 1024;
/// Samples that a charge counts for beside its own: there may be slow work without any.
const CHARGE_SAMPLES: u64 = 16;

/// Compiles the patterns of one text: short texts can ask for patterns of any size, and for many of them.
#[derive(Debug)]
pub(crate) struct Patterns {
    bytes_left: usize,
}

impl Default for Patterns {
    fn default() -> Self {
        Self { bytes_left: PATTERNS_BYTES_MAX }
    }
}

impl Patterns {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it, or that it, or all of them, would be too large.
    pub(crate) fn compile(&mut self, pattern: &str) -> std::result::Result<Regex, String> {
        for bytes in PATTERN_BYTES {
            if self.bytes_left < bytes {
                return Err(format!(
                    "compiled patterns of the query exceed {PATTERNS_BYTES_MAX} bytes; use fewer or simpler ones"
                ));
            }
            match RegexBuilder::new(pattern).size_limit(bytes).build() {
                Ok(regex) => {
                    self.bytes_left -= bytes;
                    return Ok(regex);
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        let max = PATTERN_BYTES[PATTERN_BYTES.len() - 1];
        Err(format!("compiled pattern exceeds {max} bytes; use a simpler one"))
    }
}

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Samples, rows and cells read.
    pub samples_max: u64,
    /// Series selected.
    pub series_max: usize,
    /// Series in the result.
    pub result_series_max: u64,
    /// Points (or rows times columns) in the result.
    pub points_max: u64,
    /// Memory held: series, samples, intermediate vectors, the result and its text.
    pub memory_bytes_max: u64,
    /// Steps of a range query.
    pub steps_max: u64,
    /// Bytes of query text.
    pub text_bytes_max: usize,
    /// Wall time.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples_max: 50_000_000,
            series_max: 1_000_000,
            result_series_max: 10_000,
            points_max: 1_000_000,
            memory_bytes_max: 256 << 20,
            steps_max: 11_000,
            text_bytes_max: 16 * 1024,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Elapsed time since the query began, read through the embedding program's clock.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The running account of one query.
pub struct Budget {
    limits: Limits,
    elapsed: Elapsed,
    samples: AtomicU64,
    /// Samples charged since the last look at the clock.
    unclocked: AtomicU64,
    points: AtomicU64,
    series: AtomicU64,
    memory: Account,
    /// Bytes of the running scan's own buffers, charged to `memory`.
    buffers: AtomicU64,
    /// Why a scan was stopped, which storage has no kinds for, and at which limit.
    stopped: OnceLock<(ErrorKind, Option<&'static str>)>,
    is_cancelled: Arc<AtomicBool>,
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Budget")
            .field("limits", &self.limits)
            .field("samples", &self.samples)
            .finish_non_exhaustive()
    }
}

impl Budget {
    /// Opens an account. `elapsed` tells how long the query has been running.
    pub fn new(limits: Limits, elapsed: Elapsed) -> Self {
        Self {
            limits,
            elapsed,
            samples: AtomicU64::new(0),
            // The first charge looks at the clock.
            unclocked: AtomicU64::new(CLOCK_SAMPLES),
            points: AtomicU64::new(0),
            series: AtomicU64::new(0),
            memory: Account::new(limits.memory_bytes_max, None),
            buffers: AtomicU64::new(0),
            stopped: OnceLock::new(),
            is_cancelled: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The same account, which takes its memory from a pool.
    #[must_use]
    pub fn with_pool(self, pool: Arc<MemoryPool>) -> Self {
        Self { memory: Account::new(self.limits.memory_bytes_max, Some(pool)), ..self }
    }

    /// An account whose time never runs out, for tests and tools.
    pub fn untimed(limits: Limits) -> Self {
        Self::new(limits, Arc::new(|| Duration::ZERO))
    }

    /// The bounds.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A switch that ends the query from another thread when set.
    pub fn cancel_switch(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_cancelled)
    }

    /// How long the query has been running.
    pub fn elapsed(&self) -> Duration {
        (self.elapsed)()
    }

    /// Samples, rows and cells read so far.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Charges samples read and checks the time, the deadline once in a while.
    ///
    /// # Errors
    /// `LimitExceeded`, `Deadline` or `Cancelled`.
    pub fn charge_samples(&self, count: u64) -> Result<()> {
        let total = self.samples.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        if total > self.limits.samples_max {
            let max = self.limits.samples_max;
            let message = format!(
                "query processes more than {max} samples (limit samples_max); \
                 narrow the selector or the range"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("samples_max"));
        }
        self.work(count)
    }

    /// Tells of work on samples that are charged already, so that the clock is looked at in time.
    ///
    /// # Errors
    /// `Deadline` or `Cancelled`.
    pub fn work(&self, count: u64) -> Result<()> {
        let unclocked = self.unclocked.fetch_add(count.saturating_add(CHARGE_SAMPLES), Ordering::Relaxed);
        if unclocked < CLOCK_SAMPLES {
            return self.check_cancelled();
        }
        self.unclocked.store(0, Ordering::Relaxed);
        self.check_time()
    }

    /// Charges points of the result.
    ///
    /// # Errors
    /// `LimitExceeded`, `Deadline` or `Cancelled`.
    pub fn charge_points(&self, count: u64) -> Result<()> {
        let total = self.points.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        if total > self.limits.points_max {
            let max = self.limits.points_max;
            let message = format!(
                "query result has more than {max} points (limit points_max); \
                 use a larger step or fewer series"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("points_max"));
        }
        self.check_time()
    }

    /// Charges series of the result.
    ///
    /// # Errors
    /// `LimitExceeded`.
    pub fn charge_series(&self, count: u64) -> Result<()> {
        let total = self.series.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        if total > self.limits.result_series_max {
            let max = self.limits.result_series_max;
            let message = format!(
                "query result has more than {max} series (limit result_series_max); aggregate or narrow the selector"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).of_limit("result_series_max"));
        }
        Ok(())
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> u64 {
        self.memory.bytes()
    }

    /// Charges memory that is about to be taken, or just was.
    ///
    /// # Errors
    /// `LimitExceeded` when the query would hold too much, `Busy` when all queries together would.
    pub fn charge_bytes(&self, bytes: u64) -> Result<()> {
        self.memory.charge(bytes)
    }

    /// Charges a list of ids of series, and its copy in a request.
    ///
    /// # Errors
    /// As [`Budget::charge_bytes`].
    pub(crate) fn charge_ids(&self, series: &[SeriesId]) -> Result<()> {
        self.charge_bytes(2 * size_of_val(series) as u64)
    }

    /// Charges memory until the guard is dropped.
    ///
    /// # Errors
    /// As [`Budget::charge_bytes`].
    pub fn hold_bytes(&self, bytes: u64) -> Result<Held<'_>> {
        self.charge_bytes(bytes)?;
        Ok(Held { budget: self, bytes })
    }

    /// Sets what is held when nothing is left but so many bytes.
    ///
    /// # Errors
    /// As [`Budget::charge_bytes`], when the estimates on the way were too low.
    pub fn keep_bytes(&self, bytes: u64) -> Result<()> {
        self.settle_bytes(0, bytes)
    }

    /// Sets what is held when all that was charged since `before` is gone but `bytes` of it.
    ///
    /// # Errors
    /// As [`Budget::charge_bytes`], when the estimates on the way were too low.
    pub(crate) fn settle_bytes(&self, before: u64, bytes: u64) -> Result<()> {
        let (held, wanted) = (self.memory.bytes(), before.saturating_add(bytes));
        self.memory.release(held.saturating_sub(wanted));
        self.charge_bytes(wanted.saturating_sub(held))
    }

    /// An error that stops a scan from within; [`Budget::scanned`] turns it back.
    pub(crate) fn stop_scan(&self, error: Error) -> icecore_storage::Error {
        // The first one is why.
        let _is_first = self.stopped.set((error.kind(), error.limit())).is_ok();
        icecore_storage::Error::new(icecore_storage::ErrorKind::LimitExceeded, error)
    }

    /// The outcome of a scan that this budget may have stopped. Its buffers are gone.
    ///
    /// # Errors
    /// That of the budget, or of storage.
    pub(crate) fn scanned<T>(&self, outcome: icecore_storage::Result<T>) -> Result<T> {
        self.memory.release(self.buffers.swap(0, Ordering::Relaxed));
        outcome.map_err(|error| match self.stopped.get() {
            Some((kind, Some(limit))) => Error::new(*kind, error).of_limit(limit),
            Some((kind, None)) => Error::new(*kind, error),
            None => error.into(),
        })
    }

    /// Checks the deadline and the cancel switch.
    ///
    /// # Errors
    /// `Deadline` or `Cancelled`.
    pub fn check_time(&self) -> Result<()> {
        self.check_cancelled()?;
        if (self.elapsed)() > self.limits.timeout {
            let seconds = self.limits.timeout.as_secs_f64();
            return Err(Error::new(
                ErrorKind::Deadline,
                format!("query timed out after {seconds} s (limit timeout)"),
            )
            .of_limit("timeout"));
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "query was cancelled"));
        }
        Ok(())
    }
}

impl Meter for Budget {
    fn charge(&self, rows: u64) -> icecore_storage::Result<()> {
        self.charge_samples(rows).map_err(|error| self.stop_scan(error))
    }

    fn buffers(&self, bytes: u64) -> icecore_storage::Result<()> {
        // Buffers serve one series after the other: what counts is the largest.
        let held = self.buffers.load(Ordering::Relaxed);
        if bytes > held {
            self.charge_bytes(bytes - held).map_err(|error| self.stop_scan(error))?;
            self.buffers.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// An estimate of the memory that the key of a series takes.
pub(crate) fn key_bytes(key: &SeriesKey) -> u64 {
    let tags: usize = key.tags().iter().map(|(key, value)| 64 + key.len() + value.len()).sum();
    (128 + tags) as u64
}

/// Memory that is given back when this is dropped.
#[derive(Debug)]
pub struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Held<'_> {
    /// Leaves what is held charged until the query ends.
    pub fn keep(mut self) {
        self.bytes = 0;
    }

    /// Holds more.
    ///
    /// # Errors
    /// As [`Budget::charge_bytes`].
    pub fn grow(&mut self, bytes: u64) -> Result<()> {
        self.budget.charge_bytes(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.memory.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_of_a_scan_count_once_and_only_while_it_runs() {
        let budget = Budget::untimed(Limits { memory_bytes_max: 100, ..Limits::default() });
        for bytes in [40, 60, 20] {
            budget.buffers(bytes).unwrap();
        }
        assert_eq!(budget.memory_bytes(), 60);
        let outcome = budget.buffers(101);
        let error = budget.scanned(outcome).unwrap_err();
        assert_eq!((error.kind(), error.limit()), (ErrorKind::LimitExceeded, Some("query_memory_bytes_max")));
        assert_eq!(budget.memory_bytes(), 0);
    }

    #[test]
    fn scan_that_was_stopped_tells_why() {
        let budget = Budget::untimed(Limits::default());
        budget.cancel_switch().store(true, Ordering::Relaxed);
        let outcome = budget.charge(1);
        assert_eq!(budget.scanned(outcome).unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn charges_look_at_the_clock_once_in_a_while_and_notice_the_deadline() {
        let looks = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&looks);
        let elapsed = move || Duration::from_secs(clock.fetch_add(1, Ordering::Relaxed));
        let limits = Limits { timeout: Duration::from_secs(9), ..Limits::default() };
        let budget = Budget::new(limits, Arc::new(elapsed));
        let looks = || looks.load(Ordering::Relaxed);
        budget.charge_samples(1).unwrap();
        assert_eq!(looks(), 1, "the first one does");
        for _ in 0..256 {
            budget.charge_samples(0).unwrap();
        }
        assert!((3..=5).contains(&looks()), "{}", looks());
        let before = looks();
        (0..2).for_each(|_| budget.charge_samples(CLOCK_SAMPLES).unwrap());
        assert!(before < looks(), "many samples count");
        let failed = (0..1024).map(|_| budget.charge_samples(1)).find_map(std::result::Result::err).unwrap();
        assert_eq!(failed.kind(), ErrorKind::Deadline);
    }
}
