//! What was observed, check by check.

use std::process::ExitCode;
use std::time::Instant;

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
        let report = Self { json, sabotage, started: Instant::now(), done: Vec::new() };
        report.say("A mesh of real processes: control plane, gateway, order, stock, payment v1/v2");
        report
    }

    /// Whether what `check` shows is to be broken on purpose.
    pub fn is_sabotaged(&self, check: &str) -> bool {
        self.sabotage.as_deref() == Some(check)
    }

    /// Tells something that is no check.
    pub fn say(&self, text: &str) {
        if !self.json {
            println!("{:6.1}s      {text}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Notes a check: whether it holds, and what was observed.
    pub fn check(&mut self, name: &'static str, holds: bool, observed: &str) {
        debug_assert!(CHECKS.contains(&name), "{name}");
        self.done.push((name, holds));
        let seconds = self.started.elapsed().as_secs_f64();
        if self.json {
            let line = serde_json::json!({
                "check": name, "ok": holds, "observed": observed, "seconds": seconds,
            });
            println!("{line}");
        } else {
            let mark = if holds { "ok  " } else { "FAIL" };
            println!("{seconds:6.1}s {mark} {name}: {observed}");
        }
    }

    /// Prints the sum.
    pub fn close(&self) {
        let failed: Vec<&str> =
            self.done.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
        let missing = CHECKS.len() - self.done.len();
        if self.json {
            let line = serde_json::json!({
                "passed": self.done.len() - failed.len(), "failed": failed, "missing": missing,
            });
            println!("{line}");
        } else if failed.is_empty() && missing == 0 {
            println!("All {} checks hold.", self.done.len());
        } else {
            println!("Failed: {}", failed.join(", "));
        }
    }

    /// 0 if every check was made and holds.
    pub fn exit_code(&self) -> ExitCode {
        let all = self.done.len() == CHECKS.len() && self.done.iter().all(|(_, holds)| *holds);
        if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
