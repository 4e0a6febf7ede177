//! Where buckets lie: bounds of an index, and the index of a coarser layout.

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
    let per_octave = 1_i64 << schema.min(8);
    let (octave, within) = (index.div_euclid(per_octave), index.rem_euclid(per_octave));
    if octave == 1024 && within == 0 {
        return f64::MAX;
    }
    // Two factors, because 2^1024 alone is not a float although fraction * 2^1024 can be.
    let fraction = 0.5 * (within as f64 / per_octave as f64).exp2();
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
