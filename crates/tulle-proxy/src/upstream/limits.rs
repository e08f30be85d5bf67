//! Circuit breakers: how much may be under way at once, over all workers.
//!
//! Reference: Envoy "Circuit breaking". The counts live as long as the cluster; the limits are
//! read at each decision, so that editing them closes nothing.

use std::sync::Arc;

use tokio::sync::Notify;
use tulle_model::cluster::Limits;

use super::failure::{LimitKind, Overflow};
use crate::shared::{Block, CountGuard, Shared};

/// The numbers of one priority.
pub const NUMBERS: usize = 4;

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
    pub fn new(block: &Block, first: usize, released: Arc<Notify>) -> Self {
        Self {
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
        permit.map(|guard| RequestPermit { _requests: guard }).ok_or(LimitKind::Requests.into())
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
                let share = active.saturating_mul(budget.basis_points.into()) / 10_000;
                share.max(budget.min_concurrency.into())
            }
        };
        let permit = self.retries.acquire(limit);
        permit.map(|guard| RetryPermit { _retries: guard }).ok_or(LimitKind::Retries.into())
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
    use tulle_model::cluster::RetryBudget;

    use super::*;

    fn under_way() -> UnderWay {
        UnderWay::new(&Block::own(NUMBERS), 0, Arc::default())
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
        let budget = RetryBudget { basis_points: 2_000, min_concurrency: 1 };
        let limits = Limits { retry_budget: Some(budget), ..Limits::default() };
        let _first = under_way.retry(&limits).expect("always one");
        under_way.retry(&limits).expect_err("no requests, no more retries");
        let _requests: Vec<_> = (0..10).map(|_| under_way.admit(&limits)).collect();
        let _second = under_way.retry(&limits).expect("20 % of ten");
        under_way.retry(&limits).expect_err("not three");
    }
}
