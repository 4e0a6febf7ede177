//! Very many series of one selector: their order by labels, and their groups in an aggregation.
//!
//! Series that are not too many are ordered by the codes of their tags, each replaced by the rank of its value. Of more
//! than those keys are looked at once and not kept, since the distinct values of a tag may be as many: of each series a
//! text is held that compares as its labels do, and only until the order is known.

use std::collections::HashMap;
use std::sync::Arc;

use icecore_storage::model::SeriesId;
use icecore_storage::scan::TagCodes;

use super::super::ast::Aggregate;
use super::super::value::{Labels, NAME_LABEL, is_reserved};
use super::Evaluator;
use super::aggregate::group_labels;
use super::grouped::{Grouping, values_bytes};
use super::select::Target;
use crate::Result;
use crate::budget::Held;
use crate::keys::each_key;

/// Series in order, with their groups. Series are named by their position in the list that was given.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Each series and its group, by labels.
    pub(super) order: Vec<(u32, u32)>,
    /// Labels of the groups, in no order.
    pub(super) groups: Vec<Labels>,
}

impl Roster {
    /// Series in some order.
    fn new(order: impl Iterator<Item = u32>, grouping: Grouping) -> Self {
        let group_of = |series: u32| grouping.groups.get(series as usize).copied().unwrap_or_default();
        Self { order: order.map(|series| (series, group_of(series))).collect(), groups: grouping.labels }
    }

    /// What it takes at most for so many series, without their groups.
    pub(super) fn bytes_of(count: usize) -> u64 {
        (count * size_of::<(u32, u32)>()) as u64
    }
}

/// There are never more series than ids, which have 32 bits.
pub(super) fn position(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Texts of many series, each of which compares as the labels do.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Bytes that all of them begin with.
    common: usize,
}

impl Texts {
    fn get(&self, series: u32) -> &[u8] {
        let end_of = |place: usize| self.ends.get(place).copied().unwrap_or(0);
        let place = series as usize;
        let start = place.checked_sub(1).map_or(0, end_of);
        self.bytes.get(start..end_of(place)).unwrap_or_default()
    }

    fn push<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let start = self.bytes.len();
        push_pairs(&mut self.bytes, pairs);
        self.ends.push(self.bytes.len());
        let (before, text) = self.bytes.split_at_checked(start).unwrap_or_default();
        let first = self.ends.first().and_then(|end| before.get(..*end)).unwrap_or(text);
        let is_same = |(mine, theirs): (&u8, &u8)| mine == theirs;
        let common = first.iter().zip(text).take(self.common).take_while(|pair| is_same(*pair)).count();
        self.common = if self.ends.len() == 1 { text.len() } else { common };
    }

    /// The series by their texts. The bytes after the common ones decide mostly, and stand beside the position.
    fn sorted(&self) -> Vec<(u64, u32)> {
        let head = |series: u32| {
            let rest = self.get(series).get(self.common..).unwrap_or_default();
            let mut head = [0; 8];
            head.iter_mut().zip(rest).for_each(|(into, byte)| *into = *byte);
            u64::from_be_bytes(head)
        };
        let mut order: Vec<(u64, u32)> = (0..position(self.ends.len())).map(|one| (head(one), one)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.get(a.1).cmp(self.get(b.1))));
        order
    }

    fn capacity_bytes(&self) -> u64 {
        (self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()) as u64
    }
}

/// Appends pairs so that the bytes compare as the pairs do: a zero ends each text, and one within is followed by a
/// byte that no text has.
fn push_pairs<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
    for text in pairs.flat_map(|(name, value)| [name, value]) {
        if text.as_bytes().contains(&0) {
            text.bytes().for_each(|byte| {
                out.extend_from_slice(if byte == 0 { &[0, 0xff] } else { std::slice::from_ref(&byte) })
            });
        } else {
            out.extend_from_slice(text.as_bytes());
        }
        out.push(0);
    }
}

/// Groups in the order they are met.
struct Groups<'a> {
    aggregate: &'a Aggregate,
    places: HashMap<Vec<u8>, u32>,
    labels: Vec<Labels>,
    /// The labels of a series that tell its group.
    scratch: Vec<u8>,
}

/// Points that are held at once for each series of those that are ordered by codes. These are at most 32,768, and the
/// values of a tag of so many take some 4 MiB.
const CODED_POINTS: usize = 1 << 7;
/// What a group takes beside its labels, which stand in it twice.
const GROUP_BYTES: u64 = 128;

