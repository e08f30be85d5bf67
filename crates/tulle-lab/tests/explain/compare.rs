//! Holds an explanation and a record together.

use serde_json::Value;

use super::edits::{self, Edits};
use super::world::{Ports, Request};

/// What the caller saw of a request.
#[derive(Debug)]
pub struct Observed {
    pub status: u16,
    pub location: String,
    pub reason: String,
    /// What the application says it received, if it was the one who answered.
    pub received: Value,
}

/// A request with what was said of it before and after.
pub struct Pair<'p> {
    pub request: &'p Request,
    pub explained: &'p Value,
    pub observed: &'p Observed,
    pub record: &'p Value,
    pub edits: &'p Edits,
}

/// Collects what differs.
#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn same(&mut self, what: &str, explained: &Value, seen: &Value) {
        let (left, right) = (plain(explained), plain(seen));
        if left != right {
            self.0.push(format!("{what}: explained {left:?}, seen {right:?}"));
        }
    }

    fn holds(&mut self, what: &str, holds: bool) {
        if !holds {
            self.0.push(what.to_owned());
        }
    }
}

/// A value as text: what is missing, null, empty or `-` is one.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text == "-" => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn has_flag(record: &Value, flag: &str) -> bool {
    record["response_flags"].as_str().unwrap_or_default().split(',').any(|one| one == flag)
}

fn is_grpc(request: &Request) -> bool {
    request.headers.contains(&("content-type", "application/grpc"))
}

/// Everything in which the two differ.
pub fn differences(pair: &Pair<'_>, ports: Ports) -> Vec<String> {
    let mut differ = Differences::default();
    let Pair { explained, record, observed, .. } = pair;
    if record.is_null() {
        return vec![format!("no record; the caller saw {observed:?}")];
    }
    let decided = &explained["decided"];
    for field in ["listener", "routes", "origin"] {
        differ.same(field, &decided[field], &record[field]);
    }
    differ.same("route", &decided["route"], &record["route_name"]);
    differ.same("status", &record["response_code"], &observed.status.into());
    let is_injected = has_flag(record, "FI");
    faults(pair, is_injected, &mut differ);
    let end = &explained["end"];
    match end["is"].as_str().unwrap_or_default() {
        _ if is_injected => {}
        "forwarded" => forwarded(pair, ports, &mut differ),
        "redirected" => {
            own_status(pair, end, &mut differ);
            differ.same("location", &end["location"], &observed.location.as_str().into());
        }
        "answered" => own_status(pair, end, &mut differ),
        _ => refused(pair, end, &mut differ),
    }
    differ.0
}

fn faults(pair: &Pair<'_>, is_injected: bool, differ: &mut Differences) {
    let Pair { explained, record, observed, .. } = pair;
    let fault = &explained["decided"]["fault"];
    let part = |name| part_of(explained, name);
    let matches = |part: f64, seen: bool| match part {
        0.0 => !seen,
        100.0 => seen,
        _ => true,
    };
    let delayed = has_flag(record, "DI");
    differ.holds(&format!("delay of {fault}: {delayed}"), matches(part("delay_percent"), delayed));
    let what = format!("abort of {fault}: {is_injected}");
    differ.holds(&what, matches(part("abort_percent"), is_injected));
    if is_injected {
        let status = if is_grpc(pair.request) { &200.into() } else { &fault["status"] };
        differ.same("injected status", status, &observed.status.into());
        differ.same("endpoint", &Value::Null, &record["upstream_host"]);
        differ.same("received", &Value::Null, &observed.received["headers"]);
    }
}

/// A part of the fault that was explained, in percent.
pub fn part_of(explained: &Value, name: &str) -> f64 {
    explained["decided"]["fault"][name].as_f64().unwrap_or_default()
}

/// The status of an answer of the proxy's own, which to gRPC says its status in a header.
fn own_status(pair: &Pair<'_>, end: &Value, differ: &mut Differences) {
    let status = if is_grpc(pair.request) { &200.into() } else { &end["status"] };
    differ.same("status", status, &pair.observed.status.into());
}

fn refused(pair: &Pair<'_>, end: &Value, differ: &mut Differences) {
    let Pair { record, observed, explained, .. } = pair;
    let flag = end["flag"].as_str().unwrap_or_default();
    differ.holds(&format!("flag {flag} is not in the record"), has_flag(record, flag));
    own_status(pair, end, differ);
    differ.same("endpoint", &Value::Null, &record["upstream_host"]);
    let origin = plain(&explained["decided"]["origin"]);
    differ.holds(
        &format!("x-tulle-reason {:?} does not name {origin}", observed.reason),
        observed.reason.ends_with(&origin),
    );
}

