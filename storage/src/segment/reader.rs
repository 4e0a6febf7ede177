//! Reads segments: the footer when opened, pages when asked for, through the cache.
//!
//! Every stretch of the file is checked against its checksum before anything in it is believed, and everything
//! decoded is checked against what footer and listings say of it. What does not fit is `Corruption`, never a panic.
//! `verify` reads all of a segment to find damage before a query does.

#![warn(clippy::indexing_slicing)]

mod verify;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use roaring::RoaringBitmap;

use super::cache::{Entry, PageCache, PageKeys, Part, Slot};
use super::layout::{
    Blob, ColumnInfo, DictionaryInfo, Footer, PageInfo, Section, SegmentSummary, SeriesBlock, find_column,
};
use super::writer::crc_of;
use super::{
    CRC_BYTES, HEADER_BYTES, MAGIC, MAGIC_END, SERIES_BLOCK, TRAILER_BYTES, VERSION, VERSION_MIN, dictionary,
    listing,
};
use crate::codec::bytes::Reader;
use crate::codec::{self, Kind, keys, take_numbers, take_times, texts};
use crate::fs::{File, Fs};
use crate::model::{Column, ColumnKey, MeasurementId, SeriesId, SeriesKey, StrColumn, Values};
use crate::{Error, ErrorKind, Result};

pub use verify::Damage;

/// An open segment; its metadata is in memory, its pages are not.
///
/// No file stays open between reads: a database of many small segments would otherwise run out of descriptors.
#[derive(Debug)]
pub struct Segment {
    id: u64,
    path: PathBuf,
    fs: Arc<dyn Fs>,
    /// Set when nothing names the file any more; the last reader to let go removes it.
    is_given_up: AtomicBool,
    /// Whether the log has been told of damage. A dashboard meets it again every few seconds.
    is_told: AtomicBool,
    footer: Footer,
    /// Where the footer begins, and the parts end.
    footer_offset: u64,
    summary: SegmentSummary,
    cache: Arc<PageCache>,
}

impl Segment {
    /// Opens a segment and reads its footer. `id` tells the segments that share a cache apart.
    ///
    /// # Errors
    /// `NotFound`; `Corruption` when header or footer are damaged; `Conflict` when a newer version wrote the file.
    pub fn open(fs: &Arc<dyn Fs>, path: &Path, id: u64, cache: Arc<PageCache>) -> Result<Self> {
        let file = fs.open(path)?;
        let (footer, footer_offset, summary) =
            read_footer(&*file).map_err(|error| error.context(path.display()))?;
        let (is_given_up, is_told) = (AtomicBool::new(false), AtomicBool::new(false));
        let (path, fs) = (path.to_owned(), Arc::clone(fs));
        Ok(Self { id, path, fs, is_given_up, is_told, footer, footer_offset, summary, cache })
    }

    /// Removes the file when the last reader has let go of the segment. Call when the manifest has forgotten it.
    pub(crate) fn remove_when_unused(&self) {
        self.is_given_up.store(true, Ordering::Release);
    }

    /// The id given when it was opened.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size, checksum and extent.
    pub fn summary(&self) -> &SegmentSummary {
        &self.summary
    }

    /// The measurements in it, ascending by id.
    pub fn sections(&self) -> &[Section] {
        &self.footer.sections
    }

    /// The section of a measurement.
    pub fn section(&self, measurement: MeasurementId) -> Option<&Section> {
        let sections = &self.footer.sections;
        let index = sections.binary_search_by_key(&measurement, |section| section.measurement).ok()?;
        sections.get(index)
    }

