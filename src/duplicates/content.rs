//! What an event says, in one form for rows that come and rows that are stored: names and values of its fields, sorted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use icecore_storage::model::batch::{Dialect, Field};
use icecore_storage::model::{ColumnKey, RowBlock, Schema, ValueRef};

use crate::ingest::stable_hash;

/// A fingerprint of what an event says: 128 bits under keys of this process, so that nobody can make two events with
/// the same one, and chance does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content(u64, u64);

/// Makes fingerprints.
#[derive(Debug, Default)]
pub(super) struct Reader(RandomState, RandomState);

impl Reader {
    pub(super) fn content(&self, text: &[u8]) -> Content {
        Content(self.0.hash_one(text), self.1.hash_one(text))
    }
}

/// The hash that chooses the digits: of the content and the time as it was sent. Written data depends on it.
pub(super) fn hash(text: &[u8], ts_ns: i64) -> u64 {
    stable_hash(&[text, &ts_ns.to_le_bytes()])
}

/// The content of a row that comes; of fields with one name the last counts, as in the engine. `None` when a name
/// cannot be decoded.
pub(super) fn of_row(dialect: &Dialect, fields: &[Field<'_>]) -> Option<Vec<u8>> {
    let mut sorted: BTreeMap<String, ValueRef<'_>> = BTreeMap::new();
    for field in fields {
        sorted.insert((dialect.field_name)(field.name).ok()?, field.value);
    }
    let mut text = Vec::with_capacity(32 * sorted.len());
    for (name, value) in sorted {
        push(&mut text, &name, &value, dialect);
    }
    Some(text)
}

/// The content of a stored row; the columns of the block are the fields of the schema.
pub(super) fn of_stored(schema: &Schema, block: &RowBlock, row: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(32 * schema.fields.len());
    for field in &schema.fields {
        let column = block.columns.iter().find(|column| column.key == ColumnKey::value(field.id));
        if let Some(value) = column.and_then(|column| column.value(row)) {
            push(&mut text, &field.name, &value.as_ref(), &icecore_storage::model::batch::CANONICAL);
        }
    }
    text
}

fn push(text: &mut Vec<u8>, name: &str, value: &ValueRef<'_>, dialect: &Dialect) {
    push_part(text, name.as_bytes());
    text.push(value.field_type() as u8);
    match value {
        ValueRef::Float(value) => push_part(text, &value.to_bits().to_le_bytes()),
        ValueRef::Int(value) => push_part(text, &value.to_le_bytes()),
        ValueRef::UInt(value) => push_part(text, &value.to_le_bytes()),
        ValueRef::Bool(value) => push_part(text, &[u8::from(*value)]),
        ValueRef::Str(value) => push_part(text, value.as_bytes()),
        ValueRef::Escaped(value) => {
            let mut plain = Vec::new();
            (dialect.unescape)(value, &mut plain);
            push_part(text, &Cow::from(plain));
        }
    }
}

fn push_part(text: &mut Vec<u8>, part: &[u8]) {
    text.extend_from_slice(&(part.len() as u64).to_le_bytes());
    text.extend_from_slice(part);
}
