//! Numbers texts, each once, in order of first appearance. What is held is the texts and some 12 bytes for each.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::StrColumn;

/// Texts and their numbers.
#[derive(Debug, Default)]
pub struct TextTable {
    texts: StrColumn,
    // Seeded anew each time, so that nobody can choose texts that collide; the order in `texts` does not depend
    // on it.
    hasher: foldhash::fast::RandomState,
    numbers: HashTable<u32>,
}

impl TextTable {
    /// The texts by number.
    pub fn texts(&self) -> &StrColumn {
        &self.texts
    }

    /// The texts by number.
    pub fn into_texts(self) -> StrColumn {
        self.texts
    }

    /// The number of a text, which is added when it is new; `None` when all texts together would take more than 4 GiB.
    pub fn number(&mut self, text: &[u8]) -> Option<u32> {
        self.number_if(text, |texts| u32::try_from(texts.bytes.len() + text.len()).is_ok())
    }

    /// The number of a text; one that is new is added if `may_add` says so of the texts that are there.
    pub fn number_if(&mut self, text: &[u8], may_add: impl FnOnce(&StrColumn) -> bool) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        let is_same = |number: &u32| self.texts.bytes_of(*number as usize) == Some(text);
        if let Some(number) = self.numbers.find(hash, is_same) {
            return Some(*number);
        }
        if !may_add(&self.texts) {
            return None;
        }
        let number = u32::try_from(self.texts.len()).ok()?;
        self.texts.bytes.extend_from_slice(text);
        self.texts.end_text();
        let (texts, hasher) = (&self.texts, &self.hasher);
        let rehash = |number: &u32| hasher.hash_one(texts.bytes_of(*number as usize).unwrap_or_default());
        self.numbers.insert_unique(hash, number, rehash);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbered_once_in_order_of_first_appearance() {
        let mut table = TextTable::default();
        let numbers = ["b", "", "a", "b", "é", "a"].map(|text| table.number(text.as_bytes()).unwrap());
        assert_eq!(numbers, [0, 1, 2, 0, 3, 2]);
        assert_eq!(table.number_if(b"c", |texts| texts.len() < 4), None);
        assert_eq!(table.number_if(b"a", |_| false), Some(2));
        let texts = table.into_texts();
        assert_eq!((0..texts.len()).map(|at| texts.get(at)).collect::<Vec<_>>(), ["b", "", "a", "é"]);
    }
}
