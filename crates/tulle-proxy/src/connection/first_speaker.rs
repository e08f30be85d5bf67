//! Whoever speaks first decides (design D6): the client is watched while its upstream is already
//! dialled, so that neither a server that greets nor a client that takes its time waits for the
//! other for ever.
//!
//! Nothing is written to the upstream before a verdict, so an early connection can be given up
//! without a trace. Time decides nothing here: it only says when an upstream is dialled (again),
//! and when a connection on which nothing can happen any more ends.

use std::cell::Cell;
use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::sleep;
use tulle_model::listener::{FilterChain, Listener};

use crate::listener::inspect::Protocol;
use crate::listener::inspect::greeting::{GREETING_BYTES, Greeting, greeting};
use crate::listener::inspect::peek::protocol_of;
use crate::tcp::TcpEnd;
use crate::tcp::dial::{Dialler, NotConnected};
use crate::upstream::TcpLease;
use crate::upstream::failure::{ConnectFailure, LimitKind, Overflow};

/// How long the client has the word before its upstream is dialled: most clients of HTTP speak
/// at once and cost no early connection then.
pub const HEAD_START: Duration = Duration::from_millis(3);
/// How often an upstream that cannot be reached is dialled for a client that says nothing.
pub const MAX_DIALS: u32 = 5;
/// Pause before it is dialled for the second time; each further one is twice as long.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);
/// Early connections of one worker on which nobody has spoken yet.
pub const MAX_UNDECIDED: usize = 4_096;

/// What was heard of a connection.
#[derive(Debug)]
pub enum Heard {
    /// The client spoke, or ended what it had to say.
    Client(Protocol),
    /// The upstream spoke or ended, before the client.
    Upstream,
    /// The client broke off.
    Broken,
    /// The upstream cannot be reached or broke off, and the client says nothing.
    Unreachable(NotConnected),
    /// Nobody spoke for too long.
    Silence,
    /// The proxy is draining: a connection on which nobody spoke is not waited for.
    Draining,
}

/// The early way to an upstream.
pub struct Early {
    /// The chain that takes the connection if it is not HTTP.
    pub chain: Arc<FilterChain>,
    /// Who dials.
    pub dialler: Rc<Dialler>,
    /// When the connection came in.
    pub started: SystemTime,
    state: State,
    dials: u32,
}

type Dial = Pin<Box<dyn Future<Output = Result<TcpLease, NotConnected>>>>;

enum State {
    /// To be dialled after a pause.
    Resting,
    Dialling {
        dial: Dial,
        guard: UndecidedGuard,
    },
    /// Connected; what the upstream said so far proves nothing.
    Listening {
        up: Box<TcpLease>,
        seen: Vec<u8>,
        _guard: UndecidedGuard,
    },
    /// The upstream speaks HTTP: it is the client's turn.
    Refraining,
}

impl Early {
    /// Nothing was dialled yet.
    #[must_use]
    pub fn new(chain: &Arc<FilterChain>, dialler: Dialler, started: SystemTime) -> Self {
        let (chain, dialler) = (Arc::clone(chain), Rc::new(dialler));
        Self { chain, dialler, started, state: State::Resting, dials: 0 }
    }

    /// Waits until somebody spoke on `stream` or the upstream did.
    pub async fn first_speaker(&mut self, stream: &TcpStream, listener: &Listener) -> Heard {
        let dialler = Rc::clone(&self.dialler);
        let worker = &dialler.worker;
        let silence = async {
            match dialler.proxy.idle_timeout {
                Some(limit) => sleep(limit).await,
                None => pending().await,
            }
        };
        let draining = worker.drain.wait_until(|_| worker.closes_idle(listener.direction));
        tokio::select! {
            biased;
            client = protocol_of(stream, &listener.inspect, &worker.scratch) => match client {
                Ok(found) => Heard::Client(found.protocol),
                Err(_) => Heard::Broken,
            },
            upstream = self.greeted() => match upstream {
                Ok(()) => Heard::Upstream,
                Err(why) => Heard::Unreachable(why),
            },
            () = draining => Heard::Draining,
            () = silence => Heard::Silence,
        }
    }

