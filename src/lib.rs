//! icecore: a time-series database for service health, as one binary or inside your own program.
//!
//! Events are kept exactly, pressed into 1-minute, 5-minute and 1-hour layers that still answer exactly, and asked
//! with PromQL and a small SELECT language. A write that returned is durable and visible.
//!
//! Read in this order: [`point`] (a row to write), [`database`] (one database: write and ask), [`databases`] (a
//! data directory with several), [`config`] and [`limits`] (what may be set), [`error`], `services` (the
//! background threads). Behind the feature `server`: `http`, `cli`, `demo` and `telemetry`.
//!
//! # Example
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let path = temporary.path().join("data");
//! use icecore::{Database, Point};
//!
//! let database = Database::open(&path)?;
//! let now_ns = database.now_ns();
//! database.write(&[
//!     Point::new("requests").tag("service", "cart").field("latency_ms", 12.5).at_ns(now_ns - 2_000_000_000),
//!     Point::new("requests").tag("service", "cart").field("latency_ms", 48.0).at_ns(now_ns - 1_000_000_000),
//! ])?;
//! let answer = database.promql("max_over_time(requests_latency_ms[5m])", now_ns)?;
//! println!("{:?}", answer.value);
//! let table = database.select("SELECT count(latency_ms) FROM requests")?;
//! assert_eq!(table.series.len(), 1);
//! database.close()?;
//! # Ok(())
//! # }
//! ```

pub mod config;
pub mod database;
pub mod databases;
mod duplicates;
pub mod error;
mod exemplars;
pub mod ingest;
pub mod limits;
mod metadata;
pub mod point;
mod results;
mod services;

#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod demo;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod telemetry;

pub use config::{Config, NewDatabase};
pub use database::{
    Database, DeleteReport, OtlpReport, QueryOptions, RemoteReport, RemoteVersion, WriteReport,
};
pub use databases::{DatabaseSnapshot, Databases, RestoreReport};
pub use error::{Error, ErrorKind, Result};
pub use exemplars::SeriesExemplars;
pub use icecore_query::promql::{Answer, QueryValue, Sample};
pub use icecore_query::select::{Cell, Table};
pub use icecore_storage::engine::{EngineStats, Guard, RetentionPlan, RetentionReport, SnapshotReport};
pub use icecore_storage::model::{RowError, Tier, TimeRange, Value};
pub use icecore_storage::options::{Durability, Options, Retention};
pub use icecore_storage::rules::Rule;
pub use icecore_storage::scan::Resolution;
pub use ingest::line::Precision;
pub use limits::Limits;
pub use metadata::MetricInfo;
pub use point::Point;
pub use results::ResultStats;
