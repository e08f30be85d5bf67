//! One attempt: pick an endpoint, take a connection, send the request, pass the answer on.
//!
//! The request's body and the answer move at the same time; whoever is ready moves.

use std::borrow::Cow;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;

use tulle_model::cluster::UpstreamProtocol;
use tulle_model::decide::retry::Attempt;
use tulle_model::flag::ResponseFlag;
use tulle_model::head::grammar::parse_u64;
use tulle_model::head::{KnownId, Method, RequestHead, Version};

use crate::http::body::Body;
use crate::http::codec::abort::Abort;
use crate::http::codec::h1::Framing;
use crate::http::deliver::{self, Route};
use crate::http::edit;
use crate::http::exchange::{Exchange, Failure};
use crate::http::failure::{self, BrokenFacts};
use crate::http::forward::{overflow, try_again};
use crate::http::reply::{LocalReply, http_status_of};
use crate::http::sink::{PumpError, Sink, pump};
use crate::http::tries::{Expired, Tries, expiry};
use crate::http::upstream_stream::{Answer, Arrived, FinalHead, UpstreamStream, open_h1, open_h2};
use crate::io::WholeGuard;
use crate::upstream::cluster::{HttpLease, HttpVersion, UpstreamCluster};
use crate::upstream::endpoint::UpstreamEndpoint;
use crate::upstream::members::PickInput;
use crate::upstream::outlier::Outcome;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempted {
    /// The answer was passed on.
    Answered,
    /// Nothing was passed on, and it may be made again.
    Again,
}

/// One attempt at an endpoint of `cluster`.
///
/// # Errors
/// The answer of the proxy's own, or that the stream broke.
pub async fn attempt(
    x: &mut Exchange<'_>,
    route: &Route<'_>,
    cluster: &Rc<UpstreamCluster>,
    tries: &mut Tries,
) -> Result<Attempted, Failure> {
    let endpoint = pick(x, route, cluster, tries)?;
    x.record.endpoint = Some(Rc::clone(&endpoint));
    edit::endpoint_host(x, route.plan, &endpoint.config);
    tries.clocks.attempt_begins();
    let now = x.cx.worker.clock.now();
    let connecting = cluster.acquire_http(&endpoint, version(x, cluster), route.priority, now);
    let connected = tokio::select! {
        biased;
        connected = connecting => connected,
        expired = expiry(x.timer, &tries.clocks) => {
            cluster.report(&endpoint, Outcome::TimedOut);
            return too_late(x, tries, expired);
        }
    };
    let lease = match connected {
        Ok(lease) => lease,
        Err(failed) if failed.is_overflow() => return Err(overflow().into()),
        Err(failed) => {
            let timed_out =
                if failed.timed_out { Outcome::TimedOut } else { Outcome::ConnectFailed };
            cluster.report(&endpoint, timed_out);
            let reply = failure::connect(x, &failed);
            return again_or(x, tries, Attempt::ConnectFailed, reply);
        }
    };
    cluster.report(&endpoint, Outcome::Connected);
    let _attempt = cluster.metrics().attempt();
    x.record.upstream_local = lease.local();
    let framing = tries.framing;
    let pool = x.cx.worker.buffers.clone();
    match lease {
        HttpLease::H1(mut lease) => {
            let reused = lease.reused;
            let stream = open_h1(&mut lease, &x.request, framing, &pool);
            let told = converse(x, route, tries, stream).await;
            if matches!(told, Told::Answered { reusable: true, .. }) {
                lease.release(x.cx.worker.clock.now());
            }
            finish(x, tries, (cluster, &endpoint), told, reused)
        }
        HttpLease::H2(mut lease) => {
            let ended = framing.is_empty();
            let told = match open_h2(&mut lease, &x.request, ended) {
                Ok(stream) => converse(x, route, tries, stream).await,
                Err(abort) => Told::Broken { abort, touched: false, answered: false },
            };
            finish(x, tries, (cluster, &endpoint), told, false)
        }
    }
}

