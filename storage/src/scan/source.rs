//! Where rows of a measurement lie, behind one way of reading them: a segment's pages or a sorted run of a
//! memtable. A [`Cursor`] is asked for series in ascending order and keeps the page it is on, so that a page that
//! spans many series is decoded once.

use std::ops::Range;
use std::sync::Arc;

use super::ValueBounds;
use super::slices::{self, held_of, reaches, rows_of_one, rows_within};
use crate::Result;
use crate::model::{Column, ColumnKey, MeasurementId, RowBlock, SeriesId, TimeRange, Values};
use crate::rows::Stretch;
use crate::segment::{ColumnInfo, PAGE_ROWS_MAX, PageKeys, Section, Segment};
use crate::tombstone::Mask;

/// So many rows are looked at as one where series are weighed.
const STRETCH_ROWS: usize = PAGE_ROWS_MAX / 8;

/// Sorted, unique rows (or cells) of one measurement.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A segment, and what of its rows is deleted.
    Segment(Arc<Segment>, Mask),
    Run(Arc<RowBlock>),
}

impl Source {
    /// About how many pages hold rows of some series, given in ascending order, in a range, and how many rows of these:
    /// from the index alone.
    pub(super) fn about(
        &self,
        measurement: MeasurementId,
        series: &[SeriesId],
        range: TimeRange,
    ) -> (u64, u64) {
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return (0, 0) };
        let (mut pages, mut rows) = (0, 0);
        match self {
            Self::Run(block) => {
                rows = block.len() as u64;
                pages = rows / PAGE_ROWS_MAX as u64 + 1;
            }
            Self::Segment(segment, _) => {
                let all = segment.section(measurement).map_or(&[][..], |section| &section.pages);
                let from = all.partition_point(|page| page.last_series < *first);
                let reached = all.iter().skip(from).take_while(|page| page.first_series <= *last);
                for page in reached.filter(|page| reaches(page, range)) {
                    let wanted = held_of(page, series);
                    if wanted != 0 {
                        let ids = u64::from(page.last_series.0.saturating_sub(page.first_series.0)) + 1;
                        pages += 1;
                        rows += rows_within(page, range) as u64 * wanted.min(ids) / ids + 1;
                    }
                }
            }
        }
        (pages, rows)
    }

    /// Adds about how many rows in a range some series have, given in ascending order, by the place of the series: a few
    /// places for each page, from the index alone.
    pub(super) fn weights(
        &self,
        measurement: MeasurementId,
        series: &[SeriesId],
        range: TimeRange,
        weights: &mut Vec<(usize, u64)>,
    ) {
        let place_of = |first: SeriesId| series.partition_point(|series| *series < first);
        match self {
            Self::Run(block) => {
                let firsts = block.series.iter().step_by(STRETCH_ROWS);
                weights.extend(firsts.map(|first| (place_of(*first), STRETCH_ROWS as u64)));
            }
            Self::Segment(segment, _) => {
                let all = segment.section(measurement).map_or(&[][..], |section| &section.pages);
                for page in all.iter().filter(|page| reaches(page, range)) {
                    let (first, held) = (place_of(page.first_series), held_of(page, series) as usize);
                    let steps = held.min(PAGE_ROWS_MAX / STRETCH_ROWS);
                    let each = rows_within(page, range) / steps.max(1);
                    weights.extend((0..steps).map(|step| (first + held * step / steps, each as u64)));
                }
            }
        }
    }
}

/// Consecutive rows of one series.
pub(crate) struct Slice<'a> {
    /// Their times.
    pub(crate) ts_ns: &'a [i64],
    /// Their positions in the columns.
    pub(crate) rows: Range<usize>,
    columns: Columns<'a>,
}

enum Columns<'a> {
    Page(&'a [Option<Arc<Column>>]),
    Run(&'a [Option<&'a Column>]),
}

impl Slice<'_> {
    /// The column asked for at this place of [`Cursor::new`]'s keys.
    pub(crate) fn column(&self, place: usize) -> Option<&Column> {
        match &self.columns {
            Columns::Page(columns) => columns.get(place).and_then(Option::as_deref),
            Columns::Run(columns) => columns.get(place).copied().flatten(),
        }
    }
}

struct Page {
    index: usize,
    keys: Arc<PageKeys>,
    listing: Arc<[ColumnInfo]>,
    /// Loaded when the first row of the page is wanted.
    columns: Option<Vec<Option<Arc<Column>>>>,
    /// Those that rows are judged by, loaded when the first row is.
    judged: Option<Vec<Option<Arc<Column>>>>,
}

