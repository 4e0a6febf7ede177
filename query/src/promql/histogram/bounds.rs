//! Where buckets lie: bounds of an index, and the index of a coarser layout.

use std::sync::LazyLock;

use icecore_storage::model::native::SCHEMA_MAX;

/// The bounds of the finest schema in one octave, scaled to `[0.5, 1)`; those of coarser ones are among them.
static OCTAVE: LazyLock<Vec<f64>> =
    LazyLock::new(|| (0..1 << SCHEMA_MAX).map(|k| 0.5 * (f64::from(k) / 256.0).exp2()).collect());

/// Which bounds of an interval belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// `(lower, upper]`
    Upper,
    /// `[lower, upper)`
    Lower,
    /// `[lower, upper]`
    Both,
}

/// A bucket by its bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower bound.
    pub lower: f64,
    /// Its upper bound.
    pub upper: f64,
    /// Number of values in it.
    pub count: f64,
    /// Which bounds belong to it.
    pub closed: Closed,
}

impl Interval {
    /// The same on the other side of zero.
    pub(super) fn mirrored(self) -> Self {
        Self { lower: -self.upper, upper: -self.lower, closed: Closed::Lower, ..self }
    }

    /// Which share of it lies below `value`, which is inside; by the logarithm.
    pub(super) fn exponential_share(&self, value: f64) -> f64 {
        let log = |bound: f64| bound.abs().log2();
        let (lower, upper) = (log(self.lower), log(self.upper));
        let share = (log(value) - lower) / (upper - lower);
        if share.is_nan() { 1.0 } else { share }
    }

    /// As [`exponential_share`](Self::exponential_share), in equal steps.
    pub(super) fn linear_share(&self, value: f64) -> f64 {
        let share = (value - self.lower) / (self.upper - self.lower);
        if share.is_nan() { 1.0 } else { share }
    }
}

/// The upper bound of an exponential bucket. That of the last one which holds finite values is the largest float.
pub(super) fn exponential_upper(schema: i32, index: i64) -> f64 {
    if schema <= 0 {
        // Schemas are checked: the shift is at most 4.
        let exponent = index << schema.unsigned_abs().min(4);
        return if exponent == 1024 { f64::MAX } else { power_of_two(exponent) };
    }
    let schema = schema.min(SCHEMA_MAX);
    let per_octave = 1_i64 << schema;
    let (octave, within) = (index.div_euclid(per_octave), index.rem_euclid(per_octave));
    if octave == 1024 && within == 0 {
        return f64::MAX;
    }
    // Two factors, because 2^1024 alone is not a float although fraction * 2^1024 can be.
    let place = usize::try_from(within << (SCHEMA_MAX - schema)).ok();
    let fraction = place.and_then(|place| OCTAVE.get(place)).copied().unwrap_or(0.5);
    fraction * 2.0 * power_of_two(octave)
}

fn power_of_two(exponent: i64) -> f64 {
    // Beyond these it is infinite or zero.
    (exponent.clamp(-1100, 1100) as f64).exp2()
}

/// Both bounds of a bucket of a custom layout.
pub(super) fn custom_bounds(bounds: &[f64], index: i32) -> (f64, f64) {
    let at = |index: i64| usize::try_from(index).ok().and_then(|index| bounds.get(index)).copied();
    let index = i64::from(index);
    (at(index - 1).unwrap_or(f64::NEG_INFINITY), at(index).unwrap_or(f64::INFINITY))
}

/// The index of an exponential bucket in a coarser schema.
pub(super) fn coarser_index(index: i32, from: i32, to: i32) -> i32 {
    let coarse = ((i64::from(index) - 1) >> (from - to).clamp(0, 12)) + 1;
    // Not farther from zero than the index was.
    i32::try_from(coarse).unwrap_or(index)
}

/// The index of a custom bucket among bounds of which all are bounds of its own layout too.
pub(super) fn reconciled_index(index: i32, from: &[f64], to: &[f64]) -> i32 {
    let (_, upper) = custom_bounds(from, index);
    i32::try_from(to.partition_point(|bound| *bound < upper)).unwrap_or(i32::MAX)
}

/// The bounds that both have. Both ascend.
pub(super) fn shared_bounds(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter()
        .filter(|bound| right.binary_search_by(|other| other.total_cmp(bound)).is_ok())
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use icecore_storage::model::histogram::bucket_upper;

    use super::*;

    #[test]
    fn bounds_of_schema_six_are_those_of_cells() {
        for index in -70_000..65_536 {
            assert_eq!(
                exponential_upper(6, i64::from(index)).to_bits(),
                bucket_upper(index).to_bits(),
                "{index}"
            );
        }
    }

    #[test]
    fn bounds_of_all_schemas_are_powers() {
        assert_eq!(exponential_upper(-4, 1), 65_536.0);
        assert_eq!(exponential_upper(-1, -1), 0.25);
        assert_eq!(exponential_upper(0, 3), 8.0);
        assert_eq!(exponential_upper(1, 1), std::f64::consts::SQRT_2);
        assert_eq!(exponential_upper(8, 256), 2.0);
        // The last bucket that holds finite values, and those beyond.
        for schema in 0..=8 {
            let last = 1024_i64 << schema;
            assert_eq!(exponential_upper(schema, last), f64::MAX);
            assert_eq!(exponential_upper(schema, last + (1 << schema)), f64::INFINITY);
            assert_eq!(exponential_upper(schema, i64::from(i32::MIN) - 1), 0.0);
        }
        assert_eq!(exponential_upper(-4, 64), f64::MAX);
        assert_eq!(exponential_upper(-4, i64::from(i32::MAX)), f64::INFINITY);
    }

    #[test]
    fn coarser_index_holds_the_finer_bucket() {
        for from in -3..=8 {
            for to in -4..from {
                for index in [-1000, -3, -2, -1, 0, 1, 2, 3, 4, 5, 1000] {
                    let coarse = i64::from(coarser_index(index, from, to));
                    let index = i64::from(index);
                    assert!(exponential_upper(to, coarse - 1) <= exponential_upper(from, index - 1));
                    assert!(exponential_upper(from, index) <= exponential_upper(to, coarse));
                }
            }
        }
        assert_eq!(coarser_index(i32::MIN, 8, -4), -524_288);
    }

    #[test]
    fn reconciled_index_keeps_values_below_the_same_bound() {
        let (own, shared) = ([1.0, 2.0, 3.0, 4.0], [2.0, 4.0]);
        let found: Vec<i32> = (0..=4).map(|index| reconciled_index(index, &own, &shared)).collect();
        assert_eq!(found, [0, 0, 1, 1, 2]);
        assert_eq!(shared_bounds(&own, &[0.0, 2.0, 4.0, 5.0]), shared);
    }
}