    /// A value that the writer kept under this name.
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        let mut properties = self.footer.properties.iter();
        properties.find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }

    /// Series and times of a page, from the cache or the file.
    ///
    /// # Errors
    /// `Corruption`; `Internal` when the section has no such page; those of the file system.
    pub fn keys(&self, section: &Section, page: usize) -> Result<Arc<PageKeys>> {
        Ok(self.head(section, page)?.0)
    }

    /// What [`Segment::keys`] and [`Segment::columns`] give; they stand together.
    pub(crate) fn head(&self, section: &Section, page: usize) -> Result<PageHead> {
        let info = self.page(section, page)?;
        let (of_keys, of_listing) =
            (self.slot(section, Part::Keys { page }), self.slot(section, Part::Listing { page }));
        if let Some(Entry::Keys(keys)) = self.cache.get(&of_keys) {
            if let Some(columns) = &info.listed {
                return Ok((keys, Arc::clone(columns)));
            }
            if let Some(Entry::Listing(columns)) = self.cache.get(&of_listing) {
                return Ok((keys, columns));
            }
        }
        let (keys, columns) = self.read_head(info).map_err(|error| self.unreadable(section, info, error))?;
        self.cache.insert(of_keys, Entry::Keys(Arc::clone(&keys)));
        if info.listed.is_none() {
            self.cache.insert(of_listing, Entry::Listing(Arc::clone(&columns)));
        }
        Ok((keys, columns))
    }

    fn read_head(&self, page: &PageInfo) -> Result<PageHead> {
        let origin = self.stretch(page.keys.offset, page.listing.end())?;
        Ok((Arc::new(self.read_keys(&origin, page)?), self.read_listing(&origin, page)?))
    }

    /// The columns of a page that have a value in some row, sorted by key, from the cache or the file.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub fn columns(&self, section: &Section, page: usize) -> Result<Arc<[ColumnInfo]>> {
        let info = self.page(section, page)?;
        if let Some(columns) = &info.listed {
            return Ok(Arc::clone(columns));
        }
        let slot = self.slot(section, Part::Listing { page });
        if let Some(Entry::Listing(columns)) = self.cache.get(&slot) {
            return Ok(columns);
        }
        let columns =
            self.read_listing(&Origin::File, info).map_err(|error| self.unreadable(section, info, error))?;
        self.cache.insert(slot, Entry::Listing(Arc::clone(&columns)));
        Ok(columns)
    }

    /// A column of a page, from the cache or the file; `None` when no row of the page has a value in it.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub fn column(&self, section: &Section, page: usize, key: ColumnKey) -> Result<Option<Arc<Column>>> {
        self.column_of(section, page, &self.columns(section, page)?, key)
    }

    /// As [`Segment::column`], by the listing of the page.
    pub(crate) fn column_of(
        &self,
        section: &Section,
        page: usize,
        columns: &[ColumnInfo],
        key: ColumnKey,
    ) -> Result<Option<Arc<Column>>> {
        let Some(info) = find_column(columns, key) else { return Ok(None) };
        let slot = self.slot(section, Part::Column { page, key });
        if let Some(Entry::Column(column)) = self.cache.get(&slot) {
            return Ok(Some(column));
        }
        let page = self.page(section, page)?;
        let dictionary = match info.has_codes() {
            true => {
                let found = self.dictionary(section, key);
                Some(found.map_err(|error| self.unreadable(section, page, error))?)
            }
            false => None,
        };
        let column = self.read_column(&Origin::File, page, info, dictionary.as_deref());
        let column = Arc::new(column.map_err(|error| self.unreadable(section, page, error))?);
        self.cache.insert(slot, Entry::Column(Arc::clone(&column)));
        Ok(Some(column))
    }

    /// The codes of a column of texts, one for each row that has one, into the dictionary of [`Segment::texts_of`], and
    /// which rows have one (`None`: all); past the cache.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub(crate) fn codes_of(&self, section: &Section, page: usize, info: &ColumnInfo) -> Result<codec::Codes> {
        let page = self.page(section, page)?;
        let texts = section.text_count(info.key);
        let decode = |bytes: &[u8]| codec::decode_codes(page.rows as usize, texts, bytes);
        let codes = self.read(&Origin::File, info.blob, decode);
        codes.map_err(|error| self.unreadable(section, page, error))
    }

    /// The dictionary of a column of texts.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub(crate) fn texts_of(&self, section: &Section, key: ColumnKey) -> Result<Arc<StrColumn>> {
        let first = section.pages.first();
        self.dictionary(section, key).map_err(|error| match first {
            Some(page) => self.unreadable(section, page, error),
            None => error,
        })
    }

    /// A page with all its columns, past the cache: for jobs, which read every page once.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub(crate) fn load(&self, section: &Section, page: usize, texts: Texts) -> Result<LoadedPage> {
        let page = self.page(section, page)?;
        let origin = self.whole(page)?;
        let listing = self.read_listing(&origin, page)?;
        let mut columns = Vec::with_capacity(listing.len());
        for info in &*listing {
            if texts == Texts::Presence && info.kind == Kind::Str {
                columns.push(self.read_presence(&origin, page, info)?);
                continue;
            }
            let dictionary = match info.has_codes() {
                true => Some(self.dictionary(section, info.key)?),
                false => None,
            };
            columns.push(self.read_column(&origin, page, info, dictionary.as_deref())?);
        }
        Ok(LoadedPage { keys: self.read_keys(&origin, page)?, columns })
    }

    /// The series of a section, ascending by id, read from the file each time.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub fn series(&self, section: &Section) -> Result<Vec<(SeriesId, Arc<SeriesKey>)>> {
        let mut all: Vec<(SeriesId, Arc<SeriesKey>)> = Vec::new();
        for block in &section.series_blocks {
            let series =
                self.read(&Origin::File, block.blob, |bytes| decode_series(bytes, block, &section.name))?;
            let is_sorted = all.last().zip(series.first()).is_none_or(|(last, first)| last.0 < first.0);
            if !is_sorted {
                return Err(self.damaged(block.blob, "series are out of order"));
            }
            all.extend(series);
        }
        Ok(all)
    }

    /// Which series a section has, from the cache or the series table; no key is decoded.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub(crate) fn series_ids(&self, section: &Section) -> Result<Arc<RoaringBitmap>> {
        let slot = self.slot(section, Part::Series);
        if let Some(Entry::Series(ids)) = self.cache.get(&slot) {
            return Ok(ids);
        }
        let ids = Arc::new(self.read_series_ids(section)?);
        self.cache.insert(slot, Entry::Series(Arc::clone(&ids)));
        Ok(ids)
    }

    /// As [`Segment::series_ids`], past the cache.
    ///
    /// # Errors
    /// As [`Segment::keys`].
    pub(crate) fn read_series_ids(&self, section: &Section) -> Result<RoaringBitmap> {
        let mut ids = RoaringBitmap::new();
        for block in &section.series_blocks {
            let decode = |bytes: &[u8]| decode_series_ids(&mut Reader::new(bytes), block);
            ids.extend(self.read(&Origin::File, block.blob, decode)?.into_iter().map(|id| id.0));
        }
        Ok(ids)
    }

    fn slot(&self, section: &Section, part: Part) -> Slot {
        self.cache.slot(self.id, section.measurement, part)
    }

    fn page<'a>(&self, section: &'a Section, page: usize) -> Result<&'a PageInfo> {
        section.pages.get(page).ok_or_else(|| {
            let message = format!("{}: {} has no page {page}", self.path.display(), section.name);
            Error::new(ErrorKind::Internal, message)
        })
    }

    /// Says which rows cannot be read; counts damage, and logs the first of each file.
    fn unreadable(&self, section: &Section, page: &PageInfo, error: Error) -> Error {
        if error.kind() != ErrorKind::Corruption {
            return error;
        }
        self.cache.count_damage();
        let PageInfo { rows, min_ts_ns, max_ts_ns, .. } = page;
        let place = format!("{rows} rows of measurement {} from {min_ts_ns} to {max_ts_ns} ns", section.name);
        let error = error.context(format!("{place} cannot be read; stop the server and run `icecore check`"));
        if !self.is_told.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "a segment is damaged; said once for each file");
        }
        error
    }

    fn damaged(&self, blob: Blob, what: &str) -> Error {
        Error::corruption(format!("{} at offset {}: {what}", self.path.display(), blob.offset))
    }

    /// The bytes of a page in one read, where its parts are known to lie together.
    fn whole(&self, page: &PageInfo) -> Result<Origin> {
        if page.listed.is_some() {
            return Ok(Origin::File);
        }
        self.stretch(page.start, page.listing.end())
    }

    /// Part of a page in one read.
    fn stretch(&self, start: u64, end: u64) -> Result<Origin> {
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        Ok(Origin::Page { start, bytes: self.read_bytes(start, len)? })
    }

    fn read_bytes(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.fs.open(&self.path)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Reads a blob, checks its checksum, and decodes what is before it.
    fn read<T>(&self, origin: &Origin, blob: Blob, decode: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let place = || format!("{} at offset {}", self.path.display(), blob.offset);
        let bytes = match origin {
            Origin::File => Cow::Owned(self.read_bytes(blob.offset, blob.len as usize)?),
            Origin::Page { start, bytes } => {
                let from = blob.offset.checked_sub(*start).and_then(|from| usize::try_from(from).ok());
                let rest = from.and_then(|from| bytes.get(from..));
                let found = rest.and_then(|rest| rest.get(..blob.len as usize));
                let outside = || Error::corruption("a part lies outside of its page").context(place());
                Cow::Borrowed(found.ok_or_else(outside)?)
            }
        };
        let Some((content, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(Error::corruption("no room for a checksum").context(place()));
        };
        let (expected, found) = (u32::from_le_bytes(*crc), crc_of(&[content]));
        if expected != found {
            let message = format!("checksum {found:08x}, {expected:08x} expected");
            return Err(Error::corruption(message).context(place()));
        }
        decode(content).map_err(|error| error.context(place()))
    }

    fn read_keys(&self, origin: &Origin, page: &PageInfo) -> Result<PageKeys> {
        self.read(origin, page.keys, |bytes| decode_keys(bytes, page))
    }

    /// As [`Segment::columns`], past the cache, for who looks for damage.
    pub(crate) fn listing(&self, section: &Section, page: usize) -> Result<Arc<[ColumnInfo]>> {
        self.read_listing(&Origin::File, self.page(section, page)?)
    }

    fn read_listing(&self, origin: &Origin, page: &PageInfo) -> Result<Arc<[ColumnInfo]>> {
        match &page.listed {
            Some(columns) => Ok(Arc::clone(columns)),
            None => self.read(origin, page.listing, |bytes| Ok(listing::decode(bytes, page)?.into())),
        }
    }

    fn read_column(
        &self,
        origin: &Origin,
        page: &PageInfo,
        info: &ColumnInfo,
        dictionary: Option<&StrColumn>,
    ) -> Result<Column> {
        let decode = |bytes: &[u8]| codec::decode(info.kind, page.rows as usize, dictionary, bytes);
        let (values, valid): (Values, _) = self.read(origin, info.blob, decode)?;
        self.checked(info, values, valid)
    }

    fn read_presence(&self, origin: &Origin, page: &PageInfo, info: &ColumnInfo) -> Result<Column> {
        let rows = page.rows as usize;
        let valid = self.read(origin, info.blob, |bytes| codec::decode_validity(rows, bytes))?;
        self.checked(info, Values::Bool(vec![true; rows]), valid)
    }

    fn checked(&self, info: &ColumnInfo, values: Values, valid: Option<Vec<bool>>) -> Result<Column> {
        let nulls = valid.as_ref().map_or(0, |valid| valid.iter().filter(|valid| !**valid).count());
        if nulls != info.nulls as usize {
            return Err(self.damaged(info.blob, &format!("{nulls} nulls, {} expected", info.nulls)));
        }
        Ok(Column { key: info.key, values, valid })
    }

    fn dictionary(&self, section: &Section, key: ColumnKey) -> Result<Arc<StrColumn>> {
        let slot = self.slot(section, Part::Dictionary { key });
        if let Some(Entry::Dictionary(texts)) = self.cache.get(&slot) {
            return Ok(texts);
        }
        let Some(info) = section.dictionary(key) else {
            let message = format!("{}: field {} has no dictionary", self.path.display(), key.field.0);
            return Err(Error::corruption(message));
        };
        let texts = Arc::new(self.read_dictionary(info)?);
        self.cache.insert(slot, Entry::Dictionary(Arc::clone(&texts)));
        Ok(texts)
    }

    fn read_dictionary(&self, info: &DictionaryInfo) -> Result<StrColumn> {
        let decode = |bytes: &[u8]| texts::decode(bytes, info.texts as usize, dictionary::TEXT_BYTES_MAX);
        self.read(&Origin::File, info.blob, decode)
    }
}

/// Where the parts of a page are read.
enum Origin {
    /// Each from the file.
    File,
    /// From the bytes of the whole page.
    Page { start: u64, bytes: Vec<u8> },
}

/// What a job wants of the columns of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Texts {
    /// The texts.
    Whole,
    /// Which rows have one: the column is one of truth values.
    Presence,
}

