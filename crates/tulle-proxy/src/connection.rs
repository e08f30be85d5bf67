//! One downstream connection: which listener answers, which chain takes it, TLS, then its filter.

mod by_name;
pub mod first_speaker;
mod unknown;

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tulle_model::decide::detection::{Detection, detection};
use tulle_model::decide::filter_chain::{ConnectionFacts, filter_chain};
use tulle_model::decide::request;
use tulle_model::listener::{FilterChain, Listener, NetworkFilter, OnDemand};
use tulle_model::lookup::{Absence, Lookup};
use tulle_model::name::{Direction, ListenerName};
use tulle_model::snapshot::Snapshot;

use crate::connection::first_speaker::{Early, Heard};
use crate::http;
use crate::http::context::{Downstream, HttpContext};
use crate::io::Io;
use crate::listener::inspect::Protocol;
use crate::listener::inspect::peek::{look_no_more, protocol_of};
use crate::listener::original_dst::original_destination;
use crate::listener::presence::{Presence, PresenceGuard};
use crate::metrics::envoy::{ListenerConnectionGuard, ListenerSeries};
use crate::store::InVain;
use crate::store::uses::Use;
use crate::tcp::dial::{Dialler, NotConnected};
use crate::tcp::record::TcpRecord;
use crate::tcp::{self, TcpEnd};
use crate::upstream::TcpLease;
use crate::worker::{InboundGuard, Worker};

/// Longest TLS handshake where the chain sets no limit.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A connection as it was accepted.
#[derive(Debug)]
pub struct Incoming {
    /// The connection.
    pub stream: TcpStream,
    /// Its peer.
    pub peer: SocketAddr,
    /// Where it came in.
    pub doorway: Doorway,
}

/// The listener that is bound where a connection came in.
#[derive(Debug)]
pub struct Doorway {
    /// Its name.
    pub listener: ListenerName,
    /// Counts the connection there.
    pub counted: ListenerConnectionGuard,
    /// Whether it is still there.
    pub present: PresenceGuard,
}

/// A connection that is open: it is known what serves it.
struct Opened {
    listener: Arc<Listener>,
    chain: Arc<FilterChain>,
    downstream: Downstream,
    io: Io,
    /// Its first bytes are the preface of HTTP/2.
    speaks_h2: bool,
    /// The way to its upstream, where that was dialled early for this chain.
    early: Option<Box<Early>>,
    /// What it was handed over to.
    used: Option<Use>,
}

/// Serves a connection to its end.
///
/// Most of its life a connection waits, so what it needs only while it is opened, and what only
/// some kinds of connection need, is boxed: this future is what every idle connection costs.
pub fn serve(worker: Rc<Worker>, incoming: Incoming) -> impl Future<Output = ()> {
    let opening = Box::pin(open(worker, incoming));
    async move {
        let Some((serving, _kept)) = opening.await else { return };
        serving.await;
    }
}

/// What is kept for as long as a connection is served.
struct Kept {
    _doorway: Doorway,
    _inbound: Option<InboundGuard>,
    /// What the connection was handed over to stays known for as long as it lives.
    _used: Option<Use>,
}

/// A connection that is served from now on.
type Serving = Pin<Box<dyn Future<Output = ()>>>;

/// Opens a connection; `None` if it is over already.
async fn open(worker: Rc<Worker>, incoming: Incoming) -> Option<(Serving, Kept)> {
    let Incoming { stream, peer, mut doorway } = incoming;
    let inbound = is_inbound(&worker, &doorway.listener).then(|| worker.inbound.enter());
    let mut opened = opened(&worker, stream, peer, &mut doorway).await?;
    let used = opened.used.take();
    let serving = opened.serve(worker, doorway.present.presence());
    Some((serving, Kept { _doorway: doorway, _inbound: inbound, _used: used }))
}

impl Opened {
    /// What is left to do for it.
    fn serve(self, worker: Rc<Worker>, present: &Rc<Presence>) -> Serving {
        let Self { listener, chain, downstream, io, speaks_h2, early, .. } = self;
        match &chain.network {
            NetworkFilter::Http(manager) => {
                let cx = HttpContext::new(
                    worker,
                    (listener, Rc::clone(present)),
                    Arc::clone(manager),
                    downstream,
                );
                Box::pin(http::serve(Rc::new(cx), io, speaks_h2))
            }
            NetworkFilter::Tcp(proxy) => match early {
                Some(early) => Box::pin(serve_early(early, downstream, io)),
                None => {
                    let Downstream { peer, original, .. } = downstream;
                    let dialler = Dialler::new(&worker, proxy, peer, original);
                    Box::pin(serve_tcp(dialler, downstream, io))
                }
            },
        }
    }
}

