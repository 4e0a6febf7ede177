//! Which texts of a field groups of series have.
//!
//! Where a page has codes into the dictionary of its segment, and no other source may have its rows, sets of codes are
//! made, and texts are looked at once for each segment. All other rows come as [`rows`] hands them over, or from a
//! [`Scan`] that knows no pages.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::meters::{Above, SharedMeter};
use super::rows::{Reading, all_pages, is_alone};
use super::slices::{held_of, reaches};
use super::source::{PageUse, Source};
use super::view::View;
use super::windows::{PARTS_EACH, SPREAD_PAGES};
use super::{Coverage, DistinctRequest, Flow, Meter, RowRequest, Scan};
use crate::codec::Codes;
use crate::model::{ColumnKey, FieldId, RowBlock, SeriesId, StrColumn, TextTable, TimeRange, Values};
use crate::segment::{ColumnInfo, PageInfo, PageKeys, Section, Segment, find_column};
use crate::{Error, ErrorKind, Result, pipeline};

/// A guess at what a number takes in a set.
const NUMBER_BYTES: u64 = 8;
/// A guess at what a set takes beside its numbers, once it has one.
const SET_BYTES: u64 = 200;
/// What a text takes in a table beside its bytes.
const TEXT_BYTES: u64 = 16;
/// Codes have a bit each in each group as long as the sets of a part take no more bytes.
const BITS_BYTES_MAX: u64 = 4 << 20;

/// Texts, and which of them each group has.
#[derive(Debug, Clone, Default)]
pub struct Distinct {
    /// Each once, in no order. No group may have some of them.
    pub texts: Arc<StrColumn>,
    /// For each group the places of its texts.
    pub sets: Vec<RoaringBitmap>,
}

impl Distinct {
    /// How many texts a group has.
    pub fn count(&self, group: usize) -> u64 {
        self.sets.get(group).map_or(0, RoaringBitmap::len)
    }

    /// The texts of a group, in no order.
    pub fn texts_of(&self, group: usize) -> impl Iterator<Item = &str> {
        self.sets.get(group).into_iter().flatten().map(|place| self.texts.get(place as usize))
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> u64 {
        let sets: u64 = self.sets.iter().map(bytes_of).sum();
        sets + (self.texts.bytes.len() + 4 * self.texts.len()) as u64
    }
}

/// Carries out a request by looking at the text of each row: for every [`Scan`].
pub(super) fn by_rows<S: Scan + ?Sized>(
    scan: &S,
    request: &DistinctRequest<'_>,
    meter: &dyn Meter,
) -> Result<(Distinct, Coverage)> {
    let mut gathered = Gathered::of(request)?;
    let coverage =
        scan.rows(&request.rows(), meter, &mut |block| gathered.add_rows(request, block, meter))?;
    Ok((gathered.finish(), coverage))
}

/// Carries out a request of a view.
pub(super) fn run(
    view: &View,
    request: &DistinctRequest<'_>,
    meter: &dyn Meter,
) -> Result<(Distinct, Coverage)> {
    let mut gathered = Gathered::of(request)?;
    let reading = Reading::of(view, request.measurement, request.series, request.range)?;
    let mut uses = all_pages(&reading.sources, request.measurement);
    let pages = if reading.classes.all().len() == 1 { coded(&reading, request, meter)? } else { Vec::new() };
    for page in &pages {
        let mark = uses.get_mut(page.source).and_then(|marks| marks.get_mut(page.index));
        mark.into_iter().for_each(|mark| *mark = PageUse::None);
    }
    let (sets, mut coverage) = sets_of(&reading, request, &pages, meter)?;
    let meter = &Above { meter, bytes: sets.values().flatten().map(bytes_of).sum() };
    meter.buffers(0)?;
    // Classes go by the places of all series.
    let left = if pages.is_empty() { request.series.to_vec() } else { series_left(&reading, request, &uses) };
    let rest = RowRequest { series: &left, ..request.rows() };
    coverage.absorb(
        &reading.run(view, &rest, &uses, meter, &mut |block| gathered.add_rows(request, block, meter))?,
    );
    let mut sets = sets.into_iter().map(|(source, sets)| {
        let texts = reading.sources.get(source).and_then(|source| of_segment(source, request));
        let (segment, section) =
            texts.ok_or_else(|| Error::new(ErrorKind::Internal, "codes of no segment"))?;
        Ok(Distinct { texts: segment.texts_of(section, request.key())?, sets })
    });
    // Mostly there is one segment and nothing else: then its codes are as good as any numbers.
    if sets.len() == 1 && gathered.is_empty() {
        return Ok((sets.next().transpose()?.unwrap_or_default(), coverage));
    }
    for found in sets {
        gathered.add(&found?, meter)?;
    }
    Ok((gathered.finish(), coverage))
}

fn bytes_of(set: &RoaringBitmap) -> u64 {
    let own = if set.is_empty() { 0 } else { SET_BYTES + set.serialized_size() as u64 };
    size_of::<RoaringBitmap>() as u64 + own
}

/// The series that pages which are not taken, or memtables, may have rows of.
fn series_left(reading: &Reading, request: &DistinctRequest<'_>, uses: &[Vec<PageUse>]) -> Vec<SeriesId> {
    let mut is_left = vec![false; request.series.len()];
    let mut mark = |first: SeriesId, last: SeriesId| {
        let start = request.series.partition_point(|series| *series < first);
        let end = request.series.partition_point(|series| *series <= last);
        is_left.get_mut(start..end.max(start)).into_iter().for_each(|places| places.fill(true));
    };
    for (source, uses) in reading.sources.iter().zip(uses) {
        if let Source::Run(block) = source {
            block
                .series
                .chunk_by(|one, next| one == next)
                .filter_map(<[_]>::first)
                .for_each(|id| mark(*id, *id));
        } else if let Some((_, section)) = of_segment(source, request) {
            let left = section.pages.iter().zip(uses).filter(|(_, used)| **used != PageUse::None);
            let left = left.filter(|(page, _)| reaches(page, reading.hull));
            left.for_each(|(page, _)| mark(page.first_series, page.last_series));
        }
    }
    request.series.iter().zip(is_left).filter(|(_, is_left)| *is_left).map(|(id, _)| *id).collect()
}

impl DistinctRequest<'_> {
    fn key(&self) -> ColumnKey {
        ColumnKey::value(self.field)
    }

