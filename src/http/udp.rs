//! Line protocol over UDP, as collectd and others send it to InfluxDB. Nothing is acknowledged: datagrams that come while
//! the system's buffer is full, or that a full disk refuses, are lost. Those that are taken are written together, a second
//! or a megabyte at a time, so that a sync of the log serves many.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::app::App;
use crate::Database;
use crate::ingest::Precision;

/// Bytes that are written at a time.
const BATCH_BYTES: usize = 1 << 20;
/// How long a datagram waits for others at most.
const BATCH_TIME: Duration = Duration::from_secs(1);
/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What listens, and where its rows go.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The open socket.
    pub(crate) socket: UdpSocket,
    /// The database that is written to.
    pub(crate) database: Arc<Database>,
    /// Unit of the times.
    pub(crate) precision: Precision,
}

/// Takes datagrams until `stop` turns true; what was taken until then is written.
pub(crate) async fn listen(app: Arc<App>, listener: Listener, mut stop: watch::Receiver<bool>) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut batch = Batch::default();
    let mut due = tokio::time::interval(BATCH_TIME);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_full = tokio::select! {
            received = listener.socket.recv(&mut datagram) => {
                match received {
                    Ok(bytes) => batch.push(&listener, datagram.get(..bytes).unwrap_or_default()),
                    // The answer of some host to nothing we sent.
                    Err(error) => tracing::debug!(%error, "cannot receive a datagram"),
                }
                BATCH_BYTES <= batch.bytes
            }
            _ = due.tick() => true,
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        };
        if is_full {
            write(&app, &listener, std::mem::take(&mut batch)).await;
        }
    }
    write(&app, &listener, batch).await;
}

/// Datagrams that wait to be written.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    /// Datagrams with lines that cannot be taken: a text that is not closed would go on in the next one.
    apart: Vec<Vec<u8>>,
    bytes: usize,
    datagrams: u64,
}

impl Batch {
    fn push(&mut self, listener: &Listener, datagram: &[u8]) {
        self.datagrams += 1;
        self.bytes += datagram.len() + 1;
        if !listener.database.reads_whole(datagram, listener.precision) {
            return self.apart.push(datagram.to_vec());
        }
        self.lines.extend_from_slice(datagram);
        if datagram.last() != Some(&b'\n') {
            self.lines.push(b'\n');
        }
    }

    /// What is written at a time.
    fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.lines).chain(&self.apart).map(Vec::as_slice).filter(|body| !body.is_empty())
    }
}

async fn write(app: &Arc<App>, listener: &Listener, batch: Batch) {
    if batch.datagrams == 0 {
        return;
    }
    let (database, precision, datagrams) =
        (Arc::clone(&listener.database), listener.precision, batch.datagrams);
    let written = tokio::task::spawn_blocking(move || {
        let reports = batch.bodies().map(|body| database.write_lines(body, precision));
        reports.collect::<crate::Result<Vec<_>>>()
    });
    let is_taken = match written.await {
        Ok(Ok(reports)) => {
            for report in reports {
                app.telemetry.lines_rejected(report.rejected_count);
                if let Some(first) = report.rejected.first() {
                    let (count, reason) = (report.rejected_count, &first.reason);
                    tracing::debug!(count, reason, "lines of datagrams were refused");
                }
            }
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, datagrams, "datagrams are lost");
            false
        }
        Err(error) => {
            tracing::error!(%error, "writing datagrams ended in a panic");
            false
        }
    };
    app.telemetry.datagrams(is_taken, datagrams);
}
