//! What is said about one proxy, as the admin API shows it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use tulle_config::client::{Assembly, Role};

use super::{StreamEntry, Variant};

/// One connected proxy.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// Node id.
    pub id: String,
    /// Namespace of its workload.
    pub namespace: String,
    /// Name of its workload.
    pub name: String,
    /// What it is; unknown while only its agent stream is open.
    pub role: Option<&'static str>,
    /// Whether it asks for names when it needs them.
    pub on_demand: bool,
    /// Which software it is.
    pub software: String,
    /// Its xDS streams; one, unless it just reconnected.
    pub streams: Vec<StreamReport>,
    /// Its agent stream, if it has one.
    pub agent: Option<AgentReport>,
}

/// One xDS stream.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamReport {
    /// Which variant of the protocol.
    pub variant: Variant,
    /// Since when, in seconds of the UNIX clock.
    pub since: u64,
    /// The client holds everything of this world that it asked for.
    pub synced_generation: u64,
    /// How each type stands to which something was sent.
    pub types: BTreeMap<String, TypeReport>,
}

/// One type of one stream.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeReport {
    /// Responses sent.
    pub responses: u64,
    /// World that the last response was computed from.
    pub sent_generation: u64,
    /// When that was, in seconds of the UNIX clock.
    #[serde(serialize_with = "seconds")]
    pub sent: Option<SystemTime>,
    /// World of the last response that was accepted.
    pub acked_generation: u64,
    /// Responses refused.
    pub nacks: u64,
    /// Why the last answered response was refused.
    pub error: Option<String>,
}

/// What an agent said.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentReport {
    /// Node id.
    pub node_id: String,
    /// Namespace of its workload.
    pub namespace: String,
    /// Name of its workload.
    pub name: String,
    /// Process behind the stream.
    pub instance: String,
    /// Version of the proxy.
    pub version: String,
    /// Whether it takes traffic; unknown before it said so.
    pub ready: Option<bool>,
    /// Why it does not.
    pub reason: String,
    /// Whether it said that it is going to stop.
    pub draining: bool,
    /// Service it registered, if any.
    pub service: Option<String>,
    /// Snapshot that it uses.
    pub generation: u64,
    /// Resources that it refused last, by type URL, each with its reason.
    pub refused: BTreeMap<String, Vec<String>>,
    /// Fields without effect that it found last, by type URL.
    pub warnings: BTreeMap<String, Vec<String>>,
}

impl Proxy {
    pub(super) fn of(entry: &StreamEntry) -> Self {
        let (node, client) = (&entry.node, &entry.node.client);
        Self {
            id: node.id.clone(),
            namespace: client.namespace.to_string(),
            name: client.name.to_string(),
            role: Some(match client.role {
                Role::Sidecar => "sidecar",
                Role::Gateway => "gateway",
            }),
            on_demand: client.assembly == Assembly::Tulle,
            software: node.software.clone(),
            streams: Vec::new(),
            agent: None,
        }
    }

    pub(super) fn of_agent(report: &AgentReport) -> Self {
        Self {
            id: report.node_id.clone(),
            namespace: report.namespace.clone(),
            name: report.name.clone(),
            role: None,
            on_demand: false,
            software: report.version.clone(),
            streams: Vec::new(),
            agent: None,
        }
    }
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn seconds<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(unix_seconds).serialize(serializer)
}
