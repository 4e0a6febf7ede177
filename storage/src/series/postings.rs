//! Which series of a measurement carry a tag value: the index behind every matcher, and the texts of all keys.
//!
//! For each tag key there is a `Dictionary` of its values with their series. A matcher is tested on the dictionary,
//! not on series; a series without the tag is judged as if its value were empty, so sets of absent tags come from
//! "all but those present". The tags of a series are also told as numbers (its set of tag keys, then the number of
//! each value), and numbers as tags: that is how keys are kept. Knows nothing of ids by key.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use roaring::RoaringBitmap;

use super::dictionary::Dictionary;
use crate::model::SeriesId;
use crate::model::{TagMatcher, TagTest};

/// The tags of one measurement.
#[derive(Debug, Default)]
pub struct Postings {
    all: RoaringBitmap,
    /// In order of first appearance.
    tags: Vec<Tag>,
    tag_places: BTreeMap<Arc<str>, u32>,
    /// Places of tags, in the order of their keys, for each set of tag keys that some series has.
    tag_sets: Vec<Arc<[u32]>>,
    tag_set_numbers: HashMap<Arc<[u32]>, u32, RandomState>,
    size: Size,
}

/// What keys take, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Size {
    /// In memory, by estimate.
    pub(super) memory: usize,
    /// Written one after the other, as in the log and in catalog files: there each stands whole.
    pub(super) plain: usize,
}

#[derive(Debug)]
struct Tag {
    key: Arc<str>,
    present: RoaringBitmap,
    values: Dictionary,
}

// What these take in memory beside their texts, with their share of tables that have room to grow, on the safe side.
const SERIES_BYTES: usize = 16;
const TAG_OF_SERIES_BYTES: usize = 4;
const TAG_KEY_BYTES: usize = 600;
const TAG_VALUE_BYTES: usize = 16;
const TAG_SET_BYTES: usize = 64;

