//! What one row of the table says: who sends what where, and what the upstreams answer.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend::{http1, http2, tcp};
use crate::client::http2::Http2Request;

/// Rows that share a configuration (`oracle/NAME.yaml`) and so one start of each proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Virtual hosts, matches, rewrites, header edits.
    Routing,
    /// The HTTP connection manager: HTTP/1 syntax, limits, generated headers.
    Http1,
    /// Timeouts, retries, faults, limits, ejection, balancing.
    Resilience,
    /// HTTP/2 and gRPC on either side.
    Http2,
    /// TCP proxy, filter chains, detection, WebSocket.
    Tcp,
    /// The access log.
    Records,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 6] =
        [Self::Routing, Self::Http1, Self::Resilience, Self::Http2, Self::Tcp, Self::Records];

    /// The name of its configuration file, without `.yaml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Http1 => "http1",
            Self::Resilience => "resilience",
            Self::Http2 => "http2",
            Self::Tcp => "tcp",
            Self::Records => "records",
        }
    }

    /// The configuration with its placeholders.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn config(self) -> Result<String> {
        let path = super::directory().join(format!("{}.yaml", self.name()));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}

/// What a row is about, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Plain HTTP/1.
    Http1,
    /// An error: refused, failed, cut.
    Error,
    /// HTTP/2 or gRPC on either side.
    Http2,
    /// Plain TCP.
    Tcp,
    /// WebSocket.
    WebSocket,
}

/// One thing an HTTP/1 client does.
#[derive(Debug, Clone)]
pub enum Http1Step {
    /// Writes bytes as they are.
    Send(Vec<u8>),
    /// Reads the response to a request of this method.
    Response(&'static str),
    /// Reads one interim response.
    Interim,
    /// Reads this many bytes of a tunnel.
    Read(usize),
    /// Reads until the proxy ends the connection.
    ReadToEnd,
    /// Lets time pass, where time is what the row is about.
    Wait(Duration),
    /// Waits until an HTTP/1 upstream has the head of a request and so many bytes after it.
    Begun(&'static str, usize),
    /// Says whether the connection took longer than this so far.
    LongerThan(Duration),
    /// Ends the sending direction.
    HalfClose,
    /// Resets the connection; the last step.
    Reset,
    /// Finds out whether the connection was kept; the last step.
    Probe,
}

/// What the downstream side does.
#[derive(Debug, Clone)]
pub enum Client {
    /// One HTTP/1 connection.
    Http1(Vec<Http1Step>),
    /// Requests one after the other on one HTTP/2 connection.
    Http2(Vec<Http2Request>),
    /// TCP connections one after the other.
    Tcp(Vec<Vec<tcp::Step>>),
}

/// What one named upstream answers.
#[derive(Debug, Clone)]
pub enum Script {
    /// Of an HTTP/1 upstream.
    Http1(Vec<http1::Answer>),
    /// Of an HTTP/2 upstream.
    Http2(Vec<http2::Answer>),
    /// Of a TCP upstream, per connection.
    Tcp(Vec<Vec<tcp::Step>>),
}

impl Script {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Http1(answers) => answers.len(),
            Self::Http2(answers) => answers.len(),
            Self::Tcp(connections) => connections.len(),
        }
    }
}

/// One behaviour, tried in two proxies.
#[derive(Debug, Clone)]
pub struct Row {
    /// Short and stable.
    pub name: &'static str,
    /// The behaviour no other row has, as a sentence.
    pub behaviour: &'static str,
    /// What it is about.
    pub kind: Kind,
    /// The listener it talks to, as the configuration names its port.
    pub listener: &'static str,
    /// Whether the client comes from an address that is not loopback.
    pub from_outside: bool,
    /// What is sent.
    pub client: Client,
    /// What the upstreams answer, by name; others answer `200 ok`, TCP ones echo.
    pub upstreams: Vec<(&'static str, Script)>,
    /// Lines of the access log that are waited for and compared.
    pub logged: usize,
}

impl Row {
    /// A plain HTTP/1 row at the listener `http`; what is sent comes next.
    #[must_use]
    pub fn new(name: &'static str, behaviour: &'static str) -> Self {
        let client = Client::Http1(Vec::new());
        let (kind, listener) = (Kind::Http1, "http");
        let upstreams = Vec::new();
        let (from_outside, logged) = (false, 0);
        Self { name, behaviour, kind, listener, from_outside, client, upstreams, logged }
    }

