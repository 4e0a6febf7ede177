//! Many partials of one field in the making: what samples and cells add up to, slot by slot.
//!
//! A slot is one piece of time of one series, or of one group of series. Only the statistics that are wanted are
//! counted. Where their order does not matter (counts, sums, smallest and largest, histograms, sketches), samples of many
//! series may come to one slot in any order, and whole runs of them are counted at once.

use super::partial::{Number, Sum, greater, lesser, mean_of};
use super::{FieldType, HistogramSum, Partial, StatSet, Stats, TextStats, Uniques};

/// A slot that nothing is added to.
pub const NO_SLOT: u32 = u32::MAX;

/// Partials in the making, in the type of their field.
#[derive(Debug)]
pub enum Slots {
    /// Of a float field.
    Float(Tallies<f64>),
    /// Of a signed integer field.
    Int(Tallies<i64>),
    /// Of an unsigned integer or boolean field.
    UInt(Tallies<u64>),
    /// Of a text field.
    Text(StatSet, Vec<TextStats>),
}

/// The slots of a numeric field.
#[derive(Debug)]
pub struct Tallies<N: Number> {
    wants: StatSet,
    stats: Vec<Stats<N>>,
    /// Histograms apart, where they are wanted.
    hists: Vec<HistogramSum>,
    scratch: (Vec<i64>, Vec<N>),
}

impl Slots {
    /// So many empty slots.
    pub fn new(field_type: FieldType, wants: StatSet, count: usize) -> Self {
        match field_type {
            FieldType::Float => Self::Float(Tallies::new(wants, count)),
            FieldType::Int => Self::Int(Tallies::new(wants, count)),
            FieldType::UInt | FieldType::Bool => Self::UInt(Tallies::new(wants, count)),
            FieldType::Str => Self::Text(wants, vec![TextStats::default(); count]),
        }
    }

    /// Takes the partial of a slot, which is empty then.
    pub fn take(&mut self, slot: usize) -> Partial {
        match self {
            Self::Float(tallies) => Partial::Float(tallies.take(slot)),
            Self::Int(tallies) => Partial::Int(tallies.take(slot)),
            Self::UInt(tallies) => Partial::UInt(tallies.take(slot)),
            Self::Text(_, texts) => {
                Partial::Text(texts.get_mut(slot).map(std::mem::take).unwrap_or_default())
            }
        }
    }

    /// Number of slots.
    pub fn len(&self) -> usize {
        match self {
            Self::Float(tallies) => tallies.stats.len(),
            Self::Int(tallies) => tallies.stats.len(),
            Self::UInt(tallies) => tallies.stats.len(),
            Self::Text(_, texts) => texts.len(),
        }
    }

    /// Whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing was added to a slot.
    pub fn is_empty_at(&self, slot: usize) -> bool {
        let count = match self {
            Self::Float(tallies) => tallies.stats.get(slot).map(|stats| stats.count),
            Self::Int(tallies) => tallies.stats.get(slot).map(|stats| stats.count),
            Self::UInt(tallies) => tallies.stats.get(slot).map(|stats| stats.count),
            Self::Text(_, texts) => texts.get(slot).map(|stats| stats.count),
        };
        count.unwrap_or(0) == 0
    }

    /// An estimate of the memory that so many slots take, without histograms and sketches.
    pub fn bytes_of(count: usize) -> u64 {
        (count * (size_of::<Stats<i64>>() + size_of::<HistogramSum>())) as u64
    }

    /// Bytes of memory that histograms, sketches and texts take beside the slots. Linear in these, where there are any.
    pub fn heap_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Float(tallies) => tallies.heap_bytes(),
            Self::Int(tallies) => tallies.heap_bytes(),
            Self::UInt(tallies) => tallies.heap_bytes(),
            Self::Text(_, texts) => texts.iter().map(TextStats::heap_bytes).sum(),
        };
        bytes as u64
    }

    /// Adds the slots of another one, of other series, or files, of the same groups: the order of samples must not matter.
    pub fn absorb(&mut self, other: Self) {
        match (self, other) {
            (Self::Float(mine), Self::Float(other)) => mine.absorb(other),
            (Self::Int(mine), Self::Int(other)) => mine.absorb(other),
            (Self::UInt(mine), Self::UInt(other)) => mine.absorb(other),
            _ => debug_assert!(false, "slots of one field have one type, and texts are merged in order"),
        }
    }
}

impl<N: Number> Tallies<N> {
    fn new(wants: StatSet, count: usize) -> Self {
        let open = Stats { min: N::START_OF_MIN, max: N::START_OF_MAX, ..Stats::default() };
        let mut hists = Vec::new();
        hists.resize_with(if wants.has(StatSet::HIST) { count } else { 0 }, HistogramSum::default);
        Self { wants, stats: vec![open; count], hists, scratch: Default::default() }
    }

    fn heap_bytes(&self) -> usize {
        let hists: usize = self.hists.iter().map(HistogramSum::bytes).sum();
        let sketches = self.stats.iter().filter_map(|stats| stats.uniques.as_deref());
        let has_sketches = self.wants.has(StatSet::UNIQUES);
        hists + if has_sketches { sketches.map(Uniques::heap_bytes).sum() } else { 0 }
    }

    /// The numbers of a slot, without its histogram.
    pub(crate) fn stats(&mut self, slot: u32) -> Option<&mut Stats<N>> {
        self.stats.get_mut(slot as usize)
    }

