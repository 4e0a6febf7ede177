//! What readers of the Prometheus world ask besides PromQL: samples as they are stored (remote read), the newest of each
//! series (federation), exemplars. Knows no wire form.

use icecore_query::promql;
use icecore_storage::model::TimeRange;
use icecore_storage::scan::Coverage;

use super::{Database, Query, promql_context};
use crate::Result;
use crate::exemplars::SeriesExemplars;

impl Database {
    /// Hands over the raw samples of each series that a selector names, as they are stored: numbers, the markers of ended
    /// series, and native histograms. Series come once each, by their labels; a portion of them is in memory at a time.
    ///
    /// # Errors
    /// As [`Database::promql`], and those of `sink`.
    pub fn each_series(
        &self,
        query: &Query,
        selector: &promql::Selector,
        range: TimeRange,
        sink: &mut promql::SeriesSink<'_>,
    ) -> Result<Coverage> {
        let view = self.engine.view();
        Ok(promql::each_series(view.as_ref(), selector, range, &query.budget, sink)?)
    }

    /// Whether some of the series that a selector names may have native histograms.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn has_histograms(
        &self,
        query: &Query,
        selector: &promql::Selector,
        range: TimeRange,
    ) -> Result<bool> {
        let view = self.engine.view();
        Ok(promql::has_histograms(view.as_ref(), selector, range, &query.budget)?)
    }

    /// The newest sample of each series that one of the selectors names, by metric name and labels, each series once: not
    /// older than the lookback, and of no series that has ended. Native histograms are left out.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn newest(
        &self,
        query: &Query,
        selectors: &[String],
        time_ns: i64,
    ) -> Result<Vec<promql::NewestSample>> {
        let view = self.engine.view();
        let context = promql_context(view.as_ref(), query);
        let mut found = Vec::new();
        // One after the other: the patterns of each may take as much memory as those of a query.
        for text in selectors {
            found.extend(promql::newest(&context, &promql::parse_selector(text)?, time_ns)?);
        }
        let key = |one: &promql::NewestSample| (one.labels.name().to_owned(), one.labels.clone());
        found.sort_by_cached_key(|one| (key(one), std::cmp::Reverse(one.ts_ns)));
        found.dedup_by(|later, kept| later.labels == kept.labels);
        Ok(found)
    }

    /// The exemplars within a time, both ends included, of the series that the selectors of a PromQL expression name; by
    /// labels.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub fn exemplars(&self, query: &Query, text: &str, range_ns: (i64, i64)) -> Result<Vec<SeriesExemplars>> {
        let expr = promql::parse(text)?;
        self.exemplars.find(&expr.selectors(), range_ns, |bytes| {
            query.budget.check_time()?;
            Ok(query.budget.charge_bytes(bytes)?)
        })
    }
}
