//! A real engine on a simulated disk, with a clock that stands where it is put.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use icecore::Retention;
use icecore::ingest::line::{LineLimits, Precision, decode};
use icecore_storage::Engine;
use icecore_storage::clock::ManualClock;
use icecore_storage::engine::Env;
use icecore_storage::fs::SimFs;
use icecore_storage::model::ValueRef;
use icecore_storage::options::Options;

/// Seeds of a law: so many for `cargo test`, for `ICECORE_TEST_SCALE=long` and `=nightly`, or the one in
/// `ICECORE_TEST_SEED`.
pub(super) fn seeds(short: u64, long: u64, nightly: u64) -> RangeInclusive<u64> {
    let count = match std::env::var("ICECORE_TEST_SCALE").as_deref() {
        Ok("nightly") => nightly,
        Ok("long") => long,
        _ => short,
    };
    let seed = std::env::var("ICECORE_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    seed.map_or(1..=count, |seed: u64| seed..=seed)
}

/// Numbers from a seed.
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Any number less than `bound`, however large that is; 0 of 0. From the high bits, as the low ones of this generator
    /// repeat soon.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// Less than `bound_ns`, in steps of a microsecond.
    pub(super) fn ns(&mut self, bound_ns: i64) -> i64 {
        i64::try_from(self.below(u64::try_from(bound_ns / 1000).unwrap()) * 1000).unwrap()
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }

    /// In `[0, 1)`.
    pub(super) fn share(&mut self) -> f64 {
        self.below(1 << 31) as f64 / (1_u64 << 31) as f64
    }
}

pub(super) fn open(clock: &Arc<ManualClock>, retention: Retention) -> Engine {
    let env = Env { fs: Arc::new(SimFs::default()), clock: Arc::clone(clock) as _ };
    let options = Options { free_bytes_min: 0, ..Options::default() };
    Engine::open(env, Path::new("/db"), options, retention).unwrap()
}

/// Stands for NaN, which line protocol does not take and remote write does.
pub(super) const NAN_MARK: f64 = 1e300;

/// Writes line protocol in nanoseconds; all of it is taken.
pub(super) fn write(engine: &Engine, lines: &str) {
    let mut decoded = decode(lines.as_bytes(), Precision::Ns, 0, &LineLimits::default());
    assert_eq!(decoded.rejected_count, 0, "{lines}");
    for field in &mut decoded.batch.fields {
        if field.value == ValueRef::Float(NAN_MARK) {
            field.value = ValueRef::Float(f64::NAN);
        }
    }
    let report = engine.write(&decoded.batch).unwrap();
    assert_eq!(report.rejected, []);
}
