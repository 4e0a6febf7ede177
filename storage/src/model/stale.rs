//! Stale markers: the NaN of these bits says that a series has ended, until its next sample.
//!
//! A marker is no sample, so no count, sum or cell may take it for one. A row keeps it as a truth value of a field of its
//! own, beside the others: cells of that field say when the last marker was, from every layer.

use super::batch::{Field, WriteBatch};
use super::value::ValueRef;

/// The bits of the marker.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The marker.
pub const STALE_MARKER: f64 = f64::from_bits(STALE_BITS);

/// The field whose presence in a row says that the series ended at its time.
pub const STALE_FIELD: &str = "__stale__";

/// Whether a number is the marker.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

impl<'a> WriteBatch<'a> {
    /// Pushes a number for the next row; of the marker, that the series ended. Every way in that can carry the marker
    /// must come here.
    pub fn push_number(&mut self, name: &'a [u8], value: f64) {
        self.fields.push(match is_stale(value) {
            true => Field { name: STALE_FIELD.as_bytes(), value: ValueRef::Bool(true) },
            false => Field { name, value: ValueRef::Float(value) },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::batch::CANONICAL;

    #[test]
    fn push_number_of_the_marker_is_no_number() {
        let mut batch = WriteBatch::new(&CANONICAL);
        batch.push_number(b"value", f64::from_bits(STALE_BITS));
        batch.push_number(b"value", f64::NAN);
        let [ended, number] = batch.fields.as_slice() else { panic!("two fields") };
        assert_eq!((ended.name, ended.value), (STALE_FIELD.as_bytes(), ValueRef::Bool(true)));
        assert!(number.name == b"value" && matches!(number.value, ValueRef::Float(value) if value.is_nan()));
    }
}
