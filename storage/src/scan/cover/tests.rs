//! The plan against rows: tables of pieces, and a law over random rows, windows and retention.

use proptest::prelude::*;

use super::super::sliding::slide;
use super::*;
use crate::cells::{CellField, CellReader, Folder, coarsen};
use crate::model::FieldInfo;
use crate::model::{Column, ColumnKey, FieldId, FieldType, Partial, RowBlock, SeriesId, StatSet, Values};

const WANTS: StatSet = StatSet::NUMBERS.with(StatSet::HIST);

/// 2026-03-01T10:00:00Z.
const BASE: i64 = 1_772_359_200 * SECOND_NS;
const NO_FLOORS: [i64; 4] = [i64::MIN; 4];

fn at(minute: i64) -> i64 {
    BASE + minute * MINUTE_NS
}

fn minutes(start: i64, end: i64) -> TimeRange {
    TimeRange::new(at(start), at(end))
}

fn window(start: i64, end: i64) -> Window {
    Window { start_ns: at(start), end_ns: at(end) }
}

fn cells(tier: Tier, start: i64, end: i64) -> Piece {
    Piece::Cells { tier, range: minutes(start, end), with_first_edge: true }
}

fn without_edge(tier: Tier, start: i64, end: i64) -> Piece {
    Piece::Cells { tier, range: minutes(start, end), with_first_edge: false }
}

fn rows(start_ns: i64, end_ns: i64) -> Piece {
    Piece::Rows { range: TimeRange::new(start_ns, end_ns) }
}

fn edge(tier: Tier, minute: i64) -> Piece {
    Piece::Edge { tier, at_ns: at(minute) }
}

/// All tiers valid in the same spans.
fn plan_in(spans: &[TimeRange], floors_ns: [i64; 4], windows: &[Window], bounds: Bounds) -> Plan {
    let available = Available { cells: [spans; 3], floors_ns, rows_from_ns: i64::MIN };
    plan(windows, bounds, &available, Resolution::Auto).unwrap()
}

#[test]
fn plan_aligned_window_is_cells_alone() {
    let spans = [minutes(0, 600)];
    let found = plan_in(&spans, NO_FLOORS, &[window(58, 187)], Bounds::RightOpen);
    let expected = [
        cells(Tier::M1, 58, 60),
        cells(Tier::H1, 60, 180),
        cells(Tier::M5, 180, 185),
        cells(Tier::M1, 185, 187),
    ];
    assert_eq!(found.pieces, expected);
    assert_eq!(found.spans.first(), Some(&(0..1)));
}

#[test]
fn plan_left_open_window_leaves_the_first_edge_and_takes_the_last() {
    let spans = [minutes(0, 600)];
    let found = plan_in(&spans, NO_FLOORS, &[window(60, 125)], Bounds::LeftOpen);
    let expected = [without_edge(Tier::H1, 60, 120), cells(Tier::M5, 120, 125), edge(Tier::M5, 125)];
    assert_eq!(found.pieces, expected);
}

#[test]
fn plan_unaligned_window_has_raw_slivers() {
    let spans = [minutes(0, 600)];
    let windows = [Window { start_ns: at(4) + 7, end_ns: at(10) + 9 }];
    let found = plan_in(&spans, NO_FLOORS, &windows, Bounds::RightOpen);
    assert_eq!(found.pieces, [rows(at(4) + 7, at(5)), cells(Tier::M5, 5, 10), rows(at(10), at(10) + 9)]);
    let found = plan_in(&spans, NO_FLOORS, &windows, Bounds::LeftOpen);
    assert_eq!(found.pieces, [rows(at(4) + 8, at(5)), cells(Tier::M5, 5, 10), rows(at(10), at(10) + 10)]);
}

#[test]
fn plan_tiny_gap_is_one_piece_of_rows() {
    let windows = [Window { start_ns: at(4) + 7, end_ns: at(5) }];
    let found = plan_in(&[minutes(0, 600)], NO_FLOORS, &windows, Bounds::LeftOpen);
    assert_eq!(found.pieces, [rows(at(4) + 8, at(5) + 1)]);
}

#[test]
fn plan_where_nothing_is_rolled_reads_rows() {
    let found = plan_in(&[minutes(0, 60)], NO_FLOORS, &[window(0, 90)], Bounds::LeftOpen);
    assert_eq!(found.pieces, [without_edge(Tier::H1, 0, 60), rows(at(60), at(90) + 1)]);
}

