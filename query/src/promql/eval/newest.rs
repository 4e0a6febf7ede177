//! The newest sample of each series of a selector, with its own time, for those who take samples along as they are.

use icecore_storage::model::{Partial, StatSet};

use super::super::ast::Selector;
use super::super::value::{Labels, Sample};
use super::read::{WindowRead, ended_ns, newest_of, windows_of};
use super::select::{Target, statistic_of};
use super::series::series_bytes;
use super::{Context, Evaluator, Grid};
use crate::keys::each_key;
use crate::{Error, ErrorKind, Result};

/// A sample and its series.
#[derive(Debug, Clone, PartialEq)]
pub struct NewestSample {
    /// The labels of the series.
    pub labels: Labels,
    /// The time of the sample.
    pub ts_ns: i64,
    /// Its value.
    pub value: f64,
}

/// Finds the newest sample of each series that a selector names, of those not older than the lookback at `time_ns` and not
/// newer than it. Series that ended after it are left out, and those whose newest sample is a native histogram. They come
/// in no certain order; two fields of one metric name give two samples with the same labels.
///
/// # Errors
/// `InvalidInput` for statistics; those of the budget and of storage.
pub fn newest(context: &Context<'_>, selector: &Selector, time_ns: i64) -> Result<Vec<NewestSample>> {
    if statistic_of(selector)?.is_some() {
        return Err(Error::new(ErrorKind::InvalidInput, "a statistic has no samples"));
    }
    let grid = Grid { start_ns: time_ns, step_ns: 0, count: 1 };
    let evaluator = Evaluator::new(context, "", &grid);
    let windows = windows_of(&grid, evaluator.lookback_ns());
    let (plain, mixed) = evaluator.parted(evaluator.targets(selector, &windows)?, &windows)?;
    let mut found = Vec::new();
    for target in &plain {
        let read = WindowRead { windows: &windows, grid: &grid, wants: StatSet::ENDS };
        evaluator.newest_of_target(target, &read, &mut found)?;
    }
    for raw in evaluator.samples_of(&mixed, &windows, true)?.0 {
        let newest = windows.first().and_then(|window| raw.last(*window));
        if let Some((ts_ns, Sample::Float(value))) = newest {
            found.push(NewestSample { labels: raw.labels, ts_ns, value });
        }
    }
    Ok(found)
}

impl Evaluator<'_> {
    fn newest_of_target(
        &self,
        target: &Target,
        read: &WindowRead<'_>,
        found: &mut Vec<NewestSample>,
    ) -> Result<()> {
        let budget = self.context.budget;
        let ends = self.ends(target, &target.ids, read.windows, read.grid)?;
        let mut samples = Vec::new();
        let newest = |place, step, _, partial: &Partial| newest_of(partial, ended_ns(&ends, place, step));
        self.each_window(target.place(), &target.ids, read, newest, |place, points| {
            budget.charge_bytes(series_bytes(1))?;
            let id = target.ids.get(place).copied();
            samples.extend(id.zip(points.first().copied().flatten()));
            Ok(())
        })?;
        let ids: Vec<_> = samples.iter().map(|(id, _)| *id).collect();
        let mut samples = samples.into_iter();
        each_key(self.context.scan, &ids, budget, |_, key| {
            let labels = target.labels(key);
            budget.charge_bytes(labels.memory_bytes())?;
            let sample = samples.next();
            found.extend(sample.map(|(_, (ts_ns, value))| NewestSample { labels, ts_ns, value }));
            Ok(())
        })
    }
}
