//! Tombstones: what was deleted and is not purged yet. A tombstone names the live segments that held rows or cells
//! of it when it was made; reads leave these rows out, and every job that replaces such a segment reads through the
//! same mask. Rows written later lie in segments that it does not name, so they are never masked.
//!
//! Pure functions of what the manifest says, and the bytes of a tombstone in it (`docs/format.md`). Knows nothing of
//! files, selectors or the clock. The rules for cells: `docs/decisions/0005-deletes-are-masks-over-named-segments.md`.

#![warn(clippy::indexing_slicing)]

use std::sync::Arc;

use crate::Result;
use crate::codec::bytes::Reader;
use crate::manifest::SegmentMeta;
use crate::model::{MeasurementId, SeriesId, Tier, TimeRange, floor_to};
use crate::rolled::without;

/// Bytes of a tombstone without series and segments.
pub(crate) const TOMBSTONE_BYTES: usize = 45;

/// Rows that are deleted and may still be on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Its number, one of those that files have.
    pub id: u64,
    /// The measurement.
    pub measurement: MeasurementId,
    /// The series, ascending; `None`: all.
    pub series: Option<Arc<[SeriesId]>>,
    /// The time.
    pub range: TimeRange,
    /// Live segments that may hold rows or cells of it, ascending.
    pub pending: Vec<u64>,
}

impl Tombstone {
    /// Whether a segment holds, or may hold, something of it.
    pub(crate) fn is_pending(&self, segment: u64) -> bool {
        self.pending.binary_search(&segment).is_ok()
    }

    /// What it hides in a segment: times of rows or left edges of cells. A cell that lies in its range but for a
    /// part is hidden whole.
    pub(crate) fn hidden(&self, meta: &SegmentMeta) -> TimeRange {
        TimeRange::new(widened(self.range.start_ns, meta.tier), self.range.end_ns)
    }

    /// The first rule that it breaks; `None` when it is sound.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        let is_ascending = self.pending.is_sorted_by(|left, right| left < right);
        if self.pending.is_empty() || !is_ascending {
            return Some("names no segments in ascending order");
        }
        if self.range.is_empty() {
            return Some("has an empty range of time");
        }
        let is_sound =
            |series: &[SeriesId]| !series.is_empty() && series.is_sorted_by(|left, right| left < right);
        if self.series.as_ref().is_some_and(|series| !is_sound(series)) {
            return Some("names no series in ascending order");
        }
        None
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.measurement.0.to_le_bytes());
        out.extend_from_slice(&self.range.start_ns.to_le_bytes());
        out.extend_from_slice(&self.range.end_ns.to_le_bytes());
        out.push(u8::from(self.series.is_some()));
        let series = self.series.as_deref().unwrap_or_default();
        out.extend_from_slice(&(series.len() as u64).to_le_bytes());
        series.iter().for_each(|series| out.extend_from_slice(&series.0.to_le_bytes()));
        out.extend_from_slice(&(self.pending.len() as u64).to_le_bytes());
        self.pending.iter().for_each(|segment| out.extend_from_slice(&segment.to_le_bytes()));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let (id, measurement) = (reader.u64()?, MeasurementId(reader.u32()?));
        let range = TimeRange::new(reader.i64()?, reader.i64()?);
        let has_series = reader.u8()?;
        let count = reader.u64()?;
        let count = reader.count_of(count, 4)?;
        let series: Vec<SeriesId> = (0..count).map(|_| reader.u32().map(SeriesId)).collect::<Result<_>>()?;
        let series = match has_series {
            0 if series.is_empty() => None,
            1 => Some(series.into()),
            _ => return Err(crate::Error::corruption("a tombstone names series and names none")),
        };
        let count = reader.u64()?;
        let count = reader.count_of(count, 8)?;
        let pending = (0..count).map(|_| reader.u64()).collect::<Result<_>>()?;
        Ok(Self { id, measurement, series, range, pending })
    }
}

/// Takes segments that are gone out of all tombstones, and with their last segment the tombstones.
pub(crate) fn forget(tombstones: &mut Vec<Tombstone>, gone: &[u64]) {
    for tombstone in tombstones.iter_mut() {
        tombstone.pending.retain(|segment| !gone.contains(segment));
    }
    tombstones.retain(|tombstone| !tombstone.pending.is_empty());
}

/// What is hidden of one measurement in one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mask {
    parts: Vec<(Option<Arc<[SeriesId]>>, TimeRange)>,
}

impl Mask {
    /// The mask of a segment; of all but the few with deleted rows it is empty.
    pub(crate) fn of(tombstones: &[Tombstone], measurement: MeasurementId, meta: &SegmentMeta) -> Self {
        let is_over =
            |tombstone: &&Tombstone| tombstone.measurement == measurement && tombstone.is_pending(meta.id);
        let part = |tombstone: &Tombstone| (tombstone.series.clone(), tombstone.hidden(meta));
        Self { parts: tombstones.iter().filter(is_over).map(part).collect() }
    }

