//! What the rows of some series become in each layer.
//!
//! As a rule, rows become cells of a minute, those become cells of five minutes, and those cells of an hour. Where a
//! minute holds few rows of a series, the rows are smaller than a cell of them and quicker to read: there the rows
//! are their own 1m layer, and the cells of five minutes are folded from them at once. A row at time `t` is a cell
//! whose edge lies at `t` and whose interior is empty; readers add the edges and interiors within a piece of time, and
//! need not know which they have.
//!
//! What is sparse is decided for each series on its own, so that all layers are a pure function of the rows, however
//! these came in pieces. See `docs/decisions/0004-sparse-rows-are-their-own-1m-layer.md`. Knows nothing of files.

use super::fold::{Folder, coarsen};
use crate::Result;
use crate::model::{Column, ColumnKey, FieldInfo, RowBlock, Stat, Tier, Values, floor_to};
use crate::rows::{append_rows, merge_sorted};

/// Up to this many rows a minute rows are kept instead of cells: a row every five seconds. At one every ten seconds
/// cells took 4.7 times the bytes of the rows (`docs/benchmarks.md`, shape `tsbs`).
const ROWS_PER_CELL_MAX: usize = 12;

/// The 1m, 5m and 1h layers of all rows of some series in a span of hours; rows and cells are sorted by (series,
/// time), each pair once.
///
/// # Errors
/// None for rows that have the fields' types.
pub(crate) fn layers(rows: RowBlock, fields: &[FieldInfo]) -> Result<[RowBlock; 3]> {
    let (sparse, dense) = part(rows);
    let dense_m1 = fold(&dense, fields, Tier::M1);
    let dense_m5 = coarsen(&dense_m1, fields, Tier::M5)?;
    let sparse_m5 = fold(&sparse, fields, Tier::M5);
    let m1 = join(into_edges(sparse), dense_m1);
    let m5 = join(sparse_m5, dense_m5);
    let h1 = coarsen(&m5, fields, Tier::H1)?;
    Ok([m1, m5, h1])
}

fn fold(rows: &RowBlock, fields: &[FieldInfo], tier: Tier) -> RowBlock {
    let mut folder = Folder::new(fields, tier);
    folder.push(rows);
    folder.finish()
}

/// Two layers of different series as one.
fn join(one: RowBlock, other: RowBlock) -> RowBlock {
    match (one.is_empty(), other.is_empty()) {
        (_, true) => one,
        (true, false) => other,
        (false, false) => merge_sorted(&[one, other]),
    }
}

/// The rows of sparse series, and those of the others.
fn part(rows: RowBlock) -> (RowBlock, RowBlock) {
    let mut runs = Vec::new();
    let mut start = 0;
    for run in rows.series.chunk_by(|one, next| one == next) {
        let end = start + run.len();
        runs.push((start, end, is_sparse(rows.ts_ns.get(start..end).unwrap_or_default())));
        start = end;
    }
    if runs.iter().all(|(_, _, is_sparse)| *is_sparse) {
        return (rows, RowBlock::default());
    }
    if !runs.iter().any(|(_, _, is_sparse)| *is_sparse) {
        return (RowBlock::default(), rows);
    }
    let (mut sparse, mut dense) = (RowBlock::default(), RowBlock::default());
    for (start, end, is_sparse) in runs {
        append_rows(if is_sparse { &mut sparse } else { &mut dense }, &rows, start, end);
    }
    (sparse, dense)
}

/// Whether the rows of a series at these times are kept as they are.
fn is_sparse(ts_ns: &[i64]) -> bool {
    let is_same_minute =
        |one: &i64, next: &i64| floor_to(*one, Tier::M1.width_ns()) == floor_to(*next, Tier::M1.width_ns());
    ts_ns.len() <= ts_ns.chunk_by(is_same_minute).count().saturating_mul(ROWS_PER_CELL_MAX)
}

/// Raw rows as cells without interior. Of a text only stays that there was one, as in every cell.
fn into_edges(mut rows: RowBlock) -> RowBlock {
    for column in &mut rows.columns {
        let key = ColumnKey { field: column.key.field, stat: Stat::Edge };
        let values = match std::mem::replace(&mut column.values, Values::Bool(Vec::new())) {
            Values::Str(texts) => Values::Bool(vec![true; texts.ends.len()]),
            numbers => numbers,
        };
        *column = Column { key, values, valid: column.valid.take() };
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellReader;
    use crate::model::{FieldId, FieldType, Partial, SeriesId, StrColumn};

    #[test]
    fn into_edges_reads_as_cells_without_interior() {
        let mut texts = StrColumn::default();
        ["x", "", "y"].iter().for_each(|text| texts.push(text));
        let column = |field, values, valid| Column { key: ColumnKey::value(FieldId(field)), values, valid };
        let rows = RowBlock {
            series: vec![SeriesId(1); 3],
            ts_ns: vec![10, 20, 30],
            columns: vec![
                column(0, Values::I64(vec![5, 9, 2]), None),
                column(1, Values::Str(texts), Some(vec![true, false, true])),
            ],
        };
        let edges = into_edges(rows.clone());
        for (id, field_type, expected) in [(0, FieldType::Int, 3), (1, FieldType::Str, 2)] {
            let column = |stat| edges.column(ColumnKey { field: FieldId(id), stat });
            let reader = CellReader::new(field_type, true, column).unwrap();
            let mut partial = Partial::empty(field_type);
            for (row, ts_ns) in rows.ts_ns.iter().enumerate() {
                reader.add_edge(row, *ts_ns, &mut partial);
                reader.add_interior(row, *ts_ns, &mut partial);
            }
            assert_eq!(partial.count(), expected);
        }
    }

    #[test]
    fn is_sparse_up_to_a_row_in_five_seconds() {
        let times = |count: i64| (0..count).map(|k| k * 60_000_000_000 / count).collect::<Vec<i64>>();
        assert!(is_sparse(&times(12)) && !is_sparse(&times(13)) && is_sparse(&[]));
    }

    #[test]
    fn layers_of_sparse_and_dense_series_are_those_of_each_alone() {
        let info = FieldInfo { id: FieldId(0), name: "v".into(), field_type: FieldType::Int };
        let series = |series: u32, seconds: i64| {
            let times: Vec<i64> = (0..3600 / seconds).map(|k| k * seconds * 1_000_000_000).collect();
            let values = Values::I64(times.iter().map(|ts_ns| ts_ns % 977).collect());
            let column = Column { key: ColumnKey::value(FieldId(0)), values, valid: None };
            RowBlock { series: vec![SeriesId(series); times.len()], ts_ns: times, columns: vec![column] }
        };
        let alone = [series(1, 10), series(2, 1), series(3, 30)];
        let together = layers(merge_sorted(&alone), std::slice::from_ref(&info)).unwrap();
        let each = alone.map(|rows| layers(rows, std::slice::from_ref(&info)).unwrap());
        for (tier, found) in together.iter().enumerate() {
            let expected = merge_sorted(&each.each_ref().map(|layers| layers[tier].clone()));
            assert_eq!(found, &expected);
        }
        assert_eq!(
            each.map(|layers| layers.map(|layer| layer.len())),
            [[360, 12, 1], [60, 12, 1], [120, 12, 1]]
        );
    }
}
