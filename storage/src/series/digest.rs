//! 128 bits that stand for a raw key, so that a cache of keys need not hold their text.
//!
//! Two different keys with one digest would put rows into the wrong series, so this is no ordinary hash: it is a
//! universal one, for which the probability can be proven. For two keys, chosen by whoever does not know the random
//! numbers below, it is at most 2^-126 (`docs/decisions/0006-digests-of-raw-keys.md`).
//!
//! Each half, with random numbers of its own: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, CRYPTO 1999) over
//! the key as 64-bit words, padded with zeros: at most 2^-64 for keys of one length. Then the two words of its result
//! and the length with the dialect as a sum of products (Multilinear; Lemire, Kaser: Strongly universal string
//! hashing is fast, 2014): at most 2^-64 more.

use std::hash::{BuildHasher, RandomState};

/// Longer keys have no digest. Ordinary keys are a tenth of it.
pub(super) const RAW_BYTES_MAX: usize = 4096;
/// NH takes two words at a time.
const PAIR_BYTES: usize = 16;

/// 128 bits that stand for a key and its dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(pub(super) [u64; 2]);

/// The random numbers.
pub(super) struct DigestKeys {
    /// For each pair of words the numbers of both halves.
    pairs: Box<[[[u64; 2]; 2]]>,
    halves: [Finish; 2],
}

/// The numbers of the second step.
struct Finish {
    start: u128,
    low: u128,
    high: u128,
    length: u128,
}

impl DigestKeys {
    /// Draws the numbers: the keyed hash of the standard library over a counter, its key from the system.
    pub(super) fn random() -> Self {
        let (source, mut counter) = (RandomState::new(), 0_u64);
        Self::new(&mut || {
            counter += 1;
            source.hash_one(counter)
        })
    }

    fn new(next: &mut dyn FnMut() -> u64) -> Self {
        let mut wide = || u128::from(next()) << 64 | u128::from(next());
        let mut finish = || Finish { start: wide(), low: wide(), high: wide(), length: wide() };
        let halves = [finish(), finish()];
        let pairs = (0..RAW_BYTES_MAX / PAIR_BYTES).map(|_| [[next(), next()], [next(), next()]]).collect();
        Self { pairs, halves }
    }

    /// The digest of a key; `None` when it is too long.
    pub(super) fn digest(&self, dialect: u8, raw: &[u8]) -> Option<Digest> {
        if RAW_BYTES_MAX < raw.len() {
            return None;
        }
        let (pairs, rest) = raw.as_chunks::<PAIR_BYTES>();
        let (mut one, mut other) = (0_u128, 0_u128);
        let mut add = |pair: &[u8; PAIR_BYTES], keys: &[[u64; 2]; 2]| {
            one = one.wrapping_add(product(pair, keys[0]));
            other = other.wrapping_add(product(pair, keys[1]));
        };
        for (pair, keys) in pairs.iter().zip(&self.pairs) {
            add(pair, keys);
        }
        if let Some(keys) = self.pairs.get(pairs.len())
            && !rest.is_empty()
        {
            let mut last = [0; PAIR_BYTES];
            last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            add(&last, keys);
        }
        // At most RAW_BYTES_MAX long.
        let length = (raw.len() as u64) << 8 | u64::from(dialect);
        let [first, second] = &self.halves;
        Some(Digest([first.of(one, length), second.of(other, length)]))
    }
}

/// One term of NH.
fn product(pair: &[u8; PAIR_BYTES], keys: [u64; 2]) -> u128 {
    let both = u128::from_le_bytes(*pair);
    let (low, high) = words(both);
    u128::from(low.wrapping_add(keys[0])) * u128::from(high.wrapping_add(keys[1]))
}

/// The lower and the upper word.
fn words(both: u128) -> (u64, u64) {
    (both as u64, (both >> 64) as u64)
}

impl Finish {
    fn of(&self, sum: u128, length: u64) -> u64 {
        let (low, high) = words(sum);
        let terms = [(self.low, low), (self.high, high), (self.length, length)];
        let add = |sum: u128, (key, word): (u128, u64)| sum.wrapping_add(key.wrapping_mul(u128::from(word)));
        words(terms.into_iter().fold(self.start, add)).1
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn keys(seed: u64) -> DigestKeys {
        let mut state = seed;
        // SplitMix64.
        DigestKeys::new(&mut || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    /// The definition, word for word, with numbers of any size.
    fn by_definition(keys: &DigestKeys, half: usize, dialect: u8, raw: &[u8]) -> u64 {
        let word = |place: usize| {
            let bytes =
                (0..8).map(|byte| u128::from(raw.get(8 * place + byte).copied().unwrap_or(0)) << (8 * byte));
            bytes.sum::<u128>()
        };
        let modulus = 1_u128 << 64;
        let sum = (0..raw.len().div_ceil(16)).fold(0_u128, |sum, pair| {
            let [first, second] = keys.pairs[pair][half].map(u128::from);
            let product = ((word(2 * pair) + first) % modulus) * ((word(2 * pair + 1) + second) % modulus);
            sum.wrapping_add(product)
        });
        let finish = &keys.halves[half];
        let length = raw.len() as u128 * 256 + u128::from(dialect);
        let low = finish.low.wrapping_mul(sum % modulus);
        let high = finish.high.wrapping_mul(sum / modulus);
        let all = finish.start.wrapping_add(low).wrapping_add(high);
        (all.wrapping_add(finish.length.wrapping_mul(length)) / modulus) as u64
    }

    #[test]
    fn digest_is_what_the_papers_say() {
        let keys = keys(1);
        for len in (0..70).chain([4000, 4095, 4096]) {
            let raw: Vec<u8> = (0..len).map(|n| (n * 37 + len) as u8).collect();
            for dialect in [0, 1, 255] {
                let expected = [0, 1].map(|half| by_definition(&keys, half, dialect, &raw));
                assert_eq!(keys.digest(dialect, &raw), Some(Digest(expected)), "{len} bytes");
            }
        }
        assert_eq!(keys.digest(0, &[0; RAW_BYTES_MAX + 1]), None);
    }

    /// Each half by itself, for keys that differ as little as can be: a bit, a zero at the end, the dialect.
    #[test]
    fn digest_of_keys_that_hardly_differ_differs_in_both_halves() {
        let keys = keys(2);
        let mut halves = [HashSet::new(), HashSet::new()];
        let mut count = 0;
        let mut note = |dialect: u8, raw: &[u8]| {
            let Digest(digest) = keys.digest(dialect, raw).expect("it is short");
            count += 1;
            for (half, known) in digest.iter().zip(&mut halves) {
                assert!(known.insert(*half), "{dialect}, {raw:?}");
            }
            assert_eq!(halves[0].len(), count);
        };
        for len in 0..100 {
            let mut raw = vec![0; len];
            note(1, &raw);
            note(2, &raw);
            for bit in 0..8 * len {
                raw[bit / 8] ^= 1 << (bit % 8);
                note(1, &raw);
                raw[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn random_numbers_are_drawn_anew() {
        let (one, other) = (DigestKeys::random(), DigestKeys::random());
        assert_ne!(one.digest(1, b"cpu,host=a"), other.digest(1, b"cpu,host=a"));
        let drawn: HashSet<u64> = one.pairs.iter().flatten().flatten().copied().collect();
        assert_eq!(drawn.len(), RAW_BYTES_MAX / PAIR_BYTES * 4);
    }
}
