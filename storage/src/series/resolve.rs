//! Rows of a batch to columns with ids, one block per measurement.
//!
//! Two paths. Most rows are of known series, and have the fields of the row before them: their raw bytes are
//! compared and the values pushed. Any other row is decoded, judged as a whole, and what it defines is added under
//! the write lock. A row that fails is reported with its line; the others are kept. Order of events for a row: time,
//! key, fields, types, values; nothing is pushed or defined before all checks have passed.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Catalog;
use super::digest::Digest;
use super::state::{KnownSeries, Measurement, RowNames, State};
use crate::model::batch::{Dialect, Field, Row};
use crate::model::{
    Column, ColumnKey, FieldId, FieldType, MeasurementId, RowBlock, RowError, SeriesId, SeriesKey,
    TIMESTAMP_MAX, TIMESTAMP_MIN, TimeRange, ValueRef, Values, WriteBatch,
};
use crate::rows::pad_nulls;

/// Longer field names do not fit into the log and catalog files.
const NAME_BYTES_MAX: usize = u16::MAX as usize;
/// Bounds the values of a resolved batch, nulls included. A request of 64 MiB cannot hold half as many values, but
/// millions of rows with one field each of hundreds could ask for a hundred times more in nulls.
const CELLS_MAX: usize = 1 << 25;
/// Rows whose series are looked up at once.
const AHEAD: usize = 32;
/// Refused rows of a batch whose reason is kept. Millions of short rows may be refused at once, and their reasons
/// would take more memory than the rows.
pub(super) const REASONS_MAX: usize = 1000;

/// Which times rows may have.
pub(crate) struct Admission<'a> {
    /// Of any row.
    pub window: TimeRange,
    /// Rows from here on need no look at their series; `i64::MIN`: none does.
    pub young_ns: i64,
    /// The earliest time of rows of a series.
    pub start_ns: &'a dyn Fn(&SeriesKey) -> i64,
}

impl Catalog {
    /// Resolves a batch to columns, one block per measurement in order of first appearance, rows in order of
    /// arrival, columns sorted by key. Rows whose timestamp lies outside `window`, that have no field, a field of
    /// another type, or would exceed a limit are added to `rejected`; beyond the first thousand without a reason.
    pub fn resolve(
        &self,
        batch: &WriteBatch<'_>,
        window: TimeRange,
        rejected: &mut Vec<RowError>,
    ) -> Vec<(MeasurementId, RowBlock)> {
        self.resolve_within(CELLS_MAX, batch, window, rejected)
    }

    /// As [`Catalog::resolve`], where the window depends on the series. A row that is refused by its series may have
    /// made it known.
    pub(crate) fn resolve_admitted(
        &self,
        batch: &WriteBatch<'_>,
        admission: &Admission<'_>,
        rejected: &mut Vec<RowError>,
    ) -> Vec<(MeasurementId, RowBlock)> {
        self.resolve_by(CELLS_MAX, batch, admission, rejected)
    }

    /// As [`Catalog::resolve`]; rows are refused once the blocks hold more than `cells_max` values and nulls.
    pub(super) fn resolve_within(
        &self,
        cells_max: usize,
        batch: &WriteBatch<'_>,
        window: TimeRange,
        rejected: &mut Vec<RowError>,
    ) -> Vec<(MeasurementId, RowBlock)> {
        let admission = Admission { window, young_ns: i64::MIN, start_ns: &|_| i64::MIN };
        self.resolve_by(cells_max, batch, &admission, rejected)
    }

    fn resolve_by(
        &self,
        cells_max: usize,
        batch: &WriteBatch<'_>,
        admission: &Admission<'_>,
        rejected: &mut Vec<RowError>,
    ) -> Vec<(MeasurementId, RowBlock)> {
        let mut intake = Intake::new(batch, admission, cells_max);
        let mut state = self.read();
        for (row_idx, (row, fields)) in batch.iter().enumerate() {
            if row_idx % AHEAD == 0 {
                let ahead = batch.rows.iter().skip(row_idx).take(AHEAD);
                intake.look_ahead(&state, row_idx, ahead.map(|row| row.key));
            }
            let taken = match intake.take(&state, row_idx, row, fields) {
                Ok(Taken::Yes) => Ok(()),
                Ok(Taken::Unknown) => {
                    drop(state);
                    let interned = self.intern(batch.dialect, row.key, fields);
                    state = self.read();
                    // What was found under another lock may not be so any more.
                    intake.ahead.clear();
                    interned.and_then(|(known, ids)| {
                        intake.previous = Some((row.key, known));
                        intake.take_known(&state, known, row.ts_ns, fields, &ids)
                    })
                }
                Err(reason) => Err(reason),
            };
            if let Err(mut reason) = taken {
                if REASONS_MAX <= rejected.len() {
                    reason = String::new();
                }
                rejected.push(RowError { line: row.line, reason });
            }
        }
        drop(state);
        intake.finish()
    }

