//! What a record says, as bytes: definitions of names, and rows as columns. Pure functions; knows nothing of
//! files, frames or sequence numbers. Layout: `docs/format.md`.
//!
//! A payload is an envelope (plain, or zstd with the plain length in front) around a body. Rows are written column
//! by column, integers as differences to the value before, so that zstd at its fastest level finds the rest.

#![warn(clippy::indexing_slicing)]

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use crate::codec::bytes::{Reader, put_slice, put_varint, put_zigzag};
use crate::codec::squeeze::can_hold;
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, RowBlock, SeriesId, SeriesKey, Stat, StrColumn,
    Values,
};
use crate::series::definition::Definition;
use crate::{Error, ErrorKind, Result};

/// Type number of [`Record::Definitions`].
pub const DEFINITIONS: u8 = 1;
/// Type number of [`Record::Rows`].
pub const ROWS: u8 = 2;
/// A payload is at most this long.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 20;
/// A payload is at most this long when decompressed.
pub const PLAIN_BYTES_MAX: usize = 256 << 20;

/// Shorter bodies are not worth compressing.
const ZSTD_BYTES_MIN: usize = 512;
const ZSTD_LEVEL: i32 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Stands for rows beyond the limits; never in a file, because [`check_size`] refuses it.
const OVERSIZE: u8 = u8::MAX;
/// Values and nulls of a record: a null takes a bit in the log and nine bytes in memory.
const CELLS_MAX: usize = 1 << 27;

const MEASUREMENT: u8 = 0;
const FIELD: u8 = 1;
const SERIES: u8 = 2;
const LEFT: u8 = 3;

/// A decoded record.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// New names, each after those it refers to.
    Definitions(Vec<Definition>),
    /// Rows of one client batch, by measurement.
    Rows(Vec<(MeasurementId, RowBlock)>),
}

/// Appends the payload of a definitions record.
pub fn encode_definitions(definitions: &[Definition], out: &mut Vec<u8>) {
    let mut plain = Vec::with_capacity(16 + 48 * definitions.len());
    put_varint(&mut plain, definitions.len() as u64);
    for definition in definitions {
        put_definition(&mut plain, definition);
    }
    seal(&plain, out);
}

/// Appends the payload of a rows record. Linear; about 5 ns a value before compression.
///
/// A batch beyond the limits becomes a payload that [`check_size`] refuses.
/// The columns hold field values ([`Stat::Value`]), one entry per row each; anything else is a bug and asserted.
pub fn encode_rows(blocks: &[(MeasurementId, RowBlock)], out: &mut Vec<u8>) {
    let cells: usize = blocks.iter().map(|(_, block)| block.len() * (block.columns.len() + 1)).sum();
    if CELLS_MAX < cells {
        out.push(OVERSIZE);
        return;
    }
    let mut plain = Vec::with_capacity(64 + 8 * cells);
    put_varint(&mut plain, blocks.len() as u64);
    for (measurement, block) in blocks {
        put_block(&mut plain, *measurement, block);
    }
    seal(&plain, out);
}

/// Reads a payload.
///
/// # Errors
/// `Corruption` when the bytes are not a record of this type.
pub fn decode(record_type: u8, payload: &[u8]) -> Result<Record> {
    let plain = open(payload)?;
    let mut reader = Reader::new(&plain);
    let record = match record_type {
        DEFINITIONS => Record::Definitions(take_definitions(&mut reader)?),
        ROWS => Record::Rows(take_blocks(&mut reader)?),
        other => return Err(Error::corruption(format!("record type {other} is not known"))),
    };
    reader.finish()?;
    Ok(record)
}

/// Checks that a payload is one that [`decode`] will take, so that nothing is acknowledged that cannot be replayed.
///
/// # Errors
/// `LimitExceeded` when it is too long, compressed or plain.
pub fn check_size(payload: &[u8]) -> Result<()> {
    let plain_bytes = match payload.split_first() {
        Some((&OVERSIZE, _)) => usize::MAX,
        Some((&ZSTD, rest)) => rest.first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize),
        _ => payload.len(),
    };
    if payload.len() <= PAYLOAD_BYTES_MAX && plain_bytes <= PLAIN_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "a batch is too large for the log: at most {PAYLOAD_BYTES_MAX} bytes, {PLAIN_BYTES_MAX} before compression \
         and {CELLS_MAX} values and nulls in one"
    );
    Err(Error::new(ErrorKind::LimitExceeded, message))
}

