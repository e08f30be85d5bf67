//! What could be observed of an exchange, as lines that two proxies must have in common.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::backend::{http1, http2, tcp};
use crate::client::http1::{Exchange, Fate};
use crate::client::http2::{Http2Response, StreamEnd};
use crate::message::{End, Framing, Message};

/// Fields that name a time or a product.
const LEFT_OUT: [&str; 3] = ["date", "server", "x-envoy-upstream-service-time"];
/// The field that tells an upstream how long it may take.
const REMAINING: &str = "x-envoy-expected-rq-timeout-ms";
/// How a line begins that says that a TCP peer waited in vain.
pub(super) const STUCK: &str = "  stuck: ";
/// Bodies longer than this are written as length and checksum, in bytes.
const BODY_SHOWN_BYTES: usize = 512;

/// A response with the interim responses before it.
#[must_use]
pub fn exchange(exchange: &Exchange) -> Vec<String> {
    let interim = exchange.interim.iter().flat_map(|message| self::message("interim", message));
    interim.chain(message("response", &exchange.response)).collect()
}

/// A request or response of HTTP/1.
#[must_use]
pub fn message(what: &str, message: &Message) -> Vec<String> {
    let start = match message.start.strip_prefix("HTTP/") {
        // The reason phrase is the only part of a status line that means nothing.
        Some(_) => message.start.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "),
        None => message.start.clone(),
    };
    let mut lines = vec![format!("{what} {start}")];
    let framing = match message.framing {
        Framing::None => "none",
        Framing::Length(_) => "length",
        Framing::Chunked => "chunked",
        Framing::UntilClose => "until close",
    };
    lines.extend(fields("header", &message.headers));
    lines.push(format!("  framing {framing}"));
    lines.extend(body(&message.body));
    lines.extend(fields("trailer", &message.trailers));
    if message.end != End::Complete {
        lines.push(format!("  end {:?}", message.end));
    }
    lines
}

/// A response of HTTP/2.
#[must_use]
pub fn http2_response(response: &Http2Response) -> Vec<String> {
    let interim = response.interim.iter().map(|status| format!("interim HTTP/2 {status}"));
    let mut lines: Vec<_> = interim.collect();
    lines.push(format!("response HTTP/2 {}", response.status));
    lines.extend(fields("header", &pairs(&response.headers)));
    lines.extend(body(&response.body));
    lines.extend(trailers(response.trailers.as_ref()));
    lines.push(stream_end(&response.end));
    lines
}

/// What became of a connection. The probe's bytes may turn an end into a reset (a socket closed
/// with bytes unread), so both are one; rows about the difference read to the end instead.
#[must_use]
pub fn fate(fate: Fate) -> String {
    match fate {
        Fate::Kept => "connection kept".into(),
        Fate::Closed | Fate::Reset => "connection ended".into(),
        Fate::OutOfStep => "connection out of step".into(),
    }
}

/// What an HTTP/1 upstream received.
#[must_use]
pub fn received(received: &http1::Received) -> Vec<String> {
    let mut lines = message("received", &received.request);
    if !received.tunnelled.is_empty() {
        lines.push(format!("  tunnelled \"{}\"", received.tunnelled.escape_ascii()));
    }
    lines
}

/// What an HTTP/2 upstream received.
#[must_use]
pub fn http2_received(received: &http2::Received) -> Vec<String> {
    let mut lines = vec![format!("received HTTP/2 {} {}", received.method, received.uri)];
    lines.extend(fields("header", &pairs(&received.headers)));
    lines.extend(body(&received.body));
    lines.extend(trailers(received.trailers.as_ref()));
    lines.push(stream_end(&received.end));
    lines
}

/// A line of the access log. Flags are a set, whatever the order they were set in.
#[must_use]
pub fn logged(line: &str) -> String {
    let is_flags =
        |word: &str| word.contains(',') && word.chars().all(|c| c == ',' || c.is_ascii_uppercase());
    let words = line.split(' ').map(|word| {
        let mut flags: Vec<&str> = word.split(',').collect();
        flags.sort_unstable();
        if is_flags(word) { flags.join(",") } else { word.to_owned() }
    });
    format!("logged {}", words.collect::<Vec<_>>().join(" "))
}

/// How a stream ended. Of the codes only REFUSED_STREAM means something to a peer: the request
/// was not processed and may be sent again.
fn stream_end(end: &StreamEnd) -> String {
    const REFUSED_STREAM: u32 = 7;
    match end {
        StreamEnd::Complete => "  end".into(),
        StreamEnd::Reset(REFUSED_STREAM) => "  end refused".into(),
        StreamEnd::Reset(_) => "  end reset".into(),
        StreamEnd::GoAway(_) => "  end goaway".into(),
        StreamEnd::Broken => "  end broken".into(),
    }
}

/// What a TCP peer saw.
#[must_use]
pub fn tcp_seen(seen: &tcp::Seen) -> Vec<String> {
    let mut lines = vec!["connection".to_owned()];
    lines.extend(body(&seen.bytes));
    lines.extend(seen.close.map(|close| format!("  closed {close:?}")));
    lines.extend(seen.stuck.as_ref().map(|what| format!("{STUCK}{what}")));
    lines
}

/// Fields as a set by lower-case name, equal names in their order.
fn fields(what: &str, fields: &[(String, String)]) -> Vec<String> {
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in fields {
        by_name.entry(name.to_ascii_lowercase()).or_default().push(value);
    }
    let lines = by_name.into_iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    lines
        .map(|(name, values)| {
            let shape = if name == REMAINING { without_elapsed } else { by_shape };
            let values: Vec<String> = values.into_iter().map(shape).collect();
            format!("  {what} {name}: {}", values.join(" ⏎ "))
        })
        .collect()
}

/// What is left of a timeout, in ms, shrinks while the row is played, on a busy machine by seconds.
fn without_elapsed(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(left) if left > 1000 => (left.div_ceil(5000) * 5000).to_string(),
        _ => value.into(),
    }
}

/// A generated id is compared by its shape, and so is what a cookie is generated with.
fn by_shape(value: &str) -> String {
    let is_generated = |text: &&str| {
        text.len() == 16
            && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
    };
    let mut quoted = value.splitn(3, '"');
    if let (Some(name), Some(_), Some(rest)) =
        (quoted.next(), quoted.next().filter(is_generated), quoted.next())
    {
        return format!("{name}\"<generated>\"{rest}");
    }
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    let hex = value.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    if groups == [8, 4, 4, 4, 12] && hex { "<uuid>".into() } else { value.into() }
}

fn body(bytes: &[u8]) -> Vec<String> {
    match bytes.len() {
        0 => Vec::new(),
        1..=BODY_SHOWN_BYTES => vec![format!("  body \"{}\"", bytes.escape_ascii())],
        length => vec![format!("  body of {length} bytes, checksum {:016x}", checksum(bytes))],
    }
}

/// FNV-1a: enough to tell two bodies apart.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn trailers(trailers: Option<&HeaderMap>) -> Vec<String> {
    trailers.map(|map| fields("trailer", &pairs(map))).unwrap_or_default()
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
