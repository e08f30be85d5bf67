//! Kept HTTP/1 connections of one endpoint, last used first.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use tulle_identity::Application;
use tulle_model::cluster::PoolSettings;
use tulle_model::route::Priority;

use super::cluster::{ClusterState, Dial};
use super::connect::{Life, Transport};
use super::endpoint::EndpointState;
use super::failure::ConnectFailure;
use super::waiting::{ConnectingGuard, Start, Waiting};
use crate::buffer::ReadBuffer;
use crate::io::Io;
use crate::shared::CountGuard;

/// A connection that carries one request after the other.
#[derive(Debug)]
pub struct Http1Connection {
    /// The connection.
    pub io: Io,
    /// What was read and not used yet. With anything in it the connection is not kept.
    pub buffer: ReadBuffer,
}

/// A connection that belongs to one request, until it is released or dropped.
#[derive(Debug)]
pub struct Http1Lease {
    /// Whether it carried a request before; then a break before the answer may mean that the
    /// peer closed an idle connection.
    pub reused: bool,
    held: Box<Held>,
    _active: CountGuard,
    endpoint: Rc<EndpointState>,
    cluster: Rc<ClusterState>,
}

impl Deref for Http1Lease {
    type Target = Http1Connection;

    fn deref(&self) -> &Http1Connection {
        &self.held.connection
    }
}

impl DerefMut for Http1Lease {
    fn deref_mut(&mut self) -> &mut Http1Connection {
        &mut self.held.connection
    }
}

impl Http1Lease {
    /// Gives the connection back after a complete exchange. It is kept unless bytes are left
    /// over, its endpoint left, its settings changed, or it served long enough. Dropping the
    /// lease closes the connection. `now` is when it was last used.
    pub fn release(self, now: Instant) {
        let Self { mut held, endpoint, cluster, .. } = self;
        held.since = now;
        held.was_kept = true;
        let fits = !endpoint.left.get() && cluster.serves(|of| held.fits(of, now));
        if fits && held.connection.buffer.is_empty() {
            endpoint.http1.idle.borrow_mut().push(held);
            endpoint.http1.waiting.ready();
        }
    }
}

/// A connection with what is known of it; allocated once in its life.
#[derive(Debug)]
struct Held {
    connection: Http1Connection,
    /// Requests in its life.
    requests: u32,
    /// Nobody was waiting for it when it came to the pool.
    was_kept: bool,
    /// When it was last used.
    since: Instant,
    life: Life,
}

impl Held {
    /// Whether the settings of now allow it another request.
    fn fits(&self, (transport, pool): (&Rc<Transport>, &PoolSettings), now: Instant) -> bool {
        let younger = |limit: Duration| now - self.life.opened < limit;
        let fresher = |limit: Duration| now - self.since < limit;
        Rc::ptr_eq(&self.life.transport, transport)
            && pool.max_requests_per_connection.is_none_or(|most| self.requests < most.get())
            && pool.max_connection_duration.is_none_or(younger)
            && pool.idle_timeout.is_none_or(fresher)
    }
}

/// The HTTP/1 connections of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Http1Pool {
    #[expect(clippy::vec_box, reason = "a connection is moved from pool to lease and back")]
    idle: RefCell<Vec<Box<Held>>>,
    waiting: Waiting,
}

impl Http1Pool {
    /// A kept connection that can be used, and whether there is another.
    fn take(&self, cluster: &ClusterState, now: Instant) -> Option<(Box<Held>, bool)> {
        loop {
            // Closing what does not fit may run code; the borrow ends before.
            let idle = self.idle.borrow_mut().pop()?;
            // A new connection goes to who waits for it, whatever has become of it: looking for
            // another instead might go on for ever.
            let usable = !idle.was_kept || idle.connection.io.is_quiet();
            if usable && cluster.serves(|of| idle.fits(of, now)) {
                return Some((idle, !self.idle.borrow().is_empty()));
            }
        }
    }

    /// What was made for somebody who took another is kept like any other from here: the peer may
    /// close it before its first request.
    fn keep_what_nobody_waits_for(&self) {
        self.idle.borrow_mut().iter_mut().for_each(|held| held.was_kept = true);
    }

    /// Closes kept connections that may not be used any more or that the peer closed.
    pub(super) fn sweep(&self, cluster: &ClusterState, now: Instant) {
        let mut closed = Vec::new();
        let spent = |idle: &mut Box<Held>| {
            !cluster.serves(|of| idle.fits(of, now)) || !idle.connection.io.is_quiet()
        };
        closed.extend(self.idle.borrow_mut().extract_if(.., spent));
    }

    /// Closes the connection of `priority` that was kept longest; whether there was one.
    pub(super) fn close_oldest(&self, priority: Priority) -> bool {
        let mut idle = self.idle.borrow_mut();
        let oldest = idle
            .iter()
            .position(|held| held.was_kept && held.life.priority == priority)
            .map(|index| idle.remove(index));
        drop(idle);
        oldest.is_some()
    }

    /// Closes everything that is kept.
    pub(super) fn close_all(&self) {
        drop(std::mem::take(&mut *self.idle.borrow_mut()));
    }
}

/// A connection for one request: kept, or new.
pub(super) async fn acquire(dial: &Dial, now: Instant) -> Result<Http1Lease, ConnectFailure> {
    let pool = &dial.endpoint.http1;
    let nobody_waits = pool.waiting.waiters() == 0;
    let kept = if nobody_waits { pool.take(&dial.cluster, now) } else { None };
    let mut held = match kept {
        Some((held, _)) => held,
        None => {
            let _pending = dial.under_way().wait(&dial.limits())?;
            let take = || pool.take(&dial.cluster, Instant::now());
            let taken = pool.waiting.wait(dial.under_way(), take, || start(dial)).await?;
            if pool.waiting.waiters() == 0 {
                pool.keep_what_nobody_waits_for();
            }
            taken
        }
    };
    held.requests = held.requests.saturating_add(1);
    Ok(Http1Lease {
        reused: held.was_kept,
        held,
        _active: dial.endpoint.count_request(),
        endpoint: Rc::clone(&dial.endpoint),
        cluster: Rc::clone(&dial.cluster),
    })
}

fn start(dial: &Dial) -> Start {
    let waiting = &dial.endpoint.http1.waiting;
    if waiting.connecting() >= waiting.waiters() {
        return Start::Enough;
    }
    let Some(life) = dial.place() else { return Start::AtLimit };
    tokio::task::spawn_local(connect(dial.clone(), life, waiting.start()));
    Start::Started
}

async fn connect(dial: Dial, life: Life, connecting: ConnectingGuard) {
    let waiting = &dial.endpoint.http1.waiting;
    let connected = dial.connect(&life.transport, Application::Http1).await;
    drop(connecting);
    match connected {
        Ok(io) => {
            let connection = Http1Connection { io, buffer: ReadBuffer::default() };
            let was_kept = waiting.waiters() == 0;
            if !(was_kept && dial.endpoint.left.get()) {
                let since = Instant::now();
                let held = Held { connection, requests: 0, was_kept, since, life };
                dial.endpoint.http1.idle.borrow_mut().push(Box::new(held));
                waiting.ready();
            }
        }
        Err(failure) => {
            drop(life);
            waiting.failed(failure);
        }
    }
}
