//! The exemplars of a database: the last ones that senders gave, in memory and bounded by bytes; the oldest leave first. They
//! are gone after a restart, as those of Prometheus are kept in a ring in memory. Knows no wire form.
//!
//! Rules of Prometheus, series by series: the same exemplar again is taken and not kept twice; one that is older than the
//! newest is refused, as is one of the same time with a smaller value, or with the same value and smaller labels.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use icecore_query::promql::{Labels, Selector};
use icecore_storage::model::SeriesKey;

use crate::Result;
use crate::point::Exemplar;

/// What an exemplar takes beside its labels: itself, its place in the order, and room that lists keep.
const EXEMPLAR_BYTES: u64 = 128;
/// What a series takes beside its labels.
const SERIES_BYTES: u64 = 192;
/// Series between two looks at the account of a query.
const CHUNK: usize = 256;

/// The exemplars of a series, by time.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesExemplars {
    /// The labels of the series.
    pub labels: Labels,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// The exemplars of a database.
#[derive(Debug)]
pub(crate) struct Exemplars {
    bytes_max: u64,
    ring: Mutex<Ring>,
}

#[derive(Debug, Default)]
struct Ring {
    /// Never an empty list.
    series: BTreeMap<Labels, VecDeque<Exemplar>>,
    /// The series of each exemplar, in the order in which they came.
    order: VecDeque<Labels>,
    bytes: u64,
}

impl Exemplars {
    /// Keeps so many bytes, by estimate.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, ring: Mutex::default() }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps exemplars of a series. Hands back how many were taken.
    pub(crate) fn add<'e>(
        &self,
        series: &SeriesKey,
        exemplars: impl IntoIterator<Item = &'e Exemplar>,
    ) -> usize {
        let tags = series.tags().iter().map(|(name, value)| (&**name, &**value));
        let labels = Labels::new(tags.chain([("__name__", series.measurement())]));
        let mut ring = self.ring();
        let taken = exemplars.into_iter().filter(|exemplar| ring.add(&labels, exemplar)).count();
        ring.shrink(self.bytes_max);
        taken
    }

    /// The exemplars within a time, both ends included, of all series that one of the selectors names; by labels. `charge`
    /// is told what memory that takes before it is taken.
    ///
    /// # Errors
    /// Those of `charge`.
    pub(crate) fn find(
        &self,
        selectors: &[&Selector],
        (start_ns, end_ns): (i64, i64),
        mut charge: impl FnMut(u64) -> Result<()>,
    ) -> Result<Vec<SeriesExemplars>> {
        // Patterns are tried without the lock: writers wait for it.
        let all: Vec<Labels> = {
            let ring = self.ring();
            charge(size_of::<Labels>() as u64 * ring.series.len() as u64)?;
            ring.series.keys().cloned().collect()
        };
        let mut found = Vec::new();
        for chunk in all.chunks(CHUNK) {
            charge(0)?;
            let named = chunk.iter().filter(|labels| selectors.iter().any(|one| one.accepts(labels)));
            let named: Vec<&Labels> = named.collect();
            let ring = self.ring();
            for labels in named {
                let kept = ring.series.get(labels).into_iter().flatten();
                let within = kept.filter(|one| (start_ns..=end_ns).contains(&one.ts_ns));
                let exemplars: Vec<Exemplar> = within.cloned().collect();
                if exemplars.is_empty() {
                    continue;
                }
                let labels = labels.clone();
                // What is shared here may leave the ring, and is text in the answer.
                let bytes: u64 = exemplars.iter().map(exemplar_bytes).sum();
                charge(2 * (bytes + series_bytes(&labels)))?;
                found.push(SeriesExemplars { labels, exemplars });
            }
        }
        Ok(found)
    }
}

impl Ring {
    /// Whether an exemplar is taken.
    fn add(&mut self, labels: &Labels, exemplar: &Exemplar) -> bool {
        // All of a series share its labels: they are counted once.
        let labels = self.series.get_key_value(labels).map_or(labels, |(known, _)| known).clone();
        let known = self.series.get_mut(&labels);
        if let Some(newest) = known.as_ref().and_then(|known| known.back()) {
            let by_value = || exemplar.value.total_cmp(&newest.value);
            let by_labels = || exemplar.labels.cmp(&newest.labels);
            match exemplar.ts_ns.cmp(&newest.ts_ns).then_with(by_value).then_with(by_labels) {
                Ordering::Less => return false,
                Ordering::Equal => return true,
                Ordering::Greater => {}
            }
        }
        self.bytes += exemplar_bytes(exemplar);
        match known {
            Some(known) => known.push_back(exemplar.clone()),
            None => {
                self.bytes += series_bytes(&labels);
                self.series.insert(labels.clone(), VecDeque::from([exemplar.clone()]));
            }
        }
        self.order.push_back(labels);
        true
    }

    /// Drops the oldest until there are few enough.
    fn shrink(&mut self, bytes_max: u64) {
        while bytes_max < self.bytes
            && let Some(labels) = self.order.pop_front()
        {
            let Some(known) = self.series.get_mut(&labels) else { continue };
            let oldest = known.pop_front();
            self.bytes -= oldest.as_ref().map_or(0, exemplar_bytes);
            if known.is_empty() {
                self.series.remove(&labels);
                self.bytes -= series_bytes(&labels);
            }
        }
    }
}

