//! Plans which tier answers which part of the windows of a request: the coarsest mix that is still exact.
//!
//! All starts and ends of the windows cut time into elementary intervals; each that lies in a window is covered once,
//! by [`Piece`]s, and the windows are runs of elementary intervals. Within an interval the plan goes from left to
//! right and takes the coarsest cells that begin where it stands, else raw rows up to where cells begin. Because a
//! cell keeps the sample on its left edge apart, an interval that is open on the left begins with a cell without its
//! edge, and the sample on its right end is the edge of the next cell.
//!
//! Where raw rows are gone, a window that ends between the edges of the finest tier left is first widened outwards.
//! Pure: knows nothing of series, files or the clock. Linear in windows and pieces.

use std::ops::Range;

use super::{Bounds, Resolution, Window};
use crate::model::{HOUR_NS, MINUTE_NS, SECOND_NS, Tier, TimeRange, ceil_to, floor_to};
use crate::{Error, ErrorKind, Result};

/// What there is to read.
#[derive(Debug, Clone, Copy)]
pub struct Available<'a> {
    /// Spans that may be answered from cells, for 1m, 5m and 1h: sorted, disjoint, on the tier's edges.
    pub cells: [&'a [TimeRange]; 3],
    /// Data before these times is gone by retention, for raw, 1m, 5m and 1h; `i64::MIN`: none is.
    pub floors_ns: [i64; 4],
    /// No raw row that is there is older.
    pub rows_from_ns: i64,
}

/// A part of an elementary interval and where it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Raw rows.
    Rows {
        /// Their times, half-open.
        range: TimeRange,
    },
    /// Whole cells, each with its interior and the sample on its left edge.
    Cells {
        /// Their tier.
        tier: Tier,
        /// Their left edges, half-open, on the tier's edges.
        range: TimeRange,
        /// Whether the sample on the left edge of the first cell belongs to the interval.
        with_first_edge: bool,
    },
    /// Only the sample on the left edge of one cell.
    Edge {
        /// The tier.
        tier: Tier,
        /// The left edge.
        at_ns: i64,
    },
}

/// An interval that no window divides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elementary {
    /// The times inside, half-open whatever the bounds of the request: `(s, e]` is `[s + 1 ns, e + 1 ns)`.
    pub range: TimeRange,
    /// Where it is read: positions in [`Plan::pieces`].
    pub pieces: Range<usize>,
}

/// How windows are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The windows as they are answered, one for each asked, maybe widened.
    pub windows: Vec<Window>,
    /// The coarsest tier to whose edges a window was widened.
    pub rounded: Option<Tier>,
    /// Raw rows before this time are gone and some window asked for such time.
    pub raw_gone_before_ns: Option<i64>,
    /// All pieces, ascending in time. No sample is in two of them.
    pub pieces: Vec<Piece>,
    /// The elementary intervals that lie in some window, ascending.
    pub elementary: Vec<Elementary>,
    /// The elementary intervals of each window: positions in [`Plan::elementary`], as
    /// [`slide`](super::sliding::slide) takes them.
    pub spans: Vec<Range<usize>>,
}

/// Plans how `windows` are answered. Neither their starts nor their ends may decrease.
///
/// # Errors
/// `Unavailable` when a window would have to be widened under [`Resolution::Strict`]; `InvalidInput` when starts or
/// ends decrease.
pub fn plan(
    windows: &[Window],
    bounds: Bounds,
    available: &Available<'_>,
    resolution: Resolution,
) -> Result<Plan> {
    plan_seen(windows, bounds, (available, None), resolution)
}

