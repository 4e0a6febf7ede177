//! The samples of a selector as they are stored, for those who evaluate them somewhere else: with a marker where a series
//! ended. Functions, steps and lookback are not known here.

use std::collections::BTreeMap;

use icecore_storage::model::stale::STALE_MARKER;
use icecore_storage::model::{FieldId, SeriesId, TimeRange};
use icecore_storage::scan::{Coverage, SampleRequest, SampleSlice, Scan};

use super::super::ast::Selector;
use super::super::value::Labels;
use super::select::{Target, select, statistic_of};
use crate::{Budget, Error, ErrorKind, Result};

/// Series whose labels and ends are held at once.
const CHUNK: usize = 1024;

/// Takes the samples of a series: labels, times in nanoseconds, values.
pub type SeriesSink<'s> = dyn FnMut(&Labels, &[i64], &[f64]) -> Result<()> + 's;

/// Hands over the raw samples of each series that has some: labels, times, values, and a stale marker where the series
/// ended. Series come in no certain order.
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
    let reader = Reader { scan, range, budget };
    let mut total = Coverage::default();
    for target in select(scan, selector, range, budget)? {
        for ids in target.ids.chunks(CHUNK) {
            budget.check_time()?;
            total.absorb(&reader.read(&target, ids, sink)?);
        }
    }
    Ok(total)
}

struct Reader<'a> {
    scan: &'a dyn Scan,
    range: TimeRange,
    budget: &'a Budget,
}

impl Reader<'_> {
    fn read(&self, target: &Target, ids: &[SeriesId], sink: &mut SeriesSink<'_>) -> Result<Coverage> {
        let labels: Vec<Labels> = self.scan.keys(ids)?.iter().map(|key| target.labels(key)).collect();
        let _held = self.budget.hold_bytes(labels.iter().map(Labels::memory_bytes).sum())?;
        let mut ends: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
        if let Some(stale) = target.stale {
            self.each(target, stale, ids, &mut |slice| {
                self.budget.charge_bytes(size_of_val(slice.ts_ns) as u64)?;
                ends.insert(slice.series_idx, slice.ts_ns.to_vec());
                Ok(())
            })?;
        }
        let coverage = self.each(target, target.field, ids, &mut |slice| {
            let Some(labels) = labels.get(slice.series_idx) else { return Ok(()) };
            match ends.remove(&slice.series_idx) {
                None => sink(labels, slice.ts_ns, slice.values),
                Some(ends) => {
                    let (ts_ns, values) = with_ends(&slice, &ends);
                    sink(labels, &ts_ns, &values)
                }
            }
        })?;
        // Series that only ended in this time.
        for (series_idx, ts_ns) in ends {
            let Some(labels) = labels.get(series_idx) else { continue };
            sink(labels, &ts_ns, &vec![STALE_MARKER; ts_ns.len()])?;
        }
        Ok(coverage)
    }

    fn each(
        &self,
        target: &Target,
        field: FieldId,
        ids: &[SeriesId],
        sink: &mut dyn FnMut(SampleSlice<'_>) -> Result<()>,
    ) -> Result<Coverage> {
        let (measurement, range) = (target.measurement, self.range);
        let request = SampleRequest { measurement, field, series: ids, range };
        let outcome = self.scan.samples(&request, self.budget, &mut |slice| {
            sink(slice).map_err(|error| self.budget.stop_scan(error))
        });
        self.budget.scanned(outcome)
    }
}

/// Samples and markers by time; a sample counts more than a marker of the same time.
fn with_ends(slice: &SampleSlice<'_>, ends: &[i64]) -> (Vec<i64>, Vec<f64>) {
    let numbers = slice.ts_ns.iter().copied().zip(slice.values.iter().copied());
    let markers = ends.iter().map(|ts_ns| (*ts_ns, STALE_MARKER));
    let mut all: Vec<(i64, f64)> = numbers.chain(markers).collect();
    // Stable, so that the sample stands before the marker, and the first of equals stays.
    all.sort_by_key(|(ts_ns, _)| *ts_ns);
    all.dedup_by_key(|(ts_ns, _)| *ts_ns);
    all.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use icecore_storage::model::is_stale;

    use super::*;

    #[test]
    fn with_ends_sample_counts_more_than_a_marker_of_its_time() {
        let slice = SampleSlice { series_idx: 0, ts_ns: &[1, 3, 5], values: &[10.0, 30.0, 50.0] };
        let (ts_ns, values) = with_ends(&slice, &[0, 3, 4, 9]);
        assert_eq!(ts_ns, [0, 1, 3, 4, 5, 9]);
        let is_end: Vec<bool> = values.iter().map(|value| is_stale(*value)).collect();
        assert_eq!(is_end, [true, false, false, true, false, true]);
        assert_eq!(values[2], 30.0);
    }
}
