//! Outlier detection: an endpoint that keeps failing requests is left out for a while.
//!
//! A state machine over numbers that all workers share; time is a parameter, in milliseconds of
//! the proxy's clock. Reference: Envoy "Outlier detection", consecutive errors only.

use std::time::Duration;

use tulle_model::cluster::OutlierDetection;

use crate::shared::{Block, Shared};

/// How one attempt at an endpoint ended. Each attempt is reported once per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A connection was there or could be made; an answer over it is still to come.
    Connected,
    /// A connection could be made, and nothing that is carried over it will be judged.
    ConnectedFinally,
    /// No connection could be made.
    ConnectFailed,
    /// Connecting or answering took too long.
    TimedOut,
    /// It answered with this status; gRPC statuses are to be translated before.
    Answered(u16),
    /// It took the request and broke off before an answer.
    Broke,
}

/// What an outcome led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Consequence {
    /// Nothing.
    None,
    /// The endpoint failed often enough, but too many are left out already.
    Spared,
    /// The endpoint is left out from now on.
    Ejected,
}

/// Milliseconds of the proxy's clock; every worker counts from the same moment.
pub type Millis = u64;

/// What the workers know of one cluster's ejections.
#[derive(Clone, Debug)]
pub struct ClusterOutliers {
    ejected: Shared,
    /// Grows with each ejection and return, so that every worker sees that health changed.
    changes: Shared,
    checked: Shared,
}

/// What the workers know of one endpoint's failures.
#[derive(Debug)]
pub struct EndpointOutlier {
    consecutive_5xx: Shared,
    consecutive_gateway: Shared,
    consecutive_local: Shared,
    /// When it was ejected, plus one; zero when it is not.
    ejected_at: Shared,
    /// How many times the base time the next ejection lasts; falls while it behaves.
    backoff: Shared,
    ejections: Shared,
}

impl ClusterOutliers {
    /// How many numbers of a block it takes.
    pub const NUMBERS: usize = 3;

    /// Made of the numbers from `first` on.
    #[must_use]
    pub fn new(block: &Block, first: usize) -> Self {
        let number = |index| block.at(first + index);
        Self { ejected: number(0), changes: number(1), checked: number(2) }
    }

    /// Grows whenever the health of an endpoint changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.value()
    }

    /// Endpoints that are left out now.
    #[must_use]
    pub fn ejected(&self) -> u64 {
        self.ejected.value()
    }

    /// Whether an interval has passed since ejections were last looked at. Answers yes to one
    /// worker only.
    #[must_use]
    pub fn is_due(&self, policy: &OutlierDetection, now: Millis) -> bool {
        let interval = millis(policy.interval);
        self.checked.update(|last| (now >= last.saturating_add(interval)).then_some(now))
    }

    /// Takes a place among the ejected, of which there may be a share of `endpoints`: none
    /// where one is more than that, unless the policy always allows one.
    fn take_place(&self, policy: &OutlierDetection, endpoints: usize) -> bool {
        let share = endpoints as u64 * u64::from(policy.max_ejection_percent.min(100)) / 100;
        let most = share.max(policy.always_eject_one.into());
        self.ejected.update(|ejected| (ejected < most).then_some(ejected + 1))
    }
}

impl EndpointOutlier {
    /// How many numbers of a block it takes.
    pub const NUMBERS: usize = 6;

    /// Made of the numbers from `first` on.
    #[must_use]
    pub fn new(block: &Block, first: usize) -> Self {
        let number = |index| block.at(first + index);
        Self {
            consecutive_5xx: number(0),
            consecutive_gateway: number(1),
            consecutive_local: number(2),
            ejected_at: number(3),
            backoff: number(4),
            ejections: number(5),
        }
    }