/// Keys and listing of a page.
pub(crate) type PageHead = (Arc<PageKeys>, Arc<[ColumnInfo]>);

/// A decoded page.
#[derive(Debug)]
pub(crate) struct LoadedPage {
    pub(crate) keys: PageKeys,
    pub(crate) columns: Vec<Column>,
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.is_given_up.load(Ordering::Acquire)
            && let Err(error) = self.fs.remove(&self.path)
        {
            // Nothing names the file; the next start removes it.
            tracing::warn!(%error, "a segment that is not needed any more stays behind");
        }
    }
}

/// Reads header, trailer and footer, and tells where the footer begins.
fn read_footer(file: &dyn File) -> Result<(Footer, u64, SegmentSummary)> {
    let len = file.len()?;
    let Some(area_end) = len.checked_sub(TRAILER_BYTES).filter(|end| HEADER_BYTES <= *end) else {
        return Err(Error::corruption(format!("{len} bytes are no segment")));
    };
    let mut header = [0; HEADER_BYTES as usize];
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut header, 0)?;
    file.read_exact_at(&mut trailer, area_end)?;
    let mut reader = Reader::new(&trailer);
    let (footer_len, footer_crc) = (reader.u32()?, reader.u32()?);
    if !header.starts_with(MAGIC) || reader.rest() != MAGIC_END {
        return Err(Error::corruption("not a segment: the magic is missing"));
    }
    let footer_offset = area_end.checked_sub(u64::from(footer_len)).filter(|offset| HEADER_BYTES <= *offset);
    let Some(footer_offset) = footer_offset else {
        return Err(Error::corruption(format!("a footer of {footer_len} bytes in a file of {len}")));
    };
    let mut bytes = vec![0; footer_len as usize];
    file.read_exact_at(&mut bytes, footer_offset)?;
    let found = crc_of(&[&header, &bytes]);
    if found != footer_crc {
        return Err(Error::corruption(format!("footer checksum {found:08x}, {footer_crc:08x} expected")));
    }
    let mut reader = Reader::new(&header);
    reader.take(MAGIC.len())?;
    let version = reader.u16()?;
    // The checksum covers the version, so this is no damage but another writer.
    if !(VERSION_MIN..=VERSION).contains(&version) {
        let message = format!("segment format {version}, this version reads {VERSION_MIN} to {VERSION}");
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    let footer = Footer::decode(&bytes, HEADER_BYTES..footer_offset, version)
        .map_err(|error| error.context(format!("footer at offset {footer_offset}")))?;
    let summary = footer.summary(len, footer_crc);
    Ok((footer, footer_offset, summary))
}

