//! `tulle proxy-config`: what a proxy holds, asked from the proxy itself through the control
//! plane, and where that differs from what it was sent.
//!
//! The answer is Envoy's configuration dump; [`rows`] reads from it what is shown.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::control::{Control, Workload};
use crate::output::{self, Format};

mod difference;
mod rows;

const EXAMPLES: &str = "\
Examples:
  tulle proxy-config routes shop/order-v1-1
  tulle proxy-config endpoints shop/order-v1-1 --control 127.0.0.1:15014
  tulle proxy-config all shop/order-v1-1 -o json

Exit code: 0 if the proxy holds what it was sent, 1 if it does not or does not answer.";

/// Show what a proxy holds, and what of it differs from what it was sent.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// What is shown.
    #[arg(value_enum)]
    what: What,
    /// The workload of the proxy.
    #[arg(value_name = "NAMESPACE/NAME")]
    workload: Workload,
    #[command(flatten)]
    control: Control,
    /// How it is printed; json is Envoy's configuration dump, with what differs as `differences`.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Kinds of configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Listeners,
    Routes,
    Clusters,
    Endpoints,
    Secrets,
    All,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            What::Listeners => "listeners",
            What::Routes => "routes",
            What::Clusters => "clusters",
            What::Endpoints => "endpoints",
            What::Secrets => "secrets",
            What::All => "all",
        }
    }

    /// Itself, or everything that it stands for.
    fn parts(self) -> Vec<What> {
        match self {
            What::All => {
                vec![What::Listeners, What::Routes, What::Clusters, What::Endpoints, What::Secrets]
            }
            one => vec![one],
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// The control plane or the proxy does not answer, or standard output cannot be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    let Settings { what, workload, control, .. } = settings;
    let proxy = format!("/api/v1/proxies/{}/{}", workload.namespace, workload.name);
    let dump: Value = control.ask(&format!("{proxy}/config?kind={}", what.as_str()))?;
    // A proxy of another control plane, or one whose stream just broke, was sent nothing.
    let sent = control.ask::<Value>(&format!("{proxy}/sent")).ok();
    let differs = sent.map(|sent| difference::between(&sent, &dump));
    let is_same = differs.as_ref().is_none_or(Vec::is_empty);
    match settings.output {
        Format::Json => output::json(&for_programs(dump, differs))?,
        Format::Table => {
            output::text(&for_people(*what, &dump))?;
            if let Some(lines) = differs.filter(|_| !is_same) {
                output::line(&format!("\ndiffers from what was sent:\n{}", lines.join("\n")))?;
            }
        }
    }
    Ok(if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The dump with what of it differs; `null` where nobody knows what was sent.
fn for_programs(mut dump: Value, differs: Option<Vec<String>>) -> Value {
    if let Some(fields) = dump.as_object_mut() {
        fields.insert("differences".to_owned(), differs.into());
    }
    dump
}

fn for_people(what: What, dump: &Value) -> String {
    let table = |what| match what {
        What::Listeners => section("listeners", &rows::LISTENERS, rows::listeners(dump)),
        What::Routes => section("routes", &rows::ROUTES, rows::routes(dump)),
        What::Clusters => section("clusters", &rows::CLUSTERS, rows::clusters(dump)),
        What::Endpoints => section("endpoints", &rows::ENDPOINTS, rows::endpoints(dump)),
        What::Secrets | What::All => section("secrets", &rows::SECRETS, rows::secrets(dump)),
    };
    what.parts().into_iter().map(table).collect::<Vec<_>>().join("\n")
}

fn section(name: &str, header: &[&str], rows: Vec<Vec<String>>) -> String {
    match rows.is_empty() {
        true => format!("no {name}\n"),
        false => output::table(header, rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = include_str!("proxy_config/tests/dump.json");

    #[test]
    fn a_dump_is_shown_as_tables() {
        let dump: Value = serde_json::from_str(DUMP).expect("JSON");
        for what in [What::Listeners, What::Routes, What::Clusters, What::Endpoints] {
            insta::assert_snapshot!(what.as_str(), for_people(what, &dump));
        }
        assert_eq!(for_people(What::Secrets, &dump), "no secrets\n");
        assert_eq!(for_people(What::All, &dump).matches(" ORIGIN\n").count(), 3);
        assert_eq!(for_people(What::Routes, &Value::Null), "no routes\n");
    }
}
