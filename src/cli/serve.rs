//! `icecore serve`: open the data, take the port, serve, and stop when told.
//!
//! Order: check flags, bind the port (so that a taken one costs nothing), open and replay the databases, listen.
//! At SIGTERM or SIGINT: stop accepting, drain, close the databases, exit 0. A second signal exits at once, which
//! loses nothing that was acknowledged.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use icecore_storage::options::{Durability, Options, Retention};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Ended, memory, say};
use crate::Databases;
use crate::config::{
    Config, MEMORY_BYTES_MIN, format_retention, limit_names, parse_bytes, parse_cell_rule, parse_durability,
    parse_retention,
};
use crate::databases::DEFAULT_DATABASE;
use crate::demo::Demo;
use crate::http::{App, Listener, listen, serve};
use crate::ingest::Precision;
use crate::telemetry::Telemetry;

/// Connections that the system keeps waiting for us.
const BACKLOG: u32 = 1024;

/// Flags of `icecore serve`.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Directory of the data; created when it is not there.
    #[arg(long, env = "ICECORE_DATA_DIR", default_value = "./icecore-data")]
    data_dir: PathBuf,
    /// Address and port to listen on.
    #[arg(long, env = "ICECORE_LISTEN", default_value = "127.0.0.1:8086")]
    listen: SocketAddr,
    /// How long each layer is kept: `forever`, or such as raw=1d,1m=7d,5m=7d,1h=30d. For new databases, and, when
    /// given, for the database `default`.
    #[arg(long, env = "ICECORE_RETENTION")]
    retention: Option<String>,
    /// What an acknowledged write has survived, in new databases: `fsync` a power cut, `interval` one but for its last
    /// second, `memory` nothing. Existing databases keep theirs.
    #[arg(long, env = "ICECORE_DURABILITY")]
    durability: Option<String>,
    /// A measurement that keeps every event, in new databases: rows of one series at one time stay apart unless they are
    /// the same. May be given more than once. Existing databases keep what they were created with.
    #[arg(long, value_name = "MEASUREMENT")]
    keep_duplicates: Vec<String>,
    /// What new cells of a field keep, such as requests.latency_ms=dist or *.user_id=auto+uniq: the sets are auto, dist,
    /// counter and gauge. May be given more than once; the first that matches counts. Kept with each database: without the
    /// flag it keeps the rules it has.
    #[arg(long, value_name = "RULE")]
    cells: Vec<String>,
    /// Memory to do with, such as 512M or 2G; sizes of caches and limits follow it. A third of what the machine or the
    /// memory group has, at most 1G, when it is not given.
    #[arg(long, env = "ICECORE_MEMORY")]
    memory: Option<String>,
    /// Bytes a second that the background work of each database writes at most, such as 20M: merges, layers and purges then
    /// sleep while they write. Flushes, and what somebody waits for, do not. No limit when it is not given.
    #[arg(long, value_name = "BYTES", env = "ICECORE_BACKGROUND_RATE")]
    background_rate: Option<String>,
    #[arg(long = "limit", value_name = "NAME=NUMBER", help = limit_help())]
    limits: Vec<String>,
    /// Listen on an address that others can reach although there is no authentication.
    #[arg(long)]
    insecure_no_auth: bool,
    /// Take line protocol in UDP datagrams at this address, too. Nothing is acknowledged: what cannot be written is lost.
    #[arg(long, value_name = "ADDRESS", env = "ICECORE_UDP_LISTEN")]
    udp_listen: Option<SocketAddr>,
    /// The database of datagrams, which must be there.
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DATABASE, requires = "udp_listen")]
    udp_database: String,
    /// Unit of the times in datagrams: ns, us, ms, s, m or h.
    #[arg(long, value_name = "UNIT", default_value = "ns", requires = "udp_listen")]
    udp_precision: String,
    /// Fill the database `default` with the life of a small shop, and go on.
    #[arg(long)]
    demo: bool,
}

fn limit_help() -> String {
    format!(
        "A bound in place of its default, such as series_max=5000000 or free_bytes_min=1G. May be given more than once. \
         One of {}",
        limit_names()
    )
}