/// Which rows of a page are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PageUse {
    /// All that are asked for.
    #[default]
    All,
    /// Those that are inside the bounds of [`Cursor::picking`]: no other source may have the others written anew.
    Inside,
    /// None.
    None,
}

enum Place<'a> {
    Segment { segment: &'a Segment, section: &'a Section, page: Option<Page> },
    Run { block: &'a RowBlock, columns: Vec<Option<&'a Column>> },
    Nothing,
}

/// Reads series of one source.
pub(crate) struct Cursor<'a> {
    place: Place<'a>,
    /// What is deleted, when something is.
    mask: Option<&'a Mask>,
    keys: &'a [ColumnKey],
    /// How the pages of a segment are read; those that are not listed wholly.
    uses: &'a [PageUse],
    /// What is looked for in pages that are read for it.
    bounds: &'a [ValueBounds],
    /// Pages whose columns were read.
    pages: u64,
    /// Rows that were judged and are not inside the bounds.
    missed: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(source: &'a Source, measurement: MeasurementId, keys: &'a [ColumnKey]) -> Self {
        let place = match source {
            Source::Segment(segment, _) => match segment.section(measurement) {
                Some(section) => Place::Segment { segment, section, page: None },
                None => Place::Nothing,
            },
            Source::Run(block) => {
                let columns = keys.iter().map(|key| block.column(*key)).collect();
                Place::Run { block, columns }
            }
        };
        let mask = match source {
            Source::Segment(_, mask) if !mask.is_empty() => Some(mask),
            Source::Segment(..) | Source::Run(_) => None,
        };
        Self { place, mask, keys, uses: &[], bounds: &[], pages: 0, missed: 0 }
    }

    /// Reads each page of a segment as its mark says.
    pub(super) fn picking(self, uses: &'a [PageUse], bounds: &'a [ValueBounds]) -> Self {
        Self { uses, bounds, ..self }
    }

    /// Pages whose columns were read so far, from the cache or the file; one that is read again counts again.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// Rows that were judged so far and not handed over.
    pub(super) fn missed(&self) -> u64 {
        self.missed
    }

    /// A guess at the rows of a series in a range, from the index alone; not far below.
    pub(super) fn rows_about(&self, series: SeriesId, range: TimeRange) -> u64 {
        match &self.place {
            Place::Nothing => 0,
            Place::Run { block, .. } => run_rows(block, series, range).len() as u64,
            Place::Segment { section, .. } => {
                let pages = section.pages.get(section.pages_of(series)).unwrap_or_default();
                pages.iter().filter(|page| reaches(page, range)).map(rows_of_one).sum()
            }
        }
    }

    /// Adds stretches of the rows of a series in a range, of about `stretch_rows` or a page.
    pub(super) fn stretches(
        &self,
        series: SeriesId,
        range: TimeRange,
        stretch_rows: u64,
        out: &mut Vec<Stretch>,
    ) {
        match &self.place {
            Place::Nothing => {}
            Place::Run { block, .. } => {
                let rows = run_rows(block, series, range);
                let times = block.ts_ns.get(rows).unwrap_or_default();
                let stretch = |times: &[i64]| Some((times.last()?.saturating_add(1), times.len() as u64));
                out.extend(times.chunks(PAGE_ROWS_MAX).filter_map(stretch));
            }
            Place::Segment { section, .. } => {
                out.extend(slices::stretches(section, series, range, rows_of_one, stretch_rows));
            }
        }
    }

    /// Hands over the rows of a series in a time range that are not deleted, in order, a slice per page or less.
    pub(crate) fn read(
        &mut self,
        series: SeriesId,
        range: TimeRange,
        sink: &mut dyn FnMut(&Slice<'_>) -> Result<()>,
    ) -> Result<()> {
        let Some(mask) = self.mask else { return self.read_all(series, range, sink) };
        mask.visible(series, range).into_iter().try_for_each(|part| self.read_all(series, part, sink))
    }

    /// As [`Cursor::read`], with what is deleted.
    fn read_all(
        &mut self,
        series: SeriesId,
        range: TimeRange,
        sink: &mut dyn FnMut(&Slice<'_>) -> Result<()>,
    ) -> Result<()> {
        match &mut self.place {
            Place::Nothing => Ok(()),
            Place::Run { block, columns } => {
                let rows = run_rows(block, series, range);
                match block.ts_ns.get(rows.clone()) {
                    Some(ts_ns) if !ts_ns.is_empty() => {
                        sink(&Slice { ts_ns, rows, columns: Columns::Run(columns) })
                    }
                    _ => Ok(()),
                }
            }
            Place::Segment { segment, section, page } => {
                let first = section.pages.partition_point(|page| page.last_series < series);
                let candidates = section.pages.iter().enumerate().skip(first);
                for (index, info) in candidates.take_while(|(_, info)| info.first_series <= series) {
                    let used = self.uses.get(index).copied().unwrap_or_default();
                    if !reaches(info, range) || used == PageUse::None {
                        continue;
                    }
                    if page.as_ref().is_none_or(|page| page.index != index) {
                        let (keys, listing) = segment.head(section, index)?;
                        *page = Some(Page { index, keys, listing, columns: None, judged: None });
                    }
                    let Some(page) = page else { continue };
                    let keys = Arc::clone(&page.keys);
                    let rows = narrow(&keys.ts_ns, keys.rows_of(series), range);
                    if rows.is_empty() {
                        continue;
                    }
                    let found = match used {
                        PageUse::Inside => {
                            let judged = rows.len();
                            self.pages += u64::from(page.judged.is_none());
                            let runs = page.inside(segment, section, self.bounds, rows)?;
                            self.missed += (judged - runs.iter().map(Range::len).sum::<usize>()) as u64;
                            runs
                        }
                        PageUse::All | PageUse::None => vec![rows],
                    };
                    for rows in found {
                        let Some(ts_ns) = keys.ts_ns.get(rows.clone()) else { continue };
                        let columns = match &mut page.columns {
                            Some(columns) => columns,
                            slot => {
                                self.pages += u64::from(page.judged.is_none());
                                slot.insert(load(segment, section, (index, &page.listing), self.keys)?)
                            }
                        };
                        sink(&Slice { ts_ns, rows, columns: Columns::Page(columns) })?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl Page {
    /// The runs of some rows that are inside of all bounds.
    fn inside(
        &mut self,
        segment: &Segment,
        section: &Section,
        bounds: &[ValueBounds],
        rows: Range<usize>,
    ) -> Result<Vec<Range<usize>>> {
        let columns = match &mut self.judged {
            Some(columns) => columns,
            slot => {
                let keys: Vec<ColumnKey> =
                    bounds.iter().map(|bounds| ColumnKey::value(bounds.field)).collect();
                slot.insert(load(segment, section, (self.index, &self.listing), &keys)?)
            }
        };
        let is_inside = |row: usize| {
            let mut both = bounds.iter().zip(&*columns);
            both.all(|(bounds, column)| column.as_ref().is_some_and(|column| bounds.may_hold(column, row)))
        };
        let mut runs: Vec<Range<usize>> = Vec::new();
        for row in rows.filter(|row| is_inside(*row)) {
            match runs.last_mut() {
                Some(last) if last.end == row => last.end += 1,
                _ => runs.push(row..row + 1),
            }
        }
        Ok(runs)
    }
}

impl ValueBounds {
    /// Whether the value of a row may lie inside; numbers that floats cannot tell apart are taken for the same.
    fn may_hold(&self, column: &Column, row: usize) -> bool {
        let holds = |value: f64| self.min <= value && value <= self.max;
        column.is_valid(row)
            && match &column.values {
                Values::F64(values) => values.get(row).is_some_and(|value| holds(*value)),
                Values::I64(values) => values.get(row).is_some_and(|value| holds(*value as f64)),
                Values::U64(values) => values.get(row).is_some_and(|value| holds(*value as f64)),
                Values::Bool(_) | Values::Str(_) | Values::Hist(_) | Values::Uniques(_) => true,
            }
    }
}

/// The rows of a series in a range.
fn run_rows(block: &RowBlock, series: SeriesId, range: TimeRange) -> Range<usize> {
    let start = block.series.partition_point(|other| *other < series);
    let len = block.series.get(start..).unwrap_or_default().partition_point(|other| *other == series);
    narrow(&block.ts_ns, start..start + len, range)
}

fn load(
    segment: &Segment,
    section: &Section,
    (page, listing): (usize, &[ColumnInfo]),
    keys: &[ColumnKey],
) -> Result<Vec<Option<Arc<Column>>>> {
    keys.iter().map(|key| segment.column_of(section, page, listing, *key)).collect()
}

/// The part of `rows` (ascending times) that lies in the range.
fn narrow(ts_ns: &[i64], rows: Range<usize>, range: TimeRange) -> Range<usize> {
    let times = ts_ns.get(rows.clone()).unwrap_or_default();
    // Most rows that are read lie inside as a whole.
    if let (Some(first), Some(last)) = (times.first(), times.last())
        && range.start_ns <= *first
        && *last < range.end_ns
    {
        return rows;
    }
    let start = times.partition_point(|ts| *ts < range.start_ns);
    let end = times.partition_point(|ts| *ts < range.end_ns);
    rows.start + start..rows.start + end.max(start)
}
