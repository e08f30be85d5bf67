//! Running the tools that talk to the kernel.

use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// A command and what it reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Its standard input.
    pub input: String,
}

impl Step {
    /// A command and what it reads.
    pub fn new<const N: usize>(command: [&str; N], input: String) -> Step {
        Step { command: command.map(str::to_owned).into(), input }
    }
}

impl fmt::Display for Step {
    /// As a shell would run it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} <<'RULES'\n{}RULES", self.command.join(" "), self.input)
    }
}

/// Whether a program can be started at all.
pub fn is_installed(program: &str) -> bool {
    let silent = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    silent(Command::new(program).arg("--version")).is_ok()
}

/// Runs a step to its end and returns what it printed.
///
/// # Errors
/// The program is not installed, or it failed; what it said is in the error.
pub fn run(step: &Step) -> Result<String> {
    let Some((program, arguments)) = step.command.split_first() else { return Ok(String::new()) };
    let started = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("{program} is not installed; install nftables or iptables");
        }
        started => started.with_context(|| format!("cannot run {program}"))?,
    };
    // A program that stops reading says why when it ends.
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(step.input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot run {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let denied = ["Operation not permitted", "Permission denied", "you must be root"];
    if denied.iter().any(|denied| said.contains(denied)) {
        bail!("{program} may not change this network namespace; run as root (CAP_NET_ADMIN)");
    }
    bail!("{} failed: {}", step.command.join(" "), said.trim());
}