/// Puts a body in its envelope.
fn seal(plain: &[u8], out: &mut Vec<u8>) {
    if let Some(packed) = compress(plain) {
        out.push(ZSTD);
        // A longer body is refused by `check_size` before it reaches a file.
        out.extend_from_slice(&u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&packed);
    } else {
        out.push(PLAIN);
        out.extend_from_slice(plain);
    }
}

/// `None` when the body is short or does not get shorter; plain is always right, so a failure is no error.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        // A fresh compressor clears tables of some 100 KiB; requests are often smaller than that.
        static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    if plain.len() < ZSTD_BYTES_MIN {
        return None;
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let packed = slot.as_mut()?.compress(plain).ok()?;
        (packed.len() < plain.len()).then_some(packed)
    })
}

/// Takes a body out of its envelope.
fn open(payload: &[u8]) -> Result<Cow<'_, [u8]>> {
    let mut reader = Reader::new(payload);
    match reader.u8()? {
        PLAIN => Ok(Cow::Borrowed(reader.rest())),
        ZSTD => {
            let plain_bytes = reader.u32()? as usize;
            let packed = reader.rest();
            if PLAIN_BYTES_MAX < plain_bytes || !can_hold(packed, plain_bytes) {
                return Err(Error::corruption(format!("record of {plain_bytes} plain bytes is too long")));
            }
            let plain = zstd::bulk::decompress(packed, plain_bytes).map_err(Error::corruption)?;
            if plain.len() != plain_bytes {
                let message = format!("record has {} plain bytes, {plain_bytes} announced", plain.len());
                return Err(Error::corruption(message));
            }
            Ok(Cow::Owned(plain))
        }
        other => Err(Error::corruption(format!("record envelope {other} is not known"))),
    }
}

fn put_definition(out: &mut Vec<u8>, definition: &Definition) {
    match definition {
        Definition::Measurement { id, name } => {
            out.push(MEASUREMENT);
            put_varint(out, u64::from(id.0));
            put_slice(out, name.as_bytes());
        }
        Definition::Field { measurement, id, name, field_type } => {
            out.push(FIELD);
            put_varint(out, u64::from(measurement.0));
            put_varint(out, u64::from(id.0));
            put_slice(out, name.as_bytes());
            out.push(*field_type as u8);
        }
        Definition::Series { id, measurement, key } => {
            out.push(SERIES);
            put_varint(out, u64::from(id.0));
            put_varint(out, u64::from(measurement.0));
            let mut bytes = Vec::with_capacity(64);
            key.encode(&mut bytes);
            put_slice(out, &bytes);
        }
        Definition::Left { first, count } => {
            out.push(LEFT);
            put_varint(out, u64::from(first.0));
            put_varint(out, u64::from(*count));
        }
    }
}

fn take_definitions(reader: &mut Reader<'_>) -> Result<Vec<Definition>> {
    let count = reader.count(3)?;
    // Grows as entries prove real: an entry takes more memory than its shortest form on disk.
    let mut definitions = Vec::with_capacity(count.min(1 << 16));
    for _ in 0..count {
        definitions.push(match reader.u8()? {
            MEASUREMENT => Definition::Measurement {
                id: MeasurementId(take_id(reader)?),
                name: Arc::from(reader.text()?),
            },
            FIELD => Definition::Field {
                measurement: MeasurementId(take_id(reader)?),
                id: FieldId(take_id(reader)?),
                name: Arc::from(reader.text()?),
                field_type: field_type(reader.u8()?)?,
            },
            SERIES => Definition::Series {
                id: SeriesId(take_id(reader)?),
                measurement: MeasurementId(take_id(reader)?),
                key: Arc::new(SeriesKey::decode(reader.slice()?)?),
            },
            LEFT => Definition::Left { first: SeriesId(take_id(reader)?), count: take_id(reader)? },
            other => return Err(Error::corruption(format!("definition kind {other} is not known"))),
        });
    }
    Ok(definitions)
}

