//! Memory and file descriptors of the processes that live long, looked at every second, and what
//! became of them after the first minute.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::mesh::Mesh;

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(1);
/// What comes before is not judged: buffers, pools and tables reach their size.
pub const WARM_UP: Duration = Duration::from_secs(60);
/// Shortest time after that for a judgement.
pub const JUDGED: Duration = Duration::from_secs(60);
/// Most growth of memory.
pub const MAX_SLOPE_KB_PER_MINUTE: f64 = 50.0;
/// Most that the number of descriptors moves.
pub const MAX_DESCRIPTORS: f64 = 2.0;
/// Levels are compared over so much at both ends of the time that is judged.
const LEVEL: Duration = Duration::from_secs(30);

/// One look at one process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Since the load began.
    at: Duration,
    rss_kb: f64,
    /// Descriptors that are no sockets.
    files: f64,
    sockets: f64,
}

/// One process and what was seen of it.
#[derive(Debug)]
pub struct Watched {
    /// What it is.
    pub name: String,
    pid: u32,
    samples: Vec<Sample>,
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
    /// Descriptors at the beginning and at the end of what is judged.
    pub descriptors: (f64, f64),
    /// The largest distance of the number of files that are no sockets from its middle.
    pub files_moved: f64,
}

/// All that are looked at.
#[derive(Debug, Default)]
pub struct Resources {
    watched: RefCell<Vec<Watched>>,
}

impl Resources {
    /// Looks at this process from now on.
    pub fn watch(&self, name: &str, pid: u32) {
        let watched = Watched { name: name.to_owned(), pid, samples: Vec::new() };
        self.watched.borrow_mut().push(watched);
    }

    /// Looks every second; never comes back.
    pub async fn run(self: Rc<Self>, mesh: Rc<Mesh>) {
        let began = Instant::now();
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut control = None;
        let mut runs = 0;
        loop {
            ticks.tick().await;
            let pid = mesh.control_pid();
            if let Some(pid) = pid.filter(|_| pid != control) {
                runs += 1;
                self.watch(&format!("control plane, run {runs}"), pid);
            }
            control = pid;
            for watched in &mut *self.watched.borrow_mut() {
                watched.samples.extend(sample(watched.pid, began.elapsed()));
            }
        }
    }

    /// Every look at every process as comma separated values.
    pub fn table(&self) -> String {
        let mut table = "process,seconds,rss_kb,files,sockets\n".to_owned();
        for watched in &*self.watched.borrow() {
            for Sample { at, rss_kb, files, sockets } in &watched.samples {
                let at = at.as_secs_f64();
                let name = &watched.name;
                table.push_str(&format!("{name},{at:.1},{rss_kb},{files},{sockets}\n"));
            }
        }
        table
    }

    /// What became of those that lived long enough to be judged.
    pub fn trends(&self) -> Vec<Trend> {
        self.watched.borrow().iter().filter_map(Watched::trend).collect()
    }
}

impl Watched {
    fn trend(&self) -> Option<Trend> {
        let judged: Vec<&Sample> = self.samples.iter().filter(|s| s.at >= WARM_UP).collect();
        let (first, last) = (judged.first()?, judged.last()?);
        if last.at - first.at < JUDGED - LEVEL / 3 {
            return None;
        }
        let points: Vec<(f64, f64)> =
            judged.iter().map(|s| (s.at.as_secs_f64() / 60.0, s.rss_kb)).collect();
        let level = |of: &dyn Fn(&Sample) -> bool| {
            median(judged.iter().filter(|s| of(s)).map(|s| s.files + s.sockets).collect())
        };
        let begin = level(&|s| s.at < first.at + LEVEL);
        let end = level(&|s| s.at + LEVEL > last.at);
        let files: Vec<f64> = judged.iter().map(|s| s.files).collect();
        let middle = median(files.clone());
        Some(Trend {
            name: self.name.clone(),
            rss_kb: last.rss_kb,
            slope_kb_per_minute: slope(&points),
            descriptors: (begin, end),
            files_moved: files.iter().map(|count| (count - middle).abs()).fold(0.0, f64::max),
        })
    }
}

fn sample(pid: u32, at: Duration) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let rss_kb = line.split_whitespace().next()?.parse().ok()?;
    let (mut files, mut sockets) = (0.0, 0.0);
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        match target.to_string_lossy().starts_with("socket:") {
            true => sockets += 1.0,
            false => files += 1.0,
        }
    }
    Some(Sample { at, rss_kb, files, sockets })
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(samples: impl Iterator<Item = (f64, f64, f64)>) -> Watched {
        let samples = samples.map(|(seconds, rss_kb, sockets)| Sample {
            at: Duration::from_secs_f64(seconds),
            rss_kb,
            files: 10.0,
            sockets,
        });
        Watched { name: "one".into(), pid: 1, samples: samples.collect() }
    }

    #[test]
    fn growth_is_measured_after_the_first_minute() {
        let seconds = || (0..300).map(f64::from);
        let steep = |s: f64| if s < 60.0 { s * 1000.0 } else { 60_000.0 + s * 2.0 };
        let trend = watched(seconds().map(|s| (s, steep(s), 5.0))).trend();
        let trend = trend.expect("long enough");
        assert!((trend.slope_kb_per_minute - 120.0).abs() < 1e-6, "{trend:?}");
        assert_eq!(trend.descriptors, (15.0, 15.0));
        let leaking = watched(seconds().map(|s| (s, 1.0, (s / 10.0).floor()))).trend();
        let (begin, end) = leaking.expect("long enough").descriptors;
        assert!(end - begin > 15.0, "{begin} {end}");
    }

    #[test]
    fn a_short_life_is_not_judged() {
        assert!(watched((0..90).map(|s| (f64::from(s), 1.0, 1.0))).trend().is_none());
    }
}
