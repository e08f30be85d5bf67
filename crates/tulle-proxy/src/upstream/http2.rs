//! HTTP/2 connections of one endpoint: as few as their streams need.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use tulle_identity::Application;
use tulle_model::cluster::{PoolSettings, UpstreamProtocol};
use tulle_model::http::Http2Settings;
use tulle_model::route::Priority;

use super::cluster::{ClusterState, Dial};
use super::connect::{Life, Transport};
use super::endpoint::EndpointState;
use super::failure::ConnectFailure;
use super::waiting::{ConnectingGuard, Start, Waiting};
use crate::http::codec::h2::keepalive;
use crate::io::Io;
use crate::shared::CountGuard;

/// Bytes of response heads and trailers that are accepted, uncompressed.
pub const MAX_HEADER_LIST_BYTES: u32 = 60 * 1024;
/// Streams that were reset by us and that the peer may still speak of.
const MAX_RESET_STREAMS: usize = 64;
/// How long a connection that nobody needs any more may take to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that wait to be sent on one connection.
const MAX_SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// A place for one stream on a connection, until it is dropped: to be held until the stream has
/// ended in both directions.
#[derive(Debug)]
pub struct Http2Lease {
    /// Sends the request; ready when it is given out.
    pub send: SendRequest<Bytes>,
    /// Whether the connection carried a stream before.
    pub reused: bool,
    connection: Rc<Http2Connection>,
    _active: CountGuard,
    endpoint: Rc<EndpointState>,
}

impl Http2Lease {
    /// The address of this end of the connection.
    #[must_use]
    pub fn local(&self) -> Option<SocketAddr> {
        self.connection.local
    }
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        if left == 0 {
            self.connection.idle_since.set(Instant::now());
        }
        self.endpoint.http2.waiting.ready();
    }
}

/// One connection that streams can be opened on. Once it is no longer in its pool, and no lease
/// is left, it closes.
struct Http2Connection {
    send: SendRequest<Bytes>,
    /// Streams that may be open at once as far as this side is concerned.
    most: u32,
    streams: Cell<u32>,
    /// Streams in its life.
    total: Cell<u32>,
    idle_since: Cell<Instant>,
    opened: Instant,
    priority: Priority,
    transport: Rc<Transport>,
    local: Option<SocketAddr>,
    /// Tells the driver when nobody holds this any more.
    _held: oneshot::Sender<()>,
}

impl fmt::Debug for Http2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Connection").field("streams", &self.streams).finish_non_exhaustive()
    }
}

impl Http2Connection {
    /// Whether no GOAWAY came, nothing broke, and the settings of now allow more streams.
    fn lives(&self, (transport, pool): (&Rc<Transport>, &PoolSettings), now: Instant) -> bool {
        let older = |limit: Duration| now - self.opened >= limit;
        let silent =
            |limit: Duration| self.streams.get() == 0 && now - self.idle_since.get() >= limit;
        let mut send = self.send.clone();
        let broken = send.poll_ready(&mut Context::from_waker(Waker::noop()));
        Rc::ptr_eq(&self.transport, transport)
            && !matches!(broken, Poll::Ready(Err(_)))
            && pool.max_requests_per_connection.is_none_or(|most| self.total.get() < most.get())
            && !pool.max_connection_duration.is_some_and(older)
            && !pool.idle_timeout.is_some_and(silent)
    }

    fn has_room(&self) -> bool {
        let open = self.streams.get();
        open < self.most && (open as usize) < self.send.current_max_send_streams()
    }
}

/// The HTTP/2 connections of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Http2Pool {
    connections: RefCell<Vec<Rc<Http2Connection>>>,
    waiting: Waiting,
}

impl Http2Pool {
    /// A connection with room for a stream, counted as taken, and whether it has more room.
    fn take(&self, cluster: &ClusterState, now: Instant) -> Option<(Rc<Http2Connection>, bool)> {
        self.sweep(cluster, now);
        let connections = self.connections.borrow();
        let connection = connections.iter().find(|connection| connection.has_room())?;
        connection.streams.set(connection.streams.get() + 1);
        connection.total.set(connection.total.get().saturating_add(1));
        Some((Rc::clone(connection), connection.has_room()))
    }

    /// Lets go of connections that take no more streams; they close with their last stream.
    pub(super) fn sweep(&self, cluster: &ClusterState, now: Instant) {
        let spent =
            |connection: &mut Rc<Http2Connection>| !cluster.serves(|of| connection.lives(of, now));
        let closed: Vec<_> = self.connections.borrow_mut().extract_if(.., spent).collect();
        drop(closed);
    }

