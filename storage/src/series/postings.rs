//! Which series of a measurement carry a tag value: the index behind every matcher.
//!
//! For each tag key there is a dictionary of its values and, for each value, the set of series that carry it. A
//! matcher is tested on the dictionary, not on series; a series without the tag is judged as if its value were
//! empty, so sets of absent tags come from "all but those present". Knows nothing of names of series.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use roaring::RoaringBitmap;

use crate::model::SeriesId;
use crate::model::{TagMatcher, TagTest};

/// The tags of one measurement.
#[derive(Debug, Default)]
pub struct Postings {
    all: RoaringBitmap,
    tags: BTreeMap<Arc<str>, Tag>,
}

#[derive(Debug, Default)]
struct Tag {
    present: RoaringBitmap,
    values: Dictionary,
}

impl Tag {
    fn insert(&mut self, id: SeriesId, value: &str) {
        self.present.insert(id.0);
        self.values.insert(id.0, value);
    }
}

/// The values of a tag key with their series. Ids of requests and pods are as many as series, so a value takes
/// little more than its text: all texts are one, and an entry says where its own ends.
#[derive(Default)]
struct Dictionary {
    text: String,
    entries: Vec<Entry>,
    /// Positions of the entries, by text.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Series of the values that more than one carries.
    sets: Vec<RoaringBitmap>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    text_end: usize,
    members: Members,
}

/// Series of one value. Most have one, where a bitmap would cost 100 bytes.
#[derive(Debug, Clone, Copy)]
enum Members {
    One(u32),
    /// Position of their set.
    Many(u32),
}

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Dictionary").field("values", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Dictionary {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn insert(&mut self, id: u32, value: &str) {
        match self.place(value).and_then(|place| self.entries.get_mut(place as usize)) {
            Some(entry) => match entry.members {
                Members::One(only) => {
                    entry.members = Members::Many(position(self.sets.len()));
                    self.sets.push(RoaringBitmap::from_iter([only, id]));
                }
                Members::Many(set) => {
                    self.sets.get_mut(set as usize).map(|set| set.insert(id));
                }
            },
            None => self.push(id, value),
        }
    }

    fn push(&mut self, id: u32, value: &str) {
        let place = position(self.entries.len());
        self.text.push_str(value);
        self.entries.push(Entry { text_end: self.text.len(), members: Members::One(id) });
        let Self { text, entries, places, hasher, .. } = self;
        let rehash = |place: &u32| hasher.hash_one(value_at(text, entries, *place));
        places.insert_unique(hasher.hash_one(value), place, rehash);
    }

    fn place(&self, value: &str) -> Option<u32> {
        let is_same = |place: &u32| value_at(&self.text, &self.entries, *place) == value;
        self.places.find(self.hasher.hash_one(value), is_same).copied()
    }

    fn get(&self, value: &str) -> Option<Members> {
        Some(self.entries.get(self.place(value)? as usize)?.members)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, Members)> {
        let members = self.entries.iter().map(|entry| entry.members);
        (0..).zip(members).map(|(place, members)| (value_at(&self.text, &self.entries, place), members))
    }

    fn set(&self, place: u32) -> Option<&RoaringBitmap> {
        self.sets.get(place as usize)
    }

    fn add_to(&self, members: Members, set: &mut RoaringBitmap) {
        match members {
            Members::One(only) => {
                set.insert(only);
            }
            Members::Many(many) => self.set(many).into_iter().for_each(|many| *set |= many),
        }
    }

    fn remove_from(&self, members: Members, set: &mut RoaringBitmap) {
        match members {
            Members::One(only) => {
                set.remove(only);
            }
            Members::Many(many) => self.set(many).into_iter().for_each(|many| *set -= many),
        }
    }
}

/// There are never more values than series, whose ids have 32 bits.
fn position(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The text of an entry: it begins where the one before ends.
fn value_at<'a>(text: &'a str, entries: &[Entry], place: u32) -> &'a str {
    let end_of = |place: usize| entries.get(place).map_or(0, |entry| entry.text_end);
    let place = place as usize;
    let start = place.checked_sub(1).map_or(0, end_of);
    text.get(start..end_of(place)).unwrap_or_default()
}