impl Evaluator<'_> {
    /// The groups of some series of a target, given in ascending order. Where it matters they are in the order of their
    /// labels.
    pub(super) fn roster(
        &self,
        target: &Target,
        ids: &[SeriesId],
        (aggregate, depends_on_order): (&Aggregate, bool),
        held: &mut Held<'_>,
    ) -> Result<Roster> {
        let is_coded = !depends_on_order || ids.len() <= self.points_max / CODED_POINTS;
        if is_coded && let Some(grouping) = self.grouping(aggregate, target, ids, held)? {
            held.grow(Roster::bytes_of(ids.len()))?;
            return Ok(match depends_on_order {
                false => Roster::new(0..position(ids.len()), grouping),
                true => Roster::new(self.coded_order(target, ids)?.into_iter().map(|(_, one)| one), grouping),
            });
        }
        self.roster_of_texts(target, ids, aggregate, held)
    }

    /// Hands over some series of a target, given in ascending order, by their labels: the position of each, and these.
    pub(super) fn each_labelled(
        &self,
        target: &Target,
        ids: &[SeriesId],
        mut sink: impl FnMut(usize, Labels) -> Result<()>,
    ) -> Result<()> {
        let budget = self.context.budget;
        if self.points_max / CODED_POINTS < ids.len() {
            let mut labelled = Vec::with_capacity(ids.len());
            each_key(self.context.scan, ids, budget, |position, key| {
                labelled.push((target.labels(key), position));
                Ok(())
            })?;
            labelled.sort_unstable();
            return labelled.into_iter().try_for_each(|(labels, position)| sink(position, labels));
        }
        let mut columns = Vec::new();
        let mut held = budget.hold_bytes(0)?;
        for name in target.label_names() {
            let codes = match &**name {
                NAME_LABEL => None,
                tag => Some(self.context.scan.tag_codes(target.measurement, tag, ids)?),
            };
            held.grow(
                codes.as_ref().map_or(0, |codes| values_bytes(codes) + size_of_val(&*codes.codes) as u64),
            )?;
            columns.push((name, codes));
        }
        for (_, one) in self.coded_order(target, ids)? {
            let pair = |(name, column): &(&Arc<str>, Option<TagCodes>)| {
                let value = match column {
                    None => &target.metric,
                    Some(column) => column.values.get(*column.codes.get(one as usize)? as usize)?,
                };
                (!value.is_empty()).then(|| (Arc::clone(name), Arc::clone(value)))
            };
            sink(one as usize, columns.iter().filter_map(pair).collect())?;
        }
        Ok(())
    }

    /// Series by their labels. Names and values of labels are compared in turn, so a series without a tag comes after
    /// those with it, whose next name is less; but where it has no further label it comes before them.
    fn coded_order(&self, target: &Target, ids: &[SeriesId]) -> Result<Vec<(u64, u32)>> {
        let budget = self.context.budget;
        let mut passing =
            budget.hold_bytes((ids.len() * (size_of::<(u64, u32)>() + size_of::<bool>())) as u64)?;
        let tags: Vec<&str> = target.tag_keys().collect();
        let mut columns: Vec<Vec<u32>> = Vec::new();
        let mut has_later = vec![false; ids.len()];
        for tag in tags.into_iter().rev() {
            budget.check_time()?;
            let mut found = self.context.scan.tag_codes(target.measurement, tag, ids)?;
            passing.grow((ids.len() * size_of::<u32>()) as u64)?;
            let _values = budget.hold_bytes(values_bytes(&found))?;
            let ranks = ranks_of(&found.values);
            for (code, has_later) in found.codes.iter_mut().zip(&mut has_later) {
                let rank = ranks.get(*code as usize).copied().unwrap_or_default();
                *code = if 0 < rank {
                    *has_later = true;
                    rank
                } else if *has_later || tag < NAME_LABEL {
                    u32::MAX
                } else {
                    0
                };
            }
            if found.codes.iter().any(|code| Some(code) != found.codes.first()) {
                columns.push(found.codes);
            }
        }
        columns.reverse();
        budget.check_time()?;
        let rank = |column: usize, series: u32| {
            columns.get(column).and_then(|column| column.get(series as usize)).copied().unwrap_or_default()
        };
        let head = |series| u64::from(rank(0, series)) << 32 | u64::from(rank(1, series));
        let mut order: Vec<(u64, u32)> = (0..position(ids.len())).map(|one| (head(one), one)).collect();
        order.sort_unstable_by(|a, b| {
            let rest = |one: u32| (2..columns.len()).map(move |column| rank(column, one));
            a.0.cmp(&b.0).then_with(|| rest(a.1).cmp(rest(b.1)))
        });
        Ok(order)
    }

    /// The order and the groups of very many series.
    fn roster_of_texts(
        &self,
        target: &Target,
        ids: &[SeriesId],
        aggregate: &Aggregate,
        held: &mut Held<'_>,
    ) -> Result<Roster> {
        let budget = self.context.budget;
        let mut texts = Texts::default();
        let mut groups =
            Groups { aggregate, places: HashMap::new(), labels: Vec::new(), scratch: Vec::new() };
        // Sorted, with the head of each; then again as the roster.
        let mut passing =
            budget.hold_bytes((ids.len() * (size_of::<(u64, u32)>() + size_of::<u32>())) as u64)?;
        held.grow(Roster::bytes_of(ids.len()))?;
        let mut group_of: Vec<u32> = Vec::with_capacity(ids.len());
        each_key(self.context.scan, ids, budget, |_, key| {
            let before = texts.capacity_bytes();
            texts.push(target.pairs(key));
            passing.grow(texts.capacity_bytes() - before)?;
            let known = groups.labels.len();
            group_of.push(groups.of(|| target.pairs(key), || target.labels(key)));
            groups
                .labels
                .get(known..)
                .unwrap_or_default()
                .iter()
                .try_for_each(|labels| held.grow(GROUP_BYTES + 2 * labels.memory_bytes()))
        })?;
        budget.check_time()?;
        let sorted = texts.sorted();
        budget.check_time()?;
        let grouping = Grouping { groups: group_of, labels: groups.labels };
        Ok(Roster::new(sorted.into_iter().map(|(_, series)| series), grouping))
    }
}