fn pick(
    x: &Exchange<'_>,
    route: &Route<'_>,
    cluster: &Rc<UpstreamCluster>,
    tries: &mut Tries,
) -> Result<Rc<UpstreamEndpoint>, LocalReply> {
    if x.record.attempts > 1 {
        // Noted only now: most requests never need a list of what they tried.
        tries.tried.extend(x.record.endpoint.clone());
    }
    let (tried, other_choices) = match &tries.policy {
        Some(policy) if policy.other_host => (&*tries.tried, policy.host_selection_attempts),
        _ => (&[][..], 0),
    };
    let input = PickInput {
        hash: route.hashed.hash,
        tried,
        other_choices,
        original_dst: x.cx.downstream.original,
        random: x.cx.worker.random(),
    };
    cluster.pick(&input).map_err(|_| {
        LocalReply::new(503, "no_healthy_upstream", "no healthy upstream")
            .flagged(ResponseFlag::NoHealthyUpstream)
    })
}

fn version(x: &Exchange<'_>, cluster: &UpstreamCluster) -> HttpVersion {
    match cluster.config.protocol {
        UpstreamProtocol::Http1 => HttpVersion::H1,
        UpstreamProtocol::Http2(_) => HttpVersion::H2,
        UpstreamProtocol::Downstream(_) if x.request.version == Version::Http2 => HttpVersion::H2,
        UpstreamProtocol::Downstream(_) => HttpVersion::H1,
    }
}

/// What follows when a clock ran out before the head of an answer.
fn too_late(x: &mut Exchange<'_>, tries: &Tries, expired: Expired) -> Result<Attempted, Failure> {
    let reply = self::expired(x, tries, expired);
    match expired {
        Expired::Attempt => again_or(x, tries, Attempt::Reset, reply),
        _ => Err(reply.into()),
    }
}

/// What the caller is told of a clock that ran out, in the way it asked for.
#[must_use]
pub fn expired(x: &Exchange<'_>, tries: &Tries, expired: Expired) -> LocalReply {
    let mut reply = failure::expired(expired, x.received);
    if tries.timeout_is_no_content && matches!(expired, Expired::Response | Expired::Attempt) {
        reply.status = 204;
        reply.body = Cow::default();
    }
    reply
}

/// Whether what follows the head is no message body, if the answer agrees.
#[must_use]
pub fn asks_for_tunnel(head: &RequestHead) -> bool {
    head.protocol().is_some() || head.method == Method::Connect
}

/// How the request is framed for an HTTP/1 upstream, before anything of its body was read.
#[must_use]
pub fn request_framing(x: &Exchange<'_>) -> Framing {
    if asks_for_tunnel(&x.request) {
        return Framing::Tunnel;
    }
    let declared = x.request.headers.first(KnownId::ContentLength).and_then(parse_u64);
    x.body.framing(declared)
}

/// How the talk with an endpoint ended.
#[derive(Debug)]
pub enum Told {
    /// The answer was passed on to its end; whether its connection may be used again.
    Answered {
        /// What its head is judged by: its status, or what a gRPC status stands for.
        status: u16,
        /// Whether the HTTP/1 connection may be used again.
        reusable: bool,
    },
    /// The answer is one that the policy retries.
    Retry {
        /// Its status.
        status: u16,
    },
    /// It broke before the head of an answer.
    Broken {
        /// How.
        abort: Abort,
        /// Whether a byte of the request may have reached the endpoint.
        touched: bool,
        /// Whether a byte of the answer came.
        answered: bool,
    },
    /// A clock ran out before the head of an answer.
    Expired(Expired),
    /// The stream cannot be saved.
    Failed(Failure),
}

