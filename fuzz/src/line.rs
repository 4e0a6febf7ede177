//! Law of line protocol: any bytes decode without panic; every accepted row, written again, reads as itself.

use icecore::ingest::Decoded;
use icecore::ingest::line::{LINE, LineLimits, Precision, decode, encode};
use icecore_storage::model::batch::{Field, Row};
use icecore_storage::model::{SeriesKey, ValueRef};

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// A row with everything decoded, values in a form that compares bit for bit.
#[derive(Debug, PartialEq)]
struct Plain {
    key: SeriesKey,
    ts_ns: i64,
    fields: Vec<(String, String)>,
}

fn read(body: &[u8]) -> Decoded<'_> {
    decode(body, Precision::Ns, NOW_NS, &LineLimits::default())
}

/// The row as the engine would take it; `None` when the dialect refuses a name.
fn plain(row: &Row<'_>, fields: &[Field<'_>]) -> Option<Plain> {
    let key = (LINE.series_key)(row.key).ok()?;
    let fields = fields.iter().map(|field| Some(((LINE.field_name)(field.name).ok()?, bits(field.value))));
    Some(Plain { key, ts_ns: row.ts_ns, fields: fields.collect::<Option<_>>()? })
}

fn bits(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Float(number) => format!("float {:016x}", number.to_bits()),
        ValueRef::Escaped(text) => {
            let mut plain = Vec::new();
            (LINE.unescape)(text, &mut plain);
            format!("text {}", String::from_utf8(plain).expect("unescaped text is UTF-8"))
        }
        ValueRef::Str(text) => format!("text {text}"),
        other => format!("{other:?}"),
    }
}

/// Checks the law on a body.
pub fn check(body: &[u8]) {
    for (row, fields) in read(body).batch.iter() {
        let Some(expected) = plain(row, fields) else { continue };
        let named = expected.fields.iter().zip(fields).map(|((name, _), field)| (&**name, field.value));
        let mut line = Vec::new();
        encode(&LINE, &expected.key, named, expected.ts_ns, &mut line)
            .expect("an accepted row can be written");
        if LineLimits::default().line_bytes_max < line.len() {
            // Numbers and the timestamp may be longer when written out.
            continue;
        }
        let again = read(&line);
        assert_eq!(again.rejected, []);
        let rows: Vec<_> = again.batch.iter().filter_map(|(row, fields)| plain(row, fields)).collect();
        assert_eq!(rows, [expected]);
    }
}
