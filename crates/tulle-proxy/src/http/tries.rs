//! What is kept over the attempts of one request: its policy, its clocks, and as much of its body
//! as may be sent again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tulle_model::decide::retry::{Effort, effort};
use tulle_model::retry::RetryPolicy;
use tulle_model::route::{Forward, Priority, VirtualHost};

use crate::http::attempt::request_framing;
use crate::http::body::Body;
use crate::http::codec::h1::Framing;
use crate::http::exchange::Exchange;
use crate::http::route::Plan;
use crate::timer::Timer;
use crate::upstream::cluster::UpstreamCluster;
use crate::upstream::endpoint::UpstreamEndpoint;
use crate::upstream::limits::RetryPermit;
use crate::worker::Worker;

/// Bytes of a body that are held to be sent again where the route does not say and the listener
/// allows as many.
pub const REPLAY_BYTES: u64 = 64 * 1024;
/// Most bytes of a body that are held to be sent again, whatever the route says.
pub const MAX_REPLAY_BYTES: u64 = 1024 * 1024;

/// The attempts of one request.
#[derive(Debug)]
pub struct Tries {
    /// The policy, if anything may be tried again.
    pub policy: Option<Arc<RetryPolicy>>,
    /// Attempts after the first, without those that were moved.
    pub retries: u32,
    /// How often it was moved to another connection.
    pub moves: u32,
    /// Endpoints that were tried, for those who want another.
    pub tried: Vec<Rc<UpstreamEndpoint>>,
    /// How the request is framed, in each attempt.
    pub framing: Framing,
    /// The clocks.
    pub clocks: Clocks,
    replay_bytes: u64,
    priority: Priority,
    /// How the next attempt begins, if there is one.
    pub next: Cell<Next>,
    retrying: RefCell<Option<RetryPermit>>,
    held: RefCell<Vec<u8>>,
    lost: Cell<bool>,
    /// A time that ran out is told as 204.
    pub timeout_is_no_content: bool,
    /// The body is in memory whole: no second copy is needed.
    held_anyway: bool,
    random: u64,
}

impl Tries {
    /// Before the first attempt.
    #[must_use]
    pub fn new(x: &Exchange<'_>, forward: &Forward, host: &VirtualHost) -> Self {
        let effort = effort(forward, host, &x.request);
        let replay_bytes = forward.body_buffer_bytes.unwrap_or_else(|| of_listener(x));
        let held = match &x.body {
            Body::Held(held) => Some(held.bytes().len() as u64),
            _ => None,
        };
        let too_long = |length| forward.body_buffer_bytes.is_some_and(|limit| length > limit);
        Self {
            clocks: Clocks::new(x, forward, &effort),
            policy: effort.policy,
            timeout_is_no_content: effort.timeout_is_no_content,
            retries: 0,
            moves: 0,
            tried: Vec::new(),
            framing: request_framing(x),
            replay_bytes: replay_bytes.min(MAX_REPLAY_BYTES),
            priority: forward.priority,
            next: Cell::default(),
            retrying: RefCell::default(),
            held: RefCell::default(),
            lost: Cell::new(held.is_some_and(too_long)),
            held_anyway: held.is_some(),
            random: x.cx.worker.random(),
        }
    }

    /// What the upstream is told of the time it has.
    #[must_use]
    pub fn expected_timeout(&self) -> Option<Duration> {
        self.clocks.per_try.or_else(|| self.clocks.left())
    }

    /// The retry that was under way is over.
    pub fn end_retry(&self) {
        *self.retrying.borrow_mut() = None;
    }

    /// Whether the limits of the cluster allow one more retry, which counts from now on.
    #[must_use]
    pub fn begin_retry(&self, cluster: Option<&UpstreamCluster>) -> bool {
        let permit = cluster.and_then(|cluster| cluster.retry_permit(self.priority).ok());
        let permitted = permit.is_some();
        *self.retrying.borrow_mut() = permit;
        permitted
    }

    /// The name of the limit that refused one.
    #[must_use]
    pub fn retry_limit(&self, cluster: &UpstreamCluster) -> &'static str {
        cluster.retry_limit(self.priority)
    }

    /// Counts and, as long as it may be wanted again, keeps a piece of the body.
    pub fn received(&self, data: &[u8]) {
        self.clocks.progress();
        if self.held_anyway {
            return;
        }
        if self.policy.is_none() || self.lost.get() {
            self.lost.set(true);
            return;
        }
        let mut held = self.held.borrow_mut();
        if (held.len() + data.len()) as u64 > self.replay_bytes {
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

    /// Counts a retry, and says how long the pause before it is: fully jittered, doubling. There
    /// is none where nothing reached anybody and it is the first, so that a dead endpoint does not
    /// use up the retry budget; nor for a request that is only moved.
    pub fn begin_next(&mut self) -> Option<Duration> {
        let next = self.next.take();
        if next == Next::Moved {
            self.moves += 1;
            return None;
        }
        self.retries += 1;
        if next == Next::AtOnce && self.retries == 1 {
            return None;
        }
        let policy = self.policy.as_ref()?;
        let ceiling = policy.base_interval * 2u32.saturating_pow(self.retries).saturating_sub(1);
        let ceiling = ceiling.min(policy.max_interval);
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.random = self.random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(Duration::from_nanos(self.random % nanos))
    }
}

/// How the attempt after one that failed begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Next {
    /// After a pause.
    #[default]
    Paused,
    /// Nothing of the last attempt reached anybody: the first retry need not wait.
    AtOnce,
    /// The connection of the last attempt went away before it was processed: at once, and not
    /// counted as a retry.
    Moved,
}

