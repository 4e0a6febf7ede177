//! The roll: raw rows of spans become layers of one minute, five minutes and an hour, and one manifest commit swaps
//! them in. `pick` decides, `cells::layers` presses, this file acts. Spans that need the same segments are rolled
//! together: a page holds rows of all its times, and would otherwise be decoded once for each span.
//!
//! [`press`] does the same from the finest cells that are kept, for a span of which something was deleted after its
//! raw rows were dropped. Deleted rows and cells are left out by both.

use std::sync::Arc;

use super::Work;
use super::drafts::SpanDrafts;
use crate::cell_set;
use crate::cells::{CellField, Layers, Presser, coarsen};
use crate::draft::schema_of;
use crate::manifest::RolledSpan;
use crate::model::{FieldInfo, FieldType, MeasurementId, RowBlock, Schema, StatSet, Tier, TimeRange};
use crate::pipeline::{Sink, pipe};
use crate::rows::append_rows;
use crate::scan::merge::{PieceSize, measurements, merged};
use crate::segment::Texts;
use crate::version::{Edit, FileNumbers, LiveSegment, Store, Version, Written};
use crate::{Error, ErrorKind, Result};

/// Rolls spans that follow one another, replacing the cells they had.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then.
pub(crate) fn run(store: &Store, works: &[Work]) -> Result<()> {
    run_in_pieces(store, works, PieceSize::USUAL)
}

/// As [`run`]. The files are the same, whatever the size of the pieces.
pub(crate) fn run_in_pieces(store: &Store, works: &[Work], size: PieceSize) -> Result<()> {
    store.attempt(|numbers| {
        let version = store.version();
        let is_input = |id: &u64| works.iter().any(|work| work.inputs.contains(id));
        let inputs: Vec<&LiveSegment> =
            version.of_tier(Tier::Raw).filter(|live| is_input(&live.meta.id)).collect();
        // A span that covers what it was not rolled from would count as one whose rows were lost.
        let is_live = |id: &u64| inputs.iter().any(|live| live.meta.id == *id);
        if let Some(work) = works.iter().find(|work| !work.inputs.iter().all(is_live)) {
            let message = format!("not all segments of {:?} are live", work.inputs);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let spans: Vec<TimeRange> = works.iter().map(|work| work.span).collect();
        let mut edit = write(store, numbers, &version, (&spans, &inputs), size)?;
        let mut rolled = version.rolled.clone();
        rolled.retain(|rolled| !spans.contains(&rolled.span));
        rolled.extend(works.iter().map(|work| RolledSpan { span: work.span, covers: work.inputs.clone() }));
        rolled.sort_by_key(|span| span.span.start_ns);
        edit.rolled = Some(rolled);
        store.commit(edit)
    })
}

/// Writes the cells of a span anew from the finest that are kept, without those that are deleted.
///
/// # Errors
/// Those of the file system, `Corruption` of an input; nothing has changed then.
pub(crate) fn press(store: &Store, span: TimeRange, from: Tier) -> Result<()> {
    store.attempt(|numbers| {
        let version = store.version();
        let cells = version.segments.iter().filter(|live| from.max(Tier::M1) <= live.meta.tier);
        let inputs: Vec<&LiveSegment> = cells.filter(|live| live.meta.partition == span).collect();
        let edit = write(store, numbers, &version, (&[span], &inputs), PieceSize::OF_CELLS)?;
        store.commit(edit)
    })
}

/// Writes the cell files of ascending spans, each measurement from the finest of the inputs that have it; the edit
/// swaps them for those they had.
fn write(
    store: &Store,
    numbers: &mut FileNumbers<'_>,
    version: &Version,
    (spans, inputs): (&[TimeRange], &[&LiveSegment]),
    size: PieceSize,
) -> Result<Edit> {
    let mut drafts: Vec<SpanDrafts> = spans.iter().map(|span| SpanDrafts::new(numbers, *span)).collect();
    let hull = spans.first().zip(spans.last());
    let hull = hull.map_or(TimeRange::new(0, 0), |(first, last)| TimeRange::new(first.start_ns, last.end_ns));
    let read = |sink: &mut Sink<'_, Read>| {
        measurements(inputs).into_iter().try_for_each(|measurement| {
            let of = Arc::new(CellSchema::of(store, inputs, measurement)?);
            let of_finest = of_tier(inputs, measurement, of.finest);
            merged(version, &of_finest, measurement, (hull, of.texts()), size, &mut |piece| {
                sink(Read { of: Arc::clone(&of), parts: cut(piece.rows, spans), goes_on: piece.goes_on })
            })
        })
    };
    let mut pressers = Vec::new();
    let mut last = None;
    pipe(read, |Read { of, parts, goes_on }| {
        if last.replace(of.schema.measurement) != Some(of.schema.measurement) {
            pressers = spans.iter().map(|span| Presser::new(*span, Arc::clone(&of.fields))).collect();
        }
        for ((presser, draft), rows) in pressers.iter_mut().zip(&mut drafts).zip(parts) {
            let mut layers = Vec::new();
            match of.finest {
                Tier::Raw => presser.push(rows, goes_on, &mut layers)?,
                Tier::M1 | Tier::M5 | Tier::H1 => layers.push(coarser(rows, of.finest, &of.fields)?),
            }
            layers.iter().try_for_each(|layers| draft.push(store, (&of.schema, &of.kept), layers))?;
        }
        Ok(())
    })?;
    let generation = store.next_file();
    let mut edit = Edit::default();
    for draft in drafts {
        edit.add.extend(draft.finish(store, generation)?);
    }
    Written::count(&store.written.rolled, &edit);
    // Cells of a span lie in files of exactly that span, so the files it replaces are those with its bounds.
    let live = version.segments.iter().map(|live| &live.meta);
    let old = live.filter(|meta| meta.tier != Tier::Raw && spans.contains(&meta.partition));
    edit.remove = old.map(|meta| meta.id).collect();
    Ok(edit)
}

