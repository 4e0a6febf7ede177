//! Every bound of the server, with its default. `docs/config.md` lists them; `/metrics` counts when one is hit.

use std::time::Duration;

use icecore_query::Limits as QueryLimits;

/// Bounds of bodies, connections and queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body as it comes over the wire.
    pub body_wire_bytes_max: usize,
    /// Bytes of a request body after decompression.
    pub body_bytes_max: usize,
    /// How many times larger than on the wire a decompressed body may be.
    pub body_ratio_max: usize,
    /// Bytes of a form body (queries).
    pub form_bytes_max: usize,
    /// How long a client may take to send its body.
    pub body_time_max: Duration,
    /// Open connections.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request; an idle connection is closed after it.
    pub header_time_max: Duration,
    /// How long a client may take nothing of its answer.
    pub answer_time_max: Duration,
    /// Queries that run at once; 0 stands for twice the number of cores.
    pub queries_max: usize,
    /// Queries that wait for a turn.
    pub query_queue_max: usize,
    /// How long a query waits for its turn.
    pub query_wait_max: Duration,
    /// Memtables of all databases together; larger ones are flushed early from half of it on, and writes wait, then are
    /// refused, beyond it. [`Options::memory_bytes_max`](icecore_storage::options::Options::memory_bytes_max) bounds each.
    pub memtables_bytes_max: usize,
    /// Memory of the names of all databases together, by estimate.
    /// [`Options::catalog_bytes_max`](icecore_storage::options::Options::catalog_bytes_max) bounds those of each.
    pub catalogs_bytes_max: usize,
    /// Memory of all running queries together.
    pub queries_memory_bytes_max: u64,
    /// Memory of the answers to range queries that are kept, of all databases, by estimate; 0 keeps none.
    pub results_bytes_max: u64,
    /// Wire bytes of all bodies that are being received or wait for their turn.
    pub bodies_bytes_max: usize,
    /// Writes that are in work or wait at once.
    pub writes_max: usize,
    /// Memory of all bodies that are being decoded and written, by estimate; bounds the fields of one body, too.
    pub decoding_bytes_max: usize,
    /// Memory of the exemplars of a database, by estimate; the oldest leave.
    pub exemplars_bytes_max: u64,
    /// Databases of a data directory.
    pub databases_max: usize,
    /// Series in the answer to a metadata request.
    pub listed_series_max: usize,
    /// How long running requests may take after the order to stop.
    pub drain_time_max: Duration,
    /// Bounds of one query.
    pub query: QueryLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_wire_bytes_max: 10 << 20,
            body_bytes_max: 64 << 20,
            body_ratio_max: 100,
            form_bytes_max: 1 << 20,
            body_time_max: Duration::from_secs(30),
            connections_max: 512,
            header_time_max: Duration::from_secs(10),
            answer_time_max: Duration::from_secs(60),
            queries_max: 0,
            query_queue_max: 32,
            query_wait_max: Duration::from_secs(1),
            memtables_bytes_max: 768 << 20,
            catalogs_bytes_max: 768 << 20,
            queries_memory_bytes_max: 512 << 20,
            results_bytes_max: 32 << 20,
            bodies_bytes_max: 256 << 20,
            writes_max: 32,
            decoding_bytes_max: 256 << 20,
            exemplars_bytes_max: 16 << 20,
            databases_max: 64,
            listed_series_max: 100_000,
            drain_time_max: Duration::from_secs(10),
            query: QueryLimits::default(),
        }
    }
}

impl Limits {
    /// Queries that run at once, with the default resolved for this machine.
    pub fn queries_at_once(&self) -> usize {
        match self.queries_max {
            0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
            queries => queries,
        }
    }
}
