//! Which slot of a series takes the edges, and which the interiors, of the cells of one tier: zones of left edges, so
//! that the cells of a series are told apart by one walk along them. Pure.

use std::ops::Range;

use super::cover::Piece;
use crate::cells::Run;
use crate::model::{NO_SLOT, Tier, TimeRange};

/// What the plan takes of the cells of one tier.
#[derive(Debug, Default)]
pub(super) struct Zones {
    /// Ascending and disjoint.
    zones: Vec<Zone>,
}

/// Left edges of cells of which the same slots take the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    range: TimeRange,
    /// Place of the slot that takes the edges, or [`NO_SLOT`].
    edges: u32,
    /// Place of the slot that takes the interiors, or [`NO_SLOT`].
    interiors: u32,
}

impl Zones {
    /// What the pieces of a plan take of a tier; `places` are those of the pieces among the slots of a series.
    pub(super) fn of(pieces: &[Piece], places: &[usize], tier: Tier) -> Self {
        let (mut edges, mut interiors) = (Vec::new(), Vec::new());
        for (planned, piece) in pieces.iter().zip(places.iter().copied()) {
            match *planned {
                Piece::Cells { tier: of, range, with_first_edge } if of == tier => {
                    let from_ns = range.start_ns.saturating_add(i64::from(!with_first_edge));
                    edges.push((TimeRange::new(from_ns, range.end_ns), piece));
                    interiors.push((range, piece));
                }
                Piece::Edge { tier: of, at_ns } if of == tier => {
                    edges.push((TimeRange::new(at_ns, at_ns.saturating_add(1)), piece));
                }
                _ => {}
            }
        }
        let both = edges.iter().chain(&interiors);
        let mut cuts: Vec<i64> = both.flat_map(|(range, _)| [range.start_ns, range.end_ns]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let (mut edges, mut interiors) = (edges.into_iter().peekable(), interiors.into_iter().peekable());
        let zones = cuts.iter().zip(cuts.iter().skip(1)).map(|(start_ns, end_ns)| {
            let taker = |of: &mut std::iter::Peekable<std::vec::IntoIter<(TimeRange, usize)>>| {
                while of.next_if(|(range, _)| range.end_ns <= *start_ns).is_some() {}
                let piece =
                    of.peek().filter(|(range, _)| range.start_ns <= *start_ns).map(|(_, piece)| *piece);
                piece.and_then(|piece| u32::try_from(piece).ok()).unwrap_or(NO_SLOT)
            };
            let (edges, interiors) = (taker(&mut edges), taker(&mut interiors));
            Zone { range: TimeRange::new(*start_ns, *end_ns), edges, interiors }
        });
        Self { zones: zones.filter(|zone| zone.edges != NO_SLOT || zone.interiors != NO_SLOT).collect() }
    }

    /// Whether nothing of the tier is read.
    pub(super) fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// From the first to the last left edge.
    pub(super) fn hull(&self) -> TimeRange {
        let start_ns = self.zones.first().map_or(0, |zone| zone.range.start_ns);
        TimeRange::new(start_ns, self.zones.last().map_or(start_ns, |zone| zone.range.end_ns))
    }

    /// The only zone of a page that lies between two left edges; `None` where the cells of the page may go to different
    /// ones.
    pub(super) fn only(&self, first_ns: i64, last_ns: i64) -> Option<Zone> {
        let zone = self.zones.get(self.zones.partition_point(|zone| zone.range.end_ns <= first_ns))?;
        (zone.range.start_ns <= first_ns && last_ns < zone.range.end_ns).then_some(*zone)
    }

    /// Appends runs of those rows of a series whose cells are taken; `ts_ns` are the left edges of all rows, `slot` is
    /// the first one of the series. Returns how many rows.
    pub(super) fn runs(&self, ts_ns: &[i64], rows: Range<usize>, slot: u32, runs: &mut Vec<Run>) -> usize {
        let (mut row, mut zones, mut taken) = (rows.start, &*self.zones, 0);
        while let Some(left_ns) = ts_ns.get(row).filter(|_| row < rows.end) {
            if zones.first().is_some_and(|zone| zone.range.end_ns <= *left_ns) {
                let passed = zones.partition_point(|zone| zone.range.end_ns <= *left_ns);
                zones = zones.get(passed..).unwrap_or_default();
            }
            let Some(zone) = zones.first() else { break };
            let until_ns =
                if *left_ns < zone.range.start_ns { zone.range.start_ns } else { zone.range.end_ns };
            let rest = ts_ns.get(row..rows.end).unwrap_or_default();
            let end = match rest.last() {
                Some(last_ns) if *last_ns < until_ns => rows.end,
                _ => row + rest.partition_point(|left_ns| *left_ns < until_ns),
            };
            if zone.range.start_ns <= *left_ns {
                taken += end - row;
                runs.push(zone.run(row..end, slot));
            }
            row = end;
        }
        taken
    }
}

impl Zone {
    /// A run of rows in the zone, of a series whose first slot this is.
    pub(super) fn run(&self, rows: Range<usize>, slot: u32) -> Run {
        // A page has few rows, and slots are counted before they are made: both have 32 bits.
        let slot_of = |place: u32| if place == NO_SLOT { NO_SLOT } else { slot.saturating_add(place) };
        let (start, end) = (rows.start as u32, rows.end as u32);
        Run { start, end, edges: slot_of(self.edges), interiors: slot_of(self.interiors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: [usize; 4] = [0, 1, 2, 3];

    fn range(start_ns: i64, end_ns: i64) -> TimeRange {
        TimeRange::new(start_ns, end_ns)
    }

    #[test]
    fn edge_between_two_pieces_goes_to_the_first_and_the_interior_to_the_second() {
        let tier = Tier::M1;
        let pieces = [
            Piece::Cells { tier, range: range(0, 120), with_first_edge: false },
            Piece::Edge { tier, at_ns: 120 },
            Piece::Rows { range: range(121, 180) },
            Piece::Cells { tier, range: range(120, 240), with_first_edge: false },
        ];
        let zones = Zones::of(&pieces, &PLACES, tier);
        assert!(Zones::of(&pieces, &PLACES, Tier::H1).is_empty());
        assert_eq!(zones.hull(), range(0, 240));
        let (ts_ns, mut runs) = ([-60, 0, 60, 120, 180, 240], Vec::new());
        assert_eq!(zones.runs(&ts_ns, 0..6, 100, &mut runs), 4);
        let run =
            |rows: Range<u32>, edges, interiors| Run { start: rows.start, end: rows.end, edges, interiors };
        assert_eq!(
            runs,
            [run(1..2, NO_SLOT, 100), run(2..3, 100, 100), run(3..4, 101, 103), run(4..5, 103, 103)]
        );
    }

    #[test]
    fn rows_between_zones_are_passed_over() {
        let tier = Tier::H1;
        let pieces = [
            Piece::Cells { tier, range: range(0, 10), with_first_edge: true },
            Piece::Cells { tier, range: range(30, 40), with_first_edge: true },
        ];
        let zones = Zones::of(&pieces, &PLACES, tier);
        let (ts_ns, mut runs) = ([5, 8, 12, 29, 30, 35, 50], Vec::new());
        assert_eq!(zones.runs(&ts_ns, 1..7, 0, &mut runs), 3);
        assert_eq!(runs.iter().map(Run::rows).collect::<Vec<_>>(), [1..2, 4..6]);
    }
}