impl Postings {
    /// Adds a series with its tags. Ids come in ascending order, which keeps the sets cheap to grow.
    pub fn insert<'a>(&mut self, id: SeriesId, tags: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.all.insert(id.0);
        for (tag_key, tag_value) in tags {
            match self.tags.get_mut(tag_key) {
                Some(tag) => tag.insert(id, tag_value),
                None => {
                    let mut tag = Tag::default();
                    tag.insert(id, tag_value);
                    self.tags.insert(tag_key.into(), tag);
                }
            }
        }
    }

    /// How many series there are.
    pub fn series_count(&self) -> usize {
        usize::try_from(self.all.len()).unwrap_or(usize::MAX)
    }

    /// How many values a tag key has.
    pub fn value_count(&self, tag_key: &str) -> usize {
        self.tags.get(tag_key).map_or(0, |tag| tag.values.len())
    }

    /// Whether a series carries the value.
    pub fn has_value(&self, tag_key: &str, tag_value: &str) -> bool {
        self.tags.get(tag_key).is_some_and(|tag| tag.values.place(tag_value).is_some())
    }

    /// All tag keys, sorted.
    pub fn tag_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tags.keys()
    }

    /// The series that pass all matchers.
    pub fn select(&self, matchers: &[TagMatcher]) -> RoaringBitmap {
        let mut set = self.all.clone();
        for matcher in matchers {
            if set.is_empty() {
                break;
            }
            self.narrow(&mut set, matcher);
        }
        set
    }

    fn narrow(&self, set: &mut RoaringBitmap, matcher: &TagMatcher) {
        let Some(tag) = self.tags.get(&*matcher.key) else {
            if !matcher.test.accepts("") {
                set.clear();
            }
            return;
        };
        match &matcher.test {
            TagTest::Equal(value) if value.is_empty() => *set -= &tag.present,
            TagTest::NotEqual(value) if value.is_empty() => *set &= &tag.present,
            TagTest::Equal(value) => match tag.values.get(value) {
                Some(Members::One(only)) if set.contains(only) => *set = RoaringBitmap::from_iter([only]),
                Some(Members::Many(many)) => tag.values.set(many).into_iter().for_each(|many| *set &= many),
                Some(Members::One(_)) | None => set.clear(),
            },
            TagTest::NotEqual(value) => {
                if let Some(members) = tag.values.get(value) {
                    tag.values.remove_from(members, set);
                }
            }
            TagTest::Is(predicate) if predicate("") => {
                for (_, members) in tag.values.iter().filter(|(value, _)| !predicate(value)) {
                    tag.values.remove_from(members, set);
                }
            }
            TagTest::Is(predicate) => {
                let mut accepted = RoaringBitmap::new();
                for (_, members) in tag.values.iter().filter(|(value, _)| predicate(value)) {
                    tag.values.add_to(members, &mut accepted);
                }
                *set &= accepted;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Postings {
        let mut postings = Postings::default();
        let series: [&[(&str, &str)]; 5] = [
            &[("env", "prod"), ("host", "a")],
            &[("env", "prod"), ("host", "b")],
            &[("env", "test"), ("host", "c")],
            &[("host", "d")],
            &[],
        ];
        for (id, tags) in (0..).zip(series) {
            postings.insert(SeriesId(id), tags.iter().copied());
        }
        postings
    }

    fn matcher(key: &str, test: TagTest) -> TagMatcher {
        TagMatcher { key: key.to_owned(), test }
    }

    fn check(matchers: &[TagMatcher], expected: &[u32]) {
        let found: Vec<u32> = table().select(matchers).into_iter().collect();
        assert_eq!(found, expected, "{matchers:?}");
        // The same by asking every series.
        let by_hand = |id: &u32| {
            let env = ["prod", "prod", "test", "", ""];
            let host = ["a", "b", "c", "d", ""];
            matchers.iter().all(|matcher| {
                let values = match &*matcher.key {
                    "env" => env,
                    "host" => host,
                    _ => [""; 5],
                };
                values.get(*id as usize).is_some_and(|value| matcher.test.accepts(value))
            })
        };
        assert_eq!(found, (0..5).filter(by_hand).collect::<Vec<_>>(), "{matchers:?}");
    }

    #[test]
    fn select_table_of_matchers() {
        let equal = |key, value: &str| matcher(key, TagTest::Equal(value.to_owned()));
        let not_equal = |key, value: &str| matcher(key, TagTest::NotEqual(value.to_owned()));
        let has_o = |key| matcher(key, TagTest::Is(Arc::new(|value: &str| value.contains('o'))));
        let short = |key| matcher(key, TagTest::Is(Arc::new(|value: &str| value.len() < 2)));
        check(&[], &[0, 1, 2, 3, 4]);
        check(&[equal("env", "prod")], &[0, 1]);
        check(&[equal("host", "c")], &[2]);
        check(&[equal("env", "none")], &[]);
        check(&[equal("env", "")], &[3, 4]);
        check(&[not_equal("env", "prod")], &[2, 3, 4]);
        check(&[not_equal("env", "")], &[0, 1, 2]);
        check(&[not_equal("env", "none")], &[0, 1, 2, 3, 4]);
        check(&[has_o("env")], &[0, 1]);
        check(&[short("env")], &[3, 4]);
        check(&[short("host")], &[0, 1, 2, 3, 4]);
        check(&[equal("gone", "")], &[0, 1, 2, 3, 4]);
        check(&[not_equal("gone", "")], &[]);
        check(&[equal("gone", "x"), equal("env", "prod")], &[]);
        check(&[equal("env", "prod"), not_equal("host", "a")], &[1]);
        check(&[equal("env", "prod"), equal("host", "c")], &[]);
    }

    /// Values that are beginnings of one another, or empty, stand in one text.
    #[test]
    fn insert_many_values_finds_each_of_them() {
        let mut postings = Postings::default();
        let values: Vec<String> = (0..5000).map(|n| "x".repeat(n % 70) + &(n / 70).to_string()).collect();
        for round in 0..3 {
            for (id, value) in (round * 5000..).zip(&values) {
                if id % 7 != 3 || round == 0 {
                    postings.insert(SeriesId(id), [("t", &**value)]);
                }
            }
        }
        assert_eq!(postings.value_count("t"), values.len());
        for (id, value) in (0..).zip(&values) {
            assert!(postings.has_value("t", value) && !postings.has_value("t", &format!("{value}.")));
            let found: Vec<u32> =
                postings.select(&[matcher("t", TagTest::Equal(value.clone()))]).into_iter().collect();
            let later = [id + 5000, id + 10_000].into_iter().filter(|id| id % 7 != 3);
            assert_eq!(found, [id].into_iter().chain(later).collect::<Vec<_>>(), "{value}");
        }
    }

    #[test]
    fn tag_keys_come_sorted() {
        assert_eq!(table().tag_keys().map(|key| &**key).collect::<Vec<_>>(), ["env", "host"]);
    }
}
