//! The admin server: small HTTP/1 answers for operators and tools, on the control thread.
//!
//! What can be asked is a closed set that the process gives ([`Api`]); this module does the rest:
//! few connections, small bodies, and no page in somebody's browser gets an answer (a foreign
//! `Host` is a name rebound to this address, an `Origin` is a page).

mod door;
mod guard;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

pub use door::{Door, MAX_CONNECTIONS, Place};
pub use guard::HostPolicy;

/// Longest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest query, in bytes.
pub const MAX_QUERY_BYTES: usize = 4096;
/// How long a request's head and body may take to come.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What a process lets itself be asked.
pub trait Api: 'static {
    /// Everything that can be asked, as a closed enum.
    type Route;

    /// The route of a path and the methods that it takes; `None` for no such path.
    fn route(&self, path: &str) -> Option<(Methods, Self::Route)>;

    /// Answers. Runs on the control thread: anything long belongs elsewhere.
    fn answer(&self, route: Self::Route, question: Question) -> impl Future<Output = Answer>;

    /// What is said to those who ask for a path that is not there.
    fn help(&self) -> String;
}

/// The methods that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// GET and HEAD: it only looks.
    Get,
    /// POST: it changes something.
    Post,
    /// All of them: looks by GET, changes by POST.
    GetOrPost,
}

impl Methods {
    fn take(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD => self != Self::Post,
            Method::POST => self != Self::Get,
            _ => false,
        }
    }

    const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::GetOrPost => "GET, HEAD, POST",
        }
    }
}

/// What was asked beside the path.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The method, one that the route takes.
    pub method: Method,
    /// The query's parameters, decoded, in order.
    pub parameters: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Question {
    /// The first parameter with this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `content-type`.
    pub content_type: &'static str,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// Plain text with status 200.
    #[must_use]
    pub fn text(body: impl Into<Bytes>) -> Self {
        Self::of(StatusCode::OK, body)
    }

    /// Plain text.
    #[must_use]
    pub fn of(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, content_type: "text/plain; charset=UTF-8", body: body.into() }
    }

    /// JSON, indented for people.
    #[must_use]
    pub fn json(value: &impl serde::Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                let content_type = "application/json";
                Self { status: StatusCode::OK, content_type, body: body.into() }
            }
            Err(error) => Self::of(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// Prometheus' text format.
    #[must_use]
    pub fn prometheus(body: impl Into<Bytes>) -> Self {
        Self { content_type: "text/plain; version=0.0.4", ..Self::text(body) }
    }
}

/// Serves `api` until the listener breaks.
///
/// # Errors
/// The listener is broken for good.
pub async fn serve<A: Api>(
    listener: TcpListener,
    hosts: HostPolicy,
    api: Rc<A>,
) -> io::Result<Infallible> {
    let connections = LocalSet::new();
    connections.run_until(accept(listener, hosts, api)).await
}

async fn accept<A: Api>(
    listener: TcpListener,
    hosts: HostPolicy,
    api: Rc<A>,
) -> io::Result<Infallible> {
    let door = Door::new(listener);
    loop {
        let (stream, place) = door.next().await?;
        let api = Rc::clone(&api);
        tokio::task::spawn_local(async move {
            serve_connection(stream, hosts, &*api).await;
            drop(place);
        });
    }
}

async fn serve_connection<A: Api>(stream: TcpStream, hosts: HostPolicy, api: &A) {
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(|request| async move {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, answer(request, local, hosts, api));
        let answer = answer.await.unwrap_or_else(|_| {
            Answered::of(StatusCode::REQUEST_TIMEOUT, "the request did not come to its end")
        });
        Ok::<_, Infallible>(answer.into_response())
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "admin connection");
    }
}

/// An answer with the header that only some have.
struct Answered {
    answer: Answer,
    allow: Option<&'static str>,
}

impl Answered {
    fn of(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { answer: Answer::of(status, text), allow: None }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let Answer { status, content_type, body } = self.answer;
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

async fn answer<A: Api>(
    request: Request<Incoming>,
    local: SocketAddr,
    hosts: HostPolicy,
    api: &A,
) -> Answered {
    if let Err(refusal) = guard::check(&request, local, hosts) {
        return Answered::of(StatusCode::FORBIDDEN, refusal);
    }
    let Some((methods, route)) = api.route(request.uri().path()) else {
        return Answered::of(StatusCode::NOT_FOUND, api.help());
    };
    let method = request.method().clone();
    if !methods.take(&method) {
        let allow = methods.allow();
        let text = format!("Method {method} not allowed, {allow} required.\n");
        let answer = Answer::of(StatusCode::METHOD_NOT_ALLOWED, text);
        return Answered { answer, allow: Some(allow) };
    }
    let query = request.uri().query().unwrap_or_default();
    if query.len() > MAX_QUERY_BYTES {
        return Answered::of(StatusCode::URI_TOO_LONG, "the query is too long\n");
    }
    let parameters = parameters(query);
    let body = match Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Answered::of(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n"),
    };
    let answer = api.answer(route, Question { method, parameters, body }).await;
    Answered { answer, allow: None }
}

/// The parameters of a query (`application/x-www-form-urlencoded`), decoded; what is not UTF-8 is
/// replaced.
fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let escaped = match (byte, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        bytes.push(match (escaped, byte) {
            (Some(escaped), _) => escaped,
            (None, b'+') => b' ',
            (None, other) => *other,
        });
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
