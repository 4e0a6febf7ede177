//! What stands where in a segment: sections, pages, dictionaries, the series table; and the footer that says so. What
//! columns a page has says its `listing`. Knows bytes, not files. See `docs/format.md`, "Segment file".

#![warn(clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;

use super::dictionary::TEXTS_MAX;
use super::{PAGE_ROWS_MAX, VERSION_OF_KEPT, VERSION_OF_LISTINGS, listing};
use crate::codec::bytes::{Reader, put_len, put_slice, put_varint};
use crate::codec::{Encoding, Kind};
use crate::model::FieldInfo;
use crate::model::{ColumnKey, FieldId, FieldType, MeasurementId, SeriesId, Stat, StatSet};
use crate::{Error, Result};

/// Smallest encodings of the items of the footer's lists, to bound their counts by the bytes left.
const SECTION_BYTES_MIN: usize = 9;
const FIELD_BYTES_MIN: usize = 4;
const DICTIONARY_BYTES_MIN: usize = 6;
const SERIES_BLOCK_BYTES_MIN: usize = 3;
const PAGE_BYTES_MIN: usize = 28;
const PROPERTY_BYTES_MIN: usize = 2;

/// Size, checksum and extent of a segment; what the manifest remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSummary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Checksum of header and footer, which tells two segments apart.
    pub footer_crc: u32,
    /// Rows or cells.
    pub rows: u64,
    /// Earliest time; above `max_ts_ns` when there are no rows.
    pub min_ts_ns: i64,
    /// Latest time.
    pub max_ts_ns: i64,
}

/// A stretch of the file that ends with its own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Position in the file.
    pub offset: u64,
    /// Bytes, the checksum included.
    pub len: u32,
}

impl Blob {
    /// Position behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.len))
    }
}

/// One column of one page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColumnInfo {
    /// Which column.
    pub key: ColumnKey,
    /// Kind of its values.
    pub kind: Kind,
    /// Number of the encoding; see [`Encoding`].
    pub encoding: u8,
    /// Where it stands.
    pub blob: Blob,
    /// Rows without a value.
    pub nulls: u32,
    /// A number not above any value but NaN; NaN for texts, histograms, and where all values are NaN.
    pub min: f64,
    /// A number not below any value but NaN; NaN as for `min`.
    pub max: f64,
}

impl ColumnInfo {
    /// Whether it is one of codes into a dictionary.
    pub(crate) fn has_codes(&self) -> bool {
        self.encoding == Encoding::Codes as u8
    }
}

/// The column with this key among those of a page, which are sorted; `None` when no row of the page has a value in it.
pub(crate) fn find_column(columns: &[ColumnInfo], key: ColumnKey) -> Option<&ColumnInfo> {
    let index = columns.binary_search_by_key(&key, |column| column.key).ok()?;
    columns.get(index)
}

/// One page: up to [`PAGE_ROWS_MAX`] rows, sorted by series and time.
#[derive(Debug, Clone, PartialEq)]
pub struct PageInfo {
    /// Series of the first row.
    pub first_series: SeriesId,
    /// Series of the last row.
    pub last_series: SeriesId,
    /// Earliest time.
    pub min_ts_ns: i64,
    /// Latest time.
    pub max_ts_ns: i64,
    /// Number of rows.
    pub rows: u32,
    /// Where it begins: from here to the keys its columns stand one behind the other. That of the keys in files before
    /// format 3.
    pub(crate) start: u64,
    /// Where series and times stand.
    pub keys: Blob,
    /// Where the columns are listed that have a value in some row: behind the keys. Nothing in files before format 3.
    pub(crate) listing: Blob,
    /// The columns as the index of an older file lists them.
    pub(crate) listed: Option<Arc<[ColumnInfo]>>,
    /// Whether some column holds texts or histograms.
    pub(crate) is_heavy: bool,
}

/// The texts that the codes of a column stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DictionaryInfo {
    pub(crate) key: ColumnKey,
    pub(crate) texts: u32,
    pub(crate) blob: Blob,
}

