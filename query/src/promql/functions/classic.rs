//! Quantiles and fractions of classic histograms: cumulative `le` buckets, one float series each.

/// Differences of counts, relative, that rates of equal counters may show.
const ROUNDING: f64 = 1e-12;

/// A cumulative bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct LeBucket {
    /// Upper bound, inclusive.
    pub(crate) upper: f64,
    /// Number of values up to it.
    pub(crate) count: f64,
}

/// The quantile by linear interpolation within a bucket, as Prometheus computes it, and whether counts had to be
/// lifted for it.
pub(crate) fn bucket_quantile(q: f64, mut buckets: Vec<LeBucket>) -> (f64, bool) {
    let is_fixed = tidy(&mut buckets);
    (quantile_of(q, &buckets), is_fixed)
}

fn quantile_of(q: f64, buckets: &[LeBucket]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let (Some(top), Some(below_top)) = (buckets.last(), buckets.iter().rev().nth(1)) else { return f64::NAN };
    if top.upper != f64::INFINITY || top.count == 0.0 || top.count.is_nan() {
        return f64::NAN;
    }
    let rank = q * top.count;
    let index = buckets.iter().take(buckets.len() - 1).position(|bucket| bucket.count >= rank);
    let Some((index, bucket)) = index.and_then(|index| Some((index, buckets.get(index)?))) else {
        return below_top.upper;
    };
    let Some(before) = index.checked_sub(1).and_then(|before| buckets.get(before)) else {
        // Values of the first bucket are taken to begin at zero.
        return if bucket.upper <= 0.0 { bucket.upper } else { bucket.upper * (rank / bucket.count) };
    };
    before.upper + (bucket.upper - before.upper) * ((rank - before.count) / (bucket.count - before.count))
}

/// Share of the values in `(lower, upper]`, by linear interpolation within buckets.
pub(crate) fn bucket_fraction(lower: f64, upper: f64, mut buckets: Vec<LeBucket>) -> f64 {
    tidy(&mut buckets);
    let Some(top) = buckets.last().filter(|top| top.upper == f64::INFINITY) else { return f64::NAN };
    if top.count == 0.0 || top.count.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (values_up_to(upper, &buckets) - values_up_to(lower, &buckets)) / top.count
}

/// How many values lie up to a bound.
fn values_up_to(bound: f64, buckets: &[LeBucket]) -> f64 {
    let mut before = LeBucket { upper: f64::NEG_INFINITY, count: 0.0 };
    for bucket in buckets {
        let is_first = before.upper == f64::NEG_INFINITY;
        if is_first && bucket.upper > 0.0 {
            before.upper = 0.0;
        }
        if bound <= before.upper {
            return before.count;
        }
        if bound <= bucket.upper {
            return match (before.upper.is_infinite(), bucket.upper.is_infinite()) {
                // Buckets without end cannot be cut: the lowest counts whole, the highest not at all.
                (true, _) => bucket.count,
                (false, true) if bound < bucket.upper => before.count,
                (false, true) => bucket.count,
                (false, false) => {
                    let share = (bound - before.upper) / (bucket.upper - before.upper);
                    before.count + (bucket.count - before.count) * share
                }
            };
        }
        before = *bucket;
    }
    before.count
}

/// Sorts, joins equal bounds, and lifts counts that are below an earlier one (scrapes are not atomic). Tells whether
/// any was lifted by more than rounding explains.
fn tidy(buckets: &mut Vec<LeBucket>) -> bool {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    buckets.dedup_by(|next, kept| {
        let is_equal = next.upper == kept.upper;
        if is_equal {
            kept.count += next.count;
        }
        is_equal
    });
    let mut most = f64::NEG_INFINITY;
    let mut is_fixed = false;
    for bucket in buckets {
        is_fixed |= bucket.count < most - ROUNDING * most.abs();
        most = most.max(bucket.count);
        bucket.count = most;
    }
    is_fixed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(q: f64, buckets: &[(f64, f64)]) -> f64 {
        let buckets = buckets.iter().map(|(upper, count)| LeBucket { upper: *upper, count: *count });
        bucket_quantile(q, buckets.collect()).0
    }

    #[test]
    fn bucket_quantile_interpolates_within_a_bucket() {
        let buckets = [(0.1, 5.0), (0.2, 15.0), (f64::INFINITY, 20.0)];
        assert!((check(0.5, &buckets) - 0.15).abs() < 1e-12);
        assert!((check(0.1, &buckets) - 0.04).abs() < 1e-12);
        assert_eq!(check(1.0, &buckets), 0.2);
        assert!(check(0.5, &buckets[..2]).is_nan());
    }
}
