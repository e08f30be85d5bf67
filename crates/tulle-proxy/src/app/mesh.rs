//! What makes a process part of a mesh: its discovery session and its agent.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use anyhow::Context as _;
use tokio::sync::watch;
use tulle_runtime::drain::driver::DrainHandle;
use tulle_runtime::sockets::{LockError, NodeLock};

use crate::agent::{Agent, Condition, hello, registration};
use crate::discovery::saved::SavedState;
use crate::discovery::session::Session;
use crate::discovery::transport::Target;
use crate::discovery::{Discovery, node};
use crate::settings::{ControlAddress, MeshSettings, Role, Settings};

/// The parts of a process that talk to the control plane.
#[derive(Debug)]
pub struct Mesh {
    /// The xDS client.
    pub discovery: Discovery,
    /// The agent.
    pub agent: Agent,
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
) -> anyhow::Result<Option<Mesh>> {
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
    let target = Target(mesh.control.clone());
    let session = Session::on_demand(seed, Instant::now());
    let state = match &mesh.state {
        Some(directory) => Some(
            SavedState::open(directory)
                .with_context(|| format!("--state {}", directory.display()))?,
        ),
        None => None,
    };
    let discovery = Discovery { target: target.clone(), node, session, state };
    Ok(Some(Mesh { discovery, agent: Agent::new(target, hello, condition, drain) }))
}

/// The lock that a second process of this node is refused by: the state directory, else its name.
///
/// # Errors
/// Another process holds it.
pub fn lock(settings: &Settings, mesh: Option<&Mesh>) -> Result<Option<NodeLock>, LockError> {
    let state = match settings {
        Settings::Envoy(_) => return Ok(None),
        Settings::Sidecar(sidecar) => &sidecar.mesh.state,
        Settings::Gateway(gateway) => &gateway.mesh.state,
    };
    match (state, mesh) {
        (Some(directory), _) => NodeLock::of_directory(directory).map(Some),
        (None, Some(mesh)) => {
            NodeLock::of_name(&format!("tulle-proxy/{}", mesh.discovery.node.id)).map(Some)
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
