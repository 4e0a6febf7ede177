//! The samples of a selector as they are stored, for those who evaluate them somewhere else: with a marker where a series
//! ended. Functions, steps and lookback are not known here.
//!
//! Series come in the order of their labels, a portion of them at a time: labels of all series are held, and the samples of
//! one portion, whose size follows from how much the last one held.

use icecore_storage::model::stale::STALE_MARKER;
use icecore_storage::model::{FieldId, NativeHistogram, SeriesId, TimeRange};
use icecore_storage::scan::{Coverage, SampleRequest, SampleSlice, Scan};

use super::super::ast::Selector;
use super::super::value::Labels;
use super::select::{Target, select, statistic_of};
use crate::keys::each_key;
use crate::{Budget, Error, ErrorKind, Result};

/// Series of the first portion, and of any.
const PORTION_MIN: usize = 16;
const PORTION_MAX: usize = 1024;
/// Bytes of samples that a portion should have.
const PORTION_BYTES: u64 = 4 << 20;
/// What a series takes beside its labels: its places in the list and in a portion.
const SERIES_BYTES: u64 = 128;

/// The samples of a series within a time.
#[derive(Debug, Default)]
pub struct SeriesSamples {
    /// Its labels.
    pub labels: Labels,
    /// Times of the numbers in nanoseconds, ascending.
    pub ts_ns: Vec<i64>,
    /// The numbers, one for each time; a stale marker where the series ended.
    pub values: Vec<f64>,
    /// Native histograms by time.
    pub histograms: Vec<(i64, NativeHistogram)>,
}

/// Takes the samples of a series.
pub type SeriesSink<'s> = dyn FnMut(&SeriesSamples) -> Result<()> + 's;

/// Whether some series that a selector names may have native histograms.
///
/// # Errors
/// Those of the budget and of storage.
pub fn has_histograms(
    scan: &dyn Scan,
    selector: &Selector,
    range: TimeRange,
    budget: &Budget,
) -> Result<bool> {
    let before = budget.memory_bytes();
    let targets = select(scan, selector, range, budget)?;
    let found = targets.iter().any(|target| scan.has_histograms(target.measurement, target.field));
    drop(targets);
    budget.keep_bytes(before)?;
    Ok(found)
}

/// Hands over the raw samples of each series that has some, each series once, by their labels. Of two samples of one time
/// a number counts more than a marker, and of two fields with one metric name one counts.
///
/// # Errors
/// `InvalidInput` for statistics; those of the budget, of storage and of `sink`.
pub fn each_series(
    scan: &dyn Scan,
    selector: &Selector,
    range: TimeRange,
    budget: &Budget,
    sink: &mut SeriesSink<'_>,
) -> Result<Coverage> {
    if statistic_of(selector)?.is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "a statistic has no samples"));
    }
    let before = budget.memory_bytes();
    let targets = select(scan, selector, range, budget)?;
    let reader = Reader { scan, range, budget, targets: &targets };
    let listed = reader.list()?;
    let listed_bytes = budget.memory_bytes().saturating_sub(before);
    let (mut rest, mut count) = (listed.as_slice(), PORTION_MIN);
    let mut total = Coverage::default();
    while !rest.is_empty() {
        budget.check_time()?;
        let (portion, after) = rest.split_at(whole_series(rest, count));
        rest = after;
        let before = budget.memory_bytes();
        let (found, coverage) = reader.read(portion)?;
        total.absorb(&coverage);
        let bytes = budget.memory_bytes().saturating_sub(before);
        found.iter().filter(|one| !one.is_empty()).try_for_each(&mut *sink)?;
        drop(found);
        give_back(budget, bytes)?;
        let fitting = (count as u64).saturating_mul(PORTION_BYTES) / bytes.max(1);
        count = usize::try_from(fitting).unwrap_or(PORTION_MAX).clamp(1, PORTION_MAX.min(2 * count));
    }
    give_back(budget, listed_bytes)?;
    Ok(total)
}

/// Gives back so many bytes; what the sink has taken stays charged.
fn give_back(budget: &Budget, bytes: u64) -> Result<()> {
    budget.keep_bytes(budget.memory_bytes().saturating_sub(bytes))
}

/// A series of a field, by its place in the list of fields.
struct Listed {
    labels: Labels,
    target: usize,
    id: SeriesId,
}

/// How many of the list a portion of so many series has, without parting those with equal labels.
fn whole_series(listed: &[Listed], count: usize) -> usize {
    let mut count = count.min(listed.len());
    let is_parted = |at: usize| {
        let pair = listed.get(at - 1).zip(listed.get(at));
        pair.is_some_and(|(one, next)| one.labels == next.labels)
    };
    while is_parted(count) {
        count += 1;
    }
    count
}

