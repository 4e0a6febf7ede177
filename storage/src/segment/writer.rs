//! Writes a segment: header, then for each measurement its pages, dictionaries and series table, then the footer.
//!
//! Order of events: [`SegmentWriter::create`], for each measurement `begin`, `push` as often as needed, `end`; then
//! `finish`, which makes the bytes durable before the name. Until then all goes to `<path>.tmp`; a writer that is
//! dropped leaves that file behind, an orphan that the next writer of the same name or recovery removes. What two
//! segments have in common is encoded once: pages by `pair`, series tables by `SeriesTable`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dictionary::Dictionary;
use super::layout::{
    Blob, ColumnInfo, DictionaryInfo, Footer, PageInfo, Section, SegmentSummary, SeriesBlock,
};
use super::page::PageBuilder;
use super::{CRC_BYTES, MAGIC, MAGIC_END, SERIES_BLOCK, SERIES_BLOCK_BYTES_FULL, VERSION, listing};
use crate::codec::bytes::put_len;
use crate::codec::{self, Kind, LastValidity, Packing, Source, keys, put_numbers, put_times, texts};
use crate::fs::{File, Fs};
use crate::model::FieldInfo;
use crate::model::{
    Column, ColumnKey, FieldId, MeasurementId, RowBlock, SeriesId, StatSet, StrColumn, Values,
};
use crate::{Error, ErrorKind, Result};

/// Bytes gathered before they are appended to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Appends the canonical key of a series ([`SeriesKey::encode`](crate::model::SeriesKey::encode)) and tells its
/// measurement; `None` when there is no such series.
pub type KeyOf<'a> = dyn Fn(SeriesId, &mut Vec<u8>) -> Option<MeasurementId> + 'a;

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    pub(super) sink: Sink,
    path: PathBuf,
    temporary: PathBuf,
    footer: Footer,
    pub(super) open: Option<OpenSection>,
}

/// The section between `begin` and `end`.
#[derive(Debug)]
pub(super) struct OpenSection {
    pub(super) section: Section,
    pub(super) page: PageBuilder,
    /// Whether the rows of the open page are only in that of another writer; see `pair`.
    pub(super) is_led: bool,
    dictionaries: Vec<(ColumnKey, Dictionary)>,
    pub(super) series: Vec<SeriesId>,
    pub(super) last: Option<(SeriesId, i64)>,
    /// Of cells, the fields that some page has a column of: what is kept of others nobody can tell.
    valued: Option<BTreeSet<FieldId>>,
}

/// A page in the buffer of a sink.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) page: PageInfo,
    pub(super) series: Vec<SeriesId>,
    pub(super) fields: Vec<FieldId>,
}

/// The series table that was encoded last, for the next segment of the same series.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    measurement: Option<MeasurementId>,
    series: Vec<SeriesId>,
    /// Number of series and bytes of each block.
    blocks: Vec<(u32, Vec<u8>)>,
}

