//! Laws of folding: whatever the order of arrival and the cuts, cells say what the rows say.

use proptest::prelude::*;

use super::*;
use crate::cell_set::CellSet;
use crate::model::{FieldId, FieldInfo, MINUTE_NS, Stat, StrColumn, TimeRange};

const TYPES: [FieldType; 5] =
    [FieldType::Float, FieldType::Int, FieldType::UInt, FieldType::Bool, FieldType::Str];

/// Fields of which cells keep everything.
fn fields() -> Vec<CellField> {
    fields_of(|_| StatSet::ALL)
}

fn fields_of(kept: impl Fn(FieldType) -> StatSet) -> Vec<CellField> {
    let field = |(id, field_type): (u16, FieldType)| {
        let info = FieldInfo { id: FieldId(id), name: format!("field{id}").into(), field_type };
        CellField { info, kept: kept(field_type) }
    };
    (0_u16..).zip(TYPES).map(field).collect()
}

fn reader<'a>(cells: &'a RowBlock, field: &CellField, wants: StatSet) -> Result<CellReader<'a>> {
    let column = |stat| cells.column(ColumnKey { field: field.info.id, stat });
    CellReader::new(field.info.field_type, (field.kept, wants), 0..cells.len(), column)
}

/// One row: minute, place within it, and a number from which all fields are made; `None` leaves a field out.
type Seed = (u32, i64, i64, [Option<i64>; 5]);

fn rows() -> impl Strategy<Value = Vec<Seed>> {
    let place = prop_oneof![2 => Just(0_i64), 1 => Just(1), 1 => Just(MINUTE_NS - 1), 6 => 0..MINUTE_NS];
    let value = || proptest::option::weighted(0.9, -20_i64..60);
    let row = (0_u32..3, 0_i64..8, place, [value(), value(), value(), value(), value()]);
    proptest::collection::vec(row, 0..80).prop_map(|rows| {
        let mut rows: Vec<Seed> = rows
            .into_iter()
            .map(|(series, minute, place, values)| (series, minute * MINUTE_NS + place, 0, values))
            .collect();
        rows.sort_by_key(|row| (row.0, row.1));
        rows.dedup_by_key(|row| (row.0, row.1));
        rows
    })
}

fn block(rows: &[Seed]) -> RowBlock {
    let seeds = |place: usize| rows.iter().map(move |row| row.3[place]);
    let values = [
        // 55 and above stand for NaN.
        Values::F64(seeds(0).map(|seed| seed.map_or(0.0, float)).collect()),
        Values::I64(seeds(1).map(|seed| seed.unwrap_or(0) << 58).collect()),
        Values::U64(seeds(2).map(|seed| seed.unwrap_or(0).unsigned_abs() << 57).collect()),
        Values::Bool(seeds(3).map(|seed| seed.unwrap_or(0) % 2 == 0).collect()),
        Values::Str(texts(seeds(4))),
    ];
    let column = |(place, values): (usize, Values)| {
        let valid: Vec<bool> = seeds(place).map(|seed| seed.is_some()).collect();
        let valid = valid.contains(&false).then_some(valid);
        Column { key: ColumnKey::value(fields()[place].info.id), values, valid }
    };
    RowBlock {
        series: rows.iter().map(|row| SeriesId(row.0)).collect(),
        ts_ns: rows.iter().map(|row| row.1).collect(),
        columns: values.into_iter().enumerate().map(column).collect(),
    }
}

fn float(seed: i64) -> f64 {
    if 55 <= seed { f64::NAN } else { seed as f64 * 0.1 }
}

fn texts(seeds: impl Iterator<Item = Option<i64>>) -> StrColumn {
    let mut texts = StrColumn::default();
    seeds.for_each(|seed| texts.push(&seed.map_or(String::new(), |seed| seed.to_string())));
    texts
}

fn fold(blocks: &[RowBlock]) -> RowBlock {
    fold_of(&fields(), blocks)
}

fn fold_of(fields: &[CellField], blocks: &[RowBlock]) -> RowBlock {
    let mut folder = Folder::new(fields, Tier::M1);
    blocks.iter().for_each(|block| folder.push(block));
    folder.finish()
}

/// What adding the samples of a series and time one by one gives.
fn direct(
    block: &RowBlock,
    field: &FieldInfo,
    series: SeriesId,
    range: TimeRange,
    wants: StatSet,
) -> Partial {
    let mut partial = Partial::empty(field.field_type);
    let column = block.column(ColumnKey::value(field.id)).unwrap();
    for (row, (at_series, ts_ns)) in block.series.iter().zip(&block.ts_ns).enumerate() {
        let is_inside = *at_series == series && range.contains(*ts_ns);
        if let Some(value) = column.get(row).filter(|_| is_inside) {
            partial.add(*ts_ns, value, wants);
        }
    }
    partial
}

fn close(left: f64, right: f64) -> bool {
    left == right
        || (left.is_nan() && right.is_nan())
        || (left - right).abs() <= 1e-12 * left.abs().max(right.abs())
}

