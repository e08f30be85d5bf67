//! Header edits, path and host rewrites that a route asks for.
//!
//! Levels from the most to the least specific: weighted cluster, route, virtual host,
//! configuration; turned round by `most_specific_header_mutations_wins`.

use tulle_model::address::EndpointAddress;
use tulle_model::cluster::Endpoint;
use tulle_model::decide::rewrite;
use tulle_model::head::{CanonicalAuthority, Headers, KnownId};
use tulle_model::header_edit::{AppendAction, HeaderAdd, HeaderEdits};
use tulle_model::route::{Forward, HostRewrite};

use crate::access_log::LogFields;
use crate::access_log::render::header_value;
use crate::http::exchange::Exchange;
use crate::http::route::Plan;

/// Edits the request as the plan says, then rewrites path and host.
pub fn request(x: &mut Exchange<'_>, plan: &Plan) {
    let levels = [
        plan.weighted().map(|cluster| &cluster.request_headers),
        Some(&plan.route.request_headers),
        Some(&plan.virtual_host.request_headers),
        Some(&plan.config.request_headers),
    ];
    for edits in ordered(plan, levels).into_iter().flatten() {
        if edits.is_empty() {
            continue;
        }
        let values = rendered(x, edits);
        apply(edits, values, &mut x.request.headers);
    }
    if let Some(forward) = plan.forward() {
        rewrite_path(x, plan, forward);
        rewrite_host(x, plan, forward);
    }
}

/// Edits the answer as the plan says.
pub fn response(x: &mut Exchange<'_>, plan: &Plan) {
    let levels = [
        plan.weighted().map(|cluster| &cluster.response_headers),
        Some(&plan.route.response_headers),
        Some(&plan.virtual_host.response_headers),
        Some(&plan.config.response_headers),
    ];
    for edits in ordered(plan, levels).into_iter().flatten() {
        if edits.is_empty() {
            continue;
        }
        let values = rendered(x, edits);
        apply(edits, values, &mut x.response.headers);
    }
}

/// Says how many attempts an answer took, the proxy's own after the last of them too, where the
/// virtual host wants that.
pub fn attempt_count(x: &mut Exchange<'_>, plan: &Plan) {
    let attempts = u64::from(x.record.attempts);
    if attempts > 0 && plan.virtual_host.include_attempt_count_in_response {
        let _ = x.response.headers.set_with(KnownId::XEnvoyAttemptCount, |out| {
            out.push_u64(attempts);
        });
    }
}

fn ordered<'a>(
    plan: &Plan,
    mut levels: [Option<&'a HeaderEdits>; 4],
) -> [Option<&'a HeaderEdits>; 4] {
    if plan.config.most_specific_header_mutations_wins {
        levels.reverse();
    }
    levels
}

/// Every value with what its commands stand for, before any of the edits is made.
fn rendered(x: &Exchange<'_>, edits: &HeaderEdits) -> Vec<Vec<u8>> {
    let fields = LogFields::of_exchange(x, x.cx.worker.logs.hostname());
    let render = |add: &HeaderAdd| {
        let mut value = Vec::new();
        header_value(&add.value, &fields, &mut value);
        value
    };
    edits.add.iter().map(render).collect()
}

/// Removes, then adds. A value with CR, LF or NUL in it is left out: it could forge a header.
fn apply(edits: &HeaderEdits, values: Vec<Vec<u8>>, headers: &mut Headers) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (add, value) in edits.add.iter().zip(values) {
        if value.is_empty() && !add.keep_empty {
            continue;
        }
        let there = headers.contains(&add.name);
        let _refused = match (add.action, there) {
            (AppendAction::AppendIfExistsOrAdd, _) | (AppendAction::AddIfAbsent, false) => {
                headers.append(&add.name, &value)
            }
            (AppendAction::OverwriteIfExistsOrAdd, _) | (AppendAction::OverwriteIfExists, true) => {
                headers.set(&add.name, &value)
            }
            (AppendAction::AddIfAbsent, true) | (AppendAction::OverwriteIfExists, false) => Ok(()),
        };
    }
}

fn rewrite_path(x: &mut Exchange<'_>, plan: &Plan, forward: &Forward) {
    let head = &mut x.request;
    let Some(new) = rewrite::path(forward, &plan.route.matches, head) else { return };
    let old = head.path().to_vec();
    // A path that cannot stand in a request is not written: the old one goes on.
    if head.set_path(&new).is_ok() && x.cx.envoy_headers {
        let _ = head.headers.set(KnownId::XEnvoyOriginalPath, &old);
    }
}

fn rewrite_host(x: &mut Exchange<'_>, plan: &Plan, forward: &Forward) {
    if let Some(new) = rewrite::authority(forward, plan.weighted(), &x.request) {
        set_host(x, forward, &new);
    }
}

/// Rewrites the host to that of the endpoint that was picked, where the route says so.
pub fn endpoint_host(x: &mut Exchange<'_>, plan: &Plan, endpoint: &Endpoint) {
    let Some(forward) = plan.forward() else { return };
    if forward.host_rewrite != Some(HostRewrite::Endpoint) {
        return;
    }
    let host = match (&*endpoint.hostname, &endpoint.address) {
        ("", EndpointAddress::Dns(name, _)) => &**name,
        (hostname, _) => hostname,
    };
    if !host.is_empty() && x.request.authority() != host.as_bytes() {
        set_host(x, forward, host.as_bytes());
    }
}

fn set_host(x: &mut Exchange<'_>, forward: &Forward, new: &[u8]) {
    let head = &mut x.request;
    // A host that cannot stand in a request is not written: the old one goes on.
    if CanonicalAuthority::parse(new).is_err() {
        return;
    }
    let old = head.authority().to_vec();
    if forward.append_x_forwarded_host {
        let _ = head.headers.join(KnownId::XForwardedHost, b",", &old);
    }
    if head.set_authority(new).is_ok() && x.cx.envoy_headers {
        let _ = head.headers.append_if_absent(KnownId::XEnvoyOriginalHost, &old);
    }
}
