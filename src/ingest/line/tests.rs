//! Line protocol, small cases, laws, and the corpus of InfluxData.

#![expect(clippy::indexing_slicing, reason = "a test may fail by panic")]

use icecore_storage::model::{RowError, SeriesKey, Value, ValueRef, WriteBatch};
use proptest::prelude::*;

use super::*;
use crate::point::Point;

const NOW_NS: i64 = 1_700_000_000_123_456_789;

/// The points of a batch as the engine would see them, and the reasons for the rows it would refuse.
fn points(batch: &WriteBatch<'_>) -> (Vec<Point>, Vec<String>) {
    let (mut points, mut refused) = (Vec::new(), Vec::new());
    for (row, fields) in batch.iter() {
        let point = (batch.dialect.series_key)(row.key).and_then(|key| {
            let fields = fields
                .iter()
                .map(|field| Ok(((batch.dialect.field_name)(field.name)?, owned(batch, field.value))))
                .collect::<Result<Vec<_>, String>>()?;
            let tags = key.tags().iter().map(|(tag, value)| (tag.to_string(), value.to_string())).collect();
            Ok(Point { measurement: key.measurement().to_owned(), tags, fields, ts_ns: row.ts_ns })
        });
        match point {
            Ok(point) => points.push(point),
            Err(reason) => refused.push(format!("{}: {reason}", row.line)),
        }
    }
    (points, refused)
}

fn owned(batch: &WriteBatch<'_>, value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Float(value) => Value::Float(value),
        ValueRef::Int(value) => Value::Int(value),
        ValueRef::UInt(value) => Value::UInt(value),
        ValueRef::Bool(value) => Value::Bool(value),
        ValueRef::Str(text) => Value::Str(text.to_owned()),
        ValueRef::Escaped(text) => {
            let mut plain = Vec::new();
            (batch.dialect.unescape)(text, &mut plain);
            Value::Str(String::from_utf8(plain).unwrap())
        }
    }
}

/// All points of a body; reasons with line numbers, of the scan and then of the dialect.
fn read(body: impl AsRef<[u8]>) -> (Vec<Point>, Vec<String>) {
    let decoded = decode(body.as_ref(), Precision::Ns, NOW_NS, &LineLimits::default());
    let (points, refused) = points(&decoded.batch);
    let mut reasons: Vec<_> =
        decoded.rejected.iter().map(|error| format!("{}: {}", error.line, error.reason)).collect();
    reasons.extend(refused);
    (points, reasons)
}

#[track_caller]
fn check_one(body: &str, expected: Point) {
    assert_eq!(read(body), (vec![expected], vec![]), "{body}");
}

#[track_caller]
fn check_value(text: &str, expected: impl Into<Value>) {
    check_one(&format!("m f={text} 1"), Point::new("m").field("f", expected).at_ns(1));
}

#[track_caller]
fn check_refused(body: impl AsRef<[u8]>, reason: &str) {
    let (points, reasons) = read(&body);
    assert_eq!(points, vec![], "{:?}", String::from_utf8_lossy(body.as_ref()));
    assert_eq!(reasons, vec![reason.to_owned()], "{:?}", String::from_utf8_lossy(body.as_ref()));
}

