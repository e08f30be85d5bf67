//! An HTTP/2 client over plaintext with prior knowledge: trailers, resets and gRPC frames.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::deadline::{SOON, within};

/// A reset throws away what is still queued: after this long it has been written.
pub(crate) const FLUSH: Duration = Duration::from_millis(100);

/// A request for one stream.
#[derive(Debug, Clone, Default)]
pub struct Http2Request {
    /// `:method`.
    pub method: String,
    /// `:scheme`; `http` if it is empty.
    pub scheme: String,
    /// `:authority`.
    pub authority: String,
    /// `:path`.
    pub path: String,
    /// Header fields in their order.
    pub headers: Vec<(String, String)>,
    /// DATA frames in their order.
    pub data: Vec<Bytes>,
    /// Trailer fields; none sends no trailers.
    pub trailers: Vec<(String, String)>,
    /// Reset the stream with this code after the last DATA frame instead of ending it.
    pub reset: Option<u32>,
    /// Leave the request open until the response has come.
    pub hold: bool,
    /// Send no data before an interim response came.
    pub awaits_interim: bool,
}

impl Http2Request {
    /// A GET without a body.
    #[must_use]
    pub fn get(authority: &str, path: &str) -> Self {
        Self {
            method: "GET".into(),
            authority: authority.into(),
            path: path.into(),
            ..Self::default()
        }
    }

    /// A gRPC call with one message in its own length-prefixed frame.
    #[must_use]
    pub fn grpc(authority: &str, path: &str, message: &[u8]) -> Self {
        Self {
            method: "POST".into(),
            headers: vec![
                ("content-type".into(), "application/grpc".into()),
                ("te".into(), "trailers".into()),
            ],
            data: vec![grpc_frame(message)],
            ..Self::get(authority, path)
        }
    }

    /// Adds a header field.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEnd {
    /// With END_STREAM.
    Complete,
    /// With RST_STREAM of this code.
    Reset(u32),
    /// With GOAWAY of this code.
    GoAway(u32),
    /// With the connection.
    Broken,
}

impl StreamEnd {
    pub(crate) fn of(error: &h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_go_away() => Self::GoAway(reason.into()),
            Some(reason) if error.is_reset() => Self::Reset(reason.into()),
            _ => Self::Broken,
        }
    }
}

/// What came back on one stream.
#[derive(Debug, Clone)]
pub struct Http2Response {
    /// Interim statuses.
    pub interim: Vec<u16>,
    /// `:status`; 0 when none came.
    pub status: u16,
    /// Header fields; among equal names in their order.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers, if any came.
    pub trailers: Option<HeaderMap>,
    /// How the stream ended.
    pub end: StreamEnd,
}

impl Http2Response {
    /// The value of `grpc-status` in trailers or, for a response without body, headers.
    #[must_use]
    pub fn grpc_status(&self) -> Option<&str> {
        let places = [self.trailers.as_ref(), Some(&self.headers)];
        places.into_iter().flatten().find_map(|map| map.get("grpc-status"))?.to_str().ok()
    }
}

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    patience: Duration,
}

impl Client {
    /// Connects and exchanges settings.
    ///
    /// # Errors
    /// When the connection is refused or the peer speaks no HTTP/2.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = within("a connection", SOON, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        let connection = tokio::spawn(connection);
        let requests = within("HTTP/2 settings", SOON, requests.ready()).await??;
        Ok(Self { requests, connection, patience: SOON })
    }

    /// Waits no longer than this for anything.
    #[must_use]
    pub fn patient(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sends a request and reads its whole response.
    ///
    /// # Errors
    /// When the request cannot be sent or nothing arrives in time.
    pub async fn exchange(&self, request: &Http2Request) -> Result<Http2Response> {
        let mut requests = self.requests.clone().ready().await?;
        let ends = request.data.is_empty() && request.trailers.is_empty();
        let ends = ends && request.reset.is_none() && !request.hold;
        let (mut response, mut stream) = requests.send_request(head(request)?, ends)?;
        let exchanging = async {
            let first = match request.awaits_interim {
                true => interim(&mut response).await,
                false => None,
            };
            let sending =
                async { if ends { Ok(()) } else { send_body(&mut stream, request).await } };
            let (sent, mut received) = tokio::join!(sending, receive(response));
            received.interim.splice(0..0, first);
            (sent, received)
        };
        let (sent, response) = within("a response", self.patience, exchanging).await?;
        // A peer may answer early and refuse the rest: what came back tells, not this error.
        let _ = sent;
        Ok(response)
    }

    /// Waits until the peer has closed the connection; the code of its GOAWAY, if it sent one.
    ///
    /// # Errors
    /// When it does not close in time.
    pub async fn closed(self) -> Result<StreamEnd> {
        drop(self.requests);
        let end = within("the end of a connection", self.patience, self.connection).await?;
        Ok(match end.context("the connection's task panicked")? {
            Ok(()) => StreamEnd::Complete,
            Err(error) => StreamEnd::of(&error),
        })
    }
}

