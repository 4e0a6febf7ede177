//! Merges the partials of neighbouring pieces of time into those of overlapping windows, each piece a bounded
//! number of times however much the windows overlap.
//!
//! Partials are an ordered monoid without an inverse (a minimum cannot be taken back), so this is the queue of two
//! stacks: the front holds, for each piece from the window's start on, the merge of it and all up to the middle; the
//! back is the merge of all pieces after the middle. When the window leaves the front behind, the back becomes the
//! new front. Each piece is merged at most three times. Knows nothing of tiers or series.
//!
//! Source: Tangwongsan, Hirzel, Schneider, Wu, "General incremental sliding-window aggregation", VLDB 2015.

use std::ops::Range;

use crate::model::{FieldType, Partial};

/// The partial of each window: the merge, in order, of the `pieces` that `windows` names by position. Neither starts
/// nor ends of the windows may decrease; a window without pieces gives the empty partial.
pub fn slide(field_type: FieldType, pieces: &[Partial], windows: &[Range<usize>]) -> Vec<Partial> {
    let mut queue =
        Queue { field_type, front: Vec::new(), middle: 0, back: Partial::empty(field_type), end: 0 };
    let mut merged = Vec::with_capacity(windows.len());
    for (at, window) in windows.iter().enumerate() {
        debug_assert!(at == 0 || windows.get(at - 1).is_some_and(|before| before.start <= window.start));
        let before = at.checked_sub(1).and_then(|before| windows.get(before));
        if let (true, Some(same)) = (before == Some(window), merged.last().cloned()) {
            merged.push(same);
            continue;
        }
        let next_start = windows.get(at + 1).map_or(usize::MAX, |next| next.start);
        if queue.end <= window.start && window.end <= next_start {
            merged.push(queue.jump(pieces, window));
        } else {
            merged.push(queue.move_to(pieces, window));
        }
    }
    merged
}

/// The state between two windows.
struct Queue {
    field_type: FieldType,
    /// Merges of pieces up to the middle: the last entry begins with the first piece of the window.
    front: Vec<Partial>,
    /// First piece that is not in the front.
    middle: usize,
    /// Merge of the pieces from the middle to the end.
    back: Partial,
    /// First piece not taken yet.
    end: usize,
}

impl Queue {
    /// The partial of a window that shares no piece with its neighbours: no need to keep anything.
    fn jump(&mut self, pieces: &[Partial], window: &Range<usize>) -> Partial {
        self.front.clear();
        self.back = Partial::empty(self.field_type);
        self.end = window.end.max(self.end);
        self.middle = self.end;
        let mut merged = Partial::empty(self.field_type);
        for piece in pieces.get(window.clone()).unwrap_or_default() {
            merged.merge(piece);
        }
        merged
    }

    /// The partial of the next window.
    fn move_to(&mut self, pieces: &[Partial], window: &Range<usize>) -> Partial {
        if window.end <= window.start {
            return Partial::empty(self.field_type);
        }
        if self.middle <= window.start {
            self.turn(pieces, window.start);
        } else {
            self.front.truncate(self.middle - window.start);
        }
        for piece in pieces.get(self.end..window.end).unwrap_or_default() {
            self.back.merge(piece);
        }
        self.end = window.end.max(self.end);
        let mut merged = self.front.last().cloned().unwrap_or_else(|| Partial::empty(self.field_type));
        merged.merge(&self.back);
        merged
    }

    /// Makes the pieces taken so far, from `start` on, the new front.
    fn turn(&mut self, pieces: &[Partial], start: usize) {
        self.end = self.end.max(start);
        self.middle = self.end;
        self.front.clear();
        self.back = Partial::empty(self.field_type);
        for piece in pieces.get(start..self.middle).unwrap_or_default().iter().rev() {
            let mut merged = piece.clone();
            if let Some(later) = self.front.last() {
                merged.merge(later);
            }
            self.front.push(merged);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{StatSet, ValueRef};

    fn pieces(values: &[Vec<i64>]) -> Vec<Partial> {
        let mut ts_ns = 0;
        let mut piece = |values: &Vec<i64>| {
            let mut partial = Partial::empty(FieldType::Int);
            for value in values {
                ts_ns += 1;
                partial.add(ts_ns, ValueRef::Int(*value), StatSet::ALL);
            }
            partial
        };
        values.iter().map(&mut piece).collect()
    }

    fn naive(pieces: &[Partial], window: &Range<usize>) -> Partial {
        let mut merged = Partial::empty(FieldType::Int);
        pieces[window.clone()].iter().for_each(|piece| merged.merge(piece));
        merged
    }

    fn assert_same(found: &Partial, expected: &Partial) {
        let (Partial::Int(found), Partial::Int(expected)) = (found, expected) else { panic!("other type") };
        assert_eq!(found.count, expected.count);
        assert_eq!(found.sum, expected.sum);
        assert_eq!((found.min, found.max), (expected.min, expected.max));
        assert_eq!((found.first, found.last), (expected.first, expected.last));
        assert_eq!((found.first_ns, found.last_ns), (expected.first_ns, expected.last_ns));
        assert_eq!((found.resets, found.changes), (expected.resets, expected.changes));
        assert_eq!(found.reset_sum, expected.reset_sum);
        assert_eq!((&found.hist, &found.uniques), (&expected.hist, &expected.uniques));
        assert!((found.m2 - expected.m2).abs() <= 1e-9 * expected.m2.abs().max(1.0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn slide_equals_merging_each_window_anew(
            values in proptest::collection::vec(proptest::collection::vec(-5_i64..40, 0..4), 1..25),
            steps in proptest::collection::vec((0_usize..4, 0_usize..5), 1..25),
        ) {
            let pieces = pieces(&values);
            let (mut start, mut end) = (0, 0);
            let windows: Vec<Range<usize>> = steps.iter().map(|(start_step, end_step)| {
                start = (start + start_step).min(pieces.len());
                end = (end + end_step).clamp(start, pieces.len());
                start..end
            }).collect();
            let slid = slide(FieldType::Int, &pieces, &windows);
            prop_assert_eq!(slid.len(), windows.len());
            for (found, window) in slid.iter().zip(&windows) {
                assert_same(found, &naive(&pieces, window));
            }
        }
    }
}
