//! The values of one tag key, and for each the set of series that carry it. Knows nothing of other tags.
//!
//! Ids of requests and pods are as many as series, so a value that one series carries takes little more than its
//! text; and most of the others are carried by few (the metrics of one pod), where a bitmap would cost 200 bytes.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::pool::Pool;

/// Sets of fewer series are lists.
const FEW: usize = 16;
/// The bit that tells sets from single series.
const IS_SET: u32 = 1 << 31;
/// The members of a value that no series carries any more: a set that is not there.
const NOBODY: Members = Members(u32::MAX);

/// The values of a tag key, numbered by first appearance.
#[derive(Default)]
pub(super) struct Dictionary {
    texts: Pool,
    members: Vec<Members>,
    /// Numbers of the values, by text.
    numbers: HashTable<u32>,
    hasher: RandomState,
    sets: Vec<Set>,
}

/// The series of one value: the id of the only one, or the position of their set with [`IS_SET`].
#[derive(Debug, Clone, Copy)]
struct Members(u32);

/// Series of a value, ascending.
#[derive(Debug)]
enum Set {
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl Set {
    fn insert(&mut self, id: u32) {
        match self {
            Self::Few(ids) if ids.len() + 1 < FEW => {
                if let Err(place) = ids.binary_search(&id) {
                    ids.insert(place, id);
                }
            }
            Self::Few(ids) => {
                let ids = std::mem::take(ids);
                *self = Self::Many(ids.into_iter().chain([id]).collect());
            }
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    /// Takes a series out; tells whether none is left.
    fn remove(&mut self, id: u32) -> bool {
        match self {
            Self::Few(ids) => {
                ids.retain(|known| *known != id);
                ids.is_empty()
            }
            Self::Many(ids) => {
                ids.remove(id);
                ids.is_empty()
            }
        }
    }
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Dictionary").field("values", &self.len()).finish_non_exhaustive()
    }
}

impl Dictionary {
    /// How many values there are that a series carries.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The number of a value; `None` when no series carries it.
    pub(super) fn find(&self, value: &str) -> Option<u32> {
        let is_same = |number: &u32| self.texts.get(*number) == value.as_bytes();
        self.numbers.find(self.hasher.hash_one(value.as_bytes()), is_same).copied()
    }

    /// The value of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        // Only whole texts were pushed.
        std::str::from_utf8(self.texts.get(number)).unwrap_or_default()
    }

    /// Adds a series that carries the value, and gives the number of the value. Ids mostly come in ascending order,
    /// which keeps sets cheap to grow.
    pub(super) fn insert(&mut self, id: u32, value: &str) -> u32 {
        let Some(number) = self.find(value) else { return self.push(id, value) };
        let Some(members) = self.members.get_mut(number as usize) else { return number };
        if let Some(set) = members.set() {
            self.sets.get_mut(set).into_iter().for_each(|set| set.insert(id));
        } else if members.0 != id {
            let pair = vec![members.0.min(id), members.0.max(id)];
            *members = Members::of_set(self.sets.len());
            self.sets.push(Set::Few(pair));
        }
        number
    }

    fn push(&mut self, id: u32, value: &str) -> u32 {
        let members = if id < IS_SET {
            Members(id)
        } else {
            self.sets.push(Set::Few(vec![id]));
            Members::of_set(self.sets.len() - 1)
        };
        self.members.push(members);
        let number = self.texts.push(value.as_bytes());
        let Self { texts, numbers, hasher, .. } = self;
        let rehash = |number: &u32| hasher.hash_one(texts.get(*number));
        numbers.insert_unique(hasher.hash_one(value.as_bytes()), number, rehash);
        number
    }

    /// Takes a series out of those that carry the value of a number. A value that nobody carries is not found any more;
    /// its text stays, and the number is not given again.
    pub(super) fn remove_member(&mut self, id: u32, number: u32) {
        let Some(members) = self.members.get_mut(number as usize) else { return };
        let is_last = match members.set() {
            None => members.0 == id,
            Some(set) => self.sets.get_mut(set).is_some_and(|set| set.remove(id)),
        };
        if !is_last {
            return;
        }
        if let Some(set) = members.set().and_then(|set| self.sets.get_mut(set)) {
            *set = Set::Few(Vec::new());
        }
        *members = NOBODY;
        let hash = self.hasher.hash_one(self.texts.get(number));
        if let Ok(entry) = self.numbers.find_entry(hash, |known| *known == number) {
            entry.remove();
        }
    }

    /// Keeps the series of `set` that carry the value.
    pub(super) fn keep(&self, value: &str, set: &mut RoaringBitmap) {
        let mut carried = RoaringBitmap::new();
        match self.find(value).and_then(|number| self.members(number)) {
            Some(MembersRef::Few(ids)) => carried.extend(ids.iter().filter(|id| set.contains(**id))),
            Some(MembersRef::Many(ids)) => {
                *set &= ids;
                return;
            }
            None => {}
        }
        *set = carried;
    }

    /// Takes the series that carry the value out of `set`.
    pub(super) fn remove(&self, value: &str, set: &mut RoaringBitmap) {
        if let Some(number) = self.find(value) {
            self.remove_from(number, set);
        }
    }

    /// The series that carry one of the values.
    pub(super) fn any_of(&self, values: &[String]) -> RoaringBitmap {
        self.members_of(values.iter().filter_map(|value| self.find(value)))
    }

    /// The series whose value satisfies the predicate.
    pub(super) fn accepted(&self, predicate: &dyn Fn(&str) -> bool) -> RoaringBitmap {
        self.members_of(self.numbers_of(predicate))
    }

    fn members_of(&self, numbers: impl Iterator<Item = u32>) -> RoaringBitmap {
        let mut accepted = RoaringBitmap::new();
        for number in numbers {
            match self.members(number) {
                Some(MembersRef::Few(ids)) => accepted.extend(ids),
                Some(MembersRef::Many(ids)) => accepted |= ids,
                None => {}
            }
        }
        accepted
    }

    /// Takes the series whose value does not satisfy the predicate out of `set`.
    pub(super) fn remove_refused(&self, predicate: &dyn Fn(&str) -> bool, set: &mut RoaringBitmap) {
        let refuse = |value: &str| !predicate(value);
        self.numbers_of(&refuse).for_each(|number| self.remove_from(number, set));
    }

    fn remove_from(&self, number: u32, set: &mut RoaringBitmap) {
        match self.members(number) {
            Some(MembersRef::Few(ids)) => ids.iter().for_each(|id| {
                set.remove(*id);
            }),
            Some(MembersRef::Many(ids)) => *set -= ids,
            None => {}
        }
    }

    fn numbers_of(&self, predicate: &dyn Fn(&str) -> bool) -> impl Iterator<Item = u32> {
        (0..).take(self.texts.len()).filter(|number| predicate(self.text(*number)))
    }

    /// How many numbers were given, also to values that nobody carries any more.
    pub(super) fn number_count(&self) -> usize {
        self.texts.len()
    }

    /// Hands over each series that carries a value, with the number of that value.
    pub(super) fn each_member(&self, mut sink: impl FnMut(u32, u32)) {
        for number in (0..).take(self.number_count()) {
            match self.members(number) {
                Some(MembersRef::Few(ids)) => ids.iter().for_each(|id| sink(*id, number)),
                Some(MembersRef::Many(ids)) => ids.iter().for_each(|id| sink(id, number)),
                None => {}
            }
        }
    }

    fn members(&self, number: u32) -> Option<MembersRef<'_>> {
        let members = self.members.get(number as usize)?;
        let Some(set) = members.set() else {
            return Some(MembersRef::Few(std::slice::from_ref(&members.0)));
        };
        Some(match self.sets.get(set)? {
            Set::Few(ids) => MembersRef::Few(ids),
            Set::Many(ids) => MembersRef::Many(ids),
        })
    }
}

