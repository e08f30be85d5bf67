//! The node: who a proxy says it is, in Istio's form, on the first message of its xDS stream.
//!
//! `node.id` is `sidecar~<ip>~<name>.<namespace>~<domain>` or `router~…`; `node.metadata` has
//! `NAMESPACE`, `NAME`, `LABELS`, `SERVICE_ACCOUNT`, `CLUSTER_ID`. Our proxies add
//! `TULLE_ON_DEMAND: true` and `TULLE_BIND`, which says what they want to listen on:
//!
//! ```yaml
//! TULLE_BIND:
//!   outbound: ["127.0.0.1:15001"]          # where outbound traffic is taken
//!   explicit: true                         # by authority instead of original destination
//!   inbound: ["0.0.0.0:15006"]             # where redirected inbound traffic is taken
//!   inboundPorts: [{listen: "0.0.0.0:18080", app: 8080}]  # inbound without redirection
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use prost_types::Struct;
use prost_types::value::Kind;
use tulle_xds::proto::envoy::config::core::v3 as core;

/// Most labels that are read.
const MAX_LABELS: usize = 256;
/// Most addresses or ports of one kind that are read.
const MAX_BINDS: usize = 64;
/// Longest node id, in bytes.
const MAX_ID_BYTES: usize = 1024;

/// What a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Beside one workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// One proxy, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// What it is.
    pub role: Role,
    /// Where others reach its workload.
    pub address: IpAddr,
    /// Name of the workload.
    pub name: String,
    /// Namespace of the workload.
    pub namespace: String,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// Service account of the workload.
    pub service_account: String,
    /// Where it runs.
    pub cluster_id: String,
    /// Whether it asks for names when it needs them, instead of everything at once.
    pub on_demand: bool,
    /// What it wants to listen on.
    pub bind: Bind,
    /// Which software it is.
    pub software: String,
}

/// What a proxy wants to listen on; empty for what it leaves to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind {
    /// Where outbound traffic is taken.
    pub outbound: Vec<SocketAddr>,
    /// Outbound traffic names its destination by authority.
    pub explicit: bool,
    /// Where redirected inbound traffic is taken.
    pub inbound: Vec<SocketAddr>,
    /// Inbound ports without redirection: where callers connect, and the application's port.
    pub inbound_ports: Vec<(SocketAddr, u16)>,
}

/// Why a node cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The first message has no node.
    #[error("the first request of a stream has no node")]
    Missing,
    /// The id has another form.
    #[error(
        "node.id {0:?} is not <sidecar|router>~<ip>~<name>.<namespace>~<domain>; \
         set it with --service-node"
    )]
    Id(String),
    /// A value that we read has another form.
    #[error("node.metadata.{field} is not {expected}")]
    Metadata {
        /// Which.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
}

impl Node {
    /// Reads a node.
    ///
    /// # Errors
    /// It cannot be told which workload this is, or what it wants.
    pub fn read(node: Option<&core::Node>) -> Result<Self, NodeError> {
        let node = node.ok_or(NodeError::Missing)?;
        let malformed = || NodeError::Id(node.id.chars().take(200).collect());
        let id = Id::parse(&node.id).ok_or_else(malformed)?;
        let none = Struct::default();
        let metadata = Metadata { at: "", of: node.metadata.as_ref().unwrap_or(&none) };
        Ok(Self {
            id: node.id.clone(),
            role: id.role,
            address: id.address,
            name: metadata.text("NAME")?.unwrap_or(id.name).to_owned(),
            namespace: metadata.text("NAMESPACE")?.unwrap_or(id.namespace).to_owned(),
            labels: metadata.labels()?,
            service_account: metadata.text("SERVICE_ACCOUNT")?.unwrap_or_default().to_owned(),
            cluster_id: metadata.text("CLUSTER_ID")?.unwrap_or_default().to_owned(),
            on_demand: metadata.flag("TULLE_ON_DEMAND")?,
            bind: metadata.bind()?,
            software: software(node),
        })
    }
}

fn software(node: &core::Node) -> String {
    let version = match &node.user_agent_version_type {
        Some(core::node::UserAgentVersionType::UserAgentVersion(version)) => version.as_str(),
        _ => "",
    };
    format!("{} {version}", node.user_agent_name).trim().chars().take(200).collect()
}

struct Id<'a> {
    role: Role,
    address: IpAddr,
    name: &'a str,
    namespace: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Self> {
        let mut parts = id.split('~');
        let role = match parts.next()? {
            "sidecar" => Role::Sidecar,
            "router" => Role::Router,
            _ => return None,
        };
        let address = parts.next()?.parse().ok()?;
        let (name, namespace) = parts.next()?.rsplit_once('.')?;
        let _domain = parts.next()?;
        let whole = parts.next().is_none() && !name.is_empty() && !namespace.is_empty();
        (whole && id.len() <= MAX_ID_BYTES).then_some(Self { role, address, name, namespace })
    }
}

