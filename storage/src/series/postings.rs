//! Which series of a measurement carry a tag value: the index behind every matcher.
//!
//! For each tag key there is a dictionary of its values and, for each value, the set of series that carry it. A
//! matcher is tested on the dictionary, not on series; a series without the tag is judged as if its value were
//! empty, so sets of absent tags come from "all but those present". Knows nothing of names of series.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
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
    values: HashMap<Box<str>, Members, RandomState>,
}

/// Series of one tag value. Ids of requests and pods have one series a value, where a bitmap would cost 100 bytes.
#[derive(Debug)]
enum Members {
    One(u32),
    Many(RoaringBitmap),
}

impl Members {
    fn insert(&mut self, id: u32) {
        match self {
            Self::One(only) => *self = Self::Many(RoaringBitmap::from_iter([*only, id])),
            Self::Many(members) => {
                members.insert(id);
            }
        }
    }

    fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Self::One(only) => {
                set.insert(*only);
            }
            Self::Many(members) => *set |= members,
        }
    }

    fn remove_from(&self, set: &mut RoaringBitmap) {
        match self {
            Self::One(only) => {
                set.remove(*only);
            }
            Self::Many(members) => *set -= members,
        }
    }
}

impl Tag {
    fn insert(&mut self, id: SeriesId, value: &str) {
        self.present.insert(id.0);
        match self.values.get_mut(value) {
            Some(members) => members.insert(id.0),
            None => {
                self.values.insert(value.into(), Members::One(id.0));
            }
        }
    }
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
        self.tags.get(tag_key).is_some_and(|tag| tag.values.contains_key(tag_value))
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
            TagTest::Equal(value) => match tag.values.get(&**value) {
                Some(Members::One(only)) if set.contains(*only) => *set = RoaringBitmap::from_iter([*only]),
                Some(Members::Many(members)) => *set &= members,
                Some(Members::One(_)) | None => set.clear(),
            },
            TagTest::NotEqual(value) => {
                if let Some(members) = tag.values.get(&**value) {
                    members.remove_from(set);
                }
            }
            TagTest::Is(predicate) if predicate("") => {
                for (_, members) in tag.values.iter().filter(|(value, _)| !predicate(value)) {
                    members.remove_from(set);
                }
            }
            TagTest::Is(predicate) => {
                let mut accepted = RoaringBitmap::new();
                for (_, members) in tag.values.iter().filter(|(value, _)| predicate(value)) {
                    members.add_to(&mut accepted);
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

    #[test]
    fn tag_keys_come_sorted() {
        assert_eq!(table().tag_keys().map(|key| &**key).collect::<Vec<_>>(), ["env", "host"]);
    }
}