fn assert_same(found: &Partial, expected: &Partial) {
    assert_eq!(found.count(), expected.count());
    assert_eq!(found.histogram(), expected.histogram());
    assert_eq!(found.uniques(), expected.uniques());
    if let Partial::Text(_) = expected {
        assert_eq!(found, expected);
    }
    let (Some(found), Some(expected)) = (found.numbers(), expected.numbers()) else { return };
    let exact = |n: &crate::model::Numbers| {
        let floats = [n.min, n.max, n.first, n.last].map(f64::to_bits);
        (n.count, floats, n.first_ns, n.last_ns, n.resets, n.changes)
    };
    assert_eq!(exact(&found), exact(&expected));
    assert!(close(found.sum, expected.sum), "sum {} for {}", found.sum, expected.sum);
    // Where values of both signs cancel, the error is relative to the largest of them.
    let largest = expected.min.abs().max(expected.max.abs());
    let (found_sum, expected_sum) = (found.reset_sum, expected.reset_sum);
    let is_cancelled = (found_sum - expected_sum).abs() <= f64::EPSILON * largest * expected.resets as f64;
    assert!(close(found_sum, expected_sum) || is_cancelled, "reset sum {found_sum} for {expected_sum}");
    assert!((found.mean - expected.mean).abs() <= 1e-14 * largest || expected.mean.is_nan());
    let m2_off = (found.m2 - expected.m2).abs();
    assert!(m2_off <= 1e-12 * expected.m2.abs() + 1e-28 * largest * largest || expected.m2.is_nan());
}

/// Checks each cell of a tier against the rows.
fn check_cells(cells: &RowBlock, rows: &RowBlock, tier: Tier) {
    let mut counted = 0;
    for field in fields() {
        let reader = reader(cells, &field, StatSet::ALL).unwrap();
        let field = &field.info;
        for (row, (series, left_ns)) in cells.series.iter().zip(&cells.ts_ns).enumerate() {
            let interior = TimeRange::new(left_ns + 1, left_ns + tier.width_ns());
            let expected = direct(rows, field, *series, interior, StatSet::ALL);
            let found = reader.interior(row, *left_ns);
            assert_eq!(found.is_some(), expected.count() != 0);
            assert_same(&found.unwrap_or(Partial::empty(field.field_type)), &expected);
            let mut edge = Partial::empty(field.field_type);
            reader.add_edge(row, *left_ns, &mut edge);
            assert_same(
                &edge,
                &direct(rows, field, *series, TimeRange::new(*left_ns, left_ns + 1), StatSet::ALL),
            );
            counted += expected.count() + edge.count();
        }
    }
    let written =
        rows.columns.iter().map(|column| (0..rows.len()).filter(|row| column.is_valid(*row)).count());
    assert_eq!(counted, written.sum::<usize>() as u64, "every value is in one cell");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn cells_of_every_tier_equal_adding_rows(rows in rows()) {
        let rows = block(&rows);
        let minutes = fold(std::slice::from_ref(&rows));
        check_cells(&minutes, &rows, Tier::M1);
        let fives = coarsen(&minutes, &fields(), Tier::M5).unwrap();
        check_cells(&fives, &rows, Tier::M5);
        check_cells(&coarsen(&fives, &fields(), Tier::H1).unwrap(), &rows, Tier::H1);
    }

    #[test]
    fn fold_cut_into_blocks_anyhow_gives_the_same_bytes(
        rows in rows(),
        cuts in proptest::collection::vec(0_usize..80, 0..6),
    ) {
        let whole = fold(&[block(&rows)]);
        let cuts = cuts.into_iter().map(|cut| cut.min(rows.len()));
        let mut cuts: Vec<usize> = cuts.chain([0, rows.len()]).collect();
        cuts.sort_unstable();
        let blocks: Vec<RowBlock> = cuts.windows(2).map(|cut| block(&rows[cut[0]..cut[1]])).collect();
        // NaN differs from itself; the text of a float tells all others apart.
        prop_assert_eq!(format!("{:?}", fold(&blocks)), format!("{whole:?}"));
    }
}

