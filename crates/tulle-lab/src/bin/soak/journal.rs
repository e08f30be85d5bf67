//! What happened when: every fault that was made and every failure that a client saw, so that a
//! failure is printed between what happened around it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How far around a failure is looked.
const AROUND: Duration = Duration::from_millis(1500);
/// How much of that is printed at most.
const AROUND_LINES: usize = 24;

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let elapsed = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Everything that happened, in order.
#[derive(Debug)]
pub struct Journal {
    began_ms: u64,
    events: RefCell<Vec<(u64, String)>>,
    counts: RefCell<BTreeMap<&'static str, u64>>,
    troubles: RefCell<Vec<(&'static str, String)>>,
}

impl Journal {
    /// An empty one that begins now.
    pub fn new() -> Self {
        Self {
            began_ms: now_ms(),
            events: RefCell::default(),
            counts: RefCell::default(),
            troubles: RefCell::default(),
        }
    }

    /// Notes something that was done.
    pub fn note(&self, text: impl Into<String>) {
        self.events.borrow_mut().push((now_ms(), text.into()));
    }

    /// Counts something that is not worth a note.
    pub fn tally(&self, kind: &'static str) {
        *self.counts.borrow_mut().entry(kind).or_default() += 1;
    }

    /// Notes and counts it.
    pub fn count(&self, kind: &'static str, text: impl Into<String>) {
        self.tally(kind);
        self.note(text);
    }

    /// How often something of this kind was counted.
    pub fn counted(&self, kind: &str) -> u64 {
        self.counts.borrow().get(kind).copied().unwrap_or(0)
    }

    /// Notes that a check does not hold, prints it, and keeps it for the verdict.
    pub fn trouble(&self, check: &'static str, text: impl Into<String>) {
        let text = text.into();
        self.say(&format!("{check}: {text}"));
        self.note(format!("TROUBLE {check}: {text}"));
        self.troubles.borrow_mut().push((check, text));
    }

    /// The troubles of one check.
    pub fn troubles(&self, check: &str) -> Vec<String> {
        let troubles = self.troubles.borrow();
        troubles.iter().filter(|(of, _)| *of == check).map(|(_, text)| text.clone()).collect()
    }

    /// Prints a line with the time since the beginning.
    pub fn say(&self, text: &str) {
        println!("{:8.3}s  {text}", self.since_beginning(now_ms()));
    }

    /// Seconds from the beginning to `unix_ms`.
    pub fn since_beginning(&self, unix_ms: u64) -> f64 {
        Duration::from_millis(unix_ms.saturating_sub(self.began_ms)).as_secs_f64()
    }

    /// What happened around a moment, one line each.
    pub fn around(&self, unix_ms: u64) -> Vec<String> {
        let reach = u64::try_from(AROUND.as_millis()).unwrap_or(u64::MAX);
        let events = self.events.borrow();
        let near = events.iter().filter(|(at, _)| at.abs_diff(unix_ms) <= reach);
        let line = |(at, text): &(u64, String)| {
            let seconds = (*at as f64 - unix_ms as f64) / 1000.0;
            format!("{seconds:+.3}s {text}")
        };
        near.map(line).take(AROUND_LINES).collect()
    }
}
