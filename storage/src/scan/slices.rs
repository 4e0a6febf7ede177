//! Where the time of a long series is cut, so that what is read of it at once is bounded. Looks at the index alone:
//! pages say until when they reach and about how many rows of the series they hold. Knows nothing of rows.

use crate::model::{SeriesId, TimeRange};
use crate::segment::{PageInfo, Section};

/// A part of the rows of a series: the time after its last row, and how many rows it has, about.
pub(super) type Stretch = (i64, u64);

/// A page counts as so many stretches at most.
const PARTS_MAX: u64 = 64;

/// The pages of a section that may hold rows of a series in a range, as stretches of about `stretch_rows`. A page that
/// has more is taken for one whose rows are spread evenly over its time. Pages of several sources often end at the same
/// time, with all of their rows before it.
pub(super) fn stretches(
    section: &Section,
    series: SeriesId,
    range: TimeRange,
    rows_of: impl Fn(&PageInfo) -> u64,
    stretch_rows: u64,
) -> impl Iterator<Item = Stretch> {
    let pages = section.pages.get(section.pages_of(series)).unwrap_or_default();
    pages.iter().filter(move |page| reaches(page, range)).flat_map(move |page| {
        let rows = rows_of(page);
        let parts = (rows / stretch_rows.max(1) + 1).min(PARTS_MAX);
        let (start_ns, end_ns) = (page.min_ts_ns, page.max_ts_ns.saturating_add(1));
        let width_ns = end_ns.abs_diff(start_ns);
        (1..=parts).map(move |part| {
            let before_ns = u128::from(width_ns) * u128::from(part) / u128::from(parts);
            // At most the width.
            let end_ns = start_ns.saturating_add_unsigned(u64::try_from(before_ns).unwrap_or(width_ns));
            (end_ns, rows / parts + 1)
        })
    })
}

/// Times at which a range is cut, ascending: after every `rows_max` rows or so, and only where more rows follow.
pub(super) fn cut(mut stretches: Vec<Stretch>, range: TimeRange, rows_max: u64, ends: &mut Vec<i64>) {
    stretches.sort_unstable();
    let last_ns = stretches.last().map_or(range.end_ns, |(end_ns, _)| range.end_ns.min(*end_ns));
    let mut rows = 0;
    for (end_ns, more) in stretches {
        rows += more;
        if rows_max <= rows && end_ns < last_ns && ends.last().is_none_or(|last| *last < end_ns) {
            ends.push(end_ns);
            rows = 0;
        }
    }
}

/// Whether a page may hold rows in a range.
pub(super) fn reaches(page: &PageInfo, range: TimeRange) -> bool {
    page.min_ts_ns < range.end_ns && range.start_ns <= page.max_ts_ns
}

/// A guess at the rows of a page in a range that it reaches: as if they were spread evenly over its time.
pub(super) fn rows_within(page: &PageInfo, range: TimeRange) -> usize {
    let whole = TimeRange::new(page.min_ts_ns, page.max_ts_ns.saturating_add(1));
    let part = whole.intersect(&range);
    let width = |range: TimeRange| i128::from(range.end_ns) - i128::from(range.start_ns);
    let rows = i128::from(page.rows) * width(part) / width(whole).max(1);
    usize::try_from(rows + 1).unwrap_or(0).min(page.rows as usize)
}

/// A guess at the rows of one of the series of a page.
pub(super) fn rows_of_one(page: &PageInfo) -> u64 {
    let series = page.last_series.0.saturating_sub(page.first_series.0).saturating_add(1);
    u64::from(page.rows) / u64::from(series) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_ends_after_so_many_rows_within_the_range() {
        let check = |stretches: &[Stretch], expected: &[i64]| {
            let mut ends = Vec::new();
            cut(stretches.to_vec(), TimeRange::new(0, 100), 10, &mut ends);
            assert_eq!(ends, expected, "{stretches:?}");
        };
        check(&[], &[]);
        check(&[(10, 9), (20, 9), (30, 9), (40, 9), (50, 9)], &[20, 40]);
        check(&[(50, 9), (40, 9), (10, 9), (30, 9), (20, 9)], &[20, 40]);
        check(&[(10, 9), (20, 9), (30, 9), (40, 9)], &[20]);
        check(&[(10, 10), (10, 10), (20, 10), (30, 10)], &[10, 20]);
        check(&[(50, 10), (100, 10), (200, 10)], &[50]);
    }
}