    /// Whether it is left out.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_at.value() != 0
    }

    /// How often it was left out in its life.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.value()
    }

    /// Takes note of an outcome.
    pub fn report(&self, outcome: Outcome, now: Millis, cluster: &Population<'_>) -> Consequence {
        let split = cluster.policy.split_external_local_origin_errors;
        match outcome {
            Outcome::Answered(status) => self.answered(status, now, cluster),
            Outcome::Connected | Outcome::ConnectedFinally if split => {
                self.consecutive_local.set(0);
                Consequence::None
            }
            // Without the split a connection says nothing: the answer will.
            Outcome::Connected => Consequence::None,
            Outcome::ConnectedFinally => self.answered(200, now, cluster),
            // Envoy takes a break for a failure of the connection, whoever reset the stream.
            Outcome::ConnectFailed | Outcome::Broke | Outcome::TimedOut if split => {
                let limit = cluster.policy.consecutive_local_origin_failure;
                self.failed(&self.consecutive_local, limit, now, cluster)
            }
            Outcome::ConnectFailed | Outcome::Broke => self.answered(503, now, cluster),
            Outcome::TimedOut => self.answered(504, now, cluster),
        }
    }

    fn answered(&self, status: u16, now: Millis, cluster: &Population<'_>) -> Consequence {
        let gateway = match status {
            502..=504 => {
                let limit = cluster.policy.consecutive_gateway_failure;
                self.failed(&self.consecutive_gateway, limit, now, cluster)
            }
            _ => {
                self.consecutive_gateway.set(0);
                Consequence::None
            }
        };
        let any = match status {
            500..=599 => {
                let limit = cluster.policy.consecutive_5xx;
                self.failed(&self.consecutive_5xx, limit, now, cluster)
            }
            _ => {
                self.consecutive_5xx.set(0);
                Consequence::None
            }
        };
        gateway.max(any)
    }

    fn failed(
        &self,
        count: &Shared,
        limit: u32,
        now: Millis,
        cluster: &Population<'_>,
    ) -> Consequence {
        if count.increment() == u64::from(limit) && limit > 0 && !self.is_ejected() {
            count.set(0);
            return self.eject(now, cluster);
        }
        Consequence::None
    }

    fn eject(&self, now: Millis, cluster: &Population<'_>) -> Consequence {
        if !cluster.outliers.take_place(cluster.policy, cluster.endpoints) {
            return Consequence::Spared;
        }
        if !self.ejected_at.update(|at| (at == 0).then_some(now + 1)) {
            // Another worker was first.
            cluster.outliers.ejected.decrement();
            return Consequence::None;
        }
        self.ejections.increment();
        let base = millis(cluster.policy.base_ejection_time);
        let most = millis(cluster.policy.max_ejection_time);
        self.backoff.update(|times| {
            (times.saturating_mul(base) < most.saturating_add(base)).then_some(times + 1)
        });
        cluster.outliers.changes.increment();
        Consequence::Ejected
    }

    /// Looks, once an interval, whether its time is over; one that behaved is forgiven a step.
    pub fn check(&self, now: Millis, cluster: &Population<'_>) {
        let policy = cluster.policy;
        let base = millis(policy.base_ejection_time);
        let time = base.saturating_mul(self.backoff.value()).min(millis(policy.max_ejection_time));
        match self.ejected_at.value().checked_sub(1) {
            Some(at) if now >= at.saturating_add(time) => self.release(cluster.outliers),
            Some(_) => {}
            None => {
                self.backoff.update(|times| times.checked_sub(1));
            }
        }
    }

    /// Ends an ejection: its time is over, or the endpoint leaves the cluster.
    pub fn release(&self, cluster: &ClusterOutliers) {
        if self.ejected_at.update(|at| (at != 0).then_some(0)) {
            for count in [&self.consecutive_5xx, &self.consecutive_gateway, &self.consecutive_local]
            {
                count.set(0);
            }
            cluster.ejected.decrement();
            cluster.changes.increment();
        }
    }
}