/// The rank of each value among them, from 1; 0 of the empty one.
fn ranks_of(values: &[Arc<str>]) -> Vec<u32> {
    let mut sorted: Vec<(&str, usize)> =
        values.iter().zip(0..).map(|(value, code)| (&**value, code)).collect();
    sorted.sort_unstable();
    let mut ranks = vec![0; values.len()];
    for ((value, code), rank) in sorted.into_iter().zip(1..) {
        if let Some(place) = ranks.get_mut(code).filter(|_| !value.is_empty()) {
            *place = rank;
        }
    }
    ranks
}

impl Groups<'_> {
    /// The group of a series, made when it is the first.
    fn of<'k, I: Iterator<Item = (&'k str, &'k str)>>(
        &mut self,
        pairs: impl Fn() -> I,
        labels: impl Fn() -> Labels,
    ) -> u32 {
        self.scratch.clear();
        push_pairs(&mut self.scratch, pairs().filter(|(name, _)| is_kept(self.aggregate, name)));
        if let Some(group) = self.places.get(&self.scratch) {
            return *group;
        }
        let group = position(self.labels.len());
        self.labels.push(group_labels(self.aggregate, &labels()));
        self.places.insert(self.scratch.clone(), group);
        group
    }
}

/// Whether the labels of a group have this one.
pub(super) fn is_kept(aggregate: &Aggregate, name: &str) -> bool {
    let is_listed = aggregate.grouping.iter().any(|label| label == name);
    if aggregate.is_without { !is_reserved(name) && !is_listed } else { is_listed }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use icecore_storage::model::{SeriesKey, Value};
    use icecore_storage::scan::{Resolution, Scan as _, Window};
    use proptest::prelude::*;

    use super::super::super::ast::ExprKind;
    use super::super::Grid;
    use super::*;
    use crate::promql::testing::VecScan;
    use crate::promql::{Context, parse};
    use crate::{Budget, Limits};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn sorted_texts_are_in_the_order_of_labels(
            series in proptest::collection::btree_set(
                proptest::collection::btree_map("[a\u{0}_\u{fff}]{1,3}", "[ab\u{0}\u{1}]{1,9}", 0..4), 1..20),
            seed in any::<u64>(),
        ) {
            let mut series: Vec<Vec<(String, String)>> =
                series.into_iter().map(|labels| labels.into_iter().collect()).collect();
            series.sort_by_key(|labels| (labels.len() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut texts = Texts::default();
            for labels in &series {
                texts.push(labels.iter().map(|(name, value)| (&**name, &**value)));
            }
            let sorted: Vec<_> = texts.sorted().into_iter().map(|(_, place)| series[place as usize].clone()).collect();
            series.sort();
            prop_assert_eq!(sorted, series);
        }

        /// Tags before and after the name, of which series have any.
        #[test]
        fn coded_order_is_that_of_labels(
            series in proptest::collection::btree_set(
                proptest::collection::btree_map("[AZaz]", "[ab\u{0}]{1,2}", 0..5), 1..20),
            seed in any::<u64>(),
        ) {
            let mut keys: Vec<SeriesKey> =
                series.into_iter().map(|tags| SeriesKey::new("m", tags).unwrap()).collect();
            keys.sort_by_key(|key| (key.tags().len() as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut scan = VecScan::default();
            keys.iter().for_each(|key| scan.push(key, "value", 0, Value::Float(1.0)));
            let (budget, lookback) = (Budget::untimed(Limits::default()), Duration::from_secs(60));
            let context = Context { scan: &scan, budget: &budget, lookback, resolution: Resolution::Auto };
            let expr = parse("m").unwrap();
            let ExprKind::Selector(selector) = &expr.kind else { panic!("a selector") };
            let evaluator = Evaluator::new(&context, "m", &Grid { start_ns: 0, step_ns: 0, count: 1 });
            let window = Window { start_ns: -1, end_ns: 0 };
            let target = evaluator.targets(selector, &[window]).unwrap().pop().unwrap();
            let labels: Vec<Labels> =
                scan.keys(&target.ids).unwrap().iter().map(|key| target.labels(key)).collect();
            let mut expected: Vec<u32> = (0..position(labels.len())).collect();
            expected.sort_by(|a, b| labels[*a as usize].cmp(&labels[*b as usize]));
            let order = evaluator.coded_order(&target, &target.ids).unwrap();
            prop_assert_eq!(order.into_iter().map(|(_, one)| one).collect::<Vec<_>>(), expected);
        }
    }
}
