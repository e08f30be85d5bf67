//! One request and the connection it takes: an idle one, a shared one, or a fresh one.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::idle::{Connection, Idle};
use super::report::{Failure, Outcome};
use super::target::Target;
use super::{Protocol, Settings};

type Body = Full<Bytes>;

/// What an echo sends.
pub(super) const ECHO: &[u8; 32] = b"thirty-two bytes, come back soon";
/// The same as a gRPC message.
pub(super) const ECHO_CALL: &[u8; 37] = b"\0\0\0\0\x20thirty-two bytes, come back soon";
/// The field that tells one POST from another, so that a double one is found.
pub(super) const TOKEN: &str = "x-request-token";

/// What a request is called, in logs of proxies too.
const ID: &str = "x-request-id";
/// Why a proxy of the mesh gave an answer of its own.
const REASON: &str = "x-tulle-reason";

/// One request that is due.
#[derive(Debug)]
pub(super) struct Request {
    pub due: Instant,
    /// Its `x-request-id`.
    pub id: String,
    method: Method,
    token: Option<String>,
    fresh: bool,
}

impl Request {
    /// The request with this number, counted from 0.
    pub(super) fn numbered(number: u64, settings: &Settings, due: Instant) -> Self {
        let every = |period: u64| period > 0 && number % period == period - 1;
        let post = every(settings.post_every);
        Self {
            due,
            id: format!("{}-{number}", std::process::id()),
            method: if post { Method::POST } else { Method::GET },
            token: post.then(|| format!("{}-{number}", std::process::id())),
            fresh: every(settings.fresh_every),
        }
    }
}

/// The way to the target: settings and open connections.
#[derive(Debug)]
pub(super) struct Lane {
    pub target: Target,
    pub protocol: Protocol,
    connect: Option<SocketAddr>,
    headers: HeaderMap,
    tally: Option<String>,
    idle_http1: Idle<http1::SendRequest<Body>>,
    shared_http2: RefCell<Vec<Option<http2::SendRequest<Body>>>>,
    idle_tcp: Idle<TcpStream>,
    turn: Cell<usize>,
}

type Answer = Result<Option<String>, Failure>;