fn decode_keys(bytes: &[u8], page: &PageInfo) -> Result<PageKeys> {
    let rows = page.rows as usize;
    let mut reader = Reader::new(bytes);
    let runs_count = reader.bounded(rows)?;
    let ids = take_numbers(&mut reader, runs_count)?;
    let lengths = take_numbers(&mut reader, runs_count)?;
    let ts_ns = take_times(&mut reader, rows)?;
    reader.finish()?;
    let mut series: Vec<(SeriesId, u32)> = Vec::with_capacity(runs_count);
    let (mut min_ts_ns, mut max_ts_ns) = (i64::MAX, i64::MIN);
    let mut start = 0usize;
    for (id, length) in ids.into_iter().zip(lengths) {
        let id = SeriesId(u32::try_from(id).map_err(|_| Error::corruption(format!("series id {id}")))?);
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let Some(end) = end.filter(|end| start < *end && *end <= rows) else {
            return Err(Error::corruption(format!("{length} rows of series {} do not fit", id.0)));
        };
        let times = ts_ns.get(start..end).unwrap_or_default();
        let is_sorted = times.is_sorted_by(|left, right| left < right);
        if !is_sorted || series.last().is_some_and(|(last, _)| id <= *last) {
            return Err(Error::corruption("rows are out of order"));
        }
        series.push((id, u32::try_from(end).unwrap_or(u32::MAX)));
        // They ascend.
        min_ts_ns = times.first().map_or(min_ts_ns, |first| min_ts_ns.min(*first));
        max_ts_ns = times.last().map_or(max_ts_ns, |last| max_ts_ns.max(*last));
        start = end;
    }
    let ends = (series.first().map(|(series, _)| *series), series.last().map(|(series, _)| *series));
    let found = (ends, min_ts_ns, max_ts_ns);
    let expected = ((Some(page.first_series), Some(page.last_series)), page.min_ts_ns, page.max_ts_ns);
    if start != rows || found != expected {
        return Err(Error::corruption("series and times of a page are not those of the index"));
    }
    Ok(PageKeys { series, ts_ns })
}

