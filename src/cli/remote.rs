//! A running server as the other side of `import` and `query`: plain HTTP through ureq.

use std::time::Duration;

use super::Ended;
use crate::http::WRITTEN_HEADER;

/// A request may take this long: a query its 30 s, a write its wait for the disk.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A server by its address.
#[derive(Debug)]
pub(super) struct Remote {
    agent: ureq::Agent,
    base: String,
}

/// What a server answered.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
    /// Rows that a write says it kept.
    pub(super) written: Option<u64>,
}

impl Reply {
    /// The text of an error, out of any of the dialects.
    pub(super) fn error(&self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = value.get("error").or_else(|| value.get("message")).and_then(serde_json::Value::as_str);
        text.map_or_else(|| format!("status {}: {}", self.status, self.body.trim()), str::to_owned)
    }
}

impl Remote {
    pub(super) fn new(url: &str) -> Result<Self, Ended> {
        if !url.starts_with("http://") {
            return Err(Ended::usage(format!("--url {url}: expected http://host:port")));
        }
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build();
        Ok(Self { agent: config.into(), base: url.trim_end_matches('/').to_owned() })
    }

    /// Sends a body.
    pub(super) fn post(&self, path: &str, params: &[(&str, &str)], body: &[u8]) -> Result<Reply, Ended> {
        let request = self.agent.post(format!("{}{path}", self.base)).query_pairs(params.iter().copied());
        self.reply(request.content_type("text/plain; charset=utf-8").send(body))
    }

    /// Has something removed.
    pub(super) fn delete(&self, path: &str, params: &[(&str, &str)]) -> Result<Reply, Ended> {
        self.reply(
            self.agent.delete(format!("{}{path}", self.base)).query_pairs(params.iter().copied()).call(),
        )
    }

    /// Asks with a form.
    pub(super) fn ask(&self, path: &str, params: &[(&str, &str)], accept: &str) -> Result<Reply, Ended> {
        let request = self.agent.post(format!("{}{path}", self.base)).header("accept", accept);
        self.reply(request.send_form(params.iter().copied()))
    }

    fn reply(&self, sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply, Ended> {
        let cannot = |error: ureq::Error| Ended::failed(format!("{}: {error}", self.base));
        let mut response = sent.map_err(cannot)?;
        let status = response.status().as_u16();
        let written = response.headers().get(WRITTEN_HEADER);
        let written = written.and_then(|count| count.to_str().ok()?.parse().ok());
        let body =
            response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string().map_err(cannot)?;
        Ok(Reply { status, body, written })
    }
}
