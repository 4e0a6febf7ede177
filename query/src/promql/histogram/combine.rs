//! Sums, differences and means of histograms, whatever their layouts.
//!
//! Order of events: find the layout that all can be brought to without splitting a bucket (the coarsest schema, the
//! widest zero bucket, the bounds that all have), then add up each bucket with its rounding error kept apart. So the
//! layout does not depend on the order of the terms, and counts only in their last bits.

use std::sync::Arc;

use icecore_storage::model::native::{BucketLayout, FloatBucket, ResetHint};
use icecore_storage::model::partial::{Compensated, Sum as _};

use super::HistogramValue;
use super::bounds::{coarser_index, reconciled_index, shared_bounds};

/// What came of adding histograms.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// The result.
    pub value: HistogramValue,
    /// Whether custom bounds differed, so that only those were kept that all have.
    pub is_reconciled: bool,
    /// Whether some hints said that counting began anew and others that it went on.
    pub has_conflict: bool,
}

impl HistogramValue {
    /// Adds another one. `None` when one has bounds of its own and the other has not.
    pub fn plus(&self, other: &Self) -> Option<Combined> {
        combined(&[(self, 1.0), (other, 1.0)])
    }

    /// Takes another one away; the result is a gauge, and its smallest and largest value are not known. `None` as for
    /// [`plus`](Self::plus).
    pub fn minus(&self, other: &Self) -> Option<Combined> {
        let mut found = combined(&[(self, 1.0), (other, -1.0)])?;
        found.value.hint = ResetHint::Gauge;
        Some(found)
    }

    /// The sum of some; that of none is empty. `None` as for [`plus`](Self::plus).
    pub fn sum_of(terms: &[&Self]) -> Option<Combined> {
        let terms: Vec<(&Self, f64)> = terms.iter().map(|term| (*term, 1.0)).collect();
        combined(&terms)
    }

    /// The mean of some; stays finite where the sum does not. `None` as for [`plus`](Self::plus).
    pub fn mean_of(terms: &[&Self]) -> Option<Combined> {
        let number = terms.len() as f64;
        let Combined { value: sum, is_reconciled, has_conflict } = Self::sum_of(terms)?;
        let mut value = sum.divided(number);
        let is_infinite = |hist: &Self| {
            let buckets = hist.positive.iter().chain(&hist.negative).map(|bucket| bucket.count);
            buckets.chain([hist.count, hist.sum, hist.zero_count]).any(f64::is_infinite)
        };
        if is_infinite(&value) && !terms.iter().any(|term| is_infinite(term)) {
            let scaled: Vec<(&Self, f64)> = terms.iter().map(|term| (*term, 1.0 / number)).collect();
            value.replace_infinite(&combined(&scaled)?.value);
        }
        Some(Combined { value, is_reconciled, has_conflict })
    }

    /// The same with the buckets of a coarser schema; unchanged where it is as coarse already, or has its own bounds.
    #[must_use]
    pub fn at_schema(mut self, to: i32) -> Self {
        if let BucketLayout::Exponential { schema, .. } = &mut self.layout {
            let from = std::mem::replace(schema, (*schema).min(to));
            if to < from {
                for buckets in [&mut self.positive, &mut self.negative] {
                    let mut side = Side::default();
                    side.add(buckets.iter().map(|b| (coarser_index(b.index, from, to), b.count)));
                    *buckets = side.finish();
                }
            }
        }
        self
    }

    /// The schema, where buckets are exponential.
    pub fn schema(&self) -> Option<i32> {
        match self.layout {
            BucketLayout::Exponential { schema, .. } => Some(schema),
            BucketLayout::Custom { .. } => None,
        }
    }

    /// Takes those numbers from another histogram of the same layout that are infinite here.
    fn replace_infinite(&mut self, other: &Self) {
        let pick = |mine: &mut f64, theirs: f64| *mine = if mine.is_infinite() { theirs } else { *mine };
        pick(&mut self.count, other.count);
        pick(&mut self.sum, other.sum);
        pick(&mut self.zero_count, other.zero_count);
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for bucket in mine.iter_mut() {
                let place = theirs.binary_search_by_key(&bucket.index, |other| other.index);
                let found = place.ok().and_then(|place| theirs.get(place));
                found.into_iter().for_each(|other| pick(&mut bucket.count, other.count));
            }
        }
    }
}