    fn fields(&self) -> &[FieldId] {
        std::slice::from_ref(&self.field)
    }

    fn rows(&self) -> RowRequest<'_> {
        let Self { measurement, series, range, .. } = *self;
        RowRequest { measurement, fields: self.fields(), series, range, bounds: &[] }
    }

    fn group_of(&self, series: SeriesId) -> Option<usize> {
        let place = self.series.binary_search(&series).ok()?;
        self.groups.get(place).map(|group| *group as usize)
    }
}

/// A page whose codes are all that is needed of it.
struct Coded {
    source: usize,
    index: usize,
}

fn of_segment<'a>(source: &'a Source, request: &DistinctRequest<'_>) -> Option<(&'a Segment, &'a Section)> {
    match source {
        Source::Segment(segment, _) => Some((segment, segment.section(request.measurement)?)),
        Source::Run(_) => None,
    }
}

/// Pages with codes, or without a text, in which nothing is deleted and of which no other source may have rows.
fn coded(reading: &Reading, request: &DistinctRequest<'_>, meter: &dyn Meter) -> Result<Vec<Coded>> {
    let mut pages = Vec::new();
    for (source, found) in reading.sources.iter().enumerate() {
        let Source::Segment(_, mask) = found else { continue };
        let Some((segment, section)) = of_segment(found, request).filter(|_| mask.is_empty()) else {
            continue;
        };
        for (index, info) in section.pages.iter().enumerate() {
            if !reaches(info, reading.hull) || held_of(info, request.series) == 0 {
                continue;
            }
            // Looking takes time, and there may be many pages.
            meter.charge(0)?;
            if !is_alone(&reading.sources, source, request.measurement, info) {
                continue;
            }
            let columns = segment.columns(section, index)?;
            let column = find_column(&columns, request.key());
            if column.is_none_or(ColumnInfo::has_codes) {
                pages.push(Coded { source, index });
            }
        }
    }
    Ok(pages)
}

/// Codes of one segment, by group. With bits a query takes a third of the time that it does with sets that grow.
enum CodeSets {
    /// So many words for each group.
    Bits {
        words: usize,
        bits: Vec<u64>,
    },
    Sets(Vec<RoaringBitmap>),
}

impl CodeSets {
    /// For a dictionary of so many texts, beside sets that take so many bytes.
    fn new(groups: usize, texts: u32, beside: u64) -> Self {
        let words = texts.div_ceil(64) as usize;
        let all = words.saturating_mul(groups);
        match beside.saturating_add(8 * all as u64) <= BITS_BYTES_MAX {
            true => Self::Bits { words, bits: vec![0; all] },
            false => Self::Sets(vec![RoaringBitmap::new(); groups]),
        }
    }