/// What remains of a partial that was asked for these groups only.
fn shown(partial: &Partial, wants: StatSet) -> String {
    let Partial::Text(text) = partial else {
        let Some(numbers) = partial.numbers() else { return String::new() };
        let mut shown = format!("{} {:?} {:?}", numbers.count, partial.histogram(), partial.uniques());
        let mut show = |group, value: &dyn std::fmt::Debug| {
            if wants.has(group) {
                shown.push_str(&format!(" {value:?}"));
            }
        };
        show(StatSet::RANGE, &(numbers.min, numbers.max));
        show(StatSet::ENDS, &(numbers.first, numbers.first_ns, numbers.last, numbers.last_ns));
        show(StatSet::RESETS, &numbers.resets);
        show(StatSet::CHANGES, &numbers.changes);
        return shown;
    };
    format!("{text:?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cells_of_each_set_give_what_they_keep_and_refuse_the_rest(rows in rows()) {
        let groups = [
            StatSet::SUM, StatSet::RANGE, StatSet::ENDS, StatSet::RESETS, StatSet::CHANGES, StatSet::SPREAD,
            StatSet::HIST, StatSet::UNIQUES,
        ];
        let rows = block(&rows);
        for set in CellSet::ALL {
            let fields = fields_of(|field_type| set.kept(field_type));
            let minutes = fold_of(&fields, std::slice::from_ref(&rows));
            let hours = coarsen(&minutes, &fields, Tier::H1).unwrap();
            for (field, wants) in fields.iter().flat_map(|field| groups.map(|wants| (field, wants))) {
                let CellField { info, kept } = field;
                let reader = reader(&hours, field, wants);
                prop_assert_eq!(reader.is_ok(), kept.has(super::super::wanted(info.field_type, wants)));
                let Ok(reader) = reader else { continue };
                for (row, (series, left_ns)) in hours.series.iter().zip(&hours.ts_ns).enumerate() {
                    let interior = TimeRange::new(left_ns + 1, left_ns + Tier::H1.width_ns());
                    let expected = direct(&rows, info, *series, interior, wants);
                    let found = reader.interior(row, *left_ns).unwrap_or(Partial::empty(info.field_type));
                    prop_assert_eq!(shown(&found, wants), shown(&expected, wants), "{:?} {}", set, wants);
                    let sums = found.numbers().zip(expected.numbers()).filter(|_| wants.has(StatSet::SUM));
                    prop_assert!(sums.is_none_or(|(found, expected)| close(found.sum, expected.sum)));
                }
            }
        }
    }
}

#[test]
fn fold_row_on_the_edge_is_apart_from_the_interior() {
    let row = |ts_ns| (1, ts_ns, 0, [Some(10); 5]);
    let cells = fold(&[block(&[row(0), row(1), row(MINUTE_NS)])]);
    assert_eq!(cells.ts_ns, [0, MINUTE_NS]);
    let column = |stat| cells.column(ColumnKey { field: FieldId(0), stat });
    assert_eq!(column(Stat::Edge).unwrap().valid, None);
    assert_eq!(column(Stat::Count).unwrap().valid, Some(vec![true, false]));
    assert_eq!(column(Stat::Hist), None, "two samples or fewer need no histogram");
    assert_eq!(column(Stat::Resets), None, "a column of zeros is left out");
}

#[test]
fn reader_column_missing_or_of_another_type_is_corruption() {
    let row = |place: i64| (1, place, 0, [Some(place); 5]);
    let cells = fold(&[block(&[row(1), row(5), row(3 * 10)].map(|row| row))]);
    for field in fields().iter().filter(|field| field.info.field_type.is_numeric()) {
        let needed = crate::cells::columns_of(field.info.id, field.info.field_type, StatSet::ALL);
        for key in needed.into_iter().filter(|key| key.stat != Stat::Count && cells.column(*key).is_some()) {
            let mut other = cells.clone();
            other.columns.iter_mut().filter(|column| column.key == key).for_each(|column| {
                column.values = Values::Str(texts([None; 1].into_iter()));
            });
            assert!(reader(&other, field, StatSet::ALL).is_err(), "{key:?} of another type");
            let mut less = cells.clone();
            less.columns.retain(|column| column.key != key);
            let may_miss = [Stat::Edge, Stat::SumRest, Stat::ResetSum, Stat::Resets, Stat::Changes, Stat::M2];
            let result = reader(&less, field, StatSet::ALL);
            assert_eq!(result.is_ok(), may_miss.contains(&key.stat), "{key:?} missing");
        }
    }
}

#[test]
fn m2_of_near_integers_is_rounded_once() {
    let near = [7_i64, 8, 8, 9, 11].map(|value| value + (1 << 61));
    assert_eq!(i64::m2_of(&near, f64::NAN), 9.2, "46 / 5, whatever the mean was rounded to");
    let far = [0_u64, 1 << 20];
    assert_eq!(u64::m2_of(&far, far[1] as f64 / 2.0), (1_u64 << 39) as f64);
    let edges = [i64::MIN, i64::MAX];
    assert_eq!(i64::m2_of(&edges, -0.5), 2.0 * (i64::MAX as f64).powi(2));
}

#[test]
fn cells_of_many_rows_begin_and_end_where_their_minutes_do() {
    let lengths = [1, STRIDE, STRIDE + 1, STRIDE + 2, 2 * STRIDE + 2, 2 * STRIDE + 3, 100, 2];
    let mut rows: Vec<Seed> = Vec::new();
    for series in 0..2 {
        for (minute, length) in (0_i64..).zip(lengths) {
            let places = (0..length as i64).map(|place| minute * MINUTE_NS + place * (MINUTE_NS / 100));
            rows.extend(places.map(|ts_ns| (series, ts_ns, 0, [Some(ts_ns % 53); 5])));
        }
    }
    let whole = block(&rows);
    let cells = fold(std::slice::from_ref(&whole));
    assert_eq!(cells.len(), 2 * lengths.len());
    check_cells(&cells, &whole, Tier::M1);
}
