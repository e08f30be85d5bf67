//! An HTTP/2 upstream over plaintext: each stream takes the next [`Answer`] of the script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::http2::{FLUSH, StreamEnd, drain, field_map, send_data};
use crate::deadline::{SOON, until};

/// What one stream gets, once its request has come.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// `:status`; 0 sends no response (for a reset).
    pub status: u16,
    /// Header fields in their order.
    pub headers: Vec<(String, String)>,
    /// Interim statuses, sent once the head has come.
    pub interim: Vec<u16>,
    /// DATA frames in their order.
    pub data: Vec<Bytes>,
    /// Trailers, if any.
    pub trailers: Vec<(String, String)>,
    /// Reset the stream with this code instead of ending it.
    pub reset: Option<u32>,
    /// Answer as soon as the head has come, without reading the body.
    pub early: bool,
    /// Wait this long before answering, where time is what the test is about.
    pub wait_ms: u64,
    /// Close the connection gracefully (GOAWAY) after this stream.
    pub goaway: bool,
}

impl Answer {
    /// A response with one DATA frame.
    #[must_use]
    pub fn status(status: u16, body: &str) -> Self {
        let data = vec![Bytes::copy_from_slice(body.as_bytes())];
        Self { status, data, ..Self::default() }
    }

    /// A gRPC response with one message and its status in the trailers.
    #[must_use]
    pub fn grpc(message: &[u8], status: &str) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), "application/grpc".into())],
            data: vec![crate::client::http2::grpc_frame(message)],
            trailers: vec![("grpc-status".into(), status.into())],
            ..Self::default()
        }
    }

    /// A reset of the stream without a response.
    #[must_use]
    pub fn reset(code: u32) -> Self {
        Self { reset: Some(code), ..Self::default() }
    }

    fn ends_with_headers(&self) -> bool {
        self.data.is_empty() && self.trailers.is_empty() && self.reset.is_none()
    }
}

/// One request as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// `:method`.
    pub method: String,
    /// `:scheme`, `:authority` and `:path` as one URI.
    pub uri: String,
    /// Header fields; among equal names in their order.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers, if any came.
    pub trailers: Option<HeaderMap>,
    /// How the request ended.
    pub end: StreamEnd,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    received: Vec<Received>,
    open: usize,
}

/// The upstream; it stops when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Backend {
    /// Starts an upstream on a port of its own. Without a script every request gets `200 ok`.
    ///
    /// # Errors
    /// When no socket can be bound.
    pub async fn start() -> Result<Self> {
        Self::start_at("127.0.0.1:0").await
    }

    /// Starts an upstream at an address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn start_at(address: &str) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let state = Arc::default();
        let accepting = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script and forgets what was received.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        with(&self.state, |state| {
            state.script = answers.into_iter().collect();
            state.received.clear();
        });
    }

    /// Everything received so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<Received> {
        with(&self.state, |state| state.received.clone())
    }

    /// Waits until `count` requests have come and none is under way; returns all of them.
    ///
    /// # Errors
    /// When fewer come in time.
    pub async fn received(&self, count: usize) -> Result<Vec<Received>> {
        self.received_within(count, SOON).await
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// When fewer come in time.
    pub async fn received_within(&self, count: usize, limit: Duration) -> Result<Vec<Received>> {
        until("the requests at the HTTP/2 upstream", limit, || {
            let done = with(&self.state, |state| {
                let all = state.received.len() >= count && state.open == 0;
                all.then(|| state.received.clone())
            });
            async move { done }
        })
        .await
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn with<T>(state: &Mutex<State>, act: impl FnOnce(&mut State) -> T) -> T {
    act(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut streams = tokio::task::JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let answer = with(&state, |state| {
            state.open += 1;
            state.script.pop_front().unwrap_or_else(|| Answer::status(200, "ok"))
        });
        if answer.goaway {
            connection.graceful_shutdown();
        }
        let state = Arc::clone(&state);
        streams.spawn(async move {
            let received = turn(request, respond, answer).await;
            with(&state, |state| {
                state.open -= 1;
                state.received.push(received);
            });
        });
    }
}

/// One request and its answer.
async fn turn(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    answer: Answer,
) -> Received {
    let (parts, mut body) = request.into_parts();
    let mut received = Received {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: Vec::new(),
        trailers: None,
        end: StreamEnd::Complete,
    };
    tokio::time::sleep(Duration::from_millis(answer.wait_ms)).await;
    for status in &answer.interim {
        let head = Response::builder().status(*status).header("x-interim", *status);
        // Whether it was passed on is on the other side of the transcript.
        let _ = head.body(()).map(|head| respond.send_informational(head));
    }
    // What the peer thinks of the answer is on its side of the transcript.
    if answer.early {
        let _ = send(&mut respond, &answer).await;
        (received.body, received.trailers, received.end) = drain(&mut body).await;
    } else {
        (received.body, received.trailers, received.end) = drain(&mut body).await;
        let _ = send(&mut respond, &answer).await;
    }
    received
}

async fn send(respond: &mut SendResponse<Bytes>, answer: &Answer) -> Result<()> {
    if answer.status == 0 {
        respond.send_reset(Reason::from(answer.reset.unwrap_or(0)));
        return Ok(());
    }
    let mut head = Response::builder().status(answer.status).body(())?;
    *head.headers_mut() = field_map(&answer.headers)?;
    let stream = respond.send_response(head, answer.ends_with_headers())?;
    if answer.ends_with_headers() { Ok(()) } else { send_rest(stream, answer).await }
}

async fn send_rest(mut stream: SendStream<Bytes>, answer: &Answer) -> Result<()> {
    let last = answer.data.len().saturating_sub(1);
    for (index, data) in answer.data.iter().enumerate() {
        let ends = index == last && answer.trailers.is_empty() && answer.reset.is_none();
        send_data(&mut stream, data.clone(), ends).await?;
    }
    if let Some(code) = answer.reset {
        tokio::time::sleep(FLUSH).await;
        stream.send_reset(Reason::from(code));
    } else if !answer.trailers.is_empty() {
        stream.send_trailers(field_map(&answer.trailers)?)?;
    }
    Ok(())
}
