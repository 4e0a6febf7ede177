//! Distinct texts are those of the rows: from memtables, codes of segments, texts that are not coded, rows that lie in
//! several sources, with late, overwritten and deleted ones.

use std::collections::BTreeSet;

use super::world::{self, Random, TestRow, content};
use super::*;
use crate::model::Value;
use crate::scan::DistinctRequest;

const HOSTS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const GROUPS: u32 = 4;

fn rows(random: &mut Random, (start_ns, end_ns): (i64, i64), count: usize, texts: u64) -> Vec<TestRow> {
    let mut row = || {
        let ts_ns = start_ns + random.below((end_ns - start_ns) as u64 / SECOND_NS as u64) as i64 * SECOND_NS;
        let mut fields = vec![("n", Value::Int(1))];
        if random.below(5) != 0 {
            let text = match random.below(40) {
                0 => String::new(),
                _ => format!("user {}", random.below(texts)),
            };
            fields.push(("text", Value::Str(text)));
        }
        TestRow { measurement: "m", host: random.one_of(&HOSTS), ts_ns, fields }
    };
    (0..count).map(|_| row()).collect()
}

/// Compares some groups of series in some range; returns how many pages were read.
fn check(engine: &Engine, random: &mut Random) -> u64 {
    let view = engine.view();
    let schema = view.schema("m").unwrap();
    let all = view.series(schema.measurement, &[], TimeRange::ALL, 99).unwrap();
    let asked: Vec<_> = all.into_iter().filter(|_| random.below(8) != 0).collect();
    let series: Vec<SeriesId> = asked.iter().map(|info| info.id).collect();
    let groups: Vec<u32> = series.iter().map(|_| random.below(u64::from(GROUPS)) as u32).collect();
    let cut = |random: &mut Random| START_NS + random.below(6 * 3600) as i64 * SECOND_NS;
    let (one, other) = (cut(random), cut(random));
    let range = random.one_of(&[TimeRange::ALL, TimeRange::new(one.min(other), one.max(other))]);
    let field = schema.fields.iter().find(|field| *field.name == *"text").unwrap().id;
    let request = DistinctRequest {
        measurement: schema.measurement,
        field,
        series: &series,
        range,
        groups: &groups,
        group_count: GROUPS as usize,
    };
    let (found, coverage) = view.distinct(&request, &Unmetered).unwrap();
    let mut expected = vec![BTreeSet::new(); GROUPS as usize];
    for ((_, host, ts_ns, field), value) in content(&*view) {
        let place = asked.iter().position(|info| info.key.tag("host") == Some(&host));
        if let (Some(place), "text", Value::Str(text)) = (place, &*field, value)
            && range.contains(ts_ns)
        {
            expected[groups[place] as usize].insert(text);
        }
    }
    for (group, expected) in expected.iter().enumerate() {
        let texts: BTreeSet<String> = found.texts_of(group).map(str::to_owned).collect();
        assert_eq!(
            (&texts, found.count(group)),
            (expected, expected.len() as u64),
            "group {group} in {range:?}"
        );
    }
    coverage.pages
}

#[test]
fn distinct_texts_are_those_of_the_rows_in_every_state() {
    let mut pages = 0;
    for seed in 0..crate::testing::Scale::asked().of(12_u64, 200, 2000) {
        let mut random = Random(seed);
        let rig = Rig::new(Retention::FOREVER);
        rig.clock.advance(6 * HOUR_NS);
        let hours = |from: i64, to: i64| (START_NS + from * HOUR_NS, START_NS + to * HOUR_NS);
        let write = |random: &mut Random, span, count| {
            let rows = rows(random, span, count, 300);
            assert!(world::write(&rig.engine, &rows).unwrap().rejected.is_empty());
        };
        write(&mut random, hours(0, 3), 3000);
        pages += check(&rig.engine, &mut random);
        rig.engine.flush().unwrap();
        pages += check(&rig.engine, &mut random);
        // Late rows, many of which are others written anew.
        write(&mut random, hours(2, 4), 900);
        pages += check(&rig.engine, &mut random);
        rig.engine.flush().unwrap();
        pages += check(&rig.engine, &mut random);
        let (host, hidden) =
            (random.one_of(&HOSTS), TimeRange::new(START_NS + HOUR_NS, START_NS + 3 * HOUR_NS));
        world::delete(&rig.engine, "m", Some(host), hidden).unwrap();
        write(&mut random, hours(5, 6), 300);
        pages += check(&rig.engine, &mut random);
        rig.engine.seal().unwrap();
        pages += check(&rig.engine, &mut random);
    }
    assert!(pages > 0);
}

#[test]
fn distinct_texts_beyond_a_dictionary_are_found_row_by_row() {
    let mut random = Random(1);
    let rig = Rig::new(Retention::FOREVER);
    rig.clock.advance(6 * HOUR_NS);
    let rows = rows(&mut random, (START_NS, START_NS + 6 * HOUR_NS), 40_000, 1 << 40);
    world::write(&rig.engine, &rows).unwrap();
    rig.engine.flush().unwrap();
    for _ in 0..3 {
        check(&rig.engine, &mut random);
    }
}
