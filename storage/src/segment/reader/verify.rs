//! Reads a whole segment past the cache, part by part, and names everything in it that is not what was written.
//! Knows nothing of the manifest, of tiers or of the catalog.
//!
//! Order: the footer once more, then for each measurement the series table, the dictionaries and the pages, then
//! whether there is anything between these parts. A damaged part does not keep the others from being read, and one page is in memory
//! at a time.

#![warn(clippy::indexing_slicing)]

use super::*;
use crate::model::TimeRange;
use crate::segment::writer::bounds_of;

/// A part of a segment that is not what was written.
#[derive(Debug)]
pub struct Damage {
    /// The measurement whose rows are affected; `None`: all in the segment.
    pub measurement: Option<Arc<str>>,
    /// Number of the page within the measurement, where it is one.
    pub page: Option<usize>,
    /// Where the part begins in the file, where that is known.
    pub offset: Option<u64>,
    /// Times of the rows that cannot be read for it.
    pub range: TimeRange,
    /// How many rows those are.
    pub rows: u64,
    /// What is wrong.
    pub error: Error,
}

type Dictionaries = Vec<(ColumnKey, Option<StrColumn>)>;

/// Row after row must be later than this: series and time.
type Last = Option<(SeriesId, i64)>;

impl Segment {
    /// Reads the whole file past the cache and checks every checksum and every value that can be checked.
    ///
    /// # Errors
    /// `Corruption` at the first damage; those of the file system.
    pub fn verify(&self) -> Result<()> {
        let mut first = None;
        self.verify_parts(1, &mut |damage| {
            first.get_or_insert(damage.error);
        });
        first.map_or(Ok(()), Err)
    }

    /// As [`Segment::verify`], and goes on behind damage: each is handed to `sink`. Times must be multiples of
    /// `width_ns`, the width of the cells; 1 for rows.
    pub fn verify_parts(&self, width_ns: i64, sink: &mut dyn FnMut(Damage)) {
        let SegmentSummary { rows, min_ts_ns, max_ts_ns, .. } = self.summary;
        let range = TimeRange::new(min_ts_ns, max_ts_ns.saturating_add(1));
        let of_all = |error| Damage { measurement: None, page: None, offset: None, range, rows, error };
        if let Err(error) = self.verify_footer() {
            sink(of_all(error));
        }
        for section in &self.footer.sections {
            self.verify_section(section, width_ns, sink);
        }
        if let Err(error) = self.verify_layout() {
            sink(of_all(error));
        }
    }

    fn verify_footer(&self) -> Result<()> {
        let found = self.fs.open(&self.path).and_then(|file| read_footer(&*file));
        let (_, _, summary) = found.map_err(|error| error.context(self.path.display()))?;
        // The checksum of the footer is part of it.
        if summary != self.summary {
            return Err(Error::corruption(format!("{} changed while open", self.path.display())));
        }
        Ok(())
    }

    /// Parts follow one another without gaps, so that no byte of the file is without a checksum.
    fn verify_layout(&self) -> Result<()> {
        // From the first byte of a part to behind its last. Columns fill a page up to its keys, or cannot be read.
        let mut parts: Vec<(u64, u64)> = Vec::new();
        let mut add = |blob: Blob| parts.push((blob.offset, blob.end()));
        for section in &self.footer.sections {
            section.series_blocks.iter().for_each(|block| add(block.blob));
            section.dictionaries.iter().for_each(|dictionary| add(dictionary.blob));
            for page in &section.pages {
                page.listed.iter().flat_map(|columns| &**columns).for_each(|column| add(column.blob));
            }
        }
        let pages = self.footer.sections.iter().flat_map(|section| &section.pages);
        parts.extend(pages.map(|page| (page.start, page.listing.end())));
        parts.sort_unstable();
        let mut end = HEADER_BYTES;
        for (start, next) in parts {
            if start != end {
                return Err(self.misplaced(end, start));
            }
            end = next;
        }
        if end == self.footer_offset { Ok(()) } else { Err(self.misplaced(end, self.footer_offset)) }
    }

    fn misplaced(&self, expected: u64, found: u64) -> Error {
        let message = format!("a part begins at offset {found} where {expected} was expected");
        Error::corruption(message).context(self.path.display())
    }

