//! Writes a segment: header, then for each measurement its pages, dictionaries and series table, then the footer.
//!
//! Order of events: [`SegmentWriter::create`], for each measurement `begin`, `push` as often as needed, `end`; then
//! `finish`, which makes the bytes durable before the name. Until then all goes to `<path>.tmp`; a writer that is
//! dropped leaves that file behind, an orphan that the next writer of the same name or recovery removes.

use std::path::{Path, PathBuf};

use super::dictionary::Dictionary;
use super::layout::{
    Blob, ColumnInfo, DictionaryInfo, Footer, PageInfo, Section, SegmentSummary, SeriesBlock,
};
use super::page::PageBuilder;
use super::{CRC_BYTES, MAGIC, MAGIC_END, SERIES_BLOCK, SERIES_BLOCK_BYTES_FULL, VERSION};
use crate::codec::bytes::put_len;
use crate::codec::{self, Kind, Source, keys, put_numbers, put_times, texts};
use crate::fs::{File, Fs};
use crate::model::FieldInfo;
use crate::model::{Column, ColumnKey, MeasurementId, RowBlock, SeriesId, StrColumn, Values};
use crate::{Error, ErrorKind, Result};

/// Bytes gathered before they are appended to the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Appends the canonical key of a series ([`SeriesKey::encode`](crate::model::SeriesKey::encode)) and tells its
/// measurement; `None` when there is no such series.
pub type KeyOf<'a> = dyn Fn(SeriesId, &mut Vec<u8>) -> Option<MeasurementId> + 'a;

/// Writes one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    sink: Sink,
    path: PathBuf,
    temporary: PathBuf,
    footer: Footer,
    open: Option<OpenSection>,
}

/// The section between `begin` and `end`.
#[derive(Debug)]
struct OpenSection {
    section: Section,
    page: PageBuilder,
    dictionaries: Vec<(ColumnKey, Dictionary)>,
    series: Vec<SeriesId>,
    last: Option<(SeriesId, i64)>,
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

    /// Keeps a name and a value in the footer.
    pub fn set_property(&mut self, name: &str, value: &[u8]) {
        self.footer.properties.push((name.into(), value.to_vec()));
    }

    /// Starts the section of a measurement; measurements come in ascending order of their ids.
    ///
    /// # Errors
    /// `Internal` when they do not, or when the section before it was not ended.
    pub fn begin(&mut self, measurement: MeasurementId, name: &str, fields: &[FieldInfo]) -> Result<()> {
        let last = self.footer.sections.last().map(|section| section.measurement);
        if self.open.is_some() || last.is_some_and(|last| measurement <= last) {
            return Err(Error::new(ErrorKind::Internal, format!("section of {name} out of order")));
        }
        self.open = Some(OpenSection {
            section: Section::empty(measurement, name.into(), fields.to_vec()),
            page: PageBuilder::default(),
            dictionaries: Vec::new(),
            series: Vec::new(),
            last: None,
        });
        Ok(())
    }

