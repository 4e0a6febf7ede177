//! What one query may use: time, samples, series, points. Every operator charges it; it answers an error, never a
//! crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use icecore_storage::scan::Meter;
use regex::{Regex, RegexBuilder};

use crate::{Error, ErrorKind, Result};

/// Bytes the compiled patterns of one text may take together.
const PATTERNS_BYTES_MAX: usize = 16 << 20;
/// Bytes a compiled pattern may take, tried one after the other: what it is charged is the first that is enough.
const PATTERN_BYTES: [usize; 3] = [16 << 10, 128 << 10, 1 << 20];

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
    /// Points (or rows times columns) in the result.
    pub points_max: u64,
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
            series_max: 100_000,
            points_max: 10_000_000,
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
    points: AtomicU64,
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
            points: AtomicU64::new(0),
            is_cancelled: Arc::new(AtomicBool::new(false)),
        }
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

    /// Samples, rows and cells read so far.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Charges samples read and checks the time.
    ///
    /// # Errors
    /// `LimitExceeded`, `Deadline` or `Cancelled`.
    pub fn charge_samples(&self, count: u64) -> Result<()> {
        let total = self.samples.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        if total > self.limits.samples_max {
            let max = self.limits.samples_max;
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "query processes more than {max} samples (limit samples_max); narrow the selector or the range"
                ),
            ));
        }
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
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "query result has more than {max} points (limit points_max); use a larger step or fewer series"
                ),
            ));
        }
        self.check_time()
    }

    /// Checks the deadline and the cancel switch.
    ///
    /// # Errors
    /// `Deadline` or `Cancelled`.
    pub fn check_time(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "query was cancelled"));
        }
        if (self.elapsed)() > self.limits.timeout {
            let seconds = self.limits.timeout.as_secs_f64();
            return Err(Error::new(
                ErrorKind::Deadline,
                format!("query timed out after {seconds} s (limit timeout)"),
            ));
        }
        Ok(())
    }
}

impl Meter for Budget {
    fn charge(&self, rows: u64) -> icecore_storage::Result<()> {
        self.charge_samples(rows).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::LimitExceeded => icecore_storage::ErrorKind::LimitExceeded,
                ErrorKind::Deadline => icecore_storage::ErrorKind::Deadline,
                _ => icecore_storage::ErrorKind::Unavailable,
            };
            icecore_storage::Error::new(kind, error)
        })
    }
}
