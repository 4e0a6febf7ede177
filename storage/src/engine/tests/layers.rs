//! The files of a rolled span: rows of sparse series lie in the 1m and the 5m layer, wherever dense series come between.

use super::*;
use crate::model::{ColumnKey, Stat};
use crate::segment::Texts;

/// More rows of sparse series between two dense ones than it takes to bring the pages of two layers together.
const HOSTS: usize = 130;
const DENSE: [usize; 4] = [0, 60, 61, 129];

/// Edges of a tier: (series, time) to the bits of the value.
fn edges(engine: &Engine, tier: Tier) -> BTreeMap<(u32, i64), u64> {
    let mut edges = BTreeMap::new();
    for live in engine.store.version().of_tier(tier) {
        live.segment.verify().unwrap();
        let section = &live.segment.sections()[0];
        for page in 0..section.pages.len() {
            let page = live.segment.load(section, page, Texts::Presence).unwrap();
            let key = ColumnKey { field: FieldId(0), stat: Stat::Edge };
            let Some(column) = page.columns.iter().find(|column| column.key == key) else { continue };
            let mut start = 0;
            for (series, end) in &page.keys.series {
                for row in start..*end as usize {
                    if let Some(value) = column.number(row) {
                        edges.insert((series.0, page.keys.ts_ns[row]), value.to_bits());
                    }
                }
                start = *end as usize;
            }
        }
    }
    edges
}

#[test]
fn roll_sparse_series_between_dense_ones_are_in_both_layers() {
    let rig = Rig::new(Retention::FOREVER);
    let names: Vec<String> = (0..HOSTS).map(|host| format!("host-{host:03}")).collect();
    let mut rows = Vec::new();
    let mut expected = BTreeMap::new();
    for (host, name) in names.iter().enumerate() {
        let (count, step_ns) = if DENSE.contains(&host) { (1200, SECOND_NS) } else { (20, MINUTE_NS) };
        for row in 0..count {
            let (ts_ns, value) = (START_NS + 7 + row * step_ns, (host * 31) as f64 + row as f64 / 8.0);
            rows.push((name.as_str(), ts_ns, value));
            if !DENSE.contains(&host) {
                expected.insert((host as u32, ts_ns), value.to_bits());
            }
        }
    }
    rig.write(&rows);
    rig.engine.seal().unwrap();
    for tier in [Tier::M1, Tier::M5] {
        assert!(edges(&rig.engine, tier) == expected, "the rows of {tier:?} are not those written");
    }
    let pages = |tier| -> Vec<u32> {
        let version = rig.engine.store.version();
        let live = version.of_tier(tier).next().unwrap();
        live.segment.sections()[0].pages.iter().map(|page| page.rows).collect()
    };
    // Dense series have 20 and 4 cells, sparse ones 20 rows. Pages come together after 1,024 rows, at host 53 and 114.
    assert_eq!((pages(Tier::M1), pages(Tier::M5)), (vec![1060, 1220, 320], vec![1044, 1188, 304]));
}
