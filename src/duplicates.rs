//! Measurements that keep every event: rows of one series with equal times stay apart.
//!
//! The engine keeps the last of two rows with the same series and time. For a measurement that is named here, each row
//! is given a place of its own before it is written (`ingest::places`): the first of its places that is free, or that
//! holds the very same event. So two different events are two rows, and an event that is sent again stays one.
//!
//! Order of events: [`Duplicates::begin`] opens a turn; [`Turn::place`] reads which places are taken in the seconds that
//! the batch touches, unless it knows them, and moves the rows; the batch is written; the turn ends. What is known is
//! never less than what is stored: it holds the places of batches that are still being written, and is forgotten only
//! while no turn is open. Knows nothing of text forms, files and the log.

mod content;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use icecore_storage::model::{
    RowBlock, RowError, SECOND_NS, SeriesId, SeriesKey, TagMatcher, TagTest, TimeRange, WriteBatch, floor_to,
};
use icecore_storage::scan::{Flow, RowRequest, Scan, Unmetered};

use self::content::{Content, Reader};
use crate::Result;
use crate::ingest::{Precision, places};

/// Places that are remembered before all are forgotten, and read again when they are needed. Some 100 bytes each.
const KNOWN_MAX: usize = 200_000;
/// Seconds that are read at a time.
const READ_SECONDS_MAX: i64 = 60;

/// The measurements of a database that keep every event.
#[derive(Debug)]
pub(crate) struct Duplicates {
    measurements: BTreeSet<String>,
    reader: Reader,
    /// Shared by batches that are being written; taken alone to forget.
    turns: RwLock<()>,
    known: Mutex<Known>,
}

/// What is known of the places of events.
#[derive(Debug, Default)]
struct Known {
    series: HashMap<SeriesKey, u32>,
    /// Series and seconds of which all places are known.
    seconds: HashSet<(u32, i64)>,
    /// What lies where.
    places: HashMap<(u32, i64), Content>,
}

/// A batch that is being written. Keep it until the batch is stored.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    duplicates: &'a Duplicates,
    _turn: RwLockReadGuard<'a, ()>,
}

/// A row of such a measurement.
struct Event {
    row: usize,
    series: u32,
    ts_ns: i64,
    hash: u64,
    content: Content,
}

impl Event {
    fn second(&self) -> (u32, i64) {
        (self.series, floor_to(self.ts_ns, SECOND_NS))
    }
}

impl Duplicates {
    /// For the measurements of these names; `None` when there is none.
    pub(crate) fn new(measurements: &[String]) -> Option<Self> {
        let measurements: BTreeSet<String> = measurements.iter().cloned().collect();
        let duplicates = Self {
            measurements,
            reader: Reader::default(),
            turns: RwLock::default(),
            known: Mutex::default(),
        };
        (!duplicates.measurements.is_empty()).then_some(duplicates)
    }

    /// Their names, sorted.
    pub(crate) fn measurements(&self) -> Vec<String> {
        self.measurements.iter().cloned().collect()
    }

    /// Begins the write of a batch.
    pub(crate) fn begin(&self) -> Turn<'_> {
        if KNOWN_MAX < self.lock().len() {
            let _alone = self.turns.write().unwrap_or_else(PoisonError::into_inner);
            let mut known = self.lock();
            if KNOWN_MAX < known.len() {
                *known = Known::default();
            }
        }
        Turn { duplicates: self, _turn: self.turns.read().unwrap_or_else(PoisonError::into_inner) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Gives each row of the measurements its place. Rows for which there is none are taken out of the batch and handed
    /// back.
    ///
    /// # Errors
    /// Those of reading what is stored.
    pub(crate) fn place(
        &self,
        batch: &mut WriteBatch<'_>,
        precision: Precision,
        view: &dyn Fn() -> Arc<dyn Scan>,
    ) -> Result<Vec<RowError>> {
        let mut known = self.duplicates.lock();
        let events = self.events(batch, &mut known);
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // Whatever was stored before a place was noted is in a view made now: both happen under the lock.
        known.read_missing(&events, &self.duplicates.reader, view)?;
        let mut full = BTreeSet::new();
        for event in &events {
            match (known.find_place(event, precision), batch.rows.get_mut(event.row)) {
                (Some(place), Some(row)) => {
                    known.places.insert((event.series, place), event.content);
                    row.ts_ns = place;
                }
                (None, _) | (_, None) => {
                    full.insert(event.row);
                }
            }
        }
        Ok(take_out(batch, &full))
    }

    /// The rows of the measurements. Rows that cannot be understood are left to the engine to refuse.
    fn events(&self, batch: &WriteBatch<'_>, known: &mut Known) -> Vec<Event> {
        let mut series_of: HashMap<&[u8], Option<u32>> = HashMap::new();
        let mut events = Vec::new();
        for (index, (row, fields)) in batch.iter().enumerate() {
            let series = *series_of.entry(row.key).or_insert_with(|| {
                let key = (batch.dialect.series_key)(row.key).ok()?;
                self.duplicates.measurements.contains(key.measurement()).then(|| known.number(key))
            });
            let Some(series) = series else { continue };
            let Some(text) = content::of_row(batch.dialect, fields) else { continue };
            let content = self.duplicates.reader.content(&text);
            events.push(Event {
                row: index,
                series,
                ts_ns: row.ts_ns,
                hash: content::hash(&text, row.ts_ns),
                content,
            });
        }
        events
    }
}

impl Known {
    fn len(&self) -> usize {
        self.series.len() + self.seconds.len() + self.places.len()
    }