/// As [`plan`], for series of which rules of retention hide a part of what is `available`: windows are widened as if
/// only what is `seen` were there, and nothing is answered before the last of its floors. Within these windows all that
/// is available is read, since it gives the same numbers, also while cells that are seen wait to be computed again.
///
/// # Errors
/// As [`plan`].
pub fn plan_seen(
    windows: &[Window],
    bounds: Bounds,
    (available, seen): (&Available<'_>, Option<&Available<'_>>),
    resolution: Resolution,
) -> Result<Plan> {
    let decreases = |pair: &[Window]| match pair {
        [left, right] => right.start_ns < left.start_ns || right.end_ns < left.end_ns,
        _ => false,
    };
    if windows.windows(2).any(decreases) {
        return Err(Error::invalid("starts or ends of windows decrease"));
    }
    let mut plan = Plan { windows: windows.to_vec(), ..Plan::default() };
    let tiers = Tiers::new(available);
    if let Some(seen) = seen {
        Tiers::new(seen).widen(&mut plan, resolution)?;
    }
    tiers.widen(&mut plan, resolution)?;
    let seen_from_ns = seen.and_then(|seen| seen.floors_ns.into_iter().min()).unwrap_or(i64::MIN);
    let points = points(&plan.windows);
    let shift_ns = match bounds {
        Bounds::LeftOpen => 1,
        Bounds::RightOpen => 0,
    };
    let numbers = add_elementary(&mut plan, &points, (shift_ns, seen_from_ns), tiers);
    let number_of = |ts_ns: i64| {
        let place = points.partition_point(|point| *point < ts_ns);
        numbers.get(place).copied().unwrap_or_default()
    };
    let span_of = |window: &Window| {
        if is_empty(window) { 0..0 } else { number_of(window.start_ns)..number_of(window.end_ns) }
    };
    plan.spans = plan.windows.iter().map(span_of).collect();
    // An empty window stays where its neighbours are, so that the starts of the runs do not decrease either.
    let mut last = 0;
    for span in &mut plan.spans {
        if span.end <= span.start {
            *span = last..last;
        }
        last = span.start;
    }
    Ok(plan)
}

fn is_empty(window: &Window) -> bool {
    window.end_ns <= window.start_ns
}

/// All starts and ends, ascending, each once. Linear, because both are sorted already.
fn points(windows: &[Window]) -> Vec<i64> {
    let windows = || windows.iter().filter(|window| !is_empty(window));
    let mut starts = windows().map(|window| window.start_ns).peekable();
    let mut ends = windows().map(|window| window.end_ns).peekable();
    let mut points = Vec::with_capacity(2 * starts.size_hint().0);
    while let (Some(start_ns), Some(end_ns)) = (starts.peek(), ends.peek()) {
        points.extend(if start_ns <= end_ns { starts.next() } else { ends.next() });
    }
    points.extend(starts.chain(ends));
    points.dedup();
    points
}

/// Covers each gap between two points that lies in a window. Returns, for each point, how many such gaps lie before
/// it.
fn add_elementary(
    plan: &mut Plan,
    points: &[i64],
    (shift_ns, seen_from_ns): (i64, i64),
    mut tiers: Tiers<'_>,
) -> Vec<usize> {
    let windows = || plan.windows.iter().filter(|window| !is_empty(window));
    let mut starts = windows().map(|window| window.start_ns).peekable();
    let mut ends = windows().map(|window| window.end_ns).peekable();
    let (mut inside, mut started, mut ended) = (Vec::with_capacity(points.len()), 0_usize, 0_usize);
    for point in points {
        while starts.next_if(|start_ns| start_ns <= point).is_some() {
            started += 1;
        }
        while ends.next_if(|end_ns| end_ns <= point).is_some() {
            ended += 1;
        }
        inside.push(ended < started);
    }
    let mut numbers = Vec::with_capacity(points.len());
    let nexts = points.iter().skip(1).copied().chain([i64::MAX]);
    for ((point, next), is_inside) in points.iter().zip(nexts).zip(inside) {
        numbers.push(plan.elementary.len());
        if is_inside {
            let range = TimeRange::new(point.saturating_add(shift_ns), next.saturating_add(shift_ns));
            let first = plan.pieces.len();
            let seen = TimeRange::new(range.start_ns.max(seen_from_ns), range.end_ns);
            tiers.cover(seen, &mut plan.pieces);
            plan.elementary.push(Elementary { range, pieces: first..plan.pieces.len() });
        }
    }
    numbers
}

