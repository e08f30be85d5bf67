//! A redirected connection of which nobody can say where it was going: the control plane does not
//! answer, or has sent what this proxy had to refuse. Nobody is let past on a guess (design D5):
//! who speaks HTTP is told so, 503 with flag `NC`; everybody else is reset, as by a port that is
//! closed.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tulle_model::http::{HttpConnectionManager, RouteSource, ServerHeader, ServerHeaderWhen};
use tulle_model::listener::{FilterChain, Inspection, NetworkFilter, TcpProxy};
use tulle_model::lookup::Absence;

use super::Unheard;
use crate::http;
use crate::http::context::HttpContext;
use crate::io::Io;
use crate::listener::inspect::Protocol;
use crate::listener::inspect::peek::protocol_of;
use crate::tcp::dial::Dialler;
use crate::tcp::record::TcpRecord;

/// How long a client may still keep silent, once it is settled that nobody knows where it was
/// going: mostly it has spoken while that was asked for.
const LAST_WORD: Duration = Duration::from_secs(1);
/// All that has to be known of it: whether it can be told.
const WANTED: Inspection = Inspection {
    original_dst: false,
    tls: true,
    http: true,
    timeout: None,
    continue_on_timeout: false,
};

/// Ends a connection whose destination is not known.
pub(super) async fn refuse(unheard: Unheard, absence: Absence) {
    let heard = protocol_of(&unheard.stream, &WANTED, &unheard.worker.scratch);
    let protocol = match tokio::time::timeout(LAST_WORD, heard).await {
        Ok(Ok(found)) => found.protocol,
        Ok(Err(_)) | Err(_) => Protocol::Other,
    };
    let chain = unheard.chain(&protocol).cloned();
    if protocol.is_http() {
        return tell(unheard, chain.as_deref(), &protocol, absence).await;
    }
    if let Some(NetworkFilter::Tcp(proxy)) = chain.as_deref().map(|chain| &chain.network) {
        let Unheard { worker, peer, original, .. } = &unheard;
        let downstream = unheard.downstream(None, &protocol);
        let dialler = Dialler::new(worker, proxy, *peer, *original);
        TcpRecord::open(&dialler, &downstream, worker.clock.read()).destination_unknown();
    }
    Io::tcp(unheard.stream, unheard.peer).reset();
}

/// Answers its requests.
async fn tell(
    unheard: Unheard,
    chain: Option<&FilterChain>,
    protocol: &Protocol,
    absence: Absence,
) {
    let manager = match chain.map(|chain| &chain.network) {
        Some(NetworkFilter::Http(manager)) => Arc::clone(manager),
        Some(NetworkFilter::Tcp(proxy)) => Arc::new(stand_in(proxy)),
        None => return Io::tcp(unheard.stream, unheard.peer).reset(),
    };
    let downstream = unheard.downstream(None, protocol);
    let Unheard { worker, listener, present, stream, peer, .. } = unheard;
    let mut cx = HttpContext::new(worker, (listener, present), manager, downstream);
    cx.destination_unknown = Some(Box::new(absence));
    Box::pin(http::serve(Rc::new(cx), Io::tcp(stream, peer), *protocol == Protocol::H2)).await;
}

/// A connection manager in the place of a filter that does not speak HTTP.
fn stand_in(proxy: &TcpProxy) -> HttpConnectionManager {
    let mut manager =
        HttpConnectionManager::new(&proxy.stat_prefix, RouteSource::Discovered("unknown".into()));
    manager.server = ServerHeader { when: ServerHeaderWhen::PassThrough, ..manager.server };
    manager.access_log.clone_from(&proxy.access_log);
    manager
}
