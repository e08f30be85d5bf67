//! The long run of the fuzz targets: their own script does it, its last words become a page.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

/// Builds and runs all targets; seen from the root of the repository.
const SCRIPT: &str = "crates/tulle-proxy/fuzz/run";
/// What a line of the script begins with that says what came of a target.
const PREFIX: &str = "fuzz: ";

/// Runs every target for `duration` and writes `fuzz.md` into `docs`.
pub fn run(duration: Duration, docs: Option<&Path>) -> Result<ExitCode> {
    let mut script = Command::new(SCRIPT);
    script.arg(duration.as_secs().to_string()).stdout(Stdio::piped());
    let mut child = script.spawn().with_context(|| format!("{SCRIPT}: run this from the root"))?;
    let output = child.stdout.take().context("the pipe was asked for")?;
    let mut said = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        said.extend(line.strip_prefix(PREFIX).map(str::to_owned));
    }
    let found_nothing = child.wait()?.success();
    if let Some(docs) = docs {
        std::fs::write(docs.join("fuzz.md"), page(duration, &said))?;
    }
    Ok(if found_nothing { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn page(duration: Duration, said: &[String]) -> String {
    let seconds = duration.as_secs();
    let mut text = format!(
        "# The long run of the fuzz targets\n\n`make soak SOAK_ARGS='--fuzz-hours HOURS'` wrote \
         this page: every target for {seconds} s, two at a time, from the seeds and what earlier \
         runs found.\n\n"
    );
    for line in said {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "* {line}");
    }
    text
}
