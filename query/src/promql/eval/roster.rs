//! Very many series of one selector: their order by labels, and their groups in an aggregation.
//!
//! Keys are looked at once and not kept: of each series a text is held that compares as its labels do, and only
//! until the order is known.

use std::collections::HashMap;

use icecore_storage::model::SeriesId;

use super::super::ast::Aggregate;
use super::super::value::{Labels, NAME_LABEL};
use super::Evaluator;
use super::aggregate::group_labels;
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
    /// Series in the order they have, in one group without labels.
    pub(super) fn of_one_group(count: usize) -> Self {
        Self {
            order: (0..position(count)).map(|series| (series, 0)).collect(),
            groups: vec![Labels::default()],
        }
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

/// Whether all series are in one group, whatever their labels are.
pub(super) fn has_one_group(aggregate: &Aggregate) -> bool {
    !aggregate.is_without && aggregate.grouping.is_empty()
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

/// What a group takes beside its labels, which stand in it twice.
const GROUP_BYTES: u64 = 128;

impl Evaluator<'_> {
    /// The order and the groups of some series of a target.
    pub(super) fn roster(
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
        let group_of = |series: u32| group_of.get(series as usize).copied().unwrap_or_default();
        let order = sorted.into_iter().map(|(_, series)| (series, group_of(series))).collect();
        Ok(Roster { order, groups: groups.labels })
    }
}

impl Groups<'_> {
    /// The group of a series, made when it is the first.
    fn of<'k, I: Iterator<Item = (&'k str, &'k str)>>(
        &mut self,
        pairs: impl Fn() -> I,
        labels: impl Fn() -> Labels,
    ) -> u32 {
        if has_one_group(self.aggregate) {
            if self.labels.is_empty() {
                self.labels.push(Labels::default());
            }
            return 0;
        }
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
    if aggregate.is_without { name != NAME_LABEL && !is_listed } else { is_listed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    }
}