fn decode_series_ids(reader: &mut Reader<'_>, block: &SeriesBlock) -> Result<Vec<SeriesId>> {
    let count = block.count as usize;
    if SERIES_BLOCK < count {
        return Err(Error::corruption(format!("{count} series in a block")));
    }
    let id = |id| u32::try_from(id).map(SeriesId).map_err(|_| Error::corruption(format!("series id {id}")));
    take_numbers(reader, count)?.into_iter().map(id).collect()
}

fn decode_series(bytes: &[u8], block: &SeriesBlock, name: &str) -> Result<Vec<(SeriesId, Arc<SeriesKey>)>> {
    let mut reader = Reader::new(bytes);
    let ids = decode_series_ids(&mut reader, block)?;
    let keys = keys::decode(reader.rest(), ids.len())?;
    let mut series: Vec<(SeriesId, Arc<SeriesKey>)> = Vec::with_capacity(ids.len());
    for (index, id) in ids.into_iter().enumerate() {
        let key = SeriesKey::decode(keys.bytes_of(index).unwrap_or_default())?;
        if series.last().is_some_and(|(last, _)| id <= *last) || key.measurement() != name {
            return Err(Error::corruption(format!("series {} does not belong where it stands", id.0)));
        }
        series.push((id, Arc::new(key)));
    }
    Ok(series)
}
