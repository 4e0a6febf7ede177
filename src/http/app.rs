//! What all requests share, and how a query or a write gets its turn: a bounded number at once, a bounded queue, and
//! work on blocking threads that stops when the client leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Failure;
use super::held;
use crate::database::Query;
use crate::databases::DEFAULT_DATABASE;
use crate::limits::Limits;
use crate::telemetry::{Language, LimitName, Telemetry};
use crate::{Database, Databases, Error};

/// Bodies being decompressed and written at once: each may hold `body_bytes_max`.
const INFLATIONS_MAX: usize = 4;
/// How long a write waits for its turn.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The server's shared state.
#[derive(Debug)]
pub(crate) struct App {
    pub(super) databases: Arc<Databases>,
    pub(super) limits: Limits,
    pub(super) telemetry: Telemetry,
    pub(super) started_ns: i64,
    is_draining: AtomicBool,
    queries: Arc<Semaphore>,
    queries_waiting: AtomicUsize,
    writes: Arc<Semaphore>,
    inflations: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    /// Memory of bodies that are being decoded, in KiB.
    decoding: Arc<Semaphore>,
}

impl App {
    /// The state of a server over open databases.
    pub(crate) fn new(databases: Arc<Databases>, telemetry: Telemetry) -> Self {
        let limits = databases.config().limits;
        let started_ns = databases.get(DEFAULT_DATABASE).map_or(0, |database| database.now_ns());
        Self {
            databases,
            limits,
            telemetry,
            started_ns,
            is_draining: AtomicBool::new(false),
            queries: Arc::new(Semaphore::new(limits.queries_at_once())),
            queries_waiting: AtomicUsize::new(0),
            writes: Arc::new(Semaphore::new(limits.writes_max)),
            inflations: Arc::new(Semaphore::new(INFLATIONS_MAX)),
            bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max / 1024)),
            decoding: Arc::new(Semaphore::new(decoding_kib(&limits))),
        }
    }

    /// From now on /health/ready says no.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::SeqCst)
    }

    /// The database a request names; the default one when it names none.
    pub(super) fn database(&self, name: Option<&str>) -> Result<Arc<Database>, Failure> {
        let name = name.filter(|name| !name.is_empty()).unwrap_or(DEFAULT_DATABASE);
        self.databases.get(name).ok_or_else(|| Failure::not_found(format!("database not found: {name:?}")))
    }

    /// A failure that is a limit reached, counted.
    pub(super) fn limit_hit(&self, limit: LimitName, failure: Failure) -> Failure {
        self.telemetry.limit_hit(limit);
        failure
    }

    /// Takes memory for what has come of a body.
    pub(super) fn body_memory(&self, kib: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        Arc::clone(&self.bodies).try_acquire_many_owned(kib).map_err(|_| {
            let failure =
                Failure::busy("too many bodies are being received at once (limit bodies_bytes_max)");
            self.limit_hit(LimitName::Bodies, failure)
        })
    }

    /// Waits for the turn of a write.
    async fn write_turn(&self, is_compressed: bool) -> Result<OwnedSemaphorePermit, Failure> {
        let turns = if is_compressed { &self.inflations } else { &self.writes };
        match tokio::time::timeout(WRITE_WAIT_MAX, Arc::clone(turns).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(self
                .limit_hit(LimitName::Writes, Failure::busy("too many writes at once (limit writes_max)"))),
        }
    }

    /// Waits for the memory that decoding and writing a body takes. One that takes more than there is waits until it is
    /// alone.
    pub(super) async fn decoding_memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let kib = bytes.div_ceil(1024).min(decoding_kib(&self.limits));
        let kib = u32::try_from(kib).unwrap_or(u32::MAX);
        let turn = Arc::clone(&self.decoding).acquire_many_owned(kib);
        match tokio::time::timeout(WRITE_WAIT_MAX, turn).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                let message = "too many bodies are being written at once (limit decoding_bytes_max)";
                Err(self.limit_hit(LimitName::Decoding, Failure::busy(message)))
            }
        }
    }

    /// Unpacks and writes a body on a blocking thread when its turn has come; the work is told where to wait for memory.
    pub(super) async fn run_write<T: Send + 'static>(
        self: &Arc<Self>,
        is_compressed: bool,
        work: impl FnOnce(&Self, &Handle) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let permit = self.write_turn(is_compressed).await?;
        let (worker, runtime) = (Arc::clone(self), Handle::current());
        let outcome = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&worker, &runtime)
        });
        // A panic is told apart from a refusal; both outcomes are already failures of this room.
        join(outcome.await.map(Ok))?
    }

    /// A body that was unpacked; one that is too large is counted.
    pub(super) fn unpacked(&self, outcome: Result<Vec<u8>, Failure>) -> Result<Vec<u8>, Failure> {
        outcome.map_err(|failure| match failure.status {
            StatusCode::PAYLOAD_TOO_LARGE => self.limit_hit(LimitName::BodyDecoded, failure),
            _ => failure,
        })
    }

    async fn query_turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(permit) = Arc::clone(&self.queries).try_acquire_owned() {
            return Ok(permit);
        }
        let too_many = || {
            let failure = Failure::too_many("too many queries at once (limits queries_max, query_queue_max)");
            self.limit_hit(LimitName::Queries, failure)
        };
        if self.queries_waiting.fetch_add(1, Ordering::SeqCst) >= self.limits.query_queue_max {
            self.queries_waiting.fetch_sub(1, Ordering::SeqCst);
            return Err(too_many());
        }
        let _leave = LeaveQueue(&self.queries_waiting);
        match tokio::time::timeout(self.limits.query_wait_max, Arc::clone(&self.queries).acquire_owned())
            .await
        {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(too_many()),
        }
    }

    /// Runs a query on a blocking thread when its turn has come. When the client leaves, this future is dropped and
    /// the query is told to stop; its turn ends when it has stopped.
    pub(super) async fn run_query<T: Send + 'static>(
        &self,
        language: Language,
        query: Query,
        work: impl FnOnce(&Query) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_query_held(language, query, work).await.map(|(found, _)| found)
    }

    /// As [`Self::run_query`], of work that makes a text: the body of the answer, which is charged until it is sent.
    pub(super) async fn answer_query(
        &self,
        language: Language,
        query: Query,
        work: impl FnOnce(&Query) -> Result<Vec<u8>, Error> + Send + 'static,
    ) -> Result<Body, Failure> {
        let work = move |query: &Query| {
            let text = work(query)?;
            query.budget.keep_bytes(text.capacity() as u64)?;
            Ok(text)
        };
        let (text, query) = self.run_query_held(language, query, work).await?;
        Ok(held::whole(text, query))
    }

    /// As [`Self::run_query`], and hands back the query: what it holds is charged until it is dropped.
    pub(super) async fn run_query_held<T: Send + 'static>(
        &self,
        language: Language,
        query: Query,
        work: impl FnOnce(&Query) -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Query), Failure> {
        let permit = self.query_turn().await?;
        let _cancel = CancelOnDrop(query.budget.cancel_switch());
        let timer = self.telemetry.query_timer(language);
        let joined = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&query).map(|found| (found, query))
        });
        let outcome = join(joined.await);
        drop(timer);
        outcome.map_err(|failure| match failure.limit() {
            Some(limit) => self.limit_hit(limit, failure),
            None => failure,
        })
    }
}