    /// Dials, and comes back when the upstream spoke as one that speaks first, or when it was
    /// dialled in vain too often. May be dropped and called again.
    async fn greeted(&mut self) -> Result<(), NotConnected> {
        loop {
            match &mut self.state {
                State::Resting => {
                    sleep(self.pause()).await;
                    self.dials += 1;
                    self.state = match UndecidedGuard::enter(&self.dialler.worker.undecided) {
                        Some(guard) => State::Dialling { dial: self.dial(), guard },
                        None => self.rest_after(too_many())?,
                    };
                }
                State::Dialling { dial, .. } => {
                    let dialled = dial.await;
                    let before = std::mem::replace(&mut self.state, State::Resting);
                    self.state = match (before, dialled) {
                        (State::Dialling { guard, .. }, Ok(up)) => {
                            State::Listening { up: Box::new(up), seen: Vec::new(), _guard: guard }
                        }
                        (_, Err(why)) => self.rest_after(why)?,
                        (before, Ok(_)) => before,
                    };
                }
                State::Listening { up, seen, .. } => match hear(up, seen).await {
                    Ok(Greeting::Http) => self.state = State::Refraining,
                    Ok(Greeting::Other | Greeting::NeedMore) => return Ok(()),
                    Err(_) => return Err(NotConnected::End(TcpEnd::UpstreamReset)),
                },
                State::Refraining => pending().await,
            }
        }
    }

    fn dial(&self) -> Dial {
        let dialler = Rc::clone(&self.dialler);
        Box::pin(async move { dialler.dial().await })
    }

    fn pause(&self) -> Duration {
        match self.dials.checked_sub(1) {
            None => HEAD_START,
            Some(before) => REDIAL_PAUSE * 2u32.saturating_pow(before),
        }
    }

    fn rest_after(&self, why: NotConnected) -> Result<State, NotConnected> {
        if self.dials < MAX_DIALS { Ok(State::Resting) } else { Err(why) }
    }

    /// Whether the upstream may know of this connection.
    #[must_use]
    pub fn has_dialled(&self) -> bool {
        matches!(self.state, State::Dialling { .. } | State::Listening { .. })
    }

    /// Breaks the way off, as the client did.
    pub fn reset(self) {
        if let State::Listening { up, .. } = self.state {
            up.reset();
        }
    }

    /// The connection to the upstream: the early one, with all that it said, or else a new one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn upstream(self) -> Result<TcpLease, NotConnected> {
        match self.state {
            State::Listening { up, seen, .. } => {
                up.unread(seen);
                Ok(*up)
            }
            State::Dialling { dial, .. } => dial.await,
            State::Resting | State::Refraining => self.dialler.dial().await,
        }
    }
}

fn too_many() -> NotConnected {
    let failure = ConnectFailure::from(Overflow(LimitKind::Connections));
    NotConnected::End(TcpEnd::NoConnection(failure))
}

/// Listens until the upstream has said enough. What it said is added to `seen`; its end says that
/// it is no HTTP server that waits.
async fn hear(up: &TcpLease, seen: &mut Vec<u8>) -> io::Result<Greeting> {
    loop {
        match greeting(seen) {
            Greeting::NeedMore => {}
            known => return Ok(known),
        }
        let left = GREETING_BYTES.saturating_sub(seen.len());
        if up.read_buf(seen, left).await? == 0 {
            return Ok(Greeting::Other);
        }
    }
}

/// A connection that is dialled early and undecided.
struct UndecidedGuard(Rc<Cell<usize>>);

impl UndecidedGuard {
    fn enter(undecided: &Rc<Cell<usize>>) -> Option<Self> {
        (undecided.get() < MAX_UNDECIDED).then(|| {
            undecided.set(undecided.get() + 1);
            Self(Rc::clone(undecided))
        })
    }
}

impl Drop for UndecidedGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
