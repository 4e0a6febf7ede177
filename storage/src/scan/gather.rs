//! Gathers the raw samples of one series and field in some ranges of time, merged over all sources. Sources are
//! given oldest first; at equal times the later source wins.

use std::ops::Range;

use super::Meter;
use super::source::{Cursor, Slice};
use crate::model::{Column, FieldType, NO_SLOT, SeriesId, Slots, StatSet, StrColumn, TimeRange, Values};
use crate::{Error, Result};

/// Values of samples in the type of their field.
#[derive(Debug)]
pub(crate) enum SampleValues {
    /// Those of a field of any type of numbers.
    AsFloats(FieldType, Vec<f64>),
    Float(Vec<f64>),
    Int(Vec<i64>),
    UInt(Vec<u64>),
    Bool(Vec<bool>),
    Text(StrColumn),
}

/// Samples of one series and field, ascending and unique in time.
#[derive(Debug)]
pub(crate) struct Samples {
    /// Whether texts are kept; else they are only counted.
    keeps_texts: bool,
    pub(crate) ts_ns: Vec<i64>,
    pub(crate) values: SampleValues,
}

impl Samples {
    pub(crate) fn new(field_type: FieldType, wants: StatSet) -> Self {
        let values = match field_type {
            FieldType::Float => SampleValues::Float(Vec::new()),
            FieldType::Int => SampleValues::Int(Vec::new()),
            FieldType::UInt => SampleValues::UInt(Vec::new()),
            FieldType::Bool => SampleValues::Bool(Vec::new()),
            FieldType::Str => SampleValues::Text(StrColumn::default()),
        };
        let keeps_texts = wants.has(StatSet::ENDS) || wants.has(StatSet::UNIQUES);
        Self { keeps_texts, ts_ns: Vec::new(), values }
    }

    /// Values become floats as they are taken over.
    pub(crate) fn as_floats(field_type: FieldType) -> Self {
        let values = SampleValues::AsFloats(field_type, Vec::new());
        Self { keeps_texts: false, ts_ns: Vec::new(), values }
    }

    /// Bytes of texts that are kept, with those of a slice.
    fn text_bytes(&self, slice: &Slice<'_>) -> u64 {
        let SampleValues::Text(kept) = &self.values else { return 0 };
        let Some(Values::Str(texts)) = slice.column(0).map(|column| &column.values) else { return 0 };
        let new: usize =
            if self.keeps_texts { slice.rows.clone().map(|row| texts.get(row).len()).sum() } else { 0 };
        (kept.bytes.len() + new) as u64
    }

    fn clear(&mut self) {
        self.ts_ns.clear();
        match &mut self.values {
            SampleValues::AsFloats(_, values) | SampleValues::Float(values) => values.clear(),
            SampleValues::Int(values) => values.clear(),
            SampleValues::UInt(values) => values.clear(),
            SampleValues::Bool(values) => values.clear(),
            SampleValues::Text(texts) => {
                texts.bytes.clear();
                texts.ends.clear();
            }
        }
    }

    /// The values; none where they are something else.
    pub(crate) fn floats(&self) -> &[f64] {
        match &self.values {
            SampleValues::AsFloats(_, values) | SampleValues::Float(values) => values,
            _ => &[],
        }
    }

    /// Adds the samples `rows` to a slot of the same type.
    pub(crate) fn add_to(&self, slots: &mut Slots, slot: usize, rows: Range<usize>) {
        let Some(ts_ns) = self.ts_ns.get(rows.clone()) else { return };
        let place = u32::try_from(slot).unwrap_or(NO_SLOT);
        macro_rules! add {
            ($tallies:expr, $values:expr, $number:expr) => {
                $tallies.add(place, (ts_ns, $values.get(rows).unwrap_or_default()), None, $number)
            };
        }
        match (slots, &self.values) {
            (Slots::Float(tallies), SampleValues::Float(values)) => add!(tallies, values, |number| number),
            (Slots::Int(tallies), SampleValues::Int(values)) => add!(tallies, values, |number| number),
            (Slots::UInt(tallies), SampleValues::UInt(values)) => add!(tallies, values, |number| number),
            (Slots::UInt(tallies), SampleValues::Bool(flags)) => add!(tallies, flags, u64::from),
            (Slots::Text(wants, slots), SampleValues::Text(texts)) => {
                let Some(stats) = slots.get_mut(slot) else { return };
                ts_ns.iter().zip(rows).for_each(|(ts, row)| stats.add(*ts, texts.get(row), *wants));
            }
            _ => debug_assert!(false, "slots and samples of one field have one type"),
        }
    }