/// Adds up terms, each times a factor.
fn combined(terms: &[(&HistogramValue, f64)]) -> Option<Combined> {
    let Some(((first, _), others)) = terms.split_first() else {
        let value = HistogramValue::default();
        return Some(Combined { value, is_reconciled: false, has_conflict: false });
    };
    if others.iter().any(|(other, _)| other.is_custom() != first.is_custom()) {
        return None;
    }
    let layout = shared_layout(terms);
    let is_reconciled = layout_is_custom(&layout) && terms.iter().any(|(term, _)| term.layout != layout);
    let mut total = Total::default();
    for (term, factor) in terms {
        total.add(term, &layout, *factor);
    }
    let (hint, has_conflict) = shared_hint(terms);
    let (min, max) = shared_extremes(terms);
    let value = HistogramValue {
        layout,
        hint,
        count: total.count.to_f64(),
        sum: total.sum.to_f64(),
        zero_count: total.zero.to_f64(),
        positive: total.positive.finish(),
        negative: total.negative.finish(),
        min,
        max,
        is_of_cells: terms.iter().all(|(term, _)| term.is_of_cells),
    };
    Some(Combined { value, is_reconciled, has_conflict })
}

fn layout_is_custom(layout: &BucketLayout) -> bool {
    matches!(layout, BucketLayout::Custom { .. })
}

/// The finest layout that all terms, which are of one kind, can be brought to.
fn shared_layout(terms: &[(&HistogramValue, f64)]) -> BucketLayout {
    let mut layouts = terms.iter().map(|(term, _)| &term.layout);
    let Some(first) = layouts.next() else { return BucketLayout::default() };
    let mut shared = first.clone();
    for layout in layouts {
        match (&mut shared, layout) {
            (
                BucketLayout::Exponential { schema, zero_threshold },
                BucketLayout::Exponential { schema: other, zero_threshold: other_threshold },
            ) => {
                *schema = (*schema).min(*other);
                *zero_threshold = zero_threshold.max(*other_threshold);
            }
            (BucketLayout::Custom { bounds }, BucketLayout::Custom { bounds: other })
                if !Arc::ptr_eq(bounds, other) && bounds != other =>
            {
                *bounds = shared_bounds(bounds, other).into();
            }
            _ => {}
        }
    }
    if let BucketLayout::Exponential { zero_threshold, .. } = &mut shared {
        widen_over_buckets(terms, zero_threshold);
    }
    shared
}

/// Widens a zero bucket until it cuts no bucket of a term whose own zero bucket is narrower. Each pass moves it to a
/// bound of one schema more, so there are few.
fn widen_over_buckets(terms: &[(&HistogramValue, f64)], threshold: &mut f64) {
    loop {
        let before = *threshold;
        for (term, _) in terms.iter().filter(|(term, _)| zero_threshold(term) < before) {
            for bucket in term.positive.iter().chain(&term.negative) {
                let interval = term.interval(bucket);
                if interval.lower < *threshold && *threshold < interval.upper {
                    *threshold = interval.upper;
                }
            }
        }
        if *threshold == before {
            return;
        }
    }
}

fn zero_threshold(hist: &HistogramValue) -> f64 {
    match hist.layout {
        BucketLayout::Exponential { zero_threshold, .. } => zero_threshold,
        BucketLayout::Custom { .. } => 0.0,
    }
}

/// The hint of a sum, and whether the hints of its terms contradict each other.
fn shared_hint(terms: &[(&HistogramValue, f64)]) -> (ResetHint, bool) {
    let has = |hint: ResetHint| terms.iter().any(|(term, _)| term.hint == hint);
    let has_conflict = has(ResetHint::Reset) && has(ResetHint::NotReset);
    let hint = if has(ResetHint::Gauge) {
        ResetHint::Gauge
    } else if has(ResetHint::Unknown) || has_conflict {
        ResetHint::Unknown
    } else if has(ResetHint::Reset) {
        ResetHint::Reset
    } else {
        ResetHint::NotReset
    };
    (hint, has_conflict)
}

