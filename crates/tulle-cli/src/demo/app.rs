//! The application behind each sidecar of the demonstration: it answers who it is and what it
//! was asked, and may call others before it does. HTTP/1.1 and HTTP/2 on one port, TCP echo on
//! another.
//!
//! A request may ask for behaviour in its query: `status=503`, `delay_ms=50`, `bytes=1000`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Serialize;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};

use calls::{Calls, Target};

mod calls;
mod echo;
mod grpc;

/// A request body beyond this is refused, in bytes.
const BODY_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// `bytes=` beyond this is cut, in bytes.
const ANSWER_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// `delay_ms=` beyond this is cut.
const DELAY_LIMIT: Duration = Duration::from_secs(60);
/// Answers at once and calls nobody: whether this process serves.
const READY_PATH: &str = "/ready";
/// How long requests under way may take to finish after SIGTERM.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// What the application is and whom it calls.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Example: tulle demo-app --listen 127.0.0.1:8080 --name stock --version v1 \
                  --instance stock-1 --call http://payment:7070/"
)]
pub struct Settings {
    /// Where it answers HTTP/1.1 and HTTP/2; may be repeated.
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// The service it is an instance of.
    #[arg(long)]
    pub name: String,
    /// The version it says it is.
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// The instance it says it is.
    #[arg(long, default_value = "")]
    pub instance: String,
    /// A URL to call before answering; may be repeated.
    #[arg(long = "call")]
    pub calls: Vec<String>,
    /// Sends its calls to this address, whatever their authority (a sidecar in explicit mode).
    #[arg(long)]
    pub via: Option<SocketAddr>,
    /// Where it echoes TCP.
    #[arg(long)]
    pub tcp: Option<SocketAddr>,
    /// What it says first on TCP, as a server that speaks first does.
    #[arg(long, default_value = "")]
    pub tcp_greeting: String,
    /// Writes one JSON line per HTTP request to standard output.
    #[arg(long)]
    pub log: bool,
}

/// Serves until SIGTERM or SIGINT, then lets requests under way finish.
///
/// # Errors
/// When an address cannot be bound or a URL cannot be understood.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(settings))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: Settings) -> Result<()> {
    let mut listeners = Vec::new();
    for address in &settings.listen {
        let bound = TcpListener::bind(address).await;
        listeners.push(bound.with_context(|| format!("cannot listen on {address}"))?);
    }
    if let Some(address) = settings.tcp {
        let echo = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        tokio::task::spawn_local(echo::serve(echo, settings.tcp_greeting.clone()));
    }
    let targets = settings.calls.iter().map(|url| url.parse()).collect::<Result<Vec<Target>>>()?;
    let app = Rc::new(App { calls: Calls::new(targets, settings.via), settings });
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let graceful = Rc::new(GracefulShutdown::new());
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn_local(accept(listener, Rc::clone(&app), Rc::clone(&graceful)));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    accepting.shutdown().await;
    // Nobody else holds it: those who accepted are gone.
    let Some(graceful) = Rc::into_inner(graceful) else { return Ok(()) };
    // What has not finished by then is cut, as an application that was asked to end does.
    let _ = tokio::time::timeout(SHUTDOWN_LIMIT, graceful.shutdown()).await;
    Ok(())
}

async fn accept(listener: TcpListener, app: Rc<App>, graceful: Rc<GracefulShutdown>) {
    loop {
        // Out of descriptors or a connection gone before it was accepted: the next may work.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(connection(stream, Rc::clone(&app), graceful.watcher()));
    }
}

async fn connection(
    stream: TcpStream,
    app: Rc<App>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Small answers leave at once; without the option they only leave later.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let app = Rc::clone(&app);
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let mut builder = auto::Builder::new(LocalExecutor);
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let serving = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    // A client that breaks off is its own business.
    let _ = watcher.watch(serving).await;
}

#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: std::future::Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

#[derive(Debug)]
struct App {
    settings: Settings,
    calls: Calls,
}

