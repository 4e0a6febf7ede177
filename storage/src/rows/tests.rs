//! Sorting and merging against a map as the oracle.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{FieldId, Histogram, Stat, TimeRange, Value};

/// One row: series, time, and for three fields (float, text, integer) maybe a value.
type Sample = (u32, i64, Option<i8>, Option<String>, Option<i64>);
type Oracle = BTreeMap<(u32, i64), [Option<Value>; 3]>;

fn block(samples: &[Sample]) -> RowBlock {
    let key = |field| ColumnKey::value(FieldId(field));
    let empty = |field, values| Column { key: key(field), values, valid: None };
    // Out of order on purpose.
    let mut block = RowBlock {
        columns: vec![
            empty(2, Values::I64(Vec::new())),
            empty(0, Values::F64(Vec::new())),
            empty(1, Values::Str(StrColumn::default())),
        ],
        ..RowBlock::default()
    };
    for (series, ts_ns, float, text, int) in samples {
        block.series.push(SeriesId(*series));
        block.ts_ns.push(*ts_ns);
        for (column, is_valid) in
            block.columns.iter_mut().zip([int.is_some(), float.is_some(), text.is_some()])
        {
            column.push_validity(is_valid);
            match &mut column.values {
                Values::F64(values) => values.push(f64::from(float.unwrap_or(0))),
                Values::I64(values) => values.push(int.unwrap_or(0)),
                Values::Str(texts) => texts.push(text.as_deref().unwrap_or("")),
                other => other.push_default(),
            }
        }
    }
    block
}

fn oracle<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Oracle {
    let mut oracle = Oracle::new();
    for (series, ts_ns, float, text, int) in samples {
        let row = oracle.entry((*series, *ts_ns)).or_default();
        let values = [
            float.map(|value| Value::Float(f64::from(value))),
            text.clone().map(Value::Str),
            int.map(Value::Int),
        ];
        for (slot, value) in row.iter_mut().zip(values) {
            if value.is_some() {
                *slot = value;
            }
        }
    }
    oracle
}

/// Reads a block back; checks that it is in order and whole.
fn read(block: &RowBlock) -> Oracle {
    let rows: Vec<(SeriesId, i64)> = block.series.iter().copied().zip(block.ts_ns.iter().copied()).collect();
    assert!(rows.is_sorted_by(|one, next| one < next), "sorted and unique");
    assert!(block.columns.is_sorted_by(|one, next| one.key < next.key), "columns are sorted");
    for column in &block.columns {
        assert_eq!(column.values.len(), block.len());
        assert!(column.valid.as_ref().is_none_or(|valid| valid.len() == block.len()));
    }
    let value = |field, row_idx: usize| block.column(ColumnKey::value(FieldId(field)))?.value(row_idx);
    let row = |(row_idx, (series, ts_ns)): (usize, &(SeriesId, i64))| {
        ((series.0, *ts_ns), [value(0, row_idx), value(1, row_idx), value(2, row_idx)])
    };
    rows.iter().enumerate().map(row).collect()
}