    /// Decodes the names of a row, outside of any lock, then finds or makes their ids.
    fn intern(
        &self,
        dialect: &Dialect,
        raw_key: &[u8],
        fields: &[Field<'_>],
    ) -> Result<(KnownSeries, Vec<FieldId>), String> {
        let key = Arc::new((dialect.series_key)(raw_key)?);
        let mut names = Vec::with_capacity(fields.len());
        for field in fields {
            let name = (dialect.field_name)(field.name)?;
            check_field_name(&name)?;
            names.push((field.name, name, field.value));
        }
        let row = RowNames { dialect: dialect.id, raw_key, key, fields: names };
        self.write().intern(&row, self.now_ns())
    }
}

fn check_field_name(name: &str) -> Result<(), String> {
    match name {
        "" => Err("empty field name".to_owned()),
        "time" => Err("`time` cannot be a field name".to_owned()),
        name if NAME_BYTES_MAX < name.len() => {
            Err(format!("a field name of {} bytes is longer than {NAME_BYTES_MAX}", name.len()))
        }
        _ => Ok(()),
    }
}

/// Whether a row was taken.
enum Taken {
    /// It was.
    Yes,
    /// Its key or a field name is not cached; nothing has happened.
    Unknown,
}

/// A batch on its way to blocks.
struct Intake<'a> {
    dialect: &'static Dialect,
    window: TimeRange,
    admission: &'a Admission<'a>,
    rows_max: usize,
    cells_max: usize,
    /// Values and nulls of all blocks.
    cells: usize,
    targets: Vec<Target<'a>>,
    target_idx: HashMap<MeasurementId, usize, RandomState>,
    /// Raw key of the row before, what it means, and its target.
    previous: Option<(&'a [u8], KnownSeries)>,
    /// What was found of the series of the rows from `ahead_start` on; empty when it is not to be used.
    ahead: Vec<Option<KnownSeries>>,
    ahead_start: usize,
    /// Scratch: the digests of their keys.
    digests: Vec<Option<Digest>>,
    /// Scratch: the field ids of a row.
    ids: Vec<FieldId>,
}

/// The block of one measurement.
struct Target<'a> {
    measurement: MeasurementId,
    block: RowBlock,
    rows_expected: usize,
    /// Position of the column of each field, by field id.
    column_idx: Vec<Option<usize>>,
    /// The fields of the row before; empty when they cannot predict the next row.
    layout: Vec<Slot<'a>>,
}

/// One field of the row before.
struct Slot<'a> {
    name: &'a [u8],
    field_type: FieldType,
    column_idx: usize,
}

impl<'a> Intake<'a> {
    fn new(batch: &WriteBatch<'a>, admission: &'a Admission<'a>, cells_max: usize) -> Self {
        Self {
            dialect: batch.dialect,
            window: admission.window.intersect(&TimeRange::ALL),
            admission,
            rows_max: batch.rows.len(),
            cells_max,
            cells: 0,
            targets: Vec::new(),
            target_idx: HashMap::default(),
            previous: None,
            ahead: Vec::new(),
            ahead_start: 0,
            digests: Vec::new(),
            ids: Vec::new(),
        }
    }

    fn look_ahead(&mut self, state: &State, row_idx: usize, keys: impl Iterator<Item = &'a [u8]>) {
        self.ahead_start = row_idx;
        state.raw_keys().find_each(self.dialect.id, keys, &mut self.digests, &mut self.ahead);
    }

