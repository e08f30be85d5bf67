//! A downstream HTTP/2 connection: each stream is a task of its own on the same worker.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tulle_model::flag::ResponseFlag;
use tulle_model::head::KnownId;
use tulle_runtime::drain::{Phase, View};

use crate::buffer::ReadBuffer;
use crate::http::body::Body;
use crate::http::codec::h2::{
    H2Body, UNDERSCORE, check_underscores, keepalive, read_request, status_of,
};
use crate::http::context::HttpContext;
use crate::http::exchange::{Exchange, refuse, serve};
use crate::http::filter::Filters;
use crate::http::linger::linger;
use crate::http::reply::LocalReply;
use crate::http::responder::Responder;
use crate::io::Io;
use crate::record::Record;
use crate::timer::Timer;

/// Time for the preface and the first SETTINGS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Streams that a peer may have reset and we still hold.
const MAX_RESET_STREAMS: usize = 50;
/// How long a connection that came while all are told to go is served before it is told, too.
/// Told at once, its first streams would be refused: what a peer has queued goes out after its
/// answer to our PING, when the second GOAWAY is on its way.
const LATE_SERVICE: Duration = Duration::from_secs(1);
/// How long the peer of a connection without streams may take to answer the first GOAWAY: one that
/// does not even answer a PING is waited for no longer.
const PARTING: Duration = Duration::from_secs(5);
/// Bytes of a frame that we accept.
const MAX_FRAME_BYTES: u32 = 16 * 1024;

/// Streams that a peer may reset at once, without an answer, before it has to have more others.
/// Asking and taking back costs it next to nothing and us a whole request (CVE-2023-44487).
const MAX_PREMATURE_RESETS: u32 = 250;
/// A reset within this is at once.
const PREMATURE: Duration = Duration::from_secs(1);

/// Streams that a peer may reset before this worker has come to see them: all that it may have
/// open, as a caller does whose patience ends while the machine is overloaded.
fn most_reset_unseen(max_concurrent_streams: u32) -> usize {
    max_concurrent_streams.min(MAX_PREMATURE_RESETS) as usize
}

/// Serves streams until either side has enough.
pub async fn serve_connection(cx: Rc<HttpContext>, io: Io) {
    let _counted = cx.metrics.connection(cx.downstream.is_tls, true);
    let settings = cx.manager.http2;
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_window_size(settings.stream_window_bytes)
        .initial_connection_window_size(settings.connection_window_bytes)
        .max_header_list_size(u32::try_from(cx.codec.max_head_bytes).unwrap_or(u32::MAX))
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_pending_accept_reset_streams(most_reset_unseen(settings.max_concurrent_streams))
        .max_frame_size(MAX_FRAME_BYTES);
    if settings.allow_connect {
        builder.enable_connect_protocol();
    }
    let came_late = cx.worker.drain.view().tells_all_to_go(Instant::now().into_std());
    let late_until = came_late.then(|| Instant::now() + LATE_SERVICE);
    let handshake = tokio::time::timeout(HANDSHAKE, builder.handshake::<_, Bytes>(&io));
    if let Ok(Ok(connection)) = handshake.await {
        let (cx, streams, draining) = (Rc::clone(&cx), JoinSet::new(), Draining::No);
        let server =
            H2Server { cx, connection, streams, draining, premature_resets: 0, late_until };
        server.run().await;
    }
    linger(&cx, &io, &mut ReadBuffer::default(), &mut Timer::default()).await;
}

struct H2Server<'c> {
    cx: Rc<HttpContext>,
    connection: Connection<&'c Io, Bytes>,
    /// Whether each was reset prematurely.
    streams: JoinSet<bool>,
    draining: Draining,
    premature_resets: u32,
    /// When a connection is told to go that came while all were.
    late_until: Option<Instant>,
}

/// How far the connection's end has come (RFC 9113 §6.8).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Draining {
    No,
    /// The first GOAWAY was sent then; `h2` sends the second after a round trip.
    Announced(Instant),
}

