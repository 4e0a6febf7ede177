//! Which spans cells answer for. A rolled span is a range of whole hours whose cells were computed from a known list
//! of raw segments; rows that came later, in other segments or in memtables, take the cells they fall into out again.
//!
//! After damage was taken out (see `quarantine`) a span may have lost raw rows that its cells hold: it is frozen, and
//! keeps its cells. Or it may have lost the cells of one layer: a hole, which the other layers answer for.
//!
//! Pure functions of what the manifest says. Knows nothing of cells themselves, files or the clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::manifest::{Manifest, RolledSpan, SegmentMeta};
use crate::model::{Tier, TimeRange, ceil_to, floor_to};

/// What is known of a live raw segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawSegment {
    /// Its id.
    pub(crate) id: u64,
    /// The partition it belongs to: whole hours.
    pub(crate) partition: TimeRange,
    /// Time of its earliest row.
    pub(crate) min_ns: i64,
    /// Time of its latest row.
    pub(crate) max_ns: i64,
}

impl From<&SegmentMeta> for RawSegment {
    fn from(meta: &SegmentMeta) -> Self {
        Self { id: meta.id, partition: meta.partition, min_ns: meta.min_ts_ns, max_ns: meta.max_ts_ns }
    }
}

/// Whether raw rows in the cells of a span are gone otherwise than by retention. The cells are all there is of them,
/// so they are never computed again. `raw`: ids of the live raw segments.
pub(crate) fn is_frozen(span: &RolledSpan, raw: &BTreeSet<u64>) -> bool {
    span.covers.iter().any(|id| !raw.contains(id))
}

/// What damage that was taken out has left of rolled spans; nothing as a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Spans and the layers whose cells are not there.
    pub(crate) holes: Vec<(TimeRange, Tier)>,
    /// Spans whose cells are all there is, see [`is_frozen`].
    pub(crate) frozen: Vec<TimeRange>,
}

impl Lost {
    /// Finds out from the manifest.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let raw = manifest.segments.iter().filter(|meta| meta.tier == Tier::Raw);
        let raw: BTreeSet<u64> = raw.map(|meta| meta.id).collect();
        let frozen = manifest.rolled.iter().filter(|span| is_frozen(span, &raw));
        Self {
            holes: holes(&manifest.rolled, &manifest.segments, manifest.floors_ns),
            frozen: frozen.map(|span| span.span).collect(),
        }
    }
}

/// Spans that have cells in some layer, and none in another where retention has not dropped them.
fn holes(rolled: &[RolledSpan], segments: &[SegmentMeta], floors_ns: [i64; 4]) -> Vec<(TimeRange, Tier)> {
    let mut tiers: BTreeMap<(i64, i64), BTreeSet<Tier>> = BTreeMap::new();
    for meta in segments.iter().filter(|meta| meta.tier != Tier::Raw) {
        tiers.entry((meta.partition.start_ns, meta.partition.end_ns)).or_default().insert(meta.tier);
    }
    let [_, floors_ns @ ..] = floors_ns;
    let mut holes = Vec::new();
    for RolledSpan { span, .. } in rolled {
        // A span without any cells has no rows, or has lost them all: nothing is the answer of each layer.
        let Some(found) = tiers.get(&(span.start_ns, span.end_ns)) else { continue };
        let missing = Tier::CELLS.into_iter().zip(floors_ns);
        let missing = missing.filter(|(tier, floor_ns)| *floor_ns < span.end_ns && !found.contains(tier));
        holes.extend(missing.map(|(tier, _)| (*span, tier)));
    }
    holes
}

