//! Eight bytes at a time in a plain `u64`: where a name ends, how many digits follow, what number they are.
//!
//! Knows nothing of lines. The tests on bytes use the classic borrow trick: a flag may be false only above a true
//! one, so the lowest flag, which is the first byte of the text, is always right.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < 20 {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// Ten to the power of `exponent`; 0 beyond what a `u64` holds.
pub(super) fn power_of_ten(exponent: usize) -> u64 {
    POWERS.get(exponent).copied().unwrap_or(0)
}

/// The first eight bytes, padded with zeros where there are fewer.
fn word(bytes: &[u8]) -> u64 {
    if let Some(chunk) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*chunk);
    }
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(padded)
}

fn flags_equal(word: u64, byte: u8) -> u64 {
    let difference = word ^ (ONES * u64::from(byte));
    difference.wrapping_sub(ONES) & !difference & HIGHS
}

fn flags_below(word: u64, byte: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(byte)) & !word & HIGHS
}

/// Number of bytes before the first `=`, `,`, `\`, space or control byte; all of them when there is none.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (mut len, mut rest) = (0, bytes);
    loop {
        let word = word(rest);
        let stops = flags_below(word, b' ' + 1)
            | flags_equal(word, b'=')
            | flags_equal(word, b',')
            | flags_equal(word, b'\\');
        if stops != 0 {
            // The padding behind the last byte counts as control bytes.
            return (len + lowest_byte(stops)).min(bytes.len());
        }
        len += 8;
        rest = rest.get(8..).unwrap_or_default();
    }
}

fn lowest_byte(flags: u64) -> usize {
    (flags.trailing_zeros() / 8) as usize
}

/// The number made of the leading digits, and how many they are. Above 19 digits the number has wrapped.
pub(super) fn digits(bytes: &[u8]) -> (u64, usize) {
    let (mut number, mut count, mut rest) = (0_u64, 0, bytes);
    loop {
        let word = word(rest);
        let distance = word ^ (ONES * u64::from(b'0'));
        let others = ((distance & !HIGHS).wrapping_add(ONES * 0x76) | distance) & HIGHS;
        if others != 0 {
            let len = lowest_byte(others);
            if len == 0 {
                return (number, count);
            }
            // Zero bytes in front read as leading zeros.
            let aligned = word << (64 - 8 * len);
            return (number.wrapping_mul(power_of_ten(len)).wrapping_add(eight_digits(aligned)), count + len);
        }
        number = number.wrapping_mul(100_000_000).wrapping_add(eight_digits(word));
        count += 8;
        rest = rest.get(8..).unwrap_or_default();
    }
}

/// Adds up neighbours, pairs and quadruples; each step is one multiplication (Lemire's method).
fn eight_digits(word: u64) -> u64 {
    let ones = word & (ONES * 0x0f);
    let pairs = (ones.wrapping_mul(2561) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(6_553_601) >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(42_949_672_960_001) >> 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn plain_len_any_bytes_equals_byte_search(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let stop = |byte: &u8| matches!(byte, b'=' | b',' | b'\\' | 0..=b' ');
            let expected = bytes.iter().position(stop).unwrap_or(bytes.len());
            prop_assert_eq!(plain_len(&bytes), expected);
        }

        #[test]
        fn digits_any_number_reads_back(number in any::<u64>(), shift in 0..64_u32, tail in "[^0-9]?.{0,3}") {
            let number = number >> shift;
            let text = format!("{number}{tail}");
            let len = text.bytes().take_while(u8::is_ascii_digit).count();
            prop_assume!(len == number.to_string().len());
            prop_assert_eq!(digits(text.as_bytes()), (number, len));
        }
    }

    #[test]
    fn digits_neighbours_of_digits_stop() {
        for byte in [0_u8, b'/', b':', b'0' | 0x80, b'9' | 0x80, 0xff] {
            assert_eq!(digits(&[b'1', b'2', byte, b'3']), (12, 2), "{byte}");
        }
    }
}