/// One cell tier: where it can be used, and how far the plan has come.
#[derive(Debug, Clone, Copy)]
struct CellTier<'a> {
    tier: Tier,
    width_ns: i64,
    floor_ns: i64,
    /// Spans that do not end before the time the plan has come to.
    spans: &'a [TimeRange],
}

impl<'a> CellTier<'a> {
    fn new(tier: Tier, spans: &'a [TimeRange], floor_ns: i64) -> Self {
        // A finer tier may only begin where a coarser cell ends, or else the cells on both sides of the seam
        // would overlap; all coarser cells end with the hour.
        Self { tier, width_ns: tier.width_ns(), floor_ns: ceil_to(floor_ns, HOUR_NS), spans }
    }

    /// Forgets the spans that end at or before `ts_ns`.
    fn advance(&mut self, ts_ns: i64) {
        while let Some((span, rest)) = self.spans.split_first()
            && span.end_ns <= ts_ns
        {
            self.spans = rest;
        }
    }

    /// Whether the cell with this left edge can be used. Times may not decrease from call to call.
    fn has(&mut self, left_ns: i64) -> bool {
        self.advance(left_ns);
        self.floor_ns <= left_ns && self.spans.first().is_some_and(|span| span.contains(left_ns))
    }

    /// The first run of cells inside `range`, as left edges. The first cell may begin 1 ns before the range:
    /// without its edge it is still inside.
    fn next_run(&mut self, range: TimeRange) -> Option<TimeRange> {
        let from_ns = ceil_to(range.start_ns.saturating_sub(1), self.width_ns).max(self.floor_ns);
        self.advance(from_ns);
        let span = self.spans.first()?;
        let left_ns = ceil_to(from_ns.max(span.start_ns), self.width_ns);
        let end_ns = floor_to(span.end_ns.min(range.end_ns), self.width_ns);
        (left_ns < end_ns).then(|| TimeRange::new(left_ns, end_ns))
    }
}

/// All tiers.
#[derive(Debug, Clone, Copy)]
struct Tiers<'a> {
    raw_floor_ns: i64,
    /// Raw rows begin here, or later.
    rows_from_ns: i64,
    /// Coarsest first.
    cells: [CellTier<'a>; 3],
}

impl<'a> Tiers<'a> {
    fn new(available: &Available<'a>) -> Self {
        let [raw_floor_ns, m1_ns, m5_ns, h1_ns] = available.floors_ns;
        let [m1, m5, h1] = available.cells;
        let cells = [
            CellTier::new(Tier::H1, h1, h1_ns),
            CellTier::new(Tier::M5, m5, m5_ns),
            CellTier::new(Tier::M1, m1, m1_ns),
        ];
        Self { raw_floor_ns, rows_from_ns: raw_floor_ns.max(available.rows_from_ns), cells }
    }

    /// Widens the windows that end, or start, inside a cell whose raw rows are gone.
    fn widen(&self, plan: &mut Plan, resolution: Resolution) -> Result<()> {
        let (mut at_start, mut at_end) = (*self, *self);
        for window in plan.windows.iter_mut().filter(|window| !is_empty(window)) {
            if window.start_ns < self.raw_floor_ns {
                plan.raw_gone_before_ns = plan.raw_gone_before_ns.max(Some(self.raw_floor_ns));
            }
            let wider = [at_start.cell_around(window.start_ns), at_end.cell_around(window.end_ns)];
            let Some(tier) = wider.iter().flatten().map(|(tier, _)| *tier).max() else { continue };
            if resolution == Resolution::Strict {
                return Err(self.refuse(window, tier));
            }
            plan.rounded = plan.rounded.max(Some(tier));
            let [start, end] = wider;
            window.start_ns = start.map_or(window.start_ns, |(_, cell)| cell.start_ns);
            window.end_ns = end.map_or(window.end_ns, |(_, cell)| cell.end_ns);
        }
        // Neighbours that were widened to different tiers keep their order.
        let mut start_ns = i64::MAX;
        for window in plan.windows.iter_mut().rev().filter(|window| !is_empty(window)) {
            start_ns = start_ns.min(window.start_ns);
            window.start_ns = start_ns;
        }
        let mut end_ns = i64::MIN;
        for window in plan.windows.iter_mut().filter(|window| !is_empty(window)) {
            end_ns = end_ns.max(window.end_ns);
            window.end_ns = end_ns;
        }
        Ok(())
    }