/// The cluster around an endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Population<'a> {
    /// When to eject.
    pub policy: &'a OutlierDetection,
    /// The cluster's ejections.
    pub outliers: &'a ClusterOutliers,
    /// How many endpoints it has.
    pub endpoints: usize,
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Cluster {
        policy: OutlierDetection,
        outliers: ClusterOutliers,
        endpoints: Vec<EndpointOutlier>,
    }

    impl Cluster {
        fn new(endpoints: usize, policy: OutlierDetection) -> Self {
            let endpoint = |_| EndpointOutlier::new(&Block::own(EndpointOutlier::NUMBERS), 0);
            Self {
                policy,
                outliers: ClusterOutliers::new(&Block::own(ClusterOutliers::NUMBERS), 0),
                endpoints: (0..endpoints).map(endpoint).collect(),
            }
        }

        fn population(&self) -> Population<'_> {
            let endpoints = self.endpoints.len();
            Population { policy: &self.policy, outliers: &self.outliers, endpoints }
        }

        fn report(&self, index: usize, outcomes: &[Outcome]) -> bool {
            for outcome in outcomes {
                self.endpoints[index].report(*outcome, 1_000, &self.population());
            }
            self.endpoints[index].is_ejected()
        }
    }

    const FAILED: Outcome = Outcome::ConnectFailed;

    #[test]
    fn five_failures_in_a_row_eject_but_not_with_a_success_between() {
        let cluster = Cluster::new(10, OutlierDetection::default());
        assert!(!cluster.report(0, &[FAILED, FAILED, Outcome::TimedOut, Outcome::Broke]));
        assert!(!cluster.report(0, &[Outcome::Answered(200), FAILED]));
        assert!(!cluster.report(0, &[Outcome::Connected, Outcome::Answered(500), FAILED, FAILED]));
        assert!(cluster.report(0, &[Outcome::Answered(503)]));
        assert_eq!((cluster.outliers.ejected(), cluster.outliers.changes()), (1, 1));
    }

    #[test]
    fn gateway_failures_are_counted_apart() {
        let policy = OutlierDetection {
            consecutive_5xx: 0,
            consecutive_gateway_failure: 2,
            ..OutlierDetection::default()
        };
        let cluster = Cluster::new(10, policy);
        let status = Outcome::Answered;
        assert!(!cluster.report(0, &[status(502), status(500), status(504)]));
        assert!(cluster.report(0, &[status(503)]));
    }

    #[test]
    fn split_errors_do_not_mix() {
        let policy = OutlierDetection {
            split_external_local_origin_errors: true,
            consecutive_local_origin_failure: 2,
            consecutive_5xx: 2,
            ..OutlierDetection::default()
        };
        let cluster = Cluster::new(10, policy);
        assert!(!cluster.report(0, &[FAILED, Outcome::Answered(500), Outcome::Connected, FAILED]));
        assert!(cluster.report(0, &[FAILED]));
    }

    #[test]
    fn a_share_is_ejected_and_one_more_only_where_that_is_allowed() {
        let policy = OutlierDetection { consecutive_5xx: 1, ..OutlierDetection::default() };
        let check = |endpoints, percent, [expected, with_one]: [usize; 2]| {
            for (always_eject_one, expected) in [(false, expected), (true, with_one)] {
                let policy =
                    OutlierDetection { max_ejection_percent: percent, always_eject_one, ..policy };
                let cluster = Cluster::new(endpoints, policy);
                let ejected = (0..endpoints).filter(|index| cluster.report(*index, &[FAILED]));
                let of = format!("of {endpoints} at {percent} %");
                assert_eq!(ejected.count(), expected, "{of}, always one: {always_eject_one}");
            }
        };
        check(1, 0, [0, 1]);
        check(1, 10, [0, 1]);
        check(9, 10, [0, 1]);
        check(10, 10, [1, 1]);
        check(19, 10, [1, 1]);
        check(20, 10, [2, 2]);
        check(3, 100, [3, 3]);
    }

    #[test]
    fn ejections_end_and_grow_and_are_forgiven() {
        let policy = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            ..OutlierDetection::default()
        };
        let cluster = Cluster::new(1, policy);
        let (endpoint, around) = (&cluster.endpoints[0], cluster.population());
        let ejected_for = |start: Millis| {
            endpoint.report(FAILED, start, &around);
            let over = (0..).map(|tick| tick * 10_000).find(|passed| {
                endpoint.check(start + passed, &around);
                !endpoint.is_ejected()
            });
            over.expect("it ends")
        };
        assert_eq!(ejected_for(0), 30_000);
        assert_eq!(ejected_for(30_000), 60_000);
        endpoint.check(100_000, &around);
        endpoint.check(110_000, &around);
        assert_eq!(ejected_for(120_000), 30_000);
        assert_eq!((endpoint.ejections(), cluster.outliers.ejected()), (3, 0));
        for _ in 0..20 {
            ejected_for(1_000_000);
        }
        assert_eq!(ejected_for(1_000_000), 300_000, "never longer than the most");
    }

    #[test]
    fn an_interval_is_due_once() {
        let cluster = Cluster::new(1, OutlierDetection::default());
        let due = |now| cluster.outliers.is_due(&cluster.policy, now);
        assert_eq!((due(9_999), due(10_000), due(10_001), due(20_000)), (false, true, false, true));
    }
}
