//! What we count of ourselves (`tulle_*`).

use std::time::{Duration, Instant};

use tulle_runtime::metrics;
use tulle_runtime::telemetry::Local;

/// How often a worker looks whether it was late.
const STALL_INTERVAL: Duration = Duration::from_millis(100);
/// Upper bounds of stalls, in seconds.
const STALL_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

metrics! {
    /// Of one worker.
    pub struct WorkerSeries(Tulle, ["worker"]) {
        histogram stall(STALL_BUCKETS) = "tulle_worker_stall_seconds",
            "How late the worker was to wake up, seconds: what its longest turn cost the others.";
        counter panics = "tulle_worker_panics_total",
            "Connections ended by a panic. Three a minute end the process.";
        counter keepalive_timeouts = "tulle_downstream_keepalive_timeouts_total",
            "HTTP/2 connections of downstreams that left a PING unanswered.";
        counter accept_errors = "tulle_worker_accept_errors_total",
            "Times that accepting rested because descriptors or memory ran out.";
        counter listener_connections_cut = "tulle_listener_connections_cut_total",
            "Connections that were closed because their listener had left the configuration and \
             the drain time was over.";
    }
}

metrics! {
    /// Of the process, set by the control thread.
    pub struct ProcessSeries(Tulle, []) {
        counter log_dropped = "tulle_log_lines_dropped_total",
            "Lines of logs and access logs that were lost.";
        gauge generation = "tulle_config_generation",
            "Counts the configurations that were put to use.";
        gauge ready = "tulle_ready", "1 while traffic may be sent here.";
        gauge draining = "tulle_drain_phase", "0 serving, 1 lame duck, 2 closing, 3 done.";
    }
}

impl ProcessSeries {
    /// The series of the process, on the control thread.
    #[must_use]
    pub fn of_process(local: &Local) -> Self {
        Self::new(local, &[])
    }
}

/// Watches how late the current worker is, for as long as it lives.
pub async fn watch_stalls(series: WorkerSeries) {
    loop {
        let due = Instant::now() + STALL_INTERVAL;
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed().as_secs_f64();
        // Timers tick in whole milliseconds, which is no stall.
        series.stall().observe((late - 0.001).max(0.0));
    }
}

/// Resident memory of this process, in bytes; zero where the system does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    let kilobytes = || -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    kilobytes().unwrap_or(0) * 1024
}
