//! Pages of two segments whose rows are the same: encoded once, and their bytes in both files.
//!
//! One writer leads: the open page is with it alone, and each full page goes to both. Order of events:
//! [`SegmentWriter::lead`] brings two writers in step, [`SegmentWriter::push_both`] adds rows to both, and before
//! anything else is done with one of them [`SegmentWriter::part`] or [`SegmentWriter::write_both`] takes them apart. For
//! rows without texts, whose pages stand for themselves: the codes of texts are those of a dictionary.

use std::ops::Range;

use super::SegmentWriter;
use super::page::PageBuilder;
use super::writer::{OpenSection, Sink, Written};
use crate::model::{RowBlock, Values};
use crate::{Error, ErrorKind, Result};

impl SegmentWriter {
    /// Ends the open pages of both; from here on `self` leads.
    ///
    /// # Errors
    /// `Internal` when one has no section; those of the file system.
    pub(crate) fn lead(&mut self, follower: &mut Self) -> Result<()> {
        let (open, other) = both(self.open.as_mut(), follower.open.as_mut(), false)?;
        open.write_page(&mut self.sink)?;
        other.write_page(&mut follower.sink)?;
        other.is_led = true;
        Ok(())
    }

    /// Adds some rows of a block to both, as [`SegmentWriter::push`] does.
    ///
    /// # Errors
    /// `Internal` when the two are not in step or a row has texts, and as [`SegmentWriter::push`].
    pub(crate) fn push_both(
        &mut self,
        follower: &mut Self,
        rows: &RowBlock,
        range: Range<usize>,
    ) -> Result<()> {
        let (open, other) = both(self.open.as_mut(), follower.open.as_mut(), true)?;
        if rows.columns.iter().any(|column| matches!(column.values, Values::Str(_))) {
            return Err(Error::new(ErrorKind::Internal, "texts are not written to two segments"));
        }
        open.check(rows, &range)?;
        other.check(rows, &range)?;
        let mut start = range.start;
        while start < range.end {
            let cut = open.page.cut(rows, start..range.end);
            open.page.append(rows, start..cut.end)?;
            if cut.is_full {
                write_page((open, &mut self.sink), (other, &mut follower.sink))?;
            }
            start = cut.end;
        }
        Ok(())
    }

    /// Takes two writers apart: each goes on with the open page for itself.
    ///
    /// # Errors
    /// `Internal` when the two are not in step.
    pub(crate) fn part(&mut self, follower: &mut Self) -> Result<()> {
        let (open, other) = both(self.open.as_mut(), follower.open.as_mut(), true)?;
        other.page = PageBuilder::clone(&open.page);
        other.is_led = false;
        Ok(())
    }

    /// Takes two writers apart and ends the open page of both.
    ///
    /// # Errors
    /// `Internal` when the two are not in step; those of the file system.
    pub(crate) fn write_both(&mut self, follower: &mut Self) -> Result<()> {
        let (open, other) = both(self.open.as_mut(), follower.open.as_mut(), true)?;
        write_page((open, &mut self.sink), (other, &mut follower.sink))?;
        other.is_led = false;
        Ok(())
    }
}

/// The open sections of two writers that are in step, or are not.
fn both<'a>(
    leader: Option<&'a mut OpenSection>,
    follower: Option<&'a mut OpenSection>,
    is_led: bool,
) -> Result<(&'a mut OpenSection, &'a mut OpenSection)> {
    let pair = leader.zip(follower).filter(|(one, other)| !one.is_led && other.is_led == is_led);
    pair.ok_or_else(|| Error::new(ErrorKind::Internal, "two segments out of step"))
}

/// Encodes the open page of the leader, if it has rows, and writes it to both.
fn write_page(
    (open, sink): (&mut OpenSection, &mut Sink),
    (other, copies): (&mut OpenSection, &mut Sink),
) -> Result<()> {
    let start = sink.buffer.len();
    let Some(written) = open.encode_page(sink)? else { return Ok(()) };
    // The page moves as a whole.
    let (from, to) = (sink.offset + start as u64, copies.offset + copies.buffer.len() as u64);
    let mut page = written.page.clone();
    for offset in [&mut page.start, &mut page.keys.offset, &mut page.listing.offset] {
        *offset = *offset - from + to;
    }
    copies.buffer.extend_from_slice(sink.buffer.get(start..).unwrap_or_default());
    other.add(Written { page, series: written.series.clone(), fields: written.fields.clone() });
    open.add(written);
    sink.flush_full()?;
    copies.flush_full()
}

#[cfg(test)]
mod tests;
