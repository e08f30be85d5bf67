//! What became of every request, per second and in sum.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::histogram::Histogram;

/// Failures described in the summary at most.
const DESCRIBED_LIMIT: usize = 200;

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The connection was refused.
    Refused,
    /// The connection or stream was reset, or ended before the answer.
    Reset,
    /// The answer ended in its middle.
    Cut,
    /// No answer in time.
    Timeout,
    /// A status of 500 or more, or a gRPC status other than 0.
    ServerError,
    /// Another status than 2xx.
    OtherStatus,
    /// An answer that is not what was sent (echoes), or not the protocol.
    Wrong,
    /// Never sent: the generator could not keep up.
    NotSent,
}

/// A failure with what is known of it.
#[derive(Debug)]
pub struct Failure {
    pub outcome: Outcome,
    pub detail: String,
}

impl Failure {
    pub(super) fn new(outcome: Outcome, detail: impl ToString) -> Self {
        Self { outcome, detail: detail.to_string() }
    }
}

/// Counts of one second, or of all.
#[derive(Debug, Default, Clone)]
struct Counts {
    sent: u64,
    answered: u64,
    failed: BTreeMap<Outcome, u64>,
    tally: BTreeMap<String, u64>,
    latency: Histogram,
}

#[derive(Debug, Clone, Serialize)]
struct Described {
    at_ms: u64,
    /// Since 1970, so that logs of other processes can be laid beside it.
    unix_ms: u64,
    outcome: Outcome,
    detail: String,
}

/// Where all requests are counted.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    second: RefCell<Counts>,
    all: RefCell<Counts>,
    described: RefCell<Vec<Described>>,
    /// How many of them the lines so far have told.
    told: Cell<usize>,
    under_way: Rc<Cell<usize>>,
    /// Long streams that were opened.
    streams: Cell<u64>,
}

/// Counts a request as under way.
pub(super) struct UnderWayGuard(Rc<Cell<usize>>);

impl Drop for UnderWayGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Recorder {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            second: RefCell::default(),
            all: RefCell::default(),
            described: RefCell::default(),
            told: Cell::default(),
            under_way: Rc::default(),
            streams: Cell::default(),
        }
    }

    /// A long stream is open.
    pub(super) fn stream_opened(&self) {
        self.streams.set(self.streams.get() + 1);
    }

    pub(super) fn begin(&self) -> UnderWayGuard {
        self.under_way.set(self.under_way.get() + 1);
        UnderWayGuard(Rc::clone(&self.under_way))
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.get()
    }

    pub(super) fn sent(&self) {
        self.second.borrow_mut().sent += 1;
    }

    pub(super) fn answered(&self, latency: Duration, tally: Option<&str>) {
        let mut second = self.second.borrow_mut();
        second.answered += 1;
        second.latency.add(latency);
        if let Some(value) = tally {
            *second.tally.entry(value.to_owned()).or_default() += 1;
        }
    }

    pub(super) fn failed(&self, outcome: Outcome, detail: &str) {
        *self.second.borrow_mut().failed.entry(outcome).or_default() += 1;
        let mut described = self.described.borrow_mut();
        if described.len() < DESCRIBED_LIMIT {
            let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            described.push(Described {
                at_ms: milliseconds(self.started.elapsed()),
                unix_ms: milliseconds(unix),
                outcome,
                detail: detail.to_owned(),
            });
        }
    }

    /// Counts what was sent and has no outcome as failed: nothing goes missing from the sum.
    pub(super) fn close(&self) {
        let left = self.second.borrow().open() + self.all.borrow().open();
        for _ in 0..left {
            self.failed(Outcome::Timeout, "; still under way at the end");
        }
    }

    /// All failures so far.
    pub(super) fn failures(&self) -> u64 {
        let sum = |counts: &Counts| counts.failed.values().sum::<u64>();
        sum(&self.second.borrow()) + sum(&self.all.borrow())
    }

    /// One line about what became of requests since the last.
    pub(super) fn take_second(&self) -> Value {
        let second = self.second.take();
        let described = self.described.borrow();
        let fresh = &described[self.told.replace(described.len())..];
        let line = line(&second, self.started.elapsed(), fresh);
        self.all.borrow_mut().add(&second);
        line
    }

    /// One line about everything.
    pub(super) fn summary(&self) -> Value {
        let rest = self.second.take();
        self.all.borrow_mut().add(&rest);
        let mut line = line(&self.all.borrow(), self.started.elapsed(), &self.described.borrow());
        line["summary"] = true.into();
        line["streams"] = self.streams.get().into();
        line
    }
}

impl Counts {
    /// What was sent, less what has an outcome: in a second it may be fewer than none.
    fn open(&self) -> i64 {
        let ended = self.answered + self.failed.values().sum::<u64>();
        self.sent.cast_signed() - ended.cast_signed()
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        for (outcome, count) in &other.failed {
            *self.failed.entry(*outcome).or_default() += count;
        }
        for (value, count) in &other.tally {
            *self.tally.entry(value.clone()).or_default() += count;
        }
        self.latency.merge(&other.latency);
    }
}

fn line(counts: &Counts, elapsed: Duration, described: &[Described]) -> Value {
    serde_json::json!({
        "seconds": elapsed.as_secs_f64(),
        "sent": counts.sent,
        "answered": counts.answered,
        "failed": counts.failed.values().sum::<u64>(),
        "failures": counts.failed,
        "tally": counts.tally,
        "latency_us": {
            "p50": counts.latency.percentile(0.5),
            "p90": counts.latency.percentile(0.9),
            "p99": counts.latency.percentile(0.99),
            "p999": counts.latency.percentile(0.999),
            "max": counts.latency.percentile(1.0),
        },
        "described": described,
    })
}