fn take_id<I: TryFrom<u64>>(reader: &mut Reader<'_>) -> Result<I> {
    let id = reader.varint()?;
    I::try_from(id).map_err(|_| Error::corruption(format!("id {id} is out of range")))
}

fn field_type(number: u8) -> Result<FieldType> {
    let unknown = || Error::corruption(format!("field type {number} is not known"));
    FieldType::from_u8(number).ok_or_else(unknown)
}

fn put_block(out: &mut Vec<u8>, measurement: MeasurementId, block: &RowBlock) {
    assert_eq!(block.series.len(), block.ts_ns.len(), "a row has a series and a time");
    put_varint(out, u64::from(measurement.0));
    put_varint(out, block.len() as u64);
    put_varint(out, block.columns.len() as u64);
    let mut last = 0;
    for series in &block.series {
        put_zigzag(out, i64::from(series.0) - last);
        last = i64::from(series.0);
    }
    let mut last = 0;
    for ts_ns in &block.ts_ns {
        put_zigzag(out, ts_ns.wrapping_sub(last));
        last = *ts_ns;
    }
    for column in &block.columns {
        put_column(out, column, block.len());
    }
}

fn take_blocks(reader: &mut Reader<'_>) -> Result<Vec<(MeasurementId, RowBlock)>> {
    let count = reader.count(3)?;
    let mut cells_left = CELLS_MAX;
    let mut blocks = Vec::with_capacity(count.min(1 << 10));
    for _ in 0..count {
        let measurement = MeasurementId(take_id(reader)?);
        blocks.push((measurement, take_block(reader, &mut cells_left)?));
    }
    Ok(blocks)
}

fn take_block(reader: &mut Reader<'_>, cells_left: &mut usize) -> Result<RowBlock> {
    let row_count = reader.varint()?;
    let column_count = reader.count(3)?;
    // A row takes a byte for its series and one for its time.
    let rows = reader.count_of(row_count, 2)?;
    let cells = rows.checked_mul(column_count + 1);
    let Some(rest) = cells.and_then(|cells| cells_left.checked_sub(cells)) else {
        return Err(Error::corruption(format!("record has more than {CELLS_MAX} values and nulls")));
    };
    *cells_left = rest;
    let mut block =
        RowBlock { series: Vec::with_capacity(rows), ts_ns: Vec::with_capacity(rows), columns: Vec::new() };
    let mut last = 0_i64;
    for _ in 0..rows {
        last = last.wrapping_add(reader.zigzag()?);
        let id = u32::try_from(last)
            .map_err(|_| Error::corruption(format!("series id {last} is out of range")))?;
        block.series.push(SeriesId(id));
    }
    let mut last = 0_i64;
    for _ in 0..rows {
        last = last.wrapping_add(reader.zigzag()?);
        block.ts_ns.push(last);
    }
    for _ in 0..column_count {
        block.columns.push(take_column(reader, rows)?);
    }
    Ok(block)
}

