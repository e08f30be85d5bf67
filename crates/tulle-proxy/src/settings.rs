//! What the command line says, read once before anything else and handed down as a value.
//!
//! The story of a process begins here: `main` parses [`Settings`], `app` builds everything from
//! them. Nothing else reads arguments or the environment. Flags without a subcommand are those of
//! `envoy`, so that the binary can be put in its place.

mod arguments;
mod network;
mod workload;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use network::{ControlAddress, InboundPort};
pub use workload::{Labels, ServicePort, ServiceRegistration, WorkloadName};

use tulle_runtime::drain::Strategy;
use tulle_runtime::logging;
use tulle_xds::fields::UnknownFields;

/// Most workers; beyond the cores of any machine this is an error of the caller.
pub const MAX_WORKERS: usize = 1024;

/// A command line that cannot be used: what is wrong and the usage, or the text of `--help`.
///
/// `print` writes it to the right stream; `exit_code` is 2 for bad use and 0 for help.
pub type UsageError = clap::Error;

/// Everything a process was told, by what it is going to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Settings {
    /// `tulle-proxy -c envoy.yaml`: configured by an Envoy bootstrap.
    Envoy(EnvoySettings),
    /// `tulle-proxy sidecar`: beside one workload.
    Sidecar(SidecarSettings),
    /// `tulle-proxy gateway`: at an edge of the mesh.
    Gateway(GatewaySettings),
}

impl Settings {
    /// Reads a command line, program name first.
    ///
    /// # Errors
    /// What cannot be used and how to write it, or the text that `--help` asked for.
    pub fn parse<I, T>(command_line: I) -> Result<Self, UsageError>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        arguments::parse(command_line)
    }

    /// The settings that every kind of process has.
    #[must_use]
    pub fn process(&self) -> &ProcessSettings {
        match self {
            Self::Envoy(envoy) => &envoy.process,
            Self::Sidecar(sidecar) => &sidecar.process,
            Self::Gateway(gateway) => &gateway.process,
        }
    }

    /// Flags that were given and have no effect in this release, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let process = self.process();
        let unused = [
            ("--base-id", process.base_id.is_some()),
            ("--parent-shutdown-time-s", process.parent_shutdown_time.is_some()),
        ];
        let given = unused.iter().filter(|(_, given)| *given);
        given
            .map(|(flag, _)| {
                format!("{flag} has no effect: processes are not replaced in place yet")
            })
            .collect()
    }
}

/// What every kind of process is told.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSettings {
    /// Worker threads.
    pub concurrency: NonZeroUsize,
    /// How much is logged to stderr.
    pub log_level: logging::Level,
    /// How a line of the log looks.
    pub log_format: logging::Format,
    /// How a line of the access log looks where the configuration does not say.
    pub access_log_format: AccessLogFormat,
    /// Longest time that draining may take.
    pub drain_time: Duration,
    /// How connections are told to go away while draining.
    pub drain_strategy: Strategy,
    /// A dynamic resource with a field that is not known is refused, not warned about.
    pub reject_unknown_dynamic_fields: bool,
    /// Number of this process among those on one machine; has no effect yet.
    pub base_id: Option<u32>,
    /// When an older process is ended; has no effect yet.
    pub parent_shutdown_time: Option<Duration>,
    /// `POST /quitquitquit` is served.
    pub admin_may_shut_down: bool,
    /// The admin server's real address is written to this file.
    pub admin_address_path: Option<PathBuf>,
    /// The words of the command line, for `/server_info`.
    pub command_line: Vec<String>,
}