    /// The cell of the finest tier left that `ts_ns` would cut in two where no raw rows can fill the parts.
    fn cell_around(&mut self, ts_ns: i64) -> Option<(Tier, TimeRange)> {
        for cells in self.cells.iter_mut().rev() {
            let left_ns = floor_to(ts_ns, cells.width_ns);
            if cells.has(left_ns) {
                let cell = TimeRange::new(left_ns, left_ns.saturating_add(cells.width_ns));
                return (left_ns < ts_ns && left_ns < self.raw_floor_ns).then_some((cells.tier, cell));
            }
        }
        None
    }

    fn refuse(&self, window: &Window, tier: Tier) -> Error {
        let message = format!(
            "window {} to {} is not on the edges of the {} cells left; raw rows before {} are gone",
            utc(window.start_ns),
            utc(window.end_ns),
            tier.name(),
            utc(self.raw_floor_ns),
        );
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Appends the pieces that cover an elementary interval. Intervals come in ascending order.
    fn cover(&mut self, range: TimeRange, pieces: &mut Vec<Piece>) {
        let mut at_ns = range.start_ns;
        while at_ns < range.end_ns {
            let rest = TimeRange::new(at_ns, range.end_ns);
            let mut next_ns = range.end_ns;
            let mut found = None;
            for cells in &mut self.cells {
                let Some(run) = cells.next_run(rest) else { continue };
                if run.start_ns <= at_ns {
                    found = Some((cells.tier, TimeRange::new(run.start_ns, run.end_ns.min(next_ns))));
                    break;
                }
                next_ns = next_ns.min(run.start_ns);
            }
            if let Some((tier, run)) = found {
                // The run ends where a coarser one begins or before the end, always on the tier's own edges.
                pieces.push(Piece::Cells { tier, range: run, with_first_edge: run.start_ns == at_ns });
                at_ns = run.end_ns;
                continue;
            }
            if let Some(tier) = self.edge_at(rest) {
                pieces.push(Piece::Edge { tier, at_ns });
                return;
            }
            if at_ns < self.rows_from_ns {
                // Nothing is there up to then; but the last sample may be the edge of cells that begin with it.
                let empty_ns = next_ns.min(self.rows_from_ns);
                let last_ns = range.end_ns.saturating_sub(1);
                at_ns = if at_ns < last_ns { empty_ns.min(last_ns) } else { empty_ns };
                continue;
            }
            pieces.push(Piece::Rows { range: TimeRange::new(at_ns, next_ns) });
            at_ns = next_ns;
        }
    }

    /// The coarsest tier that has the only sample of `rest` as the edge of a cell.
    fn edge_at(&mut self, rest: TimeRange) -> Option<Tier> {
        let at_ns = rest.start_ns;
        if rest.end_ns != at_ns.saturating_add(1) || at_ns.rem_euclid(MINUTE_NS) != 0 {
            return None;
        }
        let mut aligned = self.cells.iter_mut().filter(|cells| at_ns.rem_euclid(cells.width_ns) == 0);
        aligned.find_map(|cells| cells.has(at_ns).then_some(cells.tier))
    }
}

/// A time as people read it: `2026-03-01T10:00:00Z`, with nanoseconds where there are any.
pub(super) fn utc(ts_ns: i64) -> String {
    let (seconds, nanos) = (ts_ns.div_euclid(SECOND_NS), ts_ns.rem_euclid(SECOND_NS));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, eras have 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = if nanos == 0 { String::new() } else { format!(".{nanos:09}") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests;