/// The series of one value.
enum MembersRef<'a> {
    Few(&'a [u32]),
    Many(&'a RoaringBitmap),
}

impl Members {
    /// There are never more sets than half the series, whose ids have 32 bits.
    fn of_set(position: usize) -> Self {
        Self(u32::try_from(position).unwrap_or(u32::MAX) | IS_SET)
    }

    fn set(self) -> Option<usize> {
        (self.0 & IS_SET != 0).then_some((self.0 & !IS_SET) as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Values of one, few and many series, ids above 31 bits, a series twice, and ids out of order.
    #[test]
    fn sets_of_every_size_are_those_of_a_map() {
        check_sets(1);
        check_sets(2);
    }

    fn check_sets(times: usize) {
        let ids = [0, 1, 2, 3, 5, IS_SET - 1, IS_SET, u32::MAX, 4];
        let mut dictionary = Dictionary::default();
        let mut expected: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (value, count) in [1, 2, FEW - 1, FEW, FEW + 1, 500].into_iter().enumerate() {
            for round in 0..count {
                let id = ids[value] ^ (7 * round as u32);
                let value = format!("v{value}");
                for _ in 0..times {
                    dictionary.insert(id, &value);
                }
                expected.entry(value).or_default().push(id);
            }
        }
        for (value, id) in [("w", IS_SET), ("x", u32::MAX)] {
            dictionary.insert(id, value);
            expected.insert(value.to_owned(), vec![id]);
        }
        let all: RoaringBitmap = expected.values().flatten().copied().collect();
        assert_eq!(dictionary.len(), expected.len());
        for (value, ids) in &expected {
            let carried: RoaringBitmap = ids.iter().copied().collect();
            let mut kept = all.clone();
            dictionary.keep(value, &mut kept);
            assert_eq!(kept, carried, "{value}");
            assert_eq!(dictionary.accepted(&|other| other == value), carried, "{value}");
            let mut left = all.clone();
            dictionary.remove(value, &mut left);
            let mut unrefused = all.clone();
            dictionary.remove_refused(&|other| other == value, &mut unrefused);
            let others = expected.iter().filter(|(other, _)| *other != value);
            let refused: RoaringBitmap = others.flat_map(|(_, ids)| ids).copied().collect();
            assert_eq!((left, unrefused), (&all - &carried, &all - &refused), "{value}");
            let number = dictionary.find(value).expect("it was inserted");
            assert_eq!(dictionary.text(number), value);
        }
        let mut none = all.clone();
        dictionary.keep("no such value", &mut none);
        assert_eq!((none.len(), dictionary.find("")), (0, None));
        take_out(&mut dictionary, &expected, &all);
    }

    /// Takes out series after series, of each value the first half and then the rest.
    fn take_out(dictionary: &mut Dictionary, expected: &BTreeMap<String, Vec<u32>>, all: &RoaringBitmap) {
        for (value, ids) in expected {
            let number = dictionary.find(value).expect("it is there");
            let (first, rest) = ids.split_at(ids.len() / 2);
            first.iter().for_each(|id| dictionary.remove_member(*id, number));
            let carried: RoaringBitmap = rest.iter().copied().collect();
            let mut kept = all.clone();
            dictionary.keep(value, &mut kept);
            assert_eq!((kept, dictionary.accepted(&|other| other == value)), (carried.clone(), carried));
            let count = dictionary.len();
            rest.iter().for_each(|id| dictionary.remove_member(*id, number));
            assert_eq!((dictionary.find(value), dictionary.len()), (None, count - 1), "{value}");
            assert!(dictionary.accepted(&|other| other == value).is_empty(), "{value}");
            assert_eq!(dictionary.text(number), value, "keys that are still asked for have their texts");
        }
        assert_ne!(dictionary.insert(3, "v1"), 1, "a value that comes again has another number");
        assert_eq!((dictionary.len(), dictionary.accepted(&|_| true).len()), (1, 1));
    }
}
