//! Whether an attempt that failed is made again.

use std::sync::Arc;
use std::time::Duration;

use crate::head::{HeaderName, KnownId, RequestHead, ResponseHead};
use crate::matcher::HeaderMatch;
use crate::retry::{RetryOn, RetryPolicy};
use crate::route::{Forward, VirtualHost};

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub enum Attempt<'a> {
    /// No connection was made.
    ConnectFailed,
    /// The peer said that it did not process the request (REFUSED_STREAM).
    Refused,
    /// Its connection went away before the request was processed (GOAWAY, RFC 9113 §6.8).
    WentAway,
    /// The connection broke before any byte of the request was written.
    ResetBeforeRequest,
    /// A reused connection broke before any byte of the answer.
    IdleConnectionClosed,
    /// The stream or connection broke, or the time of the attempt ran out.
    Reset,
    /// The head of an answer came.
    Answered(&'a ResponseHead),
}

/// What is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct AttemptFacts {
    /// Retries already made.
    pub retries: u32,
    /// How often it was already moved to another connection.
    pub moves: u32,
    /// Its method may be repeated (RFC 9110 §9.2.2).
    pub idempotent: bool,
    /// All that was sent of its body can be sent again.
    pub replayable: bool,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try again.
    Retry,
    /// Send it on another connection; it was never tried.
    Move,
    /// The policy does not cover this outcome: it is final.
    Final,
    /// The policy covers it, but the body is no longer held.
    BodyGone,
    /// The policy covers it, but all retries are used up (flag URX).
    LimitReached,
}

/// Connections that may go away under one request before that counts as a failure of the peer: a
/// server that sends every connection away is not to be asked for ever.
pub const MAX_MOVES: u32 = 8;

/// What follows after `attempt`.
#[must_use]
pub fn retry(policy: &RetryPolicy, attempt: Attempt<'_>, facts: AttemptFacts) -> RetryDecision {
    if !policy.on.intersects(covered_by(policy, attempt, facts)) {
        return RetryDecision::Final;
    }
    if matches!(attempt, Attempt::WentAway) && facts.moves < MAX_MOVES && facts.replayable {
        return RetryDecision::Move;
    }
    if facts.retries >= policy.max_retries {
        return RetryDecision::LimitReached;
    }
    if !facts.replayable {
        return RetryDecision::BodyGone;
    }
    RetryDecision::Retry
}

/// Every condition that covers the outcome.
fn covered_by(policy: &RetryPolicy, attempt: Attempt<'_>, facts: AttemptFacts) -> RetryOn {
    let broken = RetryOn::FIVE_XX.union(RetryOn::RESET).union(RetryOn::GATEWAY_ERROR);
    match attempt {
        Attempt::ConnectFailed => {
            broken.union(RetryOn::CONNECT_FAILURE).union(RetryOn::RESET_BEFORE_REQUEST)
        }
        Attempt::Refused | Attempt::WentAway => broken.union(RetryOn::REFUSED_STREAM),
        Attempt::ResetBeforeRequest => broken.union(RetryOn::RESET_BEFORE_REQUEST),
        Attempt::IdleConnectionClosed if facts.idempotent => {
            broken.union(RetryOn::IDLE_CONNECTION_RESET)
        }
        Attempt::IdleConnectionClosed | Attempt::Reset => broken,
        Attempt::Answered(head) => covered_by_answer(policy, head),
    }
}

fn covered_by_answer(policy: &RetryPolicy, head: &ResponseHead) -> RetryOn {
    if head.headers.contains(KnownId::XEnvoyRateLimited) {
        // Who is over a limit does not get below it by asking again.
        return RetryOn::ENVOY_RATELIMITED;
    }
    let mut on = match head.status {
        502..=504 => RetryOn::FIVE_XX.union(RetryOn::GATEWAY_ERROR),
        500.. => RetryOn::FIVE_XX,
        409 => RetryOn::RETRIABLE_4XX,
        _ => RetryOn::NONE,
    };
    if policy.retriable_status_codes.contains(&head.status) {
        on = on.union(RetryOn::RETRIABLE_STATUS_CODES);
    }
    if policy.retriable_headers.iter().any(|header| header.matches(&head.headers)) {
        on = on.union(RetryOn::RETRIABLE_HEADERS);
    }
    on.union(match head.headers.first(KnownId::GrpcStatus) {
        Some(b"1") => RetryOn::GRPC_CANCELLED,
        Some(b"4") => RetryOn::GRPC_DEADLINE_EXCEEDED,
        Some(b"8") => RetryOn::GRPC_RESOURCE_EXHAUSTED,
        Some(b"13") => RetryOn::GRPC_INTERNAL,
        Some(b"14") => RetryOn::GRPC_UNAVAILABLE,
        _ => RetryOn::NONE,
    })
}

