//! What the kernel says of a process: CPU time, memory, system calls.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tulle_lab::deadline::SOON;
use tulle_lab::process::{self, Memory, Process};

use crate::subject::{LOAD_CPU, installed, pinned};

/// CPU time of a program so far.
#[derive(Debug, Clone, Copy)]
pub struct Cpu {
    /// All of it, nanoseconds, exact (`/proc/PID/task/*/schedstat`).
    pub total: u64,
    /// The share spent in user space as `/proc/PID/stat` tells it, clock ticks.
    user: u64,
    system: u64,
}

impl Cpu {
    /// CPU time of a process and its children (nginx's worker is one).
    pub fn of(pid: u32) -> Result<Self> {
        let mut cpu = Self { total: 0, user: 0, system: 0 };
        for pid in family(pid)? {
            cpu.total += threads_total(pid)?;
            let [user, system] = ticks(pid)?;
            cpu.user += user;
            cpu.system += system;
        }
        Ok(cpu)
    }

    /// Microseconds since `before`: all, and in user space.
    pub fn since(&self, before: &Self) -> (f64, f64) {
        let total = (self.total - before.total) as f64 / 1_000.0;
        let user = (self.user - before.user) as f64;
        let system = (self.system - before.system) as f64;
        (total, total * user / (user + system).max(1.0))
    }
}

fn threads_total(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let running = text.split_whitespace().next().context("schedstat is empty")?;
        total += running.parse::<u64>()?;
    }
    Ok(total)
}

/// utime and stime (`proc(5)`: fields 14 and 15, counted after the name in brackets).
fn ticks(pid: u32) -> Result<[u64; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("/proc/PID/stat is short");
    Ok([next()??, next()??])
}

/// The process and its children.
fn family(pid: u32) -> Result<Vec<u32>> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    Ok(std::iter::once(pid).chain(children).collect())
}

/// Proportional set size of a process and its children, bytes.
pub fn memory(pid: u32) -> Result<u64> {
    family(pid)?.into_iter().map(|pid| process::memory(pid, Memory::Proportional)).sum()
}

/// System calls of a process while something runs, by name.
#[derive(Debug)]
pub struct Calls {
    tracer: Process,
    report: std::path::PathBuf,
}

impl Calls {
    /// Begins to count. Fails where tracing is not allowed.
    pub async fn start(pid: u32, directory: &Path) -> Result<Self> {
        let report = directory.join("strace.txt");
        let mut command = pinned(LOAD_CPU, &installed("strace")?);
        command.args(["-c", "-f", "-o"]).arg(&report);
        for pid in family(pid)? {
            command.args(["-p", &pid.to_string()]);
        }
        command.stdin(Stdio::null());
        let mut tracer = Process::spawn("strace", command, directory)?;
        let status = format!("/proc/{pid}/status");
        let end = tokio::time::Instant::now() + SOON;
        loop {
            let text = fs::read_to_string(&status)?;
            if text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
                return Ok(Self { tracer, report });
            }
            if tracer.exited()?.is_some() || tokio::time::Instant::now() > end {
                bail!("strace cannot attach\n{}", tracer.tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends the counting: calls by name.
    pub async fn finish(mut self) -> Result<Vec<(String, u64)>> {
        self.tracer.signal(rustix::process::Signal::INT);
        self.tracer.wait_exit(SOON).await?;
        let text = fs::read_to_string(&self.report)?;
        Ok(text.lines().filter_map(summary_line).collect())
    }
}

/// `% time, seconds, usecs/call, calls, [errors], syscall`.
fn summary_line(line: &str) -> Option<(String, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let name = *fields.last()?;
    fields.first()?.parse::<f64>().ok()?;
    (name != "total").then_some(())?;
    Some((name.to_owned(), fields.get(3)?.parse().ok()?))
}

/// Runs a program to its end while other work goes on; what it printed.
pub async fn output_async(command: Command) -> Result<String> {
    tokio::task::spawn_blocking(|| output(command)).await?
}

/// Runs a program to its end; what it printed.
pub fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_of_the_summary() {
        let line = " 40.00    0.080000           1     80000       100 epoll_wait";
        assert_eq!(super::summary_line(line), Some(("epoll_wait".to_owned(), 80_000)));
        assert_eq!(super::summary_line("100.00 0.2 1 200 3 total"), None);
        assert_eq!(super::summary_line("------ ----- ---"), None);
    }
}