    /// Closes a connection of `priority` without streams; whether there was one.
    pub(super) fn close_oldest(&self, priority: Priority) -> bool {
        let mut connections = self.connections.borrow_mut();
        let unused = connections.iter().position(|connection| {
            let unused = connection.streams.get() == 0 && connection.total.get() > 0;
            unused && connection.priority == priority
        });
        let closed = unused.map(|index| connections.remove(index));
        drop(connections);
        closed.is_some()
    }

    /// Lets go of every connection.
    pub(super) fn close_all(&self) {
        drop(std::mem::take(&mut *self.connections.borrow_mut()));
    }

    fn forget(&self, connection: &Rc<Http2Connection>) {
        self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
    }
}

/// A place for one stream: on a connection that is there, or on a new one.
pub(super) async fn acquire(dial: &Dial, now: Instant) -> Result<Http2Lease, ConnectFailure> {
    let pool = &dial.endpoint.http2;
    let nobody_waits = pool.waiting.waiters() == 0;
    let there = if nobody_waits { pool.take(&dial.cluster, now) } else { None };
    let connection = match there {
        Some((connection, _)) => connection,
        None => {
            let _pending = dial.under_way().wait(&dial.limits())?;
            let take = || pool.take(&dial.cluster, Instant::now());
            pool.waiting.wait(dial.under_way(), take, || start(dial)).await?
        }
    };
    Ok(Http2Lease {
        send: connection.send.clone(),
        reused: connection.total.get() > 1,
        connection,
        _active: dial.endpoint.count_request(),
        endpoint: Rc::clone(&dial.endpoint),
    })
}

fn settings(protocol: &UpstreamProtocol) -> Http2Settings {
    match protocol {
        UpstreamProtocol::Http2(settings) | UpstreamProtocol::Downstream(settings) => *settings,
        UpstreamProtocol::Http1 => Http2Settings::default(),
    }
}

fn start(dial: &Dial) -> Start {
    let waiting = &dial.endpoint.http2.waiting;
    let settings = settings(&dial.cluster.config().protocol);
    let coming = waiting.connecting().saturating_mul(settings.max_concurrent_streams as usize);
    if coming >= waiting.waiters() {
        return Start::Enough;
    }
    let Some(life) = dial.place() else { return Start::AtLimit };
    tokio::task::spawn_local(connect(dial.clone(), life, settings, waiting.start()));
    Start::Started
}

/// Makes a connection and drives it to its end.
async fn connect(dial: Dial, life: Life, settings: Http2Settings, connecting: ConnectingGuard) {
    let pool = &dial.endpoint.http2;
    let deadline = Instant::now() + dial.cluster.config().connect_timeout;
    let mut local = None;
    let made = async {
        let io = dial.connect(&life.transport, Application::Http2).await?;
        local = io.local();
        let greeting = timeout_at(deadline, greet(io, &settings)).await;
        greeting.unwrap_or_else(|_| Err(ConnectFailure::timeout()))
    };
    let made = made.await;
    drop(connecting);
    let (send, mut driver) = match made {
        Ok(made) => made,
        Err(failure) => {
            drop(life);
            return pool.waiting.failed(failure);
        }
    };
    let pings = settings.keepalive.and_then(|_| driver.ping_pong());
    let (held, released) = oneshot::channel();
    let connection = Rc::new(Http2Connection {
        send,
        most: settings.max_concurrent_streams,
        streams: Cell::new(0),
        total: Cell::new(0),
        idle_since: Cell::new(Instant::now()),
        opened: life.opened,
        priority: life.priority,
        transport: Rc::clone(&life.transport),
        local,
        _held: held,
    });
    let weak = Rc::downgrade(&connection);
    if !dial.endpoint.left.get() || pool.waiting.waiters() > 0 {
        pool.connections.borrow_mut().push(connection);
        pool.waiting.ready();
    }
    // How it ended, its streams are told.
    let mut driver = pin!(driver);
    tokio::select! {
        _ = &mut driver => {}
        _ = released => drop(timeout(CLOSE_LIMIT, driver).await),
        () = keepalive::lost(pings, settings.keepalive) => {
            dial.cluster.metrics().series.keepalive_timeout().inc();
        }
    }
    if let Some(connection) = weak.upgrade() {
        pool.forget(&connection);
    }
    drop(life);
}

async fn greet(
    io: Io,
    settings: &Http2Settings,
) -> Result<(SendRequest<Bytes>, Connection<Io, Bytes>), ConnectFailure> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_send_buffer_size(MAX_SEND_BUFFER_BYTES);
    builder
        .handshake(io)
        .await
        .map_err(|error| ConnectFailure::remote(&std::io::Error::other(error.to_string())))
}