/// A map of metadata and where it stands.
#[derive(Clone, Copy)]
struct Metadata<'a> {
    at: &'a str,
    of: &'a Struct,
}

impl<'a> Metadata<'a> {
    fn wrong(self, field: &str, expected: &'static str) -> NodeError {
        NodeError::Metadata { field: format!("{}{field}", self.at), expected }
    }

    fn value(self, field: &str) -> Option<&'a Kind> {
        match self.of.fields.get(field)?.kind.as_ref()? {
            Kind::NullValue(_) => None,
            kind => Some(kind),
        }
    }

    fn text(self, field: &str) -> Result<Option<&'a str>, NodeError> {
        match self.value(field) {
            None => Ok(None),
            Some(Kind::StringValue(text)) if text.len() <= MAX_ID_BYTES => Ok(Some(text)),
            Some(_) => Err(self.wrong(field, "a text")),
        }
    }

    fn flag(self, field: &str) -> Result<bool, NodeError> {
        match self.value(field) {
            None => Ok(false),
            Some(Kind::BoolValue(flag)) => Ok(*flag),
            Some(Kind::StringValue(text)) if text == "true" || text == "false" => {
                Ok(text == "true")
            }
            Some(_) => Err(self.wrong(field, "true or false")),
        }
    }

    fn map(self, field: &str) -> Result<Option<&'a Struct>, NodeError> {
        match self.value(field) {
            None => Ok(None),
            Some(Kind::StructValue(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(field, "a map")),
        }
    }

    fn list(self, field: &str) -> Result<Vec<&'a Kind>, NodeError> {
        let items = match self.value(field) {
            None => return Ok(Vec::new()),
            Some(Kind::ListValue(list)) => &list.values,
            Some(_) => return Err(self.wrong(field, "a list")),
        };
        if items.len() > MAX_BINDS {
            return Err(self.wrong(field, "a list of at most 64"));
        }
        Ok(items.iter().filter_map(|item| item.kind.as_ref()).collect())
    }

    fn labels(self) -> Result<BTreeMap<String, String>, NodeError> {
        let Some(map) = self.map("LABELS")? else { return Ok(BTreeMap::new()) };
        let wrong = || self.wrong("LABELS", "a map of at most 256 texts");
        if map.fields.len() > MAX_LABELS {
            return Err(wrong());
        }
        let label = |(key, value): (&String, &prost_types::Value)| match &value.kind {
            Some(Kind::StringValue(text)) => Ok((key.clone(), text.clone())),
            _ => Err(wrong()),
        };
        map.fields.iter().map(label).collect()
    }

    fn bind(self) -> Result<Bind, NodeError> {
        let Some(map) = self.map("TULLE_BIND")? else { return Ok(Bind::default()) };
        let bind = Metadata { at: "TULLE_BIND.", of: map };
        Ok(Bind {
            outbound: bind.addresses("outbound")?,
            explicit: bind.flag("explicit")?,
            inbound: bind.addresses("inbound")?,
            inbound_ports: bind.inbound_ports()?,
        })
    }

    fn addresses(self, field: &str) -> Result<Vec<SocketAddr>, NodeError> {
        let address = |kind: &Kind| match kind {
            Kind::StringValue(text) => text.parse().ok(),
            _ => None,
        };
        let addresses = self.list(field)?.into_iter().map(address).collect::<Option<_>>();
        addresses.ok_or_else(|| self.wrong(field, "a list of ADDRESS:PORT"))
    }

    fn inbound_ports(self) -> Result<Vec<(SocketAddr, u16)>, NodeError> {
        let field = "inboundPorts";
        let port = |kind: &Kind| {
            let Kind::StructValue(map) = kind else { return None };
            let map = Metadata { at: self.at, of: map };
            let listen = map.text("listen").ok()??.parse().ok()?;
            let Some(Kind::NumberValue(app)) = map.value("app") else { return None };
            let whole = app.fract() == 0.0 && (1.0..=65535.0).contains(app);
            // The range was just checked.
            whole.then_some((listen, *app as u16))
        };
        let ports = self.list(field)?.into_iter().map(port).collect::<Option<_>>();
        ports.ok_or_else(|| self.wrong(field, "a list of {listen: ADDRESS:PORT, app: PORT}"))
    }
}

#[cfg(test)]
mod tests;
