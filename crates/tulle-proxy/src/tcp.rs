//! The TCP proxy: opaque bytes between a downstream and an upstream, as faithfully as a wire.
//!
//! An end of bytes is passed on as an end, in each direction by itself; a reset as a reset.
//! Bytes are held only while they are on their way, so that a slow reader slows its writer.
//! Reference: `envoy.extensions.filters.network.tcp_proxy.v3`.

mod copy;
pub mod dial;
pub mod record;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tulle_model::decide::route::pick_weighted;
use tulle_model::flag::{ResponseFlag, ResponseFlags};
use tulle_model::listener::TcpProxy;
use tulle_model::name::ClusterName;
use xxhash_rust::xxh64::xxh64;

use crate::buffer::BufferPool;
use crate::io::{Io, WholeGuard};
use crate::upstream::{
    ConnectFailure, NoEndpoint, Outcome, PickInput, TcpLease, UpstreamCluster, UpstreamEndpoint,
};

use copy::{Break, Copy};

/// What an endpoint is chosen by.
#[derive(Clone, Debug)]
pub struct TcpSession {
    /// Where the connection goes, as [`cluster`] chose.
    pub cluster: Rc<UpstreamCluster>,
    /// Who connected.
    pub peer: Option<SocketAddr>,
    /// Where the client dialled, if the connection was redirected.
    pub original_dst: Option<SocketAddr>,
    /// Any number.
    pub random: u64,
}

/// What has happened on a connection so far; the caller's, so that its record is complete even
/// if the proxying is broken off.
#[derive(Debug, Default)]
pub struct TcpProgress {
    /// Bytes from downstream to upstream.
    pub sent: Cell<u64>,
    /// Bytes from upstream to downstream.
    pub received: Cell<u64>,
    /// How many of both the system moved without this process touching them.
    pub spliced: Cell<u64>,
    /// The cluster that was chosen.
    pub cluster: RefCell<Option<Rc<UpstreamCluster>>>,
    /// How often connecting was tried.
    pub attempts: Cell<u32>,
    /// The endpoint that was tried last.
    pub endpoint: RefCell<Option<Rc<UpstreamEndpoint>>>,
    /// Our end of the upstream connection.
    pub upstream_local: Cell<Option<SocketAddr>>,
    /// From the wish for an upstream connection to its being there.
    pub connect_time: Cell<Option<Duration>>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpEnd {
    /// Both sides ended their bytes.
    Closed,
    /// The downstream broke off; the upstream was reset.
    DownstreamReset,
    /// The upstream broke off; the downstream was reset.
    UpstreamReset,
    /// Both sides were silent for too long.
    Idle,
    /// There was no endpoint.
    NoEndpoint(NoEndpoint),
    /// There was no connection to an endpoint.
    NoConnection(ConnectFailure),
}

impl TcpEnd {
    /// The response flags of the record, as Envoy has them.
    #[must_use]
    pub fn flags(&self) -> ResponseFlags {
        match self {
            Self::NoEndpoint(_) => ResponseFlag::NoHealthyUpstream.into(),
            Self::NoConnection(failure) if failure.is_overflow() => {
                ResponseFlag::UpstreamOverflow.into()
            }
            Self::NoConnection(failure) => {
                let mut flags = ResponseFlags::from(failure.flag);
                flags.insert(ResponseFlag::UpstreamRetryLimitExceeded);
                flags
            }
            Self::Closed | Self::DownstreamReset | Self::UpstreamReset | Self::Idle => {
                ResponseFlags::NONE
            }
        }
    }
}

/// The cluster for a new connection, by weight; `None` if there is none with a weight.
#[must_use]
pub fn cluster(filter: &TcpProxy, random: u64) -> Option<&ClusterName> {
    pick_weighted(&filter.clusters, |(_, weight)| *weight, random).map(|(name, _)| name)
}

/// Passes bytes on between `down` and `up` until both sides ended or one broke.
pub async fn pass_on(
    down: Io,
    up: TcpLease,
    filter: &TcpProxy,
    buffers: &BufferPool,
    progress: &TcpProgress,
) -> TcpEnd {
    let active = Cell::new(Instant::now());
    let sending = Copy::new(&down, &up, (&progress.sent, &progress.spliced), &active);
    let receiving = Copy::new(&up, &down, (&progress.received, &progress.spliced), &active);
    let both = async {
        let sent = async { sending.run(buffers).await.map_err(Break::swapped) };
        tokio::try_join!(receiving.run(buffers), sent)
    };
    let (down_whole, up_whole) = (WholeGuard::begin(&down), WholeGuard::begin(&up));
    let ended = tokio::select! {
        ended = both => Some(ended),
        () = silence(filter.idle_timeout, &active) => None,
    };
    down_whole.done();
    up_whole.done();
    let Some(ended) = ended else { return TcpEnd::Idle };
    let Err(broken) = ended else { return TcpEnd::Closed };
    // A side that has had its end is only closed: a reset might overtake its last bytes.
    let (up_had_end, down_had_end) = (sending.has_ended(), receiving.has_ended());
    if !up_had_end {
        up.reset();
    }
    if !down_had_end {
        down.reset();
    }
    match broken {
        Break::From => TcpEnd::UpstreamReset,
        Break::To => TcpEnd::DownstreamReset,
    }
}

/// Comes back when nothing was passed on for `limit`.
async fn silence(limit: Option<Duration>, active: &Cell<Instant>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        // One timer for many moments of activity: it is set again only when it goes off.
        sleep_until(active.get() + limit).await;
        if active.get().elapsed() >= limit {
            return;
        }
    }
}

/// A connection to an endpoint, tried as often as the filter allows.
///
/// # Errors
/// Why there is none.
pub async fn connect(
    filter: &TcpProxy,
    session: &TcpSession,
    progress: &TcpProgress,
) -> Result<TcpLease, TcpEnd> {
    let begin = Instant::now();
    let up = reach(filter, session, progress).await?;
    progress.connect_time.set(Some(begin.elapsed()));
    progress.upstream_local.set(up.local());
    Ok(up)
}

async fn reach(
    filter: &TcpProxy,
    session: &TcpSession,
    progress: &TcpProgress,
) -> Result<TcpLease, TcpEnd> {
    let cluster = &session.cluster;
    let source = session.peer.filter(|_| filter.hash_source_ip);
    let mut input = PickInput {
        hash: source.map(|peer| xxh64(peer.ip().to_string().as_bytes(), 0)),
        original_dst: session.original_dst,
        random: session.random,
        ..PickInput::default()
    };
    let mut left = filter.max_connect_attempts;
    loop {
        let endpoint = cluster.pick(&input).map_err(TcpEnd::NoEndpoint)?;
        *progress.endpoint.borrow_mut() = Some(Rc::clone(&endpoint));
        progress.attempts.set(progress.attempts.get() + 1);
        left = left.saturating_sub(1);
        let failure = match cluster.connect_tcp(&endpoint).await {
            Ok(lease) => {
                cluster.report(&endpoint, Outcome::ConnectedFinally);
                return Ok(lease);
            }
            Err(failure) => failure,
        };
        match failure.timed_out {
            _ if failure.is_overflow() => return Err(TcpEnd::NoConnection(failure)),
            true => cluster.report(&endpoint, Outcome::TimedOut),
            false => cluster.report(&endpoint, Outcome::ConnectFailed),
        }
        if left == 0 {
            return Err(TcpEnd::NoConnection(failure));
        }
        input.random = input.random.rotate_left(17).wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
