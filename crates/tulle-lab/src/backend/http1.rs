//! An HTTP/1 upstream: each request takes the next [`Answer`] of the script, and is recorded
//! with every byte of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::http1::PROBE_TARGET;
use crate::deadline::{SOON, until};
use crate::message::{End, Expected, Message, Reader};

/// When an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// As soon as the head has come.
    Head,
    /// When the whole request has come.
    Request,
}

/// One thing an upstream does.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes bytes as they are.
    Send(Vec<u8>),
    /// Lets time pass, where time is what the test is about.
    Wait(Duration),
    /// Reads the rest of the request (for an answer after the head).
    ReadRequest,
    /// Sends back every byte until the other side ends (a tunnel), and records them.
    Echo,
    /// Reads until the other side ends the connection.
    AwaitEnd,
    /// Ends the sending direction.
    HalfClose,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
}

/// What one request gets.
#[derive(Debug, Clone)]
pub struct Answer {
    /// When it begins.
    pub after: After,
    /// What happens, in order; without a closing step the connection stays open.
    pub steps: Vec<Step>,
}

impl Answer {
    /// These bytes, once the request has come.
    #[must_use]
    pub fn raw(bytes: &str) -> Self {
        Self { after: After::Request, steps: vec![Step::Send(bytes.as_bytes().to_vec())] }
    }

    /// A response with a body of known length.
    #[must_use]
    pub fn status(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::raw(&format!("HTTP/1.1 {status} Any\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    /// These steps, once the request has come.
    #[must_use]
    pub fn steps(steps: impl Into<Vec<Step>>) -> Self {
        Self { after: After::Request, steps: steps.into() }
    }

    /// These steps as soon as the head has come.
    #[must_use]
    pub fn early(steps: impl Into<Vec<Step>>) -> Self {
        Self { after: After::Head, steps: steps.into() }
    }

    /// The same and then one step more.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// One request as it was received.
#[derive(Debug, Clone)]
pub struct Received {
    /// Which connection carried it, counted from 0.
    pub connection: usize,
    /// The request.
    pub request: Message,
    /// Bytes after it that an [`Step::Echo`] saw.
    pub tunnelled: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Answer>,
    received: Vec<Received>,
    connections: usize,
    open: usize,
    /// Of the request that began last: what its connection has read, and up to where its head is.
    begun: Option<(Arc<AtomicUsize>, usize)>,
}

/// The upstream; it stops when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    state: Shared,
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
        let state = Shared::default();
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the script and forgets what was received.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.with(|state| {
            state.script = answers.into_iter().collect();
            state.received.clear();
            state.begun = None;
        });
    }

    /// Waits until a request has begun to come: its head, and so many bytes after that.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn begun(&self, bytes: usize) -> Result<()> {
        let what = format!("a request at the upstream, and {bytes} bytes after its head");
        until(&what, SOON, || {
            let come = self.state.with(|state| {
                let (read, head) = state.begun.as_ref()?;
                (read.load(Ordering::Relaxed) >= head + bytes).then_some(())
            });
            async move { come }
        })
        .await
    }

    /// Waits until `count` requests have come and none is under way; returns all of them.
    ///
    /// # Errors
    /// When fewer come in time; what came is in the message.
    pub async fn received(&self, count: usize) -> Result<Vec<Received>> {
        self.received_within(count, SOON).await
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// When fewer come in time; what came is in the message.
    pub async fn received_within(&self, count: usize, limit: Duration) -> Result<Vec<Received>> {
        let waited = until("the requests at the upstream", limit, || {
            let done = self.state.with(|state| {
                let all = state.received.len() >= count && state.open == 0;
                all.then(|| state.received.clone())
            });
            async move { done }
        });
        waited.await.map_err(|error| {
            let came = self.state.with(|state| format!("{:#?}", state.received));
            error.context(format!("{count} requests expected, received: {came}"))
        })
    }

    /// Everything received so far, whole or not awaited.
    #[must_use]
    pub fn so_far(&self) -> Vec<Received> {
        self.state.with(|state| state.received.clone())
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.state.with(|state| state.connections)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn accept(listener: TcpListener, state: Shared) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Small answers leave at once; without the option they only leave later.
        let _ = stream.set_nodelay(true);
        let number = state.with(|state| {
            state.connections += 1;
            state.connections - 1
        });
        connections.spawn(serve(stream, number, state.clone()));
    }
}

/// Counts a request that is under way, whatever ends it.
struct OpenGuard(Shared);

impl OpenGuard {
    fn new(state: &Shared) -> Self {
        state.with(|state| state.open += 1);
        Self(state.clone())
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.with(|state| state.open -= 1);
    }
}

async fn serve(mut stream: TcpStream, connection: usize, state: Shared) {
    let mut reader = Reader::default();
    let mut before = 0;
    loop {
        let request = reader.head(&mut stream, Expected::Request).await;
        if matches!(request.end, End::Nothing | End::ResetBefore) {
            return;
        }
        if request.target() == PROBE_TARGET {
            // The state of the socket is the next read's business.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            before += request.raw.len();
            continue;
        }
        let guard = OpenGuard::new(&state);
        let head = before + request.raw.len();
        let answer = state.with(|state| {
            state.begun = Some((reader.count(), head));
            state.script.pop_front()
        });
        let mut turn = Turn { stream, reader, request, tunnelled: Vec::new() };
        let stays = turn.answer(answer.unwrap_or_else(|| Answer::status(200, "ok"))).await;
        let Turn { stream: open, reader: rest, request, tunnelled } = turn;
        (stream, reader) = (open, rest);
        before += request.raw.len() + tunnelled.len();
        let ended = request.end != End::Complete;
        state.with(|state| state.received.push(Received { connection, request, tunnelled }));
        drop(guard);
        if ended || !stays {
            return;
        }
    }
}

/// One request and its answer.
struct Turn {
    stream: TcpStream,
    reader: Reader,
    request: Message,
    tunnelled: Vec<u8>,
}

impl Turn {
    /// Acts the answer out; whether the connection stays open.
    async fn answer(&mut self, answer: Answer) -> bool {
        let mut unread = true;
        if answer.after == After::Request {
            self.read_request(&mut unread).await;
        }
        for step in answer.steps {
            match step {
                Step::ReadRequest => self.read_request(&mut unread).await,
                Step::Close => return false,
                Step::Reset => {
                    // Without the option the close is an orderly one, and the test sees that.
                    let _ = self.stream.set_zero_linger();
                    return false;
                }
                step => self.act(step).await,
            }
        }
        self.read_request(&mut unread).await;
        true
    }

    async fn read_request(&mut self, unread: &mut bool) {
        if std::mem::take(unread) && self.request.end == End::Complete {
            self.reader.body(&mut self.stream, &mut self.request).await;
        }
    }

    async fn act(&mut self, step: Step) {
        match step {
            // A peer that is gone is what the record says in the end.
            Step::Send(bytes) => drop(self.stream.write_all(&bytes).await),
            Step::HalfClose => drop(self.stream.shutdown().await),
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Echo => self.echo(true).await,
            Step::AwaitEnd => self.echo(false).await,
            Step::ReadRequest | Step::Close | Step::Reset => {}
        }
    }

    async fn echo(&mut self, back: bool) {
        loop {
            let bytes = self.reader.take_rest();
            self.tunnelled.extend_from_slice(&bytes);
            if back && self.stream.write_all(&bytes).await.is_err() {
                return;
            }
            if !matches!(self.reader.fill(&mut self.stream).await, Ok(1..)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