fn samples(series_max: u32) -> impl Strategy<Value = Vec<Sample>> {
    let sample =
        (0..series_max, 0_i64..12, any::<Option<i8>>(), prop::option::of("[aé]{0,3}"), any::<Option<i64>>());
    prop::collection::vec(sample, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn sort_rows_equals_a_map_written_row_by_row(rows in prop_oneof![samples(4), samples(u32::MAX)]) {
        let sorted = sort_rows(block(&rows));
        prop_assert_eq!(read(&sorted), oracle(&rows));
        prop_assert_eq!(sort_rows(sorted.clone()), sorted);
    }

    #[test]
    fn merge_sorted_equals_a_map_written_block_by_block(
        parts in prop::collection::vec(prop_oneof![samples(3), samples(9)], 0..5),
    ) {
        let blocks: Vec<Arc<RowBlock>> = parts.iter().map(|rows| Arc::new(sort_rows(block(rows)))).collect();
        prop_assert_eq!(read(&merge_sorted(&blocks)), oracle(parts.iter().flatten()));
    }

    #[test]
    fn merge_in_pieces_gives_the_same_rows_in_order(
        parts in prop::collection::vec(prop_oneof![samples(3), samples(9)], 0..5),
        rows_max in 1_usize..40,
    ) {
        let blocks: Vec<Arc<RowBlock>> = parts.iter().map(|rows| Arc::new(sort_rows(block(rows)))).collect();
        let (mut found, mut last) = (Oracle::new(), None);
        merge_in_pieces(&blocks, rows_max, &mut |piece| {
            let place = |row: usize| Some((*piece.series.get(row)?, *piece.ts_ns.get(row)?));
            assert!(last < place(0), "pieces come in order");
            assert!(piece.len() <= 3 * rows_max + blocks.len(), "{} rows in a piece", piece.len());
            last = place(piece.len() - 1);
            found.extend(read(&piece));
            Ok(())
        }).unwrap();
        prop_assert_eq!(found, oracle(parts.iter().flatten()));
    }
}

#[test]
fn cut_times_end_after_so_many_rows_where_more_follow() {
    let check = |stretches: &[Stretch], expected: &[i64]| {
        assert_eq!(cut_times(stretches.to_vec(), TimeRange::new(0, 100), 10), expected, "{stretches:?}");
    };
    check(&[], &[]);
    check(&[(10, 9), (20, 9), (30, 9), (40, 9), (50, 9)], &[20, 40]);
    check(&[(50, 9), (40, 9), (10, 9), (30, 9), (20, 9)], &[20, 40]);
    check(&[(10, 9), (20, 9), (30, 9), (40, 9)], &[20]);
    check(&[(10, 10), (10, 10), (20, 10), (30, 10)], &[10, 20]);
    check(&[(50, 10), (100, 10), (200, 10)], &[50]);
}

#[test]
fn merge_sorted_disjoint_blocks_in_any_order_are_appended() {
    let row = |series, ts_ns| (series, ts_ns, Some(1), None, None);
    let parts = [[row(2, 1), row(2, 5)], [row(1, 1), row(1, 9)], [row(2, 7), row(3, 0)]];
    let blocks: Vec<RowBlock> = parts.iter().map(|rows| sort_rows(block(rows))).collect();
    assert_eq!(read(&merge_sorted(&blocks)), oracle(parts.iter().flatten()));
}

#[test]
fn merge_sorted_column_that_only_one_block_has_is_null_elsewhere() {
    let mut first = sort_rows(block(&[(1, 1, Some(1), None, Some(10)), (1, 2, Some(2), None, Some(20))]));
    let second = sort_rows(block(&[(1, 2, Some(3), None, None), (1, 3, None, Some("x".to_owned()), None)]));
    first.columns.retain(|column| column.key.field == FieldId(2));
    let merged = merge_sorted(&[&first, &second]);
    let expected: [Sample; 3] = [
        (1, 1, None, None, Some(10)),
        (1, 2, Some(3), None, Some(20)),
        (1, 3, None, Some("x".to_owned()), None),
    ];
    assert_eq!(read(&merged), oracle(&expected));
    assert_eq!(merge_sorted::<RowBlock>(&[]), RowBlock::default());
}

#[test]
fn merge_sorted_cell_comes_from_one_block_whole() {
    let cell = |count, hist: Option<Histogram>| {
        let key = |stat| ColumnKey { field: FieldId(0), stat };
        let valid = Some(vec![hist.is_some()]);
        let columns = vec![
            Column { key: key(Stat::Count), values: Values::U64(vec![count]), valid: Some(vec![true]) },
            Column {
                key: key(Stat::Hist),
                values: Values::Hist([hist.unwrap_or_default()].into_iter().collect()),
                valid,
            },
        ];
        RowBlock { series: vec![SeriesId(1)], ts_ns: vec![0], columns }
    };
    // The later cell has fewer samples and no histogram: that of the earlier one must not shine through.
    let merged = merge_sorted(&[cell(5, Some(Histogram::default())), cell(2, None)]);
    assert_eq!(merged.columns[0].value(0), Some(Value::UInt(2)));
    assert!(!merged.columns[1].is_valid(0));
}
