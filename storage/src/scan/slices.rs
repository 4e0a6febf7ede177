//! What the index says of the rows of a series: pages tell until when they reach and about how many rows of it they hold.
//! By that its time is cut ([`cut_times`](crate::rows::cut_times)), so that what is read of a long series at once is
//! bounded. Reads no page.

use crate::model::{SeriesId, TimeRange};
use crate::rows::Stretch;
use crate::segment::{PageInfo, Section};

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

/// Whether a page may hold rows in a range.
pub(super) fn reaches(page: &PageInfo, range: TimeRange) -> bool {
    page.min_ts_ns < range.end_ns && range.start_ns <= page.max_ts_ns
}

/// How many of some series, given in ascending order, a page may hold rows of.
pub(super) fn held_of(page: &PageInfo, series: &[SeriesId]) -> u64 {
    let start = series.partition_point(|series| *series < page.first_series);
    let rest = series.get(start..).unwrap_or_default();
    rest.partition_point(|series| *series <= page.last_series) as u64
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
