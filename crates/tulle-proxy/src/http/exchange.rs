//! One request: the outer shell.
//!
//! It owns the record, runs the phases, and turns an error into an answer exactly once. The
//! phases only return `Result`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tulle_model::decide::route::is_grpc;
use tulle_model::head::{Method, RequestHead, ResponseHead};

use crate::http::body::{Body, Held};
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::Framing;
use crate::http::context::HttpContext;
use crate::http::filter::{Filters, passage};
use crate::http::reply::LocalReply;
use crate::http::responder::Responder;
use crate::http::route::{self, Resolution};
use crate::http::sink::{PumpError, pump};
use crate::http::tries::{Clocks, Expired, expiry};
use crate::http::{edit, failure, forward, forwarded, normalize, reason, redirect};
use crate::io::Io;
use crate::record::{self, Record};
use crate::timer::Timer;

/// One request and the way of its answer.
#[derive(Debug)]
pub struct Exchange<'c> {
    /// Its connection.
    pub cx: &'c HttpContext,
    /// Who sent it, as far as that is believed; without a port if another proxy says so.
    pub caller: SocketAddr,
    /// Its head, edited on its way.
    pub request: RequestHead,
    /// The head of its answer.
    pub response: ResponseHead,
    /// Its body.
    pub body: Body<'c>,
    /// Its way back.
    pub out: Responder<'c>,
    /// The filters that it passes.
    pub filters: Filters,
    /// What becomes of it.
    pub record: Record,
    /// For its deadlines.
    pub timer: &'c mut Timer,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the request was received to its end.
    pub received: bool,
}

/// Why a request did not go its way.
#[derive(Debug)]
pub enum Failure {
    /// The proxy answers by itself.
    Reply(Box<LocalReply>),
    /// The answer has begun, or nobody is there to hear it: the stream is reset.
    Abort,
}

impl From<LocalReply> for Failure {
    fn from(reply: LocalReply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// Serves one request to its end. The record closes when the exchange is dropped.
pub async fn serve(x: &mut Exchange<'_>) {
    record::begin(x);
    let connection = x.out.h1_io();
    let result = tokio::select! {
        biased;
        result = answered(x) => Some(result),
        () = broken(connection) => None,
    };
    let result = result.unwrap_or_else(|| Err(x.record.downstream_gone()));
    if result.is_err() {
        x.out.abort(Reason::INTERNAL_ERROR);
    }
    x.record.complete = x.out.is_finished();
}

/// Runs the phases and answers for the one that failed.
async fn answered(x: &mut Exchange<'_>) -> Result<(), Failure> {
    let mut result = phases(x).await;
    // A filter may answer in the place of an answer, for those outside it: their number falls.
    while let Err(Failure::Reply(reply)) = result {
        result = answer(x, &reply).await;
    }
    result
}

/// Comes back when the caller reset its connection.
async fn broken(connection: Option<&Io>) {
    match connection {
        Some(io) => io.broken().await,
        None => std::future::pending().await,
    }
}

/// Answers a request that could not even be read.
pub async fn refuse(x: &mut Exchange<'_>, reply: &LocalReply) {
    record::begin(x);
    let answered = answer(x, reply).await;
    if answered.is_err() {
        x.out.abort(Reason::PROTOCOL_ERROR);
    }
    x.record.complete = x.out.is_finished();
}

/// One request, phase by phase.
async fn phases(x: &mut Exchange<'_>) -> Result<(), Failure> {
    normalize::request(&mut x.request, x.cx)?;
    forwarded::request(x);
    let mut resolution = route::resolve(x.cx, &x.request).await;
    x.filters.choose(x.cx, resolution.plan());
    if !x.filters.is_empty() {
        // On the heap: a connection without filters has no room for them.
        resolution = Box::pin(passage::request(x, resolution)).await?;
    }
    x.record.routed(resolution.plan());
    match resolution {
        Resolution::Forward(plan) => forward::forward(x, &plan).await,
        Resolution::Redirect(plan) => Err(redirect::redirect(&plan, &x.request).into()),
        Resolution::Direct(plan) => Err(redirect::direct(&plan).into()),
        Resolution::NeedsTls => Err(redirect::to_tls(&x.request).into()),
        Resolution::None(reply) => Err(Failure::Reply(reply)),
    }
}

/// Sends an answer of the proxy's own.
async fn answer(x: &mut Exchange<'_>, reply: &LocalReply) -> Result<(), Failure> {
    x.record.replied(reply);
    if x.out.is_begun() {
        return Err(Failure::Abort);
    }
    let text = Bytes::copy_from_slice(reply.write(&mut x.response, is_grpc(&x.request)));
    x.record.status = x.response.status;
    if let Some(plan) = x.record.plan.clone() {
        edit::attempt_count(x, &plan);
        edit::response(x, &plan);
    }
    reason::tell(x);
    if reply.close {
        x.out.close_after();
    }
    // What a HEAD is told of a body is not sent.
    let described = Framing::Length(text.len() as u64);
    let with_body = x.request.method != Method::Head;
    let mut body = if with_body { Body::Held(Held::new(text)) } else { Body::Empty };
    if x.filters.await_answer() {
        Box::pin(passage::reply(x, &mut body)).await?;
    }
    begin(x, if with_body { body.framing(None) } else { described })?;
    match send(x, &mut body).await {
        Ok(sent) => sent.map_err(|_| x.record.downstream_gone()),
        Err(expired) => {
            failure::expired_midway(x, expired);
            Err(Failure::Abort)
        }
    }
}

/// Sends the body of an answer of the proxy's own, as long as its caller takes some of it.
async fn send(x: &mut Exchange<'_>, body: &mut Body<'_>) -> Result<Result<(), PumpError>, Expired> {
    let clocks = Clocks::silence(x);
    let Exchange { out, record, timer, .. } = x;
    let Some(sink) = out.sink() else { return Ok(Err(PumpError::Sink(Abort::Reset))) };
    let passing = pump(body, sink, |data| {
        record.response_bytes += data.len() as u64;
        clocks.progress();
    });
    tokio::select! {
        biased;
        sent = passing => Ok(sent),
        expired = expiry(timer, &clocks) => Err(expired),
    }
}

/// Writes what every answer carries, and queues its head.
///
/// # Errors
/// The downstream is gone.
pub fn begin(x: &mut Exchange<'_>, framing: Framing) -> Result<(), Failure> {
    forwarded::response(&x.request, &mut x.response, x.cx);
    x.record.response_begins(&x.response);
    // What of the request is still to come could not be told from the next one.
    let last = x.cx.is_spent() || !(x.received || framing == Framing::Tunnel);
    let begun = x.out.begin(&x.response, framing, last);
    begun.map_err(|_| x.record.downstream_gone())
}

impl<'c> Exchange<'c> {
    /// Time from its first byte to the turn under way.
    #[must_use]
    pub fn since_start(&self) -> Duration {
        self.cx.worker.clock.now().saturating_duration_since(self.record.started)
    }

    /// The way of the answer, when the request is over.
    pub fn take_out(&mut self) -> Responder<'c> {
        std::mem::replace(&mut self.out, Responder::gone())
    }
}

impl Drop for Exchange<'_> {
    /// However it ends, by its own or because its connection was dropped, it is recorded.
    fn drop(&mut self) {
        self.filters.on_end(&mut self.record);
        record::close(self);
        self.cx
            .worker
            .heads
            .give(std::mem::take(&mut self.request), std::mem::take(&mut self.response));
    }
}