    /// Adds codes to a group; returns how many bytes that took, about.
    fn add(&mut self, group: usize, codes: impl Iterator<Item = u32>) -> u64 {
        match self {
            Self::Bits { words, bits } => {
                let bits = bits.get_mut(group * *words..(group + 1) * *words).unwrap_or_default();
                for code in codes {
                    if let Some(word) = bits.get_mut(code as usize / 64) {
                        *word |= 1 << (code % 64);
                    }
                }
                0
            }
            Self::Sets(sets) => {
                let Some(set) = sets.get_mut(group) else { return 0 };
                let first = if set.is_empty() { SET_BYTES } else { 0 };
                first + codes.map(|code| u64::from(set.insert(code)) * NUMBER_BYTES).sum::<u64>()
            }
        }
    }

    /// Bytes that are taken from the start.
    fn bytes(&self) -> u64 {
        match self {
            Self::Bits { bits, .. } => size_of_val(&**bits) as u64,
            Self::Sets(sets) => size_of_val(&**sets) as u64,
        }
    }

    fn finish(self) -> Vec<RoaringBitmap> {
        match self {
            Self::Sets(sets) => sets,
            Self::Bits { words, bits } => {
                let of_group = |words: &[u64]| {
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    RoaringBitmap::from_lsb0_bytes(0, &bytes)
                };
                bits.chunks(words.max(1)).map(of_group).collect()
            }
        }
    }
}

/// Sets of codes, for each source those of each group.
type Sets = BTreeMap<usize, Vec<RoaringBitmap>>;

/// Reads pages, many of them side by side.
fn sets_of(
    reading: &Reading,
    request: &DistinctRequest<'_>,
    pages: &[Coded],
    meter: &dyn Meter,
) -> Result<(Sets, Coverage)> {
    let parts = match pipeline::processors() {
        processors if 1 < processors && SPREAD_PAGES <= pages.len() as u64 => PARTS_EACH * processors,
        _ => 1,
    };
    let shared = SharedMeter::new(meter, parts);
    let parts = pages.chunks(pages.len().div_ceil(parts).max(1)).enumerate().collect();
    let parts = pipeline::spread(parts, |(part, pages): (usize, &[Coded])| {
        let mut reader =
            Reader { reading, request, codes: BTreeMap::new(), bytes: 0, coverage: Coverage::default() };
        let meter = shared.of(part);
        pages.iter().try_for_each(|page| reader.read(page, &meter))?;
        Ok((reader.codes, reader.coverage))
    })?;
    let (mut all, mut coverage) = (Sets::new(), Coverage::default());
    for (codes, read) in parts {
        coverage.absorb(&read);
        for (source, codes) in codes {
            let sets = codes.finish();
            match all.get_mut(&source) {
                None => _ = all.insert(source, sets),
                Some(into) => into.iter_mut().zip(sets).for_each(|(into, set)| *into |= set),
            }
            meter.charge(0)?;
        }
    }
    Ok((all, coverage))
}

struct Reader<'a> {
    reading: &'a Reading,
    request: &'a DistinctRequest<'a>,
    codes: BTreeMap<usize, CodeSets>,
    /// Of these, about.
    bytes: u64,
    coverage: Coverage,
}

impl Reader<'_> {
    fn read(&mut self, page: &Coded, meter: &dyn Meter) -> Result<()> {
        let Self { reading, request, .. } = *self;
        let found = reading.sources.get(page.source).and_then(|source| of_segment(source, request));
        let Some((segment, section)) = found else { return Ok(()) };
        let Some(info) = section.pages.get(page.index) else { return Ok(()) };
        let columns = segment.columns(section, page.index)?;
        let Some(column) = find_column(&columns, request.key()) else { return Ok(()) };
        let codes = segment.codes_of(section, page.index, column)?;
        let keys = segment.keys(section, page.index)?;
        let sets = match self.codes.entry(page.source) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let sets = CodeSets::new(request.group_count, section.text_count(request.key()), self.bytes);
                self.bytes += sets.bytes();
                meter.buffers(self.bytes)?;
                place.insert(sets)
            }
        };
        let (rows, bytes) = add_codes(request, sets, (&codes, &keys), reading.hull, info);
        self.bytes += bytes;
        meter.buffers(self.bytes)?;
        meter.charge(rows)?;
        self.coverage.rows += rows;
        self.coverage.pages += 1;
        Ok(())
    }
}

