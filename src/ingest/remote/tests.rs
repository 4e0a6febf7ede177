//! Both versions of remote write, encoded by `prost` and, once each, by hand.

#![expect(clippy::indexing_slicing, reason = "a test may fail by panic")]

use prost::Message as _;

use super::messages::{
    Exemplar, Exemplar2, Histogram, Label, Metadata, Metadata2, Request2, Sample, TimeSeries, TimeSeries2,
    WriteRequest, series,
};
use super::*;
use crate::ingest::Decoded;
use crate::ingest::line::LineLimits;
use icecore_storage::model::ValueRef;
use icecore_storage::model::batch::{Field, Row};

const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Rows as text: series, nanoseconds, the bits of the value, number of the series.
fn rows(decoded: &Decoded<'_>) -> Vec<String> {
    let row = |(row, fields): (&Row<'_>, &[_])| {
        let key = match (decoded.batch.dialect.series_key)(row.key) {
            Ok(key) => key.to_string(),
            Err(reason) => reason,
        };
        let value = match fields {
            [Field { name: b"value", value: ValueRef::Float(value) }] => format!("{:x}", value.to_bits()),
            [Field { name: b"__stale__", value: ValueRef::Bool(true) }] => "ends".to_owned(),
            [Field { name: b"__histogram__", value: ValueRef::Str(text) }] => (*text).to_owned(),
            _ => panic!("{fields:?}"),
        };
        format!("{key} {} {value} #{}", row.ts_ns, row.line)
    };
    decoded.batch.iter().map(row).collect()
}

/// All portions together.
fn decode2(body: &[u8], limits: &LineLimits) -> crate::Result<(Vec<String>, Vec<RowError>, usize, usize)> {
    let (mut all, mut rejected, mut count, mut portions) = (Vec::new(), Vec::new(), 0, 0);
    write2::decode(body, limits, &mut |decoded| {
        all.extend(rows(&decoded));
        rejected.extend(decoded.rejected);
        count += decoded.rejected_count;
        portions += 1;
        Ok(())
    })?;
    Ok((all, rejected, count, portions))
}

fn request2(symbols: &[&str], timeseries: Vec<TimeSeries2>) -> Vec<u8> {
    Request2 { symbols: symbols.iter().map(|text| (*text).to_owned()).collect(), timeseries }.encode_to_vec()
}

fn series2(labels_refs: &[u32], samples: &[(f64, i64)]) -> TimeSeries2 {
    let sample = |(value, timestamp): &(f64, i64)| Sample { value: *value, timestamp: *timestamp };
    TimeSeries2 {
        labels_refs: labels_refs.to_vec(),
        samples: samples.iter().map(sample).collect(),
        ..TimeSeries2::default()
    }
}

