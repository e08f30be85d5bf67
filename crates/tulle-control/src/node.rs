//! The node: who a proxy says it is, in Istio's form, on the first message of its xDS stream.
//!
//! `node.id` is `sidecar~<ip>~<name>.<namespace>~<domain>` or `router~…`; `node.metadata` has
//! `NAMESPACE`, `NAME`, `LABELS`, `SERVICE_ACCOUNT`, `CLUSTER_ID`, `INSTANCE_IPS`. Our proxies add
//! `TULLE_ON_DEMAND: true` and `TULLE_BIND`, which says what they want to listen on and is read as
//! [`Bind`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost_types::Struct;
use prost_types::value::Kind;
use tulle_config::client::{Assembly, Bind, Client, Role};
use tulle_xds::proto::envoy::config::core::v3 as core;

/// Most labels that are read.
const MAX_LABELS: usize = 256;
/// Deepest nesting of metadata that is read.
const MAX_DEPTH: usize = 8;
/// Most values of `TULLE_BIND`.
const MAX_BIND_VALUES: usize = 1024;
/// Longest node id, in bytes.
const MAX_ID_BYTES: usize = 1024;

/// One proxy, as it introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// As whom it looks at the world.
    pub client: Client,
    /// Service account of the workload.
    pub service_account: String,
    /// Where it runs.
    pub cluster_id: String,
    /// Which software it is.
    pub software: String,
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
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// What a proxy wants to listen on has another form.
    #[error("node.metadata.TULLE_BIND: {0}")]
    Bind(String),
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
        let metadata = Metadata(node.metadata.as_ref().unwrap_or(&none));
        let on_demand = metadata.flag("TULLE_ON_DEMAND")?;
        let client = Client {
            role: id.role,
            assembly: if on_demand { Assembly::Tulle } else { Assembly::Envoy },
            namespace: metadata.text("NAMESPACE")?.unwrap_or(id.namespace).into(),
            name: metadata.text("NAME")?.unwrap_or(id.name).into(),
            labels: metadata.labels()?,
            addresses: metadata.addresses(id.address)?,
            bind: metadata.bind()?,
        };
        Ok(Self {
            id: node.id.clone(),
            client,
            service_account: metadata.text("SERVICE_ACCOUNT")?.unwrap_or_default().to_owned(),
            cluster_id: metadata.text("CLUSTER_ID")?.unwrap_or_default().to_owned(),
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
            "router" => Role::Gateway,
            _ => return None,
        };
        let address = parts.next()?.parse().ok()?;
        let (name, namespace) = parts.next()?.rsplit_once('.')?;
        let _domain = parts.next()?;
        let whole = parts.next().is_none() && !name.is_empty() && !namespace.is_empty();
        (whole && id.len() <= MAX_ID_BYTES).then_some(Self { role, address, name, namespace })
    }
}

/// `node.metadata`.
#[derive(Clone, Copy)]
struct Metadata<'a>(&'a Struct);

impl<'a> Metadata<'a> {
    fn value(self, field: &str) -> Option<&'a Kind> {
        match self.0.fields.get(field)?.kind.as_ref()? {
            Kind::NullValue(_) => None,
            kind => Some(kind),
        }
    }

    fn text(self, field: &'static str) -> Result<Option<&'a str>, NodeError> {
        match self.value(field) {
            None => Ok(None),
            Some(Kind::StringValue(text)) if text.len() <= MAX_ID_BYTES => Ok(Some(text)),
            Some(_) => Err(NodeError::Metadata { field, expected: "a text" }),
        }
    }

    fn flag(self, field: &'static str) -> Result<bool, NodeError> {
        match self.value(field) {
            None => Ok(false),
            Some(Kind::BoolValue(flag)) => Ok(*flag),
            Some(Kind::StringValue(text)) if text == "true" || text == "false" => {
                Ok(text == "true")
            }
            Some(_) => Err(NodeError::Metadata { field, expected: "true or false" }),
        }
    }

    fn labels(self) -> Result<BTreeMap<String, String>, NodeError> {
        let wrong = NodeError::Metadata { field: "LABELS", expected: "a map of at most 256 texts" };
        let map = match self.value("LABELS") {
            None => return Ok(BTreeMap::new()),
            Some(Kind::StructValue(map)) if map.fields.len() <= MAX_LABELS => map,
            Some(_) => return Err(wrong),
        };
        let label = |(key, value): (&String, &prost_types::Value)| match &value.kind {
            Some(Kind::StringValue(text)) => Some((key.clone(), text.clone())),
            _ => None,
        };
        map.fields.iter().map(label).collect::<Option<_>>().ok_or(wrong)
    }

    /// `INSTANCE_IPS` as Istio's sidecars send it, else the address of the node id.
    fn addresses(self, own: IpAddr) -> Result<Vec<IpAddr>, NodeError> {
        let Some(text) = self.text("INSTANCE_IPS")? else { return Ok(vec![own]) };
        let addresses: Option<_> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        let expected = "a list of IP addresses, separated by commas";
        addresses.ok_or(NodeError::Metadata { field: "INSTANCE_IPS", expected })
    }

    fn bind(self) -> Result<Bind, NodeError> {
        let Some(kind) = self.value("TULLE_BIND") else { return Ok(Bind::default()) };
        let mut left = MAX_BIND_VALUES;
        let json = json(kind, MAX_DEPTH, &mut left)
            .ok_or_else(|| NodeError::Bind("too large or too deeply nested".to_owned()))?;
        serde_json::from_value(json).map_err(|error| NodeError::Bind(error.to_string()))
    }
}

/// The JSON of a value, whole numbers as such; `None` beyond the limits.
fn json(kind: &Kind, depth: usize, left: &mut usize) -> Option<serde_json::Value> {
    use serde_json::Value;
    *left = left.checked_sub(1)?;
    let depth = depth.checked_sub(1)?;
    let mut inner = |value: &prost_types::Value| match &value.kind {
        Some(kind) => json(kind, depth, left),
        None => Some(Value::Null),
    };
    Some(match kind {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(flag) => Value::Bool(*flag),
        Kind::NumberValue(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            // The value is whole and far inside the range.
            Value::from(*number as i64)
        }
        Kind::NumberValue(number) => Value::from(*number),
        Kind::StringValue(text) => Value::from(text.as_str()),
        Kind::ListValue(list) => {
            Value::Array(list.values.iter().map(inner).collect::<Option<_>>()?)
        }
        Kind::StructValue(map) => {
            let field = |(key, value): (&String, _)| Some((key.clone(), inner(value)?));
            Value::Object(map.fields.iter().map(field).collect::<Option<_>>()?)
        }
    })
}

#[cfg(test)]
mod tests;
