//! The calls an application makes before it answers: one after the other, over connections it
//! keeps, as an ordinary HTTP library does.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;

use super::CallBody;

/// A call that takes longer has failed.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Idle connections kept per target.
const IDLE_LIMIT: usize = 64;
/// Header fields handed on from the request to its calls, besides those that begin with `x-`.
const HANDED_ON: [&str; 5] = ["traceparent", "tracestate", "baggage", "service", "end-user"];
/// Fields that belong to one hop and are not handed on although they begin with `x-`.
const ONE_HOP: [&str; 2] = ["x-forwarded-", "x-envoy-"];

/// One URL to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    url: String,
    authority: String,
    path: String,
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        if uri.scheme_str() != Some("http") {
            bail!("{url}: only http:// is called");
        }
        let authority = uri.authority().with_context(|| format!("{url} names no host"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self { url: url.into(), authority: authority.to_string(), path: path.into() })
    }
}

impl Target {
    /// The address to resolve: the authority with its port.
    fn host_and_port(&self) -> String {
        let has_port =
            self.authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        if has_port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }
}

/// What came of one call.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    url: String,
    status: u16,
    #[serde(skip_serializing_if = "Value::is_null")]
    answer: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl Outcome {
    /// Whether the call got no answer, or one that says it failed.
    pub(super) fn is_failure(&self) -> bool {
        self.status == 0 || self.status >= 500
    }
}

/// All targets and the connections to them.
#[derive(Debug)]
pub(super) struct Calls {
    targets: Vec<Target>,
    via: Option<SocketAddr>,
    idle: Vec<RefCell<Vec<SendRequest<CallBody>>>>,
}

impl Calls {
    pub(super) fn new(targets: Vec<Target>, via: Option<SocketAddr>) -> Self {
        let idle = targets.iter().map(|_| RefCell::default()).collect();
        Self { targets, via, idle }
    }

    /// Calls every target with what is handed on of a request's header.
    pub(super) async fn make(&self, headers: &HeaderMap) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(self.targets.len());
        for (index, target) in self.targets.iter().enumerate() {
            let call = tokio::time::timeout(CALL_LIMIT, self.call(index, target, headers));
            let outcome = match call.await {
                Ok(Ok((status, answer))) => (status, answer, String::new()),
                Ok(Err(error)) => (0, Value::Null, format!("{error:#}")),
                Err(_) => (0, Value::Null, format!("no answer after {CALL_LIMIT:?}")),
            };
            let (status, answer, error) = outcome;
            outcomes.push(Outcome { url: target.url.clone(), status, answer, error });
        }
        outcomes
    }

    async fn call(
        &self,
        index: usize,
        target: &Target,
        headers: &HeaderMap,
    ) -> Result<(u16, Value)> {
        let mut sender = self.sender(index, target).await?;
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(&target.path)
            .header("host", &target.authority)
            .body(CallBody::default())?;
        for (name, value) in headers.iter().filter(|(name, _)| is_handed_on(name.as_str())) {
            request.headers_mut().append(name, value.clone());
        }
        let response = sender.send_request(request).await.context("the call broke off")?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.context("the answer broke off")?;
        self.keep(index, sender);
        Ok((status, answer_value(&body.to_bytes())))
    }

    async fn sender(&self, index: usize, target: &Target) -> Result<SendRequest<CallBody>> {
        while let Some(mut sender) = self.take_idle(index) {
            // A connection the peer has closed meanwhile says so here.
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = match self.via {
            Some(address) => TcpStream::connect(address).await,
            None => TcpStream::connect(target.host_and_port()).await,
        };
        let stream = stream.with_context(|| format!("cannot connect to {}", target.authority))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        sender.ready().await?;
        Ok(sender)
    }

    fn take_idle(&self, index: usize) -> Option<SendRequest<CallBody>> {
        self.idle.get(index)?.borrow_mut().pop()
    }

    fn keep(&self, index: usize, sender: SendRequest<CallBody>) {
        let Some(idle) = self.idle.get(index) else { return };
        let mut idle = idle.borrow_mut();
        if idle.len() < IDLE_LIMIT && !sender.is_closed() {
            idle.push(sender);
        }
    }
}

fn is_handed_on(name: &str) -> bool {
    let end_to_end = name.starts_with("x-") && !ONE_HOP.iter().any(|hop| name.starts_with(hop));
    end_to_end || HANDED_ON.contains(&name)
}

fn answer_value(body: &Bytes) -> Value {
    let text = || Value::String(String::from_utf8_lossy(body).into_owned());
    serde_json::from_slice(body).unwrap_or_else(|_| text())
}