impl SegmentWriter {
    /// Starts a segment that will be called `path`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(fs: &dyn Fs, path: &Path) -> Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        if fs.has(&temporary)? {
            fs.remove(&temporary)?;
        }
        let mut sink = Sink { file: fs.create(&temporary)?, buffer: Vec::new(), offset: 0 };
        sink.buffer.extend_from_slice(&header());
        Ok(Self { sink, path: path.to_owned(), temporary, footer: Footer::default(), open: None })
    }

    /// The name the file will have.
    #[cfg(test)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a name and a value in the footer.
    pub fn set_property(&mut self, name: &str, value: &[u8]) {
        self.footer.properties.push((name.into(), value.to_vec()));
    }

    /// Starts the section of a measurement; measurements come in ascending order of their ids.
    ///
    /// # Errors
    /// `Internal` when they do not, or when the section before it was not ended.
    pub fn begin(&mut self, measurement: MeasurementId, name: &str, fields: &[FieldInfo]) -> Result<()> {
        self.begin_cells(measurement, name, fields, &[])
    }

    /// As [`SegmentWriter::begin`], of cells; `kept` tells for each field which groups of statistics they keep. Fields
    /// without a value leave no trace.
    ///
    /// # Errors
    /// As [`SegmentWriter::begin`].
    pub fn begin_cells(
        &mut self,
        measurement: MeasurementId,
        name: &str,
        fields: &[FieldInfo],
        kept: &[StatSet],
    ) -> Result<()> {
        let last = self.footer.sections.last().map(|section| section.measurement);
        if self.open.is_some() || last.is_some_and(|last| measurement <= last) {
            return Err(Error::new(ErrorKind::Internal, format!("section of {name} out of order")));
        }
        let mut section = Section::empty(measurement, name.into(), fields.to_vec());
        section.kept.iter_mut().zip(kept).for_each(|(into, kept)| *into = *kept);
        self.open = Some(OpenSection {
            section,
            page: PageBuilder::default(),
            is_led: false,
            dictionaries: Vec::new(),
            series: Vec::new(),
            last: None,
            valued: (!kept.is_empty()).then(BTreeSet::new),
        });
        Ok(())
    }

    /// Adds rows. Over all calls they are sorted by series and time, each pair once; columns may differ from call
    /// to call, and rows have no value in columns that their block does not have.
    ///
    /// # Errors
    /// `Internal` when the rows break these rules; those of the file system.
    pub fn push(&mut self, rows: &RowBlock) -> Result<()> {
        self.push_range(rows, 0..rows.len())
    }

    /// As [`SegmentWriter::push`], some of the rows.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub(crate) fn push_range(&mut self, rows: &RowBlock, range: Range<usize>) -> Result<()> {
        let Some(open) = self.open.as_mut().filter(|open| !open.is_led) else {
            return Err(Error::new(ErrorKind::Internal, "rows outside of a section"));
        };
        open.check(rows, &range)?;
        let mut start = range.start;
        while start < range.end {
            let cut = open.page.cut(rows, start..range.end);
            open.page.append(rows, start..cut.end)?;
            if cut.is_full {
                open.write_page(&mut self.sink)?;
            }
            start = cut.end;
        }
        Ok(())
    }

    /// Bytes of the file so far; those of rows that do not fill a page are still to come.
    pub fn bytes(&self) -> u64 {
        self.sink.offset + self.sink.buffer.len() as u64
    }

    /// Ends the section; asks for the key of every series that occurred. A section without rows leaves no trace.
    ///
    /// # Errors
    /// `Internal` when `key_of` does not know a series or gives one of another measurement; those of the file system.
    pub fn end(&mut self, key_of: &KeyOf<'_>) -> Result<()> {
        self.end_with(key_of, &mut SeriesTable::default())
    }

    /// As [`SegmentWriter::end`]; does not ask for keys when `table` is of the same series, and leaves there the one
    /// that was written.
    ///
    /// # Errors
    /// As [`SegmentWriter::end`].
    pub(crate) fn end_with(&mut self, key_of: &KeyOf<'_>, table: &mut SeriesTable) -> Result<()> {
        let Some(mut open) = self.open.take().filter(|open| !open.is_led) else {
            return Err(Error::new(ErrorKind::Internal, "no section to end"));
        };
        open.write_page(&mut self.sink)?;
        if open.section.pages.is_empty() {
            return Ok(());
        }
        open.forget_fields_without_values();
        open.write_dictionaries(&mut self.sink)?;
        table.fill(&open.section, open.series, key_of)?;
        for (count, bytes) in &table.blocks {
            let (blob, ()) = self.sink.blob(|out| {
                out.extend_from_slice(bytes);
                Ok(())
            })?;
            open.section.series_blocks.push(SeriesBlock { count: *count, blob });
            self.sink.flush_full()?;
        }
        self.footer.sections.push(open.section);
        Ok(())
    }

    /// Writes the footer, syncs the file, gives it its name and syncs the directory.
    ///
    /// # Errors
    /// Those of the file system; the segment then does not count.
    pub fn finish(mut self, fs: &dyn Fs) -> Result<SegmentSummary> {
        if self.open.is_some() {
            return Err(Error::new(ErrorKind::Internal, "a section was not ended"));
        }
        let footer = self.footer.encode();
        let len = u32::try_from(footer.len())
            .map_err(|_| Error::new(ErrorKind::LimitExceeded, "the footer of a segment exceeds 4 GiB"))?;
        let footer_crc = crc_of(&[&header(), &footer]);
        self.sink.buffer.extend_from_slice(&footer);
        self.sink.buffer.extend_from_slice(&len.to_le_bytes());
        self.sink.buffer.extend_from_slice(&footer_crc.to_le_bytes());
        self.sink.buffer.extend_from_slice(MAGIC_END);
        self.sink.flush()?;
        self.sink.file.sync()?;
        let bytes = self.sink.offset;
        drop(self.sink);
        fs.rename(&self.temporary, &self.path)?;
        fs.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(self.footer.summary(bytes, footer_crc))
    }
}