/// Finds out what serves a connection; `None` if it is over already.
async fn opened(
    worker: &Rc<Worker>,
    stream: TcpStream,
    peer: SocketAddr,
    doorway: &mut Doorway,
) -> Option<Opened> {
    let Doorway { listener, counted, present } = doorway;
    let series = counted.series();
    let local = stream.local_addr().ok()?;
    let bound = match worker.store.load().listener(listener.as_str()) {
        Lookup::Present(listener) => Arc::clone(listener),
        // It left since the kernel made the connection.
        Lookup::Absent(_) | Lookup::Unknown => present.presence().config()?,
    };
    let original = original_dst(&bound, &stream, local);
    let (listener, unknown) = match handed_over(worker, &bound, original).await {
        Ok(listener) => (listener, None),
        Err(absence) => (Arc::clone(&bound), Some(absence)),
    };
    let used = used(worker, &bound, original);
    let worker = Rc::clone(worker);
    let cut_short = Cell::new(false);
    let came_in = Rc::clone(present.presence());
    let mut unheard =
        Unheard { worker, listener, present: came_in, stream, peer, local, original, cut_short };
    if let Some(absence) = unknown {
        unknown::refuse(unheard, absence).await;
        return None;
    }
    let (protocol, early) = match unheard.detection() {
        Heed::Nobody => (Protocol::Other, None),
        Heed::Client => (unheard.inspected(series).await?, None),
        Heed::Either(early) => unheard.first_speaker(early).await?,
    };
    let (protocol, used) = match unheard.named(protocol).await {
        Ok((protocol, named)) => (protocol, named.or(used)),
        Err(absence) => {
            unknown::refuse(unheard, absence).await;
            return None;
        }
    };
    // It may have been edited while nobody had spoken: chains that are gone take nobody any more.
    let now =
        unheard.worker.store.load().listener(unheard.listener.name.as_str()).present().cloned();
    unheard.listener = now.unwrap_or(unheard.listener);
    if unheard.listener.name != bound.name {
        unheard.worker.presences.take_over(&unheard.listener, present);
    }
    let chain = unheard.chain(&protocol).cloned();
    let downstream = unheard.downstream(chain.as_deref(), &protocol);
    let Unheard { worker, listener, stream, cut_short, .. } = unheard;
    let stream = if cut_short.get() { look_no_more(stream).ok()? } else { stream };
    let Some(chain) = chain else {
        series.no_filter_chain_match().inc();
        tcp::record::no_chain(&worker, &listener, &downstream);
        return None;
    };
    present.taken_by(&chain);
    let early = early.filter(|early| Arc::ptr_eq(&early.chain, &chain));
    let io = encrypted(&worker, &chain, Io::tcp(stream, peer), series).await?;
    let speaks_h2 = protocol == Protocol::H2;
    Some(Opened { listener, chain, downstream, io, speaks_h2, early, used })
}

/// A connection whose listener is known and nothing else yet.
struct Unheard {
    worker: Rc<Worker>,
    listener: Arc<Listener>,
    /// The listener that is bound where it came in.
    present: Rc<Presence>,
    stream: TcpStream,
    peer: SocketAddr,
    /// Our end of the socket.
    local: SocketAddr,
    /// Where it was going before it was redirected.
    original: Option<SocketAddr>,
    /// A look at its bytes was broken off.
    cut_short: Cell<bool>,
}

/// Whose bytes are waited for.
enum Heed {
    Nobody,
    Client,
    Either(Box<Early>),
}

