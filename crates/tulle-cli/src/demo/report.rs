//! What was observed, check by check.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

/// Every check, in the order of the story.
pub const CHECKS: [&str; 8] = [
    "mesh-up",
    "header-routing",
    "canary",
    "instance-added",
    "instance-killed",
    "rolling-replacement",
    "bad-config",
    "control-plane-outage",
];

/// The checks so far.
#[derive(Debug)]
pub struct Report {
    json: bool,
    sabotage: Option<String>,
    started: Instant,
    done: Vec<(&'static str, bool)>,
}

impl Report {
    /// An empty report.
    pub fn new(json: bool, sabotage: Option<String>) -> Self {
        Self { json, sabotage, started: Instant::now(), done: Vec::new() }
    }

    /// Whether what `check` shows is to be broken on purpose.
    pub fn is_sabotaged(&self, check: &str) -> bool {
        self.sabotage.as_deref() == Some(check)
    }

    /// Whether `check` is to be made: all are, unless one is sabotaged; then only that one and
    /// what comes before everything.
    pub fn wants(&self, check: &str) -> bool {
        check == CHECKS[0] || self.sabotage.as_deref().is_none_or(|sabotaged| sabotaged == check)
    }

    /// Tells something that is no check.
    pub fn say(&self, text: &str) {
        if !self.json {
            println!("{:6.1}s       {text}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Notes a check: whether it holds, and what was observed.
    pub fn check(&mut self, name: &'static str, holds: bool, observed: &str) {
        debug_assert!(CHECKS.contains(&name), "{name}");
        self.done.push((name, holds));
        let seconds = self.started.elapsed().as_secs_f64();
        if self.json {
            let seconds = (seconds * 10.0).round() / 10.0;
            let line = json!({
                "check": name, "ok": holds, "observed": observed, "seconds": seconds,
            });
            println!("{line}");
        } else {
            let mark = if holds { "ok  " } else { "FAIL" };
            println!("{seconds:6.1}s {mark}  {name}: {observed}");
        }
    }

    fn failed(&self) -> Vec<&'static str> {
        self.done.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect()
    }

    /// Whether every check that was wanted was made and holds.
    pub fn all_hold(&self) -> bool {
        let made = |check: &str| self.done.iter().any(|(name, _)| *name == check);
        let all_made = CHECKS.iter().all(|check| made(check) || !self.wants(check));
        all_made && self.failed().is_empty()
    }

    /// Prints the sum, and where the files are if they are kept.
    pub fn close(&self, files: Option<&Path>) {
        let (failed, passed) = (self.failed(), self.done.len() - self.failed().len());
        if self.json {
            let line = json!({ "passed": passed, "failed": failed, "files": files });
            println!("{line}");
            return;
        }
        match (&self.sabotage, failed.is_empty()) {
            (None, true) => println!("All {passed} checks hold."),
            (Some(sabotaged), true) => {
                println!("{sabotaged} holds although what it shows was broken on purpose");
            }
            (_, false) => println!("Failed: {}", failed.join(", ")),
        }
        if let Some(files) = files {
            println!("Files are kept. The log of each process: {}/logs", files.display());
            println!(
                "What each proxy answered, and why: grep ' 50[0-9] ' {}/logs/*",
                files.display()
            );
        }
    }

    /// 0 if every check that was wanted was made and holds.
    pub fn exit_code(&self) -> ExitCode {
        if self.all_hold() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
