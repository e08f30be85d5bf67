//! One downstream connection: which listener answers, which chain takes it, TLS, then its filter.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tulle_model::decide::filter_chain::{ConnectionFacts, filter_chain};
use tulle_model::decide::request;
use tulle_model::listener::{FilterChain, Listener, NetworkFilter, OnDemand, TcpProxy};
use tulle_model::lookup::{Absence, Lookup};
use tulle_model::name::{Direction, ListenerName};
use tulle_model::snapshot::Snapshot;

use crate::http;
use crate::http::context::{Downstream, HttpContext};
use crate::io::Io;
use crate::listener::inspect::Protocol;
use crate::listener::inspect::peek::protocol_of;
use crate::listener::original_dst::original_destination;
use crate::metrics::envoy::{ListenerConnectionGuard, ListenerSeries};
use crate::store::uses::Use;
use crate::tcp::record::TcpRecord;
use crate::tcp::{self, TcpSession};
use crate::upstream::UpstreamCluster;
use crate::worker::Worker;

/// Longest TLS handshake where the chain sets no limit.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Incoming {
    /// The connection.
    pub stream: TcpStream,
    /// Its peer.
    pub peer: SocketAddr,
    /// The listener that is bound where it came in.
    pub listener: ListenerName,
    /// Counts it at its listener.
    pub counted: ListenerConnectionGuard,
}

/// A connection that is open: it is known what serves it.
struct Opened {
    listener: Arc<Listener>,
    chain: Arc<FilterChain>,
    downstream: Downstream,
    io: Io,
    /// Its first bytes are the preface of HTTP/2.
    speaks_h2: bool,
    /// What the connection was handed over to stays known for as long as it lives.
    used: Option<Use>,
}

/// Serves a connection to its end.
///
/// Most of its life a connection waits, so what it needs only while it is opened, and what only
/// some kinds of connection need, is boxed: this future is what every idle connection costs.
pub async fn serve(worker: Rc<Worker>, incoming: Incoming) {
    let Incoming { stream, peer, listener, counted } = incoming;
    let _inbound = is_inbound(&worker, &listener).then(|| worker.inbound.enter());
    let opening = Box::pin(opened(&worker, stream, peer, &listener, &counted));
    let Some(mut opened) = opening.await else { return };
    let _used = opened.used.take();
    opened.serve(worker).await;
}

impl Opened {
    /// What is left to do for it.
    fn serve(self, worker: Rc<Worker>) -> Pin<Box<dyn Future<Output = ()>>> {
        let Self { listener, chain, downstream, io, speaks_h2, used: _ } = self;
        match &chain.network {
            NetworkFilter::Http(manager) => {
                let cx = HttpContext::new(worker, listener, Arc::clone(manager), downstream);
                Box::pin(http::serve(Rc::new(cx), io, speaks_h2))
            }
            NetworkFilter::Tcp(_) => Box::pin(serve_tcp(worker, chain, downstream, io)),
        }
    }
}

/// Finds out what serves a connection; `None` if it is over already.
async fn opened(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    listener: &ListenerName,
    counted: &ListenerConnectionGuard,
) -> Option<Opened> {
    let series = counted.series();
    let local = stream.local_addr().ok()?;
    let bound = match worker.store.load().listener(listener.as_str()) {
        Lookup::Present(listener) => Arc::clone(listener),
        // It was removed between accept and here: nobody is left to answer.
        Lookup::Absent(_) | Lookup::Unknown => return None,
    };
    let original = original_dst(&bound, &stream, local);
    let Ok(listener) = handed_over(worker, &bound, original).await else {
        // Who owns the destination cannot be learnt now: nobody is let past on a guess.
        Io::tcp(stream, peer).reset();
        return None;
    };
    let used = used(worker, &bound, original);
    let Some(protocol) = inspected(worker, &listener, &stream).await else {
        series.pre_cx_timeout().inc();
        return None;
    };
    let names = protocol.application_protocols();
    let facts = ConnectionFacts {
        destination: original.unwrap_or(local),
        source: peer,
        direct_source: peer,
        server_name: protocol.server_name(),
        is_tls: protocol.is_tls(),
        application_protocols: &names,
    };
    let chain = filter_chain(&listener, &facts).cloned();
    let downstream = Downstream {
        id: worker.connection_id(),
        peer,
        local: original.unwrap_or(local),
        original,
        is_tls: chain.as_ref().is_some_and(|chain| chain.tls.is_some()),
        server_name: protocol.server_name().into(),
    };
    let Some(chain) = chain else {
        series.no_filter_chain_match().inc();
        tcp::record::no_chain(worker, &listener, &downstream);
        return None;
    };
    let io = encrypted(worker, &chain, Io::tcp(stream, peer), series).await?;
    let speaks_h2 = protocol == Protocol::H2;
    Some(Opened { listener, chain, downstream, io, speaks_h2, used })
}