/// The parts of rolled spans that may be answered from cells, for the tiers 1m, 5m and 1h: without the cells that
/// rows not yet rolled fall into, whether these are in a raw segment or in a memtable, and without the holes. A frozen
/// span keeps all its cells, for the raw rows are fewer. Sorted, disjoint and as long as can be.
pub(crate) fn valid_spans(
    rolled: &[RolledSpan],
    lost: &Lost,
    raw: &[RawSegment],
    memtables: &[TimeRange],
) -> [Vec<TimeRange>; 3] {
    let segments = ByTime::new(raw);
    let mut rolled: Vec<&RolledSpan> = rolled.iter().collect();
    rolled.sort_by_key(|rolled| rolled.span.start_ns);
    let mut spans = [Vec::new(), Vec::new(), Vec::new()];
    for rolled in rolled {
        let covers: BTreeSet<u64> = rolled.covers.iter().copied().collect();
        let late =
            segments.overlapping(&rolled.span).into_iter().filter(|segment| !covers.contains(&segment.id));
        let late = late.map(|segment| TimeRange::new(segment.min_ns, segment.max_ns.saturating_add(1)));
        let fresh =
            memtables.iter().filter(|range| !range.is_empty() && range.overlaps(&rolled.span)).copied();
        let mut dirty: Vec<TimeRange> = late.chain(fresh).collect();
        if lost.frozen.contains(&rolled.span) {
            dirty.clear();
        }
        dirty.sort_by_key(|range| range.start_ns);
        for (tier, spans) in Tier::CELLS.into_iter().zip(&mut spans) {
            if lost.holes.contains(&(rolled.span, tier)) {
                continue;
            }
            subtract(rolled.span, &dirty, tier.width_ns(), spans);
        }
    }
    spans
}

/// What is left of spans without the cells of `width_ns` that the `holes` touch, which are put in order.
pub(crate) fn without(spans: &[TimeRange], holes: &mut [TimeRange], width_ns: i64) -> Vec<TimeRange> {
    holes.sort_by_key(|hole| hole.start_ns);
    let mut left = Vec::new();
    for span in spans {
        subtract(*span, holes, width_ns, &mut left);
    }
    left
}

/// Appends what is left of `span` without the cells of `width_ns` that the `dirty` ranges touch.
fn subtract(span: TimeRange, dirty: &[TimeRange], width_ns: i64, out: &mut Vec<TimeRange>) {
    let mut start_ns = span.start_ns;
    for range in dirty {
        append(out, TimeRange::new(start_ns, floor_to(range.start_ns, width_ns).min(span.end_ns)));
        start_ns = start_ns.max(ceil_to(range.end_ns, width_ns));
    }
    append(out, TimeRange::new(start_ns, span.end_ns));
}

/// Appends a span, as part of the last one where they touch.
fn append(spans: &mut Vec<TimeRange>, span: TimeRange) {
    if span.is_empty() {
        return;
    }
    match spans.last_mut() {
        Some(last) if last.end_ns == span.start_ns => last.end_ns = span.end_ns,
        _ => spans.push(span),
    }
}

/// Raw segments by the time of their earliest row, to find those that overlap a span without looking at all.
pub(crate) struct ByTime {
    segments: Vec<RawSegment>,
    /// Time of the latest row of this segment and all before it.
    latest_ns: Vec<i64>,
}

impl ByTime {
    pub(crate) fn new(raw: &[RawSegment]) -> Self {
        let mut segments = raw.to_vec();
        segments.sort_by_key(|segment| (segment.min_ns, segment.id));
        let latest_ns = segments.iter().scan(i64::MIN, |latest_ns, segment| {
            *latest_ns = segment.max_ns.max(*latest_ns);
            Some(*latest_ns)
        });
        Self { latest_ns: latest_ns.collect(), segments }
    }

    /// The segments whose rows may lie in `span`.
    pub(crate) fn overlapping(&self, span: &TimeRange) -> Vec<RawSegment> {
        let end = self.segments.partition_point(|segment| segment.min_ns < span.end_ns);
        let candidates = self.segments.iter().zip(&self.latest_ns).take(end).rev();
        let candidates = candidates.take_while(|(_, latest_ns)| span.start_ns <= **latest_ns);
        candidates.map(|(segment, _)| *segment).filter(|segment| span.start_ns <= segment.max_ns).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DAY_NS, HOUR_NS, MINUTE_NS};

    const DAY: TimeRange = TimeRange { start_ns: 0, end_ns: DAY_NS };

    fn segment(id: u64, min_minute: i64, max_minute: i64) -> RawSegment {
        RawSegment { id, partition: DAY, min_ns: min_minute * MINUTE_NS, max_ns: max_minute * MINUTE_NS }
    }