impl ProcessSettings {
    /// What becomes of dynamic resources with fields that are not known.
    #[must_use]
    pub fn unknown_fields(&self) -> UnknownFields {
        match self.reject_unknown_dynamic_fields {
            true => UnknownFields::Refuse,
            false => UnknownFields::Warn,
        }
    }
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Envoy's default text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings of a process that takes Envoy's place.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvoySettings {
    /// What every process is told.
    pub process: ProcessSettings,
    /// Where the bootstrap stands.
    pub bootstrap: BootstrapSource,
    /// Serve, or only look at the bootstrap.
    pub mode: Mode,
    /// Overrides `node.id` of the bootstrap.
    pub service_node: Option<String>,
    /// Overrides `node.cluster` of the bootstrap.
    pub service_cluster: Option<String>,
    /// Overrides `node.locality.zone` of the bootstrap.
    pub service_zone: Option<String>,
}

/// Where a bootstrap stands; of both, the text is merged over the file. One is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapSource {
    /// `-c FILE`.
    pub path: Option<PathBuf>,
    /// `--config-yaml TEXT`.
    pub yaml: Option<String>,
}

/// What is done with a bootstrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Serve traffic.
    #[default]
    Serve,
    /// Say what is wrong with it and exit: 0 for nothing, 1 for something.
    Validate,
}

/// What makes a process part of a mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshSettings {
    /// Where the control plane is.
    pub control: ControlAddress,
    /// Which workload this is.
    pub workload: WorkloadName,
    /// Its labels.
    pub labels: Labels,
    /// Its service account.
    pub service_account: String,
    /// Where other workloads reach it; found out from the route to the control plane if missing.
    pub address: Option<IpAddr>,
    /// Its DNS domain, the last part of the node id.
    pub domain: String,
    /// The mesh's name for the place it runs in (`CLUSTER_ID`).
    pub cluster_id: String,
    /// Where last-good configuration is kept; also locked against a second process.
    pub state: Option<PathBuf>,
    /// A destination that nobody used for so long is forgotten.
    pub forget_after: Duration,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Where metrics are served beside the admin server.
    pub metrics: Option<SocketAddr>,
}

impl MeshSettings {
    /// The xDS node id, in Istio's form: `<role>~<ip>~<name>.<namespace>~<domain>`.
    #[must_use]
    pub fn node_id(&self, role: Role, address: IpAddr) -> String {
        let WorkloadName { namespace, name } = &self.workload;
        format!("{}~{address}~{name}.{namespace}~{}", role.as_str(), self.domain)
    }
}

/// What a proxy is to the control plane: the first part of its node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Beside one workload.
    Sidecar,
    /// A gateway.
    Router,
}

impl Role {
    /// Its spelling in a node id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
        }
    }
}

/// Settings of a process beside one workload.
#[derive(Clone, Debug, PartialEq)]
pub struct SidecarSettings {
    /// What every process is told.
    pub process: ProcessSettings,
    /// Its place in the mesh.
    pub mesh: MeshSettings,
    /// What the workload offers, if it registers itself.
    pub service: Option<ServiceRegistration>,
    /// How outbound traffic comes.
    pub outbound: Outbound,
    /// Where redirected inbound traffic comes in; empty where [`inbound_ports`] replace it.
    ///
    /// [`inbound_ports`]: Self::inbound_ports
    pub inbound: Vec<SocketAddr>,
    /// Inbound ports that callers are sent to without redirection.
    pub inbound_ports: Vec<InboundPort>,
}

impl SidecarSettings {
    /// Where inbound traffic comes in: the mapped ports, if there are any.
    #[must_use]
    pub fn inbound_addresses(&self) -> Vec<SocketAddr> {
        match &*self.inbound_ports {
            [] => self.inbound.clone(),
            mapped => mapped.iter().map(|port| port.listen).collect(),
        }
    }
}

/// How a workload's outbound traffic comes to its sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// Redirected by the kernel to these addresses; the original destination counts.
    Transparent(Vec<SocketAddr>),
    /// Sent by the application itself to these loopback addresses, as HTTP with the authority of
    /// the service or as to an HTTP proxy.
    Explicit(Vec<SocketAddr>),
}

impl Outbound {
    /// The addresses to bind.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Transparent(addresses) | Self::Explicit(addresses) => addresses,
        }
    }
}

/// Settings of a process at an edge of the mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySettings {
    /// What every process is told.
    pub process: ProcessSettings,
    /// Its place in the mesh.
    pub mesh: MeshSettings,
}

#[cfg(test)]
mod tests;