/// Whether a connection comes to the workload, not from it.
fn is_inbound(worker: &Worker, listener: &ListenerName) -> bool {
    let snapshot = worker.store.load();
    let found = snapshot.listener(listener.as_str()).present();
    found.is_some_and(|listener| listener.direction == Direction::Inbound)
}

/// Passes bytes on to the cluster of the filter.
async fn serve_tcp(worker: Rc<Worker>, chain: Arc<FilterChain>, downstream: Downstream, io: Io) {
    let NetworkFilter::Tcp(proxy) = &chain.network else { return };
    let mut record = TcpRecord::open(&worker, proxy, &downstream);
    let Some(cluster) = tcp_cluster(&worker, proxy).await else {
        record.no_cluster();
        return io.reset();
    };
    let session = TcpSession {
        cluster,
        buffers: worker.buffers.clone(),
        original_dst: downstream.original,
        random: worker.random(),
    };
    let open = record.routed(&session);
    let end = tcp::proxy(io, proxy, &session, &open.progress).await;
    record.ends(&end);
}

/// The cluster of a connection, asked for if need be.
async fn tcp_cluster(worker: &Worker, proxy: &TcpProxy) -> Option<Rc<UpstreamCluster>> {
    let name = tcp::cluster(proxy, worker.random())?;
    let ready = worker.store.decide(|snapshot| request::cluster(snapshot, name)).await;
    let Ok(Ok(_)) = ready else { return None };
    worker.upstreams.cluster(&worker.store.load(), name).present()
}

/// Where the connection was going before it was redirected here.
fn original_dst(bound: &Listener, stream: &TcpStream, local: SocketAddr) -> Option<SocketAddr> {
    if !bound.inspect.original_dst && !bound.use_original_dst {
        return None;
    }
    let original = original_destination(stream).ok().flatten();
    original.filter(|original| *original != local)
}

/// The listener that stands for the original destination, or the bound one.
async fn handed_over(
    worker: &Rc<Worker>,
    bound: &Arc<Listener>,
    original: Option<SocketAddr>,
) -> Result<Arc<Listener>, Absence> {
    let Some(original) = original else { return Ok(Arc::clone(bound)) };
    let taken = |snapshot: &Snapshot| request::listener(snapshot, bound, original, &mut ());
    worker.store.decide(taken).await
}

/// The name that the destination of the connection is asked for by, if it is.
fn used(worker: &Worker, bound: &Listener, original: Option<SocketAddr>) -> Option<Use> {
    let original = original.filter(|_| bound.on_demand == OnDemand::Transparent)?;
    worker.store.use_name(&original.to_string())
}

/// What the first bytes say, as far as the listener wants to know; `None` to close.
async fn inspected(worker: &Worker, listener: &Listener, stream: &TcpStream) -> Option<Protocol> {
    let looking = protocol_of(stream, &listener.inspect, &worker.scratch);
    let Some(limit) = listener.inspect.timeout else {
        return looking.await.ok().map(|found| found.protocol);
    };
    match tokio::time::timeout(limit, looking).await {
        Ok(found) => found.ok().map(|found| found.protocol),
        Err(_) => listener.inspect.continue_on_timeout.then_some(Protocol::Other),
    }
}

/// The connection after its TLS handshake, if the chain has one.
async fn encrypted(
    worker: &Worker,
    chain: &FilterChain,
    io: Io,
    series: &ListenerSeries,
) -> Option<Io> {
    let Some(tls) = &chain.tls else { return Some(io) };
    let tls = worker.server_tls(tls)?;
    let limit = chain.connect_timeout.unwrap_or(HANDSHAKE);
    match tokio::time::timeout(limit, io.accept_tls(&tls)).await {
        Ok(Ok(io)) => {
            series.ssl_handshake().inc();
            Some(io)
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            series.ssl_connection_error().inc();
            None
        }
        Err(_) => {
            series.connect_timeout().inc();
            None
        }
    }
}
