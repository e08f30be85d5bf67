//! Takes lines off the workers: the control thread opens what a configuration names, each worker
//! has its own queue into it.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tulle_model::access_log::{AccessLog, LogFormat, LogSink};
use tulle_model::listener::NetworkFilter;
use tulle_model::snapshot::Snapshot;
use tulle_runtime::sink::{Sink, Target, WorkerQueue};

use super::{LogFields, default_log, render};
use crate::settings::AccessLogFormat;

/// Most different files that are logged to.
pub const MAX_SINKS: usize = 64;
/// Bytes of capacity that a worker keeps for its next line.
const KEPT_LINE_BYTES: usize = 16 * 1024;

/// What is open, as workers are told it.
pub type OpenSinks = Arc<HashMap<LogSink, Arc<Sink>>>;

/// The control thread's side: opens, reopens, closes.
#[derive(Debug, Default)]
pub struct Sinks {
    open: OpenSinks,
}

/// An access log that cannot be written; its lines are lost until it can.
#[derive(Debug, thiserror::Error)]
#[error("access log {sink:?}: {source}; check that the directory exists and is writable")]
pub struct SinkError {
    /// Where it should have gone.
    pub sink: LogSink,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Sinks {
    /// Opens what `snapshot` and `more` name and is not open. What they no longer name stays open
    /// while there is room: connections that began before the change still write to it.
    pub fn sync(&mut self, snapshot: &Snapshot, more: &[AccessLog]) -> Vec<SinkError> {
        let wanted = wanted(snapshot, more);
        if wanted.iter().all(|sink| self.open.contains_key(sink)) {
            return Vec::new();
        }
        let mut errors = Vec::new();
        let mut open = HashMap::clone(&self.open);
        for sink in &wanted {
            if open.contains_key(sink) {
                continue;
            }
            let opened = match has_room(&mut open, &wanted) {
                true => open_sink(sink),
                false => Err(io::Error::other(format!("more than {MAX_SINKS} access logs"))),
            };
            match opened {
                Ok(opened) => drop(open.insert(sink.clone(), opened)),
                Err(source) => errors.push(SinkError { sink: sink.clone(), source }),
            }
        }
        self.open = Arc::new(open);
        errors
    }

    /// What is open now.
    #[must_use]
    pub fn open(&self) -> OpenSinks {
        Arc::clone(&self.open)
    }

    /// Opens files again, because somebody has moved them (SIGUSR1).
    pub fn reopen(&self) {
        self.open.values().for_each(|sink| sink.reopen());
    }

    /// Lines lost so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.open.values().map(|sink| sink.dropped()).sum()
    }

    /// Writes what is waiting, at the end of the process when the workers are gone.
    pub fn close(self, deadline: Instant) {
        let open = Arc::try_unwrap(self.open).unwrap_or_default();
        for sink in open.into_values().filter_map(Arc::into_inner) {
            sink.close(deadline);
        }
    }
}

/// This machine's name; empty where the system does not say.
#[must_use]
pub fn hostname() -> Arc<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().into()
}

/// Whether another one may be opened, if need be in the place of one that nobody names any more.
fn has_room(open: &mut HashMap<LogSink, Arc<Sink>>, wanted: &HashSet<LogSink>) -> bool {
    if open.len() < MAX_SINKS {
        return true;
    }
    let unwanted = open.keys().find(|sink| !wanted.contains(*sink)).cloned();
    unwanted.is_some_and(|sink| open.remove(&sink).is_some())
}

fn open_sink(sink: &LogSink) -> io::Result<Arc<Sink>> {
    let target = match sink {
        LogSink::Stdout => Target::Stdout,
        LogSink::Stderr => Target::Stderr,
        LogSink::File(path) => Target::File(path.as_ref().into()),
    };
    Sink::open(target).map(Arc::new)
}

fn wanted(snapshot: &Snapshot, more: &[AccessLog]) -> HashSet<LogSink> {
    let mut wanted: HashSet<LogSink> = more.iter().map(|log| log.sink.clone()).collect();
    for listener in snapshot.listeners() {
        let of_chains = listener.all_chains().flat_map(|chain| match &chain.network {
            NetworkFilter::Http(manager) => &manager.access_log,
            NetworkFilter::Tcp(proxy) => &proxy.access_log,
        });
        let all = listener.access_log.iter().chain(of_chains);
        wanted.extend(all.map(|log| log.sink.clone()));
    }
    wanted
}

/// A worker's side.
#[derive(Debug)]
pub struct WorkerLogs {
    queues: RefCell<Vec<(LogSink, Arc<Sink>, WorkerQueue)>>,
    line: RefCell<Vec<u8>>,
    /// Written where the configuration names no log at all.
    fallback: Vec<AccessLog>,
    /// What stands for the choice of the command line.
    default: LogFormat,
    hostname: Arc<str>,
}

impl WorkerLogs {
    /// One that writes `fallback` where a configuration has no access log, on the machine called
    /// `hostname`.
    #[must_use]
    pub fn new(fallback: Vec<AccessLog>, hostname: Arc<str>) -> Self {
        let default = default_log(AccessLogFormat::Text).format;
        Self { queues: RefCell::default(), line: RefCell::default(), fallback, default, hostname }
    }

    /// This machine's name, for [`LogFields::hostname`].
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Takes note of what is open now.
    pub fn set(&self, open: &OpenSinks) {
        let mut queues = self.queues.borrow_mut();
        queues.retain(|(sink, old, _)| open.get(sink).is_some_and(|new| Arc::ptr_eq(old, new)));
        for (sink, opened) in open.iter() {
            if !queues.iter().any(|(known, ..)| known == sink) {
                let queue = opened.worker_queue();
                queues.push((sink.clone(), Arc::clone(opened), queue));
            }
        }
    }

    /// The format of a line. A control plane that asks for the default leaves the choice to the
    /// command line.
    fn format<'a>(&'a self, log: &'a AccessLog) -> &'a LogFormat {
        match self.fallback.first() {
            Some(AccessLog { sink, format: json @ LogFormat::Json(_) })
                if *sink == log.sink && log.format == self.default =>
            {
                json
            }
            _ => &log.format,
        }
    }

    /// Whether anything is written of what has these logs.
    #[must_use]
    pub fn has_any(&self, logs: &[AccessLog]) -> bool {
        !(logs.is_empty() && self.fallback.is_empty())
    }

    /// Writes a line to each of `logs`. Never waits; without room the line is dropped and counted.
    pub fn write(&self, logs: &[AccessLog], fields: &LogFields<'_>) {
        let logs = if logs.is_empty() { &self.fallback } else { logs };
        if logs.is_empty() {
            return;
        }
        let queues = self.queues.borrow();
        let mut line = self.line.borrow_mut();
        for log in logs {
            let Some((.., queue)) = queues.iter().find(|(sink, ..)| *sink == log.sink) else {
                continue;
            };
            line.clear();
            render::line(self.format(log), fields, &mut line);
            queue.push(&line);
        }
        if line.capacity() > KEPT_LINE_BYTES {
            *line = Vec::new();
        }
    }
}