/// Adds the codes of a page in a range to those of groups; returns how many rows there were, and how many bytes that took.
fn add_codes(
    request: &DistinctRequest<'_>,
    sets: &mut CodeSets,
    ((codes, valid), keys): (&Codes, &PageKeys),
    range: TimeRange,
    info: &PageInfo,
) -> (u64, u64) {
    let is_whole = range.start_ns <= info.min_ts_ns && info.max_ts_ns < range.end_ns;
    let (mut rows, mut bytes) = (0, 0);
    let (mut row, mut rest) = (0, codes.as_slice());
    for (series, end) in &keys.series {
        let of_series = std::mem::replace(&mut row, *end as usize)..*end as usize;
        let valid = valid.as_ref().map(|valid| valid.get(of_series.clone()).unwrap_or_default());
        let count = valid.map_or(of_series.len(), |valid| valid.iter().filter(|valid| **valid).count());
        let (own, others) = rest.split_at_checked(count).unwrap_or_default();
        rest = others;
        let Some(group) = request.group_of(*series) else { continue };
        if is_whole {
            rows += own.len() as u64;
            bytes += sets.add(group, own.iter().copied());
            continue;
        }
        let times = keys.ts_ns.get(of_series).unwrap_or_default().iter().enumerate();
        let there = times.filter(|(at, _)| valid.is_none_or(|valid| valid.get(*at) == Some(&true)));
        let inside =
            there.zip(own).filter(|((_, ts_ns), _)| range.start_ns <= **ts_ns && **ts_ns < range.end_ns);
        bytes += sets.add(group, inside.map(|(_, code)| *code).inspect(|_| rows += 1));
    }
    (rows, bytes)
}

/// Texts that are looked at one by one.
struct Gathered {
    table: TextTable,
    sets: Vec<RoaringBitmap>,
    bytes: u64,
}

impl Gathered {
    fn of(request: &DistinctRequest<'_>) -> Result<Self> {
        let DistinctRequest { groups, group_count, series, .. } = *request;
        if groups.len() != series.len() || groups.iter().any(|group| group_count <= *group as usize) {
            return Err(Error::invalid("a series has no group"));
        }
        Ok(Self { table: TextTable::default(), sets: vec![RoaringBitmap::new(); group_count], bytes: 0 })
    }

    fn is_empty(&self) -> bool {
        self.table.texts().is_empty()
    }

    /// Adds the rows of a block.
    fn add_rows(
        &mut self,
        request: &DistinctRequest<'_>,
        block: &RowBlock,
        meter: &dyn Meter,
    ) -> Result<Flow> {
        let Some(column) = block.columns.first() else { return Ok(Flow::Continue) };
        let Values::Str(texts) = &column.values else {
            return Err(Error::invalid("only texts are told apart"));
        };
        for (row, series) in block.series.iter().enumerate().filter(|(row, _)| column.is_valid(*row)) {
            let number = self.number(texts.bytes_of(row).unwrap_or_default())?;
            self.insert(request.group_of(*series), number);
        }
        meter.buffers(self.bytes)?;
        Ok(Flow::Continue)
    }

    /// Adds what other sets have, by their texts.
    fn add(&mut self, found: &Distinct, meter: &dyn Meter) -> Result<()> {
        let mut numbers: Vec<Option<u32>> = vec![None; found.texts.len()];
        for (group, set) in found.sets.iter().enumerate() {
            for place in set {
                let known = numbers.get(place as usize).copied().flatten();
                let number = match known {
                    Some(number) => number,
                    None => {
                        let number = self.number(found.texts.bytes_of(place as usize).unwrap_or_default())?;
                        numbers.get_mut(place as usize).into_iter().for_each(|slot| *slot = Some(number));
                        number
                    }
                };
                self.insert(Some(group), number);
            }
            meter.buffers(self.bytes)?;
        }
        Ok(())
    }

    fn number(&mut self, text: &[u8]) -> Result<u32> {
        let before = self.table.texts().len();
        let too_many = || Error::new(ErrorKind::LimitExceeded, "distinct texts of more than 4 GiB");
        let number = self.table.number(text).ok_or_else(too_many)?;
        if before < self.table.texts().len() {
            self.bytes += TEXT_BYTES + text.len() as u64;
        }
        Ok(number)
    }

    fn insert(&mut self, group: Option<usize>, number: u32) {
        let set = group.and_then(|group| self.sets.get_mut(group));
        if set.is_some_and(|set| set.insert(number)) {
            self.bytes += NUMBER_BYTES;
        }
    }

    fn finish(self) -> Distinct {
        Distinct { texts: Arc::new(self.table.into_texts()), sets: self.sets }
    }
}
