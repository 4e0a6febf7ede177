//! Byte strings in one piece, by the order in which they came: a million allocations of a few bytes would cost more
//! than the bytes. Knows nothing of what they mean.

/// Strings that are only ever added. The first has number 0, the next 1.
#[derive(Debug, Default)]
pub(super) struct Pool {
    bytes: Vec<u8>,
    /// Where each string ends, the lower 32 bits: a string begins where the one before ends.
    ends: Vec<u32>,
    /// The first string whose end lies behind each further 4 GiB.
    carries: Vec<u32>,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Adds a string and gives its number. Callers bound the count: series have ids of 32 bits, and no tag has more
    /// values than there are series.
    pub(super) fn push(&mut self, string: &[u8]) -> u32 {
        let number = u32::try_from(self.ends.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(string);
        self.end_at(number, self.bytes.len() as u64);
        number
    }

    fn end_at(&mut self, number: u32, end: u64) {
        let crossed = (end >> 32).saturating_sub(self.carries.len() as u64);
        self.carries.extend((0..crossed).map(|_| number));
        // The upper bits are in the carries.
        self.ends.push((end & u64::from(u32::MAX)) as u32);
    }

    /// The string of a number that [`Pool::push`] gave; else nothing.
    pub(super) fn get(&self, number: u32) -> &[u8] {
        let end = self.end_of(number).unwrap_or(0);
        let start = number.checked_sub(1).and_then(|before| self.end_of(before)).unwrap_or(0);
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn end_of(&self, number: u32) -> Option<usize> {
        let low = u64::from(*self.ends.get(number as usize)?);
        let high = self.carries.partition_point(|first| *first <= number) as u64;
        usize::try_from(high << 32 | low).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_returns_what_was_pushed() {
        let strings: Vec<Vec<u8>> = [0, 3, 0, 70_000, 1].map(|len| vec![len as u8; len]).into();
        let mut pool = Pool::default();
        assert_eq!(pool.get(0), b"");
        let numbers: Vec<u32> = strings.iter().map(|string| pool.push(string)).collect();
        assert_eq!((numbers, pool.len()), (vec![0, 1, 2, 3, 4], 5));
        for (number, string) in (0..).zip(&strings) {
            assert_eq!(pool.get(number), string);
        }
        assert_eq!(pool.get(5), b"", "no such number");
    }

    #[test]
    fn end_of_strings_behind_4_gib_is_whole() {
        let mut pool = Pool::default();
        let ends = [5, u64::from(u32::MAX), 1 << 32, (1 << 32) + 9, (3 << 32) + 1, (3 << 32) + 1, 4 << 32];
        (0..).zip(ends).for_each(|(number, end)| pool.end_at(number, end));
        let found: Vec<Option<usize>> = (0..8).map(|number| pool.end_of(number)).collect();
        let expected = ends.iter().map(|end| usize::try_from(*end).ok()).chain([None]);
        assert_eq!(found, expected.collect::<Vec<_>>());
    }
}
