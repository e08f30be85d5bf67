//! HTTP between a downstream and an upstream.
//!
//! The request story goes on here: [`h1_server`] or [`h2_server`] read a head → [`exchange`] runs
//! the phases: [`normalize`], [`forwarded`], [`route`], [`filter`] → [`forward`] →
//! [`attempt`] → [`deliver`].

pub mod attempt;
pub mod body;
pub mod codec;
pub mod context;
pub mod deliver;
pub mod edit;
pub mod exchange;
pub mod failure;
pub mod filter;
pub mod forward;
pub mod forwarded;
pub mod h1_server;
pub mod h2_server;
pub mod hash;
pub mod heads;
pub mod linger;
pub mod normalize;
pub mod place;
pub mod reason;
pub mod redirect;
pub mod reply;
pub mod responder;
pub mod route;
pub mod sink;
pub mod tries;
pub mod upstream_stream;

use std::rc::Rc;

use tulle_model::http::Codec;

use crate::buffer::ReadBuffer;
use crate::http::context::HttpContext;
use crate::http::h1_server::H1Connection;
use crate::io::Io;

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection in the protocol that it speaks. `speaks_h2`: its first bytes say HTTP/2.
pub async fn serve(cx: Rc<HttpContext>, io: Io, speaks_h2: bool) {
    let alpn_h2 = io.tls().is_some_and(|tls| *tls.alpn == *b"h2");
    let (is_h2, buffer) = match cx.manager.codec {
        Codec::Http2 => (true, ReadBuffer::default()),
        Codec::Http1 => (false, ReadBuffer::default()),
        Codec::Auto if alpn_h2 || speaks_h2 => (true, ReadBuffer::default()),
        Codec::Auto => {
            let Some(told) = Box::pin(told_apart(&cx, &io)).await else { return };
            told
        }
    };
    if is_h2 {
        io.unread(buffer.into_unread());
        return Box::pin(h2_server::serve_connection(cx, io)).await;
    }
    h1_server::serve_connection(H1Connection::new(cx, io, buffer)).await;
}

/// Reads until the bytes are or are not the preface of HTTP/2, and says which, with the bytes.
async fn told_apart(cx: &HttpContext, io: &Io) -> Option<(bool, ReadBuffer)> {
    let mut buffer = ReadBuffer::default();
    let mut timer = crate::timer::Timer::default();
    let idle = cx.manager.timeouts.idle.map(|idle| cx.started + idle);
    tokio::select! {
        biased;
        ready = io.readable() => ready.ok()?,
        () = timer.wait(idle) => return None,
    }
    let limit = cx.manager.timeouts.request_headers;
    let limit = limit.map(|limit| tokio::time::Instant::now() + limit);
    loop {
        let read = tokio::select! {
            biased;
            read = buffer.fill(io, &cx.worker.buffers) => read,
            () = timer.wait(limit.or(idle)) => return None,
        };
        if !matches!(read, Ok(count) if count > 0) {
            return None;
        }
        let seen = buffer.unread();
        let length = seen.len().min(PREFACE.len());
        if seen[..length] != PREFACE[..length] {
            return Some((false, buffer));
        }
        if length == PREFACE.len() {
            return Some((true, buffer));
        }
    }
}
