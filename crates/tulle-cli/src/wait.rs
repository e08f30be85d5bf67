//! `tulle wait`: until every proxy runs what was written.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::control::Control;
use crate::output::{self, Format};

/// What the answer may take beyond the wait itself.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Longest wait that the control plane grants.
const MAX_WAIT: Duration = Duration::from_secs(300);

const EXAMPLES: &str = "\
Examples:
  tulle wait
  before=$(tulle wait --print-generation); mv new/rule.yaml config/rule.yaml
  tulle wait --generation $((before + 1)) --timeout 30s

A generation counts the changes of configuration and workloads that made a difference. Without
--generation the newest is waited for; an edit that was saved this moment may not be part of it yet.

Exit code: 0 if every connected proxy runs it, 1 if one does not in time.";

/// Wait until every proxy runs a generation of the configuration, or a newer one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Settings {
    /// Which; the newest if left out.
    #[arg(long)]
    generation: Option<u64>,
    /// Longest wait, at most 5m.
    #[arg(long, default_value = "10s", value_parser = crate::duration::parse)]
    timeout: Duration,
    /// Only print which generation is the newest.
    #[arg(long, conflicts_with_all = ["generation", "timeout"])]
    print_generation: bool,
    #[command(flatten)]
    control: Control,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Deserialize)]
struct Held {
    generation: u64,
    #[serde(default)]
    streams: usize,
}

/// Runs the verb.
///
/// # Errors
/// A proxy does not run it in time, the control plane does not answer, or standard output cannot
/// be written.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    ensure!(settings.timeout <= MAX_WAIT, "--timeout is at most 5m");
    let path = match (settings.print_generation, settings.generation) {
        (true, _) => "/api/v1/generation".to_owned(),
        (false, None) => query(settings.timeout),
        (false, Some(number)) => format!("{}&generation={number}", query(settings.timeout)),
    };
    let told: Value = settings.control.ask_within(&path, settings.timeout + ANSWER_TIME)?;
    let Held { generation, streams } = Held::deserialize(&told)?;
    match (settings.output, settings.print_generation) {
        (Format::Json, _) => output::json(&told)?,
        (Format::Table, true) => output::line(&generation.to_string())?,
        (Format::Table, false) => {
            output::line(&format!("generation {generation} is run by {streams} proxies"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The control plane counts in whole seconds: never less than was asked for.
fn query(timeout: Duration) -> String {
    format!("/api/v1/wait?seconds={}", timeout.as_secs_f64().ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_second_is_one() {
        assert_eq!(query(Duration::from_millis(200)), "/api/v1/wait?seconds=1");
        assert_eq!(query(Duration::from_secs(30)), "/api/v1/wait?seconds=30");
    }
}
