//! What the rows of some series become in each layer.
//!
//! As a rule, rows become cells of a minute, those become cells of five minutes, and those cells of an hour. Where a
//! minute holds few rows of a series, the rows are smaller than a cell of them and quicker to write and to read: there
//! the rows are their own 1m layer, and likewise their own 5m layer where five minutes hold few. The first layer of
//! cells is then folded from the rows at once. The 1h layer always holds cells, so that the reading of a long time is
//! bounded by its hours. A row at time `t` is a cell
//! whose edge lies at `t` and whose interior is empty; readers add the edges and interiors within a piece of time, and
//! need not know which they have.
//!
//! What is sparse is decided for each series on its own, so that all layers are a pure function of the rows, however
//! these came in pieces. See `docs/decisions/0004-sparse-rows-are-their-own-1m-layer.md`. Knows nothing of files.
//!
//! A long series comes in slices of time ([`Presser`]): its first rows wait until there are more than a sparse series
//! may have, and then it is pressed hour by hour.

use super::fold::{Folder, coarsen};
use crate::Result;
use crate::model::{
    Column, ColumnKey, FieldInfo, HOUR_NS, RowBlock, Stat, Tier, TimeRange, Values, floor_to,
};
use crate::rows::{append_rows, merge_sorted};

/// Layers that may hold rows in place of cells, and up to how many rows of a series for each of its windows: a row
/// every five seconds in the 1m layer, one every ten in the 5m layer. At one every ten seconds 1m cells took 4.7 times
/// the bytes of the rows and 5m cells 2.2 times (`docs/benchmarks.md`, shape `tsbs`).
const SPARSE: [(Tier, usize); 2] = [(Tier::M1, 12), (Tier::M5, 30)];
/// Series are told apart by how many layers keep their rows: none, the first, or both.
const CLASSES: usize = SPARSE.len() + 1;

/// The 1m, 5m and 1h layers of some rows.
pub(crate) type Layers = [RowBlock; 3];

/// Presses the rows of a span of whole hours, which come in pieces: of whole series, or slices of one.
#[derive(Debug)]
pub(crate) struct Presser<'a> {
    fields: &'a [FieldInfo],
    /// A series with more rows in the span is dense, wherever they are.
    sparse_max: usize,
    /// Rows of a series that goes on, until it is known to be dense.
    waiting: Vec<RowBlock>,
    waiting_rows: usize,
    /// The hour that a dense series has come to.
    hour: Option<(i64, Folder)>,
}

impl<'a> Presser<'a> {
    /// A presser of rows with these fields.
    pub(crate) fn new(span: TimeRange, fields: &'a [FieldInfo]) -> Self {
        let [(tier, rows_max), ..] = SPARSE;
        let windows = span.end_ns.saturating_sub(span.start_ns) / tier.width_ns();
        let sparse_max = usize::try_from(windows).unwrap_or(0).saturating_mul(rows_max);
        Self { fields, sparse_max, waiting: Vec::new(), waiting_rows: 0, hour: None }
    }

    /// Adds rows that follow those before; `goes_on` tells whether more rows of their series, of which there is then
    /// one alone, follow. Hands over layers that are complete, in order.
    ///
    /// # Errors
    /// None for rows that have the fields' types.
    pub(crate) fn push(
        &mut self,
        rows: RowBlock,
        goes_on: bool,
        sink: &mut dyn FnMut(Layers) -> Result<()>,
    ) -> Result<()> {
        if !goes_on && self.waiting_rows == 0 {
            return if rows.is_empty() { Ok(()) } else { sink(layers(rows, self.fields)?) };
        }
        self.waiting_rows += rows.len();
        self.waiting.push(rows);
        if self.sparse_max < self.waiting_rows {
            for rows in std::mem::take(&mut self.waiting) {
                self.fold_hours(&rows, sink)?;
            }
        }
        if goes_on {
            return Ok(());
        }
        self.waiting_rows = 0;
        self.end_hour(sink)?;
        let rows = merge_sorted(&std::mem::take(&mut self.waiting));
        if rows.is_empty() { Ok(()) } else { sink(layers(rows, self.fields)?) }
    }

    /// Folds rows of a dense series; hands over the hours that end in them.
    fn fold_hours(&mut self, rows: &RowBlock, sink: &mut dyn FnMut(Layers) -> Result<()>) -> Result<()> {
        let mut start = 0;
        while let Some(rest) = rows.ts_ns.get(start..)
            && let Some(first_ns) = rest.first()
        {
            let hour_ns = floor_to(*first_ns, HOUR_NS);
            let end = start + rest.partition_point(|ts_ns| ts_ns.saturating_sub(hour_ns) < HOUR_NS);
            if self.hour.as_ref().is_some_and(|(before_ns, _)| *before_ns != hour_ns) {
                self.end_hour(sink)?;
            }
            let (_, folder) = self.hour.get_or_insert_with(|| (hour_ns, Folder::new(self.fields, Tier::M1)));
            if start == 0 && end == rows.len() {
                folder.push(rows);
            } else {
                let mut part = RowBlock::default();
                append_rows(&mut part, rows, start, end);
                folder.push(&part);
            }
            start = end;
        }
        Ok(())
    }