/// A part of the series table: ids, ascending, and canonical keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeriesBlock {
    pub(crate) count: u32,
    pub(crate) blob: Blob,
}

/// The rows of one measurement.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// The measurement.
    pub measurement: MeasurementId,
    /// Its name.
    pub name: Arc<str>,
    /// Its fields as known when the segment was written; of cells those that have a value in it.
    pub fields: Vec<FieldInfo>,
    /// For each field the groups of statistics that its cells keep; nothing in segments of rows.
    pub kept: Vec<StatSet>,
    /// The pages, in order of series and time.
    pub pages: Vec<PageInfo>,
    /// Number of rows.
    pub rows: u64,
    /// Earliest time.
    pub min_ts_ns: i64,
    /// Latest time.
    pub max_ts_ns: i64,
    pub(crate) dictionaries: Vec<DictionaryInfo>,
    pub(crate) series_blocks: Vec<SeriesBlock>,
}

impl Section {
    /// A section without rows.
    pub(crate) fn empty(measurement: MeasurementId, name: Arc<str>, fields: Vec<FieldInfo>) -> Self {
        Self {
            measurement,
            name,
            kept: vec![StatSet::COUNT; fields.len()],
            fields,
            pages: Vec::new(),
            rows: 0,
            min_ts_ns: i64::MAX,
            max_ts_ns: i64::MIN,
            dictionaries: Vec::new(),
            series_blocks: Vec::new(),
        }
    }

    /// Adds a page and counts its rows.
    pub(crate) fn add(&mut self, page: PageInfo) {
        self.rows += u64::from(page.rows);
        self.min_ts_ns = self.min_ts_ns.min(page.min_ts_ns);
        self.max_ts_ns = self.max_ts_ns.max(page.max_ts_ns);
        self.pages.push(page);
    }

    /// Number of series.
    pub fn series_count(&self) -> u64 {
        self.series_blocks.iter().map(|block| u64::from(block.count)).sum()
    }

    /// The pages that may hold rows of `series`.
    pub fn pages_of(&self, series: SeriesId) -> Range<usize> {
        let start = self.pages.partition_point(|page| page.last_series < series);
        let end = self.pages.partition_point(|page| page.first_series <= series);
        start..end.max(start)
    }

    /// A field, and which groups of statistics its cells keep.
    pub fn field(&self, id: FieldId) -> Option<(&FieldInfo, StatSet)> {
        let mut fields = self.fields.iter().zip(&self.kept);
        fields.find(|(info, _)| info.id == id).map(|(info, kept)| (info, *kept))
    }

    /// Where the dictionary of a column stands.
    pub(crate) fn dictionary(&self, key: ColumnKey) -> Option<&DictionaryInfo> {
        self.dictionaries.iter().find(|dictionary| dictionary.key == key)
    }

    /// How many texts the dictionary of a column has; 0 where there is none.
    pub(crate) fn text_count(&self, key: ColumnKey) -> u32 {
        self.dictionary(key).map_or(0, |dictionary| dictionary.texts)
    }
}

/// All that is known of a segment without reading its pages.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Footer {
    pub(crate) sections: Vec<Section>,
    pub(crate) properties: Vec<(Box<str>, Vec<u8>)>,
}

