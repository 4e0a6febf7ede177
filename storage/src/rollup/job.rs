//! The roll: raw rows of spans become layers of one minute, five minutes and an hour, and one manifest commit swaps
//! them in. `pick` decides, `cells::layers` presses, this file acts. Spans that need the same segments are rolled
//! together: a page holds rows of all its times, and would otherwise be decoded once for each span.
//!
//! [`press`] does the same from the finest cells that are kept, for a span of which something was deleted after its
//! raw rows were dropped. Deleted rows and cells are left out by both.

use std::sync::Arc;

use super::Work;
use super::drafts::SpanDrafts;
use crate::Result;
use crate::cell_set;
use crate::cells::{CellField, Layers, Presser, coarsen};
use crate::draft::schema_of;
use crate::manifest::RolledSpan;
use crate::model::{FieldInfo, FieldType, MeasurementId, RowBlock, Schema, StatSet, Tier, TimeRange};
use crate::pipeline::{Sink, pipe};
use crate::rows::append_rows;
use crate::scan::merge::{Piece, PieceSize, measurements, merged};
use crate::segment::Texts;
use crate::version::{Edit, FileNumbers, LiveSegment, Store, Version, Written};

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
    let press = |sink: &mut Sink<'_, Pressed>| {
        measurements(inputs).into_iter().try_for_each(|measurement| {
            let of = CellSchema::of(store, inputs, measurement)?;
            press_measurement(version, (spans, inputs), &Arc::new(of), size, sink)
        })
    };
    pipe(press, |pressed| {
        let Some(drafts) = drafts.get_mut(pressed.span) else { return Ok(()) };
        let mut layers = pressed.layers.iter();
        layers.try_for_each(|layers| drafts.push(store, (&pressed.of.schema, &pressed.of.kept), layers))
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

/// A measurement, and which groups of statistics cells keep of each of its fields.
struct CellSchema {
    schema: Schema,
    kept: Vec<StatSet>,
}

impl CellSchema {
    /// By the rules where rows are folded; what the finest cells keep where cells are merged.
    fn of(store: &Store, inputs: &[&LiveSegment], measurement: MeasurementId) -> Result<Self> {
        let schema = schema_of(store, measurement)?;
        let finest = finest(inputs, measurement);
        let cells = finest.iter().filter(|live| live.meta.tier != Tier::Raw);
        let sections: Vec<_> = cells.filter_map(|live| live.segment.section(measurement)).collect();
        let manifest = store.manifest();
        let kept_of = |info: &FieldInfo| {
            let rules = &manifest.cell_rules;
            let kept = sections.iter().filter_map(|section| section.field(info.id)).map(|(_, kept)| kept);
            kept.reduce(StatSet::shared).unwrap_or_else(|| cell_set::kept(rules, &schema.name, info))
        };
        let kept = schema.fields.iter().map(kept_of).collect();
        Ok(Self { schema, kept })
    }

    fn fields(&self) -> Vec<CellField> {
        let fields = self.schema.fields.iter().zip(&self.kept);
        fields.map(|(info, kept)| CellField { info: info.clone(), kept: *kept }).collect()
    }

    /// Whether texts must be read.
    fn texts(&self, finest: Tier) -> Texts {
        let mut fields = self.schema.fields.iter().zip(&self.kept);
        let keeps_text =
            fields.any(|(info, kept)| info.field_type == FieldType::Str && *kept != StatSet::COUNT);
        if finest == Tier::Raw && !keeps_text { Texts::Presence } else { Texts::Whole }
    }
}

/// The inputs of the finest tier that has a measurement.
fn finest<'a>(inputs: &[&'a LiveSegment], measurement: MeasurementId) -> Vec<&'a LiveSegment> {
    let holders = inputs.iter().copied().filter(|live| live.segment.section(measurement).is_some());
    let finest = holders.clone().map(|live| live.meta.tier).min();
    holders.filter(|live| Some(live.meta.tier) == finest).collect()
}

/// Cells of some series of a measurement in one of the spans.
struct Pressed {
    of: Arc<CellSchema>,
    span: usize,
    layers: Vec<Layers>,
}

/// The layers of each span for rows of a measurement, piece by piece, from the finest of the inputs that have it.
fn press_measurement(
    version: &Version,
    (spans, inputs): (&[TimeRange], &[&LiveSegment]),
    of: &Arc<CellSchema>,
    size: PieceSize,
    sink: &mut Sink<'_, Pressed>,
) -> Result<()> {
    let measurement = of.schema.measurement;
    let of_finest = finest(inputs, measurement);
    let Some(finest) = of_finest.first().map(|live| live.meta.tier) else { return Ok(()) };
    let fields = of.fields();
    let hull = spans.first().zip(spans.last());
    let hull = hull.map_or(TimeRange::new(0, 0), |(first, last)| TimeRange::new(first.start_ns, last.end_ns));
    let mut pressers: Vec<Presser<'_>> = spans.iter().map(|span| Presser::new(*span, &fields)).collect();
    let mut press = |piece: Piece| {
        let parts = pressers.iter_mut().zip(cut(piece.rows, spans));
        for (span, (presser, rows)) in parts.enumerate() {
            let mut layers = Vec::new();
            match finest {
                Tier::Raw => presser.push(rows, piece.goes_on, &mut layers)?,
                Tier::M1 | Tier::M5 | Tier::H1 => layers.push(coarser(rows, finest, &fields)?),
            }
            if !layers.is_empty() {
                sink(Pressed { of: Arc::clone(of), span, layers })?;
            }
        }
        Ok(())
    };
    merged(version, &of_finest, measurement, (hull, of.texts(finest)), size, &mut press)
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
