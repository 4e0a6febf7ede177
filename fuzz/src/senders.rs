//! Law of remote write and OTLP: any bytes decode without panic and in portions of bounded size; what both accept, ours
//! and `prost` read alike, bit for bit; twice decoded is the same.

use icecore::ingest::Decoded;
use icecore::ingest::line::LineLimits;
use icecore::ingest::otlp;
use icecore::ingest::remote::{labels::LABELS, write1, write2};
use icecore_storage::model::{SeriesKey, TIMESTAMP_MAX, TIMESTAMP_MIN, ValueRef};
use messages::{Request2, Sample, WriteRequest};
use prost::Message as _;

#[path = "../../src/ingest/remote/messages.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod messages;

/// Rows, bytes of keys and exemplars of a portion, with what a series may go beyond them.
const ROWS_MAX: usize = 1 << 18;
const KEYS_BYTES_MAX: usize = 8 << 20;
const EXEMPLARS_MAX: usize = 1 << 11;
/// Labels that are longer than this may be refused.
const LABELS_BYTES_MAX: usize = 32 << 10;

/// A sample: series, nanoseconds, bits; the series is an error where its labels are refused.
type Plain = (Result<SeriesKey, ()>, i64, u64);

fn plain(decoded: &Decoded<'_>) -> Vec<Plain> {
    let rows = decoded.batch.iter().map(|(row, fields)| {
        let bits = match fields {
            [field] => match field.value {
                ValueRef::Float(number) => number.to_bits(),
                ValueRef::Bool(true) if field.name == b"__stale__" => 0x7ff0_0000_0000_0002,
                other => panic!("{other:?}"),
            },
            _ => panic!("a sample is one field: {fields:?}"),
        };
        ((LABELS.series_key)(row.key).map_err(drop), row.ts_ns, bits)
    });
    rows.collect()
}

fn portions(decode: impl FnOnce(&mut icecore::ingest::Store<'_>) -> bool) -> Option<Vec<Plain>> {
    let mut all = Vec::new();
    let is_whole = decode(&mut |decoded| {
        let mut keys: Vec<&[u8]> = decoded.batch.rows.iter().map(|row| row.key).collect();
        keys.dedup_by_key(|key| key.as_ptr());
        assert!(decoded.batch.rows.len() <= ROWS_MAX);
        assert!(decoded.exemplars.len() <= EXEMPLARS_MAX);
        assert!(keys.iter().map(|key| key.len()).sum::<usize>() <= KEYS_BYTES_MAX);
        all.extend(plain(&decoded));
        Ok(())
    });
    is_whole.then_some(all)
}

/// The samples of a series as `prost` found it.
fn expected(labels: &[(&str, &str)], samples: &[Sample]) -> Vec<Plain> {
    let named = || labels.iter().filter(|(_, value)| !value.is_empty());
    let names: Vec<&str> = named().filter(|(name, _)| *name == "__name__").map(|(_, value)| *value).collect();
    let tags = || named().filter(|(name, _)| *name != "__name__").map(|(name, value)| (*name, *value));
    let is_refused =
        labels.iter().any(|(name, value)| name.is_empty() || (!value.is_empty() && *name == "__stat__"));
    let key = match names.as_slice() {
        [name] if !is_refused => SeriesKey::new(name, tags()).map_err(drop),
        _ => Err(()),
    };
    let of = |sample: &Sample| {
        let ts_ns = sample.timestamp.checked_mul(1_000_000)?;
        let is_in = (TIMESTAMP_MIN..=TIMESTAMP_MAX).contains(&ts_ns);
        is_in.then(|| (key.clone(), ts_ns, sample.value.to_bits()))
    };
    samples.iter().filter_map(of).collect()
}

fn check_write1(body: &[u8]) {
    let ours = write1::decode(body, &LineLimits::default()).ok().map(|(decoded, _)| plain(&decoded));
    let Some((ours, theirs)) = ours.zip(WriteRequest::decode(body).ok()) else { return };
    let theirs: Vec<Plain> = theirs
        .timeseries
        .iter()
        .flat_map(|series| {
            let labels: Vec<_> = series.labels.iter().map(|label| (&*label.name, &*label.value)).collect();
            expected(&labels, &series.samples)
        })
        .collect();
    assert_eq!(ours, theirs);
}

fn check_write2(body: &[u8]) {
    let read = || portions(|store| write2::decode(body, &LineLimits::default(), store).is_ok());
    let ours = read();
    assert_eq!(ours, read());
    let Some((ours, theirs)) = ours.zip(Request2::decode(body).ok()) else { return };
    let mut all = Vec::new();
    for series in &theirs.timeseries {
        let find = |reference: &u32| theirs.symbols.get(*reference as usize).map(|text| &**text);
        let texts: Option<Vec<&str>> = series.labels_refs.iter().map(find).collect();
        // Refused before it is a row.
        let Some(texts) = texts.filter(|texts| texts.len() % 2 == 0) else { continue };
        if LABELS_BYTES_MAX < texts.iter().map(|text| text.len() + 8).sum() {
            return;
        }
        let labels: Vec<_> = texts.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        all.extend(expected(&labels, &series.samples));
    }
    assert_eq!(ours, all);
}

fn check_otlp(body: &[u8]) {
    let read = || portions(|store| otlp::decode(body, &LineLimits::default(), store).is_ok());
    assert_eq!(read(), read());
}

/// Checks the law on a form and a body.
pub fn check(bytes: &[u8]) {
    let Some((form, body)) = bytes.split_first() else { return };
    match form % 4 {
        0 => check_write1(body),
        1 => check_write2(body),
        2 => check_otlp(body),
        _ => {
            if let Ok(body) = otlp::json::to_protobuf(body) {
                check_otlp(&body);
            }
        }
    }
}
