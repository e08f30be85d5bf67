//! What makes a process part of a mesh: its discovery session and its agent.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::watch;
use tulle_model::name::ClusterName;
use tulle_model::snapshot::Snapshot;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_runtime::sockets::{LockError, NodeLock};
use tulle_xds::proto::tulle::v1::{Port, Registration};

use crate::agent::{Agent, Condition, hello, registration};
use crate::discovery::saved::SavedState;
use crate::discovery::server::Server;
use crate::discovery::{Discovery, Session, node};
use crate::settings::{ControlAddress, MeshSettings, Role, Settings};

/// The listener of inbound connections (`docs/reference`).
const VIRTUAL_INBOUND: &str = "virtualInbound";

/// What a member of a mesh has beside its xDS client.
#[derive(Debug)]
pub struct Mesh {
    /// The agent.
    pub agent: Agent,
    /// The registered ports that callers connect to: ready is who takes them in.
    pub inbound: Vec<u16>,
}

/// The mesh parts of `settings`, if it has any.
///
/// # Errors
/// The state directory cannot be used.
pub fn mesh(
    settings: &Settings,
    seed: u64,
    condition: watch::Receiver<Condition>,
    drain: DrainHandle,
) -> anyhow::Result<Option<(Discovery, Mesh)>> {
    let (mesh, role) = match settings {
        Settings::Envoy(_) => return Ok(None),
        Settings::Sidecar(sidecar) => (&sidecar.mesh, Role::Sidecar),
        Settings::Gateway(gateway) => (&gateway.mesh, Role::Router),
    };
    let address = own_address(mesh);
    let mut hello = hello(mesh, role, address, seed);
    let node = match settings {
        Settings::Sidecar(sidecar) => {
            let service = sidecar.service.as_ref();
            hello.registration =
                service.map(|service| registration(service, &sidecar.inbound_ports));
            node::sidecar(sidecar, address)
        }
        Settings::Gateway(gateway) => node::gateway(gateway, address),
        Settings::Envoy(_) => return Ok(None),
    };
    let target = mesh.control.target();
    let state = match &mesh.state {
        Some(directory) => Some(
            SavedState::open(directory)
                .with_context(|| format!("--state {}", directory.display()))?,
        ),
        None => None,
    };
    let inbound = hello.registration.as_ref().map(called_ports).unwrap_or_default();
    let discovery = Discovery {
        server: Server::Control(target.clone()),
        node,
        session: Session::on_demand(seed, mesh.forget_after, Instant::now()),
        state,
        unknown: settings.process().unknown_fields(),
    };
    let discovery = discovery.with_drains_of(settings.process().drain_time);
    let agent = Agent::new(target, hello, condition, drain);
    Ok(Some((discovery, Mesh { agent, inbound })))
}

/// Where callers connect to: the mapped port, else the application's own.
fn called_ports(registration: &Registration) -> Vec<u16> {
    let port = |port: &Port| {
        let called = if port.listen_port == 0 { port.app_port } else { port.listen_port };
        u16::try_from(called).ok()
    };
    registration.ports.iter().filter_map(port).collect()
}

/// Whether connections to all of `ports` go to the application. Before its registration is in
/// force a proxy is bound, but takes such a connection for one to itself.
#[must_use]
pub fn takes_in(snapshot: &Snapshot, ports: &[u16]) -> bool {
    let Some(listener) = snapshot.listener(VIRTUAL_INBOUND).present() else {
        return ports.is_empty();
    };
    ports.iter().all(|port| {
        let name = ClusterName::inbound(*port);
        listener.chains.iter().any(|chain| *chain.name == *name.as_str())
    })
}

/// The lock that a second process of this node is refused by: the state directory, else its name.
///
/// # Errors
/// Another process holds it.
pub fn lock(
    settings: &Settings,
    in_mesh: Option<&Discovery>,
) -> Result<Option<NodeLock>, LockError> {
    let state = match settings {
        Settings::Envoy(_) => return Ok(None),
        Settings::Sidecar(sidecar) => &sidecar.mesh.state,
        Settings::Gateway(gateway) => &gateway.mesh.state,
    };
    match (state, in_mesh) {
        (Some(directory), _) => NodeLock::of_directory(directory).map(Some),
        (None, Some(discovery)) => {
            NodeLock::of_name(&format!("tulle-proxy/{}", discovery.node.id)).map(Some)
        }
        (None, None) => Ok(None),
    }
}

/// Where other workloads reach this one: as told, else the address towards the control plane.
fn own_address(mesh: &MeshSettings) -> IpAddr {
    let towards_control = || {
        let ControlAddress::Tcp { host, port } = &mesh.control else { return None };
        let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        // Connecting a datagram socket sends nothing; it only chooses a route.
        socket.connect((host.as_str(), *port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    mesh.address.or_else(towards_control).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tulle_model::listener::{ChainMatch, FilterChain, Listener, NetworkFilter, TcpProxy};
    use tulle_model::resource::Resource;
    use tulle_model::snapshot::Change;

    use super::*;

    fn bound(chains: &[&str]) -> Snapshot {
        let mut listener = Listener::new(VIRTUAL_INBOUND.into());
        let chain = |name: &&str| {
            Arc::new(FilterChain {
                name: (*name).into(),
                matches: ChainMatch::default(),
                tls: None,
                connect_timeout: None,
                network: NetworkFilter::Tcp(Arc::new(TcpProxy::to("a", "a".into()))),
                origin: None,
            })
        };
        listener.chains = chains.iter().map(chain).collect();
        Snapshot::new(true).with([Change::Put(Resource::Listener(Arc::new(listener)), Vec::new())])
    }

    #[test]
    fn a_proxy_takes_in_what_it_registered_once_that_is_in_force() {
        assert!(!takes_in(&Snapshot::new(true), &[18080]), "nothing is bound");
        assert!(!takes_in(&bound(&["own port 18080"]), &[18080]), "not registered yet");
        assert!(takes_in(&bound(&["inbound|18080||"]), &[18080]));
        assert!(!takes_in(&bound(&["inbound|18080||"]), &[18080, 18081]));
        assert!(takes_in(&bound(&[]), &[]), "nothing was registered");
    }
}
