//! Circuit breakers: how much may be under way at once, over all workers.
//!
//! Reference: Envoy "Circuit breaking". The counts live as long as the cluster; the limits are
//! read at each decision, so that editing them closes nothing.

use std::array;
use std::sync::Arc;

use tokio::sync::Notify;
use tulle_model::cluster::{Limits, RetryBudget};

use super::Clock;
use super::failure::{LimitKind, Overflow};
use crate::shared::{Block, CountGuard, Shared};

/// The numbers of one priority.
pub const NUMBERS: usize = 4 + PERIODS;
/// The interval of a retry budget is counted in so many periods: what began earlier is forgotten
/// between this part of the interval and the whole of it.
const PERIODS: usize = 8;
/// Bits of a number that count the requests of a period; the rest say which period it is.
const COUNT_BITS: u32 = 32;
/// The low half of a number.
const LOW: u64 = (1 << COUNT_BITS) - 1;

/// What is under way in one priority of one cluster.
#[derive(Debug)]
pub struct UnderWay {
    /// Connections.
    pub connections: Shared,
    /// Requests waiting for a connection.
    pub pending: Shared,
    /// Requests.
    pub requests: Shared,
    /// Retries.
    pub retries: Shared,
    /// Requests that began lately, by period.
    begun: [Shared; PERIODS],
    clock: Clock,
    released: Arc<Notify>,
}

/// A request that is under way.
#[derive(Debug)]
pub struct RequestPermit {
    _requests: CountGuard,
}

/// A retry that is under way.
#[derive(Debug)]
pub struct RetryPermit {
    _retries: CountGuard,
}

/// A connection that is open. When it is closed, one who waits for a place is told.
#[derive(Debug)]
pub struct ConnectionPermit {
    connections: Option<CountGuard>,
    released: Arc<Notify>,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        drop(self.connections.take());
        self.released.notify_one();
    }
}

