//! A TCP upstream: each connection takes the next script of steps.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::client::tcp::{Close, Connection};
use crate::deadline::{SOON, until};

/// One thing a TCP peer does, on either side.
#[derive(Debug, Clone)]
pub enum Step {
    /// Writes bytes.
    Send(Vec<u8>),
    /// Reads exactly so many bytes.
    Read(usize),
    /// Reads until the other side ends its direction.
    ReadToEnd,
    /// Sends everything back until the other side ends its direction.
    Echo,
    /// Ends the sending direction.
    HalfClose,
    /// Resets the connection.
    Reset,
}

/// What a TCP peer saw during its steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Every byte, in order.
    pub bytes: Vec<u8>,
    /// How the other side ended its direction, where a step looked.
    pub close: Option<Close>,
    /// A step that got no answer in time.
    pub stuck: Option<String>,
}

/// Acts the steps out on a connection; it is closed (or reset) at the end.
pub async fn act(mut connection: Connection, steps: Vec<Step>) -> Seen {
    let mut seen = Seen::default();
    for step in steps {
        let outcome = match step {
            Step::Reset => {
                connection.reset();
                return seen;
            }
            Step::Send(bytes) => {
                connection.send(&bytes).await;
                Ok((Vec::new(), None))
            }
            Step::HalfClose => {
                connection.half_close().await;
                Ok((Vec::new(), None))
            }
            Step::Read(count) => connection.read_exactly(count).await.map(|bytes| (bytes, None)),
            Step::ReadToEnd => connection.read_to_end().await.map(|(b, close)| (b, Some(close))),
            Step::Echo => connection.echo().await.map(|(bytes, close)| (bytes, Some(close))),
        };
        match outcome {
            Ok((bytes, close)) => {
                seen.bytes.extend(bytes);
                seen.close = close.or(seen.close);
            }
            Err(error) => {
                seen.stuck = Some(error.to_string());
                return seen;
            }
        }
    }
    seen
}

#[derive(Debug, Default)]
struct State {
    scripts: VecDeque<Vec<Step>>,
    seen: Vec<Seen>,
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
    /// Starts an upstream on a port of its own. Without a script every connection is an echo.
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

    /// Sets the scripts of the next connections and forgets what was seen.
    pub fn script(&self, scripts: impl IntoIterator<Item = Vec<Step>>) {
        with(&self.state, |state| {
            state.scripts = scripts.into_iter().collect();
            state.seen.clear();
        });
    }

    /// Everything seen so far.
    #[must_use]
    pub fn so_far(&self) -> Vec<Seen> {
        with(&self.state, |state| state.seen.clone())
    }

    /// Waits until `count` connections have been served and none is open; what they saw.
    ///
    /// # Errors
    /// When fewer come in time.
    pub async fn seen(&self, count: usize) -> Result<Vec<Seen>> {
        self.seen_within(count, SOON).await
    }

    /// The same with a limit of its own.
    ///
    /// # Errors
    /// When fewer come in time.
    pub async fn seen_within(&self, count: usize, limit: Duration) -> Result<Vec<Seen>> {
        until("the connections at the upstream", limit, || {
            let done = with(&self.state, |state| {
                let all = state.seen.len() >= count && state.open == 0;
                all.then(|| state.seen.clone())
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
        let steps = with(&state, |state| {
            state.open += 1;
            state.scripts.pop_front().unwrap_or_else(|| vec![Step::Echo])
        });
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let seen = act(Connection::accepted(stream), steps).await;
            with(&state, |state| {
                state.open -= 1;
                state.seen.push(seen);
            });
        });
    }
}
