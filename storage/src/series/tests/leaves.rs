//! Series that leave: gone from every answer, their ids never given again, the same from every order of log and files.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::*;

const M: MeasurementId = MeasurementId(0);

fn ids(ids: &[u32]) -> RoaringBitmap {
    ids.iter().copied().collect()
}

fn left(first: u32, count: u32) -> Definition {
    Definition::Left { first: SeriesId(first), count }
}

/// Ids and keys of a measurement, as readers see them.
fn listed(catalog: &Catalog, measurement: MeasurementId) -> Vec<(u32, String)> {
    let found = catalog.select(measurement, &[], 1000).expect("few series");
    found.into_iter().map(|one| (one.id.0, one.key.to_string())).collect()
}

fn tempdir() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|error| Error::io("temporary directory", error))
}

#[test]
fn leave_takes_a_series_from_every_answer_and_limit() -> Result<()> {
    let limits = CatalogLimits { series_max: 3, measurement_series_max: 3, tag_values_max: 2, ..LIMITS };
    let catalog = Catalog::new(limits);
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2,u=1", 1, X), ("n,t=1", 1, X)]);
    check_rejected(
        &catalog,
        ("m,t=3", 1, X),
        "series limit reached: 3 series (limit series_max), tag key \"t\" has 2 values; the new series is m{t=\"3\"}",
    );
    catalog.leave(&ids(&[1, 77]));
    catalog.sweep();
    assert_eq!((catalog.series_count(), listed(&catalog, M)), (2, vec![(0, "m{t=\"1\"}".to_owned())]));
    assert_eq!(catalog.schema("m").map(|schema| schema.tag_keys), Some(vec!["t".into()]));
    assert_eq!(catalog.key(SeriesId(1)).map(|key| key.to_string()), Some("m{t=\"2\",u=\"1\"}".to_owned()));
    assert_eq!(catalog.keys(&[SeriesId(1)])?.len(), 1, "whoever selected it before still gets its key");
    // Room for one series and one value; the raw key was cached.
    assert_eq!(accept(&catalog, &[("m,t=3", 2, X), ("m,t=1", 2, X)])[0].1.series, [SeriesId(3), SeriesId(0)]);
    catalog.leave(&ids(&[3]));
    catalog.sweep();
    assert_eq!(
        accept(&catalog, &[("m,t=2,u=1", 3, X)])[0].1.series,
        [SeriesId(4)],
        "written again: a new id"
    );
    assert_eq!(catalog.left(), ids(&[1, 3]));
    Ok(())
}

#[test]
fn leave_is_pending_before_the_same_key_under_a_new_id() {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X), ("m,t=3", 1, X), ("m,t=4", 1, X)]);
    catalog.take_pending();
    catalog.leave(&ids(&[0, 2, 3]));
    catalog.sweep();
    accept(&catalog, &[("m,t=3", 2, X)]);
    let pending = catalog.take_pending();
    assert!(
        matches!(&pending[..], [one, other, Definition::Series { id: SeriesId(4), .. }]
            if [one, other] == [&left(0, 1), &left(2, 2)]),
        "{pending:?}"
    );
    catalog.leave(&ids(&[1]));
    catalog.sweep();
    catalog.leave(&ids(&[0, 1, 2, 9]));
    catalog.sweep();
    assert_eq!(catalog.take_pending(), [left(1, 1)], "each leaves once");
    catalog.leave(&ids(&[4]));
    catalog.sweep();
    catalog.note_saved();
    assert_eq!((catalog.take_pending(), catalog.has_unsaved_leaves()), (Vec::new(), false));
}

#[test]
fn key_that_comes_back_before_the_sweep_is_found_under_its_new_id() {
    for is_swept in [false, true] {
        let catalog = Catalog::new(LIMITS);
        accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X)]);
        catalog.leave(&ids(&[0]));
        for spelling in ["m,t=1", "m,t=1,", "m,t=1", "m,t=1,,"] {
            assert_eq!(accept(&catalog, &[(spelling, 2, X)])[0].1.series, [SeriesId(2)], "{spelling}");
            if is_swept {
                catalog.sweep();
            }
        }
        catalog.sweep();
        assert_eq!(listed(&catalog, M).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((catalog.series_count(), catalog.left()), (2, ids(&[0])));
    }
}

/// A catalog of files and then of a log.
fn replayed(dir: &std::path::Path, files: &[u64], log: &[Vec<Definition>]) -> Result<Catalog> {
    let catalog = Catalog::new(LIMITS);
    for number in files {
        catalog.load(&OsFs, dir, *number)?;
    }
    catalog.note_saved();
    log.iter().flatten().try_for_each(|definition| catalog.define(definition))?;
    Ok(catalog)
}

