//! Laws of the sketch: a pure function of the set, and near the truth.

use proptest::prelude::*;

use super::*;

fn of(values: impl IntoIterator<Item = i64>) -> Uniques {
    let mut uniques = Uniques::default();
    values.into_iter().for_each(|value| uniques.add(ValueRef::Int(value)));
    uniques
}

#[test]
fn hash_is_the_one_of_the_format() {
    // From the specification of XXH64, seed 0.
    assert_eq!(hash_of(b""), 0xef46_db37_51d8_e999);
    assert_eq!(hash_of(b"abc"), 0x44bc_2cf5_ad77_0999);
}

#[test]
fn entry_of_a_hash_folds_to_the_rank_of_the_hash() {
    let check = |hash: u64| {
        let mut registers = vec![0; REGISTERS];
        fold_entry(&mut registers, entry_of(hash));
        let expected = ((hash << FOLDED_BITS) | 1 << (FOLDED_BITS - 1)).leading_zeros() + 1;
        assert_eq!(u32::from(registers[(hash >> 52) as usize]), expected, "{hash:016x}");
        assert!(UniquesRef::Listed(&[entry_of(hash)]).is_sound());
    };
    check(0);
    check(u64::MAX);
    (0..64).for_each(|bit| check(1 << bit));
    (0..64).for_each(|bit| check(u64::MAX >> bit));
}

#[test]
fn estimate_of_few_values_is_exact() {
    for count in [0, 1, 10, 100, 1000] {
        assert_eq!(of(0..count).estimate(), count as u64);
    }
    let mut zeros = Uniques::default();
    [0.0, -0.0, 1.5].into_iter().for_each(|value| zeros.add(ValueRef::Float(value)));
    assert_eq!(zeros.estimate(), 2);
}

#[test]
fn estimate_stays_within_the_stated_error() {
    for (count, sets) in [(1_025_i64, 40), (3_000, 40), (20_000, 40), (100_000, 20), (1_000_000, 4)] {
        let errors: Vec<f64> = (0..sets)
            .map(|set| {
                let first = set * 10_000_000;
                of(first..first + count).estimate() as f64 / count as f64 - 1.0
            })
            .collect();
        let square = errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64;
        let bias = errors.iter().sum::<f64>() / errors.len() as f64;
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
        println!("{count} values: standard error {:.4}, bias {bias:.4}, worst {worst:.4}", square.sqrt());
        // 1.6 % is expected; the mean of 20 squares strays by a third.
        assert!(square.sqrt() < 0.022, "{count} values: {errors:?}");
        assert!(worst < 0.05, "{count} values: {errors:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sketch_is_a_function_of_the_set(
        // Around the length where lists are folded.
        starts in proptest::collection::vec((0_i64..3000, 0_i64..900), 1..6),
        turn in 0_usize..6,
    ) {
        let pieces: Vec<Uniques> = starts.iter().map(|(start, len)| of(*start..start + len)).collect();
        let mut merged = Uniques::default();
        pieces.iter().for_each(|piece| merged.merge(piece.view()));
        let mut turned = Uniques::default();
        let middle = turn % pieces.len();
        pieces[middle..].iter().chain(&pieces[..middle]).rev().for_each(|piece| turned.merge(piece.view()));
        let mut tree = Uniques::default();
        for pair in pieces.chunks(2) {
            let mut both = pair[0].clone();
            pair[1..].iter().for_each(|piece| both.merge(piece.view()));
            tree.merge(both.view());
        }
        let mut all: Vec<i64> = starts.iter().flat_map(|(start, len)| *start..start + len).collect();
        all.sort_unstable_by_key(|value| (value % 7, *value));
        let direct = of(all.iter().copied());
        prop_assert!(direct.view().is_sound());
        prop_assert_eq!(&merged, &direct);
        prop_assert_eq!(&turned, &direct);
        prop_assert_eq!(&tree, &direct);
        all.sort_unstable();
        all.dedup();
        if all.len() <= ENTRIES_MAX {
            prop_assert_eq!(direct.estimate(), all.len() as u64);
        }
    }
}
