//! A downstream HTTP/1 connection: one request after the other.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tulle_model::flag::ResponseFlag;
use tulle_model::head::{Method, RequestHead, ResponseHead, Version};

use crate::buffer::ReadBuffer;
use crate::http::body::{Body, H1Body, H1Source};
use crate::http::codec::h1::{HeadParser, ParsedRequest, Violation};
use crate::http::context::HttpContext;
use crate::http::exchange::{Exchange, serve};
use crate::http::filter::Filters;
use crate::http::linger::linger;
use crate::http::reply::LocalReply;
use crate::http::responder::{H1Wire, Responder};
use crate::io::{Io, WholeGuard};
use crate::record::Record;
use crate::timer::Timer;
use crate::worker::Ear;

/// How long a connection may be silent before its first request, although idle ones are being
/// closed: whoever has just connected is about to ask.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Serves requests until either side has enough.
pub async fn serve_connection(mut connection: Box<H1Connection>) {
    let worker = Rc::clone(&connection.cx.worker);
    let cx = &connection.cx;
    let _counted = cx.metrics.connection(cx.downstream.is_tls, false);
    while connection.next == Next::Request && connection.wait_for_bytes().await {
        connection = worker.places.serve(&worker.clock, serve_request, connection).await;
    }
    let next = connection.next;
    let io = connection.into_io();
    if next == Next::Reset {
        // Its end would be taken for the end of the body.
        io.reset();
    }
}

/// Serves the request that begins at `connection`, and gives it back.
async fn serve_request(mut connection: Box<H1Connection>) -> Box<H1Connection> {
    connection.serve_request().await;
    connection
}

/// A connection between two requests: all of it that an idle one keeps, beside its context.
#[derive(Debug)]
pub struct H1Connection {
    cx: Rc<HttpContext>,
    io: Io,
    buffer: ReadBuffer,
    out: Vec<u8>,
    timer: Timer,
    /// Hears when idle connections are to be closed.
    ear: Ear,
    idle_since: Instant,
    next: Next,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It may bring another request.
    Request,
    /// It is over.
    Close,
    /// The last answer was broken off, and its peer can only tell by a reset.
    Reset,
}

/// A request whose head was read.
struct Arrived {
    parsed: ParsedRequest,
    request: RequestHead,
    response: ResponseHead,
    begun: Begun,
}

/// When the first byte of a request was read.
#[derive(Clone, Copy)]
struct Begun {
    at: Instant,
    time: SystemTime,
}

impl H1Connection {
    /// A connection of which `buffer` was read already.
    #[must_use]
    pub fn new(cx: Rc<HttpContext>, io: Io, buffer: ReadBuffer) -> Box<Self> {
        let ear = cx.worker.drain.listen();
        Box::new(Self {
            cx,
            io,
            ear,
            buffer,
            out: Vec::new(),
            timer: Timer::default(),
            idle_since: Instant::now(),
            next: Next::Request,
        })
    }

    /// Serves the request that begins.
    async fn serve_request(&mut self) {
        let Some(arrived) = self.next_request().await else {
            self.next = Next::Close;
            return;
        };
        self.next = self.serve(arrived).await;
        if self.next == Next::Close {
            linger(&self.cx, &self.io, &mut self.buffer, &mut self.timer).await;
        }
    }

    /// The next request; `None` when the connection is over.
    async fn next_request(&mut self) -> Option<Arrived> {
        let worker = &self.cx.worker;
        let begun = Begun { at: worker.clock.now(), time: worker.clock.time_of_day() };
        let (mut request, response) = worker.heads.take();
        let mut parser = HeadParser::new();
        let deadline = self.cx.manager.timeouts.request_headers;
        let deadline = deadline.map(|limit| begun.at + limit);
        loop {
            let unread = self.buffer.unread();
            match parser.parse_request(unread, &mut request, &self.cx.codec) {
                Ok(Some(parsed)) => {
                    self.buffer.consume(parsed.head_len);
                    return Some(Arrived { parsed, request, response, begun });
                }
                Ok(None) => {}
                Err(violation) => {
                    self.refuse(&violation, begun, request, response).await;
                    return None;
                }
            }
            let read = tokio::select! {
                biased;
                read = self.buffer.fill(&self.io, &worker.buffers) => read,
                () = self.timer.wait(deadline) => {
                    self.head_too_slow(begun, request, response).await;
                    return None;
                }
            };
            if !matches!(read, Ok(count) if count > 0) {
                return None;
            }
        }
    }

    /// Gives up the rest: nothing more is served.
    fn into_io(mut self) -> Io {
        let buffers = &self.cx.worker.buffers;
        self.buffer.consume(self.buffer.unread().len());
        self.buffer.release(buffers);
        buffers.give(self.out);
        self.io
    }