fn forwarded(pair: &Pair<'_>, ports: Ports, differ: &mut Differences) {
    let Pair { explained, record, .. } = pair;
    let shares = explained["end"]["to"].as_array().map(Vec::as_slice).unwrap_or_default();
    let share = shares.iter().find(|share| chosen(share, record));
    let Some(share) = share else {
        return differ.holds(&format!("none of {shares:?} was chosen"), false);
    };
    if !share["problem"].is_null() {
        return refused(pair, &share["problem"], differ);
    }
    let host = plain(&record["upstream_host"]);
    let listed = share["endpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    differ.holds(
        &format!("endpoint {host} is not of {listed:?}"),
        listed.iter().any(|endpoint| plain(endpoint) == host),
    );
    let dead = |endpoint: &str| endpoint.ends_with(&format!(":{}", ports.dead));
    let is_dead = dead(&host);
    let dead_ones = listed.iter().filter(|endpoint| dead(&plain(endpoint))).count();
    // Where only some are dead, chance decides how many of them were met.
    if dead_ones == 0 || dead_ones == listed.len() {
        attempts(pair, is_dead, differ);
    }
    if !is_dead {
        sent(pair, differ);
    }
}

/// Whether this share was chosen. A cluster that does not exist has no place in the record: then
/// it is one that fails so.
fn chosen(share: &Value, record: &Value) -> bool {
    let cluster = plain(&record["upstream_cluster"]);
    match cluster.is_empty() {
        true => {
            let flag = share["problem"]["flag"].as_str();
            flag.is_some_and(|flag| flag == "NC" && has_flag(record, flag))
        }
        false => plain(&share["cluster"]) == cluster,
    }
}

/// How often it was tried, by the policy that was explained.
fn attempts(pair: &Pair<'_>, is_dead: bool, differ: &mut Differences) {
    let Pair { explained, record, observed, request, .. } = pair;
    let sent = &explained["decided"]["sent"];
    let asked = request.path.split("status=").nth(1).and_then(|status| status.parse().ok());
    // Who calls by gRPC is answered 200 by the application, whatever the path asks for.
    let status: u16 = asked.filter(|_| !is_grpc(request)).unwrap_or(200);
    let on = plain(&sent["retry_on"]);
    let on: Vec<&str> = on.split(',').collect();
    let any = |names: &[&str]| names.iter().any(|name| on.contains(name));
    let statuses = sent["retry_statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let listed = statuses.contains(&status.into()) && any(&["retriable-status-codes"]);
    let again = match status {
        _ if is_dead => {
            any(&["connect-failure", "reset-before-request", "5xx", "gateway-error", "reset"])
        }
        502..=504 => any(&["5xx", "gateway-error"]) || listed,
        500..=599 => any(&["5xx"]) || listed,
        409 => any(&["retriable-4xx"]) || listed,
        _ => listed,
    };
    let retries = sent["retries"].as_u64().unwrap_or_default();
    let expected = if again { 1 + retries } else { 1 };
    differ.same("attempts", &expected.into(), &record["attempts"]);
    differ.holds("flag URX", has_flag(record, "URX") == (again && retries > 0));
    differ.holds("flag UF", has_flag(record, "UF") == is_dead);
    if is_dead {
        differ.holds("503", is_grpc(request) || observed.status == 503);
    } else if !is_grpc(request) {
        differ.same("status of the application", &status.into(), &observed.status.into());
    }
}

/// What the application received.
fn sent(pair: &Pair<'_>, differ: &mut Differences) {
    let Pair { explained, observed, request, record, edits } = pair;
    if is_grpc(request) {
        return;
    }
    let (sent, received) = (&explained["decided"]["sent"], &observed.received);
    differ.same("path", &sent["path"], &received["path"]);
    let headers = &received["headers"];
    differ.same("authority", &sent["authority"], &received["authority"]);
    let (origin, cluster) = (plain(&record["origin"]), plain(&record["upstream_cluster"]));
    let (written, marks) = (plain(&headers[edits::FIELD]), edits.expected(&origin, &cluster));
    let what =
        format!("{} of {origin} to {cluster}: {written:?} is none of {marks:?}", edits::FIELD);
    differ.holds(&what, marks.contains(&written));
    let expected = &headers["x-envoy-expected-rq-timeout-ms"];
    let limit =
        if sent["per_try_ms"].is_null() { &sent["timeout_ms"] } else { &sent["per_try_ms"] };
    match limit.as_u64() {
        None => differ.same("timeout", &Value::Null, expected),
        Some(limit) => {
            // What is left of it shrinks on the way.
            let left: u64 = plain(expected).parse().unwrap_or_default();
            let what = format!("timeout: explained {limit} ms, seen {left}");
            differ.holds(&what, left <= limit && left + 3000 >= limit);
        }
    }
}
