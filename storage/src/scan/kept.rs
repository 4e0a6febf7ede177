//! Cells that do not keep what a request wants are not used: raw rows answer in their place, and where these are gone
//! there is no answer. Pure; the order of events: [`Lacking::of`], [`Lacking::take_out`], [`Lacking::check`].

use super::cover::utc;
use super::{Bounds, Window};
use crate::cells::wanted;
use crate::model::{FieldId, HOUR_NS, MeasurementId, Schema, StatSet, Tier, TimeRange, ceil_to};
use crate::rolled::without;
use crate::version::Version;
use crate::{Error, ErrorKind, Result};

/// The cells of a field that lack some group of statistics.
#[derive(Debug)]
pub(super) struct Lacking {
    needs: StatSet,
    /// For 1m, 5m and 1h: where they are, and what they keep.
    cells: [Vec<(TimeRange, StatSet)>; 3],
}

/// Where raw rows are gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone<'a> {
    /// Data before these times is gone by retention, for raw, 1m, 5m and 1h.
    pub(super) floors_ns: [i64; 4],
    /// Spans whose raw rows were lost with a segment.
    pub(super) frozen: &'a [TimeRange],
}

impl Lacking {
    /// The cells of a field that lack what a request wants; of those that it has at all.
    pub(super) fn of(version: &Version, measurement: MeasurementId, field: FieldId, wants: StatSet) -> Self {
        let mut lacking = Self { needs: StatSet::COUNT, cells: Default::default() };
        for live in version.segments.iter().filter(|live| live.meta.tier != Tier::Raw) {
            let Some(section) = live.segment.section(measurement) else { continue };
            let Some((info, kept)) = section.field(field) else { continue };
            let needs = wanted(info.field_type, wants);
            lacking.needs = needs;
            let place = Tier::CELLS.iter().position(|tier| *tier == live.meta.tier);
            if !kept.has(needs)
                && let Some(cells) = place.and_then(|place| lacking.cells.get_mut(place))
            {
                cells.push((live.meta.partition, kept));
            }
        }
        lacking
    }

    /// Takes these cells out of what may be answered from cells.
    pub(super) fn take_out(&self, mut valid: [Vec<TimeRange>; 3]) -> [Vec<TimeRange>; 3] {
        for ((tier, spans), cells) in Tier::CELLS.into_iter().zip(&mut valid).zip(&self.cells) {
            if !cells.is_empty() {
                let mut holes: Vec<TimeRange> = cells.iter().map(|(range, _)| *range).collect();
                *spans = without(spans, &mut holes, tier.width_ns());
            }
        }
        valid
    }

    /// Checks that what is left, and raw rows, answer the windows wherever these cells would have.
    ///
    /// # Errors
    /// `Unavailable` when only these cells are left of some time in a window.
    pub(super) fn check(
        &self,
        (windows, bounds): (&[Window], Bounds),
        left: &[Vec<TimeRange>; 3],
        gone: Gone<'_>,
        schema: impl Fn() -> Option<Schema>,
        field: FieldId,
    ) -> Result<()> {
        let [raw_floor_ns, floors_ns @ ..] = gone.floors_ns;
        let above = |range: &TimeRange, floor_ns: i64| {
            TimeRange::new(range.start_ns.max(ceil_to(floor_ns, HOUR_NS)), range.end_ns)
        };
        let mut answered: Vec<TimeRange> = left
            .iter()
            .zip(floors_ns)
            .flat_map(|(spans, floor_ns)| spans.iter().map(move |span| above(span, floor_ns)))
            .collect();
        let without_raw = || {
            let before = TimeRange::new(i64::MIN, raw_floor_ns);
            gone.frozen.iter().copied().chain([before])
        };
        for ((tier, cells), floor_ns) in Tier::CELLS.into_iter().zip(&self.cells).zip(floors_ns) {
            for (range, kept) in cells {
                let parts = without_raw().map(|gone| gone.intersect(&above(range, floor_ns)));
                let parts: Vec<TimeRange> = parts.filter(|part| !part.is_empty()).collect();
                let missed = without(&parts, &mut answered, 1);
                let Some(missed) = missed.iter().find(|missed| touches(windows, bounds, missed)) else {
                    continue;
                };
                let schema = schema();
                let name = schema.as_ref().map_or("", |schema| &schema.name);
                let info =
                    schema.as_ref().and_then(|schema| schema.fields.iter().find(|info| info.id == field));
                let field = info.map_or("", |info| &info.name);
                let (tier, start, end) = (tier.name(), utc(missed.start_ns), utc(missed.end_ns));
                let lacks = self.needs.without(*kept).names();
                let message = format!(
                    "field \"{field}\" of {name}: its {tier} cells from {start} to {end} keep {kept}, not {lacks}, \
                     and raw rows of that time are gone"
                );
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
        }
        Ok(())
    }
}

/// Whether some window reaches into a range.
fn touches(windows: &[Window], bounds: Bounds, range: &TimeRange) -> bool {
    let shift_ns = match bounds {
        Bounds::LeftOpen => 1,
        Bounds::RightOpen => 0,
    };
    let mut windows = windows.iter().filter(|window| window.start_ns < window.end_ns);
    windows.any(|window| {
        let times = window.start_ns.saturating_add(shift_ns)..window.end_ns.saturating_add(shift_ns);
        TimeRange::new(times.start, times.end).overlaps(range)
    })
}