/// Crashes between every two of: files of the definitions, the leave, the key again, files of that, in the log or not.
#[test]
fn replay_of_every_part_of_files_and_log_agrees() -> Result<()> {
    let dir = tempdir()?;
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X), ("m,t=3", 1, X)]);
    let first = catalog.take_pending();
    let mark = catalog.save(&OsFs, dir.path(), 1, CatalogMark::default())?;
    catalog.leave(&ids(&[0, 1]));
    catalog.sweep();
    accept(&catalog, &[("m,t=4", 2, X), ("m,t=2", 2, X)]);
    let second = catalog.take_pending();
    catalog.save(&OsFs, dir.path(), 2, mark)?;
    catalog.save(&OsFs, dir.path(), 3, CatalogMark::default())?;
    let expected = listed(&catalog, M);
    assert_eq!(expected.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 4]);
    let whole = all(&catalog);
    for files in [&[1, 2][..], &[1], &[3], &[1, 2, 1, 2]] {
        for log in [vec![], vec![first.clone()], vec![second.clone()], vec![first.clone(), second.clone()]] {
            let copy = replayed(dir.path(), files, &log)?;
            let place = format!("files {files:?}, log {log:?}");
            if files != [1] || log.last() == Some(&second) {
                assert_eq!((listed(&copy, M), all(&copy)), (expected.clone(), whole.clone()), "{place}");
                assert_eq!(accept(&copy, &[("m,t=1", 9, X)])[0].1.series, [SeriesId(5)], "{place}");
            } else {
                let found: Vec<u32> = listed(&copy, M).into_iter().map(|(id, _)| id).collect();
                assert_eq!(found, [0, 1, 2], "the leave has not taken place: {place}");
            }
            // What the log alone knows is in the next file.
            assert_eq!(copy.has_unsaved_leaves(), files == [1] && log.last() == Some(&second), "{place}");
        }
    }
    let copy = replayed(dir.path(), &[1], &[second])?;
    copy.save(&OsFs, dir.path(), 4, mark)?;
    assert_eq!(all(&replayed(dir.path(), &[1, 4], &[])?), whole);
    Ok(())
}

#[test]
fn save_whole_keeps_ids_and_names_what_left_in_its_place() -> Result<()> {
    let dir = tempdir()?;
    let catalog = Catalog::new(LIMITS);
    let keys: Vec<String> = (0..20).map(|n| format!("m,t={n}")).collect();
    accept(&catalog, &keys.iter().map(|key| (&**key, 1, X)).collect::<Vec<_>>());
    catalog.leave(&ids(&[0, 1, 2, 7, 18, 19]));
    catalog.sweep();
    catalog.save(&OsFs, dir.path(), 1, CatalogMark::default())?;
    let found: Vec<_> = file::read(&OsFs, dir.path(), 1)?
        .into_iter()
        .filter(|definition| matches!(definition, Definition::Left { .. }))
        .collect();
    assert_eq!(found, [left(0, 3), left(7, 1), left(18, 2)]);
    let copy = replayed(dir.path(), &[1], &[])?;
    assert_eq!((all(&copy), copy.mark()), (all(&catalog), catalog.mark()));
    assert_eq!((listed(&copy, M), copy.left()), (listed(&catalog, M), catalog.left()));
    for one in [&catalog, &copy] {
        assert_eq!(accept(one, &[("m,t=7", 2, X), ("m,t=8", 2, X)])[0].1.series, [SeriesId(20), SeriesId(8)]);
    }
    Ok(())
}

#[test]
fn define_left_beyond_what_is_known_is_corruption() -> Result<()> {
    let catalog = Catalog::new(LIMITS);
    accept(&catalog, &[("m,t=1", 1, X), ("m,t=2", 1, X)]);
    let before = all(&catalog);
    for wrong in [left(3, 1), left(1, 2), left(0, 3), left(0, 0), left(2, u32::MAX), left(u32::MAX, 1)] {
        let kind = catalog.define(&wrong).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::Corruption), "{wrong:?}");
    }
    assert_eq!(all(&catalog), before);
    // A definition that is missing is noticed also behind ids that left.
    catalog.define(&left(2, 3))?;
    let key = Arc::new(SeriesKey::new("m", [("t", "9")])?);
    let series = |id| Definition::Series { id: SeriesId(id), measurement: M, key: Arc::clone(&key) };
    assert_eq!(catalog.define(&series(6)).map_err(|error| error.kind()), Err(ErrorKind::Corruption));
    catalog.define(&series(3))?;
    assert_eq!(catalog.series_count(), 2, "an older part of the log may define what left");
    catalog.define(&series(5))?;
    assert_eq!(catalog.series_count(), 3);
    Ok(())
}

