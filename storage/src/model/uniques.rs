//! [`Uniques`]: how many distinct values there are, as a sketch that merges.
//!
//! A `HyperLogLog` of 2^26 registers, of which those that are not empty are listed, up to [`ENTRIES_MAX`]; with more it is
//! folded to one of 2^12 registers, each a byte. Which of the two forms it has, and every bit of it, depends on the set
//! of values alone: not on their order, nor on how pieces of it were merged. So a cell is a pure function of its rows,
//! and every layer gives the same answer.
//!
//! Listed registers are counted: that is exact but for two values that share a register, one pair in 2^26. The estimate
//! from 2^12 registers has a standard error of 1.04 / sqrt(2^12) = 1.6 %.
//!
//! Sources: Flajolet, Fusy, Gandouet, Meunier, "`HyperLogLog`", 2007; Heule, Nunkesser, Hall, "`HyperLogLog` in
//! practice", EDBT 2013 (the listed form); Ertl, "New cardinality estimation algorithms for `HyperLogLog` sketches",
//! arXiv 1702.01284 (the estimator, which needs no table of corrections).
//!
//! The hash is XXH64 with seed 0, of the bytes of a text or the eight of a number: part of the file format.

use std::cmp::Ordering;

use twox_hash::XxHash64;

use super::ValueRef;

/// Registers that are listed at most.
pub const ENTRIES_MAX: usize = 1024;
/// Registers of the folded form.
pub const REGISTERS: usize = 1 << FOLDED_BITS;
/// The largest number in a folded register.
pub const RANK_MAX: u8 = 64 - FOLDED_BITS as u8 + 1;

/// Bits of a hash that number a listed register.
const LISTED_BITS: u32 = 26;
/// Bits of a hash that number a folded register.
const FOLDED_BITS: u32 = 12;
/// Bits of the number of a listed register that do not count in the number of a folded one.
const BETWEEN_BITS: u32 = LISTED_BITS - FOLDED_BITS;
/// Bits of an entry below the number of its register.
pub(crate) const ENTRY_RANK_BITS: u32 = 6;
/// The largest rank of an entry.
const ENTRY_RANK_MAX: u32 = 64 - LISTED_BITS + 1;

/// The distinct values of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uniques(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Entries, ascending.
    Listed(Vec<u32>),
    /// One byte for each register.
    Folded(Box<[u8]>),
}

/// A sketch that lies elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniquesRef<'a> {
    /// Registers that are not empty, ascending, each once: its number and, below six bits, the rank, which is 0 where
    /// the number says all that a fold needs.
    Listed(&'a [u32]),
    /// [`REGISTERS`] ranks.
    Folded(&'a [u8]),
}

impl Default for Uniques {
    fn default() -> Self {
        Self(Form::Listed(Vec::new()))
    }
}

impl Default for UniquesRef<'_> {
    fn default() -> Self {
        Self::Listed(&[])
    }
}

impl Uniques {
    /// Adds a value. Zeros of either sign are one value.
    pub fn add(&mut self, value: ValueRef<'_>) {
        let number = match value {
            ValueRef::Str(text) | ValueRef::Escaped(text) => return self.add_hash(hash_of(text.as_bytes())),
            ValueRef::Float(value) => (value + 0.0).to_bits(),
            ValueRef::Int(value) => value.cast_unsigned(),
            ValueRef::UInt(value) => value,
            ValueRef::Bool(value) => u64::from(value),
        };
        self.add_hash(hash_of(&number.to_le_bytes()));
    }

    fn add_hash(&mut self, hash: u64) {
        match &mut self.0 {
            Form::Folded(registers) => fold_entry(registers, entry_of(hash)),
            Form::Listed(entries) => {
                let entry = entry_of(hash);
                let place = entries.partition_point(|known| register_of(*known) < register_of(entry));
                match entries.get_mut(place).filter(|known| register_of(**known) == register_of(entry)) {
                    Some(known) => *known = entry.max(*known),
                    None => {
                        entries.insert(place, entry);
                        self.fold_long();
                    }
                }
            }
        }
    }

    /// Adds the values of another set.
    pub fn merge(&mut self, other: UniquesRef<'_>) {
        match (&mut self.0, other) {
            (Form::Listed(entries), UniquesRef::Listed(others)) => {
                if entries.is_empty() {
                    entries.extend_from_slice(others);
                } else if !others.is_empty() {
                    *entries = union(entries, others);
                }
                self.fold_long();
            }
            (Form::Listed(entries), UniquesRef::Folded(ranks)) => {
                let mut registers: Box<[u8]> = ranks.into();
                entries.iter().for_each(|entry| fold_entry(&mut registers, *entry));
                self.0 = Form::Folded(registers);
            }
            (Form::Folded(registers), UniquesRef::Listed(entries)) => {
                entries.iter().for_each(|entry| fold_entry(registers, *entry));
            }
            (Form::Folded(registers), UniquesRef::Folded(ranks)) => {
                registers
                    .iter_mut()
                    .zip(ranks)
                    .for_each(|(register, rank)| *register = (*register).max(*rank));
            }
        }
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Form::Listed(entries) => entries.clear(),
            Form::Folded(_) => *self = Self::default(),
        }
    }

    /// The sketch without its room.
    pub fn view(&self) -> UniquesRef<'_> {
        match &self.0 {
            Form::Listed(entries) => UniquesRef::Listed(entries),
            Form::Folded(registers) => UniquesRef::Folded(registers),
        }
    }

    /// About how many distinct values were added.
    pub fn estimate(&self) -> u64 {
        self.view().estimate()
    }

    /// Bytes of memory beside the value itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Listed(entries) => entries.capacity() * size_of::<u32>(),
            Form::Folded(registers) => registers.len(),
        }
    }

    /// Folds a list that has become too long.
    fn fold_long(&mut self) {
        if let Form::Listed(entries) = &self.0
            && ENTRIES_MAX < entries.len()
        {
            let mut registers = vec![0; REGISTERS].into_boxed_slice();
            entries.iter().for_each(|entry| fold_entry(&mut registers, *entry));
            self.0 = Form::Folded(registers);
        }
    }
}

