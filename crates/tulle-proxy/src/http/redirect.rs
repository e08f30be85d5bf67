//! Answers that a route gives: redirects and direct responses.

use std::borrow::Cow;

use tulle_model::decide::route::without_port;
use tulle_model::head::{KnownId, RequestHead, Scheme, split_path};
use tulle_model::matcher::PathMatch;
use tulle_model::route::{Redirect, RedirectPath};

use crate::http::reply::LocalReply;
use crate::http::route::Plan;

/// The redirect of the route for the request.
#[must_use]
pub fn redirect(plan: &Plan, head: &RequestHead) -> LocalReply {
    let Some(redirect) = plan.redirect() else {
        return LocalReply::new(500, "internal_redirect_without_action", "");
    };
    let reply = LocalReply::new(redirect.status, "direct_response", "");
    reply.header(KnownId::Location, location(redirect, &plan.route.matches.path, head))
}

/// The answer of the route.
#[must_use]
pub fn direct(plan: &Plan) -> LocalReply {
    let (status, body) = match plan.direct() {
        Some(direct) => (direct.status, direct.body.to_vec()),
        None => (500, Vec::new()),
    };
    let mut reply = LocalReply::new(status, "direct_response", "");
    reply.body = Cow::Owned(body);
    reply
}

/// The same place over TLS.
#[must_use]
pub fn to_tls(head: &RequestHead) -> LocalReply {
    let host = String::from_utf8_lossy(head.authority());
    let path = String::from_utf8_lossy(head.path());
    let location = format!("https://{}{path}", without_port(&host));
    LocalReply::new(301, "direct_response", "").header(KnownId::Location, location)
}

fn location(redirect: &Redirect, matched: &PathMatch, head: &RequestHead) -> String {
    let old_scheme = head.scheme.unwrap_or(Scheme::Http).as_str();
    let scheme = redirect.scheme.as_deref().unwrap_or(old_scheme);
    let old_host = String::from_utf8_lossy(head.authority());
    let host = match (&redirect.host, redirect.port) {
        (Some(host), None) => host.to_string(),
        (host, Some(port)) => {
            let host = host.as_deref().unwrap_or_else(|| without_port(&old_host));
            format!("{host}:{port}")
        }
        (None, None) => kept_host(&old_host, old_scheme, scheme),
    };
    format!("{scheme}://{host}{}", path(redirect, matched, head))
}

/// A port that was only the default of the old scheme is left out with it.
fn kept_host(host: &str, old_scheme: &str, scheme: &str) -> String {
    let default = if old_scheme == "https" { ":443" } else { ":80" };
    match host.strip_suffix(default) {
        Some(bare) if old_scheme != scheme => bare.to_owned(),
        _ => host.to_owned(),
    }
}

fn path(redirect: &Redirect, matched: &PathMatch, head: &RequestHead) -> String {
    let (path, query) = split_path(head.path());
    let new = match &redirect.path {
        None => Cow::Borrowed(path),
        Some(RedirectPath::Full(full)) => {
            // A path that brings its own query replaces that of the request.
            if full.contains('?') {
                return full.to_string();
            }
            Cow::Borrowed(full.as_bytes())
        }
        Some(RedirectPath::Prefix(prefix)) => replaced_prefix(path, matched, prefix),
        Some(RedirectPath::Pattern(substitution)) => Cow::Owned(substitution.apply(path)),
    };
    let mut text = String::from_utf8_lossy(&new).into_owned();
    if let (Some(query), false) = (query, redirect.strip_query) {
        text.push('?');
        text.push_str(&String::from_utf8_lossy(query));
    }
    text
}

/// `path` with what `matched` matched replaced by `prefix`.
#[must_use]
pub fn replaced_prefix<'p>(path: &'p [u8], matched: &PathMatch, prefix: &str) -> Cow<'p, [u8]> {
    let length = match matched {
        PathMatch::Prefix(text) | PathMatch::PathSeparatedPrefix(text) => text.len(),
        PathMatch::Exact(_) | PathMatch::Pattern(_) => path.len(),
        PathMatch::Connect => return Cow::Borrowed(path),
    };
    let rest = path.get(length..).unwrap_or_default();
    Cow::Owned([prefix.as_bytes(), rest].concat())
}