    fn number(&mut self, key: SeriesKey) -> u32 {
        let next = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        *self.series.entry(key).or_insert(next)
    }

    /// The first place of an event that is free or holds the same event.
    fn find_place(&self, event: &Event, precision: Precision) -> Option<i64> {
        let at = |place: i64| self.places.get(&(event.series, place));
        let is_open = |place: &i64| at(*place).is_none_or(|content| *content == event.content);
        if let Some(width_ns) = places::open_width_ns(event.ts_ns, precision) {
            return places::open(event.ts_ns, width_ns, event.hash).find(is_open);
        }
        let beside = places::beside(event.ts_ns, event.hash).find(is_open);
        match at(event.ts_ns) {
            Some(content) if *content == event.content => Some(event.ts_ns),
            Some(_) => beside,
            // It may have been moved by an event that is gone.
            None => Some(beside.filter(|place| at(*place).is_some()).unwrap_or(event.ts_ns)),
        }
    }

    /// Reads the seconds of the events that are not known yet.
    fn read_missing(
        &mut self,
        events: &[Event],
        reader: &Reader,
        view: &dyn Fn() -> Arc<dyn Scan>,
    ) -> Result<()> {
        let seconds = events.iter().map(Event::second);
        let missing: BTreeSet<(u32, i64)> = seconds.filter(|second| !self.seconds.contains(second)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let wanted: BTreeSet<u32> = missing.iter().map(|(series, _)| *series).collect();
        let mut measurements: BTreeMap<&str, Vec<(&SeriesKey, u32)>> = BTreeMap::new();
        for (key, number) in self.series.iter().filter(|(_, number)| wanted.contains(number)) {
            measurements.entry(key.measurement()).or_default().push((key, *number));
        }
        let view = view();
        let mut found = Vec::new();
        for (measurement, series) in measurements {
            read(view.as_ref(), measurement, &series, &missing, reader, &mut found)?;
        }
        self.places.extend(found);
        self.seconds.extend(missing);
        Ok(())
    }
}

/// Reads what is stored of some series of a measurement in the missing seconds.
fn read(
    view: &dyn Scan,
    measurement: &str,
    series: &[(&SeriesKey, u32)],
    missing: &BTreeSet<(u32, i64)>,
    reader: &Reader,
    found: &mut Vec<((u32, i64), Content)>,
) -> Result<()> {
    let Some(schema) = view.schema(measurement) else { return Ok(()) };
    let mut numbers: BTreeMap<SeriesId, u32> = BTreeMap::new();
    for (key, number) in series {
        let equal = |(key, value): &(Box<str>, Box<str>)| TagMatcher {
            key: key.to_string(),
            test: TagTest::Equal(value.to_string()),
        };
        let matchers: Vec<TagMatcher> = key.tags().iter().map(equal).collect();
        let infos = view.series(schema.measurement, &matchers, TimeRange::ALL, usize::MAX)?;
        numbers.extend(infos.iter().find(|info| *info.key == **key).map(|info| (info.id, *number)));
    }
    let ids: Vec<SeriesId> = numbers.keys().copied().collect();
    let fields: Vec<_> = schema.fields.iter().map(|field| field.id).collect();
    let seconds: BTreeSet<i64> = missing.iter().map(|(_, second_ns)| *second_ns).collect();
    for range in ranges(&seconds) {
        let request =
            RowRequest { measurement: schema.measurement, fields: &fields, series: &ids, range, bounds: &[] };
        let mut sink = |block: &RowBlock| {
            for (row, (series, ts_ns)) in block.series.iter().zip(&block.ts_ns).enumerate() {
                let Some(number) = numbers.get(series) else { continue };
                if missing.contains(&(*number, floor_to(*ts_ns, SECOND_NS))) {
                    let content = reader.content(&content::of_stored(&schema, block, row));
                    found.push(((*number, *ts_ns), content));
                }
            }
            Ok(Flow::Continue)
        };
        view.rows(&request, &Unmetered, &mut sink)?;
    }
    Ok(())
}

/// Few ranges, none longer than a minute, that hold all the seconds.
fn ranges(seconds: &BTreeSet<i64>) -> Vec<TimeRange> {
    let mut ranges: Vec<TimeRange> = Vec::new();
    for start_ns in seconds {
        let end_ns = start_ns.saturating_add(SECOND_NS);
        match ranges.last_mut() {
            Some(last) if end_ns.saturating_sub(last.start_ns) <= READ_SECONDS_MAX * SECOND_NS => {
                last.end_ns = end_ns
            }
            _ => ranges.push(TimeRange::new(*start_ns, end_ns)),
        }
    }
    ranges
}

/// Takes rows, by position, out of a batch.
fn take_out(batch: &mut WriteBatch<'_>, rows: &BTreeSet<usize>) -> Vec<RowError> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut rest = WriteBatch::new(batch.dialect);
    let mut refused = Vec::new();
    for (index, (row, fields)) in batch.iter().enumerate() {
        if rows.contains(&index) {
            let reason = "too many events of this series at nearly the same time".to_owned();
            refused.push(RowError { line: row.line, reason });
        } else {
            rest.fields.extend_from_slice(fields);
            rest.push_row(row.key, row.ts_ns, row.line);
        }
    }
    *batch = rest;
    refused
}

#[cfg(test)]
mod tests;
