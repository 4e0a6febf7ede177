//! Gives the texts of a column numbers, in order of first appearance, for one section. Stops taking part when it
//! has grown so large that looking up codes would cost more than it saves, or when hardly a text comes twice.

use crate::model::{StrColumn, TextTable};

/// Texts of a dictionary at most; a reader refuses more.
pub(super) const TEXTS_MAX: usize = 1 << 18;
/// Bytes of the texts of a dictionary at most; a reader refuses more.
pub(super) const TEXT_BYTES_MAX: usize = 4 << 20;
/// From so many texts on, a dictionary must have been asked for twice as many.
const TEXTS_UNPROVEN: usize = 1 << 14;

/// Texts and their numbers.
#[derive(Debug, Default)]
pub(super) struct Dictionary {
    table: TextTable,
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
            let text = column.bytes_of(index).unwrap_or_default();
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
        let asked = self.asked;
        let may_add = |texts: &StrColumn| {
            let is_futile = TEXTS_UNPROVEN <= texts.len() && asked < 2 * texts.len();
            !is_futile && texts.len() < TEXTS_MAX && texts.bytes.len() + text.len() <= TEXT_BYTES_MAX
        };
        let code = self.table.number_if(text, may_add);
        self.is_full = code.is_none();
        code
    }

    /// The texts by code; `None` when no page uses them.
    pub(super) fn texts(&self) -> Option<&StrColumn> {
        self.is_used.then_some(self.table.texts())
    }
}