struct Reader<'a> {
    scan: &'a dyn Scan,
    range: TimeRange,
    budget: &'a Budget,
    targets: &'a [Target],
}

impl Reader<'_> {
    /// All series by their labels.
    fn list(&self) -> Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for (target_idx, target) in self.targets.iter().enumerate() {
            each_key(self.scan, &target.ids, self.budget, |position, key| {
                let labels = target.labels(key);
                self.budget.charge_bytes(SERIES_BYTES + labels.memory_bytes())?;
                let id = target.ids.get(position).copied();
                listed.extend(id.map(|id| Listed { labels, target: target_idx, id }));
                Ok(())
            })?;
        }
        listed.sort_unstable_by(|one, other| {
            (&one.labels, one.target, one.id).cmp(&(&other.labels, other.target, other.id))
        });
        Ok(listed)
    }

    /// The samples of a portion of the list, series by series.
    fn read(&self, portion: &[Listed]) -> Result<(Vec<SeriesSamples>, Coverage)> {
        let mut found: Vec<SeriesSamples> = Vec::new();
        // The place in `found` of each series of the list.
        let mut places = Vec::with_capacity(portion.len());
        for listed in portion {
            if found.last().is_none_or(|last| last.labels != listed.labels) {
                found.push(SeriesSamples { labels: listed.labels.clone(), ..SeriesSamples::default() });
            }
            places.push(found.len() - 1);
        }
        let mut total = Coverage::default();
        for (target_idx, target) in self.targets.iter().enumerate() {
            let of_target = portion.iter().zip(&places).filter(|(listed, _)| listed.target == target_idx);
            let mut ids: Vec<(SeriesId, usize)> =
                of_target.map(|(listed, place)| (listed.id, *place)).collect();
            if !ids.is_empty() {
                ids.sort_unstable();
                total.absorb(&self.read_target(target, &ids, &mut found)?);
            }
        }
        Ok((found, total))
    }

    /// Adds the samples of one field.
    fn read_target(
        &self,
        target: &Target,
        ids: &[(SeriesId, usize)],
        found: &mut [SeriesSamples],
    ) -> Result<Coverage> {
        let place_of = |series_idx: usize| ids.get(series_idx).map(|(_, place)| *place);
        let ids: Vec<SeriesId> = ids.iter().map(|(id, _)| *id).collect();
        let coverage = self.each(target, target.field, &ids, &mut |slice| {
            let place = place_of(slice.series_idx);
            if let Some(series) = place.and_then(|place| found.get_mut(place)) {
                self.charge_samples(slice.ts_ns.len())?;
                series.add(slice.ts_ns, slice.values);
            }
            Ok(())
        })?;
        if let Some(stale) = target.stale {
            self.each(target, stale, &ids, &mut |slice| {
                let place = place_of(slice.series_idx);
                if let Some(series) = place.and_then(|place| found.get_mut(place)) {
                    self.charge_samples(slice.ts_ns.len())?;
                    series.add(slice.ts_ns, &vec![STALE_MARKER; slice.ts_ns.len()]);
                }
                Ok(())
            })?;
        }
        if self.scan.has_histograms(target.measurement, target.field) {
            let request = self.request(target, target.field, &ids);
            let outcome = self.scan.histograms(&request, self.budget, &mut |slice| {
                let place = place_of(slice.series_idx);
                if let Some(series) = place.and_then(|place| found.get_mut(place)) {
                    let bytes = slice.values.iter().map(histogram_bytes).sum();
                    self.budget.charge_bytes(bytes).map_err(|error| self.budget.stop_scan(error))?;
                    let new = slice.ts_ns.iter().copied().zip(slice.values.iter().cloned());
                    series.histograms.extend(new);
                    series.histograms.sort_by_key(|(ts_ns, _)| *ts_ns);
                    series.histograms.dedup_by_key(|(ts_ns, _)| *ts_ns);
                }
                Ok(())
            });
            self.budget.scanned(outcome)?;
        }
        Ok(coverage)
    }

    fn charge_samples(&self, count: usize) -> Result<()> {
        // Twice: a series whose samples are joined stands there two times for a moment.
        self.budget.charge_bytes((2 * count * size_of::<(i64, f64)>()) as u64)
    }

    fn request<'r>(&self, target: &Target, field: FieldId, ids: &'r [SeriesId]) -> SampleRequest<'r> {
        SampleRequest { measurement: target.measurement, field, series: ids, range: self.range }
    }

    fn each(
        &self,
        target: &Target,
        field: FieldId,
        ids: &[SeriesId],
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let request = self.request(target, field, ids);
        let outcome = self.scan.samples(&request, self.budget, &mut |slice| {
            sink(slice).map_err(|error| self.budget.stop_scan(error))
        });
        self.budget.scanned(outcome)
    }
}