impl Unheard {
    fn facts<'a>(&self, protocol: &'a Protocol, names: &'a [&'a str]) -> ConnectionFacts<'a> {
        ConnectionFacts {
            destination: self.original.unwrap_or(self.local),
            source: self.peer,
            direct_source: self.peer,
            server_name: protocol.server_name(),
            is_tls: protocol.is_tls(),
            application_protocols: names,
        }
    }

    fn detection(&self) -> Heed {
        match detection(&self.listener, &self.facts(&Protocol::Other, &[])) {
            Detection::Declared => Heed::Nobody,
            Detection::Client => Heed::Client,
            Detection::FirstSpeaker(chain, proxy) => {
                let dialler = Dialler::new(&self.worker, proxy, self.peer, self.original);
                Heed::Either(Box::new(Early::new(chain, dialler, self.worker.clock.read())))
            }
        }
    }

    fn chain(&self, protocol: &Protocol) -> Option<&Arc<FilterChain>> {
        let names = protocol.application_protocols();
        filter_chain(&self.listener, &self.facts(protocol, &names))
    }

    fn downstream(&self, chain: Option<&FilterChain>, protocol: &Protocol) -> Downstream {
        Downstream {
            id: self.worker.connection_id(),
            peer: self.peer,
            local: self.original.unwrap_or(self.local),
            original: self.original,
            is_tls: chain.is_some_and(|chain| chain.tls.is_some()),
            server_name: protocol.server_name().into(),
        }
    }

    /// What the client's first bytes say, as far as the listener wants to know; `None` to close.
    async fn inspected(&self, series: &ListenerSeries) -> Option<Protocol> {
        let inspect = &self.listener.inspect;
        let looking = protocol_of(&self.stream, inspect, &self.worker.scratch);
        let Some(limit) = inspect.timeout else {
            return looking.await.ok().map(|found| found.protocol);
        };
        match tokio::time::timeout(limit, looking).await {
            Ok(found) => found.ok().map(|found| found.protocol),
            Err(_) => {
                series.pre_cx_timeout().inc();
                self.cut_short.set(true);
                inspect.continue_on_timeout.then_some(Protocol::Other)
            }
        }
    }

    /// What the client speaks, where the upstream may speak first, and the way to the upstream;
    /// `None` if the connection is over.
    async fn first_speaker(&self, early: Box<Early>) -> Option<(Protocol, Option<Box<Early>>)> {
        let mut early = early;
        let end = match early.first_speaker(&self.stream, &self.listener).await {
            Heard::Client(protocol) => return Some((protocol, Some(early))),
            Heard::Upstream => {
                self.cut_short.set(true);
                return Some((Protocol::Other, Some(early)));
            }
            // Nobody but this proxy has seen anything of it.
            Heard::Broken | Heard::Draining if !early.has_dialled() => return None,
            Heard::Broken => NotConnected::End(TcpEnd::DownstreamReset),
            Heard::Draining => NotConnected::End(TcpEnd::Closed),
            Heard::Silence => NotConnected::End(TcpEnd::Idle),
            Heard::Unreachable(why) => why,
        };
        let downstream = self.downstream(None, &Protocol::Other);
        TcpRecord::open(&early.dialler, &downstream, early.started).not_connected(&end);
        match end {
            NotConnected::End(TcpEnd::DownstreamReset) => early.reset(),
            NotConnected::End(TcpEnd::UpstreamReset) | NotConnected::NoCluster => {
                // An error means that there is nothing left to reset.
                drop(self.stream.set_zero_linger());
            }
            NotConnected::End(_) => {}
        }
        None
    }
}

/// Whether a connection comes to the workload, not from it.
fn is_inbound(worker: &Worker, listener: &ListenerName) -> bool {
    let snapshot = worker.store.load();
    let found = snapshot.listener(listener.as_str()).present();
    found.is_some_and(|listener| listener.direction == Direction::Inbound)
}

/// Passes bytes on to the cluster of the filter.
async fn serve_tcp(dialler: Dialler, downstream: Downstream, io: Io) {
    let record = TcpRecord::open(&dialler, &downstream, dialler.worker.clock.read());
    let up = dialler.dial().await;
    pass_on(&dialler, record, up, io).await;
}

/// Passes bytes on over a connection that was dialled early.
async fn serve_early(early: Box<Early>, downstream: Downstream, io: Io) {
    let dialler = Rc::clone(&early.dialler);
    let record = TcpRecord::open(&dialler, &downstream, early.started);
    let up = early.upstream().await;
    pass_on(&dialler, record, up, io).await;
}

async fn pass_on(
    dialler: &Dialler,
    mut record: TcpRecord<'_>,
    up: Result<TcpLease, NotConnected>,
    io: Io,
) {
    let (proxy, buffers) = (&dialler.proxy, &dialler.worker.buffers);
    match up {
        Ok(up) => {
            record.ends(&tcp::pass_on(io, up, proxy, buffers, &dialler.progress).await);
        }
        Err(why) => {
            record.not_connected(&why);
            if why == NotConnected::NoCluster {
                io.reset();
            }
        }
    }
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
    worker.store.decide(InVain::Fails, taken).await.and_then(|taken| taken)
}

/// The name that the destination of the connection is asked for by, if it is.
fn used(worker: &Worker, bound: &Listener, original: Option<SocketAddr>) -> Option<Use> {
    let original = original.filter(|_| bound.on_demand == OnDemand::Transparent)?;
    worker.store.use_name(&original.to_string())
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
