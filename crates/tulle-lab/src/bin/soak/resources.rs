//! Memory and file descriptors of the processes that live long: memory is looked at every second
//! and judged by what became of it after the first minute; descriptors are compared at rest, before
//! the load and after it, when no client and no idle connection holds any.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::mesh::Mesh;
use crate::objects;

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(1);
/// What comes before is not judged: buffers, pools and tables reach their size.
pub const WARM_UP: Duration = Duration::from_secs(60);
/// Shortest time after that for a judgement.
pub const JUDGED: Duration = Duration::from_secs(60);
/// What the looks at both ends may miss of it.
const SLACK: Duration = Duration::from_secs(10);
/// Most growth of memory.
pub const MAX_SLOPE_KB_PER_MINUTE: f64 = 50.0;
/// The age at which runs of the control plane are compared: each of them is ended soon after.
pub const AGE: Duration = Duration::from_secs(10);
/// Most growth of memory from one run of the control plane to the next, at that age: what is kept
/// on disk must not grow.
pub const MAX_KB_PER_RUN: f64 = 2048.0;
/// Fewer runs show nothing: how much each has in memory varies.
const LEAST_RUNS: usize = 4;
/// How the runs of the control plane are called.
const RUN: &str = "control plane, run ";
/// Most that the number of descriptors moves.
pub const MAX_DESCRIPTORS: usize = 2;
/// A process is at rest when its descriptors stayed the same for so long: longer than idle
/// connections stay.
const REST: Duration = Duration::from_secs(objects::IDLE.as_secs() + 2);
/// How long it may take to come to rest.
const TO_REST: Duration = Duration::from_secs(60);
/// How often is looked meanwhile.
const LOOK: Duration = Duration::from_millis(250);

/// One look at one process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Since the load began.
    at: Duration,
    rss_kb: f64,
    descriptors: usize,
}

/// One process and what was seen of it.
#[derive(Debug)]
pub struct Watched {
    /// What it is.
    pub name: String,
    pid: u32,
    samples: Vec<Sample>,
    /// Descriptors at rest, before the load and after it.
    rest: Vec<usize>,
}

/// What became of one process after the first minute.
#[derive(Debug)]
pub struct Trend {
    /// What it is.
    pub name: String,
    /// Resident memory at the end.
    pub rss_kb: f64,
    /// Its growth.
    pub slope_kb_per_minute: f64,
}

/// The descriptors of one process at rest.
#[derive(Debug)]
pub struct Rest {
    /// What it is.
    pub name: String,
    /// Before the load.
    pub before: usize,
    /// After it.
    pub after: usize,
}

/// All that are looked at.
#[derive(Debug, Default)]
pub struct Resources {
    watched: RefCell<Vec<Watched>>,
}

impl Resources {
    /// Looks at this process from now on.
    pub fn watch(&self, name: &str, pid: u32) {
        let name = name.to_owned();
        let watched = Watched { name, pid, samples: Vec::new(), rest: Vec::new() };
        self.watched.borrow_mut().push(watched);
    }

    /// Looks at a run of the control plane from now on.
    pub fn watch_run(&self, pid: u32) {
        let watched = self.watched.borrow();
        let runs = watched.iter().filter(|watched| watched.name.starts_with(RUN)).count();
        drop(watched);
        self.watch(&format!("{RUN}{}", runs + 1), pid);
    }

