//! What must hold, one line each, and how each of them can be made to fail.

use clap::ValueEnum;

use crate::faults;
use crate::journal::Journal;
use crate::resources::{MAX_DESCRIPTORS, MAX_KB_PER_RUN, MAX_SLOPE_KB_PER_MINUTE, Resources, Rest};
use crate::traffic::{self, STREAMS, Sum};

/// Share of the asked rate that must have been offered.
const OFFERED: f64 = 0.98;
/// Share of the planned instances that must have come and gone: a busy machine starts slower.
const CHURNED: f64 = 0.5;

/// One thing that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// The rate that was asked for was offered, POSTs, new connections and streams included, and
    /// everything sent has an outcome.
    Offered,
    /// No connection of a client was refused.
    Refused,
    /// No connection or stream was reset before its answer.
    Reset,
    /// No answer and no long stream ended in its middle.
    Cut,
    /// No request waited in vain.
    Timeout,
    /// No answer had a status of 500 or more, or a gRPC status but 0.
    ServerError,
    /// No other answer than the expected one.
    Other,
    /// Instances came and went.
    Churn,
    /// Every instance that was asked to leave did, by itself, with exit code 0.
    Drained,
    /// Configuration was edited and the last edit is in force.
    Edits,
    /// Bad files were refused with a finding.
    BadFiles,
    /// Destinations that nobody had called were there at the first call.
    NeverSeen,
    /// The control plane was killed and came back.
    ControlPlane,
    /// Memory does not grow.
    Memory,
    /// Whatever was opened was closed.
    Descriptors,
}

/// What is known at the end.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What the clients saw, at the maximum and at the steady rate.
    pub sums: &'a [Sum],
    /// Seconds of the steady rate.
    pub seconds: f64,
    /// How much of the maximum that rate was.
    pub share: f64,
    /// What was done.
    pub journal: &'a Journal,
    /// What became of memory and descriptors.
    pub resources: &'a Resources,
    /// The last edit that applications saw, or why not.
    pub last_edit: Result<u64, String>,
}

/// Whether a check holds, and what was observed.
#[derive(Debug)]
pub struct Verdict {
    /// The check.
    pub check: Check,
    /// Whether it holds.
    pub holds: bool,
    /// Whether there was enough to judge it by.
    pub judged: bool,
    /// What was observed.
    pub observed: String,
}

impl Check {
    /// Its name, as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Timeout => "timeout",
            Self::ServerError => "server-error",
            Self::Other => "other",
            Self::Churn => "churn",
            Self::Drained => "drained",
            Self::Edits => "edits",
            Self::BadFiles => "bad-files",
            Self::NeverSeen => "never-seen",
            Self::ControlPlane => "control-plane",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
        }
    }

    /// Whether it is made to fail by killing instances instead of draining them.
    pub fn is_shown_by_killing(self) -> bool {
        self == Self::Cut
    }

    /// Judges it.
    pub fn judge(self, evidence: &Evidence<'_>) -> Verdict {
        let (holds, observed) = match self {
            Self::Offered => evidence.offered(),
            Self::Refused => evidence.none_of(&["refused"]),
            Self::Reset => evidence.none_of(&["reset"]),
            Self::Cut => evidence.none_of(&["cut"]),
            Self::Timeout => evidence.none_of(&["timeout"]),
            Self::ServerError => evidence.none_of(&["server_error"]),
            Self::Other => evidence.none_of(&["other_status", "wrong"]),
            Self::Churn => evidence.churned(),
            Self::Drained => {
                let drained = evidence.journal.counted("drained");
                (drained > 0, format!("{drained} instances left by themselves"))
            }
            Self::Edits => evidence.edited(),
            Self::BadFiles => {
                evidence.happened("bad-files", faults::BAD_FILE.as_secs_f64(), "refused")
            }
            Self::NeverSeen => {
                evidence.happened("seldom", faults::SELDOM.as_secs_f64(), "answered at once")
            }
            Self::ControlPlane => evidence.killed(),
            Self::Memory => evidence.memory(),
            Self::Descriptors => evidence.descriptors(),
        };
        let troubles = evidence.journal.troubles(self.name());
        let mut observed = observed;
        if let Some(first) = troubles.first() {
            let first = first.lines().next().unwrap_or_default();
            observed = format!("{observed}; {} troubles, the first: {first}", troubles.len());
        }
        let judged = self != Self::Memory || evidence.resources.is_memory_judged();
        Verdict { check: self, holds: holds && troubles.is_empty(), judged, observed }
    }
}