    /// Whether nothing is hidden.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether every row of the measurement in a segment is hidden.
    pub(crate) fn hides_all(&self, meta: &SegmentMeta) -> bool {
        let is_whole = |range: &TimeRange| range.contains(meta.min_ts_ns) && range.contains(meta.max_ts_ns);
        self.parts.iter().any(|(series, range)| series.is_none() && is_whole(range))
    }

    /// What is left of a range for a series, ascending.
    pub(crate) fn visible(&self, series: SeriesId, range: TimeRange) -> Vec<TimeRange> {
        let is_hidden =
            |of: &Option<Arc<[SeriesId]>>| of.as_ref().is_none_or(|of| of.binary_search(&series).is_ok());
        let parts = self.parts.iter().filter(|(of, part)| is_hidden(of) && part.overlaps(&range));
        let mut hidden: Vec<TimeRange> = parts.map(|(_, part)| *part).collect();
        hidden.sort_by_key(|part| part.start_ns);
        let mut visible = Vec::new();
        let mut start_ns = range.start_ns;
        for part in hidden {
            if start_ns < part.start_ns {
                visible.push(TimeRange::new(start_ns, part.start_ns));
            }
            start_ns = start_ns.max(part.end_ns);
        }
        if start_ns < range.end_ns {
            visible.push(TimeRange::new(start_ns, range.end_ns));
        }
        visible
    }
}

/// How the cells of a span of which some are deleted come to be right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// From raw rows, exactly.
    Rows,
    /// From the finest cells that are kept, whole cells of which are deleted.
    Cells(Tier),
    /// Every tier of the span is past its age.
    Nothing,
}

impl Source {
    /// Where the cells of a span come from, given what retention has dropped, and which spans are `frozen`: their
    /// raw rows are fewer than their cells hold, see [`Lost`](crate::rolled::Lost). A floor never lies inside a span.
    pub(crate) fn of(span: TimeRange, floors_ns: [i64; 4], frozen: &[TimeRange]) -> Self {
        let [raw_ns, cells_ns @ ..] = floors_ns;
        if raw_ns <= span.start_ns && !frozen.contains(&span) {
            return Self::Rows;
        }
        let mut tiers = Tier::CELLS.into_iter().zip(cells_ns);
        let finest = tiers.find(|(_, floor_ns)| *floor_ns <= span.start_ns);
        finest.map_or(Self::Nothing, |(tier, _)| Self::Cells(tier))
    }
}

/// Takes out of what cells may answer (1m, 5m, 1h) the cells of a measurement that tombstones spoil: those over raw
/// rows in all tiers, as rows are exact; elsewhere those coarser than the finest tier that is kept, whose own cells
/// the mask hides one by one.
pub(crate) fn take_out<'a>(
    spans: [Vec<TimeRange>; 3],
    tombstones: &[Tombstone],
    measurement: MeasurementId,
    segments: impl Iterator<Item = &'a SegmentMeta> + Clone,
    floors_ns: [i64; 4],
    frozen: &[TimeRange],
) -> [Vec<TimeRange>; 3] {
    let mut holes = [Vec::new(), Vec::new(), Vec::new()];
    for tombstone in tombstones.iter().filter(|tombstone| tombstone.measurement == measurement) {
        let is_spoiled = |meta: &&SegmentMeta| meta.tier != Tier::Raw && tombstone.is_pending(meta.id);
        for meta in segments.clone().filter(is_spoiled) {
            let source = Source::of(meta.partition, floors_ns, frozen);
            for (tier, holes) in Tier::CELLS.into_iter().zip(&mut holes) {
                let is_exact = matches!(source, Source::Cells(finest) if tier <= finest);
                if !is_exact {
                    holes.push(tombstone.range.intersect(&meta.partition));
                }
            }
        }
    }
    let mut left = spans;
    for ((tier, spans), holes) in Tier::CELLS.into_iter().zip(&mut left).zip(&mut holes) {
        if !holes.is_empty() {
            *spans = without(spans, holes, tier.width_ns());
        }
    }
    left
}