/// How long a request may take and how often it may be tried, by its route and by what its caller
/// asks for who may ([`crate::decide::caller`] takes it away from others).
#[derive(Clone, Debug, PartialEq)]
pub struct Effort {
    /// From the end of the request to the end of the answer; `None` never ends it.
    pub timeout: Option<Duration>,
    /// Longest time of one attempt, where it is shorter than that.
    pub per_try: Option<Duration>,
    /// What is tried again, if anything is.
    pub policy: Option<Arc<RetryPolicy>>,
    /// A time that ran out is told as 204 and not as 504.
    pub timeout_is_no_content: bool,
}

/// The effort that a route makes for a request.
///
/// Reference: Envoy `FilterUtility::finalTimeout`, `RetryStateImpl`.
#[must_use]
pub fn effort(forward: &Forward, host: &VirtualHost, head: &RequestHead) -> Effort {
    let some = |limit: &Duration| !limit.is_zero();
    let asked = milliseconds(head, KnownId::XEnvoyUpstreamRequestTimeoutMs);
    // A limit of the stream's life stands in the place of the route's timeout, as in Envoy.
    let of_route = forward.timeout.filter(|_| forward.max_stream_duration.is_none());
    let timeout = asked.or(of_route).filter(some);
    let policy = asked_policy(head, forward.retry.as_ref().or(host.retry.as_ref()));
    let per_try = policy.as_ref().and_then(|policy| policy.per_try_timeout);
    let per_try = per_try.filter(|per_try| timeout.is_none_or(|timeout| *per_try < timeout));
    let timeout_is_no_content =
        head.headers.contains(KnownId::XEnvoyUpstreamRequestTimeoutAltResponse);
    Effort { timeout, per_try, policy, timeout_is_no_content }
}

/// The policy, changed as the request asks.
fn asked_policy(head: &RequestHead, policy: Option<&Arc<RetryPolicy>>) -> Option<Arc<RetryPolicy>> {
    let text = |id| head.headers.first(id).and_then(|text| std::str::from_utf8(text).ok());
    let conditions = [KnownId::XEnvoyRetryOn, KnownId::XEnvoyRetryGrpcOn].map(text);
    let most = text(KnownId::XEnvoyMaxRetries).and_then(|text| text.parse().ok());
    let statuses = text(KnownId::XEnvoyRetriableStatusCodes);
    let names = text(KnownId::XEnvoyRetriableHeaderNames);
    let per_try = milliseconds(head, KnownId::XEnvoyUpstreamRequestPerTryTimeoutMs);
    let nothing = most.is_none() && per_try.is_none();
    if nothing && [conditions[0], conditions[1], statuses, names] == [None; 4] {
        return policy.cloned();
    }
    let mut asked = match policy {
        Some(policy) => RetryPolicy::clone(policy),
        None => RetryPolicy::new(RetryOn::NONE, 1),
    };
    for name in conditions.into_iter().flatten().flat_map(|list| list.split(',')) {
        // Of a condition that nobody knows Envoy takes no notice.
        asked.on = asked.on.union(RetryOn::parse(name).unwrap_or(RetryOn::NONE));
    }
    asked.max_retries = most.unwrap_or(asked.max_retries);
    let codes = statuses.into_iter().flat_map(|list| list.split(','));
    asked.retriable_status_codes.extend(codes.filter_map(|code| code.trim().parse::<u16>().ok()));
    let names = names.into_iter().flat_map(|list| list.split(','));
    let present = names.filter_map(|name| HeaderName::parse(name.trim()));
    asked.retriable_headers.extend(present.map(HeaderMatch::present));
    asked.per_try_timeout = per_try.or(asked.per_try_timeout).filter(|limit| !limit.is_zero());
    Some(Arc::new(asked))
}

