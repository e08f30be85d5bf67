//! The answers to failures of the upstream side, in Envoy's words.

use tulle_model::decide::retry::Attempt;
use tulle_model::flag::ResponseFlag;

use crate::http::codec::abort::Abort;
use crate::http::exchange::{Exchange, Failure};
use crate::http::reply::LocalReply;
use crate::http::tries::Expired;
use crate::record::Record;
use crate::upstream::failure::ConnectFailure;

/// What a caller is told, with what broke the last of its attempts.
fn body(attempts: u32, reason: &str) -> String {
    let which = if attempts > 1 { "retried and the latest " } else { "" };
    format!(
        "upstream connect error or disconnect/reset before headers. {which}reset reason: {reason}"
    )
}

/// The answer when no connection could be made.
pub fn connect(x: &mut Exchange<'_>, failed: &ConnectFailure) -> LocalReply {
    if !failed.detail.is_empty() {
        x.record.transport_failure = Some(failed.detail.to_string());
    }
    // What the transport said is for the log: it names addresses and certificates.
    let mut reply =
        LocalReply::new(503, "", body(x.record.attempts, failed.reason)).flagged(failed.flag);
    reply.details = match failed.detail.is_empty() {
        true => details(failed.reason, ""),
        false => details(failed.reason, &format!("|{}", failed.detail.replace(' ', "_"))),
    };
    reply
}

fn details(reason: &str, more: &str) -> std::borrow::Cow<'static, str> {
    let reason = reason.replace(' ', "_");
    format!("upstream_reset_before_response_started{{{reason}{more}}}").into()
}

/// How the upstream broke before the head of its answer.
#[derive(Clone, Copy, Debug)]
pub struct BrokenFacts {
    /// A byte of the request may have reached it.
    pub touched: bool,
    /// A byte of its answer came.
    pub answered: bool,
    /// The connection served another request before.
    pub reused: bool,
    /// Attempts made.
    pub attempts: u32,
}

/// What a break counts as for retries, and the answer if it is final.
#[must_use]
pub fn broken(abort: &Abort, facts: BrokenFacts) -> (Attempt<'static>, LocalReply) {
    let (reason, flag, status) = match abort {
        Abort::Refused | Abort::WentAway => {
            ("remote refused stream reset", ResponseFlag::UpstreamRemoteReset, 503)
        }
        Abort::Reset => ("remote reset", ResponseFlag::UpstreamRemoteReset, 503),
        Abort::Protocol(_) | Abort::TooLarge(_) => {
            ("protocol error", ResponseFlag::UpstreamProtocolError, 502)
        }
        Abort::Truncated | Abort::Io(_) => {
            ("connection termination", ResponseFlag::UpstreamConnectionTermination, 503)
        }
    };
    let attempt = match abort {
        Abort::Refused => Attempt::Refused,
        Abort::WentAway => Attempt::WentAway,
        Abort::Protocol(_) | Abort::TooLarge(_) => Attempt::Reset,
        _ if !facts.touched => Attempt::ResetBeforeRequest,
        _ if facts.reused && !facts.answered => Attempt::IdleConnectionClosed,
        _ => Attempt::Reset,
    };
    let mut reply = LocalReply::new(status, "", body(facts.attempts, reason)).flagged(flag);
    reply.details = match abort {
        Abort::Protocol(why) => details(reason, &format!("|{why}")),
        _ => details(reason, ""),
    };
    (attempt, reply)
}

/// The answer when a clock ran out before the head of an answer.
#[must_use]
pub fn expired(expired: Expired, request_complete: bool) -> LocalReply {
    match expired {
        Expired::Response => LocalReply::new(504, "response_timeout", "upstream request timeout")
            .flagged(ResponseFlag::UpstreamRequestTimeout),
        Expired::Attempt => {
            LocalReply::new(504, "upstream_per_try_timeout", "upstream request timeout")
                .flagged(ResponseFlag::UpstreamRequestTimeout)
        }
        Expired::Request => {
            LocalReply::new(408, "request_overall_timeout", "request timeout").closing()
        }
        Expired::Duration => {
            let status = if request_complete { 504 } else { 408 };
            LocalReply::new(status, "max_duration_timeout", "downstream duration timeout")
                .flagged(ResponseFlag::DurationTimeout)
        }
        Expired::Idle => {
            let status = if request_complete { 504 } else { 408 };
            LocalReply::new(status, "stream_idle_timeout", "stream timeout")
                .flagged(ResponseFlag::StreamIdleTimeout)
        }
    }
}

/// What follows when the downstream broke while its body was sent.
pub fn downstream(record: &mut Record, abort: &Abort) -> Failure {
    let flag = ResponseFlag::DownstreamProtocolError;
    match abort {
        Abort::Protocol(details) => {
            let mut reply = LocalReply::new(400, details, "Bad Request").flagged(flag);
            reply.close = true;
            reply.into()
        }
        Abort::TooLarge(details) => {
            let mut reply = LocalReply::new(431, details, "").flagged(flag);
            reply.close = true;
            reply.into()
        }
        Abort::Reset | Abort::Refused | Abort::WentAway | Abort::Truncated | Abort::Io(_) => {
            record.downstream_broke(abort)
        }
    }
}

/// Notes a clock that ran out in the middle of an answer.
pub fn expired_midway(x: &mut Exchange<'_>, expired: Expired) {
    let (flag, details) = match expired {
        Expired::Response | Expired::Attempt => {
            (Some(ResponseFlag::UpstreamRequestTimeout), "response_timeout")
        }
        Expired::Idle => (Some(ResponseFlag::StreamIdleTimeout), "stream_idle_timeout"),
        Expired::Duration => (Some(ResponseFlag::DurationTimeout), "max_duration_timeout"),
        Expired::Request => (None, "request_overall_timeout"),
    };
    if let Some(flag) = flag {
        x.record.flags.insert(flag);
    }
    x.record.details = details.into();
}

/// Notes an upstream that broke in the middle of its answer.
pub fn broken_midway(x: &mut Exchange<'_>, abort: &Abort) {
    let (flag, reason) = match abort {
        Abort::Reset | Abort::Refused | Abort::WentAway => {
            (ResponseFlag::UpstreamRemoteReset, "remote_reset")
        }
        Abort::Protocol(_) | Abort::TooLarge(_) => {
            (ResponseFlag::UpstreamProtocolError, "protocol_error")
        }
        Abort::Truncated | Abort::Io(_) => {
            (ResponseFlag::UpstreamConnectionTermination, "connection_termination")
        }
    };
    x.record.flags.insert(flag);
    x.record.details = format!("upstream_reset_after_response_started{{{reason}}}").into();
}
