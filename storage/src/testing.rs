//! How much the large tests do, told by the environment (`docs/reliability.md` has the commands): a plain
//! `cargo test` runs the short form. Compiled for tests only.

/// Sizes of the large tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Seconds, for every `cargo test`.
    Short,
    /// Minutes: the full numbers of a pull request.
    Long,
    /// Hours.
    Nightly,
}

impl Scale {
    /// What `ICECORE_TEST_SCALE` says: `long`, `nightly`, or nothing for the short form.
    pub(crate) fn asked() -> Self {
        match std::env::var("ICECORE_TEST_SCALE").as_deref() {
            Err(_) | Ok("" | "short") => Self::Short,
            Ok("long") => Self::Long,
            Ok("nightly") => Self::Nightly,
            Ok(other) => panic!("ICECORE_TEST_SCALE is {other}; known are short, long and nightly"),
        }
    }

    /// The size for this scale.
    pub(crate) fn of<V>(self, short: V, long: V, nightly: V) -> V {
        match self {
            Self::Short => short,
            Self::Long => long,
            Self::Nightly => nightly,
        }
    }
}

/// Seeds of a random test: `1..=count`, or the one in `ICECORE_TEST_SEED`, to replay what a failure printed.
pub(crate) fn seeds(count: u64) -> std::ops::RangeInclusive<u64> {
    match std::env::var("ICECORE_TEST_SEED").ok().map(|seed| seed.parse()) {
        None => 1..=count,
        Some(Ok(seed)) => seed..=seed,
        Some(Err(error)) => panic!("ICECORE_TEST_SEED: {error}"),
    }
}
