//! The path as everything after this sees it: matched, authorised and sent are the same bytes.
//!
//! Reference: RFC 3986 §6.2.2, Envoy's `normalize_path`, `merge_slashes`,
//! `path_with_escaped_slashes_action`.

use tulle_model::flag::ResponseFlag;
use tulle_model::head::{KnownId, RequestHead, split_path};
use tulle_model::http::{EscapedSlashes, StripPort};

use crate::http::context::HttpContext;
use crate::http::reply::LocalReply;

/// Normalises the path and authority of `head` as the connection manager says.
///
/// # Errors
/// The answer for a path that cannot be normalised or must not be.
pub fn request(head: &mut RequestHead, cx: &HttpContext) -> Result<(), LocalReply> {
    strip_port(head, cx);
    let settings = cx.manager.path;
    let escaped = escaped_slashes(head, settings.escaped_slashes)?;
    let plain = !settings.normalize && !settings.merge_slashes && escaped.is_none();
    if plain || head.path().first() != Some(&b'/') {
        return Ok(());
    }
    let (path, query) = split_path(head.path());
    if escaped.is_none() && is_normal(path) {
        return Ok(());
    }
    let mut path = escaped.unwrap_or_else(|| path.to_vec());
    if settings.normalize {
        path = normalized(&path).ok_or_else(bad_path)?;
    }
    if settings.merge_slashes {
        path.dedup_by(|a, b| *a == b'/' && *b == b'/');
    }
    if let Some(query) = query {
        path.push(b'?');
        path.extend_from_slice(query);
    }
    if path == head.path() {
        return Ok(());
    }
    head.set_path(&path).map_err(|_| bad_path())
}

/// Whether nothing in the path could be normalised, which is so for nearly all of them.
fn is_normal(path: &[u8]) -> bool {
    let plain = path.iter().all(|byte| !matches!(byte, b'%' | b'\\'));
    plain && path.windows(2).all(|pair| !matches!(pair, b"/." | b"//"))
}

fn bad_path() -> LocalReply {
    LocalReply::new(400, "path_normalization_failed", "")
        .flagged(ResponseFlag::DownstreamProtocolError)
}

fn strip_port(head: &mut RequestHead, cx: &HttpContext) {
    if cx.manager.strip_port == StripPort::Keep {
        return;
    }
    let Ok(authority) = head.canonical_authority() else { return };
    let Some(port) = authority.port else { return };
    if cx.manager.strip_port == StripPort::Matching && port != cx.downstream.local.port() {
        return;
    }
    let host = String::from_utf8_lossy(head.authority());
    let host = tulle_model::decide::route::without_port(&host).to_owned();
    // A part of a valid authority is a valid value.
    let _ = head.set_authority(host.as_bytes());
}

/// The path with `%2F` and `%5C` unescaped, if there is any to unescape.
fn escaped_slashes(
    head: &RequestHead,
    action: EscapedSlashes,
) -> Result<Option<Vec<u8>>, LocalReply> {
    if action == EscapedSlashes::Keep {
        return Ok(None);
    }
    let (path, query) = split_path(head.path());
    let Some(unescaped) = unescape_slashes(path) else { return Ok(None) };
    match action {
        EscapedSlashes::Keep => Ok(None),
        EscapedSlashes::Reject => Err(bad_path()),
        EscapedSlashes::UnescapeAndForward => Ok(Some(unescaped)),
        EscapedSlashes::UnescapeAndRedirect => {
            let mut location = String::from_utf8_lossy(&unescaped).into_owned();
            if let Some(query) = query {
                location.push('?');
                location.push_str(&String::from_utf8_lossy(query));
            }
            let reply = LocalReply::new(307, "path_normalization_failed", "");
            Err(reply.header(KnownId::Location, location))
        }
    }
}

fn unescape_slashes(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut found = false;
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let (byte, used) = match rest {
            [b'%', b'2', b'f' | b'F', ..] => (b'/', 3),
            [b'%', b'5', b'c' | b'C', ..] => (b'\\', 3),
            _ => (*first, 1),
        };
        found |= used == 3;
        out.push(byte);
        rest = if used == 3 { &rest[3..] } else { tail };
    }
    found.then_some(out)
}

/// Dot segments removed, unreserved characters unescaped, backslashes turned, hexadecimal
/// digits in upper case. `None` where the path climbs above its root or an escape is broken.
fn normalized(path: &[u8]) -> Option<Vec<u8>> {
    let decoded = unescape_unreserved(path)?;
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded.split(|byte| *byte == b'/');
    segments.next();
    let mut segments = segments.peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." if is_last => out.push(b'/'),
            b"." => {}
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/')?;
                out.truncate(parent);
                if is_last {
                    out.push(b'/');
                }
            }
            segment => {
                out.push(b'/');
                out.extend_from_slice(segment);
            }
        }
    }
    Some(out)
}

fn unescape_unreserved(path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(b'/'),
            b'%' => {
                let (high, low) = (bytes.next()?, bytes.next()?);
                let value = hex(high)? * 16 + hex(low)?;
                if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                    out.push(value);
                } else {
                    out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
                }
            }
            other => out.push(other),
        }
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form() {
        for (path, expected) in [
            ("/a/b", Some("/a/b")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/..", Some("/")),
            ("/a/.", Some("/a/")),
            ("/%61%2e%2E/b", Some("/a../b")),
            ("/a/%2e%2e/b", Some("/b")),
            ("/a%2fb", Some("/a%2Fb")),
            ("/a\\b", Some("/a/b")),
            ("/../a", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("//a//", Some("//a//")),
        ] {
            let normal = normalized(path.as_bytes());
            assert_eq!(normal.as_deref(), expected.map(str::as_bytes), "{path}");
            if is_normal(path.as_bytes()) {
                assert_eq!(normal.as_deref(), Some(path.as_bytes()), "{path} is left alone");
            }
        }
    }

    #[test]
    fn ordinary_paths_are_left_alone() {
        assert!(is_normal(b"/") && is_normal(b"/a/b.c/d-e"));
        assert!(!is_normal(b"/a/.b") && !is_normal(b"//a") && !is_normal(b"/%41"));
    }

    #[test]
    fn slashes_are_unescaped_only_where_there_are_any() {
        assert_eq!(unescape_slashes(b"/a%2fb%5C"), Some(b"/a/b\\".to_vec()));
        assert_eq!(unescape_slashes(b"/a%20b"), None);
    }
}