    /// Takes over the valid values of a slice.
    fn take(&mut self, slice: &Slice<'_>) -> Result<()> {
        let Some(column) = slice.column(0) else { return Ok(()) };
        let ts_ns = &mut self.ts_ns;
        match (&mut self.values, &column.values) {
            (
                SampleValues::Float(into) | SampleValues::AsFloats(FieldType::Float, into),
                Values::F64(from),
            ) => extend(ts_ns, into, slice, column, from, |value| value),
            (SampleValues::Int(into), Values::I64(from)) => {
                extend(ts_ns, into, slice, column, from, |value| value)
            }
            (SampleValues::UInt(into), Values::U64(from)) => {
                extend(ts_ns, into, slice, column, from, |value| value)
            }
            (SampleValues::Bool(into), Values::Bool(from)) => {
                extend(ts_ns, into, slice, column, from, |value| value)
            }
            (SampleValues::AsFloats(FieldType::Int, into), Values::I64(from)) => {
                extend(ts_ns, into, slice, column, from, |value| value as f64)
            }
            (SampleValues::AsFloats(FieldType::UInt, into), Values::U64(from)) => {
                extend(ts_ns, into, slice, column, from, |value| value as f64)
            }
            (SampleValues::AsFloats(FieldType::Bool, into), Values::Bool(from)) => {
                extend(ts_ns, into, slice, column, from, |value| f64::from(u8::from(value)))
            }
            (SampleValues::Text(into), Values::Str(from)) => {
                for (row, ts_ns) in
                    slice.rows.clone().zip(slice.ts_ns).filter(|(row, _)| column.is_valid(*row))
                {
                    self.ts_ns.push(*ts_ns);
                    into.push(if self.keeps_texts { from.get(row) } else { "" });
                }
            }
            _ => return Err(Error::corruption("a column has another type than its field")),
        }
        Ok(())
    }

    /// Restores order after the values of a later source were appended at `start`: sorted and unique by time, the
    /// later value of equal times wins.
    fn settle(&mut self, start: usize) {
        let joins = start == 0 || self.ts_ns.get(start - 1) < self.ts_ns.get(start);
        if start == self.ts_ns.len() || joins {
            return;
        }
        let mut order: Vec<usize> = (0..self.ts_ns.len()).collect();
        order.sort_by_key(|index| self.ts_ns.get(*index).copied());
        let is_last_of_time = |place: &usize| {
            let ts_at = |place: usize| order.get(place).and_then(|index| self.ts_ns.get(*index));
            ts_at(*place) != ts_at(*place + 1)
        };
        let kept: Vec<usize> =
            (0..order.len()).filter(is_last_of_time).filter_map(|place| order.get(place).copied()).collect();
        self.ts_ns = pick(&self.ts_ns, &kept);
        match &mut self.values {
            SampleValues::AsFloats(_, values) | SampleValues::Float(values) => *values = pick(values, &kept),
            SampleValues::Int(values) => *values = pick(values, &kept),
            SampleValues::UInt(values) => *values = pick(values, &kept),
            SampleValues::Bool(values) => *values = pick(values, &kept),
            SampleValues::Text(texts) => {
                let mut picked = StrColumn::default();
                kept.iter().for_each(|index| picked.push(texts.get(*index)));
                *texts = picked;
            }
        }
    }
}

fn pick<T: Copy>(values: &[T], kept: &[usize]) -> Vec<T> {
    kept.iter().filter_map(|index| values.get(*index).copied()).collect()
}

/// Appends the times and values of a slice, these as `convert` makes them.
fn extend<T: Copy, V>(
    ts_ns: &mut Vec<i64>,
    into: &mut Vec<V>,
    slice: &Slice<'_>,
    column: &Column,
    from: &[T],
    convert: impl Fn(T) -> V,
) {
    let Some(values) = from.get(slice.rows.clone()) else { return };
    match column.valid.as_ref().and_then(|valid| valid.get(slice.rows.clone())) {
        None => {
            ts_ns.extend_from_slice(slice.ts_ns);
            into.extend(values.iter().copied().map(convert));
        }
        Some(valid) => {
            for ((ts, value), _) in
                slice.ts_ns.iter().zip(values).zip(valid).filter(|(_, is_valid)| **is_valid)
            {
                ts_ns.push(*ts);
                into.push(convert(*value));
            }
        }
    }
}

/// What a sample takes: its time and value, twice while they are sorted or handed over.
const SAMPLE_BYTES: u64 = 32;

/// Gathers the samples of a series in disjoint, ascending ranges, replacing what `samples` held.
pub(crate) fn samples(
    cursors: &mut [Cursor<'_>],
    series: SeriesId,
    ranges: &[TimeRange],
    samples: &mut Samples,
    meter: &dyn Meter,
) -> Result<()> {
    samples.clear();
    for cursor in cursors {
        let start = samples.ts_ns.len();
        for range in ranges {
            cursor.read(series, *range, &mut |slice| {
                let rows = (samples.ts_ns.len() + slice.ts_ns.len()) as u64;
                // Texts stand there twice while samples of two sources are sorted.
                meter.buffers(rows * SAMPLE_BYTES + 2 * samples.text_bytes(slice))?;
                samples.take(slice)
            })?;
        }
        samples.settle(start);
    }
    Ok(())
}