fn decoding_kib(limits: &Limits) -> usize {
    (limits.decoding_bytes_max / 1024).clamp(1, u32::MAX as usize)
}

/// The outcome of a blocking task; one that panicked is an internal error, not a closed connection.
pub(super) fn join<T>(joined: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Failure> {
    match joined {
        Ok(outcome) => outcome.map_err(Failure::from),
        Err(error) => {
            tracing::error!(%error, "a request ended in a panic");
            Err(Failure::internal("internal error; the log has more"))
        }
    }
}

struct LeaveQueue<'a>(&'a AtomicUsize);

impl Drop for LeaveQueue<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends a query when nobody waits for it any more.
pub(super) struct CancelOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, QueryValue};

    fn with_app<F: Future<Output = ()>>(limits: Limits, work: impl FnOnce(Arc<App>) -> F) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { limits, ..Config::default() };
        let databases = Arc::new(Databases::open(dir.path().join("data"), config).unwrap());
        let app = Arc::new(App::new(Arc::clone(&databases), Telemetry::new().unwrap()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(work(app));
        databases.close().unwrap();
    }

    async fn ask(app: &App) -> Result<(), Failure> {
        let database = app.database(None).unwrap();
        let query = database.query(crate::QueryOptions::default());
        let work = move |query: &Query| {
            let answer = database.run_promql(query, "1+1", 4_000_000_000)?;
            assert!(matches!(answer.value, QueryValue::Scalar { .. }));
            Ok(())
        };
        app.run_query(Language::Promql, query, work).await
    }

    #[test]
    fn query_beyond_the_queue_is_429() {
        with_app(Limits { queries_max: 1, query_queue_max: 0, ..Limits::default() }, |app| async move {
            let turn = app.query_turn().await.unwrap();
            assert_eq!(ask(&app).await.unwrap_err().status.as_u16(), 429);
            drop(turn);
            ask(&app).await.unwrap();
        });
    }

    #[test]
    fn query_waiting_too_long_is_429() {
        let wait = Duration::from_millis(1);
        with_app(Limits { queries_max: 1, query_wait_max: wait, ..Limits::default() }, |app| async move {
            let turn = app.query_turn().await.unwrap();
            assert_eq!(ask(&app).await.unwrap_err().status.as_u16(), 429);
            assert_eq!(app.queries_waiting.load(Ordering::SeqCst), 0);
            drop(turn);
            ask(&app).await.unwrap();
        });
    }

    #[test]
    fn bodies_beyond_their_memory_are_503() {
        with_app(Limits::default(), |app| async move {
            let memory = app.body_memory(Limits::default().bodies_bytes_max / 1024).unwrap();
            assert_eq!(app.body_memory(1).unwrap_err().status.as_u16(), 503);
            drop(memory);
            assert!(app.body_memory(1).is_ok());
        });
    }

    #[test]
    fn decoding_waits_for_its_memory_and_large_bodies_for_all_of_it() {
        with_app(Limits { decoding_bytes_max: 10 << 10, ..Limits::default() }, |app| async move {
            let small = app.decoding_memory(4 << 10).await.unwrap();
            let other = app.decoding_memory(6 << 10).await.unwrap();
            let large = async { app.decoding_memory(1 << 30).await.unwrap() };
            let mut large = std::pin::pin!(large);
            let is_waiting = tokio::time::timeout(Duration::from_millis(1), large.as_mut()).await.is_err();
            assert!(is_waiting);
            drop((small, other));
            drop(large.await);
        });
    }

    #[test]
    fn work_that_panics_is_500() {
        with_app(Limits::default(), |app| async move {
            let query = app.database(None).unwrap().query(crate::QueryOptions::default());
            let work = |_: &Query| -> Result<(), Error> { panic!("on purpose") };
            assert_eq!(app.run_query(Language::Promql, query, work).await.unwrap_err().status.as_u16(), 500);
        });
    }
}
