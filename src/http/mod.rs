//! The HTTP server: wire forms in, wire forms out, over [`Databases`](crate::Databases). The only room that knows
//! status codes and wire JSON; it does not know files, series or how a query is run.
//!
//! Read in this order: `server` (accept loop, drain), `route` (the table of paths), `app` (what all requests share;
//! how a query gets its turn), `body` (bytes under a limit), `params` (URL and form), `error` (three dialects), `held` (large bodies),
//! then the endpoints: `write`, `remote` and `otlp` (Prometheus' and OpenTelemetry's senders), `prometheus`, `tree`, `read` (remote read), `federate`, `exemplars`, `labels`, `status`, `influx`, `admin`, `retention`, `cells`, and the encoders `number`,
//! `encode`, `table`.
//!
//! Order of a request: connection limit, header timeout, body limit, bounded decompression, route, a turn, a
//! blocking thread, the answer.

mod admin;
mod app;
mod bindings;
mod body;
mod cells;
mod encode;
mod error;
mod exemplars;
mod federate;
mod held;
mod influx;
mod ingest;
mod labels;
mod number;
mod otlp;
mod params;
mod prometheus;
mod read;
mod remote;
mod retention;
mod route;
mod select;
mod server;
mod status;
mod table;
mod tree;
mod udp;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use app::App;
pub use encode::{AnswerForm, QueryStats, answer_json};
pub(crate) use number::{float_text, rfc3339};
pub(crate) use params::parse_time;
pub(crate) use retention::{plan_json, report_json};
pub(crate) use server::serve;
pub(crate) use table::{Epoch, TableForm, results_json, table_csv};
pub(crate) use udp::{Listener, listen};
pub(crate) use write::WRITTEN_HEADER;
