//! The samples of a selector as they are stored, for those who evaluate them somewhere else: with the marks of the end
//! of series. Functions, steps and lookback are not known here.

use icecore_storage::model::TimeRange;
use icecore_storage::scan::{Coverage, SampleRequest, Scan};

use super::super::ast::Selector;
use super::super::value::Labels;
use super::select::{select, statistic_of};
use crate::{Budget, Error, ErrorKind, Result};

/// Series whose labels are held at once.
const CHUNK: usize = 1024;

/// Takes the samples of a series: labels, times in nanoseconds, values.
pub type SeriesSink<'s> = dyn FnMut(&Labels, &[i64], &[f64]) -> Result<()> + 's;

/// Hands over the raw samples of each series that has some: labels, times, values. Series come in no certain order.
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
    let mut total = Coverage::default();
    for target in select(scan, selector, range, budget)? {
        for ids in target.ids.chunks(CHUNK) {
            budget.check_time()?;
            let labels: Vec<Labels> = scan.keys(ids)?.iter().map(|key| target.labels(key)).collect();
            let _held = budget.hold_bytes(labels.iter().map(Labels::memory_bytes).sum())?;
            let (measurement, field) = (target.measurement, target.field);
            let request = SampleRequest { measurement, field, series: ids, range };
            let outcome = scan.samples(&request, budget, &mut |slice| {
                let Some(labels) = labels.get(slice.series_idx) else { return Ok(()) };
                sink(labels, slice.ts_ns, slice.values).map_err(|error| budget.stop_scan(error))
            });
            total.absorb(&budget.scanned(outcome)?);
        }
    }
    Ok(total)
}