/// Bytes of a body that are held where the route does not say.
fn of_listener(x: &Exchange<'_>) -> u64 {
    match x.cx.listener.buffer_limit_bytes {
        0 => REPLAY_BYTES,
        limit => REPLAY_BYTES.min(limit.into()),
    }
}

/// The clocks of one request.
#[derive(Debug)]
pub struct Clocks {
    /// Longest time of one attempt.
    pub per_try: Option<Duration>,
    timeout: Option<Duration>,
    idle: Option<Duration>,
    ends_by: Option<Instant>,
    /// When the whole request has to be there, as long as it is not.
    request_by: Cell<Option<Instant>>,
    /// Whether the request was received to its end.
    complete: Cell<bool>,
    response_by: Cell<Option<Instant>>,
    attempt_by: Cell<Option<Instant>>,
    progress: Cell<Instant>,
    /// Who knows the time.
    worker: Rc<Worker>,
}

/// Comes back when a clock ran out.
pub async fn expiry(timer: &mut Timer, clocks: &Clocks) -> Expired {
    loop {
        timer.wait(clocks.next()).await;
        if let Some(expired) = clocks.expired(Instant::now()) {
            return expired;
        }
    }
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
    /// The time in which the request has to arrive.
    Request,
    /// The time that any stream has.
    Duration,
}

impl Clocks {
    fn new(x: &Exchange<'_>, forward: &Forward, effort: &Effort) -> Self {
        let Effort { timeout, per_try, .. } = *effort;
        let clocks = Self::of_stream(x, Some(forward));
        let response_by = timeout.filter(|_| x.received);
        clocks.response_by.set(response_by.map(|timeout| clocks.progress.get() + timeout));
        Self { per_try, timeout, ..clocks }
    }

    /// Those of a request that is on its way to the router.
    #[must_use]
    pub fn receiving(x: &Exchange<'_>, plan: Option<&Plan>) -> Self {
        Self::of_stream(x, plan.and_then(Plan::forward))
    }

    /// Those of an answer of the proxy's own: only silence counts.
    #[must_use]
    pub fn silence(x: &Exchange<'_>) -> Self {
        let forward = x.record.plan.as_ref().and_then(Plan::forward);
        Self { request_by: Cell::new(None), ends_by: None, ..Self::of_stream(x, forward) }
    }

    /// Those that count from the beginning of the stream to its end.
    fn of_stream(x: &Exchange<'_>, forward: Option<&Forward>) -> Self {
        let limits = &x.cx.manager.timeouts;
        let some = |limit: &Duration| !limit.is_zero();
        let from_start = |limit: Duration| x.record.started + limit;
        let idle = forward.and_then(|forward| forward.idle_timeout).or(limits.stream_idle);
        let longest = forward.and_then(|forward| forward.max_stream_duration);
        let longest = longest.or(limits.max_stream_duration);
        Self {
            per_try: None,
            timeout: None,
            idle: idle.filter(some),
            ends_by: longest.filter(some).map(from_start),
            request_by: Cell::new(limits.request.filter(|_| !x.received).map(from_start)),
            complete: Cell::new(x.received),
            response_by: Cell::new(None),
            attempt_by: Cell::new(None),
            progress: Cell::new(x.cx.worker.clock.now()),
            worker: Rc::clone(&x.cx.worker),
        }
    }

    /// What is left of the route's time, not less than what can be said: zero would be no limit.
    fn left(&self) -> Option<Duration> {
        let left = |by: Instant| (by - self.worker.clock.now()).max(Duration::from_millis(1));
        self.response_by.get().map(left).or(self.timeout)
    }

    /// An attempt begins; its time counts once the request is there.
    pub fn attempt_begins(&self) {
        let limit = self.per_try.filter(|_| self.complete.get());
        self.attempt_by.set(limit.map(|limit| self.worker.clock.now() + limit));
    }

    /// An attempt is over, and none is under way.
    pub fn attempt_ends(&self) {
        self.attempt_by.set(None);
    }

    /// Something moved.
    pub fn progress(&self) {
        self.progress.set(self.worker.clock.now());
    }

    /// The request was sent to its end: the upstream's time begins.
    pub fn request_sent(&self) {
        let now = self.worker.clock.now();
        self.progress.set(now);
        self.complete.set(true);
        self.request_by.set(None);
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
        self.request_by.set(None);
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let idle = self.idle.map(|idle| self.progress.get() + idle);
        let deadlines = [
            self.response_by.get(),
            self.attempt_by.get(),
            self.request_by.get(),
            self.ends_by,
            idle,
        ];
        deadlines.into_iter().flatten().min()
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
        } else if past(self.request_by.get()) {
            Some(Expired::Request)
        } else if past(self.ends_by) {
            Some(Expired::Duration)
        } else if past(idle) {
            Some(Expired::Idle)
        } else {
            None
        }
    }
}