impl Footer {
    /// The footer's bytes, without checksum.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_len(&mut out, self.sections.len());
        for section in &self.sections {
            put_section(&mut out, section);
        }
        put_len(&mut out, self.properties.len());
        for (name, value) in &self.properties {
            put_slice(&mut out, name.as_bytes());
            put_slice(&mut out, value);
        }
        out
    }

    /// Reads a footer; all blobs must lie in `area` of the file.
    pub(crate) fn decode(bytes: &[u8], area: Range<u64>, version: u16) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut footer = Self::default();
        for _ in 0..reader.count(SECTION_BYTES_MIN)? {
            let section = take_section(&mut reader, &area, version)?;
            let last = footer.sections.last();
            if last.is_some_and(|last| section.measurement <= last.measurement) {
                return Err(Error::corruption("measurements are out of order"));
            }
            footer.sections.push(section);
        }
        for _ in 0..reader.count(PROPERTY_BYTES_MIN)? {
            footer.properties.push((reader.text()?.into(), reader.slice()?.to_vec()));
        }
        reader.finish()?;
        Ok(footer)
    }

    /// What the manifest remembers.
    pub(crate) fn summary(&self, bytes: u64, footer_crc: u32) -> SegmentSummary {
        let sections = || self.sections.iter();
        SegmentSummary {
            bytes,
            footer_crc,
            rows: sections().map(|section| section.rows).sum(),
            min_ts_ns: sections().map(|section| section.min_ts_ns).min().unwrap_or(i64::MAX),
            max_ts_ns: sections().map(|section| section.max_ts_ns).max().unwrap_or(i64::MIN),
        }
    }
}

fn put_blob(out: &mut Vec<u8>, blob: Blob) {
    put_varint(out, blob.offset);
    put_varint(out, u64::from(blob.len));
}

pub(super) fn take_blob(reader: &mut Reader<'_>, area: &Range<u64>) -> Result<Blob> {
    let blob = Blob { offset: reader.varint()?, len: reader.varint_u32()? };
    let end = blob.offset.checked_add(u64::from(blob.len));
    if blob.offset < area.start || end.is_none_or(|end| area.end < end) {
        let Range { start, end } = area;
        return Err(Error::corruption(format!("{blob:?} lies outside of {start}..{end}")));
    }
    Ok(blob)
}

pub(super) fn put_key(out: &mut Vec<u8>, key: ColumnKey) {
    out.extend_from_slice(&key.field.0.to_le_bytes());
    out.push(key.stat as u8);
}

pub(super) fn take_key(reader: &mut Reader<'_>) -> Result<ColumnKey> {
    let (field, stat) = (FieldId(reader.u16()?), reader.u8()?);
    let unknown = || Error::corruption(format!("unknown statistic {stat}"));
    Ok(ColumnKey { field, stat: Stat::from_u8(stat).ok_or_else(unknown)? })
}

fn type_of(number: u8) -> Result<FieldType> {
    let unknown = || Error::corruption(format!("unknown field type {number}"));
    FieldType::from_u8(number).ok_or_else(unknown)
}

/// What cells kept before files told.
fn kept_before(field_type: FieldType) -> StatSet {
    match field_type {
        FieldType::Float | FieldType::Int | FieldType::UInt => StatSet::NUMBERS.with(StatSet::HIST),
        FieldType::Bool => StatSet::NUMBERS,
        FieldType::Str => StatSet::COUNT,
    }
}

fn take_kept(reader: &mut Reader<'_>) -> Result<StatSet> {
    let bits = reader.u8()?;
    StatSet::from_bits(bits)
        .ok_or_else(|| Error::corruption(format!("impossible groups of statistics {bits}")))
}

fn put_section(out: &mut Vec<u8>, section: &Section) {
    out.extend_from_slice(&section.measurement.0.to_le_bytes());
    put_slice(out, section.name.as_bytes());
    put_len(out, section.fields.len());
    for (field, kept) in section.fields.iter().zip(&section.kept) {
        out.extend_from_slice(&field.id.0.to_le_bytes());
        out.push(field.field_type as u8);
        out.push(kept.bits());
        put_slice(out, field.name.as_bytes());
    }
    put_len(out, section.dictionaries.len());
    for dictionary in &section.dictionaries {
        put_key(out, dictionary.key);
        put_varint(out, u64::from(dictionary.texts));
        put_blob(out, dictionary.blob);
    }
    put_len(out, section.series_blocks.len());
    for block in &section.series_blocks {
        put_varint(out, u64::from(block.count));
        put_blob(out, block.blob);
    }
    put_len(out, section.pages.len());
    for page in &section.pages {
        put_page(out, page);
    }
}

