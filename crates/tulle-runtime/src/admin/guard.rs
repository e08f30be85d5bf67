//! Who may ask. The server listens on loopback, but every page in a browser on the same machine can
//! send requests there; none of them may get an answer or change anything.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Request, Version};

/// Which names a request may use for this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// Its own address, loopback, `localhost`: any other name was made to point here.
    Own,
    /// Any. For what only reads numbers, such as metrics that are scraped by a name.
    Any,
}

/// Refuses what a page could have sent, with the reason.
pub(super) fn check<B>(
    request: &Request<B>,
    local: SocketAddr,
    hosts: HostPolicy,
) -> Result<(), &'static str> {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) || is_cross_site(headers) {
        return Err("requests of web pages are refused\n");
    }
    if hosts == HostPolicy::Any {
        return Ok(());
    }
    let target = request.uri().authority().cloned();
    let is_own = |host: &Authority| names_this_machine(host.host(), local.ip());
    let header = single_host(headers, request.version());
    match (target, header) {
        (Some(target), Ok(_)) if is_own(&target) => Ok(()),
        (None, Ok(Some(host))) if is_own(&host) => Ok(()),
        (None, Ok(None)) => Ok(()),
        _ => Err("a foreign Host is refused; use the address that this server listens on\n"),
    }
}

/// Browsers say where a request comes from; `none` is somebody who typed the address.
fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

/// The only Host; `None` where HTTP/1.0 needs none.
fn single_host(headers: &HeaderMap, version: Version) -> Result<Option<Authority>, ()> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).map(Some).map_err(drop),
        (None, _) if version <= Version::HTTP_10 => Ok(None),
        _ => Err(()),
    }
}

fn names_this_machine(host: &str, local: IpAddr) -> bool {
    let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.to_canonical() == local.to_canonical(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}