/// Magic and version.
pub(super) fn header() -> [u8; 8] {
    let [a, b, c, d, e, f] = *MAGIC;
    let [low, high] = VERSION.to_le_bytes();
    [a, b, c, d, e, f, low, high]
}

/// Checksum over several pieces.
pub(super) fn crc_of(pieces: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// The file behind a buffer.
#[derive(Debug)]
pub(super) struct Sink {
    file: Box<dyn File>,
    pub(super) buffer: Vec<u8>,
    /// Bytes already in the file.
    pub(super) offset: u64,
}

impl Sink {
    /// Appends what `write` appends, and its checksum.
    fn blob<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<T>) -> Result<(Blob, T)> {
        let start = self.buffer.len();
        let offset = self.offset + start as u64;
        let written = write(&mut self.buffer)?;
        let crc = crc_of(&[self.buffer.get(start..).unwrap_or_default()]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        let len = u32::try_from(self.buffer.len() - start)
            .map_err(|_| Error::new(ErrorKind::LimitExceeded, "a part of a segment exceeds 4 GiB"))?;
        debug_assert!(CRC_BYTES < len as usize);
        Ok((Blob { offset, len }, written))
    }

    /// Passes on what was gathered when it is enough.
    pub(super) fn flush_full(&mut self) -> Result<()> {
        if BUFFER_BYTES <= self.buffer.len() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file.append(&self.buffer)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl OpenSection {
    /// Asserts the order of the rows and the lengths of the columns before anything is written.
    pub(super) fn check(&mut self, rows: &RowBlock, range: &Range<usize>) -> Result<()> {
        let is_uneven = |column: &Column| {
            column.values.len() != rows.len()
                || column.valid.as_ref().is_some_and(|valid| valid.len() != rows.len())
        };
        let of_range = rows.series.get(range.clone()).zip(rows.ts_ns.get(range.clone()));
        let of_range = of_range.filter(|_| rows.series.len() == rows.len());
        let Some((series, ts_ns)) = of_range.filter(|_| !rows.columns.iter().any(is_uneven)) else {
            return Err(Error::new(ErrorKind::Internal, "the columns of a block differ in length"));
        };
        let (Some(first), Some(last)) = (series.first().zip(ts_ns.first()), series.last().zip(ts_ns.last()))
        else {
            return Ok(());
        };
        // Without a branch for each row: nearly always all is well.
        let ascends = |one: (SeriesId, i64), next: (SeriesId, i64)| {
            (one.0 < next.0) | ((one.0 == next.0) & (one.1 < next.1))
        };
        let rows = series.iter().copied().zip(ts_ns.iter().copied());
        let pairs = rows.clone().zip(rows.skip(1));
        let misplaced = pairs.map(|(one, next)| u32::from(!ascends(one, next))).sum::<u32>();
        let first = (*first.0, *first.1);
        if 0 < misplaced || self.last.is_some_and(|before| !ascends(before, first)) {
            let message = format!("rows of series {} from {} on are out of order", first.0.0, first.1);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.last = Some((*last.0, *last.1));
        Ok(())
    }

    /// Writes the open page, if it has rows.
    pub(super) fn write_page(&mut self, sink: &mut Sink) -> Result<()> {
        if let Some(written) = self.encode_page(sink)? {
            self.add(written);
        }
        sink.flush_full()
    }

    /// Takes the open page, if it has rows, and appends it to the buffer of the sink.
    pub(super) fn encode_page(&mut self, sink: &mut Sink) -> Result<Option<Written>> {
        let rows = self.page.take();
        let runs = runs_of(&rows.series);
        let bounds = rows.series.first().zip(rows.series.last());
        let times = rows.ts_ns.iter().min().zip(rows.ts_ns.iter().max());
        let (Some((first, last)), Some((min, max))) = (bounds, times) else { return Ok(None) };
        let start = sink.offset + sink.buffer.len() as u64;
        let mut columns = Vec::with_capacity(rows.columns.len());
        let mut validity = LastValidity::default();
        for column in &rows.columns {
            columns.push(self.write_column(sink, column, &mut validity)?);
        }
        let (keys, ()) = sink.blob(|out| encode_keys(&runs, &rows.ts_ns, out))?;
        let (listing, ()) = sink.blob(|out| {
            listing::encode(&columns, out);
            Ok(())
        })?;
        let page = PageInfo {
            first_series: *first,
            last_series: *last,
            min_ts_ns: *min,
            max_ts_ns: *max,
            // A page has at most PAGE_ROWS_MAX rows.
            rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            start,
            keys,
            listing,
            listed: None,
            is_heavy: columns.iter().any(|column| column.kind.is_heavy()),
        };
        let mut fields: Vec<FieldId> = rows.columns.iter().map(|column| column.key.field).collect();
        fields.dedup();
        let series = runs.into_iter().map(|(series, _)| series).collect();
        Ok(Some(Written { page, series, fields }))
    }

    /// Adds a page that is in the sink.
    pub(super) fn add(&mut self, written: Written) {
        // Series may go on from the page before.
        let goes_on = self.series.last().is_some_and(|last| written.series.first() == Some(last));
        self.series.extend(written.series.iter().skip(usize::from(goes_on)));
        self.section.add(written.page);
        if let Some(valued) = &mut self.valued {
            valued.extend(written.fields);
        }
    }

    /// A field that no page has says nothing of what its cells keep.
    fn forget_fields_without_values(&mut self) {
        let Some(valued) = &self.valued else { return };
        let Section { fields, kept, .. } = &mut self.section;
        let listed = std::mem::take(fields).into_iter().zip(std::mem::take(kept));
        (*fields, *kept) = listed.filter(|(info, _)| valued.contains(&info.id)).unzip();
    }

    fn write_column(
        &mut self,
        sink: &mut Sink,
        column: &Column,
        validity: &mut LastValidity,
    ) -> Result<ColumnInfo> {
        let valid = column.valid.as_deref();
        let codes = match &column.values {
            Values::Str(texts) => self.dictionary(column.key).codes(texts, valid),
            _ => None,
        };
        let packing = if self.valued.is_some() { Packing::Fast } else { Packing::Dense };
        let source = Source { values: &column.values, valid, codes: codes.as_deref(), packing };
        let (blob, encoding) = sink.blob(|out| codec::encode_after(validity, &source, out))?;
        let nulls = valid.map_or(0, |valid| valid.iter().filter(|valid| !**valid).count());
        let kind = Kind::of(&column.values);
        let (min, max) = match listing::has_bounds(column.key, kind) {
            true => bounds_of(column),
            false => (f64::NAN, f64::NAN),
        };
        Ok(ColumnInfo {
            key: column.key,
            kind,
            encoding: encoding as u8,
            blob,
            // As many as rows at most.
            nulls: u32::try_from(nulls).unwrap_or(u32::MAX),
            min,
            max,
        })
    }

    fn dictionary(&mut self, key: ColumnKey) -> &mut Dictionary {
        let index = self.dictionaries.iter().position(|(known, _)| *known == key);
        let index = index.unwrap_or_else(|| {
            self.dictionaries.push((key, Dictionary::default()));
            self.dictionaries.len() - 1
        });
        &mut self.dictionaries[index].1
    }

    fn write_dictionaries(&mut self, sink: &mut Sink) -> Result<()> {
        self.dictionaries.sort_unstable_by_key(|(key, _)| *key);
        for (key, dictionary) in &self.dictionaries {
            let Some(column) = dictionary.texts() else { continue };
            let (blob, ()) = sink.blob(|out| texts::encode(column, out))?;
            // Dictionaries are bounded far below.
            let texts = u32::try_from(column.len()).unwrap_or(u32::MAX);
            self.section.dictionaries.push(DictionaryInfo { key: *key, texts, blob });
        }
        Ok(())
    }
}

impl SeriesTable {
    /// Makes this the table of the series of a section.
    fn fill(&mut self, section: &Section, series: Vec<SeriesId>, key_of: &KeyOf<'_>) -> Result<()> {
        if self.measurement == Some(section.measurement) && self.series == series {
            return Ok(());
        }
        *self = Self::default();
        let (mut ids, mut encoded) = (Vec::new(), StrColumn::default());
        for series in &series {
            if key_of(*series, &mut encoded.bytes) != Some(section.measurement) {
                let message = format!("series {} has no key in {}", series.0, section.name);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            encoded.end_text();
            ids.push(u64::from(series.0));
            if SERIES_BLOCK <= ids.len() || SERIES_BLOCK_BYTES_FULL <= encoded.bytes.len() {
                let (ids, encoded) = (std::mem::take(&mut ids), std::mem::take(&mut encoded));
                self.blocks.push(encode_series_block(&ids, &encoded)?);
            }
        }
        if !ids.is_empty() {
            self.blocks.push(encode_series_block(&ids, &encoded)?);
        }
        (self.measurement, self.series) = (Some(section.measurement), series);
        Ok(())
    }
}

fn encode_series_block(ids: &[u64], encoded: &StrColumn) -> Result<(u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    put_numbers(&mut bytes, ids)?;
    keys::encode(encoded, &mut bytes)?;
    // Bounded by SERIES_BLOCK.
    Ok((u32::try_from(ids.len()).unwrap_or(u32::MAX), bytes))
}

/// Each series and how many rows it has, side by side.
fn runs_of(series: &[SeriesId]) -> Vec<(SeriesId, u64)> {
    let runs = series.chunk_by(|left, right| left == right);
    runs.filter_map(|run| Some((*run.first()?, run.len() as u64))).collect()
}

/// Appends the keys of a page: number of series, their ids, their rows, all times.
fn encode_keys(runs: &[(SeriesId, u64)], ts_ns: &[i64], out: &mut Vec<u8>) -> Result<()> {
    let ids: Vec<u64> = runs.iter().map(|(series, _)| u64::from(series.0)).collect();
    let lengths: Vec<u64> = runs.iter().map(|(_, length)| *length).collect();
    put_len(out, runs.len());
    put_numbers(out, &ids)?;
    put_numbers(out, &lengths)?;
    put_times(out, ts_ns)
}

/// Floats that no value but NaN lies below or above; NaN where there are none.
pub(super) fn bounds_of(column: &Column) -> (f64, f64) {
    let valid = column.valid.as_deref();
    let none = (f64::NAN, f64::NAN);
    match &column.values {
        Values::F64(values) => {
            let wider = |(min, max): (f64, f64), value: f64| (min.min(value), max.max(value));
            match valid {
                None => values.iter().copied().fold(none, wider),
                Some(valid) => kept(values, valid).fold(none, wider),
            }
        }
        Values::I64(values) => span(values, valid).map_or(none, outward),
        Values::U64(values) => span(values, valid).map_or(none, outward),
        Values::Bool(values) => {
            span(values, valid).map_or(none, |(min, max)| outward((u64::from(min), u64::from(max))))
        }
        Values::Str(_) | Values::Hist(_) | Values::Uniques(_) => none,
    }
}

fn kept<'a, T: Copy>(values: &'a [T], valid: &'a [bool]) -> impl Iterator<Item = T> + 'a {
    values.iter().zip(valid).filter(|(_, valid)| **valid).map(|(value, _)| *value)
}

fn span<T: Ord + Copy>(values: &[T], valid: Option<&[bool]>) -> Option<(T, T)> {
    match valid {
        None => Some((values.iter().copied().min()?, values.iter().copied().max()?)),
        Some(valid) => {
            let mut values = kept(values, valid);
            let first = values.next()?;
            Some(values.fold((first, first), |(min, max), value| (min.min(value), max.max(value))))
        }
    }
}

/// Bounds as floats, rounded away from the values where a float cannot hold them.
fn outward<T: Into<i128>>((min, max): (T, T)) -> (f64, f64) {
    let (min, max): (i128, i128) = (min.into(), max.into());
    let (low, high) = (min as f64, max as f64);
    // Floats of this size are whole, so the conversion back is exact.
    let low = if min < low as i128 { low.next_down() } else { low };
    let high = if (high as i128) < max { high.next_up() } else { high };
    (low, high)
}