impl Evidence<'_> {
    fn none_of(&self, kinds: &[&str]) -> (bool, String) {
        let failures = traffic::failures(self.sums);
        let count: u64 = kinds.iter().filter_map(|kind| failures.get(*kind)).sum();
        let sent: u64 = self.sums.iter().map(|sum| sum.counts.sent).sum();
        (count == 0, format!("{count} of {sent}"))
    }

    fn offered(&self) -> (bool, String) {
        let steady = || self.sums.iter().filter(|sum| sum.rate > 0.0);
        let asked: f64 = steady().map(|sum| sum.rate * self.seconds).sum();
        let sent: u64 = steady().map(|sum| sum.counts.sent).sum();
        let not_sent = traffic::failures(self.sums).get("not_sent").copied().unwrap_or(0);
        let lost = |sum: &Sum| sum.counts.sent.abs_diff(sum.counts.answered + sum.counts.failed);
        let lost: u64 = self.sums.iter().map(lost).sum();
        let streams: u64 = steady().map(|sum| sum.counts.streams).sum();
        let of_streams = 2 * STREAMS as u64;
        let observed = format!(
            "{sent} requests and streams of {asked:.0} due at {:.0}/s, {not_sent} not sent, {lost} \
             without an outcome, {streams} of {of_streams} long streams",
            asked / self.seconds,
        );
        let all = not_sent == 0 && lost == 0 && streams == of_streams;
        (sent as f64 >= OFFERED * asked && asked > 0.0 && all, observed)
    }

    fn churned(&self) -> (bool, String) {
        let [planned, started, drained] =
            ["churn-planned", "started", "drained"].map(|kind| self.journal.counted(kind));
        let least = (planned as f64 * CHURNED) as u64;
        let observed = format!("{started} started and {drained} left, of {planned} planned");
        (planned > 0 && started.min(drained) >= least, observed)
    }

    fn edited(&self) -> (bool, String) {
        let edits = self.journal.counted("edits");
        match &self.last_edit {
            Ok(seen) => (edits > 0, format!("{edits} edits, the last one ({seen}) is in force")),
            Err(error) => (false, format!("{edits} edits; {error}")),
        }
    }

    /// Something that happens once a period happened as often as fits, but for one.
    fn happened(&self, kind: &str, period: f64, what: &str) -> (bool, String) {
        let least = (self.seconds / period).floor().max(2.0) as u64 - 1;
        let count = self.journal.counted(kind);
        (count >= least, format!("{count} {what}"))
    }

    fn killed(&self) -> (bool, String) {
        let (kills, restarts) = (self.journal.counted("kills"), self.journal.counted("restarts"));
        let observed = format!("killed {kills} times, back {restarts} times");
        (kills > 0 && kills == restarts, observed)
    }

    fn memory(&self) -> (bool, String) {
        let trends = self.resources.trends();
        let worst =
            trends.iter().max_by(|a, b| a.slope_kb_per_minute.total_cmp(&b.slope_kb_per_minute));
        let runs = self.resources.runs();
        let (of_runs, runs) = match runs.is_judged() {
            true => (runs.growth_kb() <= MAX_KB_PER_RUN, runs.to_string()),
            false => (true, String::new()),
        };
        let Some(worst) = worst else {
            return (of_runs, format!("long lives: {}{runs}", too_short()));
        };
        let slope = worst.slope_kb_per_minute;
        let observed = format!(
            "of {} processes {} grows most, by {slope:.0} KB/min at {:.0} KB{runs}",
            trends.len(),
            worst.name,
            worst.rss_kb
        );
        (slope <= MAX_SLOPE_KB_PER_MINUTE && of_runs, observed)
    }

    fn descriptors(&self) -> (bool, String) {
        let rests = self.resources.rests();
        let moved = |rest: &Rest| rest.before.abs_diff(rest.after);
        let Some(worst) = rests.iter().max_by_key(|rest| moved(rest)) else {
            return (false, "nobody came to rest before and after".to_owned());
        };
        let observed = format!(
            "at rest before and after, of {} processes those of {} moved most, from {} to {}",
            rests.len(),
            worst.name,
            worst.before,
            worst.after
        );
        (moved(worst) <= MAX_DESCRIPTORS, observed)
    }
}

fn too_short() -> String {
    "the run is shorter than two minutes".to_owned()
}