#[test]
fn plan_hole_in_one_tier_is_filled_from_a_finer_one() {
    let (fine, coarse) = ([minutes(0, 62), minutes(63, 180)], [minutes(0, 60), minutes(120, 180)]);
    let available =
        Available { cells: [&fine, &coarse, &coarse], floors_ns: NO_FLOORS, rows_from_ns: i64::MIN };
    let found = plan(&[window(0, 180)], Bounds::RightOpen, &available, Resolution::Auto).unwrap();
    let expected = [
        cells(Tier::H1, 0, 60),
        cells(Tier::M1, 60, 62),
        rows(at(62), at(63)),
        cells(Tier::M1, 63, 120),
        cells(Tier::H1, 120, 180),
    ];
    assert_eq!(found.pieces, expected);
}

#[test]
fn plan_overlapping_windows_share_elementary_intervals() {
    let spans = [minutes(0, 600)];
    let windows = [window(0, 10), window(5, 15), window(30, 30), window(40, 50)];
    let found = plan_in(&spans, NO_FLOORS, &windows, Bounds::RightOpen);
    let ranges: Vec<TimeRange> = found.elementary.iter().map(|elementary| elementary.range).collect();
    assert_eq!(ranges, [minutes(0, 5), minutes(5, 10), minutes(10, 15), minutes(40, 50)]);
    assert_eq!(found.spans, [0..2, 1..3, 1..1, 3..4]);
}

#[test]
fn plan_raw_gone_widens_to_the_finest_tier_left() {
    let spans = [minutes(0, 600)];
    let floors_ns = [at(480), at(300), at(120), i64::MIN];
    let windows = [
        Window { start_ns: at(61), end_ns: at(122) + 5 },
        Window { start_ns: at(301) + 1, end_ns: at(490) + 1 },
    ];
    let found = plan_in(&spans, floors_ns, &windows, Bounds::LeftOpen);
    assert_eq!(found.windows, [window(60, 125), Window { start_ns: at(301), end_ns: at(490) + 1 }]);
    assert_eq!(found.rounded, Some(Tier::H1));
    assert_eq!(found.raw_gone_before_ns, Some(at(480)));
    assert_eq!(
        found.pieces.get(..3).unwrap(),
        [without_edge(Tier::H1, 60, 120), cells(Tier::M5, 120, 125), edge(Tier::M5, 125)]
    );
    assert_eq!(found.pieces.last(), Some(&rows(at(490), at(490) + 2)));
}

#[test]
fn plan_raw_gone_on_the_edges_needs_no_widening() {
    let spans = [minutes(0, 600)];
    let available = Available {
        cells: [&spans; 3],
        floors_ns: [at(480), i64::MIN, i64::MIN, i64::MIN],
        rows_from_ns: i64::MIN,
    };
    let windows = [window(3, 7)];
    let found = plan(&windows, Bounds::LeftOpen, &available, Resolution::Strict).unwrap();
    assert_eq!((found.windows.as_slice(), found.rounded), (&windows[..], None));
    let expected = [without_edge(Tier::M1, 3, 5), cells(Tier::M1, 5, 7), edge(Tier::M1, 7)];
    let joined = [without_edge(Tier::M1, 3, 7), edge(Tier::M1, 7)];
    assert!(found.pieces == expected || found.pieces == joined, "{:?}", found.pieces);
}