fn head(request: &Http2Request) -> Result<Request<()>> {
    let scheme = if request.scheme.is_empty() { "http" } else { &request.scheme };
    let uri = format!("{scheme}://{}{}", request.authority, request.path);
    let mut head = Request::builder().method(request.method.as_str()).uri(uri).body(())?;
    *head.headers_mut() = field_map(&request.headers)?;
    Ok(head)
}

/// Builds a map of fields, equal names in their order.
///
/// # Errors
/// When a name or value is not allowed in HTTP/2.
pub fn field_map(fields: &[(String, String)]) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::try_from(name.as_str())?, HeaderValue::try_from(value.as_str())?);
    }
    Ok(map)
}

async fn send_body(stream: &mut SendStream<Bytes>, request: &Http2Request) -> Result<()> {
    let last = request.data.len().saturating_sub(1);
    let stays = !request.trailers.is_empty() || request.reset.is_some() || request.hold;
    for (index, data) in request.data.iter().enumerate() {
        send_data(stream, data.clone(), index == last && !stays).await?;
    }
    if let Some(code) = request.reset {
        tokio::time::sleep(FLUSH).await;
        stream.send_reset(Reason::from(code));
    } else if !request.trailers.is_empty() {
        stream.send_trailers(field_map(&request.trailers)?)?;
    }
    Ok(())
}

/// Sends one DATA frame's worth of bytes as the windows allow.
///
/// # Errors
/// When the stream or the connection ended.
pub async fn send_data(stream: &mut SendStream<Bytes>, mut data: Bytes, ends: bool) -> Result<()> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let granted = capacity.context("the stream has ended")??;
        let part = data.split_to(granted.min(data.len()));
        stream.send_data(part, ends && data.is_empty())?;
    }
    Ok(())
}

/// The next interim status; none if the final response, or the end, came first.
async fn interim(response: &mut ResponseFuture) -> Option<u16> {
    let interim = std::future::poll_fn(|context| response.poll_informational(context)).await;
    Some(interim?.ok()?.status().as_u16())
}

async fn receive(mut response: ResponseFuture) -> Http2Response {
    let mut received = Http2Response {
        interim: Vec::new(),
        status: 0,
        headers: HeaderMap::new(),
        body: Vec::new(),
        trailers: None,
        end: StreamEnd::Complete,
    };
    while let Some(status) = interim(&mut response).await {
        received.interim.push(status);
    }
    match response.await {
        Err(error) => received.end = StreamEnd::of(&error),
        Ok(response) => {
            let (parts, mut body) = response.into_parts();
            received.status = parts.status.as_u16();
            received.headers = parts.headers;
            let (bytes, trailers, end) = drain(&mut body).await;
            (received.body, received.trailers, received.end) = (bytes, trailers, end);
        }
    }
    received
}

/// Reads a body to its end, giving the window back as it goes.
pub async fn drain(body: &mut RecvStream) -> (Vec<u8>, Option<HeaderMap>, StreamEnd) {
    let mut bytes = Vec::new();
    while let Some(frame) = body.data().await {
        match frame {
            Ok(frame) => {
                // Fails only when the stream ended, which the next frame reports.
                let _ = body.flow_control().release_capacity(frame.len());
                bytes.extend_from_slice(&frame);
            }
            Err(error) => return (bytes, None, StreamEnd::of(&error)),
        }
    }
    match body.trailers().await {
        Ok(trailers) => (bytes, trailers, StreamEnd::Complete),
        Err(error) => (bytes, None, StreamEnd::of(&error)),
    }
}

/// A length-prefixed gRPC message, uncompressed.
#[must_use]
pub fn grpc_frame(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}
