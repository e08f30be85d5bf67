//! What is kept over the attempts of one request: its policy, its clocks, and as much of its body
//! as may be sent again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tulle_model::head::KnownId;
use tulle_model::retry::RetryPolicy;
use tulle_model::route::Forward;

use crate::http::exchange::Exchange;
use crate::upstream::endpoint::UpstreamEndpoint;

/// Bytes of a body that are held to be sent again.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// The attempts of one request.
#[derive(Debug)]
pub struct Tries {
    /// The policy, if anything may be tried again.
    pub policy: Option<Arc<RetryPolicy>>,
    /// Attempts after the first.
    pub retries: u32,
    /// Endpoints that were tried, for those who want another.
    pub tried: Vec<Rc<UpstreamEndpoint>>,
    /// Body bytes that came from the downstream.
    pub received_bytes: Cell<u64>,
    /// The clocks.
    pub clocks: Clocks,
    timeout: Option<Duration>,
    held: RefCell<Vec<u8>>,
    lost: Cell<bool>,
    random: u64,
}

impl Tries {
    /// Before the first attempt.
    #[must_use]
    pub fn new(x: &Exchange<'_>, forward: &Forward, policy: Option<Arc<RetryPolicy>>) -> Self {
        let asked = milliseconds(x, KnownId::XEnvoyUpstreamRequestTimeoutMs);
        let timeout = asked.or(forward.timeout).filter(|timeout| !timeout.is_zero());
        let idle = forward.idle_timeout.or(x.cx.manager.timeouts.stream_idle);
        let per_try = policy.as_ref().and_then(|policy| policy.per_try_timeout);
        Self {
            policy,
            retries: 0,
            tried: Vec::new(),
            received_bytes: Cell::new(0),
            clocks: Clocks::new(timeout, per_try, idle.filter(|idle| !idle.is_zero())),
            timeout,
            held: RefCell::default(),
            lost: Cell::new(false),
            random: x.cx.worker.random(),
        }
    }

    /// What the upstream is told of the time it has.
    #[must_use]
    pub fn expected_timeout(&self) -> Option<Duration> {
        self.clocks.per_try.filter(|per_try| Some(*per_try) < self.timeout).or(self.timeout)
    }

    /// Counts and, as long as it may be wanted again, keeps a piece of the body.
    pub fn received(&self, data: &[u8]) {
        self.received_bytes.set(self.received_bytes.get() + data.len() as u64);
        self.clocks.progress();
        if self.policy.is_none() || self.lost.get() {
            self.lost.set(true);
            return;
        }
        let mut held = self.held.borrow_mut();
        if held.len() + data.len() > REPLAY_BYTES {
            self.lost.set(true);
            *held = Vec::new();
        } else {
            held.extend_from_slice(data);
        }
    }

    /// Whether everything that was sent can be sent again.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        !self.lost.get()
    }

    /// What was sent before.
    #[must_use]
    pub fn replay(&self) -> Bytes {
        Bytes::copy_from_slice(&self.held.borrow())
    }

    /// Counts a retry and waits before it: fully jittered, doubling.
    pub async fn pause(&mut self) {
        self.retries += 1;
        let Some(policy) = &self.policy else { return };
        let ceiling = policy.base_interval * 2u32.saturating_pow(self.retries).saturating_sub(1);
        let ceiling = ceiling.min(policy.max_interval);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.random = self.random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        tokio::time::sleep(Duration::from_nanos(self.random % nanos)).await;
    }
}

/// A duration that a header of the request gives in milliseconds.
fn milliseconds(x: &Exchange<'_>, id: KnownId) -> Option<Duration> {
    let value = x.request.headers.first(id)?;
    let value: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_millis(value))
}

/// The clocks of one request.
#[derive(Debug)]
pub struct Clocks {
    /// Longest time of one attempt.
    pub per_try: Option<Duration>,
    timeout: Option<Duration>,
    idle: Option<Duration>,
    response_by: Cell<Option<Instant>>,
    attempt_by: Cell<Option<Instant>>,
    progress: Cell<Instant>,
}

/// Which clock ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The time of the route.
    Response,
    /// The time of the attempt.
    Attempt,
    /// Nothing moved for too long.
    Idle,
}

impl Clocks {
    fn new(timeout: Option<Duration>, per_try: Option<Duration>, idle: Option<Duration>) -> Self {
        let progress = Cell::new(Instant::now());
        let (response_by, attempt_by) = (Cell::new(None), Cell::new(None));
        Self { per_try, timeout, idle, response_by, attempt_by, progress }
    }

    /// Something moved.
    pub fn progress(&self) {
        self.progress.set(Instant::now());
    }

    /// The request was sent to its end: the upstream's time begins.
    pub fn request_sent(&self) {
        let now = Instant::now();
        self.progress.set(now);
        if self.response_by.get().is_none() {
            self.response_by.set(self.timeout.map(|timeout| now + timeout));
        }
        self.attempt_by.set(self.per_try.map(|per_try| now + per_try));
    }

    /// The answer began: only the route's time and silence count from here.
    pub fn answered(&self) {
        self.attempt_by.set(None);
        self.progress();
    }

    /// The answer is a tunnel: only silence counts from here.
    pub fn tunnelled(&self) {
        self.answered();
        self.response_by.set(None);
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let idle = self.idle.map(|idle| self.progress.get() + idle);
        [self.response_by.get(), self.attempt_by.get(), idle].into_iter().flatten().min()
    }

    /// Which clock ran out by `now`.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<Expired> {
        let past = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let idle = self.idle.map(|idle| self.progress.get() + idle);
        if past(self.response_by.get()) {
            Some(Expired::Response)
        } else if past(self.attempt_by.get()) {
            Some(Expired::Attempt)
        } else if past(idle) {
            Some(Expired::Idle)
        } else {
            None
        }
    }
}