/// Sends the request and passes its answer on.
async fn converse(
    x: &mut Exchange<'_>,
    route: &Route<'_>,
    tries: &Tries,
    stream: UpstreamStream<'_>,
) -> Told {
    if !x.cx.manager.proxy_100_continue && std::mem::take(&mut x.expects_continue) {
        x.response.clear();
        x.response.status = 100;
        if let Err(told) = say_interim(x, tries).await {
            return told;
        }
    }
    if tries.framing == Framing::Tunnel {
        return converse_tunnel(x, route, tries, stream).await;
    }
    let UpstreamStream { mut sink, mut answer } = stream;
    let mut body = std::mem::take(&mut x.body);
    let mut sent = false;
    let mut told = {
        let mut sending = pin!(send(&mut body, &mut sink, tries));
        match wait_for_head(x, tries, sending.as_mut(), &mut sent, &mut answer).await {
            Ok(_) if retries(x, tries) => Told::Retry { status: x.response.status },
            Ok(head) => {
                let rest = (!sent).then_some(sending);
                let reusable = head.reusable;
                let mut answer = answer.into_body(head);
                deliver::deliver(x, route, tries, rest, (&mut answer, reusable)).await
            }
            Err(told) => told,
        }
    };
    if let Told::Broken { touched, .. } = &mut told {
        *touched = sink.is_touched();
    }
    if !sink.is_finished() {
        sink.abort(h2::Reason::CANCEL);
        if let Told::Answered { reusable, .. } = &mut told {
            *reusable = false;
        }
    }
    x.record.request_bytes = body.received_bytes();
    x.cx.worker.buffers.give(sink.into_buffer());
    x.body = body;
    told
}

/// Sends an upgrade and, if it is agreed to, becomes a tunnel.
async fn converse_tunnel(
    x: &mut Exchange<'_>,
    route: &Route<'_>,
    tries: &Tries,
    stream: UpstreamStream<'_>,
) -> Told {
    let UpstreamStream { mut sink, mut answer } = stream;
    if let Err(abort) = sink.flush().await {
        return Told::Broken { abort, touched: true, answered: false };
    }
    // Of the request all was sent that is sent before it is agreed to; it has not ended.
    tries.clocks.request_sent();
    let nothing = pin!(std::future::pending());
    let head = match wait_for_head(x, tries, nothing, &mut true, &mut answer).await {
        Ok(head) => head,
        Err(told) => return told,
    };
    let agreed = match &answer {
        Answer::H1(_) => head.framing == Framing::Tunnel,
        Answer::H2(_) => (200..300).contains(&x.response.status),
    };
    let mut answer = answer.into_body(head);
    if agreed {
        // However it is broken off, its end would be taken for that of its bytes.
        let whole = sink.h1_io().map(WholeGuard::begin);
        let told = deliver::tunnel(x, route, tries, &mut answer, &mut sink).await;
        if let (Some(whole), Told::Answered { .. }) = (whole, &told) {
            whole.done();
        }
        told
    } else {
        let none: Option<Pin<&mut std::future::Ready<Result<(), PumpError>>>> = None;
        deliver::deliver(x, route, tries, none, (&mut answer, false)).await
    }
}

/// Sends what was sent before, then what still comes.
async fn send(body: &mut Body<'_>, sink: &mut Sink<'_>, tries: &Tries) -> Result<(), PumpError> {
    if let Some(held) = body.held() {
        held.rewind();
    }
    let replay = tries.replay();
    if !replay.is_empty() {
        sink.bytes(replay).await.map_err(PumpError::Sink)?;
    }
    pump(body, sink, |data| tries.received(data)).await
}

