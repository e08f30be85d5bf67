//! The doors for operators: the admin server and the one for metrics, bound at the start, served
//! on the control thread.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tulle_model::address::EndpointAddress;
use tulle_runtime::admin::{Api, HostPolicy, serve};
use tulle_runtime::telemetry::Registry;
use tulle_xds::decode::Bootstrap;
use tulle_xds::proto::Any;
use tulle_xds::proto::envoy::config::core::v3 as core;

use crate::admin::{Admin, Controls, Metrics};
use crate::app::inside::Interior;
use crate::settings::Settings;

/// Type of a node.
const NODE: &str = "type.googleapis.com/envoy.config.core.v3.Node";

/// What operators reach.
#[derive(Debug)]
pub struct Operators {
    admin: Option<TcpListener>,
    metrics: Option<TcpListener>,
    /// Answers.
    pub api: Rc<Admin>,
    inside: Rc<Interior>,
    registry: Registry,
    shutdown: Arc<Notify>,
}

impl Operators {
    /// Binds what the settings and the bootstrap ask for.
    ///
    /// # Errors
    /// An address that is not to be had, or a file that cannot be written.
    pub fn bind(
        controls: Controls,
        inside: Rc<Interior>,
        bootstrap: Option<&Bootstrap>,
    ) -> anyhow::Result<Self> {
        let (admin, metrics) = addresses(&controls.settings, bootstrap)?;
        let admin = admin.map(|address| listen("the admin server", address)).transpose()?;
        let metrics = metrics.map(|address| listen("--metrics", address)).transpose()?;
        if let (Some(path), Some(admin)) = (&controls.settings.process().admin_address_path, &admin)
        {
            write_address(path, admin.local_addr()?)
                .with_context(|| format!("--admin-address-path {}", path.display()))?;
        }
        let (registry, shutdown) = (controls.registry.clone(), Arc::clone(&controls.shutdown));
        let api = Rc::new(Admin::new(controls, Rc::clone(&inside) as _));
        Ok(Self { admin, metrics, api, inside, registry, shutdown })
    }

    /// Where the admin server listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.local_addr().ok()
    }

    /// What `/quitquitquit` rings.
    #[must_use]
    pub fn shutdown(&self) -> Arc<Notify> {
        Arc::clone(&self.shutdown)
    }

    /// Where counters are registered.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// Answers; never comes back.
    pub async fn serve(self) {
        let metrics = Metrics { registry: self.registry, inside: self.inside };
        tokio::join!(
            answer(self.admin, HostPolicy::Own, self.api),
            answer(self.metrics, HostPolicy::Any, Rc::new(metrics)),
        );
    }
}

async fn answer<A: Api>(listener: Option<TcpListener>, hosts: HostPolicy, api: Rc<A>) {
    if let Some(listener) = listener {
        let Err(error) = serve(listener, hosts, api).await;
        tracing::error!(%error, "a server for operators broke");
    }
    std::future::pending().await
}

type Addresses = (Option<SocketAddr>, Option<SocketAddr>);

/// Of the admin server and of the one for metrics.
fn addresses(settings: &Settings, bootstrap: Option<&Bootstrap>) -> anyhow::Result<Addresses> {
    let mesh = match settings {
        Settings::Envoy(_) => {
            let admin = bootstrap.and_then(|bootstrap| bootstrap.admin.as_ref());
            return match admin.map(|admin| &admin.address) {
                None => Ok((None, None)),
                Some(EndpointAddress::Socket(address)) => Ok((Some(*address), None)),
                Some(other) => {
                    anyhow::bail!("admin.address: {other} is not an IP address and port")
                }
            };
        }
        Settings::Sidecar(sidecar) => &sidecar.mesh,
        Settings::Gateway(gateway) => &gateway.mesh,
    };
    Ok((Some(mesh.admin), mesh.metrics))
}

fn listen(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = || -> io::Result<TcpListener> {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(128)
    };
    bound().with_context(|| format!("{what} cannot listen on {address}; choose another address"))
}

/// Whole or not at all: whoever waits for the file reads a complete address.
fn write_address(path: &Path, address: SocketAddr) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    std::fs::write(&fresh, address.to_string())?;
    std::fs::rename(&fresh, path)
}

/// The xDS node of this proxy, packed.
#[must_use]
pub fn packed(node: &core::Node) -> Any {
    Any { type_url: NODE.to_owned(), value: node.encode_to_vec().into() }
}