fn exemplar_bytes(exemplar: &Exemplar) -> u64 {
    EXEMPLAR_BYTES + exemplar.labels.memory_bytes()
}

fn series_bytes(labels: &Labels) -> u64 {
    SERIES_BYTES + labels.memory_bytes()
}

#[cfg(test)]
mod tests {
    use icecore_query::promql::parse_selector;

    use super::*;
    use crate::Error;

    fn key(host: &str) -> SeriesKey {
        SeriesKey::new("m", [("host", host)]).unwrap()
    }

    fn exemplar(ts_ns: i64, value: f64, trace: &str) -> Exemplar {
        Exemplar { labels: Labels::new([("trace_id", trace)]), ts_ns, value }
    }

    fn found(kept: &Exemplars, selector: &str, range: (i64, i64)) -> Vec<String> {
        let selector = parse_selector(selector).unwrap();
        let found = kept.find(&[&selector], range, |_| Ok(())).unwrap();
        let shown = |one: SeriesExemplars| {
            let times: Vec<_> = one.exemplars.iter().map(|exemplar| exemplar.ts_ns.to_string()).collect();
            format!("{} {}", one.labels.get("host"), times.join(","))
        };
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn exemplars_are_found_by_series_and_time() {
        let kept = Exemplars::new(1 << 20);
        assert_eq!(kept.add(&key("b"), [&exemplar(5, 1.0, "x"), &exemplar(7, 1.0, "x")]), 2);
        assert_eq!(kept.add(&key("a"), [&exemplar(6, 1.0, "x")]), 1);
        assert_eq!(found(&kept, "m", (i64::MIN, i64::MAX)), ["a 6", "b 5,7"]);
        assert_eq!(found(&kept, "m{host=~\"b|c\"}", (i64::MIN, i64::MAX)), ["b 5,7"]);
        assert_eq!(found(&kept, "m", (6, 7)), ["a 6", "b 7"]);
        assert_eq!(found(&kept, "m", (8, 9)), [""; 0]);
        assert_eq!(found(&kept, "other", (0, 9)), [""; 0]);
        let selector = parse_selector("m").unwrap();
        let refused = kept.find(&[&selector], (0, 9), |_| Err(Error::invalid("no room")));
        assert!(refused.is_err());
    }

    #[test]
    fn same_again_is_kept_once_and_what_is_older_is_refused() {
        let kept = Exemplars::new(1 << 20);
        let add = |exemplar: Exemplar| kept.add(&key("a"), [&exemplar]);
        for (exemplar, taken, count) in [
            (exemplar(5, 2.0, "m"), 1, 1),
            (exemplar(5, 2.0, "m"), 1, 1),
            (exemplar(4, 2.0, "m"), 0, 1),
            (exemplar(5, 1.0, "z"), 0, 1),
            (exemplar(5, 2.0, "l"), 0, 1),
            (exemplar(5, 2.0, "n"), 1, 2),
            (exemplar(5, 3.0, "a"), 1, 3),
            (exemplar(6, 1.0, "a"), 1, 4),
        ] {
            assert_eq!(add(exemplar.clone()), taken, "{exemplar:?}");
            assert_eq!(kept.ring().order.len(), count, "{exemplar:?}");
        }
    }

    #[test]
    fn exemplars_of_a_series_share_its_labels() {
        let kept = Exemplars::new(1 << 20);
        for ts_ns in 0..3 {
            kept.add(&key("a"), [&exemplar(ts_ns, 1.0, "x")]);
        }
        let ring = kept.ring();
        let (labels, _) = ring.series.first_key_value().unwrap();
        assert!(ring.order.iter().all(|one| std::ptr::eq(one.name(), labels.name())));
    }

    #[test]
    fn oldest_leave_when_there_is_no_room_and_their_series_with_them() {
        let one = exemplar(1, 1.0, "trace");
        let series = series_bytes(&Labels::new([("__name__", "m"), ("host", "x")]));
        let kept = Exemplars::new(2 * series + 3 * exemplar_bytes(&one));
        for (host, ts_ns) in [("a", 1), ("b", 2), ("b", 3)] {
            kept.add(&key(host), [&exemplar(ts_ns, 1.0, "trace")]);
        }
        assert_eq!(found(&kept, "m", (0, 9)), ["a 1", "b 2,3"]);
        kept.add(&key("b"), [&exemplar(4, 1.0, "trace")]);
        assert_eq!(found(&kept, "m", (0, 9)), ["b 2,3,4"]);
        kept.add(&key("c"), [&exemplar(5, 1.0, "trace")]);
        assert_eq!(found(&kept, "m", (0, 9)), ["b 3,4", "c 5"]);
        // What has no room at all leaves nothing behind.
        let none = Exemplars::new(0);
        none.add(&key("a"), [&exemplar(1, 1.0, "trace")]);
        let ring = none.ring();
        assert_eq!((ring.series.len(), ring.order.len(), ring.bytes), (0, 0, 0));
    }
}
