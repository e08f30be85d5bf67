//! Everything on 127.0.0.1: an application sends its calls to its sidecar, which looks only at
//! their authority (explicit mode). Needs no rights.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::Result;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};

use super::{Launch, Plot, Wanted};

/// Addresses on loopback.
#[derive(Debug)]
pub struct Loopback {
    /// Where the control plane serves xDS.
    pub(super) xds: SocketAddr,
    /// Where it is asked.
    pub(super) admin: SocketAddr,
    /// Where the gateway listens.
    pub(super) entry: SocketAddr,
    reserved: Vec<OwnedFd>,
}

impl Loopback {
    pub(super) fn new() -> Result<Self> {
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut new = Self { xds: nowhere, admin: nowhere, entry: nowhere, reserved: Vec::new() };
        (new.xds, new.admin, new.entry) = (new.port()?, new.port()?, new.port()?);
        Ok(new)
    }

    /// A port that only those can use who are told of it: a socket of ours that never listens
    /// holds it, so that neither an outgoing connection nor a second demonstration takes it.
    pub(super) fn port(&mut self) -> Result<SocketAddr> {
        let holder = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&holder, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        // Set only now: the kernel was to choose a port that nobody holds.
        sockopt::set_socket_reuseaddr(&holder, true)?;
        let address = SocketAddr::try_from(getsockname(&holder)?)?;
        self.reserved.push(holder);
        Ok(address)
    }

    pub(super) fn plot(&mut self, wanted: Wanted<'_>, directory: &Path) -> Result<Plot> {
        let (app_at, outbound) = (self.port()?, self.port()?.to_string());
        let (entry, admin) = (self.port()?, self.port()?.to_string());
        let Wanted { service, version, name } = wanted;
        let listen = app_at.to_string();
        let mut app = Launch::beside("tulle", &["demo-app", "--listen", &listen, "--log"])?;
        app = app.with(&["--name", service.host, "--version", version, "--instance", name]);
        app = app.with(&["--via", &outbound]);
        for url in service.calls {
            app = app.with(&["--call", url]);
        }
        let xds = self.xds.to_string();
        let mut sidecar = Launch::beside("tulle-proxy", &["sidecar", "--control", &xds])?;
        sidecar.arguments.extend(wanted.workload(directory));
        let inbound = format!("{entry}:{}", app_at.port());
        let port = format!("http:{}:{}", service.port, app_at.port());
        sidecar = sidecar.with(&["--explicit", "--outbound", &outbound]);
        sidecar = sidecar.with(&["--inbound-port", &inbound, "--admin", &admin]);
        sidecar = sidecar.with(&["--service", service.host, "--port", &port]);
        Ok(Plot { namespace: None, app, sidecar, app_at, entry })
    }
}