/// A duration that a header of the request gives in milliseconds.
fn milliseconds(head: &RequestHead, id: KnownId) -> Option<Duration> {
    let value = head.headers.first(id)?;
    let value: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    Some(Duration::from_millis(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: AttemptFacts =
        AttemptFacts { retries: 0, moves: 0, idempotent: true, replayable: true };

    fn check(on: RetryOn, attempt: Attempt<'_>, facts: AttemptFacts, expected: RetryDecision) {
        let policy = RetryPolicy::new(on, 2);
        assert_eq!(retry(&policy, attempt, facts), expected, "{on} {attempt:?} {facts:?}");
    }

    fn answer(status: u16) -> ResponseHead {
        ResponseHead { status, ..ResponseHead::new() }
    }

    #[test]
    fn what_is_safe_never_repeats_what_may_have_been_done() {
        let post = AttemptFacts { idempotent: false, ..FRESH };
        for (attempt, facts, expected) in [
            (Attempt::ConnectFailed, post, RetryDecision::Retry),
            (Attempt::Refused, post, RetryDecision::Retry),
            (Attempt::ResetBeforeRequest, post, RetryDecision::Retry),
            (Attempt::IdleConnectionClosed, FRESH, RetryDecision::Retry),
            (Attempt::IdleConnectionClosed, post, RetryDecision::Final),
            (Attempt::Reset, FRESH, RetryDecision::Final),
            (Attempt::Answered(&answer(503)), FRESH, RetryDecision::Final),
        ] {
            check(RetryOn::SAFE, attempt, facts, expected);
        }
    }

    #[test]
    fn answers_are_retried_as_configured() {
        check(RetryOn::FIVE_XX, Attempt::Answered(&answer(500)), FRESH, RetryDecision::Retry);
        check(RetryOn::GATEWAY_ERROR, Attempt::Answered(&answer(500)), FRESH, RetryDecision::Final);
        check(RetryOn::GATEWAY_ERROR, Attempt::Answered(&answer(503)), FRESH, RetryDecision::Retry);
        let mut grpc = answer(200);
        grpc.headers.append("grpc-status", b"14").expect("a good header");
        let on = RetryOn::GRPC_UNAVAILABLE;
        check(on, Attempt::Answered(&grpc), FRESH, RetryDecision::Retry);
    }

    #[test]
    fn who_is_over_a_limit_does_not_ask_again() {
        let mut limited = answer(503);
        limited.headers.append(KnownId::XEnvoyRateLimited, b"true").expect("a good header");
        check(RetryOn::FIVE_XX, Attempt::Answered(&limited), FRESH, RetryDecision::Final);
        let on = RetryOn::ENVOY_RATELIMITED;
        check(on, Attempt::Answered(&limited), FRESH, RetryDecision::Retry);
        check(on, Attempt::Answered(&answer(503)), FRESH, RetryDecision::Final);
    }

    #[test]
    fn what_went_away_is_moved_for_a_while_and_then_counts() {
        let spent = AttemptFacts { retries: 2, idempotent: false, ..FRESH };
        check(RetryOn::SAFE, Attempt::WentAway, spent, RetryDecision::Move);
        let moved = AttemptFacts { moves: MAX_MOVES, ..FRESH };
        check(RetryOn::SAFE, Attempt::WentAway, moved, RetryDecision::Retry);
        let both = AttemptFacts { moves: MAX_MOVES, ..spent };
        check(RetryOn::SAFE, Attempt::WentAway, both, RetryDecision::LimitReached);
        let gone = AttemptFacts { replayable: false, ..FRESH };
        check(RetryOn::SAFE, Attempt::WentAway, gone, RetryDecision::BodyGone);
        check(RetryOn::CONNECT_FAILURE, Attempt::WentAway, FRESH, RetryDecision::Final);
    }

    #[test]
    fn limits_and_lost_bodies_end_it() {
        let spent = AttemptFacts { retries: 2, ..FRESH };
        check(RetryOn::SAFE, Attempt::ConnectFailed, spent, RetryDecision::LimitReached);
        let gone = AttemptFacts { replayable: false, ..FRESH };
        check(RetryOn::FIVE_XX, Attempt::Reset, gone, RetryDecision::BodyGone);
    }
}