    fn take(
        &mut self,
        state: &State,
        row_idx: usize,
        row: &Row<'a>,
        fields: &[Field<'a>],
    ) -> Result<Taken, String> {
        if !self.window.contains(row.ts_ns) {
            return Err(outside(row.ts_ns, self.window));
        }
        if fields.is_empty() {
            return Err("a row needs at least one field".to_owned());
        }
        if self.cells_max < self.cells {
            let cells_max = self.cells_max;
            return Err(format!(
                "too many rows with different fields in one request (more than {cells_max} values and gaps): send fewer rows at once"
            ));
        }
        let known = match self.previous {
            // The rows of a series often share its key.
            Some((raw, known)) if std::ptr::eq(raw, row.key) || *raw == *row.key => known,
            _ => {
                let ahead = self.ahead.get(row_idx - self.ahead_start).copied().flatten();
                let Some(known) = ahead.or_else(|| state.raw_keys().find(self.dialect.id, row.key)) else {
                    return Ok(Taken::Unknown);
                };
                self.previous = Some((row.key, known));
                known
            }
        };
        if self.admission.young_ns <= row.ts_ns
            && let Some(idx) = self.find_target(known.measurement)
            && let Some(target) = self.targets.get_mut(idx)
            && target.push_predicted(self.dialect, known.id, row.ts_ns, fields)
        {
            self.cells += target.block.columns.len();
            return Ok(Taken::Yes);
        }
        let Some(measurement) = state.measurement(known.measurement) else { return Ok(Taken::Unknown) };
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        ids.extend(fields.iter().map_while(|field| measurement.raw_field(self.dialect.id, field.name)));
        let taken = if ids.len() == fields.len() {
            self.take_known(state, known, row.ts_ns, fields, &ids).map(|()| Taken::Yes)
        } else {
            Ok(Taken::Unknown)
        };
        self.ids = ids;
        taken
    }

    /// Takes a row whose ids are known, one for each field.
    fn take_known(
        &mut self,
        state: &State,
        known: KnownSeries,
        ts_ns: i64,
        fields: &[Field<'a>],
        ids: &[FieldId],
    ) -> Result<(), String> {
        let Some(measurement) = state.measurement(known.measurement) else {
            return Err(format!("measurement {} is not in the catalog", known.measurement.0));
        };
        if ts_ns < self.admission.young_ns {
            let start_ns = state.key(known.id).map_or(i64::MIN, |key| (self.admission.start_ns)(&key));
            if ts_ns < start_ns {
                return Err(outside(ts_ns, TimeRange { start_ns, ..self.window }));
            }
        }
        let chosen = choose(measurement, fields, ids)?;
        let idx = self.find_target(known.measurement).unwrap_or_else(|| {
            // Most batches are of one measurement, which then has all the rows.
            let rows_expected = if self.targets.is_empty() { self.rows_max } else { 0 };
            self.targets.push(Target::new(known.measurement, rows_expected));
            self.target_idx.insert(known.measurement, self.targets.len() - 1);
            self.targets.len() - 1
        });
        if let Some(target) = self.targets.get_mut(idx) {
            let (rows_before, columns_before) = (target.block.len(), target.block.columns.len());
            target.push(self.dialect, known.id, ts_ns, &chosen, fields.len());
            let columns = target.block.columns.len();
            self.cells += columns + (columns - columns_before) * rows_before;
        }
        Ok(())
    }

    fn find_target(&self, measurement: MeasurementId) -> Option<usize> {
        // Batches of one measurement are the rule, and a hash is a tenth of a row's budget.
        match self.targets.first() {
            Some(first) if first.measurement == measurement => Some(0),
            _ => self.target_idx.get(&measurement).copied(),
        }
    }

    fn finish(self) -> Vec<(MeasurementId, RowBlock)> {
        self.targets.into_iter().map(|target| (target.measurement, target.finish())).collect()
    }
}

/// A field of a row that will be pushed.
struct Chosen<'f, 'a> {
    id: FieldId,
    field: &'f Field<'a>,
}

/// Keeps the last value of each field of a row, in order, and checks the types.
fn choose<'f, 'a>(
    measurement: &Measurement,
    fields: &'f [Field<'a>],
    ids: &[FieldId],
) -> Result<Vec<Chosen<'f, 'a>>, String> {
    let mut chosen: Vec<Chosen<'f, 'a>> =
        fields.iter().zip(ids).map(|(field, id)| Chosen { id: *id, field }).collect();
    if has_duplicates(ids) {
        // Reversed, the last value of a field stands first among its equals; the sort is stable, and the first stays.
        chosen.reverse();
        chosen.sort_by_key(|one| one.id);
        chosen.dedup_by_key(|one| one.id);
    }
    for one in &chosen {
        let found = one.field.value.field_type();
        match measurement.field(one.id) {
            Some(known) if known.field_type == found => {}
            Some(known) => return Err(measurement.conflict(known, found)),
            None => return Err(format!("field {} is not in the catalog", one.id.0)),
        }
    }
    Ok(chosen)
}

fn has_duplicates(ids: &[FieldId]) -> bool {
    // Fields mostly come in the order in which they were first written, which is that of their ids.
    if ids.is_sorted_by(|one, next| one < next) {
        return false;
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).any(|pair| pair.first() == pair.last())
}

impl<'a> Target<'a> {
    fn new(measurement: MeasurementId, rows_expected: usize) -> Self {
        let series = Vec::with_capacity(rows_expected);
        let ts_ns = Vec::with_capacity(rows_expected);
        let block = RowBlock { series, ts_ns, columns: Vec::new() };
        Self { measurement, block, rows_expected, column_idx: Vec::new(), layout: Vec::new() }
    }