#[test]
fn shrink_gives_back_what_left_before_and_changes_no_answer() {
    let catalog = Catalog::new(LIMITS);
    let keys: Vec<String> = (0..60).map(|n| format!("m{},t={},u={n},w{}=1", n % 2, n % 7, n % 3)).collect();
    accept(&catalog, &keys.iter().map(|key| (&**key, 1, X)).collect::<Vec<_>>());
    catalog.leave(&(0..30).collect());
    catalog.sweep();
    catalog.shrink();
    assert!(catalog.key(SeriesId(3)).is_some(), "as many are there as have left");
    catalog.leave(&ids(&[31]));
    catalog.sweep();
    let before = (listed(&catalog, M), listed(&catalog, MeasurementId(1)), all(&catalog), catalog.mark());
    catalog.shrink();
    let after = (listed(&catalog, M), listed(&catalog, MeasurementId(1)), all(&catalog), catalog.mark());
    assert_eq!(before, after);
    assert_eq!(catalog.keys(&[SeriesId(3)]).expect_err("it is gone").kind(), ErrorKind::Unavailable);
    assert_eq!(catalog.encode_key(SeriesId(4), &mut Vec::new()), None);
    let series =
        accept(&catalog, &[("m0,t=4,u=32,w2=1", 2, X), ("m0,t=0,u=0,w0=1", 2, X)]).remove(0).1.series;
    assert_eq!(series, [SeriesId(32), SeriesId(60)]);
}

#[test]
fn shrink_gives_back_few_that_left_when_names_take_most_of_the_room() {
    let keys: Vec<String> = (0..60).map(|n| format!("m,u={n}")).collect();
    let filled = |catalog_bytes_max| {
        let catalog = Catalog::new(CatalogLimits { catalog_bytes_max, ..LIMITS });
        accept(&catalog, &keys.iter().map(|key| (&**key, 1, X)).collect::<Vec<_>>());
        catalog.leave(&(0..10).collect());
        catalog.sweep();
        catalog
    };
    let bytes = filled(usize::MAX).bytes();
    for (room, gives_back) in [(2 * bytes, false), (bytes + bytes / 8, true)] {
        let catalog = filled(room);
        assert_eq!(catalog.is_mostly_left(), gives_back, "{room} bytes");
        catalog.shrink();
        assert_eq!(catalog.key(SeriesId(3)).is_none(), gives_back, "{room} bytes");
        assert_eq!((catalog.bytes() < bytes, catalog.is_mostly_left()), (gives_back, false), "{room} bytes");
    }
}

/// Keys come, leave and come again, in any order: as a map from key to id says.
#[test]
fn keys_that_come_and_leave_equal_a_map() -> Result<()> {
    let dir = tempdir()?;
    let mut state = 7_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let keys: Vec<String> = (0..50).map(|n| format!("m,a={},b={},c={n}", n % 4, n % 9)).collect();
    let catalog = Catalog::new(LIMITS);
    let mut model: BTreeMap<&str, u32> = BTreeMap::new();
    let mut next = 0;
    for round in 1..200 {
        catalog.tick(round as i64 * 60 * SECOND_NS);
        for _ in 0..below(8) {
            let key = &*keys[below(50) as usize];
            let id = *model.entry(key).or_insert(next);
            next = next.max(id + 1);
            assert_eq!(accept(&catalog, &[(key, 1, X)])[0].1.series, [SeriesId(id)], "round {round}");
        }
        let leaving: Vec<&str> = model.keys().copied().filter(|_| below(5) == 0).collect();
        catalog.shrink();
        catalog.leave(&leaving.iter().filter_map(|key| model.remove(key)).collect());
        if let Some(key) = leaving.first().filter(|_| round % 2 == 0) {
            assert_eq!(accept(&catalog, &[(key, 1, X)])[0].1.series, [SeriesId(next)], "round {round}");
            model.insert(key, next);
            next += 1;
        }
        catalog.sweep();
        let mut expected: Vec<(u32, String)> = model
            .iter()
            .map(|(key, id)| {
                (*id, format!("{}\"}}", key.replacen(',', "{", 1).replace('=', "=\"").replace(',', "\",")))
            })
            .collect();
        expected.sort();
        assert_eq!((listed(&catalog, M), catalog.series_count()), (expected, model.len()), "round {round}");
        let matcher = TagMatcher { key: "b".to_owned(), test: TagTest::Equal("3".to_owned()) };
        let found = catalog.select_ids(M, &[matcher], 100)?;
        let mut expected: Vec<SeriesId> =
            model.iter().filter(|(key, _)| key.contains("b=3")).map(|(_, id)| SeriesId(*id)).collect();
        expected.sort();
        assert_eq!(found, expected, "round {round}");
        if round % 20 == 0 {
            catalog.save(&OsFs, dir.path(), round, CatalogMark::default())?;
            let copy = replayed(dir.path(), &[round], &[])?;
            assert_eq!((all(&copy), listed(&copy, M)), (all(&catalog), listed(&catalog, M)));
        }
    }
    assert!(300 < next, "{next}");
    Ok(())
}