impl H2Server<'_> {
    async fn run(mut self) {
        let mut timer = Timer::default();
        let mut idle_since = Instant::now();
        let (cx, worker) = (Rc::clone(&self.cx), Rc::clone(&self.cx.worker));
        let keepalive = self.cx.manager.http2.keepalive;
        let pings = keepalive.and_then(|_| self.connection.ping_pong());
        let mut lost = Box::pin(keepalive::lost(pings, keepalive));
        loop {
            let timeouts = &self.cx.manager.timeouts;
            let idle = timeouts.idle.filter(|_| self.streams.is_empty());
            let idle = idle.map(|idle| idle_since + idle);
            let life = timeouts.max_connection_duration.map(|life| self.cx.started + life);
            let deadline = match self.draining {
                Draining::No => idle.into_iter().chain(life).chain(self.late_until).min(),
                // What is written may still be on its way to a peer that reads slowly.
                Draining::Announced(at) if self.streams.is_empty() => {
                    let unread = self.connection.has_streams();
                    let limit = if unread { timeouts.stream_idle } else { Some(PARTING) };
                    limit.map(|limit| at.max(idle_since) + limit)
                }
                Draining::Announced(_) => None,
            };
            let announced = self.draining != Draining::No;
            let is_late = self.late_until.is_some();
            let told = |view: &View| match is_late {
                true => view.phase >= Phase::Closing,
                false => view.tells_all_to_go(Instant::now().into_std()),
            };
            tokio::select! {
                biased;
                accepted = self.connection.accept() => match accepted {
                    Some(Ok((request, respond))) => self.begin(request, respond),
                    Some(Err(error)) => {
                        if !error.is_io() {
                            self.cx.metrics.series.cx_protocol_error().inc();
                        }
                        break;
                    }
                    None => break,
                },
                Some(ended) = self.streams.join_next() => {
                    idle_since = Instant::now();
                    match ended {
                        Ok(premature) => self.ended(premature),
                        Err(error) if error.is_panic() => worker.panicked(),
                        Err(_) => {}
                    }
                }
                () = worker.drain.wait_until(told), if !announced => self.announce(),
                () = cx.present.tells_all_to_go(), if !announced && !is_late => self.announce(),
                () = timer.wait(deadline) => match announced {
                    true => break,
                    false => self.announce(),
                },
                () = &mut lost => {
                    worker.metrics.worker.keepalive_timeouts().inc();
                    break;
                }
            }
            let spent = if is_late { self.cx.has_served_enough() } else { self.cx.is_spent() };
            if spent && self.draining == Draining::No {
                self.announce();
            }
        }
        // Streams that are still under way have lost their connection: what it said last, such as
        // a reset, is heard first.
        drop(self.connection);
        tokio::task::yield_now().await;
        self.streams.abort_all();
    }

    fn announce(&mut self) {
        self.draining = Draining::Announced(Instant::now());
        self.connection.graceful_shutdown();
    }

    /// Notes how a stream ended, and ends the connection of a peer that resets most of what it
    /// asks for.
    fn ended(&mut self, prematurely: bool) {
        self.premature_resets += u32::from(prematurely);
        let resets = self.premature_resets;
        if prematurely && resets > MAX_PREMATURE_RESETS && resets > self.cx.requests.get() / 2 {
            self.cx.metrics.series.rq_too_many_premature_resets().inc();
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
    }

    fn begin(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        let cx = Rc::clone(&self.cx);
        cx.requests.set(cx.requests.get() + 1);
        self.streams.spawn_local(async move {
            let worker = Rc::clone(&cx.worker);
            let stream = Stream { cx, request, respond };
            worker.stream_places.serve(&worker.clock, serve_stream, stream).await
        });
    }
}

/// A stream that begins.
#[derive(Debug)]
pub struct Stream {
    cx: Rc<HttpContext>,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
}

/// Serves one stream; whether its peer reset it prematurely.
async fn serve_stream(Stream { cx, request, respond }: Stream) -> bool {
    let (parts, stream) = request.into_parts();
    let clock = &cx.worker.clock;
    let record = Record::open(clock.now(), clock.time_of_day());
    let (mut head, response) = cx.worker.heads.take();
    let read = read_request(&parts, &mut head, &cx.codec)
        .and_then(|()| check_underscores(&mut head, cx.codec.underscores));
    let body = H2Body::new(stream);
    let mut timer = Timer::default();
    let body_is_empty = body.is_end();
    let is_upgrade = head.protocol().is_some();
    let expects_continue = !(body_is_empty || is_upgrade)
        && head.headers.contains_token(KnownId::Expect, b"100-continue");
    let mut exchange = Exchange {
        cx: &cx,
        caller: cx.downstream.peer,
        request: head,
        response,
        body: if body_is_empty { Body::Empty } else { Body::H2(body) },
        out: Responder::h2(respond),
        filters: Filters::default(),
        record,
        timer: &mut timer,
        expects_continue,
        received: body_is_empty,
    };
    match read {
        Ok(()) => serve(&mut exchange).await,
        Err(UNDERSCORE) => {
            exchange.record.details = UNDERSCORE.into();
            exchange.record.flags.insert(ResponseFlag::DownstreamProtocolError);
            exchange.out.abort(Reason::PROTOCOL_ERROR);
        }
        Err(refusal) => {
            let reply = LocalReply::new(status_of(refusal), refusal, "")
                .flagged(ResponseFlag::DownstreamProtocolError);
            refuse(&mut exchange, &reply).await;
        }
    }
    let record = &exchange.record;
    record.flags.contains(ResponseFlag::DownstreamRemoteReset) && exchange.since_start() < PREMATURE
}
