//! What a route makes of path and authority, and where a redirect sends the caller.
//!
//! Reference: Envoy `RouteEntryImplBase::finalizePathHeader`, `newUri`.

use std::borrow::Cow;

use crate::decide::route::without_port;
use crate::head::{RequestHead, Scheme, split_path};
use crate::matcher::PathMatch;
use crate::route::{
    Forward, HostRewrite, PathRewrite, Redirect, RedirectPath, RouteMatch, WeightedCluster,
};

/// The path and query that are sent on instead of those of `head`, if the route says so. What is no
/// path is never sent: the next hop could read it as something else.
#[must_use]
pub fn path(forward: &Forward, matches: &RouteMatch, head: &RequestHead) -> Option<Vec<u8>> {
    let rewrite = forward.path_rewrite.as_ref()?;
    let (path, query) = split_path(head.path());
    let new = match rewrite {
        PathRewrite::Prefix(prefix) => replaced_prefix(path, &matches.path, prefix),
        PathRewrite::Pattern(substitution) => Cow::Owned(substitution.apply(path)),
    };
    if new.first() != Some(&b'/') {
        return None;
    }
    let mut new = new.into_owned();
    if let Some(query) = query {
        new.push(b'?');
        new.extend_from_slice(query);
    }
    Some(new)
}

/// The authority that is sent on instead of that of `head`, if the route says so; that of the
/// endpoint is known only when one is picked.
#[must_use]
pub fn authority(
    forward: &Forward,
    weighted: Option<&WeightedCluster>,
    head: &RequestHead,
) -> Option<Vec<u8>> {
    if let Some(host) = weighted.and_then(|cluster| cluster.host_rewrite.as_deref()) {
        return Some(host.as_bytes().to_vec());
    }
    match forward.host_rewrite.as_ref()? {
        HostRewrite::Endpoint => None,
        HostRewrite::Literal(host) => Some(host.as_bytes().to_vec()),
        HostRewrite::Header(name) => {
            head.headers.first(name).filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
        }
        HostRewrite::FromPath(substitution) => Some(substitution.apply(head.path_without_query())),
    }
}

/// Where a redirect sends the caller.
#[must_use]
pub fn location(redirect: &Redirect, matched: &PathMatch, head: &RequestHead) -> String {
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
    format!("{scheme}://{host}{}", redirected_path(redirect, matched, head))
}

/// The same place over TLS; its port stays.
#[must_use]
pub fn location_over_tls(head: &RequestHead) -> String {
    let host = String::from_utf8_lossy(head.authority());
    let path = String::from_utf8_lossy(head.path());
    format!("https://{host}{path}")
}

/// A port that was only the default of the old scheme is left out with it.
fn kept_host(host: &str, old_scheme: &str, scheme: &str) -> String {
    let default = if old_scheme == "https" { ":443" } else { ":80" };
    match host.strip_suffix(default) {
        Some(bare) if old_scheme != scheme => bare.to_owned(),
        _ => host.to_owned(),
    }
}

fn redirected_path(redirect: &Redirect, matched: &PathMatch, head: &RequestHead) -> String {
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
fn replaced_prefix<'p>(path: &'p [u8], matched: &PathMatch, prefix: &str) -> Cow<'p, [u8]> {
    let length = match matched {
        PathMatch::Prefix(text) | PathMatch::PathSeparatedPrefix(text) => text.len(),
        PathMatch::Exact(_) | PathMatch::Pattern(_) => path.len(),
        PathMatch::Connect => return Cow::Borrowed(path),
    };
    let rest = path.get(length..).unwrap_or_default();
    Cow::Owned([prefix.as_bytes(), rest].concat())
}