impl Lane {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        for line in &settings.headers {
            let (name, value) =
                line.split_once(':').with_context(|| format!("{line}: write name: value"))?;
            let name = HeaderName::try_from(name.trim())?;
            headers.append(name, HeaderValue::try_from(value.trim())?);
        }
        Ok(Self {
            target: settings.target.clone(),
            protocol: settings.protocol,
            connect: settings.connect,
            headers,
            tally: settings.tally.clone(),
            idle_http1: Idle::default(),
            shared_http2: RefCell::new((0..settings.connections.max(1)).map(|_| None).collect()),
            idle_tcp: Idle::default(),
            turn: Cell::new(0),
        })
    }

    /// Sends a request and checks its answer; the value that is tallied, if there is one.
    pub(super) async fn exchange(&self, request: &Request) -> Answer {
        match self.protocol {
            Protocol::Http1 => self.over_http1(request).await,
            Protocol::Http2 | Protocol::Grpc => self.over_http2(request).await,
            Protocol::Tcp => self.over_tcp(request).await,
        }
    }

    pub(super) async fn dial(&self) -> Result<TcpStream, Failure> {
        let stream = match self.connect {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect(self.target.host_and_port()).await,
        };
        let stream = stream.map_err(|error| Failure::new(Outcome::Refused, error))?;
        // Small requests leave at once; without the option they only leave later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn over_http1(&self, request: &Request) -> Answer {
        let mut message = self.http_request(request, false)?;
        loop {
            let idle = self.idle_http1.take(request.fresh);
            let reused = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => Connection::new(self.open_http1().await?),
            };
            match connection.inner.try_send_request(message).await {
                Ok(response) => {
                    let answer = self.read(response).await;
                    if !connection.inner.is_closed() {
                        self.idle_http1.put(connection);
                    }
                    return answer;
                }
                // Closed while idle and not one byte sent: the next connection takes it.
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => message = unsent,
                    _ => return Err(failure_of(error.error())),
                },
            }
        }
    }

    async fn open_http1(&self) -> Result<http1::SendRequest<Body>, Failure> {
        let stream = self.dial().await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failure_of(&error))?;
        tokio::task::spawn_local(connection);
        sender.ready().await.map_err(|error| failure_of(&error))?;
        Ok(sender)
    }

    async fn over_http2(&self, request: &Request) -> Answer {
        let mut message = self.http_request(request, true)?;
        loop {
            let (mut sender, reused) = self.http2_sender(request.fresh).await?;
            match sender.try_send_request(message).await {
                Ok(response) => return self.read(response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) if reused => message = unsent,
                    _ => return Err(failure_of(error.error())),
                },
            }
        }
    }

    /// A connection to share and whether others have used it before.
    async fn http2_sender(&self, fresh: bool) -> Result<(http2::SendRequest<Body>, bool), Failure> {
        let slot = self.turn.get() % self.shared_http2.borrow().len();
        self.turn.set(self.turn.get() + 1);
        if !fresh {
            let shared = self.shared_http2.borrow()[slot].clone();
            if let Some(sender) = shared.filter(|sender| !sender.is_closed()) {
                return Ok((sender, true));
            }
        }
        let sender = self.open_http2().await?;
        self.shared_http2.borrow_mut()[slot] = Some(sender.clone());
        Ok((sender, false))
    }

    async fn open_http2(&self) -> Result<http2::SendRequest<Body>, Failure> {
        let stream = self.dial().await?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failure_of(&error))?;
        tokio::task::spawn_local(connection);
        sender.ready().await.map_err(|error| failure_of(&error))?;
        Ok(sender)
    }

    async fn over_tcp(&self, request: &Request) -> Answer {
        let idle = self.idle_tcp.take(request.fresh);
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::new(self.dial().await?),
        };
        let stream = &mut connection.inner;
        let mut back = [0; ECHO.len()];
        let echoed = async {
            stream.write_all(ECHO).await?;
            stream.read_exact(&mut back).await
        };
        echoed.await.map_err(|error| Failure::new(io_outcome(&error), error))?;
        if &back != ECHO {
            return Err(Failure::new(Outcome::Wrong, "the echo is not what was sent"));
        }
        self.idle_tcp.put(connection);
        Ok(None)
    }

    fn http_request(
        &self,
        request: &Request,
        absolute: bool,
    ) -> Result<http::Request<Body>, Failure> {
        let mut message = if self.protocol == Protocol::Grpc {
            self.call(Body::new(Bytes::from_static(ECHO_CALL)))?
        } else {
            let body = request.token.clone().unwrap_or_default();
            self.message(request.method.clone(), absolute, Body::from(body))?
        };
        if let Ok(id) = request.id.parse() {
            message.headers_mut().insert(ID, id);
        }
        if let Some(token) = request.token.as_ref().and_then(|token| token.parse().ok()) {
            message.headers_mut().insert(TOKEN, token);
        }
        Ok(message)
    }

    /// A gRPC call with this body.
    pub(super) fn call<B>(&self, body: B) -> Result<http::Request<B>, Failure> {
        let mut message = self.message(Method::POST, true, body)?;
        let headers = message.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("te", HeaderValue::from_static("trailers"));
        Ok(message)
    }

    fn message<B>(
        &self,
        method: Method,
        absolute: bool,
        body: B,
    ) -> Result<http::Request<B>, Failure> {
        let wrong = |what: &str| Failure::new(Outcome::NotSent, what);
        let Target { authority, path, .. } = &self.target;
        let uri = if absolute { format!("http://{authority}{path}") } else { path.clone() };
        let mut message = http::Request::new(body);
        *message.method_mut() = method;
        *message.uri_mut() = uri.parse().map_err(|_| wrong("the path is none"))?;
        let headers = message.headers_mut();
        headers.extend(self.headers.clone());
        if !absolute {
            let host = authority.parse().map_err(|_| wrong("the authority is none"))?;
            headers.insert("host", host);
        }
        Ok(message)
    }

    /// Reads an answer to its end and judges it.
    async fn read(&self, response: Response<Incoming>) -> Answer {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| {
            let failure = failure_of(&error);
            Failure { outcome: Outcome::Cut, ..failure }
        })?;
        let status = parts.status;
        if !status.is_success() {
            let outcome = match status.is_server_error() {
                true => Outcome::ServerError,
                false => Outcome::OtherStatus,
            };
            return Err(Failure::new(outcome, described(&parts, &body.to_bytes())));
        }
        if self.protocol == Protocol::Grpc {
            judge_call(&parts.headers, body)?;
        }
        let value = self.tally.as_ref().and_then(|name| parts.headers.get(name));
        Ok(value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()))
    }
}

fn judge_call(headers: &HeaderMap, body: http_body_util::Collected<Bytes>) -> Result<(), Failure> {
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = trailers.get("grpc-status").or_else(|| headers.get("grpc-status"));
    if status.is_none_or(|status| status != "0") {
        let message = trailers.get("grpc-message").or_else(|| headers.get("grpc-message"));
        let detail = format!("grpc-status {status:?}{}, message {message:?}", reason(headers));
        return Err(Failure::new(Outcome::ServerError, detail));
    }
    if body.to_bytes() != ECHO_CALL[..] {
        return Err(Failure::new(Outcome::Wrong, "the echo is not what was sent"));
    }
    Ok(())
}

fn described(parts: &http::response::Parts, body: &Bytes) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    format!("{}{}: {text}", parts.status, reason(&parts.headers))
}

fn reason(headers: &HeaderMap) -> String {
    let value = headers.get(REASON).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.map_or_else(String::new, |value| format!(" ({REASON}: {value})"))
}

pub(super) fn failure_of(error: &hyper::Error) -> Failure {
    let mut outcome = if error.is_timeout() { Outcome::Timeout } else { Outcome::Reset };
    if error.is_parse() {
        outcome = Outcome::Wrong;
    }
    let mut detail = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Failure { outcome, detail }
}

pub(super) fn io_outcome(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Outcome::Cut,
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        _ => Outcome::Reset,
    }
}
