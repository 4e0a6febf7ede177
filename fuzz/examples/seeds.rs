//! Writes the seeds that are bytes of files: `cargo run --example seeds`. The others are texts, written by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore::ingest::line::LineLimits;
use icecore::ingest::{Precision, decode};
use icecore_storage::clock::ManualClock;
use icecore_storage::codec::{self, Packing, Source};
use icecore_storage::engine::{Engine, Env};
use icecore_storage::fs::{Fs, SimFs};
use icecore_storage::model::{Uniques, UniquesColumn, ValueRef, Values};
use icecore_storage::options::{Options, Retention};

const NOW_NS: i64 = 1_704_081_600_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fs = Arc::new(SimFs::default());
    let env = Env { fs: Arc::clone(&fs) as Arc<dyn Fs>, clock: Arc::new(ManualClock::new(NOW_NS)) };
    let dir = Path::new("/db");
    let engine =
        Engine::open(env, dir, Options { free_bytes_min: 0, ..Options::default() }, Retention::FOREVER)?;
    let mut body = String::new();
    for minute in 0..240 {
        let time = NOW_NS / 1_000_000_000 - 4 * 3_600 + minute * 60;
        let (n, ok) = (minute * 7 % 31, if minute % 5 == 0 { 'f' } else { 't' });
        // Numbers that look like chance stand in blocks.
        let size = (minute * 0x9e37_79b9) % 65_521;
        let service = n % 3;
        body += &format!(
            "req,service=s{service} latency={n}.5,total={minute}i,size={size}i,ok={ok},note=\"n{n}\" {time}\n"
        );
    }
    let decoded = decode(body.as_bytes(), Precision::S, NOW_NS, &LineLimits::default());
    engine.write(&decoded.batch)?;
    // The log first: sealing covers it.
    let wal = take(&fs, &dir.join("wal"));
    if let Some(log) = wal.first().and_then(|name| fs.get(&dir.join("wal").join(name))) {
        for (index, (kind, payload)) in frames(&log).into_iter().enumerate() {
            let mut seed = vec![kind];
            seed.extend_from_slice(payload);
            keep("wal_record", &format!("record-{index}"), &seed)?;
        }
    }
    keep_sketches()?;
    engine.seal()?;
    let mut kept = 0;
    let names = ["", "segments", "series"].map(|part| take(&fs, &dir.join(part)));
    for name in names.into_iter().flatten() {
        let places = ["", "segments", "series"].map(|part| dir.join(part).join(&name));
        let path = places.iter().find_map(|path| fs.get(path));
        let Some(bytes) = path else { continue };
        if name == "MANIFEST" {
            keep("manifest_open", "sealed", bytes.get(..bytes.len() - 4).unwrap_or_default())?;
        } else if name.ends_with(".cat") {
            let plain = zstd::bulk::decompress(bytes.get(16..bytes.len() - 4).unwrap_or_default(), 1 << 20)?;
            let mut seed = vec![*bytes.get(8).unwrap_or(&0)];
            seed.extend_from_slice(&plain);
            keep("catalog_file", "plain", &seed)?;
        } else if bytes.starts_with(b"ICESEG") {
            keep("segment_open", &format!("segment-{kept}"), &bytes)?;
            kept += 1;
        }
    }
    Ok(())
}

/// Columns of sketches: a few short ones, and one that is folded.
fn keep_sketches() -> Result<(), Box<dyn std::error::Error>> {
    for (name, counts) in [("listed", &[1, 5, 40][..]), ("folded", &[1100, 3]), ("one", &[1])] {
        let mut column = UniquesColumn::default();
        for count in counts {
            let mut uniques = Uniques::default();
            (0..*count).for_each(|value| uniques.add(ValueRef::Int(value)));
            column.push(uniques.view());
        }
        let mut seed = vec![u8::try_from(counts.len())?];
        let values = Values::Uniques(column);
        let source = Source { values: &values, valid: None, codes: None, packing: Packing::Fast };
        codec::encode(&source, &mut seed)?;
        keep("uniques", name, &seed)?;
    }
    Ok(())
}

fn take(fs: &SimFs, dir: &Path) -> Vec<String> {
    fs.list(dir).unwrap_or_default()
}

/// Type and payload of the frames behind the header of a log file.
fn frames(log: &[u8]) -> Vec<(u8, &[u8])> {
    let (mut frames, mut rest) = (Vec::new(), log.get(36..).unwrap_or_default());
    while let Some((len, tail)) = rest.split_first_chunk::<4>() {
        let len = u32::from_le_bytes(*len) as usize;
        let (Some(kind), Some(payload)) = (tail.get(4), tail.get(30..30 + len)) else { break };
        frames.push((*kind, payload));
        rest = tail.get(30 + len..).unwrap_or_default();
    }
    frames
}

fn keep(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    std::fs::create_dir_all(&directory)?;
    std::fs::write(directory.join(name), bytes)
}
