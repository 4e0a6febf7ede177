//! What a condition means for one measurement: matchers for storage, tests on series, tests on rows.
//!
//! Conjuncts over one tag become matchers, so that storage never hands over other series. Conjuncts over several
//! tags are tested once for each series; all others once for each row.

use std::sync::Arc;

use icecore_storage::model::{MeasurementId, SeriesId, SeriesKey, TimeRange};
use icecore_storage::scan::{TagMatcher, TagTest};

use super::Context;
use super::ast::{Compare, Expr};
use super::node::{Binder, Leaves, Node, Row, Tags};
use super::scalar::Cell;
use crate::Result;
use crate::keys::each_key;

/// A condition without its bounds of time, bound to one measurement.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    pub(crate) matchers: Vec<TagMatcher>,
    series_tests: Vec<Node>,
    pub(crate) row_tests: Vec<Node>,
}

impl Filter {
    /// Binds the conjuncts.
    ///
    /// # Errors
    /// Those of [`Binder::condition`].
    pub(crate) fn bind(conjuncts: &[Expr], binder: &mut Binder<'_>) -> Result<Self> {
        let mut filter = Self::default();
        for conjunct in conjuncts {
            filter.place(binder.condition(conjunct)?);
        }
        Ok(filter)
    }

    fn place(&mut self, node: Node) {
        let mut leaves = Leaves::default();
        node.leaves(&mut leaves);
        if leaves.has_row {
            self.row_tests.push(node);
            return;
        }
        leaves.tags.dedup();
        let only_tag = match leaves.tags.as_slice() {
            [key] => Some((*key).to_owned()),
            _ => None,
        };
        match only_tag {
            Some(key) => self.matchers.push(TagMatcher { key, test: tag_test(node) }),
            None => self.series_tests.push(node),
        }
    }

    /// Whether a series that passed the matchers passes the rest.
    pub(crate) fn accepts_series(&self, key: &SeriesKey) -> bool {
        let row = Row { tags: Tags::Key(key), ..Row::default() };
        self.series_tests.iter().all(|test| test.holds(&row))
    }

    /// The series of a measurement that pass, ascending by id.
    ///
    /// # Errors
    /// `LimitExceeded` when more than `limit` pass the matchers; those of storage and the budget.
    pub(crate) fn series(
        &self,
        context: &Context<'_>,
        measurement: MeasurementId,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<SeriesId>> {
        let ids = context.scan.series_ids(measurement, &self.matchers, range, limit)?;
        context.budget.charge_ids(&ids)?;
        if self.series_tests.is_empty() {
            return Ok(ids);
        }
        let mut passed = Vec::new();
        each_key(context.scan, &ids, context.budget, |position, key| {
            if self.accepts_series(key) {
                passed.extend(ids.get(position).copied());
            }
            Ok(())
        })?;
        Ok(passed)
    }

    /// Whether a row passes.
    pub(crate) fn accepts_row(&self, row: &Row<'_>) -> bool {
        self.row_tests.iter().all(|test| test.holds(row))
    }
}

/// The test that an expression over one tag makes of its value.
fn tag_test(node: Node) -> TagTest {
    if let Node::Compare { op, left, right } = &node {
        let text = match (&**left, &**right) {
            (Node::TagText(_), Node::Const(Cell::Text(text))) => Some(text.clone()),
            (Node::Const(Cell::Text(text)), Node::TagText(_)) => Some(text.clone()),
            _ => None,
        };
        match (op, text) {
            (Compare::Eq, Some(text)) => return TagTest::Equal(text),
            (Compare::Ne, Some(text)) => return TagTest::NotEqual(text),
            _ => {}
        }
    }
    TagTest::Is(Arc::new(move |value: &str| node.holds(&Row { tags: Tags::Value(value), ..Row::default() })))
}
