//! Where in time an event may lie: equal times are told apart in the digits that the sender did not give.
//!
//! Two events of one series at one time are two rows only when their times differ. An event has a list of places, in the
//! order in which they are tried, that follows from its time and a hash of its content: so an event that is sent again
//! has the same list and finds itself at the place that it took. Pure; which places are taken is not known here.

use icecore_storage::model::SECOND_NS;

use super::Precision;

/// Places that are tried in a span that is not the last.
const STEPS_FEW: i64 = 32;
/// Places that are tried in the last span.
const STEPS_MAX: i64 = 4_096;
/// Spans around a time of full precision, the narrowest that its trailing zeros allow first.
const WIDTHS_NS: [i64; 3] = [1_000, 1_000_000, SECOND_NS];

/// All places of a span, each once: the one that the hash names, and those behind it, around the end.
pub(crate) fn within(start_ns: i64, width_ns: i64, hash: u64) -> impl Iterator<Item = i64> {
    let width = u64::try_from(width_ns).unwrap_or(1).max(1);
    let first = i64::try_from(hash % width).unwrap_or(0);
    (0..width_ns).map(move |step| start_ns.saturating_add((first + step) % width_ns))
}

/// Width of the digits that a sender of this precision leaves open, at most a second; `None` for nanoseconds, and for a
/// time that has such digits although its precision has none (the server's clock gave it).
pub(crate) fn open_width_ns(ts_ns: i64, precision: Precision) -> Option<i64> {
    let unit_ns = precision.unit_ns();
    (unit_ns > 1 && ts_ns.rem_euclid(unit_ns) == 0).then_some(unit_ns.min(SECOND_NS))
}

/// Places of an event whose digits below `width_ns` are open.
pub(crate) fn open(ts_ns: i64, width_ns: i64, hash: u64) -> impl Iterator<Item = i64> {
    within(ts_ns, width_ns, hash).take(usize::try_from(STEPS_MAX).unwrap_or(usize::MAX))
}

/// Places of an event in nanoseconds, besides its time itself, which comes first: near by, then further away. A time
/// that ends in zeros comes of a coarse clock, and may be moved within its unit.
pub(crate) fn beside(ts_ns: i64, hash: u64) -> impl Iterator<Item = i64> {
    let is_coarse = |width_ns: i64| width_ns > 1_000 && ts_ns.rem_euclid(width_ns) == 0;
    let narrowest = WIDTHS_NS.iter().rposition(|width_ns| is_coarse(*width_ns)).unwrap_or(0);
    let widths = WIDTHS_NS.into_iter().skip(narrowest);
    widths.flat_map(move |width_ns| {
        let steps = if width_ns == SECOND_NS { STEPS_MAX } else { STEPS_FEW };
        let start_ns = ts_ns.saturating_sub(ts_ns.rem_euclid(width_ns));
        within(start_ns, width_ns, hash).take(usize::try_from(steps).unwrap_or(usize::MAX))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TS_NS: i64 = 1_700_000_000_123_000_000;

    #[test]
    fn within_gives_each_place_of_the_span_once() {
        let places: Vec<i64> = within(5_000, 1_000, 1_998).collect();
        assert_eq!(places.first(), Some(&5_998));
        assert_eq!(places.get(2), Some(&5_000));
        let all: BTreeSet<i64> = places.into_iter().collect();
        assert_eq!(all, (5_000..6_000).collect());
    }

    #[test]
    fn open_width_is_that_of_the_precision_but_for_times_of_the_servers_clock() {
        assert_eq!(open_width_ns(TS_NS, Precision::Ms), Some(1_000_000));
        assert_eq!(open_width_ns(TS_NS, Precision::Us), Some(1_000));
        assert_eq!(open_width_ns(TS_NS, Precision::S), None);
        assert_eq!(open_width_ns(TS_NS, Precision::Ns), None);
        assert_eq!(open_width_ns(7_200 * SECOND_NS, Precision::H), Some(SECOND_NS));
    }

    #[test]
    fn beside_stays_within_the_unit_that_the_zeros_tell() {
        let first =
            |ts_ns: i64, count: usize| beside(ts_ns, 0x9e37_79b9_7f4a_7c15).take(count).collect::<Vec<_>>();
        let is_in = |places: &[i64], start_ns: i64, width_ns: i64| {
            places.iter().all(|place| (start_ns..start_ns + width_ns).contains(place))
        };
        assert!(is_in(&first(TS_NS, 32), TS_NS, 1_000_000));
        assert!(!is_in(&first(TS_NS, 32), TS_NS, 1_000));
        assert!(is_in(&first(TS_NS + 7, 32), TS_NS, 1_000));
        assert!(is_in(&first(TS_NS + 7, 5_000), TS_NS - 123_000_000, SECOND_NS));
        assert!(is_in(&first(-1, 32), -1_000, 1_000));
    }
}