impl UniquesRef<'_> {
    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Listed([]))
    }

    /// About how many distinct values there are.
    pub fn estimate(&self) -> u64 {
        match self {
            Self::Listed(entries) => entries.len() as u64,
            // A list of so many was too long.
            Self::Folded(ranks) => (estimate(ranks).round() as u64).max(ENTRIES_MAX as u64 + 1),
        }
    }

    /// Whether it is one that values can give, as far as one can see.
    pub(crate) fn is_sound(&self) -> bool {
        let is_entry = |entry: &u32| {
            let rank = entry & ((1 << ENTRY_RANK_BITS) - 1);
            if between_of(*entry) == 0 { (1..=ENTRY_RANK_MAX).contains(&rank) } else { rank == 0 }
        };
        match self {
            Self::Listed(entries) => {
                entries.len() <= ENTRIES_MAX
                    && entries.iter().all(is_entry)
                    && entries.is_sorted_by(|one, next| register_of(*one) < register_of(*next))
            }
            Self::Folded(ranks) => ranks.len() == REGISTERS && ranks.iter().all(|rank| *rank <= RANK_MAX),
        }
    }
}

fn hash_of(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// The entry of a value: 26 bits of its hash, and where a fold needs more, how many zeros follow, plus one.
fn entry_of(hash: u64) -> u32 {
    // The shift leaves 26 bits.
    let register = (hash >> (64 - LISTED_BITS)) as u32;
    let entry = register << ENTRY_RANK_BITS;
    if between_of(entry) != 0 {
        return entry;
    }
    let rest = hash << LISTED_BITS | 1 << (LISTED_BITS - 1);
    entry | (rest.leading_zeros() + 1)
}

/// The number of the listed register.
fn register_of(entry: u32) -> u32 {
    entry >> ENTRY_RANK_BITS
}

/// The part of the number that a folded register does not have.
fn between_of(entry: u32) -> u32 {
    register_of(entry) & ((1 << BETWEEN_BITS) - 1)
}

/// Raises the folded register of an entry.
fn fold_entry(registers: &mut [u8], entry: u32) {
    let rank = match between_of(entry) {
        0 => BETWEEN_BITS + (entry & ((1 << ENTRY_RANK_BITS) - 1)),
        between => between.leading_zeros() - (u32::BITS - BETWEEN_BITS) + 1,
    };
    // At most RANK_MAX.
    let rank = rank as u8;
    if let Some(register) = registers.get_mut((register_of(entry) >> BETWEEN_BITS) as usize) {
        *register = (*register).max(rank);
    }
}

/// The entries of both; of two for one register the larger.
fn union(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut both = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let entry = (*one).max(*other);
        let taken = match register_of(*one).cmp(&register_of(*other)) {
            Ordering::Less => left.next(),
            Ordering::Greater => right.next(),
            Ordering::Equal => {
                left.next();
                right.next();
                Some(entry)
            }
        };
        both.extend(taken);
    }
    both.extend(left.chain(right));
    both
}

/// Ertl's improved raw estimator.
fn estimate(ranks: &[u8]) -> f64 {
    let registers = REGISTERS as f64;
    let mut counts = [0_u32; RANK_MAX as usize + 1];
    for rank in ranks {
        counts.get_mut(usize::from(*rank)).into_iter().for_each(|count| *count += 1);
    }
    let (Some((empty, inner)), full) = (counts.split_first(), counts.last().copied().unwrap_or(0)) else {
        return 0.0;
    };
    let mut sum = registers * tau(1.0 - f64::from(full) / registers);
    for count in inner.iter().rev().skip(1) {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += registers * sigma(f64::from(*empty) / registers);
    registers * registers / (2.0 * std::f64::consts::LN_2 * sum)
}

/// x + the sum over k >= 1 of x^(2^k) 2^(k-1), for x in [0, 1).
fn sigma(mut x: f64) -> f64 {
    let (mut scale, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * scale;
        scale += scale;
        // Infinite for x = 1, where all registers are empty.
        if sum == before || sum.is_infinite() {
            return sum;
        }
    }
}

/// (1 - x - the sum over k >= 1 of (1 - x^(2^-k))^2 2^-k) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut scale, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        scale *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * scale;
        if sum == before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests;
