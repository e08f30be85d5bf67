//! `Gateway`: ports that selected gateway proxies open, and the hosts they take there.

use std::collections::BTreeSet;

use super::values::{HostPattern, Labels, Protocol, labels};
use crate::diagnostic::Code;
use crate::reader::{Field, Fields, Wrong};

/// Servers for the gateway proxies a selector names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Labels of the proxies; empty selects every gateway proxy.
    pub selector: Labels,
    /// What they open.
    pub servers: Vec<Server>,
}

/// One port a gateway opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Port number.
    pub port: u16,
    /// Name of the port.
    pub port_name: String,
    /// What travels over it; HTTP in this release.
    pub protocol: Protocol,
    /// Hosts taken there.
    pub hosts: Vec<ServerHost>,
}

/// Hosts a server takes, from virtual services of some namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHost {
    /// Namespace of the virtual services; `None` is any, `.` is already resolved to `Own`.
    pub namespace: HostScope,
    /// The hosts.
    pub host: HostPattern,
}

/// Whose virtual services may bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostScope {
    /// Any namespace's.
    Any,
    /// Those of the Gateway's own namespace.
    Own,
    /// Those of one namespace.
    Named(String),
}

impl ServerHost {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let (namespace, host) = match text.split_once('/') {
            None | Some(("*", _)) => {
                (HostScope::Any, text.split_once('/').map_or(text, |(_, host)| host))
            }
            Some((".", host)) => (HostScope::Own, host),
            Some((namespace, host)) => {
                super::values::HostName::parse(namespace)?;
                (HostScope::Named(namespace.to_owned()), host)
            }
        };
        Ok(ServerHost { namespace, host: HostPattern::parse(host)? })
    }

    /// Whether a virtual service of `namespace` may bind here, for a Gateway of `own`.
    pub fn admits(&self, own: &str, namespace: &str) -> bool {
        match &self.namespace {
            HostScope::Any => true,
            HostScope::Own => own == namespace,
            HostScope::Named(name) => name == namespace,
        }
    }
}

/// Reads the spec of a `Gateway`.
pub(super) fn read(spec: &Field<'_>) -> Option<Gateway> {
    let fields = spec.fields("Gateway")?;
    let gateway = Gateway { selector: labels(&fields, "selector"), servers: servers(&fields) };
    fields.finish(&[]);
    Some(gateway)
}

fn servers(fields: &Fields<'_>) -> Vec<Server> {
    let items = fields.items("servers");
    if items.is_empty() {
        fields.missing("servers");
    }
    let mut names = BTreeSet::new();
    let mut servers = Vec::new();
    for item in &items {
        let Some(server) = server(item) else { continue };
        if !names.insert(server.port_name.clone()) {
            let message = format!("the port name {:?} is used twice", server.port_name);
            item.problem(Code::DuplicateValue, message, "give each server's port its own name");
        }
        servers.push(server);
    }
    servers
}

fn server(item: &Field<'_>) -> Option<Server> {
    let fields = item.fields("Server")?;
    let port = fields.required("port").and_then(|field| port(&field));
    let hosts = fields.items("hosts");
    if hosts.is_empty() {
        fields.missing("hosts");
    }
    let hosts =
        hosts.iter().filter_map(|host| host.parsed(Code::InvalidHost, ServerHost::parse)).collect();
    fields.text("name");
    fields.finish(&["tls", "bind", "defaultEndpoint"]);
    let (number, port_name, protocol) = port?;
    Some(Server { port: number, port_name, protocol, hosts })
}

fn port(field: &Field<'_>) -> Option<(u16, String, Protocol)> {
    let fields = field.fields("Port")?;
    let number = fields.required("number").and_then(|field| field.port());
    let name = fields.required("name").and_then(|field| field.nonempty());
    let protocol = fields.required("protocol").and_then(|field| protocol(&field));
    fields.finish(&["targetPort"]);
    Some((number?, name?, protocol?))
}

fn protocol(field: &Field<'_>) -> Option<Protocol> {
    let protocol = field.parsed(Code::UnknownValue, Protocol::parse)?;
    if !protocol.is_http() {
        let message = "only HTTP, HTTP2 and GRPC servers are enforced by this release";
        field.problem(Code::NotEnforcedValue, message, "write HTTP");
        return None;
    }
    Some(protocol)
}