impl UnderWay {
    /// The numbers from `first` on of `block`; `released` is told of closed connections.
    #[must_use]
    pub fn new(block: &Block, first: usize, clock: Clock, released: Arc<Notify>) -> Self {
        Self {
            begun: array::from_fn(|period| block.at(first + 4 + period)),
            clock,
            connections: block.at(first),
            pending: block.at(first + 1),
            requests: block.at(first + 2),
            retries: block.at(first + 3),
            released,
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// So many are under way already.
    pub fn admit(&self, limits: &Limits) -> Result<RequestPermit, Overflow> {
        let permit = self.requests.acquire(limits.max_requests.into());
        let permit = permit.map(|guard| RequestPermit { _requests: guard });
        let permit = permit.ok_or(LimitKind::Requests)?;
        if let Some(period) = limits.retry_budget.and_then(|budget| self.period(budget)) {
            self.note_begun(period);
        }
        Ok(permit)
    }

    /// Counts a retry.
    ///
    /// # Errors
    /// So many are under way already, or the budget is used up.
    pub fn retry(&self, limits: &Limits) -> Result<RetryPermit, Overflow> {
        let limit = match limits.retry_budget {
            None => limits.max_retries.into(),
            Some(budget) => {
                let active = self.requests.value() + self.pending.value();
                let lately = self.period(budget).map_or(0, |period| self.begun_by(period));
                let considered = active.max(lately);
                let share = considered.saturating_mul(budget.basis_points.into()) / 10_000;
                share.max(budget.min_concurrency.into())
            }
        };
        let permit = self.retries.acquire(limit);
        permit.map(|guard| RetryPermit { _retries: guard }).ok_or(LimitKind::Retries.into())
    }

    /// Which period of a budget's interval it is now.
    fn period(&self, budget: RetryBudget) -> Option<u64> {
        let length = budget.interval.as_millis() / PERIODS as u128;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        // A millisecond is the shortest that the clock tells apart.
        (!budget.interval.is_zero()).then(|| (self.clock.now() / length.max(1)) & LOW)
    }

    fn note_begun(&self, period: u64) {
        // A place is taken over from the period that had it a whole interval ago.
        self.begun[period as usize % PERIODS].update(|value| {
            let is_same = value >> COUNT_BITS == period;
            Some(if is_same { value + 1 } else { period << COUNT_BITS | 1 })
        });
    }

    /// Requests that began in the interval that ends with `period`.
    fn begun_by(&self, period: u64) -> u64 {
        let age = |value: &u64| period.wrapping_sub(value >> COUNT_BITS) & LOW;
        let lately = self.begun.iter().map(Shared::value);
        lately.filter(|value| age(value) < PERIODS as u64).map(|value| value & LOW).sum()
    }

    /// Counts a request that waits for a connection.
    ///
    /// # Errors
    /// So many wait already.
    pub fn wait(&self, limits: &Limits) -> Result<CountGuard, Overflow> {
        let permit = self.pending.acquire(limits.max_pending_requests.into());
        permit.ok_or(LimitKind::PendingRequests.into())
    }

    /// Counts a connection.
    ///
    /// # Errors
    /// So many are open already.
    pub fn connect(&self, limits: &Limits) -> Result<ConnectionPermit, Overflow> {
        let permit = self.connections.acquire(limits.max_connections.into());
        let guard = permit.ok_or(Overflow(LimitKind::Connections))?;
        Ok(ConnectionPermit { connections: Some(guard), released: Arc::clone(&self.released) })
    }

    /// Waits until a connection was closed since the last time somebody was told.
    pub async fn released(&self) {
        self.released.notified().await;
    }

    /// Tells one who waits for a place that there is one.
    pub fn tell_released(&self) {
        self.released.notify_one();
    }

    /// Tells everybody who waits for a place that the limit may have changed.
    pub fn tell_all(&self) {
        self.released.notify_waiters();
    }
}

impl From<LimitKind> for Overflow {
    fn from(kind: LimitKind) -> Self {
        Self(kind)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn under_way() -> UnderWay {
        UnderWay::new(&Block::own(NUMBERS), 0, Clock::start(), Arc::default())
    }

    #[test]
    fn a_limit_of_one_lets_one_through() {
        let under_way = under_way();
        let limits = Limits { max_requests: 1, max_retries: 0, ..Limits::default() };
        let permit = under_way.admit(&limits).expect("first");
        assert_eq!(under_way.admit(&limits).expect_err("second").0, LimitKind::Requests);
        drop(permit);
        under_way.admit(&limits).expect("again");
        assert_eq!(under_way.retry(&limits).expect_err("none").0, LimitKind::Retries);
    }

    #[test]
    fn a_retry_budget_follows_the_requests_under_way() {
        let under_way = under_way();
        let interval = Duration::ZERO;
        let budget = RetryBudget { basis_points: 2_000, min_concurrency: 1, interval };
        let limits = Limits { retry_budget: Some(budget), ..Limits::default() };
        let _first = under_way.retry(&limits).expect("always one");
        under_way.retry(&limits).expect_err("no requests, no more retries");
        let _requests: Vec<_> = (0..10).map(|_| under_way.admit(&limits)).collect();
        let _second = under_way.retry(&limits).expect("20 % of ten");
        under_way.retry(&limits).expect_err("not three");
    }

    #[test]
    fn with_an_interval_requests_that_ended_lately_count_too() {
        let under_way = under_way();
        let interval = Duration::from_secs(3600);
        let budget = RetryBudget { basis_points: 2_000, min_concurrency: 0, interval };
        let limits = Limits { retry_budget: Some(budget), ..Limits::default() };
        under_way.retry(&limits).expect_err("none began");
        for _ in 0..10 {
            drop(under_way.admit(&limits));
        }
        let _two = [(); 2].map(|()| under_way.retry(&limits).expect("20 % of ten"));
        under_way.retry(&limits).expect_err("not three");
    }

    #[test]
    fn what_began_an_interval_ago_is_forgotten() {
        let under_way = under_way();
        // The number of a period begins again from zero.
        for period in [LOW, LOW, 0, 3] {
            under_way.note_begun(period);
        }
        assert_eq!([3, 6, 7, 8].map(|period| under_way.begun_by(period)), [4, 4, 2, 1]);
        under_way.note_begun(8);
        assert_eq!([8, 11, 16].map(|period| under_way.begun_by(period)), [2, 1, 0]);
    }
}
