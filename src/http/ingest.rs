//! POST /ingest: JSON events in, 202 when all that were taken are durable. Events that are not are named in the answer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use icecore_storage::model::{FieldType, Value};
use icecore_storage::scan::Schema;
use tokio::runtime::Handle;

use super::app::App;
use super::body::{self, Bound, Encoding};
use super::error::{Dialect, Failure, json_response};
use super::number::push_json_text;
use super::params::Params;
use crate::Database;
use crate::ingest::events::{self, EventOptions};
use crate::point::Point;

/// Events that are stored at a time.
const PORTION_EVENTS: usize = 5_000;
/// Bytes of events that are stored at a time, about.
const PORTION_BYTES: usize = 4 << 20;
/// What the tree and the point of an event take, for each byte of its text: a short member of eight bytes takes some 250.
const MEMORY_FACTOR: usize = 32;
/// Events that an answer names.
const NAMED_MAX: usize = 100;

pub(super) async fn ingest(State(app): State<Arc<App>>, request: Request) -> Response {
    match run(&app, request).await {
        Ok(outcome) => json_response(outcome.status(), outcome.json()),
        Err(failure) => failure.respond(Dialect::InfluxV2),
    }
}

async fn run(app: &Arc<App>, request: Request) -> Result<Outcome, Failure> {
    let (parts, body) = request.into_parts();
    let params = Params::parse(parts.uri.query(), b"")?;
    let database = app.database(params.get("db"))?;
    let options = options(&params, database.now_ns())?;
    let encoding = body::encoding(&parts.headers)?;
    let wire = body::read(app, &parts.headers, body, Bound::Lines).await?;
    let work =
        move |app: &App, runtime: &Handle| store(app, runtime, &database, &wire.bytes, encoding, &options);
    let outcome = app.run_write(encoding == Encoding::Gzip, work).await?;
    app.telemetry.lines_rejected(outcome.rejected_count);
    Ok(outcome)
}

fn options(params: &Params, now_ns: i64) -> Result<EventOptions, Failure> {
    let list = |name: &str| -> Vec<String> {
        let names = params.all(name).flat_map(|names| names.split(','));
        names.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    Ok(EventOptions {
        measurement: params.get("measurement").map(str::to_owned),
        tags: list("tags"),
        integers: list("integers"),
        time_name: params.get("time").map(str::to_owned),
        precision: params.precision()?,
        now_ns,
    })
}

/// What became of the events of a request.
#[derive(Debug, Default)]
struct Outcome {
    accepted: u64,
    rejected_count: usize,
    /// The first of them, by their places from 1.
    rejected: Vec<(usize, String)>,
}

impl Outcome {
    fn reject(&mut self, place: usize, reason: String) {
        self.rejected_count += 1;
        if self.rejected.len() < NAMED_MAX {
            self.rejected.push((place, reason));
        }
    }

    /// A request of which nothing could be taken is a bad one.
    fn status(&self) -> StatusCode {
        if self.accepted == 0 && 0 < self.rejected_count {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::ACCEPTED
        }
    }

    fn json(&self) -> Vec<u8> {
        let mut out =
            format!("{{\"accepted\":{},\"rejected\":{}", self.accepted, self.rejected_count).into_bytes();
        for (index, (place, reason)) in self.rejected.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b",\"errors\":[" } else { b"," });
            out.extend_from_slice(format!("{{\"event\":{place},\"error\":").as_bytes());
            push_json_text(&mut out, reason);
            out.push(b'}');
        }
        out.extend_from_slice(if self.rejected.is_empty() { b"}\n" } else { b"]}\n" });
        out
    }
}

fn store(
    app: &App,
    runtime: &Handle,
    database: &Database,
    wire: &[u8],
    encoding: Encoding,
    options: &EventOptions,
) -> Result<Outcome, Failure> {
    let body = body::plain(app, wire, encoding)?;
    // Events are read one by one, and points wait for their portion: the memory is that of the largest event, which may be
    // all of the body, or of a portion.
    let _memory = runtime.block_on(app.decoding_memory(body.len().saturating_mul(MEMORY_FACTOR)))?;
    let mut writer =
        Writer { database, schemas: HashMap::new(), points: Vec::new(), places: Vec::new(), bytes: 0 };
    let (mut outcome, mut place, mut options) = (Outcome::default(), 0, options.clone());
    events::each::<Failure>(&body, &mut |event| {
        place += 1;
        // Events of one request that have no time must not take each other's place.
        options.now_ns = options.now_ns.saturating_add(1);
        let point = event.and_then(|event| {
            events::point(&event, &options, &mut |measurement, field| writer.field_type(measurement, field))
        });
        match point {
            Ok(point) => writer.push(place, point, &mut outcome),
            Err(reason) => {
                outcome.reject(place, reason);
                Ok(())
            }
        }
    })?;
    writer.flush(&mut outcome)?;
    // Those that the engine refused come with their portion, behind events that could not be read.
    outcome.rejected.sort_by_key(|(place, _)| *place);
    Ok(outcome)
}

/// Points on their way to the database.
struct Writer<'a> {
    database: &'a Database,
    /// As they were when the first event of a portion came.
    schemas: HashMap<String, Option<Schema>>,
    points: Vec<Point>,
    /// The places of the points among the events.
    places: Vec<usize>,
    bytes: usize,
}

impl Writer<'_> {
    fn field_type(&mut self, measurement: &str, field: &str) -> Option<FieldType> {
        if !self.schemas.contains_key(measurement) {
            let schema = self.database.view().schema(measurement);
            self.schemas.insert(measurement.to_owned(), schema);
        }
        self.schemas.get(measurement)?.as_ref()?.field(field).map(|field| field.field_type)
    }

    fn push(&mut self, place: usize, point: Point, outcome: &mut Outcome) -> Result<(), Failure> {
        let texts = point.tags.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let size_of = |value: &Value| if let Value::Str(text) = value { text.len() } else { 0 };
        let fields = point.fields.iter().map(|(name, value)| 64 + name.len() + size_of(value)).sum::<usize>();
        self.bytes += 256 + texts + fields;
        self.points.push(point);
        self.places.push(place);
        if self.points.len() < PORTION_EVENTS && self.bytes < PORTION_BYTES {
            Ok(())
        } else {
            self.flush(outcome)
        }
    }

    fn flush(&mut self, outcome: &mut Outcome) -> Result<(), Failure> {
        self.bytes = 0;
        self.schemas.clear();
        let (points, places) = (std::mem::take(&mut self.points), std::mem::take(&mut self.places));
        if points.is_empty() {
            return Ok(());
        }
        let report = self.database.write(&points)?;
        outcome.accepted += report.accepted;
        let unnamed = report.rejected_count - report.rejected.len();
        for rejected in report.rejected {
            let index = usize::try_from(rejected.line).unwrap_or(0).saturating_sub(1);
            outcome.reject(places.get(index).copied().unwrap_or_default(), rejected.reason);
        }
        outcome.rejected_count += unnamed;
        Ok(())
    }
}
