//! Which listener and which of its chains take a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tulle_model::decide::destination::{self, Destination};
use tulle_model::decide::filter_chain::{ConnectionFacts, filter_chain};
use tulle_model::decide::request::{self as joints, Named, Opening};
use tulle_model::flag::ResponseFlag;
use tulle_model::listener::{Inspection, Listener, NetworkFilter};
use tulle_model::lookup::{Absence, Decision, Lookup, Needed};
use tulle_model::resource::ResourceKind;
use tulle_model::snapshot::Snapshot;
use tulle_model::trace::Step;

use super::call::{Call, Dialled, Speaks};
use super::store::Store;
use super::{End, request, upstream};
use crate::client::Role;
use crate::translate::{VIRTUAL_OUTBOUND, names};
use crate::world::View;

/// Stands for an address that nobody knows.
pub(super) const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A connection and the listener that takes it.
pub(super) struct Taken {
    pub(super) listener: Arc<Listener>,
    /// Where it was going before it was redirected.
    pub(super) original: Option<SocketAddr>,
    /// What its bytes were looked at for.
    inspected: Inspection,
    /// What it is taken for.
    speaks: Speaks,
}

impl Taken {
    fn by(listener: Arc<Listener>, original: Option<SocketAddr>, call: &Call) -> Self {
        Self { inspected: listener.inspect, listener, original, speaks: call.speaks }
    }
}

pub(super) fn explain(store: &mut Store<'_>, call: &Call) -> End {
    let taken = match (call.from.role, call.from.bind.explicit) {
        (Role::Gateway, _) => at_gateway(store, call),
        (Role::Sidecar, true) => at_explicit_port(store, call),
        (Role::Sidecar, false) => redirected(store, call),
    };
    match taken {
        Ok(taken) => by_chain(store, call, &taken),
        Err(end) => end,
    }
}

fn closed(why: impl Into<String>) -> End {
    End::Closed { flag: ResponseFlag::NoRouteFound, why: why.into() }
}

/// One of the listeners that the gateway binds.
fn at_gateway(store: &mut Store<'_>, call: &Call) -> Result<Taken, End> {
    let port = call.to.port();
    let bound = names(ResourceKind::Listener, store.world(), &call.from).names;
    for name in bound {
        let Some(listener) = store.decide(|now, _| by_own_name(now, &name)) else { continue };
        if listener.bind.iter().any(|address| address.port() == port) {
            store.step(
                Step::new("destination", format!("port {port} is that of listener {name}"))
                    .by(listener.origin.as_ref()),
            );
            return Ok(Taken::by(listener, None, call));
        }
    }
    let why = format!("no Gateway that selects this proxy opens port {port}");
    store.step(Step::new("destination", why.clone()));
    Err(closed(why))
}

/// The port to which the application sends whatever it calls; the authority decides.
fn at_explicit_port(store: &mut Store<'_>, call: &Call) -> Result<Taken, End> {
    let bound = bound(store)?;
    if !call.speaks.is_http() {
        let why = "without interception only HTTP in plain text has a destination";
        store.step(Step::new("destination", why));
        return Err(closed(why));
    }
    Ok(Taken::by(bound, None, call))
}

/// Where interception brings everything; the address decides, and where nobody owns it the name.
fn redirected(store: &mut Store<'_>, call: &Call) -> Result<Taken, End> {
    let bound = bound(store)?;
    let address = match &call.to {
        Dialled::Address(address) => Some(*address),
        Dialled::Host(host, port) => address_of(store, call, host, *port),
    };
    let listener = match address {
        Some(address) => {
            let found = store.decide(|now, steps| joints::listener(now, &bound, address, steps));
            found.map_err(|absence| unknown(call, &absence))?
        }
        None => Arc::clone(&bound),
    };
    let original = address.unwrap_or(SocketAddr::new(UNKNOWN, call.to.port()));
    let mut taken = Taken::by(listener, Some(original), call);
    if taken.listener.name == bound.name {
        by_name(store, call, &mut taken)?;
    }
    Ok(taken)
}

/// Nobody owns the address: whoever has the name that the connection gives takes it.
fn by_name(store: &mut Store<'_>, call: &Call, taken: &mut Taken) -> Result<(), End> {
    let server_name = server_name(taken, call);
    let opening = match call.speaks {
        Speaks::Tls => Opening::Tls(&server_name),
        Speaks::Http1 => Opening::Request(&call.request),
        Speaks::Http2 => Opening::Requests,
        Speaks::Bytes => Opening::Bytes,
    };
    let original = taken.original.unwrap_or(SocketAddr::new(UNKNOWN, call.to.port()));
    let bound = &taken.listener;
    let named = match call.speaks {
        // Its requests are told of one by one.
        Speaks::Http1 => {
            store.decide(|now, _| joints::named(now, bound, original, opening, &mut ()))
        }
        _ => store.decide(|now, steps| joints::named(now, bound, original, opening, steps)),
    };
    let named = named.map_err(|absence| unknown(call, &absence))?;
    match named {
        Named::Listener(listener) => taken.listener = listener,
        Named::Requests => {}
        Named::Nobody => {
            let text = "nobody declared it; what is undeclared goes this way";
            store.step(Step::new("destination", text));
            if call.speaks.is_http() {
                taken.speaks = Speaks::Bytes;
            }
        }
    }
    Ok(())
}

