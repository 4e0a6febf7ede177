//! Rows on their way in: what a decoder of some text form hands to the engine without copying the text.
//!
//! A batch borrows series keys, field names and strings from the request body as they stand there; only when the
//! engine meets a key it does not know does it ask the batch's [`Dialect`] to decode it. So the common case costs
//! one hash of the raw bytes per row and no allocation.

use super::{SeriesKey, ValueRef};

/// How the raw bytes of one text form are decoded. One `static` per form.
#[derive(Debug)]
pub struct Dialect {
    /// Tells the raw bytes of different dialects apart in caches; unique.
    pub id: u8,
    /// Decodes a raw series key (measurement and tags).
    pub series_key: fn(&[u8]) -> Result<SeriesKey, String>,
    /// Decodes a raw field name.
    pub field_name: fn(&[u8]) -> Result<String, String>,
    /// Appends the plain text of a [`ValueRef::Escaped`].
    pub unescape: fn(&str, &mut Vec<u8>),
}

/// The dialect of canonical series keys ([`SeriesKey::encode`]) and plain names.
pub static CANONICAL: Dialect = Dialect {
    id: 0,
    series_key: |raw| SeriesKey::decode(raw).map_err(|error| error.to_string()),
    field_name: |raw| String::from_utf8(raw.to_vec()).map_err(|_| "field name is not UTF-8".to_owned()),
    unescape: |text, out| out.extend_from_slice(text.as_bytes()),
};

/// One row: a series, a timestamp and its fields.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Raw series key.
    pub key: &'a [u8],
    /// Nanoseconds UTC.
    pub ts_ns: i64,
    /// Number of the line or record in the request, from 1, for error messages.
    pub line: u32,
    /// End of the row's fields in [`WriteBatch::fields`]; they begin where the previous row's end.
    pub fields_end: u32,
}

/// One field of a row.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Raw field name.
    pub name: &'a [u8],
    /// The value.
    pub value: ValueRef<'a>,
}

/// Rows of one request, in arrival order.
#[derive(Debug)]
pub struct WriteBatch<'a> {
    /// How keys, names and escaped strings are decoded.
    pub dialect: &'static Dialect,
    /// The rows.
    pub rows: Vec<Row<'a>>,
    /// The fields of all rows, one row after the other.
    pub fields: Vec<Field<'a>>,
}

/// Why one row was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Number of the line or record in the request, from 1.
    pub line: u32,
    /// The reason, lowercase, with the limit or the two types where there is one; empty where so many rows were
    /// refused that only the first are described.
    pub reason: String,
}

impl<'a> WriteBatch<'a> {
    /// An empty batch.
    pub fn new(dialect: &'static Dialect) -> Self {
        Self { dialect, rows: Vec::new(), fields: Vec::new() }
    }

    /// Ends a row: the fields pushed since the previous row belong to it.
    pub fn push_row(&mut self, key: &'a [u8], ts_ns: i64, line: u32) {
        // A batch is bounded by the body limit (64 MiB of text), far below u32::MAX fields.
        let fields_end = u32::try_from(self.fields.len()).unwrap_or(u32::MAX);
        self.rows.push(Row { key, ts_ns, line, fields_end });
    }

    /// Each row with its fields.
    pub fn iter(&self) -> impl Iterator<Item = (&Row<'a>, &[Field<'a>])> {
        let mut start = 0;
        self.rows.iter().map(move |row| {
            let end = row.fields_end as usize;
            let fields = self.fields.get(start..end).unwrap_or_default();
            start = end;
            (row, fields)
        })
    }
}