/// Rows of a measurement on their way to the pressers.
struct Read {
    of: Arc<CellSchema>,
    /// Those of each span.
    parts: Vec<RowBlock>,
    /// As [`Piece::goes_on`](crate::scan::merge::Piece::goes_on).
    goes_on: bool,
}

/// A measurement, and what its cells are made of.
struct CellSchema {
    schema: Schema,
    /// Which groups of statistics cells keep of each field.
    kept: Vec<StatSet>,
    fields: Arc<[CellField]>,
    /// Of the inputs that have the measurement, only those of this tier are read.
    finest: Tier,
}

impl CellSchema {
    /// By the rules where rows are folded; what the finest cells keep where cells are merged.
    fn of(store: &Store, inputs: &[&LiveSegment], measurement: MeasurementId) -> Result<Self> {
        let holders = inputs.iter().filter(|live| live.segment.section(measurement).is_some());
        let finest = holders.map(|live| live.meta.tier).min().unwrap_or(Tier::Raw);
        let schema = schema_of(store, measurement)?;
        let of_finest = of_tier(inputs, measurement, finest);
        let cells = of_finest.iter().filter(|live| live.meta.tier != Tier::Raw);
        let sections: Vec<_> = cells.filter_map(|live| live.segment.section(measurement)).collect();
        let manifest = store.manifest();
        let kept_of = |info: &FieldInfo| {
            let rules = &manifest.cell_rules;
            let kept = sections.iter().filter_map(|section| section.field(info.id)).map(|(_, kept)| kept);
            kept.reduce(StatSet::shared).unwrap_or_else(|| cell_set::kept(rules, &schema.name, info))
        };
        let kept: Vec<StatSet> = schema.fields.iter().map(kept_of).collect();
        let fields = schema.fields.iter().zip(&kept);
        let fields = fields.map(|(info, kept)| CellField { info: info.clone(), kept: *kept }).collect();
        Ok(Self { schema, kept, fields, finest })
    }

    /// Whether texts must be read.
    fn texts(&self) -> Texts {
        let keeps_text =
            |field: &CellField| field.info.field_type == FieldType::Str && field.kept != StatSet::COUNT;
        let needs_them = self.finest != Tier::Raw || self.fields.iter().any(keeps_text);
        if needs_them { Texts::Whole } else { Texts::Presence }
    }
}

/// The inputs of a tier that have a measurement.
fn of_tier<'a>(inputs: &[&'a LiveSegment], measurement: MeasurementId, tier: Tier) -> Vec<&'a LiveSegment> {
    let of_tier = inputs.iter().copied().filter(|live| live.meta.tier == tier);
    of_tier.filter(|live| live.segment.section(measurement).is_some()).collect()
}

/// The rows of each of the ascending spans, which are sorted by (series, time).
fn cut(rows: RowBlock, spans: &[TimeRange]) -> Vec<RowBlock> {
    if spans.len() == 1 {
        return vec![rows];
    }
    let mut parts = vec![RowBlock::default(); spans.len()];
    let mut start = 0;
    for run in rows.series.chunk_by(|one, next| one == next) {
        let end = start + run.len();
        for (span, part) in spans.iter().zip(&mut parts) {
            let times = rows.ts_ns.get(start..end).unwrap_or_default();
            start += times.partition_point(|ts_ns| *ts_ns < span.start_ns);
            let times = rows.ts_ns.get(start..end).unwrap_or_default();
            let len = times.partition_point(|ts_ns| *ts_ns < span.end_ns);
            if 0 < len {
                append_rows(part, &rows, start, start + len);
            }
            start += len;
        }
        start = end;
    }
    parts
}

/// The cells of a tier and of the coarser ones; nothing for finer ones.
fn coarser(cells: RowBlock, finest: Tier, fields: &[CellField]) -> Result<Layers> {
    let mut layers = [RowBlock::default(), RowBlock::default(), RowBlock::default()];
    let mut last = cells;
    for (tier, layer) in Tier::CELLS.into_iter().zip(&mut layers).filter(|(tier, _)| finest <= *tier) {
        if finest < tier {
            last = coarsen(&last, fields, tier)?;
        }
        layer.clone_from(&last);
    }
    let [minutes, fives, hours] = layers;
    Ok(Layers { minutes, fives: Some(fives), hours })
}