/// What one request gets to read.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    service: &'a str,
    version: &'a str,
    instance: &'a str,
    method: String,
    path: String,
    authority: String,
    protocol: String,
    headers: serde_json::Map<String, Value>,
    body_bytes: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    calls: Vec<calls::Outcome>,
    #[serde(skip_serializing_if = "String::is_empty")]
    padding: String,
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Response<grpc::AnswerBody> {
        let (parts, body) = request.into_parts();
        if grpc::is_call(&parts.headers) {
            return grpc::echo(&parts.headers, body);
        }
        let limited = http_body_util::Limited::new(body, BODY_LIMIT_BYTES);
        let Ok(body) = limited.collect().await.map(http_body_util::Collected::to_bytes) else {
            return status_only(StatusCode::PAYLOAD_TOO_LARGE);
        };
        if parts.uri.path() == READY_PATH {
            return status_only(StatusCode::OK);
        }
        let wish = Wish::of(parts.uri.query().unwrap_or_default());
        if self.settings.log {
            self.log(&parts, body.len());
        }
        tokio::time::sleep(wish.delay).await;
        let calls = self.calls.make(&parts.headers).await;
        let failed = calls.iter().any(calls::Outcome::is_failure);
        let answer = Answer {
            service: &self.settings.name,
            version: &self.settings.version,
            instance: &self.settings.instance,
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
            authority: authority(&parts),
            protocol: format!("{:?}", parts.version),
            headers: header_values(&parts.headers),
            body_bytes: body.len(),
            calls,
            padding: "x".repeat(wish.bytes),
        };
        let status = if failed { StatusCode::BAD_GATEWAY } else { wish.status };
        self.respond(status, &answer)
    }

    fn respond(&self, status: StatusCode, answer: &Answer<'_>) -> Response<grpc::AnswerBody> {
        let Ok(json) = serde_json::to_vec(answer) else {
            return status_only(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let mut response = Response::new(grpc::AnswerBody::from(Bytes::from(json)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert("content-type", http::HeaderValue::from_static("application/json"));
        if let Ok(version) = self.settings.version.parse() {
            headers.insert("x-app-version", version);
        }
        response
    }

    fn log(&self, parts: &http::request::Parts, body_bytes: usize) {
        let line = serde_json::json!({
            "service": self.settings.name,
            "instance": self.settings.instance,
            "method": parts.method.as_str(),
            "path": parts.uri.path_and_query().map_or("", |path| path.as_str()),
            "headers": header_values(&parts.headers),
            "body_bytes": body_bytes,
        });
        println!("{line}");
    }
}

/// What a request's query asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    status: StatusCode,
    delay: Duration,
    bytes: usize,
}

impl Wish {
    fn of(query: &str) -> Self {
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let number = |name: &str| value(name).and_then(|text| text.parse::<u64>().ok());
        let status = number("status").and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        let bytes = number("bytes").and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        Self {
            status: status.unwrap_or(StatusCode::OK),
            delay: Duration::from_millis(number("delay_ms").unwrap_or(0)).min(DELAY_LIMIT),
            bytes: bytes.min(ANSWER_LIMIT_BYTES),
        }
    }
}

/// Whom the request was for: `:authority` of HTTP/2, else `Host`.
fn authority(parts: &http::request::Parts) -> String {
    let host = || parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let named = parts.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(host).unwrap_or_default().to_owned()
}

/// Header fields as JSON: a string, or a list where a name came more than once.
fn header_values(headers: &HeaderMap) -> serde_json::Map<String, Value> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = headers.keys().map(|name| {
        let mut values: Vec<Value> =
            headers.get_all(name).iter().map(|value| Value::String(text(value))).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        (name.to_string(), value)
    });
    fields.collect()
}

fn status_only(status: StatusCode) -> Response<grpc::AnswerBody> {
    let mut response = Response::new(grpc::AnswerBody::from(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// A request body of known length, for calls.
type CallBody = Full<Bytes>;

#[cfg(test)]
mod tests;