/// What becomes of a connection of which nobody can say where it was going.
fn unknown(call: &Call, absence: &Absence) -> End {
    let (flag, why) = (ResponseFlag::NoClusterFound, format!("destination not known: {absence}"));
    match call.speaks.is_http() {
        true => End::Refused { status: 503, flag, why },
        false => End::Closed { flag, why },
    }
}

/// The address that a host stands for, if it is one that the mesh knows.
fn address_of(store: &mut Store<'_>, call: &Call, host: &str, port: u16) -> Option<SocketAddr> {
    let name = format!("{host}:{port}");
    let found = store.decide(|now, _| match destination::by_name(now, &name, &mut ()) {
        Decision::Decided(Destination::Owned(owner)) => Decision::Decided(Some(Arc::clone(owner))),
        Decision::Decided(Destination::Unowned(_)) => Decision::Decided(None),
        Decision::Need(need) => Decision::Need(need),
    });
    let owner = found?;
    let service = View::new(store.world()).service(host, &call.from.namespace);
    let network = service.and_then(|service| service.networks.first());
    let inside = network.map(|network| SocketAddr::new(network.addr(), port));
    let (address, text) = match (owner.address, network) {
        (Some(address), _) => (Some(address), format!("resolve to {}", address.ip())),
        (None, Some(network)) => (inside, format!("resolve to an address of {network}")),
        (None, None) => (None, "resolve to an address that nobody owns".to_owned()),
    };
    let text = format!("{host} is taken to {text}");
    store.step(Step::new("destination", text).by(owner.origin.as_ref()));
    address
}

fn bound(store: &mut Store<'_>) -> Result<Arc<Listener>, End> {
    let bound = store.decide(|now, _| by_own_name(now, VIRTUAL_OUTBOUND));
    bound.ok_or_else(|| closed("the proxy binds no outbound port"))
}

fn by_own_name(now: &Snapshot, name: &str) -> Decision<Option<Arc<Listener>>> {
    match now.listener(name) {
        Lookup::Present(listener) => Decision::Decided(Some(Arc::clone(listener))),
        Lookup::Absent(_) => Decision::Decided(None),
        Lookup::Unknown => Decision::Need(Needed::Listener(name.into())),
    }
}

/// Lets the chain that takes the connection handle it.
fn by_chain(store: &mut Store<'_>, call: &Call, taken: &Taken) -> End {
    let Taken { listener, original, inspected, speaks } = taken;
    store.decided.listener = listener.name.to_string();
    store.decided.origin = listener.origin.clone();
    let own = listener.address.or(listener.bind.first().copied());
    let protocols = protocols(*inspected, *speaks);
    let server_name = server_name(taken, call);
    let source = SocketAddr::new(call.from.addresses.first().copied().unwrap_or(UNKNOWN), 0);
    let facts = ConnectionFacts {
        destination: original.or(own).unwrap_or(SocketAddr::new(UNKNOWN, call.to.port())),
        source,
        direct_source: source,
        server_name: &server_name,
        is_tls: *speaks == Speaks::Tls && inspected.tls,
        application_protocols: protocols,
    };
    let Some(chain) = filter_chain(listener, &facts).cloned() else {
        let why = format!("no filter chain of listener {} takes the connection", listener.name);
        store.step(Step::new("filter chain", why.clone()).by(listener.origin.as_ref()));
        return closed(why);
    };
    let handled = match &chain.network {
        NetworkFilter::Http(_) => "HTTP",
        NetworkFilter::Tcp(_) => "bytes passed on as they are",
    };
    store.step(
        Step::new("filter chain", format!("{}: {handled}", chain.name)).by(chain.origin.as_ref()),
    );
    match &chain.network {
        NetworkFilter::Http(manager) if speaks.is_http() => {
            request::explain(store, call, taken, manager)
        }
        NetworkFilter::Http(_) => End::Closed {
            flag: ResponseFlag::DownstreamProtocolError,
            why: "the port speaks HTTP in plain text, the caller does not".to_owned(),
        },
        NetworkFilter::Tcp(proxy) => {
            let shares = upstream::shares(store, call, &proxy.clusters);
            match upstream::end(shares) {
                End::Refused { flag, why, .. } => End::Closed { flag, why },
                end => end,
            }
        }
    }
}

/// What the inspectors of the listener find.
fn protocols(inspected: Inspection, speaks: Speaks) -> &'static [&'static str] {
    match speaks {
        Speaks::Http1 if inspected.http => &["http/1.1"],
        Speaks::Http2 if inspected.http => &["h2c"],
        _ => &[],
    }
}

fn server_name(taken: &Taken, call: &Call) -> String {
    match &call.to {
        Dialled::Host(host, _) if taken.speaks == Speaks::Tls && taken.inspected.tls => {
            host.to_ascii_lowercase()
        }
        _ => String::new(),
    }
}
