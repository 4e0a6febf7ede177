//! What the names of cached parts take, and that handles do not mix.

use super::*;

#[test]
fn owner_fits_into_the_padding_of_a_name() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "only its size is asked for")]
    struct WithoutOwner(u64, MeasurementId, Part);
    assert_eq!(size_of::<Slot>(), size_of::<WithoutOwner>());
}

#[test]
fn handles_of_one_room_have_names_and_counts_of_their_own() {
    let one = PageCache::new(1 << 20);
    let other = one.for_another();
    let slot = |cache: &PageCache| cache.slot(7, MeasurementId(0), Part::Series);
    one.insert(slot(&one), Entry::Series(Arc::default()));
    assert!(one.get(&slot(&one)).is_some() && other.get(&slot(&other)).is_none());
    assert_eq!((one.hits_and_misses(), other.hits_and_misses()), ((1, 0), (0, 1)));
    assert_eq!((one.bytes(), other.bytes()), (one.bytes(), one.bytes()));
}
