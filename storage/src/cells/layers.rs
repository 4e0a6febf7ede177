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

use std::sync::Arc;

use super::cell::CellField;
use super::fold::{Folder, coarsen};
use crate::Result;
use crate::model::{Column, ColumnKey, HOUR_NS, RowBlock, Stat, StatSet, Tier, TimeRange, Values, floor_to};
use crate::rows::{append_rows, merge_sorted};

/// Layers that may hold rows in place of cells, and up to how many rows of a series for each of its windows: a row
/// every five seconds in the 1m layer, one every ten in the 5m layer. At one every ten seconds 1m cells took 4.7 times
/// the bytes of the rows and 5m cells 2.2 times (`docs/benchmarks.md`, shape `tsbs`).
const SPARSE: [(Tier, usize); 2] = [(Tier::M1, 12), (Tier::M5, 30)];

/// The layers of consecutive series that are alike; rows and cells are sorted by (series, time), each pair once.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Layers {
    /// The 1m layer.
    pub(crate) minutes: RowBlock,
    /// The 5m layer; `None` where it is the same as the 1m layer.
    pub(crate) fives: Option<RowBlock>,
    /// The 1h layer.
    pub(crate) hours: RowBlock,
}

/// Presses the rows of a span of whole hours, which come in pieces: of whole series, or slices of one.
#[derive(Debug)]
pub(crate) struct Presser {
    fields: Arc<[CellField]>,
    /// A series with more rows in the span is dense, wherever they are.
    sparse_max: usize,
    /// Rows of a series that goes on, until it is known to be dense.
    waiting: Vec<RowBlock>,
    waiting_rows: usize,
    /// The hour that a dense series has come to.
    hour: Option<(i64, Folder)>,
}

impl Presser {
    /// A presser of rows with these fields.
    pub(crate) fn new(span: TimeRange, fields: Arc<[CellField]>) -> Self {
        let [(tier, rows_max), ..] = SPARSE;
        let windows = span.end_ns.saturating_sub(span.start_ns) / tier.width_ns();
        let sparse_max = usize::try_from(windows).unwrap_or(0).saturating_mul(rows_max);
        Self { fields, sparse_max, waiting: Vec::new(), waiting_rows: 0, hour: None }
    }

    /// Adds rows that follow those before; `goes_on` tells whether more rows of their series, of which there is then
    /// one alone, follow. Appends layers that are complete, in order.
    ///
    /// # Errors
    /// None for rows that have the fields' types.
    pub(crate) fn push(&mut self, rows: RowBlock, goes_on: bool, out: &mut Vec<Layers>) -> Result<()> {
        if !goes_on && self.waiting_rows == 0 {
            return layers(rows, &self.fields, out);
        }
        self.waiting_rows += rows.len();
        self.waiting.push(rows);
        if self.sparse_max < self.waiting_rows {
            for rows in std::mem::take(&mut self.waiting) {
                self.fold_hours(&rows, out)?;
            }
        }
        if goes_on {
            return Ok(());
        }
        self.waiting_rows = 0;
        self.end_hour(out)?;
        let rows = merge_sorted(&std::mem::take(&mut self.waiting));
        layers(rows, &self.fields, out)
    }