/// The smallest and largest value of a sum: known when all terms that are not empty know theirs.
fn shared_extremes(terms: &[(&HistogramValue, f64)]) -> (Option<f64>, Option<f64>) {
    if terms.iter().any(|(_, factor)| *factor < 0.0) {
        return (None, None);
    }
    let filled = || terms.iter().filter(|(term, _)| term.count != 0.0);
    let of = |pick: fn(&HistogramValue) -> Option<f64>, better: fn(f64, f64) -> f64| {
        filled().map(|(term, _)| pick(term)).reduce(|a, b| a.zip(b).map(|(a, b)| better(a, b))).flatten()
    };
    (of(|term| term.min, f64::min), of(|term| term.max, f64::max))
}

/// A sum on its way.
#[derive(Default)]
struct Total {
    count: Compensated,
    sum: Compensated,
    zero: Compensated,
    positive: Side,
    negative: Side,
}

impl Total {
    fn add(&mut self, term: &HistogramValue, layout: &BucketLayout, factor: f64) {
        self.count.add(term.count * factor);
        self.sum.add(term.sum * factor);
        self.zero.add(term.zero_count * factor);
        match (&term.layout, layout) {
            (
                BucketLayout::Exponential { schema, zero_threshold: own },
                BucketLayout::Exponential { schema: to, zero_threshold },
            ) => {
                for (buckets, side) in
                    [(&term.positive, &mut self.positive), (&term.negative, &mut self.negative)]
                {
                    let is_zero = |bucket: &&FloatBucket| {
                        own < zero_threshold && term.interval(bucket).upper <= *zero_threshold
                    };
                    // Buckets ascend, so those near zero come first.
                    let zeros = buckets.iter().take_while(is_zero).count();
                    let (near, far) = buckets.split_at_checked(zeros).unwrap_or((buckets, &[]));
                    near.iter().for_each(|bucket| self.zero.add(bucket.count * factor));
                    side.add(
                        far.iter()
                            .map(|bucket| (coarser_index(bucket.index, *schema, *to), bucket.count * factor)),
                    );
                }
            }
            (BucketLayout::Custom { bounds }, BucketLayout::Custom { bounds: to }) if bounds != to => {
                self.positive.add(
                    term.positive
                        .iter()
                        .map(|bucket| (reconciled_index(bucket.index, bounds, to), bucket.count * factor)),
                );
            }
            _ => self.positive.add(term.positive.iter().map(|b| (b.index, b.count * factor))),
        }
    }
}

/// The buckets of one side of a sum, by index.
#[derive(Default)]
struct Side {
    buckets: Vec<(i32, Compensated)>,
    /// Those of a term that were not there before it.
    new: Vec<(i32, Compensated)>,
}

impl Side {
    /// Adds buckets that ascend by index; equal ones may follow each other.
    fn add(&mut self, buckets: impl Iterator<Item = (i32, f64)>) {
        let mut place = 0;
        for (index, count) in buckets {
            while self.buckets.get(place).is_some_and(|(other, _)| *other < index) {
                place += 1;
            }
            match (self.buckets.get_mut(place), self.new.last_mut()) {
                (Some((other, sum)), _) if *other == index => sum.add(count),
                (_, Some((other, sum))) if *other == index => sum.add(count),
                _ => {
                    let mut sum = Compensated::default();
                    sum.add(count);
                    self.new.push((index, sum));
                }
            }
        }
        if !self.new.is_empty() {
            self.buckets.append(&mut self.new);
            // Two runs that ascend: one merge.
            self.buckets.sort_by_key(|(index, _)| *index);
        }
    }

    fn finish(self) -> Vec<FloatBucket> {
        let floats = self.buckets.into_iter().map(|(index, sum)| FloatBucket { index, count: sum.to_f64() });
        floats.filter(|bucket| bucket.count != 0.0).collect()
    }
}