#[test]
fn write1_bytes_written_by_hand_are_a_sample_and_its_metadata() {
    let body = [
        0x0a, 0x2b, // timeseries, 43 bytes
        0x0a, 0x0e, 0x0a, 8, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x12, 2, b'u',
        b'p', // __name__=up
        0x0a, 0x08, 0x0a, 3, b'j', b'o', b'b', 0x12, 1, b'a', // job=a
        0x12, 0x0f, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0xd0, 0x86, 0x03, 0x18,
        0x01, // value 1.0 at 50000 ms, a field of later versions
        0x1a, 0x10, 0x08, 0x02, 0x12, 2, b'u', b'p', 0x22, 4, b'h', b'e', b'l', b'p', 0x2a, 2, b'm', b's',
    ];
    let (decoded, beside) = write1::decode(&body, &LineLimits::default()).unwrap();
    assert_eq!(rows(&decoded), [r#"up{job="a"} 50000000000 3ff0000000000000 #1"#]);
    let expected = MetricMetadata { metric: "up".into(), kind: MetricKind::Gauge, help: "help", unit: "ms" };
    assert_eq!(beside.metadata, [expected]);
}

#[test]
fn write1_samples_keep_their_bits_and_their_order() {
    let nan = f64::from_bits(STALE);
    let request = WriteRequest {
        timeseries: vec![
            series(&[("b", ""), ("__name__", "a:b"), ("ü", "x y")], &[(1.5, -1), (nan, 2), (2.0, 0)]),
            series(&[("__name__", "none")], &[]),
            series(&[("__name__", "c.d")], &[(f64::INFINITY, 3)]),
        ],
        metadata: Vec::new(),
    };
    let body = request.encode_to_vec();
    assert_eq!(write1::counts_of(&body).samples, 4);
    let (decoded, _) = write1::decode(&body, &LineLimits::default()).unwrap();
    let expected = [
        r#"a:b{ü="x y"} -1000000 3ff8000000000000 #1"#,
        r#"a:b{ü="x y"} 2000000 ends #1"#,
        r#"a:b{ü="x y"} 0 4000000000000000 #1"#,
        r#"c.d{} 3000000 7ff0000000000000 #3"#,
    ];
    assert_eq!(rows(&decoded), expected);
}

#[test]
fn write1_labels_behind_and_between_samples_count() {
    let one = |labels: &[(&str, &str)], samples: &[(f64, i64)]| series(labels, samples).encode_to_vec();
    let message =
        [one(&[], &[(1.0, 1)]), one(&[("__name__", "m")], &[(2.0, 2)]), one(&[("a", "b")], &[(3.0, 3)])]
            .concat();
    let body = [&[0x0a, u8::try_from(message.len()).unwrap()][..], &message].concat();
    let (decoded, _) = write1::decode(&body, &LineLimits::default()).unwrap();
    let rows = rows(&decoded);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row.starts_with(r#"m{a="b"} "#)), "{rows:?}");
}

#[test]
fn write1_histograms_come_by_themselves_and_exemplars_are_counted() {
    let mut with_all = series(&[("__name__", "m")], &[(1.0, 1)]);
    let ended =
        Histogram { sum: f64::from_bits(0x7ff0_0000_0000_0002), timestamp: 3, ..Histogram::default() };
    let good = Histogram { sum: 1.0, schema: 3, timestamp: 2, ..Histogram::default() };
    let bad = Histogram { schema: 9, ..good.clone() };
    with_all.histograms = vec![good, bad, ended];
    with_all.exemplars = vec![Exemplar { labels: Vec::new(), value: 1.0, timestamp: 1 }];
    let body = WriteRequest { timeseries: vec![with_all], metadata: Vec::new() }.encode_to_vec();
    let (decoded, beside) = write1::decode(&body, &LineLimits::default()).unwrap();
    assert_eq!((rows(&decoded).len(), decoded.rejected_count), (1, 0));
    assert_eq!((beside.histograms, beside.exemplars), (3, 1));
    let (mut found, mut reasons) = (Vec::new(), Vec::new());
    let mut store = |decoded: Decoded<'_>| {
        found.extend(rows(&decoded));
        reasons.extend(decoded.rejected.into_iter().map(|one| one.reason));
        Ok(())
    };
    write1::decode_beside(&body, &LineLimits::default(), &mut store).unwrap();
    assert_eq!(found, ["m{} 2000000 3;0;u;0;1;0;; #1", "m{} 3000000 ends #1"]);
    assert_eq!(reasons, ["m{}: native histogram: schema 9 is not within -4 and 8"]);
}

#[test]
fn write1_what_stands_between_labels_counts_with_them() {
    let label = |name: &str| Label { name: name.to_owned(), value: "x".to_owned() }.encode_to_vec();
    let mut message = Vec::new();
    crate::ingest::protobuf::push_bytes(&mut message, 1, &label("__name__"));
    crate::ingest::protobuf::push_bytes(&mut message, 99, &[0; 1000]);
    let sample = Sample { value: 1.0, timestamp: 1 }.encode_to_vec();
    crate::ingest::protobuf::push_bytes(&mut message, 2, &sample);
    crate::ingest::protobuf::push_bytes(&mut message, 1, &label("a"));
    let mut body = Vec::new();
    crate::ingest::protobuf::push_bytes(&mut body, 1, &message);
    let limits = LineLimits { line_bytes_max: 1000, ..LineLimits::default() };
    let (decoded, _) = write1::decode(&body, &limits).unwrap();
    assert_eq!((decoded.batch.rows.len(), decoded.rejected_count), (0, 1));
    assert_eq!(decoded.rejected[0].reason, "labels longer than 1000 bytes");
}

#[test]
fn write2_series_that_unfold_to_many_times_the_request_are_refused() {
    let long = "x".repeat(60_000);
    let symbols = ["", "__name__", "m", "a", &long];
    let many = (0..2000).map(|ms| series2(&[1, 2, 3, 4], &[(1.0, ms)])).collect();
    let (rows, rejected, count, _) = decode2(&request2(&symbols, many), &LineLimits::default()).unwrap();
    assert_eq!(rows.len() + count, 2000);
    assert!((100..1000).contains(&rows.len()), "{}", rows.len());
    assert!(rejected[0].reason.contains("unfold"), "{}", rejected[0].reason);
}

#[test]
fn write1_samples_out_of_time_beyond_the_bound_or_of_long_labels_are_refused() {
    let limits = LineLimits { line_bytes_max: 100, fields_max: 2, ..LineLimits::default() };
    let long = "x".repeat(100);
    let request = WriteRequest {
        timeseries: vec![
            series(&[("__name__", "long"), ("a", &long)], &[(1.0, 1)]),
            series(&[("__name__", "far")], &[(1.0, i64::MAX)]),
            series(&[("__name__", "m")], &[(1.0, 1), (2.0, 2), (3.0, 3)]),
        ],
        metadata: vec![Metadata::default()],
    };
    let body = request.encode_to_vec();
    let (decoded, _) = write1::decode(&body, &limits).unwrap();
    assert_eq!(rows(&decoded).len(), 2);
    let reasons: Vec<_> = decoded.rejected.iter().map(|one| (one.line, &*one.reason)).collect();
    let expected = [
        (1, "labels longer than 100 bytes"),
        (2, "timestamp 9223372036854775807 ms out of range"),
        (3, "more than 2 samples in one request, the rest of it is refused"),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn write1_cut_anywhere_is_malformed_or_has_fewer_rows() {
    let one = series(&[("__name__", "m"), ("a", "b")], &[(1.0, 1)]);
    let body = WriteRequest { timeseries: vec![one.clone(), one], metadata: Vec::new() }.encode_to_vec();
    for end in 0..body.len() {
        if let Ok((decoded, _)) = write1::decode(&body[..end], &LineLimits::default()) {
            assert_eq!(rows(&decoded).len(), usize::from(end > 0), "cut at {end}");
        }
    }
}

#[test]
fn write2_bytes_written_by_hand_are_a_sample() {
    let body = [
        0x22, 0, // symbols: ""
        0x22, 8, b'_', b'_', b'n', b'a', b'm', b'e', b'_', b'_', 0x22, 2, b'u', b'p', // and two more
        0x2a, 18, // timeseries
        0x0a, 2, 1, 2, // labels_refs, packed
        0x12, 12, 0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x90, 0x4e, // 1.0 at 10000 ms
    ];
    let (rows, rejected, ..) = decode2(&body, &LineLimits::default()).unwrap();
    assert_eq!(rows, ["up{} 10000000000 3ff0000000000000 #1"]);
    assert!(rejected.is_empty(), "{rejected:?}");
}

#[test]
fn write2_series_with_wrong_references_are_refused_and_the_others_kept() {
    let symbols = ["", "__name__", "m", "job", "a"];
    let timeseries = vec![
        series2(&[1, 2, 3, 4], &[(1.0, 1), (f64::from_bits(STALE), 2)]),
        series2(&[1, 2, 3], &[(1.0, 1)]),
        series2(&[1, 99], &[(1.0, 1)]),
        series2(&[1, 2, 3, 0], &[(1.0, 5)]),
    ];
    let body = request2(&symbols, timeseries);
    assert_eq!(write2::counts_of(&body).samples, 5);
    let (rows, rejected, count, _) = decode2(&body, &LineLimits::default()).unwrap();
    let expected = [
        r#"m{job="a"} 1000000 3ff0000000000000 #1"#,
        r#"m{job="a"} 2000000 ends #1"#,
        r#"m{} 5000000 3ff0000000000000 #4"#,
    ];
    assert_eq!((rows, count), (expected.map(str::to_owned).to_vec(), 2));
    assert_eq!((rejected[0].line, &*rejected[0].reason), (2, "an odd number of label references"));
    assert_eq!((rejected[1].line, &*rejected[1].reason), (3, "symbol 99 is not in the table of 5 symbols"));
}

#[test]
fn write2_metadata_histograms_and_exemplars_are_told() {
    let symbols = ["", "__name__", "m", "it helps", "seconds"];
    let one = TimeSeries2 {
        histograms: vec![Histogram { sum: 1.0, schema: 3, timestamp: 1, ..Histogram::default() }],
        exemplars: vec![Exemplar2 { labels_refs: vec![1, 2], value: 1.0, timestamp: 1 }],
        metadata: Some(Metadata2 { kind: 1, help_ref: 3, unit_ref: 4 }),
        ..series2(&[1, 2], &[])
    };
    let body = request2(&symbols, vec![one]);
    let beside = write2::decode(&body, &LineLimits::default(), &mut |decoded| {
        assert!(decoded.batch.rows.is_empty() && decoded.rejected.is_empty());
        Ok(())
    });
    let beside = beside.unwrap();
    assert_eq!((beside.histograms, beside.exemplars), (1, 1));
    let expected =
        MetricMetadata { metric: "m".into(), kind: MetricKind::Counter, help: "it helps", unit: "seconds" };
    assert_eq!(beside.metadata, [expected]);
    let mut found = Vec::new();
    let mut store = |decoded: Decoded<'_>| {
        found.extend(rows(&decoded));
        Ok(())
    };
    write2::decode_beside(&body, &LineLimits::default(), &mut store).unwrap();
    assert_eq!(found, ["m{} 1000000 3;0;u;0;1;0;; #1"]);
}

#[test]
fn write2_malformed_anywhere_hands_on_nothing() {
    let good = request2(&["", "__name__", "m"], vec![series2(&[1, 2], &[(1.0, 1)])]);
    let body = [&good[..], &[0x2a, 3, 0x12, 1, 0x09]].concat();
    let outcome = write2::decode(&body, &LineLimits::default(), &mut |_| panic!("handed on"));
    assert_eq!(outcome.unwrap_err().kind(), crate::ErrorKind::InvalidInput);
}

#[test]
fn write2_what_unfolds_comes_in_portions_and_long_labels_are_refused() {
    let text = "x".repeat(10_000);
    let symbols = ["", "__name__", "m", "a", &text];
    let body = request2(&symbols, vec![series2(&[1, 2, 3, 4], &[(1.0, 1)]); 1_000]);
    let (rows, _, count, portions) = decode2(&body, &LineLimits::default()).unwrap();
    assert_eq!((rows.len(), count), (1_000, 0));
    assert_eq!(portions, 3);
    let long = request2(&symbols, vec![series2(&[3, 4].repeat(100), &[(1.0, 1)])]);
    let (rows, rejected, ..) = decode2(&long, &LineLimits::default()).unwrap();
    assert_eq!((rows.len(), &*rejected[0].reason), (0, "labels longer than 65536 bytes"));
    let samples: Vec<_> = (0..200_000).map(|ms| (1.0, ms)).collect();
    let (rows, _, _, portions) =
        decode2(&request2(&symbols, vec![series2(&[1, 2], &samples)]), &LineLimits::default()).unwrap();
    assert_eq!((rows.len(), portions), (200_000, 2));
    assert!(rows.iter().all(|row| row.starts_with("m{} ")));
}

#[test]
fn labels_by_prost_are_labels_by_hand() {
    let mut raw = Vec::new();
    labels::push_label(&mut raw, "ab", &"x".repeat(300));
    let label = Label { name: "ab".into(), value: "x".repeat(300) };
    assert_eq!(raw, TimeSeries { labels: vec![label], ..TimeSeries::default() }.encode_to_vec());
}

#[test]
fn what_one_pass_takes_the_other_reads_whatever_bit_is_changed() {
    let labels = vec![Label { name: "trace_id".into(), value: "x".into() }];
    let mut one = series(&[("__name__", "m")], &[(1.0, 1)]);
    one.exemplars = vec![Exemplar { labels, value: 1.0, timestamp: 1 }];
    one.histograms = vec![Histogram { schema: 3, timestamp: 1, ..Histogram::default() }];
    let body1 = WriteRequest { timeseries: vec![one], metadata: Vec::new() }.encode_to_vec();
    let two = TimeSeries2 {
        histograms: vec![Histogram { schema: 3, timestamp: 1, ..Histogram::default() }],
        exemplars: vec![Exemplar2 { labels_refs: vec![1, 2], value: 1.0, timestamp: 1 }],
        ..series2(&[1, 2], &[(1.0, 1)])
    };
    let body2 = request2(&["", "__name__", "m"], vec![two]);
    let limits = LineLimits::default();
    let mut taken = [0, 0];
    for bit in 0..8 * body1.len().max(body2.len()) {
        let flipped = |body: &[u8]| {
            let mut body = body.to_vec();
            body.get_mut(bit / 8).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
            body
        };
        let (body1, body2) = (flipped(&body1), flipped(&body2));
        if write1::decode(&body1, &limits).is_ok() {
            taken[0] += 1;
            write1::decode_beside(&body1, &limits, &mut |_| Ok(())).unwrap();
        }
        if write2::decode(&body2, &limits, &mut |_| Ok(())).is_ok() {
            taken[1] += 1;
            write2::decode_beside(&body2, &limits, &mut |_| Ok(())).unwrap();
        }
    }
    assert!(taken.iter().all(|taken| *taken > 100), "{taken:?}");
}

#[test]
fn many_exemplars_come_in_portions() {
    let labels = vec![Label { name: "trace_id".into(), value: "x".into() }];
    let mut one = series(&[("__name__", "m")], &[]);
    one.exemplars =
        (0..10_000).map(|ms| Exemplar { labels: labels.clone(), value: 1.0, timestamp: ms }).collect();
    let body = WriteRequest { timeseries: vec![one], metadata: Vec::new() }.encode_to_vec();
    assert_eq!(write1::counts_of(&body), Counts { samples: 0, histograms: 0, exemplars: 10_000 });
    let (mut portions, mut times) = (0, Vec::new());
    let mut store = |decoded: Decoded<'_>| {
        assert!(decoded.exemplars.len() <= 2048);
        assert!(decoded.exemplars.iter().all(|one| labels::shown(one.key) == "m{}"));
        times.extend(decoded.exemplars.iter().map(|one| one.exemplar.ts_ns / 1_000_000));
        portions += 1;
        Ok(())
    };
    write1::decode_beside(&body, &LineLimits::default(), &mut store).unwrap();
    assert_eq!((portions, times), (5, (0..10_000).collect::<Vec<i64>>()));
}