#[test]
fn plan_strict_unaligned_where_raw_is_gone_is_refused() {
    let spans = [minutes(0, 600)];
    let available = Available {
        cells: [&spans; 3],
        floors_ns: [at(480), at(480), i64::MIN, i64::MIN],
        rows_from_ns: i64::MIN,
    };
    let error = plan(&[window(3, 5)], Bounds::LeftOpen, &available, Resolution::Strict).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected = "window 2026-03-01T10:03:00Z to 2026-03-01T10:05:00Z is not on the edges of the 5m cells left; \
                    raw rows before 2026-03-01T18:00:00Z are gone";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn plan_raw_gone_and_never_any_data_reads_nothing() {
    let floors_ns = [at(480), i64::MIN, i64::MIN, i64::MIN];
    let windows = [Window { start_ns: at(3) + 1, end_ns: at(59) + 1 }];
    let found = plan_in(&[minutes(60, 120)], floors_ns, &windows, Bounds::LeftOpen);
    assert_eq!((found.pieces.as_slice(), found.rounded), (&[][..], None));
    assert_eq!(found.windows, windows);
}

#[test]
fn plan_raw_gone_window_that_ends_where_cells_begin_takes_their_first_edge() {
    let gone = [at(600), i64::MIN, i64::MIN, i64::MIN];
    let found = plan_in(&[minutes(60, 600)], gone, &[window(0, 60)], Bounds::LeftOpen);
    assert_eq!(found.pieces, [edge(Tier::H1, 60)]);
    let found = plan_in(&[minutes(60, 600)], gone, &[window(0, 61)], Bounds::LeftOpen);
    assert_eq!(found.pieces, [cells(Tier::M1, 60, 61), edge(Tier::M1, 61)]);
}

#[test]
fn plan_raw_rows_begin_where_they_are_left() {
    let floors_ns = [at(90), i64::MIN, i64::MIN, i64::MIN];
    let found = plan_in(&[minutes(0, 60)], floors_ns, &[window(0, 120)], Bounds::RightOpen);
    assert_eq!(found.pieces, [cells(Tier::H1, 0, 60), rows(at(90), at(120))]);
}

#[test]
fn plan_decreasing_windows_are_refused() {
    let available = Available { cells: [&[]; 3], floors_ns: NO_FLOORS, rows_from_ns: i64::MIN };
    let windows = [window(5, 6), window(4, 7)];
    let error = plan(&windows, Bounds::LeftOpen, &available, Resolution::Auto).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn plan_windows_at_the_ends_of_time_do_not_overflow() {
    let everything = [TimeRange::ALL];
    for floor_ns in [i64::MIN, BASE, i64::MAX] {
        for bounds in [Bounds::LeftOpen, Bounds::RightOpen] {
            let windows =
                [Window { start_ns: i64::MIN, end_ns: BASE }, Window { start_ns: 0, end_ns: i64::MAX }];
            let found = plan_in(&everything, [floor_ns; 4], &windows, bounds);
            assert_eq!(found.spans, [0..2, 1..3]);
        }
    }
}

#[test]
fn plan_many_windows_stays_linear() {
    let spans: Vec<TimeRange> = (0..720).map(|hour| minutes(hour * 60, hour * 60 + 59)).collect();
    let windows: Vec<Window> = (0..11_000).map(|step| window(step * 2, step * 2 + 700)).collect();
    let found = plan_in(&spans, NO_FLOORS, &windows, Bounds::LeftOpen);
    assert_eq!(found.spans.len(), windows.len());
    assert!(found.pieces.len() < 100_000);
}

#[test]
fn utc_known_times() {
    assert_eq!(utc(0), "1970-01-01T00:00:00Z");
    assert_eq!(utc(951_782_400 * SECOND_NS + 5), "2000-02-29T00:00:00.000000005Z");
    assert_eq!(utc(-SECOND_NS), "1969-12-31T23:59:59Z");
}

/// Hours of the simulated time.
const HOURS: i64 = 4;

#[derive(Debug, Clone)]
struct Case {
    field_type: FieldType,
    samples: Vec<(i64, i64)>,
    windows: Vec<Window>,
    bounds: Bounds,
    /// Hours that are rolled.
    rolled: Vec<bool>,
    /// Minutes with late rows.
    dirty: Vec<i64>,
    floors_ns: [i64; 4],
}

fn time() -> impl Strategy<Value = i64> {
    let minute =
        prop_oneof![3 => 0..HOURS * 60, 1 => (0..HOURS * 12).prop_map(|five| five * 5), 1 => 58..63_i64];
    let place = prop_oneof![4 => Just(0), 1 => Just(1), 1 => Just(MINUTE_NS - 1), 3 => 0..MINUTE_NS];
    (minute, place).prop_map(|(minute, place)| at(minute) + place)
}

fn case() -> impl Strategy<Value = Case> {
    let field_type = prop_oneof![Just(FieldType::Float), Just(FieldType::Int)];
    let samples = proptest::collection::btree_map(time(), -10_i64..50, 0..150);
    let windows = proptest::collection::vec((time(), time()), 1..12);
    let bounds = prop_oneof![Just(Bounds::LeftOpen), Just(Bounds::RightOpen)];
    let rolled = proptest::collection::vec(proptest::bool::weighted(0.8), HOURS as usize);
    let dirty = proptest::collection::vec(0..HOURS * 60, 0..3);
    let raw_floor = prop_oneof![1 => Just(i64::MIN), 2 => time()];
    let floors = (raw_floor, prop_oneof![Just(i64::MIN), time()], prop_oneof![Just(i64::MIN), time()]);
    let parts = (field_type, samples, windows, bounds, rolled, dirty, floors);
    parts.prop_map(|(field_type, samples, pairs, bounds, rolled, dirty, (raw, m1, m5))| {
        let mut starts: Vec<i64> = pairs.iter().map(|(left, right)| *left.min(right)).collect();
        let mut ends: Vec<i64> = pairs.iter().map(|(left, right)| *left.max(right)).collect();
        starts.sort_unstable();
        ends.sort_unstable();
        let windows = starts.into_iter().zip(ends).map(|(start_ns, end_ns)| Window { start_ns, end_ns });
        let floors_ns = [raw, m1, m5, i64::MIN];
        let samples = samples.into_iter().collect();
        Case { field_type, samples, windows: windows.collect(), bounds, rolled, dirty, floors_ns }
    })
}

impl Case {
    /// Valid spans of a tier: rolled hours without dirty cells. Before the raw floor everything is rolled and clean.
    fn spans(&self, width_ns: i64) -> Vec<TimeRange> {
        let raw_floor_ns = ceil_to(self.floors_ns[0], HOUR_NS);
        let mut spans: Vec<TimeRange> = Vec::new();
        let lefts = (0..HOURS * 60).map(at).filter(|left_ns| left_ns.rem_euclid(width_ns) == 0);
        for left_ns in lefts {
            let hour = usize::try_from((left_ns - BASE) / HOUR_NS).unwrap();
            let is_gone = left_ns < raw_floor_ns;
            let is_dirty = self.dirty.iter().any(|minute| floor_to(at(*minute), width_ns) == left_ns);
            if !is_gone && (is_dirty || !self.rolled[hour]) {
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.end_ns == left_ns => last.end_ns += width_ns,
                _ => spans.push(TimeRange::new(left_ns, left_ns + width_ns)),
            }
        }
        spans
    }

    fn block(&self) -> RowBlock {
        let values = match self.field_type {
            FieldType::Float => {
                Values::F64(self.samples.iter().map(|(_, value)| *value as f64 * 0.1).collect())
            }
            _ => Values::I64(self.samples.iter().map(|(_, value)| *value).collect()),
        };
        RowBlock {
            series: vec![SeriesId(1); self.samples.len()],
            ts_ns: self.samples.iter().map(|(ts_ns, _)| *ts_ns).collect(),
            columns: vec![Column { key: ColumnKey::value(FieldId(0)), values, valid: None }],
        }
    }

    fn direct(&self, block: &RowBlock, range: TimeRange, into: &mut Partial) {
        for (row, ts_ns) in block.ts_ns.iter().enumerate().filter(|(_, ts_ns)| range.contains(**ts_ns)) {
            into.add(*ts_ns, block.columns[0].get(row).unwrap(), WANTS);
        }
    }

    fn half_open(&self, window: &Window) -> TimeRange {
        let shift_ns = i64::from(self.bounds == Bounds::LeftOpen);
        TimeRange::new(window.start_ns + shift_ns, window.end_ns + shift_ns)
    }
}

/// Reads the pieces of a plan as a scan would, and checks that it may.
fn run_piece(
    case: &Case,
    available: &Available<'_>,
    raw: &RowBlock,
    tiers: &[RowBlock; 3],
    piece: Piece,
    into: &mut Partial,
) {
    let info = FieldInfo { id: FieldId(0), name: "value".into(), field_type: case.field_type };
    let field = CellField { info, kept: WANTS };
    let (tier, range, with_first_edge, with_interior) = match piece {
        Piece::Rows { range } => {
            assert!(case.floors_ns[0] <= range.start_ns, "raw rows are there: {range:?}");
            assert!(!range.is_empty());
            return case.direct(raw, range, into);
        }
        Piece::Cells { tier, range, with_first_edge } => (tier, range, with_first_edge, true),
        Piece::Edge { tier, at_ns } => (tier, TimeRange::new(at_ns, at_ns + 1), true, false),
    };
    let number = tier as usize;
    assert!(case.floors_ns[number] <= range.start_ns, "cells are there: {piece:?}");
    let is_inside = |span: &TimeRange| span.start_ns <= range.start_ns && range.end_ns <= span.end_ns;
    assert!(available.cells[number - 1].iter().any(is_inside), "cells are valid: {piece:?}");
    let cells = &tiers[number - 1];
    let reader = CellReader::of_block(cells, &field).unwrap();
    for (row, left_ns) in cells.ts_ns.iter().enumerate().filter(|(_, left_ns)| range.contains(**left_ns)) {
        if with_first_edge || *left_ns != range.start_ns {
            reader.add_edge(row, *left_ns, into);
        }
        if with_interior {
            reader.add_interior(row, *left_ns, into);
        }
    }
}

fn assert_same(found: &Partial, expected: &Partial) {
    assert_eq!(found.count(), expected.count());
    assert_eq!(found.histogram(), expected.histogram());
    let (Some(found), Some(expected)) = (found.numbers(), expected.numbers()) else { return };
    let exact = |n: &crate::model::Numbers| {
        (n.min, n.max, n.first, n.first_ns, n.last, n.last_ns, n.resets, n.changes)
    };
    assert_eq!(exact(&found), exact(&expected));
    let close = |left: f64, right: f64, scale: f64| (left - right).abs() <= 1e-12 * scale.max(1.0);
    assert!(close(found.sum, expected.sum, expected.sum.abs()), "sum {} for {}", found.sum, expected.sum);
    assert!(close(found.reset_sum, expected.reset_sum, expected.reset_sum.abs()));
    assert!(close(found.mean, expected.mean, expected.mean.abs()));
    assert!(close(found.m2, expected.m2, expected.m2.abs()));
}

#[test]
fn time_before_the_first_row_is_not_read_and_the_first_row_is_the_edge_of_its_cell() {
    let spans = [TimeRange::new(at(60), at(120))];
    let available = Available { cells: [&spans; 3], floors_ns: NO_FLOORS, rows_from_ns: at(60) };
    let windows = [window(0, 60), window(60, 90)];
    let found = plan(&windows, Bounds::LeftOpen, &available, Resolution::Auto).unwrap();
    assert_eq!(found.pieces.first(), Some(&edge(Tier::H1, 60)));
    assert!(
        !found.pieces.iter().any(|piece| matches!(piece, Piece::Rows { range } if range.start_ns < at(90)))
    );
    assert_eq!((found.rounded, found.raw_gone_before_ns), (None, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn answer_from_any_mix_of_tiers_equals_the_rows(case in case()) {
        let raw = case.block();
        let info = FieldInfo { id: FieldId(0), name: "value".into(), field_type: case.field_type };
        let field = CellField { info, kept: WANTS };
        let fields = std::slice::from_ref(&field);
        let mut folder = Folder::new(fields, Tier::M1);
        folder.push(&raw);
        let m1 = folder.finish();
        let m5 = coarsen(&m1, fields, Tier::M5).unwrap();
        let h1 = coarsen(&m5, fields, Tier::H1).unwrap();
        let spans = Tier::CELLS.map(|tier| case.spans(tier.width_ns()));
        let rows_from_ns = raw.ts_ns.iter().copied().min().unwrap_or(i64::MAX);
        let cells = spans.each_ref().map(Vec::as_slice);
        let available = Available { cells, floors_ns: case.floors_ns, rows_from_ns };
        let plan = plan(&case.windows, case.bounds, &available, Resolution::Auto).unwrap();
        if case.floors_ns[0] == i64::MIN {
            prop_assert_eq!(&plan.windows, &case.windows);
        }
        let tiers = [m1, m5, h1];
        let read = |elementary: &Elementary| {
            let mut partial = Partial::empty(case.field_type);
            for piece in &plan.pieces[elementary.pieces.clone()] {
                run_piece(&case, &available, &raw, &tiers, *piece, &mut partial);
            }
            partial
        };
        let partials: Vec<Partial> = plan.elementary.iter().map(read).collect();
        let merged = slide(case.field_type, &partials, &plan.spans);
        for ((found, window), asked) in merged.iter().zip(&plan.windows).zip(&case.windows) {
            prop_assert!(window.start_ns <= asked.start_ns && asked.end_ns <= window.end_ns);
            prop_assert!(plan.rounded.is_some() || window == asked);
            let mut expected = Partial::empty(case.field_type);
            case.direct(&raw, case.half_open(window), &mut expected);
            assert_same(found, &expected);
        }
    }
}