    /// The histogram of a slot, where histograms are wanted.
    pub(crate) fn hist(&mut self, slot: u32) -> Option<&mut HistogramSum> {
        self.hists.get_mut(slot as usize)
    }

    /// Adds samples of one series, by time and not earlier than those before them; those that are not valid are left
    /// out.
    pub(crate) fn add<V: Copy>(
        &mut self,
        slot: u32,
        (ts_ns, values): (&[i64], &[V]),
        valid: Option<&[bool]>,
        number: impl Fn(V) -> N,
    ) {
        let (mut times, mut numbers) = std::mem::take(&mut self.scratch);
        numbers.clear();
        match valid.filter(|valid| !valid.iter().all(|is_valid| *is_valid)) {
            None => {
                numbers.extend(values.iter().map(|value| number(*value)));
                self.add_run(slot, ts_ns, &numbers);
            }
            Some(valid) => {
                times.clear();
                let there = ts_ns.iter().zip(values).zip(valid).filter(|(_, is_valid)| **is_valid);
                there.for_each(|((ts, value), _)| {
                    times.push(*ts);
                    numbers.push(number(*value));
                });
                self.add_run(slot, &times, &numbers);
            }
        }
        self.scratch = (times, numbers);
    }

    fn add_run(&mut self, slot: u32, ts_ns: &[i64], numbers: &[N]) {
        if numbers.is_empty() {
            return;
        }
        let wants = self.wants;
        if let Some(stats) = self.stats.get_mut(slot as usize) {
            if wants.needs_order() {
                let wants = wants.without(StatSet::HIST);
                ts_ns.iter().zip(numbers).for_each(|(ts, number)| stats.add(*ts, *number, wants));
            } else {
                add_unordered(stats, numbers, wants);
            }
        }
        if let Some(hist) = self.hists.get_mut(slot as usize) {
            numbers.iter().for_each(|number| hist.add_value(number.to_f64()));
        }
    }

    fn take(&mut self, slot: usize) -> Stats<N> {
        let Some(stats) = self.stats.get_mut(slot).filter(|stats| 0 < stats.count) else {
            return Stats::default();
        };
        stats.hist = self.hists.get_mut(slot).map(|hist| Box::new(std::mem::take(hist).finish()));
        std::mem::take(stats)
    }

    fn absorb(&mut self, other: Self) {
        debug_assert!(!self.wants.needs_order(), "first and last are of one series");
        let wants = self.wants;
        for (mine, theirs) in self.stats.iter_mut().zip(&other.stats) {
            add_stats(mine, theirs, wants);
        }
        self.hists.iter_mut().zip(other.hists).for_each(|(mine, theirs)| mine.merge(theirs));
    }
}

/// Adds numbers to statistics that do not depend on their order.
fn add_unordered<N: Number>(stats: &mut Stats<N>, numbers: &[N], wants: StatSet) {
    if let ([number], false) = (numbers, wants.has(StatSet::UNIQUES)) {
        stats.count += 1;
        if wants.has(StatSet::SUM) {
            stats.sum.add(*number);
        }
        if wants.has(StatSet::RANGE) {
            (stats.min, stats.max) = (lesser(stats.min, *number), greater(stats.max, *number));
            if wants.has(StatSet::SUM) {
                let count = stats.count as f64;
                stats.mean += number.to_f64() / count - stats.mean / count;
            }
        }
        return;
    }
    let mut run: Stats<N> = Stats { count: numbers.len() as u64, ..Stats::default() };
    if wants.has(StatSet::SUM) {
        numbers.iter().for_each(|number| run.sum.add(*number));
    }
    if wants.has(StatSet::RANGE) {
        (run.min, run.max) = (N::START_OF_MIN, N::START_OF_MAX);
        for number in numbers {
            run.min = lesser(run.min, *number);
            run.max = greater(run.max, *number);
        }
        if wants.has(StatSet::SUM) {
            run.mean = mean_of(run.count, run.sum, run.min, run.max);
            if !run.mean.is_finite() {
                // The running mean stays in range where the sum does not.
                let means = (1_u64..).zip(numbers);
                run.mean =
                    means.fold(0.0, |mean, (count, number)| mean + (number.to_f64() - mean) / count as f64);
            }
        }
    }
    add_stats(stats, &run, wants);
    if wants.has(StatSet::UNIQUES) {
        let uniques = stats.uniques.get_or_insert_default();
        numbers.iter().for_each(|number| uniques.add(number.value_ref()));
    }
}

/// Adds statistics that do not depend on order, without the histogram. Of empty ones smallest and largest must be where
/// they start.
pub(crate) fn add_stats<N: Number>(into: &mut Stats<N>, other: &Stats<N>, wants: StatSet) {
    if other.count == 0 {
        return;
    }
    let before = into.count as f64;
    into.count += other.count;
    if wants.has(StatSet::SUM) {
        into.sum.merge(other.sum);
    }
    if wants.has(StatSet::RANGE) {
        into.min = lesser(into.min, other.min);
        into.max = greater(into.max, other.max);
        if wants.has(StatSet::SUM) {
            let share = other.count as f64 / (before + other.count as f64);
            into.mean += other.mean * share - into.mean * share;
        }
    }
    if let Some(uniques) = &other.uniques {
        into.uniques.get_or_insert_default().merge(uniques.view());
    }
}
