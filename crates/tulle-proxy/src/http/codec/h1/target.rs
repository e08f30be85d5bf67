//! The request target and the Host it must agree with (RFC 9112 §3.2).

use tulle_model::head::grammar::{TARGET, is_target};
use tulle_model::head::{CanonicalAuthority, KnownId, Method, RequestHead, Scheme, Span, Version};

use super::Violation;

/// Whether path and query hold only bytes of a request target and no encoded NUL. HTTP/2 asks it
/// about `:path`.
pub fn is_safe_path(path: &[u8]) -> bool {
    is_target(path) && !has_encoded_nul(path)
}

fn has_encoded_nul(path: &[u8]) -> bool {
    memchr::memmem::find(path, b"%00").is_some()
}

/// Sorts the target into its form and sets scheme, authority and path. `target` is a span of the
/// loaded head; method and fields are already in `head`.
pub(super) fn apply_target(head: &mut RequestHead, target: Span) -> Result<(), Violation> {
    // A request that is refused for its Host is written with its path.
    let host = check_host(head);
    sort_target(head, target)?;
    host
}

fn sort_target(head: &mut RequestHead, target: Span) -> Result<(), Violation> {
    let bytes = head.headers.bytes(target);
    if head.method == Method::Connect {
        let authority = CanonicalAuthority::parse(bytes).map_err(|_| Violation::Target)?;
        if authority.port.is_none() {
            return Err(Violation::Target);
        }
        return Ok(head.headers.point_at(KnownId::Host, target)?);
    }
    match bytes {
        [b'/', ..] if is_safe_path(bytes) => {
            head.set_path_span(target);
            Ok(())
        }
        b"*" if head.method == Method::Options => {
            head.set_path_span(target);
            Ok(())
        }
        [b'/' | b'*', ..] => Err(Violation::Target),
        _ => apply_absolute(head, target),
    }
}

/// `scheme "://" authority [path] ["?" query]`: its authority replaces the Host.
fn apply_absolute(head: &mut RequestHead, target: Span) -> Result<(), Violation> {
    let bytes = head.headers.bytes(target);
    let colon = memchr::memchr(b':', bytes).ok_or(Violation::Target)?;
    let scheme = Scheme::parse(&bytes[..colon]).ok_or(Violation::Target)?;
    let rest = bytes[colon..].strip_prefix(b"://").ok_or(Violation::Target)?;
    let authority_start = colon + 3;
    let authority_len = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    CanonicalAuthority::parse(&rest[..authority_len]).map_err(|_| Violation::Target)?;
    let path = &rest[authority_len..];
    if !TARGET.has_all(path) || has_encoded_nul(path) {
        return Err(Violation::Target);
    }
    let authority_end = target.start() + authority_start + authority_len;
    let authority = Span::new(target.start() + authority_start, authority_end);
    let path = Span::new(authority_end, target.end());
    head.scheme = Some(scheme);
    head.headers.point_at(KnownId::Host, authority)?;
    match head.headers.bytes(path).first() {
        Some(b'/') => head.set_path_span(path),
        // A query without a path: the path is `/`.
        Some(_) => {
            let start = head.headers.store(b"/")?.start();
            let query = head.headers.store_span(path)?;
            head.set_path_span(Span::new(start, query.end()));
        }
        // RFC 9112 §3.2.4: an OPTIONS about the whole server.
        None if head.method == Method::Options => head.set_path(b"*")?,
        None => head.set_path(b"/")?,
    }
    Ok(())
}

/// Exactly one valid Host; HTTP/1.0 may go without.
fn check_host(head: &RequestHead) -> Result<(), Violation> {
    match head.headers.single(KnownId::Host) {
        Ok(Some(host)) => {
            CanonicalAuthority::parse(host).map(drop).map_err(|_| Violation::InvalidHost)
        }
        Ok(None) if head.version == Version::Http10 => Ok(()),
        Ok(None) => Err(Violation::MissingHost),
        Err(_) => Err(Violation::SeveralHosts),
    }
}