    /// Pushes a row that has the same fields as the row before; tells whether it has.
    fn push_predicted(
        &mut self,
        dialect: &Dialect,
        series: SeriesId,
        ts_ns: i64,
        fields: &[Field<'a>],
    ) -> bool {
        let is_same = |(slot, field): (&Slot<'a>, &Field<'a>)| {
            *slot.name == *field.name && slot.field_type == field.value.field_type()
        };
        if self.layout.len() != fields.len() || !self.layout.iter().zip(fields).all(is_same) {
            return false;
        }
        let row_idx = self.block.len();
        for (slot, field) in self.layout.iter().zip(fields) {
            if let Some(column) = self.block.columns.get_mut(slot.column_idx) {
                push_value(column, row_idx, field.value, dialect);
            }
        }
        self.block.series.push(series);
        self.block.ts_ns.push(ts_ns);
        true
    }

    /// Pushes a row and learns its layout; `field_count` counts the fields before duplicates were left out.
    fn push(
        &mut self,
        dialect: &Dialect,
        series: SeriesId,
        ts_ns: i64,
        chosen: &[Chosen<'_, 'a>],
        field_count: usize,
    ) {
        let row_idx = self.block.len();
        self.layout.clear();
        for one in chosen {
            let field_type = one.field.value.field_type();
            let column_idx = self.column_of(one.id, field_type);
            if let Some(column) = self.block.columns.get_mut(column_idx) {
                push_value(column, row_idx, one.field.value, dialect);
            }
            // A row with duplicates says nothing about the next one.
            if chosen.len() == field_count {
                self.layout.push(Slot { name: one.field.name, field_type, column_idx });
            }
        }
        self.block.series.push(series);
        self.block.ts_ns.push(ts_ns);
    }

    fn column_of(&mut self, field: FieldId, field_type: FieldType) -> usize {
        let field_idx = usize::from(field.0);
        if self.column_idx.len() <= field_idx {
            self.column_idx.resize(field_idx + 1, None);
        }
        let next = self.block.columns.len();
        match self.column_idx.get_mut(field_idx) {
            Some(Some(known)) => *known,
            slot => {
                if let Some(slot) = slot {
                    *slot = Some(next);
                }
                let (key, mut values) = (ColumnKey::value(field), Values::new(field_type));
                // Columns that are there from the first row probably are in most rows.
                if self.block.is_empty() {
                    values.reserve(self.rows_expected);
                }
                self.block.columns.push(Column { key, values, valid: None });
                next
            }
        }
    }

    fn finish(self) -> RowBlock {
        let mut block = self.block;
        let rows = block.len();
        for column in &mut block.columns {
            pad_nulls(column, rows);
        }
        block.columns.sort_unstable_by_key(|column| column.key);
        block
    }
}

/// Pushes the value of row `row_idx`; rows that had no value get their nulls now.
fn push_value(column: &mut Column, row_idx: usize, value: ValueRef<'_>, dialect: &Dialect) {
    if column.values.len() < row_idx {
        pad_nulls(column, row_idx);
    }
    column.push_validity(true);
    match (&mut column.values, value) {
        (Values::F64(values), ValueRef::Float(value)) => values.push(value),
        (Values::I64(values), ValueRef::Int(value)) => values.push(value),
        (Values::U64(values), ValueRef::UInt(value)) => values.push(value),
        (Values::Bool(values), ValueRef::Bool(value)) => values.push(value),
        (Values::Str(values), ValueRef::Str(text)) => values.push(text),
        (Values::Str(values), ValueRef::Escaped(text)) => {
            (dialect.unescape)(text, &mut values.bytes);
            values.end_text();
        }
        (values, _) => {
            debug_assert!(false, "types were compared before");
            values.push_default();
        }
    }
}

/// Why a timestamp cannot be stored.
fn outside(ts_ns: i64, window: TimeRange) -> String {
    let TimeRange { start_ns, end_ns } = window;
    if !(TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&ts_ns) {
        return format!(
            "timestamp {ts_ns} is outside of what can be stored ({TIMESTAMP_MIN} to {TIMESTAMP_MAX})"
        );
    }
    if ts_ns < start_ns {
        return format!("timestamp {ts_ns} is older than the retention (raw data is kept from {start_ns})");
    }
    let last_ns = end_ns.saturating_sub(1);
    format!("timestamp {ts_ns} is too far in the future (accepted up to {last_ns})")
}
