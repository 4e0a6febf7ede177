//! Starts the server as a user does, finds its port, asks it over HTTP, and stops it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_icecore");

/// A running server; killed when dropped. A warning or an error in its log fails the test that did not allow it.
pub(crate) struct TestServer {
    child: Child,
    log: File,
    allowed: Vec<&'static str>,
    pub(crate) url: String,
    pub(crate) data_dir: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// As [`Reply::expect`], and the body holds a text.
    #[track_caller]
    pub(crate) fn expect_text(self, status: u16, text: &str) -> Self {
        let reply = self.expect(status);
        assert!(reply.body.contains(text), "no {text:?} in {}", reply.body);
        reply
    }
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let data_dir = dir.path().join("data");
        let mut server = Self::start_in(&data_dir);
        server._dir = Some(dir);
        server
    }

    pub(crate) fn start_in(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &[])
    }

    pub(crate) fn start_with(data_dir: &Path, flags: &[&str]) -> Self {
        let log = tempfile::tempfile().expect("a temporary file");
        let mut child = serve_command(data_dir, "127.0.0.1:0")
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(log.try_clone().expect("the file can be shared"))
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
        let url = loop {
            let line =
                lines.next().expect("the server says where it listens").expect("standard output is text");
            if let Some(url) = line.strip_prefix("listening on ") {
                break url.to_owned();
            }
        };
        // A server that was killed leaves a tail that nobody was told of.
        let allowed = vec!["dropped a torn, unacknowledged tail of the log"];
        Self { child, log, allowed, url, data_dir: data_dir.to_owned(), _dir: None }
    }

    /// Lines of the log with this text are what the test wants to see.
    pub(crate) fn allow(mut self, text: &'static str) -> Self {
        self.allowed.push(text);
        self
    }

    /// Lines of the log that are warnings or errors, and that nobody allowed.
    fn complaints(&mut self) -> Vec<String> {
        self.log.rewind().expect("the log can be read again");
        let lines = BufReader::new(&self.log).lines().map_while(Result::ok);
        let is_complaint = |line: &String| line.contains(" WARN ") || line.contains("ERROR ");
        let is_allowed = |line: &String| self.allowed.iter().any(|text| line.contains(text));
        lines.filter(|line| is_complaint(line) && !is_allowed(line)).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        reply(agent().get(format!("{}{path}", self.url)).query_pairs(params.iter().copied()).call())
    }

    pub(crate) fn form(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        reply(agent().post(format!("{}{path}", self.url)).send_form(params.iter().copied()))
    }

    pub(crate) fn post(&self, path_and_query: &str, body: &[u8]) -> Reply {
        reply(agent().post(format!("{}{path_and_query}", self.url)).send(body))
    }

    pub(crate) fn put(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        reply(agent().put(format!("{}{path}", self.url)).query_pairs(params.iter().copied()).send_empty())
    }

    pub(crate) fn delete(&self, path: &str, params: &[(&str, &str)]) -> Reply {
        reply(agent().delete(format!("{}{path}", self.url)).query_pairs(params.iter().copied()).call())
    }

    pub(crate) fn post_encoded(&self, path_and_query: &str, encoding: &str, body: &[u8]) -> Reply {
        let request =
            agent().post(format!("{}{path_and_query}", self.url)).header("content-encoding", encoding);
        reply(request.send(body))
    }

    pub(crate) fn promql(&self, text: &str, time: &str) -> Reply {
        self.get("/api/v1/query", &[("query", text), ("time", time)])
    }

    pub(crate) fn select(&self, text: &str) -> Reply {
        self.get("/query", &[("q", text)])
    }

    /// The single number that a statement answers.
    #[track_caller]
    pub(crate) fn select_number(&self, text: &str) -> f64 {
        let json = self.select(text).expect(200).json();
        let number = json.pointer("/results/0/series/0/values/0/1").and_then(serde_json::Value::as_f64);
        number.unwrap_or_else(|| panic!("no number in {json}"))
    }

    /// Bytes straight over the wire, and all that comes back.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let address = self.url.strip_prefix("http://").expect("an http address");
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout can be set");
        stream.write_all(bytes).expect("bytes can be sent");
        let mut answer = Vec::new();
        // A reset after the answer is no failure of the test.
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// SIGTERM, and the end it makes.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.wait().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the process can be killed");
        self.wait();
    }
}

impl Drop for TestServer {
    #[expect(clippy::print_stderr, reason = "a test that fails shows what its server said")]
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        let complaints = self.complaints();
        if !std::thread::panicking() {
            assert!(complaints.is_empty(), "the server complained: {complaints:#?}");
        } else if !complaints.is_empty() {
            eprintln!("the server complained: {complaints:#?}");
        }
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(status.expect("kill runs").success());
}

#[track_caller]
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(status) = child.try_wait().expect("the process can be waited for") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process did not end in 30 s");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

pub(crate) fn serve_command(data_dir: &Path, listen: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("serve").arg("--data-dir").arg(data_dir).arg("--listen").arg(listen);
    command.env_remove("ICECORE_LOG").env_remove("ICECORE_RETENTION").env_remove("ICECORE_DURABILITY");
    command
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).stdin(Stdio::null()).output().expect("the binary runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn agent() -> ureq::Agent {
    let timeout = Some(Duration::from_secs(60));
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(timeout).build().into()
}

#[track_caller]
fn reply(sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut response = sent.expect("the server answers");
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned())).collect();
    let body =
        response.body_mut().with_config().limit(256 << 20).read_to_string().expect("the answer is text");
    Reply { status: response.status().as_u16(), headers, body }
}

/// The present in whole seconds: rows of the tests lie close to it, as retention would drop old ones.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests share the machine's clock with the server they start"
)]
pub(crate) fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("memory takes bytes");
    encoder.finish().expect("memory takes bytes")
}
