//! What a window of a text field is pressed into.

use super::{StatSet, Uniques, ValueRef};

/// Partial aggregate of a text field over a piece of time. With `count` 0 the other members have no meaning, and none of
/// them has where it was not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextStats {
    /// Number of texts.
    pub count: u64,
    /// The earliest text.
    pub first: String,
    /// Time of the earliest text.
    pub first_ns: i64,
    /// The latest text.
    pub last: String,
    /// Time of the latest text.
    pub last_ns: i64,
    /// The distinct texts.
    pub uniques: Option<Box<Uniques>>,
}

impl TextStats {
    /// Adds a text that is not earlier than those before it.
    pub fn add(&mut self, ts_ns: i64, text: &str, wants: StatSet) {
        if wants.has(StatSet::ENDS) {
            if self.count == 0 {
                self.first.replace_range(.., text);
                self.first_ns = ts_ns;
            }
            self.last.replace_range(.., text);
            self.last_ns = ts_ns;
        }
        if wants.has(StatSet::UNIQUES) {
            self.uniques.get_or_insert_default().add(ValueRef::Str(text));
        }
        self.count += 1;
    }

    /// Adds the partial of a later piece of time.
    pub fn merge(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            self.first.clone_from(&later.first);
            self.first_ns = later.first_ns;
        }
        self.last.clone_from(&later.last);
        self.last_ns = later.last_ns;
        self.count += later.count;
        if let Some(uniques) = &later.uniques {
            self.uniques.get_or_insert_default().merge(uniques.view());
        }
    }

    /// Bytes of memory that texts and sketch take beside it.
    pub(super) fn heap_bytes(&self) -> usize {
        let sketch = self.uniques.as_deref().map_or(0, Uniques::heap_bytes);
        self.first.capacity() + self.last.capacity() + sketch
    }

    /// Forgets all texts but keeps the room for them.
    pub(super) fn clear(&mut self) {
        self.count = 0;
        self.first.clear();
        self.last.clear();
        (self.first_ns, self.last_ns) = (0, 0);
        self.uniques.iter_mut().for_each(|uniques| uniques.clear());
    }
}
