//! What a condition means for one measurement: matchers for storage, tests on series, tests on rows.
//!
//! Conjuncts over one tag become matchers, so that storage never hands over other series. Conjuncts over several
//! tags are tested once for each series; all others once for each row.

use std::sync::Arc;

use icecore_storage::model::{MeasurementId, SeriesId, SeriesKey, TimeRange};
use icecore_storage::scan::{FieldInfo, TagMatcher, TagTest, ValueBounds};

use super::Context;
use super::ast::{Compare, Expr};
use super::node::{Binder, Leaves, Node, Row, Tags};
use super::scalar::Cell;
use crate::budget::SERIES_MAX;
use crate::keys::each_key;
use crate::{Error, Result};

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
        let found = context.scan.series_ids(measurement, &self.matchers, range, limit);
        let ids = found.map_err(|error| Error::of_search(SERIES_MAX, error))?;
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

    /// What the numbers of a row that passes lie between; `fields` are those that the conditions are bound to.
    pub(crate) fn bounds(&self, fields: &[FieldInfo]) -> Vec<ValueBounds> {
        let mut bounds = Vec::new();
        self.row_tests.iter().for_each(|test| bounds_of(test, fields, &mut bounds));
        bounds
    }

    /// Whether a row passes.
    pub(crate) fn accepts_row(&self, row: &Row<'_>) -> bool {
        self.row_tests.iter().all(|test| test.holds(row))
    }
}

/// The bounds that a conjunct sets to one field; wider than said where a float cannot tell.
fn bounds_of(node: &Node, fields: &[FieldInfo], bounds: &mut Vec<ValueBounds>) {
    let (op, place, number) = match node {
        Node::All(parts) => return parts.iter().for_each(|part| bounds_of(part, fields, bounds)),
        Node::Compare { op, left, right } => match (&**left, &**right) {
            (Node::Column(place), Node::Const(number)) => (*op, *place, number),
            (Node::Const(number), Node::Column(place)) => (op.flipped(), *place, number),
            _ => return,
        },
        _ => return,
    };
    let (low, high) = match number {
        Cell::Float(number) => (*number, *number),
        Cell::Int(number) => ((*number as f64).next_down(), (*number as f64).next_up()),
        Cell::UInt(number) => ((*number as f64).next_down(), (*number as f64).next_up()),
        Cell::Null | Cell::Time(_) | Cell::Bool(_) | Cell::Text(_) => return,
    };
    let (min, max) = match op {
        Compare::Eq => (low, high),
        Compare::Gt | Compare::Ge => (low, f64::INFINITY),
        Compare::Lt | Compare::Le => (f64::NEG_INFINITY, high),
        Compare::Ne => return,
    };
    bounds.extend(fields.get(place).map(|field| ValueBounds { field: field.id, min, max }));
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

#[cfg(test)]
mod tests {
    use icecore_storage::model::{FieldId, FieldType};
    use proptest::prelude::*;

    use super::super::scalar::{Scalar, compare};
    use super::*;

    fn number() -> impl Strategy<Value = Cell> {
        let floats = [0.0, -0.0, f64::NAN, f64::INFINITY, 9_007_199_254_740_993.0, 0.5, 3.0];
        prop_oneof![
            prop::sample::select(floats.to_vec()).prop_map(Cell::Float),
            (0..60_u32, -2..3_i64).prop_map(|(bits, more)| Cell::Int((1_i64 << bits) + more)),
            (50..64_u32, 0..3_u64).prop_map(|(bits, less)| Cell::UInt((1_u64 << bits) - less)),
            (-4..4_i64).prop_map(Cell::Int),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn numbers_for_which_a_comparison_holds_lie_between_its_bounds(
            value in number(),
            constant in number(),
            op in prop::sample::select(vec![Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge]),
            is_flipped in any::<bool>(),
        ) {
            let fields = [FieldInfo { id: FieldId(3), name: "f".into(), field_type: FieldType::Float }];
            let (column, node) = (Box::new(Node::Column(0)), Box::new(Node::Const(constant.clone())));
            let (left, right) = if is_flipped { (node, column) } else { (column, node) };
            let mut bounds = Vec::new();
            bounds_of(&Node::All(vec![Node::Compare { op, left, right }]), &fields, &mut bounds);
            let holds = match is_flipped {
                true => compare(op, constant.scalar(), value.scalar()),
                false => compare(op, value.scalar(), constant.scalar()),
            };
            let float = match value.scalar() {
                Scalar::Float(value) => value,
                Scalar::Int(value) => value as f64,
                Scalar::UInt(value) => value as f64,
                _ => f64::NAN,
            };
            for ValueBounds { field, min, max } in bounds {
                prop_assert_eq!(field, FieldId(3));
                prop_assert!(!holds || (min <= float && float <= max), "{:?} {:?} {:?}: {} {}", value, op, constant, min, max);
            }
        }
    }
}
