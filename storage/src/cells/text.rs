//! Cells of text fields: their columns, written and read.
//!
//! They keep `Count`; with first and last `First`, `FirstOffset`, `Last` and `LastOffset`; with unique values `Uniques`.
//! With either, `Edge` is the text on the left edge, else a boolean `true` that stands for it. Knows nothing of rows.

#![warn(clippy::indexing_slicing)]

use super::build::flags;
use super::cell::{Counts, Loaded, of_another_type};
use crate::Result;
use crate::model::{
    Column, ColumnKey, FieldId, Stat, StatSet, StrColumn, TextStats, UniquesColumn, UniquesRef, Values,
};

/// The columns of a text field in the making, one entry for each row so far.
#[derive(Debug, Default)]
pub(super) struct TextCells {
    count: Vec<u64>,
    first: StrColumn,
    first_offset: Vec<i64>,
    last: StrColumn,
    last_offset: Vec<i64>,
    uniques: UniquesColumn,
}

impl TextCells {
    /// Keeps the interior of a row that begins at `left_ns`.
    pub(super) fn put(&mut self, row: usize, left_ns: i64, stats: &TextStats) {
        self.pad(row);
        self.count.push(stats.count);
        self.first.push(&stats.first);
        self.first_offset.push(stats.first_ns.saturating_sub(left_ns));
        self.last.push(&stats.last);
        self.last_offset.push(stats.last_ns.saturating_sub(left_ns));
        self.uniques.push(stats.uniques.as_deref().map_or(UniquesRef::default(), |uniques| uniques.view()));
    }

    /// Adds rows without an interior, up to `rows` rows.
    fn pad(&mut self, rows: usize) {
        if rows <= self.count.len() {
            return;
        }
        self.count.resize(rows, 0);
        for texts in [&mut self.first, &mut self.last] {
            let end = texts.ends.last().copied().unwrap_or(0);
            texts.ends.resize(rows, end);
        }
        self.first_offset.resize(rows, 0);
        self.last_offset.resize(rows, 0);
        self.uniques.pad(rows);
    }

    /// Appends the columns of the groups that are kept.
    pub(super) fn finish(mut self, field: FieldId, kept: StatSet, rows: usize, columns: &mut Vec<Column>) {
        if self.count.is_empty() {
            return;
        }
        self.pad(rows);
        let valid = flags(&self.count, |count| 0 < count);
        let mut push = |stat, values| {
            columns.push(Column { key: ColumnKey { field, stat }, values, valid: valid.clone() });
        };
        push(Stat::Count, Values::U64(self.count));
        if kept.has(StatSet::ENDS) {
            push(Stat::First, Values::Str(self.first));
            push(Stat::FirstOffset, Values::I64(self.first_offset));
            push(Stat::Last, Values::Str(self.last));
            push(Stat::LastOffset, Values::I64(self.last_offset));
        }
        if kept.has(StatSet::UNIQUES) {
            push(Stat::Uniques, Values::Uniques(self.uniques));
        }
    }
}

/// The interiors of a text field in the loaded columns of a page.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    count: Counts<'a>,
    ends: Option<Ends<'a>>,
    uniques: Option<&'a UniquesColumn>,
}

#[derive(Debug)]
struct Ends<'a> {
    first: &'a StrColumn,
    first_offset: &'a [i64],
    last: &'a StrColumn,
    last_offset: &'a [i64],
}

impl<'a> Texts<'a> {
    pub(super) fn new<F: Fn(Stat) -> Option<&'a Column>>(
        count: Counts<'a>,
        needs: StatSet,
        loaded: &Loaded<'a, F>,
    ) -> Result<Self> {
        let texts = |stat| match &loaded.needed(stat)?.values {
            Values::Str(texts) => Ok(texts),
            _ => Err(of_another_type(stat)),
        };
        let ends = match needs.has(StatSet::ENDS) {
            true => Some(Ends {
                first: texts(Stat::First)?,
                first_offset: loaded.numbers(Stat::FirstOffset)?,
                last: texts(Stat::Last)?,
                last_offset: loaded.numbers(Stat::LastOffset)?,
            }),
            false => None,
        };
        let uniques = if needs.has(StatSet::UNIQUES) { Some(loaded.uniques()?) } else { None };
        Ok(Self { count, ends, uniques })
    }

    /// Adds the interior of a row to a partial of the time just before.
    pub(super) fn merge(&self, row: usize, left_ns: i64, into: &mut TextStats) {
        let Some(count) = self.count.get(row) else { return };
        if let Some(ends) = &self.ends {
            let at = |offsets: &[i64]| left_ns.saturating_add(offsets.get(row).copied().unwrap_or(0));
            if into.count == 0 {
                into.first.replace_range(.., ends.first.get(row));
                into.first_ns = at(ends.first_offset);
            }
            into.last.replace_range(.., ends.last.get(row));
            into.last_ns = at(ends.last_offset);
        }
        if let Some(kept) = self.uniques.and_then(|uniques| uniques.get(row)) {
            into.uniques.get_or_insert_default().merge(kept);
        }
        into.count += count;
    }
}