    fn end_hour(&mut self, sink: &mut dyn FnMut(Layers) -> Result<()>) -> Result<()> {
        let Some((_, folder)) = self.hour.take() else { return Ok(()) };
        let minutes = folder.finish();
        let fives = coarsen(&minutes, self.fields, Tier::M5)?;
        let hours = coarsen(&fives, self.fields, Tier::H1)?;
        sink([minutes, fives, hours])
    }
}

/// The layers of all rows of some series in a span of hours; rows and cells are sorted by (series, time), each pair
/// once.
fn layers(rows: RowBlock, fields: &[FieldInfo]) -> Result<Layers> {
    let mut joined: [Vec<RowBlock>; 3] = Default::default();
    for (class, rows) in part(rows).into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
        for (layer, all) in layers_of(rows, class, fields)?.into_iter().zip(&mut joined) {
            all.push(layer);
        }
    }
    Ok(joined.map(|mut blocks| match blocks.len() {
        1 => blocks.pop().unwrap_or_default(),
        _ => merge_sorted(&blocks),
    }))
}

/// The layers of rows of which the first `sparse` layers keep the rows.
fn layers_of(rows: RowBlock, sparse: usize, fields: &[FieldInfo]) -> Result<Layers> {
    let mut layers: Layers = Default::default();
    let cells = Tier::CELLS.into_iter().zip(&mut layers).skip(sparse);
    let mut finer: Option<&RowBlock> = None;
    for (tier, layer) in cells {
        *layer = match finer {
            None => fold(&rows, fields, tier),
            Some(finer) => coarsen(finer, fields, tier)?,
        };
        finer = Some(layer);
    }
    if 0 < sparse {
        let edges = into_edges(rows);
        for layer in layers.iter_mut().take(sparse).skip(1) {
            layer.clone_from(&edges);
        }
        let [first, ..] = &mut layers;
        *first = edges;
    }
    Ok(layers)
}

fn fold(rows: &RowBlock, fields: &[FieldInfo], tier: Tier) -> RowBlock {
    let mut folder = Folder::new(fields, tier);
    folder.push(rows);
    folder.finish()
}

/// The rows of the series of each class.
fn part(rows: RowBlock) -> [RowBlock; CLASSES] {
    let mut runs = Vec::new();
    let mut start = 0;
    for run in rows.series.chunk_by(|one, next| one == next) {
        let end = start + run.len();
        runs.push((start, end, class_of(rows.ts_ns.get(start..end).unwrap_or_default())));
        start = end;
    }
    let mut parts: [RowBlock; CLASSES] = Default::default();
    let first = runs.first().map_or(0, |(_, _, class)| *class);
    if runs.iter().all(|(_, _, class)| *class == first) {
        if let Some(part) = parts.get_mut(first) {
            *part = rows;
        }
        return parts;
    }
    for (start, end, class) in runs {
        if let Some(part) = parts.get_mut(class) {
            append_rows(part, &rows, start, end);
        }
    }
    parts
}

/// How many layers keep the rows of a series at these times: a layer never does without the finer ones.
fn class_of(ts_ns: &[i64]) -> usize {
    SPARSE.iter().take_while(|(tier, rows_max)| is_sparse(ts_ns, tier.width_ns(), *rows_max)).count()
}

/// Whether the rows of a series at these times are no more than so many for each of its windows.
fn is_sparse(ts_ns: &[i64], width_ns: i64, rows_max: usize) -> bool {
    let is_same_window = |one: &i64, next: &i64| floor_to(*one, width_ns) == floor_to(*next, width_ns);
    ts_ns.len() <= ts_ns.chunk_by(is_same_window).count().saturating_mul(rows_max)
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
    fn class_of_a_row_in_five_seconds_and_in_ten() {
        let class =
            |rows: i64| class_of(&(0..rows).map(|k| k * 300_000_000_000 / rows).collect::<Vec<i64>>());
        assert_eq!([class(61), class(60), class(31), class(30), class(0)], [0, 1, 1, 2, 2]);
        let burst: Vec<i64> = (0..13).collect();
        assert_eq!(class_of(&burst), 0, "few rows in five minutes, too many for one");
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
        let alone = [series(1, 10), series(2, 1), series(3, 30), series(4, 6)];
        let together = layers(merge_sorted(&alone), std::slice::from_ref(&info)).unwrap();
        let each = alone.map(|rows| layers(rows, std::slice::from_ref(&info)).unwrap());
        for (tier, found) in together.iter().enumerate() {
            let expected = merge_sorted(&each.each_ref().map(|layers| layers[tier].clone()));
            assert_eq!(found, &expected);
        }
        assert_eq!(
            each.map(|layers| layers.map(|layer| layer.len())),
            [[360, 360, 1], [60, 12, 1], [120, 120, 1], [600, 12, 1]]
        );
    }
}
