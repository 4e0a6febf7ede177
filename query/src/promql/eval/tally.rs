//! The numbers of one group at one step, taken one after the other: what both ways through an aggregation share, so
//! that their results are equal bit by bit. Order matters to the last bits of sums and deviations.

use icecore_storage::model::partial::{Compensated, Sum as _};

use super::super::ast::AggregateOp;

/// An aggregate of the numbers so far, of which there is at least one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tally {
    Count(u64),
    Group,
    Sum(Compensated),
    /// With a mean that does not overflow where the sum does; it counts when all numbers are finite.
    Avg {
        sum: Compensated,
        mean: f64,
        count: u64,
        is_finite: bool,
    },
    Min(f64),
    Max(f64),
    Deviation {
        mean: f64,
        m2: f64,
        count: u64,
    },
}

impl Tally {
    /// The aggregate of one number; `None` for operators that need more than a tally.
    pub(super) fn of(op: AggregateOp, value: f64) -> Option<Self> {
        let zero = Compensated::default();
        let mut tally = match op {
            AggregateOp::Count => Self::Count(0),
            AggregateOp::Group => Self::Group,
            AggregateOp::Sum => Self::Sum(zero),
            AggregateOp::Avg => Self::Avg { sum: zero, mean: 0.0, count: 0, is_finite: true },
            AggregateOp::Min => Self::Min(value),
            AggregateOp::Max => Self::Max(value),
            AggregateOp::Stddev | AggregateOp::Stdvar => Self::Deviation { mean: 0.0, m2: 0.0, count: 0 },
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::CountValues
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => return None,
        };
        tally.add(value);
        Some(tally)
    }

    /// Takes the next number.
    pub(super) fn add(&mut self, value: f64) {
        match self {
            Self::Count(count) => *count += 1,
            Self::Group => {}
            Self::Sum(sum) => sum.add(value),
            Self::Avg { sum, mean, count, is_finite } => {
                sum.add(value);
                *count += 1;
                *is_finite &= value.is_finite();
                let count = *count as f64;
                *mean += value / count - *mean / count;
            }
            Self::Min(min) if value < *min || min.is_nan() => *min = value,
            Self::Max(max) if value > *max || max.is_nan() => *max = value,
            Self::Min(_) | Self::Max(_) => {}
            Self::Deviation { mean, m2, count } => {
                *count += 1;
                let distance = value - *mean;
                *mean += distance / *count as f64;
                *m2 += distance * (value - *mean);
            }
        }
    }

    /// The value of the operator.
    pub(super) fn value(&self, op: AggregateOp) -> f64 {
        match self {
            Self::Count(count) => *count as f64,
            Self::Group => 1.0,
            Self::Sum(sum) => sum.to_f64(),
            Self::Avg { sum, mean, count, is_finite } => {
                let total = sum.to_f64();
                if total.is_infinite() && *is_finite { *mean } else { total / *count as f64 }
            }
            Self::Min(value) | Self::Max(value) => *value,
            Self::Deviation { m2, count, .. } => {
                let variance = m2 / *count as f64;
                if op == AggregateOp::Stddev { variance.sqrt() } else { variance }
            }
        }
    }
}

/// Whether some other order of these numbers could give another result. Sums of whole numbers are exact as long as
/// none of their parts can pass 2^53; of equal zeros and of NaNs the first counts.
pub(super) fn depends_on_order(op: AggregateOp, values: impl IntoIterator<Item = f64>) -> bool {
    const EXACT_MAX: f64 = (1_u64 << 53) as f64;
    let mut values = values.into_iter();
    match op {
        AggregateOp::Count | AggregateOp::Group | AggregateOp::Quantile => false,
        AggregateOp::Sum | AggregateOp::Avg => {
            let mut total = 0.0;
            values.any(|value| {
                total += value.abs();
                value.fract() != 0.0 || total > EXACT_MAX || total.is_nan()
            })
        }
        AggregateOp::Min | AggregateOp::Max => {
            values.any(|value| value.is_nan() || (value == 0.0 && value.is_sign_negative()))
        }
        AggregateOp::Stddev
        | AggregateOp::Stdvar
        | AggregateOp::Topk
        | AggregateOp::Bottomk
        | AggregateOp::CountValues
        | AggregateOp::Limitk
        | AggregateOp::LimitRatio => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value_of(op: AggregateOp, values: &[f64]) -> u64 {
        let (first, rest) = values.split_first().unwrap();
        let mut tally = Tally::of(op, *first).unwrap();
        rest.iter().for_each(|value| tally.add(*value));
        tally.value(op).to_bits()
    }

    fn number() -> impl Strategy<Value = f64> {
        let special = prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            9_007_199_254_740_991.0,
            -4_503_599_627_370_497.0,
        ]);
        prop_oneof![4 => (-1000_i32..1000).prop_map(f64::from), 1 => special, 1 => -1e3..1e3]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn depends_on_order_is_told_wherever_another_order_gives_other_bits(
            values in proptest::collection::vec(number(), 1..12),
            seed in any::<u64>(),
        ) {
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|value| (value.to_bits() ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for op in [AggregateOp::Count, AggregateOp::Group, AggregateOp::Sum, AggregateOp::Avg, AggregateOp::Min, AggregateOp::Max] {
                if !depends_on_order(op, values.iter().copied()) {
                    prop_assert_eq!(value_of(op, &values), value_of(op, &shuffled), "{:?}", op);
                }
            }
        }
    }

    #[test]
    fn average_of_numbers_whose_sum_overflows_is_finite() {
        let average = |values: &[f64]| f64::from_bits(value_of(AggregateOp::Avg, values));
        assert_eq!(average(&[f64::MAX, f64::MAX]), f64::MAX);
        assert_eq!(average(&[-f64::MAX, -f64::MAX]), -f64::MAX);
        assert_eq!(average(&[f64::MAX, f64::INFINITY]), f64::INFINITY);
    }
}
