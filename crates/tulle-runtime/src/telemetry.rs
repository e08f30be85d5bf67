//! Metrics that cost a worker one plain addition: every series has one writer, so that no atomic
//! read-modify-write, no lock and no other thread is in its way; whoever scrapes reads and adds up.
//!
//! Series that share their labels are one [`Group`], declared with [`metrics!`](crate::metrics):
//! all numbers of one cluster lie side by side in one block. A thread makes its blocks itself (in
//! its [`Local`]) and sends them to the [`Registry`], where the control thread finds them at the
//! next scrape.

mod declare;
mod exposition;
mod registry;
mod value;

pub use registry::{Dialect, Local, MAX_SERIES, Registry, Series};
pub use value::{Counter, Gauge, Histogram};

/// What Envoy and Istio use for times (milliseconds) and sizes (bytes).
pub const BUCKETS: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Series that share their labels, in one block.
#[derive(Debug)]
pub struct Group {
    /// Whose names they have; a process speaks some dialects and not others.
    pub dialect: Dialect,
    /// Names of the labels.
    pub labels: &'static [&'static str],
    /// The series; those of one name stand together.
    pub families: &'static [Family],
}

/// One series of a group.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// A label that tells it from others of its name in the group; empty for none.
    pub fixed: &'static str,
    /// How it counts.
    pub kind: Kind,
}

/// How a series counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down; the sum over all threads counts.
    Gauge,
    /// Counts values up to each of these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// Cells of a block: a histogram has one for each bound, one beyond the last, and the sum.
    const fn cells(self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            Self::Histogram(bounds) => bounds.len() + 2,
        }
    }

    /// Lines that it takes when it is scraped: what a limit on series counts.
    const fn lines(self) -> usize {
        match self {
            Self::Counter | Self::Gauge => 1,
            Self::Histogram(bounds) => bounds.len() + 3,
        }
    }

    /// Its Prometheus type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The cell at which a family begins; used by [`metrics!`](crate::metrics).
#[doc(hidden)]
#[must_use]
pub const fn offset(families: &[Family], index: usize) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < index {
        sum += families[at].kind.cells();
        at += 1;
    }
    sum
}

#[cfg(test)]
mod tests;
