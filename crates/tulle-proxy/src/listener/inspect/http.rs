//! Tells HTTP from other protocols by the request line or HTTP/2's preface.
//!
//! Generous on purpose: what any lenient server could take for a request counts as HTTP, so that
//! nobody passes an HTTP rule by writing badly. The codec, which is strict, refuses it then.

use tulle_model::head::Method;
use tulle_model::head::grammar::TOKEN;

use super::{MAX_REQUEST_LINE_BYTES, Protocol};

/// HTTP/2's connection preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest method that is waited for; the longest registered one has 17 bytes.
const MAX_METHOD_BYTES: usize = 64;

pub(super) enum Answer {
    Is(Protocol),
    /// It may become HTTP with at least so many bytes in all.
    NeedMore(usize),
    No,
}

pub(super) fn inspect(bytes: &[u8]) -> Answer {
    if bytes.starts_with(PREFACE) {
        return Answer::Is(Protocol::H2);
    }
    // One more byte may decide: `P` can become the preface or a short `PUT`.
    let more = Answer::NeedMore(bytes.len() + 1);
    if PREFACE.starts_with(bytes) {
        return more;
    }
    let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let begin = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    if begin > MAX_METHOD_BYTES {
        return Answer::No;
    }
    let line = &bytes[begin..];
    let method = &line[..TOKEN.prefix_len(line)];
    let rest = &line[method.len()..];
    match rest {
        _ if method.len() > MAX_METHOD_BYTES => Answer::No,
        [] => more,
        [b' ' | b'\t', ..] if !method.is_empty() => match rest.iter().position(|b| *b == b'\n') {
            Some(end) => classify(method, rest[..end].trim_ascii()),
            // Nothing but an HTTP request has such a first line so long.
            None if rest.len() > MAX_REQUEST_LINE_BYTES => classify_endless(method, rest),
            None => more,
        },
        _ => Answer::No,
    }
}

/// A complete line: what follows the method, without white space around it.
fn classify(method: &[u8], rest: &[u8]) -> Answer {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let word = rest.iter().rposition(is_space).map_or(rest, |at| &rest[at + 1..]);
    match word {
        b"HTTP/1.0" | b"HTTP/0.9" => Answer::Is(Protocol::Http10),
        _ if word.len() > 5 && word[..5].eq_ignore_ascii_case(b"HTTP/") => {
            Answer::Is(Protocol::Http11)
        }
        // HTTP/0.9 had no version.
        _ if Method::known(method).is_some() && rest.starts_with(b"/") => {
            Answer::Is(Protocol::Http10)
        }
        _ => Answer::No,
    }
}

fn classify_endless(method: &[u8], rest: &[u8]) -> Answer {
    let target = rest.trim_ascii_start();
    let is_target = target.starts_with(b"/") || target.starts_with(b"http");
    if Method::known(method).is_some() || is_target {
        Answer::Is(Protocol::Http11)
    } else {
        Answer::No
    }
}