    /// Folds rows of a dense series; appends the hours that end in them.
    fn fold_hours(&mut self, rows: &RowBlock, out: &mut Vec<Layers>) -> Result<()> {
        let mut start = 0;
        while let Some(rest) = rows.ts_ns.get(start..)
            && let Some(first_ns) = rest.first()
        {
            let hour_ns = floor_to(*first_ns, HOUR_NS);
            let end = start + rest.partition_point(|ts_ns| ts_ns.saturating_sub(hour_ns) < HOUR_NS);
            if self.hour.as_ref().is_some_and(|(before_ns, _)| *before_ns != hour_ns) {
                self.end_hour(out)?;
            }
            let (_, folder) = self.hour.get_or_insert_with(|| (hour_ns, Folder::new(&self.fields, Tier::M1)));
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

    fn end_hour(&mut self, out: &mut Vec<Layers>) -> Result<()> {
        let Some((_, folder)) = self.hour.take() else { return Ok(()) };
        let minutes = folder.finish();
        let fives = coarsen(&minutes, &self.fields, Tier::M5)?;
        let hours = coarsen(&fives, &self.fields, Tier::H1)?;
        out.push(Layers { minutes, fives: Some(fives), hours });
        Ok(())
    }
}

/// Appends the layers of all rows of some series in a span of hours, in order of series.
fn layers(rows: RowBlock, fields: &[CellField], out: &mut Vec<Layers>) -> Result<()> {
    let runs = runs_of(&rows);
    if let [(_, class)] = runs[..] {
        out.push(layers_of(rows, class, fields)?);
        return Ok(());
    }
    let mut start = 0;
    for (end, class) in runs {
        let mut run = RowBlock::default();
        append_rows(&mut run, &rows, start, end);
        start = end;
        out.push(layers_of(run, class, fields)?);
    }
    Ok(())
}

/// The layers of rows of which the first `sparse` layers keep the rows.
fn layers_of(rows: RowBlock, sparse: usize, fields: &[CellField]) -> Result<Layers> {
    Ok(match sparse {
        0 => {
            let minutes = fold(&rows, fields, Tier::M1);
            let fives = coarsen(&minutes, fields, Tier::M5)?;
            let hours = coarsen(&fives, fields, Tier::H1)?;
            Layers { minutes, fives: Some(fives), hours }
        }
        1 => {
            let fives = fold(&rows, fields, Tier::M5);
            let hours = coarsen(&fives, fields, Tier::H1)?;
            Layers { minutes: into_edges(rows, fields), fives: Some(fives), hours }
        }
        _ => {
            let hours = fold(&rows, fields, Tier::H1);
            Layers { minutes: into_edges(rows, fields), fives: None, hours }
        }
    })
}

fn fold(rows: &RowBlock, fields: &[CellField], tier: Tier) -> RowBlock {
    let mut folder = Folder::new(fields, tier);
    folder.push(rows);
    folder.finish()
}

/// Consecutive series of one class: where their rows end, and the class.
fn runs_of(rows: &RowBlock) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for series in rows.series.chunk_by(|one, next| one == next) {
        let end = start + series.len();
        let class = class_of(rows.ts_ns.get(start..end).unwrap_or_default());
        match runs.last_mut() {
            Some((last, known)) if *known == class => *last = end,
            _ => runs.push((end, class)),
        }
        start = end;
    }
    runs
}

/// How many layers keep the rows of a series at these times, none, the first or both: a layer never does without the finer ones.
fn class_of(ts_ns: &[i64]) -> usize {
    SPARSE.iter().take_while(|(tier, rows_max)| is_sparse(ts_ns, tier.width_ns(), *rows_max)).count()
}

/// Whether the rows of a series at these times, which ascend, are no more than so many for each of its windows.
fn is_sparse(ts_ns: &[i64], width_ns: i64, rows_max: usize) -> bool {
    let (mut windows, mut last) = (0_usize, None);
    for ts_ns in ts_ns {
        // A division for each window, not for each row.
        let is_same = last.is_some_and(|start_ns| ts_ns.wrapping_sub(start_ns) < width_ns);
        if !is_same {
            last = Some(floor_to(*ts_ns, width_ns));
            windows += 1;
        }
    }
    ts_ns.len() <= windows.saturating_mul(rows_max)
}

/// Raw rows as cells without interior. Of a text whose cells keep no more than the count only stays that there was one.
fn into_edges(mut rows: RowBlock, fields: &[CellField]) -> RowBlock {
    let is_counted = |column: &Column| {
        fields.iter().any(|field| field.info.id == column.key.field && field.kept == StatSet::COUNT)
    };
    for column in &mut rows.columns {
        let key = ColumnKey { field: column.key.field, stat: Stat::Edge };
        let is_counted = is_counted(column);
        let values = match std::mem::replace(&mut column.values, Values::Bool(Vec::new())) {
            Values::Str(texts) if is_counted => Values::Bool(vec![true; texts.ends.len()]),
            numbers => numbers,
        };
        *column = Column { key, values, valid: column.valid.take() };
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell_set::CellSet;
    use crate::cells::CellReader;
    use crate::model::{FieldId, FieldInfo, FieldType, Partial, SeriesId, StrColumn};
    use crate::rows::merge_sorted;

    fn field_of(id: u16, field_type: FieldType, set: CellSet) -> CellField {
        let info = FieldInfo { id: FieldId(id), name: "v".into(), field_type };
        CellField { info, kept: set.kept(field_type) }
    }

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
        let cases = [(0, FieldType::Int, 3), (1, FieldType::Str, 2)];
        for ((id, field_type, expected), set) in
            cases.into_iter().flat_map(|case| CellSet::ALL.map(|set| (case, set)))
        {
            let field = field_of(id, field_type, set);
            let edges = into_edges(rows.clone(), std::slice::from_ref(&field));
            let reader = CellReader::of_block(&edges, &field).unwrap();
            let mut partial = Partial::empty(field_type);
            for (row, ts_ns) in rows.ts_ns.iter().enumerate() {
                reader.add_edge(row, *ts_ns, &mut partial);
                reader.add_interior(row, *ts_ns, &mut partial);
            }
            assert_eq!(partial.count(), expected);
            if let Partial::Text(text) = partial
                && field.kept.has(StatSet::ENDS)
            {
                assert_eq!((&*text.first, &*text.last), ("x", "y"));
            }
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
        let info = field_of(0, FieldType::Int, CellSet::Auto);
        let series = |series: u32, seconds: i64| {
            let times: Vec<i64> = (0..3600 / seconds).map(|k| k * seconds * 1_000_000_000).collect();
            let values = Values::I64(times.iter().map(|ts_ns| ts_ns % 977).collect());
            let column = Column { key: ColumnKey::value(FieldId(0)), values, valid: None };
            RowBlock { series: vec![SeriesId(series); times.len()], ts_ns: times, columns: vec![column] }
        };
        let alone = [series(1, 10), series(2, 1), series(3, 30), series(4, 6)];
        let fields = std::slice::from_ref(&info);
        let collect = |rows: RowBlock| {
            let mut all: [Vec<RowBlock>; 3] = Default::default();
            let mut found = Vec::new();
            layers(rows, fields, &mut found).unwrap();
            for Layers { minutes, fives, hours } in found {
                let fives = fives.unwrap_or_else(|| minutes.clone());
                all.iter_mut().zip([minutes, fives, hours]).for_each(|(all, layer)| all.push(layer));
            }
            all.map(|blocks| merge_sorted(&blocks))
        };
        let together = collect(merge_sorted(&alone));
        let each = alone.map(collect);
        for (tier, found) in together.iter().enumerate() {
            let expected = merge_sorted(&each.each_ref().map(|layers| layers[tier].clone()));
            assert_eq!(found, &expected);
        }
        assert_eq!(
            each.map(|layers| layers.map(|layer| layer.len())),
            [[360, 360, 1], [60, 12, 1], [120, 120, 1], [600, 12, 1]]
        );
    }

    #[test]
    fn layers_cut_where_the_class_of_series_changes() {
        let info = field_of(0, FieldType::Int, CellSet::Auto);
        let mut rows = RowBlock::default();
        let mut values = Vec::new();
        for (series, seconds) in [(1, 10), (2, 30), (3, 1), (4, 6), (5, 6), (6, 60)] {
            for k in 0..600 / seconds {
                rows.series.push(SeriesId(series));
                rows.ts_ns.push(k * seconds * 1_000_000_000);
                values.push(k);
            }
        }
        let key = ColumnKey::value(FieldId(0));
        rows.columns = vec![Column { key, values: Values::I64(values), valid: None }];
        let mut found = Vec::new();
        layers(rows, std::slice::from_ref(&info), &mut found).unwrap();
        let found = found
            .into_iter()
            .map(|one| (one.minutes.len(), one.fives.map(|fives| fives.len()), one.hours.len()));
        assert_eq!(
            found.collect::<Vec<_>>(),
            [(80, None, 2), (10, Some(2), 1), (200, Some(4), 2), (10, None, 1)]
        );
    }
}
