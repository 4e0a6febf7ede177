//! How far back the rows of the newest batches reach: for any earlier moment, the oldest time of all rows that were applied
//! since. Kept so that what was computed from a view can be told to hold still for the times before that.
//!
//! A list of batches whose oldest rows ascend (a monotonic stack): a batch takes with it all entries that are not older than
//! its own oldest row, so that the first entry after a moment is the oldest of all that came since. Times are rounded down to
//! the second: rows that come in order make an entry a second, however many batches they come in. A full list joins
//! neighbours in its older half, which only makes its times older. Knows nothing of views and rows.

use crate::model::{SECOND_NS, floor_to};

/// Entries of the list: 64 KiB, and more than an hour of rows in order before two are joined.
const ENTRIES_MAX: usize = 4096;

/// The list of one engine.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    batches: u64,
    /// Number of a batch and the oldest time of its rows, both strictly ascending.
    entries: Vec<(u64, i64)>,
}

impl Applied {
    /// Notes the next batch by its oldest row. Amortised constant.
    pub(crate) fn note(&mut self, oldest_ns: i64) {
        self.note_within(ENTRIES_MAX, oldest_ns);
    }

    fn note_within(&mut self, entries_max: usize, oldest_ns: i64) {
        let oldest_ns = floor_to(oldest_ns, SECOND_NS);
        self.batches += 1;
        while self.entries.pop_if(|(_, ts_ns)| oldest_ns <= *ts_ns).is_some() {}
        self.entries.push((self.batches, oldest_ns));
        if entries_max <= self.entries.len() {
            self.join_older();
        }
    }

    /// Of two neighbours the later number and the older time stay: right for moments before both, and safe between them.
    fn join_older(&mut self) {
        let newer = self.entries.split_off(self.entries.len() / 2);
        let joined = self.entries.chunks(2).filter_map(|pair| Some((pair.last()?.0, pair.first()?.1)));
        self.entries = joined.chain(newer).collect();
    }

    /// How many batches there were.
    pub(crate) fn batches(&self) -> u64 {
        self.batches
    }

    /// A time that no row of the batches after the first `batches` lies before; `i64::MAX` when there were none.
    /// Logarithmic.
    pub(crate) fn oldest_ns_after(&self, batches: u64) -> i64 {
        let first = self.entries.partition_point(|(batch, _)| *batch <= batches);
        self.entries.get(first).map_or(i64::MAX, |(_, ts_ns)| *ts_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn noted(entries_max: usize, times: &[i64]) -> Applied {
        let mut applied = Applied::default();
        times.iter().for_each(|ts_ns| applied.note_within(entries_max, *ts_ns));
        applied
    }

    /// What the list is for, from all there is to know.
    fn plain(times: &[i64], batches: usize) -> i64 {
        times[batches..].iter().map(|ts_ns| floor_to(*ts_ns, SECOND_NS)).min().unwrap_or(i64::MAX)
    }

    proptest! {
        #[test]
        fn list_with_room_knows_the_oldest_row_since_any_batch(times in vec(-50_i64..50, 0..80)) {
            let times: Vec<i64> = times.into_iter().map(|tenths| tenths * SECOND_NS / 10).collect();
            let applied = noted(ENTRIES_MAX, &times);
            prop_assert_eq!(applied.batches(), times.len() as u64);
            for batches in 0..=times.len() {
                prop_assert_eq!(applied.oldest_ns_after(batches as u64), plain(&times, batches));
            }
        }

        #[test]
        fn full_list_never_says_too_late_and_knows_the_newest(
            times in vec(0_i64..1000, 0..300), entries_max in 4_usize..16
        ) {
            let times: Vec<i64> = times.into_iter().map(|second| second * SECOND_NS).collect();
            let applied = noted(entries_max, &times);
            prop_assert!(applied.entries.len() < entries_max);
            prop_assert!(applied.entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
            for batches in 0..=times.len() {
                let (found, plain) = (applied.oldest_ns_after(batches as u64), plain(&times, batches));
                prop_assert!(found <= plain);
                prop_assert!(times.is_empty() || batches + 1 < times.len() || found == plain);
            }
        }
    }

    #[test]
    fn rows_in_order_forget_slowly() {
        let seconds = 100_000;
        let times: Vec<i64> = (0..seconds).flat_map(|second| [second * SECOND_NS; 3]).collect();
        let applied = noted(ENTRIES_MAX, &times);
        let behind = |ago: i64| {
            let found = applied.oldest_ns_after(u64::try_from((seconds - ago) * 3).unwrap()) / SECOND_NS;
            (seconds - ago) - found
        };
        for ago in [1, 15, 60, 600, 1800] {
            assert_eq!(behind(ago), 0, "{ago} s ago");
        }
        assert!(behind(10_000) < 10_000, "{}", behind(10_000));
    }
}