    /// Waits until a request begins. An idle connection holds no buffer.
    async fn wait_for_bytes(&mut self) -> bool {
        if !self.buffer.is_empty() {
            return true;
        }
        let worker = &self.cx.worker;
        self.buffer.release(&worker.buffers);
        worker.buffers.give(std::mem::take(&mut self.out));
        let idle = self.cx.manager.timeouts.idle.map(|idle| self.idle_since + idle);
        let life = self.cx.manager.timeouts.max_connection_duration;
        let life = life.map(|life| self.cx.started + life);
        let deadline = idle.into_iter().chain(life).min();
        let direction = self.cx.listener.direction;
        let closed = poll_fn(|cx| {
            self.ear.listen(cx);
            if worker.closes_idle(direction) { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            biased;
            ready = self.io.readable() => return ready.is_ok(),
            () = closed => {}
            () = self.timer.wait(deadline) => return false,
        }
        if self.cx.requests.get() > 0 {
            return false;
        }
        let first_by = self.cx.started + FIRST_REQUEST;
        tokio::select! {
            biased;
            ready = self.io.readable() => ready.is_ok(),
            () = self.timer.wait(Some(first_by)) => false,
        }
    }

    /// Serves one request, and says what may follow.
    async fn serve(&mut self, arrived: Arrived) -> Next {
        let Arrived { parsed, request, response, begun } = arrived;
        self.cx.requests.set(self.cx.requests.get() + 1);
        let worker = &self.cx.worker;
        if self.out.capacity() == 0 {
            self.out = worker.buffers.take();
        }
        let wire = H1Wire {
            io: &self.io,
            out: std::mem::take(&mut self.out),
            version: request.version,
            method: request.method,
            keep_alive: parsed.is_reusable,
            trailers: self.cx.manager.http1.enable_trailers,
        };
        let source = H1Source {
            io: &self.io,
            buffer: &mut self.buffer,
            pool: &worker.buffers,
            settings: &self.cx.codec,
            trailers: self.cx.manager.http1.enable_trailers,
        };
        let mut exchange = Exchange {
            cx: &self.cx,
            caller: self.cx.downstream.peer,
            request,
            response,
            body: Body::H1(H1Body::new(source, parsed.framing)),
            out: Responder::h1(wire),
            filters: Filters::default(),
            record: Record::open(begun.at, begun.time),
            timer: &mut self.timer,
            expects_continue: parsed.expects_continue,
            received: parsed.framing.is_empty(),
        };
        let whole = WholeGuard::begin(&self.io);
        serve(&mut exchange).await;
        whole.done();
        let unfinished = !exchange.body.is_finished();
        let cut = exchange.out.must_reset();
        let (out, keep_alive) = exchange.take_out().into_h1();
        drop(exchange);
        self.out = out;
        self.idle_since = self.cx.worker.clock.now();
        match keep_alive && !unfinished {
            _ if cut => Next::Reset,
            true => Next::Request,
            false => Next::Close,
        }
    }

    /// Answers a head that cannot be served; nothing can follow it.
    async fn refuse(
        &mut self,
        violation: &Violation,
        begun: Begun,
        request: RequestHead,
        response: ResponseHead,
    ) {
        let status = violation.status();
        let mut reply = LocalReply::new(status, violation.detail(), bad_request_body(violation));
        // Envoy's connection manager notices this, not its codec.
        if *violation != Violation::MissingHost {
            reply = reply.flagged(ResponseFlag::DownstreamProtocolError);
        }
        self.answer_broken(&reply, begun, request, response).await;
    }

    async fn head_too_slow(&mut self, begun: Begun, request: RequestHead, response: ResponseHead) {
        let reply = LocalReply::new(408, "request_header_timeout", "request header timeout");
        self.answer_broken(&reply, begun, request, response).await;
    }

    async fn answer_broken(
        &mut self,
        reply: &LocalReply,
        begun: Begun,
        request: RequestHead,
        response: ResponseHead,
    ) {
        let wire = H1Wire {
            io: &self.io,
            out: std::mem::take(&mut self.out),
            version: Version::Http11,
            method: Method::Get,
            keep_alive: false,
            trailers: false,
        };
        let mut exchange = Exchange {
            cx: &self.cx,
            caller: self.cx.downstream.peer,
            request,
            response,
            body: Body::Empty,
            out: Responder::h1(wire),
            filters: Filters::default(),
            record: Record::open(begun.at, begun.time),
            timer: &mut self.timer,
            expects_continue: false,
            received: false,
        };
        crate::http::exchange::refuse(&mut exchange, reply).await;
        drop(exchange);
        linger(&self.cx, &self.io, &mut self.buffer, &mut self.timer).await;
    }
}

fn bad_request_body(violation: &Violation) -> &'static str {
    match violation.status() {
        // Envoy's connection manager notices this, not its codec.
        _ if *violation == Violation::MissingHost => "",
        431 => "Request Header Fields Too Large",
        426 => "Upgrade Required",
        501 => "Not Implemented",
        _ => "Bad Request",
    }
}