    /// Says what the row is about.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Looks at so many lines of the access log too.
    #[must_use]
    pub fn logged(mut self, lines: usize) -> Self {
        self.logged = lines;
        self
    }

    /// Talks to another listener.
    #[must_use]
    pub fn at(mut self, listener: &'static str) -> Self {
        self.listener = listener;
        self
    }

    /// Talks to another listener from an address that is not loopback.
    #[must_use]
    pub fn at_from_outside(mut self, listener: &'static str) -> Self {
        self.from_outside = true;
        self.at(listener)
    }

    /// Sends GET requests one after the other and finds out whether the connection was kept.
    #[must_use]
    pub fn get(self, host: &str, target: &str) -> Self {
        self.raw(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n"), "GET")
    }

    /// Sends a GET with further header lines (each with its CRLF).
    #[must_use]
    pub fn ask(self, host: &str, target: &str, lines: &str) -> Self {
        self.raw(&format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n"), "GET")
    }

    /// Sends a POST with a body of known length.
    #[must_use]
    pub fn post(self, host: &str, target: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}");
        self.raw(&format!("{head}\r\n\r\n{body}"), "POST")
    }

    /// Sends bytes, reads the response to `method`, probes the connection. Repeated calls share
    /// the connection; only the last probes.
    #[must_use]
    pub fn raw(mut self, bytes: &str, method: &'static str) -> Self {
        let mut steps = match self.client {
            Client::Http1(steps) => steps,
            Client::Http2(_) | Client::Tcp(_) => Vec::new(),
        };
        steps.retain(|step| !matches!(step, Http1Step::Probe));
        steps.push(Http1Step::Send(bytes.as_bytes().to_vec()));
        steps.push(Http1Step::Response(method));
        steps.push(Http1Step::Probe);
        self.client = Client::Http1(steps);
        self
    }

    /// Does exactly these steps on one HTTP/1 connection.
    #[must_use]
    pub fn steps(mut self, steps: impl Into<Vec<Http1Step>>) -> Self {
        self.client = Client::Http1(steps.into());
        self
    }

    /// Sends raw bytes as an error row: one exchange, then the fate of the connection.
    #[must_use]
    pub fn error(name: &'static str, behaviour: &'static str, bytes: &str) -> Self {
        Self::new(name, behaviour).kind(Kind::Error).raw(bytes, "GET")
    }

    /// Sends these requests on one HTTP/2 connection.
    #[must_use]
    pub fn http2(mut self, requests: impl Into<Vec<Http2Request>>) -> Self {
        self.client = Client::Http2(requests.into());
        self.kind = Kind::Http2;
        self
    }

    /// Makes these TCP connections, one after the other.
    #[must_use]
    pub fn tcp(mut self, connections: impl Into<Vec<Vec<tcp::Step>>>) -> Self {
        self.client = Client::Tcp(connections.into());
        self.kind = Kind::Tcp;
        self
    }

    /// What the HTTP/1 upstream `name` answers.
    #[must_use]
    pub fn answer(mut self, name: &'static str, answers: impl Into<Vec<http1::Answer>>) -> Self {
        self.upstreams.push((name, Script::Http1(answers.into())));
        self
    }

    /// What the HTTP/2 upstream `name` answers.
    #[must_use]
    pub fn answer2(mut self, name: &'static str, answers: impl Into<Vec<http2::Answer>>) -> Self {
        self.upstreams.push((name, Script::Http2(answers.into())));
        self
    }

    /// What the TCP upstream `name` does, per connection.
    #[must_use]
    pub fn answer_tcp(
        mut self,
        name: &'static str,
        connections: impl Into<Vec<Vec<tcp::Step>>>,
    ) -> Self {
        self.upstreams.push((name, Script::Tcp(connections.into())));
        self
    }
}