/// Waits for the final head of the answer while the request is being sent.
async fn wait_for_head(
    x: &mut Exchange<'_>,
    tries: &Tries,
    mut sending: Pin<&mut impl Future<Output = Result<(), PumpError>>>,
    sent: &mut bool,
    answer: &mut Answer<'_>,
) -> Result<FinalHead, Told> {
    loop {
        tokio::select! {
            biased;
            end = &mut sending, if !*sent => {
                *sent = true;
                match end {
                    Ok(()) => {
                        x.received = true;
                        tries.clocks.request_sent();
                        x.record.request_sent_after = Some(x.since_start());
                    }
                    Err(PumpError::Source(abort)) => {
                        return Err(Told::Failed(failure::downstream(&mut x.record, &abort)));
                    }
                    // An answer may be there all the same, and if none is, its end says how the
                    // stream ended: that a GOAWAY left it unprocessed, or that it was refused.
                    Err(PumpError::Sink(_)) => {}
                }
            }
            arrived = answer.next(&mut x.response) => match arrived {
                Ok(Arrived::Final(head)) => {
                    tries.clocks.answered();
                    return Ok(head);
                }
                Ok(Arrived::Interim) => pass_interim(x, tries).await?,
                Err(abort) => {
                    let answered = answer.is_touched();
                    return Err(Told::Broken { abort, touched: true, answered });
                }
            },
            expired = expiry(x.timer, &tries.clocks) => return Err(Told::Expired(expired)),
            abort = x.out.reset_by_peer() => {
                return Err(Told::Failed(x.record.downstream_broke(&abort)));
            }
        }
    }
}

/// Passes an interim head on; `100` is ours to give, and was given, unless it is configured to be
/// the upstream's.
async fn pass_interim(x: &mut Exchange<'_>, tries: &Tries) -> Result<(), Told> {
    if x.response.status == 100 && !std::mem::take(&mut x.expects_continue) {
        return Ok(());
    }
    say_interim(x, tries).await
}

/// Sends an interim head. A caller that does not read is not waited for longer than for anything
/// else; part of the head may be with it then, so that no other answer can follow.
async fn say_interim(x: &mut Exchange<'_>, tries: &Tries) -> Result<(), Told> {
    let Exchange { out, response, timer, .. } = &mut *x;
    let said = tokio::select! {
        biased;
        said = out.interim(response) => Ok(said),
        expired = expiry(timer, &tries.clocks) => Err(expired),
    };
    match said {
        Ok(said) => said.map_err(|_| Told::Failed(x.record.downstream_gone())),
        Err(expired) => {
            failure::expired_midway(x, expired);
            Err(Told::Failed(Failure::Abort))
        }
    }
}

/// Whether the answer whose head came is to be retried.
fn retries(x: &mut Exchange<'_>, tries: &Tries) -> bool {
    if tries.policy.is_none() {
        return false;
    }
    let head = std::mem::take(&mut x.response);
    let again = try_again(x, Attempt::Answered(&head), tries);
    x.response = head;
    again
}

/// Draws the consequences of how the talk ended.
fn finish(
    x: &mut Exchange<'_>,
    tries: &Tries,
    (cluster, endpoint): (&UpstreamCluster, &UpstreamEndpoint),
    told: Told,
    reused: bool,
) -> Result<Attempted, Failure> {
    match told {
        Told::Answered { status, .. } => {
            cluster.report(endpoint, Outcome::Answered(status));
            Ok(Attempted::Answered)
        }
        Told::Retry { status } => {
            let grpc = x.response.headers.first(KnownId::GrpcStatus).and_then(parse_u64);
            let grpc = grpc.and_then(|status| u32::try_from(status).ok());
            cluster.report(endpoint, Outcome::Answered(grpc.map_or(status, http_status_of)));
            Ok(Attempted::Again)
        }
        Told::Broken { abort, touched, answered } => {
            // Who sends a connection away in order is not ill.
            if !matches!(abort, Abort::WentAway) {
                cluster.report(endpoint, Outcome::Broke);
            }
            let facts = BrokenFacts { touched, answered, reused, attempts: x.record.attempts };
            let (attempt, reply) = failure::broken(&abort, facts);
            again_or(x, tries, attempt, reply)
        }
        Told::Expired(expired) => {
            cluster.report(endpoint, Outcome::TimedOut);
            too_late(x, tries, expired)
        }
        Told::Failed(failure) => Err(failure),
    }
}

fn again_or(
    x: &mut Exchange<'_>,
    tries: &Tries,
    attempt: Attempt<'_>,
    reply: LocalReply,
) -> Result<Attempted, Failure> {
    if try_again(x, attempt, tries) { Ok(Attempted::Again) } else { Err(reply.into()) }
}