    /// Waits until no process opens or closes anything any more, and notes what each has open.
    ///
    /// # Errors
    /// They do not come to rest.
    pub async fn rest(&self) -> Result<()> {
        let pids: Vec<u32> = self.watched.borrow().iter().map(|watched| watched.pid).collect();
        let open = || pids.iter().copied().map(descriptors).collect::<Vec<_>>();
        let begun = Instant::now();
        let (mut seen, mut since) = (open(), begun);
        while since.elapsed() < REST {
            ensure!(begun.elapsed() < TO_REST, "processes do not come to rest: {seen:?} open");
            sleep(LOOK).await;
            let now = open();
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        for (watched, open) in self.watched.borrow_mut().iter_mut().zip(seen) {
            watched.rest.extend(open);
        }
        Ok(())
    }

    /// What processes had open at rest that were there before and after the load.
    pub fn rests(&self) -> Vec<Rest> {
        let both = |watched: &Watched| match watched.rest[..] {
            [before, after] => Some(Rest { name: watched.name.clone(), before, after }),
            _ => None,
        };
        self.watched.borrow().iter().filter_map(both).collect()
    }

    /// Looks every second; never comes back.
    pub async fn run(self: Rc<Self>, mesh: Rc<Mesh>) {
        let began = Instant::now();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut control = mesh.control_pid();
        loop {
            ticks.tick().await;
            let pid = mesh.control_pid();
            if let Some(pid) = pid.filter(|_| pid != control) {
                self.watch_run(pid);
            }
            control = pid.or(control);
            for watched in &mut *self.watched.borrow_mut() {
                watched.samples.extend(sample(watched.pid, began.elapsed()));
            }
        }
    }

    /// Every look at every process as comma separated values.
    pub fn table(&self) -> String {
        let mut table = "process,seconds,rss_kb,descriptors\n".to_owned();
        for watched in &*self.watched.borrow() {
            for Sample { at, rss_kb, descriptors } in &watched.samples {
                let at = at.as_secs_f64();
                let name = &watched.name;
                table.push_str(&format!("{name},{at:.1},{rss_kb},{descriptors}\n"));
            }
        }
        table
    }

    /// What the runs of the control plane had in memory at the same age: those that reached it, but
    /// for the first, which is older than the load.
    pub fn runs(&self) -> Runs {
        let first = format!("{RUN}1");
        let at_age = |watched: &Watched| {
            let begun = watched.samples.first()?.at;
            let late = watched.samples.iter().find(|sample| sample.at >= begun + AGE)?;
            let counts = watched.name.starts_with(RUN) && watched.name != first;
            counts.then_some(late.rss_kb)
        };
        Runs(self.watched.borrow().iter().filter_map(at_age).collect())
    }

    /// Whether any process lived long enough to be judged.
    pub fn is_memory_judged(&self) -> bool {
        !self.trends().is_empty() || self.runs().is_judged()
    }

    /// What became of those that lived long enough to be judged.
    pub fn trends(&self) -> Vec<Trend> {
        self.watched.borrow().iter().filter_map(Watched::trend).collect()
    }
}

/// Memory of the runs of the control plane at the same age, in KB.
#[derive(Debug)]
pub struct Runs(Vec<f64>);

impl Runs {
    /// Whether there are enough of them.
    pub fn is_judged(&self) -> bool {
        self.0.len() >= LEAST_RUNS
    }

    /// By how much each has more than the one before, in KB.
    pub fn growth_kb(&self) -> f64 {
        let numbered = self.0.iter().enumerate();
        slope(&numbered.map(|(run, kb)| (run as f64, *kb)).collect::<Vec<_>>())
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runs, age, growth) = (self.0.len(), AGE.as_secs(), self.growth_kb());
        let last = self.0.last().copied().unwrap_or_default();
        write!(f, "; {runs} runs of the control plane at {age} s: {growth:.0} KB more each, ")?;
        write!(f, "{last:.0} KB in the last")
    }
}

impl Watched {
    fn trend(&self) -> Option<Trend> {
        let judged: Vec<&Sample> = self.samples.iter().filter(|s| s.at >= WARM_UP).collect();
        let (first, last) = (judged.first()?, judged.last()?);
        if last.at - first.at < JUDGED - SLACK {
            return None;
        }
        let points: Vec<(f64, f64)> =
            judged.iter().map(|s| (s.at.as_secs_f64() / 60.0, s.rss_kb)).collect();
        Some(Trend {
            name: self.name.clone(),
            rss_kb: last.rss_kb,
            slope_kb_per_minute: slope(&points),
        })
    }
}

fn sample(pid: u32, at: Duration) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kb = line.split_whitespace().next()?.parse().ok()?;
    Some(Sample { at, rss_kb, descriptors: descriptors(pid)? })
}

/// What a process has open; nothing if it is gone.
fn descriptors(pid: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// The slope of the line with the least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let over: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let under: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(samples: impl Iterator<Item = (f64, f64)>) -> Watched {
        let samples = samples.map(|(seconds, rss_kb)| Sample {
            at: Duration::from_secs_f64(seconds),
            rss_kb,
            descriptors: 10,
        });
        Watched { name: "one".into(), pid: 1, samples: samples.collect(), rest: Vec::new() }
    }

    #[test]
    fn growth_is_measured_after_the_first_minute() {
        let seconds = || (0..300).map(f64::from);
        let steep = |s: f64| if s < 60.0 { s * 1000.0 } else { 60_000.0 + s * 2.0 };
        let trend = watched(seconds().map(|s| (s, steep(s)))).trend();
        let trend = trend.expect("long enough");
        assert!((trend.slope_kb_per_minute - 120.0).abs() < 1e-6, "{trend:?}");
    }

    #[test]
    fn runs_are_compared_at_the_same_age() {
        let resources = Resources::default();
        for run in 1..6 {
            let begun = 100.0 * f64::from(run);
            let mut one = watched((0..25).map(|s| (begun + f64::from(s), begun + f64::from(s))));
            one.name = format!("{RUN}{run}");
            resources.watched.borrow_mut().push(one);
        }
        let short = watched((0..9).map(|s| (f64::from(s), 1.0)));
        resources.watched.borrow_mut().push(Watched { name: format!("{RUN}9"), ..short });
        let runs = resources.runs();
        assert_eq!(runs.0, [210.0, 310.0, 410.0, 510.0], "the first is older than the load");
        assert!(resources.is_memory_judged() && (runs.growth_kb() - 100.0).abs() < 1e-6);
    }

    #[test]
    fn a_short_life_is_not_judged() {
        assert!(watched((0..90).map(|s| (f64::from(s), 1.0))).trend().is_none());
    }
}
