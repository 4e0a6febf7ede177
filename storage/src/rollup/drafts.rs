//! The three files of a rolled span in the making. What is the same in two of them is encoded once: series tables,
//! and the pages of sparse rows, which are both the 1m and the 5m layer. Knows nothing of how layers are made.
//!
//! Where one series has the same rows in both layers and the next has not, pages begin to lie apart. They come together
//! again, at the cost of a short page each, after some rows that are the same: what is written depends on the rows
//! alone, not on the pieces they come in.

use crate::Result;
use crate::cells::Layers;
use crate::draft::Draft;
use crate::manifest::SegmentMeta;
use crate::model::{FieldType, MeasurementId, RowBlock, Schema, StatSet, Tier, TimeRange};
use crate::segment::SeriesTable;
use crate::version::{FileNumbers, Store};

/// After so many rows that are both layers, pages that lie apart are brought together: a third of a page. Less would
/// cost more bytes in short pages than it saves in encoding.
const TOGETHER_ROWS: usize = 1024;

/// The files of one span.
#[derive(Debug)]
pub(super) struct SpanDrafts {
    minutes: Draft,
    fives: Draft,
    hours: Draft,
    section: Option<MeasurementId>,
    step: Step,
    table: SeriesTable,
}

/// How the open pages of the 1m and the 5m layer stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Neither has a row.
    Fresh,
    /// They are one: the 1m layer leads.
    Together,
    /// They differ; so many rows of both layers since the last difference.
    Apart(usize),
}

impl SpanDrafts {
    /// Takes three file numbers; touches no file yet.
    pub(super) fn new(numbers: &mut FileNumbers<'_>, span: TimeRange) -> Self {
        let [minutes, fives, hours] = Tier::CELLS.map(|tier| Draft::in_background(numbers, tier, span));
        Self { minutes, fives, hours, section: None, step: Step::Fresh, table: SeriesTable::default() }
    }

    /// Adds the layers of some series. Over all calls each layer is sorted by (measurement, series, time).
    ///
    /// # Errors
    /// As [`Draft::push`].
    pub(super) fn push(
        &mut self,
        store: &Store,
        (schema, kept): (&Schema, &[StatSet]),
        layers: &Layers,
    ) -> Result<()> {
        if self.section != Some(schema.measurement) {
            self.end_section(store)?;
            self.section = Some(schema.measurement);
        }
        let Layers { minutes, fives, hours } = layers;
        let schema = (schema, kept);
        self.hours.push_cells(store, schema, hours)?;
        let Some(fives) = fives.as_ref().or_else(|| has_texts(schema).then_some(minutes)) else {
            self.push_same(store, schema, minutes)?;
            self.minutes.pay(store)?;
            return self.fives.pay(store);
        };
        if self.step == Step::Together
            && let Some((leader, follower)) = self.minutes.writer().zip(self.fives.writer())
        {
            leader.part(follower)?;
        }
        self.step = Step::Apart(0);
        self.minutes.push_cells(store, schema, minutes)?;
        self.fives.push_cells(store, schema, fives)
    }

    /// Adds rows that are both layers.
    fn push_same(&mut self, store: &Store, schema: (&Schema, &[StatSet]), rows: &RowBlock) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let (leader, follower) = (self.minutes.begin(store, schema)?, self.fives.begin(store, schema)?);
        let start = match self.step {
            Step::Together => 0,
            Step::Fresh => {
                leader.lead(follower)?;
                0
            }
            Step::Apart(before) => {
                let end = end_of_series(rows, TOGETHER_ROWS.saturating_sub(before));
                leader.push_range(rows, 0..end)?;
                follower.push_range(rows, 0..end)?;
                self.step = Step::Apart(before + end);
                if before + end < TOGETHER_ROWS {
                    return Ok(());
                }
                leader.lead(follower)?;
                end
            }
        };
        self.step = Step::Together;
        leader.push_both(follower, rows, start..rows.len())
    }

    fn end_section(&mut self, store: &Store) -> Result<()> {
        if self.step == Step::Together
            && let Some((leader, follower)) = self.minutes.writer().zip(self.fives.writer())
        {
            leader.write_both(follower)?;
        }
        self.step = Step::Fresh;
        let drafts = [&mut self.minutes, &mut self.fives, &mut self.hours];
        drafts.into_iter().try_for_each(|draft| draft.end_section(store, &mut self.table))
    }

    /// Makes the files durable and tells what the manifest shall say of those that have rows.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn finish(mut self, store: &Store, generation: u64) -> Result<Vec<SegmentMeta>> {
        self.end_section(store)?;
        let drafts = [self.minutes, self.fives, self.hours];
        let metas = drafts.into_iter().map(|draft| draft.finish(store, generation));
        Ok(metas.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

/// Whether cells hold texts: these are codes into the dictionary of each file, so that no page goes into two. By the
/// schema, not by what a piece holds.
fn has_texts((schema, kept): (&Schema, &[StatSet])) -> bool {
    let mut fields = schema.fields.iter().zip(kept);
    fields.any(|(info, kept)| info.field_type == FieldType::Str && *kept != StatSet::COUNT)
}

/// Where the first series end that have so many rows; the end of all, if they have fewer.
fn end_of_series(rows: &RowBlock, count: usize) -> usize {
    let Some(last) = count.checked_sub(1) else { return 0 };
    let Some(last) = rows.series.get(last) else { return rows.len() };
    rows.series.partition_point(|series| series <= last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeriesId;

    #[test]
    fn end_of_series_is_no_middle() {
        let rows = RowBlock {
            series: (0..12).map(|row| SeriesId(row / 3)).collect(),
            ts_ns: (0..12).collect(),
            columns: Vec::new(),
        };
        let ends = [0, 1, 3, 4, 12, 99].map(|count| end_of_series(&rows, count));
        assert_eq!(ends, [0, 3, 3, 6, 12, 12]);
    }
}
