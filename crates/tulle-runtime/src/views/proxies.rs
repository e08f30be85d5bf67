//! One connected proxy as the control plane's `/api/v1/proxies` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One connected proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Proxy {
    /// Node id.
    pub id: String,
    /// Namespace of its workload.
    pub namespace: String,
    /// Name of its workload.
    pub name: String,
    /// `sidecar` or `gateway`; unknown while only its agent stream is open.
    pub role: Option<String>,
    /// Whether it asks for names when it needs them.
    pub on_demand: bool,
    /// Which software it is.
    pub software: String,
    /// Its xDS streams; one, unless it just reconnected.
    pub streams: Vec<StreamReport>,
    /// Its agent stream, if it has one.
    pub agent: Option<AgentReport>,
}

/// A variant of the xDS transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Incremental.
    #[default]
    Delta,
    /// State of the world.
    StateOfTheWorld,
}

/// One xDS stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeReport {
    /// Responses sent.
    pub responses: u64,
    /// World that the last response was computed from.
    pub sent_generation: u64,
    /// When that was, in seconds of the UNIX clock.
    pub sent: Option<u64>,
    /// World of the last response that was accepted.
    pub acked_generation: u64,
    /// Responses refused.
    pub nacks: u64,
    /// Why the last answered response was refused.
    pub error: Option<String>,
}

/// What an agent said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
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