    fn verify_section(&self, section: &Section, width_ns: i64, sink: &mut dyn FnMut(Damage)) {
        let mut report = |offset: Option<u64>, error: Error| {
            let range = TimeRange::new(section.min_ts_ns, section.max_ts_ns.saturating_add(1));
            let (measurement, rows) = (Some(Arc::clone(&section.name)), section.rows);
            sink(Damage { measurement, page: None, offset, range, rows, error });
        };
        let series = self.series(section).map_err(|error| report(None, error)).ok();
        let mut dictionaries = Dictionaries::new();
        for info in &section.dictionaries {
            let read = self.read_dictionary(info).map_err(|error| report(Some(info.blob.offset), error));
            dictionaries.push((info.key, read.ok()));
        }
        let mut last = None;
        for (page, info) in section.pages.iter().enumerate() {
            let mut report = |offset: u64, error: Error| {
                let range = TimeRange::new(info.min_ts_ns, info.max_ts_ns.saturating_add(1));
                let (measurement, rows) = (Some(Arc::clone(&section.name)), u64::from(info.rows));
                sink(Damage { measurement, page: Some(page), offset: Some(offset), range, rows, error });
            };
            if let Err(error) = self.verify_keys(info, series.as_deref(), width_ns, &mut last) {
                report(info.keys.offset, error);
            }
            let columns =
                self.read_listing(&Origin::File, info).map_err(|error| report(info.listing.offset, error));
            for column in columns.iter().flat_map(|columns| &**columns) {
                if let Err(error) = self.verify_column(info, column, &dictionaries) {
                    report(column.blob.offset, error);
                }
            }
            if let Ok(columns) = columns
                && columns.iter().any(|column| column.kind.is_heavy()) != info.is_heavy
            {
                let what = "the index says otherwise whether a column is of texts or histograms";
                report(info.listing.offset, self.damaged(info.listing, what));
            }
        }
    }

    /// Checks series and times of a page: also that they go on where the page before ended.
    fn verify_keys(
        &self,
        page: &PageInfo,
        series: Option<&[(SeriesId, Arc<SeriesKey>)]>,
        width_ns: i64,
        last: &mut Last,
    ) -> Result<()> {
        let keys = self.read_keys(&Origin::File, page)?;
        let is_listed =
            |id: &SeriesId| series.is_none_or(|all| all.binary_search_by_key(id, |(id, _)| *id).is_ok());
        if !keys.series.iter().all(|(id, _)| is_listed(id)) {
            return Err(self.damaged(page.keys, "a series is not in the series table"));
        }
        let first = keys.series.first().map(|(id, _)| *id).zip(keys.ts_ns.first().copied());
        let is_behind = last.is_none() || *last < first;
        *last = keys.series.last().map(|(id, _)| *id).zip(keys.ts_ns.last().copied());
        if !is_behind {
            return Err(self.damaged(page.keys, "rows are not behind those of the page before"));
        }
        if let Some(ts_ns) = keys.ts_ns.iter().find(|ts_ns| ts_ns.rem_euclid(width_ns.max(1)) != 0) {
            return Err(self.damaged(page.keys, &format!("time {ts_ns} is not the left edge of a cell")));
        }
        Ok(())
    }

    fn verify_column(&self, page: &PageInfo, info: &ColumnInfo, dictionaries: &Dictionaries) -> Result<()> {
        // As readers do: the listing says whether a column has codes.
        let is_coded = info.has_codes();
        let found = dictionaries.iter().find(|(key, _)| is_coded && *key == info.key);
        let dictionary = match found {
            // The damage of the dictionary is known already, and without it nothing can be said of the codes.
            Some((_, None)) => return self.read(&Origin::File, info.blob, |_| Ok(())),
            None if is_coded => return Err(self.damaged(info.blob, "a column of codes has no dictionary")),
            Some((_, Some(texts))) => Some(texts),
            None => None,
        };
        let column = self.read_column(&Origin::File, page, info, dictionary)?;
        if page.listed.is_none() && !listing::has_bounds(info.key, info.kind) {
            return Ok(());
        }
        let (min, max) = bounds_of(&column);
        let has_bounds = min.is_nan() || !info.min.is_nan() && !info.max.is_nan();
        if !has_bounds || min < info.min || info.max < max {
            let message = format!("values from {min} to {max}, where {} to {} is listed", info.min, info.max);
            return Err(self.damaged(info.blob, &message));
        }
        Ok(())
    }
}
