//! `tulle proxy-status`: who is connected to the control plane, and how each stands.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use tulle_runtime::views::proxies::{Proxy, StreamReport};

use crate::control::{Control, Workload};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  tulle proxy-status
  tulle proxy-status shop/order-v1-1
  tulle proxy-status --control 127.0.0.1:15014 -o json

For each type of resource: `synced` if the proxy accepted what it was sent last, `sent` if its
answer is still to come, `refused` if it refused something, `-` if it was sent none.

Exit code: 0 if nothing is refused, 1 if something is.";

/// Show which proxies are connected and whether they hold what they were sent.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Only the proxy of this workload, with everything it complains about.
    #[arg(value_name = "NAMESPACE/NAME")]
    workload: Option<Workload>,
    #[command(flatten)]
    control: Control,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Types of resources as the control plane calls them, and as columns.
const TYPES: [(&str, &str); 4] = [
    ("cluster", "CLUSTERS"),
    ("endpoints", "ENDPOINTS"),
    ("listener", "LISTENERS"),
    ("route configuration", "ROUTES"),
];

/// Runs the verb.
///
/// # Errors
/// The control plane does not answer, or standard output cannot be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let path = match &settings.workload {
        None => "/api/v1/proxies".to_owned(),
        Some(Workload { namespace, name }) => format!("/api/v1/proxies/{namespace}/{name}"),
    };
    let told: Value = settings.control.ask(&path)?;
    let proxies: Vec<Proxy> = Vec::deserialize(&told).with_context(|| {
        format!("{} is no control plane of this version", settings.control.address)
    })?;
    match settings.output {
        Format::Json => output::json(&told)?,
        Format::Table => output::text(&for_people(&proxies, settings.workload.is_some()))?,
    }
    let refused = proxies.iter().any(|proxy| !complaints(proxy, false).is_empty());
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Its newest stream.
fn stream(proxy: &Proxy) -> Option<&StreamReport> {
    proxy.streams.iter().max_by_key(|stream| stream.since)
}

fn state(proxy: &Proxy) -> &'static str {
    match &proxy.agent {
        None => "-",
        Some(agent) if agent.draining => "draining",
        Some(agent) => match agent.ready {
            Some(true) => "ready",
            Some(false) => "not ready",
            None => "unknown",
        },
    }
}

fn row(proxy: &Proxy) -> Vec<String> {
    let mut row = vec![
        format!("{}/{}", proxy.namespace, proxy.name),
        proxy.role.clone().unwrap_or_else(|| "-".to_owned()),
        proxy.software.clone(),
        state(proxy).to_owned(),
    ];
    let types = stream(proxy).map(|stream| &stream.types);
    row.extend(TYPES.map(|(name, _)| {
        let state = match types.and_then(|types| types.get(name)) {
            None => "-",
            Some(one) if one.error.is_some() => "refused",
            Some(one) if one.acked_generation >= one.sent_generation => "synced",
            Some(_) => "sent",
        };
        state.to_owned()
    }));
    row
}

/// What a proxy refused; `all`: also what it warns about and why it is not ready.
fn complaints(proxy: &Proxy, all: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, one) in stream(proxy).iter().flat_map(|stream| &stream.types) {
        if let Some(error) = &one.error {
            complaints.push(format!("refused {name}: {error}"));
        }
    }
    let Some(agent) = &proxy.agent else { return complaints };
    for (name, reasons) in &agent.refused {
        complaints.extend(reasons.iter().map(|why| format!("refused {}: {why}", short(name))));
    }
    if all {
        for (name, reasons) in &agent.warnings {
            let told = reasons.iter().map(|why| format!("warning {}: {why}", short(name)));
            complaints.extend(told);
        }
        if agent.ready == Some(false) && !agent.reason.is_empty() {
            complaints.push(format!("not ready: {}", agent.reason));
        }
    }
    complaints
}

/// The last part of a type URL.
fn short(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}

fn for_people(proxies: &[Proxy], all: bool) -> String {
    if proxies.is_empty() {
        return "no proxy is connected\n".to_owned();
    }
    let mut header = vec!["WORKLOAD", "ROLE", "SOFTWARE", "STATE"];
    header.extend(TYPES.map(|(_, column)| column));
    let mut out = output::table(&header, proxies.iter().map(row).collect());
    let mut told = String::new();
    for proxy in proxies {
        for complaint in complaints(proxy, all) {
            told.push_str(&format!("{}/{} {complaint}\n", proxy.namespace, proxy.name));
        }
    }
    if !told.is_empty() {
        out.push('\n');
        out.push_str(&told);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXIES: &str = r#"[
        {"id": "a", "namespace": "shop", "name": "order", "role": "sidecar", "onDemand": true,
         "software": "tulle 0.1.0", "streams": [
           {"variant": "delta", "since": 1, "syncedGeneration": 1, "types": {}},
           {"variant": "delta", "since": 5, "syncedGeneration": 2, "types": {
             "cluster": {"responses": 1, "sentGeneration": 3, "sent": 1, "ackedGeneration": 3,
                         "nacks": 0, "error": null},
             "listener": {"responses": 1, "sentGeneration": 3, "sent": 1, "ackedGeneration": 2,
                          "nacks": 0, "error": null},
             "route configuration": {"responses": 1, "sentGeneration": 3, "sent": 1,
                          "ackedGeneration": 2, "nacks": 1, "error": "order:80: bad regex"}}}],
         "agent": {"nodeId": "a", "namespace": "shop", "name": "order", "instance": "i",
           "version": "0.1.0", "ready": false, "reason": "no listener", "draining": false,
           "service": null, "generation": 3, "refused": {"type.googleapis.com/envoy.x.v3.Cluster":
           ["c: no"]}, "warnings": {"type.googleapis.com/envoy.x.v3.Listener": ["l: unused"]}}},
        {"id": "b", "namespace": "shop", "name": "edge", "role": null, "onDemand": false,
         "software": "envoy 1.39.0", "streams": [], "agent": null}]"#;

    #[test]
    fn proxies_are_shown_with_what_they_refuse() {
        let proxies: Vec<Proxy> = serde_json::from_str(PROXIES).expect("as the API has it");
        insta::assert_snapshot!("all", for_people(&proxies, false));
        insta::assert_snapshot!("one", for_people(&proxies[..1], true));
        assert_eq!(for_people(&[], false), "no proxy is connected\n");
        assert_eq!(complaints(&proxies[0], false).len(), 2);
    }
}
