//! The listing of a page: which columns it has, how they are written and where. It stands in the page, behind the keys, so
//! that an open segment holds none of it in memory: rows of many fields, and cells of them, have hundreds of columns a page.
//! Before format 3 the index held it. Knows bytes, not files.

#![warn(clippy::indexing_slicing)]

use std::ops::Range;
use std::sync::Arc;

use super::layout::{Blob, ColumnInfo, PageInfo, put_key, take_blob, take_key};
use crate::codec::Kind;
use crate::codec::bytes::{Reader, put_len, put_varint};
use crate::model::{ColumnKey, Stat};
use crate::{Error, Result};

/// Smallest encodings of a column, to bound counts by the bytes left.
const COLUMN_BYTES_MIN: usize = 7;
const COLUMN_IN_INDEX_BYTES_MIN: usize = 24;

/// Appends the listing of columns that stand one behind the other, sorted by key.
pub(super) fn encode(columns: &[ColumnInfo], out: &mut Vec<u8>) {
    put_len(out, columns.len());
    for column in columns {
        put_key(out, column.key);
        out.push(column.kind as u8);
        out.push(column.encoding);
        put_varint(out, u64::from(column.blob.len));
        put_varint(out, u64::from(column.nulls));
        if has_bounds(column.key, column.kind) {
            out.extend_from_slice(&column.min.to_bits().to_le_bytes());
            out.extend_from_slice(&column.max.to_bits().to_le_bytes());
        }
    }
}

/// Reads the listing of a page.
///
/// # Errors
/// `Corruption` when it is not that of columns that stand between the start of the page and its keys.
pub(super) fn decode(bytes: &[u8], page: &PageInfo) -> Result<Vec<ColumnInfo>> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(COLUMN_BYTES_MIN)?;
    let mut columns: Vec<ColumnInfo> = Vec::with_capacity(count);
    let mut offset = page.start;
    for _ in 0..count {
        let (key, kind, encoding) = (take_key(&mut reader)?, take_kind(&mut reader)?, reader.u8()?);
        let (blob, nulls) = (Blob { offset, len: reader.varint_u32()? }, reader.varint_u32()?);
        let (min, max) = match has_bounds(key, kind) {
            true => (reader.f64()?, reader.f64()?),
            false => (f64::NAN, f64::NAN),
        };
        offset = blob.end();
        let column = ColumnInfo { key, kind, encoding, blob, nulls, min, max };
        if page.keys.offset < offset {
            return Err(Error::corruption("columns of a page reach beyond it"));
        }
        judge(&column, columns.last(), page.rows)?;
        columns.push(column);
    }
    reader.finish()?;
    if offset != page.keys.offset {
        return Err(Error::corruption(format!("columns of a page end at offset {offset}")));
    }
    Ok(columns)
}

/// Reads what the index of an older file lists of a page of so many rows.
pub(super) fn take_from_index(
    reader: &mut Reader<'_>,
    area: &Range<u64>,
    rows: u32,
) -> Result<Arc<[ColumnInfo]>> {
    let mut columns: Vec<ColumnInfo> = Vec::new();
    for _ in 0..reader.count(COLUMN_IN_INDEX_BYTES_MIN)? {
        let (key, kind, encoding) = (take_key(reader)?, take_kind(reader)?, reader.u8()?);
        let (blob, nulls) = (take_blob(reader, area)?, reader.varint_u32()?);
        let column = ColumnInfo { key, kind, encoding, blob, nulls, min: reader.f64()?, max: reader.f64()? };
        judge(&column, columns.last(), rows)?;
        columns.push(column);
    }
    Ok(columns.into())
}

/// Whether a column has bounds in the listing: those of cells would leave out no page.
pub(super) fn has_bounds(key: ColumnKey, kind: Kind) -> bool {
    key.stat == Stat::Value && !kind.is_heavy()
}

fn judge(column: &ColumnInfo, last: Option<&ColumnInfo>, rows: u32) -> Result<()> {
    if rows < column.nulls || last.is_some_and(|last| column.key <= last.key) {
        return Err(Error::corruption("columns of a page are out of order"));
    }
    Ok(())
}

fn take_kind(reader: &mut Reader<'_>) -> Result<Kind> {
    let kind = reader.u8()?;
    Kind::from_u8(kind).ok_or_else(|| Error::corruption(format!("unknown kind {kind} of column")))
}