/// The start of the cell that a time falls into.
pub(crate) fn widened(ts_ns: i64, tier: Tier) -> i64 {
    match tier {
        Tier::Raw => ts_ns,
        Tier::M1 | Tier::M5 | Tier::H1 => floor_to(ts_ns, tier.width_ns()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HOUR_NS, MINUTE_NS};

    const CPU: MeasurementId = MeasurementId(1);

    fn minutes(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start * MINUTE_NS, end * MINUTE_NS)
    }

    fn meta(id: u64, tier: Tier) -> SegmentMeta {
        SegmentMeta {
            id,
            tier,
            partition: TimeRange::new(0, HOUR_NS),
            min_ts_ns: 0,
            max_ts_ns: HOUR_NS - 1,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation: id,
        }
    }

    fn tombstone(series: &[u32], range: TimeRange, pending: &[u64]) -> Tombstone {
        let series = (!series.is_empty()).then(|| series.iter().map(|id| SeriesId(*id)).collect());
        Tombstone { id: 9, measurement: CPU, series, range, pending: pending.to_vec() }
    }

    #[test]
    fn mask_leaves_what_no_tombstone_hides() {
        let tombstones = [
            tombstone(&[3], minutes(10, 20), &[1]),
            tombstone(&[], minutes(15, 30), &[1, 2]),
            tombstone(&[3], minutes(40, 50), &[2]),
        ];
        let mask = Mask::of(&tombstones, CPU, &meta(1, Tier::Raw));
        let hour = minutes(0, 60);
        assert_eq!(mask.visible(SeriesId(3), hour), [minutes(0, 10), minutes(30, 60)]);
        assert_eq!(mask.visible(SeriesId(4), hour), [minutes(0, 15), minutes(30, 60)]);
        assert_eq!(mask.visible(SeriesId(3), minutes(12, 29)), []);
        assert_eq!(mask.visible(SeriesId(3), minutes(35, 45)), [minutes(35, 45)]);
        assert!(Mask::of(&tombstones, MeasurementId(2), &meta(1, Tier::Raw)).is_empty());
        assert!(Mask::of(&tombstones, CPU, &meta(5, Tier::Raw)).is_empty(), "written later");
    }

    #[test]
    fn mask_hides_cells_that_begin_before_the_range() {
        let tombstones = [tombstone(&[], minutes(7, 11), &[1])];
        let visible = |tier| Mask::of(&tombstones, CPU, &meta(1, tier)).visible(SeriesId(0), minutes(0, 60));
        assert_eq!(visible(Tier::M1), [minutes(0, 7), minutes(11, 60)]);
        // The cell from 10 to 15 begins before the end and is hidden with its left edge.
        assert_eq!(visible(Tier::M5), [minutes(0, 5), minutes(11, 60)]);
        assert_eq!(visible(Tier::H1), [minutes(11, 60)]);
    }

    #[test]
    fn forget_last_segment_ends_the_tombstone() {
        let mut tombstones =
            vec![tombstone(&[], minutes(0, 1), &[1, 2]), tombstone(&[], minutes(0, 1), &[2])];
        forget(&mut tombstones, &[2, 7]);
        assert_eq!(tombstones, [tombstone(&[], minutes(0, 1), &[1])]);
        forget(&mut tombstones, &[1]);
        assert_eq!(tombstones, []);
    }

    fn left(floors_ns: [i64; 4]) -> [Vec<TimeRange>; 3] {
        let segments = Tier::CELLS.map(|tier| meta(tier as u64, tier));
        let spans = [vec![minutes(0, 120)], vec![minutes(0, 120)], vec![minutes(0, 120)]];
        let tombstones = [tombstone(&[], minutes(7, 11), &[1, 2, 3])];
        take_out(spans, &tombstones, CPU, segments.iter(), floors_ns, &[])
    }

    #[test]
    fn source_of_a_frozen_span_is_its_cells() {
        let hour = minutes(0, 60);
        assert_eq!(Source::of(hour, [i64::MIN; 4], &[]), Source::Rows);
        assert_eq!(Source::of(hour, [i64::MIN; 4], &[hour]), Source::Cells(Tier::M1));
    }

    #[test]
    fn take_out_over_raw_rows_spoils_all_tiers() {
        let [m1, m5, h1] = left([i64::MIN; 4]);
        assert_eq!(m1, [minutes(0, 7), minutes(11, 120)]);
        assert_eq!(m5, [minutes(0, 5), minutes(15, 120)]);
        assert_eq!(h1, [minutes(60, 120)]);
    }

    #[test]
    fn take_out_without_raw_rows_spoils_what_is_coarser_than_the_finest() {
        let [m1, m5, h1] = left([HOUR_NS, i64::MIN, i64::MIN, i64::MIN]);
        assert_eq!(m1, [minutes(0, 120)], "masked cell by cell");
        assert_eq!(m5, [minutes(0, 5), minutes(15, 120)]);
        assert_eq!(h1, [minutes(60, 120)]);
        let [_, m5, h1] = left([HOUR_NS, HOUR_NS, i64::MIN, i64::MIN]);
        assert_eq!((m5, h1), (vec![minutes(0, 120)], vec![minutes(60, 120)]));
        let [_, _, h1] = left([HOUR_NS, HOUR_NS, HOUR_NS, i64::MIN]);
        assert_eq!(h1, [minutes(0, 120)]);
    }
}