#[test]
fn decode_values_of_each_type_keep_bits() {
    for (text, number) in [("1", 1.0), ("1.5", 1.5), ("-1e3", -1e3), ("1.", 1.0), (".5", 0.5), ("0.1", 0.1)] {
        check_value(text, number);
    }
    for text in ["123456789012345.6", "0.1234567890123456789", "1e22", "1e23", "4.9e-324", "179e306"] {
        check_value(text, text.parse::<f64>().unwrap());
    }
    check_value("-12i", -12_i64);
    check_value("-9223372036854775808i", i64::MIN);
    check_value("00009223372036854775807i", i64::MAX);
    check_value("18446744073709551615u", u64::MAX);
    for text in ["t", "T", "true", "True", "TRUE"] {
        check_value(text, true);
    }
    for text in ["f", "F", "false", "False", "FALSE"] {
        check_value(text, false);
    }
    check_value(r#""a \"b\" \\ \n""#, r#"a "b" \ \n"#);
    let (points, _) = read("m f=-0");
    assert!(matches!(points[0].fields[0].1, Value::Float(zero) if zero.is_sign_negative()));
}

#[test]
fn decode_bad_lines_are_named_and_good_ones_kept() {
    let body = "m a=1 1\n# comment\n\n  m a=x 2\r\nm a=3 3\nm a=4 4x\nm\nm a=5 5";
    let (points, reasons) = read(body);
    assert_eq!(points.iter().map(|point| point.ts_ns).collect::<Vec<_>>(), [1, 3, 5]);
    let value = "expected a number, a boolean or a quoted string as field value at column 5";
    let expected = [
        format!("4: {value}"),
        "6: unexpected text after the timestamp at column 8".into(),
        "7: missing fields at column 2".into(),
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn decode_refused_values_say_why() {
    check_refused("m f=NaN", "1: expected a number, a boolean or a quoted string as field value at column 5");
    check_refused("m f=-inf", "1: invalid integer at column 5");
    check_refused("m f=--1", "1: invalid float at column 5");
    check_refused("m f=1e999", "1: float out of range at column 5");
    check_refused("m f=9223372036854775808i", "1: integer out of range at column 5");
    check_refused("m f=1x", "1: unexpected character after a field value at column 6");
    check_refused("m f=-1u", "1: invalid unsigned integer at column 5");
    check_refused("m f=trueish", "1: invalid boolean at column 5");
    check_refused("m =1", "1: empty field name at column 3");
    check_refused("m f", "1: expected `=` after the field name at column 4");
    check_refused("m f=1 9223372036854775807", "1: timestamp out of range at column 7");
    check_refused("m f=1 -9223372036854775807", "1: timestamp out of range at column 7");
    check_refused("m f=1 -", "1: invalid timestamp at column 7");
    check_refused("m,a=1,a=2 f=1", "1: tag key `a` stands twice");
    check_refused("m,time=1 f=1", "1: `time` cannot be a tag key");
    check_refused("m,a= f=1", "1: empty tag value of tag `a`");
    check_refused("m,a f=1", "1: tag key `a` has no value");
    check_refused(",a=1 f=1", "1: empty measurement");
    check_refused("m time=1", "1: `time` cannot be a field name");
    check_refused("m\t f=1", "1: '\\t' in the measurement");
}

#[test]
fn decode_invalid_utf8_refuses_only_its_line() {
    let (points, reasons) = read(b"m a=1 1\nm\xff a=2 2\nm a=\"\xff\nm a=3 3\" 3\nm a=\"\xc3\xa9\" 4\n");
    assert_eq!(points.iter().map(|point| point.ts_ns).collect::<Vec<_>>(), [1, 4]);
    assert_eq!(reasons, ["2: invalid UTF-8 at column 2", "3: invalid UTF-8 at column 6"]);
}

#[test]
fn decode_newline_in_string_counts_for_line_numbers() {
    let (points, reasons) = read("m a=\"x\n\ny\" 1\nm a= 2\nm a=\"x\n\" z\nm a=! \nm a=9 9");
    assert_eq!(points.iter().map(|point| point.ts_ns).collect::<Vec<_>>(), [1, 9]);
    assert_eq!(reasons.iter().map(|reason| &reason[..1]).collect::<Vec<_>>(), ["4", "5", "7"]);
}

#[test]
fn decode_string_on_refused_line_never_becomes_a_row() {
    for head in ["m a=!,", "m ,", "m a=1x,", "m a=\"\"x,"] {
        let (points, reasons) = read(format!("{head}b=\"text\nevil a=1 1\n\" 5\nm a=2 2"));
        assert_eq!(points.iter().map(|point| point.ts_ns).collect::<Vec<_>>(), [2], "{head}");
        assert_eq!(reasons.len(), 1, "{head}");
    }
}

#[test]
fn decode_open_string_swallows_the_rest() {
    let (points, reasons) = read("m a=1 1\nm a=\"open\nevil a=2 2");
    assert_eq!(points.len(), 1);
    assert_eq!(reasons, ["2: string without closing quote at column 5"]);
}

#[test]
fn decode_long_line_is_refused_at_the_limit() {
    let limits = LineLimits { line_bytes_max: 10, errors_max: 1, ..LineLimits::default() };
    let decoded = decode(b"m abcd=1 1\nm abcde=1 1\nm abcdef=1 1", Precision::Ns, NOW_NS, &limits);
    assert_eq!(decoded.batch.rows.len(), 1);
    assert_eq!(decoded.rejected, [RowError { line: 2, reason: "line longer than 10 bytes".into() }]);
    assert_eq!(decoded.rejected_count, 2);
}

#[test]
fn decode_long_line_is_left_early_and_the_next_is_kept() {
    let limits = LineLimits { line_bytes_max: 10, ..LineLimits::default() };
    let body = "m a=1,b=\"x\ny\",c=3,d=\"\nevil a=1\n\" 1\nm a=1 2";
    let decoded = decode(body.as_bytes(), Precision::Ns, NOW_NS, &limits);
    assert_eq!(decoded.rejected_count, 1);
    let rows: Vec<_> = decoded.batch.rows.iter().map(|row| (row.ts_ns, row.line)).collect();
    assert_eq!(rows, [(2, 5)]);
}

#[test]
fn decode_fields_beyond_the_limit_refuse_the_rest() {
    let limits = LineLimits { fields_max: 3, ..LineLimits::default() };
    let decoded = decode(b"m a=1,b=2 1\nm a=1,b=2 2\nm a=1 3", Precision::Ns, NOW_NS, &limits);
    assert_eq!(decoded.batch.rows.len(), 1);
    assert_eq!(decoded.batch.fields.len(), 2);
    let reason = "more than 3 fields in one request, the rest of it is refused".to_owned();
    assert_eq!(decoded.rejected, [RowError { line: 2, reason }]);
}

#[test]
fn decode_precision_scales_and_floors_now() {
    for (name, ts_ns, now_ns) in [
        ("n", 7, NOW_NS),
        ("us", 7_000, 1_700_000_000_123_456_000),
        ("\u{b5}", 7_000, 1_700_000_000_123_456_000),
        ("ms", 7_000_000, 1_700_000_000_123_000_000),
        ("s", 7_000_000_000, 1_700_000_000_000_000_000),
        ("m", 420_000_000_000, 1_699_999_980_000_000_000),
        ("h", 25_200_000_000_000, 1_699_999_200_000_000_000),
    ] {
        let precision = Precision::parse(name).unwrap();
        let decoded = decode(b"m a=1 7\nm a=1", precision, NOW_NS, &LineLimits::default());
        let times: Vec<_> = decoded.batch.rows.iter().map(|row| row.ts_ns).collect();
        assert_eq!(times, [ts_ns, now_ns], "{name}");
    }
    assert_eq!(Precision::parse("xx"), None);
    let decoded = decode(b"m a=1 9223372037", Precision::S, NOW_NS, &LineLimits::default());
    assert_eq!(decoded.rejected_count, 1);
}

#[test]
fn decode_escapes_are_those_of_the_token() {
    check_one(
        r"a\,b\ c\=d,k\=\,\ e=v\=\,\ \x f\,\=\ g=1i 5",
        Point::new(r"a,b c\=d").tag("k=, e", r"v=, \x").field("f,= g", 1_i64).at_ns(5),
    );
}

/// Names as line protocol can say them: no control characters, no backslash at the end.
fn name() -> impl Strategy<Value = String> {
    "[a-z,= \\\\\"é]{0,6}[a-z,= é]"
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Float),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::UInt),
        any::<bool>().prop_map(Value::Bool),
        "[a\"\\\\\n\ré ]{0,8}".prop_map(Value::Str),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn encode_any_point_reads_back(
        measurement in name(),
        tags in prop::collection::btree_map(name(), name(), 0..4),
        fields in prop::collection::vec((name(), any_value()), 1..6),
        ts_ns in icecore_storage::model::TIMESTAMP_MIN..=icecore_storage::model::TIMESTAMP_MAX,
    ) {
        let key = SeriesKey::new(&measurement, tags.clone()).unwrap();
        let mut line = Vec::new();
        let borrowed = fields.iter().map(|(name, value)| (&**name, value.as_ref()));
        encode(&LINE, &key, borrowed, ts_ns, &mut line).unwrap();
        let expected = Point { measurement, tags: tags.into_iter().collect(), fields, ts_ns };
        prop_assert_eq!(read(&line), (vec![expected], vec![]));
    }

    #[test]
    fn decode_any_bytes_never_panics(body in prop::collection::vec(
        prop_oneof![prop::sample::select(&b"m,a=1i u\"\\\n\r#t.e-"[..]), any::<u8>()], 0..80)) {
        read(&body);
    }

    #[test]
    fn decode_any_float_text_reads_as_the_library(number in "-?[0-9]{1,20}(\\.[0-9]{0,20})?(e-?[0-9]{1,3})?") {
        let expected: f64 = number.parse().unwrap();
        let (points, _) = read(format!("m f={number}"));
        match points.first() {
            Some(point) => prop_assert_eq!(&point.fields[0].1, &Value::Float(expected)),
            None => prop_assert!(!expected.is_finite()),
        }
    }
}

mod corpus {
    use serde_json::Value as Json;

    use super::*;

    /// Cases where icecore differs from the corpus, by the first digits of their key, and why.
    const DEVIATIONS: &[(&str, &str)] = &[
        ("2a6fa6f9", "a tag `time` is refused: it could not be told from the time column of an answer"),
        ("5f10c113", "a tag `time`, as above"),
        ("dfa6432a", "a control character in a comment is nobody's data; the comment is skipped"),
    ];

    fn load() -> Option<Json> {
        let path = crate::ingest::records::shared_data("line-protocol-corpus/corpus.json")?;
        Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
    }

    fn precision(input: &Json) -> Precision {
        Precision::parse(input["precision"].as_str().unwrap().trim_start_matches('1')).unwrap()
    }

    fn base64(text: &str) -> Vec<u8> {
        let digit = |byte: u8| match byte {
            b'A'..=b'Z' => u32::from(byte - b'A'),
            b'a'..=b'z' => u32::from(byte - b'a') + 26,
            b'0'..=b'9' => u32::from(byte - b'0') + 52,
            b'+' => 62,
            _ => 63,
        };
        let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
        for byte in text.bytes().filter(|byte| *byte != b'=') {
            bits = bits << 6 | digit(byte);
            count += 6;
            if 8 <= count {
                count -= 8;
                bytes.push((bits >> count & 0xff) as u8);
            }
        }
        bytes
    }

    fn bytes(text: &Json) -> Vec<u8> {
        match text.as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => base64(text["binary"].as_str().unwrap()),
        }
    }

    fn text(text: &Json) -> String {
        String::from_utf8(bytes(text)).unwrap()
    }

    fn expected_point(json: &Json) -> Point {
        let mut point = Point::new(text(&json["name"])).at_ns(json["time"].as_i64().unwrap());
        for tag in json["tags"].as_array().into_iter().flatten() {
            point = point.tag(text(&tag["key"]), text(&tag["value"]));
        }
        for field in json["fields"].as_array().into_iter().flatten() {
            let (kind, value) = field["value"].as_object().unwrap().iter().next().unwrap();
            let value = match &**kind {
                "float" => Value::Float(value.as_f64().unwrap()),
                "int" => Value::Int(value.as_i64().unwrap()),
                "uint" => Value::UInt(value.as_u64().unwrap()),
                "bool" => Value::Bool(value.as_bool().unwrap()),
                _ => Value::Str(text(value)),
            };
            point = point.field(text(&field["key"]), value);
        }
        point.tags.sort();
        point
    }

    /// What is wrong with a case; `None` when it is as stated.
    fn judge_decode(case: &Json) -> Option<String> {
        let body = bytes(&case["input"]["text"]);
        let now_ns = case["input"]["defaultTime"].as_i64().unwrap();
        let limits = LineLimits::default();
        let decoded = decode(&body, precision(&case["input"]), now_ns, &limits);
        let (points, refused) = points(&decoded.batch);
        let rejected = decoded.rejected.iter().map(|error| error.reason.clone()).chain(refused);
        let rejected: Vec<_> = rejected.collect();
        let Some(expected) = case["output"]["result"].as_array() else {
            let wrong = rejected.is_empty();
            return wrong.then(|| format!("accepted, expected {}, got {points:?}", case["output"]["error"]));
        };
        let expected: Vec<_> = expected.iter().map(expected_point).collect();
        let wrong = !rejected.is_empty() || points != expected;
        wrong.then(|| format!("expected {expected:?}, got {points:?} and {rejected:?}"))
    }

    #[test]
    fn decode_corpus_is_as_stated() {
        let Some(corpus) = load() else { return };
        let mut wrong = Vec::new();
        let mut unused: Vec<_> = DEVIATIONS.to_vec();
        for (key, case) in corpus["decode"].as_object().unwrap() {
            if let Some(what) = judge_decode(case) {
                let deviations = unused.len();
                unused.retain(|(start, _)| !key.starts_with(start));
                if unused.len() == deviations {
                    let body = bytes(&case["input"]["text"]);
                    wrong.push(format!("{key} {:?}: {what}", String::from_utf8_lossy(&body)));
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
        assert!(unused.is_empty(), "no longer deviations: {unused:?}");
    }

    #[test]
    fn encode_corpus_reads_back() {
        let Some(corpus) = load() else { return };
        for (name, case) in corpus["encode"].as_object().unwrap() {
            let point = &case["input"]["point"];
            if case["output"]["result"].is_null() {
                continue;
            }
            let expected = expected_point(point);
            let key = SeriesKey::new(&expected.measurement, expected.tags.clone()).unwrap();
            let fields = expected.fields.iter().map(|(name, value)| (&**name, value.as_ref()));
            let mut line = Vec::new();
            encode(&LINE, &key, fields, expected.ts_ns, &mut line).unwrap();
            assert_eq!(read(&line), (vec![expected], vec![]), "{name}");
        }
    }
}
