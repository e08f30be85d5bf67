//! One connection to a server: waited for, dialled, open or lost.
//!
//! Everything here may be dropped between two events without losing one: the loop of the client
//! waits for many things at once.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use super::variant::Variant;

/// Longest time to get a connection.
const DIAL_LIMIT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Requests that wait for the transport; with more the server does not read, and the stream ends.
const REQUESTS_QUEUED: usize = 256;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `http://HOST:PORT` or `unix:///PATH`.
    uri: String,
    /// `:authority` of the stream, if not the address.
    pub authority: Option<String>,
    /// Metadata of the stream (lower-case names).
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// A server reached over TCP, without TLS.
    pub fn tcp(host: &str, port: u16) -> Target {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Target::at(format!("http://{host}:{port}"))
    }

    /// A server reached over a UNIX socket.
    pub fn unix(path: impl Into<PathBuf>) -> Target {
        Target::at(format!("unix://{}", path.into().display()))
    }

    fn at(uri: String) -> Target {
        Target { uri, authority: None, headers: Vec::new() }
    }

    fn endpoint(&self) -> Result<Endpoint, tonic::transport::Error> {
        let mut endpoint = Endpoint::from_shared(self.uri.clone())?
            .connect_timeout(DIAL_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        if let Some(origin) = self.authority.as_ref().and_then(|name| origin(name)) {
            endpoint = endpoint.origin(origin);
        }
        Ok(endpoint)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (name, value) in &self.headers {
            let name = MetadataKey::<Ascii>::from_str(name);
            let value = MetadataValue::<Ascii>::from_str(value);
            if let (Ok(name), Ok(value)) = (name, value) {
                request.metadata_mut().append(name, value);
            }
        }
        request
    }
}

fn origin(authority: &str) -> Option<tonic::codegen::http::Uri> {
    format!("http://{authority}").parse().ok()
}

/// Text that is neither `HOST:PORT` nor `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST:PORT, http://HOST:PORT or unix:/PATH")]
pub struct BadTarget(String);

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Target::unix(path)),
                false => Err(BadTarget(text.to_owned())),
            };
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        let parts = address.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
        match (parts, port) {
            (Some((host, _)), Some(port)) if !host.is_empty() && !host.contains('/') => {
                Ok(Target::tcp(host.trim_start_matches('[').trim_end_matches(']'), port))
            }
            _ => Err(BadTarget(text.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri.strip_prefix("http://").unwrap_or(&self.uri))
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Nobody answers there.
    #[error("cannot connect")]
    Dial(#[source] tonic::transport::Error),
    /// Nobody answered in time.
    #[error("no connection within {} s", DIAL_LIMIT.as_secs())]
    Slow,
    /// The server ended the stream with an error, or the connection broke.
    #[error("the stream broke: {0}")]
    Broken(Box<Status>),
    /// The server ended the stream.
    #[error("the server ended the stream")]
    Ended,
}

/// What happened to a link.
#[derive(Debug)]
pub(super) enum Event<R> {
    /// There is a stream.
    Open,
    /// A message came.
    Message(R),
    /// There is no stream (any more).
    Lost(Lost),
}

type Dialling = Pin<Box<dyn Future<Output = Result<Channel, Lost>> + Send>>;
type Calling<R> = Pin<Box<dyn Future<Output = Result<Response<Streaming<R>>, Status>> + Send>>;

/// A connection to a server.
pub(super) struct Link<V: Variant> {
    target: Target,
    state: State<V>,
}

enum State<V: Variant> {
    /// Until somebody says when to connect.
    Idle,
    Waiting(Instant),
    Dialling(Dialling),
    Open {
        requests: mpsc::Sender<V::Out>,
        responses: Responses<V::In>,
    },
}

enum Responses<R> {
    /// The server has not answered the call; it may be waiting for the first message.
    Calling(Calling<R>),
    Streaming(Box<Streaming<R>>),
}

impl<V: Variant> Link<V> {
    /// No connection.
    pub(super) fn new(target: Target) -> Link<V> {
        Link { target, state: State::Idle }
    }

    /// Connects after a while; whatever there was is given up.
    pub(super) fn connect(&mut self, after: Duration) {
        self.state = State::Waiting(Instant::now() + after);
    }

    /// Gives up whatever there is.
    pub(super) fn end(&mut self) {
        self.state = State::Idle;
    }

    /// Hands a message to the transport; false if there is no stream or it takes no more.
    pub(super) fn send(&self, message: V::Out) -> bool {
        match &self.state {
            State::Open { requests, .. } => requests.try_send(message).is_ok(),
            _ => false,
        }
    }

    /// The next event; never comes back while the link is idle.
    pub(super) async fn next(&mut self) -> Event<V::In> {
        loop {
            match &mut self.state {
                State::Idle => std::future::pending().await,
                State::Waiting(at) => {
                    tokio::time::sleep_until(*at).await;
                    self.state = State::Dialling(dial(self.target.clone()));
                }
                State::Dialling(dialling) => match dialling.await {
                    Ok(channel) => {
                        self.open(channel);
                        return Event::Open;
                    }
                    Err(lost) => return self.lose(lost),
                },
                State::Open { responses, .. } => match responses.next().await {
                    Ok(Some(message)) => return Event::Message(message),
                    Ok(None) => return self.lose(Lost::Ended),
                    Err(status) => return self.lose(Lost::Broken(Box::new(status))),
                },
            }
        }
    }

    fn open(&mut self, channel: Channel) {
        let (requests, queue) = mpsc::channel(REQUESTS_QUEUED);
        let call = V::call(channel, self.target.request(ReceiverStream::new(queue)));
        let responses = Responses::Calling(Box::pin(call));
        self.state = State::Open { requests, responses };
    }

    fn lose(&mut self, lost: Lost) -> Event<V::In> {
        self.state = State::Idle;
        Event::Lost(lost)
    }
}

impl<R> Responses<R> {
    async fn next(&mut self) -> Result<Option<R>, Status> {
        loop {
            match self {
                Responses::Calling(call) => {
                    let streaming = call.await?.into_inner();
                    *self = Responses::Streaming(Box::new(streaming));
                }
                Responses::Streaming(streaming) => return streaming.message().await,
            }
        }
    }
}

fn dial(target: Target) -> Dialling {
    Box::pin(async move {
        let connecting = async { target.endpoint()?.connect().await };
        match tokio::time::timeout(DIAL_LIMIT, connecting).await {
            Ok(connected) => connected.map_err(Lost::Dial),
            Err(_) => Err(Lost::Slow),
        }
    })
}

#[cfg(test)]
#[path = "link/tests.rs"]
mod tests;
