//! Sparse rows as their own 1m layer: where a minute holds few rows of a series, those rows are smaller than a cell
//! of them, and quicker to read.
//!
//! A row at time `t` is a cell whose edge lies at `t` and whose interior is empty. So a page of the 1m tier may hold
//! rows, re-keyed as edges, in place of cells; readers add the edges within a piece of time and need not know which
//! they have. Coarser tiers always hold cells. Knows nothing of files.

use crate::model::{Column, ColumnKey, RowBlock, Stat, Values};

/// Up to this many rows a minute rows are kept instead of cells: a row every five seconds. At one every ten seconds
/// cells take 4.7 times the bytes of the rows (`docs/benchmarks.md`, shape `tsbs`).
const ROWS_PER_CELL_MAX: usize = 12;

/// Whether rows that make so many 1m cells are kept as they are.
pub(crate) fn is_sparse(rows: usize, cells: usize) -> bool {
    rows <= cells.saturating_mul(ROWS_PER_CELL_MAX)
}

/// Raw rows as cells without interior. Of a text only stays that there was one, as in every cell.
pub(crate) fn into_edges(mut rows: RowBlock) -> RowBlock {
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
        assert!(is_sparse(720, 60) && !is_sparse(721, 60) && is_sparse(0, 0));
    }
}