impl SeriesSamples {
    fn is_empty(&self) -> bool {
        self.ts_ns.is_empty() && self.histograms.is_empty()
    }

    /// Adds samples by time; of two at one time the one that was there counts.
    fn add(&mut self, ts_ns: &[i64], values: &[f64]) {
        if self.ts_ns.last().zip(ts_ns.first()).is_none_or(|(last, first)| last < first) {
            self.ts_ns.extend_from_slice(ts_ns);
            self.values.extend_from_slice(values);
            return;
        }
        let there = self.ts_ns.iter().copied().zip(self.values.iter().copied());
        let new = ts_ns.iter().copied().zip(values.iter().copied());
        let mut all: Vec<(i64, f64)> = there.chain(new).collect();
        // Stable, so that the first of equals stays.
        all.sort_by_key(|(ts_ns, _)| *ts_ns);
        all.dedup_by_key(|(ts_ns, _)| *ts_ns);
        (self.ts_ns, self.values) = all.into_iter().unzip();
    }
}

/// An estimate of what a native histogram takes.
fn histogram_bytes(histogram: &NativeHistogram) -> u64 {
    let buckets = size_of_val(&*histogram.positive) + size_of_val(&*histogram.negative);
    (size_of::<(i64, NativeHistogram)>() + buckets) as u64
}

#[cfg(test)]
mod tests {
    use icecore_storage::model::{SeriesKey, Value, is_stale};

    use super::super::super::parser::parse_selector;
    use super::super::super::testing::VecScan;
    use super::*;
    use crate::Limits;
    use crate::testing::Wide;

    fn read(scan: &dyn Scan, selector: &str) -> Vec<SeriesSamples> {
        let (budget, mut found) = (Budget::untimed(Limits::default()), Vec::new());
        let selector = parse_selector(selector).unwrap();
        each_series(scan, &selector, TimeRange::ALL, &budget, &mut |series| {
            let SeriesSamples { labels, ts_ns, values, histograms } = series;
            let (labels, ts_ns) = (labels.clone(), ts_ns.clone());
            found.push(SeriesSamples {
                labels,
                ts_ns,
                values: values.clone(),
                histograms: histograms.clone(),
            });
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn sample_counts_more_than_a_marker_of_its_time() {
        let mut series = SeriesSamples::default();
        series.add(&[1, 3, 5], &[10.0, 30.0, 50.0]);
        series.add(&[0, 3, 4, 9], &[STALE_MARKER; 4]);
        assert_eq!(series.ts_ns, [0, 1, 3, 4, 5, 9]);
        let is_end: Vec<bool> = series.values.iter().map(|value| is_stale(*value)).collect();
        assert_eq!(is_end, [true, false, false, true, false, true]);
        assert_eq!(series.values[2], 30.0);
    }

    #[test]
    fn two_fields_of_one_metric_are_one_series() {
        let mut scan = VecScan::default();
        for host in 0..40 {
            let tags = || [("host", format!("h{host:02}"))];
            scan.push(&SeriesKey::new("a_b", tags()).unwrap(), "c", 1, Value::Float(1.0));
            scan.push(&SeriesKey::new("a_b", tags()).unwrap(), "c", 3, Value::Float(3.0));
            scan.push(&SeriesKey::new("a", tags()).unwrap(), "b_c", 2, Value::Float(2.0));
            scan.push(&SeriesKey::new("a", tags()).unwrap(), "b_c", 3, Value::Float(9.0));
        }
        let found = read(&scan, "a_b_c");
        assert_eq!(found.len(), 40);
        assert!(found.iter().all(|one| one.ts_ns == [1, 2, 3]), "{found:?}");
    }

    #[test]
    fn many_series_come_once_each_by_their_labels_and_give_their_memory_back() {
        let found = read(&Wide { series: 5_000 }, "wide");
        assert_eq!(found.len(), 5_000);
        assert!(found.is_sorted_by(|one, next| one.labels < next.labels));
        let budget = Budget::untimed(Limits::default());
        let selector = parse_selector("wide").unwrap();
        let (mut least, mut most) = (u64::MAX, 0);
        each_series(&Wide { series: 5_000 }, &selector, TimeRange::ALL, &budget, &mut |_| {
            budget.charge_bytes(10)?;
            (least, most) = (budget.memory_bytes().min(least), budget.memory_bytes().max(most));
            Ok(())
        })
        .unwrap();
        // The list, a portion, and what the sink takes, which stays.
        assert!(most < least + PORTION_BYTES, "{least} {most}");
        assert_eq!(budget.memory_bytes(), 50_000);
    }
}