/// Field, type, validity, then the values of the rows that have one.
fn put_column(out: &mut Vec<u8>, column: &Column, rows: usize) {
    assert_eq!(column.key.stat, Stat::Value, "the log holds field values");
    assert_eq!(column.values.len(), rows, "a column has one entry per row");
    put_varint(out, u64::from(column.key.field.0));
    let field_type = match &column.values {
        Values::F64(_) => FieldType::Float,
        Values::I64(_) => FieldType::Int,
        Values::U64(_) => FieldType::UInt,
        Values::Bool(_) => FieldType::Bool,
        Values::Str(_) => FieldType::Str,
        Values::Hist(_) | Values::Uniques(_) => unreachable!("a field value is no statistic"),
    };
    out.push(field_type as u8);
    let valid = column.valid.as_deref();
    if let Some(valid) = valid {
        assert_eq!(valid.len(), rows, "a column says of each row whether it has a value");
        out.push(1);
        put_bits(out, valid.iter().copied());
    } else {
        out.push(0);
    }
    match &column.values {
        Values::F64(values) => {
            for value in present(values, valid) {
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Values::I64(values) => put_deltas(out, present(values, valid).copied()),
        Values::U64(values) => put_deltas(out, present(values, valid).map(|value| value.cast_signed())),
        Values::Bool(values) => put_bits(out, present(values, valid).copied()),
        Values::Str(texts) => {
            let rows =
                (0..rows).filter(|row| valid.is_none_or(|valid| valid.get(*row).copied().unwrap_or(false)));
            for row in rows {
                put_slice(out, texts.bytes_of(row).unwrap_or_default());
            }
        }
        Values::Hist(_) | Values::Uniques(_) => {}
    }
}

/// The entries of the rows that have a value.
fn present<'a, V>(values: &'a [V], valid: Option<&'a [bool]>) -> impl Iterator<Item = &'a V> {
    let mut valid = valid.map(<[bool]>::iter);
    values.iter().filter(move |_| valid.as_mut().is_none_or(|valid| valid.next().copied().unwrap_or(false)))
}

fn put_deltas(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    let mut last = 0_i64;
    for value in values {
        put_zigzag(out, value.wrapping_sub(last));
        last = value;
    }
}

fn put_bits(out: &mut Vec<u8>, bits: impl Iterator<Item = bool>) {
    let (mut byte, mut count) = (0_u8, 0_u32);
    for bit in bits {
        byte |= u8::from(bit) << count;
        count += 1;
        if count == 8 {
            out.push(byte);
            (byte, count) = (0, 0);
        }
    }
    if 0 < count {
        out.push(byte);
    }
}

fn take_bits(reader: &mut Reader<'_>, count: usize) -> Result<Vec<bool>> {
    let bytes = reader.take(count.div_ceil(8))?;
    let bits = bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1));
    Ok(bits.take(count).collect())
}

fn take_column(reader: &mut Reader<'_>, rows: usize) -> Result<Column> {
    let key = ColumnKey::value(FieldId(take_id(reader)?));
    let field_type = field_type(reader.u8()?)?;
    let valid = match reader.u8()? {
        0 => None,
        1 => Some(take_bits(reader, rows)?),
        other => return Err(Error::corruption(format!("validity {other} is not known"))),
    };
    let valid_count = valid.as_ref().map_or(rows, |valid| valid.iter().filter(|is_valid| **is_valid).count());
    let plan = Plan { rows, valid: valid.as_deref() };
    let values = match field_type {
        FieldType::Float => {
            reader.count_of(valid_count as u64, 8)?;
            Values::F64(plan.collect(|| reader.f64())?)
        }
        FieldType::Int => {
            reader.count_of(valid_count as u64, 1)?;
            Values::I64(plan.collect(deltas(reader))?)
        }
        FieldType::UInt => {
            reader.count_of(valid_count as u64, 1)?;
            let mut next = deltas(reader);
            Values::U64(plan.collect(|| Ok(next()?.cast_unsigned()))?)
        }
        FieldType::Bool => {
            let mut bits = take_bits(reader, valid_count)?.into_iter();
            Values::Bool(plan.collect(|| Ok(bits.next().unwrap_or_default()))?)
        }
        FieldType::Str => Values::Str(take_texts(reader, plan)?),
    };
    Ok(Column { key, values, valid })
}

fn deltas<'c>(reader: &'c mut Reader<'_>) -> impl FnMut() -> Result<i64> + 'c {
    let mut last = 0_i64;
    move || {
        last = last.wrapping_add(reader.zigzag()?);
        Ok(last)
    }
}

fn take_texts(reader: &mut Reader<'_>, plan: Plan<'_>) -> Result<StrColumn> {
    let mut texts = StrColumn::default();
    for row in 0..plan.rows {
        if plan.has(row) {
            texts.push(reader.text()?);
        } else {
            texts.end_text();
        }
    }
    Ok(texts)
}

/// Which rows of a column have a value.
#[derive(Debug, Clone, Copy)]
struct Plan<'a> {
    rows: usize,
    valid: Option<&'a [bool]>,
}

impl Plan<'_> {
    fn has(&self, row: usize) -> bool {
        self.valid.is_none_or(|valid| valid.get(row).copied().unwrap_or(false))
    }

    /// One entry per row: the next value where there is one, a default elsewhere.
    fn collect<V: Default>(&self, mut next: impl FnMut() -> Result<V>) -> Result<Vec<V>> {
        let mut values = Vec::with_capacity(self.rows);
        for row in 0..self.rows {
            values.push(if self.has(row) { next()? } else { V::default() });
        }
        Ok(values)
    }
}
