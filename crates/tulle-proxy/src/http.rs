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
use crate::io::Io;
use crate::listener::inspect::Protocol;

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection in the protocol that it speaks.
pub async fn serve(cx: Rc<HttpContext>, io: Io, protocol: &Protocol) {
    let alpn_h2 = io.tls().is_some_and(|tls| *tls.alpn == *b"h2");
    match cx.manager.codec {
        Codec::Http2 => h2_server::serve_connection(cx, io).await,
        Codec::Http1 => h1_server::serve_connection(cx, io, ReadBuffer::default()).await,
        Codec::Auto if alpn_h2 || *protocol == Protocol::H2 => {
            h2_server::serve_connection(cx, io).await;
        }
        Codec::Auto => serve_either(cx, io).await,
    }
}

/// Reads until the bytes are or are not the preface of HTTP/2.
async fn serve_either(cx: Rc<HttpContext>, io: Io) {
    let mut buffer = ReadBuffer::default();
    let worker = Rc::clone(&cx.worker);
    let mut timer = crate::timer::Timer::default();
    let idle = cx.manager.timeouts.idle.map(|idle| cx.started + idle);
    tokio::select! {
        biased;
        ready = io.readable() => if ready.is_err() { return },
        () = timer.wait(idle) => return,
    }
    let limit = cx.manager.timeouts.request_headers;
    let limit = limit.map(|limit| tokio::time::Instant::now() + limit);
    loop {
        let read = tokio::select! {
            biased;
            read = buffer.fill(&io, &worker.buffers) => read,
            () = timer.wait(limit.or(idle)) => return,
        };
        if !matches!(read, Ok(count) if count > 0) {
            return;
        }
        let seen = buffer.unread();
        let length = seen.len().min(PREFACE.len());
        if seen[..length] != PREFACE[..length] {
            return h1_server::serve_connection(cx, io, buffer).await;
        }
        if length == PREFACE.len() {
            io.unread(buffer.into_unread());
            return h2_server::serve_connection(cx, io).await;
        }
    }
}
