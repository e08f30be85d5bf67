//! What was observed: a line for each check, and the same as a page of documentation.

use std::fmt::Write;
use std::fs;

use crate::checks::{Evidence, Verdict};
use crate::faults;
use crate::resources::{MAX_DESCRIPTORS, MAX_SLOPE_KB_PER_MINUTE, WARM_UP};
use crate::traffic::{STREAMS, Sum};

/// Prints a line for each check and the sum.
pub fn print(verdicts: &[Verdict]) {
    for one in verdicts {
        println!("{} {}: {}", mark(one), one.check.name(), one.observed);
    }
    println!("{}", sum(verdicts));
}

fn sum(verdicts: &[Verdict]) -> String {
    let failed: Vec<_> =
        verdicts.iter().filter(|one| !one.holds).map(|one| one.check.name()).collect();
    let judged = verdicts.iter().filter(|one| one.judged).count();
    match failed.is_empty() {
        true if judged < verdicts.len() => {
            format!("All {judged} checks hold, {} not judged.", verdicts.len() - judged)
        }
        true => format!("All {} checks hold.", verdicts.len()),
        false => format!("Failed: {}.", failed.join(", ")),
    }
}

fn mark(verdict: &Verdict) -> &'static str {
    match (verdict.holds, verdict.judged) {
        (false, _) => "FAIL",
        (true, true) => "ok  ",
        (true, false) => "not judged",
    }
}

/// The page of documentation. Written by the run itself, never by hand.
pub fn document(evidence: &Evidence<'_>, verdicts: &[Verdict]) -> String {
    let parts = [
        introduction(evidence),
        format!("## Checks\n\n{}\n\n", sum(verdicts)),
        checks(verdicts),
        "\n## Clients\n\nThe maximum is what all four protocols reached at once in a closed loop, \
         under the same faults; latencies are those of the steady rate, from when a request was \
         due.\n\n"
            .to_owned(),
        clients(evidence),
        processes(evidence),
    ];
    parts.concat()
}

fn introduction(evidence: &Evidence<'_>) -> String {
    let seconds = evidence.seconds;
    let every = |period: std::time::Duration| period.as_secs_f64();
    format!(
        "# The long run\n\n`make soak` wrote this page. A control plane, a caller behind \
         interception and the instances of one service, each an application and its sidecar, \
         are real processes in a network namespace. For {seconds:.0} s clients offer {} of the \
         maximum measured just before, in an open loop over HTTP/1, HTTP/2, gRPC and TCP: one \
         request in 100 is a POST, one in 20 opens a new connection in place of the oldest idle \
         one, {} long streams talk every second. Meanwhile an instance starts and another drains \
         every {} s, configuration is edited every {} s, a bad file appears every {} s, a \
         destination that nobody has called is called every {} s, and the control plane is killed \
         (SIGKILL) every {} s and comes back {} s later. Every request that does not get the \
         answer it should counts.\n\n`make soak SOAK_ARGS='--seconds 60'` is shorter; \
         `--sabotage CHECK` breaks what a check shows, which must make it fail. {}\n\n",
        evidence.share,
        2 * STREAMS,
        every(faults::CHURN),
        every(faults::EDIT),
        every(faults::BAD_FILE),
        every(faults::SELDOM),
        every(faults::KILL),
        every(faults::OUTAGE),
        machine(),
    )
}

/// What the figures were measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    format!(
        "This run: {build} build, {cores} cores, load average of the whole machine at the end \
         {load}."
    )
}

fn checks(verdicts: &[Verdict]) -> String {
    let mut table = "| check | | observed |\n|---|---|---|\n".to_owned();
    for one in verdicts {
        let (name, observed) = (one.check.name(), one.observed.replace('|', "\\|"));
        // Writing into a string cannot fail.
        let _ = writeln!(table, "| `{name}` | {} | {observed} |", mark(one).trim());
    }
    table
}

fn clients(evidence: &Evidence<'_>) -> String {
    let mut table = "| protocol | maximum /s | offered /s | answered | failed | p50 ms | p99 ms | \
                     p99.9 ms | slowest ms |\n|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    let steady = evidence.sums.iter().filter(|sum| sum.rate > 0.0);
    for Sum { protocol, rate, counts } in steady {
        let milliseconds = |micros: u64| micros as f64 / 1000.0;
        let _ = writeln!(
            table,
            "| {protocol} | {:.0} | {rate:.0} | {} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            rate / evidence.share,
            counts.answered,
            counts.failed,
            milliseconds(counts.latency_us.p50),
            milliseconds(counts.latency_us.p99),
            milliseconds(counts.latency_us.p999),
            milliseconds(counts.latency_us.max),
        );
    }
    table
}

fn processes(evidence: &Evidence<'_>) -> String {
    let mut text = format!(
        "\n## Processes\n\nMemory from {} s on, looked at every second; at most \
         {MAX_SLOPE_KB_PER_MINUTE} KB/min are allowed.\n\n| process | resident KB | KB/min |\n\
         |---|---|---|\n",
        WARM_UP.as_secs()
    );
    for trend in evidence.resources.trends() {
        let (name, slope) = (&trend.name, trend.slope_kb_per_minute);
        let _ = writeln!(text, "| {name} | {:.0} | {slope:.0} |", trend.rss_kb);
    }
    let _ = writeln!(
        text,
        "\nDescriptors at rest, when nobody calls and idle connections are closed; they may move \
         by {MAX_DESCRIPTORS}.\n\n| process | before the load | after it |\n|---|---|---|"
    );
    for rest in evidence.resources.rests() {
        let _ = writeln!(text, "| {} | {} | {} |", rest.name, rest.before, rest.after);
    }
    text
}
