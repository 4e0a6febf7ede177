//! The accept loop: a limit of connections, a time for heads of requests, and a drain with an end.
//!
//! Stopping: the listener is closed, idle connections end at once, running requests have `drain_time_max`, then
//! what is left is cut off.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use super::app::App;
use super::route::router;
use crate::limits::Limits;
use crate::telemetry::LimitName;

/// Pause after the system refused a connection (no file descriptor left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may let a connection wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// For the head of a request.
    pub(super) header_time_max: Duration,
    /// Until it takes some of its answer.
    pub(super) answer_time_max: Duration,
}

/// Serves until `stop` turns true, then drains.
pub(crate) async fn serve(app: Arc<App>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(app.limits.connections_max));
    let router = router(Arc::clone(&app));
    let Limits { header_time_max, answer_time_max, .. } = app.limits;
    let times = Times { header_time_max, answer_time_max };
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&app, &listener, &connections) => {
                if let Some((stream, permit)) = accepted {
                    open.spawn(connection(router.clone(), stream, permit, times, stop.clone()));
                }
            }
            // Ended connections are taken out as they end.
            Some(_) = open.join_next(), if !open.is_empty() => {}
            () = stopped(&mut stop) => break,
        }
    }
    app.begin_drain();
    drop(listener);
    let drained = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(app.limits.drain_time_max, drained).await.is_err() {
        tracing::warn!(connections = open.len(), "requests were still running when the time to drain was up");
        open.abort_all();
    }
}

/// Waits for the order to stop; a sender that is gone is one.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|is_stopping| *is_stopping).await);
}

/// The next connection, when there is room for one: until then clients wait in the system's queue.
async fn accept(
    app: &App,
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = match Arc::clone(connections).try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => {
            app.telemetry.limit_hit(LimitName::Connections);
            Arc::clone(connections).acquire_owned().await.ok()?
        }
    };
    match listener.accept().await {
        Ok((stream, _)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot turn off delay");
            }
            Some((stream, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Serves one client until it leaves, is left, or the server stops.
pub(super) async fn connection<S: AsyncRead + AsyncWrite + Send + 'static>(
    router: Router,
    stream: S,
    permit: OwnedSemaphorePermit,
    Times { header_time_max, answer_time_max }: Times,
    mut stop: watch::Receiver<bool>,
) {
    let _permit = permit;
    // Who takes nothing of its answer is left: what the answer holds is wanted by others.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(answer_time_max));
    let stream = Box::pin(stream);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time_max)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        // A client that leaves is no event for an operator.
        tracing::debug!(%error, "connection ended");
    }
}