    /// Adds rows. Over all calls they are sorted by series and time, each pair once; columns may differ from call
    /// to call, and rows have no value in columns that their block does not have.
    ///
    /// # Errors
    /// `Internal` when the rows break these rules; those of the file system.
    pub fn push(&mut self, rows: &RowBlock) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Err(Error::new(ErrorKind::Internal, "rows outside of a section"));
        };
        open.check(rows)?;
        let mut start = 0;
        while start < rows.len() {
            let cut = open.page.cut(rows, start);
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
        let Some(mut open) = self.open.take() else {
            return Err(Error::new(ErrorKind::Internal, "no section to end"));
        };
        if !open.page.rows().is_empty() {
            open.write_page(&mut self.sink)?;
        }
        if open.section.pages.is_empty() {
            return Ok(());
        }
        open.write_dictionaries(&mut self.sink)?;
        open.write_series(&mut self.sink, key_of)?;
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
struct Sink {
    file: Box<dyn File>,
    buffer: Vec<u8>,
    /// Bytes already in the file.
    offset: u64,
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
        if BUFFER_BYTES <= self.buffer.len() {
            self.flush()?;
        }
        Ok((Blob { offset, len }, written))
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
    fn check(&mut self, rows: &RowBlock) -> Result<()> {
        let is_uneven = |column: &Column| {
            column.values.len() != rows.len()
                || column.valid.as_ref().is_some_and(|valid| valid.len() != rows.len())
        };
        if rows.series.len() != rows.len() || rows.columns.iter().any(is_uneven) {
            return Err(Error::new(ErrorKind::Internal, "the columns of a block differ in length"));
        }
        for (series, ts_ns) in rows.series.iter().zip(&rows.ts_ns) {
            if self.last.is_some_and(|last| (*series, *ts_ns) <= last) {
                let message = format!("row of series {} at {ts_ns} is out of order", series.0);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            self.last = Some((*series, *ts_ns));
        }
        Ok(())
    }

    fn write_page(&mut self, sink: &mut Sink) -> Result<()> {
        let rows = self.page.take();
        let runs = runs_of(&rows.series);
        for (series, _) in &runs {
            // Series may go on from the page before.
            if self.series.last() != Some(series) {
                self.series.push(*series);
            }
        }
        let (keys, ()) = sink.blob(|out| encode_keys(&runs, &rows.ts_ns, out))?;
        let mut columns = Vec::with_capacity(rows.columns.len());
        for column in &rows.columns {
            columns.push(self.write_column(sink, column)?);
        }
        let bounds = rows.series.first().zip(rows.series.last());
        let times = rows.ts_ns.iter().min().zip(rows.ts_ns.iter().max());
        let rows = u32::try_from(rows.len()).ok();
        if let (Some((first, last)), Some((min, max)), Some(rows)) = (bounds, times, rows) {
            let (first_series, last_series, min_ts_ns, max_ts_ns) = (*first, *last, *min, *max);
            let page = PageInfo { first_series, last_series, min_ts_ns, max_ts_ns, rows, keys, columns };
            self.section.add(page);
        }
        Ok(())
    }

    fn write_column(&mut self, sink: &mut Sink, column: &Column) -> Result<ColumnInfo> {
        let valid = column.valid.as_deref();
        let codes = match &column.values {
            Values::Str(texts) => self.dictionary(column.key).codes(texts, valid),
            _ => None,
        };
        let source = Source { values: &column.values, valid, codes: codes.as_deref() };
        let (blob, encoding) = sink.blob(|out| codec::encode(&source, out))?;
        let nulls = valid.map_or(0, |valid| valid.iter().filter(|valid| !**valid).count());
        let (min, max) = bounds_of(column);
        Ok(ColumnInfo {
            key: column.key,
            kind: Kind::of(&column.values),
            encoding: encoding as u8,
            blob,
            // A page has at most PAGE_ROWS_MAX rows.
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

    fn write_series(&mut self, sink: &mut Sink, key_of: &KeyOf<'_>) -> Result<()> {
        let (mut ids, mut encoded) = (Vec::new(), StrColumn::default());
        for series in &self.series {
            if key_of(*series, &mut encoded.bytes) != Some(self.section.measurement) {
                let message = format!("series {} has no key in {}", series.0, self.section.name);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            encoded.end_text();
            ids.push(u64::from(series.0));
            if SERIES_BLOCK <= ids.len() || SERIES_BLOCK_BYTES_FULL <= encoded.bytes.len() {
                let (ids, encoded) = (std::mem::take(&mut ids), std::mem::take(&mut encoded));
                self.section.series_blocks.push(write_series_block(sink, &ids, &encoded)?);
            }
        }
        if !ids.is_empty() {
            self.section.series_blocks.push(write_series_block(sink, &ids, &encoded)?);
        }
        Ok(())
    }
}

fn write_series_block(sink: &mut Sink, ids: &[u64], encoded: &StrColumn) -> Result<SeriesBlock> {
    let (blob, ()) = sink.blob(|out| {
        put_numbers(out, ids)?;
        keys::encode(encoded, out)
    })?;
    // Bounded by SERIES_BLOCK.
    Ok(SeriesBlock { count: u32::try_from(ids.len()).unwrap_or(u32::MAX), blob })
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
    match &column.values {
        Values::F64(values) => {
            let seed = (f64::NAN, f64::NAN);
            kept(values, valid).fold(seed, |(min, max), value| (min.min(value), max.max(value)))
        }
        Values::I64(values) => span(kept(values, valid)).map_or((f64::NAN, f64::NAN), outward),
        Values::U64(values) => span(kept(values, valid)).map_or((f64::NAN, f64::NAN), outward),
        Values::Bool(values) => {
            span(kept(values, valid).map(u64::from)).map_or((f64::NAN, f64::NAN), outward)
        }
        Values::Str(_) | Values::Hist(_) => (f64::NAN, f64::NAN),
    }
}

fn kept<'a, T: Copy>(values: &'a [T], valid: Option<&'a [bool]>) -> impl Iterator<Item = T> + 'a {
    let is_valid = move |index: usize| valid.is_none_or(|valid| valid.get(index).copied().unwrap_or(false));
    values.iter().enumerate().filter(move |(index, _)| is_valid(*index)).map(|(_, value)| *value)
}

fn span<T: Ord + Copy>(mut values: impl Iterator<Item = T>) -> Option<(T, T)> {
    let first = values.next()?;
    Some(values.fold((first, first), |(min, max), value| (min.min(value), max.max(value))))
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
