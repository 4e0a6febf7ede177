//! Which steps of a query are kept, which are missing, and how both become one answer: pure functions on values.

use std::cmp::Ordering;

use icecore_query::promql::{MatrixSeries, Sample};

/// Steps from the first to the last, both included, on a grid that key and query share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first_ns: i64,
    pub(crate) last_ns: i64,
}

impl Span {
    /// The steps of a query; `None` when there is none, or they reach further than time does.
    pub(crate) fn of(start_ns: i64, end_ns: i64, step_ns: i64) -> Option<Self> {
        let wide_ns = end_ns.checked_sub(start_ns).filter(|wide_ns| 0 <= *wide_ns && 0 < step_ns)?;
        let last_ns = end_ns - wide_ns % step_ns;
        // A neighbour on either side can be named.
        (start_ns.checked_sub(step_ns).is_some() && last_ns.checked_add(step_ns).is_some())
            .then_some(Self { first_ns: start_ns, last_ns })
    }

    /// How many there are.
    pub(crate) fn count(self, step_ns: i64) -> u64 {
        self.last_ns.abs_diff(self.first_ns) / step_ns.unsigned_abs() + 1
    }

    /// Its steps before a time.
    pub(crate) fn before(self, end_ns: i64, step_ns: i64) -> Option<Self> {
        Self::of(self.first_ns, self.last_ns.min(end_ns.saturating_sub(1)), step_ns)
    }

    /// The steps of both.
    pub(crate) fn overlap(self, other: Self) -> Option<Self> {
        let first_ns = self.first_ns.max(other.first_ns);
        let last_ns = self.last_ns.min(other.last_ns);
        (first_ns <= last_ns).then_some(Self { first_ns, last_ns })
    }

    /// The points that lie in it, of points by time.
    pub(crate) fn of_points(self, points: &[(i64, Sample)]) -> &[(i64, Sample)] {
        let start = points.partition_point(|(ts_ns, _)| *ts_ns < self.first_ns);
        let end = points.partition_point(|(ts_ns, _)| *ts_ns <= self.last_ns);
        points.get(start..end).unwrap_or_default()
    }
}

/// What of a query is done with what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// All of it is there.
    All,
    /// Some steps are there; those at one end are missing.
    Part { found: Span, missing: Span },
    /// None is there, or steps are missing at both ends: one evaluation does for all.
    Nothing,
}

/// Decides. `kept` are steps that still hold.
pub(crate) fn plan(wanted: Span, kept: Option<Span>, step_ns: i64) -> Reuse {
    let Some(found) = kept.and_then(|kept| kept.overlap(wanted)) else { return Reuse::Nothing };
    match (found.first_ns == wanted.first_ns, found.last_ns == wanted.last_ns) {
        (true, true) => Reuse::All,
        (true, false) => Reuse::Part { found, missing: Span { first_ns: found.last_ns + step_ns, ..wanted } },
        (false, true) => Reuse::Part { found, missing: Span { last_ns: found.first_ns - step_ns, ..wanted } },
        (false, false) => Reuse::Nothing,
    }
}

/// The steps to keep after a query was answered with help of `kept`, which meets it: all that were wanted, and of those that
/// are kept beside them so many that there are not more than of the larger of both. So a short range does not drive out a
/// long one, and a range that moves on leaves its past behind.
pub(crate) fn to_keep(wanted: Span, kept: Span, step_ns: i64) -> Span {
    let more = kept.count(step_ns).saturating_sub(wanted.count(step_ns));
    let more_ns = step_ns.saturating_mul(i64::try_from(more).unwrap_or(i64::MAX));
    let first_ns = kept.first_ns.max(wanted.first_ns.saturating_sub(more_ns)).min(wanted.first_ns);
    let left_ns = more_ns - (wanted.first_ns - first_ns);
    let last_ns = kept.last_ns.min(wanted.last_ns.saturating_add(left_ns)).max(wanted.last_ns);
    Span { first_ns, last_ns }
}

/// Joins series of two sides by labels, by which each side ascends. Points of both become those of one series; all steps of
/// one side lie before those of the other.
pub(crate) fn joined(left: Vec<MatrixSeries>, right: Vec<MatrixSeries>) -> Vec<MatrixSeries> {
    let mut all = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some(mine), Some(theirs)) => mine.labels.cmp(&theirs.labels),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return all,
        };
        let mine = if order == Ordering::Greater { None } else { left.next() };
        let theirs = if order == Ordering::Less { None } else { right.next() };
        all.extend(match (mine, theirs) {
            (Some(mine), Some(theirs)) => Some(in_order(mine, theirs)),
            (mine, theirs) => mine.or(theirs),
        });
    }
}

fn in_order(one: MatrixSeries, other: MatrixSeries) -> MatrixSeries {
    let start_ns = |series: &MatrixSeries| series.points.first().map(|(ts_ns, _)| *ts_ns);
    let (mut first, second) = if start_ns(&one) <= start_ns(&other) { (one, other) } else { (other, one) };
    first.points.extend(second.points);
    first
}

/// What of the series lies in a span; those without a point there are left out.
pub(crate) fn cut(series: &[MatrixSeries], span: Span) -> Vec<MatrixSeries> {
    let points = |one: &MatrixSeries| span.of_points(&one.points).to_vec();
    let cut = series.iter().map(|one| MatrixSeries { labels: one.labels.clone(), points: points(one) });
    cut.filter(|one| !one.points.is_empty()).collect()
}

/// Whether series are numbers alone, and no two have the same labels.
pub(crate) fn is_plain(series: &[MatrixSeries]) -> bool {
    let are_numbers = |one: &MatrixSeries| one.points.iter().all(|(_, sample)| sample.float().is_some());
    series.is_sorted_by(|one, next| one.labels < next.labels) && series.iter().all(are_numbers)
}