pub(super) fn run(args: ServeArgs) -> Result<(), Ended> {
    memory::bound_arenas();
    let config = config(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("icecore-http")
        .build()
        .map_err(|error| Ended::failed(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(serve_until_signal(&args, config));
    // Blocking tasks still at work were given their time to drain.
    runtime.shutdown_background();
    outcome
}

fn config(args: &ServeArgs) -> Result<Config, Ended> {
    let retention = match &args.retention {
        Some(text) => parse_retention(text).map_err(|error| Ended::usage(format!("--retention: {error}")))?,
        None => Retention::default(),
    };
    let durability = match &args.durability {
        Some(text) => {
            parse_durability(text).map_err(|error| Ended::usage(format!("--durability: {error}")))?
        }
        None => Durability::default(),
    };
    for (flag, address) in [("--listen", Some(args.listen)), ("--udp-listen", args.udp_listen)] {
        if let Some(address) = address
            && !address.ip().is_loopback()
            && !args.insecure_no_auth
        {
            return Err(Ended::usage(format!(
                "{flag} {address}: others could read and write everything, as there is no authentication yet; listen \
                 on 127.0.0.1 behind a proxy that authenticates, or say --insecure-no-auth"
            )));
        }
    }
    let memory_bytes = memory_bytes(args.memory.as_deref())?;
    tracing::info!(mib = memory_bytes >> 20, "memory to do with");
    let cells = args.cells.iter().map(|text| parse_cell_rule(text)).collect::<Result<_, _>>();
    let cells = cells.map_err(|error| Ended::usage(format!("--cells: {error}")))?;
    let rate = args.background_rate.as_deref().map(parse_bytes).transpose();
    let rate = rate.map_err(|error| Ended::usage(format!("--background-rate: {error}")))?;
    let options = Options { durability, cells, background_bytes_per_second_max: rate, ..Options::default() };
    let mut config = Config {
        data_dir: args.data_dir.clone(),
        listen: args.listen,
        retention,
        keep_duplicates: args.keep_duplicates.clone(),
        options,
        ..Config::default()
    }
    .with_memory(memory_bytes);
    for text in &args.limits {
        config.set_limit(text).map_err(|error| Ended::usage(format!("--limit: {error}")))?;
    }
    Ok(config)
}

fn memory_bytes(flag: Option<&str>) -> Result<u64, Ended> {
    let Some(text) = flag else { return Ok(memory::default_bytes()) };
    let bytes = parse_bytes(text).map_err(|error| Ended::usage(format!("--memory: {error}")))?;
    if bytes < MEMORY_BYTES_MIN {
        return Err(Ended::usage(format!("--memory: {text} is less than {} MiB", MEMORY_BYTES_MIN >> 20)));
    }
    Ok(bytes)
}

fn bind(listen: SocketAddr) -> Result<TcpSocket, Ended> {
    let cannot = |error: std::io::Error| Ended::usage(format!("cannot listen on {listen}: {error}"));
    let socket = if listen.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(cannot)?;
    // A restart must not wait for the connections of the previous run to be forgotten.
    socket.set_reuseaddr(true).map_err(cannot)?;
    socket.bind(listen).map_err(cannot)?;
    Ok(socket)
}

async fn serve_until_signal(args: &ServeArgs, config: Config) -> Result<(), Ended> {
    let signals = Signals::new()?;
    let socket = bind(config.listen)?;
    let dir = config.data_dir.clone();
    let opened = tokio::task::spawn_blocking(move || Databases::open(&dir, config));
    let databases = opened
        .await
        .map_err(|error| Ended::failed(format!("opening the data ended in a panic: {error}")))?
        .map_err(|error| Ended::opening(&error))?;
    let databases = Arc::new(databases);
    if args.retention.is_some() {
        apply_flag(&databases)?;
    }
    if args.durability.is_some() {
        warn_of_kept(&databases);
    }
    let listener = socket
        .listen(BACKLOG)
        .map_err(|error| Ended::usage(format!("cannot listen on {}: {error}", args.listen)))?;
    let address = listener.local_addr().map_err(Ended::failed)?;
    let udp = udp_listener(args, &databases).await?;
    greet(&databases, address);
    if let Some(udp) = &udp {
        let address = udp.socket.local_addr().map_err(Ended::failed)?;
        say(format_args!("datagrams at {address}, for the database `{}`", args.udp_database));
    }
    let demo = args.demo.then(|| start_demo(&databases, address)).transpose()?;

    let app = Arc::new(App::new(Arc::clone(&databases), Telemetry::new()?));
    serve_and_drain(app, (listener, udp), signals).await;

    let closed = tokio::task::spawn_blocking(move || {
        if let Some(demo) = demo {
            demo.stop();
        }
        databases.close()
    });
    closed.await.map_err(|error| Ended::failed(format!("closing ended in a panic: {error}")))??;
    tracing::info!("stopped");
    Ok(())
}

/// The socket for datagrams, where one is asked for.
async fn udp_listener(args: &ServeArgs, databases: &Databases) -> Result<Option<Listener>, Ended> {
    let Some(address) = args.udp_listen else { return Ok(None) };
    let precision = Precision::parse(&args.udp_precision).ok_or_else(|| {
        Ended::usage(format!("--udp-precision {}: one of ns, us, ms, s, m, h", args.udp_precision))
    })?;
    let database = databases.get(&args.udp_database).ok_or_else(|| {
        Ended::usage(format!("--udp-database {}: there is no such database", args.udp_database))
    })?;
    let cannot = |error: std::io::Error| Ended::usage(format!("cannot listen on {address}: {error}"));
    let socket = UdpSocket::bind(address).await.map_err(cannot)?;
    Ok(Some(Listener { socket, database, precision }))
}

/// A retention given on the command line is meant for the database that is always there.
fn apply_flag(databases: &Databases) -> Result<(), Ended> {
    let retention = databases.config().retention;
    if let Some(database) = databases.get(DEFAULT_DATABASE)
        && database.retention() != retention
    {
        tracing::info!(
            database = DEFAULT_DATABASE,
            retention = format_retention(&retention),
            "retention changed"
        );
        database.set_retention(retention)?;
    }
    Ok(())
}

/// A durability given on the command line does not reach databases that are there.
fn warn_of_kept(databases: &Databases) {
    let given = databases.config().options.durability;
    for database in databases.all() {
        let kept = database.stats().durability;
        if kept != given {
            let (kept, given) = (kept.name(), given.name());
            tracing::warn!(database = database.name(), kept, given, "--durability is for new databases only");
        }
    }
}

fn greet(databases: &Databases, address: SocketAddr) {
    let database = databases.get(DEFAULT_DATABASE);
    let retention = database.as_ref().map(|database| database.retention());
    let durability = database.map(|database| database.stats().durability);
    say(format_args!("icecore {}", env!("CARGO_PKG_VERSION")));
    say(format_args!("data directory {}", databases.dir().display()));
    say(format_args!("retention {}", format_retention(&retention.unwrap_or_default())));
    say(format_args!("durability {}", durability.unwrap_or_default().name()));
    say(format_args!("listening on http://{address}"));
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "listening on a public address without authentication (--insecure-no-auth)");
    }
    tracing::info!(%address, databases = databases.names().len(), "ready");
}

fn start_demo(databases: &Databases, address: SocketAddr) -> Result<Demo, Ended> {
    let database = databases.get(DEFAULT_DATABASE);
    let database = database.ok_or_else(|| Ended::failed("the default database is not there"))?;
    let demo = Demo::start(database)?;
    say("demo: a small shop writes to the database `default`; try");
    for line in crate::demo::curl_lines(&format!("http://{address}")) {
        say(format_args!("  {line}"));
    }
    Ok(demo)
}

async fn serve_and_drain(
    app: Arc<App>,
    (listener, udp): (TcpListener, Option<Listener>),
    mut signals: Signals,
) {
    let (stop, stopping) = watch::channel(false);
    let datagrams = udp.map(|udp| tokio::spawn(listen(Arc::clone(&app), udp, stopping.clone())));
    let server = tokio::spawn(serve(app, listener, stopping));
    let signal = signals.next().await;
    tracing::info!(
        signal,
        "stopping: draining requests, then closing the databases; a second signal exits at once"
    );
    stop.send_replace(true);
    // Watches beyond the end of this function: closing the databases can take a while, too.
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::warn!(signal, "second signal: exiting at once; the log holds what was acknowledged");
        std::process::exit(1);
    });
    for task in std::iter::once(server).chain(datagrams) {
        if let Err(error) = task.await {
            tracing::error!(%error, "the server ended in a panic");
        }
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Ended> {
        let cannot = |error: std::io::Error| Ended::failed(format!("cannot wait for signals: {error}"));
        let terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt()).map_err(cannot)? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
