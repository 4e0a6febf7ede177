//! Gives the texts of a column numbers, in order of first appearance, for one section. Stops taking part when it
//! has grown so large that looking up codes would cost more than it saves, or when hardly a text comes twice.

use hashbrown::HashTable;
use std::hash::BuildHasher;

use crate::codec::texts::slice_of;
use crate::model::StrColumn;

/// Texts of a dictionary at most; a reader refuses more.
pub(super) const TEXTS_MAX: usize = 1 << 18;
/// Bytes of the texts of a dictionary at most; a reader refuses more.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 20;
/// From so many texts on, a dictionary must have been asked for twice as many.
const TEXTS_UNPROVEN: usize = 1 << 14;

/// Texts and their numbers.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    texts: StrColumn,
    // Seeded anew each time, so that nobody can choose texts that collide; the order in `texts` does not depend
    // on it.
    hasher: foldhash::fast::RandomState,
    codes: HashTable<u32>,
    /// How often a code was asked for.
    asked: usize,
    is_full: bool,
    is_used: bool,
}

impl Dictionary {
    /// Codes of the valid texts; `None` when the dictionary is full, now and from here on.
    pub(super) fn codes(&mut self, column: &StrColumn, valid: Option<&[bool]>) -> Option<Vec<u64>> {
        let mut codes = Vec::with_capacity(column.len());
        let mut last: Option<(&[u8], u64)> = None;
        for index in 0..column.len() {
            if valid.is_some_and(|valid| !valid.get(index).copied().unwrap_or(false)) {
                continue;
            }
            let text = slice_of(column, index).unwrap_or_default();
            self.asked += 1;
            // Rows of one series often repeat a text.
            let code = match last {
                Some((before, code)) if before == text => code,
                _ => u64::from(self.code(text)?),
            };
            last = Some((text, code));
            codes.push(code);
        }
        self.is_used = true;
        Some(codes)
    }

    fn code(&mut self, text: &[u8]) -> Option<u32> {
        if self.is_full {
            return None;
        }
        let hash = self.hasher.hash_one(text);
        let is_same = |code: &u32| slice_of(&self.texts, *code as usize) == Some(text);
        if let Some(code) = self.codes.find(hash, is_same) {
            return Some(*code);
        }
        let is_futile = TEXTS_UNPROVEN <= self.texts.len() && self.asked < 2 * self.texts.len();
        if is_futile || TEXTS_MAX <= self.texts.len() || TEXT_BYTES_MAX < self.texts.bytes.len() + text.len()
        {
            self.is_full = true;
            return None;
        }
        // Bounded by TEXTS_MAX.
        let code = u32::try_from(self.texts.len()).ok()?;
        self.texts.bytes.extend_from_slice(text);
        self.texts.end_text();
        let (texts, hasher) = (&self.texts, &self.hasher);
        let rehash = |code: &u32| hasher.hash_one(slice_of(texts, *code as usize).unwrap_or_default());
        self.codes.insert_unique(hash, code, rehash);
        Some(code)
    }

    /// The texts by code; `None` when no page uses them.
    pub(super) fn texts(&self) -> Option<&StrColumn> {
        self.is_used.then_some(&self.texts)
    }
}