    fn hours(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start * HOUR_NS, end * HOUR_NS)
    }

    fn minutes(start: i64, end: i64) -> TimeRange {
        TimeRange::new(start * MINUTE_NS, end * MINUTE_NS)
    }

    fn rolled(span: TimeRange, covers: &[u64]) -> RolledSpan {
        RolledSpan { span, covers: covers.to_vec() }
    }

    #[test]
    fn valid_spans_clean_neighbours_become_one() {
        let raw = [segment(1, 0, 119)];
        let spans = [rolled(hours(1, 2), &[1]), rolled(hours(0, 1), &[1])];
        assert_eq!(
            valid_spans(&spans, &Lost::default(), &raw, &[]),
            [vec![hours(0, 2)], vec![hours(0, 2)], vec![hours(0, 2)]]
        );
    }

    #[test]
    fn valid_spans_late_rows_take_out_the_cells_they_fall_into() {
        let raw = [segment(1, 0, 119), segment(2, 62, 63)];
        let spans = [rolled(hours(0, 1), &[1]), rolled(hours(1, 3), &[1])];
        let memtable = TimeRange::new(100 * MINUTE_NS, 100 * MINUTE_NS + 1);
        let found = valid_spans(&spans, &Lost::default(), &raw, &[memtable]);
        assert_eq!(found[0], [minutes(0, 62), minutes(64, 100), minutes(101, 180)]);
        assert_eq!(found[1], [minutes(0, 60), minutes(65, 100), minutes(105, 180)]);
        assert_eq!(found[2], [hours(0, 1), hours(2, 3)]);
    }

    #[test]
    fn valid_spans_overlapping_late_ranges_are_taken_out_once() {
        let memtables = [minutes(10, 40), minutes(20, 30), minutes(-90, 5), minutes(39, 41)];
        let found = valid_spans(&[rolled(hours(0, 1), &[])], &Lost::default(), &[], &memtables);
        assert_eq!(
            found,
            [vec![minutes(5, 10), minutes(41, 60)], vec![minutes(5, 10), minutes(45, 60)], vec![]]
        );
    }

    #[test]
    fn valid_spans_hole_is_answered_by_the_other_layers() {
        let spans = [rolled(hours(0, 1), &[]), rolled(hours(1, 2), &[])];
        let cells = |id, tier, span| SegmentMeta {
            id,
            tier,
            partition: span,
            min_ts_ns: span.start_ns,
            max_ts_ns: span.start_ns,
            rows: 1,
            bytes: 1,
            footer_crc: 0,
            generation: 1,
        };
        let segments = [
            cells(1, Tier::M1, hours(0, 1)),
            cells(2, Tier::H1, hours(0, 1)),
            cells(3, Tier::H1, hours(1, 2)),
        ];
        let dropped = [i64::MIN, 2 * HOUR_NS, i64::MIN, i64::MIN];
        let found = holes(&spans, &segments, dropped);
        assert_eq!(found, [(hours(0, 1), Tier::M5), (hours(1, 2), Tier::M5)], "1m is gone by retention");
        let lost = Lost { holes: vec![(hours(0, 1), Tier::M5)], ..Lost::default() };
        let found = valid_spans(&spans, &lost, &[], &[]);
        assert_eq!(found, [vec![hours(0, 2)], vec![hours(1, 2)], vec![hours(0, 2)]]);
    }

    #[test]
    fn valid_spans_frozen_span_keeps_its_cells_whatever_comes() {
        // What was merged from a covered segment and a late one is not covered, and would take out all cells.
        let (raw, spans) = ([segment(9, 0, 59)], [rolled(hours(0, 1), &[7])]);
        let lost = Lost { frozen: vec![hours(0, 1)], ..Lost::default() };
        let whole = vec![hours(0, 1)];
        let found = valid_spans(&spans, &lost, &raw, &[minutes(5, 6)]);
        assert_eq!(found, [whole.clone(), whole.clone(), whole]);
    }

    #[test]
    fn is_frozen_when_a_covered_segment_is_gone() {
        let raw = BTreeSet::from([1, 2]);
        assert!(!is_frozen(&rolled(hours(0, 1), &[1]), &raw));
        assert!(is_frozen(&rolled(hours(0, 1), &[1, 7]), &raw));
    }
}
