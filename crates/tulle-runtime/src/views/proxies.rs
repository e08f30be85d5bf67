//! One connected proxy as the control plane's `/api/v1/proxies` shows it, and what `tulle
//! proxy-status` says about it in a word.

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

/// One xDS stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamReport {
    /// `delta` or `state-of-the-world`.
    pub variant: String,
    /// Since when, in seconds of the UNIX clock.
    pub since: u64,
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

/// How one type of one proxy stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Sync {
    /// It uses what was sent last.
    Synced,
    /// It has not answered what was sent last.
    Stale,
    /// It refused something.
    Refused,
    /// Nothing was sent.
    NotSent,
}

impl Sync {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "SYNCED",
            Self::Stale => "STALE",
            Self::Refused => "REFUSED",
            Self::NotSent => "NOT SENT",
        }
    }
}

impl Proxy {
    /// How the type whose URL or short name ends with `name` stands.
    #[must_use]
    pub fn sync(&self, name: &str) -> Sync {
        let refused = self.agent.as_ref().is_some_and(|agent| {
            agent.refused.iter().any(|(url, reasons)| url.ends_with(name) && !reasons.is_empty())
        });
        let types = self.streams.last().map(|stream| &stream.types);
        let report = types.and_then(|types| {
            types.iter().find(|(url, _)| url.ends_with(name)).map(|(_, report)| report)
        });
        match report {
            _ if refused => Sync::Refused,
            None => Sync::NotSent,
            Some(report) if report.responses == 0 => Sync::NotSent,
            Some(report) if report.error.is_some() => Sync::Refused,
            Some(report) if report.acked_generation < report.sent_generation => Sync::Stale,
            Some(_) => Sync::Synced,
        }
    }
}