fn take_section(reader: &mut Reader<'_>, area: &Range<u64>, version: u16) -> Result<Section> {
    let measurement = MeasurementId(reader.u32()?);
    let name = reader.text()?.into();
    let (mut fields, mut all_kept) = (Vec::new(), Vec::new());
    for _ in 0..reader.count(FIELD_BYTES_MIN)? {
        let (id, field_type) = (FieldId(reader.u16()?), type_of(reader.u8()?)?);
        let kept = if version < VERSION_OF_KEPT { kept_before(field_type) } else { take_kept(reader)? };
        all_kept.push(kept);
        fields.push(FieldInfo { id, name: reader.text()?.into(), field_type });
    }
    let mut section = Section { kept: all_kept, ..Section::empty(measurement, name, fields) };
    for _ in 0..reader.count(DICTIONARY_BYTES_MIN)? {
        let (key, texts) = (take_key(reader)?, reader.varint_u32()?);
        if TEXTS_MAX < texts as usize {
            return Err(Error::corruption(format!("a dictionary of {texts} texts")));
        }
        section.dictionaries.push(DictionaryInfo { key, texts, blob: take_blob(reader, area)? });
    }
    for _ in 0..reader.count(SERIES_BLOCK_BYTES_MIN)? {
        let count = reader.varint_u32()?;
        section.series_blocks.push(SeriesBlock { count, blob: take_blob(reader, area)? });
    }
    for _ in 0..reader.count(PAGE_BYTES_MIN)? {
        let page = take_page(reader, area, version)?;
        if section.pages.last().is_some_and(|last| page.first_series < last.last_series) {
            return Err(Error::corruption("pages are out of order"));
        }
        section.add(page);
    }
    Ok(section)
}

fn put_page(out: &mut Vec<u8>, page: &PageInfo) {
    out.extend_from_slice(&page.first_series.0.to_le_bytes());
    out.extend_from_slice(&page.last_series.0.to_le_bytes());
    out.extend_from_slice(&page.min_ts_ns.to_le_bytes());
    out.extend_from_slice(&page.max_ts_ns.to_le_bytes());
    put_varint(out, u64::from(page.rows));
    put_varint(out, page.start);
    put_blob(out, page.keys);
    put_varint(out, u64::from(page.listing.len));
    out.push(u8::from(page.is_heavy));
}

fn take_page(reader: &mut Reader<'_>, area: &Range<u64>, version: u16) -> Result<PageInfo> {
    let (first_series, last_series) = (SeriesId(reader.u32()?), SeriesId(reader.u32()?));
    let (min_ts_ns, max_ts_ns) = (reader.i64()?, reader.i64()?);
    let rows = reader.varint_u32()?;
    if rows == 0 || PAGE_ROWS_MAX < rows as usize || last_series < first_series || max_ts_ns < min_ts_ns {
        return Err(Error::corruption(format!("a page of {rows} rows has impossible bounds")));
    }
    let is_listed = version < VERSION_OF_LISTINGS;
    let start = if is_listed { None } else { Some(reader.varint()?) };
    let keys = take_blob(reader, area)?;
    let mut page = PageInfo {
        first_series,
        last_series,
        min_ts_ns,
        max_ts_ns,
        rows,
        start: start.unwrap_or(keys.offset),
        keys,
        listing: Blob { offset: keys.end(), len: 0 },
        listed: None,
        is_heavy: false,
    };
    if is_listed {
        let columns = listing::take_from_index(reader, area, rows)?;
        page.is_heavy = columns.iter().any(|column| column.kind.is_heavy());
        page.listed = Some(columns);
        return Ok(page);
    }
    page.listing.len = reader.varint_u32()?;
    page.is_heavy = match reader.u8()? {
        0 => false,
        1 => true,
        other => return Err(Error::corruption(format!("a page is heavy by {other}"))),
    };
    if page.start < area.start || keys.offset < page.start || area.end < page.listing.end() {
        return Err(Error::corruption(format!("a page lies outside of {}..{}", area.start, area.end)));
    }
    Ok(page)
}