/// There are never more tags or sets of them than tags of all series, which memory bounds far below.
fn position(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Postings {
    /// Adds a series with its tags, which come sorted by key, and appends their numbers to `numbers`. Ids come in
    /// ascending order, which keeps the sets cheap to grow.
    pub fn insert(&mut self, id: SeriesId, tags: &[(&str, &str)], numbers: &mut Vec<u32>) {
        self.all.insert(id.0);
        let set_number = match self.find_tag_set(tags) {
            Some(number) => number,
            None => self.add_tag_set(tags),
        };
        numbers.push(set_number);
        let Some(set) = self.tag_sets.get(set_number as usize) else { return };
        self.size.plain += tags.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        self.size.memory += SERIES_BYTES + TAG_OF_SERIES_BYTES * set.len();
        for (place, (_, value)) in set.iter().zip(tags) {
            if let Some(tag) = self.tags.get_mut(*place as usize) {
                tag.present.insert(id.0);
                let values = tag.values.number_count();
                numbers.push(tag.values.insert(id.0, value));
                let is_new = values < tag.values.number_count();
                self.size.memory += if is_new { TAG_VALUE_BYTES + value.len() } else { TAG_OF_SERIES_BYTES };
            }
        }
    }

    /// What it all takes. What was taken out counts, as its texts stay.
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Takes a series out, by the numbers that [`Postings::insert`] gave its tags.
    pub fn remove(&mut self, id: SeriesId, numbers: &[u32]) {
        let Some((set, values)) = numbers.split_first() else { return };
        let Some(set) = self.tag_sets.get(*set as usize) else { return };
        self.all.remove(id.0);
        for (place, number) in set.iter().zip(values) {
            if let Some(tag) = self.tags.get_mut(*place as usize) {
                tag.present.remove(id.0);
                tag.values.remove_member(id.0, *number);
            }
        }
    }

    /// Appends the numbers of tags, which come sorted by key; tells whether all are known. A series that is not
    /// known may well have tags that are.
    pub fn find(&self, tags: &[(&str, &str)], numbers: &mut Vec<u32>) -> bool {
        let Some(set_number) = self.find_tag_set(tags) else { return false };
        let Some(set) = self.tag_sets.get(set_number as usize) else { return false };
        numbers.push(set_number);
        set.iter().zip(tags).all(|(place, (_, value))| {
            let number = self.tags.get(*place as usize).and_then(|tag| tag.values.find(value));
            numbers.extend(number);
            number.is_some()
        })
    }

    /// The tags that [`Postings::insert`] gave these numbers for, sorted by key.
    pub fn tags_of<'a>(&'a self, numbers: &'a [u32]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let set = numbers.first().and_then(|number| self.tag_sets.get(*number as usize));
        let values = numbers.iter().skip(1);
        set.into_iter().flat_map(|set| set.iter()).zip(values).filter_map(|(place, number)| {
            let tag = self.tags.get(*place as usize)?;
            Some((&*tag.key, tag.values.text(*number)))
        })
    }

    fn find_tag_set(&self, tags: &[(&str, &str)]) -> Option<u32> {
        // Most series of a measurement have the same tag keys; then nothing has to be looked up.
        let has_keys = |set: &[u32]| {
            let is_key = |(place, (key, _)): (&u32, &(&str, &str))| {
                self.tags.get(*place as usize).is_some_and(|tag| *tag.key == **key)
            };
            set.len() == tags.len() && set.iter().zip(tags).all(is_key)
        };
        if self.tag_sets.first().is_some_and(|set| has_keys(set)) {
            return Some(0);
        }
        let places = tags.iter().map(|(key, _)| self.tag_places.get(*key).copied());
        self.tag_set_numbers.get(&*places.collect::<Option<Vec<u32>>>()?).copied()
    }

    fn add_tag_set(&mut self, tags: &[(&str, &str)]) -> u32 {
        let set: Arc<[u32]> = tags.iter().map(|(key, _)| self.tag_place(key)).collect();
        let number = position(self.tag_sets.len());
        self.size.memory += TAG_SET_BYTES + 2 * TAG_OF_SERIES_BYTES * set.len();
        self.tag_sets.push(Arc::clone(&set));
        self.tag_set_numbers.insert(set, number);
        number
    }

    /// The place of a tag, which is made when it is new.
    fn tag_place(&mut self, key: &str) -> u32 {
        if let Some(place) = self.tag_places.get(key) {
            return *place;
        }
        let (place, key): (u32, Arc<str>) = (position(self.tags.len()), key.into());
        self.size.memory += TAG_KEY_BYTES + key.len();
        self.tag_places.insert(Arc::clone(&key), place);
        self.tags.push(Tag { key, present: RoaringBitmap::new(), values: Dictionary::default() });
        place
    }

    fn tag(&self, key: &str) -> Option<&Tag> {
        self.tags.get(*self.tag_places.get(key)? as usize)
    }

    /// How many series there are.
    pub fn series_count(&self) -> usize {
        usize::try_from(self.all.len()).unwrap_or(usize::MAX)
    }

    /// How many values a tag key has.
    pub fn value_count(&self, tag_key: &str) -> usize {
        self.tag(tag_key).map_or(0, |tag| tag.values.len())
    }

    /// Whether a series carries the value.
    pub fn has_value(&self, tag_key: &str, tag_value: &str) -> bool {
        self.tag(tag_key).is_some_and(|tag| tag.values.find(tag_value).is_some())
    }

    /// Whether a series is there.
    pub(super) fn has(&self, id: SeriesId) -> bool {
        self.all.contains(id.0)
    }

    /// The values of a tag with their series; `None` when no series ever had it.
    pub(super) fn dictionary(&self, tag_key: &str) -> Option<&Dictionary> {
        self.tag(tag_key).map(|tag| &tag.values)
    }

    /// The tag keys of all series, sorted.
    pub fn tag_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        let is_present =
            |place: &u32| self.tags.get(*place as usize).is_some_and(|tag| !tag.present.is_empty());
        self.tag_places.iter().filter(move |(_, place)| is_present(place)).map(|(key, _)| key)
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
        let Some(tag) = self.tag(&matcher.key) else {
            if !matcher.test.accepts("") {
                set.clear();
            }
            return;
        };
        match &matcher.test {
            TagTest::Equal(value) if value.is_empty() => *set -= &tag.present,
            TagTest::NotEqual(value) if value.is_empty() => *set &= &tag.present,
            TagTest::Equal(value) => tag.values.keep(value, set),
            TagTest::NotEqual(value) => tag.values.remove(value, set),
            TagTest::OneOf(values) => {
                let others = values.iter().any(String::is_empty).then(|| &*set - &tag.present);
                *set &= tag.values.any_of(values);
                *set |= others.unwrap_or_default();
            }
            TagTest::Is(predicate) if predicate("") => tag.values.remove_refused(&**predicate, set),
            TagTest::Is(predicate) => *set &= tag.values.accepted(&**predicate),
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
            postings.insert(SeriesId(id), tags, &mut Vec::new());
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
    fn remove_is_as_if_the_series_had_never_been() {
        let sets: [&[(&str, &str)]; 4] =
            [&[("env", "a"), ("host", "x")], &[("env", "a"), ("host", "y")], &[("zone", "x")], &[]];
        let all = |is_kept: &dyn Fn(u32) -> bool| {
            let (mut postings, mut numbers) = (Postings::default(), Vec::new());
            for (id, tags) in (0..).zip(sets).filter(|(id, _)| is_kept(*id)) {
                let mut of_one = Vec::new();
                postings.insert(SeriesId(id), tags, &mut of_one);
                numbers.push((SeriesId(id), of_one));
            }
            (postings, numbers)
        };
        for left in 0..16_u32 {
            let (mut found, numbers) = all(&|_| true);
            let leaving = numbers.iter().filter(|(id, _)| left >> id.0 & 1 == 1);
            leaving.for_each(|(id, numbers)| found.remove(*id, numbers));
            let (expected, _) = all(&|id| left >> id & 1 == 0);
            assert_eq!(found.series_count(), expected.series_count());
            assert!(found.tag_keys().eq(expected.tag_keys()), "{left:b}");
            for key in ["env", "host", "zone"] {
                assert_eq!(found.value_count(key), expected.value_count(key), "{left:b} {key}");
                for values in [&[][..], &["a"], &["y", "a"], &["x", "", "x"]] {
                    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
                    let own = values.clone();
                    let is_one =
                        matcher(key, TagTest::Is(Arc::new(move |value| own.iter().any(|one| one == value))));
                    let one_of = matcher(key, TagTest::OneOf(values));
                    assert_eq!(found.select(&[one_of]), expected.select(&[is_one]), "{left:b} {key}");
                }
                for value in ["a", "x", "y", ""] {
                    assert_eq!(found.has_value(key, value), expected.has_value(key, value));
                    let value = || value.to_owned();
                    for test in [TagTest::Equal(value()), TagTest::NotEqual(value())] {
                        let matchers = [matcher(key, test)];
                        assert_eq!(
                            found.select(&matchers),
                            expected.select(&matchers),
                            "{left:b} {matchers:?}"
                        );
                    }
                }
                let any = [matcher(key, TagTest::Is(Arc::new(|value: &str| value < "y")))];
                assert_eq!(found.select(&any), expected.select(&any), "{left:b} {key}");
            }
        }
    }

    /// Values that are beginnings of one another, or empty, stand in one text.
    #[test]
    fn insert_many_values_finds_each_of_them() {
        let mut postings = Postings::default();
        let values: Vec<String> = (0..5000).map(|n| "x".repeat(n % 70) + &(n / 70).to_string()).collect();
        for round in 0..3 {
            for (id, value) in (round * 5000..).zip(&values) {
                if id % 7 != 3 || round == 0 {
                    postings.insert(SeriesId(id), &[("t", &**value)], &mut Vec::new());
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
    fn numbers_of_tags_are_one_to_one() {
        let mut postings = table();
        let sets: [&[(&str, &str)]; 6] = [
            &[("env", "prod"), ("host", "a")],
            &[("env", "a"), ("host", "prod")],
            &[("a", "prod"), ("host", "a")],
            &[("host", "a")],
            &[("env", "a")],
            &[],
        ];
        let mut seen = Vec::new();
        for (id, tags) in (5..).zip(sets) {
            let (mut numbers, mut again) = (Vec::new(), Vec::new());
            postings.insert(SeriesId(id), tags, &mut numbers);
            assert!(postings.find(tags, &mut again));
            assert_eq!(numbers, again);
            assert_eq!(postings.tags_of(&numbers).collect::<Vec<_>>(), tags);
            assert!(!seen.contains(&numbers), "{tags:?}");
            seen.push(numbers);
        }
        let unknown: [&[(&str, &str)]; 3] = [&[("env", "b")], &[("gone", "a")], &[("a", "prod")]];
        for tags in unknown {
            assert!(!postings.find(tags, &mut Vec::new()), "{tags:?}");
        }
    }

    #[test]
    fn tag_keys_come_sorted() {
        assert_eq!(table().tag_keys().map(|key| &**key).collect::<Vec<_>>(), ["env", "host"]);
    }
}
